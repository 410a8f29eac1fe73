//! The latest record of each pod, for all who wait for a change of one.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use flyte_platform::sync::Mutex;
use tokio::sync::watch;

use crate::kubelet::record::{PodPaths, Record};

/// The latest record of each pod, for whoever waits for one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Records(Arc<Mutex<HashMap<String, Latest>>>);

/// The latest record of one pod.
type Latest = watch::Sender<Option<Arc<Record>>>;

impl Records {
    /// The records of a pod, now and as they come.
    pub(crate) fn of(&self, paths: &PodPaths, uid: &str) -> watch::Receiver<Option<Arc<Record>>> {
        let mut known = self.0.lock();
        let sender = known
            .entry(uid.to_owned())
            .or_insert_with(|| watch::Sender::new(None));
        let receiver = sender.subscribe();
        if sender.borrow().is_none() {
            sender.send_replace(read(paths));
        }
        receiver
    }

    /// Reads the record again and wakes those who wait for it.
    pub(crate) fn refresh(&self, paths: &PodPaths, uid: &str) {
        let known = self.0.lock();
        if let Some(sender) = known.get(uid) {
            let record = read(paths);
            sender.send_if_modified(|current| {
                let changed = *current != record;
                *current = record;
                changed
            });
        }
    }

    pub(crate) fn refresh_all(&self, root: &Path) {
        let uids: Vec<String> = self.0.lock().keys().cloned().collect();
        for uid in uids {
            self.refresh(&PodPaths::new(root, &uid), &uid);
        }
    }

    /// Forgets the record of a pod that is over, unless somebody waits for it; it is read again when it is asked for.
    pub(crate) fn release(&self, uid: &str) {
        let mut known = self.0.lock();
        if known
            .get(uid)
            .is_some_and(|sender| sender.receiver_count() == 0)
        {
            known.remove(uid);
        }
    }

    pub(crate) fn forget(&self, uid: &str) {
        self.0.lock().remove(uid);
    }
}

fn read(paths: &PodPaths) -> Option<Arc<Record>> {
    match Record::read(paths) {
        Ok(record) => record.map(Arc::new),
        Err(error) => {
            tracing::error!(%error, file = %paths.record().display(), "the record of a pod is unreadable");
            None
        }
    }
}
