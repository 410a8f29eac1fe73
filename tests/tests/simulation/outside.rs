//! What others do to resources and pods while a workflow runs: it ends as it should all the same.

use std::time::Duration;

use flyte_crd::WorkflowPhase;
use flyte_tests::simulation::{Beginning, Outside, Simulation, graphs};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::check;

/// A task that takes some time; other things happen in the middle of it, before and after.
fn workflow() -> Simulation {
    Simulation::new(graphs::taking(10))
}

#[test]
fn a_workflow_without_labels_goes_on() {
    let plain = workflow().run();
    for effects in 1..=plain.effects {
        let run = workflow()
            .with_outside(effects, Outside::StripWorkflow)
            .run();
        let what = format!("labels removed after {effects}");
        check(&run, &what);
        assert_eq!(run.phase, WorkflowPhase::Success, "{what}");
        assert_eq!(run.visible(), plain.visible(), "{what}");
    }
}

/// The other resource has another UID. That the first is gone is not said of it: it is looked at by itself, and ended, since
/// the execution, whose resource was removed, was ABORTED.
#[test]
fn another_workflow_of_the_same_name_is_brought_to_its_own_end() {
    let plain = workflow().run();
    let mut aborted = 0;
    for effects in 1..plain.effects {
        let run = workflow().with_outside(effects, Outside::Replace).run();
        let what = format!("replaced after {effects}");
        assert_eq!(run.left, [""; 0], "{what}: pods still run");
        assert_eq!(run.records.open(), [""; 0], "{what}: still open");
        let phase = run.status["phase"].as_i64().map(WorkflowPhase::from);
        if run.records.workflow().0 == "ABORTED" {
            let message = run.status["message"].as_str().unwrap_or_default();
            let why = "already in terminal state";
            assert!(message.contains(why), "{what}: {message}");
            assert_eq!(phase, Some(WorkflowPhase::Failed), "{what}");
            aborted += 1;
        } else {
            // The first had told its end: the second does over what that did.
            assert_eq!(run.records.workflow(), plain.records.workflow(), "{what}");
            assert!(
                phase.is_some_and(WorkflowPhase::is_terminal),
                "{what}: {phase:?}"
            );
        }
    }
    assert!(aborted > 8, "{aborted} were replaced before their end");
}

/// Nothing tells it but a list in which the resource is missing.
#[test]
fn a_workflow_that_went_while_no_watch_showed_it_is_ended() {
    for (what, simulation) in [
        ("a chain", workflow as fn() -> Simulation),
        ("endless tasks", || Simulation::new(graphs::endless())),
    ] {
        let most = if what == "a chain" {
            workflow().run().effects
        } else {
            12
        };
        let mut aborted = 0;
        for effects in 1..most {
            let run = simulation()
                .with_outside(effects, Outside::RemoveUnwatched)
                .run();
            let what = format!("{what}, removed after {effects}");
            assert_eq!(run.left, [""; 0], "{what}: pods still run");
            assert_eq!(run.records.open(), [""; 0], "{what}: still open");
            assert_eq!(run.doubles(), [""; 0], "{what}: an attempt ran twice");
            aborted += u32::from(run.records.workflow().0 == "ABORTED");
        }
        assert!(
            aborted > 8,
            "{what}: {aborted} were removed before their end"
        );
    }
}

#[test]
fn nothing_runs_on_when_finalizers_are_removed_during_an_abort() {
    let endless = || Simulation::new(graphs::endless());
    for effects in 4..=12 {
        for later in 0..=3 {
            let run = endless()
                .deleted_after(effects)
                .with_outside(effects + later, Outside::RemoveFinalizers)
                .run();
            let what = format!("deleted after {effects}, without finalizers {later} later");
            assert_eq!(run.left, [""; 0], "{what}: pods still run");
            assert_eq!(run.doubles(), [""; 0], "{what}: an attempt ran twice");
            assert_eq!(run.phase, WorkflowPhase::Aborted, "{what}");
        }
    }
}

