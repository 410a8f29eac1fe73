//! Messages to JSON.

use std::collections::HashMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use prost::Message as _;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage as _, Value as Field,
};
use serde_json::{Map, Number, Value};

use super::{Codec, time};
use crate::{descriptors, number, text::quoted};

/// A message holds something that JSON cannot say; the text is Go's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EncodeError(String);

type Encoded = Result<Value, EncodeError>;

pub(super) fn message(codec: Codec, message: &DynamicMessage) -> Encoded {
    let descriptor = message.descriptor();
    if let Some(known) = well_known(codec, descriptor.full_name(), message) {
        return known;
    }
    let mut object = Map::new();
    fields(codec, message, &mut object)?;
    Ok(Value::Object(object))
}

fn fields(
    codec: Codec,
    message: &DynamicMessage,
    object: &mut Map<String, Value>,
) -> Result<(), EncodeError> {
    for field in descriptors::fields(&message.descriptor()).iter() {
        let value = if message.has_field(field) {
            field_value(codec, field, message.get_field(field).as_ref())?
        } else if codec == Codec::Jsonpb || field.containing_oneof().is_some() {
            continue;
        } else {
            default_of(field)
        };
        let name = match codec {
            Codec::ProtoNames => field.name(),
            Codec::JsonNames | Codec::Jsonpb => field.json_name(),
        };
        object.insert(name.to_owned(), value);
    }
    Ok(())
}

fn default_of(field: &FieldDescriptor) -> Value {
    if field.is_list() {
        return Value::Array(Vec::new());
    }
    if field.is_map() {
        return Value::Object(Map::new());
    }
    match field.kind() {
        Kind::Message(_) => Value::Null,
        Kind::Enum(descriptor) => descriptor
            .get_value(0)
            .map_or(Value::from(0), |value| Value::from(value.name())),
        Kind::String | Kind::Bytes => Value::from(""),
        Kind::Bool => Value::from(false),
        Kind::Int64 | Kind::Uint64 | Kind::Sint64 | Kind::Fixed64 | Kind::Sfixed64 => {
            Value::from("0")
        }
        Kind::Double
        | Kind::Float
        | Kind::Int32
        | Kind::Uint32
        | Kind::Sint32
        | Kind::Fixed32
        | Kind::Sfixed32 => Value::from(0),
    }
}

fn field_value(codec: Codec, field: &FieldDescriptor, value: &Field) -> Encoded {
    match value {
        Field::List(items) => items
            .iter()
            .map(|item| single(codec, &field.kind(), item))
            .collect::<Result<Vec<_>, _>>()
            .map(Value::Array),
        Field::Map(entries) => map(codec, field, entries),
        other => single(codec, &field.kind(), other),
    }
}

