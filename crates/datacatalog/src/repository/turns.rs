//! Table `flyte_rs_retention`: whose turn it is. Of several processes on one database, one does a work that is due.

use flyte_platform::sql::{DbError, ReadTx, WriteTx};
use jiff::{SignedDuration, Timestamp};
use sea_query::{Cond, Expr, ExprTrait as _, OnConflict, Query};

use super::columns::{NewRow, insert};

const TABLE: &str = "flyte_rs_retention";

/// Takes the turn of a work that is due at `now`, and leaves the next one for an `interval` later; false if it is not due, or
/// another has taken it. Whether it is due is for [`is_due`] to say.
///
/// # Errors
/// The database's.
pub async fn take(
    tx: &mut WriteTx,
    name: &str,
    now: Timestamp,
    interval: SignedDuration,
) -> Result<bool, DbError> {
    let next = later(now, interval);
    let row = NewRow::default().with("name", name).with("next_run", next);
    let mut statement = insert(TABLE, vec![row]);
    let next_run = || Expr::col((TABLE, "next_run"));
    let due = Cond::any()
        .add(next_run().lte(now))
        .add(next_run().gt(later(next, interval)));
    statement.on_conflict(
        OnConflict::column("name")
            .update_column("next_run")
            .action_cond_where(due)
            .to_owned(),
    );
    Ok(tx.execute(&statement).await? > 0)
}

/// Whether a work whose turn is at `next` is due. One that is more than two intervals away was left by a configuration that was
/// another; one is not enough, because clocks of processes differ.
pub fn is_due(next: Timestamp, now: Timestamp, interval: SignedDuration) -> bool {
    next <= now || next > later(later(now, interval), interval)
}

fn later(now: Timestamp, interval: SignedDuration) -> Timestamp {
    now.saturating_add(interval).unwrap_or(Timestamp::MAX)
}

/// When a work is due; none if it has never been done.
///
/// # Errors
/// The database's.
pub async fn next(tx: &mut ReadTx, name: &str) -> Result<Option<Timestamp>, DbError> {
    let select = Query::select()
        .column((TABLE, "next_run"))
        .from(TABLE)
        .and_where(Expr::col((TABLE, "name")).eq(name))
        .take();
    let row = tx.fetch_optional(&select).await?;
    row.map_or(Ok(None), |row| row.time("next_run"))
}
