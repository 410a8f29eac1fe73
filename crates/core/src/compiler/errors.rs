//! What can be wrong with a task or a workflow (spec 08 A11).

use std::{collections::BTreeSet, fmt};

/// The codes that clients see, in the order of their texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    missing_docs,
    reason = "each code says itself what it is; texts are made by CompileError's functions"
)]
pub enum Code {
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
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One thing that is wrong, and the node where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileError {
    /// What kind of thing.
    pub code: Code,
    /// The node, or a word that stands for one: `root`, `container`, `start-node`.
    pub node: String,
    /// What is wrong with which value, as shown to the user.
    pub description: String,
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Code: {}, Node Id: {}, Description: {}",
            self.code, self.node, self.description
        )
    }
}

impl CompileError {
    /// The whole text behind the code and `Node Id: `.
    fn rest(&self) -> impl Iterator<Item = u8> {
        let node = self.node.bytes().chain(*b", Description: ");
        node.chain(self.description.bytes())
    }
}

impl PartialOrd for CompileError {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for CompileError {
    /// By the text of the code, then by the whole text, bytewise: `n10` comes before `n2`.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // The codes stand in the order of their texts. Of the whole text the node is followed by a comma.
        let code = self.code.cmp(&other.code);
        code.then_with(|| self.rest().cmp(other.rest()))
    }
}

/// Variable labels and types of a long mismatch.
pub(crate) struct Mismatch {
    pub(crate) up: String,
    pub(crate) up_type: String,
    pub(crate) down: String,
    pub(crate) down_type: String,
}

/// Types and binding of a union that two variants take.
pub(crate) struct Ambiguity {
    pub(crate) expected: String,
    pub(crate) received: String,
    pub(crate) first: String,
    pub(crate) second: String,
}

/// Constructors: each takes the node and what the text names.
impl CompileError {
    /// Any code with a text of the caller's.
    pub fn new(code: Code, node: &str, description: impl Into<String>) -> Self {
        Self {
            code,
            node: node.to_owned(),
            description: description.into(),
        }
    }

    /// A part is missing.
    pub fn value_required(node: &str, name: &str) -> Self {
        Self::new(
            Code::ValueRequired,
            node,
            format!("Value required [{name}]."),
        )
    }

    /// A part cannot be read.
    pub fn invalid_value(node: &str, name: &str) -> Self {
        Self::new(Code::InvalidValue, node, format!("Invalid value [{name}]."))
    }

    /// A node's id cannot name its folder.
    pub fn invalid_node_id(node: &str) -> Self {
        Self::new(
            Code::InvalidValue,
            node,
            "Invalid value [Id]: use ASCII letters, digits and any of -_.~$&+,:;=@!'()*, and neither '.' nor '..'.",
        )
    }

    /// A value is of an unknown kind.
    pub fn unrecognized_value(node: &str, value: &str) -> Self {
        Self::new(
            Code::UnrecognizedValue,
            node,
            format!("Unrecognized value [{value}]."),
        )
    }

    /// Nodes, or workflows, depend on each other in a circle; `path` is joined by `>`.
    pub fn cycle_detected(node: &str, path: &[&str]) -> Self {
        Self::new(
            Code::CycleDetected,
            node,
            format!(
                "A cycle has been detected while traversing the Workflow [{}].",
                path.join(">")
            ),
        )
    }

    /// Nodes that no path from the start node reaches.
    pub fn unreachable_nodes(node: &str, ids: &[&str]) -> Self {
        Self::new(
            Code::UnreachableNodes,
            node,
            format!(
                "The Workflow contain unreachable nodes [{}].",
                ids.join(",")
            ),
        )
    }

    /// A workflow without nodes.
    pub fn no_nodes_found(workflow: &str) -> Self {
        Self::new(
            Code::NoNodesFound,
            workflow,
            format!("Can't find any nodes in workflow [{workflow}]."),
        )
    }

    /// Two things with one id.
    pub fn duplicate_id(node: &str) -> Self {
        Self::new(
            Code::DuplicateId,
            node,
            "Trying to insert two nodes with the same id.",
        )
    }

    /// A reference to a node that does not exist.
    pub fn node_reference_not_found(node: &str, referenced: &str) -> Self {
        Self::new(
            Code::NodeReferenceNotFound,
            node,
            format!("Referenced node [{referenced}] not found."),
        )
    }

