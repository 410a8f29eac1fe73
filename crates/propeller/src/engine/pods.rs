//! The pods that the watch has shown, cut down to what decisions read.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use flyte_platform::sync::Mutex;
use k8s_openapi::{
    api::{
        core::v1::{Container, Pod, PodSpec, PodStatus},
        events::v1::Event,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::ResourceExt as _;

use crate::node::task::observed_pod::{ObjectEvent, ObservedPod};

/// Namespace and name of a pod.
type Id = (String, String);

/// How many events are kept of one pod; kubelet and scheduler make some ten.
const EVENTS_OF_A_POD: usize = 100;
/// How many events are kept whose pods the watch has not shown yet: it may do so a moment later, and most are of pods
/// that are none of ours.
const UNMATCHED_EVENTS: usize = 1_000;

/// Pods by namespace and name.
#[derive(Debug, Default)]
pub(super) struct PodCache(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    pods: HashMap<Id, Entry>,
    /// Events of pods that are not known, the oldest first.
    unmatched_events: VecDeque<(Id, NamedEvent)>,
    arrivals: u64,
}

#[derive(Debug)]
struct Entry {
    observed: ObservedPod,
    /// Names of the events, in the same order.
    event_names: Vec<String>,
    /// Its workflow is over: nothing is decided by it any more.
    retired: bool,
}

#[derive(Debug)]
struct NamedEvent {
    name: String,
    event: ObjectEvent,
}

fn id(pod: &Pod) -> Id {
    (pod.namespace().unwrap_or_default(), pod.name_any())
}

/// The pod that an event is about, which lives where the event does.
fn regarded(event: &Event) -> Option<Id> {
    let regarding = event.regarding.as_ref()?;
    Some((regarding.namespace.clone()?, regarding.name.clone()?))
}

impl PodCache {
    fn with<T>(&self, use_it: impl FnOnce(&mut Known) -> T) -> T {
        use_it(&mut self.0.lock())
    }

    /// Remembers the pod, cut down, and returns what it remembers and what it knew before.
    pub(super) fn put(&self, pod: Pod) -> (Arc<Pod>, Option<Arc<Pod>>) {
        let pod = Arc::new(trimmed(pod));
        let before = self.with(|known| known.put(&pod));
        (pod, before)
    }

    /// Forgets the pod and its events, and returns what it knew.
    pub(super) fn remove(&self, pod: &Pod) -> Option<Arc<Pod>> {
        self.with(|known| known.pods.remove(&id(pod)))
            .map(|entry| entry.observed.pod)
    }

    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<ObservedPod> {
        let id = (namespace.to_owned(), name.to_owned());
        self.with(|known| Some(known.pods.get(&id)?.observed.clone()))
    }

    /// Keeps of these pods, whose workflow is over, no more than who they are and whether they have ended.
    pub(super) fn retire<'a>(&self, namespace: &str, pods: impl Iterator<Item = &'a str>) {
        self.with(|known| {
            for name in pods {
                let id = (namespace.to_owned(), name.to_owned());
                if let Some(entry) = known.pods.get_mut(&id) {
                    entry.retired = true;
                    entry.observed = Arc::new(outline(&entry.observed.pod)).into();
                    entry.event_names = Vec::new();
                }
            }
        });
    }

    /// Names of the pods that this workflow controls.
    pub(super) fn of(&self, namespace: &str, workflow: &str) -> Vec<String> {
        let controls = |pod: &Pod| {
            let mut owners = pod.owner_references().iter();
            owners.any(|owner| owner.controller == Some(true) && owner.name == workflow)
        };
        self.with(|known| {
            let ours = known.pods.iter().filter(|((within, _), entry)| {
                within == namespace && controls(&entry.observed.pod)
            });
            ours.map(|((_, name), _)| name.clone()).collect()
        })
    }

    /// All that are known.
    pub(super) fn all(&self) -> Vec<Arc<Pod>> {
        self.with(|known| {
            let entries = known.pods.values();
            entries.map(|entry| entry.observed.pod.clone()).collect()
        })
    }

    /// Drops all others; returns what was dropped.
    pub(super) fn keep_only(&self, pods: &[Pod]) -> Vec<Arc<Pod>> {
        let kept: HashSet<Id> = pods.iter().map(id).collect();
        self.with(|known| {
            let gone: Vec<Id> = known
                .pods
                .keys()
                .filter(|id| !kept.contains(*id))
                .cloned()
                .collect();
            gone.iter()
                .filter_map(|id| Some(known.pods.remove(id)?.observed.pod))
                .collect()
        })
    }

    /// Remembers an event when it occurs for the first time; returns its pod if that is known.
    pub(super) fn put_event(&self, event: Event) -> Option<Arc<Pod>> {
        let id = regarded(&event)?;
        self.with(|known| {
            let named = NamedEvent {
                name: event.metadata.name?,
                event: ObjectEvent {
                    reason: event.reason.unwrap_or_default(),
                    note: event.note.unwrap_or_default(),
                    created_at: event.metadata.creation_timestamp?.0,
                    arrival: known.arrivals + 1,
                },
            };
            match known.pods.get_mut(&id) {
                Some(entry) => {
                    let is_new = entry.add(named);
                    known.arrivals += u64::from(is_new);
                    is_new.then(|| entry.observed.pod.clone())
                }
                None => {
                    known.keep_unmatched(id, named);
                    None
                }
            }
        })
    }

    /// Forgets an event.
    pub(super) fn remove_event(&self, event: &Event) {
        let (Some(id), Some(name)) = (regarded(event), &event.metadata.name) else {
            return;
        };
        self.with(|known| {
            if let Some(entry) = known.pods.get_mut(&id) {
                entry.retain(|known| known != name);
            }
            known
                .unmatched_events
                .retain(|(_, known)| known.name != *name);
        });
    }

    /// Forgets all events but these.
    pub(super) fn keep_only_events(&self, events: &HashSet<String>) {
        self.with(|known| {
            for entry in known.pods.values_mut() {
                entry.retain(|name| events.contains(name));
            }
            known
                .unmatched_events
                .retain(|(_, unmatched)| events.contains(&unmatched.name));
        });
    }
}

impl Known {
    fn put(&mut self, pod: &Arc<Pod>) -> Option<Arc<Pod>> {
        let id = id(pod);
        if let Some(entry) = self.pods.get_mut(&id) {
            // Another pod of that name is of another workflow of that name.
            entry.retired &= entry.observed.pod.metadata.uid == pod.metadata.uid;
            if entry.retired {
                let now = Arc::new(outline(pod));
                return Some(std::mem::replace(&mut entry.observed.pod, now));
            }
            return Some(std::mem::replace(&mut entry.observed.pod, pod.clone()));
        }
        let mut entry = Entry {
            observed: pod.clone().into(),
            event_names: Vec::new(),
            retired: false,
        };
        let all = std::mem::take(&mut self.unmatched_events);
        for (regarded, event) in all {
            if regarded == id {
                entry.add(event);
            } else {
                self.unmatched_events.push_back((regarded, event));
            }
        }
        self.pods.insert(id, entry);
        None
    }

    fn keep_unmatched(&mut self, id: Id, event: NamedEvent) {
        let is_known = self
            .unmatched_events
            .iter()
            .any(|(regarded, known)| *regarded == id && known.name == event.name);
        if is_known {
            return;
        }
        if self.unmatched_events.len() == UNMATCHED_EVENTS {
            self.unmatched_events.pop_front();
        }
        self.arrivals += 1;
        self.unmatched_events.push_back((id, event));
    }
}

impl Entry {
    /// True when the event is new.
    fn add(&mut self, named: NamedEvent) -> bool {
        if self.retired || self.event_names.contains(&named.name) {
            return false;
        }
        let excess = (self.event_names.len() + 1).saturating_sub(EVENTS_OF_A_POD);
        self.event_names.drain(..excess);
        self.event_names.push(named.name);
        let events = self.observed.events.iter().skip(excess).cloned();
        self.observed.events = events.chain([named.event]).collect();
        true
    }

    fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        if self.event_names.iter().all(|name| keep(name)) {
            return;
        }
        let pairs = self.event_names.iter().zip(self.observed.events.iter());
        let (names, events): (Vec<_>, Vec<_>) = pairs
            .filter(|(name, _)| keep(name))
            .map(|(name, event)| (name.clone(), event.clone()))
            .unzip();
        self.event_names = names;
        self.observed.events = events.into();
    }
}

