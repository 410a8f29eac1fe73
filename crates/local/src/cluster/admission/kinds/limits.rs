//! Resource quotas and limit ranges.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem, ResourceQuota};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Map, Value, json};

use super::NOT_NEGATIVE;
use crate::cluster::admission::names::{QUALIFIED_NAME_RULE, is_qualified_name};
use crate::cluster::api_status::StatusCause;
use crate::cluster::causes::Causes;
use crate::kubelet::quantity::millis;

/// Resources of a quota that are counted, and those that are measured.
const COUNTED: &[&str] = &[
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];
const MEASURED: &[&str] = &[
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
];

/// Adds a cause for each rule that a quota breaks.
pub(super) fn quota(quota: &ResourceQuota, causes: &mut Causes) {
    let Some(spec) = &quota.spec else {
        return;
    };
    for (name, quantity) in spec.hard.iter().flatten() {
        let field = format!("spec.hard[{name}]");
        let amount = millis(&quantity.0).unwrap_or(0);
        let is_paged = name.starts_with("hugepages-") || name.starts_with("requests.hugepages-");
        let is_known =
            COUNTED.contains(&name.as_str()) || MEASURED.contains(&name.as_str()) || is_paged;
        if !is_qualified_name(name) {
            causes.push(StatusCause::value(&field, name, QUALIFIED_NAME_RULE));
        } else if !name.contains('/') && !is_known {
            let rule = "must be a standard resource for quota";
            causes.push(StatusCause::value(&field, name, rule));
        }
        if amount < 0 {
            causes.push(StatusCause::value(&field, &quantity.0, NOT_NEGATIVE));
        }
        let is_counted = COUNTED.contains(&name.as_str()) || name.contains('/');
        if is_counted && amount % 1000 != 0 {
            causes.push(StatusCause::value(
                &field,
                &quantity.0,
                "must be an integer",
            ));
        }
    }
    let scopes: Vec<&str> = spec.scopes.iter().flatten().map(String::as_str).collect();
    validate_scopes(&scopes, spec.hard.as_ref(), causes);
}

fn validate_scopes(
    scopes: &[&str],
    hard: Option<&BTreeMap<String, Quantity>>,
    causes: &mut Causes,
) {
    const SCOPES: &[&str] = &[
        "BestEffort",
        "CrossNamespacePodAffinity",
        "NotBestEffort",
        "NotTerminating",
        "PriorityClass",
        "Terminating",
        "VolumeAttributesClass",
    ];
    let given = scopes.join(",");
    let mut refuse = |rule: &str| causes.push(StatusCause::value("spec.scopes", &given, rule));
    let has = |scope: &str| scopes.contains(&scope);
    let has_both = |pair: [&str; 2]| pair.iter().all(|scope| has(scope));
    if scopes.iter().any(|scope| !SCOPES.contains(scope)) {
        return refuse("unsupported scope");
    }
    if has_both(["BestEffort", "NotBestEffort"]) || has_both(["Terminating", "NotTerminating"]) {
        refuse("conflicting scopes");
    }
    let fits = |scope: &str, name: &str| match scope {
        "BestEffort" => name == "pods",
        "VolumeAttributesClass" => matches!(name, "persistentvolumeclaims" | "requests.storage"),
        _ => name == "pods" || (MEASURED.contains(&name) && name != "requests.storage"),
    };
    let mut names = hard.into_iter().flat_map(BTreeMap::keys);
    if names.any(|name| scopes.iter().any(|scope| !fits(scope, name))) {
        refuse("unsupported scope applied to resource");
    }
}

/// What a quota is of does not change.
pub(super) fn guard_quota(current: &Value, next: &Value, causes: &mut Causes) {
    let scopes = |quota: &Value| quota.pointer("/spec/scopes").cloned();
    if scopes(current) != scopes(next) {
        let given = scopes(next).unwrap_or_default().to_string();
        let rule = "field is immutable";
        causes.push(StatusCause::value("spec.scopes", &given, rule));
    }
}

/// Fills in what a real server fills in: what a container gets that says nothing.
pub(super) fn fill_defaults(object: &mut Map<String, Value>) {
    let limits = object
        .get_mut("spec")
        .and_then(|spec| spec.get_mut("limits"));
    let limits = limits.and_then(Value::as_array_mut).into_iter().flatten();
    for limit in limits.filter_map(Value::as_object_mut) {
        if limit.get("type").and_then(Value::as_str) != Some("Container") {
            continue;
        }
        for (from, to) in [
            ("max", "default"),
            ("default", "defaultRequest"),
            ("min", "defaultRequest"),
        ] {
            let Some(Value::Object(given)) = limit.get(from).cloned() else {
                continue;
            };
            let filled = limit.entry(to).or_insert_with(|| json!({}));
            if let Some(filled) = filled.as_object_mut() {
                for (name, quantity) in given {
                    filled.entry(name).or_insert(quantity);
                }
            }
        }
    }
}

