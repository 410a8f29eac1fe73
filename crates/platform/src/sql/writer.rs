//! SQLite's one writer, with group commit.
//!
//! Writes queue for one task that owns the writing connection. It runs as many queued writes as there
//! are, up to a limit, inside one transaction, each under its own savepoint so that one failure undoes
//! nothing of the others, and commits once: a burst pays for one fsync. A caller hears back only after the
//! commit. A caller that goes away does not interrupt its write.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures::{FutureExt as _, future::BoxFuture};
use sqlx::{Connection as _, SqliteConnection};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use super::{DbError, OperationMetrics, ReadTx, WriteTx, tx::Connection};

/// Writes that may wait before callers wait to enqueue: more than the requests a server runs at once.
const QUEUE: usize = 1024;

/// Writes per commit. Bounds how long the first of a group waits for the last.
const GROUP: usize = 64;

/// Handle of the writer's task, which ends when the handle is dropped.
pub(super) struct Writer {
    messages: mpsc::Sender<Message>,
    _task: JoinSet<()>,
}

enum Message {
    Write(Box<dyn Job>),
    /// Ends the task; what was queued before has been written when this is answered.
    Stop(oneshot::Sender<()>),
}

/// What the savepoint of a job is to become.
enum Verdict {
    Keep,
    Undo,
}

/// A queued write whose result waits for the commit.
trait Job: Send {
    fn run<'a>(&'a mut self, tx: &'a mut WriteTx) -> BoxFuture<'a, Verdict>;
    /// Tells the caller, after COMMIT or after what went wrong instead.
    fn finish(self: Box<Self>, committed: Result<(), DbError>);
}

struct Write<C, F, T, E> {
    metrics: Option<Arc<OperationMetrics>>,
    context: C,
    work: F,
    result: Option<Result<T, E>>,
    caller: oneshot::Sender<Result<T, E>>,
}

impl<C, F, T, E> Job for Write<C, F, T, E>
where
    C: Send + Sync,
    F: for<'a> Fn(&'a C, &'a mut WriteTx) -> BoxFuture<'a, Result<T, E>> + Send,
    T: Send,
    E: From<DbError> + Send,
{
    fn run<'a>(&'a mut self, tx: &'a mut WriteTx) -> BoxFuture<'a, Verdict> {
        async move {
            tx.0.metrics.clone_from(&self.metrics);
            let work = AssertUnwindSafe((self.work)(&self.context, tx));
            let result = work
                .catch_unwind()
                .await
                .unwrap_or_else(|_panic| Err(DbError::Panicked.into()));
            let verdict = if result.is_ok() {
                Verdict::Keep
            } else {
                Verdict::Undo
            };
            self.result = Some(result);
            verdict
        }
        .boxed()
    }

    fn finish(self: Box<Self>, committed: Result<(), DbError>) {
        let answer = match (committed, self.result) {
            (_, Some(Err(error))) => Err(error),
            (Err(error), _) => Err(error.into()),
            (Ok(()), Some(Ok(value))) => Ok(value),
            (Ok(()), None) => Err(DbError::Panicked.into()),
        };
        // The caller may have gone away; its write stands all the same.
        drop(self.caller.send(answer));
    }
}

impl Writer {
    pub(super) fn start(connection: SqliteConnection) -> Self {
        let (messages, queue) = mpsc::channel(QUEUE);
        let mut task = JoinSet::new();
        task.spawn(run(connection, queue));
        Self {
            messages,
            _task: task,
        }
    }

    /// Ends the task after the writes that are queued; later ones are refused.
    pub(super) async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        if self.messages.send(Message::Stop(done)).await.is_ok() {
            // An error means that the task has ended already.
            stopped.await.unwrap_or_default();
        }
    }

    pub(super) async fn write<C, F, T, E>(
        &self,
        metrics: Option<Arc<OperationMetrics>>,
        context: C,
        work: F,
    ) -> Result<T, E>
    where
        C: Send + Sync + 'static,
        F: for<'a> Fn(&'a C, &'a mut WriteTx) -> BoxFuture<'a, Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        let (caller, answer) = oneshot::channel();
        let job = Write {
            metrics,
            context,
            work,
            result: None,
            caller,
        };
        let gone = || E::from(DbError::Unavailable("the writer has stopped".into()));
        let message = Message::Write(Box::new(job));
        self.messages.send(message).await.map_err(|_job| gone())?;
        answer.await.map_err(|_dropped| gone())?
    }
}

async fn run(connection: SqliteConnection, mut queue: mpsc::Receiver<Message>) {
    let mut tx = WriteTx(ReadTx {
        connection: Connection::SqliteWriter(Box::new(connection)),
        metrics: None,
    });
    let mut stopped = None;
    while stopped.is_none() {
        let first = match queue.recv().await {
            Some(Message::Write(first)) => first,
            Some(Message::Stop(done)) => {
                stopped = Some(done);
                break;
            }
            None => break,
        };
        let mut done = Vec::new();
        let outcome = group(&mut tx, first, &mut queue, &mut done).await;
        let failed = outcome.is_err();
        match outcome {
            Ok(stop) => {
                stopped = stop;
                answer(done, Ok(()));
            }
            Err(error) => answer(done, Err(error)),
        }
        if failed {
            // Leave no transaction open behind a failed one; "no transaction is active" is fine.
            if let Err(error) = tx.execute_script("ROLLBACK").await {
                tracing::debug!(%error, "rollback after a failed group");
            }
        }
    }
    if let Connection::SqliteWriter(connection) = tx.0.connection
        && let Err(error) = connection.close().await
    {
        tracing::warn!(%error, "closing the SQLite writer");
    }
    if let Some(stopped) = stopped {
        stopped.send(()).unwrap_or_default();
    }
}

/// Runs `first` and whatever is queued behind it in one transaction; returns the request to stop, if one
/// was queued.
async fn group(
    tx: &mut WriteTx,
    first: Box<dyn Job>,
    queue: &mut mpsc::Receiver<Message>,
    done: &mut Vec<Box<dyn Job>>,
) -> Result<Option<oneshot::Sender<()>>, DbError> {
    if let Err(error) = tx.execute_script("BEGIN IMMEDIATE").await {
        done.push(first);
        return Err(error);
    }
    let mut next = Some(first);
    let mut stop = None;
    while let Some(mut job) = next.take() {
        if let Err(error) = tx.execute_script("SAVEPOINT write").await {
            done.push(job);
            return Err(error);
        }
        let verdict = job.run(tx).await;
        done.push(job);
        match verdict {
            Verdict::Keep => tx.execute_script("RELEASE write").await?,
            Verdict::Undo => {
                tx.execute_script("ROLLBACK TO write; RELEASE write")
                    .await?;
            }
        }
        if done.len() < GROUP {
            match queue.try_recv() {
                Ok(Message::Write(job)) => next = Some(job),
                Ok(Message::Stop(done)) => stop = Some(done),
                Err(_empty) => {}
            }
        }
    }
    tx.execute_script("COMMIT").await?;
    Ok(stop)
}

fn answer(done: Vec<Box<dyn Job>>, outcome: Result<(), DbError>) {
    let text = match outcome {
        Ok(()) => {
            for job in done {
                job.finish(Ok(()));
            }
            return;
        }
        Err(error) => crate::Chain(&error).to_string(),
    };
    for job in done {
        job.finish(Err(DbError::Unavailable(text.clone().into())));
    }
}
