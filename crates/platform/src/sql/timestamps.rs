//! PostgreSQL's timestamp input, for filter text on both databases.
//!
//! Understood: ISO 8601 dates and times with blank or `T` between, an optional fraction, an optional
//! offset (`Z`, `+02`, `+02:30`, `UTC`; none means UTC), and the words `now`, `today`, `yesterday`,
//! `tomorrow`, `epoch`, `infinity`.

use jiff::{
    SignedDuration, Timestamp, ToSpan as _,
    civil::{Date, DateTime, Time},
    tz::{Offset, TimeZone},
};

/// Why text is no timestamp; the texts are PostgreSQL's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimestampSyntaxError {
    /// Not a timestamp in any form.
    #[error("invalid input syntax for type timestamp with time zone: \"{0}\"")]
    Syntax(String),
    /// A timestamp in form with a field that no calendar has.
    #[error("date/time field value out of range: \"{0}\"")]
    OutOfRange(String),
}

/// Before every moment that is stored, and one that PostgreSQL has: its calendar begins in 4714 BC.
const EARLIEST: Timestamp = Timestamp::constant(-210_000_000_000, 0);

/// Reads `text` as PostgreSQL would in a session whose time zone is UTC.
pub fn parse_timestamp(text: &str, now: Timestamp) -> Result<Timestamp, TimestampSyntaxError> {
    let trimmed = text.trim();
    let today = now.to_zoned(TimeZone::UTC).date();
    let midnight = |date: Date| Offset::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok();
    let word = match trimmed.to_ascii_lowercase().as_str() {
        "now" => Some(now),
        "today" => midnight(today),
        "yesterday" => today.checked_sub(1.day()).ok().and_then(midnight),
        "tomorrow" => today.checked_add(1.day()).ok().and_then(midnight),
        "epoch" => Some(Timestamp::UNIX_EPOCH),
        "infinity" | "+infinity" => Some(Timestamp::MAX),
        "-infinity" => Some(EARLIEST),
        _ => None,
    };
    if let Some(moment) = word {
        return Ok(moment);
    }
    let syntax = || TimestampSyntaxError::Syntax(text.to_owned());
    let range = || TimestampSyntaxError::OutOfRange(text.to_owned());
    if !trimmed.is_empty() && trimmed.bytes().all(|byte| byte.is_ascii_digit()) {
        return compact_date(trimmed).ok_or_else(range);
    }
    let (date, rest) = split_date(trimmed).ok_or_else(syntax)?;
    let (time, offset) = split_time(rest).ok_or_else(syntax)?;
    let date = Date::new(date.0, date.1, date.2).map_err(|_error| range())?;
    let (time, extra) = civil_time(time).ok_or_else(range)?;
    let moment = Offset::UTC
        .to_timestamp(DateTime::from_parts(date, time))
        .map_err(|_error| range())?;
    moment
        .checked_add(extra)
        .and_then(|moment| moment.checked_sub(SignedDuration::from_secs(offset)))
        .map_err(|_error| range())
}

/// `20200101`: all digits is a date without separators.
fn compact_date(text: &str) -> Option<Timestamp> {
    if text.len() != 8 {
        return None;
    }
    let date = Date::new(
        text.get(..4)?.parse().ok()?,
        text.get(4..6)?.parse().ok()?,
        text.get(6..)?.parse().ok()?,
    )
    .ok()?;
    Offset::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok()
}

type YearMonthDay = (i16, i8, i8);

/// `2020-1-31…` and what follows it.
fn split_date(text: &str) -> Option<(YearMonthDay, &str)> {
    let end = text
        .find(|character: char| !character.is_ascii_digit() && character != '-')
        .unwrap_or(text.len());
    let (date, rest) = text.split_at_checked(end)?;
    let mut parts = date.split('-');
    let year = parts.next()?;
    if year.len() < 4 {
        return None;
    }
    let date = (
        year.parse().ok()?,
        parts.next()?.parse().ok()?,
        parts.next()?.parse().ok()?,
    );
    parts.next().is_none().then_some((date, rest))
}

