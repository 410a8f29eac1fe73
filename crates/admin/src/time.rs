//! Times on the wire and in the domain.

pub use flyte_idl::time::{duration_to_wire, from_wire, to_wire};
use jiff::Timestamp;

/// Nanoseconds from `start` to `end`, as far as they fit.
pub fn nanoseconds_between(start: Timestamp, end: Timestamp) -> i64 {
    let nanoseconds = end.as_nanosecond() - start.as_nanosecond();
    i64::try_from(nanoseconds).unwrap_or(if nanoseconds < 0 { i64::MIN } else { i64::MAX })
}
