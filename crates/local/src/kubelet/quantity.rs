//! Kubernetes quantities: `500m`, `1.5`, `128Mi`, `1e3`.

/// A quantity in thousandths of its unit, rounded up; none if it is not a quantity. One beyond 2^63 units is that.
pub(crate) fn millis(text: &str) -> Option<i128> {
    const SUFFIXES: [(&str, i128, i128); 15] = [
        ("Ki", 1 << 10, 1),
        ("Mi", 1 << 20, 1),
        ("Gi", 1 << 30, 1),
        ("Ti", 1 << 40, 1),
        ("Pi", 1 << 50, 1),
        ("Ei", 1 << 60, 1),
        ("n", 1, 1_000_000_000),
        ("u", 1, 1_000_000),
        ("m", 1, 1_000),
        ("k", 1_000, 1),
        ("M", 1_000_000, 1),
        ("G", 1_000_000_000, 1),
        ("T", 1_000_000_000_000, 1),
        ("P", 1_000_000_000_000_000, 1),
        ("E", 1_000_000_000_000_000_000, 1),
    ];
    let text = text.trim();
    let (number, times, by) = SUFFIXES
        .iter()
        .find_map(|(suffix, times, by)| {
            text.strip_suffix(suffix)
                .map(|number| (number, *times, *by))
        })
        .unwrap_or((text, 1, 1));
    let (number, exponent) = match number.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.parse::<i32>().ok()?),
        None => (number, 0),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    const DIGITS: u32 = 9;
    let fraction: String = fraction
        .chars()
        .chain(std::iter::repeat('0'))
        .take(DIGITS as usize)
        .collect();
    let negative = whole.starts_with('-');
    let whole = whole.trim_start_matches(['-', '+']);
    if whole.is_empty() && fraction.chars().all(|digit| digit == '0') && !number.contains('0') {
        return None;
    }
    let scale = 10_i128.pow(DIGITS);
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(&fraction) {
        return None;
    }
    // What does not fit into the arithmetic is larger than the largest.
    let rounded = || -> Option<i128> {
        let whole: i128 = match whole {
            "" => 0,
            digits => digits.parse().ok()?,
        };
        let mut value = whole
            .checked_mul(scale)?
            .checked_add(fraction.parse().ok()?)?;
        match exponent {
            0.. => value = value.checked_mul(10_i128.checked_pow(exponent.unsigned_abs())?)?,
            _ => {
                value /= 10_i128
                    .checked_pow(exponent.unsigned_abs())
                    .unwrap_or(i128::MAX);
            }
        }
        let scaled = value.checked_mul(times)?.checked_mul(1_000)?;
        let divisor = scale.checked_mul(by)?;
        Some(scaled.checked_add(divisor - 1)? / divisor)
    };
    const LARGEST: i128 = (i64::MAX as i128) * 1_000;
    let rounded = rounded().map_or(LARGEST, |rounded| rounded.min(LARGEST));
    Some(if negative { -rounded } else { rounded })
}

/// A quantity in whole units, rounded up.
pub(crate) fn units(text: &str) -> Option<i128> {
    millis(text).map(|millis| (millis + 999) / 1000)
}

/// Bytes as people read them: `512Mi`, `1.5Gi`.
pub(crate) fn bytes_text(bytes: i128) -> String {
    for (suffix, size) in [("Gi", 1_i128 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)] {
        if bytes >= size {
            let tenths = bytes * 10 / size;
            return if tenths % 10 == 0 {
                format!("{}{suffix}", tenths / 10)
            } else {
                format!("{}.{}{suffix}", tenths / 10, tenths % 10)
            };
        }
    }
    bytes.to_string()
}

/// Millicores as people read them: `500m`, `2`.
pub(crate) fn cores_text(millis: i128) -> String {
    if millis % 1000 == 0 {
        (millis / 1000).to_string()
    } else {
        format!("{millis}m")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_in_kubernetes() {
        for (text, expected) in [
            ("1", Some(1_000)),
            ("500m", Some(500)),
            ("0.5", Some(500)),
            ("1.5Gi", Some(1_610_612_736_000)),
            ("128Mi", Some(134_217_728_000)),
            ("1e3", Some(1_000_000)),
            ("2k", Some(2_000_000)),
            ("100u", Some(1)),
            ("0", Some(0)),
            ("", None),
            ("lots", None),
            (
                "99999999999999999999999999999999999999E",
                Some(i128::from(i64::MAX) * 1_000),
            ),
        ] {
            assert_eq!(millis(text), expected, "{text:?}");
        }
        assert_eq!(
            (bytes_text(1_610_612_736), cores_text(1500)),
            ("1.5Gi".to_owned(), "1500m".to_owned())
        );
    }
}
