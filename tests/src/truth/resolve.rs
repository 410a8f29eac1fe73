//! From bindings to values (spec 04 §10.1 to §10.3).

use std::collections::BTreeMap;

use super::{
    program::{Bind, Promise, Step},
    values::Value,
};

/// The value is not there: the output, the element or the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Missing;

/// Outputs of nodes by id; a node without an entry wrote none.
pub(super) type Outputs = BTreeMap<String, BTreeMap<String, Value>>;

/// All bindings of a node.
pub(super) fn all<'a>(
    bindings: impl IntoIterator<Item = (&'a String, &'a Bind)>,
    outputs: &Outputs,
) -> Result<BTreeMap<String, Value>, Missing> {
    bindings
        .into_iter()
        .map(|(name, bind)| Ok((name.clone(), one(bind, outputs)?)))
        .collect()
}

fn one(bind: &Bind, outputs: &Outputs) -> Result<Value, Missing> {
    match bind {
        Bind::Constant(value) => Ok(value.clone()),
        Bind::Promise(wanted) => promise(wanted, outputs),
        Bind::List(items) => {
            let items = items.iter().map(|item| one(item, outputs));
            Ok(Value::List(items.collect::<Result<_, _>>()?))
        }
        Bind::Map(items) => Ok(Value::Map(all(items, outputs)?)),
    }
}

fn promise(promise: &Promise, outputs: &Outputs) -> Result<Value, Missing> {
    let found = outputs.get(&promise.node).ok_or(Missing)?;
    let mut value = found.get(&promise.output).cloned().ok_or(Missing)?;
    if let Some(index) = promise.index {
        let Value::List(items) = &value else {
            return Err(Missing);
        };
        value = items.get(index).cloned().ok_or(Missing)?;
    }
    if promise.path.is_empty() {
        return Ok(value);
    }
    walk(value, &promise.path)
}

/// Into lists and maps, then into the scalar that is met; what is left of the way on other scalars is not read.
fn walk(value: Value, path: &[Step]) -> Result<Value, Missing> {
    match (value, path) {
        (Value::Packed(inner), _) => inside(*inner, path).map(unpacked),
        (Value::Struct(fields), [Step::Key(key), rest @ ..]) => {
            inside(fields.get(key).cloned().ok_or(Missing)?, rest).map(of_structure)
        }
        (value, []) => Ok(value),
        (Value::List(items), [Step::Index(index), rest @ ..]) => {
            walk(element(&items, *index)?, rest)
        }
        (Value::Map(items), [Step::Key(key), rest @ ..]) => {
            walk(items.get(key).cloned().ok_or(Missing)?, rest)
        }
        (Value::List(_) | Value::Map(_) | Value::Struct(_), _) => Err(Missing),
        (value, _) => Ok(value),
    }
}

fn inside(value: Value, path: &[Step]) -> Result<Value, Missing> {
    match (value, path) {
        (value, []) => Ok(value),
        (Value::List(items), [Step::Index(index), rest @ ..]) => {
            inside(element(&items, *index)?, rest)
        }
        (Value::Map(items), [Step::Key(key), rest @ ..]) => {
            inside(items.get(key).cloned().ok_or(Missing)?, rest)
        }
        _ => Err(Missing),
    }
}

fn element(items: &[Value], index: i32) -> Result<Value, Missing> {
    let index = usize::try_from(index).map_err(|_negative| Missing)?;
    items.get(index).cloned().ok_or(Missing)
}

/// What was msgpack: primitives are literals, a list one of msgpack, all else stays msgpack.
fn unpacked(value: Value) -> Value {
    match value {
        Value::List(items) => Value::List(
            items
                .into_iter()
                .map(|item| Value::Packed(Box::new(item)))
                .collect(),
        ),
        Value::Map(_) | Value::None => Value::Packed(Box::new(value)),
        primitive => primitive,
    }
}

/// What was a part of a protobuf struct; of generated ones no field is an object.
fn of_structure(value: Value) -> Value {
    value
}
