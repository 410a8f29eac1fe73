//! Lists as SQL: predicates, joins, order and page (spec 01 §5.3, §5.4).

use flyte_platform::sql::{DbError, Dialect, ReadTx};
use sea_query::{
    Cond, Condition, Expr, ExprTrait as _, Func, IntoColumnRef, JoinType, LikeExpr, NullOrdering,
    Order, Query, SelectStatement, Value,
};

use crate::filters::{
    ADMIN_TAGS, Comparison, Direction, EXECUTION_TAGS, Entity, Kind, LAUNCH_PLANS, ListQuery,
    MAX_ROWS, NAMED_ENTITIES, Predicate, Sort, TASKS, Test, WORKFLOWS,
};

/// A select of `columns` of `table`, each qualified.
pub(crate) fn select(table: &'static str, columns: &[&'static str]) -> SelectStatement {
    let mut select = Query::select();
    select.from(table);
    for column in columns {
        select.column((table, *column));
    }
    select
}

/// Adds what `query` asks for to a select of `primary`.
///
/// The order ends in the unique `id`, so that paging is stable; without a requested order it is `id`.
pub(crate) fn apply(
    select: &mut SelectStatement,
    primary: &'static Entity,
    query: &ListQuery,
    dialect: Dialect,
) {
    restrict(select, primary, &query.predicates, dialect);
    let mut by_id = false;
    if let Some(sort) = query.sort {
        by_id = sort.column.name == "id";
        order_by(select, primary.table, sort, dialect);
    }
    if !by_id {
        select.order_by((primary.table, "id"), Order::Asc);
    }
    page(select, query);
}

/// Rows of a joined table that stand for filters on it; of more, the join is as good.
const RESOLVED: usize = 1_000;

/// The list without filters on tables that it is joined with by their row number: those become the row numbers that fit.
///
/// A planner does not know how many executions a workflow of some name has, and takes any for common: it would go through
/// all executions, newest first, for one that has none. Of row numbers it knows.
pub(crate) async fn resolved(
    tx: &mut ReadTx,
    primary: &'static Entity,
    list: &ListQuery,
) -> Result<ListQuery, DbError> {
    let mut resolved = list.clone();
    for (joined, column) in [
        (&LAUNCH_PLANS, "launch_plan_id"),
        (&WORKFLOWS, "workflow_id"),
        (&TASKS, "task_id"),
    ] {
        let Some(column) = primary.column(column).filter(|_| primary != joined) else {
            continue;
        };
        let (of_joined, others): (Vec<_>, Vec<_>) = resolved
            .predicates
            .iter()
            .cloned()
            .partition(|predicate| predicate.entity == joined);
        if of_joined.is_empty() {
            continue;
        }
        let mut ids = select(joined.table, &["id"]);
        restrict(&mut ids, joined, &of_joined, tx.dialect());
        ids.limit(RESOLVED as u64 + 1);
        let rows = tx.fetch_all(&ids).await?;
        if rows.len() > RESOLVED {
            continue;
        }
        let ids = rows
            .iter()
            .map(|row| row.integer("id").map(Value::from))
            .collect::<Result<Vec<_>, _>>()?;
        resolved.predicates = others;
        resolved.predicates.push(Predicate {
            entity: primary,
            column,
            test: Test::In(ids),
        });
    }
    Ok(resolved)
}

/// LIMIT and OFFSET.
pub(crate) fn page(select: &mut SelectStatement, query: &ListQuery) {
    select.limit(query.limit.unwrap_or(MAX_ROWS));
    if query.offset > 0 {
        select.offset(query.offset);
    }
}

/// Joins and conditions of `predicates`, without order or page.
pub(crate) fn restrict(
    select: &mut SelectStatement,
    primary: &'static Entity,
    predicates: &[Predicate],
    dialect: Dialect,
) {
    let mut joined: Vec<&'static str> = Vec::new();
    let mut tags: Vec<Expr> = Vec::new();
    for predicate in predicates {
        let entity = predicate.entity;
        if entity == &ADMIN_TAGS || entity == &EXECUTION_TAGS {
            tags.push(condition(predicate, dialect));
            continue;
        }
        if entity != primary && !joined.contains(&entity.table) {
            joined.push(entity.table);
            join(select, primary, entity);
        }
        select.and_where(condition(predicate, dialect));
    }
    if !tags.is_empty() {
        select.and_where(has_tag(primary, tags));
    }
}

/// Columns that every row has. Where NULLs go matters to none of them, and SQLite then sorts by an index.
const ALWAYS_THERE: [&str; 3] = ["id", "created_at", "updated_at"];

/// Sorts by a column; NULL is the largest value on both databases, as is PostgreSQL's default.
pub(crate) fn order_by(
    select: &mut SelectStatement,
    table: &'static str,
    sort: Sort,
    dialect: Dialect,
) {
    let (order, nulls) = match sort.direction {
        Direction::Descending => (Order::Desc, NullOrdering::First),
        Direction::Ascending => (Order::Asc, NullOrdering::Last),
    };
    let column = (table, sort.column.name);
    match dialect {
        Dialect::Sqlite if ALWAYS_THERE.contains(&sort.column.name) => {
            select.order_by(column, order);
        }
        Dialect::Sqlite | Dialect::Postgres => {
            select.order_by_with_nulls(column, order, nulls);
        }
    }
}

