//! Rules and defaults of Kubernetes' kinds other than pods and their data, as `pkg/apis/…/validation` has them: services,
//! quotas, roles and bindings, leases, claims, budgets, classes.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    LimitRange, PersistentVolumeClaim, ResourceQuota, Service, ServicePort,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role, RoleBinding};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Map, Value};

use super::names::{
    DNS_1035_LABEL_RULE, LABEL_VALUE_RULE, QUALIFIED_NAME_RULE, is_dns_1035_label, is_label_value,
    is_qualified_name,
};
use super::typed::{self, WrongType};
use crate::cluster::api_status::StatusCause;
use crate::kubelet::quantity::millis;

const RBAC: &str = "rbac.authorization.k8s.io";
const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

/// Fills in what a real server fills in.
pub(super) fn fill_defaults(id: &str, object: &mut Map<String, Value>) {
    match id {
        "services" => fill_service(object),
        "rolebindings.rbac.authorization.k8s.io"
        | "clusterrolebindings.rbac.authorization.k8s.io" => {
            fill_binding(object);
        }
        _ => {}
    }
}

fn fill_service(object: &mut Map<String, Value>) {
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    for (name, default) in [("type", "ClusterIP"), ("sessionAffinity", "None")] {
        spec.entry(name).or_insert_with(|| default.into());
    }
    let is_external = spec.get("type").and_then(Value::as_str) == Some("ExternalName");
    for port in spec
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        let Some(port) = port.as_object_mut() else {
            continue;
        };
        port.entry("protocol").or_insert_with(|| "TCP".into());
        if let (false, Some(number)) = (is_external, port.get("port").cloned()) {
            port.entry("targetPort").or_insert(number);
        }
    }
}