/// Arguments, variables and volumes are most of a pod, and no decision reads them.
pub(super) fn trimmed(mut pod: Pod) -> Pod {
    pod.metadata.managed_fields = None;
    // A pod without an owner is known by its label.
    let is_owned = !pod.owner_references().is_empty();
    if let Some(labels) = pod.metadata.labels.take()
        && !is_owned
    {
        let named = labels
            .into_iter()
            .filter(|(name, _)| name == "execution-id");
        pod.metadata.labels = Some(named.collect());
    }
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
    if let Some(status) = &mut pod.status {
        // The decoder leaves room for four.
        let statuses = [
            &mut status.container_statuses,
            &mut status.init_container_statuses,
        ];
        statuses.into_iter().flatten().for_each(Vec::shrink_to_fit);
        status.conditions.iter_mut().for_each(Vec::shrink_to_fit);
    }
    let owners = &mut pod.metadata.owner_references;
    owners.iter_mut().for_each(Vec::shrink_to_fit);
    pod
}

/// Who a pod is, and whether it has ended.
fn outline(pod: &Pod) -> Pod {
    let metadata = &pod.metadata;
    Pod {
        metadata: ObjectMeta {
            name: metadata.name.clone(),
            namespace: metadata.namespace.clone(),
            uid: metadata.uid.clone(),
            owner_references: metadata.owner_references.clone(),
            labels: metadata.labels.clone(),
            finalizers: metadata.finalizers.clone(),
            deletion_timestamp: metadata.deletion_timestamp.clone(),
            ..ObjectMeta::default()
        },
        status: pod.status.as_ref().map(|status| PodStatus {
            phase: status.phase.clone(),
            ..PodStatus::default()
        }),
        spec: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str) -> Pod {
        serde_json::from_value(json!({ "metadata": { "namespace": "ns", "name": name } })).unwrap()
    }

    fn event(pod: &str, name: &str, note: &str) -> Event {
        let event = json!({
            "metadata": { "namespace": "ns", "name": name, "creationTimestamp": "2026-01-01T00:00:00Z" },
            "regarding": { "kind": "Pod", "namespace": "ns", "name": pod },
            "reason": "Because", "note": note,
        });
        serde_json::from_value(event).unwrap()
    }

    fn notes(cache: &PodCache, pod: &str) -> Vec<String> {
        let events = cache.get("ns", pod).map(|sighting| sighting.events);
        let events = events.as_deref().unwrap_or_default();
        events.iter().map(|event| event.note.clone()).collect()
    }

    #[test]
    fn the_first_occurrence_of_an_event_is_kept_as_long_as_its_pod() {
        let cache = PodCache::default();
        cache.put(pod("a"));
        assert!(cache.put_event(event("a", "e1", "pulling")).is_some());
        assert!(cache.put_event(event("a", "e1", "pulling again")).is_none());
        assert!(cache.put_event(event("a", "e2", "pulled")).is_some());
        cache.put(pod("a"));
        assert_eq!(notes(&cache, "a"), ["pulling", "pulled"]);
        cache.remove_event(&event("a", "e1", ""));
        assert_eq!(notes(&cache, "a"), ["pulled"]);
        cache.keep_only_events(&HashSet::from(["e3".to_owned()]));
        assert_eq!(notes(&cache, "a"), [] as [String; 0]);
        cache.put_event(event("a", "e4", "started"));
        cache.remove(&pod("a"));
        cache.put(pod("a"));
        assert_eq!(notes(&cache, "a"), [] as [String; 0]);
    }

    #[test]
    fn of_a_pod_whose_workflow_is_over_little_is_kept() {
        let cache = PodCache::default();
        let pod = |uid: &str, phase: &str| -> Pod {
            let pod = json!({
                "metadata": {
                    "namespace": "ns", "name": "a", "uid": uid, "annotations": { "primary": "c" },
                    "ownerReferences": [
                        { "apiVersion": "v1", "kind": "k", "name": "w", "uid": "1", "controller": true },
                    ],
                },
                "spec": { "containers": [{ "name": "c" }] },
                "status": { "phase": phase, "containerStatuses": [
                    { "name": "c", "image": "i", "imageID": "i", "ready": false, "restartCount": 0 },
                ] },
            });
            serde_json::from_value(pod).unwrap()
        };
        let known = || cache.get("ns", "a").unwrap().pod;
        cache.put(pod("1", "Running"));
        cache.put_event(event("a", "e", "started"));
        assert!(known().spec.is_some());
        cache.retire("ns", ["a", "never seen"].into_iter());
        assert_eq!(*known(), outline(&pod("1", "Running")));
        assert_eq!(notes(&cache, "a"), [] as [String; 0]);
        assert_eq!(cache.of("ns", "w"), ["a"]);

        let (seen, before) = cache.put(pod("1", "Succeeded"));
        assert!(seen.spec.is_some(), "the change itself is whole");
        assert_eq!(*before.unwrap(), outline(&pod("1", "Running")));
        assert_eq!(*known(), outline(&pod("1", "Succeeded")));
        assert!(cache.put_event(event("a", "e2", "killed")).is_none());

        cache.put(pod("2", "Pending"));
        assert!(known().spec.is_some(), "another pod of the same name");
    }

    #[test]
    fn events_wait_for_a_pod_that_is_not_known_yet() {
        let cache = PodCache::default();
        for name in ["e1", "e1", "e2"] {
            assert!(cache.put_event(event("a", name, name)).is_none());
        }
        cache.put_event(event("b", "e3", "e3"));
        cache.put(pod("a"));
        assert_eq!(notes(&cache, "a"), ["e1", "e2"]);
        assert!(cache.put_event(event("a", "e2", "e2")).is_none());
        cache.put(pod("b"));
        assert_eq!(notes(&cache, "b"), ["e3"]);
    }

    #[test]
    fn only_so_many_events_are_kept() {
        let cache = PodCache::default();
        cache.put(pod("a"));
        for index in 0..2_000 {
            cache.put_event(event("a", &format!("a{index}"), ""));
            cache.put_event(event("b", &format!("b{index}"), ""));
        }
        let kept = notes(&cache, "a").len();
        assert_eq!(kept, EVENTS_OF_A_POD);
        let unmatched_events = cache.with(|known| known.unmatched_events.len());
        assert_eq!(unmatched_events, UNMATCHED_EVENTS);
        cache.put(pod("b"));
        let last = cache.get("ns", "b").unwrap().events.len();
        assert_eq!(last, EVENTS_OF_A_POD);
    }
}
