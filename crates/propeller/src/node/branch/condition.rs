//! Which arm of a branch is taken (spec 04 §7.3). Pure.

use std::cmp::Ordering;

use flyte_crd::BranchSpec;
use flyte_idl::core::{
    BooleanExpression, ComparisonExpression, ConjunctionExpression, Literal, LiteralMap, Operand,
    Primitive, boolean_expression::Expr, comparison_expression::Operator,
    conjunction_expression::LogicalOperator, literal, operand, primitive, scalar,
};

/// What a branch decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The node of the first condition that holds, or of `else`.
    Arm(String),
    /// No condition holds and the author gave an error for that.
    Fail(String),
}

/// The branch cannot be decided; a user error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BranchError {
    /// Nothing holds and there is no else.
    #[error("[MalformedBranchUserError] No branch satisfied")]
    NothingHolds,
    /// An operand is no primitive, or of another kind than the other one.
    #[error("[MalformedBranchUserError] {0}")]
    Malformed(String),
}

/// Decides on the branch's inputs.
pub fn choose(branch: &BranchSpec, inputs: &LiteralMap) -> Result<Choice, BranchError> {
    for arm in std::iter::once(&branch.case).chain(&branch.else_if) {
        if holds(&arm.condition, inputs)? {
            return Ok(Choice::Arm(arm.then.clone()));
        }
    }
    match (&branch.otherwise, &branch.else_fail) {
        (Some(node), _) => Ok(Choice::Arm(node.clone())),
        (None, Some(error)) => Ok(Choice::Fail(error.message.clone())),
        (None, None) => Err(BranchError::NothingHolds),
    }
}

fn holds(expression: &BooleanExpression, inputs: &LiteralMap) -> Result<bool, BranchError> {
    match &expression.expr {
        Some(Expr::Comparison(comparison)) => compare(comparison, inputs),
        Some(Expr::Conjunction(conjunction)) => conjoin(conjunction, inputs),
        None => Err(BranchError::Malformed("a condition is empty".into())),
    }
}

/// Both sides are always evaluated, so that an error on either is seen.
fn conjoin(conjunction: &ConjunctionExpression, inputs: &LiteralMap) -> Result<bool, BranchError> {
    let side = |side: Option<&BooleanExpression>| {
        side.ok_or_else(|| BranchError::Malformed("a side of a condition is empty".into()))
            .and_then(|side| holds(side, inputs))
    };
    let left = side(conjunction.left_expression.as_deref())?;
    let right = side(conjunction.right_expression.as_deref())?;
    Ok(match conjunction.operator() {
        LogicalOperator::Or => left || right,
        LogicalOperator::And => left && right,
    })
}

fn compare(comparison: &ComparisonExpression, inputs: &LiteralMap) -> Result<bool, BranchError> {
    let left = operand(comparison.left_value.as_ref(), inputs)?;
    let right = operand(comparison.right_value.as_ref(), inputs)?;
    let operator = comparison.operator();
    let malformed = |message: String| Err(BranchError::Malformed(message));
    let order = match (&left, &right) {
        (Value::Boolean(left), Value::Boolean(right)) => {
            return match operator {
                Operator::Eq => Ok(left == right),
                Operator::Neq => Ok(left != right),
                other => malformed(format!(
                    "operator {} is not for booleans",
                    other.as_str_name()
                )),
            };
        }
        (Value::Integer(left), Value::Integer(right))
        | (Value::Seconds(left), Value::Seconds(right)) => Some(left.cmp(right)),
        (Value::Float(left), Value::Float(right)) => left.partial_cmp(right),
        (Value::Text(left), Value::Text(right)) => Some(left.cmp(right)),
        (Value::None, Value::None) => Some(Ordering::Equal),
        // `is_none()`: of whatever type the other side is (spec 08 A18).
        (Value::None, _) | (_, Value::None) => None,
        (Value::NoPrimitive(what), _) | (_, Value::NoPrimitive(what)) => {
            return malformed(format!("{what} can be compared with None only"));
        }
        _ => return malformed("the sides of a comparison are of different types".into()),
    };
    // With NaN nothing is equal or greater, so "less" and "less or equal" hold: as in the reference.
    let equal = order == Some(Ordering::Equal);
    let greater = order == Some(Ordering::Greater);
    Ok(match operator {
        Operator::Eq => equal,
        Operator::Neq => !equal,
        Operator::Gt => greater,
        Operator::Gte => equal || greater,
        Operator::Lt => !(equal || greater),
        Operator::Lte => !greater,
    })
}

