//! Whatever goes wrong between two effects, users see the same (design: Simulation).

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that fails says where"
)]

mod arrays;
mod beyond;
mod caching;
mod children;
mod dynamic;
mod gates;
mod metrics;
mod object_events;
mod outside;
mod panics;
mod permissions;
mod pods;
mod quota;
mod recorded;
mod recovery;
mod refusals;
mod truth;

use flyte_crd::{FlyteWorkflow, WorkflowPhase};
use flyte_idl::core::workflow_metadata::OnFailurePolicy;
use flyte_propeller::config::{EventConfig, RawOutputPolicy};
use flyte_tests::simulation::{Fault, Plan, Run, Simulation, graphs};

fn check(run: &Run, what: &str) {
    assert_eq!(run.records.violations(), [] as [String; 0], "{what}");
    assert_eq!(
        run.doubles(),
        [] as [String; 0],
        "{what}: an attempt ran twice"
    );
    assert_eq!(run.left, [] as [String; 0], "{what}: pods still run");
    assert_eq!(run.records.open(), [] as [String; 0], "{what}: still open");
    let mut children = run.records.children().into_iter();
    let running = children.find(|(_, phase)| phase == "RUNNING");
    assert_eq!(running, None, "{what}: an execution runs on");
}

/// Nodes that had an attempt.
fn ran(run: &Run) -> Vec<String> {
    let tasks = run.visible().tasks;
    let nodes = tasks
        .keys()
        .map(|task| task.split('/').next().unwrap().to_owned());
    let mut nodes: Vec<_> = nodes.collect();
    nodes.sort();
    nodes
}

/// Every fault at every effect of a graph, with node statuses in the resource, and in a blob as soon as there are any.
fn survives_every_single_fault(make: fn() -> FlyteWorkflow, phase: WorkflowPhase) {
    let expected = Simulation::new(make()).run();
    for (spilling, faults) in [(false, &Fault::ALL[..]), (true, &[Fault::CrashAfter][..])] {
        let simulate = || {
            if spilling {
                Simulation::new(make()).spilling_beyond(0)
            } else {
                Simulation::new(make())
            }
        };
        let plain = simulate().run();
        check(&plain, "without faults");
        let blobs = plain
            .trace
            .iter()
            .filter(|what| what.contains("/node-status/"));
        assert_eq!(blobs.count() > 0, spilling);
        assert_eq!(plain.phase, phase, "{plain:?}");
        assert_eq!(plain.visible(), expected.visible());
        for effect in 1..=plain.effects {
            for fault in faults.iter().copied() {
                let what = format!("{fault:?} at effect {effect}");
                let run = simulate().with(Plan::one(effect, fault)).run();
                check(&run, &what);
                assert_eq!(run.visible(), plain.visible(), "{what}");
                assert_eq!(run.phase, plain.phase, "{what}");
                let crashes = matches!(fault, Fault::CrashBefore | Fault::CrashAfter);
                assert_eq!(
                    run.restarts,
                    u32::from(crashes),
                    "{what}: the fault did not happen"
                );
            }
        }
    }
}

#[test]
fn a_chain_survives_every_single_fault() {
    survives_every_single_fault(graphs::chain, WorkflowPhase::Success);
}

#[test]
fn a_diamond_with_retries_survives_every_single_fault() {
    survives_every_single_fault(graphs::diamond_with_retries, WorkflowPhase::Success);
}

#[test]
fn a_branch_survives_every_single_fault() {
    survives_every_single_fault(graphs::branch, WorkflowPhase::Success);
}

#[test]
fn a_sub_workflow_survives_every_single_fault() {
    survives_every_single_fault(graphs::sub_workflow, WorkflowPhase::Success);
}

#[test]
fn a_failure_with_its_handler_survives_every_single_fault() {
    survives_every_single_fault(graphs::failure_with_handler, WorkflowPhase::Failed);
}

