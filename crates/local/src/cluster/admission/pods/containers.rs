//! What a container must be: name, image, environment, resources, mounts.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, VolumeMount};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::probes;
use crate::cluster::admission::names::{
    DATA_KEY_RULE, DNS_LABEL_RULE, ENVIRONMENT_NAME_RULE, QUALIFIED_NAME_RULE, is_data_key,
    is_dns_label, is_environment_name, is_qualified_name,
};
use crate::cluster::api_status::StatusCause;
use crate::kubelet::quantity::millis;

/// Adds a cause for each rule that the container at `field` breaks. `names` are those of the containers before, `volumes`
/// those that the pod declares.
pub(super) fn validate(
    container: &Container,
    field: &str,
    (names, volumes): (&mut BTreeSet<String>, &BTreeSet<String>),
    causes: &mut Vec<StatusCause>,
) {
    let name = &container.name;
    let at = |member: &str| format!("{field}.{member}");
    if name.is_empty() {
        causes.push(StatusCause::required(at("name")));
    } else if !is_dns_label(name) {
        causes.push(StatusCause::value(at("name"), name, DNS_LABEL_RULE));
    } else if !names.insert(name.clone()) {
        causes.push(StatusCause::duplicate(at("name"), name));
    }
    let image = container.image.as_deref().unwrap_or_default();
    if image.is_empty() {
        causes.push(StatusCause::required(at("image")));
    } else if image.trim() != image {
        let rule = "must not have leading or trailing whitespace";
        causes.push(StatusCause::value(at("image"), image, rule));
    }
    for (member, given, known) in [
        (
            "imagePullPolicy",
            &container.image_pull_policy,
            &["Always", "IfNotPresent", "Never"][..],
        ),
        (
            "terminationMessagePolicy",
            &container.termination_message_policy,
            &["FallbackToLogsOnError", "File"],
        ),
    ] {
        if let Some(given) = given.as_deref().filter(|given| !known.contains(given)) {
            causes.push(StatusCause::unsupported(at(member), given, known));
        }
    }
    for (index, port) in container.ports.iter().flatten().enumerate() {
        if !(1..=65535).contains(&port.container_port) {
            causes.push(StatusCause::number(
                format!("{field}.ports[{index}].containerPort"),
                port.container_port.into(),
                "must be between 1 and 65535, inclusive",
            ));
        }
    }
    probes::validate(container, field, causes);
    validate_environment(container, field, causes);
    validate_resources(container, field, causes);
    let mut paths = BTreeSet::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let field = format!("{field}.volumeMounts[{index}]");
        validate_mount(mount, &field, (&mut paths, volumes), causes);
    }
}

fn validate_environment(container: &Container, field: &str, causes: &mut Vec<StatusCause>) {
    for (index, variable) in container.env.iter().flatten().enumerate() {
        let field = format!("{field}.env[{index}]");
        if variable.name.is_empty() {
            causes.push(StatusCause::required(format!("{field}.name")));
        } else if !is_environment_name(&variable.name) {
            causes.push(StatusCause::value(
                format!("{field}.name"),
                &variable.name,
                ENVIRONMENT_NAME_RULE,
            ));
        }
        if let Some(from) = &variable.value_from {
            validate_source(variable, from, &format!("{field}.valueFrom"), causes);
        }
    }
    for (index, source) in container.env_from.iter().flatten().enumerate() {
        let field = format!("{field}.envFrom[{index}]");
        if let Some(prefix) = source.prefix.as_deref().filter(|prefix| !prefix.is_empty())
            && !is_environment_name(prefix)
        {
            causes.push(StatusCause::value(
                format!("{field}.prefix"),
                prefix,
                ENVIRONMENT_NAME_RULE,
            ));
        }
        let named = [
            (
                "configMapRef",
                source.config_map_ref.as_ref().map(|map| &map.name),
            ),
            (
                "secretRef",
                source.secret_ref.as_ref().map(|secret| &secret.name),
            ),
        ];
        match named.iter().filter(|(_, name)| name.is_some()).count() {
            0 => causes.push(StatusCause::value(
                &field,
                "",
                "must specify one of: `configMapRef` or `secretRef`",
            )),
            1 => {}
            _ => causes.push(StatusCause::value(
                &field,
                "",
                "may not have more than one field specified at a time",
            )),
        }
        for (member, name) in named {
            if name.is_some_and(String::is_empty) {
                causes.push(StatusCause::required(format!("{field}.{member}.name")));
            }
        }
    }
}

