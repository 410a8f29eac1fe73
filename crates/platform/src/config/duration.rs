//! A length of time as Go writes it.

use std::{fmt, str::FromStr};

use flyte_core::duration::{self, DurationError};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Unexpected, Visitor},
};

/// A duration in configuration: Go text (`1h30m`, `300ms`, empty = 0) or a number of nanoseconds
/// (spec 07 §1.7). Negative values are kept; where a length of time is needed they count as zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration {
    nanoseconds: i64,
}

impl Duration {
    /// 0 s; what it means is said by each key.
    pub const ZERO: Self = Self { nanoseconds: 0 };

    /// Whole milliseconds.
    pub const fn milliseconds(count: i64) -> Self {
        Self {
            nanoseconds: count * 1_000_000,
        }
    }

    /// Whole seconds.
    pub const fn seconds(count: i64) -> Self {
        Self::milliseconds(count * 1_000)
    }

    /// Whole minutes.
    pub const fn minutes(count: i64) -> Self {
        Self::seconds(count * 60)
    }

    /// Whole hours.
    pub const fn hours(count: i64) -> Self {
        Self::minutes(count * 60)
    }

    /// For timers; negative is zero.
    pub fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_nanos(u64::try_from(self.nanoseconds).unwrap_or(0))
    }

    /// Whether there is nothing to wait for.
    pub const fn is_zero(self) -> bool {
        self.nanoseconds == 0
    }

    /// For arithmetic with timestamps.
    pub const fn to_signed(self) -> jiff::SignedDuration {
        jiff::SignedDuration::from_nanos(self.nanoseconds)
    }
}

impl FromStr for Duration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim().is_empty() {
            return Ok(Self::ZERO);
        }
        duration::parse(text.trim()).map(|nanoseconds| Self { nanoseconds })
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&duration::format(self.nanoseconds))
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

struct Written;

impl Visitor<'_> for Written {
    type Value = Duration;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a duration such as 300ms, 10s or 1h30m, or a number of nanoseconds")
    }

    fn visit_i64<E: Error>(self, nanoseconds: i64) -> Result<Duration, E> {
        Ok(Duration { nanoseconds })
    }

    fn visit_u64<E: Error>(self, nanoseconds: u64) -> Result<Duration, E> {
        i64::try_from(nanoseconds)
            .map(|nanoseconds| Duration { nanoseconds })
            .map_err(|_too_long| E::invalid_value(Unexpected::Unsigned(nanoseconds), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        if let Ok(nanoseconds) = text.parse() {
            return Ok(Duration { nanoseconds });
        }
        text.parse()
            .map_err(|_unreadable: DurationError| E::invalid_value(Unexpected::Str(text), &self))
    }
}
