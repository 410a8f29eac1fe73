//! The log of one run: what the container prints, and when each part of it came. The container writes to a pipe, so that a
//! time is that of the output and not that of somebody who looks at the file later.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use tokio::net::unix::pipe;

use crate::kubelet::log_times::TimesWriter;

/// Bytes taken from the pipe at once: all that a pipe of Linux holds.
const CHUNK: usize = 64 << 10;
/// How much is taken at most after the container's end; more is written by a process that left its group.
const AFTER_END: usize = 1 << 20;

/// Writes the log of a run.
pub(super) struct LogWriter {
    file: File,
    times: TimesWriter,
    end: u64,
    buffer: Vec<u8>,
    /// The disk refused a write, and that was said.
    failed: bool,
}

impl LogWriter {
    /// Makes the log and its index, and the folder above.
    pub(super) fn create(log: &Path) -> io::Result<Self> {
        if let Some(folder) = log.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = File::options().create(true).append(true).open(log)?;
        Ok(Self {
            end: file.metadata()?.len(),
            times: TimesWriter::create(log)?,
            file,
            buffer: vec![0; CHUNK],
            failed: false,
        })
    }

    /// Waits for output and writes it; says whether there may be more. A call that is dropped has written nothing.
    pub(super) async fn copy(&mut self, output: &pipe::Receiver) -> bool {
        loop {
            if output.readable().await.is_err() {
                return false;
            }
            match output.try_read(&mut self.buffer) {
                Ok(0) => return false,
                Ok(count) => {
                    self.write(count);
                    return true;
                }
                Err(error) if is_for_now(&error) => {}
                Err(_) => return false,
            }
        }
    }

    /// Writes what is still in the pipe, without waiting for more.
    pub(super) fn drain(&mut self, output: &pipe::Receiver) {
        let mut taken = 0;
        while taken < AFTER_END {
            match output.try_read(&mut self.buffer) {
                Ok(0) => return,
                Ok(count) => {
                    taken += count;
                    self.write(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// Writes the first `count` bytes of the buffer. The time is noted first, so that no line is there without one. What
    /// the disk refuses is lost: containers run on while a disk is full.
    fn write(&mut self, count: usize) {
        let output = self.buffer.get(..count).unwrap_or_default();
        let end = self.end + count as u64;
        let noted = self.times.note(end, jiff::Timestamp::now());
        let written = self.file.write_all(output);
        self.end = match &written {
            Ok(()) => end,
            // A part may have been written.
            Err(_) => self.file.metadata().map_or(self.end, |found| found.len()),
        };
        let failed = noted.and(written).err();
        if let (Some(error), false) = (&failed, self.failed) {
            // Standard error is the pod's own file, which may be on the same disk.
            drop(writeln!(
                io::stderr(),
                "output of a container is lost, its log cannot be written: {error}"
            ));
        }
        self.failed = failed.is_some();
    }
}

fn is_for_now(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
