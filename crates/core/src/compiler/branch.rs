//! Branch nodes (spec 08 A7).

use std::{collections::BTreeSet, sync::Arc};

use flyte_idl::core::{
    BooleanExpression, ComparisonExpression, IfElseBlock, LiteralType, Operand, SimpleType,
    boolean_expression, if_else_block, node::Target, operand, scalar,
};

use super::{
    edges::Direction,
    errors::CompileError,
    graph::Graph,
    interface::{Interface, Variables},
    vertex::{Place, Vertex},
};
use crate::types;

impl Graph<'_, '_> {
    /// The outputs that all cases have, with the inputs that the conditions use.
    pub(super) fn infer_branch(&mut self, vertex: &mut Vertex) -> Option<Interface> {
        let mark = self.errors.mark();
        let id = vertex.id().to_owned();
        let missing = match if_else(vertex) {
            None => Some("Branch.IfElse"),
            Some(block) if block.case.is_none() => Some("Branch.IfElse.Case"),
            Some(_) if !has(vertex, Place::If) => Some("Branch.IfElse.Case.ThenNode"),
            Some(_) => None,
        };
        if let Some(missing) = missing {
            self.errors.add(CompileError::value_required(&id, missing));
            return None;
        }
        let others = if_else(vertex).map_or(0, |block| block.other.len());
        if (0..others).any(|index| !has(vertex, Place::Other(index))) {
            self.errors
                .add(CompileError::value_required(&id, "IfElse.Case.ThenNode"));
        }
        let outputs = self.common_outputs(vertex);
        let inputs = self.resolve_bindings(&mut vertex.node, Direction::Upstream);
        let outputs = outputs.filter(|_| self.errors.clean_since(mark))?;
        Some(Interface::new(inputs, outputs))
    }

