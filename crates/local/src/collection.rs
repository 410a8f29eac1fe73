//! Collection of what executions leave in the bucket.
//!
//! ```text
//! metadata/propeller/<project>-<domain>-<execution>/…   files of the engine (spec 04 §9.2)
//! data/<shard>/<generated name>/…                       raw outputs of tasks (spec 04 §9.3)
//! ```
//!
//! Files that only the running engine reads go a while after their execution ended. What the API shows, that is inputs,
//! outputs, errors and decks of nodes and the raw outputs that these name, goes only if somebody asks for it. What admin
//! itself writes (`metadata/<project>/…`), registered code and everything outside these two folders is never touched.
//!
//! A pass examines a bounded number of objects, on a thread for work that blocks, and goes on where the one before
//! stopped. Nothing is kept of that over a restart: a removal is decided from what is there, so that doing it twice is
//! doing it once. An object that was written again since it was examined stays.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::cluster::{ApiStatus, Cluster, Now};
use crate::s3::{BlobError, BlobFolder, DeleteIf, Info, ListRequest};

mod retention;

use retention::{Activity, Content, is_expired};
pub use retention::{Age, Retention, RetentionError};

/// Where the engine keeps its files; one folder an execution.
const ENGINE: &str = "metadata/propeller/";
/// Where raw outputs are; one folder an attempt of a task, below one a shard.
const RAW_OUTPUTS: &str = "data/";
/// The storage name of the resource of an execution (spec 03 §4).
const WORKFLOWS: &str = "flyteworkflows.flyte.lyft.com";
/// The label of executions that ended, and its value (spec 04 §2.7).
const TERMINATED: (&str, &str) = ("termination-status", "terminated");

/// Between two passes while there is more to examine.
const PASS_INTERVAL: Duration = Duration::from_mins(1);
/// Between the end of an examination of everything and the next.
const CYCLE_INTERVAL: Duration = Duration::from_hours(6);
/// Objects that one pass examines before it stops; it finishes the folder that it is in.
const OBJECTS_PER_PASS: usize = 2_000;
/// Objects or folders listed at once.
const PAGE: usize = 500;

/// Executions that have not ended, when a pass began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Running {
    /// Their folders' names: `<project>-<domain>-<execution>`.
    pub folders: BTreeSet<String>,
    /// When the first of them was created.
    pub oldest: Option<Timestamp>,
}

impl Running {
    /// The executions that have not ended, by the resources of the cluster. Blocks for as long as those take to be read.
    ///
    /// # Errors
    /// A resource cannot be read: what is its own is not known then.
    pub fn of(cluster: &Cluster) -> Result<Self, ApiStatus> {
        let mut running = Self::default();
        for object in cluster.objects(WORKFLOWS) {
            let (label, value) = TERMINATED;
            if object.labels().get(label).map(String::as_str) == Some(value) {
                continue;
            }
            let value = object.value()?;
            let text = |pointer: &str| value.pointer(pointer).and_then(serde_json::Value::as_str);
            let created = text("/metadata/creationTimestamp").and_then(|at| at.parse().ok());
            let created: Timestamp = created.unwrap_or(Timestamp::MIN);
            running.oldest = Some(running.oldest.map_or(created, |oldest| oldest.min(created)));
            let id =
                ["project", "domain", "name"].map(|part| text(&format!("/executionId/{part}")));
            running.folders.insert(match id {
                [Some(project), Some(domain), Some(name)] => format!("{project}-{domain}-{name}"),
                // A resource without execution id uses its own name.
                _ => object.name().to_owned(),
            });
        }
        Ok(running)
    }

    /// The activity of an execution whose folder was last written at `written`.
    fn of_execution(&self, folder: &str, written: Timestamp) -> Activity {
        if self.folders.contains(folder) {
            Activity::Running
        } else {
            Activity::Idle { since: written }
        }
    }

    /// The activity of whoever wrote raw outputs last at `written`. Their folder does not name the execution, so they may
    /// be of any that runs and had begun by then.
    fn of_raw_output(&self, written: Timestamp) -> Activity {
        if self.oldest.is_some_and(|oldest| written >= oldest) {
            Activity::Running
        } else {
            Activity::Idle { since: written }
        }
    }
}

