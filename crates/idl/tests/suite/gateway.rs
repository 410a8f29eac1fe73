//! The gateway's JSON for messages that the reference also answered in binary form (recorded/admin/rest.jsonl).
//!
//! The three answers to one path are three requests, so fields that differ between requests are left out
//! of the comparison by decoding: what is written from the binary answer must be the recorded text.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use base64::{Engine as _, prelude::BASE64_STANDARD};
use flyte_idl::{
    descriptors,
    json::{self, Codec, Unknown},
};
use prost_reflect::DynamicMessage;
use serde_json::Value;

struct Recorded {
    path: String,
    snake: String,
    camel: String,
    message: DynamicMessage,
}

fn recorded() -> Vec<Recorded> {
    include_str!("../data/gateway.jsonl")
        .lines()
        .map(|line| {
            let row: Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| row[name].as_str().unwrap().to_owned();
            let descriptor = descriptors::pool()
                .get_message_by_name(&text("message"))
                .unwrap();
            let bytes = BASE64_STANDARD.decode(text("proto")).unwrap();
            Recorded {
                path: text("path"),
                snake: text("json"),
                camel: text("camel"),
                message: DynamicMessage::decode(descriptor, bytes.as_slice()).unwrap(),
            }
        })
        .collect()
}

/// The first place where two texts differ, with what surrounds it.
fn difference(left: &str, right: &str) -> Option<String> {
    let at = left
        .bytes()
        .zip(right.bytes())
        .position(|(left, right)| left != right)
        .or_else(|| (left.len() != right.len()).then(|| left.len().min(right.len())))?;
    let around = |text: &str| {
        String::from_utf8_lossy(&text.as_bytes()[at.saturating_sub(60)..text.len().min(at + 60)])
            .into_owned()
    };
    Some(format!("{}\n    {}", around(left), around(right)))
}

#[test]
fn messages_are_written_as_the_gateway_wrote_them() {
    let mut differences = Vec::new();
    for row in recorded() {
        for (codec, expected) in [
            (Codec::ProtoNames, &row.snake),
            (Codec::JsonNames, &row.camel),
        ] {
            let written = json::dynamic_to_string(codec, &row.message).unwrap();
            if let Some(difference) = difference(&written, expected) {
                differences.push(format!("{} {codec:?}\n    {difference}", row.path));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn what_the_gateway_wrote_is_read_back() {
    for row in recorded() {
        for text in [&row.snake, &row.camel] {
            let read = json::dynamic_from_slice(
                Unknown::Refuse,
                &prost_reflect::ReflectMessage::descriptor(&row.message),
                text.as_bytes(),
            )
            .unwrap_or_else(|error| panic!("{}: {error}", row.path));
            let (codec, again) = if text == &row.snake {
                (Codec::ProtoNames, text)
            } else {
                (Codec::JsonNames, text)
            };
            assert_eq!(
                &json::dynamic_to_string(codec, &read).unwrap(),
                again,
                "{}",
                row.path
            );
        }
    }
}