enum Value {
    Integer(i64),
    Float(f64),
    Text(String),
    Boolean(bool),
    /// Datetimes and durations compare by whole seconds.
    Seconds(i64),
    None,
    /// Something else: what it is, for people.
    NoPrimitive(String),
}

fn operand(side: Option<&Operand>, inputs: &LiteralMap) -> Result<Value, BranchError> {
    let malformed = |message: String| Err(BranchError::Malformed(message));
    match side.and_then(|side| side.val.as_ref()) {
        None => malformed("an operand is empty".into()),
        #[expect(deprecated, reason = "flytekit still sends primitives here")]
        Some(operand::Val::Primitive(value)) => of_primitive(value),
        Some(operand::Val::Scalar(value)) => of_scalar(value.value.as_ref()),
        Some(operand::Val::Var(name)) => match inputs.literals.get(name) {
            None => malformed(format!("the branch has no input [{name}]")),
            Some(value) => of_literal(name, value),
        },
    }
}

fn of_literal(name: &str, value: &Literal) -> Result<Value, BranchError> {
    let described = |what: &str| Ok(Value::NoPrimitive(format!("input [{name}], {what},")));
    match &value.value {
        Some(literal::Value::Scalar(value)) => of_scalar(value.value.as_ref()),
        Some(literal::Value::Collection(_)) => described("a list"),
        Some(literal::Value::Map(_)) => described("a map"),
        Some(literal::Value::OffloadedMetadata(_)) => described("an offloaded value"),
        None => Err(BranchError::Malformed(format!("input [{name}] is empty"))),
    }
}

fn of_scalar(value: Option<&scalar::Value>) -> Result<Value, BranchError> {
    let described = |what: &str| Ok(Value::NoPrimitive(what.to_owned()));
    match value {
        Some(scalar::Value::Primitive(value)) => of_primitive(value),
        Some(scalar::Value::NoneType(_)) => Ok(Value::None),
        // Unions are not unwrapped but for None inside, as in the reference (spec 04 §7.3).
        Some(scalar::Value::Union(union)) => {
            let inner = union
                .value
                .as_deref()
                .and_then(|value| value.value.as_ref());
            let inner = match inner {
                Some(literal::Value::Scalar(inner)) => inner.value.as_ref(),
                _ => None,
            };
            match inner {
                Some(inner @ (scalar::Value::NoneType(_) | scalar::Value::Union(_))) => {
                    of_scalar(Some(inner))
                }
                _ => described("a union with a value"),
            }
        }
        Some(scalar::Value::Blob(_)) => described("a blob"),
        Some(scalar::Value::Binary(_)) => described("a binary value"),
        Some(scalar::Value::Schema(_)) => described("a schema"),
        Some(scalar::Value::Error(_)) => described("an error"),
        Some(scalar::Value::Generic(_)) => described("a structure"),
        Some(scalar::Value::StructuredDataset(_)) => described("a structured dataset"),
        None => Err(BranchError::Malformed("an operand is empty".into())),
    }
}

