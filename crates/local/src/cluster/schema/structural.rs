//! What a definition's schema itself must be: structural, with patterns that can be used and defaults that are valid.

use std::collections::HashMap;

use regex::Regex;
use serde_json::Value;

use super::validate::Validation;
use super::{Schema, children, each_node, flag};
use crate::cluster::api_status::StatusCause;
use crate::cluster::causes::Causes;
use crate::cluster::field_path::FieldPath;

/// Adds a cause for each rule that the schema of a version at `field` breaks; returns whether it has rules that are not
/// evaluated here.
pub(crate) fn check(version: &Value, field: &str, causes: &mut Causes) -> bool {
    let version_path = FieldPath::root(field);
    let schema_path = version_path.member("schema");
    let path = schema_path.member("openAPIV3Schema");
    let field = path.to_string();
    let Some(schema) = Schema::of_version(version) else {
        causes.push(StatusCause {
            message: "Required value: schemas are required".to_owned(),
            ..StatusCause::required(field)
        });
        return false;
    };
    let root = schema.value();
    match root.get("type").and_then(Value::as_str) {
        Some("object") => {}
        None | Some("") => causes.push(StatusCause {
            message: "Required value: must not be empty at the root".to_owned(),
            ..StatusCause::required(format!("{field}.type"))
        }),
        Some(other) => {
            let rule = "must be object at the root";
            causes.push(StatusCause::value(format!("{field}.type"), other, rule));
        }
    }
    node(root, &path, (&schema.patterns, true), causes);
    let mut has_cel = false;
    each_node(root, &mut |node| {
        has_cel |= node.get("x-kubernetes-validations").is_some();
    });
    has_cel
}

/// Checks a node. Inside combinations, types are those of the structure outside.
fn node(
    schema: &Value,
    path: &FieldPath<'_>,
    (patterns, is_structure): (&HashMap<String, Regex>, bool),
    causes: &mut Causes,
) {
    let mut refuse = |member: &str, make: &dyn Fn(String) -> StatusCause| {
        let path = path.member(member);
        causes.add((path.identity(), "structure"), || make(path.to_string()));
    };
    for member in [
        "$ref",
        "definitions",
        "dependencies",
        "patternProperties",
        "additionalItems",
    ] {
        if schema.get(member).is_some() {
            let rule = format!("{member} is not supported");
            refuse(member, &|field| StatusCause::forbidden(field, &rule));
        }
    }
    if flag(schema, "uniqueItems") {
        let rule =
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        refuse("uniqueItems", &|field| StatusCause::forbidden(field, rule));
    }
    let has_properties = schema.get("properties").is_some_and(|properties| {
        properties
            .as_object()
            .is_some_and(|properties| !properties.is_empty())
    });
    let others = schema
        .get("additionalProperties")
        .is_some_and(|others| others != false);
    if has_properties && others {
        let rule = "additionalProperties and properties are mutual exclusive";
        refuse("additionalProperties", &|field| {
            StatusCause::forbidden(field, rule)
        });
    }
    let may_lack_type = flag(schema, "x-kubernetes-int-or-string")
        || flag(schema, "x-kubernetes-preserve-unknown-fields");
    match schema.get("type").and_then(Value::as_str) {
        Some("object" | "array" | "string" | "integer" | "number" | "boolean") => {}
        None | Some("") if !is_structure || may_lack_type => {}
        None | Some("") => refuse("type", &|field| {
            StatusCause::missing(field, "must not be empty for specified object fields")
        }),
        Some(other) => refuse("type", &|field| {
            let known = ["array", "boolean", "integer", "number", "object", "string"];
            StatusCause::unsupported(field, other, &known)
        }),
    }
    let is_array = schema.get("type").and_then(Value::as_str) == Some("array");
    if is_array && is_structure && !schema.get("items").is_some_and(Value::is_object) {
        refuse("items", &|field| {
            StatusCause::missing(field, "must be specified")
        });
    }
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
        && !patterns.contains_key(pattern)
    {
        let rule = "must be a valid regular expression";
        refuse("pattern", &|field| StatusCause::value(field, pattern, rule));
    }
    if let Some(default) = schema.get("default") {
        Validation::new(patterns).node(schema, default, &path.member("default"), causes);
    }
    for (name, child) in children(schema) {
        let is_combination = ["allOf", "anyOf", "oneOf", "not"]
            .iter()
            .any(|word| name.starts_with(word));
        let inner = is_structure && !is_combination;
        node(child, &path.member(&name), (patterns, inner), causes);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn causes(schema: &Value) -> Vec<StatusCause> {
        let mut causes = Causes::default();
        let version = json!({"schema": {"openAPIV3Schema": schema}});
        check(&version, "spec.versions[0]", &mut causes);
        causes.listed().to_vec()
    }

    #[test]
    fn a_schema_is_structural() {
        let with = |spec: Value| json!({"type": "object", "properties": {"spec": spec}});
        let spec = "spec.versions[0].schema.openAPIV3Schema.properties[spec]";
        for good in [
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
            with(json!({"x-kubernetes-int-or-string": true})),
            with(json!({"type": "object", "anyOf": [{"required": ["a"]}]})),
            with(json!({"type": "array", "items": {"type": "string"}, "default": ["a"]})),
        ] {
            assert_eq!(causes(&good), [], "{good}");
        }
        for (schema, member, message) in [
            (
                with(json!({})),
                "type",
                "must not be empty for specified object fields",
            ),
            (with(json!({"type": "text"})), "type", "supported values"),
            (with(json!({"type": "array"})), "items", "must be specified"),
            (
                with(json!({"type": "string", "pattern": "("})),
                "pattern",
                "valid regular expression",
            ),
            (
                with(json!({"type": "string", "default": 1})),
                "default",
                "must be of type string",
            ),
            (
                with(json!({"type": "string", "$ref": "#/x"})),
                "$ref",
                "is not supported",
            ),
            (
                with(json!({"type": "array", "items": {"type": "string"}, "uniqueItems": true})),
                "uniqueItems",
                "quadratic",
            ),
            (
                with(
                    json!({"type": "object", "properties": {"a": {"type": "string"}},
                    "additionalProperties": {"type": "string"}}),
                ),
                "additionalProperties",
                "mutual exclusive",
            ),
        ] {
            let found = causes(&schema);
            let fields: Vec<&str> = found.iter().map(|cause| cause.field.as_str()).collect();
            assert_eq!(fields, [format!("{spec}.{member}")], "{schema}");
            assert!(
                found[0].message.contains(message),
                "{schema}: {}",
                found[0].message
            );
        }
        assert!(
            causes(&json!(null))[0]
                .message
                .contains("schemas are required")
        );
        assert!(
            causes(&json!({"type": "string"}))[0]
                .message
                .contains("must be object at the root")
        );
    }

    #[test]
    fn rules_that_are_not_evaluated_are_known() {
        let rule = json!({"type": "object", "properties": {"spec": {"type": "object",
            "x-kubernetes-validations": [{"rule": "self.a > 1"}]}}});
        let version = json!({"schema": {"openAPIV3Schema": rule}});
        assert!(check(&version, "spec.versions[0]", &mut Causes::default()));
    }
}
