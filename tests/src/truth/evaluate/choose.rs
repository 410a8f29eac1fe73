//! Which case of a branch holds (spec 04 §7.3).

use std::{cmp::Ordering, collections::BTreeMap};

use crate::truth::{
    program::{Branch, Comparison, Condition, Operand},
    values::Value,
};

/// Operands that cannot be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The first case that holds.
pub(super) fn choose(
    branch: &Branch,
    inputs: &BTreeMap<String, Value>,
) -> Result<Option<usize>, Malformed> {
    for (index, (condition, _)) in branch.cases.iter().enumerate() {
        if holds(condition, inputs)? {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

/// Both sides of a conjunction are looked at, whatever the first says.
fn holds(condition: &Condition, inputs: &BTreeMap<String, Value>) -> Result<bool, Malformed> {
    match condition {
        Condition::And(left, right) => {
            let (left, right) = (holds(left, inputs)?, holds(right, inputs)?);
            Ok(left && right)
        }
        Condition::Or(left, right) => {
            let (left, right) = (holds(left, inputs)?, holds(right, inputs)?);
            Ok(left || right)
        }
        Condition::Compare(comparison, left, right) => {
            compare(*comparison, operand(left, inputs)?, operand(right, inputs)?)
        }
    }
}

fn operand<'a>(
    operand: &'a Operand,
    inputs: &'a BTreeMap<String, Value>,
) -> Result<&'a Value, Malformed> {
    match operand {
        Operand::Constant(value) => Ok(value),
        Operand::Input(name) => inputs.get(name).ok_or(Malformed),
    }
}

fn compare(comparison: Comparison, left: &Value, right: &Value) -> Result<bool, Malformed> {
    if matches!(left, Value::None) || matches!(right, Value::None) {
        let equal = is_nothing(left) && is_nothing(right);
        return match comparison {
            Comparison::Eq => Ok(equal),
            Comparison::Neq => Ok(!equal),
            _ => Err(Malformed),
        };
    }
    let order = match (left, right) {
        (Value::Int(left), Value::Int(right)) => left.cmp(right),
        (Value::Float(left), Value::Float(right)) => left.partial_cmp(right).ok_or(Malformed)?,
        (Value::Text(left), Value::Text(right)) => left.cmp(right),
        (Value::Flag(left), Value::Flag(right)) => match comparison {
            Comparison::Eq | Comparison::Neq => left.cmp(right),
            _ => return Err(Malformed),
        },
        _ => return Err(Malformed),
    };
    Ok(match comparison {
        Comparison::Eq => order == Ordering::Equal,
        Comparison::Neq => order != Ordering::Equal,
        Comparison::Gt => order == Ordering::Greater,
        Comparison::Gte => order != Ordering::Less,
        Comparison::Lt => order == Ordering::Less,
        Comparison::Lte => order != Ordering::Greater,
    })
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::None => true,
        Value::Union(inner) => is_nothing(inner),
        _ => false,
    }
}
