//! The loops that look after the database: one asks whether it answers, and health is NOT_SERVING while it does not; one
//! keeps its statistics up to date.

use std::{sync::Arc, time::Duration};

use flyte_platform::{
    Chain,
    sql::{Database, DbError},
};
use sea_query::{Expr, Query};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Pause between questions.
const HEALTH_INTERVAL: Duration = Duration::from_secs(2);

/// How long an answer may take, the wait for a connection included. A server whose processes are stopped, or whose network is
/// gone, neither answers nor closes its connections.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Pause between looks at what the tables hold.
const STATISTICS_INTERVAL: Duration = Duration::from_secs(3600);

/// Lets a database that does not do so itself keep its statistics up to date.
pub(crate) async fn keep_statistics(database: Database, stop: CancellationToken) {
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
pub(crate) async fn watch_health(
    database: Database,
    mut ready: watch::Receiver<bool>,
    serving: Arc<watch::Sender<bool>>,
    stop: CancellationToken,
) {
    let mut answered = true;
    loop {
        let answers = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            answers = ask(&database) => answers,
        };
        match &answers {
            Err(error) if answered => {
                tracing::error!(error = %Chain(error), "the database does not answer; health is NOT_SERVING");
            }
            Ok(()) if !answered => tracing::info!("the database answers again"),
            _ => {}
        }
        answered = answers.is_ok();
        let now = *ready.borrow_and_update() && answered;
        serving.send_if_modified(|serving| std::mem::replace(serving, now) != now);
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Ok(()) = ready.changed() => {}
            () = tokio::time::sleep(HEALTH_INTERVAL) => {}
        }
    }
}

async fn ask(database: &Database) -> Result<(), DbError> {
    let answer = async {
        let mut tx = database.read().await?;
        tx.fetch_optional(&Query::select().expr(Expr::val(1)).take())
            .await
            .map(drop)
    };
    tokio::time::timeout(ANSWER_WITHIN, answer)
        .await
        .unwrap_or_else(|_elapsed| Err(database.silent(ANSWER_WITHIN)))
}