/// What pairs of faults must not change. Where the first failure aborts the rest, it depends on the time which nodes
/// have begun by then, so of those only how they may end is compared.
fn check_alike(run: &Run, plain: &Run, aborts_the_rest: bool, what: &str) {
    check(run, what);
    assert_eq!(run.phase, plain.phase, "{what}");
    let (seen, expected) = (run.visible(), plain.visible());
    if !aborts_the_rest {
        assert_eq!(seen, expected, "{what}");
        return;
    }
    assert_eq!(seen.workflow, expected.workflow, "{what}");
    let failed = seen.nodes.values().filter(|phase| *phase == "FAILED");
    assert!(failed.count() > 0, "{what}: {seen:?}");
}

#[test]
fn random_graphs_with_pairs_of_faults_end_as_without() {
    let mut failing = 0;
    for seed in 0..60 {
        let workflow = graphs::random(seed);
        let policy = workflow.spec.as_ref().map(|spec| spec.on_failure_policy);
        let plain = Simulation::new(workflow).run();
        check(&plain, &format!("graph {seed}"));
        let fails = plain.phase != WorkflowPhase::Success;
        failing += u32::from(fails);
        for pair in 0..3 {
            let plan = Plan::random(seed * 1000 + pair, 2, plain.effects);
            let what = format!("graph {seed}, {plan:?}");
            let run = Simulation::new(graphs::random(seed)).with(plan).run();
            let aborts_the_rest = fails && policy == Some(OnFailurePolicy::FailImmediately);
            check_alike(&run, &plain, aborts_the_rest, &what);
        }
    }
    assert!(failing >= 15, "only {failing} graphs fail");
}

#[test]
fn a_terminated_workflow_is_aborted_whenever_it_is_terminated() {
    let mut aborted = 0;
    for effects in 1..=14 {
        let run = Simulation::new(graphs::endless())
            .deleted_after(effects)
            .run();
        check(&run, &format!("deleted after {effects}"));
        assert_eq!(
            run.visible().workflow.0,
            "ABORTED",
            "deleted after {effects}: {run:?}"
        );
        aborted += 1;
    }
    assert_eq!(aborted, 14);
}

#[test]
fn a_terminated_workflow_leaves_nothing_behind_when_its_engine_dies_twice() {
    for effects in 2..=12 {
        for later in 1..=3 {
            let plan = Plan(
                [effects - 1, effects + later]
                    .map(|at| (at, Fault::CrashAfter))
                    .into(),
            );
            let what = format!("deleted after {effects}, {plan:?}");
            let run = Simulation::new(graphs::endless())
                .with(plan)
                .deleted_after(effects)
                .run();
            check(&run, &what);
            assert_eq!(run.visible().workflow.0, "ABORTED", "{what}");
        }
    }
}

#[test]
fn one_seed_gives_one_run() {
    for seed in 0..20 {
        let run = || {
            Simulation::new(graphs::random(seed))
                .with(Plan::random(seed, 3, 40))
                .run()
        };
        let (one, other) = (run(), run());
        assert_eq!(one.trace, other.trace, "seed {seed}");
        assert_eq!(one.visible(), other.visible(), "seed {seed}");
        assert_eq!((one.rounds, one.steps), (other.rounds, other.steps));
        assert!(one.rounds > 0 && one.steps > 0, "seed {seed}");
    }
}

