//! Dynamic tasks: what they make runs to its end, whatever goes wrong meanwhile.

use flyte_crd::{FlyteWorkflow, WorkflowPhase};
use flyte_tests::simulation::{Outside, Plan, Reloads, Run, Simulation, graphs};

use super::{check, survives_every_single_fault};

/// A dynamic task and a launch plan beside each other, and after the first what is three levels deep.
const NESTED: &str = "makes(makes(ok,fail:1)>sub(ok>makes(ok)),launch:ok)";

fn run(workflow: FlyteWorkflow) -> Run {
    Simulation::new(workflow).run()
}

#[test]
fn what_a_task_made_survives_every_single_fault() {
    let make = || graphs::dynamic("makes(ok>fail:1,ok)", 1);
    survives_every_single_fault(make, WorkflowPhase::Success);
}

#[test]
fn a_failure_inside_survives_every_single_fault() {
    let make = || graphs::dynamic("makes(slow-error,stay)", 2);
    survives_every_single_fault(make, WorkflowPhase::Failed);
}

#[test]
fn a_node_ends_as_what_its_task_made() {
    for (behaviour, phase, code, nodes) in [
        ("makes(ok)", WorkflowPhase::Success, "", 8),
        (NESTED, WorkflowPhase::Success, "", 21),
        ("makes(error)", WorkflowPhase::Failed, "USER:ValueError", 5),
        (
            "makes(makes(error),stay)",
            WorkflowPhase::Failed,
            "USER:ValueError",
            8,
        ),
        ("makes(launch:fail)", WorkflowPhase::Failed, "OfChild", 5),
        (
            "makes(absent)",
            WorkflowPhase::Failed,
            "DynamicWorkflowBuildFailed",
            3,
        ),
        (
            "makes(launch:absent)",
            WorkflowPhase::Failed,
            "DynamicWorkflowBuildFailed",
            3,
        ),
    ] {
        let run = run(graphs::dynamic(behaviour, 2));
        check(&run, behaviour);
        assert_eq!(run.phase, phase, "{behaviour}: {:?}", run.visible());
        assert_eq!(run.records.workflow().1, code, "{behaviour}");
        let visible = run.visible();
        assert_eq!(
            visible.nodes.len(),
            nodes,
            "{behaviour}: {:?}",
            visible.nodes
        );
        // None of these is worth another attempt.
        let attempts = visible.tasks.keys().filter(|task| task.starts_with("n1/"));
        assert_eq!(attempts.count(), 1, "{behaviour}: {:?}", visible.tasks);
    }
}

#[test]
fn what_took_too_long_is_made_again() {
    let run = run(graphs::dynamic("makes(quick:stay)", 2));
    check(&run, "twice");
    assert_eq!(run.phase, WorkflowPhase::Failed);
    let nodes = run.visible().nodes;
    assert_eq!(nodes["n1"], "FAILED", "{nodes:?}");
    for attempt in 0..2 {
        assert_eq!(
            nodes[&format!("n1-{attempt}-dn0")],
            "TIMED_OUT",
            "{nodes:?}"
        );
    }
}

#[test]
fn tasks_that_wait_for_what_they_made_leave_their_slots_to_it() {
    let mut workflow = graphs::dynamic(NESTED, 1);
    workflow.execution_config.max_parallelism = 1;
    let run = run(workflow);
    check(&run, "one at a time");
    assert_eq!(run.phase, WorkflowPhase::Success);
}

#[test]
fn nested_ones_survive_random_faults() {
    let make = || graphs::dynamic(NESTED, 1);
    let plain = run(make());
    check(&plain, "without faults");
    for seed in 0..60 {
        let plan = Plan::random(seed, 3, plain.effects);
        let what = format!("seed {seed}, {plan:?}");
        let run = Simulation::new(make()).with(plan).run();
        check(&run, &what);
        assert_eq!(run.visible(), plain.visible(), "{what}");
    }
}

#[test]
fn an_engine_that_comes_after_any_write_goes_on() {
    for (behaviour, phase) in [
        (NESTED, WorkflowPhase::Success),
        ("makes(slow-error,stay)", WorkflowPhase::Failed),
    ] {
        let run = Simulation::new(graphs::dynamic(behaviour, 1))
            .reloading(Reloads::Always)
            .run();
        check(&run, behaviour);
        assert_eq!(run.phase, phase, "{behaviour}");
    }
}

#[test]
fn termination_reaches_what_a_task_made_at_any_moment() {
    let make = || graphs::dynamic("makes(makes(stay,ok)>ok,stay)", 1);
    // So many effects there are until all wait for what never ends.
    const EFFECTS: u64 = 30;
    let plain = Simulation::new(make()).deleted_after(EFFECTS).run();
    for effect in 1..=EFFECTS {
        // Every other time with faults as well.
        let plan = match effect % 2 {
            0 => Plan::default(),
            _ => Plan::random(effect, 2, plain.effects),
        };
        let run = Simulation::new(make())
            .with_outside(effect, Outside::Terminate)
            .with(plan)
            .run();
        check(&run, &format!("terminated after effect {effect}"));
        assert_eq!(run.phase, WorkflowPhase::Aborted, "{effect}");
    }
}

#[test]
fn a_failure_beside_it_ends_what_a_task_made_whatever_happens() {
    let make = || graphs::dynamic_beside_a_failure("makes(makes(stay)>ok,stay)");
    let plain = run(make());
    check(&plain, "without faults");
    assert_eq!(plain.phase, WorkflowPhase::Failed);
    for seed in 0..60 {
        let plan = Plan::random(seed, 2, plain.effects);
        let what = format!("seed {seed}, {plan:?}");
        let run = Simulation::new(make()).with(plan).run();
        check(&run, &what);
        assert_eq!(run.phase, WorkflowPhase::Failed, "{what}");
        assert_eq!(run.visible().nodes["n1"], "FAILED", "{what}");
    }
}
