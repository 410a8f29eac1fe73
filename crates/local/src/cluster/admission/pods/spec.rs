//! What a pod's spec must be, by the rules and in the words of Kubernetes' own validation
//! (`pkg/apis/core/validation`): each broken rule is a cause of the refusal.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Affinity, NodeSelectorTerm, PodSpec, Toleration};

use super::{containers, volumes};
use crate::cluster::admission::names::{
    DNS_LABEL_RULE, DNS_SUBDOMAIN_RULE, LABEL_VALUE_RULE, QUALIFIED_NAME_RULE, is_dns_label,
    is_dns_subdomain, is_label_value, is_qualified_name,
};
use crate::cluster::api_status::StatusCause;

/// Adds a cause for each rule that the spec breaks.
pub(super) fn validate(spec: &PodSpec, causes: &mut Vec<StatusCause>) {
    let declared = volumes::validate(spec, causes);
    validate_containers(spec, &declared, causes);
    validate_choices(spec, causes);
    let between = |field: &str, value: i64, (least, most): (i64, i64)| {
        (!(least..=most).contains(&value)).then(|| {
            let rule = format!("must be between {least} and {most}, inclusive");
            StatusCause::number(field, value, &rule)
        })
    };
    if let Some(seconds) = spec.active_deadline_seconds {
        causes.extend(between(
            "spec.activeDeadlineSeconds",
            seconds,
            (1, i64::from(i32::MAX)),
        ));
    }
    for (key, value) in spec.node_selector.iter().flatten() {
        if !is_qualified_name(key) {
            causes.push(StatusCause::value(
                "spec.nodeSelector",
                key,
                QUALIFIED_NAME_RULE,
            ));
        }
        if !is_label_value(value) {
            causes.push(StatusCause::value(
                "spec.nodeSelector",
                value,
                LABEL_VALUE_RULE,
            ));
        }
    }
    for (index, toleration) in spec.tolerations.iter().flatten().enumerate() {
        validate_toleration(toleration, &format!("spec.tolerations[{index}]"), causes);
    }
    if let Some(affinity) = &spec.affinity {
        validate_affinity(affinity, causes);
    }
}

fn validate_containers(spec: &PodSpec, declared: &BTreeSet<String>, causes: &mut Vec<StatusCause>) {
    if spec.containers.is_empty() {
        causes.push(StatusCause::required("spec.containers"));
    }
    let mut names = BTreeSet::new();
    let inits = spec.init_containers.iter().flatten();
    for (index, container) in inits.enumerate() {
        let field = format!("spec.initContainers[{index}]");
        containers::validate(container, &field, (&mut names, declared), causes);
        match container.restart_policy.as_deref() {
            None | Some("Always") => {}
            Some(other) => causes.push(StatusCause::unsupported(
                format!("{field}.restartPolicy"),
                other,
                &["Always"],
            )),
        }
    }
    for (index, container) in spec.containers.iter().enumerate() {
        let field = format!("spec.containers[{index}]");
        containers::validate(container, &field, (&mut names, declared), causes);
        if container.restart_policy.is_some() {
            causes.push(StatusCause::forbidden(
                format!("{field}.restartPolicy"),
                "may not be set for non-init containers",
            ));
        }
    }
    if spec
        .ephemeral_containers
        .as_ref()
        .is_some_and(|containers| !containers.is_empty())
    {
        causes.push(StatusCause::forbidden(
            "spec.ephemeralContainers",
            "cannot be set on create",
        ));
    }
}

/// Members that are one of a few words, and names.
fn validate_choices(spec: &PodSpec, causes: &mut Vec<StatusCause>) {
    let choice = |field: &str, given: &Option<String>, known: &[&str]| {
        let given = given.as_deref()?;
        (!known.contains(&given)).then(|| StatusCause::unsupported(field, given, known))
    };
    let restart = Some(spec.restart_policy.clone().unwrap_or_default());
    causes.extend(choice(
        "spec.restartPolicy",
        &restart,
        &["Always", "Never", "OnFailure"],
    ));
    causes.extend(choice(
        "spec.dnsPolicy",
        &spec.dns_policy,
        &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
    ));
    causes.extend(choice(
        "spec.preemptionPolicy",
        &spec.preemption_policy,
        &["Never", "PreemptLowerPriority"],
    ));
    let named = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if let Some(account) = named(&spec.service_account_name)
        && !is_dns_subdomain(&account)
    {
        causes.push(StatusCause::value(
            "spec.serviceAccountName",
            &account,
            DNS_SUBDOMAIN_RULE,
        ));
    }
    for (field, text) in [
        ("spec.hostname", &spec.hostname),
        ("spec.subdomain", &spec.subdomain),
    ] {
        if let Some(text) = named(text)
            && !is_dns_label(&text)
        {
            causes.push(StatusCause::value(field, &text, DNS_LABEL_RULE));
        }
    }
}

