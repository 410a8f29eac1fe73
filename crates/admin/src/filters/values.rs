//! Values in filters: text read as the type of the column, with PostgreSQL's words for what it is not (spec 01 §5.3).

use flyte_core::duration;
use flyte_platform::sql::parse_timestamp;
use jiff::Timestamp;
use sea_query::Value;

use super::entities::Kind;
use crate::error::{Error, Result};

/// What PostgreSQL calls the type of a column.
pub(super) fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "text",
        Kind::Integer => "integer",
        Kind::BigInteger | Kind::Duration => "bigint",
        Kind::Time => "timestamp with time zone",
        Kind::Bytes => "bytea",
    }
}

/// Reads the text of a value as its column's type; `now` is what relative times are counted from.
///
/// # Errors
/// INVALID_ARGUMENT in PostgreSQL's words.
pub(super) fn read_value(kind: Kind, value: &str, now: Timestamp) -> Result<Value> {
    let refused = |text: String| Error::Invalid(format!("failed database operation with {text}"));
    match kind {
        Kind::Text => Ok(value.into()),
        Kind::Bytes => Ok(value.as_bytes().to_vec().into()),
        Kind::Time => parse_timestamp(value, now)
            .map(Value::from)
            .map_err(|error| refused(error.to_string())),
        Kind::Duration => read_duration(value).map(Value::from),
        Kind::Integer | Kind::BigInteger => {
            let name = type_name(kind);
            let trimmed = value.trim();
            let digits = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(refused(format!(
                    "invalid input syntax for type {name}: \"{value}\""
                )));
            }
            let number = trimmed
                .parse::<i64>()
                .ok()
                .filter(|number| kind == Kind::BigInteger || i32::try_from(*number).is_ok());
            number.map(Value::from).ok_or_else(|| {
                refused(format!("value \"{value}\" is out of range for type {name}"))
            })
        }
    }
}

/// Seconds as a number, or a Go duration; nanoseconds.
fn read_duration(value: &str) -> Result<i64> {
    let text = match value.parse::<f64>() {
        Ok(seconds) => format!("{}s", go_float(seconds)),
        Err(_not_a_number) => value.to_owned(),
    };
    duration::parse(&text)
        .map_err(|_error| Error::Invalid(format!("Failed to parse duration [{text}]")))
}

/// A float as Go's `%v` prints it.
fn go_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let size = value.abs();
    if value == 0.0 || (1e-4..1e21).contains(&size) {
        return value.to_string();
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => match exponent.strip_prefix('-') {
            Some(digits) => format!("{mantissa}e-{digits:0>2}"),
            None => format!("{mantissa}e+{exponent:0>2}"),
        },
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_seconds_or_go_text() {
        for (text, expected) in [
            ("1h30m", 5_400_000_000_000),
            ("1.5", 1_500_000_000),
            ("-2", -2_000_000_000),
        ] {
            assert_eq!(read_duration(text).unwrap(), expected, "{text}");
        }
    }
}
