//! Work that a client's departure must not interrupt.
//!
//! A dropped connection or a passed deadline drops the handler's future wherever it waits. For an RPC of
//! several steps, such as row, blobs and resource, that would be a crash in miniature: repaired, but only
//! after a while. So these run in a task of their own, which the service owns and the handler waits for.

use std::{
    panic::{AssertUnwindSafe, resume_unwind},
    sync::{Mutex, PoisonError},
};

use futures::FutureExt as _;
use tokio::{sync::oneshot, task::JoinSet};
use tracing::Instrument as _;

use crate::error::{Error, Result};

/// The tasks under way. Dropping it ends them, as a crash would.
#[derive(Default)]
pub(crate) struct Flights(Mutex<JoinSet<()>>);

impl Flights {
    /// Runs `work` to its end, whether or not the caller stays to hear of it. A panic is the caller's too, so that it is
    /// answered, logged and counted as any other.
    pub(crate) async fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (done, outcome) = oneshot::channel();
        let task = async move {
            let outcome = AssertUnwindSafe(work).catch_unwind().await;
            // Nobody may be waiting any more.
            drop(done.send(outcome));
        };
        {
            // The set is sound whatever a panicking holder did.
            let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            while tasks.try_join_next().is_some() {}
            tasks.spawn(task.in_current_span());
        }
        match outcome.await {
            Ok(outcome) => outcome.unwrap_or_else(|panic| resume_unwind(panic)),
            Err(_dropped) => Err(Error::Internal(String::new())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_reaches_who_waits() {
        let flights = Flights::default();
        let work = flights.finish(async { panic!("boom") });
        let outcome: std::thread::Result<Result<()>> = AssertUnwindSafe(work).catch_unwind().await;
        let panic = outcome.unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"boom"));
    }
}
