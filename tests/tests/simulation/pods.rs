//! What becomes of pods whose attempts have ended (spec 05 §4.4).

use flyte_crd::WorkflowPhase;
use flyte_plugins::config::{K8sConfig, PluginsConfig};
use flyte_tests::simulation::{Fault, Plan, Run, Simulation, graphs};

use super::check;

fn simulation(k8s: K8sConfig) -> Simulation {
    let plugins = PluginsConfig {
        k8s,
        ..PluginsConfig::default()
    };
    Simulation::new(graphs::chain()).with_plugins(plugins)
}

fn holding() -> K8sConfig {
    K8sConfig {
        inject_finalizer: true,
        ..K8sConfig::default()
    }
}

fn deleting() -> K8sConfig {
    K8sConfig {
        delete_resource_on_finalize: true,
        ..holding()
    }
}

/// Pods of which the trace has no request of this kind.
fn without(run: &Run, method: &str) -> Vec<String> {
    let mut pods: Vec<_> = run.pods.keys().cloned().collect();
    pods.retain(|pod| {
        let request = format!("{method} /api/v1/namespaces/project-development/pods/{pod}");
        !run.trace.contains(&request)
    });
    pods
}

#[test]
fn the_finalizer_comes_off_when_an_attempt_has_ended() {
    let run = simulation(holding()).run();
    check(&run, "with finalizers");
    assert_eq!(run.phase, WorkflowPhase::Success);
    assert_eq!(without(&run, "PATCH"), [] as [String; 0]);
    assert_eq!(without(&run, "DELETE").len(), run.pods.len());
    let run = simulation(K8sConfig::default()).run();
    assert_eq!(without(&run, "PATCH").len(), run.pods.len());
}

#[test]
fn pods_of_ended_attempts_are_deleted_where_that_is_wanted() {
    let run = simulation(deleting()).run();
    check(&run, "with deletion");
    assert_eq!(run.phase, WorkflowPhase::Success);
    assert_eq!(without(&run, "DELETE"), [] as [String; 0]);
}

#[test]
fn pods_are_released_whatever_goes_wrong() {
    for (case, config, method) in [
        ("held", holding(), "PATCH"),
        ("deleted", deleting(), "DELETE"),
    ] {
        let plain = simulation(config.clone()).run();
        for effect in 1..=plain.effects {
            for fault in [Fault::Fail, Fault::CrashAfter] {
                let what = format!("{case}, {fault:?} at effect {effect}");
                let run = simulation(config.clone())
                    .with(Plan::one(effect, fault))
                    .run();
                check(&run, &what);
                assert_eq!(run.visible(), plain.visible(), "{what}");
                assert_eq!(without(&run, method), [] as [String; 0], "{what}");
            }
        }
    }
}
