//! The life of a pod's containers as decisions over its record: who starts next, who is restarted, how the pod ended
//! (Kubernetes: pod lifecycle).
//!
//! ```text
//!   init containers and sidecars, one after the other ──> main containers, together ──all ended──> sidecars are stopped
//!        init container: has ended with 0
//!        sidecar:        has started
//! ```

use std::time::Duration;

use crate::kubelet::record::{ContainerRecord, ContainerState, Outcome, RestartPolicy, Role};

/// Restarts wait 10 s, doubling up to 5 min, as a kubelet's do.
const FIRST_RESTART: Duration = Duration::from_secs(10);
const LONGEST_RESTART: Duration = Duration::from_mins(5);

/// What is to be done for a pod that nobody has asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The container at this place in the launch is started.
    Start(usize),
    /// What runs is ended: an init container failed, or only sidecars are left.
    Stop,
    /// Something runs, or waits for its restart.
    Wait,
    /// Nothing runs or will run.
    Over,
}

/// Decides by the records of the containers, in the order of the launch; `is_due` says whether the one at a place may be
/// started now, if it waits.
pub(super) fn next(containers: &[ContainerRecord], is_due: impl Fn(usize) -> bool) -> Next {
    for (index, container) in containers.iter().enumerate() {
        if matches!(container.state, ContainerState::Waiting { .. }) && is_due(index) {
            return Next::Start(index);
        }
        let passed = match (&container.state, container.role) {
            (ContainerState::Terminated(ended), Role::Init) if ended.exit_code != 0 => {
                return Next::Stop;
            }
            (ContainerState::Terminated(_), Role::Init) | (_, Role::Main) => true,
            (_, Role::Init) => false,
            (_, Role::Sidecar) => container.has_started(),
        };
        if !passed {
            return Next::Wait;
        }
    }
    let any_running = containers
        .iter()
        .any(|container| matches!(container.state, ContainerState::Running { .. }));
    let mut mains = containers
        .iter()
        .filter(|container| container.role == Role::Main);
    match mains.all(|main| matches!(main.state, ContainerState::Terminated(_))) {
        false => Next::Wait,
        true if any_running => Next::Stop,
        true => Next::Over,
    }
}

/// Whether a container of a pod that is not being stopped runs again after this end.
pub(super) fn restarts(role: Role, policy: RestartPolicy, exit_code: i32) -> bool {
    match (role, policy) {
        (Role::Sidecar, _) | (Role::Main, RestartPolicy::Always) => true,
        (Role::Main, RestartPolicy::OnFailure)
        | (Role::Init, RestartPolicy::Always | RestartPolicy::OnFailure) => exit_code != 0,
        (Role::Main | Role::Init, RestartPolicy::Never) => false,
    }
}

/// How long a container waits that has been restarted so many times.
pub(super) fn back_off(restarts: u32) -> Duration {
    FIRST_RESTART
        .saturating_mul(1 << restarts.min(6))
        .min(LONGEST_RESTART)
}

