//! How long signed URLs are good for: as long as the request asks, and no longer than the configuration allows
//! (spec 01 §16.1-16.2). The reference has other words for uploads than for downloads.

use flyte_core::duration;
use flyte_idl::{service::CreateUploadLocationRequest, text};
use jiff::{SignedDuration, Timestamp};

use crate::error::{Error, Result};

/// How long a URL is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expiry {
    /// From now on.
    pub(crate) length: SignedDuration,
    /// The moment after which it is no longer.
    pub(crate) at: Timestamp,
}

/// What bounds an expiry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The longest that the configuration allows.
    pub(crate) longest: SignedDuration,
    /// When the request is answered.
    pub(crate) now: Timestamp,
}

/// The longest that S3 and Google Cloud Storage take a signed URL for. Their signers sign longer ones all the same, which
/// are refused when they are used.
const WEEK: SignedDuration = SignedDuration::from_hours(7 * 24);

/// As much of `length` as the store of `base`, a reference to its container, takes. Azure has no bound.
pub(crate) fn signable(length: SignedDuration, base: &str) -> SignedDuration {
    if base.starts_with("abfs:") {
        length
    } else {
        length.min(WEEK)
    }
}

impl Expiry {
    fn after(length: SignedDuration, now: Timestamp) -> Self {
        Self {
            length,
            at: now.saturating_add(length).unwrap_or(Timestamp::MAX),
        }
    }
}

fn nanoseconds(length: &prost_types::Duration) -> i64 {
    length
        .seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(i64::from(length.nanos))
}

/// The expiry of an upload; the longest one if the request asks for none.
///
/// # Errors
/// INVALID_ARGUMENT for a negative or malformed length and for one beyond the longest.
pub(crate) fn of_upload(
    request: &CreateUploadLocationRequest,
    Limits { longest, now }: Limits,
) -> Result<Expiry> {
    let Some(asked) = &request.expires_in else {
        return Ok(Expiry::after(longest, now));
    };
    let length = nanoseconds(asked);
    if length < 0 || !(-999_999_999..=999_999_999).contains(&asked.nanos) {
        return Err(Error::Invalid(format!(
            "expiresIn [{}] is invalid",
            text::prototext(request)
        )));
    }
    let limit = i64::try_from(longest.as_nanos()).unwrap_or(i64::MAX);
    if length > limit {
        return Err(Error::Invalid(format!(
            "expiresIn [{}] cannot exceed max allowed expiration [{}]",
            duration::format(length),
            duration::format(limit)
        )));
    }
    Ok(Expiry::after(SignedDuration::from_nanos(length), now))
}

/// The expiry of a download; the longest one if the request asks for none. `prefix` begins the text of a refusal.
///
/// # Errors
/// INVALID_ARGUMENT for a negative length and for one beyond the longest.
pub(crate) fn of_download(
    asked: Option<&prost_types::Duration>,
    Limits { longest, now }: Limits,
    prefix: &str,
) -> Result<Expiry> {
    let Some(asked) = asked else {
        return Ok(Expiry::after(longest, now));
    };
    let length = nanoseconds(asked);
    let limit = i64::try_from(longest.as_nanos()).unwrap_or(i64::MAX);
    let invalid = |rule: String| {
        Error::Invalid(format!(
            "{prefix} expiresIn is invalid. Error: input duration [{}] {rule}",
            duration::format(length)
        ))
    };
    if length < 0 {
        return Err(invalid("should not less than 0".to_owned()));
    }
    if length > limit {
        return Err(invalid(format!(
            "cannot exceed max allowed expiration [{}]",
            duration::format(limit)
        )));
    }
    Ok(Expiry::after(SignedDuration::from_nanos(length), now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_url_is_signed_for_longer_than_its_store_takes() {
        for (base, asked, hours) in [
            ("s3://bucket", 1, 1),
            ("s3://bucket", 115 * 24, 168),
            ("gs://bucket", 169, 168),
            ("abfs://container", 115 * 24, 115 * 24),
        ] {
            let signed = signable(SignedDuration::from_hours(asked), base);
            assert_eq!(
                signed,
                SignedDuration::from_hours(hours),
                "{asked} of {base}"
            );
        }
    }

    #[test]
    fn a_url_lives_as_long_as_was_asked_and_allowed() {
        let limits = Limits {
            longest: SignedDuration::from_hours(1),
            now: Timestamp::UNIX_EPOCH,
        };
        for (case, asked, seconds) in [
            ("nothing is asked", None, Some(3_600)),
            ("less", Some(60), Some(60)),
            ("all", Some(3_600), Some(3_600)),
            ("too much", Some(3_601), None),
            ("negative", Some(-1), None),
        ] {
            let asked = asked.map(|seconds| prost_types::Duration { seconds, nanos: 0 });
            let upload = CreateUploadLocationRequest {
                expires_in: asked,
                ..Default::default()
            };
            let expected = seconds.map(|seconds| Expiry {
                length: SignedDuration::from_secs(seconds),
                at: Timestamp::from_second(seconds).unwrap(),
            });
            assert_eq!(of_upload(&upload, limits).ok(), expected, "{case}");
            let download = of_download(asked.as_ref(), limits, "");
            assert_eq!(download.ok(), expected, "{case}");
        }
    }
}
