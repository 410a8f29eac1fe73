//! What an actor is woken with: merged, never queued.

use std::{collections::BTreeSet, sync::MutexGuard};

use flyte_platform::sync::Mutex;
use tokio::sync::Notify;

use crate::metrics::{QueueMetrics, Waiting};

/// One pending wake-up.
#[derive(Debug)]
pub(super) struct Inbox {
    state: Mutex<State>,
    notify: Notify,
    queue: QueueMetrics,
}

#[derive(Debug, Default)]
struct State {
    wake: Wake,
    /// As long as nobody has looked.
    waiting: Option<Waiting>,
    /// How often this workflow or an effect of it panicked.
    panics: u32,
}

/// What has happened since the last look. Bounded by the number of the workflow's pods and child executions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wake {
    /// Names of pods that changed.
    pub(super) pods: BTreeSet<String>,
    /// Names of child executions that have ended.
    pub(super) children: BTreeSet<String>,
    /// The resource is being deleted.
    pub(super) deleting: bool,
    /// The resource no longer exists.
    pub(super) gone: bool,
}

impl Inbox {
    /// Of a workflow that has just been seen.
    pub(super) fn new(queue: QueueMetrics) -> Self {
        let state = State {
            waiting: Some(queue.woken()),
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
            notify: Notify::new(),
            queue,
        }
    }

    /// Of a workflow whose actor panicked and is started again.
    pub(super) fn after_panic(&self) -> Self {
        let again = Self::new(self.queue.clone());
        if self.is_deleting() {
            again.deleting();
        }
        again.lock().panics = self.panics();
        again.panicked();
        again
    }

    /// The workflow, or an effect of it, panicked.
    pub(super) fn panicked(&self) {
        self.lock().panics += 1;
    }

    /// How often it did.
    pub(super) fn panics(&self) -> u32 {
        self.lock().panics
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn with(&self, change: impl FnOnce(&mut Wake)) {
        let mut state = self.lock();
        change(&mut state.wake);
        state.waiting.get_or_insert_with(|| self.queue.woken());
        drop(state);
        self.notify.notify_one();
    }

    pub(super) fn pod(&self, name: String) {
        self.with(|wake| {
            wake.pods.insert(name);
        });
    }

    pub(super) fn child(&self, name: String) {
        self.with(|wake| {
            wake.children.insert(name);
        });
    }

    pub(super) fn deleting(&self) {
        self.with(|wake| wake.deleting = true);
    }

    pub(super) fn gone(&self) {
        self.with(|wake| wake.gone = true);
    }

    pub(super) fn is_deleting(&self) -> bool {
        self.lock().wake.deleting
    }

    /// Waits until something happens. Cancel-safe: what happened stays until [`Inbox::take`].
    pub(super) async fn wait(&self) {
        self.notify.notified().await;
    }

    pub(super) fn take(&self) -> Wake {
        let mut state = self.lock();
        state.waiting = None;
        let pods = std::mem::take(&mut state.wake.pods);
        let children = std::mem::take(&mut state.wake.children);
        // Deletion and disappearance stay: an actor that starts over must still see them.
        Wake {
            pods,
            children,
            deleting: state.wake.deleting,
            gone: state.wake.gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use flyte_platform::metrics::Scope;

    use super::*;

    #[tokio::test]
    async fn wake_ups_are_merged_and_deletion_is_remembered() {
        let inbox = Inbox::new(QueueMetrics::register(&Scope::new("")).unwrap());
        inbox.pod("a".into());
        inbox.pod("a".into());
        inbox.deleting();
        inbox.wait().await;
        let wake = inbox.take();
        assert_eq!(wake.pods, BTreeSet::from(["a".to_owned()]));
        assert!(inbox.take().deleting && inbox.take().pods.is_empty());
    }

    #[tokio::test]
    async fn panics_and_deletion_outlive_an_actor() {
        let inbox = Inbox::new(QueueMetrics::register(&Scope::new("")).unwrap());
        inbox.panicked();
        inbox.pod("a".into());
        inbox.deleting();
        let again = inbox.after_panic();
        assert_eq!(again.panics(), 2);
        let wake = again.take();
        assert!(wake.deleting && wake.pods.is_empty());
    }
}