/// Decides how the pod ended; `reason` is that of its stop, if it was not the pod's own end. What waited for a restart has
/// ended as it did last.
pub(super) fn end(containers: &mut [ContainerRecord], reason: Option<(String, String)>) -> Outcome {
    for container in &mut *containers {
        if let (ContainerState::Waiting { .. }, Some(last)) = (&container.state, &container.last) {
            container.state = ContainerState::Terminated(last.clone());
        }
    }
    let succeeded = reason.is_none()
        && containers
            .iter()
            .all(|container| match (&container.state, container.role) {
                // A sidecar is ended by us; how does not matter.
                (_, Role::Sidecar) => true,
                (ContainerState::Terminated(ended), _) => ended.exit_code == 0,
                _ => false,
            });
    if succeeded {
        Outcome::Succeeded
    } else {
        Outcome::Failed(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::processes::ProcessIdentity;
    use crate::kubelet::record::{Health, Terminated};

    /// A container in one letter and its state in another: `i`, `s` or `m` for init, sidecar and main; `w`aits, `b`acks off,
    /// `r`uns, runs and is `u`p, ended `0` or `1`.
    fn containers(text: &str) -> Vec<ContainerRecord> {
        text.split_whitespace().map(container).collect()
    }

    fn ended(exit_code: i32) -> Terminated {
        Terminated {
            exit_code,
            signal: None,
            reason: String::new(),
            message: String::new(),
            started_at: String::new(),
            finished_at: String::new(),
        }
    }

    fn container(text: &str) -> ContainerRecord {
        let (role, state) = text.split_at(1);
        let waiting = || ContainerState::Waiting {
            reason: String::new(),
            message: String::new(),
        };
        let (found, last) = match state {
            "w" => (waiting(), None),
            "b" => (waiting(), Some(ended(1))),
            "r" | "u" => {
                let process = ProcessIdentity {
                    pid: 7,
                    start_time: 1,
                    boot: String::new(),
                };
                let started_at = String::new();
                (
                    ContainerState::Running {
                        process,
                        started_at,
                    },
                    None,
                )
            }
            code => (
                ContainerState::Terminated(ended(code.parse().unwrap())),
                None,
            ),
        };
        ContainerRecord {
            name: text.to_owned(),
            role: match role {
                "i" => Role::Init,
                "s" => Role::Sidecar,
                _ => Role::Main,
            },
            state: found,
            restarts: u32::from(last.is_some()),
            last,
            health: Health {
                started: state == "u",
                ..Health::default()
            },
        }
    }

    #[test]
    fn containers_start_in_their_order_and_the_pod_ends_with_the_main_ones() {
        for (case, text, expected) in [
            ("the first init container", "iw iw mw", Next::Start(0)),
            ("an init container runs", "ir iw mw", Next::Wait),
            ("an init container has ended", "i0 iw mw", Next::Start(1)),
            ("an init container failed", "i1 iw mw", Next::Stop),
            ("an init container backs off", "ib iw mw", Next::Wait),
            ("init containers are over", "i0 i0 mw mw", Next::Start(2)),
            ("main containers start together", "i0 mr mw", Next::Start(2)),
            (
                "one of the main containers could not start",
                "m1 mw",
                Next::Start(1),
            ),
            (
                "a sidecar starts before what is behind it",
                "sw iw mw",
                Next::Start(0),
            ),
            ("a sidecar is not up", "sr iw mw", Next::Wait),
            ("a sidecar is up", "su iw mw", Next::Start(1)),
            ("a sidecar was up and backs off", "sb mw", Next::Start(1)),
            (
                "an init container failed beside a sidecar",
                "su i1 mw",
                Next::Stop,
            ),
            ("main containers run", "su mr mr", Next::Wait),
            (
                "one of the main containers has ended",
                "su m0 mr",
                Next::Wait,
            ),
            ("one of the main containers backs off", "m0 mb", Next::Wait),
            ("only a sidecar is left", "su m0 m1", Next::Stop),
            ("all have ended", "m0 m1", Next::Over),
            ("all have ended, and a sidecar too", "s1 m0", Next::Over),
            (
                "all have ended, and a sidecar backs off",
                "sb m0",
                Next::Over,
            ),
        ] {
            let containers = containers(text);
            // Those that back off are not due.
            let is_due = |index: usize| containers[index].last.is_none();
            assert_eq!(next(&containers, is_due), expected, "{case}");
        }
        assert_eq!(
            next(&containers("mb m0"), |_| true),
            Next::Start(0),
            "its time has come"
        );
    }

    #[test]
    fn who_is_restarted_follows_from_role_and_policy() {
        use RestartPolicy::{Always, Never, OnFailure};
        for (role, policy, after_0, after_1) in [
            (Role::Main, Always, true, true),
            (Role::Main, OnFailure, false, true),
            (Role::Main, Never, false, false),
            (Role::Init, Always, false, true),
            (Role::Init, OnFailure, false, true),
            (Role::Init, Never, false, false),
            (Role::Sidecar, Always, true, true),
            (Role::Sidecar, OnFailure, true, true),
            (Role::Sidecar, Never, true, true),
        ] {
            let found = (restarts(role, policy, 0), restarts(role, policy, 1));
            assert_eq!(found, (after_0, after_1), "{role:?} {policy:?}");
        }
        let waits = (0..7).map(|restarts| back_off(restarts).as_secs());
        assert_eq!(waits.collect::<Vec<_>>(), [10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(back_off(u32::MAX), LONGEST_RESTART);
    }

    #[test]
    fn a_pod_succeeds_when_all_but_its_sidecars_did() {
        let deadline = || Some(("DeadlineExceeded".to_owned(), String::new()));
        for (case, text, reason, expected) in [
            ("all did", "i0 m0 m0", None, Outcome::Succeeded),
            ("a sidecar did not", "s1 m0", None, Outcome::Succeeded),
            ("one failed", "m0 m1", None, Outcome::Failed(None)),
            ("one never ran", "i1 mw", None, Outcome::Failed(None)),
            (
                "one waited for a restart",
                "mb",
                None,
                Outcome::Failed(None),
            ),
            (
                "stopped after all did",
                "m0",
                deadline(),
                Outcome::Failed(deadline()),
            ),
        ] {
            assert_eq!(end(&mut containers(text), reason), expected, "{case}");
        }
        let mut waited = containers("mb");
        end(&mut waited, None);
        assert_eq!(waited[0].state, ContainerState::Terminated(ended(1)));
    }
}