fn of_primitive(value: &Primitive) -> Result<Value, BranchError> {
    Ok(match &value.value {
        Some(primitive::Value::Integer(number)) => Value::Integer(*number),
        Some(primitive::Value::FloatValue(number)) => Value::Float(*number),
        Some(primitive::Value::StringValue(text)) => Value::Text(text.clone()),
        Some(primitive::Value::Boolean(flag)) => Value::Boolean(*flag),
        Some(primitive::Value::Datetime(time)) => Value::Seconds(time.seconds),
        Some(primitive::Value::Duration(duration)) => Value::Seconds(duration.seconds),
        None => return Err(BranchError::Malformed("a primitive is empty".into())),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn branch(condition: serde_json::Value, else_fail: bool) -> BranchSpec {
        let mut spec = json!({ "if": { "condition": condition, "then": "yes" } });
        if else_fail {
            spec["elseFail"] = json!({ "message": "not today" });
        }
        serde_json::from_value(spec).unwrap()
    }

    fn inputs() -> LiteralMap {
        let literal = |value| Literal {
            value: Some(literal::Value::Scalar(Box::new(flyte_idl::core::Scalar {
                value: Some(scalar::Value::Primitive(Primitive { value: Some(value) })),
            }))),
            ..Literal::default()
        };
        LiteralMap {
            literals: BTreeMap::from([
                (".n".to_owned(), literal(primitive::Value::Integer(5))),
                (
                    ".x".to_owned(),
                    literal(primitive::Value::FloatValue(f64::NAN)),
                ),
                (".b".to_owned(), literal(primitive::Value::Boolean(true))),
            ]),
        }
    }

    fn comparison(operator: &str, var: &str, right: serde_json::Value) -> serde_json::Value {
        json!({ "comparison": { "operator": operator, "leftValue": { "var": var }, "rightValue": { "primitive": right } } })
    }

    #[test]
    fn comparisons_hold_as_the_reference_decides() {
        for (operator, var, right, expected) in [
            ("EQ", ".n", json!({ "integer": "5" }), Some(true)),
            ("NEQ", ".n", json!({ "integer": "5" }), Some(false)),
            ("GT", ".n", json!({ "integer": "4" }), Some(true)),
            ("GTE", ".n", json!({ "integer": "6" }), Some(false)),
            ("LT", ".x", json!({ "floatValue": 1.0 }), Some(true)),
            ("LTE", ".x", json!({ "floatValue": 1.0 }), Some(true)),
            ("EQ", ".b", json!({ "boolean": true }), Some(true)),
            ("GT", ".b", json!({ "boolean": true }), None),
            ("EQ", ".n", json!({ "floatValue": 5.0 }), None),
            ("EQ", ".unknown", json!({ "integer": "5" }), None),
        ] {
            let decided = choose(
                &branch(comparison(operator, var, right.clone()), true),
                &inputs(),
            );
            let expected = match expected {
                Some(true) => Ok(Choice::Arm("yes".into())),
                Some(false) => Ok(Choice::Fail("not today".into())),
                None => {
                    assert!(
                        matches!(decided, Err(BranchError::Malformed(_))),
                        "{operator} {var} {right}: {decided:?}"
                    );
                    continue;
                }
            };
            assert_eq!(decided, expected, "{operator} {var} {right}");
        }
    }

    #[test]
    fn whatever_has_a_value_is_not_none() {
        let literal = |value| Literal {
            value: Some(value),
            ..Literal::default()
        };
        let scalar = |value| {
            literal(literal::Value::Scalar(Box::new(flyte_idl::core::Scalar {
                value: Some(value),
            })))
        };
        let union = |inner: Literal| {
            scalar(scalar::Value::Union(Box::new(flyte_idl::core::Union {
                value: Some(Box::new(inner)),
                r#type: None,
            })))
        };
        let none = || scalar(scalar::Value::NoneType(flyte_idl::core::Void {}));
        let integer = || {
            let value = Some(primitive::Value::Integer(5));
            scalar(scalar::Value::Primitive(Primitive { value }))
        };
        for (case, value, is_none) in [
            ("none", none(), true),
            ("a union of none", union(none()), true),
            ("a union of a union of none", union(union(none())), true),
            ("an integer", integer(), false),
            ("a union of an integer", union(integer()), false),
            (
                "a list",
                literal(literal::Value::Collection(
                    flyte_idl::core::LiteralCollection::default(),
                )),
                false,
            ),
            (
                "a map",
                literal(literal::Value::Map(LiteralMap::default())),
                false,
            ),
            (
                "a structure",
                scalar(scalar::Value::Generic(prost_types::Struct::default())),
                false,
            ),
            (
                "a dataclass",
                scalar(scalar::Value::Binary(flyte_idl::core::Binary::default())),
                false,
            ),
        ] {
            let inputs = LiteralMap {
                literals: BTreeMap::from([(".x".to_owned(), value)]),
            };
            let operand = json!({ "scalar": { "noneType": {} } });
            for (operator, expected) in [("EQ", is_none), ("NEQ", !is_none)] {
                for (left, right) in [
                    (json!({ "var": ".x" }), operand.clone()),
                    (operand.clone(), json!({ "var": ".x" })),
                ] {
                    let condition = json!({ "comparison": {
                        "operator": operator, "leftValue": left, "rightValue": right } });
                    let decided = choose(&branch(condition, true), &inputs);
                    let expected = if expected {
                        Choice::Arm("yes".into())
                    } else {
                        Choice::Fail("not today".into())
                    };
                    assert_eq!(decided, Ok(expected), "{case} {operator}");
                }
            }
        }
    }

    #[test]
    fn both_sides_of_a_conjunction_are_evaluated() {
        let good = comparison("EQ", ".n", json!({ "integer": "5" }));
        let bad = comparison("EQ", ".unknown", json!({ "integer": "5" }));
        let or = json!({ "conjunction": { "operator": "OR", "leftExpression": good, "rightExpression": bad } });
        assert!(choose(&branch(or, false), &inputs()).is_err());
    }

    #[test]
    fn nothing_holding_without_an_else_is_an_error() {
        let no = comparison("LT", ".n", json!({ "integer": "5" }));
        assert_eq!(
            choose(&branch(no, false), &inputs()),
            Err(BranchError::NothingHolds)
        );
    }
}
