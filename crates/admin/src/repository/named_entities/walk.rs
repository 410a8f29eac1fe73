//! A page of distinct names without reading every version: an index by name is entered once for each name, at the first one
//! past the name before.
//!
//! That is a loose index scan, which PostgreSQL does not know: it reads each version for DISTINCT. A step costs about as much as
//! reading some hundred versions, so the walk ends after [`MOST`] names, and who asks for more of them is left to DISTINCT.

use flyte_platform::sql::{DbError, Dialect, Listed, Operation, ReadTx, Row};
use sea_query::{
    Alias, CaseStatement, CommonTableExpression, Expr, ExprTrait as _, Order, Query,
    SelectStatement, UnionType, WithClause,
};

use super::parts::{NamedResource, ROWS, describe, join_metadata};
use crate::{
    filters::{Direction, ListQuery, MAX_ROWS},
    records::NamedEntity,
    repository::{Names, query::condition},
};

/// The most names that one walk goes past.
const MOST: i64 = 2_000;

/// What is walked through. The project and domain of `names` are given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk<'a> {
    pub(super) resource: NamedResource,
    pub(super) names: Names<'a>,
    pub(super) list: &'a ListQuery,
}

impl Walk<'_> {
    /// The page of the list in the order of names, or `None` if the walk has ended before the page did.
    ///
    /// # Errors
    /// The database's.
    pub(super) async fn page(
        &self,
        tx: &mut ReadTx,
        operation: Operation,
    ) -> Result<Option<Listed<NamedEntity>>, DbError> {
        let select = self.select(tx.dialect());
        let rows = tx.of(operation).fetch_all(&select).await?;
        let mut fitting = Vec::new();
        for row in &rows {
            if row.integer("fits")? != 0 {
                fitting.push(row);
            }
        }
        if !has_seen_all(&rows)? && fitting.len() < self.wanted() {
            return Ok(None);
        }
        let skipped = usize::try_from(self.list.offset).unwrap_or(usize::MAX);
        let page = fitting.into_iter().take(self.wanted()).skip(skipped);
        Ok(Some(ROWS.all(page, None)))
    }

    /// Names that fit, up to the end of the page.
    fn wanted(&self) -> usize {
        let limit = self.list.limit.unwrap_or(MAX_ROWS);
        usize::try_from(self.list.offset.saturating_add(limit)).unwrap_or(usize::MAX)
    }

    /// Every name of the walk with whether it `fits` the filters; behind the last name of all comes NULL.
    fn select(&self, dialect: Dialect) -> SelectStatement {
        let mut steps = self.begin();
        steps.union(UnionType::All, self.step(dialect));
        let mut entities = CommonTableExpression::new();
        entities
            .table_name("entities")
            .columns(["project", "domain", "name", "number", "passed"])
            .query(steps);
        let mut with = WithClause::new();
        with.recursive(true).cte(entities);
        let mut select = Query::select();
        describe(&mut select, self.resource);
        select
            .expr_as(self.fits(dialect), Alias::new("fits"))
            .from("entities")
            .order_by(("entities", "number"), Order::Asc)
            .with_cte(with);
        select
    }

    /// The first name.
    fn begin(&self) -> SelectStatement {
        let Names {
            project, domain, ..
        } = self.names;
        self.first([project, domain].map(Expr::val))
            .exprs([1_i64, 0].map(Expr::val))
            .take()
    }

    /// From a name to the next one; `passed` are those before it that fit.
    fn step(&self, dialect: Dialect) -> SelectStatement {
        let here = || Expr::col(("entities", "name"));
        let versioned = Expr::col((self.resource.table(), "name"));
        let behind = match self.direction() {
            Direction::Ascending => versioned.gt(here()),
            Direction::Descending => versioned.lt(here()),
        };
        let next = self.first([]).and_where(behind).take();
        let wanted = i64::try_from(self.wanted()).unwrap_or(i64::MAX);
        let mut step = Query::select();
        step.columns(["project", "domain"].map(|column| ("entities", column)))
            .expr(Expr::SubQuery(None, Box::new(next.into())))
            .expr(Expr::col(("entities", "number")).add(1_i64))
            .expr(Expr::col(("entities", "passed")).add(self.fits(dialect)))
            .from("entities")
            .and_where(here().is_not_null())
            .and_where(Expr::col(("entities", "number")).lt(MOST))
            .and_where(Expr::col(("entities", "passed")).lt(wanted));
        join_metadata(&mut step, self.resource);
        step
    }

    /// The first name in the order of the list, NULL if there is none: both databases take it from the end of an index.
    fn first(&self, columns: impl IntoIterator<Item = Expr>) -> SelectStatement {
        let table = self.resource.table();
        let name = Expr::col((table, "name"));
        let first = match self.direction() {
            Direction::Ascending => name.min(),
            Direction::Descending => name.max(),
        };
        Query::select()
            .exprs(columns)
            .expr(first)
            .from(table)
            .cond_where(self.names.condition(table))
            .take()
    }

    /// All names have the same project and domain, whatever their order.
    fn direction(&self) -> Direction {
        match self.list.sort {
            Some(sort) if sort.column.name == "name" => sort.direction,
            _ => Direction::Ascending,
        }
    }

    /// 1 for a name that all filters hold for, otherwise 0.
    fn fits(&self, dialect: Dialect) -> Expr {
        let is_name = Expr::col(("entities", "name")).is_not_null();
        let predicates = self.list.predicates.iter();
        let fits = predicates.fold(is_name, |fits, predicate| {
            fits.and(condition(predicate, dialect))
        });
        CaseStatement::new().case(fits, 1_i64).finally(0_i64).into()
    }
}

/// Whether no name comes behind these.
fn has_seen_all(rows: &[Row]) -> Result<bool, DbError> {
    match rows.last() {
        Some(last) => Ok(last.optional_text("name")?.is_none()),
        None => Ok(true),
    }
}