fn map(codec: Codec, field: &FieldDescriptor, entries: &HashMap<MapKey, Field>) -> Encoded {
    let Kind::Message(entry) = field.kind() else {
        return Ok(Value::Null);
    };
    let kind = entry.map_entry_value_field().kind();
    let mut object = Map::new();
    for key in descriptors::sorted_keys(entries) {
        if let Some(value) = entries.get(key) {
            object.insert(key_text(key), single(codec, &kind, value)?);
        }
    }
    Ok(Value::Object(object))
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

fn single(codec: Codec, kind: &Kind, value: &Field) -> Encoded {
    Ok(match value {
        Field::Bool(value) => Value::from(*value),
        Field::I32(value) => Value::from(*value),
        Field::U32(value) => Value::from(*value),
        Field::I64(value) => Value::from(value.to_string()),
        Field::U64(value) => Value::from(value.to_string()),
        // The shortest text of the 32-bit number, then read as a double (spec 01 §9).
        Field::F32(value) if value.is_finite() => {
            double(number::json_f32(*value).parse().unwrap_or_default())
        }
        Field::F32(value) => double(f64::from(*value)),
        Field::F64(value) => double(*value),
        Field::String(value) => Value::from(value.as_str()),
        Field::Bytes(value) => Value::from(BASE64_STANDARD.encode(value)),
        Field::EnumNumber(number) => match kind {
            Kind::Enum(descriptor) if descriptor.full_name() == "google.protobuf.NullValue" => {
                Value::Null
            }
            Kind::Enum(descriptor) => descriptor
                .get_value(*number)
                .map_or(Value::from(*number), |value| Value::from(value.name())),
            _ => Value::from(*number),
        },
        Field::Message(value) => return message(codec, value),
        Field::List(_) | Field::Map(_) => Value::Null,
    })
}

/// Non-finite numbers are texts. Integral ones become integers, so that other writers print them as Go does.
pub(super) fn double(value: f64) -> Value {
    if value.is_nan() {
        return Value::from("NaN");
    }
    if value.is_infinite() {
        return Value::from(if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
    let exact = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= exact && !(value == 0.0 && value.is_sign_negative()) {
        #[expect(clippy::cast_possible_truncation, reason = "integral and at most 2^53")]
        return Value::from(value as i64);
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

/// Messages with a JSON form of their own.
fn well_known(codec: Codec, name: &str, message: &DynamicMessage) -> Option<Encoded> {
    let name = name.strip_prefix("google.protobuf.")?;
    Some(match name {
        "Timestamp" => decoded(message)
            .and_then(|time: prost_types::Timestamp| {
                let time = if codec == Codec::Jsonpb {
                    time
                } else {
                    time::nearest_timestamp(time)
                };
                time::format_timestamp(&time).map_err(EncodeError)
            })
            .map(Value::from),
        "Duration" => decoded(message)
            .and_then(|duration: prost_types::Duration| {
                let duration = if codec == Codec::Jsonpb {
                    duration
                } else {
                    time::nearest_duration(duration)
                };
                time::format_duration(&duration).map_err(EncodeError)
            })
            .map(Value::from),
        "Struct" => structure(codec, message),
        "ListValue" => list_value(codec, message),
        "Value" => dynamic_value(codec, message),
        "Any" => any(codec, message),
        "BoolValue" | "StringValue" | "BytesValue" | "Int32Value" | "UInt32Value"
        | "Int64Value" | "UInt64Value" | "FloatValue" | "DoubleValue" => {
            let field = message.descriptor().get_field(1)?;
            single(codec, &field.kind(), message.get_field(&field).as_ref())
        }
        _ => return None,
    })
}

fn decoded<M: prost::Message + Default>(message: &DynamicMessage) -> Result<M, EncodeError> {
    M::decode(message.encode_to_vec().as_slice()).map_err(|error| EncodeError(error.to_string()))
}

fn structure(codec: Codec, message: &DynamicMessage) -> Encoded {
    let mut object = Map::new();
    if let Some(fields) = message.get_field_by_number(1)
        && let Some(entries) = fields.as_map()
    {
        for key in descriptors::sorted_keys(entries) {
            if let Some(value) = entries.get(key).and_then(Field::as_message) {
                object.insert(key_text(key), dynamic_value(codec, value)?);
            }
        }
    }
    Ok(Value::Object(object))
}

fn list_value(codec: Codec, message: &DynamicMessage) -> Encoded {
    let mut items = Vec::new();
    if let Some(values) = message.get_field_by_number(1) {
        for value in values.as_list().unwrap_or_default() {
            if let Some(value) = value.as_message() {
                items.push(dynamic_value(codec, value)?);
            }
        }
    }
    Ok(Value::Array(items))
}

fn dynamic_value(codec: Codec, message: &DynamicMessage) -> Encoded {
    for field in message.descriptor().fields() {
        if !message.has_field(&field) {
            continue;
        }
        let value = message.get_field(&field);
        return single(codec, &field.kind(), value.as_ref());
    }
    match codec {
        Codec::Jsonpb => Err(EncodeError("nil Value".to_owned())),
        Codec::ProtoNames | Codec::JsonNames => Ok(Value::Null),
    }
}

fn any(codec: Codec, message: &DynamicMessage) -> Encoded {
    let mut object = Map::new();
    let any: prost_types::Any = decoded(message)?;
    if any.type_url.is_empty() {
        return Ok(Value::Object(object));
    }
    let name = any.type_url.rsplit('/').next().unwrap_or_default();
    let inner = descriptors::pool()
        .get_message_by_name(name)
        .ok_or_else(|| {
            EncodeError(format!(
                "google.protobuf.Any: unable to resolve {}: not found",
                quoted(&any.type_url)
            ))
        })
        .and_then(|descriptor| {
            DynamicMessage::decode(descriptor, any.value.as_slice())
                .map_err(|error| EncodeError(error.to_string()))
        });
    let inner = match inner {
        Err(_unreadable) if codec != Codec::Jsonpb => {
            object.insert("@type".to_owned(), Value::from(any.type_url.as_str()));
            let bytes = BASE64_STANDARD.encode(&any.value);
            object.insert("value".to_owned(), Value::from(bytes));
            return Ok(Value::Object(object));
        }
        inner => inner?,
    };
    object.insert("@type".to_owned(), Value::from(any.type_url.as_str()));
    match well_known(codec, name, &inner) {
        Some(known) => {
            object.insert("value".to_owned(), known?);
        }
        None => fields(codec, &inner, &mut object)?,
    }
    Ok(Value::Object(object))
}

/// Compact JSON with Go's numbers.
pub(super) fn text(value: &Value) -> String {
    let mut out = String::new();
    write(&mut out, value);
    out
}

fn write(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(value) => match value.as_f64() {
            Some(float) if value.is_f64() => out.push_str(&number::json_f64(float)),
            _ => out.push_str(&value.to_string()),
        },
        Value::String(value) => quote(out, value),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(out, item);
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (index, (key, member)) in members.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                quote(out, key);
                out.push(':');
                write(out, member);
            }
            out.push('}');
        }
    }
}

fn quote(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if control < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => out.push(other),
        }
    }
    out.push('"');
}
