//! Resources of tasks: what registration refuses and what launching fills in (spec 03 §2.6).

use flyte_core::{
    compiler,
    quantity::{Quantity, QuantityError},
};
use flyte_crd::execution_config::{TaskResourceSpec, TaskResources};
use flyte_idl::core::{
    Container, K8sPod, Resources, TaskTemplate,
    resources::{ResourceEntry, ResourceName},
    task_template::Target,
};
use flyte_idl::text;

use crate::{
    config::{ResourceSetConfig, TaskResourcesConfig},
    error::{Error, Result},
};

/// Kinds of resource in the order in which violations are reported.
const KINDS: [ResourceName; 4] = [
    ResourceName::Cpu,
    ResourceName::Gpu,
    ResourceName::Memory,
    ResourceName::EphemeralStorage,
];

/// Quantities by kind; zero is none.
#[derive(Clone, Debug, PartialEq)]
pub struct ResourceSet {
    cpu: Quantity,
    gpu: Quantity,
    memory: Quantity,
    ephemeral_storage: Quantity,
}

impl Default for ResourceSet {
    fn default() -> Self {
        Self {
            cpu: Quantity::ZERO,
            gpu: Quantity::ZERO,
            memory: Quantity::ZERO,
            ephemeral_storage: Quantity::ZERO,
        }
    }
}

impl ResourceSet {
    fn of_config(config: &ResourceSetConfig) -> Result<Self, QuantityError> {
        let read = |text: &str| {
            if text.is_empty() {
                Ok(Quantity::ZERO)
            } else {
                text.parse()
            }
        };
        Ok(Self {
            cpu: read(&config.cpu)?,
            gpu: read(&config.gpu)?,
            memory: read(&config.memory)?,
            ephemeral_storage: read(&config.ephemeral_storage)?,
        })
    }

    fn slot(&mut self, kind: ResourceName) -> Option<&mut Quantity> {
        match kind {
            ResourceName::Cpu => Some(&mut self.cpu),
            ResourceName::Gpu => Some(&mut self.gpu),
            ResourceName::Memory => Some(&mut self.memory),
            ResourceName::EphemeralStorage => Some(&mut self.ephemeral_storage),
            ResourceName::Unknown | ResourceName::Storage => None,
        }
    }

    fn get(&self, kind: ResourceName) -> Quantity {
        match kind {
            ResourceName::Cpu => self.cpu.clone(),
            ResourceName::Gpu => self.gpu.clone(),
            ResourceName::Memory => self.memory.clone(),
            ResourceName::EphemeralStorage => self.ephemeral_storage.clone(),
            ResourceName::Unknown | ResourceName::Storage => Quantity::ZERO,
        }
    }

    /// A task's own entries; what does not parse counts as zero.
    fn lenient(entries: &[ResourceEntry]) -> Self {
        let mut set = Self::default();
        for entry in entries {
            let kind = ResourceName::try_from(entry.name).unwrap_or(ResourceName::Unknown);
            if let Some(slot) = set.slot(kind) {
                *slot = entry.value.parse().unwrap_or(Quantity::ZERO);
            }
        }
        set
    }

    fn spec(&self) -> TaskResourceSpec {
        TaskResourceSpec {
            cpu: self.cpu.canonical(),
            memory: self.memory.canonical(),
            ephemeral_storage: self.ephemeral_storage.canonical(),
            storage: "0".to_owned(),
            gpu: self.gpu.canonical(),
        }
    }
}

/// What the platform gives and allows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlatformResources {
    /// For containers that ask for nothing.
    pub defaults: ResourceSet,
    /// At most; zero is no limit.
    pub limits: ResourceSet,
}

impl PlatformResources {
    /// From section `task_resources`.
    ///
    /// # Errors
    /// A quantity that does not parse.
    pub fn of_config(config: &TaskResourcesConfig) -> Result<Self> {
        let refused =
            |error: QuantityError| Error::Internal(format!("invalid task_resources: {error}"));
        Ok(Self {
            defaults: ResourceSet::of_config(&config.defaults).map_err(refused)?,
            limits: ResourceSet::of_config(&config.limits).map_err(refused)?,
        })
    }

    /// As the resource carries it to propeller.
    pub fn for_resource(&self) -> TaskResources {
        TaskResources {
            requests: self.defaults.spec(),
            limits: self.limits.spec(),
        }
    }