    /// A reference to a task that was not given.
    pub fn task_reference_not_found(node: &str, id: &str) -> Self {
        Self::new(
            Code::TaskReferenceNotFound,
            node,
            format!("Referenced Task [{id}] not found."),
        )
    }

    /// A reference to a workflow or launch plan that was not given.
    pub fn workflow_reference_not_found(node: &str, id: &str) -> Self {
        Self::new(
            Code::WorkflowReferenceNotFound,
            node,
            format!("Referenced Workflow [{id}] not found."),
        )
    }

    /// A variable that the node does not have.
    pub fn variable_name_not_found(node: &str, variable: &str) -> Self {
        Self::new(
            Code::VariableNameNotFound,
            node,
            format!("Variable [{variable}] not found on node [{node}]."),
        )
    }

    /// An input without binding.
    pub fn parameter_not_bound(node: &str, parameter: &str) -> Self {
        Self::new(
            Code::ParameterNotBound,
            node,
            format!("Parameter not bound [{parameter}]."),
        )
    }

    /// An input with two bindings.
    pub fn parameter_bound_more_than_once(node: &str, parameter: &str) -> Self {
        Self::new(
            Code::ParameterBoundMoreThanOnce,
            node,
            format!("Input [{parameter}] is bound more than once."),
        )
    }

    /// A value of another type than is declared.
    pub fn mismatching_types(node: &str, variable: &str, actual: &str, expected: &str) -> Self {
        Self::new(
            Code::MismatchingTypes,
            node,
            format!(
                "Variable [{variable}] (type [{actual}]) doesn't match expected type [{expected}]."
            ),
        )
    }

    /// An output bound to an input of another type; the doubled word is the reference's.
    pub(crate) fn mismatching_variables(node: &str, mismatch: &Mismatch) -> Self {
        Self::new(
            Code::MismatchingTypes,
            node,
            format!(
                "The output variable '{}' has type [{}], but it's assigned to the input variable '{}' which has type type [{}].",
                mismatch.up, mismatch.up_type, mismatch.down, mismatch.down_type
            ),
        )
    }

    /// A binding of another shape than the type asks for.
    pub fn mismatching_bindings(
        node: &str,
        parameter: &str,
        expected: &str,
        received: &str,
    ) -> Self {
        Self::new(
            Code::MismatchingBindings,
            node,
            format!(
                "Input [{parameter}] on node [{node}] expects bindings of type [{expected}].  Received [{received}]"
            ),
        )
    }

    /// A text that is none of the enum's values.
    pub fn illegal_enum_value(
        node: &str,
        parameter: &str,
        received: &str,
        values: &[String],
    ) -> Self {
        Self::new(
            Code::IllegalEnumValue,
            node,
            format!(
                "Input [{parameter}] on node [{node}] is an Enum and expects value to be one of [[{}]].  Received [{received}]",
                values.join(" ")
            ),
        )
    }

    /// A binding that fits two variants of a union.
    pub(crate) fn ambiguous_union(node: &str, parameter: &str, ambiguity: &Ambiguity) -> Self {
        let Ambiguity {
            expected,
            received,
            first,
            second,
        } = ambiguity;
        Self::new(
            Code::AmbiguousBindingUnionValue,
            node,
            format!(
                "Input [{parameter}] on node [{node}] expects bindings of union type [{expected}].  Received [{received}] which is ambiguous as both variants [{first}] and [{second}] match."
            ),
        )
    }

    /// A binding that fits no variant of a union.
    pub fn incompatible_union(node: &str, parameter: &str, expected: &str, received: &str) -> Self {
        Self::new(
            Code::IncompatibleBindingUnionValue,
            node,
            format!(
                "Input [{parameter}] on node [{node}] expects bindings of union type [{expected}].  Received [{received}] which does not match any of the variants."
            ),
        )
    }

    /// A part of a dataclass that does not exist.
    pub fn field_not_found(node: &str, variable: &str, variable_type: &str, key: &str) -> Self {
        Self::new(
            Code::FieldNotFound,
            node,
            format!("Variable [{variable}] (type [{variable_type}]) doesn't have field [{key}]."),
        )
    }

