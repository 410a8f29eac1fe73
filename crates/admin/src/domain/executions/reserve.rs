//! The row of a new execution, which takes the name (spec 01 §12.2, stored spec, closure and columns).

use std::collections::BTreeSet;

use flyte_core::identifiers::{EntityId, ExecutionId};
use flyte_idl::{
    admin::{self, ExecutionSpec, execution_spec},
    stored::Stored,
};
use flyte_platform::{
    metrics::{LabelledStopWatch, Labels},
    sql::DbError,
};
use jiff::Timestamp;

use super::{
    create::{Family, Subject, random_text},
    files::{Files, Written},
};
use crate::{
    domain::time,
    error::{Error, Result},
    records::{Execution, LaunchEntity, LaunchPlan},
    repository::executions,
    service::Service,
    unknown::Unknown,
};

/// Generated names collide about never; a handful of tries is plenty.
const NAME_TRIES: usize = 5;

pub(super) struct Order<'a> {
    pub(super) request: &'a admin::ExecutionCreateRequest,
    pub(super) spec: ExecutionSpec,
    pub(super) subject: &'a Subject,
    pub(super) family: Family,
    pub(super) accepted_at: Timestamp,
    /// Of the request's spec.
    pub(super) unknown: Unknown,
}

/// Writes the files of inputs and inserts the row and its tags. From here on the name is taken.
pub(super) async fn reserve(
    service: &Service,
    order: Order<'_>,
    files: &Files,
) -> Result<Execution> {
    let request = order.request;
    let mut tries = if request.name.is_empty() {
        NAME_TRIES
    } else {
        1
    };
    loop {
        tries -= 1;
        let name = if request.name.is_empty() {
            format!("a{}", random_text(19))
        } else {
            request.name.clone()
        };
        let id = ExecutionId::new(&request.project, &request.domain, &name)?;
        let written = files.write(service, &id).await?;
        let execution = row(id, &order, &written);
        let policy = order
            .subject
            .plan_spec()
            .and_then(|plan| plan.concurrency_policy)
            .map(|policy| (policy, order.subject.plan.id.clone()));
        let counts = &service.counts().executions;
        let reservation = Reservation {
            check: counts.concurrency_check.clone(),
            tags: tags(&order.spec),
            execution,
            policy,
            now: order.accepted_at,
        };
        let inserted = service
            .database
            .write(reservation, |reservation, tx| {
                Box::pin(insert(reservation, tx))
            })
            .await;
        match inserted {
            Err(error @ Error::LimitReached { .. }) => {
                if request.name.is_empty() {
                    written.remove(service).await;
                }
                counts.limit_hit(&order.subject.plan.id);
                return Err(error);
            }
            Err(Error::Store(DbError::UniqueViolation { .. })) if tries > 0 => {}
            outcome => return outcome,
        }
    }
}

struct Reservation {
    /// Times the count of executions.
    check: LabelledStopWatch,
    execution: Execution,
    tags: BTreeSet<(String, String)>,
    policy: Option<(admin::ConcurrencyPolicy, EntityId)>,
    now: Timestamp,
}

async fn insert(
    reservation: &Reservation,
    tx: &mut flyte_platform::sql::WriteTx,
) -> Result<Execution> {
    if let Some((policy, plan)) = &reservation.policy {
        let names = (
            plan.project.as_str(),
            plan.domain.as_str(),
            plan.name.as_str(),
        );
        tx.lock(&format!("concurrency {}:{}:{}", names.0, names.1, names.2))
            .await?;
        let labels = Labels {
            project: names.0,
            domain: names.1,
            launch_plan: names.2,
            ..Labels::default()
        };
        let count = executions::count_active(tx, names);
        let count = reservation.check.timed(&labels, count).await?;
        require_room(*policy, count, &plan.name)?;
    }
    let mut execution = reservation.execution.clone();
    execution.row = executions::insert(tx, &execution, reservation.now).await?;
    executions::insert_tags(tx, &execution.id, &reservation.tags, reservation.now).await?;
    Ok(execution)
}

/// The concurrency policy of a launch plan (spec 01 §10.4).
fn require_room(policy: admin::ConcurrencyPolicy, count: i64, plan: &str) -> Result<()> {
    if policy.max <= 0 || count < i64::from(policy.max) {
        return Ok(());
    }
    match admin::ConcurrencyLimitBehavior::try_from(policy.behavior) {
        Ok(admin::ConcurrencyLimitBehavior::Skip) => Err(Error::LimitReached {
            max: policy.max,
            launch_plan: plan.to_owned(),
        }),
        Ok(admin::ConcurrencyLimitBehavior::Unspecified) => Ok(()),
        Err(_unknown) => Err(Error::Internal(format!(
            "unsupported concurrency limit behavior {}",
            policy.behavior
        ))),
    }
}

/// One tag per label, and one without value per old tag.
fn tags(spec: &ExecutionSpec) -> BTreeSet<(String, String)> {
    let labels = spec.labels.iter().flat_map(|labels| labels.values.clone());
    let old = spec.tags.iter().map(|tag| (tag.clone(), String::new()));
    labels.chain(old).collect()
}

fn notifications(spec: &ExecutionSpec, plan: &LaunchPlan) -> Vec<admin::Notification> {
    use execution_spec::NotificationOverrides;
    let of_plan = || {
        plan.spec
            .get()
            .entity_metadata
            .as_ref()
            .map(|metadata| metadata.notifications.clone())
            .unwrap_or_default()
    };
    match &spec.notification_overrides {
        Some(NotificationOverrides::Notifications(list)) if !list.notifications.is_empty() => {
            list.notifications.clone()
        }
        Some(NotificationOverrides::DisableAll(true)) => Vec::new(),
        Some(
            NotificationOverrides::Notifications(_) | NotificationOverrides::DisableAll(false),
        )
        | None => of_plan(),
    }
}

/// The row of a new execution.
fn row(id: ExecutionId, order: &Order<'_>, written: &Written) -> Execution {
    let Order {
        spec,
        subject,
        family,
        accepted_at,
        ..
    } = order;
    let now = *accepted_at;
    let metadata = spec.metadata.clone().unwrap_or_default();
    let closure = admin::ExecutionClosure {
        created_at: Some(time::to_wire(now)),
        updated_at: Some(time::to_wire(now)),
        notifications: notifications(spec, &subject.plan),
        workflow_id: Some(subject.workflow.id.to_proto()),
        state_change_details: Some(admin::ExecutionStateChangeDetails {
            state: admin::ExecutionState::ExecutionActive as i32,
            occurred_at: Some(time::to_wire(now)),
            principal: metadata.principal.clone(),
        }),
        ..Default::default()
    };
    let entity = if subject.task_row.is_some() {
        LaunchEntity::Task
    } else {
        LaunchEntity::LaunchPlan
    };
    Execution {
        launch_plan_row: match entity {
            LaunchEntity::Task => None,
            _ => subject.plan.row,
        },
        workflow_row: subject.workflow.row,
        task_row: subject.task_row,
        closure: Stored::new(closure),
        spec: order.unknown.store(spec.clone()),
        created_at: Some(now),
        updated_at: Some(now),
        mode: metadata.mode.into(),
        source_execution_row: family.source_row,
        parent_node_row: family.parent_node_row,
        cluster: metadata
            .system_metadata
            .map(|system| system.execution_cluster)
            .unwrap_or_default(),
        inputs_uri: written.inputs.clone(),
        user_inputs_uri: written.user_inputs.clone(),
        user: metadata.principal,
        launch_entity: Some(entity),
        row_created_at: Some(now),
        ..Execution::new(id)
    }
}
