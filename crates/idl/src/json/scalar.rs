//! Scalars, enums and map keys from JSON, with the leniency of protojson: integers as `1.0` or in quotes, base64 in
//! either alphabet, enums by name or number.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use prost_reflect::{EnumDescriptor, Kind, MapKey, Value};

use super::parse::Json;

pub(super) fn kind_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Double => "double",
        Kind::Float => "float",
        Kind::Int32 => "int32",
        Kind::Int64 => "int64",
        Kind::Uint32 => "uint32",
        Kind::Uint64 => "uint64",
        Kind::Sint32 => "sint32",
        Kind::Sint64 => "sint64",
        Kind::Fixed32 => "fixed32",
        Kind::Fixed64 => "fixed64",
        Kind::Sfixed32 => "sfixed32",
        Kind::Sfixed64 => "sfixed64",
        Kind::Bool => "bool",
        Kind::String => "string",
        Kind::Bytes => "bytes",
        Kind::Message(_) => "message",
        Kind::Enum(_) => "enum",
    }
}

pub(super) fn map_key(kind: &Kind, text: &str) -> Option<MapKey> {
    Some(match kind {
        Kind::String => MapKey::String(text.to_owned()),
        Kind::Bool => MapKey::Bool(text.parse().ok()?),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => MapKey::I32(text.parse().ok()?),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => MapKey::I64(text.parse().ok()?),
        Kind::Uint32 | Kind::Fixed32 => MapKey::U32(text.parse().ok()?),
        Kind::Uint64 | Kind::Fixed64 => MapKey::U64(text.parse().ok()?),
        _ => return None,
    })
}

pub(super) fn enum_value(descriptor: &EnumDescriptor, json: &Json) -> Option<Value> {
    let number = match json {
        Json::Text(name) => descriptor.get_value_by_name(name)?.number(),
        Json::Number(text) => i32::try_from(integer(text)?).ok()?,
        Json::Null if descriptor.full_name() == "google.protobuf.NullValue" => 0,
        _ => return None,
    };
    Some(Value::EnumNumber(number))
}

pub(super) fn scalar(kind: &Kind, json: &Json) -> Option<Value> {
    Some(match kind {
        Kind::Bool => match json {
            Json::Bool(value) => Value::Bool(*value),
            _ => return None,
        },
        Kind::String => match json {
            Json::Text(text) => Value::String(text.clone()),
            _ => return None,
        },
        Kind::Bytes => match json {
            Json::Text(text) => Value::Bytes(Bytes::from(base64(text)?)),
            _ => return None,
        },
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            Value::I32(i32::try_from(integer(digits(json)?)?).ok()?)
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            Value::I64(i64::try_from(integer(digits(json)?)?).ok()?)
        }
        Kind::Uint32 | Kind::Fixed32 => Value::U32(u32::try_from(integer(digits(json)?)?).ok()?),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(u64::try_from(integer(digits(json)?)?).ok()?),
        Kind::Double => Value::F64(float(json)?),
        Kind::Float => {
            let wide = float(json)?;
            #[expect(
                clippy::cast_possible_truncation,
                reason = "rounding is what is asked for"
            )]
            let narrow = wide as f32;
            if narrow.is_infinite() && wide.is_finite() {
                return None;
            }
            Value::F32(narrow)
        }
        Kind::Message(_) | Kind::Enum(_) => return None,
    })
}

/// The text of a number, in quotes or not.
fn digits(json: &Json) -> Option<&str> {
    match json {
        Json::Number(text) | Json::Text(text) => Some(text),
        _ => None,
    }
}

/// An integer, also as `1.0` or `1e2`; `None` when it has a fraction or more than 30 digits.
fn integer(text: &str) -> Option<i128> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(mantissa) => (true, mantissa),
        None => (false, mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() || (mantissa.contains('.') && fraction.is_empty()) {
        return None;
    }
    let all = format!("{whole}{fraction}");
    if !all.bytes().all(|byte| byte.is_ascii_digit()) || (whole.len() > 1 && whole.starts_with('0'))
    {
        return None;
    }
    let places = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let significant = all.trim_start_matches('0');
    let value = if significant.is_empty() {
        0
    } else if places >= 0 {
        let width = significant.len() + usize::try_from(places).ok()?;
        if width > 30 {
            return None;
        }
        format!("{significant:0<width$}").parse::<i128>().ok()?
    } else {
        let cut = usize::try_from(places.unsigned_abs()).ok()?;
        let keep = significant.len().saturating_sub(cut);
        let (integer, rest) = significant.split_at_checked(keep)?;
        if rest.bytes().any(|byte| byte != b'0') || cut > significant.len() || integer.len() > 30 {
            return None;
        }
        if integer.is_empty() {
            0
        } else {
            integer.parse::<i128>().ok()?
        }
    };
    Some(if negative { -value } else { value })
}

fn float(json: &Json) -> Option<f64> {
    let text = match json {
        Json::Text(text) => match text.as_str() {
            "NaN" => return Some(f64::NAN),
            "Infinity" => return Some(f64::INFINITY),
            "-Infinity" => return Some(f64::NEG_INFINITY),
            other => {
                // Rust would also read `inf`, `1.` and `+1`.
                let first = other.as_bytes().first()?;
                let last = other.as_bytes().last()?;
                if !(first.is_ascii_digit() || *first == b'-') || !last.is_ascii_digit() {
                    return None;
                }
                other
            }
        },
        Json::Number(text) => text,
        _ => return None,
    };
    text.parse::<f64>().ok().filter(|value| value.is_finite())
}

/// Either alphabet, padded or not.
fn base64(text: &str) -> Option<Vec<u8>> {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = if text.contains(['-', '_']) {
        &alphabet::URL_SAFE
    } else {
        &alphabet::STANDARD
    };
    GeneralPurpose::new(alphabet, config).decode(text).ok()
}