/// A pass could not be made.
#[derive(Debug, thiserror::Error)]
enum CollectionError {
    #[error("the executions that run cannot be read")]
    Executions(#[from] ApiStatus),
    #[error("the bucket cannot be read or written")]
    Blobs(#[from] BlobError),
}

/// What a pass did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pass {
    /// Objects that were examined.
    pub examined: usize,
    /// Objects that were removed.
    pub removed: usize,
    /// The bytes of the files that were removed.
    pub bytes: u64,
    /// Whether everything was examined since the beginning.
    pub complete: bool,
}

/// Removes from one bucket what its retention says.
#[derive(Debug)]
pub struct Collector {
    blobs: Arc<BlobFolder>,
    bucket: String,
    retention: Retention,
    objects_per_pass: usize,
    /// The folder that was examined last; none at the beginning of a cycle.
    position: Option<String>,
}

impl Collector {
    /// A collector that begins with the first folder.
    #[must_use]
    pub fn new(blobs: Arc<BlobFolder>, bucket: impl Into<String>, retention: Retention) -> Self {
        Self {
            blobs,
            bucket: bucket.into(),
            retention,
            objects_per_pass: OBJECTS_PER_PASS,
            position: None,
        }
    }

    /// The same, which stops after another number of objects.
    #[must_use]
    pub fn with_objects_per_pass(self, objects_per_pass: usize) -> Self {
        Self {
            objects_per_pass,
            ..self
        }
    }

