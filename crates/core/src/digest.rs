//! Digests of registered entities: an object hash over Go's JSON of a message (spec 01 §9, spec 08 A14).
//!
//! Re-registration compares digests that Go computed, so they are byte-exact: messages become JSON by
//! [`Codec::Jsonpb`], and each JSON value is hashed with a tag for its type, objects by sorted hashes of
//! their entries. What is hashed is `core.CompiledTask`, `core.CompiledWorkflowClosure`, or
//! `admin.LaunchPlan` with id, spec and the interface parts of its closure.

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use flyte_idl::json::{self, Codec, EncodeError};
use prost::{Message, Name};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// SHA-256 of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Lower-case hexadecimal.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Standard base64 with padding, the form of Go's hash strings.
    pub fn base64(&self) -> String {
        BASE64_STANDARD.encode(self.0)
    }

    /// URL-safe base64 without padding, the form on literals that the engine offloads.
    pub fn base64_url(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.0)
    }
}

/// The digest of a message. Fails on what has no JSON form, with Go's text: a duration out of range or with
/// two signs, a timestamp's nanoseconds out of range, a `Value` of no kind.
pub fn of_message<M: Message + Name>(message: &M) -> Result<Digest, EncodeError> {
    json::to_value(Codec::Jsonpb, message).map(|value| of_json(&value))
}

/// The object hash of a JSON value; all numbers are doubles.
pub fn of_json(value: &Value) -> Digest {
    Digest(match value {
        Value::Null => tagged(b'n', &[]),
        Value::Bool(value) => tagged(b'b', if *value { b"1" } else { b"0" }),
        Value::String(text) => tagged(b'u', text.as_bytes()),
        Value::Number(number) => tagged(
            b'f',
            normalized(number.as_f64().unwrap_or_default()).as_bytes(),
        ),
        Value::Array(items) => {
            let hashes: Vec<u8> = items.iter().flat_map(|item| of_json(item).0).collect();
            tagged(b'l', &hashes)
        }
        Value::Object(members) => {
            let mut entries: Vec<[[u8; 32]; 2]> = members
                .iter()
                .map(|(key, member)| [tagged(b'u', key.as_bytes()), of_json(member).0])
                .collect();
            entries.sort_unstable();
            tagged(b'd', entries.as_flattened().as_flattened())
        }
    })
}

fn tagged(tag: u8, content: &[u8]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update([tag]);
    hasher.update(content);
    hasher.finalize().into()
}

/// A float as sign, binary exponent and mantissa bits: 1 is `+0:1`, 0.5 is `+-1:1`, 3 is `+2:011`.
fn normalized(number: f64) -> String {
    if number == 0.0 {
        return "+0:".to_owned();
    }
    let mut text = String::from(if number < 0.0 { '-' } else { '+' });
    let mut rest = number.abs();
    let mut exponent = 0;
    while rest > 1.0 {
        rest /= 2.0;
        exponent += 1;
    }
    while rest <= 0.5 {
        rest *= 2.0;
        exponent -= 1;
    }
    text.push_str(&format!("{exponent}:"));
    while rest != 0.0 {
        if rest >= 1.0 {
            text.push('1');
            rest -= 1.0;
        } else {
            text.push('0');
        }
        rest *= 2.0;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_normalised_bit_by_bit() {
        for (number, text) in [
            (0.0, "+0:"),
            (-0.0, "+0:"),
            (1.0, "+0:1"),
            (-1.0, "-0:1"),
            (0.5, "+-1:1"),
            (2.0, "+1:1"),
            (3.0, "+2:011"),
        ] {
            assert_eq!(normalized(number), text);
        }
    }

    #[test]
    fn json_hashes_match_the_vectors_of_the_library() {
        for (text, hex) in [
            (
                "{}",
                "18ac3e7343f016890c510e93f935261169d9e3f565436429830faf0934f4f8e4",
            ),
            (
                "[]",
                "acac86c0e609ca906f632b0e2dacccb2b77d22b0621f20ebece1a4835b93f6f0",
            ),
            (
                r#"{"a":1}"#,
                "523ef52bdd3566aefa440b297796d7b1367a2e82d922165571f4326381635c14",
            ),
            (
                r#"{"integer":"18","floatValue":1.3,"stringValue":"lets test this","boolean":true}"#,
                "1a13cc4cabc97d43c72bc537bc49a88bfc1d541c7b21048fab28c65c0673aae2",
            ),
            (
                r#"{"integer":"18","floatValue":1.3,"stringValue":"lets test this","boolean":true,"datetime":"2019-03-29T12:00:00Z","duration":"0.001s","mapValue":{"a":"first","z":"last"},"collections":["1","2","3"]}"#,
                "6295b22c23f5356d03564dc78fae2d2bbd07ffdb7ee5f4258fbcb20cada54844",
            ),
        ] {
            let digest = of_json(&serde_json::from_str(text).unwrap());
            assert_eq!(digest.hex(), hex, "{text}");
        }
        let digest = of_json(
            &serde_json::json!({"integer":"18","floatValue":1.3,"stringValue":"lets test this","boolean":true}),
        );
        assert_eq!(
            digest.base64(),
            "GhPMTKvJfUPHK8U3vEmoi/wdVBx7IQSPqyjGXAZzquI="
        );
    }
}
