//! Links to logs (spec 05 §8).

use flyte_idl::core::{TaskLog, task_log::MessageFormat};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::{
    TaskContext,
    config::{LogTemplate, LogsConfig},
};

/// Links for the first container of the pod, as the console shows them.
pub fn task_logs(
    pod: &Pod,
    context: &TaskContext<'_>,
    config: &LogsConfig,
    now: Timestamp,
) -> Vec<TaskLog> {
    let variables = variables(pod, context, now);
    let mut logs = Vec::new();
    for template in standard(config).iter().chain(&config.templates) {
        for uri in &template.template_uris {
            logs.push(task_log(template, uri, &variables));
        }
        let asked = context
            .template
            .config
            .get("link_type")
            .is_some_and(|types| types.split(',').any(|asked| asked == template.name));
        if asked {
            for uri in &template.dynamic_template_uris {
                logs.push(task_log(
                    template,
                    &with_task_config(uri, context),
                    &variables,
                ));
            }
        }
    }
    let asked: Vec<_> = context
        .template
        .config
        .get("link_type")
        .map(|types| types.split(',').collect())
        .unwrap_or_default();
    for (name, link) in &config.dynamic_log_links.0 {
        if asked.contains(&name.as_str()) {
            let template = LogTemplate {
                display_name: link.display_name.clone(),
                message_format: MessageFormat::Json.into(),
                ..LogTemplate::default()
            };
            for uri in &link.template_uris {
                logs.push(task_log(
                    &template,
                    &with_task_config(uri, context),
                    &variables,
                ));
            }
        }
    }
    logs
}

fn standard(config: &LogsConfig) -> Vec<LogTemplate> {
    let or = |template: &str, usual: String| {
        if template.is_empty() {
            usual
        } else {
            template.to_owned()
        }
    };
    let mut found = Vec::new();
    let mut add = |name: &str, uri: String| {
        found.push(LogTemplate {
            display_name: name.to_owned(),
            template_uris: vec![uri],
            message_format: MessageFormat::Json.into(),
            ..LogTemplate::default()
        });
    };
    if config.kubernetes_enabled {
        let usual = format!(
            "{}/#!/log/{{{{ .namespace }}}}/{{{{ .podName }}}}/pod?namespace={{{{ .namespace }}}}",
            config.kubernetes_url
        );
        add(
            "Kubernetes Logs",
            or(&config.kubernetes_template_uri, usual),
        );
    }
    if config.cloudwatch_enabled {
        let usual = format!(
            "https://console.aws.amazon.com/cloudwatch/home?region={}#logEventViewer:group={};stream=var.log.containers.{{{{ .podName }}}}_{{{{ .namespace }}}}_{{{{ .containerName }}}}-{{{{ .containerId }}}}.log",
            config.cloudwatch_region, config.cloudwatch_log_group
        );
        add(
            "Cloudwatch Logs",
            or(&config.cloudwatch_template_uri, usual),
        );
    }
    if config.stackdriver_enabled {
        let usual = format!(
            "https://console.cloud.google.com/logs/viewer?project={0}&angularJsUrl=%2Flogs%2Fviewer%3Fproject%3D{0}&resource={1}&advancedFilter=resource.labels.pod_name%3D{{{{ .podName }}}}",
            config.gcp_project, config.stackdriver_logresourcename
        );
        add(
            "Stackdriver Logs",
            or(&config.stackdriver_template_uri, usual),
        );
    }
    found
}

fn task_log(template: &LogTemplate, uri: &str, variables: &[(&'static str, String)]) -> TaskLog {
    TaskLog {
        uri: render(uri, variables),
        name: format!("{}{}", render(&template.display_name, variables), " (User)"),
        message_format: template.message_format,
        show_while_pending: template.show_while_pending,
        hide_once_finished: template.hide_once_finished,
        ..TaskLog::default()
    }
}

/// Replaces `{{ .name }}`, whatever its case; a variable without a value stays as it is.
fn render(template: &str, variables: &[(&'static str, String)]) -> String {
    let mut rendered = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        rendered.push_str(before);
        let Some((inside, tail)) = after.split_once("}}") else {
            rendered.push_str("{{");
            rest = after;
            continue;
        };
        let name = inside.trim().trim_start_matches(['.', '$']);
        let value = variables
            .iter()
            .find(|(known, value)| known.eq_ignore_ascii_case(name) && !value.is_empty());
        match value {
            Some((_, value)) => rendered.push_str(value),
            None => {
                rendered.push_str("{{");
                rendered.push_str(inside);
                rendered.push_str("}}");
            }
        }
        rest = tail;
    }
    rendered.push_str(rest);
    rendered
}

fn with_task_config(template: &str, context: &TaskContext<'_>) -> String {
    let mut rendered = template.to_owned();
    for (key, value) in &context.template.config {
        for pattern in [
            format!("{{{{ .taskConfig.{key} }}}}"),
            format!("{{{{.taskConfig.{key}}}}}"),
        ] {
            rendered = rendered.replace(&pattern, value);
        }
    }
    rendered
}

fn variables(pod: &Pod, context: &TaskContext<'_>, now: Timestamp) -> Vec<(&'static str, String)> {
    let metadata = &pod.metadata;
    let spec = pod.spec.as_ref();
    let container = spec.and_then(|spec| spec.containers.first());
    let status = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref()?.first());
    let container_id = status
        .and_then(|status| status.container_id.as_deref())
        .and_then(|id| id.split_once("://"))
        .map_or_else(String::new, |(_, id)| id.to_owned());
    let start = metadata
        .creation_timestamp
        .as_ref()
        .map_or(now, |time| time.0);
    let seconds = |time: Timestamp| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let task = context.template.id.clone().unwrap_or_default();
    let text = |option: Option<&String>| option.cloned().unwrap_or_default();
    vec![
        ("logName", " (User)".to_owned()),
        ("podName", text(metadata.name.as_ref())),
        ("podUID", text(metadata.uid.as_ref())),
        ("namespace", text(metadata.namespace.as_ref())),
        (
            "containerName",
            container.map_or_else(String::new, |container| container.name.clone()),
        ),
        ("containerID", container_id),
        (
            "hostname",
            text(spec.and_then(|spec| spec.hostname.as_ref())),
        ),
        (
            "nodeName",
            text(spec.and_then(|spec| spec.node_name.as_ref())),
        ),
        ("nodeID", context.unique_node_id.to_owned()),
        ("generatedName", context.generated_name.to_owned()),
        ("taskRetryAttempt", context.attempt.to_string()),
        ("taskID", task.name),
        ("taskVersion", task.version),
        ("taskProject", task.project),
        ("taskDomain", task.domain),
        ("executionName", context.execution.name.clone()),
        ("executionProject", context.execution.project.to_string()),
        ("executionDomain", context.execution.domain.to_string()),
        ("podRFC3339StartTime", seconds(start)),
        ("podRFC3339FinishTime", seconds(now)),
        ("podUnixStartTime", start.as_second().to_string()),
        ("podUnixFinishTime", now.as_second().to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_filled_in_whatever_the_case_and_spacing() {
        let variables = [
            ("podName", "p-0".to_owned()),
            ("namespace", "ns".to_owned()),
            ("hostname", String::new()),
        ];
        for (template, expected) in [
            (
                "http://x/#!/log/{{ .namespace }}/{{.PodName}}/pod",
                "http://x/#!/log/ns/p-0/pod",
            ),
            ("{{ .hostname }}/{{ unknown", "{{ .hostname }}/{{ unknown"),
            ("plain", "plain"),
        ] {
            assert_eq!(render(template, &variables), expected);
        }
    }
}
