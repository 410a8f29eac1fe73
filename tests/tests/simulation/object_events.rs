//! What the cluster says about pods reaches admin as reasons of their tasks (spec 05 §4.7).

use flyte_crd::WorkflowPhase;
use flyte_plugins::config::PluginsConfig;
use flyte_tests::simulation::{Fault, NOTES, Plan, Simulation, graphs};

use super::check;

fn simulation(send_object_events: bool) -> Simulation {
    let mut plugins = PluginsConfig::default();
    plugins.k8s.send_object_events = send_object_events;
    Simulation::new(graphs::slow(2)).with_plugins(plugins)
}

#[test]
fn each_event_of_a_pod_becomes_a_reason_of_its_task() {
    let run = simulation(true).run();
    check(&run, "with events");
    assert_eq!(run.phase, WorkflowPhase::Success);
    let reasons = run.records.reasons();
    assert_eq!(reasons.len(), 3);
    for (attempt, reasons) in reasons {
        let mut text = reasons.clone();
        text.retain(|reason| NOTES.contains(&reason.as_str()));
        assert_eq!(text, NOTES, "{attempt}: {reasons:?}");
        assert_eq!(reasons[0], "task submitted to K8s", "{attempt}");
        let mut different = reasons.clone();
        different.dedup();
        assert_eq!(different, reasons, "{attempt}: something was said twice");
    }
}

#[test]
fn nobody_asks_for_events_unless_they_are_sent() {
    let run = simulation(false).run();
    check(&run, "without events");
    assert_eq!(run.phase, WorkflowPhase::Success);
    for (attempt, reasons) in run.records.reasons() {
        assert!(
            !reasons
                .iter()
                .any(|reason| NOTES.contains(&reason.as_str())),
            "{attempt}: {reasons:?}"
        );
    }
    assert!(
        !run.reads.iter().any(|path| path.contains("/events")),
        "{:?}",
        run.reads
    );
    let run = simulation(true).run();
    let watches: Vec<_> = run
        .reads
        .iter()
        .filter(|path| path.contains("/events"))
        .collect();
    assert!(
        watches
            .iter()
            .all(|path| path.starts_with("/apis/events.k8s.io/v1/events?")
                && path.contains("fieldSelector=regarding.kind%3DPod")),
        "{watches:?}"
    );
    assert!(!watches.is_empty());
}

#[test]
fn events_of_pods_survive_every_crash() {
    let plain = simulation(true).run();
    let mut restarts = 0;
    for effect in 1..=plain.effects {
        let what = format!("a crash after effect {effect}");
        let run = simulation(true)
            .with(Plan::one(effect, Fault::CrashAfter))
            .run();
        check(&run, &what);
        assert_eq!(run.visible(), plain.visible(), "{what}");
        restarts += run.restarts;
        for (attempt, reasons) in run.records.reasons() {
            for note in NOTES {
                assert!(
                    reasons.iter().any(|reason| reason == note),
                    "{what}, {attempt}: {reasons:?}"
                );
            }
        }
    }
    assert_eq!(u64::from(restarts), plain.effects);
}
