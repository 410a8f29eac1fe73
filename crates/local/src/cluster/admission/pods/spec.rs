//! What a pod's spec must be, by the rules and in the words of Kubernetes' own validation
//! (`pkg/apis/core/validation`): each broken rule is a cause of the refusal.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{PodSpec, Toleration, Volume};

use super::containers::{self, Context};
use super::{affinity, network, security, volumes};
use crate::cluster::admission::names::{
    DNS_LABEL_RULE, DNS_SUBDOMAIN_RULE, LABEL_VALUE_RULE, QUALIFIED_NAME_RULE, is_dns_label,
    is_dns_subdomain, is_label_value, is_qualified_name,
};
use crate::cluster::api_status::StatusCause;
use crate::cluster::causes::Causes;

/// Adds a cause for each rule that the spec breaks.
pub(super) fn validate(spec: &PodSpec, causes: &mut Causes) {
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
        affinity::validate(affinity, causes);
    }
    affinity::validate_spread(spec.topology_spread_constraints.as_deref(), causes);
    network::validate(spec, causes);
    security::validate_pod(spec, causes);
    validate_gates(spec, causes);
}

fn validate_gates(spec: &PodSpec, causes: &mut Causes) {
    for (index, gate) in spec.readiness_gates.iter().flatten().enumerate() {
        if !is_qualified_name(&gate.condition_type) {
            let field = format!("spec.readinessGates[{index}].conditionType");
            causes.push(StatusCause::value(
                field,
                &gate.condition_type,
                QUALIFIED_NAME_RULE,
            ));
        }
    }
    let mut names = BTreeSet::new();
    for (index, gate) in spec.scheduling_gates.iter().flatten().enumerate() {
        let field = format!("spec.schedulingGates[{index}]");
        if !is_qualified_name(&gate.name) {
            causes.push(StatusCause::value(&field, &gate.name, QUALIFIED_NAME_RULE));
        }
        if !names.insert(&gate.name) {
            causes.push(StatusCause::duplicate(&field, &gate.name));
        }
    }
}

fn validate_containers(spec: &PodSpec, volumes: &BTreeMap<String, Volume>, causes: &mut Causes) {
    if spec.containers.is_empty() {
        causes.push(StatusCause::required("spec.containers"));
    }
    let mut names = BTreeSet::new();
    let beside = spec.containers.iter().map(|container| (container, true));
    let before = spec.init_containers.iter().flatten().map(|container| {
        let is_sidecar = container.restart_policy.as_deref() == Some("Always");
        (container, is_sidecar)
    });
    for (list, containers) in [
        ("containers", beside.collect::<Vec<_>>()),
        ("initContainers", before.collect()),
    ] {
        for (index, (container, stays)) in containers.into_iter().enumerate() {
            let field = format!("spec.{list}[{index}]");
            let context = Context {
                spec,
                volumes,
                stays,
            };
            containers::validate(container, &field, &mut names, context, causes);
        }
    }
}

/// Members that are one of a few words, and names.
fn validate_choices(spec: &PodSpec, causes: &mut Causes) {
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
    let system = spec.os.as_ref().map(|os| os.name.clone());
    causes.extend(choice("spec.os", &system, &["linux", "windows"]));
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
    if let Some(node) = named(&spec.node_name)
        && !is_dns_subdomain(&node)
    {
        causes.push(StatusCause::value(
            "spec.nodeName",
            &node,
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

fn validate_toleration(toleration: &Toleration, field: &str, causes: &mut Causes) {
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
