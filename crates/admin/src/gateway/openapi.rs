//! The description of AdminService's routes at `/api/v1/openapi`, in Swagger 2.0 as the reference's (spec 01 §1.3).
//!
//! It is made from the descriptors and the routes that are served, so it cannot disagree with them. Names of
//! definitions are those of grpc-gateway: the last part of the package, then the message.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::routes::{Route, Routes};

/// The service that the document describes.
const SERVICE: &str = "flyteidl.service.AdminService";

/// The OpenAPI 2 document of all routes, as JSON (`/api/v1/openapi`).
pub(super) fn document(routes: &Routes) -> String {
    let mut definitions = Definitions::default();
    let mut paths = Map::new();
    for route in routes.of_service(SERVICE) {
        let template = route.template();
        let operation = operation(route, &template, &mut definitions);
        let methods = paths.entry(template).or_insert_with(|| json!({}));
        if let Some(methods) = methods.as_object_mut() {
            methods.insert(route.method.as_str().to_ascii_lowercase(), operation);
        }
    }
    let document = json!({
        "swagger": "2.0",
        "info": {"title": "flyteidl/service/admin.proto", "version": "version not set"},
        "tags": [{"name": "AdminService"}],
        "consumes": ["application/json"],
        "produces": ["application/json"],
        "paths": paths,
        "definitions": definitions.finish(),
    });
    format!("{document:#}")
}

fn operation(route: &Route, template: &str, definitions: &mut Definitions) -> Value {
    let variables: BTreeSet<&str> = route.variables().collect();
    let mut parameters: Vec<Value> = variables
        .iter()
        .map(|path| {
            let mut parameter = field_at(&route.input, path).map_or_else(
                || json!({"type": "string"}),
                |field| single(&field, definitions),
            );
            describe(&mut parameter, path, "path", true);
            parameter
        })
        .collect();
    if route.whole_body {
        parameters.push(json!({
            "name": "body", "in": "body", "required": true,
            "schema": definitions.message(&route.input),
        }));
    } else {
        query_parameters(route, &variables, &mut parameters);
    }
    let method = route.rpc.rsplit('/').next().unwrap_or_default();
    // An id is unique: of the routes of one RPC, those that are not its main one are numbered by their variables.
    let suffix = template.matches('{').count();
    json!({
        "operationId": format!("AdminService_{method}{suffix}"),
        "responses": {
            "200": {"description": "A successful response.", "schema": definitions.message(&route.output)},
            "default": {"description": "An error.", "schema": {"$ref": "#/definitions/rpcStatus"}},
        },
        "parameters": parameters,
        "tags": ["AdminService"],
    })
}

/// Scalars of the request that the path does not name, by dotted path; a message within itself is left out.
fn query_parameters(route: &Route, variables: &BTreeSet<&str>, parameters: &mut Vec<Value>) {
    let mut open = vec![(String::new(), route.input.clone(), BTreeSet::new())];
    while let Some((prefix, message, mut above)) = open.pop() {
        above.insert(message.full_name().to_owned());
        for field in message.fields() {
            let path = format!("{prefix}{}", field.name());
            if variables.contains(path.as_str()) || field.is_map() {
                continue;
            }
            if let Kind::Message(inner) = field.kind()
                && well_known(inner.full_name()).is_none()
            {
                if !field.is_list() && !above.contains(inner.full_name()) {
                    open.push((format!("{path}."), inner, above.clone()));
                }
                continue;
            }
            let mut parameter = match field.kind() {
                Kind::Enum(values) => enumeration(&values),
                kind => scalar(&kind),
            };
            if field.is_list() {
                parameter =
                    json!({"type": "array", "items": parameter, "collectionFormat": "multi"});
            }
            describe(&mut parameter, &path, "query", false);
            parameters.push(parameter);
        }
    }
}

fn describe(parameter: &mut Value, name: &str, place: &str, required: bool) {
    if let Some(members) = parameter.as_object_mut() {
        members.insert("name".to_owned(), name.into());
        members.insert("in".to_owned(), place.into());
        members.insert("required".to_owned(), required.into());
    }
}

fn field_at(message: &MessageDescriptor, path: &str) -> Option<FieldDescriptor> {
    let mut message = message.clone();
    let mut parts = path.split('.').peekable();
    while let Some(part) = parts.next() {
        let field = message.get_field_by_name(part)?;
        if parts.peek().is_none() {
            return Some(field);
        }
        message = field.kind().as_message()?.clone();
    }
    None
}

/// Schemas of messages and enums that something refers to.
struct Definitions {
    ready: BTreeMap<String, Value>,
    open: Vec<MessageDescriptor>,
}

impl Default for Definitions {
    fn default() -> Self {
        let any = json!({
            "type": "object",
            "properties": {"type_url": {"type": "string"}, "value": {"type": "string", "format": "byte"}},
        });
        let status = json!({
            "type": "object",
            "properties": {
                "code": {"type": "integer", "format": "int32"},
                "message": {"type": "string"},
                "details": {"type": "array", "items": {"$ref": "#/definitions/protobufAny"}},
            },
        });
        Self {
            ready: BTreeMap::from([
                ("protobufAny".to_owned(), any),
                ("rpcStatus".to_owned(), status),
            ]),
            open: Vec::new(),
        }
    }
}

