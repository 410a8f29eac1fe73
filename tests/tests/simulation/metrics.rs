//! What the engine counts, and whether it has the names of Go's single binary.

use std::collections::{BTreeMap, BTreeSet};

use flyte_crd::WorkflowPhase;
use flyte_plugins::config::PluginsConfig;
use flyte_tests::simulation::{Fault, Outside, Plan, Refusal, Run, Simulation, graphs};

/// Names that Go has and this does not, as beginnings after `flyte:propeller:all:`, and why.
const LEFT_OUT: [(&str, &str); 22] = [
    ("admin_launcher:", "launch plans come with a later issue"),
    ("async_catalog:", CACHING),
    ("discovery_", CACHING),
    ("reservation_", CACHING),
    ("build_dynamic_workflow_us", DYNAMIC),
    ("dynamic_workflow_cache_hit_us", DYNAMIC),
    ("cache_miss", DYNAMIC),
    (
        "node:k8s_array:",
        "legacy map tasks come with a later issue",
    ),
    (
        "node:recovery_duration",
        "recovery comes with a later issue",
    ),
    (
        "round:closure_read",
        "offloaded closures come with a later issue",
    ),
    (
        "round:abort_error",
        "what ends a workflow is tried until it works",
    ),
    ("round:deepcopy_ms", "nothing is copied"),
    ("sub_", "wake-ups by pods go into the one queue"),
    ("collector:collection_cycle_ms", LEVELS),
    ("node:container:container:k8s_collection_cycle_ms", LEVELS),
    (
        "event_sink:admin:filter:",
        "events are not filtered: none is sent twice but after a crash",
    ),
    (
        "kube_filter:",
        "objects are created once, and a repetition is answered by the API server",
    ),
    ("terminated_filter:", STORE),
    ("wf_evict", STORE),
    ("wf_redundant", STORE),
    (
        "metastore:copy:",
        "blobs are copied by reading and writing, which is counted",
    ),
    ("metastore:marshal_", ENCODED),
];

const CACHING: &str = "caching comes with a later issue";
const DYNAMIC: &str = "dynamic workflows come with a later issue";
const LEVELS: &str = "levels are counted as they change, not in cycles";
const STORE: &str =
    "the engine owns a workflow: there is no cache of resources that could be stale";
const ENCODED: &str = "messages are encoded before the store sees them, and that cannot fail";

/// Names that this has and the recording does not, after `flyte:propeller:all:`, and why.
const ADDED: [(&str, &str); 28] = [
    ("gc_latency_ms", FIRST),
    ("gc_success", FIRST),
    (
        "metastore:delete",
        "node statuses that were kept in a blob are deleted",
    ),
    (
        "metastore:delete_ms",
        "node statuses that were kept in a blob are deleted",
    ),
    ("metastore:read_failure", FAULTS),
    ("metastore:write_failure", FAULTS),
    ("node:container:container:task_pod_errors", FAULTS),
    ("node:container:container:pods_deleted", FAULTS),
    ("node:container:container:clear_finalizers_failures", FAULTS),
    ("node:container:container:get_cache_miss_ms", NEVER),
    ("node:container:container:get_api_ms", NEVER),
    ("plugin_exec_latency_us", NEVER),
    ("node:timeout_fail", FAULTS),
    ("node:inputs_write_fail", FAULTS),
    ("node:system_error_duration_ms", FAULTS),
    ("workflow:workflow_aborted", FAULTS),
    ("workflow:event_recording:unexpected_err", FAULTS),
    ("task:event_recording:unexpected_err", FAULTS),
    (
        "workflow:completion_latency_ms",
        "the reference's end nodes never start",
    ),
    (
        "plugin:container_container_failure",
        "task types are the users'",
    ),
    (
        "plugin:container_container_failure_unlabeled",
        "task types are the users'",
    ),
    (
        "plugin:container_container_success",
        "task types are the users'",
    ),
    (
        "plugin:container_container_success_unlabeled",
        "task types are the users'",
    ),
    ("plugin:pythontask_container_failure", FAULTS),
    (
        "wf_rounds",
        "looks at workflows, which the simulation bounds",
    ),
    ("wf_steps", "steps, which the simulation bounds"),
    ("node:event_recording:failure_duration_ms", FAULTS),
    ("node:event_recording:unexpected_err", FAULTS),
];

