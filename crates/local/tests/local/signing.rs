//! Signature version 4, written from the specification, so that requests can be signed wrongly on purpose.

use std::fmt::Write;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');
const PATH: &AsciiSet = &QUERY.remove(b'/');

pub(crate) struct Key {
    pub(crate) access: &'static str,
    pub(crate) secret: &'static str,
}

pub(crate) const KEY: Key = Key {
    access: "minio",
    secret: "miniostorage",
};

fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut block = [0_u8; 64];
    block[..key.len().min(64)].copy_from_slice(&key[..key.len().min(64)]);
    let inner = Sha256::digest([&block.map(|byte| byte ^ 0x36)[..], text].concat());
    Sha256::digest([&block.map(|byte| byte ^ 0x5c)[..], &inner[..]].concat()).into()
}

fn signature(key: &Key, at: jiff::Timestamp, canonical: &str) -> String {
    let (stamp, day) = stamps(at);
    let scope = format!("{day}/us-east-1/s3/aws4_request");
    let text = format!(
        "AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}",
        hex::encode(Sha256::digest(canonical))
    );
    let mut signing = hmac(format!("AWS4{}", key.secret).as_bytes(), day.as_bytes());
    for part in ["us-east-1", "s3", "aws4_request"] {
        signing = hmac(&signing, part.as_bytes());
    }
    hex::encode(hmac(&signing, text.as_bytes()))
}

fn stamps(at: jiff::Timestamp) -> (String, String) {
    (
        at.strftime("%Y%m%dT%H%M%SZ").to_string(),
        at.strftime("%Y%m%d").to_string(),
    )
}

pub(crate) fn path(bucket: &str, key: &str) -> String {
    format!("/{bucket}/{}", utf8_percent_encode(key, PATH))
}

fn canonical_headers(host: &str, headers: &[(&str, &str)]) -> (String, String) {
    let mut all: Vec<(&str, &str)> = headers.to_vec();
    all.push(("host", host));
    all.sort_unstable();
    let mut lines = String::new();
    for (name, value) in &all {
        writeln!(lines, "{name}:{value}").unwrap();
    }
    (
        lines,
        all.iter()
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
            .join(";"),
    )
}

/// A presigned URL that signs `headers` too.
pub(crate) fn presign(
    (method, host, path): (&str, &str, &str),
    key: &Key,
    (at, seconds): (jiff::Timestamp, u64),
    headers: &[(&str, &str)],
) -> String {
    let (stamp, day) = stamps(at);
    let (lines, signed) = canonical_headers(host, headers);
    let encode = |text: &str| utf8_percent_encode(text, QUERY).to_string();
    let credential = format!("{}/{day}/us-east-1/s3/aws4_request", key.access);
    let query = format!(
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}&X-Amz-Date={stamp}&X-Amz-Expires={seconds}&X-Amz-SignedHeaders={}",
        encode(&credential),
        encode(&signed)
    );
    let canonical = format!("{method}\n{path}\n{query}\n{lines}\n{signed}\nUNSIGNED-PAYLOAD");
    format!(
        "http://{host}{path}?{query}&X-Amz-Signature={}",
        signature(key, at, &canonical)
    )
}

/// The headers of a request that is signed in its `Authorization`.
pub(crate) fn authorize(
    (method, host, path): (&str, &str, &str),
    (query, payload): (&str, &str),
    headers: &[(&str, &str)],
) -> Vec<(String, String)> {
    let at = jiff::Timestamp::now();
    let (stamp, day) = stamps(at);
    let mut all = headers.to_vec();
    all.push(("x-amz-date", &stamp));
    all.push(("x-amz-content-sha256", payload));
    let (lines, signed) = canonical_headers(host, &all);
    let canonical = format!("{method}\n{path}\n{query}\n{lines}\n{signed}\n{payload}");
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{day}/us-east-1/s3/aws4_request, SignedHeaders={signed}, Signature={}",
        KEY.access,
        signature(&KEY, at, &canonical)
    );
    let mut owned: Vec<(String, String)> = all
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    owned.push(("authorization".to_owned(), authorization));
    owned
}

/// The fields of a form that uploads `key`, signed as a page does it (`presigned POST`).
pub(crate) fn form(bucket: &str, key: &str) -> Vec<(&'static str, String)> {
    use base64::Engine;
    let at = jiff::Timestamp::now();
    let (stamp, day) = stamps(at);
    let scope = format!("{day}/us-east-1/s3/aws4_request");
    let credential = format!("{}/{scope}", KEY.access);
    let policy = serde_json::json!({
        "expiration": (at + jiff::SignedDuration::from_hours(1)).to_string(),
        "conditions": [
            {"bucket": bucket}, {"key": key}, {"x-amz-algorithm": "AWS4-HMAC-SHA256"},
            {"x-amz-credential": credential}, {"x-amz-date": stamp},
        ],
    });
    let policy = base64::prelude::BASE64_STANDARD.encode(policy.to_string());
    let mut signing = hmac(format!("AWS4{}", KEY.secret).as_bytes(), day.as_bytes());
    for part in ["us-east-1", "s3", "aws4_request"] {
        signing = hmac(&signing, part.as_bytes());
    }
    vec![
        ("key", key.to_owned()),
        ("x-amz-algorithm", "AWS4-HMAC-SHA256".to_owned()),
        ("x-amz-credential", credential),
        ("x-amz-date", stamp),
        (
            "x-amz-signature",
            hex::encode(hmac(&signing, policy.as_bytes())),
        ),
        ("policy", policy),
    ]
}