/// Adds a cause for each rule that a limit range breaks.
pub(super) fn range(range: &LimitRange, causes: &mut Causes) {
    const TYPES: &[&str] = &["Container", "PersistentVolumeClaim", "Pod"];
    let limits = range.spec.as_ref().map(|spec| spec.limits.as_slice());
    let mut types = BTreeSet::new();
    for (index, limit) in limits.unwrap_or_default().iter().enumerate() {
        let field = format!("spec.limits[{index}]");
        let kind = limit.type_.as_str();
        let at = format!("{field}.type");
        if !is_qualified_name(kind) {
            causes.push(StatusCause::value(at, kind, QUALIFIED_NAME_RULE));
        } else if !kind.contains('/') && !TYPES.contains(&kind) {
            let rule = "must be a standard limit type or fully qualified";
            causes.push(StatusCause::value(at, kind, rule));
        } else if !types.insert(kind) {
            causes.push(StatusCause::duplicate(at, kind));
        }
        let is_given = |map: &Option<BTreeMap<String, Quantity>>| {
            map.as_ref().is_some_and(|map| !map.is_empty())
        };
        for (member, given) in [
            ("default", &limit.default),
            ("defaultRequest", &limit.default_request),
        ] {
            if kind == "Pod" && is_given(given) {
                let rule = "may not be specified when `type` is 'Pod'";
                causes.push(StatusCause::forbidden(format!("{field}.{member}"), rule));
            }
        }
        let has_storage = |map: &Option<BTreeMap<String, Quantity>>| {
            map.as_ref().is_some_and(|map| map.contains_key("storage"))
        };
        if kind == "PersistentVolumeClaim" && !has_storage(&limit.min) && !has_storage(&limit.max) {
            let rule =
                "either minimum or maximum storage value is required, but neither was provided";
            causes.push(StatusCause::missing(format!("{field}.limits"), rule));
        }
        amounts(limit, &field, causes);
    }
}

/// How the amounts of a limit stand to each other.
fn amounts(limit: &LimitRangeItem, field: &str, causes: &mut Causes) {
    let maps = [
        ("min", "min", limit.min.as_ref()),
        (
            "defaultRequest",
            "default request",
            limit.default_request.as_ref(),
        ),
        ("default", "default limit", limit.default.as_ref()),
        ("max", "max", limit.max.as_ref()),
    ];
    for (member, _, map) in maps {
        for name in map.into_iter().flat_map(BTreeMap::keys) {
            if !is_qualified_name(name) {
                let field = format!("{field}.{member}[{name}]");
                causes.push(StatusCause::value(field, name, QUALIFIED_NAME_RULE));
            }
        }
    }
    // Each pair of a lesser and a greater one, and which of the two is said to be wrong.
    for (lesser, greater, blamed) in [
        (0, 3, 0),
        (0, 1, 1),
        (0, 2, 2),
        (1, 3, 1),
        (1, 2, 1),
        (2, 3, 2),
    ] {
        let (Some(less), Some(more), Some(blamed)) =
            (maps.get(lesser), maps.get(greater), maps.get(blamed))
        else {
            continue;
        };
        for (name, least) in less.2.into_iter().flatten() {
            let Some(most) = more.2.and_then(|map| map.get(name)) else {
                continue;
            };
            if millis(&least.0) > millis(&most.0) {
                let rule = format!(
                    "{} value {} is greater than {} value {}",
                    less.1, least.0, more.1, most.0
                );
                let field = format!("{field}.{}[{name}]", blamed.0);
                causes.push(StatusCause::value(field, &least.0, &rule));
            }
        }
    }
    for (name, ratio) in limit.max_limit_request_ratio.iter().flatten() {
        if millis(&ratio.0).is_some_and(|ratio| ratio < 1000) {
            let rule = format!("ratio {} is less than 1", ratio.0);
            let field = format!("{field}.maxLimitRequestRatio[{name}]");
            causes.push(StatusCause::value(field, &ratio.0, &rule));
        }
    }
}
