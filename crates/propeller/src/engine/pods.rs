//! The pods that the watch has shown, cut down to what decisions read.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use kube::ResourceExt as _;

type Id = (String, String);

/// Pods by namespace and name.
#[derive(Debug, Default)]
pub(super) struct PodCache(Mutex<HashMap<Id, Arc<Pod>>>);

fn id(pod: &Pod) -> Id {
    (pod.namespace().unwrap_or_default(), pod.name_any())
}

impl PodCache {
    fn with<T>(&self, use_it: impl FnOnce(&mut HashMap<Id, Arc<Pod>>) -> T) -> T {
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Remembers the pod, cut down, and returns what it remembers and what it knew before.
    pub(super) fn put(&self, pod: Pod) -> (Arc<Pod>, Option<Arc<Pod>>) {
        let pod = Arc::new(trimmed(pod));
        let before = self.with(|pods| pods.insert(id(&pod), pod.clone()));
        (pod, before)
    }

    /// Forgets the pod, and returns what it knew.
    pub(super) fn remove(&self, pod: &Pod) -> Option<Arc<Pod>> {
        self.with(|pods| pods.remove(&id(pod)))
    }

    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.with(|pods| pods.get(&(namespace.to_owned(), name.to_owned())).cloned())
    }

    /// All that are known.
    pub(super) fn all(&self) -> Vec<Arc<Pod>> {
        self.with(|pods| pods.values().cloned().collect())
    }

    /// Drops all others; returns what was dropped.
    pub(super) fn keep_only(&self, pods: &[Pod]) -> Vec<Arc<Pod>> {
        let kept: HashSet<Id> = pods.iter().map(id).collect();
        self.with(|known| {
            let gone: Vec<Id> = known
                .keys()
                .filter(|id| !kept.contains(*id))
                .cloned()
                .collect();
            gone.iter().filter_map(|id| known.remove(id)).collect()
        })
    }
}

/// Arguments, variables and volumes are most of a pod, and no decision reads them.
fn trimmed(mut pod: Pod) -> Pod {
    pod.metadata.managed_fields = None;
    pod.metadata.labels = None;
    if let Some(spec) = pod.spec.take() {
        let names = |containers: Vec<Container>| {
            containers
                .into_iter()
                .map(|container| Container {
                    name: container.name,
                    ..Container::default()
                })
                .collect::<Vec<_>>()
        };
        pod.spec = Some(PodSpec {
            containers: names(spec.containers),
            init_containers: spec.init_containers.map(names),
            hostname: spec.hostname,
            node_name: spec.node_name,
            ..PodSpec::default()
        });
    }
    pod
}
