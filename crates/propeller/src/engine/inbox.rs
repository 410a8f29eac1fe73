//! What an actor is woken with: merged, never queued.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use tokio::sync::Notify;

/// One pending wake-up.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    state: Mutex<Wake>,
    notify: Notify,
}

/// What has happened since the last look. Bounded by the number of the workflow's pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wake {
    /// Names of pods that changed.
    pub(super) pods: BTreeSet<String>,
    /// The resource is being deleted.
    pub(super) deleting: bool,
    /// The resource no longer exists.
    pub(super) gone: bool,
}

impl Inbox {
    fn with(&self, change: impl FnOnce(&mut Wake)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.notify.notify_one();
    }

    pub(super) fn pod(&self, name: String) {
        self.with(|wake| {
            wake.pods.insert(name);
        });
    }

    pub(super) fn deleting(&self) {
        self.with(|wake| wake.deleting = true);
    }

    pub(super) fn gone(&self) {
        self.with(|wake| wake.gone = true);
    }

    pub(super) fn is_deleting(&self) -> bool {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .deleting
    }

    /// Waits until something happens. Cancel-safe: what happened stays until [`Inbox::take`].
    pub(super) async fn wait(&self) {
        self.notify.notified().await;
    }

    pub(super) fn take(&self) -> Wake {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let pods = std::mem::take(&mut state.pods);
        // Deletion and disappearance stay: an actor that starts over must still see them.
        Wake {
            pods,
            deleting: state.deleting,
            gone: state.gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn wake_ups_are_merged_and_deletion_is_remembered() {
        let inbox = Inbox::default();
        inbox.pod("a".into());
        inbox.pod("a".into());
        inbox.deleting();
        inbox.wait().await;
        let wake = inbox.take();
        assert_eq!(wake.pods, BTreeSet::from(["a".to_owned()]));
        assert!(inbox.take().deleting && inbox.take().pods.is_empty());
    }
}
