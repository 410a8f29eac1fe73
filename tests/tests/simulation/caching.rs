//! Tasks whose outputs are cached, whoever else is about and whatever goes wrong meanwhile.

use flyte_crd::{FlyteWorkflow, WorkflowPhase};
use flyte_tests::simulation::{Fault, Outside, Plan, Reloads, Run, Simulation, graphs};

use super::{check, ran, survives_every_single_fault};

fn run(workflow: FlyteWorkflow) -> Run {
    Simulation::new(workflow).run()
}

fn asked(run: &Run, method: &str) -> usize {
    let asked = run.trace.iter().filter(|what| what.contains(method));
    asked.count()
}

#[test]
fn what_is_there_is_not_run_again() {
    for (version, serialized, overwrites, nodes, artifacts, seconds) in [
        ("1", false, false, vec!["n0", "n1"], 2, 0..2),
        ("1", true, false, vec!["n0", "n1"], 2, 0..2),
        ("1", true, true, vec!["n0", "n1", "n2"], 2, 0..2),
        // Somebody else runs the same, or has and died.
        ("writes", true, false, vec![], 2, 20..60),
        ("dies", true, false, vec!["n0", "n1"], 2, 20..60),
        // Nobody waits for others who does not ask to.
        ("dies", false, false, vec!["n0", "n1"], 2, 0..2),
        ("lost", false, false, vec!["n0", "n1", "n2"], 3, 0..2),
    ] {
        let what = format!("{version}, {serialized}, {overwrites}");
        let mut workflow = graphs::cached("ok", version, serialized);
        workflow.execution_config.overwrite_cache = overwrites;
        let run = run(workflow);
        check(&run, &what);
        assert_eq!(run.phase, WorkflowPhase::Success, "{what}");
        assert_eq!(ran(&run), nodes, "{what}");
        assert_eq!(run.cached.reserved, [] as [String; 0], "{what}");
        assert!(
            run.cached.artifacts <= artifacts,
            "{what}: {:?}",
            run.cached
        );
        let took = run.elapsed.as_secs();
        assert!(seconds.contains(&took), "{what}: {took} s");
    }
}

#[test]
fn what_failed_is_not_cached() {
    let run = run(graphs::cached("error", "1", true));
    check(&run, "error");
    assert_eq!(run.phase, WorkflowPhase::Failed);
    assert_eq!(run.cached.artifacts, 0);
}

#[test]
fn what_a_dynamic_task_made_is_cached_with_it() {
    let run = run(graphs::cached("makes(ok)", "1", false));
    check(&run, "dynamic");
    assert_eq!(run.phase, WorkflowPhase::Success);
    assert_eq!(run.cached.artifacts, 2);
    assert_eq!(ran(&run), ["n0", "n0-0-dn0", "n1", "n1-0-dn0"]);
}

#[test]
fn a_reservation_is_extended_as_long_as_a_task_runs() {
    let run = run(graphs::cached("slow", "1", true));
    check(&run, "slow");
    // Two tasks of two minutes, every ten seconds.
    let extended = asked(&run, "GetOrExtendReservation");
    assert!((20..=30).contains(&extended), "{extended} times");
    assert_eq!(run.cached.reserved, [] as [String; 0]);
}

#[test]
fn cached_tasks_survive_every_single_fault() {
    survives_every_single_fault(|| graphs::cached("ok", "1", false), WorkflowPhase::Success);
}

#[test]
fn serialized_tasks_survive_every_single_fault() {
    survives_every_single_fault(|| graphs::cached("ok", "1", true), WorkflowPhase::Success);
}

#[test]
fn nothing_is_cached_twice_whatever_happens() {
    let make = || graphs::cached("ok", "1", true);
    let plain = run(make());
    for effect in 1..=plain.effects {
        for fault in Fault::ALL {
            let run = Simulation::new(make()).with(Plan::one(effect, fault)).run();
            assert_eq!(run.cached.artifacts, 2, "{fault:?} at effect {effect}");
        }
    }
}

#[test]
fn an_engine_that_comes_after_any_write_goes_on() {
    for version in ["1", "writes", "dies"] {
        let run = Simulation::new(graphs::cached("ok", version, true))
            .reloading(Reloads::Always)
            .run();
        check(&run, version);
        assert_eq!(run.phase, WorkflowPhase::Success, "{version}");
    }
}

#[test]
fn whoever_waits_can_be_terminated() {
    let run = Simulation::new(graphs::cached("ok", "dies", true))
        .with_outside(6, Outside::Terminate)
        .run();
    check(&run, "terminated");
    assert_eq!(run.phase, WorkflowPhase::Aborted);
    assert_eq!(ran(&run), [] as [&str; 0]);
}

#[test]
fn whoever_waits_leaves_its_slot_to_what_it_waits_for() {
    let mut workflow = graphs::same_side_by_side("makes(ok)", 3);
    workflow.execution_config.max_parallelism = 2;
    let run = run(workflow);
    check(&run, "side by side");
    assert_eq!(run.phase, WorkflowPhase::Success);
    assert_eq!(run.cached.artifacts, 1);
}
