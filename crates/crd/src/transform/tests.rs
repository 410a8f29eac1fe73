//! The recorded first versions are reproduced from their closures (data: see tests/data/README.md).

use serde_json::Value;

use super::*;

#[test]
fn a_closure_that_was_never_compiled_is_refused() {
    let closure = CompiledWorkflowClosure {
        primary: Some(CompiledWorkflow::default()),
        ..Default::default()
    };
    assert!(matches!(
        graph(&closure),
        Err(BuildError::ValueRequired {
            value: "template",
            ..
        })
    ));
    assert!(matches!(
        graph(&CompiledWorkflowClosure::default()),
        Err(BuildError::ValueRequired {
            value: "wfClosure",
            ..
        })
    ));
}

#[test]
fn a_status_that_go_wrote_is_kept_word_for_word() {
    let text = r#"{"phase":1,"nodeStatus":{"n0":{"phase":2,"TaskNodeStatus":{"phase":3,"psv":1,"updAt":"0001-01-01T00:00:00Z"},"dynamicNodeStatus":{}}}}"#;
    let status: crate::WorkflowStatus = serde_json::from_str(text).unwrap();
    let written: Value = serde_json::to_value(&status).unwrap();
    assert_eq!(written, serde_json::from_str::<Value>(text).unwrap());
}
