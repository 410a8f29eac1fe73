//! Times on the wire and in the domain.

use jiff::Timestamp;

/// The wire form of a moment.
pub fn to_wire(moment: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: moment.as_second(),
        nanos: moment.subsec_nanosecond(),
    }
}

/// The moment in a wire timestamp; none when it is absent or out of range.
pub fn from_wire(moment: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    let moment = moment?;
    Timestamp::new(moment.seconds, moment.nanos).ok()
}

/// The wire form of a length of time in nanoseconds.
pub fn duration_to_wire(nanoseconds: i64) -> prost_types::Duration {
    const SECOND: i64 = 1_000_000_000;
    prost_types::Duration {
        seconds: nanoseconds / SECOND,
        // The remainder of a division by a billion fits.
        nanos: i32::try_from(nanoseconds % SECOND).unwrap_or_default(),
    }
}

/// Nanoseconds from `start` to `end`, as far as they fit.
pub fn nanoseconds_between(start: Timestamp, end: Timestamp) -> i64 {
    let nanoseconds = end.as_nanosecond() - start.as_nanosecond();
    i64::try_from(nanoseconds).unwrap_or(if nanoseconds < 0 { i64::MIN } else { i64::MAX })
}
