//! Roles and bindings.

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, RoleBinding};
use serde_json::{Map, Value};

use super::one_of;
use crate::cluster::admission::names::{DNS_SUBDOMAIN_RULE, is_dns_subdomain};
use crate::cluster::admission::selectors;
use crate::cluster::api_status::StatusCause;
use crate::cluster::causes::Causes;

const RBAC: &str = "rbac.authorization.k8s.io";

/// Fills in what a real server fills in.
pub(super) fn fill_binding(object: &mut Map<String, Value>) {
    let is_missing = |member: Option<&Value>| {
        member.is_none_or(|member| member.is_null() || member.as_str() == Some(""))
    };
    let namespace = object
        .get("metadata")
        .and_then(|metadata| metadata.get("namespace"))
        .cloned();
    let role = object
        .entry("roleRef")
        .or_insert_with(|| Value::Object(Map::new()));
    if let Some(role) = role.as_object_mut()
        && is_missing(role.get("apiGroup"))
    {
        role.insert("apiGroup".to_owned(), RBAC.into());
    }
    for subject in object
        .get_mut("subjects")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        let is_account = subject.get("kind").and_then(Value::as_str) == Some("ServiceAccount");
        if let Some(subject) = subject.as_object_mut()
            && is_account
            && is_missing(subject.get("namespace"))
            && let Some(namespace) = &namespace
        {
            subject.insert("namespace".to_owned(), namespace.clone());
        }
        if let Some(subject) = subject.as_object_mut()
            && matches!(
                subject.get("kind").and_then(Value::as_str),
                Some("User" | "Group")
            )
            && is_missing(subject.get("apiGroup"))
        {
            subject.insert("apiGroup".to_owned(), RBAC.into());
        }
    }
}

/// Adds a cause for each rule of a role that breaks a rule.
pub(super) fn rules(given: Option<&[PolicyRule]>, is_namespaced: bool, causes: &mut Causes) {
    for (index, rule) in given.into_iter().flatten().enumerate() {
        let at = |member: &str| format!("rules[{index}].{member}");
        let is_empty = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
        if rule.verbs.is_empty() {
            causes.push(StatusCause::missing(
                at("verbs"),
                "verbs must contain at least one value",
            ));
        }
        if !is_empty(&rule.non_resource_urls) {
            if is_namespaced {
                let why = "namespaced rules cannot apply to non-resource URLs";
                causes.push(StatusCause::value(at("nonResourceURLs"), "", why));
            }
            if !is_empty(&rule.api_groups)
                || !is_empty(&rule.resources)
                || !is_empty(&rule.resource_names)
            {
                let why = "rules cannot apply to both regular resources and non-resource URLs";
                causes.push(StatusCause::value(at("nonResourceURLs"), "", why));
            }
            continue;
        }
        if is_empty(&rule.api_groups) {
            causes.push(StatusCause::missing(
                at("apiGroups"),
                "resource rules must supply at least one api group",
            ));
        }
        if is_empty(&rule.resources) {
            causes.push(StatusCause::missing(
                at("resources"),
                "resource rules must supply at least one resource",
            ));
        }
    }
}

/// A role that is made of others says of which.
pub(super) fn aggregation(role: &ClusterRole, causes: &mut Causes) {
    const FIELD: &str = "aggregationRule.clusterRoleSelectors";
    let Some(rule) = &role.aggregation_rule else {
        return;
    };
    let others = rule.cluster_role_selectors.as_deref().unwrap_or_default();
    if others.is_empty() {
        let rule = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        causes.push(StatusCause::missing(FIELD, rule));
    }
    for (index, selector) in others.iter().enumerate() {
        selectors::validate(Some(selector), &format!("{FIELD}[{index}]"), causes);
    }
}

/// Adds a cause for each rule that a binding breaks. `roles` are the kinds that it may bind to.
pub(super) fn binding(binding: &RoleBinding, roles: &[&str], causes: &mut Causes) {
    let role = &binding.role_ref;
    if role.api_group != RBAC {
        causes.push(StatusCause::unsupported(
            "roleRef.apiGroup",
            &role.api_group,
            &[RBAC],
        ));
    }
    if !roles.contains(&role.kind.as_str()) {
        causes.push(StatusCause::unsupported("roleRef.kind", &role.kind, roles));
    }
    if role.name.is_empty() {
        causes.push(StatusCause::required("roleRef.name"));
    }
    for (index, subject) in binding.subjects.iter().flatten().enumerate() {
        let at = |member: &str| format!("subjects[{index}].{member}");
        const KINDS: &[&str] = &["Group", "ServiceAccount", "User"];
        if subject.name.is_empty() {
            causes.push(StatusCause::required(at("name")));
        }
        if !KINDS.contains(&subject.kind.as_str()) {
            causes.push(StatusCause::unsupported(at("kind"), &subject.kind, KINDS));
        }
        match subject.kind.as_str() {
            "ServiceAccount" if !is_dns_subdomain(&subject.name) => {
                let rule = DNS_SUBDOMAIN_RULE;
                causes.push(StatusCause::value(at("name"), &subject.name, rule));
            }
            "ServiceAccount" if subject.namespace.as_ref().is_none_or(String::is_empty) => {
                causes.push(StatusCause::required(at("namespace")));
            }
            "User" | "Group" => one_of(
                subject.api_group.as_deref(),
                &[RBAC],
                &at("apiGroup"),
                causes,
            ),
            _ => {}
        }
    }
}
