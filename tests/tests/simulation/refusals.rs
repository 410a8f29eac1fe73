//! Requests that are refused for ever or never answered: the workflow ends or can be ended, and its neighbours do not notice.

use std::time::Duration;

use flyte_crd::WorkflowPhase;
use flyte_tests::simulation::{Answer, Outside, Refusal, Rule, Simulation, graphs};

const FOR_EVER: usize = usize::MAX;
/// A webhook that is down.
const WEBHOOK: Refusal = Refusal {
    code: 500,
    reason: "InternalError",
    message: "Internal error occurred: failed calling webhook \"pods.example.com\"",
};

fn rule(method: &'static str, path: &'static str, count: usize, answer: Answer) -> Vec<Rule> {
    vec![Rule {
        method,
        path,
        count,
        answer,
    }]
}

#[test]
fn neighbours_whose_pods_are_never_taken_are_not_noticed() {
    let alone = Simulation::new(graphs::taking(10))
        .settling(Duration::ZERO)
        .run();
    let noisy = (0..22)
        .map(|index| graphs::neighbour(graphs::waiting(30), &format!("noisy{index}")))
        .collect();
    let run = Simulation::new(graphs::taking(10))
        .settling(Duration::ZERO)
        .beside(noisy)
        .ruled(rule(
            "POST",
            "/namespaces/noisy-development/pods",
            FOR_EVER,
            Answer::Refuse(WEBHOOK),
        ))
        .run();
    assert_eq!(run.phase, WorkflowPhase::Success);
    let most = alone.elapsed + alone.elapsed / 10 + Duration::from_secs(1);
    assert!(
        run.elapsed <= most,
        "{:?} beside neighbours, {:?} alone",
        run.elapsed,
        alone.elapsed
    );
    // Each pod once, and then their namespace fifty times a second, after fifty at once.
    let seconds = usize::try_from(run.elapsed.as_secs()).unwrap_or(usize::MAX) + 1;
    let most = 22 * 30 + 50 * (seconds + 1);
    assert!(run.refused <= most, "{} requests refused", run.refused);
}

#[test]
fn a_workflow_whose_pods_are_never_taken_can_be_terminated() {
    let run = Simulation::new(graphs::waiting(2))
        .ruled(rule("POST", "/pods", FOR_EVER, Answer::Refuse(WEBHOOK)))
        .deleted_after(6)
        .run();
    assert_eq!(run.records.workflow().0, "ABORTED");
    assert_eq!(run.records.open(), [""; 0]);
}

/// The workflow whose every pod is answered like this fails, with the words of the API server.
fn fails_in_its_words(code: u16, reason: &'static str) {
    let refusal = Refusal {
        code,
        reason,
        message: "a rule of this cluster",
    };
    let run = Simulation::new(graphs::chain())
        .ruled(rule("POST", "/pods", FOR_EVER, Answer::Refuse(refusal)))
        .attempt()
        .unwrap_or_else(|why| panic!("{code}: {why}"));
    assert_eq!(run.phase, WorkflowPhase::Failed, "{code}");
    let message = run.status["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains(refusal.message), "{code}: {message:?}");
}

#[test]
fn a_pod_that_is_refused_for_good_fails_its_workflow() {
    for (code, reason) in [(400, "BadRequest"), (403, "Forbidden"), (422, "Invalid")] {
        fails_in_its_words(code, reason);
    }
}

#[test]
fn a_pod_for_which_there_is_no_place_fails_its_workflow_when_tries_are_used_up() {
    for (code, reason) in [(404, "NotFound"), (500, "InternalError")] {
        fails_in_its_words(code, reason);
    }
}

#[test]
fn a_write_of_a_status_that_is_refused_for_a_while_is_made_again() {
    for (code, reason) in [
        (400, "BadRequest"),
        (403, "Forbidden"),
        (422, "Invalid"),
        (500, "InternalError"),
    ] {
        let refusal = Refusal {
            code,
            reason,
            message: "a rule of this cluster",
        };
        let answer = Answer::Refuse(refusal);
        let run = Simulation::new(graphs::chain())
            .ruled(rule("PATCH", "/flyteworkflows/", 4, answer))
            .attempt()
            .unwrap_or_else(|why| panic!("{code}: {why}"));
        assert_eq!(run.phase, WorkflowPhase::Success, "{code}");
        assert_eq!(run.doubles(), [""; 0], "{code}");
    }
}

#[test]
fn a_pod_without_labels_and_owner_is_found_by_its_name() {
    let run = Simulation::new(graphs::taking(10)).run();
    let created = run.trace.iter().position(|effect| effect.contains("/pods"));
    let created =
        u64::try_from(created.expect("a pod is created")).expect("there are few effects") + 1;
    let stripped = Simulation::new(graphs::taking(10))
        .with_outside(created, Outside::StripPods)
        .run();
    assert_eq!(stripped.phase, WorkflowPhase::Success);
    assert_eq!(stripped.visible(), run.visible());
    assert_eq!(stripped.doubles(), [""; 0]);
}

/// A router that has lost its way, or an API server in whose discovery the kind is missing for a moment: it says nothing
/// about the object, whose end it must not be taken for.
#[test]
fn a_404_that_is_not_about_the_object_is_asked_again() {
    let stray = Answer::Refuse(Refusal {
        code: 404,
        reason: "",
        message: "404 page not found",
    });
    for (method, path, deleted) in [
        ("GET", "/flyteworkflows/run", false),
        ("PATCH", "/flyteworkflows/", false),
        ("PATCH", "/flyteworkflows/", true),
        ("GET", "/pods/", true),
        ("PATCH", "/pods/", true),
        ("DELETE", "/pods/", true),
    ] {
        let what = format!("{method} {path}, deleted: {deleted}");
        let mut simulation = Simulation::new(graphs::chain());
        if deleted {
            simulation = Simulation::new(graphs::endless()).deleted_after(12);
        }
        let run = simulation
            .ruled(rule(method, path, 2, stray))
            .attempt()
            .unwrap_or_else(|why| panic!("{what}: {why}"));
        let expected = if deleted {
            WorkflowPhase::Aborted
        } else {
            WorkflowPhase::Success
        };
        assert_eq!(run.phase, expected, "{what}");
        assert_eq!(run.left, [""; 0], "{what}: pods still run");
        assert_eq!(run.records.open(), [""; 0], "{what}: still open");
        assert_eq!(run.doubles(), [""; 0], "{what}: an attempt ran twice");
    }
}

/// The request is made again when its answer does not come.
fn is_made_again(method: &'static str, path: &'static str) {
    let run = Simulation::new(graphs::chain())
        .ruled(rule(method, path, 1, Answer::Hang))
        .run();
    assert_eq!(run.phase, WorkflowPhase::Success);
    assert!(run.elapsed <= Duration::from_secs(300), "{:?}", run.elapsed);
}

#[test]
fn a_creation_of_a_pod_that_is_never_answered_is_made_again() {
    is_made_again("POST", "/pods");
}

#[test]
fn a_write_of_a_status_that_is_never_answered_is_made_again() {
    is_made_again("PATCH", "/flyteworkflows/");
}

#[test]
fn a_look_at_a_workflow_that_is_never_answered_is_made_again() {
    is_made_again("GET", "/flyteworkflows/run");
}

#[test]
fn a_list_of_pods_that_is_never_answered_is_made_again() {
    is_made_again("GET", "/pods");
}

#[test]
fn a_list_of_workflows_that_is_never_answered_is_made_again() {
    is_made_again("GET", "/flyteworkflows");
}
