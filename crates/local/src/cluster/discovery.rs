//! Everything that is not an object: discovery (legacy and aggregated), version, health.

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::cluster::api::{Call, json_answer, text_answer};
use crate::cluster::api_status::ApiStatus;
use crate::cluster::openapi;
use crate::cluster::protobuf;
use crate::cluster::resource::{Registry, Resource};

/// The Kubernetes version whose behaviour this API follows.
pub(super) const VERSION: (&str, &str) = ("1", "34");

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

impl Cluster {
    pub(crate) fn other(
        &self,
        segments: &[String],
        call: &Call,
    ) -> Result<Response<Body>, ApiStatus> {
        let words: Vec<&str> = segments.iter().map(String::as_str).collect();
        // Reviews are asked by POST and answered at once: who got here may do everything.
        if let [
            "apis",
            group @ ("authorization.k8s.io" | "authentication.k8s.io"),
            "v1",
            kind,
        ] = words.as_slice()
        {
            return review(group, kind, call);
        }
        if !matches!(call.method, Method::GET | Method::HEAD) {
            return Err(ApiStatus::no_such_path());
        }
        let registry = self.model().registry.clone();
        let aggregated = call
            .headers
            .get(header::ACCEPT)
            .and_then(|accept| accept.to_str().ok())
            .is_some_and(|accept| {
                accept.contains("g=apidiscovery.k8s.io") && accept.contains("v=v2;")
            });
        let answer = match words.as_slice() {
            ["api"] if aggregated => {
                return Ok(aggregated_answer(&registry, str::is_empty));
            }
            ["apis"] if aggregated => {
                return Ok(aggregated_answer(&registry, |group| !group.is_empty()));
            }
            ["api"] => {
                json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] })
            }
            ["apis"] => {
                let groups: Vec<Value> = registry
                    .groups()
                    .iter()
                    .filter(|(group, _)| !group.is_empty())
                    .map(|(group, versions)| group_answer(group, versions))
                    .collect();
                json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
            }
            ["api", version] => resource_list(&registry, "", version)?,
            ["apis", group] => {
                let groups = registry.groups();
                let versions = groups.get(*group).ok_or_else(ApiStatus::no_such_path)?;
                let mut answer = group_answer(group, versions);
                if let Some(map) = answer.as_object_mut() {
                    map.insert("kind".to_owned(), "APIGroup".into());
                    map.insert("apiVersion".to_owned(), "v1".into());
                }
                answer
            }
            ["apis", group, version] => resource_list(&registry, group, version)?,
            ["version"] => json!({
                "major": VERSION.0, "minor": VERSION.1, "gitVersion": format!("v{}.{}.0+flyte", VERSION.0, VERSION.1),
                "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none",
                "compiler": "rustc", "platform": "linux/amd64",
            }),
            [check @ ("healthz" | "readyz")] if let Some(failure) = self.store_failure() => {
                // In the words of kube-apiserver, whose store is etcd.
                let text = format!("[+]ping ok\n[-]etcd failed: {failure}\n{check} check failed\n");
                let mut answer = text_answer(text);
                *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                return Ok(answer);
            }
            ["healthz" | "livez" | "readyz", ..] => return Ok(text_answer("ok")),
            ["openapi", "v3"] => openapi::index(&registry),
            ["openapi", "v3", "api", version] => openapi::document(&registry, "", version)?,
            ["openapi", "v3", "apis", group, version] => {
                openapi::document(&registry, group, version)?
            }
            [] => {
                let mut paths = vec!["/api".to_owned(), "/api/v1".to_owned(), "/apis".to_owned()];
                for (group, versions) in registry
                    .groups()
                    .iter()
                    .filter(|(group, _)| !group.is_empty())
                {
                    paths.push(format!("/apis/{group}"));
                    paths.extend(
                        versions
                            .iter()
                            .map(|version| format!("/apis/{group}/{version}")),
                    );
                }
                paths.extend(
                    ["/healthz", "/livez", "/openapi/v3", "/readyz", "/version"].map(str::to_owned),
                );
                json!({ "paths": paths })
            }
            _ => return Err(ApiStatus::no_such_path()),
        };
        Ok(json_answer(StatusCode::OK, answer.to_string()))
    }
}

