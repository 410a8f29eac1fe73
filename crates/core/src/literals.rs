//! Making literals from plain values (spec 08 A17.4).

use std::collections::BTreeMap;

use flyte_idl::{
    core::{
        Binary, Blob, BlobMetadata, Error, Literal, LiteralCollection, LiteralMap, LiteralType,
        Primitive, Scalar, Schema, SimpleType, StructuredDataset, StructuredDatasetMetadata, Union,
        Void, literal, literal_type::Type, primitive, scalar,
    },
    json::{json_to_struct, parse_timestamp, value_to_string},
};
use prost_types::{Duration, Timestamp};
use serde_json::Value;

use crate::{duration, excerpt::excerpt};

/// Tag of binary literals that hold MessagePack.
pub const MESSAGE_PACK: &str = "msgpack";

/// Why a value does not become a literal of a type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LiteralError {
    /// The text does not read as the simple type.
    #[error("failed to parse {value:?} as {simple}")]
    Parse {
        /// The refused text.
        value: String,
        /// The simple type's name.
        simple: &'static str,
    },
    /// The value has another shape than the type.
    #[error("{expected} expected but found {found}")]
    Shape {
        /// What the type asks for.
        expected: &'static str,
        /// The value as JSON.
        found: String,
    },
    /// The text is none of the enum's values.
    #[error("incorrect enum value [{value}], supported values [{}]", supported.join(" "))]
    EnumValue {
        /// The refused text.
        value: String,
        /// The values of the enum.
        supported: Vec<String>,
    },
    /// No variant of the union takes the value.
    #[error("incorrect union value [{value}], supported values {supported}")]
    UnionValue {
        /// The value as JSON.
        value: String,
        /// The variants of the union.
        supported: String,
    },
    /// The type has no values that could be made.
    #[error("unsupported type {0}")]
    Unsupported(String),
}

/// A literal of one scalar.
pub fn scalar(value: scalar::Value) -> Literal {
    Literal {
        value: Some(literal::Value::Scalar(Box::new(Scalar {
            value: Some(value),
        }))),
        ..Default::default()
    }
}

fn of_primitive(value: primitive::Value) -> Literal {
    scalar(scalar::Value::Primitive(Primitive { value: Some(value) }))
}

/// An INTEGER.
pub fn integer(value: i64) -> Literal {
    of_primitive(primitive::Value::Integer(value))
}

/// A FLOAT.
pub fn float(value: f64) -> Literal {
    of_primitive(primitive::Value::FloatValue(value))
}

/// A STRING.
pub fn string(value: &str) -> Literal {
    of_primitive(primitive::Value::StringValue(value.to_owned()))
}

/// A BOOLEAN.
pub fn boolean(value: bool) -> Literal {
    of_primitive(primitive::Value::Boolean(value))
}

/// A DATETIME.
pub fn datetime(value: Timestamp) -> Literal {
    of_primitive(primitive::Value::Datetime(value))
}

/// A DURATION.
pub fn duration(value: Duration) -> Literal {
    of_primitive(primitive::Value::Duration(value))
}

/// Nothing, as a value.
pub fn none() -> Literal {
    scalar(scalar::Value::NoneType(Void {}))
}

/// A list.
pub fn collection(literals: Vec<Literal>) -> Literal {
    Literal {
        value: Some(literal::Value::Collection(LiteralCollection { literals })),
        ..Default::default()
    }
}

/// A map.
pub fn map(literals: BTreeMap<String, Literal>) -> Literal {
    Literal {
        value: Some(literal::Value::Map(LiteralMap { literals })),
        ..Default::default()
    }
}

/// A value of a union, with the variant that it is of.
pub fn variant(value: Literal, literal_type: LiteralType) -> Literal {
    scalar(scalar::Value::Union(Box::new(Union {
        value: Some(Box::new(value)),
        r#type: Some(literal_type),
    })))
}

fn binary(value: Vec<u8>) -> Literal {
    scalar(scalar::Value::Binary(Binary {
        value,
        tag: MESSAGE_PACK.to_owned(),
    }))
}

