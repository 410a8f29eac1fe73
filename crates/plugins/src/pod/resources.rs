//! Requests and limits of containers (spec 05 §6.1, §6.4).

use std::collections::BTreeMap;

use flyte_core::quantity::Quantity;
use flyte_idl::core::{self, resources::ResourceName};
use k8s_openapi::{
    api::core::v1::{Container, EnvVar, ResourceRequirements},
    apimachinery::pkg::api::resource,
};

use super::BuildError;
use crate::{TaskContext, config::PluginsConfig};

const CPU: &str = "cpu";
const MEMORY: &str = "memory";
const EPHEMERAL_STORAGE: &str = "ephemeral-storage";
/// Platform accelerators always have this name, whatever `gpu-resource-name` says.
const GPU: &str = "nvidia.com/gpu";

type Quantities = BTreeMap<String, resource::Quantity>;

/// A container as the task template describes it.
pub(super) fn container(
    name: &str,
    from: &core::Container,
    config: &PluginsConfig,
) -> Result<Container, BuildError> {
    let list = |texts: &[String]| (!texts.is_empty()).then(|| texts.to_vec());
    let resources = from.resources.clone().unwrap_or_default();
    Ok(Container {
        name: name.to_owned(),
        image: Some(from.image.clone()),
        command: list(&from.command),
        args: list(&from.args),
        env: Some(
            from.env
                .iter()
                .map(|pair| EnvVar {
                    name: pair.key.clone(),
                    value: Some(pair.value.clone()),
                    value_from: None,
                })
                .collect(),
        ),
        resources: Some(ResourceRequirements {
            claims: None,
            requests: Some(quantities(name, &resources.requests)?),
            limits: Some(quantities(name, &resources.limits)?),
        }),
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        image_pull_policy: Some(config.k8s.image_pull_policy.clone())
            .filter(|policy| !policy.is_empty()),
        ..Container::default()
    })
}

fn quantities(
    container: &str,
    entries: &[core::resources::ResourceEntry],
) -> Result<Quantities, BuildError> {
    let mut found = Quantities::new();
    for entry in entries {
        let name = match entry.name() {
            ResourceName::Cpu => CPU,
            ResourceName::Memory => MEMORY,
            ResourceName::Gpu => GPU,
            ResourceName::EphemeralStorage => EPHEMERAL_STORAGE,
            ResourceName::Storage | ResourceName::Unknown => continue,
        };
        let quantity: Quantity = entry.value.parse().map_err(|_| BuildError::Quantity {
            container: container.to_owned(),
            name: name.to_owned(),
            value: entry.value.clone(),
        })?;
        if !quantity.is_zero() {
            found.insert(name.to_owned(), resource::Quantity(quantity.canonical()));
        }
    }
    Ok(found)
}

/// The primary and init containers: overrides win, then missing values come from the PodTemplate, then from the platform.
pub(super) fn merge(
    container: &mut Container,
    template: Option<&ResourceRequirements>,
    context: &TaskContext<'_>,
    config: &PluginsConfig,
) {
    let resources = container.resources.get_or_insert_default();
    let requests = resources.requests.get_or_insert_default();
    let limits = resources.limits.get_or_insert_default();
    requests.extend(context.resources.requests.clone().unwrap_or_default());
    limits.extend(context.resources.limits.clone().unwrap_or_default());
    for list in [&mut *requests, &mut *limits] {
        if let Some(gpus) = list.remove("gpu") {
            list.insert(config.k8s.gpu_resource_name.clone(), gpus);
        }
    }
    fill(requests, limits, template);
    for name in names(requests, limits, config) {
        let platform_request = platform(context, &name, Side::Request);
        let platform_limit = platform(context, &name, Side::Limit);
        let (request, limit) = assigned(
            get(requests, &name),
            get(limits, &name),
            platform_request,
            platform_limit.as_ref(),
        );
        set(requests, &name, request);
        set(limits, &name, limit);
    }
}

/// Request and limit of the primary container: each stands in for the other, then the platform's for both.
fn assigned(
    request: Option<Quantity>,
    limit: Option<Quantity>,
    platform_request: Option<Quantity>,
    platform_limit: Option<&Quantity>,
) -> (Option<Quantity>, Option<Quantity>) {
    let mut request = match request {
        Some(request) if !request.is_zero() => Some(request),
        _ if is_zero(limit.as_ref()) => platform_request,
        _ => limit.clone(),
    };
    let mut limit = if is_zero(limit.as_ref()) {
        request.clone()
    } else {
        limit
    };
    range(&mut request, &mut limit, platform_limit);
    (request, limit)
}

