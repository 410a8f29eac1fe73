//! The loops that look after the database: one asks whether it answers and takes writes, and health is NOT_SERVING while it does
//! not; one keeps its statistics up to date.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Database, DbError};
use crate::Chain;

/// Pause between questions.
const HEALTH_INTERVAL: Duration = Duration::from_secs(2);

/// How long an answer may take, the wait for a connection included. A server whose processes are stopped, or whose network is
/// gone, neither answers nor closes its connections.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Pause between looks at what the tables hold.
const STATISTICS_INTERVAL: Duration = Duration::from_secs(3600);

/// Lets a database that does not do so itself keep its statistics up to date.
pub async fn keep_statistics(database: Database, stop: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(STATISTICS_INTERVAL) => {}
        }
        if let Err(error) = database.optimize().await {
            tracing::warn!(error = %Chain(&error), "the statistics of the database are as they were");
        }
    }
}

/// Keeps `serving` as `ready` and the database are.
pub async fn watch_health(
    database: Database,
    mut ready: watch::Receiver<bool>,
    serving: Arc<watch::Sender<bool>>,
    stop: CancellationToken,
) {
    let mut was_there = true;
    loop {
        let checked = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            checked = check(&database) => checked,
        };
        match &checked {
            Err(error) if was_there => {
                tracing::error!(error = %Chain(error), "the database does not do its work; health is NOT_SERVING");
            }
            Ok(()) if !was_there => tracing::info!("the database does its work again"),
            _ => {}
        }
        was_there = checked.is_ok();
        let now = *ready.borrow_and_update() && was_there;
        serving.send_if_modified(|serving| std::mem::replace(serving, now) != now);
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Ok(()) = ready.changed() => {}
            () = tokio::time::sleep(HEALTH_INTERVAL) => {}
        }
    }
}

async fn check(database: &Database) -> Result<(), DbError> {
    tokio::time::timeout(ANSWER_WITHIN, database.check())
        .await
        .unwrap_or_else(|_elapsed| Err(database.silent(ANSWER_WITHIN)))
}
