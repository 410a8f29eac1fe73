//! Structural schemas of custom resources (Kubernetes, `Extend the Kubernetes API with CustomResourceDefinitions`):
//! what is not in the schema is pruned, what is missing is defaulted, what breaks a rule is refused.
//!
//! Rules in CEL (`x-kubernetes-validations`) are not evaluated; whoever writes a definition with them is warned.

use std::collections::HashMap;

use regex::Regex;
use serde_json::{Map, Value};

use crate::cluster::causes::{Causes, Fields};
use crate::cluster::field_path::FieldPath;

mod structural;
mod validate;

pub(crate) use structural::check;

/// The schema of one version of a custom resource, ready to be used.
#[derive(Debug, Clone)]
pub(crate) struct Schema {
    root: Value,
    /// The patterns in it, compiled. One that cannot be compiled is refused with its definition.
    patterns: HashMap<String, Regex>,
}

impl Schema {
    /// Reads the schema of a version of a definition, if it has one.
    pub(crate) fn of_version(version: &Value) -> Option<Self> {
        let root = version.pointer("/schema/openAPIV3Schema")?;
        if !root.is_object() {
            return None;
        }
        let mut patterns = HashMap::new();
        each_node(root, &mut |node| {
            if let Some(pattern) = node.get("pattern").and_then(Value::as_str)
                && let Ok(compiled) = Regex::new(pattern)
            {
                patterns.insert(pattern.to_owned(), compiled);
            }
        });
        Some(Self {
            root: root.clone(),
            patterns,
        })
    }

    /// As the definition gives it.
    pub(crate) fn value(&self) -> &Value {
        &self.root
    }

    /// Removes from an object what the schema does not have; adds the fields that went.
    pub(crate) fn prune(&self, object: &mut Value, pruned: &mut Fields) {
        prune(&self.root, object, true, &FieldPath::root(""), pruned);
    }

    /// Fills in the defaults of fields that are missing.
    pub(crate) fn fill_defaults(&self, object: &mut Value) {
        fill_defaults(&self.root, object);
    }

    /// Adds a cause for each rule of the schema that an object breaks.
    pub(crate) fn validate(&self, object: &Value, causes: &mut Causes) {
        validate::Validation::new(&self.patterns).node(
            &self.root,
            object,
            &FieldPath::root(""),
            causes,
        );
    }
}

/// The members that every object has, whatever its schema says.
fn is_of_every_object(name: &str) -> bool {
    matches!(name, "apiVersion" | "kind" | "metadata")
}

fn flag(node: &Value, name: &str) -> bool {
    node.get(name).and_then(Value::as_bool) == Some(true)
}

/// Calls `visit` with a node of a schema and all nodes below it.
fn each_node(node: &Value, visit: &mut dyn FnMut(&Value)) {
    visit(node);
    for (_, child) in children(node) {
        each_node(child, visit);
    }
}

/// The nodes directly below a node, and how a path names them.
fn children(node: &Value) -> Vec<(String, &Value)> {
    let mut children = Vec::new();
    for (name, child) in node
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        children.push((format!("properties[{name}]"), child));
    }
    for name in ["items", "additionalProperties", "not"] {
        if let Some(child) = node.get(name).filter(|child| child.is_object()) {
            children.push((name.to_owned(), child));
        }
    }
    for name in ["allOf", "anyOf", "oneOf"] {
        let list = node
            .get(name)
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        children.extend(
            list.enumerate()
                .map(|(index, child)| (format!("{name}[{index}]"), child)),
        );
    }
    children
}

/// The schema of a member of an object: a property, or what all others are.
fn member_schema<'a>(node: &'a Value, name: &str) -> Option<&'a Value> {
    let property = node
        .get("properties")
        .and_then(|properties| properties.get(name));
    property.or_else(|| {
        node.get("additionalProperties")
            .filter(|schema| schema.is_object())
    })
}

fn prune(
    node: &Value,
    value: &mut Value,
    is_object: bool,
    path: &FieldPath<'_>,
    pruned: &mut Fields,
) {
    match value {
        Value::Object(members) => {
            let keeps_all = flag(node, "x-kubernetes-preserve-unknown-fields")
                || flag(node, "additionalProperties");
            let is_object = is_object || flag(node, "x-kubernetes-embedded-resource");
            members.retain(|name, member| {
                if is_object && is_of_every_object(name) {
                    return true;
                }
                let here = path.member(name);
                match member_schema(node, name) {
                    Some(schema) => prune(schema, member, false, &here, pruned),
                    None if !keeps_all => {
                        pruned.add(&here);
                        return false;
                    }
                    None => {}
                }
                true
            });
        }
        Value::Array(items) => {
            if let Some(schema) = node.get("items") {
                for (index, item) in items.iter_mut().enumerate() {
                    prune(schema, item, false, &path.item(index), pruned);
                }
            }
        }
        _ => {}
    }
}

