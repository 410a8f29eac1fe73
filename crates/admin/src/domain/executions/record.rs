//! The record of a new execution (spec 01 §12.2, stored spec, closure and columns).

use std::collections::BTreeSet;

use flyte_core::identifiers::ExecutionId;
use flyte_idl::{
    admin::{
        ExecutionClosure, ExecutionSpec, ExecutionState, ExecutionStateChangeDetails,
        LaunchPlanSpec, Notification, execution_spec::NotificationOverrides,
    },
    stored::Stored,
};
use jiff::Timestamp;

use super::lineage::Lineage;
use crate::{
    records::{Execution, LaunchEntity, LaunchPlan, TaskRow, Workflow},
    time,
};

/// What a request launches, with the rows that the execution refers to.
#[derive(Clone, Debug)]
pub(crate) struct LaunchTarget {
    /// The launch plan; of a task alone the one that was made for it.
    pub(crate) plan: LaunchPlan,
    /// The plan's workflow.
    pub(crate) workflow: Workflow,
    /// The row of the task that is launched alone.
    pub(crate) task_row: Option<TaskRow>,
}

impl LaunchTarget {
    /// Whether a task is launched alone.
    pub(crate) fn is_task(&self) -> bool {
        self.task_row.is_some()
    }

    /// The spec of the launch plan; none for a task alone, whose plan sets nothing.
    pub(crate) fn plan_spec(&self) -> Option<&LaunchPlanSpec> {
        (!self.is_task()).then_some(self.plan.spec.get())
    }
}

/// Where the two literal maps of an execution's inputs are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InputUris {
    /// Defaults and fixed inputs included.
    pub(crate) inputs: String,
    /// As the user gave them.
    pub(crate) user_inputs: String,
}

/// Everything that a new execution's record is made from, but its name and the places of its inputs.
pub(crate) struct NewExecution<'a> {
    /// The spec that is stored, its unknown fields included.
    pub(crate) spec: Stored<ExecutionSpec>,
    pub(crate) target: &'a LaunchTarget,
    pub(crate) lineage: Lineage,
    /// When admin got the request.
    pub(crate) accepted_at: Timestamp,
}

impl NewExecution<'_> {
    /// The record under the name `id`.
    pub(crate) fn record(&self, id: ExecutionId, uris: InputUris) -> Execution {
        let (spec, target, now) = (self.spec.get(), self.target, self.accepted_at);
        let metadata = spec.metadata.clone().unwrap_or_default();
        let closure = ExecutionClosure {
            created_at: Some(time::to_wire(now)),
            updated_at: Some(time::to_wire(now)),
            notifications: notifications(spec, target.plan.spec.get()),
            workflow_id: Some(target.workflow.id.to_proto()),
            state_change_details: Some(ExecutionStateChangeDetails {
                state: ExecutionState::ExecutionActive as i32,
                occurred_at: Some(time::to_wire(now)),
                principal: metadata.principal.clone(),
            }),
            ..Default::default()
        };
        let (launch_entity, launch_plan_row) = if target.is_task() {
            (LaunchEntity::Task, None)
        } else {
            (LaunchEntity::LaunchPlan, target.plan.row)
        };
        Execution {
            launch_plan_row,
            workflow_row: target.workflow.row,
            task_row: target.task_row,
            closure: Stored::new(closure),
            spec: self.spec.clone(),
            created_at: Some(now),
            updated_at: Some(now),
            mode: metadata.mode.into(),
            source_execution_row: self.lineage.source_row,
            parent_node_row: self.lineage.parent_node_row,
            cluster: metadata
                .system_metadata
                .map(|system| system.execution_cluster)
                .unwrap_or_default(),
            inputs_uri: uris.inputs,
            user_inputs_uri: uris.user_inputs,
            user: metadata.principal,
            launch_entity: Some(launch_entity),
            row_created_at: Some(now),
            ..Execution::new(id)
        }
    }
}

/// Keys and values of table `execution_tags`: one tag per label, and one without value per tag of old clients.
pub(crate) fn tags(spec: &ExecutionSpec) -> BTreeSet<(String, String)> {
    let labels = spec.labels.iter().flat_map(|labels| labels.values.clone());
    let old = spec.tags.iter().map(|tag| (tag.clone(), String::new()));
    labels.chain(old).collect()
}

/// The plan's notifications, unless the request overrides them.
fn notifications(spec: &ExecutionSpec, plan: &LaunchPlanSpec) -> Vec<Notification> {
    match &spec.notification_overrides {
        Some(NotificationOverrides::Notifications(list)) if !list.notifications.is_empty() => {
            list.notifications.clone()
        }
        Some(NotificationOverrides::DisableAll(true)) => Vec::new(),
        Some(
            NotificationOverrides::Notifications(_) | NotificationOverrides::DisableAll(false),
        )
        | None => plan
            .entity_metadata
            .as_ref()
            .map(|metadata| metadata.notifications.clone())
            .unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use flyte_idl::admin::{Labels, LaunchPlanMetadata, NotificationList};

    use super::*;

    #[test]
    fn labels_and_old_tags_become_tags() {
        let spec = ExecutionSpec {
            labels: Some(Labels {
                values: [("team".to_owned(), "red".to_owned())].into(),
            }),
            tags: vec!["nightly".to_owned(), "nightly".to_owned()],
            ..Default::default()
        };
        let expected = [("nightly", ""), ("team", "red")];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(tags(&spec), BTreeSet::from(expected));
    }

    #[test]
    fn the_plan_notifies_unless_the_request_says_otherwise() {
        let notification = |phase| Notification {
            phases: vec![phase],
            ..Default::default()
        };
        let plan = LaunchPlanSpec {
            entity_metadata: Some(LaunchPlanMetadata {
                notifications: vec![notification(1)],
                ..Default::default()
            }),
            ..Default::default()
        };
        let list = |notifications| {
            Some(NotificationOverrides::Notifications(NotificationList {
                notifications,
            }))
        };
        for (case, overrides, expected) in [
            ("nothing", None, vec![notification(1)]),
            ("others", list(vec![notification(2)]), vec![notification(2)]),
            ("an empty list", list(Vec::new()), vec![notification(1)]),
            (
                "none at all",
                Some(NotificationOverrides::DisableAll(true)),
                Vec::new(),
            ),
            (
                "not none",
                Some(NotificationOverrides::DisableAll(false)),
                vec![notification(1)],
            ),
        ] {
            let spec = ExecutionSpec {
                notification_overrides: overrides,
                ..Default::default()
            };
            assert_eq!(notifications(&spec, &plan), expected, "{case}");
        }
    }
}
