//! OpenAPI documents of version 3, from which `kubectl explain` tells fields and `kubectl apply` computes patches: those of
//! custom resources as their definitions give them, those of Kubernetes' own kinds with fields and types, without texts.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value, json};

use crate::cluster::admission::typed;
use crate::cluster::api_status::ApiStatus;
use crate::cluster::discovery::{VERSION, in_version};
use crate::cluster::resource::Registry;

pub(crate) mod fields;

use fields::Definitions;

/// The documents there are, by group and version.
pub(super) fn index(registry: &Registry) -> Value {
    let mut paths = Map::new();
    for (group, versions) in registry.groups() {
        for version in versions {
            let path = if group.is_empty() {
                format!("api/{version}")
            } else {
                format!("apis/{group}/{version}")
            };
            let url = json!({ "serverRelativeURL": format!("/openapi/v3/{path}?hash=flyte") });
            paths.insert(path, url);
        }
    }
    json!({ "paths": paths })
}

/// The document of a group and version: its kinds, their fields and their operations.
pub(super) fn document(
    registry: &Registry,
    group: &str,
    version: &str,
) -> Result<Value, ApiStatus> {
    let mut paths = Map::new();
    let mut schemas = Map::new();
    let mut definitions = Definitions::default();
    for resource in in_version(registry, group, version) {
        let kind =
            json!({ "group": resource.group, "version": resource.version, "kind": resource.kind });
        let schema = format!("{}.{}.{}", resource.group, resource.version, resource.kind);
        let query = |name: &str, kind: &str| json!({ "name": name, "in": "query", "schema": { "type": kind, "uniqueItems": true } });
        let operation = |action: &str, parameters: Vec<Value>| {
            json!({
                "x-kubernetes-action": action, "x-kubernetes-group-version-kind": kind, "parameters": parameters,
                "responses": { "200": { "description": "OK" } },
            })
        };
        let writes = || {
            vec![
                query("dryRun", "string"),
                query("fieldManager", "string"),
                query("fieldValidation", "string"),
            ]
        };
        let root = if group.is_empty() {
            format!("/api/{version}")
        } else {
            format!("/apis/{group}/{version}")
        };
        let scope = if resource.namespaced() {
            "/namespaces/{namespace}"
        } else {
            ""
        };
        let collection = format!("{root}{scope}/{}", resource.plural);
        paths.insert(
            format!("{collection}/{{name}}"),
            json!({
                "get": operation("get", Vec::new()), "put": operation("put", writes()),
                "patch": operation("patch", [writes(), vec![query("force", "boolean")]].concat()),
                "delete": operation("delete", vec![query("dryRun", "string")]),
            }),
        );
        paths.insert(
            collection,
            json!({ "get": operation("list", Vec::new()), "post": operation("post", writes()) }),
        );
        let fields = match (&resource.schema, typed::kind(&resource.id)) {
            (Some(schema), _) => with_object_fields(schema.value().clone()),
            (None, Some(kind)) => {
                let name = kind.describe(&mut definitions);
                let described = definitions.0.get_mut(&name).map(Value::take);
                with_object_fields(described.unwrap_or_default())
            }
            (None, None) => with_object_fields(Value::Null),
        };
        schemas.insert(schema, with_kind(fields, &kind));
    }
    if paths.is_empty() {
        return Err(ApiStatus::no_such_path());
    }
    definitions.add::<ObjectMeta>();
    // What was moved to the name of its kind is left empty there.
    let types = definitions
        .0
        .into_iter()
        .filter(|(_, schema)| !schema.is_null());
    schemas.extend(types);
    let info = json!({ "title": "Kubernetes", "version": format!("v{}.{}", VERSION.0, VERSION.1) });
    Ok(
        json!({ "openapi": "3.0.0", "info": info, "paths": paths, "components": { "schemas": schemas } }),
    )
}

/// A schema of an object, with the members that every object has.
fn with_object_fields(mut schema: Value) -> Value {
    if !schema.is_object() {
        schema = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    }
    let metadata = json!({ "$ref": format!("#/components/schemas/{}", fields::METADATA) });
    if let Some(members) = schema.as_object_mut() {
        let properties = members.entry("properties").or_insert_with(|| json!({}));
        if let Some(properties) = properties.as_object_mut() {
            properties.insert("metadata".to_owned(), metadata);
            for name in ["apiVersion", "kind"] {
                properties.insert(name.to_owned(), json!({ "type": "string" }));
            }
        }
    }
    schema
}

/// A schema that says which kind it is of.
fn with_kind(mut schema: Value, kind: &Value) -> Value {
    if let Some(members) = schema.as_object_mut() {
        let kinds = Value::Array(vec![kind.clone()]);
        members.insert("x-kubernetes-group-version-kind".to_owned(), kinds);
    }
    schema
}
