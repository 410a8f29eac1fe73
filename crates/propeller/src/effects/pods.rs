//! Creating, finding and deleting the pods of tasks (spec 05 §4.2, §4.4).

use std::{sync::Arc, time::Instant};

use flyte_crd::status::TaskPhase;
use flyte_idl::core::execution_error::ErrorKind;
use flyte_platform::kubernetes;
use flyte_plugins::{
    PhaseInfo, Plugin, TaskContext, TaskInfo,
    config::K8sConfig,
    pod::{self, TemplateName},
    quota::{self, Amounts, Exceeded},
};
use k8s_openapi::{
    api::core::v1::{Pod, PodTemplate},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    core::Status,
};
use prost::Message as _;
use serde_json::json;

use super::{
    Backend, EffectError, PermanentError, TransientError, WorkflowEffects,
    quota_queue::{Admission, Request},
};
use crate::{
    key::Key,
    metrics,
    node::{
        NodeView,
        task::{Attempt, guard::guarded},
    },
};

/// What the reference calls it when the API server has no room for a pod.
const BACK_OFF: &str = "[BackOffError]";

impl WorkflowEffects {
    /// Creates the pod of the attempt under way; one that is there already is as good.
    pub(super) async fn create_pod(&self, view: &NodeView<'_>) -> Result<PhaseInfo, EffectError> {
        let attempt = Attempt::of(*view).map_err(PermanentError)?;
        if attempt.plugin == Plugin::Echo {
            return self.echo(view, &attempt).await;
        }
        let context = attempt.context();
        let inputs = if pod::needs_inputs(&context) {
            Some(self.task_inputs(view).await?)
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
        let plugins = &view.workflow.settings.plugins;
        let built = match self.template(&context, &plugins.k8s)? {
            Ok(template) => {
                let supplies = pod::Supplies {
                    inputs: inputs.as_deref(),
                    template: template.as_ref().and_then(|found| found.template.as_ref()),
                };
                guarded(attempt.plugin, || {
                    pod::build(&context, attempt.plugin, supplies, plugins)
                })
            }
            Err(error) => Ok(Err(error)),
        };
        let built = match built {
            Ok(Ok(built)) => built,
            Err(panicked) => return Ok(*panicked),
            Ok(Err(error)) => {
                return Ok(PhaseInfo::permanent(
                    ErrorKind::User,
                    "FailedToBuildResource",
                    error.to_string(),
                ));
            }
        };
        self.create(&built, &view.workflow.namespace, &view.workflow.owner.name)
            .await
    }

    /// Creates a pod of `workflow`, if there is quota for it.
    async fn create(
        &self,
        pod: &Pod,
        namespace: &str,
        workflow: &str,
    ) -> Result<PhaseInfo, EffectError> {
        let (name, demands) = (pod.name_any(), quota::demands(pod));
        let request = Request {
            namespace,
            pod: &name,
            demands: &demands,
            inbox: &self.permits,
        };
        let permit = match self.quota_queue.admit(request) {
            Admission::Try(permit) => permit,
            Admission::Wait(until) => {
                let reason = format!(
                    "{BACK_OFF} The operation attempt was blocked by back-off [attempted at: {}][the block expires \
                     at: {until}] and the requested resource(s) exceeds resource ceiling(s)",
                    self.clock.now()
                );
                return Ok(waiting(&reason));
            }
        };
        let api: Api<Pod> = Api::namespaced(self.kube.clone(), namespace);
        // A permit that is dropped goes to the next: whoever has it then finds out whether there is quota.
        let created = self
            .budget
            .request(Backend::Kubernetes, api.create(&PostParams::default(), pod))
            .await?;
        match created {
            Ok(_) => {
                permit.created();
                Ok(submitted())
            }
            Err(kube::Error::Api(status)) if is_taken(&status) => {
                // Whoever waits for room need not wait for the look at the other pod.
                drop(permit);
                self.already_there(&api, &name, workflow).await
            }
            Err(kube::Error::Api(status)) => match answer(&status, self.quota_queue.is_open()) {
                Some(Answer::Waits { reason, scarce }) => {
                    permit.refused(request, scarce);
                    Ok(waiting(&reason))
                }
                Some(Answer::Other(info)) => Ok(*info),
                None => Err(kube::Error::Api(status).into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// What it means that a pod of this name is there: an earlier try made it, unless it is of another workflow, which
    /// the attempt waits for.
    async fn already_there(
        &self,
        api: &Api<Pod>,
        name: &str,
        workflow: &str,
    ) -> Result<PhaseInfo, EffectError> {
        let found = self
            .budget
            .request(Backend::Kubernetes, api.get_metadata_opt(name))
            .await??;
        let message = match found.as_ref().map(|found| controller(&found.metadata)) {
            None => format!("pod {name:?} was there and is gone"),
            Some(Some(owner)) if owner.name != workflow => format!(
                "pod {name:?} is there already and belongs to {} {:?}; two executions whose names and node ids make one \
                 name cannot run at once",
                owner.kind, owner.name
            ),
            Some(_) => return Ok(submitted()),
        };
        Err(TransientError::refused(Backend::Kubernetes, message).into())
    }

    /// The PodTemplate that the task's pod starts from. The inner error is the task's own.
    fn template(
        &self,
        context: &TaskContext<'_>,
        config: &K8sConfig,
    ) -> Result<Result<Option<Arc<PodTemplate>>, pod::BuildError>, TransientError> {
        let Some(name) = pod::template_name(context, config) else {
            return Ok(Ok(None));
        };
        let found = self.templates.find(context.namespace, name)?;
        Ok(match (found, name) {
            (None, TemplateName::OfTask(name)) => Err(pod::BuildError::BadTask(format!(
                "PodTemplate '{name}' does not exist"
            ))),
            (found, _) => Ok(found),
        })
    }

    /// The pod of the attempt under way, from the API server itself.
    pub(super) async fn get_pod(
        &self,
        view: &NodeView<'_>,
    ) -> Result<Option<Arc<Pod>>, EffectError> {
        let attempt = Attempt::of(*view).map_err(PermanentError)?;
        let api: Api<Pod> = Api::namespaced(self.kube.clone(), &view.workflow.namespace);
        let (name, began) = (attempt.pod_name(), Instant::now());
        let labels = metrics::labels_of_task(view, &attempt);
        let metrics = &self.metrics.plugin;
        let found = self
            .budget
            .request(Backend::Kubernetes, api.get(&name))
            .await;
        metrics.asked(&labels, attempt.plugin, began.elapsed());
        let found = kubernetes::found(found?)?;
        metrics.looked_up(&labels, attempt.plugin, began.elapsed());
        let workflow = &view.workflow.owner.name;
        let ours = found.filter(|pod| !is_of_another(&pod.metadata, workflow));
        Ok(ours.map(Arc::new))
    }

    /// Takes our finalizer off a pod of `workflow` and deletes it; a missing one is fine. Tried until it works, within an
    /// hour.
    pub(crate) async fn delete_pod(&self, workflow: &Key, name: &str) {
        let api: Api<Pod> = Api::namespaced(self.kube.clone(), &workflow.namespace);
        let api = &api;
        self.clean_up("delete a pod", name, || async move {
            if !self.try_to_release(api, workflow, name).await? {
                return Ok(());
            }
            let deleted = self
                .budget
                .request(
                    Backend::Kubernetes,
                    api.delete(name, &DeleteParams::default()),
                )
                .await?;
            kubernetes::found(deleted)?;
            Ok(())
        })
        .await;
    }

    /// Takes our finalizer off a pod of `workflow`, so that it may go when it is deleted. Tried until it works, within an
    /// hour.
    pub(crate) async fn release_pod(&self, workflow: &Key, name: &str) {
        let api: Api<Pod> = Api::namespaced(self.kube.clone(), &workflow.namespace);
        let api = &api;
        self.clean_up("release a pod", name, || async move {
            self.try_to_release(api, workflow, name).await.map(drop)
        })
        .await;
    }

    /// Whether there is such a pod of the workflow.
    async fn try_to_release(
        &self,
        api: &Api<Pod>,
        workflow: &Key,
        name: &str,
    ) -> Result<bool, TransientError> {
        let found = self
            .budget
            .request(Backend::Kubernetes, api.get_metadata(name))
            .await?;
        let ours = kubernetes::found(found)?
            .filter(|found| !is_of_another(&found.metadata, &workflow.name));
        let Some(found) = ours else {
            return Ok(false);
        };
        let finalizers = found.metadata.finalizers.unwrap_or_default();
        let is_ours = |name: &&String| *name == flyte_crd::PodFinalizer::NAME;
        if !finalizers.iter().any(|name| is_ours(&name)) {
            return Ok(true);
        }
        let rest: Vec<_> = finalizers.iter().filter(|name| !is_ours(name)).collect();
        let patch = json!({ "metadata": {
            "finalizers": rest, "resourceVersion": found.metadata.resource_version } });
        let patch = Patch::Merge(&patch);
        let patched = self
            .budget
            .request(
                Backend::Kubernetes,
                api.patch(name, &PatchParams::default(), &patch),
            )
            .await?;
        match kubernetes::found(patched) {
            Ok(patched) => Ok(patched.is_some()),
            Err(error) => {
                self.metrics.plugin.not_released(&self.labels(None));
                Err(error.into())
            }
        }
    }

    /// The echo plugin: the one input is the one output (spec 05 §16).
    async fn echo(
        &self,
        view: &NodeView<'_>,
        attempt: &Attempt<'_>,
    ) -> Result<PhaseInfo, EffectError> {
        let inputs = self.task_inputs(view).await?;
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
        self.write(&view.files.outputs(), outputs.encode_to_vec().into())
            .await?;
        let length = view.workflow.settings.plugins.echo.sleep_duration;
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

fn waiting(reason: &str) -> PhaseInfo {
    PhaseInfo::new(
        TaskPhase::WaitingForResources,
        0,
        format!("Exceeded resourcequota: {reason}"),
        TaskInfo::default(),
    )
}

/// Whether a pod of that name is there.
fn is_taken(status: &Status) -> bool {
    status.code == 409 && status.reason == "AlreadyExists"
}

fn controller(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    let mut owners = metadata.owner_references.iter().flatten();
    owners.find(|owner| owner.controller == Some(true))
}

/// Whether a pod is of another workflow. Names of executions and ids of nodes are joined by `-`, which both may contain,
/// so that attempts of two workflows can have one name. A pod whose owner somebody removed is ours by its name.
fn is_of_another(metadata: &ObjectMeta, workflow: &str) -> bool {
    controller(metadata).is_some_and(|owner| owner.name != workflow)
}

/// What the API server makes of a pod.
#[derive(Debug, PartialEq)]
enum Answer {
    /// It may go through when less is going on.
    Waits {
        reason: String,
        /// What there was too little of, where that is known.
        scarce: Amounts,
    },
    /// It can never be.
    Other(Box<PhaseInfo>),
}

/// What a refusal means; none when it is simply to be tried again (spec 05 §4.2). `waits` says whether pods wait for
/// room at all.
fn answer(status: &Status, waits: bool) -> Option<Answer> {
    let message = status.message.as_str();
    let failure = |code: &str, message: &str| {
        Answer::Other(Box::new(PhaseInfo::permanent(
            ErrorKind::User,
            code,
            message,
        )))
    };
    let retryable = |code: &str| {
        Answer::Other(Box::new(PhaseInfo::retryable(
            ErrorKind::User,
            code,
            message,
        )))
    };
    let back_off = |scarce: Amounts| {
        waits.then(|| Answer::Waits {
            reason: format!(
                "{BACK_OFF} The operation was attempted but failed, caused by: {message}"
            ),
            scarce,
        })
    };
    Some(match (status.code, status.reason.as_str()) {
        (403, _) => match Exceeded::parse(message) {
            Some(exceeded) if exceeded.is_hopeless() => failure(
                "ResourceRequestsExceedLimits",
                &format!("requested resources exceed limits: {message}"),
            ),
            Some(exceeded) => {
                back_off(exceeded.requested).unwrap_or_else(|| retryable("RuntimeFailure"))
            }
            None if message.contains("etcdserver:") => {
                back_off(Amounts::new()).unwrap_or_else(|| retryable("RuntimeFailure"))
            }
            None => retryable("RuntimeFailure"),
        },
        (429, _) | (_, "TooManyRequests" | "ServerTimeout") => return back_off(Amounts::new()),
        (400 | 422, _) => failure("BadTaskFormat", message),
        (413, _) => failure("EntityTooLarge", message),
        // Also a namespace that is not there: admin's loop over cluster resources may make it a moment late.
        _ => return None,
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
        let etcd = "etcdserver: request timed out";
        for (status, waits, expected) in [
            (status(409, "Conflict", ""), true, "later"),
            (status(403, "Forbidden", quota), true, "waits"),
            (
                status(403, "Forbidden", quota),
                false,
                "RetryableFailure RuntimeFailure",
            ),
            (
                status(403, "Forbidden", too_much),
                true,
                "PermanentFailure ResourceRequestsExceedLimits",
            ),
            (
                status(403, "Forbidden", too_much),
                false,
                "PermanentFailure ResourceRequestsExceedLimits",
            ),
            (status(403, "Forbidden", etcd), true, "waits"),
            (
                status(403, "Forbidden", etcd),
                false,
                "RetryableFailure RuntimeFailure",
            ),
            (
                status(403, "Forbidden", "no"),
                true,
                "RetryableFailure RuntimeFailure",
            ),
            (status(429, "TooManyRequests", "no"), true, "waits"),
            (status(429, "TooManyRequests", "no"), false, "later"),
            (status(500, "ServerTimeout", "no"), true, "waits"),
            (status(500, "InternalError", etcd), true, "later"),
            (
                status(400, "BadRequest", "no"),
                true,
                "PermanentFailure BadTaskFormat",
            ),
            (
                status(422, "Invalid", "no"),
                true,
                "PermanentFailure BadTaskFormat",
            ),
            (
                status(413, "", "no"),
                true,
                "PermanentFailure EntityTooLarge",
            ),
            (status(404, "NotFound", "no"), true, "later"),
            (status(500, "", "no"), true, "later"),
        ] {
            let found = match answer(&status, waits) {
                None => "later".to_owned(),
                Some(Answer::Waits { .. }) => "waits".to_owned(),
                Some(Answer::Other(info)) => {
                    let code = info.error.map(|error| format!(" {}", error.code));
                    format!("{:?}{}", info.phase, code.unwrap_or_default())
                }
            };
            assert_eq!(found, expected, "{status:?}, waits: {waits}");
        }
    }
}