/// One tag row of the execution for which all conditions hold. The reference joins by name alone and
/// repeats an execution once per tag; the whole key and EXISTS do neither (spec 01 §24 no. 3).
fn has_tag(primary: &'static Entity, conditions: Vec<Expr>) -> Expr {
    let mut tag = Query::select();
    tag.expr(Expr::val(1)).from(EXECUTION_TAGS.table);
    for column in ["execution_project", "execution_domain", "execution_name"] {
        tag.and_where(Expr::col((EXECUTION_TAGS.table, column)).equals((primary.table, column)));
    }
    for condition in conditions {
        tag.and_where(condition);
    }
    Expr::exists(tag)
}

fn join(select: &mut SelectStatement, primary: &'static Entity, other: &'static Entity) {
    let on = |columns: &[(&'static str, &'static str)]| -> Condition {
        columns
            .iter()
            .fold(Cond::all(), |condition, (ours, theirs)| {
                condition.add(Expr::col((primary.table, *ours)).equals((other.table, *theirs)))
            })
    };
    const EXECUTION: [(&str, &str); 3] = [
        ("execution_project", "execution_project"),
        ("execution_domain", "execution_domain"),
        ("execution_name", "execution_name"),
    ];
    let (kind, condition) = match (primary.prefix, other.prefix) {
        ("execution", "launch_plan") => (JoinType::InnerJoin, on(&[("launch_plan_id", "id")])),
        ("execution", "task") => (JoinType::InnerJoin, on(&[("task_id", "id")])),
        ("execution" | "launch_plan", "workflow") => {
            (JoinType::InnerJoin, on(&[("workflow_id", "id")]))
        }
        ("task_execution", "node_execution") => {
            let mut columns = EXECUTION.to_vec();
            columns.push(("node_id", "node_id"));
            (JoinType::InnerJoin, on(&columns))
        }
        ("task_execution", "task") => (
            JoinType::LeftJoin,
            on(&[
                ("project", "project"),
                ("domain", "domain"),
                ("name", "name"),
                ("version", "version"),
            ]),
        ),
        // Lists of named entities bring their own join.
        ("entities", _) => return,
        _ => (JoinType::InnerJoin, on(&EXECUTION)),
    };
    select.join(kind, other.table, condition);
}

/// The expression that a predicate's column stands for.
fn subject(predicate: &Predicate) -> Expr {
    let name = predicate.column.name;
    if predicate.entity == &ADMIN_TAGS && name == "name" {
        return Expr::col((EXECUTION_TAGS.table, "key"));
    }
    let metadata = "named_entity_metadata";
    if predicate.entity == &NAMED_ENTITIES && name == "description" {
        return Expr::col((metadata, "description"));
    }
    let of_named_entity = predicate.entity == &NAMED_ENTITIES || predicate.entity.table == metadata;
    if of_named_entity && name == "state" {
        return Func::coalesce([Expr::col((metadata, "state")), Expr::val(0)]).into();
    }
    Expr::col((predicate.entity.table, name).into_column_ref())
}

fn condition(predicate: &Predicate, dialect: Dialect) -> Expr {
    let subject = subject(predicate);
    match &predicate.test {
        Test::Compare(comparison, value) => {
            let value = Expr::val(value.clone());
            match comparison {
                Comparison::Equal => subject.eq(value),
                Comparison::NotEqual => subject.ne(value),
                Comparison::Greater => subject.gt(value),
                Comparison::GreaterOrEqual => subject.gte(value),
                Comparison::Less => subject.lt(value),
                Comparison::LessOrEqual => subject.lte(value),
            }
        }
        Test::In(values) => subject.is_in(values.iter().cloned()),
        Test::NotIn(values) => subject.is_not_in(values.iter().cloned()),
        Test::Contains(value) => match predicate.column.kind {
            Kind::Bytes => contains_bytes(subject, value, dialect),
            _ => subject.like(pattern(&format!("%{}%", text(value)))),
        },
        Test::NotLike(value) => match predicate.column.kind {
            Kind::Bytes => contains_bytes(subject, value, dialect).not(),
            _ => subject.not_like(pattern(&text(value))),
        },
    }
}

/// Backslash escapes on both databases, as is PostgreSQL's default.
fn pattern(text: &str) -> LikeExpr {
    LikeExpr::new(text.to_owned()).escape('\\')
}

fn text(value: &Value) -> String {
    match value {
        Value::String(Some(text)) => text.clone(),
        _ => String::new(),
    }
}

fn contains_bytes(subject: Expr, value: &Value, dialect: Dialect) -> Expr {
    let value = Expr::val(value.clone());
    match dialect {
        Dialect::Sqlite => Expr::cust_with_exprs("instr(?, ?) > 0", [subject, value]),
        Dialect::Postgres => Expr::cust_with_exprs("position($1 in $2) > 0", [value, subject]),
    }
}
