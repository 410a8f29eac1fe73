//! The environment of a container: what the node gives, what the container declares, references between them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret};

use crate::kubelet::quantity::{millis, units};

/// The ConfigMaps and Secrets that a pod reads, by name.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub(crate) config_maps: BTreeMap<String, ConfigMap>,
    pub(crate) secrets: BTreeMap<String, Secret>,
}

/// Why the environment cannot be made: a kubelet calls it CreateContainerConfigError.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EnvironmentError {
    #[error("{kind} {name:?} not found")]
    Object { kind: &'static str, name: String },
    #[error("couldn't find key {key} in {kind} {name}")]
    Key {
        kind: &'static str,
        name: String,
        key: String,
    },
    #[error("the field {path:?} of environment variable {variable:?} is not supported")]
    Field { variable: String, path: String },
}

impl Sources {
    fn config_value(&self, name: &str, key: &str) -> Option<String> {
        let map = self.config_maps.get(name)?;
        map.data.as_ref().and_then(|data| data.get(key)).cloned()
    }

    fn secret_value(&self, name: &str, key: &str) -> Option<String> {
        let secret = self.secrets.get(name)?;
        let bytes = secret.data.as_ref().and_then(|data| data.get(key))?;
        Some(String::from_utf8_lossy(&bytes.0).into_owned())
    }

    fn exists(&self, kind: &str, name: &str) -> bool {
        match kind {
            "configmap" => self.config_maps.contains_key(name),
            _ => self.secrets.contains_key(name),
        }
    }

    /// The value of a key; nothing if it is missing and may be.
    fn value(
        &self,
        kind: &'static str,
        name: &str,
        key: &str,
        optional: bool,
    ) -> Result<Option<String>, EnvironmentError> {
        let found = match kind {
            "configmap" => self.config_value(name, key),
            _ => self.secret_value(name, key),
        };
        match found {
            Some(value) => Ok(Some(value)),
            None if optional => Ok(None),
            None if self.exists(kind, name) => Err(EnvironmentError::Key {
                kind,
                name: name.to_owned(),
                key: key.to_owned(),
            }),
            None => Err(EnvironmentError::Object {
                kind,
                name: name.to_owned(),
            }),
        }
    }
}

/// The environment of one container, later entries winning: `base` of the node, then `envFrom`, then `env`.
pub(crate) fn environment(
    base: &[(String, String)],
    pod: &Pod,
    container: &Container,
    sources: &Sources,
) -> Result<Vec<(String, String)>, EnvironmentError> {
    let mut environment = Environment(base.to_vec());
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.clone().unwrap_or_default();
        if let Some(reference) = &source.config_map_ref {
            match sources.config_maps.get(&reference.name) {
                Some(map) => {
                    for (key, value) in map.data.iter().flatten() {
                        environment.set(format!("{prefix}{key}"), value.clone());
                    }
                }
                None if reference.optional == Some(true) => {}
                None => {
                    return Err(EnvironmentError::Object {
                        kind: "configmap",
                        name: reference.name.clone(),
                    });
                }
            }
        }
        if let Some(reference) = &source.secret_ref {
            match sources.secrets.get(&reference.name) {
                Some(secret) => {
                    for (key, value) in secret.data.iter().flatten() {
                        environment.set(
                            format!("{prefix}{key}"),
                            String::from_utf8_lossy(&value.0).into_owned(),
                        );
                    }
                }
                None if reference.optional == Some(true) => {}
                None => {
                    return Err(EnvironmentError::Object {
                        kind: "secret",
                        name: reference.name.clone(),
                    });
                }
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let Some(from) = &variable.value_from else {
            let value = expand(
                variable.value.as_deref().unwrap_or_default(),
                &environment.0,
            );
            environment.set(variable.name.clone(), value);
            continue;
        };
        let value = if let Some(reference) = &from.config_map_key_ref {
            sources.value(
                "configmap",
                &reference.name,
                &reference.key,
                reference.optional == Some(true),
            )?
        } else if let Some(reference) = &from.secret_key_ref {
            sources.value(
                "secret",
                &reference.name,
                &reference.key,
                reference.optional == Some(true),
            )?
        } else if let Some(reference) = &from.field_ref {
            Some(
                field(pod, &reference.field_path).ok_or_else(|| EnvironmentError::Field {
                    variable: variable.name.clone(),
                    path: reference.field_path.clone(),
                })?,
            )
        } else if let Some(reference) = &from.resource_field_ref {
            let divisor = reference
                .divisor
                .as_ref()
                .map_or("1", |divisor| divisor.0.as_str());
            Some(
                resource_field(container, &reference.resource, divisor).ok_or_else(|| {
                    EnvironmentError::Field {
                        variable: variable.name.clone(),
                        path: reference.resource.clone(),
                    }
                })?,
            )
        } else {
            None
        };
        if let Some(value) = value {
            environment.set(variable.name.clone(), value);
        }
    }
    Ok(environment.0)
}

struct Environment(Vec<(String, String)>);

impl Environment {
    fn set(&mut self, name: String, value: String) {
        self.0.retain(|(known, _)| *known != name);
        self.0.push((name, value));
    }
}

/// A field of the pod, as the downward API names it.
pub(crate) fn field(pod: &Pod, path: &str) -> Option<String> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    let keyed = |map: &str| {
        path.strip_prefix(map)
            .and_then(|rest| rest.strip_prefix("['"))?
            .strip_suffix("']")
    };
    if let Some(key) = keyed("metadata.labels") {
        return Some(
            meta.labels
                .as_ref()
                .and_then(|labels| labels.get(key))
                .cloned()
                .unwrap_or_default(),
        );
    }
    if let Some(key) = keyed("metadata.annotations") {
        let annotations = meta.annotations.as_ref();
        return Some(
            annotations
                .and_then(|annotations| annotations.get(key))
                .cloned()
                .unwrap_or_default(),
        );
    }
    match path {
        "metadata.name" => meta.name.clone(),
        "metadata.namespace" => meta.namespace.clone(),
        "metadata.uid" => meta.uid.clone(),
        "spec.nodeName" => Some(
            spec.and_then(|spec| spec.node_name.clone())
                .unwrap_or_default(),
        ),
        "spec.serviceAccountName" => Some(
            spec.and_then(|spec| spec.service_account_name.clone())
                .unwrap_or_default(),
        ),
        "status.hostIP" | "status.podIP" | "status.hostIPs" | "status.podIPs" => {
            Some("127.0.0.1".to_owned())
        }
        _ => None,
    }
}