/// The reference tries for ever (flyteorg/flyte #4349).
#[test]
fn a_status_that_outgrows_the_api_server_fails_its_workflow() {
    let run = Simulation::new(graphs::waiting(12))
        .never_spilling()
        .with_room_for(3_000)
        .run();
    check(&run, "no room");
    assert_eq!(run.phase, WorkflowPhase::Failed);
    let visible = run.visible();
    assert_eq!(
        visible.workflow,
        ("FAILED".to_owned(), "WorkflowTooLarge".to_owned())
    );
    let open: Vec<_> = visible
        .nodes
        .iter()
        .filter(|(_, phase)| phase.as_str() == "RUNNING")
        .collect();
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn node_statuses_go_to_a_blob_when_the_resource_would_be_too_large() {
    for (case, simulation) in [
        ("by its size", simulation_of_many().spilling_beyond(3_000)),
        (
            "because the API server refuses it",
            simulation_of_many().with_room_for(3_000),
        ),
    ] {
        let run = simulation.run();
        check(&run, case);
        assert_eq!(run.phase, WorkflowPhase::Success, "{case}");
        assert!(
            run.trace
                .iter()
                .any(|effect| effect.contains("/node-status/")),
            "{case}: {run:?}"
        );
        assert_eq!(
            run.visible(),
            simulation_of_many().run().visible(),
            "{case}"
        );
    }
}

#[test]
fn node_statuses_return_to_the_resource_when_there_is_room() {
    let run = simulation_of_many().spilling_beyond(3_000).run();
    let last = run.status.pointer("/nodeStatus/last/phase");
    assert_eq!(last, Some(&5.into()), "{}", run.status);
    let run = simulation_of_many().spilling_beyond(0).run();
    let start = run.status.pointer("/nodeStatus/start-node/phase");
    assert_eq!(start, Some(&100.into()), "{}", run.status);
}

#[test]
fn a_workflow_whose_node_statuses_are_lost_fails_and_leaves_nothing_behind() {
    let simulation = || Simulation::new(graphs::slow(3)).spilling_beyond(0);
    let names_a_blob =
        |effect: String| effect.starts_with("PATCH") && effect.contains("/flyteworkflows/");
    let before = simulation().run().trace.into_iter().position(names_a_blob);
    let effect = u64::try_from(before.unwrap()).unwrap() + 1;
    let run = simulation()
        .with(Plan::one(effect, Fault::CrashAfter))
        .losing_statuses()
        .run();
    check(&run, "lost");
    assert_eq!(
        run.visible().workflow,
        ("FAILED".to_owned(), "BadSpecificationError".to_owned())
    );
}

fn simulation_of_many() -> Simulation {
    Simulation::new(graphs::slow(12))
}

#[test]
fn a_workflow_nested_a_thousand_levels_deep_is_run() {
    // Types and literals are walked by recursion; services give it the same room (platform::cli::runtime).
    let run = std::thread::Builder::new()
        .stack_size(16 * 1024 * 1024)
        .spawn(|| Simulation::new(graphs::nested(1_000)).run())
        .expect("a thread is to be had")
        .join()
        .expect("the workflow ends");
    check(&run, "nested");
    assert_eq!(run.phase, WorkflowPhase::Success, "{:?}", run.visible());
}

#[test]
fn events_carry_data_where_they_are_told_to() {
    let config = |raw_output_policy, fallback_to_output_reference| EventConfig {
        raw_output_policy,
        fallback_to_output_reference,
    };
    let (reference, inline) = (RawOutputPolicy::Reference, RawOutputPolicy::Inline);
    let all = ["n0", "start-node", "n0/0"];
    // The start node hands on the list, which fits into no event of 700 bytes.
    let small = ["n0", "n0/0"];
    for (case, config, most_bytes, with_data, ends) in [
        (
            "references",
            config(reference, false),
            usize::MAX,
            &all[..0],
            "SUCCEEDED",
        ),
        (
            "data",
            config(inline, false),
            usize::MAX,
            &all[..],
            "SUCCEEDED",
        ),
        (
            "data that fit",
            config(inline, true),
            700,
            &small[..],
            "SUCCEEDED",
        ),
        (
            "data that must fit",
            config(inline, false),
            700,
            &all[..0],
            "FAILED",
        ),
    ] {
        let run = Simulation::new(graphs::nested(150))
            .with_events(config, most_bytes)
            .run();
        check(&run, case);
        let visible = run.visible();
        assert_eq!(visible.workflow.0, ends, "{case}: {visible:?}");
        assert_eq!(run.records.with_data(), with_data, "{case}");
    }
}

/// In real time on several threads: an actor that was woken before the pod cache knew why waited for ever.
#[test]
fn no_change_of_a_pod_is_lost_between_threads() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .expect("threads are to be had");
    for _ in 0..5 {
        let simulation = Simulation::new(graphs::layers(50, 1));
        let run = runtime
            .block_on(async {
                tokio::time::timeout(std::time::Duration::from_secs(60), simulation.measure()).await
            })
            .expect("fifty pods that end at once take less than a minute");
        check(&run, "fifty tasks");
        assert_eq!(run.phase, WorkflowPhase::Success);
        assert_eq!(run.pods.len(), 50);
    }
}
