//! The two ways in which protobuf messages stand in the resource (spec 03 §4.3).

use std::ops::Deref;

use flyte_idl::{
    descriptors,
    json::{self, Codec, Unknown},
};
use prost::{Message, Name};
use prost_reflect::{DynamicMessage, Kind, MapKey, ReflectMessage as _, Value as Field};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};
use serde_json::{Map, Number, Value, json};

/// A message in proto-JSON (`P`): lowerCamelCase, enum names, 64-bit integers as text, defaults omitted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proto<M>(pub M);

impl<M> Deref for Proto<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.0
    }
}

impl<M: Message + Name> Serialize for Proto<M> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        json::to_value(Codec::Jsonpb, &self.0)
            .map_err(S::Error::custom)?
            .serialize(serializer)
    }
}

impl<'de, M: Message + Name + Default> Deserialize<'de> for Proto<M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if value.is_null() {
            return Ok(Self::default());
        }
        json::from_value(Unknown::Ignore, &value)
            .map(Self)
            .map_err(D::Error::custom)
    }
}

/// A message as Go's standard encoder prints its struct (`G`): snake_case, enums and 64-bit integers as
/// numbers, timestamps as `{"seconds","nanos"}`, zero values omitted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GoStruct<M>(pub M);

impl<M> Deref for GoStruct<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.0
    }
}

impl<M: Message + Name> Serialize for GoStruct<M> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write_message(&descriptors::dynamic(&self.0)).serialize(serializer)
    }
}

impl<'de, M: Message + Name + Default> Deserialize<'de> for GoStruct<M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if value.is_null() {
            return Ok(Self::default());
        }
        // The proto-JSON reader takes snake_case names and enum numbers; only timestamps look different.
        let value = with_text_times(value, &descriptors::message::<M>());
        json::from_value(Unknown::Ignore, &value)
            .map(Self)
            .map_err(D::Error::custom)
    }
}

fn write_message(message: &DynamicMessage) -> Value {
    if message.descriptor().full_name() == "google.protobuf.Struct" {
        return json::dynamic_to_value(Codec::Jsonpb, message).unwrap_or(Value::Null);
    }
    let mut object = Map::new();
    for field in descriptors::fields(&message.descriptor()).iter() {
        if !message.has_field(field) {
            continue;
        }
        let value = write_field(&message.get_field(field));
        object.insert(field.name().to_owned(), value);
    }
    Value::Object(object)
}

fn write_field(value: &Field) -> Value {
    match value {
        Field::Bool(flag) => Value::Bool(*flag),
        Field::I32(number) | Field::EnumNumber(number) => json!(number),
        Field::I64(number) => json!(number),
        Field::U32(number) => json!(number),
        Field::U64(number) => json!(number),
        Field::F32(number) => {
            Number::from_f64(f64::from(*number)).map_or(Value::Null, Value::Number)
        }
        Field::F64(number) => Number::from_f64(*number).map_or(Value::Null, Value::Number),
        Field::String(text) => Value::String(text.clone()),
        Field::Bytes(bytes) => {
            use base64::Engine as _;
            Value::String(base64::engine::general_purpose::STANDARD.encode(bytes))
        }
        Field::Message(message) => write_message(message),
        Field::List(items) => Value::Array(items.iter().map(write_field).collect()),
        Field::Map(entries) => {
            let mut sorted: Vec<_> = entries
                .iter()
                .map(|(key, value)| (key_text(key), value))
                .collect();
            sorted.sort_by(|one, other| one.0.cmp(&other.0));
            Value::Object(
                sorted
                    .into_iter()
                    .map(|(key, value)| (key, write_field(value)))
                    .collect(),
            )
        }
    }
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(flag) => flag.to_string(),
        MapKey::I32(number) => number.to_string(),
        MapKey::I64(number) => number.to_string(),
        MapKey::U32(number) => number.to_string(),
        MapKey::U64(number) => number.to_string(),
        MapKey::String(text) => text.clone(),
    }
}

/// Replaces `{"seconds":n,"nanos":n}` by RFC 3339 text wherever a field is a timestamp.
fn with_text_times(value: Value, descriptor: &prost_reflect::MessageDescriptor) -> Value {
    let Value::Object(object) = value else {
        return value;
    };
    if descriptor.full_name() == "google.protobuf.Timestamp" {
        let number = |name: &str| object.get(name).and_then(Value::as_i64).unwrap_or(0);
        let time = prost_types::Timestamp {
            seconds: number("seconds"),
            nanos: i32::try_from(number("nanos")).unwrap_or(0),
        };
        return json::format_timestamp(&time).map_or(Value::Null, Value::String);
    }
    if descriptor.full_name().starts_with("google.protobuf.") {
        return Value::Object(object);
    }
    Value::Object(
        object
            .into_iter()
            .map(|(name, value)| {
                let inner =
                    descriptor
                        .get_field_by_name(&name)
                        .and_then(|field| match field.kind() {
                            Kind::Message(inner) if !field.is_map() => Some(inner),
                            _ => None,
                        });
                let value = match (inner, value) {
                    (Some(inner), Value::Array(items)) => Value::Array(
                        items
                            .into_iter()
                            .map(|item| with_text_times(item, &inner))
                            .collect(),
                    ),
                    (Some(inner), value) => with_text_times(value, &inner),
                    (None, value) => value,
                };
                (name, value)
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use flyte_idl::core::{ExecutionError, SecurityContext, execution_error::ErrorKind};

    use super::*;

    #[test]
    fn an_error_in_status_is_a_go_struct() {
        let text = json!({"code": "X", "message": "m", "kind": 1, "timestamp": {"seconds": 5, "nanos": 7}});
        let read: GoStruct<ExecutionError> = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(read.kind(), ErrorKind::User);
        assert_eq!(read.timestamp.unwrap().nanos, 7);
        assert_eq!(serde_json::to_value(&read).unwrap(), text);
    }

    #[test]
    fn present_but_empty_messages_stay() {
        let text = json!({"run_as": {}});
        let read: GoStruct<SecurityContext> = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), text);
    }
}
