//! Work that a client's departure must not interrupt.
//!
//! A dropped connection or a passed deadline drops the handler's future wherever it waits. For an RPC of
//! several steps, such as row, blobs and resource, that would be a crash in miniature: repaired, but only
//! after a while. So these run in a task of their own, which the service owns and the handler waits for.

use std::sync::{Mutex, PoisonError};

use tokio::{sync::oneshot, task::JoinSet};
use tracing::Instrument as _;

use crate::error::{Error, Result};

/// The tasks under way. Dropping it ends them, as a crash would.
#[derive(Default)]
pub(crate) struct Flights(Mutex<JoinSet<()>>);

impl Flights {
    /// Runs `work` to its end, whether or not the caller stays to hear of it.
    pub(crate) async fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (done, outcome) = oneshot::channel();
        let task = async move {
            // Nobody may be waiting any more.
            drop(done.send(work.await));
        };
        {
            // The set is sound whatever a panicking holder did.
            let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            while tasks.try_join_next().is_some() {}
            tasks.spawn(task.in_current_span());
        }
        outcome
            .await
            .unwrap_or_else(|_dropped| Err(Error::Internal(String::new())))
    }
}
