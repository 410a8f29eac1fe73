//! What affinities and spread constraints of a pod must be.

use k8s_openapi::api::core::v1::{
    Affinity, NodeSelectorTerm, PodAffinityTerm, TopologySpreadConstraint,
};

use crate::cluster::admission::names::{QUALIFIED_NAME_RULE, is_qualified_name};
use crate::cluster::admission::selectors;
use crate::cluster::api_status::StatusCause;
use crate::cluster::causes::Causes;

/// Adds a cause for each rule that an affinity breaks.
pub(super) fn validate(affinity: &Affinity, causes: &mut Causes) {
    validate_pods(affinity, causes);
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

fn validate_term(term: &NodeSelectorTerm, field: &str, causes: &mut Causes) {
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
    for (index, rule) in term.match_fields.iter().flatten().enumerate() {
        let at = |member: &str| format!("{field}.matchFields[{index}].{member}");
        let (operator, values) = (rule.operator.as_str(), rule.values.iter().flatten().count());
        if !matches!(operator, "In" | "NotIn") {
            let rule = "not a valid selector operator";
            causes.push(StatusCause::value(at("operator"), operator, rule));
        } else if values != 1 {
            let rule =
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            causes.push(StatusCause::missing(at("values"), rule));
        }
        if rule.key != "metadata.name" {
            let why = "not a valid field selector key";
            causes.push(StatusCause::value(at("key"), &rule.key, why));
        }
    }
}

fn validate_pods(affinity: &Affinity, causes: &mut Causes) {
    let near = affinity.pod_affinity.as_ref();
    let near = near.map(|near| {
        (
            near.required_during_scheduling_ignored_during_execution
                .as_deref(),
            near.preferred_during_scheduling_ignored_during_execution
                .as_deref(),
        )
    });
    let far = affinity.pod_anti_affinity.as_ref();
    let far = far.map(|far| {
        (
            far.required_during_scheduling_ignored_during_execution
                .as_deref(),
            far.preferred_during_scheduling_ignored_during_execution
                .as_deref(),
        )
    });
    for (member, given) in [("podAffinity", near), ("podAntiAffinity", far)] {
        let Some((required, preferred)) = given else {
            continue;
        };
        let field = format!("spec.affinity.{member}");
        for (index, term) in required.into_iter().flatten().enumerate() {
            let field = format!("{field}.requiredDuringSchedulingIgnoredDuringExecution[{index}]");
            validate_pod_term(term, &field, causes);
        }
        for (index, preference) in preferred.into_iter().flatten().enumerate() {
            let field = format!("{field}.preferredDuringSchedulingIgnoredDuringExecution[{index}]");
            if !(1..=100).contains(&preference.weight) {
                let rule = "must be in the range 1-100";
                let weight = preference.weight.into();
                causes.push(StatusCause::number(format!("{field}.weight"), weight, rule));
            }
            let field = format!("{field}.podAffinityTerm");
            validate_pod_term(&preference.pod_affinity_term, &field, causes);
        }
    }
}

fn validate_pod_term(term: &PodAffinityTerm, field: &str, causes: &mut Causes) {
    let selector = term.label_selector.as_ref();
    selectors::validate(selector, &format!("{field}.labelSelector"), causes);
    let selector = term.namespace_selector.as_ref();
    selectors::validate(selector, &format!("{field}.namespaceSelector"), causes);
    let (key, field) = (&term.topology_key, format!("{field}.topologyKey"));
    if key.is_empty() {
        causes.push(StatusCause::missing(field, "can not be empty"));
    } else if !is_qualified_name(key) {
        causes.push(StatusCause::value(field, key, QUALIFIED_NAME_RULE));
    }
}

/// Adds a cause for each rule that constraints of how pods are spread break.
pub(super) fn validate_spread(
    constraints: Option<&[TopologySpreadConstraint]>,
    causes: &mut Causes,
) {
    const ACTIONS: &[&str] = &["DoNotSchedule", "ScheduleAnyway"];
    let constraints = constraints.unwrap_or_default();
    for (index, constraint) in constraints.iter().enumerate() {
        let at = |member: &str| format!("spec.topologySpreadConstraints[{index}].{member}");
        let (key, action) = (
            &constraint.topology_key,
            constraint.when_unsatisfiable.as_str(),
        );
        if constraint.max_skew <= 0 {
            let skew = constraint.max_skew.into();
            causes.push(StatusCause::number(
                at("maxSkew"),
                skew,
                "must be greater than zero",
            ));
        }
        if key.is_empty() {
            causes.push(StatusCause::missing(at("topologyKey"), "can not be empty"));
        }
        if !ACTIONS.contains(&action) {
            causes.push(StatusCause::unsupported(
                at("whenUnsatisfiable"),
                action,
                ACTIONS,
            ));
        }
        let is_same = |other: &TopologySpreadConstraint| {
            other.topology_key == *key && other.when_unsatisfiable == action
        };
        if constraints.iter().skip(index + 1).any(is_same) {
            let both = format!("{{{key}, {action}}}");
            causes.push(StatusCause::duplicate(
                at("{topologyKey, whenUnsatisfiable}"),
                &both,
            ));
        }
        let selector = constraint.label_selector.as_ref();
        selectors::validate(selector, &at("labelSelector"), causes);
    }
}
