//! What the volumes of a pod must be.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, PodSpec, Volume};
use serde_json::Value;

use super::containers::{validate_key, validate_relative, validate_resource_field};
use crate::cluster::admission::names::{DNS_LABEL_RULE, is_dns_label};
use crate::cluster::api_status::StatusCause;

/// Adds a cause for each rule that a volume breaks; the names of those that are declared.
pub(super) fn validate(spec: &PodSpec, causes: &mut Vec<StatusCause>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        let field = format!("spec.volumes[{index}]");
        let name = &volume.name;
        if name.is_empty() {
            causes.push(StatusCause::required(format!("{field}.name")));
        } else if !is_dns_label(name) {
            causes.push(StatusCause::value(
                format!("{field}.name"),
                name,
                DNS_LABEL_RULE,
            ));
        }
        if !names.insert(name.clone()) {
            causes.push(StatusCause::duplicate(format!("{field}.name"), name));
        }
        validate_sources(volume, &field, causes);
    }
    names
}

fn validate_sources(volume: &Volume, field: &str, causes: &mut Vec<StatusCause>) {
    // All members but the name are sources, of which there is one.
    let sources = serde_json::to_value(volume).unwrap_or_default();
    let sources = sources.as_object().into_iter().flatten();
    let sources: Vec<&str> = sources
        .filter(|(name, source)| *name != "name" && !source.is_null())
        .map(|(name, _)| name.as_str())
        .collect();
    match sources.as_slice() {
        [] => causes.push(StatusCause {
            message: "Required value: must specify a volume type".to_owned(),
            ..StatusCause::required(field)
        }),
        [_] => {}
        [_, more @ ..] => {
            for source in more {
                causes.push(StatusCause::forbidden(
                    format!("{field}.{source}"),
                    "may not specify more than 1 volume type",
                ));
            }
        }
    }
    if let Some(map) = &volume.config_map {
        let field = format!("{field}.configMap");
        if map.name.is_empty() {
            causes.push(StatusCause::required(format!("{field}.name")));
        }
        validate_items(map.items.as_deref(), map.default_mode, &field, causes);
    }
    if let Some(secret) = &volume.secret {
        let field = format!("{field}.secret");
        if secret.secret_name.as_ref().is_none_or(String::is_empty) {
            causes.push(StatusCause::required(format!("{field}.secretName")));
        }
        validate_items(secret.items.as_deref(), secret.default_mode, &field, causes);
    }
    if let Some(host) = &volume.host_path {
        let field = format!("{field}.hostPath.path");
        if host.path.is_empty() {
            causes.push(StatusCause::required(field));
        } else if host.path.split('/').any(|part| part == "..") {
            causes.push(StatusCause::value(
                field,
                &host.path,
                "must not contain '..'",
            ));
        }
    }
    if let Some(downward) = &volume.downward_api {
        let field = format!("{field}.downwardAPI");
        validate_mode(
            downward.default_mode,
            &format!("{field}.defaultMode"),
            causes,
        );
        validate_files(downward.items.as_deref(), &field, causes);
    }
    if let Some(projected) = &volume.projected {
        let field = format!("{field}.projected");
        validate_mode(
            projected.default_mode,
            &format!("{field}.defaultMode"),
            causes,
        );
        for (index, source) in projected.sources.iter().flatten().enumerate() {
            let field = format!("{field}.sources[{index}]");
            if let Some(map) = &source.config_map {
                let field = format!("{field}.configMap");
                if map.name.is_empty() {
                    causes.push(StatusCause::required(format!("{field}.name")));
                }
                validate_items(map.items.as_deref(), None, &field, causes);
            }
            if let Some(secret) = &source.secret {
                let field = format!("{field}.secret");
                if secret.name.is_empty() {
                    causes.push(StatusCause::required(format!("{field}.name")));
                }
                validate_items(secret.items.as_deref(), None, &field, causes);
            }
            if let Some(downward) = &source.downward_api {
                let field = format!("{field}.downwardAPI");
                validate_files(downward.items.as_deref(), &field, causes);
            }
            if let Some(token) = &source.service_account_token {
                validate_path(
                    &token.path,
                    &format!("{field}.serviceAccountToken.path"),
                    causes,
                );
            }
        }
    }
}

fn validate_items(
    items: Option<&[KeyToPath]>,
    mode: Option<i32>,
    field: &str,
    causes: &mut Vec<StatusCause>,
) {
    validate_mode(mode, &format!("{field}.defaultMode"), causes);
    for (index, item) in items.into_iter().flatten().enumerate() {
        let field = format!("{field}.items[{index}]");
        validate_key(&item.key, &format!("{field}.key"), causes);
        validate_path(&item.path, &format!("{field}.path"), causes);
        validate_mode(item.mode, &format!("{field}.mode"), causes);
    }
}

fn validate_files(
    files: Option<&[DownwardAPIVolumeFile]>,
    field: &str,
    causes: &mut Vec<StatusCause>,
) {
    for (index, file) in files.into_iter().flatten().enumerate() {
        let field = format!("{field}.items[{index}]");
        validate_path(&file.path, &format!("{field}.path"), causes);
        validate_mode(file.mode, &format!("{field}.mode"), causes);
        match (&file.field_ref, &file.resource_field_ref) {
            (None, None) => causes.push(StatusCause {
                message: "Required value: one of fieldRef and resourceFieldRef is required"
                    .to_owned(),
                ..StatusCause::required(&field)
            }),
            (Some(_), Some(_)) => causes.push(StatusCause::value(
                &field,
                "resource",
                "fieldRef and resourceFieldRef can not be specified simultaneously",
            )),
            (None, Some(resource)) => {
                let field = format!("{field}.resourceFieldRef");
                if resource
                    .container_name
                    .as_ref()
                    .is_none_or(String::is_empty)
                {
                    causes.push(StatusCause::required(format!("{field}.containerName")));
                }
                validate_resource_field(&resource.resource, &field, causes);
            }
            (Some(_), None) => {}
        }
    }
}

fn validate_path(path: &str, field: &str, causes: &mut Vec<StatusCause>) {
    if path.is_empty() {
        causes.push(StatusCause::required(field));
    } else {
        validate_relative(path, field, causes);
    }
}

fn validate_mode(mode: Option<i32>, field: &str, causes: &mut Vec<StatusCause>) {
    if let Some(mode) = mode
        && !(0..=0o777).contains(&mode)
    {
        causes.push(StatusCause::number(
            field,
            mode.into(),
            "must be a number between 0 and 0777 (octal), both inclusive",
        ));
    }
}

/// Fills in what a real server fills in: a volume without a source is an empty folder, and files have mode 0644.
pub(super) fn default_volume(volume: &mut Value) {
    const READABLE: i32 = 0o644;
    let Some(members) = volume.as_object_mut() else {
        return;
    };
    members.retain(|_, source| !source.is_null());
    if members.keys().all(|member| member == "name") {
        members.insert("emptyDir".to_owned(), serde_json::json!({}));
    }
    for source in ["configMap", "secret", "downwardAPI", "projected"] {
        if let Some(source) = members.get_mut(source).and_then(Value::as_object_mut) {
            source.entry("defaultMode").or_insert(READABLE.into());
        }
    }
}