/// A literal of a type from a JSON value: texts are parsed, objects for a STRUCT become MessagePack, a union
/// takes the first variant that fits.
pub fn of_type(literal_type: &LiteralType, value: &Value) -> Result<Literal, LiteralError> {
    let shape = |expected| LiteralError::Shape {
        expected,
        found: value_to_string(value),
    };
    match &literal_type.r#type {
        Some(Type::Simple(number)) => {
            let simple = SimpleType::try_from(*number)
                .map_err(|_| LiteralError::Unsupported(excerpt(literal_type)))?;
            of_simple(simple, value)
        }
        Some(Type::CollectionType(element)) => {
            let items = value.as_array().ok_or_else(|| shape("collection type"))?;
            let literals = items.iter().map(|item| of_type(element, item));
            literals.collect::<Result<_, _>>().map(collection)
        }
        Some(Type::MapValueType(inner)) => {
            let members = value.as_object().ok_or_else(|| shape("map type"))?;
            members
                .iter()
                .map(|(key, member)| Ok((key.clone(), of_type(inner, member)?)))
                .collect::<Result<_, _>>()
                .map(map)
        }
        Some(Type::Blob(blob)) => Ok(scalar(scalar::Value::Blob(Blob {
            metadata: Some(BlobMetadata {
                r#type: Some(blob.clone()),
            }),
            uri: plain_text(value),
        }))),
        Some(Type::Schema(schema)) => Ok(scalar(scalar::Value::Schema(Schema {
            uri: plain_text(value),
            r#type: Some(schema.clone()),
        }))),
        Some(Type::StructuredDatasetType(dataset)) => Ok(scalar(scalar::Value::StructuredDataset(
            StructuredDataset {
                uri: plain_text(value),
                metadata: Some(StructuredDatasetMetadata {
                    structured_dataset_type: Some(dataset.clone()),
                }),
            },
        ))),
        Some(Type::EnumType(choice)) => {
            let text = match value {
                Value::Null => choice
                    .values
                    .first()
                    .ok_or_else(|| LiteralError::Unsupported(excerpt(literal_type)))?,
                Value::String(text) => text,
                _ => return Err(shape("text of an enum")),
            };
            if choice.values.contains(text) {
                Ok(string(text))
            } else {
                Err(LiteralError::EnumValue {
                    value: text.clone(),
                    supported: choice.values.clone(),
                })
            }
        }
        Some(Type::UnionType(union)) => union
            .variants
            .iter()
            .find_map(|known| Some(variant(of_type(known, value).ok()?, known.clone())))
            .ok_or_else(|| LiteralError::UnionValue {
                value: value_to_string(value),
                supported: excerpt(literal_type),
            }),
        None => Err(LiteralError::Unsupported(excerpt(literal_type))),
    }
}

/// Text as it is, anything else as JSON.
fn plain_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => value_to_string(other),
    }
}

fn of_simple(simple: SimpleType, value: &Value) -> Result<Literal, LiteralError> {
    let text = plain_text(value);
    let text = text.trim_matches([' ', '\n', '\t']);
    let parse = || LiteralError::Parse {
        value: text.to_owned(),
        simple: simple.as_str_name(),
    };
    Ok(match simple {
        SimpleType::None => none(),
        SimpleType::Integer => integer(text.parse().map_err(|_| parse())?),
        SimpleType::Float => float(text.parse().map_err(|_| parse())?),
        SimpleType::String => string(text),
        SimpleType::Boolean => boolean(match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
            "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
            _ => return Err(parse()),
        }),
        SimpleType::Datetime => datetime(parse_timestamp(text).ok_or_else(parse)?),
        SimpleType::Duration => {
            duration(of_nanoseconds(duration::parse(text).map_err(|_| parse())?))
        }
        SimpleType::Binary => binary(text.as_bytes().to_vec()),
        SimpleType::Error => scalar(scalar::Value::Error(Error {
            message: text.to_owned(),
            ..Default::default()
        })),
        SimpleType::Struct => match value {
            Value::String(_) => match serde_json::from_str(text) {
                Ok(Value::Object(object)) => {
                    scalar(scalar::Value::Generic(json_to_struct(&object)))
                }
                _ => return Err(parse()),
            },
            other => binary(message_pack(other)),
        },
    })
}

/// A protobuf duration from nanoseconds.
pub fn of_nanoseconds(nanoseconds: i64) -> Duration {
    Duration {
        seconds: nanoseconds / 1_000_000_000,
        nanos: i32::try_from(nanoseconds % 1_000_000_000).unwrap_or_default(),
    }
}

