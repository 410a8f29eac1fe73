//! Variables that every container of a task gets (spec 05 §6.3).

use k8s_openapi::api::core::v1::{
    ConfigMapEnvSource, Container, EnvFromSource, EnvVar, SecretEnvSource,
};

use crate::{TaskContext, config::PluginsConfig};

/// Appends Flyte's variables after the container's own; Kubernetes lets the last of a name win.
pub(super) fn add(container: &mut Container, context: &TaskContext<'_>, config: &PluginsConfig) {
    let variables = container.env.get_or_insert_default();
    let mut set = |name: &str, value: &str| {
        variables.push(EnvVar {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            value_from: None,
        });
    };
    if !context.workflow.is_empty() {
        set("FLYTE_INTERNAL_EXECUTION_WORKFLOW", context.workflow);
    }
    set("FLYTE_INTERNAL_EXECUTION_ID", &context.execution.name);
    set(
        "FLYTE_INTERNAL_EXECUTION_PROJECT",
        context.execution.project.as_str(),
    );
    set(
        "FLYTE_INTERNAL_EXECUTION_DOMAIN",
        context.execution.domain.as_str(),
    );
    set("FLYTE_ATTEMPT_NUMBER", &context.attempt.to_string());
    if context.template.config.contains_key("link_type") && !context.console_url.is_empty() {
        let url = format!(
            "{}/projects/{}/domains/{}/executions/{}/nodeId/{}/nodes",
            context.console_url.trim_end_matches('/'),
            context.execution.project,
            context.execution.domain,
            context.execution.name,
            context.unique_node_id
        );
        set("FLYTE_EXECUTION_URL", &url);
    }
    if let Some(id) = &context.template.id {
        set("FLYTE_INTERNAL_TASK_PROJECT", &id.project);
        set("FLYTE_INTERNAL_TASK_DOMAIN", &id.domain);
        set("FLYTE_INTERNAL_TASK_NAME", &id.name);
        set("FLYTE_INTERNAL_TASK_VERSION", &id.version);
    }
    for (name, value) in context.environment {
        set(name, value);
    }
    for (name, value) in &config.k8s.default_env_vars.0 {
        set(name, value);
    }
    for (name, source) in &config.k8s.default_env_vars_from_env.0 {
        set(
            name,
            config.environment.get(source).map_or("", String::as_str),
        );
    }
    let secrets = config
        .k8s
        .default_env_from_secrets
        .iter()
        .map(|name| EnvFromSource {
            secret_ref: Some(SecretEnvSource {
                name: name.clone(),
                optional: Some(true),
            }),
            ..EnvFromSource::default()
        });
    let maps = config
        .k8s
        .default_env_from_configmaps
        .iter()
        .map(|name| EnvFromSource {
            config_map_ref: Some(ConfigMapEnvSource {
                name: name.clone(),
                optional: Some(true),
            }),
            ..EnvFromSource::default()
        });
    let sources: Vec<_> = secrets.chain(maps).collect();
    if !sources.is_empty() {
        container.env_from.get_or_insert_default().extend(sources);
    }
}
