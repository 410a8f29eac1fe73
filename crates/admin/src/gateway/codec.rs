//! The three codecs and how headers select them (spec 01 §3, spec 08 B4).

use flyte_idl::json::{self, Codec as JsonCodec, JsonError};
use http::{HeaderMap, header};
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use tonic::Status;

/// How bodies are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    /// `application/octet-stream`: the binary message.
    Binary,
    /// `application/json`: names as in the .proto files; unknown fields are refused.
    ProtoNames,
    /// Anything else: `lowerCamelCase`; unknown fields are ignored.
    JsonNames,
}

impl Codec {
    /// By media type, without parameters and case.
    pub(super) fn inbound(headers: &HeaderMap) -> Self {
        headers
            .get_all(header::CONTENT_TYPE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .find_map(|value| {
                let media = value.split(';').next().unwrap_or_default().trim();
                Self::of(&media.to_ascii_lowercase())
            })
            .unwrap_or(Self::JsonNames)
    }

    /// By whole header values, compared literally; none if no value is a codec's.
    pub(super) fn outbound(headers: &HeaderMap) -> Option<Self> {
        headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .find_map(Self::of)
    }

    fn of(media: &str) -> Option<Self> {
        match media {
            "application/octet-stream" => Some(Self::Binary),
            "application/json" => Some(Self::ProtoNames),
            _ => None,
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Binary => "application/octet-stream",
            Self::ProtoNames | Self::JsonNames => "application/json",
        }
    }

    /// Reads a body; an empty one is the empty message.
    pub(super) fn decode(
        self,
        descriptor: &MessageDescriptor,
        body: &[u8],
    ) -> Result<DynamicMessage, Status> {
        if body.is_empty() {
            return Ok(DynamicMessage::new(descriptor.clone()));
        }
        let codec = match self {
            Self::Binary => {
                return binary(descriptor, body);
            }
            Self::ProtoNames => JsonCodec::ProtoNames,
            Self::JsonNames => JsonCodec::JsonNames,
        };
        json::dynamic_from_slice(codec.unknown(), descriptor, body).map_err(|error| match error {
            JsonError::Text(text) => Status::invalid_argument(text),
            JsonError::Nesting(cause) => Status::invalid_argument(cause.to_string()),
        })
    }

    /// Writes an answer.
    pub(super) fn encode(self, message: &DynamicMessage) -> Result<Vec<u8>, Status> {
        let codec = match self {
            Self::Binary => return Ok(message.encode_to_vec()),
            Self::ProtoNames => JsonCodec::ProtoNames,
            Self::JsonNames => JsonCodec::JsonNames,
        };
        json::dynamic_to_string(codec, message)
            .map(String::into_bytes)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

/// Nesting is checked first: decoding recurses.
fn binary(descriptor: &MessageDescriptor, body: &[u8]) -> Result<DynamicMessage, Status> {
    flyte_idl::nesting::scan(descriptor, body)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    DynamicMessage::decode(descriptor.clone(), body).map_err(|_malformed| {
        Status::invalid_argument("proto: cannot parse invalid wire-format data")
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(name: header::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn accept_is_compared_literally_and_content_type_by_media_type() {
        for (value, expected) in [
            ("application/json", Some(Codec::ProtoNames)),
            ("application/octet-stream", Some(Codec::Binary)),
            ("application/json, text/plain, */*", None),
            ("application/json;q=1", None),
            ("*/*", None),
        ] {
            assert_eq!(
                Codec::outbound(&headers(header::ACCEPT, value)),
                expected,
                "{value}"
            );
        }
        for (value, expected) in [
            ("Application/JSON; charset=utf-8", Codec::ProtoNames),
            ("text/plain", Codec::JsonNames),
        ] {
            assert_eq!(
                Codec::inbound(&headers(header::CONTENT_TYPE, value)),
                expected,
                "{value}"
            );
        }
    }
}
