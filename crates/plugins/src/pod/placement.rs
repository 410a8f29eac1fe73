//! Where a pod may run, and as whom (spec 05 §6.5-6.8, §6.11).

use flyte_core::quantity::Quantity;
use flyte_idl::core::{ExtendedResources, gpu_accelerator::PartitionSizeValue};
use k8s_openapi::{
    api::core::v1::{
        Affinity, EmptyDirVolumeSource, NodeAffinity, NodeSelector, NodeSelectorRequirement,
        NodeSelectorTerm, PodSpec, Toleration, Volume, VolumeMount,
    },
    apimachinery::pkg::api::resource,
};

use super::BuildError;
use crate::{TaskContext, config::PluginsConfig};

pub(super) fn apply(spec: &mut PodSpec, context: &TaskContext<'_>, config: &PluginsConfig) {
    let k8s = &config.k8s;
    if spec
        .restart_policy
        .as_deref()
        .unwrap_or_default()
        .is_empty()
    {
        spec.restart_policy = Some("Never".into());
    }
    let mut tolerations = Vec::new();
    for (name, listed) in &k8s.resource_tolerations.0 {
        let requested = spec.containers.iter().any(|container| {
            container
                .resources
                .as_ref()
                .and_then(|resources| resources.requests.as_ref())
                .is_some_and(|requests| requests.contains_key(name))
        });
        if requested {
            tolerations.extend(listed.0.clone());
        }
    }
    if context.interruptible {
        tolerations.extend(k8s.interruptible_tolerations.clone());
    }
    tolerations.extend(k8s.default_tolerations.clone());
    tolerations.extend(spec.tolerations.take().unwrap_or_default());
    extended_tolerations(spec, &mut tolerations, config);
    spec.tolerations = (!tolerations.is_empty()).then_some(tolerations);
    if spec
        .service_account_name
        .as_deref()
        .unwrap_or_default()
        .is_empty()
        && !context.service_account.is_empty()
    {
        spec.service_account_name = Some(context.service_account.to_owned());
    }
    if spec
        .scheduler_name
        .as_deref()
        .unwrap_or_default()
        .is_empty()
        && !k8s.scheduler_name.is_empty()
    {
        spec.scheduler_name = Some(k8s.scheduler_name.clone());
    }
    let mut selector = k8s.default_node_selector.0.clone();
    selector.extend(spec.node_selector.take().unwrap_or_default());
    if context.interruptible {
        selector.extend(k8s.interruptible_node_selector.0.clone());
    }
    spec.node_selector = (!selector.is_empty()).then_some(selector);
    if spec.affinity.is_none() {
        spec.affinity.clone_from(&k8s.default_affinity);
    }
    if spec.security_context.is_none() {
        spec.security_context
            .clone_from(&k8s.default_pod_security_context);
    }
    if spec.dns_config.is_none() {
        spec.dns_config.clone_from(&k8s.default_pod_dns_config);
    }
    if let Some(host_network) = k8s.enable_host_networking_pod {
        spec.host_network = Some(host_network);
    }
    spec.affinity.get_or_insert_default();
    let requirement = if context.interruptible {
        &k8s.interruptible_node_selector_requirement
    } else {
        &k8s.non_interruptible_node_selector_requirement
    };
    if let Some(requirement) = requirement {
        require(spec, requirement);
    }
}

