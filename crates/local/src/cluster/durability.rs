//! What is durable, and who is told when nothing becomes so any more.
//!
//! A store that fails is tried again for ever, but nobody waits for that longer than [`PATIENCE`]: what would change an object is
//! refused, and reads show what the store has.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::cluster::api_status::ApiStatus;
use crate::cluster::model::Model;
use crate::cluster::store::StoreError;
use crate::cluster::{Cluster, stopped};

/// How long a store may fail before requests are told.
const PATIENCE: Duration = Duration::from_secs(2);

/// A store that fails: since when, and what it says.
#[derive(Debug, Clone)]
struct Failure {
    since: Instant,
    refusal: ApiStatus,
}

/// Up to which revision everything is durable, and why it goes no further.
#[derive(Debug)]
pub(super) struct Durability {
    revision: watch::Sender<u64>,
    failure: watch::Sender<Option<Failure>>,
}

impl Durability {
    pub(super) fn new(revision: u64) -> Self {
        Self {
            revision: watch::Sender::new(revision),
            failure: watch::Sender::new(None),
        }
    }

    /// Everything up to `revision` is durable. The revision never goes back.
    pub(super) fn reached(&self, revision: u64) {
        self.revision.send_if_modified(|durable| {
            let advanced = *durable < revision;
            *durable = revision.max(*durable);
            advanced
        });
        self.failure
            .send_if_modified(|failure| failure.take().is_some());
    }

    pub(super) fn failed(&self, error: &StoreError) {
        let refusal = ApiStatus::not_stored(error);
        self.failure.send_modify(|failure| match failure {
            Some(failure) => failure.refusal = refusal,
            None => {
                let since = Instant::now();
                *failure = Some(Failure { since, refusal });
            }
        });
    }

    pub(super) fn revision(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Why writes are refused, if they are.
    fn refusal(&self) -> Option<ApiStatus> {
        let failure = self.failure.borrow();
        let failure = failure.as_ref()?;
        (failure.since.elapsed() >= PATIENCE).then(|| failure.refusal.clone())
    }

    /// Returns when the store has failed for so long that nobody waits for it.
    async fn given_up(&self) -> ApiStatus {
        let mut failures = self.failure.subscribe();
        loop {
            if let Some(refusal) = self.refusal() {
                return refusal;
            }
            let since = failures
                .borrow_and_update()
                .as_ref()
                .map(|failure| failure.since);
            tokio::select! {
                // `self` has the sender.
                _ = failures.changed() => {}
                () = flyte_platform::until(since.map(|since| since + PATIENCE)) => {}
            }
        }
    }
}

impl Cluster {
    /// The revisions that are durable, now and as they come.
    pub(crate) fn durable(&self) -> watch::Receiver<u64> {
        self.inner.durability.revision()
    }

    /// Waits until everything up to `revision` is durable.
    ///
    /// # Errors
    /// The store fails, and has for a while.
    pub(crate) async fn until_durable(&self, revision: u64) -> Result<(), ApiStatus> {
        let mut durable = self.durable();
        tokio::select! {
            biased;
            reached = durable.wait_for(|reached| *reached >= revision) => reached.map(drop).map_err(|_| stopped()),
            refusal = self.inner.durability.given_up() => Err(refusal),
        }
    }

    /// Why nothing can be written, if the store fails and has for a while.
    pub(crate) fn store_failure(&self) -> Option<ApiStatus> {
        self.inner.durability.refusal()
    }

    /// Runs one decision on the model and returns when its changes are durable.
    ///
    /// # Errors
    /// The decision's own, or the store fails. One that had begun to fail when the decision was made gets the changes all the same,
    /// as soon as it works.
    pub(crate) async fn change<T>(
        &self,
        decide: impl FnOnce(&mut Model) -> Result<T, ApiStatus>,
    ) -> Result<T, ApiStatus> {
        if let Some(refusal) = self.store_failure() {
            return Err(refusal);
        }
        let permit = match &self.inner.writes {
            Some(writes) => Some(tokio::select! {
                biased;
                permit = writes.reserve() => permit.map_err(|_| stopped())?,
                refusal = self.inner.durability.given_up() => return Err(refusal),
            }),
            None => None,
        };
        let (decided, revision) = {
            let mut model = self.model();
            let before = model.revision;
            let decided = decide(&mut model);
            let (changes, revision) = model.take_batch();
            match permit {
                // Changes of what no store keeps take their turn too: what is shown before must be durable.
                Some(permit) if revision > before || !changes.is_empty() => {
                    permit.send(super::Batch { changes, revision });
                }
                Some(_) => {}
                None => self.inner.durability.reached(revision),
            }
            (decided, revision)
        };
        let durable = self.until_durable(revision).await;
        durable.map_err(ApiStatus::not_yet_stored)?;
        decided
    }
}
