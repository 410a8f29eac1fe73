//! Launch plan nodes: executions that end for whatever reason, and whatever goes wrong meanwhile.

use flyte_crd::WorkflowPhase;
use flyte_tests::simulation::{Outside, Plan, Reloads, Run, Simulation, graphs};

use super::{check, survives_every_single_fault};

fn phases(run: &Run) -> Vec<String> {
    run.records.children().into_values().collect()
}

#[test]
fn children_survive_every_single_fault() {
    survives_every_single_fault(|| graphs::launch_plans("ok"), WorkflowPhase::Success);
}

#[test]
fn what_children_bring_is_handed_on_and_their_failure_is_the_nodes() {
    for (plan, phase, code, children, within) in [
        ("ok", WorkflowPhase::Success, "", 2, 4.0),
        ("archived", WorkflowPhase::Success, "", 2, 14.0),
        ("fail", WorkflowPhase::Failed, "OfChild", 2, 4.0),
        (
            "refused",
            WorkflowPhase::Failed,
            "RuntimeExecutionError",
            1,
            4.0,
        ),
        ("removed", WorkflowPhase::Failed, "NotFound", 2, 14.0),
    ] {
        let run = Simulation::new(graphs::launch_plans(plan)).run();
        if plan != "removed" {
            check(&run, plan);
        }
        assert_eq!(run.phase, phase, "{plan}");
        assert_eq!(run.records.workflow().1, code, "{plan}");
        assert_eq!(run.records.children().len(), children, "{plan}");
        if plan == "fail" {
            assert_eq!(run.records.error_messages()["n1"], "as its name says");
        }
        // Each of two in a row is known to have ended within a second after.
        let seconds = run.elapsed.as_secs_f64();
        assert!(seconds < within, "{plan}: {seconds} s");
    }
}

#[test]
fn a_child_that_cannot_be_read_keeps_no_other_waiting() {
    let run = Simulation::new(graphs::launch_plan_beside_an_unreadable_one()).run();
    check(&run, "beside it");
    assert_eq!(run.phase, WorkflowPhase::Failed);
    let nodes = run.records.nodes();
    assert_eq!(
        (nodes["n0"].as_str(), nodes["n2"].as_str()),
        ("FAILED", "SUCCEEDED")
    );
}

#[test]
fn a_failure_beside_it_ends_a_child_whatever_happens() {
    let plain = Simulation::new(graphs::launch_plan_beside_a_failure()).run();
    check(&plain, "without faults");
    assert_eq!(phases(&plain), ["ABORTED"]);
    survives_every_single_fault(graphs::launch_plan_beside_a_failure, WorkflowPhase::Failed);
}

#[test]
fn termination_reaches_children_at_any_moment() {
    let plain = Simulation::new(graphs::launch_plans("stay"))
        .deleted_after(40)
        .run();
    for effect in 1..=plain.effects {
        // Every other time with faults as well.
        let plan = match effect % 2 {
            0 => Plan::default(),
            _ => Plan::random(effect, 2, plain.effects),
        };
        let run = Simulation::new(graphs::launch_plans("stay"))
            .with_outside(effect, Outside::Terminate)
            .with(plan)
            .run();
        check(&run, &format!("terminated after effect {effect}"));
        assert_eq!(run.phase, WorkflowPhase::Aborted, "{effect}");
    }
}

#[test]
fn each_attempt_that_takes_too_long_ends_its_child() {
    let graph = || graphs::impatient_launch_plan("2s", 2);
    let run = Simulation::new(graph()).run();
    check(&run, "twice");
    assert_eq!(run.phase, WorkflowPhase::Failed);
    assert_eq!(phases(&run), ["ABORTED", "ABORTED"]);
    for seed in 0..20 {
        let plan = Plan::random(seed, 2, run.effects);
        let faulty = Simulation::new(graph()).with(plan).run();
        check(&faulty, &format!("seed {seed}"));
        assert_eq!(faulty.visible(), run.visible(), "seed {seed}");
    }
}

#[test]
fn an_engine_that_comes_after_any_write_goes_on() {
    let run = Simulation::new(graphs::launch_plans("ok"))
        .reloading(Reloads::Always)
        .run();
    check(&run, "reloaded after every write");
    assert_eq!(run.phase, WorkflowPhase::Success);
}
