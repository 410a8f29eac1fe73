//! Probes of a running container (Kubernetes, `Liveness, Readiness, and Startup Probes`).
//!
//! ```text
//! start ──> postStart ──> startup probe ──> started ──> readiness probe ──> ready or not
//!                              │                    └──> liveness probe ──> restarted when it fails
//!                              └── fails: restarted
//! ```

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::kubelet::record::{ContainerLaunch, Probe};
use crate::supervisor::handler;

/// The probe that a result is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProbeKind {
    Startup,
    Readiness,
    Liveness,
}

impl ProbeKind {
    /// As a kubelet names it in events.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }
}

/// What a probe or hook found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finding {
    /// `postStart` ended well and the startup probe succeeded, if there are any.
    Started,
    /// The readiness probe succeeds, or does not any more.
    Ready(bool),
    /// One attempt of a probe failed; the text is for an event.
    Unhealthy(ProbeKind, String),
    /// The container has to end, within the grace period of the probe if that has its own.
    MustEnd {
        cause: EndCause,
        grace_seconds: Option<u64>,
    },
}

/// Why a container has to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EndCause {
    /// A probe failed as often as it may.
    Probe(ProbeKind),
    /// `postStart` failed; the text says how.
    PostStart(String),
}

/// A finding about one run of a container.
#[derive(Debug)]
pub(super) struct Report {
    /// The container's place in the launch.
    pub(super) index: usize,
    /// Its restarts before this run.
    pub(super) run: u32,
    pub(super) finding: Finding,
}

/// The result of a probe and how often it was seen in a row: it changes when it was seen as often as its threshold says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Results {
    /// The result in force; none before the first.
    current: Option<bool>,
    last: Option<bool>,
    in_a_row: u32,
}

impl Results {
    fn new(current: Option<bool>) -> Self {
        Self {
            current,
            last: None,
            in_a_row: 0,
        }
    }

    /// Counts one attempt; returns the result in force if it is new.
    fn count(&mut self, succeeded: bool, probe: &Probe) -> Option<bool> {
        if self.last == Some(succeeded) {
            self.in_a_row = self.in_a_row.saturating_add(1);
        } else {
            self.last = Some(succeeded);
            self.in_a_row = 1;
        }
        let threshold = if succeeded {
            probe.success_threshold
        } else {
            probe.failure_threshold
        };
        if self.in_a_row < threshold || self.current == Some(succeeded) {
            return None;
        }
        self.current = Some(succeeded);
        Some(succeeded)
    }
}

/// One run of a container that is probed.
pub(super) struct Probing {
    pub(super) launch: Arc<ContainerLaunch>,
    /// Uid of the pod.
    pub(super) uid: String,
    pub(super) index: usize,
    pub(super) run: u32,
    pub(super) reports: mpsc::Sender<Report>,
}

impl Probing {
    /// Runs hook and probes, until the container has to end or nobody listens.
    pub(super) async fn run(self) {
        let begun = Instant::now();
        if let Some(hook) = &self.launch.hooks.post_start
            && let Err(error) = handler::run(hook, &self.launch, &self.uid, None).await
        {
            self.report(Finding::MustEnd {
                cause: EndCause::PostStart(error),
                grace_seconds: None,
            })
            .await;
            return;
        }
        let probes = &self.launch.probes;
        if let Some(startup) = &probes.startup
            && !self.until_started(startup, begun).await
        {
            return;
        }
        if !self.report(Finding::Started).await {
            return;
        }
        let readiness = async {
            match &probes.readiness {
                Some(probe) => self.readiness(probe, begun).await,
                None => drop(self.report(Finding::Ready(true)).await),
            }
        };
        let liveness = async {
            if let Some(probe) = &probes.liveness {
                self.liveness(probe, begun).await;
            }
        };
        tokio::join!(readiness, liveness);
    }

    async fn report(&self, finding: Finding) -> bool {
        let report = Report {
            index: self.index,
            run: self.run,
            finding,
        };
        self.reports.send(report).await.is_ok()
    }

