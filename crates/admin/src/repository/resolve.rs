//! What few rows fit is looked for first: a planner walks a list in its order, and for a filter that it takes for common, or
//! knows nothing of, it walks past all other rows.
//!
//! A filter becomes the row numbers that fit, if they are few, and stays as it is otherwise: of what is common, a page is
//! soon full. Neither question takes longer than the index entries of some thousand rows.

use flyte_platform::sql::{DbError, Dialect, ReadTx};
use sea_query::{
    Alias, Condition, Expr, ExprTrait as _, JoinType, Order, Query, SelectStatement, Value,
    ValueTuple,
};

use super::query::{checked, condition, is_tag, restrict, select};
use crate::filters::{
    Comparison, EXECUTION_TAGS, EXECUTIONS, Entity, LAUNCH_PLANS, ListQuery, Predicate, TASKS,
    Test, WORKFLOWS,
};

/// The most row numbers that stand for a filter.
const FEW: usize = 1_000;

/// Columns that all rows of a list have equal: its project, its domain, perhaps a name.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) table: &'static str,
    pub(super) columns: Vec<(&'static str, String)>,
}

impl Scope {
    /// As a condition that an index may answer.
    fn indexed(&self) -> Condition {
        self.condition(|column| column)
    }

    /// As one that leaves SQLite the other indexes: it takes those that begin with project and domain for the best.
    fn checked(&self, dialect: Dialect) -> Condition {
        self.condition(|column| checked(column, dialect))
    }

    fn condition(&self, how: impl Fn(Expr) -> Expr) -> Condition {
        let equal = |(column, value): &(&'static str, String)| {
            how(Expr::col((self.table, *column))).eq(value.as_str())
        };
        self.columns
            .iter()
            .map(equal)
            .fold(Condition::all(), Condition::add)
    }
}

/// Restricts a select to `scope`, and to what `list` asks for in its order.
///
/// # Errors
/// The database's.
pub(super) async fn apply(
    tx: &mut ReadTx,
    select: &mut SelectStatement,
    primary: &'static Entity,
    scope: &Scope,
    list: &ListQuery,
) -> Result<(), DbError> {
    let mut resolved = list.clone();
    joined(tx, primary, &mut resolved).await?;
    let dialect = tx.dialect();
    if own(tx, primary, scope, &mut resolved).await? == Found::Rows {
        select.cond_where(scope.checked(dialect));
    } else {
        select.cond_where(scope.indexed());
    }
    super::query::apply(select, primary, &resolved, dialect);
    Ok(())
}

/// What the filters of a list have come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// The numbers of some rows.
    Rows,
    /// Nothing that is better than the list's own order.
    Nothing,
}

/// Filters on tables that the list is joined with by their row number.
async fn joined(
    tx: &mut ReadTx,
    primary: &'static Entity,
    list: &mut ListQuery,
) -> Result<(), DbError> {
    for (joined, column) in [
        (&LAUNCH_PLANS, "launch_plan_id"),
        (&WORKFLOWS, "workflow_id"),
        (&TASKS, "task_id"),
    ] {
        let Some(column) = primary.column(column).filter(|_| primary != joined) else {
            continue;
        };
        let (of_joined, others): (Vec<_>, Vec<_>) = list
            .predicates
            .iter()
            .cloned()
            .partition(|predicate| predicate.entity == joined);
        if of_joined.is_empty() {
            continue;
        }
        let mut ids = select(joined.table, &["id"]);
        restrict(&mut ids, joined, &of_joined, tx.dialect());
        let Some(mut ids) = few(tx, ids).await? else {
            continue;
        };
        list.predicates = others;
        let test = match (ids.len(), ids.pop()) {
            (1, Some(id)) => Test::Compare(Comparison::Equal, id),
            (_, last) => Test::In(ids.into_iter().chain(last).collect()),
        };
        list.predicates.push(Predicate {
            entity: primary,
            column,
            test,
            checked: false,
        });
    }
    Ok(())
}