fn fill_defaults(node: &Value, value: &mut Value) {
    match value {
        Value::Object(members) => {
            fill_members(node, members);
            for (name, member) in members.iter_mut() {
                if let Some(schema) = member_schema(node, name) {
                    fill_defaults(schema, member);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = node.get("items") {
                for item in items {
                    fill_defaults(schema, item);
                }
            }
        }
        _ => {}
    }
}

/// Fills in the defaults of members that are missing. A null that the schema does not allow counts as missing.
fn fill_members(node: &Value, members: &mut Map<String, Value>) {
    members.retain(|name, member| {
        let property = node
            .get("properties")
            .and_then(|properties| properties.get(name));
        let schema = property.filter(|_| member.is_null());
        schema.is_none_or(|schema| flag(schema, "nullable") || schema.get("default").is_some())
    });
    for (name, schema) in node
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let Some(default) = schema.get("default") else {
            continue;
        };
        let missing = match members.get(name) {
            None => true,
            Some(member) => member.is_null() && !flag(schema, "nullable"),
        };
        if missing {
            members.insert(name.clone(), default.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Schema {
        let version = json!({"schema": {"openAPIV3Schema": {"type": "object", "properties": {
            "spec": {"type": "object", "required": ["name"], "properties": {
                "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
                "replicas": {"type": "integer", "default": 1, "minimum": 0},
                "mode": {"type": "string", "enum": ["fast", "slow"], "default": "slow"},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                    "properties": {"known": {"type": "object", "properties": {"a": {"type": "string"}}}}},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "list": {"type": "array", "maxItems": 2, "items": {"type": "object", "properties": {
                    "port": {"x-kubernetes-int-or-string": true}, "protocol": {"type": "string", "default": "TCP"}}}},
                "template": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {
                    "spec": {"type": "object"}}},
            }},
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        }}}});
        Schema::of_version(&version).unwrap()
    }

    #[test]
    fn what_the_schema_does_not_have_is_pruned() {
        let mut object = json!({
            "apiVersion": "g/v1", "kind": "K", "metadata": {"name": "n", "odd": 1}, "extra": 1,
            "spec": {"name": "a", "typo": 1, "free": {"any": {"x": 1}, "known": {"a": "1", "b": 2}}, "labels": {"k": "v"},
                "list": [{"port": 1, "no": 1}], "template": {"apiVersion": "v1", "kind": "Pod", "metadata": {}, "no": 1,
                    "spec": {"no": 1}}},
            "status": {"anything": true},
        });
        let mut pruned = Fields::default();
        schema().prune(&mut object, &mut pruned);
        assert_eq!(
            pruned.listed(str::to_owned),
            "extra, spec.typo, spec.free.known.b, spec.list[0].no, spec.template.no, spec.template.spec.no"
        );
        let expected = json!({
            "apiVersion": "g/v1", "kind": "K", "metadata": {"name": "n", "odd": 1},
            "spec": {"name": "a", "free": {"any": {"x": 1}, "known": {"a": "1"}}, "labels": {"k": "v"},
                "list": [{"port": 1}], "template": {"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": {}}},
            "status": {"anything": true},
        });
        assert_eq!(object, expected);
        let mut pruned = Fields::default();
        schema().prune(&mut object, &mut pruned);
        assert_eq!(pruned.count(), 0);
    }

    #[test]
    fn what_is_missing_is_defaulted() {
        let mut object =
            json!({"spec": {"name": "a", "mode": null, "list": [{}, {"protocol": "UDP"}]}});
        schema().fill_defaults(&mut object);
        let expected = json!({"spec": {"name": "a", "mode": "slow", "replicas": 1,
            "list": [{"protocol": "TCP"}, {"protocol": "UDP"}]}});
        assert_eq!(object, expected);
        // A default of a member makes no object around it.
        let mut empty = json!({});
        schema().fill_defaults(&mut empty);
        assert_eq!(empty, json!({}));
    }

    #[test]
    fn what_breaks_a_rule_is_refused_by_its_field() {
        let good =
            json!({"spec": {"name": "abc", "replicas": 0, "list": [{"port": 1}, {"port": "web"}]}});
        let mut causes = Causes::default();
        schema().validate(&good, &mut causes);
        assert_eq!(causes.listed(), []);
        for (spec, field, message) in [
            (json!({}), "spec.name", "Required value"),
            (
                json!({"name": "ABC"}),
                "spec.name",
                "spec.name in body should match '^[a-z]+$'",
            ),
            (
                json!({"name": "abcdef"}),
                "spec.name",
                "Too long: may not be more than 5 bytes",
            ),
            (
                json!({"name": 1}),
                "spec.name",
                "spec.name in body must be of type string: \"integer\"",
            ),
            (
                json!({"name": null}),
                "spec.name",
                "must be of type string: \"null\"",
            ),
            (
                json!({"name": "a", "replicas": -1}),
                "spec.replicas",
                "should be greater than or equal to 0",
            ),
            (
                json!({"name": "a", "replicas": 1.5}),
                "spec.replicas",
                "must be of type integer: \"number\"",
            ),
            (
                json!({"name": "a", "mode": "x"}),
                "spec.mode",
                "supported values: \"fast\", \"slow\"",
            ),
            (
                json!({"name": "a", "labels": {"k": 1}}),
                "spec.labels.k",
                "must be of type string",
            ),
            (
                json!({"name": "a", "list": [{}, {}, {}]}),
                "spec.list",
                "must have at most 2 items",
            ),
            (
                json!({"name": "a", "list": [{"port": true}]}),
                "spec.list[0].port",
                "must be of type",
            ),
        ] {
            let mut causes = Causes::default();
            schema().validate(&json!({ "spec": spec }), &mut causes);
            let found: Vec<&str> = causes
                .listed()
                .iter()
                .map(|cause| cause.field.as_str())
                .collect();
            assert_eq!(found, [field], "{spec}: {causes:?}");
            assert!(
                causes.listed()[0].message.contains(message),
                "{spec}: {}",
                causes.listed()[0].message
            );
        }
    }
}