impl Definitions {
    fn message(&mut self, message: &MessageDescriptor) -> Value {
        let name = definition_name(message.full_name());
        if !self.ready.contains_key(&name) {
            self.ready.insert(name.clone(), Value::Null);
            self.open.push(message.clone());
        }
        reference(&name)
    }

    fn enumeration(&mut self, values: &EnumDescriptor) -> Value {
        let name = definition_name(values.full_name());
        self.ready
            .entry(name.clone())
            .or_insert_with(|| enumeration(values));
        reference(&name)
    }

    fn finish(mut self) -> BTreeMap<String, Value> {
        while let Some(message) = self.open.pop() {
            let properties: Map<String, Value> = message
                .fields()
                .map(|field| (field.name().to_owned(), property(&field, &mut self)))
                .collect();
            let name = definition_name(message.full_name());
            self.ready
                .insert(name, json!({"type": "object", "properties": properties}));
        }
        self.ready
    }
}

fn property(field: &FieldDescriptor, definitions: &mut Definitions) -> Value {
    if field.is_map()
        && let Kind::Message(entry) = field.kind()
    {
        let value = single(&entry.map_entry_value_field(), definitions);
        return json!({"type": "object", "additionalProperties": value});
    }
    let value = single(field, definitions);
    if field.is_list() {
        json!({"type": "array", "items": value})
    } else {
        value
    }
}

fn single(field: &FieldDescriptor, definitions: &mut Definitions) -> Value {
    match field.kind() {
        Kind::Message(message) => {
            well_known(message.full_name()).unwrap_or_else(|| definitions.message(&message))
        }
        Kind::Enum(values) => definitions.enumeration(&values),
        kind => scalar(&kind),
    }
}

/// Messages whose JSON is not that of their fields.
fn well_known(name: &str) -> Option<Value> {
    Some(match name {
        "google.protobuf.Timestamp" => json!({"type": "string", "format": "date-time"}),
        "google.protobuf.Duration" => json!({"type": "string"}),
        "google.protobuf.Struct" => json!({"type": "object"}),
        "google.protobuf.Any" => reference("protobufAny"),
        "google.protobuf.BoolValue" => json!({"type": "boolean"}),
        _ => return None,
    })
}

fn scalar(kind: &Kind) -> Value {
    match kind {
        Kind::Double | Kind::Float => json!({"type": "number", "format": "double"}),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            json!({"type": "integer", "format": "int32"})
        }
        Kind::Uint32 | Kind::Fixed32 => json!({"type": "integer", "format": "int64"}),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => json!({"type": "string", "format": "int64"}),
        Kind::Uint64 | Kind::Fixed64 => json!({"type": "string", "format": "uint64"}),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Bytes => json!({"type": "string", "format": "byte"}),
        Kind::String | Kind::Message(_) | Kind::Enum(_) => json!({"type": "string"}),
    }
}

fn enumeration(values: &EnumDescriptor) -> Value {
    let names: Vec<String> = values
        .values()
        .map(|value| value.name().to_owned())
        .collect();
    json!({"type": "string", "enum": names, "default": values.default_value().name()})
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/definitions/{name}")})
}

/// `flyteidl.core.Binding` is `coreBinding`.
fn definition_name(full_name: &str) -> String {
    let mut parts = full_name.split('.').peekable();
    let mut name = String::new();
    let mut package = "";
    while let Some(part) =
        parts.next_if(|part| part.starts_with(|letter: char| letter.is_lowercase()))
    {
        package = part;
    }
    name.push_str(package);
    name.extend(parts);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_of_the_document_leads_somewhere() {
        let document: Value = serde_json::from_str(&document(&Routes::from_descriptors())).unwrap();
        let mut open = vec![&document];
        let mut references = 0;
        while let Some(value) = open.pop() {
            match value {
                Value::Object(members) => {
                    if let Some(target) = members.get("$ref").and_then(Value::as_str) {
                        references += 1;
                        let pointer = target.trim_start_matches('#');
                        assert!(document.pointer(pointer).unwrap().is_object(), "{target}");
                    }
                    open.extend(members.values());
                }
                Value::Array(items) => open.extend(items),
                _ => {}
            }
        }
        assert!(references > 500, "{references}");
    }

    #[test]
    fn routes_have_their_parameters() {
        let document: Value = serde_json::from_str(&document(&Routes::from_descriptors())).unwrap();
        let names = |path: &str, method: &str| -> Vec<(String, String)> {
            let parameters = document["paths"][path][method]["parameters"].as_array();
            parameters
                .unwrap()
                .iter()
                .map(|parameter| {
                    let text = |name: &str| parameter[name].as_str().unwrap().to_owned();
                    (text("name"), text("in"))
                })
                .collect()
        };
        assert_eq!(
            names("/api/v1/tasks", "post"),
            [("body".to_owned(), "body".to_owned())]
        );
        let list = names("/api/v1/executions/{id.project}/{id.domain}", "get");
        for (name, place) in [
            ("id.project", "path"),
            ("limit", "query"),
            ("sort_by.key", "query"),
            ("id.name", "query"),
        ] {
            assert!(
                list.contains(&(name.to_owned(), place.to_owned())),
                "{name} in {place}: {list:?}"
            );
        }
        let create = &document["paths"]["/api/v1/executions"]["post"];
        assert_eq!(
            create["responses"]["200"]["schema"]["$ref"],
            "#/definitions/adminExecutionCreateResponse"
        );
    }
}