fn review(group: &str, kind: &str, call: &Call) -> Result<Response<Body>, ApiStatus> {
    if call.method != Method::POST {
        return Err(ApiStatus::method_not_allowed());
    }
    let mut review = call.value("the review", protobuf::type_only)?;
    let user = json!({ "username": "flyte", "groups": ["system:masters", "system:authenticated"] });
    let status = match (group, kind) {
        ("authorization.k8s.io", "selfsubjectaccessreviews" | "subjectaccessreviews") => {
            json!({ "allowed": true })
        }
        ("authorization.k8s.io", "selfsubjectrulesreviews") => json!({
            "resourceRules": [{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] }],
            "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }], "incomplete": false,
        }),
        ("authentication.k8s.io", "selfsubjectreviews") => json!({ "userInfo": user }),
        _ => return Err(ApiStatus::no_such_path()),
    };
    let members = review
        .as_object_mut()
        .ok_or_else(|| ApiStatus::bad_request("the review is not a JSON object"))?;
    members.insert("status".to_owned(), status);
    Ok(json_answer(StatusCode::CREATED, review.to_string()))
}

fn group_answer(group: &str, versions: &[String]) -> Value {
    let served: Vec<Value> = versions
        .iter()
        .map(|version| json!({ "groupVersion": format!("{group}/{version}"), "version": version }))
        .collect();
    json!({ "name": group, "versions": served, "preferredVersion": served.first().cloned().unwrap_or_default() })
}

const VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

/// Subresources by their path, with the verbs they take and the kind they speak.
fn parts(resource: &Resource) -> Vec<(&'static str, Vec<&'static str>, String)> {
    let mut parts = Vec::new();
    if resource.status {
        parts.push((
            "status",
            vec!["get", "patch", "update"],
            resource.kind.clone(),
        ));
    }
    if resource.is_pod() {
        parts.push(("log", vec!["get"], "Pod".to_owned()));
        parts.push(("binding", vec!["create"], "Binding".to_owned()));
        parts.push(("eviction", vec!["create"], "Eviction".to_owned()));
    }
    if resource.plural == "namespaces" {
        parts.push(("finalize", vec!["update"], "Namespace".to_owned()));
    }
    parts
}

fn resource_list(registry: &Registry, group: &str, version: &str) -> Result<Value, ApiStatus> {
    let mut resources = Vec::new();
    for resource in in_version(registry, group, version) {
        let mut entry = json!({
            "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced(),
            "kind": resource.kind, "verbs": VERBS,
        });
        if let Some(map) = entry.as_object_mut() {
            if !resource.short_names.is_empty() {
                map.insert("shortNames".to_owned(), json!(resource.short_names));
            }
            if !resource.categories.is_empty() {
                map.insert("categories".to_owned(), json!(resource.categories));
            }
        }
        resources.push(entry);
        for (part, verbs, kind) in parts(resource) {
            resources.push(json!({
                "name": format!("{}/{part}", resource.plural), "singularName": "", "namespaced": resource.namespaced(),
                "kind": kind, "verbs": verbs,
            }));
        }
    }
    if resources.is_empty() {
        return Err(ApiStatus::no_such_path());
    }
    let group_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    Ok(
        json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources }),
    )
}

pub(super) fn in_version<'a>(
    registry: &'a Registry,
    group: &'a str,
    version: &'a str,
) -> impl Iterator<Item = &'a Arc<Resource>> {
    registry
        .all()
        .filter(move |resource| resource.group == group && resource.version == version)
}

fn aggregated_answer(registry: &Registry, chosen: impl Fn(&str) -> bool) -> Response<Body> {
    let mut items = Vec::new();
    for (group, versions) in registry.groups().iter().filter(|(group, _)| chosen(group)) {
        let versions: Vec<Value> = versions
            .iter()
            .map(|version| {
                let resources: Vec<Value> = in_version(registry, group, version)
                    .map(|resource| aggregated(resource))
                    .collect();
                json!({ "version": version, "resources": resources, "freshness": "Current" })
            })
            .collect();
        items.push(json!({ "metadata": { "name": group, "creationTimestamp": null }, "versions": versions }));
    }
    let list = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items,
    });
    let mut response = json_answer(StatusCode::OK, list.to_string());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(AGGREGATED));
    response
}

fn aggregated(resource: &Resource) -> Value {
    let kind =
        |kind: &str| json!({ "group": resource.group, "version": resource.version, "kind": kind });
    let parts: Vec<Value> = parts(resource)
        .into_iter()
        .map(|(part, verbs, spoken)| json!({ "subresource": part, "responseKind": kind(&spoken), "verbs": verbs }))
        .collect();
    let mut entry = json!({
        "resource": resource.plural, "responseKind": kind(&resource.kind),
        "scope": if resource.namespaced() { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular, "verbs": VERBS,
    });
    if let Some(map) = entry.as_object_mut() {
        for (name, list) in [
            ("shortNames", json!(resource.short_names)),
            ("categories", json!(resource.categories)),
        ] {
            if list.as_array().is_some_and(|list| !list.is_empty()) {
                map.insert(name.to_owned(), list);
            }
        }
        if !parts.is_empty() {
            map.insert("subresources".to_owned(), Value::Array(parts));
        }
    }
    entry
}
