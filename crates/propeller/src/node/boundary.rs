//! Start and end nodes (spec 04 §7.9): what they hand on was written before.

use flyte_crd::{NodeKind, NodePhase};
use jiff::Timestamp;

use super::{NodeEffect, NodeResult, NodeView, Source, Step, succeeded};
use crate::events::NodeDetails;

pub(super) fn step(view: &NodeView<'_>, result: Option<NodeResult>, now: Timestamp) -> Step {
    let is_copied = matches!(result, Some(NodeResult::Copied(_)));
    if view.spec.kind == NodeKind::End
        && view.status.phase == NodePhase::Queued
        && view.inputs.is_none()
        && !is_copied
    {
        // Queued by another process, which may not have come as far as writing the outputs.
        return Step::Do(NodeEffect::CopyOutputs {
            from: Source::File(view.files.inputs()),
            to: view.files.outputs(),
        });
    }
    let outputs = (view.spec.kind == NodeKind::Start).then(|| view.files.outputs());
    succeeded(
        view,
        NodeDetails {
            outputs,
            ..NodeDetails::default()
        },
        Vec::new(),
        now,
    )
}
