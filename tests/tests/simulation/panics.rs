//! A panic, which is a mistake of ours, must not stop the engine, nor be repeated for ever.

use flyte_crd::WorkflowPhase;
use flyte_tests::simulation::{Fault, Plan, Simulation, graphs};

use super::check;

#[test]
fn a_panic_at_any_effect_changes_nothing() {
    let plain = Simulation::new(graphs::failure_with_handler()).run();
    for effect in 1..=plain.effects {
        let what = format!("a panic at effect {effect}");
        let run = Simulation::new(graphs::failure_with_handler())
            .with(Plan::one(effect, Fault::Panic))
            .run();
        check(&run, &what);
        assert_eq!(run.visible(), plain.visible(), "{what}");
        assert_eq!(run.restarts, 0, "{what}");
    }
}

#[test]
fn a_workflow_that_always_panics_fails() {
    for (case, part) in [
        (
            "creating a pod",
            "POST /api/v1/namespaces/project-development/pods",
        ),
        ("writing inputs", "inputs.pb"),
    ] {
        let run = Simulation::new(graphs::chain()).panicking_at(part).run();
        check(&run, case);
        assert_eq!(run.phase, WorkflowPhase::Failed, "{case}");
        assert_eq!(
            run.visible().workflow,
            ("FAILED".into(), "RuntimeExecutionError".into()),
            "{case}"
        );
        let tries = run.trace.iter().filter(|what| what.contains(part)).count();
        assert_eq!(tries, 11, "{case}");
    }
}
