//! Timestamps and durations in their JSON form.

use prost_types::{Duration, Timestamp};

const NANOS: i32 = 1_000_000_000;
const DAY: i64 = 86_400;
/// Seconds of the first and the last second of the years 1 and 9999.
const YEARS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
const MAX_DURATION: i64 = 315_576_000_000;

/// `2019-03-29T12:00:00Z` with 0, 3, 6 or 9 fractional digits. Nanoseconds must lie in [0, 1e9).
pub fn format_timestamp(time: &Timestamp) -> Result<String, String> {
    if !(0..NANOS).contains(&time.nanos) {
        return Err(format!("ns out of range [0, {NANOS})"));
    }
    let (days, second) = (time.seconds.div_euclid(DAY), time.seconds.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    let sign = if year < 0 { "-" } else { "" };
    Ok(format!(
        "{sign}{:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}{}Z",
        year.abs(),
        second / 3600,
        second / 60 % 60,
        second % 60,
        fraction(time.nanos.unsigned_abs())
    ))
}

/// `3.500s` with 0, 3, 6 or 9 fractional digits; at most 315576000000 seconds, seconds and nanoseconds of one sign.
pub fn format_duration(duration: &Duration) -> Result<String, String> {
    let Duration { seconds, nanos } = *duration;
    if !(-MAX_DURATION..=MAX_DURATION).contains(&seconds) {
        return Err(format!("seconds out of range {seconds}"));
    }
    if nanos <= -NANOS || nanos >= NANOS {
        return Err(format!("ns out of range (-{NANOS}, {NANOS})"));
    }
    if (seconds > 0 && nanos < 0) || (seconds < 0 && nanos > 0) {
        return Err("signs of seconds and nanos do not match".to_owned());
    }
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    Ok(format!(
        "{sign}{}{}s",
        seconds.unsigned_abs(),
        fraction(nanos.unsigned_abs())
    ))
}

/// The nearest moment that JSON has a text for: of the years 1 to 9999.
pub(super) fn nearest_timestamp(time: Timestamp) -> Timestamp {
    let nanos = time.nanos.clamp(0, NANOS - 1);
    let (first, last) = (*YEARS.start(), *YEARS.end());
    match time.seconds {
        before if before < first => Timestamp {
            seconds: first,
            nanos: 0,
        },
        after if after > last => Timestamp {
            seconds: last,
            nanos: NANOS - 1,
        },
        seconds => Timestamp { seconds, nanos },
    }
}

/// The nearest duration that JSON has a text for.
pub(super) fn nearest_duration(duration: Duration) -> Duration {
    let seconds = duration.seconds.clamp(-MAX_DURATION, MAX_DURATION);
    let nanos = duration.nanos.clamp(1 - NANOS, NANOS - 1);
    Duration {
        seconds,
        nanos: match seconds {
            0 => nanos,
            positive if positive > 0 => nanos.max(0),
            _ => nanos.min(0),
        },
    }
}

/// Whether JSON has a text for a moment of these seconds.
pub(crate) fn is_timestamp(seconds: i64) -> bool {
    YEARS.contains(&seconds)
}

/// Whether JSON has a text for a duration of these seconds.
pub(crate) fn is_duration(seconds: i64) -> bool {
    (-MAX_DURATION..=MAX_DURATION).contains(&seconds)
}

fn fraction(nanos: u32) -> String {
    if nanos == 0 {
        String::new()
    } else if nanos.is_multiple_of(1_000_000) {
        format!(".{:03}", nanos / 1_000_000)
    } else if nanos.is_multiple_of(1_000) {
        format!(".{:06}", nanos / 1_000)
    } else {
        format!(".{nanos:09}")
    }
}

/// Reads an RFC 3339 time of the years 1 to 9999 with at most nine fractional digits.
pub fn parse_timestamp(text: &str) -> Option<Timestamp> {
    let (date, rest) = text.split_at_checked(10)?;
    let (clock, rest) = rest.strip_prefix('T')?.split_at_checked(8)?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let (fraction, zone) = match rest.strip_prefix('.') {
        Some(rest) => {
            let end = rest.find(|c: char| !c.is_ascii_digit())?;
            let (digits, zone) = rest.split_at(end);
            if digits.is_empty() || digits.len() > 9 {
                return None;
            }
            (digits, zone)
        }
        None => ("", rest),
    };
    let offset = if zone == "Z" {
        0
    } else {
        let sign = match zone.as_bytes().first() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return None,
        };
        let [hours, minutes] = numbers(zone.get(1..)?, ':', [2, 2])?;
        if hours > 23 || minutes > 59 {
            return None;
        }
        sign * (hours * 3600 + minutes * 60)
    };
    if !(1..=12).contains(&month) || !(1..=days_in(year, month)).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = days_from_civil(year, month, day) * DAY + hour * 3600 + minute * 60 + second;
    let seconds = seconds - offset;
    YEARS.contains(&seconds).then_some(Timestamp {
        seconds,
        nanos: nanos(fraction)?,
    })
}

