//! Keys that say how the engine runs a workflow (spec 04 §14.1, 05 §18).

use std::time::Duration;

use flyte_crd::FlyteWorkflow;
use flyte_plugins::{Plugin, Registry};
use flyte_propeller::{cli::catalog_service, config::CatalogType};
use flyte_tests::simulation::{Answer, Refusal, Rule, Run, Simulation, graphs};
use serde_json::{Value, json};

use super::configured;

/// Keys of this file, beside those of the rows.
const OTHERS: &[&str] = &[
    "admin.endpoint",
    "admin.insecure",
    "admin.perRetryTimeout",
    "catalog-cache.type",
    "catalog-cache.endpoint",
    "catalog-cache.insecure",
    "catalog-cache.max-retries",
    "catalog-cache.base-scalar",
    "propeller.kube-config",
    "propeller.master",
    "propeller.kube-client-config.qps",
    "propeller.kube-client-config.burst",
    "propeller.kube-client-config.timeout",
    "propeller.include-shard-key-label",
    "propeller.exclude-shard-key-label",
    "propeller.include-project-label",
    "propeller.exclude-project-label",
    "propeller.include-domain-label",
    "propeller.exclude-domain-label",
    "tasks.task-plugins.default-for-task-types",
];

/// Keys of the process, which stock programs set and see: each with the test that does.
const OF_THE_PROCESS: &[(&str, &str)] = &[
    (
        "propeller.prof-port",
        include_str!("../../python/test_processes.py"),
    ),
    (
        "propeller.create-flyteworkflow-crd",
        include_str!("../../python/test_start.py"),
    ),
];

