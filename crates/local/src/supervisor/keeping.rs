//! The record of the pod on the disk, which may be full or gone.

use std::io::{self, Write};
use std::time::Duration;

use tokio::time::Instant;

use crate::files::write_json;
use crate::kubelet::record::Outcome;
use crate::supervisor::Supervisor;
use crate::supervisor::lifecycle::{self, Next};

/// How long to wait before a record that could not be written, on a full disk for example, is tried again.
const REWRITE: Duration = Duration::from_millis(500);

impl Supervisor {
    /// Whether the end of a container waits for that of the pod. Whoever reads that a container was ended must read why in the
    /// same record: by itself, the exit code 143 is a failure of the container.
    pub(super) fn withholds(&self) -> bool {
        self.stopping.is_some()
            || lifecycle::next(&self.record.containers, |index| self.is_due(index)) == Next::Over
    }

    /// Writes the record, or notes when to try again: containers run on while a disk is full.
    pub(super) fn write(&mut self) {
        if self.withheld && self.record.outcome == Outcome::Running {
            self.rewrite_at = None;
            return;
        }
        let failed = write_json(&self.paths.record(), &self.record).err();
        self.abandoned |= failed
            .as_ref()
            .is_some_and(|error| error.kind() == io::ErrorKind::NotFound);
        if let (Some(error), None) = (&failed, self.rewrite_at) {
            // Standard error is the pod's own file, which may be on the same disk.
            drop(writeln!(
                io::stderr(),
                "the record cannot be written, trying again: {error}"
            ));
        }
        self.rewrite_at = failed
            .filter(|_| !self.abandoned)
            .map(|_| Instant::now() + REWRITE);
    }

    /// Writes the record, however long that takes.
    pub(super) async fn write_at_last(&mut self) {
        self.write();
        while let Some(at) = self.rewrite_at {
            tokio::time::sleep_until(at).await;
            self.write();
        }
    }
}
