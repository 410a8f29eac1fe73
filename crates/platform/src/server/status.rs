//! Statuses as they are sent: never larger than what clients accept.
//!
//! The message goes out as `grpc-message`, percent-encoded. With details the whole status, message included, goes out
//! once more as `grpc-status-details-bin`, in base64.

use flyte_idl::rpc;
use prost::Message as _;
use tonic::{Code, Status};

/// The most bytes of both headers together: flytekit accepts 32 KiB of metadata altogether (spec 01 §4.2).
const MAX_STATUS: usize = 30 * 1024;

/// The most bytes of a text in a detail. The largest detail has an id of six texts, which leaves room for a message.
const MAX_DETAIL_TEXT: usize = 2 * 1024;

/// A status whose message is cut to what clients accept.
pub fn of_message(code: Code, message: String) -> Status {
    Status::new(code, cut(message, MAX_STATUS, percent_encoded))
}

/// A status with a detail, which stays whole while the message is cut. The texts of the detail are
/// [`of_detail`].
pub fn with_detail(code: Code, message: String, detail: prost_types::Any) -> Status {
    // Three bytes are four in base64: thirds of a byte are counted.
    const OF_MESSAGE_FIELD: usize = 8;
    let mut status = rpc::Status {
        code: code as i32,
        message: String::new(),
        details: vec![detail],
    };
    let taken = (status.encoded_len() + OF_MESSAGE_FIELD) * 4;
    let left = (MAX_STATUS * 3).saturating_sub(taken);
    status.message = cut(message, left, |character| {
        percent_encoded(character) * 3 + character.len_utf8() * 4
    });
    Status::with_details(code, status.message.clone(), status.encode_to_vec().into())
}

/// A text of a detail, cut to what leaves room for the message.
pub fn of_detail(text: &str) -> String {
    cut(text.to_owned(), MAX_DETAIL_TEXT, char::len_utf8)
}

/// What a character takes in `grpc-message`.
fn percent_encoded(character: char) -> usize {
    match character {
        ' ' | '"' | '#' | '%' | '<' | '>' | '`' | '?' | '{' | '}' => 3,
        '!'..='~' => 1,
        other => other.len_utf8() * 3,
    }
}

/// The beginning of `text` of which all characters together take at most `limit`.
fn cut(mut text: String, limit: usize, size: impl Fn(char) -> usize) -> String {
    let mut taken = 0;
    let end = text.char_indices().find(|(_, character)| {
        taken += size(*character);
        taken > limit
    });
    if let Some((end, _)) = end {
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of both headers as they are sent.
    fn sent(status: Status) -> usize {
        let response = status.into_http::<()>();
        ["grpc-message", "grpc-status-details-bin"]
            .iter()
            .filter_map(|name| response.headers().get(*name))
            .map(http::HeaderValue::len)
            .sum()
    }

    #[test]
    fn a_character_counts_as_what_it_is_sent_as() {
        for character in ('\0'..='\u{7f}').chain(['é', '€', '𝄞']) {
            let status = Status::new(Code::Internal, character.to_string());
            assert_eq!(percent_encoded(character), sent(status), "{character:?}");
        }
    }

    #[test]
    fn a_long_message_is_cut_to_what_clients_accept() {
        let detail = prost_types::Any {
            type_url: "type.googleapis.com/flyteidl.admin.EventFailureReason".to_owned(),
            value: vec![1; 6 * MAX_DETAIL_TEXT],
        };
        for text in ["x", " ", "\"", "{", "\n", "é", "𝄞", "a {b: \"c\"} "] {
            let message = || text.repeat(40_000);
            for status in [
                of_message(Code::Internal, message()),
                with_detail(Code::Internal, message(), detail.clone()),
            ] {
                let size = sent(status);
                assert!(size <= MAX_STATUS, "{text:?}: {size}");
                assert!(size > MAX_STATUS - 50, "{text:?}: {size}");
            }
        }
    }

    #[test]
    fn a_short_message_stays_whole() {
        let status = of_message(Code::Internal, "€".repeat(MAX_STATUS / 9));
        assert_eq!(status.message().chars().count(), MAX_STATUS / 9);
        assert_eq!(of_detail("é"), "é");
        assert_eq!(of_detail(&"é".repeat(9_000)).len(), MAX_DETAIL_TEXT);
    }
}
