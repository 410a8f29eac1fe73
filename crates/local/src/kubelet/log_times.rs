//! When the lines of a log were written: an index beside the log, so that the log itself is what the container wrote.
//!
//! ```text
//! logs/<container>/<run>.log      the output
//! logs/<container>/<run>.times    (nanoseconds since the epoch, end offset), both 64 bits, little endian
//! ```
//!
//! An entry says that the bytes from the end of the entry before up to its own end were read from the container at that
//! time. Entries are at least [`WINDOW`] apart, so that a container that writes without end makes an index of a few
//! megabytes an hour.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

/// What is written within such a time has one entry, with the time of the first.
const WINDOW: SignedDuration = SignedDuration::from_millis(10);
/// Bytes of an entry.
const ENTRY: usize = 16;

/// The index of a log.
pub(crate) fn path(log: &Path) -> PathBuf {
    log.with_extension("times")
}

/// Writes the index of one run. Only the supervisor does.
#[derive(Debug)]
pub(crate) struct TimesWriter {
    file: File,
    entries: u64,
    last: Option<Timestamp>,
}

impl TimesWriter {
    /// Begins the index of a log that has just been made.
    pub(crate) fn create(log: &Path) -> io::Result<Self> {
        Ok(Self {
            file: File::create(path(log))?,
            entries: 0,
            last: None,
        })
    }

    /// Notes that the log goes up to `end` since `now`.
    pub(crate) fn note(&mut self, end: u64, now: Timestamp) -> io::Result<()> {
        let same = self
            .last
            .is_some_and(|last| now.duration_since(last).abs() < WINDOW);
        if !same {
            self.entries += 1;
        }
        // A clock that was set back must not make an index that goes back.
        let time = if same {
            self.last
        } else {
            self.last.max(Some(now))
        };
        let time = time.unwrap_or(now);
        let mut entry = [0; ENTRY];
        let nanoseconds = i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX);
        let (first, second) = entry.split_at_mut(ENTRY / 2);
        first.copy_from_slice(&nanoseconds.to_le_bytes());
        second.copy_from_slice(&end.to_le_bytes());
        let at = self.entries.saturating_sub(1) * ENTRY as u64;
        self.file.write_all_at(&entry, at)?;
        self.last = Some(time);
        Ok(())
    }
}

/// The index of one log, read as it grows.
#[derive(Debug)]
pub(crate) struct Times {
    file: File,
    entries: Vec<(Timestamp, u64)>,
}

impl Times {
    /// Opens the index of a log.
    ///
    /// # Errors
    /// It has none: an earlier version of the supervisor wrote it. Or it cannot be read.
    pub(crate) fn open(log: &Path) -> io::Result<Self> {
        let mut times = Self {
            file: File::open(path(log))?,
            entries: Vec::new(),
        };
        times.refresh()?;
        Ok(times)
    }

    /// Reads what has been noted since. The last entry known may have grown.
    pub(crate) fn refresh(&mut self) -> io::Result<()> {
        self.entries.pop();
        let known = self.entries.len() * ENTRY;
        self.file.seek(SeekFrom::Start(known as u64))?;
        let mut bytes = Vec::new();
        self.file.read_to_end(&mut bytes)?;
        // A supervisor that was killed may have left a part of one.
        let (entries, _) = bytes.as_chunks::<ENTRY>();
        self.entries
            .extend(entries.iter().map(|entry| decode(*entry)));
        Ok(())
    }

    /// When the byte at `offset` was written, if that is noted.
    pub(crate) fn at(&self, offset: u64) -> Option<Timestamp> {
        let index = self.entries.partition_point(|(_, end)| *end <= offset);
        self.entries.get(index).map(|(time, _)| *time)
    }

    /// The offset of the first byte that was written at `time` or later.
    pub(crate) fn since(&self, time: Timestamp) -> u64 {
        let index = self.entries.partition_point(|(written, _)| *written < time);
        match index.checked_sub(1) {
            Some(before) => self.entries.get(before).map_or(0, |(_, end)| *end),
            None => 0,
        }
    }
}

fn decode(entry: [u8; ENTRY]) -> (Timestamp, u64) {
    let (first, second) = entry.split_at(ENTRY / 2);
    let nanoseconds = i64::from_le_bytes(first.try_into().unwrap_or_default());
    let end = u64::from_le_bytes(second.try_into().unwrap_or_default());
    let time = Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or(Timestamp::UNIX_EPOCH);
    (time, end)
}

/// A time as a kubelet writes it before a line: RFC 3339, UTC, nine digits of a second.
pub(crate) fn text(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + milliseconds).unwrap()
    }

    #[test]
    fn every_byte_has_the_time_of_its_entry() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("0.log");
        assert!(Times::open(&log).is_err(), "a log of an earlier version");
        let mut writer = TimesWriter::create(&log).unwrap();
        let mut times = Times::open(&log).unwrap();
        assert_eq!((times.at(0), times.since(time(0))), (None, 0));
        writer.note(10, time(0)).unwrap();
        times.refresh().unwrap();
        assert_eq!((times.at(9), times.at(10)), (Some(time(0)), None));
        // Within the window, the entry grows; a clock that goes back is not believed.
        writer.note(20, time(5)).unwrap();
        writer.note(30, time(100)).unwrap();
        writer.note(40, time(50)).unwrap();
        times.refresh().unwrap();
        for (offset, expected) in [
            (0, Some(time(0))),
            (19, Some(time(0))),
            (20, Some(time(100))),
            (39, Some(time(100))),
            (40, None),
        ] {
            assert_eq!(times.at(offset), expected, "{offset}");
        }
        for (since, expected) in [(-1, 0), (0, 0), (1, 20), (100, 20), (101, 40)] {
            assert_eq!(times.since(time(since)), expected, "{since}");
        }
        assert_eq!(text(time(5)), "2023-11-14T22:13:20.005000000Z");
    }
}
