//! Types and values of random workflows, as literals and as plain data.
//!
//! A value is what a literal says, no more: who compares two of them does not see in which order a map was written.

use std::collections::BTreeMap;

use flyte_idl::core::{
    Binary, Literal, LiteralCollection, LiteralMap, Primitive, Scalar, Union, Void, literal,
    primitive, scalar,
};
use prost_types::value::Kind;
use serde_json::json;

/// A type of Flyte.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// A 64-bit integer.
    Int,
    /// A double.
    Float,
    /// A string.
    Text,
    /// A boolean.
    Flag,
    /// A list.
    List(Box<Type>),
    /// A map with strings as keys.
    Map(Box<Type>),
    /// A dataclass that travels as msgpack, with the fields of [`record`].
    Record,
    /// A dataclass that travels as a protobuf struct, with the fields of [`structure`].
    Structure,
    /// This or nothing.
    Optional(Box<Type>),
    /// What went wrong, or nothing: the input `err` of a failure node.
    Failure,
}

/// Fields of [`Type::Record`].
pub fn record() -> BTreeMap<&'static str, Type> {
    BTreeMap::from([
        ("count", Type::Int),
        ("share", Type::Float),
        ("name", Type::Text),
        ("tags", Type::List(Box::new(Type::Text))),
    ])
}

/// Fields of [`Type::Structure`]; all its numbers are doubles.
pub fn structure() -> BTreeMap<&'static str, Type> {
    BTreeMap::from([
        ("share", Type::Float),
        ("name", Type::Text),
        ("parts", Type::List(Box::new(Type::Float))),
    ])
}

impl Type {
    /// The type as JSON of `flyteidl.core.LiteralType`.
    pub fn to_json(&self) -> serde_json::Value {
        let dataclass = |fields: BTreeMap<&str, Type>| {
            let fields: BTreeMap<&str, serde_json::Value> = fields
                .iter()
                .map(|(name, field)| (*name, field.to_json()))
                .collect();
            json!({ "simple": "STRUCT", "structure": { "dataclassType": fields } })
        };
        match self {
            Self::Int => json!({ "simple": "INTEGER" }),
            Self::Float => json!({ "simple": "FLOAT" }),
            Self::Text => json!({ "simple": "STRING" }),
            Self::Flag => json!({ "simple": "BOOLEAN" }),
            Self::List(item) => json!({ "collectionType": item.to_json() }),
            Self::Map(item) => json!({ "mapValueType": item.to_json() }),
            Self::Record => dataclass(record()),
            Self::Structure => dataclass(structure()),
            Self::Optional(inner) => {
                json!({ "unionType": { "variants": [inner.to_json(), { "simple": "NONE" }] } })
            }
            Self::Failure => {
                json!({ "unionType": { "variants": [{ "simple": "ERROR" }, { "simple": "NONE" }] } })
            }
        }
    }
}

/// What a literal says.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// An integer.
    Int(i64),
    /// A double.
    Float(f64),
    /// A string.
    Text(String),
    /// A boolean.
    Flag(bool),
    /// A list.
    List(Vec<Value>),
    /// A map.
    Map(BTreeMap<String, Value>),
    /// A binary literal of msgpack, with what it holds.
    Packed(Box<Value>),
    /// A generic literal: an object of a protobuf struct, with what it holds.
    Struct(BTreeMap<String, Value>),
    /// Nothing.
    None,
    /// A union with the value of one of its variants.
    Union(Box<Value>),
    /// An error, with the node that it names.
    Failure(String),
    /// A literal that the generated workflows do not make.
    Other(String),
}

fn scalar(value: scalar::Value) -> Literal {
    Literal {
        value: Some(literal::Value::Scalar(Box::new(Scalar {
            value: Some(value),
        }))),
        ..Literal::default()
    }
}

fn primitive(value: primitive::Value) -> Literal {
    scalar(scalar::Value::Primitive(Primitive { value: Some(value) }))
}

impl Value {
    /// As a literal. Unions get the type of the integer or of nothing, whatever they hold: nobody reads it.
    pub fn to_literal(&self) -> Literal {
        match self {
            Self::Int(number) => primitive(primitive::Value::Integer(*number)),
            Self::Float(number) => primitive(primitive::Value::FloatValue(*number)),
            Self::Text(text) => primitive(primitive::Value::StringValue(text.clone())),
            Self::Flag(flag) => primitive(primitive::Value::Boolean(*flag)),
            Self::List(items) => Literal {
                value: Some(literal::Value::Collection(LiteralCollection {
                    literals: items.iter().map(Self::to_literal).collect(),
                })),
                ..Literal::default()
            },
            Self::Map(items) => Literal {
                value: Some(literal::Value::Map(to_literals(items))),
                ..Literal::default()
            },
            Self::Packed(inner) => {
                let mut bytes = Vec::new();
                rmpv::encode::write_value(&mut bytes, &inner.to_msgpack())
                    .expect("memory takes every value");
                scalar(scalar::Value::Binary(Binary {
                    value: bytes,
                    tag: "msgpack".into(),
                }))
            }
            Self::Struct(fields) => scalar(scalar::Value::Generic(prost_types::Struct {
                fields: fields
                    .iter()
                    .map(|(name, field)| (name.clone(), field.to_struct()))
                    .collect(),
            })),
            Self::None => scalar(scalar::Value::NoneType(Void {})),
            Self::Union(inner) => {
                let variant = match **inner {
                    Self::None => json!({ "simple": "NONE" }),
                    _ => json!({ "simple": "INTEGER" }),
                };
                scalar(scalar::Value::Union(Box::new(Union {
                    value: Some(Box::new(inner.to_literal())),
                    r#type: Some(super::message(variant)),
                })))
            }
            Self::Failure(node) => scalar(scalar::Value::Error(flyte_idl::core::Error {
                failed_node_id: node.clone(),
                message: String::new(),
            })),
            Self::Other(what) => panic!("{what} is only read, never written"),
        }
    }

