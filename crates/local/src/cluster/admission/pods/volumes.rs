//! What the volumes of a pod must be.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, PodSpec, Volume};
use serde_json::Value;

use super::containers::{validate_key, validate_relative};
use super::resources;
use crate::cluster::admission::names::{
    DNS_LABEL_RULE, DNS_SUBDOMAIN_RULE, is_dns_label, is_dns_subdomain,
};
use crate::cluster::api_status::StatusCause;
use crate::cluster::causes::Causes;
use crate::kubelet::quantity::millis;

/// Adds a cause for each rule that a volume breaks; those that are declared rightly, by their names.
pub(super) fn validate(spec: &PodSpec, causes: &mut Causes) -> BTreeMap<String, Volume> {
    let mut declared = BTreeMap::new();
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        let field = format!("spec.volumes[{index}]");
        let (name, before) = (&volume.name, causes.count());
        validate_sources(volume, &field, causes);
        validate_projected(volume, &field, causes);
        if name.is_empty() {
            causes.push(StatusCause::required(format!("{field}.name")));
        } else if !is_dns_label(name) {
            let cause = StatusCause::value(format!("{field}.name"), name, DNS_LABEL_RULE);
            causes.push(cause);
        }
        if declared.contains_key(name) {
            causes.push(StatusCause::duplicate(format!("{field}.name"), name));
        } else if causes.count() == before {
            declared.insert(name.clone(), volume.clone());
        }
    }
    declared
}

