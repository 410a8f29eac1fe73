//! What the engine asks of a cluster: docs/services.md lists it for those who write roles.

use std::collections::BTreeSet;

use flyte_plugins::config::PluginsConfig;
use flyte_tests::simulation::{Outside, Run, Simulation, graphs};

/// Verb, API group and resource of a request, as roles name them.
fn verb(method: &str, path: &str) -> String {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let (group, rest) = match parts.as_slice() {
        ["api", _, rest @ ..] => ("", rest),
        ["apis", group, _, rest @ ..] => (*group, rest),
        other => panic!("{other:?} is no resource"),
    };
    let (["namespaces", _, rest @ ..] | rest) = rest;
    let (verb, resource) = match (method, rest) {
        ("GET", [all]) if query.contains("watch=true") => ("watch", all),
        ("GET", [all]) => ("list", all),
        ("GET", [of, _]) => ("get", of),
        ("POST", [all]) => ("create", all),
        ("PATCH", [of, _]) => ("patch", of),
        ("DELETE", [of, _]) => ("delete", of),
        other => panic!("{other:?} needs a permission that nobody gives"),
    };
    format!("{verb} {group} {resource}")
}

fn verbs(run: &Run) -> BTreeSet<String> {
    let reads = run.reads.iter().map(|path| verb("GET", path));
    let others = run.trace.iter().filter_map(|what| {
        let (method, path) = what.split_once(' ')?;
        path.starts_with("/api").then(|| verb(method, path))
    });
    reads.chain(others).collect()
}

/// What no run here does: a check of the API server's own, what is done at the start, and after a day.
const ELSEWHERE: [&str; 3] = [
    "update flyte.lyft.com flyteworkflows/finalizers",
    "create apiextensions.k8s.io customresourcedefinitions",
    "delete flyte.lyft.com flyteworkflows",
];

/// The rows of docs/services.md.
fn documented() -> BTreeSet<String> {
    let text = include_str!("../../../docs/services.md");
    let (_, text) = text.split_once("| API group |").unwrap();
    let rows = text
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let listed = rows.flat_map(|row| {
        let row = row.replace('`', "").replace("(core)", "");
        let mut cells = row.split('|').map(|cell| cell.trim().to_owned()).skip(1);
        let (group, resource) = (cells.next().unwrap(), cells.next().unwrap());
        let verbs = cells.next().unwrap();
        let verbs: Vec<_> = verbs.split(", ").map(str::to_owned).collect();
        verbs
            .into_iter()
            .map(move |verb| format!("{verb} {group} {resource}"))
    });
    listed.collect()
}

#[test]
fn the_engine_needs_the_permissions_that_are_documented() {
    let mut plugins = PluginsConfig::default();
    plugins.k8s.send_object_events = true;
    plugins.k8s.inject_finalizer = true;
    plugins.k8s.delete_resource_on_finalize = true;
    let slow = || Simulation::new(graphs::slow(1));
    let mut asked: BTreeSet<_> = ELSEWHERE.map(str::to_owned).into();
    for run in [
        slow().with_plugins(plugins).run(),
        // Its pod is gone and is looked up.
        slow().with_outside(10, Outside::LosePods).run(),
        Simulation::new(graphs::endless()).deleted_after(12).run(),
    ] {
        asked.extend(verbs(&run));
    }
    assert_eq!(asked, documented());
}
