//! Which arm of a branch is taken (spec 04 §7.3). Pure.

use std::cmp::Ordering;

use flyte_crd::BranchSpec;
use flyte_idl::core::{
    BooleanExpression, ComparisonExpression, ConjunctionExpression, Literal, LiteralMap, Operand,
    boolean_expression::Expr, comparison_expression::Operator,
    conjunction_expression::LogicalOperator, literal, operand, primitive, scalar,
};

/// The code of what is wrong with a branch.
pub const MALFORMED: &str = "MalformedBranchUserError";

/// What a branch decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The node of the first condition that holds, or of `else`.
    Arm(String),
    /// No condition holds and the author gave an error for that.
    Fail(String),
}

/// The branch cannot be decided; a user error, in the words of the reference (spec 04 §7.3).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BranchError {
    /// Nothing holds and there is no else.
    #[error("[{MALFORMED}] No branch satisfied")]
    NothingHolds,
    /// A condition, or a side of a conjunction, says nothing.
    #[error("[{MALFORMED}] No Comparison or Conjunction found in Branch node expression.")]
    Empty,
    /// The branch has no such input. The name is empty where an operand says nothing.
    #[error("[{MALFORMED}] Failed to find Value for Variable [{0}]")]
    NoValue(String),
    /// The left side is no primitive, and not compared with None.
    #[error("[{MALFORMED}] Only primitives can be compared. LHS Variable is non primitive.")]
    LeftNotPrimitive,
    /// The right side is none. Only beside a constant the reference ends the sentence.
    #[error(
        "[{MALFORMED}] Only primitives can be compared. RHS Variable is non primitive{}",
        if *.beside_variable { "" } else { "." }
    )]
    RightNotPrimitive {
        /// Whether the left side is an input.
        beside_variable: bool,
    },
    /// Integers are not compared with floats, nor any other two kinds with each other.
    #[error(
        "[{MALFORMED}] Comparison between different primitives types. lVal[{left}]:rVal[{right}]"
    )]
    DifferentTypes {
        /// The kind of the left side, as Go names it.
        left: &'static str,
        /// The kind of the right side.
        right: &'static str,
    },
    /// Booleans have no order.
    #[error("[{MALFORMED}] [{0}] not defined for boolean operands.")]
    NoOrder(&'static str),
    /// An operator of a newer version.
    #[error("[{MALFORMED}] Unsupported operator type in Propeller. System error.")]
    UnknownOperator,
}

/// Decides on the branch's inputs.
pub fn choose(branch: &BranchSpec, inputs: &LiteralMap) -> Result<Choice, BranchError> {
    for arm in std::iter::once(&branch.case).chain(&branch.else_if) {
        if holds(Some(&arm.condition), inputs)? {
            return Ok(Choice::Arm(arm.then.clone()));
        }
    }
    match (&branch.otherwise, &branch.else_fail) {
        (Some(node), _) => Ok(Choice::Arm(node.clone())),
        (None, Some(error)) => Ok(Choice::Fail(error.message.clone())),
        (None, None) => Err(BranchError::NothingHolds),
    }
}

fn holds(expression: Option<&BooleanExpression>, inputs: &LiteralMap) -> Result<bool, BranchError> {
    match expression.and_then(|expression| expression.expr.as_ref()) {
        Some(Expr::Comparison(comparison)) => compare(comparison, inputs),
        Some(Expr::Conjunction(conjunction)) => conjoin(conjunction, inputs),
        None => Err(BranchError::Empty),
    }
}

/// Both sides are always evaluated, so that an error on either is seen.
fn conjoin(conjunction: &ConjunctionExpression, inputs: &LiteralMap) -> Result<bool, BranchError> {
    let left = holds(conjunction.left_expression.as_deref(), inputs)?;
    let right = holds(conjunction.right_expression.as_deref(), inputs)?;
    Ok(match conjunction.operator() {
        LogicalOperator::Or => left || right,
        LogicalOperator::And => left && right,
    })
}

fn compare(comparison: &ComparisonExpression, inputs: &LiteralMap) -> Result<bool, BranchError> {
    let left = operand(comparison.left_value.as_ref(), inputs)?;
    let right = operand(comparison.right_value.as_ref(), inputs)?;
    let operator =
        Operator::try_from(comparison.operator).map_err(|_| BranchError::UnknownOperator);
    let order = match (left, right) {
        (Value::None, Value::None) => Some(Ordering::Equal),
        // `is_none()`: of whatever type the other side is (spec 08 A18).
        (Value::None, _) | (_, Value::None) => None,
        (Value::NotPrimitive, _) => return Err(BranchError::LeftNotPrimitive),
        (Value::Primitive(_), Value::NotPrimitive) => {
            return Err(BranchError::RightNotPrimitive {
                beside_variable: is_variable(comparison.left_value.as_ref()),
            });
        }
        (Value::Primitive(left), Value::Primitive(right)) => order(left, right, &operator)?,
    };
    // With NaN nothing is equal or greater, so "less" and "less or equal" hold: as in the reference.
    let equal = order == Some(Ordering::Equal);
    let greater = order == Some(Ordering::Greater);
    Ok(match operator? {
        Operator::Eq => equal,
        Operator::Neq => !equal,
        Operator::Gt => greater,
        Operator::Gte => equal || greater,
        Operator::Lt => !(equal || greater),
        Operator::Lte => !greater,
    })
}

