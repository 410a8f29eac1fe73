//! Durations in Go's text form, such as `1h2m3.5s`.

use std::fmt::Write as _;

/// Why a text is not a Go duration; the display text is Go's own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// The text has no number where one must be, or does not fit 64 bits of nanoseconds.
    #[error("time: invalid duration {0}")]
    Invalid(Quoted),
    /// A number without a unit.
    #[error("time: missing unit in duration {0}")]
    MissingUnit(Quoted),
    /// A unit that Go does not know.
    #[error("time: unknown unit {unit} in duration {text}")]
    UnknownUnit {
        /// What stands where a unit of Go's durations should.
        unit: Quoted,
        /// The whole text.
        text: Quoted,
    },
}

/// A text in double quotes as Go's package `time` writes it. Unlike `%q` (`flyte_idl::text::quoted`) it writes each byte of
/// what is not ASCII, and each control character, as `\xNN`, and DEL as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quoted(String);

impl std::fmt::Display for Quoted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_char('"')?;
        for byte in self.0.bytes() {
            match byte {
                b'"' | b'\\' => write!(f, "\\{}", char::from(byte))?,
                b' '..=0x7f => f.write_char(char::from(byte))?,
                _ => write!(f, "\\x{byte:02x}")?,
            }
        }
        f.write_char('"')
    }
}

/// Reads a Go duration: a sequence of numbers with units `ns`, `us`, `µs`, `ms`, `s`, `m`, `h`, with an
/// optional sign, or `0`. The result is in nanoseconds.
pub fn parse(text: &str) -> Result<i64, DurationError> {
    let invalid = || DurationError::Invalid(Quoted(text.to_owned()));
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..).unwrap_or_default()),
        Some(b'+') => (false, text.get(1..).unwrap_or_default()),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, after_whole) = digits(rest);
        let (fraction, after_fraction) = match after_whole.strip_prefix('.') {
            Some(after_point) => digits(after_point),
            None => ("", after_whole),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let end = after_fraction
            .find(|character: char| character == '.' || character.is_ascii_digit())
            .unwrap_or(after_fraction.len());
        let (unit, remaining) = after_fraction.split_at(end);
        if unit.is_empty() {
            return Err(DurationError::MissingUnit(Quoted(text.to_owned())));
        }
        let scale: u64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => {
                return Err(DurationError::UnknownUnit {
                    unit: Quoted(unit.to_owned()),
                    text: Quoted(text.to_owned()),
                });
            }
        };
        let whole: u64 = if whole.is_empty() {
            0
        } else {
            whole.parse().map_err(|_| invalid())?
        };
        let part = whole
            .checked_mul(scale)
            .and_then(|part| part.checked_add(fraction_of(fraction, scale)))
            .ok_or_else(invalid)?;
        total = total.checked_add(part).ok_or_else(invalid)?;
        rest = remaining;
    }
    if negative {
        0i64.checked_sub_unsigned(total).ok_or_else(invalid)
    } else {
        i64::try_from(total).map_err(|_| invalid())
    }
}

fn digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// `0.fraction * scale`, cut to whole nanoseconds.
fn fraction_of(fraction: &str, scale: u64) -> u64 {
    let (mut value, mut unit) = (0u128, 1u128);
    for digit in fraction.bytes().take(20) {
        value = value * 10 + u128::from(digit - b'0');
        unit *= 10;
    }
    u64::try_from(value * u128::from(scale) / unit).unwrap_or(u64::MAX)
}

/// The text that Go prints for a duration in nanoseconds: `1h2m3.5s`, `1.5ms`, `0s`.
pub fn format(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let amount = nanoseconds.unsigned_abs();
    if amount == 0 {
        return "0s".to_owned();
    }
    if amount < 1_000_000_000 {
        let (unit, scale) = match amount {
            ..1_000 => ("ns", 1),
            1_000..1_000_000 => ("µs", 1_000),
            _ => ("ms", 1_000_000),
        };
        return format!("{sign}{}{unit}", decimal(amount, scale));
    }
    let minutes = amount / 60_000_000_000;
    let seconds = decimal(amount % 60_000_000_000, 1_000_000_000);
    if minutes == 0 {
        format!("{sign}{seconds}s")
    } else if minutes < 60 {
        format!("{sign}{minutes}m{seconds}s")
    } else {
        format!("{sign}{}h{}m{seconds}s", minutes / 60, minutes % 60)
    }
}

fn decimal(amount: u64, scale: u64) -> String {
    let fraction = amount % scale;
    if fraction == 0 {
        return (amount / scale).to_string();
    }
    let width = scale.ilog10() as usize;
    let text = format!("{}.{fraction:0width$}", amount / scale);
    text.trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_texts_are_read() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("1h2m3.5s", 3_723_500_000_000),
            ("-1.5h", -5_400_000_000_000),
            ("+5s", 5_000_000_000),
            ("100ms", 100_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("1µs1us", 2_000),
            ("3ns", 3),
            ("-9223372036854775808ns", i64::MIN),
        ] {
            assert_eq!(parse(text), Ok(nanoseconds), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_the_words_of_go() {
        for (text, expected) in [
            ("", "time: invalid duration \"\""),
            ("zz", "time: invalid duration \"zz\""),
            ("10", "time: missing unit in duration \"10\""),
            ("1x", "time: unknown unit \"x\" in duration \"1x\""),
            (
                "\"\\\n\u{7f}",
                "time: invalid duration \"\\\"\\\\\\x0a\u{7f}\"",
            ),
            (
                "1é",
                r#"time: unknown unit "\xc3\xa9" in duration "1\xc3\xa9""#,
            ),
            (
                "9223372036854775808ns",
                "time: invalid duration \"9223372036854775808ns\"",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn durations_print_as_in_go() {
        for (nanoseconds, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (2_000_000, "2ms"),
            (1_500_000_000, "1.5s"),
            (60_000_000_000, "1m0s"),
            (3_723_500_000_000, "1h2m3.5s"),
            (-5_400_000_000_000, "-1h30m0s"),
        ] {
            assert_eq!(format(nanoseconds), text);
            assert_eq!(parse(text), Ok(nanoseconds));
        }
    }
}
