//! What the resources of a container must be: quantities, limits, claims.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::cluster::admission::names::{QUALIFIED_NAME_RULE, is_qualified_name};
use crate::cluster::api_status::StatusCause;
use crate::cluster::causes::Causes;
use crate::kubelet::quantity::millis;

/// `limits.cpu` and the like.
pub(super) fn validate_field(reference: &ResourceFieldSelector, field: &str, causes: &mut Causes) {
    let resource = reference.resource.as_str();
    validate_divisor(reference, field, causes);
    let field = format!("{field}.resource");
    let known = ["limits.", "requests."].iter().any(|kind| {
        resource.strip_prefix(kind).is_some_and(|name| {
            matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-")
        })
    });
    if resource.is_empty() {
        causes.push(StatusCause::required(field));
    } else if !known {
        causes.push(StatusCause::unsupported(
            field,
            resource,
            &[
                "limits.cpu",
                "limits.ephemeral-storage",
                "limits.memory",
                "requests.cpu",
                "requests.ephemeral-storage",
                "requests.memory",
            ],
        ));
    }
}

/// A divisor is a unit in which people count the resource.
fn validate_divisor(reference: &ResourceFieldSelector, field: &str, causes: &mut Causes) {
    const CORES: &[&str] = &["1m", "1"];
    const BYTES: &[&str] = &[
        "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
    ];
    let (name, known) = match reference.resource.split_once('.') {
        Some((_, "cpu")) => ("cpu", CORES),
        Some((_, name)) => (name, BYTES),
        None => return,
    };
    let given = reference.divisor.as_ref().map(|divisor| millis(&divisor.0));
    let is_known =
        |given: Option<i128>| given == Some(0) || known.iter().any(|known| millis(known) == given);
    if given.is_some_and(|given| !is_known(given)) {
        let known = known.join(" and ");
        let rule = format!("only divisor's values {known} are supported with the {name} resource");
        let field = format!("{field}.divisor");
        causes.push(StatusCause::value(field, &reference.resource, &rule));
    }
}

/// Adds a cause for each rule that the resources of the container at `field` break.
pub(super) fn validate(container: &Container, spec: &PodSpec, field: &str, causes: &mut Causes) {
    let Some(resources) = &container.resources else {
        return;
    };
    let none = BTreeMap::new();
    let limits = resources.limits.as_ref().unwrap_or(&none);
    let requests = resources.requests.as_ref().unwrap_or(&none);
    for (kind, amounts) in [("limits", limits), ("requests", requests)] {
        for (name, quantity) in amounts {
            let field = format!("{field}.resources.{kind}[{name}]");
            let amount = millis(&quantity.0).unwrap_or(0);
            validate_name(name, &field, causes);
            if amount < 0 {
                let rule = "must be greater than or equal to 0";
                causes.push(StatusCause::value(&field, &quantity.0, rule));
            }
            if name.contains('/') && amount % 1000 != 0 {
                causes.push(StatusCause::value(
                    &field,
                    &quantity.0,
                    "must be an integer",
                ));
            }
        }
    }
    let amount = |quantity: &Quantity| millis(&quantity.0).unwrap_or(0);
    for (name, request) in requests {
        let field = format!("{field}.resources.requests");
        match limits.get(name) {
            Some(limit) if may_be_overcommitted(name) => {
                if amount(request) > amount(limit) {
                    let rule = format!("must be less than or equal to {name} limit of {}", limit.0);
                    causes.push(StatusCause::value(field, &request.0, &rule));
                }
            }
            Some(limit) if amount(request) != amount(limit) => {
                let rule = format!("must be equal to {name} limit of {}", limit.0);
                causes.push(StatusCause::value(field, &request.0, &rule));
            }
            None if !may_be_overcommitted(name) => causes.push(StatusCause {
                message: "Required value: Limit must be set for non overcommitable resources"
                    .to_owned(),
                ..StatusCause::required(field.replace(".requests", ".limits"))
            }),
            Some(_) | None => {}
        }
    }
    let is_paged = |name: &&String| name.starts_with("hugepages-");
    let has = |name: &str| limits.contains_key(name) || requests.contains_key(name);
    if limits
        .keys()
        .chain(requests.keys())
        .any(|name| is_paged(&name))
        && !has("cpu")
        && !has("memory")
    {
        let rule = "HugePages require cpu or memory";
        causes.push(StatusCause::forbidden(format!("{field}.resources"), rule));
    }
    for (index, claim) in resources.claims.iter().flatten().enumerate() {
        let mut declared = spec.resource_claims.iter().flatten();
        if !declared.any(|declared| declared.name == claim.name) {
            let field = format!("{field}.resources.claims[{index}]");
            causes.push(StatusCause::not_found(field, &claim.name));
        }
    }
}

fn may_be_overcommitted(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage" | "storage")
}

/// A name of a resource that a container may ask for, at `field`, which has it in brackets.
fn validate_name(name: &str, field: &str, causes: &mut Causes) {
    if !is_qualified_name(name) {
        causes.push(StatusCause::value(field, name, QUALIFIED_NAME_RULE));
    } else if !name.contains('/')
        && !matches!(name, "cpu" | "memory" | "ephemeral-storage")
        && !name.starts_with("hugepages-")
    {
        let rule = "must be a standard resource for containers";
        causes.push(StatusCause::value(field, name, rule));
    } else if name.starts_with("requests.") {
        let rule = "doesn't follow extended resource name standard";
        causes.push(StatusCause::value(field, name, rule));
    }
}
