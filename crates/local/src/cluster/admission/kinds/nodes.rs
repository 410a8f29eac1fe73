//! Nodes, namespaces and pod templates.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Namespace, Node, PodTemplate};
use serde_json::Value;

use super::one_of;
use crate::cluster::admission::metadata::{annotations, label};
use crate::cluster::admission::names::{
    CIDR_RULE, LABEL_VALUE_RULE, QUALIFIED_NAME_RULE, cidr, is_finalizer, is_label_value,
    is_qualified_name,
};
use crate::cluster::admission::pods;
use crate::cluster::api_status::StatusCause;
use crate::cluster::causes::Causes;

/// Adds a cause for each rule that a node breaks.
pub(super) fn validate(node: &Node, causes: &mut Causes) {
    const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "PreferNoSchedule"];
    let Some(spec) = &node.spec else {
        return;
    };
    let mut pairs = BTreeSet::new();
    for (index, taint) in spec.taints.iter().flatten().enumerate() {
        // Below metadata, as Kubernetes says it.
        let field = format!("metadata.taints[{index}]");
        let value = taint.value.as_deref().unwrap_or_default();
        if !is_qualified_name(&taint.key) {
            let rule = QUALIFIED_NAME_RULE;
            causes.push(StatusCause::value(format!("{field}.key"), &taint.key, rule));
        }
        if !is_label_value(value) {
            let rule = LABEL_VALUE_RULE;
            causes.push(StatusCause::value(format!("{field}.value"), value, rule));
        }
        if taint.effect.is_empty() {
            causes.push(StatusCause::required(format!("{field}.effect")));
        } else {
            one_of(
                Some(&taint.effect),
                EFFECTS,
                &format!("{field}.effect"),
                causes,
            );
        }
        if !pairs.insert((&taint.key, &taint.effect)) {
            causes.push(StatusCause::duplicate(field, &taint.key));
        }
    }
    for (index, range) in spec.pod_cidrs.iter().flatten().enumerate() {
        if cidr(range).is_none() {
            let field = format!("spec.podCIDRs[{index}]");
            causes.push(StatusCause::value(field, range, CIDR_RULE));
        }
    }
}

/// Adds a cause for each rule that a namespace breaks.
pub(super) fn namespace(namespace: &Namespace, causes: &mut Causes) {
    let spec = namespace.spec.as_ref();
    let finalizers = spec.and_then(|spec| spec.finalizers.as_ref());
    for finalizer in finalizers.into_iter().flatten() {
        if !is_qualified_name(finalizer) || !is_finalizer(finalizer) {
            let rule = "name is neither a standard finalizer name nor is it fully qualified";
            causes.push(StatusCause::value("spec.finalizers", finalizer, rule));
        }
    }
}

/// Adds a cause for each rule that a template of a pod breaks.
pub(super) fn template(template: &PodTemplate, value: &Value, causes: &mut Causes) {
    let template = template.template.clone().unwrap_or_default();
    let labels = template
        .metadata
        .as_ref()
        .and_then(|meta| meta.labels.as_ref());
    for (key, text) in labels.into_iter().flatten() {
        label("template.labels", key, text, causes);
    }
    let given = value.pointer("/template/metadata/annotations");
    annotations(given, "template.annotations", causes);
    pods::validate_template(&template, causes);
}
