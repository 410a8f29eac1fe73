//! Moments and lengths of time, from and to their messages.

use jiff::Timestamp;

/// The message of a moment.
pub fn to_wire(moment: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: moment.as_second(),
        nanos: moment.subsec_nanosecond(),
    }
}

/// The moment of a message; none when it is absent or out of range.
pub fn from_wire(moment: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    let moment = moment?;
    Timestamp::new(moment.seconds, moment.nanos).ok()
}

/// The message of a length of time in nanoseconds.
pub fn duration_to_wire(nanoseconds: i64) -> prost_types::Duration {
    const SECOND: i64 = 1_000_000_000;
    prost_types::Duration {
        seconds: nanoseconds / SECOND,
        // The remainder of a division by a billion fits.
        nanos: i32::try_from(nanoseconds % SECOND).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_come_back_to_the_nanosecond_and_others_are_none() {
        for text in [
            "1970-01-01T00:00:00Z",
            "1969-12-31T23:59:59.999999999Z",
            "2026-01-01T00:00:00.000000001Z",
        ] {
            let moment: Timestamp = text.parse().unwrap();
            assert_eq!(from_wire(Some(&to_wire(moment))), Some(moment));
        }
        let late = prost_types::Timestamp {
            seconds: i64::MAX,
            nanos: 0,
        };
        assert_eq!(from_wire(Some(&late)), None);
        assert_eq!(from_wire(None), None);
    }

    #[test]
    fn lengths_keep_their_sign() {
        for (nanoseconds, seconds, nanos) in [
            (1_500_000_000, 1, 500_000_000),
            (-1_500_000_000, -1, -500_000_000),
            (7, 0, 7),
        ] {
            let found = duration_to_wire(nanoseconds);
            assert_eq!((found.seconds, found.nanos), (seconds, nanos));
        }
    }
}
