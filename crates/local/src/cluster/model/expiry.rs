//! Events go by themselves: an hour after their last write, and before that where a namespace has too many, oldest first.

use std::collections::{HashMap, VecDeque};

use crate::cluster::model::Model;
use crate::cluster::object::{ObjectRef, SharedKey, Stored};
use crate::cluster::resource::{EVENTS, ResourceId};

/// Seconds that an event is kept after its last write, kube-apiserver's default.
const EVENT_SECONDS: i64 = 3600;
/// Writes of events that a namespace remembers. A pod writes two or three, so these are of the last few hundred pods, in
/// some two MiB.
const EVENTS_PER_NAMESPACE: usize = 1000;

/// One write of an event; a later write of the same event makes it void.
#[derive(Debug)]
struct Write {
    second: i64,
    name: String,
    revision: u64,
}

/// The writes of events by namespace, in their order.
#[derive(Debug, Default)]
pub(super) struct EventAges(HashMap<String, VecDeque<Write>>);

impl EventAges {
    /// The first write of the namespace, if its time is up.
    fn pop_due(&mut self, namespace: &str, second: i64) -> Option<Write> {
        let writes = self.0.get_mut(namespace)?;
        let due = writes.len() > EVENTS_PER_NAMESPACE
            || writes
                .front()
                .is_some_and(|first| first.second + EVENT_SECONDS <= second);
        let first = due.then(|| writes.pop_front()).flatten();
        if writes.is_empty() {
            self.0.remove(namespace);
        }
        first
    }

    fn namespaces_due(&self, second: i64) -> Vec<String> {
        let due = self.0.iter().filter(|(_, writes)| {
            writes
                .front()
                .is_some_and(|first| first.second + EVENT_SECONDS <= second)
        });
        due.map(|(namespace, _)| namespace.clone()).collect()
    }
}

impl Model {
    /// Remembers the write of an event, and forgets what is now too much in its namespace.
    pub(super) fn note_event(&mut self, stored: &Stored, now: &str) {
        if &*stored.resource != EVENTS {
            return;
        }
        let second = seconds(now);
        let (namespace, name) = (*stored.key).clone();
        let write = Write {
            second,
            name,
            revision: stored.revision,
        };
        self.event_ages
            .0
            .entry(namespace.clone())
            .or_default()
            .push_back(write);
        self.forget_events(&stored.resource, &namespace, second);
    }

    /// Whether there are events whose time is up at `now` (RFC 3339).
    pub(crate) fn has_expired_events(&self, now: &str) -> bool {
        !self.event_ages.namespaces_due(seconds(now)).is_empty()
    }

    /// Forgets the events whose time is up at `now` (RFC 3339).
    pub(crate) fn expire_events(&mut self, now: &str) {
        let second = seconds(now);
        let Some((resource, _)) = self.tables.get_key_value(EVENTS) else {
            return;
        };
        let resource = resource.clone();
        for namespace in self.event_ages.namespaces_due(second) {
            self.forget_events(&resource, &namespace, second);
        }
    }

    fn forget_events(&mut self, resource: &ResourceId, namespace: &str, second: i64) {
        while let Some(write) = self.event_ages.pop_due(namespace, second) {
            let reference = ObjectRef {
                resource: resource.clone(),
                key: SharedKey::new((namespace.to_owned(), write.name)),
            };
            let is_last = self
                .get(EVENTS, &reference.key)
                .is_some_and(|event| event.revision == write.revision);
            if is_last {
                self.remove(&reference);
            }
        }
    }
}

fn seconds(time: &str) -> i64 {
    time.parse::<jiff::Timestamp>()
        .map_or(0, jiff::Timestamp::as_second)
}
