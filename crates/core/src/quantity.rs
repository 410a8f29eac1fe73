//! Kubernetes resource quantities such as `500m`, `1Gi` and `1e3`.
//!
//! Follows the Kubernetes documentation of `resource.Quantity`: amounts are kept to a billionth, smaller
//! remainders are rounded away from zero; the canonical form has an integer mantissa and the largest suffix
//! that loses nothing (spec 03 §2.6). A parsed quantity remembers its text, because Flyte prints it as given.

use std::{cmp::Ordering, fmt, str::FromStr};

const NANOS: i128 = 1_000_000_000;
/// What Kubernetes caps long mantissas at.
const MAX: i128 = 9_223_372_036_854_775_807 * NANOS;

/// Why a text is not a quantity; the display text is that of Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// The text has not the form of a quantity.
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Format,
    /// The form is right but the suffix is none.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// The family of suffixes in which a quantity was written and prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `m`, none, `k`, `M`, …
    DecimalSi,
    /// `Ki`, `Mi`, …
    BinarySi,
    /// `e3`, `e6`, …
    DecimalExponent,
}

/// An amount of a resource. Equality and order compare amounts, not texts.
#[derive(Debug, Clone)]
pub struct Quantity {
    nanos: i128,
    format: Format,
    given: Option<String>,
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self {
        nanos: 0,
        format: Format::DecimalSi,
        given: None,
    };

    /// A whole amount.
    pub fn whole(amount: i64) -> Self {
        Self {
            nanos: i128::from(amount) * NANOS,
            format: Format::DecimalSi,
            given: None,
        }
    }

    /// The amount in billionths.
    pub fn nanos(&self) -> i128 {
        self.nanos
    }

    /// Whether the amount is nothing.
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// The amount rounded away from zero to a whole number (`500m` is 1).
    pub fn value(&self) -> i64 {
        saturate(round_up(self.nanos, NANOS))
    }

    /// The amount in thousandths, rounded away from zero.
    pub fn milli_value(&self) -> i64 {
        saturate(round_up(self.nanos, NANOS / 1_000))
    }

    /// The family of suffixes.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The canonical text: `1000m` is `1`, `0.5` is `500m`, `1024Mi` is `1Gi`.
    pub fn canonical(&self) -> String {
        let whole = self.nanos / NANOS;
        if self.format == Format::BinarySi && self.nanos % NANOS == 0 && whole.abs() >= 1024 {
            let (mantissa, steps) = divide_out(whole, 1024, 6);
            let suffix = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]
                .get(steps)
                .copied()
                .unwrap_or_default();
            return format!("{mantissa}{suffix}");
        }
        if self.nanos == 0 {
            return "0".to_owned();
        }
        // Nanos stand for exponent -9, hence three steps below none.
        let most = if self.format == Format::DecimalExponent {
            12
        } else {
            9
        };
        let (mantissa, steps) = divide_out(self.nanos, 1_000, most);
        if self.format == Format::DecimalExponent {
            let exponent = 3 * i64::try_from(steps).unwrap_or(0) - 9;
            return if exponent == 0 {
                mantissa.to_string()
            } else {
                format!("{mantissa}e{exponent}")
            };
        }
        let suffix = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"]
            .get(steps)
            .copied()
            .unwrap_or_default();
        format!("{mantissa}{suffix}")
    }
}

/// Divides by `base` as often as nothing is lost, at most `most` times.
fn divide_out(mut value: i128, base: i128, most: usize) -> (i128, usize) {
    let mut steps = 0;
    while steps < most && value != 0 && value % base == 0 {
        value /= base;
        steps += 1;
    }
    (value, steps)
}

fn round_up(value: i128, unit: i128) -> i128 {
    let quotient = value / unit;
    if value % unit == 0 {
        quotient
    } else {
        quotient + value.signum()
    }
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

impl fmt::Display for Quantity {
    /// The text as it was given, else the canonical one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.given {
            Some(given) => f.write_str(given),
            None => f.write_str(&self.canonical()),
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, text.get(1..).unwrap_or_default()),
            Some(b'+') => (false, text.get(1..).unwrap_or_default()),
            _ => (false, text),
        };
        let (whole, rest) = split_digits(unsigned);
        let (fraction, suffix) = match rest.strip_prefix('.') {
            Some(rest) => split_digits(rest),
            None => ("", rest),
        };
        if (whole.is_empty() && fraction.is_empty()) || !has_suffix_form(suffix) {
            return Err(QuantityError::Format);
        }
        let (format, scale) = suffix_of(suffix)?;
        let nanos = scale.apply(whole, fraction);
        Ok(Self {
            nanos: if negative { -nanos } else { nanos },
            format: if format == Format::BinarySi && nanos > 0 && nanos < NANOS {
                Format::DecimalSi
            } else {
                format
            },
            given: Some(text.to_owned()),
        })
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// Letters, then an optional sign, then digits.
fn has_suffix_form(suffix: &str) -> bool {
    let rest = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    rest.bytes().all(|byte| byte.is_ascii_digit())
}

