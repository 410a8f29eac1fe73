//! Values as YAML that every parser reads alike.
//!
//! YAML 1.1, which Python's and Go's common parsers speak, takes `yes`, `1:30` and `2024-01-01` for something else than
//! text; YAML 1.2 does not. Texts and keys are therefore always quoted, and numbers have the form that both know.

use std::fmt::Write as _;

use flyte_idl::number;
use serde_json::{Map, Value};

/// A document: keys in the order of the object, two spaces for each level.
pub(crate) fn document(values: &Map<String, Value>) -> String {
    let mut text = String::new();
    if values.is_empty() {
        text.push_str("{}\n");
    } else {
        members(&mut text, values, 0);
    }
    text
}

fn members(out: &mut String, values: &Map<String, Value>, level: usize) {
    for (key, value) in values {
        indent(out, level);
        quote(out, key);
        out.push(':');
        nested(out, value, level);
    }
}

fn items(out: &mut String, values: &[Value], level: usize) {
    for value in values {
        indent(out, level);
        out.push('-');
        nested(out, value, level);
    }
}

/// What stands behind `key:` or `-`.
fn nested(out: &mut String, value: &Value, level: usize) {
    match value {
        Value::Object(values) if !values.is_empty() => {
            out.push('\n');
            members(out, values, level + 1);
        }
        Value::Array(values) if !values.is_empty() => {
            out.push('\n');
            items(out, values, level + 1);
        }
        scalar => {
            out.push(' ');
            plain(out, scalar);
            out.push('\n');
        }
    }
}

fn plain(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(value) => match value.as_f64() {
            Some(float) if value.is_f64() => out.push_str(&decimal(float)),
            _ => out.push_str(&value.to_string()),
        },
        Value::String(text) => quote(out, text),
        Value::Array(_) => out.push_str("[]"),
        Value::Object(_) => out.push_str("{}"),
    }
}

/// A number with a point before its exponent, without which YAML 1.1 takes `1e+21` for text.
fn decimal(value: f64) -> String {
    let text = number::json_f64(value);
    match text.split_once('e') {
        Some((mantissa, exponent)) if !mantissa.contains('.') => {
            format!("{mantissa}.0e{exponent}")
        }
        _ => text,
    }
}

fn indent(out: &mut String, level: usize) {
    out.extend(std::iter::repeat_n("  ", level));
}

/// A text in double quotes; what YAML does not allow to stand as it is, is escaped.
fn quote(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ' '..='~' | '\u{a0}'..='\u{2027}' | '\u{202a}'..='\u{d7ff}' => out.push(character),
            '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}' | '\u{10000}'.. => {
                out.push(character);
            }
            other => drop(write!(out, "\\u{:04x}", u32::from(other))),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn written(value: &Value) -> String {
        document(value.as_object().unwrap())
    }

    #[test]
    fn values_stand_as_both_versions_of_yaml_read_them() {
        for (value, expected) in [
            (json!({}), "{}\n"),
            (json!({ "a": 1, "b": "x" }), "\"a\": 1\n\"b\": \"x\"\n"),
            (
                json!({ "yes": "no", "t": "1:30", "d": "2024-01-01", "n": null, "e": "" }),
                "\"yes\": \"no\"\n\"t\": \"1:30\"\n\"d\": \"2024-01-01\"\n\"n\": null\n\"e\": \"\"\n",
            ),
            (
                json!({ "f": 1.5, "large": 1e21, "small": 1e-7, "whole": 2.0, "i": -3, "t": true }),
                "\"f\": 1.5\n\"large\": 1.0e+21\n\"small\": 1.0e-7\n\"whole\": 2\n\"i\": -3\n\"t\": true\n",
            ),
            (
                json!({ "list": [1, ["a"], {}, []], "map": { "k": { "l": 1 } } }),
                "\"list\":\n  - 1\n  -\n    - \"a\"\n  - {}\n  - []\n\"map\":\n  \"k\":\n    \"l\": 1\n",
            ),
            (
                json!({ "q": "a\"b\\c\nd\te\u{7f}\u{85}\u{2028}\u{feff}\u{0}ü😀" }),
                "\"q\": \"a\\\"b\\\\c\\nd\\te\\u007f\\u0085\\u2028\\ufeff\\u0000ü😀\"\n",
            ),
        ] {
            assert_eq!(written(&value), expected, "{value}");
        }
    }

    #[test]
    fn what_is_written_reads_as_it_was() {
        let value = json!({
            "texts": ["", " ", "null", "~", "0x1f", "1e3", "- a", "a: b", "#", "&a *b", "%", "\u{1}\u{80}\u{fffe}"],
            "nested": { "": { "x": [[], [[1]], { "y": [] }] } },
            "numbers": [0, -1, 9_007_199_254_740_993_i64, 0.1, 1e300, -2.5e-9],
        });
        let read: Value = serde_norway::from_str(&written(&value)).unwrap();
        assert_eq!(read, value);
    }
}
