//! Counting effects (spec 04 §15).

use std::{sync::Arc, time::Instant};

use flyte_platform::metrics::Labels;

use super::{EffectError, Effects, WorkflowEffects};
use crate::{
    machine::{Effect, EffectResult, OwnedNode},
    metrics::{self, Gathered},
    node::{NodeEffect, NodeResult, WorkflowContext, task::Attempt},
};

/// One effect under way.
pub(super) struct EffectTimer<'a> {
    effects: &'a WorkflowEffects,
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

impl Effects {
    /// The same clients, whose effects are counted for this workflow.
    pub(super) fn counted_for(&self, workflow: &Arc<WorkflowContext>) -> Self {
        let labels = metrics::labels(workflow);
        Self {
            blobs: self
                .blobs
                .used_by(labels.project, labels.domain, labels.workflow),
            ..self.clone()
        }
    }
}

impl WorkflowEffects {
    /// The labels of what is done for a node, or for the workflow itself.
    pub(super) fn labels<'a>(&'a self, node: Option<&'a OwnedNode>) -> Labels<'a> {
        match (node, &self.workflow) {
            (Some(node), _) => metrics::labels_of_node(&node.view()),
            (None, Some(workflow)) => metrics::labels(workflow),
            (None, None) => Labels::default(),
        }
    }

    pub(super) fn begin_counting(&self, effect: &Effect) -> EffectTimer<'_> {
        self.count_permits();
        EffectTimer {
            effects: self,
            began: Instant::now(),
            kind: match effect {
                Effect::Node {
                    effect: NodeEffect::Prepare { .. },
                    ..
                } => Kind::Gathers,
                Effect::Node {
                    effect: NodeEffect::CreatePod,
                    ..
                } => Kind::Launches,
                Effect::Node { .. }
                | Effect::Begin { .. }
                | Effect::Send(_)
                | Effect::FindLeftovers(_)
                | Effect::Clear(_) => Kind::Other,
            },
        }
    }

    fn count_permits(&self) {
        let free = i64::try_from(self.all.budget.free()).unwrap_or(i64::MAX);
        self.metrics.round.free_workers.set(free);
    }
}

impl EffectTimer<'_> {
    pub(super) fn ends(self, node: Option<&OwnedNode>, result: &Result<EffectResult, EffectError>) {
        let Some(node) = node else { return };
        let labels = self.effects.labels(Some(node));
        let (nodes, time) = (&self.effects.metrics.node, self.began.elapsed());
        nodes.worked(&labels, time);
        match self.kind {
            Kind::Gathers => {
                let result = match result {
                    Ok(EffectResult::Node(result)) => Some(&**result),
                    _ => None,
                };
                let gathered = match result {
                    Some(NodeResult::Prepared(Ok(_))) => Gathered::All,
                    Some(NodeResult::Prepared(Err(_))) => Gathered::NotResolved,
                    _ => Gathered::NotWritten,
                };
                nodes.gathered(&labels, time, gathered);
            }
            Kind::Launches => {
                let view = node.view();
                if let Ok(attempt) = Attempt::of(view) {
                    let labels = metrics::labels_of_task(&view, &attempt);
                    self.effects.metrics.plugin.launched(&labels, time);
                }
            }
            Kind::Other => {}
        }
    }
}

impl Drop for EffectTimer<'_> {
    fn drop(&mut self) {
        self.effects.count_permits();
    }
}