fn validate_toleration(toleration: &Toleration, field: &str, causes: &mut Vec<StatusCause>) {
    let text = |member: &Option<String>| member.clone().unwrap_or_default();
    let (key, operator, value, effect) = (
        text(&toleration.key),
        text(&toleration.operator),
        text(&toleration.value),
        text(&toleration.effect),
    );
    if !key.is_empty() && !is_qualified_name(&key) {
        causes.push(StatusCause::value(
            format!("{field}.key"),
            &key,
            QUALIFIED_NAME_RULE,
        ));
    }
    if key.is_empty() && operator != "Exists" {
        causes.push(StatusCause::value(
            format!("{field}.operator"),
            &operator,
            "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
        ));
    }
    if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
        causes.push(StatusCause::value(
            format!("{field}.effect"),
            &effect,
            "effect must be 'NoExecute' when `tolerationSeconds` is set",
        ));
    }
    match operator.as_str() {
        "" | "Equal" if !is_label_value(&value) => {
            causes.push(StatusCause::value(
                format!("{field}.operator"),
                &value,
                LABEL_VALUE_RULE,
            ));
        }
        "Exists" if !value.is_empty() => causes.push(StatusCause::value(
            format!("{field}.operator"),
            &value,
            "value must be empty when `operator` is 'Exists'",
        )),
        "" | "Equal" | "Exists" => {}
        other => causes.push(StatusCause::unsupported(
            format!("{field}.operator"),
            other,
            &["Equal", "Exists"],
        )),
    }
    if !matches!(
        effect.as_str(),
        "" | "NoSchedule" | "PreferNoSchedule" | "NoExecute"
    ) {
        causes.push(StatusCause::unsupported(
            format!("{field}.effect"),
            &effect,
            &["NoExecute", "NoSchedule", "PreferNoSchedule"],
        ));
    }
}

fn validate_affinity(affinity: &Affinity, causes: &mut Vec<StatusCause>) {
    let Some(node) = &affinity.node_affinity else {
        return;
    };
    let field = "spec.affinity.nodeAffinity";
    if let Some(required) = &node.required_during_scheduling_ignored_during_execution {
        let field =
            format!("{field}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms");
        if required.node_selector_terms.is_empty() {
            causes.push(StatusCause {
                message: "Required value: must have at least one node selector term".to_owned(),
                ..StatusCause::required(&field)
            });
        }
        for (index, term) in required.node_selector_terms.iter().enumerate() {
            validate_term(term, &format!("{field}[{index}]"), causes);
        }
    }
    let preferred = node
        .preferred_during_scheduling_ignored_during_execution
        .iter()
        .flatten();
    for (index, preference) in preferred.enumerate() {
        let field = format!("{field}.preferredDuringSchedulingIgnoredDuringExecution[{index}]");
        if !(1..=100).contains(&preference.weight) {
            causes.push(StatusCause::number(
                format!("{field}.weight"),
                preference.weight.into(),
                "must be in the range 1-100",
            ));
        }
        validate_term(
            &preference.preference,
            &format!("{field}.preference"),
            causes,
        );
    }
}

fn validate_term(term: &NodeSelectorTerm, field: &str, causes: &mut Vec<StatusCause>) {
    for (index, rule) in term.match_expressions.iter().flatten().enumerate() {
        let field = format!("{field}.matchExpressions[{index}]");
        let values = rule.values.as_ref().map_or(0, Vec::len);
        match rule.operator.as_str() {
            "In" | "NotIn" if values == 0 => causes.push(StatusCause {
                message: "Required value: must be specified when `operator` is 'In' or 'NotIn'"
                    .to_owned(),
                ..StatusCause::required(format!("{field}.values"))
            }),
            "Exists" | "DoesNotExist" if values > 0 => causes.push(StatusCause::forbidden(
                format!("{field}.values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "Gt" | "Lt" if values != 1 => causes.push(StatusCause {
                message:
                    "Required value: must be specified single value when `operator` is 'Lt' or 'Gt'"
                        .to_owned(),
                ..StatusCause::required(format!("{field}.values"))
            }),
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => causes.push(StatusCause::value(
                format!("{field}.operator"),
                other,
                "not a valid selector operator",
            )),
        }
        if !is_qualified_name(&rule.key) {
            causes.push(StatusCause::value(
                format!("{field}.key"),
                &rule.key,
                QUALIFIED_NAME_RULE,
            ));
        }
    }
}
