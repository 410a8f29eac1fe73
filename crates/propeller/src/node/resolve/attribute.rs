//! What a promise takes out of an output: `promise.field["key"][2]` (spec 04 §10.3).
//!
//! What is not there is said in the words of the reference (its `attr_path_resolver.go`). Unlike it, a list is not
//! indexed by text, which it takes for 0, nor by a negative number, at which it crashes.

use flyte_core::excerpt::excerpt;
use flyte_idl::core::{
    Binary, Literal, LiteralCollection, Primitive, PromiseAttribute, Scalar, literal, primitive,
    promise_attribute, scalar,
};

use super::{error::PromiseFault, shown};

/// The tag of binary literals that flytekit writes.
const MSGPACK: &str = "msgpack";

/// Follows a path through maps, lists and the insides of binary and generic scalars. What is left of it at another
/// scalar is ignored, as in the reference.
pub(super) fn attribute(
    literal: Literal,
    path: &[PromiseAttribute],
) -> Result<Literal, PromiseFault> {
    let mut current = literal;
    let mut rest = path;
    while let Some((step, tail)) = rest.split_first() {
        let next = match &current.value {
            Some(literal::Value::Map(map)) => {
                let key = text_of(step);
                let shown = || shown::map(&map.literals, excerpt);
                map.literals.get(key).ok_or_else(|| no_key(key, &shown()))?
            }
            Some(literal::Value::Collection(list)) => {
                let shown = || shown::list(&list.literals, excerpt);
                at(&list.literals, step, shown)?
            }
            // None is written before there are array nodes.
            Some(literal::Value::OffloadedMetadata(_)) => {
                let message = "failed to read offloaded metadata for promise";
                return Err(PromiseFault::Attribute(message.into()));
            }
            Some(literal::Value::Scalar(_)) | None => break,
        };
        current = next.clone();
        rest = tail;
    }
    let Some(literal::Value::Scalar(scalar)) = &current.value else {
        return Ok(current);
    };
    match &scalar.value {
        Some(scalar::Value::Binary(binary)) => in_binary(binary, rest),
        Some(scalar::Value::Generic(structure)) if !rest.is_empty() => {
            let value = prost_types::Value {
                kind: Some(prost_types::value::Kind::StructValue(structure.clone())),
            };
            in_generic(value, rest)
        }
        _ => Ok(current),
    }
}

fn in_binary(binary: &Binary, path: &[PromiseAttribute]) -> Result<Literal, PromiseFault> {
    if binary.tag != MSGPACK {
        return Err(PromiseFault::Attribute(format!(
            "Unsupported format '{}' found for literal value.\nPlease ensure the serialization format is supported.",
            binary.tag
        )));
    }
    let mut value = rmpv::decode::read_value(&mut binary.value.as_slice())
        .map_err(|error| PromiseFault::Attribute(format!("the value is not msgpack: {error}")))?;
    for step in path {
        value = match (&value, &step.value) {
            (rmpv::Value::Map(entries), Some(promise_attribute::Value::StringValue(wanted))) => {
                entries
                    .iter()
                    .find(|(key, _)| key.as_str() == Some(wanted))
                    .map(|(_, value)| value.clone())
                    .ok_or_else(|| no_key(wanted, &shown::msgpack(&value)))?
            }
            (rmpv::Value::Array(items), Some(promise_attribute::Value::IntValue(_))) => {
                at(items, step, || shown::msgpack(&value))?.clone()
            }
            (rmpv::Value::Map(_) | rmpv::Value::Array(_), _) => return Err(wrong_kind(step)),
            _ => {
                return Err(PromiseFault::Attribute(format!(
                    "unexpected type [{}] for value {}",
                    shown::msgpack_type(&value),
                    shown::msgpack(&value)
                )));
            }
        };
    }
    of_msgpack(value)
}

fn in_generic(
    value: prost_types::Value,
    path: &[PromiseAttribute],
) -> Result<Literal, PromiseFault> {
    use prost_types::value::Kind;
    let mut current = value;
    for step in path {
        let next = match &current.kind {
            Some(Kind::StructValue(structure)) => {
                let key = text_of(step);
                let missing = || no_key(key, &shown::generic(&current));
                structure.fields.get(key).ok_or_else(missing)?
            }
            Some(Kind::ListValue(list)) => at(&list.values, step, || shown::generic(&current))?,
            _ => break,
        };
        current = next.clone();
    }
    Ok(of_generic(current))
}