/// An amount of a container's resources, as the downward API names it, in units of `divisor`.
pub(crate) fn resource_field(
    container: &Container,
    resource: &str,
    divisor: &str,
) -> Option<String> {
    let (kind, name) = resource.split_once('.')?;
    let resources = container.resources.as_ref();
    let amounts = match kind {
        "limits" => resources.and_then(|resources| resources.limits.as_ref()),
        "requests" => resources.and_then(|resources| resources.requests.as_ref()),
        _ => return None,
    };
    let amount = amounts
        .and_then(|amounts| amounts.get(name))
        .map_or("0", |quantity| quantity.0.as_str());
    let (amount, divisor) = (
        millis(amount)?,
        millis(divisor).filter(|divisor| *divisor > 0)?,
    );
    Some(((amount + divisor - 1) / divisor).to_string())
}

/// Replaces `$(NAME)` by variables that are known; `$$` is a dollar sign, an unknown name stays.
pub(crate) fn expand(text: &str, known: &[(String, String)]) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        if let Some(escaped) = after.strip_prefix('$') {
            expanded.push('$');
            rest = escaped;
            continue;
        }
        let reference = after
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'));
        if let Some((name, behind)) = reference {
            if let Some((_, value)) = known.iter().rev().find(|(known, _)| known == name) {
                expanded.push_str(value);
            } else {
                expanded.push_str("$(");
                expanded.push_str(name);
                expanded.push(')');
            }
            rest = behind;
        } else {
            expanded.push('$');
            rest = after;
        }
    }
    expanded.push_str(rest);
    expanded
}

/// The limit on memory in bytes, if there is one.
pub(crate) fn memory_limit(container: &Container) -> Option<u64> {
    let limits = container.resources.as_ref()?.limits.as_ref()?;
    units(&limits.get("memory")?.0)
        .and_then(|bytes| u64::try_from(bytes).ok())
        .filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_are_expanded_as_in_kubernetes() {
        let known = [
            ("A".to_owned(), "1".to_owned()),
            ("B".to_owned(), "2".to_owned()),
        ];
        for (text, expected) in [
            ("$(A)-$(B)", "1-2"),
            ("$(C)", "$(C)"),
            ("$$(A)", "$(A)"),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
            ("plain", "plain"),
        ] {
            assert_eq!(expand(text, &known), expected, "{text}");
        }
    }

    #[test]
    fn a_containers_own_variables_win_over_the_nodes() {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "labels": {"l": "x"}}}))
                .unwrap();
        let container: Container = serde_json::from_value(json!({
            "name": "c",
            "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}},
            "envFrom": [{"configMapRef": {"name": "m"}, "prefix": "P_"}],
            "env": [
                {"name": "NODE", "value": "container"}, {"name": "JOINED", "value": "$(NODE)/$(P_K)"},
                {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['l']"}}},
                {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "s", "key": "other", "optional": true}}},
                {"name": "CORES", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {"name": "MEGABYTES", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
            ],
        }))
        .unwrap();
        let mut sources = Sources::default();
        sources.config_maps.insert(
            "m".to_owned(),
            serde_json::from_value(json!({"data": {"K": "v"}})).unwrap(),
        );
        sources.secrets.insert(
            "s".to_owned(),
            serde_json::from_value(json!({"data": {"k": "cw=="}})).unwrap(),
        );
        let base = [
            ("NODE".to_owned(), "node".to_owned()),
            ("BASE".to_owned(), "1".to_owned()),
        ];
        let made = environment(&base, &pod, &container, &sources).unwrap();
        let expected = [
            ("BASE", "1"),
            ("P_K", "v"),
            ("NODE", "container"),
            ("JOINED", "container/v"),
            ("NAME", "p"),
            ("LABEL", "x"),
            ("SECRET", "s"),
            ("CORES", "2"),
            ("MEGABYTES", "64"),
        ];
        assert_eq!(
            made,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        assert_eq!(memory_limit(&container), Some(64 << 20));
        let missing = environment(&base, &pod, &container, &Sources::default()).unwrap_err();
        assert_eq!(missing.to_string(), "configmap \"m\" not found");
    }
}
