//! Whether a database can be worked with.

use sea_query::{Alias, Expr, Func, Query};

use super::{Database, DbError, database::Pools};

/// A server that answers and stores nothing.
#[derive(Debug, thiserror::Error)]
#[error(
    "it takes no writes (transaction_read_only is on: a standby, or default_transaction_read_only)"
)]
struct ReadOnly;

impl Database {
    /// Asks whether it answers and takes writes. A read replica is not asked: reads that may lag are all it is for.
    ///
    /// # Errors
    /// [`DbError::Unavailable`] with what keeps it.
    pub async fn check(&self) -> Result<(), DbError> {
        let setting = Func::cust("current_setting").arg("transaction_read_only");
        let question = match self.pools() {
            Pools::Sqlite { .. } => Expr::val("off"),
            Pools::Postgres { .. } => setting.into(),
        };
        let select = Query::select()
            .expr_as(question, Alias::new("read_only"))
            .take();
        let row = self.read().await?.fetch_optional(&select).await?;
        match (self.pools(), row) {
            (Pools::Postgres { primary, .. }, Some(row)) if row.text("read_only")? == "on" => {
                Err(primary.read_only(ReadOnly))
            }
            (Pools::Postgres { primary, .. }, _) => {
                primary.takes_writes();
                Ok(())
            }
            (Pools::Sqlite { .. }, _) => Ok(()),
        }
    }
}