    /// Fills in and clamps requests and limits of a container.
    pub fn apply(&self, container: &mut Container) {
        let given = container.resources.take().unwrap_or_default();
        let requests = ResourceSet::lenient(&given.requests);
        let limits = ResourceSet::lenient(&given.limits);
        let mut filled = Resources::default();
        let order = [
            ResourceName::Cpu,
            ResourceName::Memory,
            ResourceName::EphemeralStorage,
            ResourceName::Gpu,
        ];
        for kind in order {
            let (request, limit, default) = (
                requests.get(kind),
                limits.get(kind),
                self.defaults.get(kind),
            );
            let always = matches!(kind, ResourceName::Cpu | ResourceName::Memory);
            if !always && request.is_zero() && limit.is_zero() && default.is_zero() {
                continue;
            }
            let most = self.limits.get(kind);
            let request = first(&[&request, &limit, &default]);
            let limit = clamp(first(&[&limit, &request]), &most);
            let request = clamp(clamp(request, &most), &limit);
            let entry = |quantity: &Quantity| ResourceEntry {
                name: kind as i32,
                value: quantity.canonical(),
            };
            filled.requests.push(entry(&request));
            filled.limits.push(entry(&limit));
        }
        container.resources = Some(filled);
    }
}

/// The first that is not zero.
fn first(candidates: &[&Quantity]) -> Quantity {
    candidates
        .iter()
        .find(|quantity| !quantity.is_zero())
        .map_or(Quantity::ZERO, |quantity| (*quantity).clone())
}

/// At most `most`, which does not count when either side is zero.
fn clamp(quantity: Quantity, most: &Quantity) -> Quantity {
    if !quantity.is_zero() && !most.is_zero() && quantity > *most {
        most.clone()
    } else {
        quantity
    }
}

/// Refuses a task whose containers ask for what they cannot get. Quantities compare rounded up to whole
/// units, as in the reference, so that nothing is refused that it accepts (spec 01 §24 no. 26).
pub fn validate(template: &TaskTemplate, platform: &PlatformResources) -> Result<()> {
    let id = text::prototext_or_nil(template.id.as_ref());
    match &template.target {
        Some(Target::Container(container)) => {
            if container.image.is_empty() {
                return Err(Error::missing("image"));
            }
            let Some(resources) = &container.resources else {
                return Ok(());
            };
            let requests = strict("request", &resources.requests, &id)?;
            let limits = strict("limit", &resources.limits, &id)?;
            compare(&requests, &limits, platform, &id)
        }
        Some(Target::K8sPod(pod)) => validate_pod(pod, platform, &id),
        Some(Target::Sql(_)) | None => Ok(()),
    }
}

fn validate_pod(pod: &K8sPod, platform: &PlatformResources, id: &str) -> Result<()> {
    if pod.pod_spec.is_none() {
        return Err(Error::invalid(
            "invalid TaskSpecification, pod tasks should specify their target as a K8sPod with a defined pod spec",
        ));
    }
    let spec = compiler::pod_spec(pod.pod_spec.as_ref())
        .map_err(|error| Error::Invalid(error.to_string()))?;
    for container in &spec.containers {
        let Some(resources) = &container.resources else {
            continue;
        };
        let entries = |set: &Option<std::collections::BTreeMap<String, _>>| -> Vec<ResourceEntry> {
            let set = set.clone().unwrap_or_default();
            set.into_iter()
                .map(
                    |(name, quantity): (
                        String,
                        k8s_openapi::apimachinery::pkg::api::resource::Quantity,
                    )| {
                        ResourceEntry {
                            name: kind_of(&name) as i32,
                            value: quantity.0,
                        }
                    },
                )
                .filter(|entry| entry.name != ResourceName::Unknown as i32)
                .collect()
        };
        let requests = strict("request", &entries(&resources.requests), id)?;
        let limits = strict("limit", &entries(&resources.limits), id)?;
        compare(&requests, &limits, platform, id)?;
    }
    Ok(())
}

/// Kubernetes' name of a resource as ours; `nvidia.com/gpu` is none of ours.
fn kind_of(name: &str) -> ResourceName {
    match name.to_uppercase().as_str() {
        "CPU" => ResourceName::Cpu,
        "GPU" => ResourceName::Gpu,
        "MEMORY" => ResourceName::Memory,
        "STORAGE" => ResourceName::Storage,
        "EPHEMERAL-STORAGE" | "EPHEMERAL_STORAGE" => ResourceName::EphemeralStorage,
        _ => ResourceName::Unknown,
    }
}

