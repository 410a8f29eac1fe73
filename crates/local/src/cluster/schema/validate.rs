//! The rules of a schema, in the words of Kubernetes' validation of custom resources.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};

use flyte_idl::text::quoted;
use regex::Regex;
use serde_json::Value;

use super::{flag, member_schema};
use crate::cluster::api_status::StatusCause;
use crate::cluster::causes::Causes;
use crate::cluster::field_path::FieldPath;

/// Checks values against nodes of one schema.
pub(super) struct Validation<'a> {
    patterns: &'a HashMap<String, Regex>,
    /// The values of long enumerations, by the address of their list: a list may have as many values to be looked for.
    enumerations: RefCell<HashMap<usize, HashSet<Value>>>,
}

/// Enumerations that are longer are looked up.
const SHORT: usize = 16;

impl<'a> Validation<'a> {
    /// With the patterns of the schema, compiled. The schema outlives the validation.
    pub(super) fn new(patterns: &'a HashMap<String, Regex>) -> Self {
        Self {
            patterns,
            enumerations: RefCell::default(),
        }
    }

    fn is_allowed(&self, allowed: &Vec<Value>, value: &Value) -> bool {
        if allowed.len() <= SHORT {
            return allowed.contains(value);
        }
        let mut known = self.enumerations.borrow_mut();
        let known = known.entry(std::ptr::from_ref(allowed).addr());
        let known = known.or_insert_with(|| allowed.iter().cloned().collect());
        known.contains(value)
    }

    /// Adds a cause for each rule of `node` that `value`, at `path`, breaks.
    pub(super) fn node(
        &self,
        node: &Value,
        value: &Value,
        path: &FieldPath<'_>,
        causes: &mut Causes,
    ) {
        if value.is_null() && flag(node, "nullable") {
            return;
        }
        if let Some(expected) = wrong_type(node, value) {
            let found = type_of(value);
            causes.add((path.identity(), expected, found), || {
                let rule = format!("{path} in body must be of type {expected}: {found:?}");
                StatusCause {
                    reason: "FieldValueTypeInvalid",
                    field: path.to_string(),
                    message: format!("Invalid value: {found:?}: {rule}"),
                }
            });
            return;
        }
        if let Some(allowed) = node.get("enum").and_then(Value::as_array)
            && !self.is_allowed(allowed, value)
        {
            causes.add((path.identity(), "enum", value), || {
                let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
                StatusCause {
                    reason: "FieldValueNotSupported",
                    field: path.to_string(),
                    message: format!(
                        "Unsupported value: {value}: supported values: {}",
                        allowed.join(", ")
                    ),
                }
            });
        }
        match value {
            Value::Object(members) => {
                for name in texts(node, "required") {
                    if !members.contains_key(name) {
                        let missing = path.member(name);
                        causes.add((missing.identity(), "required"), || {
                            StatusCause::required(missing.to_string())
                        });
                    }
                }
                counted(
                    node,
                    members.len(),
                    ("Properties", "properties"),
                    path,
                    causes,
                );
                for (name, member) in members {
                    if let Some(schema) = member_schema(node, name) {
                        self.node(schema, member, &path.member(name), causes);
                    }
                }
            }
            Value::Array(items) => {
                counted(node, items.len(), ("Items", "items"), path, causes);
                repeated(node, items, path, causes);
                if let Some(schema) = node.get("items") {
                    for (index, item) in items.iter().enumerate() {
                        self.node(schema, item, &path.item(index), causes);
                    }
                }
            }
            Value::String(text) => self.text(node, text, path, causes),
            Value::Number(number) => {
                if let Some(number) = number.as_f64() {
                    bounded(node, number, path, causes);
                }
            }
            Value::Bool(_) | Value::Null => {}
        }
        self.combinations(node, value, path, causes);
    }

    fn holds(&self, node: &Value, value: &Value, path: &FieldPath<'_>) -> bool {
        let mut causes = Causes::default();
        self.node(node, value, path, &mut causes);
        causes.is_empty()
    }

    /// `allOf`, `anyOf`, `oneOf`, `not`.
    fn combinations(&self, node: &Value, value: &Value, path: &FieldPath<'_>, causes: &mut Causes) {
        let list = |name: &str| {
            let list = node.get(name).and_then(Value::as_array);
            list.map(Vec::as_slice).unwrap_or_default()
        };
        for schema in list("allOf") {
            self.node(schema, value, path, causes);
        }
        let holding = |schemas: &[Value]| {
            let holds = schemas
                .iter()
                .filter(|schema| self.holds(schema, value, path));
            holds.count()
        };
        let mut refuse = |rule: &str| {
            causes.add((path.identity(), rule, Brief(value)), || {
                let path = path.to_string();
                let rule = format!("{} must validate {rule}", quoted(&path));
                StatusCause::value(path, &Brief(value).to_string(), &rule)
            });
        };
        if !list("anyOf").is_empty() && holding(list("anyOf")) == 0 {
            refuse("at least one schema (anyOf)");
        }
        if !list("oneOf").is_empty() && holding(list("oneOf")) != 1 {
            refuse("one and only one schema (oneOf)");
        }
        if let Some(schema) = node.get("not")
            && self.holds(schema, value, path)
        {
            refuse("none of the schemas (not)");
        }
    }

