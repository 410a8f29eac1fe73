//! Work that a client's departure must not interrupt.
//!
//! A dropped connection or a passed deadline drops the handler's future wherever it waits. For an RPC of
//! several steps, such as inputs, row and resource, that would be a crash in miniature: repaired, but only
//! after a while. So these run in a task of their own, which the service owns and the handler waits for.
//!
//! Each holds one of [`AT_ONCE`] permits until its end: clients that ask and leave cannot pile up more. A process that
//! stops waits for what is under way ([`DetachedTasks::drain`]).

use std::{
    panic::{AssertUnwindSafe, resume_unwind},
    sync::Arc,
};

use flyte_platform::sync::Mutex;
use futures::FutureExt as _;
use tokio::{
    sync::{Semaphore, oneshot},
    task::JoinSet,
};
use tracing::Instrument as _;

use crate::error::{Error, Result};

/// Tasks at once. More wait for one to end, each as long as its client does.
pub(crate) const AT_ONCE: usize = 128;

/// The tasks under way. Dropping it ends them, as a crash would.
pub(crate) struct DetachedTasks {
    tasks: Mutex<JoinSet<()>>,
    permits: Arc<Semaphore>,
}

impl Default for DetachedTasks {
    fn default() -> Self {
        Self {
            tasks: Mutex::default(),
            permits: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl DetachedTasks {
    /// Runs `work` to its end, whether or not the caller stays to hear of it. A panic is the caller's too, so that it is
    /// answered, logged and counted as any other.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let gone = || Error::Internal("the server is stopping".to_owned());
        let permit = self.permits.clone().acquire_owned().await;
        let permit = permit.map_err(|_closed| gone())?;
        let (done, outcome) = oneshot::channel();
        let task = async move {
            let outcome = AssertUnwindSafe(work).catch_unwind().await;
            drop(permit);
            // Nobody may be waiting any more.
            drop(done.send(outcome));
        };
        {
            let mut tasks = self.tasks.lock();
            while tasks.try_join_next().is_some() {}
            tasks.spawn(task.in_current_span());
        }
        match outcome.await {
            Ok(outcome) => outcome.unwrap_or_else(|panic| resume_unwind(panic)),
            Err(_dropped) => Err(gone()),
        }
    }

    /// Waits until nothing is under way.
    pub(crate) async fn drain(&self) {
        let all = u32::try_from(AT_ONCE).unwrap_or(u32::MAX);
        // Those that come meanwhile wait behind this in the semaphore's queue, and their clients are being sent away.
        drop(self.permits.acquire_many(all).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_reaches_who_waits() {
        let detached = DetachedTasks::default();
        let work = detached.run(async { panic!("boom") });
        let outcome: std::thread::Result<Result<()>> = AssertUnwindSafe(work).catch_unwind().await;
        let panic = outcome.unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"boom"));
    }

    /// Starts a work that waits for the sender, and leaves it.
    async fn abandoned(detached: &DetachedTasks) -> oneshot::Sender<()> {
        let (go, wait) = oneshot::channel::<()>();
        let (began, begun) = oneshot::channel();
        let work = detached.run(async move {
            began.send(()).unwrap_or_default();
            wait.await.unwrap_or_default();
            Ok(())
        });
        tokio::select! {
            _ = work => panic!("it ended"),
            _ = begun => go,
        }
    }

    #[tokio::test]
    async fn abandoned_work_is_awaited() {
        let detached = DetachedTasks::default();
        let go = abandoned(&detached).await;
        let mut ended = Box::pin(detached.drain());
        assert!(ended.as_mut().now_or_never().is_none());
        drop(go);
        ended.await;
    }

    #[tokio::test]
    async fn abandoned_work_is_bounded() {
        let detached = DetachedTasks::default();
        let mut going = Vec::new();
        for _ in 0..AT_ONCE {
            going.push(abandoned(&detached).await);
        }
        let mut more = Box::pin(detached.run(async { Ok(1) }));
        assert!(more.as_mut().now_or_never().is_none());
        going.pop();
        assert_eq!(more.await.unwrap(), 1);
    }
}
