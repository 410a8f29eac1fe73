//! `google.protobuf.Struct` as JSON and back; used for plugin configuration, pod specs and type metadata.

use prost_types::{ListValue, Struct, Value as Dynamic, value::Kind};
use serde_json::{Map, Value};

use super::encode;

/// A Struct as a JSON object with sorted keys. A value of no kind becomes `null`, a number that is not
/// finite its name.
pub fn struct_to_json(fields: &Struct) -> Value {
    Value::Object(
        fields
            .fields
            .iter()
            .map(|(key, value)| (key.clone(), value_to_json(value)))
            .collect(),
    )
}

fn value_to_json(value: &Dynamic) -> Value {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::from(*value),
        Some(Kind::NumberValue(value)) => encode::double(*value),
        Some(Kind::StringValue(value)) => Value::from(value.as_str()),
        Some(Kind::StructValue(fields)) => struct_to_json(fields),
        Some(Kind::ListValue(list)) => list.values.iter().map(value_to_json).collect(),
    }
}

/// A JSON object as a Struct; numbers become doubles.
pub fn json_to_struct(object: &Map<String, Value>) -> Struct {
    Struct {
        fields: object
            .iter()
            .map(|(key, value)| (key.clone(), json_to_value(value)))
            .collect(),
    }
}

/// A JSON value as a `google.protobuf.Value`.
pub fn json_to_value(value: &Value) -> Dynamic {
    Dynamic {
        kind: Some(match value {
            Value::Null => Kind::NullValue(0),
            Value::Bool(value) => Kind::BoolValue(*value),
            Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
            Value::String(text) => Kind::StringValue(text.clone()),
            Value::Array(items) => Kind::ListValue(ListValue {
                values: items.iter().map(json_to_value).collect(),
            }),
            Value::Object(object) => Kind::StructValue(json_to_struct(object)),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_survive_the_round_trip() {
        let value = serde_json::json!({"a": null, "b": [1, 2.5, "x", {}], "c": {"d": false}});
        let object = value.as_object().unwrap();
        assert_eq!(struct_to_json(&json_to_struct(object)), value);
    }
}
