//! What follows from probes and hooks: containers that are ready or not, and those that are ended alone.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use crate::kubelet::record::ContainerState;
use crate::supervisor::probes::{EndCause, Finding, Report};
use crate::supervisor::{Supervisor, handler};

/// A `preStop` hook that ended.
#[derive(Debug)]
pub(super) struct HookEnd {
    /// The container's place in the launch.
    index: usize,
    /// Its restarts before the run that the hook is of.
    run: u32,
    outcome: Result<(), String>,
}

impl Supervisor {
    /// Asks a container to end: by its `preStop` hook, and by SIGTERM once that has ended. Without time, there is no hook.
    pub(super) fn ask_to_end(&mut self, index: usize, grace_seconds: u64) {
        let (Some(launch), Some(record)) = (
            self.launch.containers.get(index),
            self.record.containers.get(index),
        ) else {
            return;
        };
        let ContainerState::Running { process, .. } = &record.state else {
            return;
        };
        match &launch.hooks.pre_stop {
            Some(hook) if grace_seconds > 0 => {
                let (hook, launch, run) = (hook.clone(), launch.clone(), record.restarts);
                let uid = self.paths.uid().to_owned();
                let limit = Duration::from_secs(grace_seconds);
                self.hooks.spawn(async move {
                    let outcome = handler::run(&hook, &launch, &uid, Some(limit)).await;
                    HookEnd {
                        index,
                        run,
                        outcome,
                    }
                });
            }
            _ => process.signal_group(Signal::TERM),
        }
    }

    /// A `preStop` hook ended: its container is asked to end, also if the hook failed, unless it has ended meanwhile.
    pub(super) fn hook_ended(&mut self, end: HookEnd) {
        let Some(record) = self.record.containers.get_mut(end.index) else {
            return;
        };
        if record.restarts != end.run {
            return;
        }
        if let ContainerState::Running { process, .. } = &record.state {
            process.signal_group(Signal::TERM);
        }
        if let Err(error) = end.outcome {
            let message = format!("PreStopHook failed: {error}");
            record.health.fail("FailedPreStopHook", message);
            self.write();
        }
    }

    /// Kills containers whose grace period after a failed probe or hook is over.
    pub(super) fn kill_due(&mut self) {
        let now = Instant::now();
        for (at, record) in self.kill_one_at.iter_mut().zip(&self.record.containers) {
            if at.is_some_and(|at| at <= now) {
                *at = None;
                if let ContainerState::Running { process, .. } = &record.state {
                    process.signal_group(Signal::KILL);
                }
            }
        }
    }

    /// Notes what hook and probes found out about a run that still runs.
    pub(super) fn note_report(&mut self, report: Report) {
        let (index, stopping) = (report.index, self.stopping.is_some());
        let Some(record) = self.record.containers.get_mut(index) else {
            return;
        };
        let runs = matches!(record.state, ContainerState::Running { .. });
        if !runs || record.restarts != report.run {
            return;
        }
        match report.finding {
            Finding::Started => record.health.started = true,
            Finding::Ready(ready) => record.health.ready = ready,
            Finding::Unhealthy(kind, error) => {
                let message = format!("{} probe failed: {error}", kind.name());
                record.health.fail("Unhealthy", message);
            }
            Finding::MustEnd { .. } if stopping => return,
            Finding::MustEnd {
                cause,
                grace_seconds,
            } => {
                record.health.ready = false;
                match cause {
                    EndCause::Probe(kind) => {
                        let probe = kind.name().to_lowercase();
                        let message = format!("Container {} failed {probe} probe", record.name);
                        record.health.fail("Killing", message);
                    }
                    EndCause::PostStart(error) => {
                        let message = format!("PostStartHook failed: {error}");
                        record.health.fail("FailedPostStartHook", message);
                    }
                }
                let grace = grace_seconds.unwrap_or(self.launch.grace_seconds);
                if let Some(at) = self.kill_one_at.get_mut(index) {
                    *at = Some(Instant::now() + Duration::from_secs(grace));
                }
                self.ask_to_end(index, grace);
            }
        }
        self.write();
    }
}
