//! Logs of containers, read from their files and followed as they grow.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use rustix::fs::inotify::WatchFlags;
use tokio::sync::watch;

use crate::cluster::{LogError, LogRequest, LogSource, LogStream};
use crate::inotify::Inotify;
use crate::kubelet::log_files;
use crate::kubelet::record::{ContainerState, PodPaths, Record};

/// The latest record of each pod, for whoever waits for one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Records(Arc<Mutex<HashMap<String, Latest>>>);

/// The latest record of one pod.
type Latest = watch::Sender<Option<Arc<Record>>>;

impl Records {
    /// The records of a pod, now and as they come.
    pub(crate) fn of(&self, paths: &PodPaths, uid: &str) -> watch::Receiver<Option<Arc<Record>>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
        let uids: Vec<String> = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .keys()
            .cloned()
            .collect();
        for uid in uids {
            self.refresh(&PodPaths::new(root, &uid), &uid);
        }
    }

    /// Forgets the record of a pod that is over, unless somebody waits for it; it is read again when it is asked for.
    pub(crate) fn release(&self, uid: &str) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known
            .get(uid)
            .is_some_and(|sender| sender.receiver_count() == 0)
        {
            known.remove(uid);
        }
    }

    pub(crate) fn forget(&self, uid: &str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
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

/// The logs of the pods of one kubelet.
#[derive(Debug, Clone)]
pub(crate) struct Logs {
    pub(crate) root: PathBuf,
    pub(crate) records: Records,
}

/// Bytes read from a log at once.
const CHUNK: usize = 64 << 10;

impl LogSource for Logs {
    fn open(&self, request: LogRequest) -> BoxFuture<'_, Result<LogStream, LogError>> {
        Box::pin(async move {
            let paths = PodPaths::new(&self.root, &request.uid);
            let records = self.records.of(&paths, &request.uid);
            let run = records.borrow().as_ref().and_then(|record| {
                let container = record
                    .containers
                    .iter()
                    .find(|container| container.name == request.container)?;
                // A container that waits for its restart shows the run that ended.
                let waits = matches!(container.state, ContainerState::Waiting { .. });
                let back = u32::from(request.previous) + u32::from(waits);
                container.restarts.checked_sub(back)
            });
            let not_there = || LogError::NotThere {
                pod: request.pod.clone(),
                container: request.container.clone(),
                why: if request.previous {
                    "has no previous run"
                } else {
                    "is waiting to start: ContainerCreating"
                },
            };
            let run = run.ok_or_else(not_there)?;
            let path = paths.log(&request.container, run);
            let unreadable = |source| LogError::Unreadable {
                pod: request.pod.clone(),
                container: request.container.clone(),
                source,
            };
            let mut file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(not_there()),
                Err(error) => return Err(unreadable(error)),
            };
            // The beginning of a long log is not there any more.
            let beginning = log_files::beginning(&mut file).map_err(unreadable)?;
            if let Some(seconds) = request.since_seconds {
                // Lines bear no times; a file that is older as a whole has nothing to show.
                let age = file
                    .metadata()
                    .and_then(|found| found.modified())
                    .ok()
                    .and_then(|time| time.elapsed().ok());
                if age.is_some_and(|age| age.as_secs() > seconds) {
                    file.seek(SeekFrom::End(0)).map_err(unreadable)?;
                }
            }
            if let Some(lines) = request.tail_lines {
                seek_to_tail(&mut file, lines, beginning).map_err(unreadable)?;
            }
            let growth = if request.follow {
                Some(Growth::of(&path))
            } else {
                None
            };
            let reader = Reader {
                file,
                growth,
                records,
                container: request.container.clone(),
                run,
                left: request.limit_bytes.unwrap_or(u64::MAX),
            };
            Ok(stream::try_unfold(reader, |mut reader| async move {
                Ok(reader.next().await?.map(|bytes| (bytes, reader)))
            })
            .boxed())
        })
    }
}

/// How a reader hears that a log has grown.
enum Growth {
    Told(Inotify),
    /// A user has some hundred watches, and editors take many of them: then the file is looked at.
    LookedAt,
}

impl Growth {
    fn of(log: &Path) -> Self {
        match Inotify::new(log, WatchFlags::MODIFY) {
            Ok(watch) => Self::Told(watch),
            Err(error) => {
                tracing::debug!(%error, "a log cannot be watched and is looked at");
                Self::LookedAt
            }
        }
    }

    async fn next(&self) -> io::Result<()> {
        const CHECK_INTERVAL: Duration = Duration::from_millis(200);
        match self {
            Self::Told(watch) => watch.changes().await.map(drop),
            Self::LookedAt => {
                tokio::time::sleep(CHECK_INTERVAL).await;
                Ok(())
            }
        }
    }
}

struct Reader {
    file: File,
    growth: Option<Growth>,
    records: watch::Receiver<Option<Arc<Record>>>,
    container: String,
    run: u32,
    left: u64,
}

impl Reader {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            // Asked before reading: what is written before the end is read after it.
            let over = self.is_over();
            let wanted = usize::try_from(self.left).unwrap_or(CHUNK).min(CHUNK);
            let mut buffer = vec![0; wanted];
            let count = self.file.read(&mut buffer)?;
            if count > 0 {
                buffer.truncate(count);
                self.left = self.left.saturating_sub(count as u64);
                return Ok(Some(buffer.into()));
            }
            let Some(growth) = &self.growth else {
                return Ok(None);
            };
            if over || self.left == 0 {
                return Ok(None);
            }
            tokio::select! {
                changed = growth.next() => changed?,
                changed = self.records.changed() => if changed.is_err() { return Ok(None) },
            }
        }
    }

    fn is_over(&self) -> bool {
        let record = self.records.borrow();
        let Some(record) = record.as_ref() else {
            return true;
        };
        let container = record
            .containers
            .iter()
            .find(|container| container.name == self.container);
        container.is_none_or(|container| {
            container.restarts > self.run
                || matches!(container.state, ContainerState::Terminated(_))
                || record.is_over()
        })
    }
}

/// Puts the file at the start of its last lines, of those that begin at `beginning` or later.
fn seek_to_tail(file: &mut File, lines: u64, beginning: u64) -> io::Result<()> {
    let length = file.metadata()?.len();
    let mut end = length;
    let mut found = 0;
    let mut buffer = vec![0; CHUNK];
    while end > beginning {
        let start = end.saturating_sub(CHUNK as u64).max(beginning);
        let size = usize::try_from(end - start).unwrap_or(CHUNK);
        file.seek(SeekFrom::Start(start))?;
        let chunk = buffer.get_mut(..size).unwrap_or_default();
        file.read_exact(chunk)?;
        for (offset, byte) in chunk.iter().enumerate().rev() {
            let position = start + offset as u64;
            // The line break that ends the last line begins no other.
            if *byte == b'\n' && position + 1 != length {
                found += 1;
                if found == lines {
                    file.seek(SeekFrom::Start(position + 1))?;
                    return Ok(());
                }
            }
        }
        end = start;
    }
    file.seek(if lines == 0 {
        SeekFrom::End(0)
    } else {
        SeekFrom::Start(beginning)
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_tail_of_a_log_is_its_last_lines() {
        for (text, lines, expected) in [
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc", 2, "b\nc"),
            ("a\nb\n", 5, "a\nb\n"),
            ("a\nb\n", 0, ""),
            ("", 3, ""),
        ] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            seek_to_tail(&mut file, lines, 0).unwrap();
            let mut rest = String::new();
            file.read_to_string(&mut rest).unwrap();
            assert_eq!(rest, expected, "{lines} lines of {text:?}");
        }
    }
}