/// Hour, minute, second and nanosecond.
type Clock = (i8, i8, i8, i32);

/// Time of day and offset in seconds east of UTC.
fn split_time(text: &str) -> Option<(Clock, i64)> {
    let text = text.strip_prefix(['T', 't', ' ']).unwrap_or(text).trim();
    let end = text
        .find(|character: char| !matches!(character, '0'..='9' | ':' | '.'))
        .unwrap_or(text.len());
    let (clock, zone) = text.split_at_checked(end)?;
    let clock = if clock.is_empty() {
        (0, 0, 0, 0)
    } else {
        let mut parts = clock.split(':');
        let hour = parts.next()?.parse().ok()?;
        let minute = parts.next()?.parse().ok()?;
        let (second, nanos) = match parts.next() {
            None => (0, 0),
            Some(seconds) => seconds_and_nanos(seconds)?,
        };
        if parts.next().is_some() {
            return None;
        }
        (hour, minute, second, nanos)
    };
    Some((clock, offset(zone.trim())?))
}

fn seconds_and_nanos(text: &str) -> Option<(i8, i32)> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    Some((seconds.parse().ok()?, digits.parse().ok()?))
}

fn offset(text: &str) -> Option<i64> {
    if matches!(text.to_ascii_lowercase().as_str(), "" | "z" | "utc" | "gmt") {
        return Some(0);
    }
    let (sign, digits) = match text.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let digits = digits.replace(':', "");
    let (hours, minutes) = match digits.len() {
        1 | 2 => (digits.as_str(), "0"),
        4 => digits.split_at_checked(2)?,
        _ => return None,
    };
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    Some(sign * (hours * 3600 + minutes * 60))
}

/// 24:00:00 and a leap second mean the next day or minute, as in PostgreSQL.
fn civil_time((hour, minute, second, nanos): Clock) -> Option<(Time, SignedDuration)> {
    if (hour, minute, second, nanos) == (24, 0, 0, 0) {
        return Some((Time::midnight(), SignedDuration::from_hours(24)));
    }
    if second == 60 {
        let time = Time::new(hour, minute, 59, nanos).ok()?;
        return Some((time, SignedDuration::from_secs(1)));
    }
    Some((
        Time::new(hour, minute, second, nanos).ok()?,
        SignedDuration::ZERO,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_text_reads_as_postgresql_reads_it() {
        let now: Timestamp = "2026-11-21T13:45:00Z".parse().unwrap();
        for (text, expected) in [
            ("2020-01-01T00:00:00Z", "2020-01-01T00:00:00Z"),
            ("2020-01-01", "2020-01-01T00:00:00Z"),
            ("2020-01-01 12:30", "2020-01-01T12:30:00Z"),
            ("2020-01-01 12:30:15.25+02:30", "2020-01-01T10:00:15.25Z"),
            ("2020-01-01T12:30:15-0730", "2020-01-01T20:00:15Z"),
            ("20200131", "2020-01-31T00:00:00Z"),
            ("yesterday", "2026-11-20T00:00:00Z"),
            ("now", "2026-11-21T13:45:00Z"),
        ] {
            assert_eq!(
                parse_timestamp(text, now).unwrap().to_string(),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn other_text_is_refused_in_its_words() {
        for (text, expected) in [
            (
                "notatime",
                "invalid input syntax for type timestamp with time zone: \"notatime\"",
            ),
            (
                "1577836800",
                "date/time field value out of range: \"1577836800\"",
            ),
            (
                "2020-13-01",
                "date/time field value out of range: \"2020-13-01\"",
            ),
            (
                "",
                "invalid input syntax for type timestamp with time zone: \"\"",
            ),
        ] {
            let error = parse_timestamp(text, Timestamp::UNIX_EPOCH).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}