/// An example value of a type, as clients offer it to be edited: zero, empty, `now`, a second, lists and maps of
/// one example, the first variant of a union.
pub fn example_of(literal_type: &LiteralType, now: Timestamp) -> Result<Literal, LiteralError> {
    let unsupported = || LiteralError::Unsupported(excerpt(literal_type));
    Ok(match &literal_type.r#type {
        Some(Type::Simple(number)) => {
            match SimpleType::try_from(*number).map_err(|_| unsupported())? {
                SimpleType::None => none(),
                SimpleType::Integer => integer(0),
                SimpleType::Float => float(0.0),
                SimpleType::String => string(""),
                SimpleType::Boolean => boolean(false),
                SimpleType::Datetime => datetime(now),
                SimpleType::Duration => duration(of_nanoseconds(1_000_000_000)),
                SimpleType::Binary => binary(Vec::new()),
                SimpleType::Error => scalar(scalar::Value::Error(Error {
                    message: "Default Error message".to_owned(),
                    ..Default::default()
                })),
                SimpleType::Struct => {
                    scalar(scalar::Value::Generic(prost_types::Struct::default()))
                }
            }
        }
        Some(Type::Blob(_)) => of_type(literal_type, &Value::from("/tmp/somepath"))?,
        Some(Type::CollectionType(element)) => collection(vec![example_of(element, now)?]),
        Some(Type::MapValueType(value)) => {
            map([("itemKey".to_owned(), example_of(value, now)?)].into())
        }
        Some(Type::EnumType(_) | Type::Schema(_) | Type::StructuredDatasetType(_)) => {
            of_type(literal_type, &Value::Null)?
        }
        Some(Type::UnionType(union)) => {
            let first = union.variants.first().ok_or_else(unsupported)?;
            variant(example_of(first, now)?, first.clone())
        }
        None => return Err(unsupported()),
    })
}

/// A JSON value in MessagePack: integers in their shortest form, other numbers as doubles.
pub fn message_pack(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    pack(&mut out, value);
    out
}

fn pack(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(0xc0),
        Value::Bool(value) => out.push(if *value { 0xc3 } else { 0xc2 }),
        Value::Number(number) => pack_number(out, number),
        Value::String(text) => {
            pack_length(out, text.len(), TEXT);
            out.extend(text.as_bytes());
        }
        Value::Array(items) => {
            pack_length(out, items.len(), ARRAY);
            for item in items {
                pack(out, item);
            }
        }
        Value::Object(members) => {
            pack_length(out, members.len(), MAP);
            for (key, member) in members {
                pack(out, &Value::from(key.as_str()));
                pack(out, member);
            }
        }
    }
}

/// The bytes of MessagePack before a length.
#[derive(Clone, Copy)]
struct Heads {
    /// Of a length that is part of the head itself, and the largest such.
    fix: u8,
    max_fix: usize,
    /// Of a length of one byte, where there is such a form.
    byte: Option<u8>,
    /// Of two bytes.
    two: u8,
    /// Of four.
    four: u8,
}

const TEXT: Heads = Heads {
    fix: 0xa0,
    max_fix: 31,
    byte: Some(0xd9),
    two: 0xda,
    four: 0xdb,
};
const ARRAY: Heads = Heads {
    fix: 0x90,
    max_fix: 15,
    byte: None,
    two: 0xdc,
    four: 0xdd,
};
const MAP: Heads = Heads {
    fix: 0x80,
    max_fix: 15,
    byte: None,
    two: 0xde,
    four: 0xdf,
};

/// A length in the shortest form there is.
fn pack_length(out: &mut Vec<u8>, length: usize, heads: Heads) {
    let wide = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let [_, _, high, low] = wide;
    if length <= heads.max_fix {
        out.push(heads.fix | low);
    } else if let (Some(head), ..=0xff) = (heads.byte, length) {
        out.extend([head, low]);
    } else if length <= 0xffff {
        out.extend([heads.two, high, low]);
    } else {
        out.push(heads.four);
        out.extend(wide);
    }
}