fn fill_binding(object: &mut Map<String, Value>) {
    let is_missing = |member: Option<&Value>| {
        member.is_none_or(|member| member.is_null() || member.as_str() == Some(""))
    };
    if let Some(role) = object.get_mut("roleRef").and_then(Value::as_object_mut)
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

/// Refuses changes of what must stay in objects of the resource with this storage name.
pub(super) fn guard(id: &str, current: &Value, next: &Value, causes: &mut Vec<StatusCause>) {
    match id {
        "rolebindings.rbac.authorization.k8s.io"
        | "clusterrolebindings.rbac.authorization.k8s.io"
            if current.get("roleRef") != next.get("roleRef") =>
        {
            let role = next.get("roleRef").unwrap_or(&Value::Null).to_string();
            causes.push(StatusCause::value(
                "roleRef",
                &role,
                "cannot change roleRef",
            ));
        }
        "priorityclasses.scheduling.k8s.io" if current.get("value") != next.get("value") => {
            causes.push(StatusCause::forbidden(
                "value",
                "may not be changed in an update.",
            ));
        }
        _ => {}
    }
}

/// Adds a cause for each rule that an object of the resource with this storage name breaks.
pub(super) fn validate(
    id: &str,
    value: &Value,
    causes: &mut Vec<StatusCause>,
) -> Result<(), WrongType> {
    match id {
        "services" => service(&typed::read(value)?, causes),
        "resourcequotas" => quota(&typed::read(value)?, causes),
        "limitranges" => limit_range(&typed::read(value)?, causes),
        "persistentvolumeclaims" => claim(&typed::read(value)?, causes),
        "leases.coordination.k8s.io" => lease(&typed::read(value)?, causes),
        "poddisruptionbudgets.policy" => budget(&typed::read(value)?, causes),
        "storageclasses.storage.k8s.io" => storage_class(&typed::read(value)?, causes),
        "roles.rbac.authorization.k8s.io" => {
            let role: Role = typed::read(value)?;
            rules(role.rules.as_deref(), true, causes);
        }
        "clusterroles.rbac.authorization.k8s.io" => {
            let role: ClusterRole = typed::read(value)?;
            rules(role.rules.as_deref(), false, causes);
        }
        // Bindings of both scopes have the same members.
        "rolebindings.rbac.authorization.k8s.io" => {
            binding(&typed::read(value)?, &["ClusterRole", "Role"], causes);
        }
        "clusterrolebindings.rbac.authorization.k8s.io" => {
            let mut same = value.clone();
            if let Some(members) = same.as_object_mut() {
                members.insert("kind".to_owned(), "RoleBinding".into());
            }
            binding(&typed::read(&same)?, &["ClusterRole"], causes);
        }
        "priorityclasses.scheduling.k8s.io" => {
            let name = super::text_at(value, "/metadata/name");
            let is_own = matches!(name, "system-cluster-critical" | "system-node-critical");
            if name.starts_with("system-") && !is_own {
                let rule =
                    "priority class names with 'system-' prefix are reserved for system use only";
                causes.push(StatusCause::forbidden("metadata.name", rule));
            }
        }
        _ => {}
    }
    Ok(())
}

fn required(field: &str, rule: &str) -> StatusCause {
    StatusCause {
        message: format!("Required value: {rule}"),
        ..StatusCause::required(field)
    }
}

fn labels(given: Option<&BTreeMap<String, String>>, field: &str, causes: &mut Vec<StatusCause>) {
    for (key, value) in given.into_iter().flatten() {
        if !is_qualified_name(key) {
            causes.push(StatusCause::value(field, key, QUALIFIED_NAME_RULE));
        }
        if !is_label_value(value) {
            causes.push(StatusCause::value(field, value, LABEL_VALUE_RULE));
        }
    }
}

fn quantities(
    given: Option<&BTreeMap<String, Quantity>>,
    field: &str,
    causes: &mut Vec<StatusCause>,
) {
    for (name, quantity) in given.into_iter().flatten() {
        if !is_qualified_name(name) {
            causes.push(StatusCause::value(
                format!("{field}[{name}]"),
                name,
                QUALIFIED_NAME_RULE,
            ));
        }
        if millis(&quantity.0).is_some_and(|amount| amount < 0) {
            causes.push(StatusCause::value(
                format!("{field}[{name}]"),
                &quantity.0,
                NOT_NEGATIVE,
            ));
        }
    }
}

fn service(service: &Service, causes: &mut Vec<StatusCause>) {
    let name = service.metadata.name.as_deref().unwrap_or_default();
    if !name.is_empty() && !is_dns_1035_label(name) {
        causes.push(StatusCause::value(
            "metadata.name",
            name,
            DNS_1035_LABEL_RULE,
        ));
    }
    let Some(spec) = &service.spec else {
        causes.push(StatusCause::required("spec.ports"));
        return;
    };
    for (member, given, known) in [
        (
            "spec.type",
            &spec.type_,
            &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"][..],
        ),
        (
            "spec.sessionAffinity",
            &spec.session_affinity,
            &["ClientIP", "None"],
        ),
    ] {
        if let Some(given) = given.as_deref().filter(|given| !known.contains(given)) {
            causes.push(StatusCause::unsupported(member, given, known));
        }
    }
    let is_external = spec.type_.as_deref() == Some("ExternalName");
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() && !is_external && spec.cluster_ip.as_deref() != Some("None") {
        causes.push(StatusCause::required("spec.ports"));
    }
    if is_external && spec.external_name.as_ref().is_none_or(String::is_empty) {
        causes.push(StatusCause::required("spec.externalName"));
    }
    labels(spec.selector.as_ref(), "spec.selector", causes);
    let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for (index, port) in ports.iter().enumerate() {
        let field = format!("spec.ports[{index}]");
        service_port(port, &field, ports.len() > 1, causes);
        if let Some(name) = port.name.as_ref().filter(|name| !name.is_empty())
            && !names.insert(name.clone())
        {
            causes.push(StatusCause::duplicate(format!("{field}.name"), name));
        }
        if !numbers.insert((port.protocol.clone(), port.port)) {
            causes.push(StatusCause::duplicate(&field, &port.port.to_string()));
        }
    }
}

fn service_port(port: &ServicePort, field: &str, needs_name: bool, causes: &mut Vec<StatusCause>) {
    if needs_name && port.name.as_ref().is_none_or(String::is_empty) {
        causes.push(StatusCause::required(format!("{field}.name")));
    }
    for (member, number) in [("port", Some(port.port)), ("nodePort", port.node_port)] {
        let may_be_none = member == "nodePort" && number == Some(0);
        if let Some(number) = number.filter(|number| !(1..=65535).contains(number) && !may_be_none)
        {
            let rule = "must be between 1 and 65535, inclusive";
            causes.push(StatusCause::number(
                format!("{field}.{member}"),
                number.into(),
                rule,
            ));
        }
    }
    const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
    if let Some(protocol) = port
        .protocol
        .as_deref()
        .filter(|given| !PROTOCOLS.contains(given))
    {
        causes.push(StatusCause::unsupported(
            format!("{field}.protocol"),
            protocol,
            PROTOCOLS,
        ));
    }
}

fn quota(quota: &ResourceQuota, causes: &mut Vec<StatusCause>) {
    let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
    quantities(hard, "spec.hard", causes);
}

fn limit_range(range: &LimitRange, causes: &mut Vec<StatusCause>) {
    let limits = range.spec.as_ref().map(|spec| spec.limits.as_slice());
    for (index, limit) in limits.unwrap_or_default().iter().enumerate() {
        let field = format!("spec.limits[{index}]");
        if limit.type_.is_empty() {
            causes.push(StatusCause::required(format!("{field}.type")));
        }
        for (member, given) in [
            ("default", &limit.default),
            ("defaultRequest", &limit.default_request),
            ("max", &limit.max),
            ("min", &limit.min),
        ] {
            quantities(given.as_ref(), &format!("{field}.{member}"), causes);
        }
        for (name, least) in limit.min.iter().flatten() {
            let most = limit.max.as_ref().and_then(|max| max.get(name));
            if let Some(most) = most
                && millis(&least.0) > millis(&most.0)
            {
                let rule = format!("min value {} is greater than max value {}", least.0, most.0);
                causes.push(StatusCause::value(
                    format!("{field}.min[{name}]"),
                    &least.0,
                    &rule,
                ));
            }
        }
    }
}

fn claim(claim: &PersistentVolumeClaim, causes: &mut Vec<StatusCause>) {
    const MODES: &[&str] = &[
        "ReadOnlyMany",
        "ReadWriteMany",
        "ReadWriteOnce",
        "ReadWriteOncePod",
    ];
    let spec = claim.spec.clone().unwrap_or_default();
    let modes = spec.access_modes.unwrap_or_default();
    if modes.is_empty() {
        causes.push(required(
            "spec.accessModes",
            "at least 1 access mode is required",
        ));
    }
    for mode in modes.iter().filter(|mode| !MODES.contains(&mode.as_str())) {
        causes.push(StatusCause::unsupported("spec.accessModes", mode, MODES));
    }
    let requests = spec.resources.and_then(|resources| resources.requests);
    match requests
        .as_ref()
        .and_then(|requests| requests.get("storage"))
    {
        None => causes.push(StatusCause::required("spec.resources[storage]")),
        Some(size) if millis(&size.0).is_some_and(|amount| amount <= 0) => {
            let rule = "must be greater than zero";
            causes.push(StatusCause::value("spec.resources[storage]", &size.0, rule));
        }
        Some(_) => {}
    }
}

fn lease(lease: &Lease, causes: &mut Vec<StatusCause>) {
    let Some(spec) = &lease.spec else {
        return;
    };
    if let Some(seconds) = spec.lease_duration_seconds.filter(|seconds| *seconds <= 0) {
        let rule = "must be greater than 0";
        causes.push(StatusCause::number(
            "spec.leaseDurationSeconds",
            seconds.into(),
            rule,
        ));
    }
    if let Some(count) = spec.lease_transitions.filter(|count| *count < 0) {
        causes.push(StatusCause::number(
            "spec.leaseTransitions",
            count.into(),
            NOT_NEGATIVE,
        ));
    }
}

fn budget(budget: &PodDisruptionBudget, causes: &mut Vec<StatusCause>) {
    let spec = budget.spec.as_ref();
    if spec.is_some_and(|spec| spec.min_available.is_some() && spec.max_unavailable.is_some()) {
        let rule = "minAvailable and maxUnavailable cannot be both set";
        causes.push(StatusCause::value("spec", "", rule));
    }
}

fn storage_class(class: &StorageClass, causes: &mut Vec<StatusCause>) {
    if class.provisioner.is_empty() {
        causes.push(StatusCause::required("provisioner"));
    }
    const POLICIES: &[&str] = &["Delete", "Retain"];
    if let Some(policy) = class
        .reclaim_policy
        .as_deref()
        .filter(|given| !POLICIES.contains(given))
    {
        causes.push(StatusCause::unsupported("reclaimPolicy", policy, POLICIES));
    }
}

fn rules(given: Option<&[PolicyRule]>, is_namespaced: bool, causes: &mut Vec<StatusCause>) {
    for (index, rule) in given.into_iter().flatten().enumerate() {
        let at = |member: &str| format!("rules[{index}].{member}");
        let is_empty = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
        if rule.verbs.is_empty() {
            causes.push(required(
                &at("verbs"),
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
            causes.push(required(
                &at("apiGroups"),
                "resource rules must supply at least one api group",
            ));
        }
        if is_empty(&rule.resources) {
            causes.push(required(
                &at("resources"),
                "resource rules must supply at least one resource",
            ));
        }
    }
}

fn binding(binding: &RoleBinding, roles: &[&str], causes: &mut Vec<StatusCause>) {
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
        if subject.kind == "ServiceAccount"
            && subject.namespace.as_ref().is_none_or(String::is_empty)
        {
            causes.push(StatusCause::required(at("namespace")));
        }
    }
}
