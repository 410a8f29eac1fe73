//! Floating-point numbers as Go prints them, in JSON and in text form.
//!
//! Digits are the shortest that read back as the same number, in Rust as in Go; only the choice between
//! plain and scientific notation and the form of the exponent differ.

/// A finite number as Go's `encoding/json` prints it: plain below 1e21 and from 1e-6, else like `1e-7`.
pub fn json_f64(value: f64) -> String {
    json(
        &format!("{value:e}"),
        value == 0.0 && value.is_sign_negative(),
    )
}

/// As [`json_f64`], with the shortest digits that round-trip a 32-bit float.
pub fn json_f32(value: f32) -> String {
    json(
        &format!("{value:e}"),
        value == 0.0 && value.is_sign_negative(),
    )
}

fn json(scientific: &str, negative_zero: bool) -> String {
    if negative_zero {
        return "-0".to_owned();
    }
    let parts = Parts::of(scientific);
    if parts.is_zero() || (-6..21).contains(&parts.exponent) {
        parts.plain()
    } else {
        let sign = if parts.exponent < 0 { '-' } else { '+' };
        format!("{}e{sign}{}", parts.mantissa(), parts.exponent.abs())
    }
}

/// A number as Go's `%g` prints it, non-finite ones as `nan`, `inf` and `-inf`: the form of prototext.
pub fn text_f64(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    general(&format!("{value:e}"))
}

/// As [`text_f64`] for 32-bit floats.
pub fn text_f32(value: f32) -> String {
    if value.is_finite() {
        general(&format!("{value:e}"))
    } else {
        text_f64(f64::from(value))
    }
}

/// A number as Go's `%v` prints it: as [`text_f64`], non-finite ones as `NaN`, `+Inf` and `-Inf`.
pub fn value_f64(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        text_f64(value)
    }
}

/// As [`value_f64`] for 32-bit floats.
pub fn value_f32(value: f32) -> String {
    if value.is_finite() {
        text_f32(value)
    } else {
        value_f64(f64::from(value))
    }
}

fn general(scientific: &str) -> String {
    let parts = Parts::of(scientific);
    // Go decides as for six digits when the shortest form is asked for.
    if parts.is_zero() || (-4..6).contains(&parts.exponent) {
        parts.plain()
    } else {
        let sign = if parts.exponent < 0 { '-' } else { '+' };
        format!("{}e{sign}{:02}", parts.mantissa(), parts.exponent.abs())
    }
}

/// The pieces of a Rust `{:e}` text.
struct Parts {
    negative: bool,
    digits: String,
    exponent: i32,
}

impl Parts {
    fn of(scientific: &str) -> Self {
        let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
        Self {
            negative: mantissa.starts_with('-'),
            digits: mantissa.chars().filter(char::is_ascii_digit).collect(),
            exponent: exponent.parse().unwrap_or(0),
        }
    }

    fn is_zero(&self) -> bool {
        self.digits.bytes().all(|digit| digit == b'0')
    }

    fn sign(&self) -> &'static str {
        if self.negative { "-" } else { "" }
    }

    fn mantissa(&self) -> String {
        let (first, rest) = self.digits.split_at(self.digits.len().min(1));
        if rest.is_empty() {
            format!("{}{first}", self.sign())
        } else {
            format!("{}{first}.{rest}", self.sign())
        }
    }

    fn plain(&self) -> String {
        let sign = self.sign();
        let digits = &self.digits;
        if self.exponent < 0 {
            let zeros = usize::try_from(-self.exponent - 1).unwrap_or(0);
            return format!("{sign}0.{}{digits}", "0".repeat(zeros));
        }
        let whole = usize::try_from(self.exponent).unwrap_or(0) + 1;
        if digits.len() <= whole {
            format!("{sign}{digits}{}", "0".repeat(whole - digits.len()))
        } else {
            let (before, after) = digits.split_at(whole);
            format!("{sign}{before}.{after}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_numbers_are_those_of_go() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-2.5, "-2.5"),
            (0.1, "0.1"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.5e300, "1.5e+300"),
            (0.000_001, "0.000001"),
            (1e-7, "1e-7"),
            (123_456_789.25, "123456789.25"),
        ] {
            assert_eq!(json_f64(value), text);
        }
        assert_eq!(json_f32(0.1), "0.1");
    }

    #[test]
    fn text_numbers_are_those_of_go() {
        for (value, text) in [
            (1.0, "1"),
            (0.5, "0.5"),
            (100_000.0, "100000"),
            (1_234_567.0, "1.234567e+06"),
            (1e21, "1e+21"),
            (0.0001, "0.0001"),
            (0.000_01, "1e-05"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(text_f64(value), text);
        }
        for (value, text) in [
            (0.1, "0.1"),
            (1e20, "1e+20"),
            (0.000_01, "1e-05"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(value_f64(value), text);
        }
        assert_eq!(value_f32(0.1), "0.1");
    }
}
