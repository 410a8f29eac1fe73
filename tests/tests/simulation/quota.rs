//! Pods that a namespace has no room for wait, and are called when there is some (spec 05 §4.6).

use std::time::Duration;

use flyte_crd::WorkflowPhase;
use flyte_plugins::config::{BackoffConfig, PluginsConfig};
use flyte_tests::simulation::{Fault, Plan, Refusal, Run, Simulation, graphs};

use super::check;

/// Pods that were asked for.
fn asked(run: &Run) -> usize {
    run.trace
        .iter()
        .filter(|effect| effect.starts_with("POST") && effect.ends_with("/pods"))
        .count()
}

#[test]
fn tasks_wait_for_a_quota_and_come_in_as_pods_end() {
    let free = Simulation::new(graphs::slow(12)).run();
    let run = Simulation::new(graphs::slow(12)).with_quota(2).run();
    check(&run, "two at a time");
    assert_eq!(run.phase, WorkflowPhase::Success);
    assert_eq!(run.visible(), free.visible());
    // Six times two minutes; nobody waits for a timer while pods end.
    let longest = Duration::from_secs(6 * 120 + 5);
    assert!(run.elapsed < longest, "{:?}", run.elapsed);
    // All ask at the beginning. In each of the five times two minutes that follow, ten ask as time goes by, and for
    // each of two pods that end one that is created and two that ask whether there is more room.
    assert!(asked(&run) <= 12 + 5 * (10 + 2 * 3) + 1, "{}", asked(&run));
}

#[test]
fn waiting_for_a_quota_survives_every_crash() {
    let simulate = || Simulation::new(graphs::layers(3, 1)).with_quota(1);
    let plain = simulate().run();
    check(&plain, "one at a time");
    for effect in 1..=plain.effects {
        let what = format!("a crash after effect {effect}");
        let plan = Plan::one(effect, Fault::CrashAfter);
        let run = simulate().with(plan).run();
        check(&run, &what);
        assert_eq!(run.visible(), plain.visible(), "{what}");
    }
}

#[test]
fn runs_with_a_quota_are_the_same_for_the_same_seed() {
    for seed in 0..10 {
        let run = || {
            Simulation::new(graphs::random(seed))
                .with_quota(1)
                .with(Plan::random(seed, 2, 40))
                .run()
        };
        let (one, other) = (run(), run());
        check(&one, &format!("seed {seed}"));
        assert_eq!(one.trace, other.trace, "seed {seed}");
    }
}

#[test]
fn a_task_waits_no_longer_than_it_may() {
    let run = Simulation::new(graphs::impatient("90s", 1))
        .with_quota(0)
        .run();
    check(&run, "no room at all");
    let visible = run.visible();
    assert_eq!(visible.workflow.0, "FAILED");
    assert_eq!(
        visible.nodes.get("n0").map(String::as_str),
        Some("FAILED"),
        "more is asked than is allowed"
    );
    let full = Refusal {
        code: 403,
        reason: "Forbidden",
        message: "pods \"a\" is forbidden: exceeded quota: q, requested: limits.cpu=1, used: limits.cpu=8, limited: limits.cpu=8",
    };
    let run = Simulation::new(graphs::impatient("90s", 1))
        .refusing_pods(vec![full; 100])
        .run();
    check(&run, "never any room");
    let visible = run.visible();
    assert_eq!(
        visible.workflow,
        ("FAILED".to_owned(), "Timeout".to_owned())
    );
    assert_eq!(
        visible.nodes.get("n0").map(String::as_str),
        Some("TIMED_OUT")
    );
    // At 0, 1, 3, 7, 15 and 31 seconds and then every 20.
    assert_eq!(asked(&run), 8, "{:?}", run.trace);
    assert!(run.elapsed < Duration::from_secs(95), "{:?}", run.elapsed);
}

#[test]
fn refusals_end_a_task_or_let_it_wait() {
    let refusal = |code, reason, message| Refusal {
        code,
        reason,
        message,
    };
    let quota = "pods \"a\" is forbidden: exceeded quota: q, requested: requests.nvidia.com/gpu=1,limits.cpu=1500m, used: requests.nvidia.com/gpu=8,limits.cpu=2, limited: requests.nvidia.com/gpu=8,limits.cpu=3";
    let hopeless = "pods \"a\" is forbidden: exceeded quota: q, requested: limits.ephemeral-storage=20Gi, used: limits.ephemeral-storage=0, limited: limits.ephemeral-storage=10Gi";
    for (case, refusals, base_second, ends, error, least_seconds) in [
        (
            "quota",
            vec![refusal(403, "Forbidden", quota); 3],
            2,
            "SUCCEEDED",
            "",
            7,
        ),
        (
            "throttled",
            vec![refusal(429, "TooManyRequests", "too many requests")],
            2,
            "SUCCEEDED",
            "",
            1,
        ),
        (
            "slow",
            vec![refusal(500, "ServerTimeout", "try again")],
            2,
            "SUCCEEDED",
            "",
            1,
        ),
        (
            "etcd",
            vec![refusal(
                403,
                "Forbidden",
                "pods \"a\" is forbidden: etcdserver: leader changed",
            )],
            2,
            "SUCCEEDED",
            "",
            1,
        ),
        (
            "larger than the quota",
            vec![refusal(403, "Forbidden", hopeless)],
            2,
            "FAILED",
            "ResourceRequestsExceedLimits",
            0,
        ),
        (
            "nobody waits",
            vec![refusal(403, "Forbidden", quota)],
            0,
            "FAILED",
            "RetriesExhausted|RuntimeFailure",
            0,
        ),
        (
            "throttled, nobody waits",
            vec![refusal(429, "TooManyRequests", "too many requests")],
            0,
            "SUCCEEDED",
            "",
            0,
        ),
    ] {
        let mut plugins = PluginsConfig::default();
        plugins.tasks.backoff = BackoffConfig {
            base_second,
            ..BackoffConfig::default()
        };
        let run = Simulation::new(graphs::impatient("1h", 1))
            .refusing_pods(refusals)
            .with_plugins(plugins)
            .run();
        check(&run, case);
        assert_eq!(
            run.visible().workflow,
            (ends.to_owned(), error.to_owned()),
            "{case}"
        );
        let (least, most) = (
            Duration::from_secs(least_seconds),
            Duration::from_secs(least_seconds + 1),
        );
        assert!(
            run.elapsed >= least && run.elapsed < most,
            "{case}: {:?}",
            run.elapsed
        );
    }
}
