//! Cron text as the reference's parser takes it (spec 01 §10.1, schedule rules): five fields or a
//! descriptor, with an optional time zone in front. Only checks; the scheduler interprets.

use flyte_core::duration;
use flyte_idl::text::quoted;
use jiff::tz::TimeZone;

struct Field {
    min: u32,
    max: u32,
    names: &'static [&'static str],
    /// Number of the first name.
    first_name: u32,
}

const FIELDS: [Field; 5] = [
    Field {
        min: 0,
        max: 59,
        names: &[],
        first_name: 0,
    },
    Field {
        min: 0,
        max: 23,
        names: &[],
        first_name: 0,
    },
    Field {
        min: 1,
        max: 31,
        names: &[],
        first_name: 0,
    },
    Field {
        min: 1,
        max: 12,
        names: &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
        first_name: 1,
    },
    Field {
        min: 0,
        max: 6,
        names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
        first_name: 0,
    },
];

const DESCRIPTORS: [&str; 7] = [
    "@yearly",
    "@annually",
    "@monthly",
    "@weekly",
    "@daily",
    "@midnight",
    "@hourly",
];

/// Checks cron text.
///
/// # Errors
/// The reference's text of what is wrong.
pub(crate) fn check(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("empty spec string".to_owned());
    }
    let rest = without_zone(text)?;
    if rest.starts_with('@') {
        return descriptor(rest);
    }
    let fields: Vec<&str> = rest.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!(
            "expected exactly 5 fields, found {}: [{}]",
            fields.len(),
            fields.join(" ")
        ));
    }
    for (text, field) in fields.iter().zip(&FIELDS) {
        for range in text.split(',').filter(|range| !range.is_empty()) {
            check_range(range, field)?;
        }
    }
    Ok(())
}

fn without_zone(text: &str) -> Result<&str, String> {
    let Some(after) = text
        .strip_prefix("TZ=")
        .or_else(|| text.strip_prefix("CRON_TZ="))
    else {
        return Ok(text);
    };
    let (zone, rest) = after.split_once(' ').unwrap_or((after, ""));
    if !zone.is_empty() && zone != "Local" && TimeZone::get(zone).is_err() {
        return Err(format!(
            "provided bad location {zone}: unknown time zone {zone}"
        ));
    }
    Ok(rest.trim())
}

fn descriptor(text: &str) -> Result<(), String> {
    if DESCRIPTORS.contains(&text) {
        return Ok(());
    }
    match text.strip_prefix("@every ") {
        Some(every) => match duration::parse(every) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("failed to parse duration {text}: {error}")),
        },
        None => Err(format!("unrecognized descriptor: {text}")),
    }
}

fn check_range(range: &str, field: &Field) -> Result<(), String> {
    let parts: Vec<&str> = range.split('/').collect();
    let bounds: Vec<&str> = parts.first().map_or("", |part| part).split('-').collect();
    let first = bounds.first().copied().unwrap_or_default();
    let (start, mut end) = if matches!(first, "*" | "?") {
        (field.min, field.max)
    } else {
        let start = number_or_name(first, field)?;
        let end = match bounds.as_slice() {
            [_] => start,
            [_, last] => number_or_name(last, field)?,
            _ => return Err(format!("too many hyphens: {range}")),
        };
        (start, end)
    };
    let step = match parts.as_slice() {
        [_] => 1,
        [_, step] => {
            if bounds.len() == 1 {
                end = field.max;
            }
            number(step)?
        }
        _ => return Err(format!("too many slashes: {range}")),
    };
    let Field { min, max, .. } = field;
    if start < *min {
        return Err(format!(
            "beginning of range ({start}) below minimum ({min}): {range}"
        ));
    }
    if end > *max {
        return Err(format!(
            "end of range ({end}) above maximum ({max}): {range}"
        ));
    }
    if start > end {
        return Err(format!(
            "beginning of range ({start}) beyond end of range ({end}): {range}"
        ));
    }
    if step == 0 {
        return Err(format!(
            "step of range should be a positive number: {range}"
        ));
    }
    Ok(())
}

fn number_or_name(text: &str, field: &Field) -> Result<u32, String> {
    let lower = text.to_lowercase();
    match (field.first_name..)
        .zip(field.names)
        .find(|(_, name)| **name == lower)
    {
        Some((number, _)) => Ok(number),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!(
            "failed to parse int from {text}: strconv.Atoi: parsing {}: invalid syntax",
            quoted(text)
        ));
    }
    let Ok(value) = text.parse::<i64>() else {
        return Err(format!(
            "failed to parse int from {text}: strconv.Atoi: parsing {}: value out of range",
            quoted(text)
        ));
    };
    if value < 0 {
        return Err(format!("negative number ({value}) not allowed: {text}"));
    }
    Ok(u32::try_from(value).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_that_the_reference_takes_pass() {
        for text in [
            "* * * * *",
            "*/5 0-3,7 ? jan-MAR SUN-fri",
            "5/15 * * * *",
            "@daily",
            "@every 1h30m",
            "TZ=Europe/Berlin 0 9 * * *",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn others_are_refused_in_its_words() {
        for (text, expected) in [
            ("not cron", "expected exactly 5 fields, found 2: [not cron]"),
            ("61 * * * *", "end of range (61) above maximum (59): 61"),
            (
                "5-1 * * * *",
                "beginning of range (5) beyond end of range (1): 5-1",
            ),
            (
                "*/0 * * * *",
                "step of range should be a positive number: */0",
            ),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            (
                "a * * * *",
                "failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax",
            ),
            ("* * * * 7", "end of range (7) above maximum (6): 7"),
            ("@foo", "unrecognized descriptor: @foo"),
            (
                "@every x",
                "failed to parse duration @every x: time: invalid duration \"x\"",
            ),
            (
                "TZ=Foo * * * * *",
                "provided bad location Foo: unknown time zone Foo",
            ),
        ] {
            assert_eq!(check(text), Err(expected.to_owned()), "{text}");
        }
    }
}
