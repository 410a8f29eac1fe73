//! Embedded migrations, recorded in Go's table.
//!
//! A file of migrations is SQL in sections, each opened by a line `-- migration: <id>` and optionally
//! closed by one `-- rollback` with the statements that undo it. Table `migrations(id)` says which ones
//! have run, exactly as gormigrate keeps it (spec 01 §20), so that Go and we can follow each other.

use sea_query::{Alias, Expr, ExprTrait as _, Query};

use super::{Database, DbError, Dialect, WriteTx};

/// An ordered list of migrations.
#[derive(Clone, Debug)]
pub struct Migrations {
    list: Vec<Migration>,
}

/// One step of a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Its id in table `migrations`.
    pub id: String,
    /// Statements that run together with the insertion of the id.
    pub up: String,
    /// Statements that undo it; `None` where that is impossible.
    pub down: Option<String>,
}

/// Why a schema could not be brought up to date or taken back.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// A statement of a migration failed; its transaction was rolled back.
    #[error("migration {id}")]
    Failed {
        /// The id of the migration.
        id: String,
        /// What the database answered.
        #[source]
        source: DbError,
    },
    /// The newest migration that has run cannot be undone.
    #[error("migration {id}: it is impossible to rollback this migration")]
    Irreversible {
        /// The id of the migration.
        id: String,
    },
    /// No migration has run.
    #[error("there is no migration to roll back")]
    NothingToRollBack,
    /// The ledger could not be read or locked.
    #[error("the table of migrations")]
    Ledger(#[from] DbError),
}

/// Serializes concurrent starts on PostgreSQL, of services that share a database too.
pub const LOCK: &str = "flyte migrations";

impl super::database::Retryable for MigrationError {
    fn collided(&self) -> bool {
        match self {
            Self::Failed { source, .. } | Self::Ledger(source) => source.collided(),
            Self::Irreversible { .. } | Self::NothingToRollBack => false,
        }
    }
}

impl Migrations {
    /// Reads sections from `text`; what stands before the first one is commentary.
    pub fn parse(text: &str) -> Self {
        let mut list: Vec<Migration> = Vec::new();
        for line in text.lines() {
            if let Some(id) = line.strip_prefix("-- migration: ") {
                list.push(Migration {
                    id: id.trim().to_owned(),
                    up: String::new(),
                    down: None,
                });
            } else if let Some(current) = list.last_mut() {
                if line.trim() == "-- rollback" {
                    current.down = Some(String::new());
                    continue;
                }
                let part = current.down.as_mut().unwrap_or(&mut current.up);
                part.push_str(line);
                part.push('\n');
            }
        }
        Self { list }
    }

    /// The migrations in order.
    pub fn list(&self) -> &[Migration] {
        &self.list
    }

    /// Runs every migration whose id is missing, in order. Processes that start together run it once.
    ///
    /// An empty database gets everything in one transaction; on one that has run some, each missing
    /// migration is its own, so that a long list makes progress.
    ///
    /// # Errors
    /// The first migration that failed; those before it stay.
    pub async fn run(&self, database: &Database) -> Result<usize, MigrationError> {
        let list = self.list.clone();
        let first = database
            .write(list, |list, tx| {
                Box::pin(async move {
                    let done = ledger(tx).await?;
                    if !done.is_empty() {
                        return Ok(None);
                    }
                    for migration in list {
                        apply(tx, migration).await?;
                    }
                    Ok::<_, MigrationError>(Some(list.len()))
                })
            })
            .await?;
        if let Some(count) = first {
            return Ok(count);
        }
        let mut count = 0;
        for migration in &self.list {
            count += database
                .write(migration.clone(), |migration, tx| {
                    Box::pin(async move {
                        if ledger(tx).await?.contains(&migration.id) {
                            return Ok(0);
                        }
                        apply(tx, migration).await?;
                        Ok::<_, MigrationError>(1)
                    })
                })
                .await?;
        }
        Ok(count)
    }

    /// Undoes the last migration of the list that has run and returns its id.
    ///
    /// # Errors
    /// [`MigrationError::Irreversible`] where the reference has no way back either.
    pub async fn roll_back(&self, database: &Database) -> Result<String, MigrationError> {
        database
            .write(self.list.clone(), |list, tx| {
                Box::pin(async move {
                    let done = ledger(tx).await?;
                    let last = list
                        .iter()
                        .rev()
                        .find(|migration| done.contains(&migration.id))
                        .ok_or(MigrationError::NothingToRollBack)?;
                    let id = last.id.clone();
                    let Some(down) = &last.down else {
                        return Err(MigrationError::Irreversible { id });
                    };
                    let undone = async {
                        tx.execute_script(down).await?;
                        let delete = Query::delete()
                            .from_table(Alias::new("migrations"))
                            .and_where(Expr::col(Alias::new("id")).eq(id.as_str()))
                            .take();
                        tx.execute(&delete).await
                    };
                    match undone.await {
                        Ok(_) => Ok(id),
                        Err(source) => Err(MigrationError::Failed { id, source }),
                    }
                })
            })
            .await
    }
}

/// Locks and reads the ids that have run; creates the table when it is missing.
async fn ledger(tx: &mut WriteTx) -> Result<Vec<String>, DbError> {
    if tx.dialect() == Dialect::Postgres {
        // A large table takes as long as it takes, and so may the other process that has the lock.
        tx.execute_script("SET LOCAL statement_timeout = 0").await?;
    }
    tx.lock(LOCK).await?;
    let column = match tx.dialect() {
        Dialect::Sqlite => "id TEXT PRIMARY KEY NOT NULL",
        Dialect::Postgres => "id varchar(255) PRIMARY KEY",
    };
    tx.execute_script(&format!("CREATE TABLE IF NOT EXISTS migrations ({column})"))
        .await?;
    let select = Query::select()
        .column(Alias::new("id"))
        .from(Alias::new("migrations"))
        .take();
    let rows = tx.fetch_all(&select).await?;
    rows.iter().map(|row| row.text("id")).collect()
}

async fn apply(tx: &mut WriteTx, migration: &Migration) -> Result<(), MigrationError> {
    let id = migration.id.as_str();
    let insert = Query::insert()
        .into_table(Alias::new("migrations"))
        .columns([Alias::new("id")])
        .values_panic([id.into()])
        .take();
    let done = async {
        tx.execute_script(&migration.up).await?;
        tx.execute(&insert).await
    };
    match done.await {
        Ok(_) => Ok(()),
        Err(source) => Err(MigrationError::Failed {
            id: id.to_owned(),
            source,
        }),
    }
}