    fn text(&self, node: &Value, text: &str, path: &FieldPath<'_>, causes: &mut Causes) {
        let length = text.chars().count() as u64;
        if let Some(most) = node.get("maxLength").and_then(Value::as_u64)
            && length > most
        {
            causes.add((path.identity(), "maxLength", most), || StatusCause {
                reason: "FieldValueTooLong",
                field: path.to_string(),
                message: format!("Too long: may not be more than {most} bytes"),
            });
        }
        if let Some(least) = node.get("minLength").and_then(Value::as_u64)
            && length < least
        {
            causes.add((path.identity(), "minLength", least, text), || {
                let rule = format!("{path} in body should be at least {least} chars long");
                StatusCause::value(path.to_string(), text, &rule)
            });
        }
        if let Some(pattern) = node.get("pattern").and_then(Value::as_str)
            && let Some(compiled) = self.patterns.get(pattern)
            && !compiled.is_match(text)
        {
            causes.add((path.identity(), "pattern", pattern, text), || {
                let rule = format!("{path} in body should match '{pattern}'");
                StatusCause::value(path.to_string(), text, &rule)
            });
        }
        if let Some(format) = node.get("format").and_then(Value::as_str)
            && !has_format(text, format)
        {
            causes.add((path.identity(), "format", format, text), || {
                let rule = format!("{path} in body must be of type {format}: {}", quoted(text));
                StatusCause::value(path.to_string(), text, &rule)
            });
        }
    }
}

fn texts<'a>(node: &'a Value, name: &str) -> impl Iterator<Item = &'a str> {
    let list = node.get(name).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str)
}

/// The type that the value should have, if it has another.
fn wrong_type<'a>(node: &'a Value, value: &Value) -> Option<&'a str> {
    if flag(node, "x-kubernetes-int-or-string") {
        let fits = value.is_string() || is_integer(value);
        return (!fits).then_some("integer or string");
    }
    let expected = node.get("type").and_then(Value::as_str)?;
    let fits = match expected {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => is_integer(value),
        "number" => value.is_number(),
        _ => true,
    };
    (!fits).then_some(expected)
}

fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) if is_integer(value) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// A value for a message: an object or a list only by its type.
struct Brief<'a>(&'a Value);

impl fmt::Display for Brief<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Object(_) | Value::Array(_) => formatter.write_str(type_of(self.0)),
            Value::String(text) => formatter.write_str(text),
            other => other.fmt(formatter),
        }
    }
}

impl Hash for Brief<'_> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        match self.0 {
            Value::Object(_) | Value::Array(_) => type_of(self.0).hash(hasher),
            other => other.hash(hasher),
        }
    }
}

/// `minItems`, `maxItems`, `minProperties`, `maxProperties`.
fn counted(
    node: &Value,
    count: usize,
    (suffix, noun): (&str, &str),
    path: &FieldPath<'_>,
    causes: &mut Causes,
) {
    let bound = |prefix: &str| {
        node.get(format!("{prefix}{suffix}"))
            .and_then(Value::as_u64)
    };
    if let Some(most) = bound("max").filter(|most| count as u64 > *most) {
        causes.add((path.identity(), "most", most, count), || StatusCause {
            reason: "FieldValueTooMany",
            field: path.to_string(),
            message: format!("Too many: {count}: must have at most {most} {noun}"),
        });
    }
    if let Some(least) = bound("min").filter(|least| (count as u64) < *least) {
        causes.add((path.identity(), "least", least, count), || {
            let rule = format!("{path} in body should have at least {least} {noun}");
            StatusCause::value(path.to_string(), &count.to_string(), &rule)
        });
    }
}

/// Lists that are sets, and maps by keys.
fn repeated(node: &Value, items: &[Value], path: &FieldPath<'_>, causes: &mut Causes) {
    let keys: Vec<&str> = texts(node, "x-kubernetes-list-map-keys").collect();
    let identity = |item: &Value| match node.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => Some(item.to_string()),
        Some("map") => {
            let values = keys
                .iter()
                .map(|key| item.get(*key).cloned().unwrap_or_default());
            Some(Value::Array(values.collect()).to_string())
        }
        _ => None,
    };
    let mut known = std::collections::HashSet::new();
    for (index, item) in items.iter().enumerate() {
        if let Some(identity) = identity(item)
            && !known.insert(identity)
        {
            let path = path.item(index);
            causes.add((path.identity(), "repeated", Brief(item)), || {
                StatusCause::duplicate(path.to_string(), &Brief(item).to_string())
            });
        }
    }
}

