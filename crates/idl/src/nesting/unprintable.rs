//! Values that messages can have and JSON cannot.

use crate::json::time;

/// What JSON has no text for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unprintable {
    /// In a `google.protobuf.Value`.
    #[error("a number of a google.protobuf.Value is NaN or infinite, which JSON cannot say")]
    Number,
    /// A moment.
    #[error(
        "a google.protobuf.Timestamp is not of the years 1 to 9999, or has its nanoseconds out of range"
    )]
    Timestamp,
    /// A length of time.
    #[error(
        "a google.protobuf.Duration is longer than 10000 years, or has its nanoseconds out of range"
    )]
    Duration,
}

impl Unprintable {
    /// Whether JSON has a text with this number in a field of the kind.
    pub(super) fn allows_varint(self, field: u32, value: u64) -> bool {
        let number = i64::from_ne_bytes(value.to_ne_bytes());
        match (self, field) {
            (Self::Timestamp, 1) => time::is_timestamp(number),
            (Self::Timestamp, 2) => (0..1_000_000_000).contains(&number),
            (Self::Duration, 1) => time::is_duration(number),
            (Self::Duration, 2) => (-999_999_999..=999_999_999).contains(&number),
            _ => true,
        }
    }
}
