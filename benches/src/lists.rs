//! Pages of lists over a million rows, as the console and flytectl ask for them.

mod fill;
mod requests;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use flyte_admin::repository::{indexes::INDEXES, migrations};
use flyte_idl::service::admin_service_client::AdminServiceClient;
use flyte_platform::sql::{Database, DatabaseConfig};
use serde::Serialize;
use tonic::transport::Channel;

use crate::{
    backend::{Backend, Engine},
    measure::Spread,
};

/// The page of one list.
#[derive(Debug, Serialize)]
pub(crate) struct ListResult {
    /// Which database.
    pub(crate) database: &'static str,
    /// What is listed, and in which order.
    pub(crate) list: &'static str,
    /// Elements of the page.
    pub(crate) elements: usize,
    /// Milliseconds from call to answer.
    pub(crate) times: Spread,
}

/// A database and how often each list of it is asked for.
pub(crate) struct Lists<'a> {
    /// What tables call it.
    pub(crate) name: &'static str,
    /// Where it is; it is filled when it is empty.
    pub(crate) database: DatabaseConfig,
    /// Where the rest of the backend is.
    pub(crate) folder: &'a Path,
    /// Rows of each table.
    pub(crate) rows: u32,
    /// Calls of each list that count; a fifth as many before them do not.
    pub(crate) repetitions: usize,
}

/// Fills the database unless it is, and says how long rows and indexes took.
pub(crate) async fn prepare(lists: &Lists<'_>) -> anyhow::Result<Option<(Duration, Duration)>> {
    let database = Database::open(&lists.database).await?;
    migrations::run(&database).await?;
    if fill::is_filled(&database).await? {
        database.close().await;
        return Ok(None);
    }
    let began = Instant::now();
    let names: Vec<&str> = INDEXES.iter().map(|index| index.name).collect();
    // Rows first and indexes then is how an installation meets them, and it is sooner done.
    let drop = format!("DROP INDEX {}", names.join("; DROP INDEX "));
    fill::script(&database, drop).await?;
    fill::run(&database, lists.rows).await?;
    let filled = began.elapsed();
    let began = Instant::now();
    database.ensure_indexes(INDEXES).await?;
    let indexed = began.elapsed();
    database.close().await;
    Ok(Some((filled, indexed)))
}

/// Asks for each list whose title contains `only`, handing each result to `show`.
pub(crate) async fn measure(
    lists: Lists<'_>,
    only: &str,
    mut show: impl FnMut(ListResult),
) -> anyhow::Result<()> {
    let backend = Backend::start(lists.folder, lists.database, Engine::Off).await?;
    let client = AdminServiceClient::new(backend.connect().await?);
    for (title, request) in requests::all(lists.rows) {
        if !title.contains(only) {
            continue;
        }
        let mut times = Vec::with_capacity(lists.repetitions);
        let warm = lists.repetitions.div_ceil(5);
        let mut elements = 0;
        for repetition in 0..warm + lists.repetitions {
            let (took, count) = timed(client.clone(), request.clone())
                .await
                .with_context(|| format!("list {title:?}"))?;
            elements = count;
            if repetition >= warm {
                times.push(took);
            }
        }
        show(ListResult {
            database: lists.name,
            list: title,
            elements,
            times: Spread::of(times),
        });
    }
    backend.stop().await
}

async fn timed(
    client: AdminServiceClient<Channel>,
    request: requests::List,
) -> anyhow::Result<(Duration, usize)> {
    let began = Instant::now();
    let count = request.ask(client).await?;
    Ok((began.elapsed(), count))
}