fn validate_sources(volume: &Volume, field: &str, causes: &mut Causes) {
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
        let place = format!("{field}.hostPath");
        let field = format!("{place}.path");
        if host.path.is_empty() {
            causes.push(StatusCause::required(field));
        } else if host.path.split('/').any(|part| part == "..") {
            causes.push(StatusCause::value(
                field,
                &host.path,
                "must not contain '..'",
            ));
        }
        const TYPES: &[&str] = &[
            "",
            "BlockDevice",
            "CharDevice",
            "Directory",
            "DirectoryOrCreate",
            "File",
            "FileOrCreate",
            "Socket",
        ];
        if let Some(given) = host.type_.as_deref().filter(|given| !TYPES.contains(given)) {
            let field = format!("{place}.type");
            causes.push(StatusCause::unsupported(field, given, TYPES));
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
    validate_places(volume, field, causes);
}

/// Sources that are places elsewhere.
fn validate_places(volume: &Volume, field: &str, causes: &mut Causes) {
    if let Some(folder) = &volume.empty_dir
        && let Some(size) = &folder.size_limit
        && millis(&size.0).is_some_and(|size| size < 0)
    {
        let rule = "SizeLimit field must be a valid resource quantity";
        let field = format!("{field}.emptyDir.sizeLimit");
        causes.push(StatusCause::forbidden(field, rule));
    }
    if let Some(claim) = volume.persistent_volume_claim.as_ref()
        && claim.claim_name.is_empty()
    {
        let field = format!("{field}.persistentVolumeClaim.claimName");
        causes.push(StatusCause::required(field));
    }
    if let Some(nfs) = &volume.nfs {
        if nfs.server.is_empty() {
            causes.push(StatusCause::required(format!("{field}.nfs.server")));
        }
        if nfs.path.is_empty() {
            causes.push(StatusCause::required(format!("{field}.nfs.path")));
        } else if !nfs.path.starts_with('/') {
            let rule = "must be an absolute path";
            causes.push(StatusCause::value(
                format!("{field}.nfs.path"),
                &nfs.path,
                rule,
            ));
        }
    }
    if let Some(csi) = &volume.csi {
        let field = format!("{field}.csi.driver");
        if csi.driver.is_empty() {
            causes.push(StatusCause::required(field));
        } else if !is_dns_subdomain(&csi.driver.to_lowercase()) {
            causes.push(StatusCause::value(field, &csi.driver, DNS_SUBDOMAIN_RULE));
        }
    }
}

fn validate_projected(volume: &Volume, field: &str, causes: &mut Causes) {
    let Some(projected) = &volume.projected else {
        return;
    };
    let field = format!("{field}.projected");
    validate_mode(
        projected.default_mode,
        &format!("{field}.defaultMode"),
        causes,
    );
    let mut paths = BTreeSet::new();
    let mut claim = |path: &str, causes: &mut Causes| {
        if !path.is_empty() && !paths.insert(path.to_owned()) {
            causes.push(StatusCause::value(
                &field,
                path,
                "conflicting duplicate paths",
            ));
        }
    };
    for (index, source) in projected.sources.iter().flatten().enumerate() {
        let at = format!("{field}.sources[{index}]");
        let given = [
            source.secret.is_some(),
            source.config_map.is_some(),
            source.downward_api.is_some(),
            source.service_account_token.is_some(),
            source.cluster_trust_bundle.is_some(),
        ];
        if given.iter().filter(|given| **given).count() > 1 {
            let rule = "may not specify more than 1 volume type per source";
            causes.push(StatusCause::forbidden(&at, rule));
        }
        if let Some(map) = &source.config_map {
            let at = format!("{at}.configMap");
            if map.name.is_empty() {
                causes.push(StatusCause::required(format!("{at}.name")));
            }
            validate_items(map.items.as_deref(), None, &at, causes);
        }
        if let Some(secret) = &source.secret {
            let at = format!("{at}.secret");
            if secret.name.is_empty() {
                causes.push(StatusCause::required(format!("{at}.name")));
            }
            validate_items(secret.items.as_deref(), None, &at, causes);
        }
        let maps = source.config_map.iter().flat_map(|map| &map.items);
        let secrets = source.secret.iter().flat_map(|secret| &secret.items);
        for item in maps.chain(secrets).flatten() {
            claim(&item.path, causes);
        }
        if let Some(downward) = &source.downward_api {
            validate_files(
                downward.items.as_deref(),
                &format!("{at}.downwardAPI"),
                causes,
            );
            for item in downward.items.iter().flatten() {
                claim(&item.path, causes);
            }
        }
        if let Some(token) = &source.service_account_token {
            let at = format!("{at}.serviceAccountToken");
            const LEAST_SECONDS: i64 = 600;
            if let Some(seconds) = token
                .expiration_seconds
                .filter(|given| *given < LEAST_SECONDS)
            {
                let rule = "may not specify a duration less than 10 minutes";
                causes.push(StatusCause::number(
                    format!("{at}.expirationSeconds"),
                    seconds,
                    rule,
                ));
            }
            if token.path.is_empty() {
                causes.push(StatusCause::required(format!("{field}.path")));
            } else {
                validate_relative(&token.path, &format!("{field}.path"), causes);
                claim(&token.path, causes);
            }
        }
    }
}

fn validate_items(
    items: Option<&[KeyToPath]>,
    mode: Option<i32>,
    field: &str,
    causes: &mut Causes,
) {
    validate_mode(mode, &format!("{field}.defaultMode"), causes);
    for (index, item) in items.into_iter().flatten().enumerate() {
        let field = format!("{field}.items[{index}]");
        validate_key(&item.key, &format!("{field}.key"), causes);
        validate_path(&item.path, &format!("{field}.path"), causes);
        validate_mode(item.mode, &format!("{field}.mode"), causes);
    }
}

fn validate_files(files: Option<&[DownwardAPIVolumeFile]>, field: &str, causes: &mut Causes) {
    // Without the index, as Kubernetes says it.
    for file in files.into_iter().flatten() {
        validate_path(&file.path, &format!("{field}.path"), causes);
        validate_mode(file.mode, &format!("{field}.mode"), causes);
        match (&file.field_ref, &file.resource_field_ref) {
            (None, None) => causes.push(StatusCause::missing(
                field,
                "one of fieldRef and resourceFieldRef is required",
            )),
            (Some(_), Some(_)) => causes.push(StatusCause::value(
                field,
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
                resources::validate_field(resource, &field, causes);
            }
            (Some(reference), None) => {
                const KNOWN: &[&str] = &[
                    "metadata.annotations",
                    "metadata.labels",
                    "metadata.name",
                    "metadata.namespace",
                    "metadata.uid",
                ];
                let path = reference.field_path.as_str();
                let is_keyed = path.starts_with("metadata.labels['")
                    || path.starts_with("metadata.annotations['");
                let field = format!("{field}.fieldRef.fieldPath");
                if path.is_empty() {
                    causes.push(StatusCause::required(field));
                } else if !is_keyed && !KNOWN.contains(&path) {
                    causes.push(StatusCause::unsupported(field, path, KNOWN));
                }
            }
        }
    }
}

fn validate_path(path: &str, field: &str, causes: &mut Causes) {
    if path.is_empty() {
        causes.push(StatusCause::required(field));
    } else {
        validate_relative(path, field, causes);
        if path.starts_with("..") && !path.starts_with("../") && path != ".." {
            causes.push(StatusCause::value(field, path, "must not start with '..'"));
        }
    }
}

fn validate_mode(mode: Option<i32>, field: &str, causes: &mut Causes) {
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