const FIRST: &str = "the recording ended before the first round of deletion";
const NEVER: &str = "Go registers it and never counts";
const FAULTS: &str = "nothing of the kind went wrong in the recording; spec 07 §3.4 has the name";

/// Families of the engine: type and names of labels.
fn families(text: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut families = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').unwrap();
            name.clone_into(&mut current);
            if let Some(name) = name.strip_prefix("flyte:propeller:all:") {
                families.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
            }
        } else if let Some((_, labels)) = line.split_once('{')
            && let Some((_, names)) = current
                .strip_prefix("flyte:propeller:all:")
                .and_then(|name| families.get_mut(name))
        {
            let labels = labels.rsplit_once('}').unwrap().0;
            names.extend(
                labels
                    .split("\",")
                    .map(|label| label.split('=').next().unwrap().to_owned()),
            );
        }
    }
    families
}

/// The number of the first effect of this name.
fn number_of(run: &Run, effect: &str) -> u64 {
    let effects = run.trace.iter();
    let before = effects.take_while(|name| !name.contains(effect)).count();
    u64::try_from(before).unwrap() + 1
}

/// What several runs count, one after the other.
fn counted() -> Vec<String> {
    let full = Refusal {
        code: 403,
        reason: "Forbidden",
        message: "etcdserver: no",
    };
    let failing = |effect: &str| {
        let plain = Simulation::new(graphs::chain()).run();
        let plan = Plan::one(number_of(&plain, effect), Fault::Fail);
        Simulation::new(graphs::chain()).with(plan)
    };
    let mut held = PluginsConfig::default();
    held.k8s.inject_finalizer = true;
    let slow = || Simulation::new(graphs::slow(1));
    let plain = slow().run();
    // When the task is known to run, two minutes before it ends.
    let runs = number_of(&plain, "POST /api/v1/namespaces/project-development/pods") + 4;
    let lost = slow()
        .with_plugins(held.clone())
        .with_outside(runs, Outside::LosePods);
    let release = number_of(
        &lost.run(),
        "PATCH /api/v1/namespaces/project-development/pods",
    );
    [
        slow().with_outside(runs, Outside::LosePods),
        slow()
            .with_plugins(held)
            .with_outside(runs, Outside::LosePods)
            .with(Plan::one(release, Fault::Fail)),
        failing("CreateWorkflowEvent"),
        failing("CreateNodeEvent"),
        failing("CreateTaskEvent"),
        failing("inputs.pb"),
        Simulation::new(graphs::waiting(12))
            .never_spilling()
            .with_room_for(3_000),
        Simulation::new(graphs::endless()).deleted_after(13),
        Simulation::new(graphs::chain()),
        Simulation::new(graphs::sub_workflow()),
        Simulation::new(graphs::failure_with_handler()),
        Simulation::new(graphs::interruptible()),
        Simulation::new(graphs::endless()).deleted_after(12),
        Simulation::new(graphs::impatient("20s", 1)).refusing_pods(vec![full; 9]),
        Simulation::new(graphs::slow(3)).spilling_beyond(0),
    ]
    .into_iter()
    .map(|simulation| simulation.run().metrics)
    .collect()
}

