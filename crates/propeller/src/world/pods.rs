//! Creating, finding and deleting the pods of tasks (spec 05 §4.2, §4.4).

use std::sync::Arc;

use flyte_crd::status::TaskPhase;
use flyte_idl::core::execution_error::ErrorKind;
use flyte_plugins::{
    PhaseInfo, Plugin, TaskContext, TaskInfo,
    config::K8sConfig,
    pod::{self, TemplateName},
};
use k8s_openapi::api::core::v1::{Pod, PodTemplate};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    core::Status,
};
use prost::Message as _;
use serde_json::json;

use super::{Hopeless, Remembered, World};
use crate::node::{NodeView, task::Attempt};

impl World {
    /// Creates the pod of the attempt under way; one that is there already is as good.
    pub(super) async fn launch(&self, view: &NodeView<'_>) -> Result<PhaseInfo, Hopeless> {
        let attempt = Attempt::of(*view).map_err(|error| Hopeless(*error))?;
        if attempt.plugin == Plugin::Echo {
            return self.echo(view, &attempt).await;
        }
        let context = attempt.context();
        let inputs = if pod::needs_inputs(&context) {
            Some(self.read(&context.inputs, &Remembered::default()).await?)
        } else {
            None
        };
        if pod::needs_task_template(&context) {
            self.write(
                &context.task_template,
                attempt.template.encode_to_vec().into(),
            )
            .await?;
        }
        let plugins = &view.run.settings.plugins;
        let built = match self.template(&context, &plugins.k8s).await {
            Ok(template) => {
                let supplies = pod::Supplies {
                    inputs: inputs.as_deref(),
                    template: template.as_ref().and_then(|found| found.template.as_ref()),
                };
                pod::build(&context, attempt.plugin, supplies, plugins)
            }
            Err(error) => Err(error),
        };
        let built = match built {
            Ok(built) => built,
            Err(error) => {
                return Ok(PhaseInfo::permanent(
                    ErrorKind::User,
                    "FailedToBuildResource",
                    error.to_string(),
                ));
            }
        };
        let api: Api<Pod> = Api::namespaced(self.kube.clone(), &view.run.namespace);
        Ok(self
            .until_it_works("create a pod", || async {
                match api.create(&PostParams::default(), &built).await {
                    Ok(_) => Ok(submitted()),
                    Err(kube::Error::Api(status)) => {
                        refused(&status).ok_or_else(|| kube::Error::Api(status).into())
                    }
                    Err(error) => Err(error.into()),
                }
            })
            .await)
    }

    /// The PodTemplate that the task's pod starts from.
    async fn template(
        &self,
        context: &TaskContext<'_>,
        config: &K8sConfig,
    ) -> Result<Option<Arc<PodTemplate>>, pod::BuildError> {
        let Some(name) = pod::template_name(context, config) else {
            return Ok(None);
        };
        let found = self
            .until_it_works("find a PodTemplate", || async {
                Ok(self.templates.find(context.namespace, name).await?)
            })
            .await;
        match (found, name) {
            (None, TemplateName::OfTask(name)) => Err(pod::BuildError::BadTask(format!(
                "PodTemplate '{name}' does not exist"
            ))),
            (found, _) => Ok(found),
        }
    }

    /// The pod of the attempt under way, from the API server itself.
    pub(super) async fn look_up(&self, view: &NodeView<'_>) -> Result<Option<Arc<Pod>>, Hopeless> {
        let attempt = Attempt::of(*view).map_err(|error| Hopeless(*error))?;
        let api: Api<Pod> = Api::namespaced(self.kube.clone(), &view.run.namespace);
        let name = attempt.pod_name();
        let found = self
            .until_it_works("look a pod up", || async { Ok(api.get_opt(&name).await?) })
            .await;
        Ok(found.map(Arc::new))
    }

    /// Takes our finalizer off a pod and deletes it; a missing one is fine.
    pub async fn delete_pod(&self, namespace: &str, name: &str) {
        let api: Api<Pod> = Api::namespaced(self.kube.clone(), namespace);
        self.release_pod(namespace, name).await;
        self.until_it_works("delete a pod", || async {
            match api.delete(name, &DeleteParams::default()).await {
                Ok(_) => Ok(()),
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                Err(error) => Err(error.into()),
            }
        })
        .await;
    }

    /// Takes our finalizer off a pod, so that it may go when it is deleted.
    pub async fn release_pod(&self, namespace: &str, name: &str) {
        let api: Api<Pod> = Api::namespaced(self.kube.clone(), namespace);
        self.until_it_works("release a pod", || async {
            let Some(found) = api.get_metadata_opt(name).await? else {
                return Ok(());
            };
            let finalizers = found.metadata.finalizers.unwrap_or_default();
            if !finalizers
                .iter()
                .any(|name| name == flyte_crd::PodFinalizer::NAME)
            {
                return Ok(());
            }
            let rest: Vec<_> = finalizers
                .iter()
                .filter(|name| *name != flyte_crd::PodFinalizer::NAME)
                .collect();
            let patch = json!({ "metadata": {
                "finalizers": rest, "resourceVersion": found.metadata.resource_version } });
            match api
                .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
                .await
            {
                Ok(_) => Ok(()),
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                Err(error) => Err(error.into()),
            }
        })
        .await;
    }