/// A key, what it is given, what else is set with and without it, the run, what to look at, and what is seen.
struct Row {
    key: &'static str,
    value: Value,
    beside: Vec<(&'static str, Value)>,
    simulation: fn() -> Simulation,
    look: fn(&Run) -> Value,
    expected: Value,
}

/// The rows, and the list of all keys of this file.
macro_rules! rows {
    ($($key:literal = $value:tt $(+ $beside:literal = $set:tt)*, $simulation:expr, $look:expr => $expected:tt;)*) => {
        pub(super) const KEYS: &[&str] = {
            const ROWS: &[&str] = &[$($key),*];
            const COUNT: usize = ROWS.len() + OTHERS.len() + OF_THE_PROCESS.len();
            const ALL: [&str; COUNT] = {
                let mut all = [""; COUNT];
                let mut at = 0;
                while at < COUNT {
                    all[at] = if at < ROWS.len() {
                        ROWS[at]
                    } else if at < ROWS.len() + OTHERS.len() {
                        OTHERS[at - ROWS.len()]
                    } else {
                        OF_THE_PROCESS[at - ROWS.len() - OTHERS.len()].0
                    };
                    at += 1;
                }
                all
            };
            &ALL
        };

        fn rows() -> Vec<Row> {
            vec![$(Row {
                key: $key,
                value: json!($value),
                beside: vec![$(($beside, json!($set))),*],
                simulation: $simulation,
                look: $look,
                expected: json!($expected),
            }),*]
        }
    };
}

fn one() -> Simulation {
    Simulation::new(graphs::of("ok"))
}

/// A task that takes two minutes.
fn slow() -> Simulation {
    Simulation::new(graphs::of("slow"))
}

/// Two elements that take two minutes each, in an execution that runs one task at once.
fn one_by_one() -> Simulation {
    changed(graphs::array(&["slow"], 2, &json!({})), |workflow| {
        workflow["executionConfig"]["MaxParallelism"] = 1.into();
    })
}

/// A task whose machines go, one after the other.
fn lost() -> Simulation {
    Simulation::new(graphs::of("shutdown:9"))
}

fn lost_and_interruptible() -> Simulation {
    changed(graphs::of("shutdown:9"), |workflow| {
        workflow["spec"]["nodes"]["n0"]["interruptible"] = true.into();
    })
}

/// The workflow with its first task changed.
fn with_task(change: fn(&mut Value)) -> Simulation {
    changed(graphs::of("ok"), |workflow| {
        let tasks = workflow["tasks"].as_object_mut().unwrap();
        tasks.values_mut().for_each(change);
    })
}

fn changed(workflow: FlyteWorkflow, change: impl Fn(&mut Value)) -> Simulation {
    let mut value = serde_json::to_value(workflow).unwrap();
    change(&mut value);
    Simulation::new(serde_json::from_value(value).unwrap())
}

/// No pod is ever taken.
fn hopeless() -> Simulation {
    one().ruled(vec![Rule {
        method: "POST",
        path: "/pods",
        count: usize::MAX,
        answer: Answer::Refuse(Refusal {
            code: 500,
            reason: "InternalError",
            message: "failed calling webhook",
        }),
    }])
}

fn phase(run: &Run) -> Value {
    run.records.workflow().0.into()
}

/// How often a pod was asked for.
fn asked(run: &Run) -> usize {
    run.trace
        .iter()
        .filter(|effect| effect.starts_with("POST") && effect.ends_with("/pods"))
        .count()
}

fn has(lines: &str, part: &str) -> Value {
    lines.contains(part).into()
}

rows! {
    "propeller.limit-namespace" = "project-development", one,
        |run| run.reads.iter().any(|path| path.starts_with("/api/v1/pods")).into() => false;
    "propeller.metadata-prefix" = "elsewhere", one,
        |run| run.literals.keys().all(|key| key.starts_with("elsewhere/")).into() => true;
    "propeller.rawoutput-prefix" = "mem://bucket/mine",
        || with_task(|task| task["container"]["args"] = json!(["ok", "{{.outputPrefix}}", "{{.rawOutputDataPrefix}}"])),
        |run| run.kept[0].spec.as_ref().unwrap().containers[0].args.as_ref().unwrap()[2].starts_with("mem://bucket/mine/").into()
        => true;
    "propeller.metrics-prefix" = "mine", one, |run| has(&run.metrics, "\nmine:propeller:") => true;
    "propeller.metrics-keys" = ["wf"], one, |run| has(&run.metrics, "project=\"") => false;
    "propeller.enable-grpc-latency-metrics" = true, one, |run| has(&run.metrics, "grpc_client_handling_seconds") => true;
    "propeller.enable-admin-launcher" = false, || Simulation::new(graphs::launch_plans("ok")), phase => "FAILED";
    "propeller.max-workflow-retries" = 2, hopeless,
        |run| has(&run.records.error_messages()["n0"], "given up after 3 tries") => true;
    "propeller.max-ttl-hours" = 1, || one().settling(Duration::from_secs(3 * 3_600)),
        |run| run.status.is_null().into() => true;
    "propeller.gc-interval" = "24h" + "propeller.max-ttl-hours" = 1, || one().settling(Duration::from_secs(3 * 3_600)),
        |run| run.status.is_null().into() => false;
    "propeller.max-resource-bytes" = 1, one,
        |run| run.trace.iter().any(|effect| effect.contains("node-status")).into() => true;
    "propeller.cluster-id" = "mine", one, |run| json!(run.records.producers()) => ["mine"];
    "propeller.node-config.default-deadlines.node-execution-deadline" = "60s", slow, phase => "FAILED";
    "propeller.node-config.default-deadlines.node-active-deadline" = "60s", slow, phase => "FAILED";
    "propeller.node-config.max-node-retries-system-failures" = 1, lost,
        |run| run.pods.len().into() => 2;
    "propeller.node-config.interruptible-failure-threshold" = 1, lost_and_interruptible,
        |run| run.records.interruptible().into() => 1;
    "propeller.node-config.default-max-attempts" = 3, || Simulation::new(graphs::of("fail:2")), phase => "SUCCEEDED";
    "propeller.node-config.ignore-retry-cause" = true, lost,
        |run| run.pods.len().into() => 1;
    "propeller.array-node-config.default-parallelism-behavior" = "workflow", one_by_one,
        |run| (run.elapsed >= Duration::from_secs(240)).into() => true;
    "propeller.event-config.raw-output-policy" = "inline", one,
        |run| run.records.with_data().is_empty().into() => false;
    "propeller.event-config.fallback-to-output-reference" = true + "propeller.event-config.raw-output-policy" = "inline",
        || Simulation::new(graphs::nested(150)).with_admin_taking(700), phase => "SUCCEEDED";
    "tasks.task-plugins.enabled-plugins" = ["sidecar"], one, phase => "FAILED";
    "tasks.max-plugin-phase-versions" = 0 + "plugins.k8s.send-object-events" = true, slow, phase => "FAILED";
    "tasks.backoff.base-second" = 0, || Simulation::new(graphs::slow(2)).with_quota(1), phase => "FAILED";
    "tasks.backoff.max-duration" = "5s", || Simulation::new(graphs::slow(2)).with_quota(1),
        |run| (asked(run) > 18).into() => true;
    "plugins.echo.sleep-duration" = "90s", || with_task(|task| task["type"] = "echo".into()),
        |run| (run.elapsed >= Duration::from_secs(90)).into() => true;
    "plugins.k8s.send-object-events" = true, one,
        |run| run.reads.iter().any(|path| path.starts_with("/apis/events.k8s.io/")).into() => true;
    "propeller.workflow-reeval-duration" = "60s", || Simulation::new(graphs::cached("slow", "1", true)),
        |run| (run.trace.iter().filter(|what| what.contains("GetOrExtendReservation")).count() < 10).into() => true;
    // Entries of the simulation are as old as time itself.
    "catalog-cache.max-cache-age" = "1h", || Simulation::new(graphs::cached("ok", "1", false)),
        |run| run.visible().tasks.len().into() => 3;
    "plugins.k8s.delete-resource-on-finalize" = true, one, |run| run.kept.len().into() => 0;
}

#[test]
fn each_key_is_seen_in_a_run() {
    for Row {
        key,
        value,
        beside,
        simulation,
        look,
        expected,
    } in rows()
    {
        let run = |settings: &[(&str, Value)]| {
            let config = configured(settings);
            simulation()
                .configured(config.propeller, config.plugins)
                .cached_by(config.catalog)
                .run()
        };
        let mut settings = beside.clone();
        settings.push((key, value));
        let (with, without) = (run(&settings), run(&beside));
        assert_eq!(look(&with), expected, "{key}: {:?}", with.visible());
        assert_ne!(
            look(&without),
            expected,
            "{key} is what it is without the key"
        );
    }
}

#[test]
fn each_key_of_labels_is_in_the_selectors() {
    for (key, expected) in [
        ("propeller.include-shard-key-label", "shard-key in (a,b)"),
        ("propeller.exclude-shard-key-label", "shard-key notin (a,b)"),
        ("propeller.include-project-label", "project in (a,b)"),
        ("propeller.exclude-project-label", "project notin (a,b)"),
        ("propeller.include-domain-label", "domain in (a,b)"),
        ("propeller.exclude-domain-label", "domain notin (a,b)"),
    ] {
        let config = configured(&[(key, json!(["a", "b"]))]).propeller;
        for selector in [config.selector(), config.pod_selector()] {
            assert!(
                selector.ends_with(&format!(",{expected}")),
                "{key}: {selector}"
            );
        }
    }
}

#[test]
fn the_api_server_and_the_pace_of_requests() {
    // What a client does with them is shown by `platform kubernetes::tests`.
    let config = configured(&[
        ("propeller.kube-config", json!("/k")),
        ("propeller.master", json!("https://m")),
        ("propeller.kube-client-config.qps", json!(7)),
        ("propeller.kube-client-config.burst", json!(8)),
        ("propeller.kube-client-config.timeout", json!("9s")),
    ]);
    let server = config.propeller.api_server();
    assert_eq!((server.kube_config, server.master), ("/k", "https://m"));
    let pace = (
        server.pace.qps,
        server.pace.burst,
        server.pace.timeout.to_std(),
    );
    assert_eq!(pace, (7.0, 8, Duration::from_secs(9)));
}

#[test]
fn flyteadmin_and_how_long_a_call_may_take() {
    // What becomes of a call that takes longer is shown by `propeller effects::budget::tests`.
    let config = configured(&[
        ("admin.endpoint", json!("dns:///a:81")),
        ("admin.insecure", json!(true)),
        ("admin.perRetryTimeout", json!("7s")),
    ]);
    let (admin, usual) = (config.admin, configured(&[]).admin);
    assert_eq!(
        (admin.endpoint.as_str(), usual.endpoint.as_str()),
        ("dns:///a:81", "")
    );
    assert_eq!((admin.insecure, usual.insecure), (true, false));
    let timeouts = [admin, usual].map(|admin| admin.per_retry_timeout.to_std().as_secs());
    assert_eq!(timeouts, [7, 15]);
}

#[test]
fn datacatalog_and_how_often_it_is_written_to() {
    // What comes of it is shown by `simulation caching::`, and by `flyte start`.
    let config = configured(&[
        ("catalog-cache.type", json!("datacatalog")),
        ("catalog-cache.endpoint", json!("dns:///c:89")),
        ("catalog-cache.insecure", json!(true)),
        ("catalog-cache.max-retries", json!(7)),
        ("catalog-cache.base-scalar", json!(9)),
    ]);
    let (catalog, usual) = (config.catalog, configured(&[]).catalog);
    for (catalog, expected) in [
        (
            &catalog,
            (CatalogType::Datacatalog, "dns:///c:89", true, 7, 9),
        ),
        (&usual, (CatalogType::Noop, "", false, 5, 100)),
    ] {
        let found = (
            catalog.r#type,
            catalog.endpoint.as_str(),
            catalog.insecure,
            catalog.max_retries,
            catalog.base_scalar,
        );
        assert_eq!(found, expected);
    }
    assert!(catalog_service(usual).unwrap().is_none());
}

#[test]
fn task_types_are_run_by_the_plugin_that_is_named() {
    let plugin = |settings: &[(&str, Value)]| {
        let registry = Registry::new(&configured(settings).plugins.tasks).unwrap();
        registry.resolve("mine", true, None).ok().map(Plugin::id)
    };
    let key = "tasks.task-plugins.default-for-task-types";
    let defaults: [(&str, Option<&str>); 2] =
        [("sidecar", Some("sidecar")), ("echo", Some("echo"))];
    for (id, expected) in defaults {
        assert_eq!(plugin(&[(key, json!({ "mine": id }))]), expected, "{id}");
    }
}

#[test]
fn keys_of_the_process_are_set_by_tests_of_it() {
    for (key, test) in OF_THE_PROCESS {
        assert!(test.contains(key.trim_start_matches("propeller.")), "{key}");
    }
}
