//! In which order the nodes of a graph are read.

use std::collections::{HashMap, HashSet};

use flyte_crd::{NodeSpec, WorkflowSpec};

use crate::machine::Unreadable;

/// The nodes of a graph, each after the branch whose arm it is, with the id of that branch.
pub(super) fn in_order(spec: &WorkflowSpec) -> Result<Vec<(&NodeSpec, Option<&str>)>, Unreadable> {
    let all = || spec.nodes.values().chain(spec.on_failure.as_deref());
    let ids: HashSet<&str> = all().map(|node| node.id.as_str()).collect();
    let mut branches: HashMap<&str, &str> = HashMap::new();
    for node in all() {
        for arm in node.branch.iter().flat_map(flyte_crd::BranchSpec::arms) {
            if !ids.contains(arm) {
                let message = format!(
                    "branch [{}] has an arm [{arm}], which does not exist",
                    node.id
                );
                return Err(Unreadable::Graph(message));
            }
            branches.insert(arm, &node.id);
        }
    }
    let mut ordered: Vec<(usize, &NodeSpec, Option<&str>)> = Vec::new();
    for node in all() {
        let around = |id: &str| branches.get(id).copied();
        let mut depth = 0;
        let mut at = around(&node.id);
        while let Some(branch) = at {
            depth += 1;
            if depth > branches.len() {
                let message = format!("branch [{branch}] is an arm of itself");
                return Err(Unreadable::Graph(message));
            }
            at = around(branch);
        }
        ordered.push((depth, node, around(&node.id)));
    }
    ordered.sort_by_key(|(depth, _, _)| *depth);
    Ok(ordered
        .into_iter()
        .map(|(_, node, branch)| (node, branch))
        .collect())
}
