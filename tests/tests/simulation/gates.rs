//! Gate nodes, whatever goes wrong while they wait.

use std::time::Duration;

use flyte_crd::WorkflowPhase;
use flyte_idl::core::{LiteralMap, literal, primitive, scalar};
use flyte_tests::simulation::{Reloads, Run, Simulation, graphs};

use super::{check, survives_every_single_fault};

/// The integers that a node handed on, by variable.
fn integer(run: &Run, key: &str, variable: &str) -> Option<i64> {
    let map: &LiteralMap = run.literals.iter().find(|(name, _)| name.contains(key))?.1;
    let Some(literal::Value::Scalar(scalar)) = &map.literals.get(variable)?.value else {
        return None;
    };
    let Some(scalar::Value::Primitive(primitive)) = &scalar.value else {
        return None;
    };
    match primitive.value {
        Some(primitive::Value::Integer(value)) => Some(value),
        _ => None,
    }
}

#[test]
fn gates_open_when_what_they_wait_for_has_come() {
    for (approval, phase, code) in [
        ("yes", WorkflowPhase::Success, ""),
        ("no", WorkflowPhase::Failed, "ReceivedRejectSignal"),
    ] {
        for reloads in [Reloads::Never, Reloads::Always] {
            let run = Simulation::new(graphs::gates(approval))
                .reloading(reloads)
                .run();
            check(&run, approval);
            assert_eq!(run.phase, phase, "{approval}");
            assert_eq!(run.records.workflow().1, code, "{approval}");
            // A second of sleep at least, then two for the person.
            assert!(run.elapsed >= Duration::from_secs(3), "{:?}", run.elapsed);
            assert!(run.elapsed < Duration::from_secs(7), "{:?}", run.elapsed);
            assert_eq!(integer(&run, "/n2/data/0/outputs.pb", "o0"), Some(7));
            let approved = integer(&run, "/n1/data/0/outputs.pb", "n");
            assert_eq!(approved, (approval == "yes").then_some(1), "its inputs");
        }
    }
}

#[test]
fn a_gate_that_nobody_opens_is_ended_with_the_workflow() {
    let run = Simulation::new(graphs::gates("never"))
        .deleted_after(40)
        .run();
    check(&run, "terminated");
    assert_eq!(run.phase, WorkflowPhase::Aborted);
}

#[test]
fn gates_survive_every_single_fault() {
    survives_every_single_fault(|| graphs::gates("yes"), WorkflowPhase::Success);
}