    /// Variables of the first case whose names all further cases have too; their types must be the same.
    fn common_outputs(&mut self, vertex: &mut Vertex) -> Option<Variables> {
        let mut first: Option<(Arc<Variables>, BTreeSet<String>)> = None;
        for case in &mut vertex.cases {
            let Some(interface) = self.infer(&mut case.vertex) else {
                continue;
            };
            let Some((candidates, names)) = &mut first else {
                let names = interface.outputs.keys().cloned().collect();
                first = Some((interface.outputs, names));
                continue;
            };
            names.retain(|name| interface.outputs.contains_key(name));
            for name in names.iter() {
                let type_in = |variables: &Variables| {
                    variables
                        .get(name)
                        .and_then(|variable| variable.r#type.clone())
                };
                let (first, here) = (type_in(candidates), type_in(&interface.outputs));
                if first != here {
                    self.errors.add_with(|| {
                        CompileError::mismatching_types(
                            case.vertex.id(),
                            name,
                            &types::text(first.as_ref()),
                            &types::text(here.as_ref()),
                        )
                    });
                }
            }
        }
        let (candidates, names) = first?;
        let kept = candidates
            .iter()
            .filter(|(name, _)| names.contains(*name))
            .map(|(name, variable)| (name.clone(), variable.clone()));
        Some(kept.collect())
    }

    /// Checks the conditions and the nodes of a branch, and binds the latter.
    pub(super) fn validate_branch(&mut self, vertex: &mut Vertex) {
        let mark = self.errors.mark();
        let id = vertex.id().to_owned();
        let empty = IfElseBlock::default();
        let block = if_else(vertex).unwrap_or(&empty);
        match &block.case {
            None => self.errors.add(CompileError::branch_has_no_condition(&id)),
            Some(case) => self.validate_case(vertex, case.condition.as_ref(), Place::If),
        }
        for (index, other) in block.other.iter().enumerate() {
            self.validate_case(vertex, other.condition.as_ref(), Place::Other(index));
        }
        let has_default = matches!(
            block.default,
            Some(if_else_block::Default::ElseNode(_) | if_else_block::Default::Error(_))
        );
        if !has_default {
            self.errors.add(CompileError::branch_has_no_default(&id));
        }
        for case in &mut vertex.cases {
            self.validate(&mut case.vertex);
        }
        if self.errors.clean_since(mark) {
            for case in &mut vertex.cases {
                self.bind(&mut case.vertex, Direction::Upstream);
            }
        }
    }

    fn validate_case(
        &mut self,
        vertex: &Vertex,
        condition: Option<&BooleanExpression>,
        place: Place,
    ) {
        self.validate_expression(vertex, condition);
        if !has(vertex, place) {
            self.errors
                .add(CompileError::branch_node_not_specified(vertex.id()));
        }
    }

    fn validate_expression(&mut self, vertex: &Vertex, expression: Option<&BooleanExpression>) {
        let Some(expression) = expression else {
            self.errors
                .add(CompileError::branch_has_no_condition(vertex.id()));
            return;
        };
        match &expression.expr {
            Some(boolean_expression::Expr::Comparison(comparison)) => {
                self.validate_comparison(vertex, comparison);
            }
            Some(boolean_expression::Expr::Conjunction(conjunction)) => {
                self.validate_expression(vertex, conjunction.left_expression.as_deref());
                self.validate_expression(vertex, conjunction.right_expression.as_deref());
            }
            None => self
                .errors
                .add(CompileError::value_required(vertex.id(), "Expr")),
        }
    }

    fn validate_comparison(&mut self, vertex: &Vertex, comparison: &ComparisonExpression) {
        let right = self.validate_operand(vertex, "RightValue", comparison.right_value.as_ref());
        let left = self.validate_operand(vertex, "LeftValue", comparison.left_value.as_ref());
        let (Some(right), Some(left)) = (right, left) else {
            return;
        };
        // A comparison with nothing is how flytekit writes `is_none()` (spec 08 A18, 6).
        let asks_for_none = [&comparison.right_value, &comparison.left_value]
            .into_iter()
            .flatten()
            .any(|operand| match &operand.val {
                Some(operand::Val::Scalar(scalar)) => {
                    matches!(scalar.value, Some(scalar::Value::NoneType(_)))
                }
                _ => false,
            });
        if right != left && !asks_for_none {
            self.errors.add_with(|| {
                CompileError::mismatching_types(
                    vertex.id(),
                    "RightValue",
                    &types::text(Some(&right)),
                    &types::text(Some(&left)),
                )
            });
        }
    }

    /// The type of an operand, where it can be known.
    #[expect(deprecated, reason = "flytekit sends primitives")]
    fn validate_operand(
        &mut self,
        vertex: &Vertex,
        name: &str,
        operand: Option<&Operand>,
    ) -> Option<LiteralType> {
        let node = vertex.id();
        let Some(operand) = operand else {
            self.errors.add(CompileError::value_required(node, name));
            return None;
        };
        match &operand.val {
            Some(operand::Val::Primitive(primitive)) => {
                types::of_scalar(&flyte_idl::core::Scalar {
                    value: Some(scalar::Value::Primitive(primitive.clone())),
                })
            }
            Some(operand::Val::Scalar(scalar)) if scalar.value.is_some() => {
                types::of_scalar(scalar)
                    .filter(|literal_type| !types::is_simple(literal_type, SimpleType::None))
            }
            Some(operand::Val::Var(variable)) if !variable.is_empty() => {
                let Some(interface) = &vertex.interface else {
                    self.errors
                        .add(CompileError::value_required(node, variable));
                    return None;
                };
                if let Some(input) = interface.inputs.get(variable) {
                    return input.r#type.clone();
                }
                let bound = |name: &str| vertex.node.inputs.iter().any(|input| input.var == name);
                if !bound(variable) {
                    self.errors
                        .add(CompileError::variable_name_not_found(node, variable));
                }
                None
            }
            _ => {
                self.errors
                    .add(CompileError::value_required(node, &format!("{name}.Val")));
                None
            }
        }
    }
}

fn if_else(vertex: &Vertex) -> Option<&IfElseBlock> {
    match vertex.target() {
        Some(Target::BranchNode(branch)) => branch.if_else.as_deref(),
        _ => None,
    }
}

fn has(vertex: &Vertex, place: Place) -> bool {
    vertex.cases.iter().any(|case| case.place == place)
}
