//! Scheduling gates (`spec.schedulingGates`): a pod that has some is put on no node. Gates can only be taken away, and until
//! all are gone, what the pod asks of its node can only become more: KEP-3521 and KEP-3838, as kube-apiserver does it (tests/kubernetes).

use k8s_openapi::api::core::v1::{NodeAffinity, NodeSelectorRequirement, NodeSelectorTerm};
use serde_json::{Map, Value, json};

use crate::cluster::api_status::StatusCause;
use crate::cluster::causes::Causes;
use crate::cluster::object::text_at;

/// Whether the spec has gates.
pub(crate) fn is_gated(spec: &Value) -> bool {
    !gates(spec).is_empty()
}

fn gates(spec: &Value) -> &[Value] {
    let list = spec.get("schedulingGates").and_then(Value::as_array);
    list.map_or(&[], Vec::as_slice)
}

/// The condition that a gated pod is made with. It has no time, and stays until a scheduler writes another of its type.
pub(super) fn condition() -> Value {
    json!({
        "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
        "message": "Scheduling is blocked due to non-empty scheduling gates",
        "lastProbeTime": null, "lastTransitionTime": null,
    })
}

/// A new pod with gates is on no node. Of templates and updates this is not asked: the former are no pods yet, the latter
/// choose no node.
pub(super) fn guard_new(spec: &Value, causes: &mut Causes) {
    let node = spec.get("nodeName").and_then(Value::as_str);
    if is_gated(spec) && node.is_some_and(|node| !node.is_empty()) {
        let rule = "cannot be set until all schedulingGates have been cleared";
        causes.push(StatusCause::forbidden("spec.nodeName", rule));
    }
}

/// Adds a cause for each gate that was not there before.
pub(super) fn guard(before: &Value, after: &Value, causes: &mut Causes) {
    let old = gates(before);
    for (index, gate) in gates(after).iter().enumerate() {
        if !old.contains(gate) {
            let name = text_at(gate, "/name");
            let rule = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            let field = format!("spec.schedulingGates[{index}].name");
            causes.push(StatusCause::forbidden(field, &rule));
        }
    }
}

/// The spec `after` an update, with what may change of a gated pod as it was `before`: what still differs then must not change.
/// Adds a cause for each demand on the node that is no addition.
pub(super) fn without_additions(before: &Value, after: &Value, causes: &mut Causes) -> Value {
    let mut after = after.clone();
    if let (true, Some(members)) = (is_gated(before), after.as_object_mut()) {
        take_back_selector(before, members, causes);
        take_back_affinity(before, members, causes);
    }
    after
}

fn take_back_selector(before: &Value, after: &mut Map<String, Value>, causes: &mut Causes) {
    const MEMBER: &str = "nodeSelector";
    let old = before.get(MEMBER).and_then(Value::as_object);
    let new = after.get(MEMBER).and_then(Value::as_object);
    let stays = |(key, value): (&String, &Value)| new.and_then(|new| new.get(key)) == Some(value);
    if !old.into_iter().flatten().all(stays) {
        let rule = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        causes.push(StatusCause::json("spec.nodeSelector", &json!(new), rule));
    }
    set(after, MEMBER, before.get(MEMBER));
}

fn take_back_affinity(before: &Value, after: &mut Map<String, Value>, causes: &mut Causes) {
    const MEMBER: &str = "nodeAffinity";
    let of_node = |affinity: Option<&Value>| -> Option<NodeAffinity> {
        serde_json::from_value(affinity?.get(MEMBER)?.clone()).ok()
    };
    let affinity = before.get("affinity");
    let (old, new) = (of_node(affinity), of_node(after.get("affinity")));
    if old == new {
        return;
    }
    if let Some(old) = &old {
        guard_terms(old, new.as_ref(), causes);
    }
    match (
        after.get_mut("affinity").and_then(Value::as_object_mut),
        affinity,
    ) {
        // That of the node was all there was to it.
        (Some(given), None) if given.keys().all(|name| name == MEMBER) => {
            set(after, "affinity", None);
        }
        (Some(given), _) => set(
            given,
            MEMBER,
            affinity.and_then(|affinity| affinity.get(MEMBER)),
        ),
        (None, _) => {
            let kept = affinity.and_then(|affinity| affinity.get(MEMBER));
            set(after, "affinity", Some(&json!({ MEMBER: kept })));
        }
    }
}

fn set(members: &mut Map<String, Value>, name: &str, value: Option<&Value>) {
    match value {
        Some(value) => members.insert(name.to_owned(), value.clone()),
        None => members.shift_remove(name),
    };
}

/// Required terms are alternatives: where there are some, another would let in more nodes. What is preferred may change at will.
fn guard_terms(old: &NodeAffinity, new: Option<&NodeAffinity>, causes: &mut Causes) {
    const FIELD: &str = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    let (old, new) = (terms(Some(old)), terms(new));
    if old.is_empty() {
        return;
    }
    if old.len() != new.len() {
        let rule = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        causes.push(StatusCause::json(FIELD, &json!(new), rule));
        return;
    }
    for (index, (old, new)) in old.iter().zip(new).enumerate() {
        if !has_only_additions(old, new) {
            let rule = "only additions are allowed (no mutations or deletions)";
            causes.push(StatusCause::json(
                format!("{FIELD}[{index}]"),
                &json!(new),
                rule,
            ));
        }
    }
}

fn terms(affinity: Option<&NodeAffinity>) -> &[NodeSelectorTerm] {
    let required = affinity.and_then(|affinity| {
        affinity
            .required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    required.map_or(&[], |required| &required.node_selector_terms)
}

/// Whether the new term has the requirements of the old one, in their order, and others at most behind them.
fn has_only_additions(old: &NodeSelectorTerm, new: &NodeSelectorTerm) -> bool {
    type Requirements = Option<Vec<NodeSelectorRequirement>>;
    let list = |requirements: &Requirements| requirements.clone().unwrap_or_default();
    let pairs = [
        (list(&old.match_expressions), list(&new.match_expressions)),
        (list(&old.match_fields), list(&new.match_fields)),
    ];
    // A term without requirements matches no node; with some it would match more.
    let matches_none = pairs.iter().all(|(old, _)| old.is_empty());
    pairs
        .iter()
        .all(|(old, new)| new.starts_with(old) && (new.is_empty() || !matches_none))
}
