//! What others do to the cluster while a workflow runs.

use flyte_crd::{FlyteWorkflow, WorkflowPhase};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    core::PartialObjectMeta,
};
use serde_json::{Value, json};

use super::{NAMESPACE, faults::Faults, world::create};

/// Something that somebody else does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// The resource is deleted, as by a user who terminates the execution.
    Terminate,
    /// All pods are deleted at once.
    LosePods,
    /// All labels and owners of all pods are removed.
    StripPods,
    /// All labels of the resource are removed.
    StripWorkflow,
    /// The finalizers of the resource are removed.
    RemoveFinalizers,
    /// The phase of the workflow is changed in its status, and nothing else.
    SetPhase(WorkflowPhase),
    /// The resource is removed with all that belongs to it, and made again as it was at first.
    Replace,
    /// The resource is removed with all that belongs to it while no watch shows anything. Then all watches have to begin
    /// anew: what they had seen last is too long ago.
    RemoveUnwatched,
}

impl Outside {
    /// Does it.
    pub(super) async fn happen(self, client: Client, workflow: &FlyteWorkflow, faults: &Faults) {
        let name = workflow.metadata.name.clone().unwrap_or_default();
        let resources: Api<PartialObjectMeta<FlyteWorkflow>> =
            Api::namespaced(client.clone(), NAMESPACE);
        let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
        let all = ListParams::default();
        let at_once = DeleteParams::default().grace_period(0);
        let patch = async |change: Value| {
            // It may be gone.
            drop(
                resources
                    .patch_metadata(&name, &PatchParams::default(), &Patch::Merge(&change))
                    .await,
            );
        };
        let no_finalizers = json!({ "metadata": { "finalizers": null } });
        match self {
            // It may have ended before: then there is nothing to terminate.
            Self::Terminate => drop(resources.delete(&name, &DeleteParams::background()).await),
            Self::LosePods => drop(
                pods.delete_collection(&at_once, &all)
                    .await
                    .expect("the cluster outside of the faults deletes pods"),
            ),
            Self::StripPods => {
                let bare = json!({ "metadata": { "labels": null, "ownerReferences": null } });
                for pod in pods.list(&all).await.expect("pods are listed") {
                    pods.patch(
                        &pod.name_any(),
                        &PatchParams::default(),
                        &Patch::Merge(&bare),
                    )
                    .await
                    .expect("the cluster outside of the faults changes pods");
                }
            }
            Self::StripWorkflow => patch(json!({ "metadata": { "labels": null } })).await,
            Self::RemoveFinalizers => patch(no_finalizers).await,
            Self::SetPhase(phase) => patch(json!({ "status": { "phase": phase.number() } })).await,
            Self::Replace => {
                patch(no_finalizers).await;
                drop(resources.delete(&name, &at_once).await);
                create(client, workflow).await;
            }
            Self::RemoveUnwatched => {
                faults.watches().hold();
                patch(no_finalizers).await;
                drop(resources.delete(&name, &at_once).await);
                faults.watches().expire();
            }
        }
    }
}
