//! JSON to messages, with the strictness and the error texts of Go's protojson (spec 01 §3).

use std::collections::{HashMap, HashSet};

use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

use super::{
    parse::{self, Json, Member, Node},
    scalar::{enum_value, kind_name, map_key, scalar},
    time,
};
use crate::{descriptors, nesting::NestingError, wire};

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
        match &node.json {
            Json::Null => "null".to_owned(),
            Json::Bool(value) => value.to_string(),
            Json::Number(text) => text.clone(),
            Json::List(_) => "[".to_owned(),
            Json::Object(_) => "{".to_owned(),
            Json::Text(_) => self.raw_text(node.start),
        }
    }

    /// The text that begins there as it was written, with its quotes.
    fn raw_text(&self, start: usize) -> String {
        let from = self.text.get(start..).unwrap_or_default();
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
                        let what = format!("unknown field {}", self.raw_text(member.start));
                        return Err(self.error(member.start, &what));
                    }
                }
            };
            if !seen.insert(field.number()) {
                let what = format!("duplicate field {}", self.raw_text(member.start));
                return Err(self.error(member.start, &what));
            }
            if matches!(member.value.json, Json::Null) && !takes_null(&field) {
                continue;
            }
            if let Some(oneof) = field.containing_oneof()
                && !seen_oneofs.insert(oneof.full_name().to_owned())
            {
                let what = format!(
                    "error parsing {}, oneof {} is already set",
                    self.raw_text(member.start),
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
                    "invalid value for {} key: {}",
                    kind_name(&key_kind),
                    self.raw_text(member.start)
                );
                self.error(member.start, &what)
            })?;
            if map.contains_key(&key) {
                let what = format!("duplicate map key {}", self.raw_text(member.start));
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
            let (url, url_node) = members
                .iter()
                .find(|member| member.key == "@type")
                .and_then(|member| match &member.value.json {
                    Json::Text(url) => Some((url.clone(), &member.value)),
                    _ => None,
                })
                .ok_or_else(|| self.error(node.start, "missing \"@type\" field"))?;
            let inner = descriptors::pool()
                .get_message_by_name(url.rsplit('/').next().unwrap_or_default())
                .ok_or_else(|| {
                    let what = format!("unable to resolve {}: \"not found\"", self.raw(url_node));
                    self.error(url_node.start, &what)
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
            any.value = wire::encode(&message);
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