type Asked = Vec<(ResourceName, Quantity)>;

fn strict(what: &str, entries: &[ResourceEntry], id: &str) -> Result<Asked> {
    let mut asked = Asked::new();
    for entry in entries {
        let kind = ResourceName::try_from(entry.name).unwrap_or(ResourceName::Unknown);
        // These are the compiler's to refuse.
        if matches!(kind, ResourceName::Unknown | ResourceName::Storage) {
            continue;
        }
        let name = kind.as_str_name();
        if asked.iter().any(|(known, _)| *known == kind) {
            return Err(Error::Invalid(format!(
                "can't specify {name} limit for task [{id}] multiple times"
            )));
        }
        let quantity: Quantity = entry.value.parse().map_err(|error: QuantityError| {
            Error::Invalid(format!(
                "Parsing of {name} {what} failed for value {} - reason  {error}. Please follow K8s conventions for resources https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/",
                entry.value
            ))
        })?;
        if kind == ResourceName::Gpu && quantity.milli_value() % 1000 != 0 {
            return Err(Error::Invalid(format!(
                "gpu for [{id}] must be a whole number, got: {quantity} instead"
            )));
        }
        asked.push((kind, quantity));
    }
    Ok(asked)
}

fn compare(requests: &Asked, limits: &Asked, platform: &PlatformResources, id: &str) -> Result<()> {
    let find = |asked: &Asked, kind| {
        asked
            .iter()
            .find(|(known, _)| *known == kind)
            .map(|(_, quantity)| quantity.clone())
    };
    for kind in KINDS {
        // A limit without a request is not checked, as in the reference.
        let Some(request) = find(requests, kind) else {
            continue;
        };
        let limit = find(limits, kind);
        let name = kind.as_str_name();
        let most = platform.limits.get(kind);
        let over = |asked: &Quantity, what: &str| -> Result<()> {
            if most.is_zero() || asked.value() <= most.value() {
                return Ok(());
            }
            Err(Error::Invalid(format!(
                "Requested {name} {what} [{asked}] is greater than current limit set in the platform configuration [{most}]. Please contact Flyte Admins to change these limits or consult the configuration"
            )))
        };
        if kind == ResourceName::Gpu {
            if limit.is_some_and(|limit| limit.value() != request.value()) {
                return Err(Error::Invalid(format!(
                    "For extended resource 'gpu' the default value must equal the limit value for task [{id}]"
                )));
            }
        } else if let Some(limit) = limit {
            if limit.value() < request.value() {
                return Err(Error::Invalid(format!(
                    "Requested {name} default [{request}] is greater than the limit [{limit}]. Please fix your configuration"
                )));
            }
            over(&limit, "limit")?;
        }
        over(&request, "default")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(cpu: &str, memory: &str, gpu: &str, ephemeral_storage: &str) -> ResourceSetConfig {
        ResourceSetConfig {
            cpu: cpu.to_owned(),
            memory: memory.to_owned(),
            gpu: gpu.to_owned(),
            ephemeral_storage: ephemeral_storage.to_owned(),
            storage: String::new(),
        }
    }

    #[test]
    fn launching_fills_in_what_a_container_does_not_ask_for() {
        let platform = PlatformResources::of_config(&TaskResourcesConfig {
            defaults: set("200m", "200Gi", "4", "500Mi"),
            limits: set("300m", "500Gi", "8", "501Mi"),
        })
        .unwrap();
        let mut container = Container {
            resources: Some(Resources {
                requests: vec![ResourceEntry {
                    name: ResourceName::Cpu as i32,
                    value: "250m".to_owned(),
                }],
                limits: Vec::new(),
            }),
            ..Container::default()
        };
        platform.apply(&mut container);
        let filled = container.resources.unwrap();
        let shown: Vec<_> = filled
            .requests
            .iter()
            .map(|entry| (entry.name(), entry.value.as_str()))
            .collect();
        assert_eq!(
            shown,
            [
                (ResourceName::Cpu, "250m"),
                (ResourceName::Memory, "200Gi"),
                (ResourceName::EphemeralStorage, "500Mi"),
                (ResourceName::Gpu, "4")
            ]
        );
        assert_eq!(filled.requests, filled.limits);
    }
}