/// A toleration for each extended resource that is requested (spec 05 §6.8), for plain pods too.
fn extended_tolerations(spec: &PodSpec, tolerations: &mut Vec<Toleration>, config: &PluginsConfig) {
    let mut names = config.k8s.add_tolerations_for_extended_resources.clone();
    names.sort();
    for name in names {
        let requested = spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
            .any(|container| {
                container
                    .resources
                    .as_ref()
                    .and_then(|resources| resources.requests.as_ref())
                    .is_some_and(|requests| requests.contains_key(&name))
            });
        let toleration = Toleration {
            key: Some(name),
            operator: Some("Exists".into()),
            effect: Some("NoSchedule".into()),
            ..Toleration::default()
        };
        if requested && !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
}

/// Adds the requirement to every required term, or makes one.
fn require(spec: &mut PodSpec, requirement: &NodeSelectorRequirement) {
    let affinity: &mut Affinity = spec.affinity.get_or_insert_default();
    let node: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
    let selector: &mut NodeSelector = node
        .required_during_scheduling_ignored_during_execution
        .get_or_insert_default();
    if selector.node_selector_terms.is_empty() {
        selector
            .node_selector_terms
            .push(NodeSelectorTerm::default());
    }
    for term in &mut selector.node_selector_terms {
        term.match_expressions
            .get_or_insert_default()
            .push(requirement.clone());
    }
}

/// The node's fields win over the template's.
fn extended(context: &TaskContext<'_>) -> ExtendedResources {
    let mut merged = context
        .template
        .extended_resources
        .clone()
        .unwrap_or_default();
    if let Some(over) = context.extended_resources {
        if over.gpu_accelerator.is_some() {
            merged.gpu_accelerator.clone_from(&over.gpu_accelerator);
        }
        if over.shared_memory.is_some() {
            merged.shared_memory.clone_from(&over.shared_memory);
        }
    }
    merged
}

/// Nodes with the accelerator that the task asks for (spec 05 §6.7).
pub(super) fn accelerators(spec: &mut PodSpec, context: &TaskContext<'_>, config: &PluginsConfig) {
    let k8s = &config.k8s;
    let uses = spec.containers.iter().any(|container| {
        container
            .resources
            .as_ref()
            .and_then(|resources| resources.limits.as_ref())
            .is_some_and(|limits| limits.contains_key(&k8s.gpu_resource_name))
    });
    let Some(accelerator) = extended(context).gpu_accelerator.filter(|_| uses) else {
        return;
    };
    let one_of = |key: &str, value: &str| NodeSelectorRequirement {
        key: key.to_owned(),
        operator: "In".into(),
        values: Some(vec![value.to_owned()]),
    };
    let tolerate = |key: &str, value: &str| Toleration {
        key: Some(key.to_owned()),
        operator: Some("Equal".into()),
        value: Some(value.to_owned()),
        effect: Some("NoSchedule".into()),
        ..Toleration::default()
    };
    let mut tolerations = Vec::new();
    if !accelerator.device.is_empty() {
        require(
            spec,
            &one_of(&k8s.gpu_device_node_label, &accelerator.device),
        );
        tolerations.push(tolerate(&k8s.gpu_device_node_label, &accelerator.device));
    }
    match &accelerator.partition_size_value {
        Some(PartitionSizeValue::Unpartitioned(true)) => {
            let requirement = k8s
                .gpu_unpartitioned_node_selector_requirement
                .clone()
                .unwrap_or_else(|| NodeSelectorRequirement {
                    key: k8s.gpu_partition_size_node_label.clone(),
                    operator: "DoesNotExist".into(),
                    values: None,
                });
            require(spec, &requirement);
            tolerations.extend(k8s.gpu_unpartitioned_toleration.clone());
        }
        Some(PartitionSizeValue::PartitionSize(size)) => {
            require(spec, &one_of(&k8s.gpu_partition_size_node_label, size));
            tolerations.push(tolerate(&k8s.gpu_partition_size_node_label, size));
        }
        Some(PartitionSizeValue::Unpartitioned(false)) | None => {}
    }
    if !tolerations.is_empty() {
        spec.tolerations.get_or_insert_default().extend(tolerations);
    }
}

/// A folder in memory, mounted into the primary container (spec 05 §6.11).
pub(super) fn shared_memory(
    spec: &mut PodSpec,
    primary: &str,
    context: &TaskContext<'_>,
) -> Result<(), BuildError> {
    let Some(memory) = extended(context).shared_memory else {
        return Ok(());
    };
    let bad = |message: String| Err(BuildError::BadTask(message));
    if memory.mount_name.is_empty() || memory.mount_path.is_empty() {
        return bad("shared memory needs a mount name and a mount path".into());
    }
    if spec
        .volumes
        .iter()
        .flatten()
        .any(|volume| volume.name == memory.mount_name)
    {
        return bad(format!(
            "a volume {:?} for shared memory already exists",
            memory.mount_name
        ));
    }
    let size = if memory.size_limit.is_empty() {
        "0"
    } else {
        memory.size_limit.as_str()
    };
    let Ok(size) = size.parse::<Quantity>() else {
        return bad(format!(
            "size limit {:?} of shared memory is not a quantity",
            memory.size_limit
        ));
    };
    let Some(container) = spec
        .containers
        .iter_mut()
        .find(|container| container.name == primary)
    else {
        return bad(format!(
            "primary container {primary:?} is not among the pod's containers"
        ));
    };
    let mounts = container.volume_mounts.get_or_insert_default();
    if mounts
        .iter()
        .any(|mount| mount.name == memory.mount_name || mount.mount_path == memory.mount_path)
    {
        return bad(format!(
            "something is already mounted as {:?} or at {:?}",
            memory.mount_name, memory.mount_path
        ));
    }
    mounts.push(VolumeMount {
        name: memory.mount_name.clone(),
        mount_path: memory.mount_path.clone(),
        ..VolumeMount::default()
    });
    spec.volumes.get_or_insert_default().push(Volume {
        name: memory.mount_name.clone(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: Some("Memory".into()),
            size_limit: Some(resource::Quantity(size.canonical())),
        }),
        ..Volume::default()
    });
    Ok(())
}