fn pack_number(out: &mut Vec<u8>, number: &serde_json::Number) {
    if let Some(value) = number.as_u64() {
        let [.., a, b, c, low] = value.to_be_bytes();
        match value {
            0..=0x7f => out.push(low),
            0x80..=0xff => out.extend([0xcc, low]),
            0x100..=0xffff => out.extend([0xcd, c, low]),
            0x1_0000..=0xffff_ffff => out.extend([0xce, a, b, c, low]),
            _ => {
                out.push(0xcf);
                out.extend(value.to_be_bytes());
            }
        }
    } else if let Some(value) = number.as_i64() {
        let [.., a, b, c, low] = value.to_be_bytes();
        match value {
            -0x20..0 => out.push(low),
            -0x80..-0x20 => out.extend([0xd0, low]),
            -0x8000..-0x80 => out.extend([0xd1, c, low]),
            -0x8000_0000..-0x8000 => out.extend([0xd2, a, b, c, low]),
            _ => {
                out.push(0xd3);
                out.extend(value.to_be_bytes());
            }
        }
    } else {
        out.push(0xcb);
        out.extend(number.as_f64().unwrap_or_default().to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::types::{self, castable, of_literal, simple, union};

    #[test]
    fn texts_become_values_of_their_type() {
        for (kind, value, expected) in [
            (SimpleType::Integer, json!("42"), integer(42)),
            (SimpleType::Integer, json!(8_888_888.0), integer(8_888_888)),
            (SimpleType::Float, json!("1.5"), float(1.5)),
            (SimpleType::Boolean, json!("T"), boolean(true)),
            (
                SimpleType::Datetime,
                json!("1970-01-01T00:00:01Z"),
                datetime(Timestamp {
                    seconds: 1,
                    nanos: 0,
                }),
            ),
            (
                SimpleType::Duration,
                json!("1h2m3.5s"),
                duration(Duration {
                    seconds: 3723,
                    nanos: 500_000_000,
                }),
            ),
            (SimpleType::None, json!(null), none()),
            (
                SimpleType::Struct,
                json!({"a": [1, -1, 1.5]}),
                binary(vec![
                    0x81, 0xa1, b'a', 0x93, 1, 0xff, 0xcb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0,
                ]),
            ),
        ] {
            assert_eq!(of_type(&simple(kind), &value), Ok(expected), "{value}");
        }
        for (kind, value) in [
            (SimpleType::Integer, json!("x")),
            (SimpleType::Boolean, json!("yes")),
            (SimpleType::Datetime, json!("yesterday")),
            (SimpleType::Struct, json!("no json")),
        ] {
            assert!(of_type(&simple(kind), &value).is_err(), "{value}");
        }
    }

    #[test]
    fn a_union_takes_the_first_variant_that_fits() {
        let integer_type = simple(SimpleType::Integer);
        let either = union(vec![integer_type.clone(), simple(SimpleType::String)]);
        assert_eq!(
            of_type(&either, &json!("7")),
            Ok(variant(integer(7), integer_type))
        );
        assert_eq!(
            of_type(&either, &json!("x")),
            Ok(variant(string("x"), simple(SimpleType::String)))
        );
    }

    #[test]
    fn examples_are_of_their_type() {
        let choice = types::of(Type::EnumType(flyte_idl::core::EnumType {
            values: vec!["a".into()],
        }));
        for literal_type in [
            simple(SimpleType::Integer),
            types::collection(types::map(simple(SimpleType::Datetime))),
            union(vec![simple(SimpleType::Boolean), simple(SimpleType::None)]),
            types::of(Type::Blob(flyte_idl::core::BlobType::default())),
            choice,
        ] {
            let literal = example_of(&literal_type, Timestamp::default()).unwrap();
            assert!(
                castable(&of_literal(&literal).unwrap(), &literal_type),
                "{literal_type:?}"
            );
        }
    }

    #[test]
    fn lengths_and_numbers_take_their_shortest_form() {
        for (value, head) in [
            (json!("x".repeat(31)), vec![0xbf]),
            (json!("x".repeat(32)), vec![0xd9, 32]),
            (json!("x".repeat(256)), vec![0xda, 1, 0]),
            (json!(vec![0; 16]), vec![0xdc, 0, 16]),
            (json!(255), vec![0xcc, 255]),
            (json!(65_536), vec![0xce, 0, 1, 0, 0]),
            (json!(-33), vec![0xd0, 0xdf]),
            (json!(i64::MIN), vec![0xd3, 0x80, 0, 0, 0, 0, 0, 0, 0]),
        ] {
            assert!(message_pack(&value).starts_with(&head), "{value}");
        }
    }
}