    /// The echo plugin: the one input is the one output (spec 05 §16).
    async fn echo(
        &self,
        view: &NodeView<'_>,
        attempt: &Attempt<'_>,
    ) -> Result<PhaseInfo, Hopeless> {
        let inputs = self
            .read(&view.places.inputs(), &Remembered::default())
            .await?;
        let names = attempt
            .template
            .interface
            .as_ref()
            .and_then(|interface| interface.outputs.as_ref())
            .map(|outputs| outputs.variables.keys().cloned().collect::<Vec<_>>())
            .unwrap_or_default();
        if inputs.literals.len() != names.len() || names.len() > 1 {
            let message = format!(
                "an echo task has as many outputs as inputs and at most one; it has {} and {}",
                inputs.literals.len(),
                names.len()
            );
            return Ok(PhaseInfo::permanent(
                ErrorKind::User,
                "BadTaskSpecification",
                message,
            ));
        }
        let literals = names
            .into_iter()
            .zip(inputs.literals.values().cloned())
            .collect();
        let outputs = flyte_idl::core::LiteralMap { literals };
        self.write(&view.places.outputs(), outputs.encode_to_vec().into())
            .await?;
        let length = view.run.settings.plugins.echo.sleep_duration;
        if !length.is_zero() {
            tokio::time::sleep(length.to_std()).await;
        }
        Ok(PhaseInfo::new(
            TaskPhase::Success,
            0,
            "",
            TaskInfo::default(),
        ))
    }
}

fn submitted() -> PhaseInfo {
    PhaseInfo::new(
        TaskPhase::Queued,
        0,
        "task submitted to K8s",
        TaskInfo::default(),
    )
}

/// What a refusal means; none when it may go through later (spec 05 §4.2).
fn refused(status: &Status) -> Option<PhaseInfo> {
    let message = status.message.as_str();
    Some(match status.code {
        409 if status.reason == "AlreadyExists" => submitted(),
        403 if message.contains("exceeded quota") => {
            if exceeds_whole_quota(message) {
                PhaseInfo::permanent(ErrorKind::User, "ResourceRequestsExceedLimits", message)
            } else {
                let reason = format!("Exceeded resourcequota: {message}");
                PhaseInfo::new(
                    TaskPhase::WaitingForResources,
                    0,
                    reason,
                    TaskInfo::default(),
                )
            }
        }
        403 if message.contains("etcdserver:") => return None,
        403 => PhaseInfo::retryable(ErrorKind::User, "RuntimeFailure", message),
        400 | 422 => PhaseInfo::permanent(ErrorKind::User, "BadTaskFormat", message),
        413 => PhaseInfo::permanent(ErrorKind::User, "EntityTooLarge", message),
        404 => {
            // The namespace is made by admin's cluster resource loop; it may be a moment late.
            return None;
        }
        _ => return None,
    })
}

/// Whether the request alone is larger than what the quota allows in all, so that waiting is of no use.
fn exceeds_whole_quota(message: &str) -> bool {
    let list = |name: &str| -> Vec<(String, flyte_core::quantity::Quantity)> {
        let Some((_, rest)) = message.split_once(&format!("{name}: ")) else {
            return Vec::new();
        };
        let end = [", used:", ", limited:", ", requested:"]
            .iter()
            .filter_map(|mark| rest.find(mark))
            .min();
        rest.get(..end.unwrap_or(rest.len()))
            .unwrap_or_default()
            .split(',')
            .filter_map(|pair| {
                let (name, value) = pair.trim().split_once('=')?;
                Some((name.to_owned(), value.parse().ok()?))
            })
            .collect()
    };
    let limited = list("limited");
    list("requested").iter().any(|(name, requested)| {
        limited
            .iter()
            .any(|(known, limit)| known == name && requested.nanos() >= limit.nanos())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_mean_what_the_table_says() {
        let status = |code: u16, reason: &str, message: &str| Status {
            code,
            reason: reason.into(),
            message: message.into(),
            ..Status::default()
        };
        let quota = "pods \"x\" is forbidden: exceeded quota: q, requested: limits.cpu=7,limits.memory=64Gi, used: limits.cpu=249, limited: limits.cpu=250,limits.memory=2000Gi";
        let too_much = "exceeded quota: q, requested: limits.cpu=300, used: limits.cpu=0, limited: limits.cpu=250";
        for (status, phase, code) in [
            (
                status(409, "AlreadyExists", ""),
                Some(TaskPhase::Queued),
                "",
            ),
            (
                status(403, "Forbidden", quota),
                Some(TaskPhase::WaitingForResources),
                "",
            ),
            (
                status(403, "Forbidden", too_much),
                Some(TaskPhase::PermanentFailure),
                "ResourceRequestsExceedLimits",
            ),
            (
                status(403, "Forbidden", "no"),
                Some(TaskPhase::RetryableFailure),
                "RuntimeFailure",
            ),
            (
                status(422, "Invalid", "no"),
                Some(TaskPhase::PermanentFailure),
                "BadTaskFormat",
            ),
            (
                status(413, "", "no"),
                Some(TaskPhase::PermanentFailure),
                "EntityTooLarge",
            ),
            (status(500, "", "no"), None, ""),
            (status(429, "", "no"), None, ""),
        ] {
            let found = refused(&status);
            assert_eq!(found.as_ref().map(|info| info.phase), phase, "{status:?}");
            let found = found
                .and_then(|info| info.error)
                .map(|error| error.code)
                .unwrap_or_default();
            assert_eq!(found, code, "{status:?}");
        }
    }
}
