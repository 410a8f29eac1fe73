//! How a pod is stopped: SIGTERM or `preStop` hooks, and SIGKILL once the grace period is over.

use std::fs;
use std::io::{self, Write};
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use crate::files::read_json;
use crate::kubelet::record::{ContainerState, Role, StopRequest};
use crate::supervisor::Supervisor;

/// A stop in progress: when SIGKILL follows SIGTERM, and the reason for the status of the pod.
pub(super) struct Stopping {
    pub(super) kill_at: Instant,
    pub(super) killed: bool,
    pub(super) reason: Option<(String, String)>,
}

/// How long a process may take until it hears SIGTERM. What takes longer does not mean to.
const BEGINS_WITHIN: Duration = Duration::from_secs(1);
/// When it is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Whether a process catches or ignores SIGTERM; one that is gone is not waited for.
fn hears_sigterm(pid: i32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
        return true;
    };
    let masks = status.lines().filter_map(|line| {
        let mask = line
            .strip_prefix("SigCgt:")
            .or(line.strip_prefix("SigIgn:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    });
    let bit = 1 << (Signal::TERM.as_raw() - 1);
    masks.fold(0, |all, mask| all | mask) & bit != 0
}

impl Supervisor {
    /// When sidecars may be told that the others have ended; none for now. A container can end while a sidecar beside it,
    /// such as one that takes its outputs away, is still being loaded; SIGTERM would end that unheard. A kubelet takes
    /// longer than that to start a container.
    pub(super) fn sidecars_begin(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut containers = self.record.containers.iter().zip(&self.started_at);
        let begins = containers.any(|(container, started)| match &container.state {
            ContainerState::Running { process, .. } if container.role == Role::Sidecar => {
                started.is_some_and(|at| now.duration_since(at) < BEGINS_WITHIN)
                    && !hears_sigterm(process.pid)
            }
            _ => false,
        });
        begins.then(|| now + LOOK_AGAIN)
    }

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