    /// Makes passes until `stop`.
    pub(crate) async fn run(mut self, cluster: Cluster, now: Now, stop: CancellationToken) {
        if self.retention == Retention::everything() {
            return stop.cancelled().await;
        }
        let mut wait = PASS_INTERVAL;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            let (time, executions) = (now(), cluster.clone());
            let done = tokio::task::spawn_blocking(move || {
                let pass = Running::of(&executions)
                    .map_err(CollectionError::from)
                    .and_then(|running| Ok(self.pass(&running, time)?));
                (self, pass)
            });
            let pass;
            (self, pass) = match done.await {
                Ok(done) => done,
                Err(error) => {
                    tracing::error!(%error, "the collection of old files failed and is given up until the next start");
                    return stop.cancelled().await;
                }
            };
            wait = match pass {
                Ok(pass) => {
                    if pass.removed > 0 {
                        tracing::info!(
                            files = pass.removed,
                            bytes = pass.bytes,
                            "old files of executions are removed"
                        );
                    }
                    if pass.complete {
                        CYCLE_INTERVAL
                    } else {
                        PASS_INTERVAL
                    }
                }
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(%error, cause, "old files of executions cannot be removed");
                    CYCLE_INTERVAL
                }
            };
        }
    }

    /// One pass: examines folders from the position on and removes what has expired. Blocks.
    ///
    /// # Errors
    /// The bucket is not there, or cannot be read or written.
    pub fn pass(&mut self, running: &Running, now: Timestamp) -> Result<Pass, BlobError> {
        let mut pass = Pass::default();
        let after = self.position.take().unwrap_or_default();
        let mut stopped = ControlFlow::Continue(());
        if !after.starts_with(RAW_OUTPUTS) {
            stopped = self.engine_folders(&after, running, now, &mut pass)?;
        }
        if stopped.is_continue() && self.retention.shown.is_some() {
            stopped = self.raw_output_folders(&after, running, now, &mut pass)?;
        }
        match stopped {
            ControlFlow::Break(position) => self.position = Some(position),
            ControlFlow::Continue(()) => pass.complete = true,
        }
        Ok(pass)
    }

    fn engine_folders(
        &self,
        after: &str,
        running: &Running,
        now: Timestamp,
        pass: &mut Pass,
    ) -> Result<ControlFlow<String>, BlobError> {
        self.each_folder(ENGINE, after, &mut |folder| {
            let name = folder
                .strip_prefix(ENGINE)
                .unwrap_or(folder)
                .trim_end_matches('/');
            let Some(written) = self.last_write(folder, pass)? else {
                return Ok(self.stop_if_spent(folder, pass));
            };
            let activity = running.of_execution(name, written);
            self.remove_expired(folder, activity, now, pass)?;
            Ok(self.stop_if_spent(folder, pass))
        })
    }

    fn raw_output_folders(
        &self,
        after: &str,
        running: &Running,
        now: Timestamp,
        pass: &mut Pass,
    ) -> Result<ControlFlow<String>, BlobError> {
        // The position may still be one of the engine's folders, which are examined first.
        let after = if after.starts_with(RAW_OUTPUTS) {
            after
        } else {
            ""
        };
        // The shard that the position is in has to be entered again.
        let shard = after.splitn(3, '/').take(2).collect::<Vec<_>>().join("/");
        self.each_folder(RAW_OUTPUTS, &shard, &mut |shard| {
            self.each_folder(shard, after, &mut |folder| {
                if let Some(written) = self.last_write(folder, pass)? {
                    let activity = running.of_raw_output(written);
                    self.remove_expired(folder, activity, now, pass)?;
                }
                Ok(self.stop_if_spent(folder, pass))
            })
        })
    }

    fn stop_if_spent(&self, folder: &str, pass: &Pass) -> ControlFlow<String> {
        if pass.examined >= self.objects_per_pass {
            ControlFlow::Break(folder.to_owned())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// Calls `visit` with each folder directly below `prefix` and after `after`, until it breaks.
    fn each_folder(
        &self,
        prefix: &str,
        after: &str,
        visit: &mut dyn FnMut(&str) -> Result<ControlFlow<String>, BlobError>,
    ) -> Result<ControlFlow<String>, BlobError> {
        let mut request = ListRequest {
            prefix: prefix.to_owned(),
            delimiter: "/".to_owned(),
            after: if after.starts_with(prefix) {
                after.to_owned()
            } else {
                String::new()
            },
            limit: PAGE,
        };
        loop {
            let page = self.blobs.list(&self.bucket, &request)?;
            for folder in &page.prefixes {
                if let ControlFlow::Break(position) = visit(folder)? {
                    return Ok(ControlFlow::Break(position));
                }
            }
            match page.next {
                Some(next) => request.after = next,
                None => return Ok(ControlFlow::Continue(())),
            }
        }
    }

    /// Calls `visit` with each object below `folder`.
    fn each_object(
        &self,
        folder: &str,
        visit: &mut dyn FnMut(&Info) -> Result<(), BlobError>,
    ) -> Result<(), BlobError> {
        let mut request = ListRequest {
            prefix: folder.to_owned(),
            limit: PAGE,
            ..ListRequest::default()
        };
        loop {
            let page = self.blobs.list(&self.bucket, &request)?;
            for info in &page.objects {
                visit(info)?;
            }
            match page.next {
                Some(next) => request.after = next,
                None => return Ok(()),
            }
        }
    }

    fn last_write(&self, folder: &str, pass: &mut Pass) -> Result<Option<Timestamp>, BlobError> {
        let mut last: Option<Timestamp> = None;
        self.each_object(folder, &mut |info| {
            pass.examined += 1;
            last = last.max(Some(info.modified));
            Ok(())
        })?;
        Ok(last)
    }

    fn remove_expired(
        &self,
        folder: &str,
        activity: Activity,
        now: Timestamp,
        pass: &mut Pass,
    ) -> Result<(), BlobError> {
        let expired = |content| is_expired(content, activity, &self.retention, now);
        if !expired(Content::Intermediate) && !expired(Content::Shown) {
            return Ok(());
        }
        let is_raw = folder.starts_with(RAW_OUTPUTS);
        self.each_object(folder, &mut |info| {
            let content = if is_raw {
                Content::Shown
            } else {
                Content::of(info.key.strip_prefix(folder).unwrap_or_default())
            };
            if !expired(content) {
                return Ok(());
            }
            let same = DeleteIf {
                present: true,
                etag: Some(info.etag.clone()),
                size: Some(info.size),
                modified: Some(info.modified.as_second()),
            };
            match self.blobs.delete_if(&self.bucket, &info.key, &same) {
                Ok(true) => {
                    pass.removed += 1;
                    pass.bytes += info.size;
                    Ok(())
                }
                // Gone meanwhile, or written again.
                Ok(false) | Err(BlobError::Condition(_)) => Ok(()),
                Err(error) => Err(error),
            }
        })
    }
}
