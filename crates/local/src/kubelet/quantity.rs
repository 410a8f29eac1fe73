//! What the node counts with of Kubernetes quantities, which `flyte_core` reads.

use flyte_core::quantity::Quantity;

/// A quantity in thousandths of its unit, rounded away from zero; none if it is not a quantity. One beyond 2^63 units is that.
pub(crate) fn millis(text: &str) -> Option<i128> {
    const NANOS: i128 = 1_000_000;
    let nanos = text.trim().parse::<Quantity>().ok()?.nanos();
    let whole = nanos / NANOS;
    Some(if nanos % NANOS == 0 {
        whole
    } else {
        whole + nanos.signum()
    })
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
            ("0.00000000001", Some(1)),
            ("-1500u", Some(-2)),
            ("1e-3", Some(1)),
            (".5", Some(500)),
            ("1..5", None),
            ("1 Gi", None),
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
