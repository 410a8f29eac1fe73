//! What an execution takes over from the execution that it repeats, or whose node launches it (spec 03 §2.10).

use flyte_idl::admin::ExecutionSpec;

use crate::records::{Execution, ExecutionRow, NodeExecution, NodeExecutionRow};

/// The rows that an execution comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lineage {
    /// The execution that it repeats, or whose node launches it.
    pub(crate) source_row: Option<ExecutionRow>,
    /// The node that launches it.
    pub(crate) parent_node_row: Option<NodeExecutionRow>,
}

/// Writes principal, nesting and cluster label into the spec of a new execution. `user` asks for it, `source_row` is the
/// row of the execution that it repeats, `parent` the node that launches it, with that node's execution. The principal
/// that the client sent is discarded.
pub(crate) fn inherit(
    spec: &mut ExecutionSpec,
    user: &str,
    source_row: Option<ExecutionRow>,
    parent: Option<(&NodeExecution, &Execution)>,
) -> Lineage {
    let metadata = spec.metadata.get_or_insert_default();
    user.clone_into(&mut metadata.principal);
    metadata.artifact_ids.clear();
    let Some((node, execution)) = parent else {
        return Lineage {
            source_row,
            parent_node_row: None,
        };
    };
    metadata.principal.clone_from(&execution.user);
    let parent_spec = execution.spec.get();
    let nesting = parent_spec
        .metadata
        .as_ref()
        .map_or(0, |metadata| metadata.nesting);
    metadata.nesting = nesting + 1;
    if parent_spec.execution_cluster_label.is_some() {
        spec.execution_cluster_label
            .clone_from(&parent_spec.execution_cluster_label);
    }
    Lineage {
        source_row: source_row.or(execution.row),
        parent_node_row: node.row,
    }
}
