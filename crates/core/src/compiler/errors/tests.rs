//! The order and the texts of what is wrong.

use super::*;

#[test]
fn errors_are_ordered_by_their_text() {
    use Code::{
        AmbiguousBindingUnionValue, BranchNodeHasNoCondition, BranchNodeHasNoDefault,
        BranchNodeIdNotFound, CycleDetected, DuplicateAlias, DuplicateId, FieldNotFound,
        IllegalEnumValue, IncompatibleBindingUnionValue, InvalidLiteralType, InvalidValue,
        MismatchingBindings, MismatchingTypes, NoConditionFound, NoEntryNodeFound, NoNodesFound,
        NodeReferenceNotFound, ParameterBoundMoreThanOnce, ParameterNotBound, SyntaxError,
        TaskReferenceNotFound, UnreachableNodes, UnrecognizedValue, ValueCollision, ValueRequired,
        VariableNameNotFound, WorkflowBuildError, WorkflowReferenceNotFound,
    };
    let codes = [
        AmbiguousBindingUnionValue,
        BranchNodeHasNoCondition,
        BranchNodeHasNoDefault,
        BranchNodeIdNotFound,
        CycleDetected,
        DuplicateAlias,
        DuplicateId,
        FieldNotFound,
        IllegalEnumValue,
        IncompatibleBindingUnionValue,
        InvalidLiteralType,
        InvalidValue,
        MismatchingBindings,
        MismatchingTypes,
        NoConditionFound,
        NoEntryNodeFound,
        NoNodesFound,
        NodeReferenceNotFound,
        ParameterBoundMoreThanOnce,
        ParameterNotBound,
        SyntaxError,
        TaskReferenceNotFound,
        UnreachableNodes,
        UnrecognizedValue,
        ValueCollision,
        ValueRequired,
        VariableNameNotFound,
        WorkflowBuildError,
        WorkflowReferenceNotFound,
    ];
    let mut errors = Vec::new();
    for code in codes {
        for (node, description) in [
            ("n", "x"),
            ("n,", "x"),
            ("n10", "x"),
            ("n2", ""),
            ("n2", "x"),
        ] {
            errors.push(CompileError::new(code, node, description));
        }
    }
    for a in &errors {
        for b in &errors {
            assert_eq!(a.cmp(b), a.to_string().cmp(&b.to_string()), "{a} / {b}");
        }
    }
}

#[test]
fn errors_that_nobody_reads_are_not_made() {
    let mut counting = Collector::counting();
    let mark = counting.mark();
    counting.add_with(|| unreachable!("nobody reads it"));
    assert!(!counting.clean_since(mark));
    let mut full = Collector::default();
    full.add(CompileError::duplicate_id(&"n".repeat(MAX_TEXT + 1)));
    full.add_with(|| unreachable!("there is no room for it"));
    assert_eq!(full.into_errors().iter().count(), 1);
}

#[test]
fn errors_print_once_in_order_of_code_and_text() {
    let errors: CompileErrors = [
        CompileError::task_reference_not_found("start-node", "name:\"task_123\""),
        CompileError::parameter_not_bound("n2", "n"),
        CompileError::parameter_not_bound("n10", "n"),
        CompileError::parameter_not_bound("n2", "n"),
    ]
    .into_iter()
    .collect();
    assert_eq!(
        errors.to_string(),
        "Collected Errors: 3\n\
         \tError 0: Code: ParameterNotBound, Node Id: n10, Description: Parameter not bound [n].\n\
         \tError 1: Code: ParameterNotBound, Node Id: n2, Description: Parameter not bound [n].\n\
         \tError 2: Code: TaskReferenceNotFound, Node Id: start-node, Description: Referenced Task [name:\"task_123\"] not found.\n"
    );
    assert_eq!(
        CompileErrors::default().to_string(),
        "Collected Errors: 0\n"
    );
}
