//! Times as Kubernetes and Go print them.

use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// `metav1.Time`: whole seconds, UTC, `2024-01-02T03:04:05Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(Timestamp);

impl Time {
    /// The second that `time` lies in.
    pub fn new(time: Timestamp) -> Self {
        let whole = TimestampRound::new()
            .smallest(Unit::Second)
            .mode(RoundMode::Floor);
        // Rounding down fails only below the earliest timestamp.
        Self(time.round(whole).unwrap_or(time))
    }

    /// As a timestamp.
    pub fn timestamp(self) -> Timestamp {
        self.0
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map(Self::new).map_err(D::Error::custom)
    }
}

/// Go's `time.Time`: nanoseconds, always present; never set is the year 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NanoTime(pub Option<Timestamp>);

/// How Go prints a time that was never set.
const NEVER: &str = "0001-01-01T00:00:00Z";

impl Serialize for NanoTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            None => serializer.serialize_str(NEVER),
            Some(time) => serializer.collect_str(&time),
        }
    }
}

impl<'de> Deserialize<'de> for NanoTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        if text == NEVER {
            return Ok(Self(None));
        }
        text.parse()
            .map(|time| Self(Some(time)))
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_lose_their_fraction_and_never_round_up() {
        let time = Time::new("2024-01-02T03:04:05.999Z".parse().unwrap());
        assert_eq!(
            serde_json::to_string(&time).unwrap(),
            "\"2024-01-02T03:04:05Z\""
        );
    }

    #[test]
    fn a_time_never_set_is_the_year_one() {
        let text = format!("\"{NEVER}\"");
        let read: NanoTime = serde_json::from_str(&text).unwrap();
        assert_eq!(read, NanoTime(None));
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        let text = "\"2026-11-21T12:36:35.397994149Z\"";
        let read: NanoTime = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }
}