    /// Waits for the time of the next attempt and makes it; says whether it succeeded, or nothing if nobody listens.
    async fn attempt(&self, kind: ProbeKind, probe: &Probe, at: Instant) -> Option<bool> {
        tokio::time::sleep_until(at).await;
        let limit = Duration::from_secs(probe.timeout_seconds.into());
        match handler::run(&probe.handler, &self.launch, &self.uid, Some(limit)).await {
            Ok(()) => Some(true),
            Err(error) => self
                .report(Finding::Unhealthy(kind, error))
                .await
                .then_some(false),
        }
    }

    /// Says whether the container has started.
    async fn until_started(&self, probe: &Probe, begun: Instant) -> bool {
        let mut results = Results::new(None);
        let mut at = first(probe, begun);
        while let Some(succeeded) = self.attempt(ProbeKind::Startup, probe, at).await {
            match results.count(succeeded, probe) {
                Some(true) => return true,
                Some(false) => {
                    self.must_end(ProbeKind::Startup, probe).await;
                    return false;
                }
                None => at = next(probe, at),
            }
        }
        false
    }

    async fn readiness(&self, probe: &Probe, begun: Instant) {
        let mut results = Results::new(Some(false));
        let mut at = first(probe, begun);
        while let Some(succeeded) = self.attempt(ProbeKind::Readiness, probe, at).await {
            if let Some(ready) = results.count(succeeded, probe)
                && !self.report(Finding::Ready(ready)).await
            {
                return;
            }
            at = next(probe, at);
        }
    }

    async fn liveness(&self, probe: &Probe, begun: Instant) {
        let mut results = Results::new(Some(true));
        let mut at = first(probe, begun);
        while let Some(succeeded) = self.attempt(ProbeKind::Liveness, probe, at).await {
            if results.count(succeeded, probe) == Some(false) {
                return self.must_end(ProbeKind::Liveness, probe).await;
            }
            at = next(probe, at);
        }
    }

    async fn must_end(&self, kind: ProbeKind, probe: &Probe) {
        self.report(Finding::MustEnd {
            cause: EndCause::Probe(kind),
            grace_seconds: probe.grace_seconds,
        })
        .await;
    }
}

fn first(probe: &Probe, begun: Instant) -> Instant {
    let delay = Duration::from_secs(probe.initial_delay_seconds.into());
    (begun + delay).max(Instant::now())
}

/// A period after the attempt before, or now if that took longer.
fn next(probe: &Probe, before: Instant) -> Instant {
    (before + Duration::from_secs(probe.period_seconds.into())).max(Instant::now())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::record::Handler;

    fn probe(success_threshold: u32, failure_threshold: u32) -> Probe {
        Probe {
            handler: Handler::Sleep(0),
            initial_delay_seconds: 0,
            period_seconds: 1,
            timeout_seconds: 1,
            success_threshold,
            failure_threshold,
            grace_seconds: None,
        }
    }

    #[test]
    fn a_result_changes_when_it_was_seen_as_often_as_its_threshold_says() {
        let (yes, no, same) = (Some(true), Some(false), None);
        for (case, before, thresholds, attempts, expected) in [
            (
                "readiness succeeds at once",
                Some(false),
                (1, 3),
                "+",
                vec![yes],
            ),
            (
                "readiness takes two",
                Some(false),
                (2, 3),
                "++",
                vec![same, yes],
            ),
            (
                "a failure between begins anew",
                Some(false),
                (2, 3),
                "+-++",
                vec![same, same, same, yes],
            ),
            (
                "liveness fails at the third",
                Some(true),
                (1, 3),
                "---",
                vec![same, same, no],
            ),
            (
                "a success between begins anew",
                Some(true),
                (1, 2),
                "-+--",
                vec![same, same, same, no],
            ),
            (
                "a result in force is not news",
                Some(true),
                (1, 1),
                "++-",
                vec![same, same, no],
            ),
            (
                "ready, unready, ready",
                Some(false),
                (1, 1),
                "+-+",
                vec![yes, no, yes],
            ),
            (
                "startup knows nothing before",
                None,
                (1, 2),
                "-+",
                vec![same, yes],
            ),
            ("startup fails", None, (1, 2), "--", vec![same, no]),
        ] {
            let probe = probe(thresholds.0, thresholds.1);
            let mut results = Results::new(before);
            let found: Vec<_> = attempts
                .chars()
                .map(|attempt| results.count(attempt == '+', &probe))
                .collect();
            assert_eq!(found, expected, "{case}");
        }
    }
}