/// Reads a JSON duration: decimal seconds with at most nine fractional digits and the suffix `s`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let number = text.strip_suffix('s')?;
    let (negative, number) = match number.strip_prefix('-') {
        Some(number) => (true, number),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
        return None;
    }
    if fraction.len() > 9 {
        return None;
    }
    let seconds: i64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let nanos = nanos(fraction)?;
    if seconds > MAX_DURATION {
        return None;
    }
    Some(if negative {
        Duration {
            seconds: -seconds,
            nanos: -nanos,
        }
    } else {
        Duration { seconds, nanos }
    })
}

/// Up to nine digits as nanoseconds.
fn nanos(fraction: &str) -> Option<i32> {
    format!("{fraction:0<9}").parse().ok()
}

/// Numbers of exact widths with a separator between them.
fn numbers<const N: usize>(text: &str, separator: char, widths: [usize; N]) -> Option<[i64; N]> {
    let mut numbers = [0; N];
    let mut parts = text.split(separator);
    for (number, width) in numbers.iter_mut().zip(widths) {
        let part = parts.next()?;
        if part.len() != width || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let of_era = shifted.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The date of a day since 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_written_and_read() {
        for (text, seconds, nanos) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("0001-01-01T00:00:00Z", -62_135_596_800, 0),
            (
                "9999-12-31T23:59:59.999999999Z",
                253_402_300_799,
                999_999_999,
            ),
            ("2019-03-29T12:00:00.500Z", 1_553_860_800, 500_000_000),
            ("2024-02-29T00:00:00.000001Z", 1_709_164_800, 1_000),
        ] {
            let time = Timestamp { seconds, nanos };
            assert_eq!(format_timestamp(&time).as_deref(), Ok(text));
            assert_eq!(parse_timestamp(text), Some(time));
        }
        assert_eq!(
            parse_timestamp("2019-03-29T13:00:00.5+01:00").map(|time| time.seconds),
            Some(1_553_860_800)
        );
        for text in [
            "yesterday",
            "2023-02-29T00:00:00Z",
            "2019-03-29T12:00:00",
            "2019-3-29T12:00:00Z",
            "0000-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
    }

    #[test]
    fn durations_are_written_and_read() {
        for (text, seconds, nanos) in [
            ("0s", 0, 0),
            ("60s", 60, 0),
            ("-0.001s", 0, -1_000_000),
            ("3.500s", 3, 500_000_000),
            ("315576000000s", MAX_DURATION, 0),
        ] {
            let duration = Duration { seconds, nanos };
            assert_eq!(format_duration(&duration).as_deref(), Ok(text));
            assert_eq!(parse_duration(text), Some(duration));
        }
        for text in ["1", "s", "1h", "315576000001s", "0.0000000001s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        let mixed = Duration {
            seconds: 1,
            nanos: -1,
        };
        assert!(format_duration(&mixed).is_err());
    }
}
