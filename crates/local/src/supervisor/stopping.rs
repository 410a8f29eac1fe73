//! How a pod is stopped: SIGTERM or `preStop` hooks, and SIGKILL once the grace period is over.

use std::io::{self, Write};
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use crate::files::read_json;
use crate::kubelet::record::{ContainerState, StopRequest};
use crate::supervisor::Supervisor;

/// A stop in progress: when SIGKILL follows SIGTERM, and the reason for the status of the pod.
pub(super) struct Stopping {
    pub(super) kill_at: Instant,
    pub(super) killed: bool,
    pub(super) reason: Option<(String, String)>,
}

impl Supervisor {
    /// SIGTERM came. Without an order that can be read it means that the node shuts down: the kubelet that does cannot write
    /// one on a full disk, and the service manager of a machine that goes down writes none.
    pub(super) fn stop_requested(&mut self) {
        let order: Option<StopRequest> = read_json(&self.paths.stop()).unwrap_or_else(|error| {
            // Standard error is the pod's own file.
            drop(writeln!(
                io::stderr(),
                "the order to stop cannot be read: {error}"
            ));
            None
        });
        let grace = self.launch.shutdown_grace_seconds;
        let grace = grace.unwrap_or(self.launch.grace_seconds);
        let order = order.unwrap_or_else(|| StopRequest::node_shutdown(grace));
        self.stop(order.grace_seconds, order.reason);
    }

    /// Ends all containers. A second order may only be faster.
    pub(super) fn stop(&mut self, grace_seconds: u64, reason: Option<(String, String)>) {
        let kill_at = Instant::now() + Duration::from_secs(grace_seconds);
        if let Some(stopping) = &mut self.stopping {
            stopping.kill_at = stopping.kill_at.min(kill_at);
            stopping.reason = stopping.reason.take().or(reason);
        } else {
            self.stopping = Some(Stopping {
                kill_at,
                killed: false,
                reason,
            });
            let containers = 0..self.record.containers.len();
            containers.for_each(|index| self.ask_to_end(index, grace_seconds));
        }
    }

    pub(super) fn signal_all(&self, signal: Signal) {
        for container in &self.record.containers {
            if let ContainerState::Running { process, .. } = &container.state {
                process.signal_group(signal);
            }
        }
    }
}