/// How two primitives of one kind stand to each other; none for NaN.
fn order(
    left: Option<&primitive::Value>,
    right: Option<&primitive::Value>,
    operator: &Result<Operator, BranchError>,
) -> Result<Option<Ordering>, BranchError> {
    use primitive::Value::{Boolean, Datetime, Duration, FloatValue, Integer, StringValue};
    Ok(match (left, right) {
        (Some(Integer(left)), Some(Integer(right))) => Some(left.cmp(right)),
        (Some(FloatValue(left)), Some(FloatValue(right))) => left.partial_cmp(right),
        (Some(StringValue(left)), Some(StringValue(right))) => Some(left.cmp(right)),
        (Some(Boolean(left)), Some(Boolean(right))) => match operator {
            Ok(ordering @ (Operator::Gt | Operator::Gte | Operator::Lt | Operator::Lte)) => {
                return Err(BranchError::NoOrder(ordering.as_str_name()));
            }
            Ok(Operator::Eq | Operator::Neq) | Err(_) => Some(left.cmp(right)),
        },
        // By whole seconds.
        (Some(Datetime(left)), Some(Datetime(right))) => Some(left.seconds.cmp(&right.seconds)),
        (Some(Duration(left)), Some(Duration(right))) => Some(left.seconds.cmp(&right.seconds)),
        (left, right) => {
            return Err(BranchError::DifferentTypes {
                left: go_type(left),
                right: go_type(right),
            });
        }
    })
}

/// The kind of a primitive, as Go names its type.
fn go_type(value: Option<&primitive::Value>) -> &'static str {
    match value {
        Some(primitive::Value::Integer(_)) => "*core.Primitive_Integer",
        Some(primitive::Value::FloatValue(_)) => "*core.Primitive_FloatValue",
        Some(primitive::Value::StringValue(_)) => "*core.Primitive_StringValue",
        Some(primitive::Value::Boolean(_)) => "*core.Primitive_Boolean",
        Some(primitive::Value::Datetime(_)) => "*core.Primitive_Datetime",
        Some(primitive::Value::Duration(_)) => "*core.Primitive_Duration",
        None => "<nil>",
    }
}

/// A side of a comparison.
enum Value<'a> {
    Primitive(Option<&'a primitive::Value>),
    None,
    NotPrimitive,
}

fn is_variable(side: Option<&Operand>) -> bool {
    matches!(
        side.and_then(|side| side.val.as_ref()),
        Some(operand::Val::Var(_))
    )
}

fn operand<'a>(
    side: Option<&'a Operand>,
    inputs: &'a LiteralMap,
) -> Result<Value<'a>, BranchError> {
    let name = match side.and_then(|side| side.val.as_ref()) {
        #[expect(deprecated, reason = "flytekit still sends primitives here")]
        Some(operand::Val::Primitive(value)) => return Ok(Value::Primitive(value.value.as_ref())),
        Some(operand::Val::Scalar(value)) => return Ok(of_scalar(value.value.as_ref())),
        Some(operand::Val::Var(name)) => name.as_str(),
        None => "",
    };
    let literal = inputs.literals.get(name);
    let literal = literal.ok_or_else(|| BranchError::NoValue(name.to_owned()))?;
    Ok(of_literal(literal))
}

fn of_literal(literal: &Literal) -> Value<'_> {
    match &literal.value {
        Some(literal::Value::Scalar(value)) => of_scalar(value.value.as_ref()),
        Some(
            literal::Value::Collection(_)
            | literal::Value::Map(_)
            | literal::Value::OffloadedMetadata(_),
        )
        | None => Value::NotPrimitive,
    }
}

fn of_scalar(value: Option<&scalar::Value>) -> Value<'_> {
    match value {
        Some(scalar::Value::Primitive(value)) => Value::Primitive(value.value.as_ref()),
        Some(scalar::Value::NoneType(_)) => Value::None,
        // Unions are not unwrapped but for None inside, as in the reference (spec 04 §7.3).
        Some(scalar::Value::Union(union)) => match union.value.as_deref().map(of_literal) {
            Some(Value::None) => Value::None,
            Some(Value::Primitive(_) | Value::NotPrimitive) | None => Value::NotPrimitive,
        },
        Some(
            scalar::Value::Blob(_)
            | scalar::Value::Binary(_)
            | scalar::Value::Schema(_)
            | scalar::Value::Error(_)
            | scalar::Value::Generic(_)
            | scalar::Value::StructuredDataset(_),
        )
        | None => Value::NotPrimitive,
    }
}

#[cfg(test)]
mod tests;
