//! Table `reservations`: who may make an output that many want (spec 06 A8).

use flyte_platform::sql::{DbError, ReadTx, Row, WriteTx};
use jiff::Timestamp;
use sea_query::{Cond, Condition, Expr, ExprTrait as _, OnConflict, Query};

use super::columns::{DATASET_KEY, NewRow, insert, of_dataset};
use crate::{domain::reservations::ReservationKey, records::Reservation};

const TABLE: &str = "reservations";

fn is_reservation(key: &ReservationKey) -> Condition {
    of_dataset(TABLE, &key.dataset).add(Expr::col((TABLE, "tag_name")).eq(key.tag.as_str()))
}

/// Without an expiry, which only others write, it has expired.
fn read(row: &Row) -> Result<Reservation, DbError> {
    Ok(Reservation {
        owner: row.text("owner_id")?,
        expires_at: row.time("expires_at")?.unwrap_or(Timestamp::UNIX_EPOCH),
    })
}

/// Who holds a tag.
///
/// # Errors
/// The database's.
pub async fn get(tx: &mut ReadTx, key: &ReservationKey) -> Result<Option<Reservation>, DbError> {
    let select = Query::select()
        .columns([(TABLE, "owner_id"), (TABLE, "expires_at")])
        .from(TABLE)
        .cond_where(is_reservation(key))
        .take();
    let row = tx.fetch_optional(&select).await?;
    row.map(|row| read(&row)).transpose()
}

/// Takes or extends a reservation, unless somebody else holds it: the table of [`crate::domain::reservations`], decided by
/// the database in one statement. True if it is the owner's now.
///
/// # Errors
/// The database's.
pub async fn take(
    tx: &mut WriteTx,
    key: &ReservationKey,
    reservation: &Reservation,
    now: Timestamp,
) -> Result<bool, DbError> {
    let row = NewRow::at(now)
        .of_dataset(&key.dataset)
        .with("tag_name", key.tag.as_str())
        .with("owner_id", reservation.owner.as_str())
        .with("expires_at", reservation.expires_at);
    let mut statement = insert(TABLE, vec![row]);
    let expires = || Expr::col((TABLE, "expires_at"));
    let free = Cond::any()
        .add(Expr::col((TABLE, "owner_id")).eq(reservation.owner.as_str()))
        .add(expires().lt(now))
        .add(expires().is_null());
    statement.on_conflict(
        OnConflict::columns(DATASET_KEY.into_iter().chain(["tag_name"]))
            .update_columns(["owner_id", "expires_at", "updated_at"])
            .action_cond_where(free)
            .to_owned(),
    );
    Ok(tx.execute(&statement).await? > 0)
}

/// Gives back what `owner` holds; true if it did.
///
/// # Errors
/// The database's.
pub async fn release(tx: &mut WriteTx, key: &ReservationKey, owner: &str) -> Result<bool, DbError> {
    let delete = Query::delete()
        .from_table(TABLE)
        .cond_where(is_reservation(key))
        .and_where(Expr::col((TABLE, "owner_id")).eq(owner))
        .take();
    Ok(tx.execute(&delete).await? > 0)
}