fn bounded(node: &Value, number: f64, path: &FieldPath<'_>, causes: &mut Causes) {
    let bound = |name: &str| node.get(name).and_then(Value::as_f64);
    let mut refuse = |rule: String| {
        causes.add((path.identity(), &rule, number.to_bits()), || {
            let rule = format!("{path} in body should be {rule}");
            StatusCause {
                reason: "FieldValueInvalid",
                field: path.to_string(),
                message: format!("Invalid value: {number}: {rule}"),
            }
        });
    };
    if let Some(least) = bound("minimum") {
        let exclusive = flag(node, "exclusiveMinimum");
        if number < least {
            refuse(format!("greater than or equal to {least}"));
        } else if exclusive && number <= least {
            refuse(format!("greater than {least}"));
        }
    }
    if let Some(most) = bound("maximum") {
        let exclusive = flag(node, "exclusiveMaximum");
        if number > most {
            refuse(format!("less than or equal to {most}"));
        } else if exclusive && number >= most {
            refuse(format!("less than {most}"));
        }
    }
    if let Some(step) = bound("multipleOf").filter(|step| *step > 0.0) {
        let times = number / step;
        if (times - times.round()).abs() > 1e-9 {
            refuse(format!("a multiple of {step}"));
        }
    }
}

/// Whether a text has a format that Kubernetes checks; others mean nothing.
fn has_format(text: &str, format: &str) -> bool {
    match format {
        "date-time" => text.parse::<jiff::Timestamp>().is_ok(),
        "date" => text.parse::<jiff::civil::Date>().is_ok() && text.len() == "2026-01-01".len(),
        "uuid" => uuid::Uuid::try_parse(text).is_ok(),
        "uri" => url::Url::parse(text).is_ok(),
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        "byte" => {
            use base64::Engine;
            base64::prelude::BASE64_STANDARD.decode(text).is_ok()
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_holds_or_breaks_the_rules_of_its_node() {
        let patterns = HashMap::new();
        let validation = Validation::new(&patterns);
        for (node, good, bad) in [
            (
                json!({"anyOf": [{"type": "integer"}, {"enum": ["a"]}]}),
                json!("a"),
                json!("b"),
            ),
            (
                json!({"oneOf": [{"minimum": 1}, {"minimum": 5}]}),
                json!(3),
                json!(7),
            ),
            (
                json!({"allOf": [{"minimum": 1}, {"maximum": 5}]}),
                json!(3),
                json!(7),
            ),
            (json!({"not": {"enum": ["a"]}}), json!("b"), json!("a")),
            (
                json!({"minimum": 1, "exclusiveMinimum": true}),
                json!(1.5),
                json!(1),
            ),
            (
                json!({"maximum": 1, "exclusiveMaximum": true}),
                json!(0),
                json!(1),
            ),
            (json!({"multipleOf": 0.1}), json!(0.3), json!(0.35)),
            (
                json!({"type": "string", "minLength": 2}),
                json!("ab"),
                json!("a"),
            ),
            (
                json!({"type": "string", "maxLength": 2}),
                json!("äö"),
                json!("äöü"),
            ),
            (
                json!({"type": "object", "minProperties": 1}),
                json!({"a": 1}),
                json!({}),
            ),
            (
                json!({"type": "object", "maxProperties": 1}),
                json!({"a": 1}),
                json!({"a": 1, "b": 1}),
            ),
            (
                json!({"type": "array", "minItems": 1}),
                json!([1]),
                json!([]),
            ),
            (
                json!({"type": "string", "nullable": true}),
                json!(null),
                json!(1),
            ),
            (json!({"type": "integer"}), json!(2.0), json!(2.5)),
            (
                json!({"type": "array", "x-kubernetes-list-type": "set"}),
                json!([1, 2]),
                json!([1, 1]),
            ),
            (
                json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}),
                json!([{"k": 1}, {"k": 2}]),
                json!([{"k": 1, "v": 1}, {"k": 1, "v": 2}]),
            ),
            (
                json!({"format": "date-time"}),
                json!("2026-01-01T00:00:00Z"),
                json!("now"),
            ),
            (
                json!({"format": "date"}),
                json!("2026-01-01"),
                json!("2026-13-01"),
            ),
            (json!({"format": "byte"}), json!("YQ=="), json!("a")),
            (
                json!({"format": "uuid"}),
                json!("6f2c1f64-7a5e-4b4c-9d8e-0f1f2f3f4f5f"),
                json!("x"),
            ),
            (json!({"format": "ipv4"}), json!("1.2.3.4"), json!("1.2.3")),
        ] {
            assert!(
                validation.holds(&node, &good, &FieldPath::root("f")),
                "{node} {good}"
            );
            assert!(
                !validation.holds(&node, &bad, &FieldPath::root("f")),
                "{node} {bad}"
            );
        }
    }
}