fn validate_source(
    variable: &EnvVar,
    from: &EnvVarSource,
    field: &str,
    causes: &mut Vec<StatusCause>,
) {
    let given = [
        from.field_ref.is_some(),
        from.resource_field_ref.is_some(),
        from.config_map_key_ref.is_some(),
        from.secret_key_ref.is_some(),
    ];
    let valued = variable
        .value
        .as_ref()
        .is_some_and(|value| !value.is_empty());
    match given.iter().filter(|given| **given).count() {
        0 => causes.push(StatusCause::value(
            field,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
        )),
        _ if valued => causes.push(StatusCause::value(
            field,
            "",
            "may not be specified when `value` is not empty",
        )),
        1 => {}
        _ => causes.push(StatusCause::value(
            field,
            "",
            "may not have more than one field specified at a time",
        )),
    }
    if let Some(reference) = &from.field_ref {
        validate_field_path(&reference.field_path, &format!("{field}.fieldRef"), causes);
    }
    if let Some(reference) = &from.resource_field_ref {
        validate_resource_field(
            &reference.resource,
            &format!("{field}.resourceFieldRef"),
            causes,
        );
    }
    let keys = [
        (
            "configMapKeyRef",
            from.config_map_key_ref
                .as_ref()
                .map(|map| (&map.name, &map.key)),
        ),
        (
            "secretKeyRef",
            from.secret_key_ref
                .as_ref()
                .map(|secret| (&secret.name, &secret.key)),
        ),
    ];
    for (member, reference) in keys {
        let Some((name, key)) = reference else {
            continue;
        };
        if name.is_empty() {
            causes.push(StatusCause::required(format!("{field}.{member}.name")));
        }
        validate_key(key, &format!("{field}.{member}.key"), causes);
    }
}

/// A key of a ConfigMap or Secret.
pub(super) fn validate_key(key: &str, field: &str, causes: &mut Vec<StatusCause>) {
    if key.is_empty() {
        causes.push(StatusCause::required(field));
    } else if !is_data_key(key) {
        causes.push(StatusCause::value(field, key, DATA_KEY_RULE));
    }
}

/// A field of the pod, as an environment variable may name it.
fn validate_field_path(path: &str, field: &str, causes: &mut Vec<StatusCause>) {
    const KNOWN: [&str; 9] = [
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    ];
    let field = format!("{field}.fieldPath");
    let keyed = ["metadata.labels['", "metadata.annotations['"]
        .iter()
        .find_map(|map| path.strip_prefix(map)?.strip_suffix("']"));
    if path.is_empty() {
        causes.push(StatusCause::required(field));
    } else if let Some(key) = keyed {
        if !is_qualified_name(&key.to_lowercase()) {
            causes.push(StatusCause::value(field, path, QUALIFIED_NAME_RULE));
        }
    } else if !KNOWN.contains(&path) {
        let rule = format!("error converting fieldPath: field label not supported: {path}");
        causes.push(StatusCause::value(field, path, &rule));
    }
}

/// `limits.cpu` and the like.
pub(super) fn validate_resource_field(resource: &str, field: &str, causes: &mut Vec<StatusCause>) {
    let field = format!("{field}.resource");
    let known = ["limits.", "requests."].iter().any(|kind| {
        resource.strip_prefix(kind).is_some_and(|name| {
            matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-")
        })
    });
    if resource.is_empty() {
        causes.push(StatusCause::required(field));
    } else if !known {
        causes.push(StatusCause::unsupported(
            field,
            resource,
            &[
                "limits.cpu",
                "limits.ephemeral-storage",
                "limits.memory",
                "requests.cpu",
                "requests.ephemeral-storage",
                "requests.memory",
            ],
        ));
    }
}

