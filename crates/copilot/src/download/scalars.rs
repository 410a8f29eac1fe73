//! Values without data elsewhere, as the text of a file and as a value of `inputs.json` (spec 05 §17.2).

use flyte_core::duration;
use flyte_idl::{
    core::{Binary, Error, Primitive, primitive},
    json::{self, struct_to_json},
    time,
};
use prost_types::Struct;
use serde_json::{Number, Value};

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::plan::Cause;

/// A value in both forms.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Written {
    /// What its file holds.
    pub(super) file: Vec<u8>,
    /// What stands in `inputs.json` and `inputs.yaml`.
    pub(super) value: Value,
}

impl Written {
    fn text(file: impl Into<String>, value: Value) -> Self {
        Self {
            file: file.into().into_bytes(),
            value,
        }
    }

    /// Nothing, as a value.
    pub(super) fn null() -> Self {
        Self::text("null", Value::Null)
    }
}

/// A primitive. JSON knows no number that is not finite, so that one is told where it is asked for
/// ([`Cause::NotFinite`]).
pub(super) fn primitive(primitive: &Primitive) -> Result<Written, Cause> {
    Ok(match &primitive.value {
        None => Written::null(),
        Some(primitive::Value::Integer(value)) => {
            Written::text(value.to_string(), Value::from(*value))
        }
        Some(primitive::Value::FloatValue(value)) => {
            let value = *value;
            Written::text(
                float(value),
                Number::from_f64(value).map_or(Value::Null, Value::Number),
            )
        }
        Some(primitive::Value::StringValue(value)) => {
            Written::text(value.clone(), Value::from(value.as_str()))
        }
        Some(primitive::Value::Boolean(value)) => {
            Written::text(value.to_string(), Value::from(*value))
        }
        Some(primitive::Value::Datetime(value)) => {
            let moment = time::from_wire(Some(value)).ok_or(Cause::OutOfRange("a datetime"))?;
            let text = moment.to_string();
            Written::text(text.clone(), Value::from(text))
        }
        Some(primitive::Value::Duration(value)) => {
            let nanoseconds = value
                .seconds
                .checked_mul(1_000_000_000)
                .and_then(|nanoseconds| nanoseconds.checked_add(i64::from(value.nanos)))
                .ok_or(Cause::OutOfRange("a duration"))?;
            // Go's JSON has no more of a duration than null.
            Written::text(duration::format(nanoseconds), Value::Null)
        }
    })
}

/// Decimal, without an exponent, the shortest that reads back as the same number.
fn float(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

/// Bytes: as they are, and in base64.
pub(super) fn binary(binary: &Binary) -> Written {
    Written {
        file: binary.value.clone(),
        value: Value::from(BASE64_STANDARD.encode(&binary.value)),
    }
}

/// An error is its message.
pub(super) fn error(error: &Error) -> Written {
    Written::text(error.message.clone(), Value::from(error.message.as_str()))
}

/// A structure: JSON in both.
pub(super) fn structure(fields: &Struct) -> Written {
    let value = struct_to_json(fields);
    Written::text(json::value_to_string(&value), value)
}