/// What a suffix multiplies with.
enum Scale {
    Ten(i64),
    Two(u32),
}

fn suffix_of(suffix: &str) -> Result<(Format, Scale), QuantityError> {
    let decimal = |exponent| Ok((Format::DecimalSi, Scale::Ten(exponent)));
    let binary = |exponent| Ok((Format::BinarySi, Scale::Two(exponent)));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        other => {
            let exponent = other
                .strip_prefix(['e', 'E'])
                .and_then(|digits| digits.parse::<i64>().ok())
                .ok_or(QuantityError::Suffix)?;
            Ok((Format::DecimalExponent, Scale::Ten(exponent)))
        }
    }
}

impl Scale {
    /// `whole.fraction` times the scale, in nanos, rounded up and capped.
    fn apply(&self, whole: &str, fraction: &str) -> i128 {
        let whole = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        match self {
            Self::Ten(exponent) => {
                let digits = format!("{whole}{fraction}");
                let places = i64::try_from(fraction.len()).unwrap_or(i64::MAX);
                shift(&digits, exponent.saturating_add(9).saturating_sub(places))
            }
            Self::Two(exponent) => {
                let factor = 1i128 << exponent;
                let whole = shift(whole, 0).saturating_mul(factor).saturating_mul(NANOS);
                // 30 places are more than a billionth of an exbi needs; what follows only rounds up.
                let kept = fraction.get(..30.min(fraction.len())).unwrap_or_default();
                let mut part = 0i128;
                for digit in kept.bytes().rev() {
                    let value = i128::from(digit - b'0') * factor * NANOS + part;
                    part = value / 10 + i128::from(value % 10 != 0);
                }
                whole.saturating_add(part).min(MAX)
            }
        }
    }
}

/// `digits` as an integer times ten to the `exponent`, rounded up and capped.
fn shift(digits: &str, exponent: i64) -> i128 {
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return 0;
    }
    let length = i64::try_from(digits.len()).unwrap_or(i64::MAX);
    if length.saturating_add(exponent) > 37 {
        return MAX;
    }
    if exponent >= 0 {
        let factor = u32::try_from(exponent)
            .ok()
            .and_then(|e| 10i128.checked_pow(e));
        let value = digits.parse::<i128>().ok();
        return value
            .zip(factor)
            .and_then(|(value, factor)| value.checked_mul(factor))
            .unwrap_or(MAX);
    }
    let kept = usize::try_from(length.saturating_add(exponent)).unwrap_or(0);
    let (integer, remainder) = digits.split_at(kept.min(digits.len()));
    let integer: i128 = if integer.is_empty() {
        0
    } else {
        integer.parse().unwrap_or(MAX)
    };
    integer + i128::from(remainder.bytes().any(|digit| digit != b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_texts_are_those_of_kubernetes() {
        for (given, canonical) in [
            ("0", "0"),
            ("0Mi", "0"),
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("0.5Mi", "512Ki"),
            ("100Ki", "100Ki"),
            ("1000", "1k"),
            ("8589934592", "8589934592"),
            ("1e3", "1e3"),
            ("12345e3", "12345e3"),
            ("1e4", "10e3"),
            ("-1.5", "-1500m"),
            ("+5", "5"),
            ("0.0000000001", "1n"),
            ("0.5Ki", "512"),
            ("1.1Ki", "1126400m"),
            ("4E", "4E"),
            ("1u", "1u"),
            ("10G", "10G"),
            ("9223372036854775808", "9223372036854775808"),
        ] {
            let quantity: Quantity = given.parse().unwrap();
            assert_eq!(quantity.canonical(), canonical, "{given}");
            assert_eq!(quantity.to_string(), given);
        }
    }

    #[test]
    fn amounts_compare_and_round_up() {
        let of = |text: &str| text.parse::<Quantity>().unwrap();
        assert!(of("1Gi") > of("1G"));
        assert_eq!(of("1000m"), of("1"));
        assert!(of("-1") < Quantity::ZERO);
        assert_eq!(of("500m").value(), 1);
        assert_eq!(of("1.1Ki").value(), 1127);
        assert_eq!(of("0.0001").milli_value(), 1);
        assert_eq!(of("1e100").value(), i64::MAX);
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "zz", "1.1.M", "1+1.0M", "aoeu", ".", "- 1", "1 ", "é"] {
            assert_eq!(
                text.parse::<Quantity>(),
                Err(QuantityError::Format),
                "{text:?}"
            );
        }
        for text in ["0.1mi", "1i", ".5i", "-3.01e-", "1Ke", "1KM"] {
            assert_eq!(
                text.parse::<Quantity>(),
                Err(QuantityError::Suffix),
                "{text:?}"
            );
        }
    }
}