#[test]
fn names_types_and_labels_are_those_of_go() {
    let mut ours = BTreeMap::new();
    for text in counted() {
        for (name, (kind, labels)) in families(&text) {
            let known = ours.entry(name).or_insert((kind, BTreeSet::new()));
            known.1.extend(labels);
        }
    }
    let left_out = |name: &str| LEFT_OUT.iter().any(|(start, _)| name.starts_with(start));
    let mut unused: BTreeSet<&str> = LEFT_OUT.iter().map(|(start, _)| *start).collect();
    let mut problems = Vec::new();
    let mut recorded = BTreeSet::new();
    for line in include_str!("data/metrics.tsv").lines() {
        let (name, rest) = line.split_once('\t').unwrap();
        let (kind, labels) = rest.split_once('\t').unwrap();
        let name = name.strip_prefix("flyte:propeller:all:").unwrap();
        recorded.insert(name.to_owned());
        let labels: BTreeSet<String> = labels
            .split(',')
            .filter(|label| !label.is_empty())
            .map(str::to_owned)
            .collect();
        match ours.get(name) {
            Some(found) if *found == (kind.to_owned(), labels.clone()) => {}
            Some(found) => problems.push(format!("{name} is {found:?}, not {kind} {labels:?}")),
            None if left_out(name) => unused.retain(|start| !name.starts_with(start)),
            None => problems.push(format!("{name} is missing")),
        }
    }
    for name in ours.keys().filter(|name| !recorded.contains(*name)) {
        if !ADDED.iter().any(|(added, _)| name == added) {
            problems.push(format!("{name} is not in the recording"));
        }
    }
    for start in unused {
        problems.push(format!("{start} is left out for nothing"));
    }
    for (added, _) in ADDED.iter().filter(|(added, _)| !ours.contains_key(*added)) {
        problems.push(format!("{added} is not there"));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// The value of the series of this name and these labels among those of the engine.
#[track_caller]
fn value(text: &str, name: &str, labels: &[&str]) -> f64 {
    let name = format!("flyte:propeller:all:{name}");
    let line = text.lines().find(|line| {
        let series = line.rsplit_once(' ').map_or("", |(series, _)| series);
        let (found, rest) = series.split_once('{').unwrap_or((series, ""));
        found == name && labels.iter().all(|label| rest.contains(label))
    });
    let line = line.unwrap_or_else(|| panic!("{name} {labels:?} is not in {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_workflow_is_counted_on_its_way() {
    let run = Simulation::new(graphs::failure_with_handler()).run();
    assert_eq!(run.phase, WorkflowPhase::Failed);
    let of = [
        "project=\"project\"",
        "domain=\"development\"",
        "wf=\"project:development:wf\"",
    ];
    let node = |id: &'static str| [of[0], of[1], of[2], id];
    for (name, labels, expected) in [
        ("workflow:accepted", &of[..], 1.0),
        ("workflow:failure_duration_ms_count", &of, 1.0),
        // A task that takes two minutes fails, and with it the workflow.
        ("workflow:failure_duration_ms_sum", &of, 120_000.0),
        ("workflow:failure_duration_unlabeled_ms_sum", &[], 120_000.0),
        ("workflow:acceptance_latency_ms_count", &of, 1.0),
        ("workflow:success_duration_unlabeled_ms_count", &[], 0.0),
        (
            "node:user_error_duration_ms_sum",
            &node("node=\"n0\""),
            120_000.0,
        ),
        (
            "node:perma_user_error_duration_ms_count",
            &node("node=\"n0\""),
            1.0,
        ),
        (
            "node:failure_duration_ms_sum",
            &node("node=\"n0\""),
            120_000.0,
        ),
        ("node:success_duration_ms_count", &node("node=\"fn0\""), 1.0),
        ("node:queueing_latency_ms_count", &node("node=\"n1\""), 1.0),
        ("node:transition_latency_unlabeled_ms_count", &[], 2.0),
        ("plugin:container_container_success", &of, 1.0),
        ("plugin:container_container_failure_unlabeled", &[], 1.0),
        ("execstats:active_workflow_executions", &[], 0.0),
        ("execstats:active_node_executions", &[], 0.0),
        ("execstats:active_task_executions", &[], 0.0),
        ("collector:flyteworkflow", &of[..2], 0.0),
        ("main_depth", &[], 0.0),
        ("round:error_count", &[], 0.0),
        ("round:panic_unlabeled", &[], 0.0),
        ("free_workers_count", &[], 512.0),
    ] {
        let found = value(&run.metrics, name, labels);
        assert!(
            (found - expected).abs() < f64::EPSILON,
            "{name} {labels:?} is {found}"
        );
    }
    assert!(value(&run.metrics, "round:success_count", &[]) > 0.0);
    assert!(value(&run.metrics, "wf_update_success", &[]) > 0.0);
    assert!(value(&run.metrics, "main_adds", &[]) > 0.0);
}
