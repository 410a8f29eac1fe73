//! Repairs what a crash left between a row and its resource (issue text; flyteorg/flyte 6556, 6577).
//!
//! | the row says | and the resource | then |
//! |---|---|---|
//! | UNDEFINED for a while | is there | the engine has it; nothing |
//! | UNDEFINED for a while | is missing | it is created from the row, or the execution fails |
//! | ABORTING for a while | is there | its deletion is repeated |
//! | ABORTING for a while | is missing | the execution is ABORTED |
//!
//! Two replicas may do the same at once: names are deterministic, and the row is locked for each change.

use std::{sync::Arc, time::Duration};

use flyte_platform::Chain;
use jiff::SignedDuration;
use tokio_util::sync::CancellationToken;

use crate::{
    context::AdminContext,
    error::Result,
    handlers::executions::{
        launch,
        terminate::{end_resource, namespace},
    },
    records::{Execution, ExecutionRow},
    repository::executions::{self, Candidate, Unfinished},
    targets::{self, Holder},
};

/// Pause between passes.
const INTERVAL: Duration = Duration::from_secs(30);

/// A row that was touched later may still be in the hands of the request that made it.
const AGE: Duration = Duration::from_secs(60);

/// Rows that are read at once.
const BATCH: u64 = 100;

/// Rows per pass and phase: each may cost a request to a cluster.
const MOST: usize = 1_000;

/// Where the next pass goes on, by row number. Passes go round: rows that need nothing never keep one from later rows.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    reserved: Option<ExecutionRow>,
    aborting: Option<ExecutionRow>,
}

/// Looks for executions whose creation or end was interrupted, a page of rows at a time, until told to stop.
pub(crate) async fn run(context: Arc<AdminContext>, stop: CancellationToken) {
    let mut cursor = Cursor::default();
    loop {
        if let Err(error) = pass(&context, AGE, &mut cursor).await {
            tracing::warn!(error = %Chain(&error), "a reconciler pass failed");
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

/// One pass over rows that nothing has touched for `age`, from `cursor` on; says how many it looked at.
pub(crate) async fn pass(
    context: &AdminContext,
    age: Duration,
    cursor: &mut Cursor,
) -> Result<usize> {
    let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
    let now = context.clock.now();
    let before = now.saturating_sub(age).unwrap_or(now);
    let mut count = 0;
    for phase in [Unfinished::Reserved, Unfinished::Aborting] {
        let place = match phase {
            Unfinished::Reserved => &mut cursor.reserved,
            Unfinished::Aborting => &mut cursor.aborting,
        };
        let mut of_phase = 0;
        while of_phase < MOST {
            let mut tx = context.database.read().await?;
            let rows = executions::unfinished(&mut tx, phase, before, *place, BATCH).await?;
            drop(tx);
            let found = rows.len();
            of_phase += found;
            for Candidate { row, execution } in rows {
                *place = row;
                let execution = match execution {
                    Ok(execution) => execution,
                    Err(error) => {
                        tracing::warn!(error = %Chain(&error), "an execution cannot be looked after");
                        continue;
                    }
                };
                let outcome = match phase {
                    Unfinished::Reserved => Box::pin(finish(context, &execution)).await,
                    Unfinished::Aborting => Box::pin(end_resource(context, &execution)).await,
                };
                report(&execution, outcome);
            }
            if (found as u64) < BATCH {
                *place = None;
                break;
            }
        }
        count += of_phase;
    }
    Ok(count)
}

fn report(execution: &Execution, outcome: Result<()>) {
    if let Err(error) = outcome {
        tracing::warn!(
            project = %execution.id.project,
            domain = %execution.id.domain,
            execution = execution.id.name,
            error = %Chain(&error),
            "an execution could not be repaired"
        );
    }
}

async fn finish(context: &AdminContext, execution: &Execution) -> Result<()> {
    let target = context.targets.stored(&execution.cluster)?;
    let namespace = namespace(context, execution);
    let holder = target
        .holder(&namespace, &execution.id)
        .await
        .map_err(|error| targets::failed("looking for the resource:".to_owned(), error))?;
    // Another execution's is in the way, which ends this one with a sentence.
    if holder == Holder::Own {
        return Ok(());
    }
    tracing::info!(
        project = %execution.id.project,
        domain = %execution.id.domain,
        execution = execution.id.name,
        "finishing a reservation that was abandoned"
    );
    launch::resume(context, execution).await
}
