//! The row of a new execution, which takes the name (spec 01 §12.2).

use std::collections::BTreeSet;

use flyte_core::identifiers::{EntityId, ExecutionId};
use flyte_idl::admin;
use flyte_platform::{
    metrics::{LabelledStopWatch, Labels},
    sql::{DbError, WriteTx},
};
use jiff::Timestamp;

use super::files::{self, Files};
use crate::{
    context::AdminContext,
    domain::executions::{
        concurrency::require_room,
        folder,
        record::{NewExecution, tags},
    },
    error::{Error, Result},
    random::random_text,
    records::Execution,
    repository::{Names, executions},
};

/// Generated names collide about never; a handful of tries is plenty.
const NAME_TRIES: usize = 5;

/// Writes the files of inputs and inserts the row and its tags. From here on the name is taken.
pub(super) async fn reserve(
    context: &AdminContext,
    request: &admin::ExecutionCreateRequest,
    new: &NewExecution<'_>,
    files: &Files,
) -> Result<Execution> {
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
        let uris = files.write(context, &id).await?;
        let policy = new
            .target
            .plan_spec()
            .and_then(|plan| plan.concurrency_policy)
            .map(|policy| (policy, new.target.plan.id.clone()));
        let metrics = &context.metrics().executions;
        let reservation = Reservation {
            check: metrics.concurrency_check.clone(),
            tags: tags(new.spec.get()),
            execution: new.record(id, uris.clone()),
            policy,
            now: new.accepted_at,
        };
        let inserted = context
            .database
            .write(reservation, |reservation, tx| {
                Box::pin(insert(reservation, tx))
            })
            .await;
        if let Err(Error::LimitReached { .. } | Error::SharedFolder { .. }) = &inserted
            && request.name.is_empty()
        {
            files::remove(context, &uris).await;
        }
        match inserted {
            Err(error @ Error::LimitReached { .. }) => {
                metrics.limit_hit(&new.target.plan.id);
                return Err(error);
            }
            Err(Error::SharedFolder { .. } | Error::Store(DbError::UniqueViolation { .. }))
                if tries > 0 => {}
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

async fn insert(reservation: &Reservation, tx: &mut WriteTx) -> Result<Execution> {
    if let Some((policy, plan)) = &reservation.policy {
        let names = Names::of(plan);
        let Names {
            project,
            domain,
            name,
        } = names;
        tx.lock(&format!("concurrency {project}:{domain}:{name}"))
            .await?;
        let labels = Labels {
            project,
            domain,
            launch_plan: name,
            ..Labels::default()
        };
        let count = executions::count_active(tx, names);
        let count = reservation.check.timed(&labels, count).await?;
        require_room(*policy, count, &plan.name)?;
    }
    require_own_folder(tx, &reservation.execution.id).await?;
    let mut execution = reservation.execution.clone();
    execution.row = executions::insert(tx, &execution, reservation.now).await?;
    executions::insert_tags(tx, &execution.id, &reservation.tags, reservation.now).await?;
    Ok(execution)
}

/// Refuses an execution whose folder another one has. Of several that come at once the lock lets one through at a time.
async fn require_own_folder(tx: &mut WriteTx, id: &ExecutionId) -> Result<()> {
    let others = folder::others(id);
    if others.is_empty() {
        return Ok(());
    }
    let folder = folder::folder(id);
    tx.lock(&format!("folder {folder}")).await?;
    match executions::find_any(tx, &others).await? {
        None => Ok(()),
        Some(other) => Err(Error::SharedFolder {
            id: id.to_string(),
            folder,
            other: other.to_string(),
        }),
    }
}