/// The element of a list that a step names.
fn at<'a, T>(
    items: &'a [T],
    step: &PromiseAttribute,
    shown: impl FnOnce() -> String,
) -> Result<&'a T, PromiseFault> {
    let Some(promise_attribute::Value::IntValue(index)) = &step.value else {
        return Err(wrong_kind(step));
    };
    let item = usize::try_from(*index)
        .ok()
        .and_then(|index| items.get(index));
    item.ok_or_else(|| {
        PromiseFault::Attribute(format!("index [{index}] is out of range of {}", shown()))
    })
}

/// The key that a step names: of an index, the empty text.
fn text_of(step: &PromiseAttribute) -> &str {
    match &step.value {
        Some(promise_attribute::Value::StringValue(key)) => key,
        Some(promise_attribute::Value::IntValue(_)) | None => "",
    }
}

fn no_key(key: &str, shown: &str) -> PromiseFault {
    PromiseFault::Attribute(format!("key [{key}] does not exist in literal {shown}"))
}

fn wrong_kind(step: &PromiseAttribute) -> PromiseFault {
    let (kind, value) = match &step.value {
        Some(promise_attribute::Value::StringValue(key)) => {
            ("*core.PromiseAttribute_StringValue", format!("&{{{key}}}"))
        }
        Some(promise_attribute::Value::IntValue(index)) => {
            ("*core.PromiseAttribute_IntValue", format!("&{{{index}}}"))
        }
        None => ("<nil>", "<nil>".to_owned()),
    };
    PromiseFault::Attribute(format!(
        "unexpected attribute type [{kind}] for value {value}"
    ))
}

fn primitive(value: primitive::Value) -> Literal {
    scalar_literal(scalar::Value::Primitive(Primitive { value: Some(value) }))
}

fn scalar_literal(value: scalar::Value) -> Literal {
    Literal {
        value: Some(literal::Value::Scalar(Box::new(Scalar {
            value: Some(value),
        }))),
        ..Literal::default()
    }
}

fn of_msgpack(value: rmpv::Value) -> Result<Literal, PromiseFault> {
    match value {
        rmpv::Value::Boolean(flag) => Ok(primitive(primitive::Value::Boolean(flag))),
        rmpv::Value::Integer(number) => number
            .as_i64()
            .map(|number| primitive(primitive::Value::Integer(number)))
            .ok_or(PromiseFault::TooLarge),
        rmpv::Value::F32(number) => Ok(primitive(primitive::Value::FloatValue(f64::from(number)))),
        rmpv::Value::F64(number) => Ok(primitive(primitive::Value::FloatValue(number))),
        rmpv::Value::String(text) => Ok(primitive(primitive::Value::StringValue(
            text.into_str()
                .ok_or_else(|| PromiseFault::Attribute("a text is not UTF-8".into()))?,
        ))),
        rmpv::Value::Array(items) => {
            let literals = items.iter().map(encoded).collect::<Result<_, _>>()?;
            Ok(Literal {
                value: Some(literal::Value::Collection(LiteralCollection { literals })),
                ..Literal::default()
            })
        }
        other => encoded(&other),
    }
}

fn encoded(value: &rmpv::Value) -> Result<Literal, PromiseFault> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).map_err(|error| {
        PromiseFault::Attribute(format!("the value cannot be encoded: {error}"))
    })?;
    Ok(scalar_literal(scalar::Value::Binary(Binary {
        value: bytes,
        tag: MSGPACK.into(),
    })))
}

fn of_generic(value: prost_types::Value) -> Literal {
    use prost_types::value::Kind;
    match value.kind {
        Some(Kind::StructValue(structure)) => scalar_literal(scalar::Value::Generic(structure)),
        Some(Kind::ListValue(list)) => Literal {
            value: Some(literal::Value::Collection(LiteralCollection {
                literals: list.values.into_iter().map(of_generic).collect(),
            })),
            ..Literal::default()
        },
        Some(Kind::StringValue(text)) => primitive(primitive::Value::StringValue(text)),
        Some(Kind::NumberValue(number)) => primitive(primitive::Value::FloatValue(number)),
        Some(Kind::BoolValue(flag)) => primitive(primitive::Value::Boolean(flag)),
        Some(Kind::NullValue(_)) | None => {
            scalar_literal(scalar::Value::NoneType(flyte_idl::core::Void {}))
        }
    }
}
