//! Digests that a client sends along with its bytes: `Content-MD5` and the `x-amz-checksum-…` family, in headers or in
//! the trailer of a chunked body.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use s3s::checksum::ChecksumHasher;
use s3s::dto::Checksum;
use s3s::{S3Error, S3ErrorCode, S3Result, TrailingHeaders};

const ALGORITHMS: [&str; 5] = ["crc32", "crc32c", "crc64nvme", "sha1", "sha256"];
const PREFIX: &str = "x-amz-checksum-";

/// What the bytes of one request have to be.
pub(crate) struct Checks {
    md5: Option<[u8; 16]>,
    /// Checksums in headers, base64 by algorithm.
    expected: BTreeMap<String, String>,
    /// Algorithms whose checksums come in the trailer.
    trailing: Vec<String>,
    trailer: Option<TrailingHeaders>,
    hasher: ChecksumHasher,
}

impl Checks {
    /// Reads what a request announces.
    pub(crate) fn of(headers: &HeaderMap, trailer: Option<TrailingHeaders>) -> S3Result<Self> {
        let text = |name: &str| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::trim)
        };
        let md5 = match text("content-md5") {
            None => None,
            Some(given) => {
                let decoded = BASE64_STANDARD
                    .decode(given)
                    .ok()
                    .and_then(|bytes| bytes.try_into().ok());
                Some(decoded.ok_or_else(|| S3Error::new(S3ErrorCode::InvalidDigest))?)
            }
        };
        let mut expected = BTreeMap::new();
        for algorithm in ALGORITHMS {
            if let Some(value) = text(&format!("{PREFIX}{algorithm}")) {
                expected.insert(algorithm.to_owned(), value.to_owned());
            }
        }
        let announced = text("x-amz-trailer")
            .unwrap_or_default()
            .to_ascii_lowercase();
        let trailing: Vec<String> = announced
            .split(',')
            .filter_map(|name| name.trim().strip_prefix(PREFIX))
            .filter(|algorithm| ALGORITHMS.contains(algorithm))
            .map(str::to_owned)
            .collect();
        let wanted = |algorithm: &str| {
            expected.contains_key(algorithm) || trailing.iter().any(|name| name == algorithm)
        };
        let hasher = ChecksumHasher {
            crc32: wanted("crc32").then(s3s::crypto::Checksum::new),
            crc32c: wanted("crc32c").then(s3s::crypto::Checksum::new),
            crc64nvme: wanted("crc64nvme").then(s3s::crypto::Checksum::new),
            sha1: wanted("sha1").then(s3s::crypto::Checksum::new),
            sha256: wanted("sha256").then(s3s::crypto::Checksum::new),
        };
        Ok(Self {
            md5,
            expected,
            trailing,
            trailer,
            hasher,
        })
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// Compares, after the last byte. Returns the checksums that were verified, base64 by algorithm.
    pub(crate) fn verify(self, md5: [u8; 16]) -> S3Result<BTreeMap<String, String>> {
        if self.md5.is_some_and(|expected| expected != md5) {
            let message = "The Content-MD5 you specified did not match what we received.";
            return Err(S3Error::with_message(S3ErrorCode::BadDigest, message));
        }
        let mut expected = self.expected;
        let trailer = self
            .trailer
            .and_then(|trailer| trailer.take())
            .unwrap_or_default();
        for algorithm in self.trailing {
            let value = trailer
                .get(format!("{PREFIX}{algorithm}"))
                .and_then(|value| value.to_str().ok());
            let value = value.ok_or_else(|| {
                let message =
                    format!("the trailer {PREFIX}{algorithm} was announced and did not come");
                S3Error::with_message(S3ErrorCode::InvalidRequest, message)
            })?;
            expected.insert(algorithm, value.trim().to_owned());
        }
        let found = by_algorithm(&self.hasher.finalize());
        for (algorithm, expected) in &expected {
            if found.get(algorithm.as_str()) != Some(expected) {
                let name = algorithm.to_ascii_uppercase();
                let message =
                    format!("The {name} you specified did not match the calculated checksum.");
                return Err(S3Error::with_message(S3ErrorCode::BadDigest, message));
            }
        }
        Ok(expected)
    }
}

fn by_algorithm(checksum: &Checksum) -> BTreeMap<&'static str, String> {
    let all = [
        ("crc32", &checksum.checksum_crc32),
        ("crc32c", &checksum.checksum_crc32c),
        ("crc64nvme", &checksum.checksum_crc64nvme),
        ("sha1", &checksum.checksum_sha1),
        ("sha256", &checksum.checksum_sha256),
    ];
    all.into_iter()
        .filter_map(|(algorithm, value)| value.clone().map(|value| (algorithm, value)))
        .collect()
}
