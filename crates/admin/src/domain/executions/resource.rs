//! The FlyteWorkflow resource of an execution: the transform's result, decorated (spec 03 §4.1 step 6).

use std::collections::BTreeMap;

use flyte_core::names;
use flyte_crd::{
    FINALIZER, FlyteWorkflow, GoStruct, Time, WorkflowMeta, execution_config::ExecutionConfig,
    transform,
};
use flyte_idl::{
    admin::{ExecutionSpec, execution_metadata::ExecutionMode},
    core::{
        CompiledWorkflowClosure, LiteralMap, WorkflowExecutionIdentifier, task_template::Target,
    },
};
use jiff::Timestamp;

use super::config::EffectiveConfig;
use crate::{config::FlyteAdminConfig, domain::task_resources::PlatformResources, error::Result};

/// Everything that the resource is made from, besides the configuration.
pub(crate) struct ResourceInputs<'a> {
    pub(crate) id: &'a WorkflowExecutionIdentifier,
    pub(crate) namespace: &'a str,
    pub(crate) closure: CompiledWorkflowClosure,
    pub(crate) closure_uri: &'a str,
    pub(crate) inputs: LiteralMap,
    pub(crate) inputs_uri: &'a str,
    pub(crate) spec: &'a ExecutionSpec,
    pub(crate) config: &'a EffectiveConfig,
    /// Labels with the project's added.
    pub(crate) labels: &'a BTreeMap<String, String>,
    pub(crate) accepted_at: Timestamp,
}

/// Builds the resource.
///
/// # Errors
/// A closure that the transform refuses.
pub(crate) fn build(
    inputs: ResourceInputs<'_>,
    server: &FlyteAdminConfig,
    platform: &PlatformResources,
) -> Result<FlyteWorkflow> {
    let ResourceInputs {
        id,
        namespace,
        mut closure,
        closure_uri,
        inputs,
        inputs_uri,
        spec,
        config,
        labels,
        accepted_at,
    } = inputs;
    for task in &mut closure.tasks {
        if let Some(template) = &mut task.template
            && let Some(Target::Container(container)) = &mut template.target
        {
            platform.apply(container);
        }
    }
    let mut resource = transform::build(&closure, Some(inputs), Some(id), namespace)?;
    resource.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
    // What the user gives wins over the system's labels (spec 03 §2.3).
    resource
        .metadata
        .labels
        .get_or_insert_default()
        .extend(labels.clone());
    let annotations = annotations(config, server);
    if !annotations.is_empty() {
        resource.metadata.annotations = Some(annotations);
    }
    resource.workflow_meta = Some(WorkflowMeta {
        event_version: server.event_version,
    });
    resource.execution_id = GoStruct(id.clone());
    resource.accepted_at = Some(Time::new(accepted_at));
    if let Some(run_as) = &config.security_context.run_as {
        resource
            .service_account_name
            .clone_from(&run_as.k8s_service_account);
    }
    resource.security_context = GoStruct(config.security_context.clone());
    resource.raw_output_data_config = GoStruct(config.raw_output.clone().unwrap_or_default());
    resource.execution_config = execution_config(spec, config, platform);
    resource.console_url.clone_from(&server.console_url);
    if server.use_offloaded_workflow_closure {
        closure_uri.clone_into(&mut resource.workflow_closure_reference);
        resource.spec = None;
        resource.tasks = None;
        resource.sub_workflows = BTreeMap::new();
    }
    if server.use_offloaded_inputs {
        inputs_uri.clone_into(&mut resource.offloaded_inputs);
        resource.inputs = None;
    }
    Ok(resource)
}

fn execution_config(
    spec: &ExecutionSpec,
    config: &EffectiveConfig,
    platform: &PlatformResources,
) -> ExecutionConfig {
    let recovered = spec
        .metadata
        .as_ref()
        .filter(|metadata| metadata.mode == ExecutionMode::Recovered as i32)
        .and_then(|metadata| metadata.reference_execution.clone());
    ExecutionConfig {
        task_plugin_impls: BTreeMap::new(),
        max_parallelism: u32::try_from(config.max_parallelism).unwrap_or_default(),
        recovery_execution: GoStruct(recovered.unwrap_or_default()),
        task_resources: platform.for_resource(),
        interruptible: config.interruptible,
        overwrite_cache: config.overwrite_cache,
        environment_variables: config.envs.clone(),
    }
}

/// The role annotation, overridden by the given ones, and who launched the execution (spec 01 §12.5).
fn annotations(config: &EffectiveConfig, server: &FlyteAdminConfig) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::new();
    let run_as = config.security_context.run_as.clone().unwrap_or_default();
    if !server.role_name_key.is_empty() && !run_as.iam_role.is_empty() {
        annotations.insert(server.role_name_key.clone(), run_as.iam_role);
    }
    annotations.extend(config.annotations.clone());
    let prefix = match server.identity_annotation_prefix.as_str() {
        "" => "flyte.org",
        prefix => prefix,
    };
    if server.inject_identity_annotations && names::is_rfc1123_subdomain(prefix) {
        let user = run_as.execution_identity;
        for key in &server.identity_annotation_keys {
            if key == "sub" && !user.is_empty() {
                annotations
                    .entry(format!("{prefix}/user-{key}"))
                    .or_insert_with(|| user.clone());
            }
        }
    }
    annotations
}
