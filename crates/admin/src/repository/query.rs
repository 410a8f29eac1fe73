//! Lists as SQL: predicates, joins, order and page (spec 01 §5.3, §5.4).

use flyte_platform::sql::Dialect;
use sea_query::{
    Cond, Condition, Expr, ExprTrait as _, Func, IntoColumnRef, JoinType, LikeExpr, Order, Query,
    SelectStatement, Value,
};

use crate::filters::{
    ADMIN_TAGS, Comparison, Direction, EXECUTION_TAGS, Entity, Kind, ListQuery, MAX_ROWS,
    NAMED_ENTITIES, Predicate, Sort, Test,
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
    let mut predicates = query.predicates.clone();
    if predicates.iter().any(|predicate| leads(primary, predicate)) {
        // What leads to fewer rows comes first; SQLite has no better reason to take the index by state.
        for predicate in &mut predicates {
            predicate.checked = predicate.column.name == "state";
        }
    }
    restrict(select, primary, &predicates, dialect);
    let mut by_id = false;
    if let Some(sort) = query.sort {
        by_id = sort.column.name == "id";
        order_by(select, primary.table, sort);
    }
    if !by_id {
        select.order_by((primary.table, "id"), Order::Asc);
    }
    page(select, query);
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
        if is_tag(predicate) {
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

/// An expression that SQLite does not look for in an index.
pub(super) fn checked(expression: Expr, dialect: Dialect) -> Expr {
    match dialect {
        Dialect::Sqlite => Expr::cust_with_exprs("+?", [expression]),
        Dialect::Postgres => expression,
    }
}

/// Whether an index of ours leads from the predicate to its rows, in the order of their creation.
fn leads(primary: &'static Entity, predicate: &Predicate) -> bool {
    if predicate.entity != primary {
        return false;
    }
    match &predicate.test {
        Test::Compare(Comparison::Equal, _) => matches!(
            predicate.column.name,
            "id" | "phase" | "user" | "workflow_id" | "launch_plan_id" | "task_id"
        ),
        Test::In(_) => predicate.column.name == "id",
        _ => false,
    }
}

/// Whether it is about the tags of executions.
pub(super) fn is_tag(predicate: &Predicate) -> bool {
    predicate.entity == &ADMIN_TAGS || predicate.entity == &EXECUTION_TAGS
}

/// Whether every row has the column: where NULLs go matters not.
fn always_there(table: &str, column: &str) -> bool {
    match column {
        "name" => table != "projects",
        "id" | "created_at" | "updated_at" | "project" | "domain" | "version"
        | "execution_project" | "execution_domain" | "execution_name" => true,
        _ => false,
    }
}

/// Sorts by a column; NULL is the largest value on both databases, as is PostgreSQL's default. SQLite takes no index for
/// `NULLS FIRST`, but one of the words that say the same (`flyte_rs_executions_started`).
pub(crate) fn order_by(select: &mut SelectStatement, table: &'static str, sort: Sort) {
    let order = match sort.direction {
        Direction::Descending => Order::Desc,
        Direction::Ascending => Order::Asc,
    };
    let column = (table, sort.column.name);
    if !always_there(table, sort.column.name) {
        select.order_by_expr(Expr::col(column).is_null(), order.clone());
    }
    select.order_by(column, order);
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

pub(super) fn condition(predicate: &Predicate, dialect: Dialect) -> Expr {
    let mut subject = subject(predicate);
    if predicate.checked {
        subject = checked(subject, dialect);
    }
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
