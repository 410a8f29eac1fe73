//! JSON codecs of the REST gateway, of digests and of the workflow resource.
//!
//! Three writers, one reader (spec 01 §3 and §9, spec 08 B4 and B6):
//!
//! | codec | names | fields that are not set | used by |
//! |---|---|---|---|
//! | [`Codec::ProtoNames`] | `snake_case` | written with their defaults | `Accept: application/json` |
//! | [`Codec::JsonNames`] | `lowerCamelCase` | written with their defaults | any other `Accept` |
//! | [`Codec::Jsonpb`] | `lowerCamelCase` | left out | digests, messages inside the workflow resource |
//!
//! Fields come in order of declaration, map and Struct keys sorted, 64-bit integers as text. The reader takes
//! both name styles; what it does with unknown fields is the caller's choice.

mod decode;
mod encode;
mod parse;
mod scalar;
mod structs;
pub(crate) mod time;

use prost::{Message, Name};
use prost_reflect::DynamicMessage;
use serde_json::Value;

pub use decode::{JsonError, Unknown};
pub use encode::EncodeError;
pub use structs::{json_to_struct, json_to_value, struct_to_json};
pub use time::{format_duration, format_timestamp, parse_duration, parse_timestamp};

use crate::{descriptors, nesting, wire};

/// How a message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Names as in the .proto files, all fields.
    ProtoNames,
    /// `lowerCamelCase` names, all fields.
    JsonNames,
    /// Go's older jsonpb: `lowerCamelCase` names, only fields that are set.
    Jsonpb,
}

impl Codec {
    /// What the gateway does with unknown fields of a request in this codec: only `application/json` refuses them.
    pub fn unknown(self) -> Unknown {
        match self {
            Self::ProtoNames => Unknown::Refuse,
            Self::JsonNames | Self::Jsonpb => Unknown::Ignore,
        }
    }
}

/// A message as a JSON value. Fails on what JSON cannot say: a duration or timestamp out of range, a
/// `Value` of no kind, an `Any` of an unknown type.
pub fn to_value<M: Message + Name>(codec: Codec, message: &M) -> Result<Value, EncodeError> {
    dynamic_to_value(codec, &descriptors::dynamic(message))
}

/// As [`to_value`] for a dynamic message.
pub fn dynamic_to_value(codec: Codec, message: &DynamicMessage) -> Result<Value, EncodeError> {
    encode::message(codec, message)
}

/// A message as compact JSON text.
pub fn to_string<M: Message + Name>(codec: Codec, message: &M) -> Result<String, EncodeError> {
    to_value(codec, message).map(|value| encode::text(&value))
}

/// As [`to_string`] for a dynamic message.
pub fn dynamic_to_string(codec: Codec, message: &DynamicMessage) -> Result<String, EncodeError> {
    dynamic_to_value(codec, message).map(|value| encode::text(&value))
}

/// A JSON value as Go prints it: compact, numbers in Go's notation.
pub fn value_to_string(value: &Value) -> String {
    encode::text(value)
}

/// Reads the first JSON value of a text, nested up to 5,100 levels; `serde_json` itself stops at 128, and a
/// message of a thousand levels needs a few for each. Of equal keys the last counts. The error is worded as by Go.
pub fn parse(text: &[u8]) -> Result<Value, JsonError> {
    parse::parse(text)
        .map(parse::Node::into_value)
        .map_err(JsonError::Text)
}

/// Reads the first JSON value of a text as a message; what follows it is ignored.
pub fn from_slice<M: Message + Name + Default>(
    unknown: Unknown,
    text: &[u8],
) -> Result<M, JsonError> {
    let descriptor = descriptors::message::<M>();
    let dynamic = decode::message(unknown, &descriptor, text)?;
    let bytes = wire::encode(&dynamic);
    nesting::scan(&descriptor, &bytes).map_err(JsonError::Nesting)?;
    M::decode(bytes.as_slice()).map_err(|_| JsonError::Text("unexpected EOF".to_owned()))
}

/// As [`from_slice`], for a type known at run time. Nesting is not checked against the limit of messages.
pub fn dynamic_from_slice(
    unknown: Unknown,
    descriptor: &prost_reflect::MessageDescriptor,
    text: &[u8],
) -> Result<DynamicMessage, JsonError> {
    decode::message(unknown, descriptor, text)
}

/// Reads a message from a JSON value that is already parsed.
pub fn from_value<M: Message + Name + Default>(
    unknown: Unknown,
    value: &Value,
) -> Result<M, JsonError> {
    from_slice(unknown, encode::text(value).as_bytes())
}

#[cfg(test)]
mod tests;
