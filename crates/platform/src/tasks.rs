//! Long-lived tasks: named, owned, and never lost silently.
//!
//! A service spawns its loops into one [`Tasks`]. When any of them ends (returns, fails or panics)
//! before a stop was asked for, the rest is stopped and the process exits non-zero: a service that has
//! lost a limb must be restarted, not look healthy.

use std::{collections::HashMap, error::Error, future::Future, time::Duration};

use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::Chain;

type TaskResult = Result<(), Box<dyn Error + Send + Sync>>;

/// A set of named tasks that live and die together.
pub struct Tasks {
    stop: CancellationToken,
    set: JoinSet<TaskResult>,
    names: HashMap<Id, String>,
}

/// Why [`Tasks::run_until_stopped`] did not end cleanly.
#[derive(Debug, thiserror::Error)]
pub enum TasksError {
    /// A task returned an error.
    #[error("task {name:?} failed")]
    Failed {
        /// The name it was spawned under.
        name: String,
        /// What it returned.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A task panicked.
    #[error("task {name:?} panicked")]
    Panicked {
        /// The name it was spawned under.
        name: String,
    },
    /// A task returned although nobody had asked it to stop.
    #[error("task {name:?} ended before it was asked to")]
    EndedEarly {
        /// The name it was spawned under.
        name: String,
    },
    /// Tasks were still running when the grace period was over; they were aborted.
    #[error("tasks still running after the grace period of {grace:?}: {names}")]
    Unfinished {
        /// How long they were waited for.
        grace: Duration,
        /// Their names, comma separated.
        names: String,
    },
}

impl Tasks {
    /// An empty set that is stopped by `stop` and cancels it when a task dies.
    pub fn new(stop: CancellationToken) -> Self {
        Self {
            stop,
            set: JoinSet::new(),
            names: HashMap::new(),
        }
    }

    /// The token that stops this set; pass children of it to what is spawned.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Runs `work` until it ends. Its end, however it comes about, is logged under `name`.
    pub fn spawn<E>(
        &mut self,
        name: impl Into<String>,
        work: impl Future<Output = Result<(), E>> + Send + 'static,
    ) where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let handle = self
            .set
            .spawn(async move { work.await.map_err(Into::into) });
        self.names.insert(handle.id(), name.into());
    }

    /// Runs `work`, which cannot fail, until it ends.
    pub fn spawn_infallible(
        &mut self,
        name: impl Into<String>,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        self.spawn(name, async move {
            work.await;
            Ok::<(), std::convert::Infallible>(())
        });
    }

    /// Waits until the stop token is cancelled or a task ends, then stops the rest within `grace`.
    ///
    /// # Errors
    /// The first thing that went wrong; later ones are logged.
    pub async fn run_until_stopped(mut self, grace: Duration) -> Result<(), TasksError> {
        let mut first = None;
        while !self.set.is_empty() && !self.stop.is_cancelled() {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => {}
                ended = self.set.join_next_with_id() => {
                    first = self.outcome(ended, Stage::Running);
                    self.stop.cancel();
                }
            }
        }
        self.stop.cancel();
        let deadline = tokio::time::Instant::now() + grace;
        while !self.set.is_empty() {
            match tokio::time::timeout_at(deadline, self.set.join_next_with_id()).await {
                Ok(ended) => {
                    let problem = self.outcome(ended, Stage::Stopping);
                    first = first.or(problem);
                }
                Err(_elapsed) => {
                    let names = self.names.values().cloned().collect::<Vec<_>>().join(", ");
                    tracing::error!(tasks = %names, "aborting tasks that outlived the grace period");
                    self.set.abort_all();
                    return Err(first.unwrap_or(TasksError::Unfinished { grace, names }));
                }
            }
        }
        first.map_or(Ok(()), Err)
    }

    fn outcome(
        &mut self,
        ended: Option<Result<(Id, TaskResult), tokio::task::JoinError>>,
        stage: Stage,
    ) -> Option<TasksError> {
        let problem = match ended? {
            Ok((id, Ok(()))) => {
                let name = self.names.remove(&id).unwrap_or_default();
                match stage {
                    Stage::Stopping => return None,
                    Stage::Running => TasksError::EndedEarly { name },
                }
            }
            Ok((id, Err(source))) => {
                let name = self.names.remove(&id).unwrap_or_default();
                TasksError::Failed { name, source }
            }
            Err(error) => {
                let name = self.names.remove(&error.id()).unwrap_or_default();
                if error.is_cancelled() {
                    return None;
                }
                TasksError::Panicked { name }
            }
        };
        tracing::error!(error = %Chain(&problem), "a task died");
        Some(problem)
    }
}

#[derive(Clone, Copy)]
enum Stage {
    Running,
    Stopping,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failing_task_stops_the_others_and_is_named() {
        let mut tasks = Tasks::new(CancellationToken::new());
        let stop = tasks.stop_token();
        tasks.spawn_infallible("patient", async move { stop.cancelled().await });
        tasks.spawn("hasty", async { Err("no database") });
        let error = tasks
            .run_until_stopped(Duration::from_secs(5))
            .await
            .unwrap_err();
        assert_eq!(
            Chain(&error).to_string(),
            "task \"hasty\" failed: no database"
        );
    }

    #[tokio::test]
    async fn a_panic_is_reported_by_name() {
        let mut tasks = Tasks::new(CancellationToken::new());
        tasks.spawn_infallible("shaky", async { panic!("oh") });
        let error = tasks
            .run_until_stopped(Duration::from_secs(5))
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "task \"shaky\" panicked");
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ignores_the_stop_is_named() {
        let stop = CancellationToken::new();
        let mut tasks = Tasks::new(stop.clone());
        tasks.spawn_infallible("deaf", std::future::pending());
        stop.cancel();
        let error = tasks
            .run_until_stopped(Duration::from_secs(10))
            .await
            .unwrap_err();
        assert!(error.to_string().ends_with("deaf"), "{error}");
    }
}
