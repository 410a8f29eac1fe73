//! What a request asks of an object before it is read, written or removed, and which part of it.

use std::ops::Range;

use s3s::dto::{ETag, ETagCondition, Timestamp, TimestampFormat};
use s3s::{S3Error, S3ErrorCode, S3Result};

use crate::s3::wire::{part_number, time};
use crate::s3::{DeleteIf, Info, WriteIf};

/// The condition of a write, from `If-Match` and `If-None-Match`.
pub(crate) fn write_if(
    matches: Option<ETagCondition>,
    none_matches: Option<&ETagCondition>,
) -> S3Result<WriteIf> {
    match (matches, none_matches) {
        (None, None) => Ok(WriteIf::Always),
        (None, Some(ETagCondition::Any)) => Ok(WriteIf::Absent),
        (Some(ETagCondition::Any), None) => Ok(WriteIf::Present),
        (Some(ETagCondition::ETag(etag)), None) => Ok(WriteIf::Matches(etag.into_value())),
        _ => Err(S3Error::with_message(
            S3ErrorCode::NotImplemented,
            "this combination of conditions on a write",
        )),
    }
}

/// The conditions of a read.
pub(crate) struct ReadIf<'a> {
    pub(crate) matches: Option<&'a ETagCondition>,
    pub(crate) none_matches: Option<&'a ETagCondition>,
    pub(crate) modified_since: Option<&'a Timestamp>,
    pub(crate) unmodified_since: Option<&'a Timestamp>,
}

impl ReadIf<'_> {
    pub(crate) fn check(&self, info: &Info) -> S3Result<()> {
        let is = |condition: &ETagCondition| match condition {
            ETagCondition::Any => true,
            ETagCondition::ETag(etag) => etag.value() == info.etag,
        };
        // HTTP dates have whole seconds.
        let seconds =
            jiff::Timestamp::from_second(info.modified.as_second()).unwrap_or(info.modified);
        let modified = time(seconds);
        if self.matches.is_some_and(|condition| !is(condition))
            || (self.matches.is_none()
                && self.unmodified_since.is_some_and(|since| modified > *since))
        {
            return Err(S3Error::new(S3ErrorCode::PreconditionFailed));
        }
        if self.none_matches.is_some_and(is)
            || (self.none_matches.is_none()
                && self.modified_since.is_some_and(|since| modified <= *since))
        {
            return Err(S3Error::new(S3ErrorCode::NotModified));
        }
        Ok(())
    }
}

/// What of an object is answered.
pub(crate) struct Selected {
    pub(crate) range: Range<u64>,
    pub(crate) content_range: Option<String>,
    /// How many parts the object has, when one was asked for.
    pub(crate) count: Option<i32>,
}

impl Selected {
    pub(crate) fn of(
        info: &Info,
        range: Option<&s3s::dto::Range>,
        part: Option<i32>,
    ) -> S3Result<Self> {
        let (range, count) = match (range, part) {
            (Some(_), Some(_)) => {
                let message = "Cannot specify both Range header and partNumber query parameter";
                return Err(S3Error::with_message(S3ErrorCode::InvalidRequest, message));
            }
            (Some(range), None) => (range.check(info.size)?, None),
            (None, Some(number)) => part_range(info, number)?,
            (None, None) => {
                return Ok(Self {
                    range: 0..info.size,
                    content_range: None,
                    count: None,
                });
            }
        };
        let text = format!(
            "bytes {}-{}/{}",
            range.start,
            range.end.saturating_sub(1),
            info.size
        );
        Ok(Self {
            // Of nothing there is no range.
            content_range: (!range.is_empty()).then_some(text),
            range,
            count,
        })
    }
}

/// The part of an object that is asked for: its range, and how many parts there are.
fn part_range(info: &Info, number: i32) -> S3Result<(Range<u64>, Option<i32>)> {
    let place = usize::try_from(part_number(number)?).unwrap_or(usize::MAX);
    let found = match &info.parts {
        Some(parts) => parts
            .range(place)
            .map(|range| (range, i32::try_from(parts.sizes.len()).ok())),
        None => (place == 1).then_some((0..info.size, None)),
    };
    found.ok_or_else(|| {
        S3Error::with_message(
            S3ErrorCode::InvalidRange,
            "The requested partnumber is not satisfiable",
        )
    })
}

/// The conditions of a delete.
pub(crate) fn delete_if(
    etag: Option<&ETagCondition>,
    size: Option<i64>,
    modified: Option<&Timestamp>,
) -> DeleteIf {
    let seconds = |at: &Timestamp| {
        let mut text = Vec::new();
        at.format(TimestampFormat::EpochSeconds, &mut text).ok()?;
        let text = String::from_utf8(text).ok()?;
        text.split('.').next()?.parse().ok()
    };
    DeleteIf {
        present: etag.is_some(),
        etag: match etag {
            Some(ETagCondition::ETag(etag)) => Some(etag.value().to_owned()),
            Some(ETagCondition::Any) | None => None,
        },
        // No object has a negative size.
        size: size.map(|size| u64::try_from(size).unwrap_or(u64::MAX)),
        modified: modified.map(|at| seconds(at).unwrap_or(i64::MIN)),
    }
}

/// The condition on what a copy replaces; its input has no members for it.
pub(crate) fn condition_of_copy(headers: &http::HeaderMap) -> S3Result<WriteIf> {
    let given = |name: http::header::HeaderName| {
        let text = headers.get(name)?.to_str().ok()?.trim().to_owned();
        Some(if text == "*" {
            ETagCondition::Any
        } else {
            ETagCondition::ETag(ETag::Strong(text.trim_matches('"').to_owned()))
        })
    };
    write_if(
        given(http::header::IF_MATCH),
        given(http::header::IF_NONE_MATCH).as_ref(),
    )
}
