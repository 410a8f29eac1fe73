//! Leases, disruption budgets, priority classes and runtime classes.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{NOT_NEGATIVE, one_of};
use crate::cluster::admission::names::{DNS_LABEL_RULE, is_dns_label};
use crate::cluster::admission::selectors;
use crate::cluster::api_status::StatusCause;
use crate::cluster::causes::Causes;

/// Adds a cause for each rule that a lease breaks.
pub(super) fn lease(lease: &Lease, causes: &mut Causes) {
    let Some(spec) = &lease.spec else {
        return;
    };
    if let Some(seconds) = spec.lease_duration_seconds.filter(|seconds| *seconds <= 0) {
        let rule = "must be greater than 0";
        causes.push(StatusCause::number(
            "spec.leaseDurationSeconds",
            seconds.into(),
            rule,
        ));
    }
    if let Some(count) = spec.lease_transitions.filter(|count| *count < 0) {
        causes.push(StatusCause::number(
            "spec.leaseTransitions",
            count.into(),
            NOT_NEGATIVE,
        ));
    }
}

/// Adds a cause for each rule that a budget breaks.
pub(super) fn budget(budget: &PodDisruptionBudget, causes: &mut Causes) {
    let Some(spec) = &budget.spec else {
        return;
    };
    if spec.min_available.is_some() && spec.max_unavailable.is_some() {
        let rule = "minAvailable and maxUnavailable cannot be both set";
        causes.push(StatusCause::value("spec", "", rule));
    }
    for (member, given) in [
        ("minAvailable", &spec.min_available),
        ("maxUnavailable", &spec.max_unavailable),
    ] {
        if let Some(given) = given {
            share(given, &format!("spec.{member}"), causes);
        }
    }
    selectors::validate(spec.selector.as_ref(), "spec.selector", causes);
}

/// A number of pods, or a share of them in percent.
fn share(given: &IntOrString, field: &str, causes: &mut Causes) {
    const RULE: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or \
                        '93%', regex used for validation is '[0-9]+%')";
    match given {
        IntOrString::Int(number) if *number < 0 => {
            causes.push(StatusCause::number(field, (*number).into(), NOT_NEGATIVE));
        }
        IntOrString::Int(_) => {}
        IntOrString::String(text) => {
            let digits = text.strip_suffix('%').unwrap_or_default();
            let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            if !is_number {
                causes.push(StatusCause::value(field, text, RULE));
            } else if !digits.parse::<u32>().is_ok_and(|percent| percent <= 100) {
                let rule = "must not be greater than 100%";
                causes.push(StatusCause::value(field, text, rule));
            }
        }
    }
}

/// Adds a cause for each rule that a priority class breaks.
pub(super) fn priority(class: &PriorityClass, causes: &mut Causes) {
    const HIGHEST: i32 = 1_000_000_000;
    let name = class.metadata.name.as_deref().unwrap_or_default();
    let is_own = matches!(name, "system-cluster-critical" | "system-node-critical");
    if name.starts_with("system-") && !is_own {
        let rule = "priority class names with 'system-' prefix are reserved for system use only";
        causes.push(StatusCause::forbidden("metadata.name", rule));
    } else if !is_own && class.value > HIGHEST {
        let rule = format!("maximum allowed value of a user defined priority is {HIGHEST}");
        causes.push(StatusCause::forbidden("value", &rule));
    }
    let policy = class.preemption_policy.as_deref();
    let known = &["Never", "PreemptLowerPriority"];
    one_of(policy, known, "preemptionPolicy", causes);
}

/// Adds a cause for each rule that a runtime class breaks.
pub(super) fn runtime(class: &RuntimeClass, causes: &mut Causes) {
    if !is_dns_label(&class.handler) {
        causes.push(StatusCause::value(
            "handler",
            &class.handler,
            DNS_LABEL_RULE,
        ));
    }
}