/// A task may write what it likes, and what it wrote must be seen: in the status, which the API server takes up to 1.5 MB,
/// and in events, which admin takes up to 4 MiB.
#[test]
fn an_error_of_megabytes_is_cut_where_it_is_told() {
    for spilling in [false, true] {
        let simulation = Simulation::new(graphs::of("error:3500000")).with_admin_taking(1 << 20);
        let run = if spilling {
            simulation.spilling_beyond(0)
        } else {
            simulation
        }
        .run();
        check(&run, "a long error");
        assert_eq!(run.phase, WorkflowPhase::Failed);
        assert_eq!(run.records.nodes()["n0"], "FAILED");
        let message = run.status["error"]["message"].as_str().unwrap_or_default();
        assert!(message.len() < 110_000, "{} bytes", message.len());
        for part in ["the beginning of ", "<Message Truncated>", " and its end"] {
            assert!(message.contains(part), "no {part:?}");
        }
        let status = run.status.to_string().len();
        assert!(status < 400_000, "the status has {status} bytes");
    }
}

/// What waits for admin goes on soon after it is back.
#[test]
fn a_workflow_goes_on_soon_after_admin_is_back() {
    let plain = workflow().settling(Duration::ZERO).run();
    let away = Duration::from_secs(25);
    for effects in 1..plain.effects {
        let run = workflow()
            .settling(Duration::ZERO)
            .with_admin_away(effects, away)
            .run();
        let what = format!("admin was away after {effects}");
        check(&run, &what);
        assert_eq!(run.visible(), plain.visible(), "{what}");
        // A wait between two tries is at most five seconds, a write comes within a second.
        let most = plain.elapsed + away + Duration::from_secs(7);
        assert!(run.elapsed <= most, "{what}: {:?}", run.elapsed);
    }
}

/// A phase that somebody wrote into the status is no news for admin: it is told before the resource is let go.
#[test]
fn a_phase_set_by_hand_is_told() {
    let plain = workflow().run();
    for (phase, early, code) in [
        (WorkflowPhase::Success, "FAILED", "IllegalStateError"),
        (WorkflowPhase::Failed, "FAILED", "RuntimeExecutionError"),
        (WorkflowPhase::Aborted, "ABORTED", ""),
    ] {
        let mut told = 0;
        for effects in 1..=plain.effects {
            let run = workflow()
                .with_outside(effects, Outside::SetPhase(phase))
                .run();
            let what = format!("{phase:?} set after {effects}");
            check(&run, &what);
            let workflow = run.records.workflow();
            if workflow == (early.to_owned(), code.to_owned()) {
                told += 1;
            } else {
                // All nodes had ended.
                assert_eq!(workflow, plain.records.workflow(), "{what}");
            }
        }
        assert!(told > 8, "{phase:?}: {told} were told");
    }
}

#[test]
fn a_pod_of_another_workflow_is_neither_taken_nor_deleted() {
    // Node `n0-n0` of execution `run` and node `n0` of execution `run-n0` have pods of one name.
    let theirs: Pod = serde_json::from_value(json!({
        "metadata": {
            "name": "run-n0-0",
            "ownerReferences": [{
                "apiVersion": "flyte.lyft.com/v1alpha1", "kind": "flyteworkflow", "name": "theirs", "uid": "theirs",
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": { "containers": [{ "name": "c", "image": "i", "args": ["stay", ""] }] },
    }))
    .unwrap();
    let run = Simulation::new(graphs::of("ok"))
        .resuming(Beginning {
            pods: vec![theirs],
            ..Beginning::default()
        })
        .run();
    assert_eq!(run.phase, WorkflowPhase::Failed);
    let message = &run.records.error_messages()["n0"];
    assert!(
        message.contains("belongs to flyteworkflow \"theirs\""),
        "{message}"
    );
    assert_eq!(run.left, ["run-n0-0"]);
}
