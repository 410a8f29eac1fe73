//! Counting effects (spec 04 §15).

use std::{sync::Arc, time::Instant};

use flyte_platform::metrics::Labels;

use super::World;
use crate::{
    machine::{JobTask, Outcome, OwnedNode},
    metrics::{self, Gathered},
    node::{Constants, Work, task::Attempt},
};

/// One effect under way; it holds a permit.
pub(super) struct Effect<'a> {
    world: &'a World,
    began: Instant,
    kind: Kind,
}

/// What is counted of an effect beside its time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gathers,
    Launches,
    Other,
}

impl World {
    /// The same clients, whose effects are counted for this workflow.
    #[must_use]
    pub fn on_behalf_of(&self, run: &Arc<Constants>) -> Self {
        let labels = metrics::labels(run);
        Self {
            blobs: self
                .blobs
                .used_by(labels.project, labels.domain, labels.workflow),
            subject: Some(run.clone()),
            ..self.clone()
        }
    }

    /// The labels of what is done for a node, or for the workflow itself.
    pub(super) fn labels<'a>(&'a self, node: Option<&'a OwnedNode>) -> Labels<'a> {
        match (node, &self.subject) {
            (Some(node), _) => metrics::labels_of_node(&node.view()),
            (None, Some(run)) => metrics::labels(run),
            (None, None) => Labels::default(),
        }
    }

    pub(super) fn begin_counting(&self, task: &JobTask) -> Effect<'_> {
        self.count_permits(0);
        Effect {
            world: self,
            began: Instant::now(),
            kind: match task {
                JobTask::Node {
                    work: Work::Prepare { .. },
                    ..
                } => Kind::Gathers,
                JobTask::Node {
                    work: Work::Launch, ..
                } => Kind::Launches,
                _ => Kind::Other,
            },
        }
    }

    fn count_permits(&self, more: usize) {
        let free = self.permits.available_permits() + more;
        let free = i64::try_from(free).unwrap_or(i64::MAX);
        self.metrics.round.free_workers.set(free);
    }
}

impl Effect<'_> {
    pub(super) fn ends(self, node: Option<&OwnedNode>, outcome: &Outcome) {
        let Some(node) = node else { return };
        let labels = self.world.labels(Some(node));
        let (nodes, time) = (&self.world.metrics.node, self.began.elapsed());
        nodes.worked(&labels, time);
        match self.kind {
            Kind::Gathers => {
                let gathered = match outcome {
                    Outcome::Prepared(Ok(_)) => Gathered::All,
                    Outcome::Prepared(Err(_)) => Gathered::NotResolved,
                    _ => Gathered::NotWritten,
                };
                nodes.gathered(&labels, time, gathered);
            }
            Kind::Launches => {
                let view = node.view();
                if let Ok(attempt) = Attempt::of(view) {
                    let labels = metrics::labels_of_task(&view, &attempt);
                    self.world.metrics.plugin.launched(&labels, time);
                }
            }
            Kind::Other => {}
        }
    }
}

impl Drop for Effect<'_> {
    fn drop(&mut self) {
        // Its permit goes after it.
        self.world.count_permits(1);
    }
}