/// The first filter, on the list itself or its tags, that an index finds and few rows fit.
async fn own(
    tx: &mut ReadTx,
    primary: &'static Entity,
    scope: &Scope,
    list: &mut ListQuery,
) -> Result<Found, DbError> {
    let Some(id) = primary.column("id") else {
        return Ok(Found::Nothing);
    };
    let tags: Vec<_> = list
        .predicates
        .iter()
        .filter(|predicate| is_tag(predicate))
        .cloned()
        .collect();
    let mut questions = Vec::new();
    if !tags.is_empty() {
        let question = with_tag(&tags, tx.dialect());
        questions.push((tags, question));
    }
    for predicate in &list.predicates {
        if let Some(question) = found_by_index(primary, predicate, scope, tx.dialect()) {
            questions.push((vec![predicate.clone()], question));
        }
    }
    for (predicates, mut question) in questions {
        if predicates.iter().any(is_tag) {
            question.cond_where(scope.checked(tx.dialect()));
        }
        if let Some(ids) = few(tx, question).await? {
            list.predicates
                .retain(|predicate| !predicates.contains(predicate));
            list.predicates.push(Predicate {
                entity: primary,
                column: id,
                test: Test::In(ids),
                checked: false,
            });
            return Ok(Found::Rows);
        }
    }
    Ok(Found::Nothing)
}

/// Row numbers of executions that have such a tag.
fn with_tag(tags: &[Predicate], dialect: Dialect) -> SelectStatement {
    let same_execution = ["execution_project", "execution_domain", "execution_name"]
        .into_iter()
        .fold(Condition::all(), |condition, column| {
            condition
                .add(Expr::col((EXECUTION_TAGS.table, column)).equals((EXECUTIONS.table, column)))
        });
    let mut question = Query::select();
    question
        .column((EXECUTIONS.table, "id"))
        .from(EXECUTION_TAGS.table)
        .join(JoinType::InnerJoin, EXECUTIONS.table, same_execution);
    for tag in tags {
        question.and_where(condition(tag, dialect));
    }
    question
}

/// Row numbers that fit a predicate, if an index leads to them and none leads through them in an order.
fn found_by_index(
    primary: &'static Entity,
    predicate: &Predicate,
    scope: &Scope,
    dialect: Dialect,
) -> Option<SelectStatement> {
    if predicate.entity != primary {
        return None;
    }
    let column = predicate.column.name;
    match (&predicate.test, column) {
        (Test::In(values), "phase" | "user" | "workflow_id" | "launch_plan_id" | "task_id")
            if !values.is_empty() =>
        {
            Some(one_of(primary.table, column, values, scope, dialect))
        }
        (
            Test::Compare(
                Comparison::Greater
                | Comparison::GreaterOrEqual
                | Comparison::Less
                | Comparison::LessOrEqual,
                _,
            ),
            "duration",
        ) => {
            let mut question = select(primary.table, &["id"]);
            question
                .cond_where(scope.indexed())
                .and_where(condition(predicate, dialect));
            Some(question)
        }
        _ => None,
    }
}

/// Row numbers whose column has one of the values.
///
/// Both take a list of values for as common as the average one, and a limit for a reason to read the whole table. So
/// PostgreSQL is led from each value to its rows, and SQLite asked for the order of the index.
fn one_of(
    table: &'static str,
    column: &'static str,
    values: &[Value],
    scope: &Scope,
    dialect: Dialect,
) -> SelectStatement {
    let mut of_value = select(table, &["id"]);
    // The index by phase or user begins with the scope, the others do not have it.
    of_value.cond_where(match column {
        "phase" | "user" => scope.indexed(),
        _ => scope.checked(dialect),
    });
    match dialect {
        Dialect::Sqlite => of_value
            .and_where(Expr::col((table, column)).is_in(values.iter().cloned()))
            .order_by((table, column), Order::Asc)
            .take(),
        Dialect::Postgres => {
            of_value
                .and_where(Expr::col((table, column)).equals(("given", "column1")))
                .limit(FEW as u64 + 1);
            let values = values.iter().cloned().map(ValueTuple::One);
            Query::select()
                .column(("found", "id"))
                .from_values(values, Alias::new("given"))
                .join_lateral(
                    JoinType::InnerJoin,
                    of_value,
                    Alias::new("found"),
                    Condition::all().add(Expr::val(true)),
                )
                .take()
        }
    }
}

/// The row numbers that a question finds, unless they are many.
async fn few(
    tx: &mut ReadTx,
    mut question: SelectStatement,
) -> Result<Option<Vec<Value>>, DbError> {
    question.limit(FEW as u64 + 1);
    let rows = tx.fetch_all(&question).await?;
    if rows.len() > FEW {
        return Ok(None);
    }
    let ids = rows.iter().map(|row| row.integer("id").map(Value::from));
    ids.collect::<Result<_, _>>().map(Some)
}