    /// A variable name that is none.
    pub fn syntax_error(node: &str, element: &str) -> Self {
        Self::new(
            Code::SyntaxError,
            node,
            format!("Failed to parse element [{element}]."),
        )
    }

    /// Two aliases for one output.
    pub fn duplicate_alias(node: &str, alias: &str) -> Self {
        Self::new(
            Code::DuplicateAlias,
            node,
            format!(
                "Duplicate alias [{alias}] found. An output alias can only be used once in the Workflow."
            ),
        )
    }

    /// A gate of no kind.
    pub fn no_condition_found(node: &str) -> Self {
        Self::new(
            Code::NoConditionFound,
            node,
            format!("Can't find any condition in gate node [{node}]."),
        )
    }

    /// A branch, or a part of its condition, without condition.
    pub fn branch_has_no_condition(node: &str) -> Self {
        Self::new(
            Code::BranchNodeHasNoCondition,
            node,
            "One of the branches on the node doesn't have a condition.",
        )
    }

    /// A branch that may end without a case.
    pub fn branch_has_no_default(node: &str) -> Self {
        Self::new(
            Code::BranchNodeHasNoDefault,
            node,
            "Branch Node must have either the else case set or a default error.",
        )
    }

    /// A case without node.
    pub fn branch_node_not_specified(node: &str) -> Self {
        Self::new(Code::BranchNodeIdNotFound, node, "BranchNode not assigned")
    }
}

/// All that is wrong, each thing once, ordered by code and text.
///
/// Prints as `Collected Errors: ‹N›`, then a line for each, tab-indented, counted from 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompileErrors(BTreeSet<CompileError>);

impl CompileErrors {
    /// The errors in order.
    pub fn iter(&self) -> impl Iterator<Item = &CompileError> {
        self.0.iter()
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<CompileError> for CompileErrors {
    fn from(error: CompileError) -> Self {
        Self(BTreeSet::from([error]))
    }
}

impl FromIterator<CompileError> for CompileErrors {
    fn from_iter<I: IntoIterator<Item = CompileError>>(errors: I) -> Self {
        Self(errors.into_iter().collect())
    }
}

impl fmt::Display for CompileErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Collected Errors: {}", self.0.len())?;
        for (index, error) in self.0.iter().enumerate() {
            writeln!(f, "\tError {index}: {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for CompileErrors {}

/// Most bytes of error texts that are kept. Every text may repeat a type as large as the request.
const MAX_TEXT: usize = 1 << 20;

/// Collects errors and tells whether any came since a mark, also ones that were there already or did not fit.
#[derive(Debug, Default)]
pub(super) struct Collector {
    errors: CompileErrors,
    collected: usize,
    text: usize,
    /// Nothing is kept: the caller only asks whether there was an error.
    only_counts: bool,
}

/// A point in time of a [`Collector`].
#[derive(Clone, Copy)]
pub(super) struct Mark(usize);

impl Collector {
    /// One whose errors nobody will read.
    pub(super) fn counting() -> Self {
        Self {
            only_counts: true,
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, error: CompileError) {
        self.add_with(|| error);
    }

    /// Adds an error that is only made if it is kept: its text may be long.
    pub(super) fn add_with(&mut self, error: impl FnOnce() -> CompileError) {
        self.collected += 1;
        if !self.only_counts && !self.is_full() {
            let error = error();
            let length = error.node.len() + error.description.len();
            if self.errors.0.insert(error) {
                self.text += length;
            }
        }
    }

    /// Whether further errors are only counted.
    pub(super) fn is_full(&self) -> bool {
        self.text > MAX_TEXT
    }

    /// Takes over what another scope found.
    pub(super) fn add_all(&mut self, errors: &CompileErrors) {
        for error in errors.iter() {
            self.add(error.clone());
        }
    }

    pub(super) fn mark(&self) -> Mark {
        Mark(self.collected)
    }

    pub(super) fn clean_since(&self, mark: Mark) -> bool {
        self.collected == mark.0
    }

    pub(super) fn into_errors(self) -> CompileErrors {
        self.errors
    }

    pub(super) fn finish<T>(self, value: T) -> Result<T, CompileErrors> {
        if self.errors.is_empty() {
            Ok(value)
        } else {
            Err(self.errors)
        }
    }
}

#[cfg(test)]
mod tests;