fn validate_resources(container: &Container, field: &str, causes: &mut Vec<StatusCause>) {
    let Some(resources) = &container.resources else {
        return;
    };
    let none = BTreeMap::new();
    let limits = resources.limits.as_ref().unwrap_or(&none);
    let requests = resources.requests.as_ref().unwrap_or(&none);
    for (kind, amounts) in [("limits", limits), ("requests", requests)] {
        for (name, quantity) in amounts {
            let field = format!("{field}.resources.{kind}");
            validate_resource_name(name, &field, causes);
            if millis(&quantity.0).is_some_and(|amount| amount < 0) {
                causes.push(StatusCause::value(
                    format!("{field}[{name}]"),
                    &quantity.0,
                    "must be greater than or equal to 0",
                ));
            }
        }
    }
    let amount = |quantity: &Quantity| millis(&quantity.0).unwrap_or(0);
    for (name, request) in requests {
        let field = format!("{field}.resources.requests");
        match limits.get(name) {
            Some(limit) if may_be_overcommitted(name) => {
                if amount(request) > amount(limit) {
                    let rule = format!("must be less than or equal to {name} limit of {}", limit.0);
                    causes.push(StatusCause::value(field, &request.0, &rule));
                }
            }
            Some(limit) if amount(request) != amount(limit) => {
                let rule = format!("must be equal to {name} limit of {}", limit.0);
                causes.push(StatusCause::value(field, &request.0, &rule));
            }
            None if !may_be_overcommitted(name) => causes.push(StatusCause {
                message: "Required value: Limit must be set for non overcommitable resources"
                    .to_owned(),
                ..StatusCause::required(field.replace(".requests", ".limits"))
            }),
            Some(_) | None => {}
        }
    }
}

fn may_be_overcommitted(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage" | "storage")
}

fn validate_resource_name(name: &str, field: &str, causes: &mut Vec<StatusCause>) {
    if !is_qualified_name(name) {
        causes.push(StatusCause::value(field, name, QUALIFIED_NAME_RULE));
    } else if !name.contains('/')
        && !matches!(name, "cpu" | "memory" | "ephemeral-storage")
        && !name.starts_with("hugepages-")
    {
        causes.push(StatusCause::value(
            field,
            name,
            "must be a standard resource type or fully qualified",
        ));
    }
}

fn validate_mount(
    mount: &VolumeMount,
    field: &str,
    (paths, volumes): (&mut BTreeSet<String>, &BTreeSet<String>),
    causes: &mut Vec<StatusCause>,
) {
    let at = |member: &str| format!("{field}.{member}");
    if mount.name.is_empty() {
        causes.push(StatusCause::required(at("name")));
    } else if !volumes.contains(&mount.name) {
        causes.push(StatusCause::not_found(at("name"), &mount.name));
    }
    if mount.mount_path.is_empty() {
        causes.push(StatusCause::required(at("mountPath")));
    } else if !paths.insert(mount.mount_path.clone()) {
        causes.push(StatusCause::value(
            at("mountPath"),
            &mount.mount_path,
            "must be unique",
        ));
    }
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (path, expression) = (given(&mount.sub_path), given(&mount.sub_path_expr));
    if let (Some(_), Some(expression)) = (&path, &expression) {
        causes.push(StatusCause::value(
            at("subPathExpr"),
            expression,
            "subPathExpr and subPath are mutually exclusive",
        ));
    }
    for (member, path) in [("subPath", path), ("subPathExpr", expression)] {
        if let Some(path) = path {
            validate_relative(&path, &at(member), causes);
        }
    }
}

/// A path below a folder that it must not leave.
pub(super) fn validate_relative(path: &str, field: &str, causes: &mut Vec<StatusCause>) {
    if path.starts_with('/') {
        causes.push(StatusCause::value(field, path, "must be a relative path"));
    }
    if path.split('/').any(|part| part == "..") {
        causes.push(StatusCause::value(field, path, "must not contain '..'"));
    }
}
