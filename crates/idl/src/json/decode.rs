//! JSON to messages, with the strictness and the error texts of Go's protojson (spec 01 §3).

use std::collections::{HashMap, HashSet};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use prost::Message as _;
use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value,
};

use super::{
    parse::{self, Json, Member, Node},
    time,
};
use crate::{descriptors, nesting::NestingError};

/// What to do with members that the message has no field for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// They are an error.
    Refuse,
    /// They are skipped.
    Ignore,
}

/// Why a text is not a message (INVALID_ARGUMENT).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The text is not JSON or does not fit the message; worded as by Go.
    #[error("{0}")]
    Text(String),
    /// The message nests too deeply.
    #[error(transparent)]
    Nesting(NestingError),
}

pub(super) fn message(
    unknown: Unknown,
    descriptor: &MessageDescriptor,
    text: &[u8],
) -> Result<DynamicMessage, JsonError> {
    let node = parse::parse(text).map_err(JsonError::Text)?;
    let decoder = Decoder { unknown, text };
    decoder.message(descriptor, &node).map_err(JsonError::Text)
}

struct Decoder<'a> {
    unknown: Unknown,
    text: &'a [u8],
}

type Decoded<T> = Result<T, String>;

impl Decoder<'_> {
    /// `line:column`, both from 1, columns in characters.
    fn position(&self, at: usize) -> String {
        let before = String::from_utf8_lossy(self.text.get(..at).unwrap_or_default()).into_owned();
        let line = before.matches('\n').count() + 1;
        let column = before
            .rsplit('\n')
            .next()
            .unwrap_or_default()
            .chars()
            .count()
            + 1;
        format!("{line}:{column}")
    }

    fn error(&self, at: usize, what: &str) -> String {
        format!("proto: (line {}): {what}", self.position(at))
    }

    fn unexpected(&self, node: &Node) -> String {
        format!(
            "proto: syntax error (line {}): unexpected token {}",
            self.position(node.start),
            self.raw(node)
        )
    }

    /// The token as it was written; `{` and `[` for what they open.
    fn raw(&self, node: &Node) -> String {
        let from = self.text.get(node.start..).unwrap_or_default();
        match &node.json {
            Json::Null => "null".to_owned(),
            Json::Bool(value) => value.to_string(),
            Json::Number(text) => text.clone(),
            Json::List(_) => "[".to_owned(),
            Json::Object(_) => "{".to_owned(),
            Json::Text(_) => {
                let mut escaped = false;
                let end = from
                    .iter()
                    .skip(1)
                    .position(|byte| {
                        let closes = *byte == b'"' && !escaped;
                        escaped = *byte == b'\\' && !escaped;
                        closes
                    })
                    .map_or(from.len(), |offset| offset + 2);
                String::from_utf8_lossy(from.get(..end).unwrap_or_default()).into_owned()
            }
        }
    }

    fn message(&self, descriptor: &MessageDescriptor, node: &Node) -> Decoded<DynamicMessage> {
        if let Some(name) = descriptor.full_name().strip_prefix("google.protobuf.")
            && let Some(known) = self.well_known(name, descriptor, node)
        {
            return known;
        }
        let Json::Object(members) = &node.json else {
            return Err(self.unexpected(node));
        };
        let mut message = DynamicMessage::new(descriptor.clone());
        self.members(&mut message, members.iter())?;
        Ok(message)
    }

    fn members<'n>(
        &self,
        message: &mut DynamicMessage,
        members: impl Iterator<Item = &'n Member>,
    ) -> Decoded<()> {
        use prost_reflect::ReflectMessage as _;
        let descriptor = message.descriptor();
        let mut seen = HashSet::new();
        let mut seen_oneofs = HashSet::new();
        for member in members {
            let field = descriptor
                .get_field_by_json_name(&member.key)
                .or_else(|| descriptor.get_field_by_name(&member.key));
            let Some(field) = field else {
                match self.unknown {
                    Unknown::Ignore => continue,
                    Unknown::Refuse => {
                        let what = format!("unknown field {:?}", member.key);
                        return Err(self.error(member.start, &what));
                    }
                }
            };
            if !seen.insert(field.number()) {
                let what = format!("duplicate field {:?}", member.key);
                return Err(self.error(member.start, &what));
            }
            if matches!(member.value.json, Json::Null) && !takes_null(&field) {
                continue;
            }
            if let Some(oneof) = field.containing_oneof()
                && !seen_oneofs.insert(oneof.full_name().to_owned())
            {
                let what = format!(
                    "error parsing {:?}, oneof {} is already set",
                    member.key,
                    oneof.full_name()
                );
                return Err(self.error(member.start, &what));
            }
            let value = self.field(&field, &member.value)?;
            message.set_field(&field, value);
        }
        Ok(())
    }

    fn field(&self, field: &FieldDescriptor, node: &Node) -> Decoded<Value> {
        if field.is_list() {
            let Json::List(items) = &node.json else {
                return Err(self.unexpected(node));
            };
            return items
                .iter()
                .map(|item| self.single(field, &field.kind(), item))
                .collect::<Decoded<Vec<_>>>()
                .map(Value::List);
        }
        if field.is_map() {
            return self.map(field, node);
        }
        self.single(field, &field.kind(), node)
    }

    fn map(&self, field: &FieldDescriptor, node: &Node) -> Decoded<Value> {
        let (Json::Object(members), Kind::Message(entry)) = (&node.json, field.kind()) else {
            return Err(self.unexpected(node));
        };
        let key_kind = entry.map_entry_key_field().kind();
        let value_field = entry.map_entry_value_field();
        let mut map = HashMap::new();
        for member in members {
            let key = map_key(&key_kind, &member.key).ok_or_else(|| {
                let what = format!(
                    "invalid value for {} key: {:?}",
                    kind_name(&key_kind),
                    member.key
                );
                self.error(member.start, &what)
            })?;
            if map.contains_key(&key) {
                let what = format!("duplicate map key {:?}", member.key);
                return Err(self.error(member.start, &what));
            }
            let value = self.single(&value_field, &value_field.kind(), &member.value)?;
            map.insert(key, value);
        }
        Ok(Value::Map(map))
    }

    fn single(&self, field: &FieldDescriptor, kind: &Kind, node: &Node) -> Decoded<Value> {
        let value = match kind {
            Kind::Message(descriptor) => return self.message(descriptor, node).map(Value::Message),
            Kind::Enum(descriptor) => enum_value(descriptor, &node.json),
            _ => scalar(kind, &node.json),
        };
        value.ok_or_else(|| {
            let what = format!(
                "invalid value for {} field {}: {}",
                kind_name(kind),
                field.json_name(),
                self.raw(node)
            );
            self.error(node.start, &what)
        })
    }

    fn well_known(
        &self,
        name: &str,
        descriptor: &MessageDescriptor,
        node: &Node,
    ) -> Option<Decoded<DynamicMessage>> {
        Some(match name {
            "Timestamp" => self.text_form(descriptor, node, |text| {
                time::parse_timestamp(text).map(|time| time.encode_to_vec())
            }),
            "Duration" => self.text_form(descriptor, node, |text| {
                time::parse_duration(text).map(|duration| duration.encode_to_vec())
            }),
            "Struct" => self.structure(descriptor, node),
            "ListValue" => self.list_value(descriptor, node),
            "Value" => self.dynamic_value(descriptor, node),
            "Any" => self.any(descriptor, node),
            "BoolValue" | "StringValue" | "BytesValue" | "Int32Value" | "UInt32Value"
            | "Int64Value" | "UInt64Value" | "FloatValue" | "DoubleValue" => {
                let field = descriptor.get_field(1)?;
                self.single(&field, &field.kind(), node).map(|value| {
                    let mut message = DynamicMessage::new(descriptor.clone());
                    message.set_field(&field, value);
                    message
                })
            }
            _ => return None,
        })
    }

    fn text_form(
        &self,
        descriptor: &MessageDescriptor,
        node: &Node,
        parse: impl Fn(&str) -> Option<Vec<u8>>,
    ) -> Decoded<DynamicMessage> {
        let Json::Text(text) = &node.json else {
            return Err(self.unexpected(node));
        };
        parse(text)
            .and_then(|bytes| DynamicMessage::decode(descriptor.clone(), bytes.as_slice()).ok())
            .ok_or_else(|| {
                let what = format!(
                    "invalid {} value {}",
                    descriptor.full_name(),
                    self.raw(node)
                );
                self.error(node.start, &what)
            })
    }

    fn structure(&self, descriptor: &MessageDescriptor, node: &Node) -> Decoded<DynamicMessage> {
        let Json::Object(_) = &node.json else {
            return Err(self.unexpected(node));
        };
        let mut message = DynamicMessage::new(descriptor.clone());
        if let Some(field) = descriptor.get_field(1) {
            let fields = self.map(&field, node)?;
            message.set_field(&field, fields);
        }
        Ok(message)
    }

    fn list_value(&self, descriptor: &MessageDescriptor, node: &Node) -> Decoded<DynamicMessage> {
        let Json::List(_) = &node.json else {
            return Err(self.unexpected(node));
        };
        let mut message = DynamicMessage::new(descriptor.clone());
        if let Some(field) = descriptor.get_field(1) {
            let values = self.field(&field, node)?;
            message.set_field(&field, values);
        }
        Ok(message)
    }

    fn dynamic_value(
        &self,
        descriptor: &MessageDescriptor,
        node: &Node,
    ) -> Decoded<DynamicMessage> {
        let member = match &node.json {
            Json::Null => "null_value",
            Json::Number(_) => "number_value",
            Json::Text(_) => "string_value",
            Json::Bool(_) => "bool_value",
            Json::Object(_) => "struct_value",
            Json::List(_) => "list_value",
        };
        let mut message = DynamicMessage::new(descriptor.clone());
        if let Some(field) = descriptor.get_field_by_name(member) {
            let value = match &node.json {
                Json::Null => Value::EnumNumber(0),
                _ => self.single(&field, &field.kind(), node)?,
            };
            message.set_field(&field, value);
        }
        Ok(message)
    }

    fn any(&self, descriptor: &MessageDescriptor, node: &Node) -> Decoded<DynamicMessage> {
        let Json::Object(members) = &node.json else {
            return Err(self.unexpected(node));
        };
        let mut any = prost_types::Any::default();
        if !members.is_empty() {
            let url = members
                .iter()
                .find(|member| member.key == "@type")
                .and_then(|member| match &member.value.json {
                    Json::Text(url) => Some(url.clone()),
                    _ => None,
                })
                .ok_or_else(|| self.error(node.start, "missing \"@type\" field"))?;
            let inner = descriptors::pool()
                .get_message_by_name(url.rsplit('/').next().unwrap_or_default())
                .ok_or_else(|| {
                    self.error(node.start, &format!("unable to resolve {url:?}: not found"))
                })?;
            let rest = members.iter().filter(|member| member.key != "@type");
            let message = if inner.full_name().starts_with("google.protobuf.") {
                match members.iter().find(|member| member.key == "value") {
                    Some(value) => self.message(&inner, &value.value)?,
                    None => DynamicMessage::new(inner),
                }
            } else {
                let mut message = DynamicMessage::new(inner);
                self.members(&mut message, rest)?;
                message
            };
            any.type_url = url;
            any.value = message.encode_to_vec();
        }
        DynamicMessage::decode(descriptor.clone(), any.encode_to_vec().as_slice())
            .map_err(|error| error.to_string())
    }
}

/// `null` is a value only for these; for other fields it means "not set".
fn takes_null(field: &FieldDescriptor) -> bool {
    if field.is_list() || field.is_map() {
        return false;
    }
    match field.kind() {
        Kind::Message(message) => message.full_name() == "google.protobuf.Value",
        Kind::Enum(descriptor) => descriptor.full_name() == "google.protobuf.NullValue",
        _ => false,
    }
}

fn kind_name(kind: &Kind) -> &'static str {
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

fn map_key(kind: &Kind, text: &str) -> Option<MapKey> {
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

fn enum_value(descriptor: &EnumDescriptor, json: &Json) -> Option<Value> {
    let number = match json {
        Json::Text(name) => descriptor.get_value_by_name(name)?.number(),
        Json::Number(text) => i32::try_from(integer(text)?).ok()?,
        Json::Null if descriptor.full_name() == "google.protobuf.NullValue" => 0,
        _ => return None,
    };
    Some(Value::EnumNumber(number))
}

fn scalar(kind: &Kind, json: &Json) -> Option<Value> {
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
