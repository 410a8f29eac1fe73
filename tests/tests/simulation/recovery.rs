//! Executions that recover others: what has succeeded there is not run again.

use flyte_crd::{FlyteWorkflow, WorkflowPhase};
use flyte_tests::simulation::{Fault, Plan, Run, Simulation, graphs};

use super::{check, ran};

/// The run that failed, and the workflow that recovers it.
fn failed(workflow: &FlyteWorkflow) -> Run {
    let other = Simulation::new(graphs::failed_before(workflow)).run();
    check(&other, "the other");
    assert_eq!(other.phase, WorkflowPhase::Failed);
    other
}

#[test]
fn what_has_succeeded_before_is_taken_over() {
    for (case, workflow, expected) in [
        ("a task", graphs::chain_with("only:run"), vec!["n1", "n2"]),
        (
            "a sub-workflow beside it",
            graphs::dynamic("makes(ok>only:run)", 1),
            vec!["n1-0-dn1", "n2"],
        ),
    ] {
        let other = failed(&workflow);
        let run = Simulation::new(workflow.clone()).recovering(&other).run();
        check(&run, case);
        assert_eq!(run.phase, WorkflowPhase::Success, "{case}");
        assert_eq!(ran(&run), expected, "{case}");
        let nodes = run.visible().nodes;
        assert_eq!(nodes["n0"], "RECOVERED", "{case}");
        for effect in 1..=run.effects {
            for fault in Fault::ALL {
                let what = format!("{case}: {fault:?} at effect {effect}");
                let faulty = Simulation::new(workflow.clone())
                    .recovering(&other)
                    .with(Plan::one(effect, fault))
                    .run();
                check(&faulty, &what);
                assert_eq!(faulty.visible(), run.visible(), "{what}");
            }
        }
    }
}

#[test]
fn what_is_not_there_any_more_is_run_again() {
    let workflow = graphs::chain_with("only:run");
    let mut other = failed(&workflow);
    other
        .objects
        .retain(|key, _| !key.ends_with("n0/data/0/outputs.pb"));
    let run = Simulation::new(workflow).recovering(&other).run();
    check(&run, "outputs are gone");
    assert_eq!(run.phase, WorkflowPhase::Success);
    assert_eq!(ran(&run), ["n0", "n1", "n2"]);
}
