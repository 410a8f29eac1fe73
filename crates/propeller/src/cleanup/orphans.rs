//! Pods whose workflow has ended while nobody looked: they must not go on, nor keep our finalizer.

use std::collections::BTreeMap;

use flyte_crd::FlyteWorkflow;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _};

use crate::{
    effects::{Effects, KUBERNETES_TIMEOUT},
    key::Key,
    node::task::observed_pod::is_finished,
};

/// How many workflows are looked up side by side.
const LOOKED_UP_AT_ONCE: usize = 16;

/// A pod without a workflow under way.
pub(crate) struct Orphan {
    name: String,
    /// It may stay, but without our finalizer.
    stays: bool,
}

impl Orphan {
    pub(crate) fn of(pod: &Pod, deletes: bool) -> Self {
        Self {
            name: pod.name_any(),
            stays: is_finished(pod) && !deletes,
        }
    }
}

/// Whether something would have to be done about this pod if its workflow were over; `deletes` says that none stays.
pub(crate) fn concerns(pod: &Pod, deletes: bool) -> bool {
    deletes || !is_finished(pod) || is_held(pod)
}

/// Whether it bears our finalizer.
pub(crate) fn is_held(pod: &Pod) -> bool {
    let mut names = pod.finalizers().iter();
    names.any(|name| name == flyte_crd::PodFinalizer::NAME)
}

/// Ends the pods of those workflows that are over.
pub(crate) async fn end(effects: Effects, pods: BTreeMap<Key, Vec<Orphan>>) {
    futures::stream::iter(pods)
        .for_each_concurrent(LOOKED_UP_AT_ONCE, |(key, pods)| end_of(&effects, key, pods))
        .await;
}

async fn end_of(effects: &Effects, key: Key, pods: Vec<Orphan>) {
    let api: Api<FlyteWorkflow> = Api::namespaced(effects.kube.clone(), &key.namespace);
    let asked = tokio::time::timeout(KUBERNETES_TIMEOUT, api.get_metadata_opt(&key.name)).await;
    let over = match asked {
        Err(_) => false,
        Ok(Ok(Some(found))) => found.labels().contains_key(flyte_crd::TERMINATION_LABEL),
        Ok(Ok(None)) => true,
        Ok(Err(error)) => {
            tracing::debug!(%error, "cannot look up the workflow of a pod");
            false
        }
    };
    if !over {
        return;
    }
    let effects = effects.of_workflow(&key.namespace);
    for pod in pods {
        if pod.stays {
            effects.release_pod(&key, &pod.name).await;
        } else {
            effects.delete_pod(&key, &pod.name).await;
        }
    }
}