/// Other containers: only kept within bounds.
pub(super) fn within_range(
    container: &mut Container,
    template: Option<&ResourceRequirements>,
    context: &TaskContext<'_>,
) {
    let resources = container.resources.get_or_insert_default();
    let requests = resources.requests.get_or_insert_default();
    let limits = resources.limits.get_or_insert_default();
    fill(requests, limits, template);
    let mut present: Vec<String> = vec![CPU.into(), MEMORY.into()];
    for name in [EPHEMERAL_STORAGE, GPU] {
        if requests.contains_key(name) || limits.contains_key(name) {
            present.push(name.to_owned());
        }
    }
    for name in present {
        let mut request = get(requests, &name);
        let mut limit = get(limits, &name);
        range(
            &mut request,
            &mut limit,
            platform(context, &name, Side::Limit).as_ref(),
        );
        set(requests, &name, request);
        set(limits, &name, limit);
    }
}

/// What the container leaves open, the template may say.
fn fill(
    requests: &mut Quantities,
    limits: &mut Quantities,
    template: Option<&ResourceRequirements>,
) {
    for (list, of_template) in [
        (
            requests,
            template.and_then(|template| template.requests.as_ref()),
        ),
        (
            limits,
            template.and_then(|template| template.limits.as_ref()),
        ),
    ] {
        for (name, quantity) in of_template.into_iter().flatten() {
            list.entry(name.clone()).or_insert_with(|| quantity.clone());
        }
    }
}

fn names(requests: &Quantities, limits: &Quantities, config: &PluginsConfig) -> Vec<String> {
    let mut found = vec![CPU.to_owned(), MEMORY.to_owned()];
    for name in [EPHEMERAL_STORAGE, config.k8s.gpu_resource_name.as_str()] {
        if requests.contains_key(name) || limits.contains_key(name) {
            found.push(name.to_owned());
        }
    }
    found
}

/// Neither may exceed the platform's limit, nor the request the limit; zero bounds nothing.
fn range(request: &mut Option<Quantity>, limit: &mut Option<Quantity>, bound: Option<&Quantity>) {
    *request = least(request.take(), bound);
    *limit = least(limit.take(), bound);
    *request = least(request.take(), limit.as_ref());
}

fn least(value: Option<Quantity>, bound: Option<&Quantity>) -> Option<Quantity> {
    match (value, bound) {
        (Some(value), Some(bound)) if !bound.is_zero() && bound.nanos() < value.nanos() => {
            Some(bound.clone())
        }
        (value, _) => value,
    }
}

fn is_zero(quantity: Option<&Quantity>) -> bool {
    quantity.is_none_or(Quantity::is_zero)
}

fn get(list: &Quantities, name: &str) -> Option<Quantity> {
    list.get(name).and_then(|quantity| quantity.0.parse().ok())
}

/// Written back even when zero.
fn set(list: &mut Quantities, name: &str, value: Option<Quantity>) {
    let text = value.map_or_else(|| "0".to_owned(), |value| value.canonical());
    list.insert(name.to_owned(), resource::Quantity(text));
}

#[derive(Clone, Copy)]
enum Side {
    Request,
    Limit,
}

fn platform(context: &TaskContext<'_>, name: &str, side: Side) -> Option<Quantity> {
    let spec = match side {
        Side::Request => &context.platform.requests,
        Side::Limit => &context.platform.limits,
    };
    match name {
        CPU => spec.cpu.parse().ok(),
        MEMORY => spec.memory.parse().ok(),
        EPHEMERAL_STORAGE => spec.ephemeral_storage.parse().ok(),
        GPU => spec.gpu.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_limits_are_assigned_as_the_facts_say() {
        // (request, limit) to (request, limit) with platform request 10 and limit 20 (spec 05 §6.4).
        for (request, limit, expected) in [
            (0, 2, (2, 2)),
            (2, 0, (2, 2)),
            (0, 0, (10, 10)),
            (10, 2, (2, 2)),
            (1, 40, (1, 20)),
            (40, 50, (20, 20)),
        ] {
            let quantity = |amount: i64| (amount != 0).then(|| Quantity::whole(amount));
            let (request_got, limit_got) = assigned(
                quantity(request),
                quantity(limit),
                quantity(10),
                quantity(20).as_ref(),
            );
            let found = (request_got.unwrap().value(), limit_got.unwrap().value());
            assert_eq!(found, expected, "{request}, {limit}");
        }
    }
}