    /// What a literal says.
    pub fn of(literal: &Literal) -> Self {
        match &literal.value {
            Some(literal::Value::Scalar(scalar)) => Self::of_scalar(scalar),
            Some(literal::Value::Collection(list)) => {
                Self::List(list.literals.iter().map(Self::of).collect())
            }
            Some(literal::Value::Map(map)) => Self::Map(of_literals(map)),
            other => Self::Other(format!("{other:?}")),
        }
    }

    fn of_scalar(scalar: &Scalar) -> Self {
        match &scalar.value {
            Some(scalar::Value::Primitive(Primitive { value: Some(value) })) => match value {
                primitive::Value::Integer(number) => Self::Int(*number),
                primitive::Value::FloatValue(number) => Self::Float(*number),
                primitive::Value::StringValue(text) => Self::Text(text.clone()),
                primitive::Value::Boolean(flag) => Self::Flag(*flag),
                other => Self::Other(format!("{other:?}")),
            },
            Some(scalar::Value::Binary(binary)) if binary.tag == "msgpack" => {
                match rmpv::decode::read_value(&mut binary.value.as_slice()) {
                    Ok(value) => Self::Packed(Box::new(Self::of_msgpack(&value))),
                    Err(error) => Self::Other(format!("{binary:?}: {error}")),
                }
            }
            Some(scalar::Value::Generic(fields)) => Self::Struct(
                fields
                    .fields
                    .iter()
                    .map(|(name, field)| (name.clone(), Self::of_struct(field)))
                    .collect(),
            ),
            Some(scalar::Value::NoneType(_)) => Self::None,
            Some(scalar::Value::Union(union)) => Self::Union(Box::new(
                union
                    .value
                    .as_deref()
                    .map_or(Self::Other("an empty union".into()), Self::of),
            )),
            Some(scalar::Value::Error(error)) => Self::Failure(error.failed_node_id.clone()),
            other => Self::Other(format!("{other:?}")),
        }
    }

    fn to_msgpack(&self) -> rmpv::Value {
        match self {
            Self::Int(number) => (*number).into(),
            Self::Float(number) => (*number).into(),
            Self::Text(text) => text.as_str().into(),
            Self::Flag(flag) => (*flag).into(),
            Self::List(items) => rmpv::Value::Array(items.iter().map(Self::to_msgpack).collect()),
            Self::Map(items) => rmpv::Value::Map(
                items
                    .iter()
                    .map(|(key, item)| (key.as_str().into(), item.to_msgpack()))
                    .collect(),
            ),
            _ => rmpv::Value::Nil,
        }
    }

    fn of_msgpack(value: &rmpv::Value) -> Self {
        match value {
            rmpv::Value::Boolean(flag) => Self::Flag(*flag),
            rmpv::Value::Integer(number) => Self::Int(number.as_i64().unwrap_or_default()),
            rmpv::Value::F64(number) => Self::Float(*number),
            rmpv::Value::String(text) => Self::Text(text.as_str().unwrap_or_default().to_owned()),
            rmpv::Value::Array(items) => Self::List(items.iter().map(Self::of_msgpack).collect()),
            rmpv::Value::Map(items) => Self::Map(
                items
                    .iter()
                    .map(|(key, item)| {
                        let key = key.as_str().unwrap_or_default().to_owned();
                        (key, Self::of_msgpack(item))
                    })
                    .collect(),
            ),
            rmpv::Value::Nil => Self::None,
            other => Self::Other(format!("{other:?}")),
        }
    }

    fn to_struct(&self) -> prost_types::Value {
        let kind = match self {
            Self::Float(number) => Kind::NumberValue(*number),
            Self::Text(text) => Kind::StringValue(text.clone()),
            Self::List(items) => Kind::ListValue(prost_types::ListValue {
                values: items.iter().map(Self::to_struct).collect(),
            }),
            _ => Kind::NullValue(0),
        };
        prost_types::Value { kind: Some(kind) }
    }

    fn of_struct(value: &prost_types::Value) -> Self {
        match &value.kind {
            Some(Kind::NumberValue(number)) => Self::Float(*number),
            Some(Kind::StringValue(text)) => Self::Text(text.clone()),
            Some(Kind::ListValue(list)) => {
                Self::List(list.values.iter().map(Self::of_struct).collect())
            }
            other => Self::Other(format!("{other:?}")),
        }
    }
}

/// A map of values as one of literals.
pub fn to_literals(values: &BTreeMap<String, Value>) -> LiteralMap {
    LiteralMap {
        literals: values
            .iter()
            .map(|(name, value)| (name.clone(), value.to_literal()))
            .collect(),
    }
}

/// What a map of literals says.
pub fn of_literals(literals: &LiteralMap) -> BTreeMap<String, Value> {
    literals
        .literals
        .iter()
        .map(|(name, literal)| (name.clone(), Value::of(literal)))
        .collect()
}
