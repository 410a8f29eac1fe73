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

#[cfg(test)]
mod tests {
    use flyte_core::identifiers::{ExecutionId, NodeExecutionId, NodeId};
    use flyte_idl::{
        admin::{ExecutionClusterLabel, ExecutionMetadata, NodeExecutionClosure},
        event::NodeExecutionEvent,
        stored::Stored,
    };

    use super::*;
    use crate::{
        domain::events::node::{Resolved, create},
        records::RowNumber as _,
    };

    fn sent() -> ExecutionSpec {
        ExecutionSpec {
            metadata: Some(ExecutionMetadata {
                principal: "whoever the client says".to_owned(),
                nesting: 7,
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn parent() -> (NodeExecution, Execution) {
        let id = ExecutionId::new("p", "d", "parent").unwrap();
        let event = NodeExecutionEvent {
            occurred_at: Some(prost_types::Timestamp::default()),
            ..Default::default()
        };
        let node = NodeExecutionId {
            execution: id.clone(),
            node: NodeId::new("n0").unwrap(),
        };
        let node = NodeExecution {
            row: NodeExecutionRow::new(5),
            closure: Stored::new(NodeExecutionClosure::default()),
            ..create(node, &event, &Resolved::default()).unwrap()
        };
        let execution = Execution {
            row: ExecutionRow::new(3),
            user: "owner".to_owned(),
            spec: Stored::new(ExecutionSpec {
                metadata: Some(ExecutionMetadata {
                    nesting: 1,
                    ..Default::default()
                }),
                execution_cluster_label: Some(ExecutionClusterLabel {
                    value: "gpu".to_owned(),
                }),
                ..Default::default()
            }),
            ..Execution::new(id)
        };
        (node, execution)
    }

    #[test]
    fn without_a_parent_the_caller_is_the_principal() {
        let mut spec = sent();
        let lineage = inherit(&mut spec, "caller", ExecutionRow::new(9), None);
        assert_eq!(lineage.source_row, ExecutionRow::new(9));
        assert_eq!(lineage.parent_node_row, None);
        assert_eq!(spec.metadata.unwrap().principal, "caller");
    }

    #[test]
    fn a_child_is_its_parents_one_level_deeper_on_the_same_cluster() {
        let (node, execution) = parent();
        for (repeated, source) in [(None, 3), (ExecutionRow::new(9), 9)] {
            let mut spec = sent();
            let lineage = inherit(&mut spec, "caller", repeated, Some((&node, &execution)));
            assert_eq!(lineage.source_row, ExecutionRow::new(source));
            assert_eq!(lineage.parent_node_row, NodeExecutionRow::new(5));
            let metadata = spec.metadata.unwrap();
            assert_eq!(
                (metadata.principal.as_str(), metadata.nesting),
                ("owner", 2)
            );
            assert_eq!(spec.execution_cluster_label.unwrap().value, "gpu");
        }
    }
}
