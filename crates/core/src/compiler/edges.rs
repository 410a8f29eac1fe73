//! The connections of one graph, and what they must not look like (spec 08 A5.8, A5.10).

use std::collections::{BTreeMap, BTreeSet};

use flyte_idl::core::{ConnectionSet, connection_set::IdList};

use super::errors::CompileError;
use crate::layout::{END_NODE, START_NODE};

type Adjacency = BTreeMap<String, BTreeSet<String>>;

/// Which maps an edge goes into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Both,
    Upstream,
}

#[derive(Debug, Default)]
pub(super) struct Edges {
    downstream: Adjacency,
    upstream: Adjacency,
    /// From what a node of a branch waits for to the top-level node around it: no connection, but part of
    /// a circle.
    inward: Adjacency,
}

impl Edges {
    pub(super) fn add(&mut self, provider: &str, dependent: &str, direction: Direction) {
        let provider = if provider.is_empty() {
            START_NODE
        } else {
            provider
        };
        if direction == Direction::Both {
            insert(&mut self.downstream, provider, dependent);
        }
        insert(&mut self.upstream, dependent, provider);
    }

    /// Notes that something inside `around` waits for `provider`.
    pub(super) fn add_inward(&mut self, provider: &str, around: &str) {
        if provider != around {
            insert(&mut self.inward, provider, around);
        }
    }

    /// Connects a top-level node that waits for nothing to the start, one that nothing waits for to the end.
    pub(super) fn adopt_orphan(&mut self, id: &str) {
        if !self.upstream.contains_key(id) {
            self.add(START_NODE, id, Direction::Both);
        }
        if !self.downstream.contains_key(id) {
            self.add(id, END_NODE, Direction::Both);
        }
    }

    /// A circle that can be reached from the start, else nodes that cannot.
    pub(super) fn problem(&self, nodes: &BTreeSet<String>) -> Option<CompileError> {
        if let Some(path) = self.cycle() {
            return Some(CompileError::cycle_detected(START_NODE, &path));
        }
        let visited = self.reachable();
        let lost: Vec<&str> = nodes
            .iter()
            .map(String::as_str)
            .filter(|id| *id != END_NODE && !visited.contains(id))
            .collect();
        (!lost.is_empty()).then(|| CompileError::unreachable_nodes(START_NODE, &lost))
    }

    fn next<'a>(adjacency: &'a Adjacency, id: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        adjacency.get(id).into_iter().flatten().map(String::as_str)
    }

    /// The path from the start to the first circle, in order of ids, ending with the repeated node.
    fn cycle(&self) -> Option<Vec<&str>> {
        let neighbours = |id: &str| -> std::vec::IntoIter<&str> {
            let all: BTreeSet<&str> = Self::next(&self.downstream, id)
                .chain(Self::next(&self.inward, id))
                .collect();
            all.into_iter().collect::<Vec<_>>().into_iter()
        };
        let mut open = BTreeSet::from([START_NODE]);
        let mut done = BTreeSet::new();
        let mut path = vec![(START_NODE, neighbours(START_NODE))];
        while let Some((id, next)) = path.last_mut() {
            match next.next() {
                Some(next) if open.contains(next) => {
                    let mut circle: Vec<&str> = path.iter().map(|(id, _)| *id).collect();
                    circle.push(next);
                    return Some(circle);
                }
                Some(next) if !done.contains(next) => {
                    open.insert(next);
                    path.push((next, neighbours(next)));
                }
                Some(_) => {}
                None => {
                    let id = *id;
                    open.remove(id);
                    done.insert(id);
                    path.pop();
                }
            }
        }
        None
    }

    fn reachable(&self) -> BTreeSet<&str> {
        let mut visited = BTreeSet::from([START_NODE]);
        let mut waiting = vec![START_NODE];
        while let Some(id) = waiting.pop() {
            for next in Self::next(&self.downstream, id) {
                if visited.insert(next) {
                    waiting.push(next);
                }
            }
        }
        visited
    }

    pub(super) fn into_connections(self) -> ConnectionSet {
        let lists = |adjacency: Adjacency| {
            adjacency
                .into_iter()
                .map(|(id, ids)| {
                    let ids = ids.into_iter().collect();
                    (id, IdList { ids })
                })
                .collect()
        };
        ConnectionSet {
            downstream: lists(self.downstream),
            upstream: lists(self.upstream),
        }
    }
}

fn insert(adjacency: &mut Adjacency, from: &str, to: &str) {
    if let Some(known) = adjacency.get_mut(from) {
        known.insert(to.to_owned());
    } else {
        adjacency.insert(from.to_owned(), BTreeSet::from([to.to_owned()]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(pairs: &[(&str, &str)]) -> Edges {
        let mut edges = Edges::default();
        for (from, to) in pairs {
            edges.add(from, to, Direction::Both);
        }
        edges
    }

    #[test]
    fn circles_and_lost_nodes_are_told_in_order() {
        let nodes = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        for (pairs, ids, expected) in [
            (
                &[("", "a"), ("a", "end-node")][..],
                &["a", "end-node"][..],
                None,
            ),
            (
                &[("", "a"), ("a", "b"), ("b", "a")],
                &["a", "b"],
                Some("CycleDetected [start-node>a>b>a]"),
            ),
            (
                &[("", "a"), ("a", "a")],
                &["a"],
                Some("CycleDetected [start-node>a>a]"),
            ),
            (
                &[("", "a"), ("c", "b"), ("b", "c")],
                &["a", "b", "c"],
                Some("UnreachableNodes [b,c]"),
            ),
        ] {
            let problem = edges(pairs).problem(&nodes(ids));
            let text = problem.map(|error| {
                let (_, list) = error.description.split_once('[').unwrap();
                format!("{} [{}", error.code, list.trim_end_matches('.'))
            });
            assert_eq!(text.as_deref(), expected);
        }
    }

    #[test]
    fn many_paths_are_walked_once() {
        // 60 diamonds in a row have 2^60 paths.
        let mut edges = Edges::default();
        edges.add("", "n0", Direction::Both);
        for n in 0..60 {
            for side in ["a", "b"] {
                let middle = format!("n{n}{side}");
                edges.add(&format!("n{n}"), &middle, Direction::Both);
                edges.add(&middle, &format!("n{}", n + 1), Direction::Both);
            }
        }
        assert_eq!(edges.problem(&BTreeSet::new()), None);
    }

    #[test]
    fn waiting_inside_a_branch_is_waiting() {
        let mut edges = edges(&[("", "branch"), ("branch", "later")]);
        edges.add_inward("later", "branch");
        let problem = edges.problem(&BTreeSet::new()).unwrap();
        assert!(
            problem
                .description
                .contains("start-node>branch>later>branch")
        );
    }
}
