//! Which nodes follow which, and whose failure is told when several fail (spec 04 §5.2, spec 08 A5).

use std::collections::{BTreeMap, BTreeSet};

use super::{Codes, GraphRun};
use crate::truth::program::{END, START, Workflow};

/// Nodes that the outputs of the workflow read, the start node left out.
pub(super) fn promised_by_outputs(workflow: &Workflow) -> Vec<String> {
    let mut found = Vec::new();
    for (_, bind) in workflow.outputs.values() {
        bind.promised(&mut found);
    }
    found.retain(|id| id != START);
    found
}

/// What comes directly after each node. What the arms of a branch read does not count.
fn downstream(workflow: &Workflow) -> BTreeMap<String, BTreeSet<String>> {
    let mut after: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut edge = |from: &str, to: &str| {
        after
            .entry(from.to_owned())
            .or_default()
            .insert(to.to_owned());
    };
    for node in &workflow.nodes {
        let upstream = [node.promised(), node.after.clone()].concat();
        if upstream.is_empty() {
            edge(START, &node.id);
        }
        upstream.iter().for_each(|from| edge(from, &node.id));
    }
    let mut outputs = Vec::new();
    for (_, bind) in workflow.outputs.values() {
        bind.promised(&mut outputs);
    }
    outputs.iter().for_each(|from| edge(from, END));
    let sinks: Vec<&str> = workflow
        .nodes
        .iter()
        .map(|node| node.id.as_str())
        .filter(|id| !after.contains_key(*id))
        .collect();
    for sink in sinks {
        after
            .entry(sink.to_owned())
            .or_default()
            .insert(END.to_owned());
    }
    after
}

/// Nodes that only the end node follows.
pub(super) fn sinks(workflow: &Workflow) -> Vec<String> {
    let after = downstream(workflow);
    workflow
        .nodes
        .iter()
        .filter(|node| after.get(&node.id).is_some_and(|next| next.contains(END)))
        .map(|node| node.id.clone())
        .collect()
}

/// The error that a walk from the start meets last, taking what follows a node in the order of ids and not going on
/// behind a failure.
pub(super) fn last_failure(run: &GraphRun<'_>) -> Codes {
    fn last(
        run: &GraphRun<'_>,
        after: &BTreeMap<String, BTreeSet<String>>,
        id: &str,
        known: &mut BTreeMap<String, Option<Codes>>,
    ) -> Option<Codes> {
        if let Some(known) = known.get(id) {
            return known.clone();
        }
        let found = match run.ends.get(id).and_then(|end| end.how.failure()) {
            Some(codes) => Some(codes),
            None => after
                .get(id)
                .into_iter()
                .flatten()
                .filter_map(|next| last(run, after, next, known))
                .last(),
        };
        known.insert(id.to_owned(), found.clone());
        found
    }
    let after = downstream(run.workflow);
    last(run, &after, START, &mut BTreeMap::new()).unwrap_or_default()
}
