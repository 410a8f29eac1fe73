//! Start and end nodes (spec 04 §7.9): what they hand on was written before.

use flyte_crd::{NodeKind, NodePhase};
use jiff::Timestamp;

use super::{NodeView, Source, Step, Work, succeeded};
use crate::events::NodeDetails;

pub(super) fn step(view: &NodeView<'_>, now: Timestamp) -> Step {
    if view.spec.kind == NodeKind::End
        && view.status.phase == NodePhase::Queued
        && view.inputs_known.is_none()
    {
        // Queued by another process, which may not have come as far as writing the outputs.
        return Step::Do(Work::Copy {
            from: Source::File(view.places.inputs()),
            to: view.places.outputs(),
        });
    }
    let outputs = (view.spec.kind == NodeKind::Start).then(|| view.places.outputs());
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
