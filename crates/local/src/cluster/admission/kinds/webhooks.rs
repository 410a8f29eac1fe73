//! Configurations of admission webhooks, which mutate or validate.

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhook, RuleWithOperations, WebhookClientConfig,
};
use serde_json::Value;

use super::one_of;
use crate::cluster::admission::names::is_dns_subdomain;
use crate::cluster::admission::selectors;
use crate::cluster::admission::typed::{self, WrongType};
use crate::cluster::api_status::StatusCause;
use crate::cluster::causes::Causes;

/// Adds a cause for each rule that a configuration breaks.
pub(super) fn validate(value: &Value, causes: &mut Causes) -> Result<(), WrongType> {
    let webhooks = value.get("webhooks").and_then(Value::as_array);
    for (index, webhook) in webhooks.into_iter().flatten().enumerate() {
        // Those that validate have no member that those which mutate do not have.
        let webhook: MutatingWebhook = typed::read(webhook)?;
        validate_one(&webhook, &format!("webhooks[{index}]"), causes);
    }
    Ok(())
}

fn validate_one(webhook: &MutatingWebhook, field: &str, causes: &mut Causes) {
    let at = |member: &str| format!("{field}.{member}");
    let name = webhook.name.as_str();
    if !is_dns_subdomain(name) || name.split('.').count() < 3 {
        let rule = "should be a domain with at least three segments separated by dots";
        causes.push(StatusCause::value(at("name"), name, rule));
    }
    validate_versions(webhook, &at("admissionReviewVersions"), causes);
    for (index, rule) in webhook.rules.iter().flatten().enumerate() {
        validate_rule(rule, &format!("{field}.rules[{index}]"), causes);
    }
    let policy = webhook.failure_policy.as_deref();
    one_of(policy, &["Fail", "Ignore"], &at("failurePolicy"), causes);
    let policy = webhook.match_policy.as_deref();
    one_of(policy, &["Equivalent", "Exact"], &at("matchPolicy"), causes);
    let policy = webhook.reinvocation_policy.as_deref();
    one_of(
        policy,
        &["IfNeeded", "Never"],
        &at("reinvocationPolicy"),
        causes,
    );
    match webhook.side_effects.as_str() {
        "" => {
            let rule = "must specify one of None, NoneOnDryRun";
            causes.push(StatusCause::missing(at("sideEffects"), rule));
        }
        given => one_of(
            Some(given),
            &["None", "NoneOnDryRun"],
            &at("sideEffects"),
            causes,
        ),
    }
    if let Some(seconds) = webhook
        .timeout_seconds
        .filter(|seconds| !(1..=30).contains(seconds))
    {
        let rule = "the timeout value must be between 1 and 30 seconds";
        causes.push(StatusCause::number(
            at("timeoutSeconds"),
            seconds.into(),
            rule,
        ));
    }
    let selector = webhook.namespace_selector.as_ref();
    selectors::validate(selector, &at("namespaceSelector"), causes);
    let selector = webhook.object_selector.as_ref();
    selectors::validate(selector, &at("objectSelector"), causes);
    validate_client(&webhook.client_config, &at("clientConfig"), causes);
}

fn validate_versions(webhook: &MutatingWebhook, field: &str, causes: &mut Causes) {
    let versions = &webhook.admission_review_versions;
    if versions.is_empty() {
        let rule = "must specify one of v1, v1beta1";
        causes.push(StatusCause::missing(field, rule));
    } else if !versions
        .iter()
        .any(|version| matches!(version.as_str(), "v1" | "v1beta1"))
    {
        let rule = "must include at least one of v1, v1beta1";
        causes.push(StatusCause::value(field, &versions.join(","), rule));
    }
}

fn validate_rule(rule: &RuleWithOperations, field: &str, causes: &mut Causes) {
    const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
    for (member, list) in [
        ("operations", &rule.operations),
        ("apiGroups", &rule.api_groups),
        ("apiVersions", &rule.api_versions),
        ("resources", &rule.resources),
    ] {
        if list.as_ref().is_none_or(Vec::is_empty) {
            causes.push(StatusCause::required(format!("{field}.{member}")));
        }
    }
    for (index, operation) in rule.operations.iter().flatten().enumerate() {
        let field = format!("{field}.operations[{index}]");
        one_of(Some(operation), OPERATIONS, &field, causes);
    }
    let scope = rule.scope.as_deref();
    let known = &["*", "Cluster", "Namespaced"];
    one_of(scope, known, &format!("{field}.scope"), causes);
}

fn validate_client(client: &WebhookClientConfig, field: &str, causes: &mut Causes) {
    match (&client.url, &client.service) {
        (None, None) | (Some(_), Some(_)) => {
            let rule = "exactly one of url or service is required";
            causes.push(StatusCause::missing(field, rule));
        }
        (Some(url), None) => {
            let field = format!("{field}.url");
            match url::Url::parse(url) {
                Ok(parsed) if parsed.scheme() == "https" && parsed.has_host() => {}
                Ok(parsed) => {
                    let rule = "'https' is the only allowed URL scheme; desired format: https://host[/path]";
                    causes.push(StatusCause::value(field, parsed.scheme(), rule));
                }
                Err(error) => {
                    let rule = format!(
                        "url must be a valid URL: {error}; desired format: https://host[/path]"
                    );
                    causes.push(StatusCause::value(field, url, &rule));
                }
            }
        }
        (None, Some(service)) => {
            for (member, text) in [("name", &service.name), ("namespace", &service.namespace)] {
                if text.is_empty() {
                    causes.push(StatusCause::required(format!("{field}.service.{member}")));
                }
            }
        }
    }
}
