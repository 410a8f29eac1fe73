//! The schema of this service, and what is missing of it in a database.
//!
//! Go's datacatalog keeps no ledger of migrations: each time it makes the tables, columns and indexes that are missing. So
//! does this, so that either follows the other, and a database whose tables were dropped to empty the cache gets them again.

use std::collections::BTreeSet;

use flyte_platform::{
    Chain,
    sql::{Database, DbError, Dialect, Index, MIGRATION_LOCK, ReadTx, WriteTx},
};
use sea_query::{Expr, ExprTrait as _, Query, SelectStatement};

/// What begins a section of the file: the things that it makes, any of which is enough for it to be made.
const SECTION: &str = "-- creates: ";

/// What the names of our own tables begin with.
const OWN: &str = "table flyte_rs_";

/// Indexes besides Go's (docs/operations.md, "Indexes"): artifacts by their id alone and by age, and lists by creation time.
pub const INDEXES: &[Index] = &[
    Index {
        name: "flyte_rs_artifacts_id",
        on: "artifacts (artifact_id)",
    },
    Index {
        name: "flyte_rs_artifacts_created",
        on: "artifacts (dataset_uuid, created_at, artifact_id)",
    },
    Index {
        name: "flyte_rs_artifacts_written",
        on: "artifacts (updated_at, artifact_id)",
    },
    Index {
        name: "flyte_rs_datasets_created",
        on: "datasets (created_at)",
    },
];

/// Statements, and the things that are there after them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Section {
    /// `table <name>`, `column <table>.<name>` or `index <name>`.
    creates: Vec<String>,
    statements: String,
}

/// Makes what is missing, and says how many things that was. Processes that start together make it once.
///
/// # Errors
/// The database's; then nothing is made.
pub async fn complete(database: &Database) -> Result<usize, DbError> {
    let sections = sections(database.dialect());
    let made = database
        .write(sections, |sections, tx| {
            Box::pin(async move { make(tx, sections).await })
        })
        .await?;
    match database.ensure_indexes(INDEXES).await {
        Ok(_) => {}
        // Everything works without them.
        Err(error) => {
            tracing::warn!(error = %Chain(&error), "indexes for lists are missing, which makes lists slow");
        }
    }
    Ok(made)
}

/// Makes our own tables where Go's datacatalog made the others. A role that may not make tables needs them to be there.
///
/// # Errors
/// The database's.
pub async fn complete_own(database: &Database) -> Result<(), DbError> {
    let mut own = sections(database.dialect());
    own.retain(|section| section.creates.iter().any(|name| name.starts_with(OWN)));
    let mut tx = database.read().await?;
    let there = existing(&mut tx).await?;
    drop(tx);
    own.retain(|section| !section.creates.iter().any(|name| there.contains(name)));
    if own.is_empty() {
        return Ok(());
    }
    let making = database.write(own, |own, tx| Box::pin(async move { make(tx, own).await }));
    making.await.map(drop)
}

async fn make(tx: &mut WriteTx, sections: &[Section]) -> Result<usize, DbError> {
    if tx.dialect() == Dialect::Postgres {
        // A large table takes as long as it takes, and so may the other process that has the lock.
        tx.execute_script("SET LOCAL statement_timeout = 0").await?;
    }
    tx.lock(MIGRATION_LOCK).await?;
    let there = existing(tx).await?;
    let mut new_tables = BTreeSet::new();
    let mut made = 0;
    for section in sections {
        let of_new_table = section.creates.iter().any(|name| {
            let column = name
                .strip_prefix("column ")
                .and_then(|name| name.split_once('.'));
            column.is_some_and(|(table, _)| new_tables.contains(table))
        });
        if of_new_table || section.creates.iter().any(|name| there.contains(name)) {
            continue;
        }
        tx.execute_script(&section.statements).await?;
        let tables = section.creates.iter();
        new_tables.extend(tables.filter_map(|name| name.strip_prefix("table ")));
        made += 1;
    }
    Ok(made)
}

fn sections(dialect: Dialect) -> Vec<Section> {
    let text = match dialect {
        Dialect::Postgres => {
            include_str!("../../../../migrations/postgres/datacatalog/schema.sql")
        }
        Dialect::Sqlite => include_str!("../../../../migrations/sqlite/datacatalog/schema.sql"),
    };
    let mut sections: Vec<Section> = Vec::new();
    for line in text.lines() {
        if let Some(creates) = line.strip_prefix(SECTION) {
            sections.push(Section {
                creates: creates.split(" or ").map(str::to_owned).collect(),
                statements: String::new(),
            });
        } else if let Some(section) = sections.last_mut() {
            section.statements.push_str(line);
            section.statements.push('\n');
        }
    }
    sections
}

/// The names of all things that are there, as sections have them.
async fn existing(tx: &mut ReadTx) -> Result<BTreeSet<String>, DbError> {
    let selects = match tx.dialect() {
        Dialect::Sqlite => vec![named("type || ' ' || name", "sqlite_master")],
        Dialect::Postgres => {
            let here = |column: &'static str| Expr::col(column).eq(Expr::cust("current_schema()"));
            let mut columns = named("'column ' || table_name || '.' || column_name", "columns");
            columns
                .from_clear()
                .from(("information_schema", "columns"))
                .and_where(here("table_schema"));
            let mut tables = named("'table ' || tablename", "pg_tables");
            tables.and_where(here("schemaname"));
            let mut indexes = named("'index ' || indexname", "pg_indexes");
            indexes.and_where(here("schemaname"));
            vec![columns, tables, indexes]
        }
    };
    let mut names = BTreeSet::new();
    for select in selects {
        for row in tx.fetch_all(&select).await? {
            names.insert(row.text("value")?);
        }
    }
    Ok(names)
}

fn named(expression: &'static str, table: &'static str) -> SelectStatement {
    Query::select()
        .expr_as(Expr::cust(expression), "value")
        .from(table)
        .take()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_databases_get_the_same_tables_and_indexes() {
        let names = |dialect| -> BTreeSet<String> {
            let sections = sections(dialect).into_iter();
            sections
                .filter_map(|section| section.creates.into_iter().next())
                .filter(|name| !name.starts_with("column "))
                .collect()
        };
        assert_eq!(names(Dialect::Sqlite), names(Dialect::Postgres));
        assert_eq!(names(Dialect::Sqlite).len(), 17);
    }
}
