//! Nodes of kinds that this engine does not run: they fail at once, saying so.

use flyte_idl::core::{ExecutionError, execution_error::ErrorKind};
use jiff::Timestamp;

use super::{NodeView, Step, failed};
use crate::events::Event;

/// Fails the node with a user error that names kind and node.
pub(super) fn fail(view: &NodeView<'_>, kind: &str, now: Timestamp) -> Step {
    failed(view, error(view, kind), Vec::<Event>::new(), now)
}

pub(super) fn error(view: &NodeView<'_>, kind: &str) -> ExecutionError {
    ExecutionError {
        code: "UnsupportedNodeKind".into(),
        message: format!(
            "node [{}] is of kind [{kind}], which this engine cannot run yet{}",
            view.spec.id,
            view.spec
                .task
                .as_ref()
                .map(|task| format!("; its task is [{task}]"))
                .unwrap_or_default()
        ),
        kind: ErrorKind::User.into(),
        ..ExecutionError::default()
    }
}
