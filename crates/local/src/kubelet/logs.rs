//! Logs of containers, read from their files and followed as they grow.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::cluster::{LogError, LogRequest, LogSource, LogStream, Now};
use crate::kubelet::log_files;
use crate::kubelet::log_times::{self, Times};
use crate::kubelet::log_watches::{Growth, LogWatches};
use crate::kubelet::record::{ContainerState, PodPaths, Record};
use crate::kubelet::records::Records;

/// The logs of the pods of one kubelet.
#[derive(Clone)]
pub(crate) struct Logs {
    pub(crate) root: PathBuf,
    pub(crate) records: Records,
    pub(crate) watches: LogWatches,
    pub(crate) now: Now,
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
            // Before the log is read for the first time: what is written after that is growth.
            let growth = request.follow.then(|| self.watches.watch(&path));
            let times = if request.timestamps || request.since.is_some() {
                Some(times_of(&path, &request)?)
            } else {
                None
            };
            // The beginning of a long log is not there any more.
            let mut position = log_files::beginning(&mut file).map_err(unreadable)?;
            if let Some(lines) = request.tail_lines {
                position = tail(&mut file, lines, position).map_err(unreadable)?;
            }
            if let (Some(since), Some(times)) = (request.since, &times) {
                let first = times.since(since);
                // What the log has lost would be read as zeros.
                if first > position {
                    position = line_after(&mut file, first).map_err(unreadable)?;
                }
            }
            file.seek(SeekFrom::Start(position)).map_err(unreadable)?;
            let stamps = times.filter(|_| request.timestamps).map(|times| Stamps {
                times,
                position,
                at_line_start: true,
            });
            let reader = Reader {
                file,
                growth,
                records,
                container: request.container.clone(),
                run,
                left: request.limit_bytes.unwrap_or(u64::MAX),
                stamps,
                now: self.now.clone(),
            };
            Ok(stream::try_unfold(reader, |mut reader| async move {
                Ok(reader.next().await?.map(|bytes| (bytes, reader)))
            })
            .boxed())
        })
    }
}

/// The index of a log.
fn times_of(log: &Path, request: &LogRequest) -> Result<Times, LogError> {
    let (pod, container) = (request.pod.clone(), request.container.clone());
    Times::open(log).map_err(|source| {
        if source.kind() == io::ErrorKind::NotFound {
            LogError::NoTimes { pod, container }
        } else {
            LogError::Unreadable {
                pod,
                container,
                source,
            }
        }
    })
}

struct Reader {
    file: File,
    growth: Option<Growth>,
    records: watch::Receiver<Option<Arc<Record>>>,
    container: String,
    run: u32,
    /// Bytes that may still be sent.
    left: u64,
    stamps: Option<Stamps>,
    now: Now,
}

impl Reader {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if self.left == 0 {
                return Ok(None);
            }
            // Asked before reading: what is written before the end is read after it.
            let over = self.is_over();
            let mut buffer = vec![0; CHUNK];
            let count = self.file.read(&mut buffer)?;
            if count > 0 {
                buffer.truncate(count);
                if let Some(stamps) = &mut self.stamps {
                    buffer = stamps.stamp(&buffer, (self.now)())?;
                }
                buffer.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left = self.left.saturating_sub(buffer.len() as u64);
                return Ok(Some(buffer.into()));
            }
            let Some(growth) = &self.growth else {
                return Ok(None);
            };
            if over {
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

/// Puts before each line the time when its first byte was written.
struct Stamps {
    times: Times,
    /// Offset of the next byte of the log.
    position: u64,
    at_line_start: bool,
}

impl Stamps {
    /// The next bytes of the log with times; `now` is that of lines whose time is not noted, because the disk was full.
    fn stamp(&mut self, bytes: &[u8], now: Timestamp) -> io::Result<Vec<u8>> {
        // The index is written before the log.
        let end = self.position + bytes.len() as u64;
        if self.times.at(end - 1).is_none() {
            self.times.refresh()?;
        }
        let mut stamped = Vec::with_capacity(bytes.len() * 2);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.at_line_start {
                let time = self.times.at(self.position).unwrap_or(now);
                stamped.extend_from_slice(log_times::text(time).as_bytes());
                stamped.push(b' ');
            }
            stamped.extend_from_slice(line);
            self.at_line_start = line.ends_with(b"\n");
            self.position += line.len() as u64;
        }
        Ok(stamped)
    }
}

/// Where the first line begins that begins at `offset` or later: at the end, if none does.
fn line_after(file: &mut File, offset: u64) -> io::Result<u64> {
    let Some(before) = offset.checked_sub(1) else {
        return Ok(0);
    };
    file.seek(SeekFrom::Start(before))?;
    let mut rest = BufReader::with_capacity(CHUNK, file);
    // The byte before is the line break that ends the line before, or is in that line.
    let skipped = rest.skip_until(b'\n')?;
    Ok(before + skipped as u64)
}

/// Where the last lines begin, of those that begin at `beginning` or later.
fn tail(file: &mut File, lines: u64, beginning: u64) -> io::Result<u64> {
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
                    return Ok(position + 1);
                }
            }
        }
        end = start;
    }
    Ok(if lines == 0 { length } else { beginning })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(text: &str) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn the_tail_of_a_log_is_its_last_lines() {
        for (text, lines, expected) in [
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc", 2, "b\nc"),
            ("a\nb\n", 5, "a\nb\n"),
            ("a\nb\n", 0, ""),
            ("", 3, ""),
        ] {
            let position = tail(&mut file(text), lines, 0).unwrap();
            let rest = text.get(usize::try_from(position).unwrap()..).unwrap();
            assert_eq!(rest, expected, "{lines} lines of {text:?}");
        }
    }

    #[test]
    fn a_line_that_was_begun_before_is_passed_over() {
        for (text, offset, expected) in [
            ("ab\ncd\n", 0, 0),
            ("ab\ncd\n", 1, 3),
            ("ab\ncd\n", 2, 3),
            ("ab\ncd\n", 3, 3),
            ("ab\ncd\n", 4, 6),
            ("ab\ncd\n", 6, 6),
            ("ab\ncd", 4, 5),
            ("", 0, 0),
        ] {
            let found = line_after(&mut file(text), offset).unwrap();
            assert_eq!(found, expected, "{offset} in {text:?}");
        }
    }
}
