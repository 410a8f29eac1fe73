//! The language of lists: limits, tokens, filters and sort keys (spec 01 §5).
//!
//! Parsing is pure; `repository::query` turns the result into SQL.

mod entities;
mod values;

use flyte_idl::{admin, text};
use jiff::Timestamp;
use sea_query::Value;

pub use entities::{
    ADMIN_TAGS, Column, DESCRIPTION_ENTITIES, EXECUTION_ADMIN_TAGS, EXECUTION_TAGS, EXECUTIONS,
    Entity, Kind, LAUNCH_PLANS, NAMED_ENTITIES, NAMED_ENTITY_METADATA, NODE_EXECUTIONS, PROJECTS,
    SIGNALS, TASK_EXECUTIONS, TASKS, WORKFLOWS,
};

use crate::error::{Error, Result};
use values::{read_value, type_name};

/// A comparison with one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `eq`
    Equal,
    /// `ne`
    NotEqual,
    /// `gt`
    Greater,
    /// `gte`
    GreaterOrEqual,
    /// `lt`
    Less,
    /// `lte`
    LessOrEqual,
}

/// What a filter asks of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// The column stands in this relation to the value.
    Compare(Comparison, Value),
    /// `LIKE '%v%'`
    Contains(Value),
    /// `NOT LIKE 'v'`
    NotLike(Value),
    /// `IN`
    In(Vec<Value>),
    /// `NOT IN`
    NotIn(Vec<Value>),
}

/// One condition of a list; those of a request hold together (AND).
#[derive(Clone, Debug, PartialEq)]
pub struct Predicate {
    /// The entity that the column belongs to.
    pub entity: &'static Entity,
    /// The column that it is about, of the listed table or of a joined one.
    pub column: &'static Column,
    /// What is asked of it.
    pub test: Test,
    /// Rows that something else has found are checked for it; no index is to be taken for its sake.
    pub checked: bool,
}

/// The order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// Column of the primary entity.
    pub column: &'static Column,
    /// Smallest or largest value first.
    pub direction: Direction,
}

/// Which way a list is sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Largest first.
    Descending,
    /// Smallest first.
    Ascending,
}

/// A list request after its id fields: what to select, in which order, and which page of it.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// All of these must hold.
    pub predicates: Vec<Predicate>,
    /// The requested order.
    pub sort: Option<Sort>,
    /// Rows to skip.
    pub offset: u64,
    /// Rows to return at most; `None` for all.
    pub limit: Option<u64>,
}

impl ListQuery {
    /// How many of a page's rows fit into an answer of `most_bytes`, one at least, and the token of the page after them.
    /// `sizes` are the bytes that each takes as an element of the answer.
    pub fn fit(&self, sizes: &[usize], most_bytes: usize) -> (usize, String) {
        let mut bytes = 0_usize;
        let fitting = sizes
            .iter()
            .take_while(|size| {
                bytes = bytes.saturating_add(**size);
                bytes <= most_bytes
            })
            .count();
        if fitting >= sizes.len() {
            return (sizes.len(), self.next_token(sizes.len()));
        }
        let count = fitting.max(1);
        (count, (self.offset + count as u64).to_string())
    }

    /// The token of the page after one with `count` rows: empty when the page was not full.
    fn next_token(&self, count: usize) -> String {
        let count = count as u64;
        match self.limit {
            Some(limit) if count == limit => (self.offset + count).to_string(),
            // The reference answers "0" to an unlimited list that is empty (spec 01 §5.1).
            None if count == 0 => "0".to_owned(),
            None if count == MAX_ROWS => (self.offset + count).to_string(),
            _ => String::new(),
        }
    }
}

/// The page and order parts of a list request, as they came.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// The request's filters, `eq(phase,RUNNING)+value_in(name,a;b)`; empty for none.
    pub filters: &'a str,
    /// The request's order; without one the list has its own.
    pub sort_by: Option<&'a admin::Sort>,
    /// Decimal offset or empty.
    pub token: &'a str,
    /// Rows per page.
    pub limit: u32,
    /// The name in the error of a bad token.
    pub rpc: &'static str,
}

impl Page<'_> {
    /// INVALID_ARGUMENT when there is no limit.
    pub fn require_limit(&self) -> Result<()> {
        if self.limit == 0 {
            return Err(Error::invalid("invalid value for limit"));
        }
        Ok(())
    }

    /// Reads filters, sort key, direction and token, in this order.
    pub fn parse(&self, primary: &'static Entity, now: Timestamp) -> Result<ListQuery> {
        self.parse_with(primary, primary, now)
    }

    /// As [`Page::parse`], where filters belong to another entity than the sort key.
    pub fn parse_with(
        &self,
        filtered: &'static Entity,
        sorted: &'static Entity,
        now: Timestamp,
    ) -> Result<ListQuery> {
        Ok(ListQuery {
            predicates: parse_filters(self.filters, filtered, now)?,
            sort: parse_sort(self.sort_by, sorted)?,
            offset: parse_token(self.token, self.rpc)?,
            limit: (self.limit != 0).then_some(u64::from(self.limit).min(MAX_ROWS)),
        })
    }
}

/// Reads a decimal offset.
pub fn parse_token(token: &str, rpc: &str) -> Result<u64> {
    if token.is_empty() {
        return Ok(0);
    }
    let digits = token.strip_prefix('+').unwrap_or(token);
    let offset = digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse::<i64>().ok())
        .flatten();
    match offset {
        Some(offset) => Ok(offset.unsigned_abs()),
        None if rpc.is_empty() => Err(Error::Invalid(format!("invalid pagination token {token}"))),
        None => Err(Error::Invalid(format!(
            "invalid pagination token {token} for {rpc}"
        ))),
    }
}

/// Reads a sort order.
pub fn parse_sort(sort: Option<&admin::Sort>, primary: &'static Entity) -> Result<Option<Sort>> {
    let Some(sort) = sort else {
        return Ok(None);
    };
    let column = primary
        .column(&sort.key)
        .ok_or_else(|| Error::Invalid(format!("invalid sort key '{}'", sort.key)))?;
    let direction = match sort.direction {
        0 => Direction::Descending,
        1 => Direction::Ascending,
        _ => {
            return Err(Error::Invalid(format!(
                "invalid sort order specified: {}",
                text::prototext(sort)
            )));
        }
    };
    Ok(Some(Sort { column, direction }))
}

/// The most rows of one page, whatever limit was asked for; the token leads to the next ones.
pub const MAX_ROWS: u64 = 10_000;

/// The most filters of one request. The console sends a handful, and each costs the database some planning.
pub const MAX_FILTERS: usize = 100;

/// The most values in the filters of one request: each is a parameter of the statement, of which SQLite takes 32,766.
pub const MAX_FILTER_VALUES: usize = 10_000;

/// Reads `func(field,value)+…`.
///
/// # Errors
/// More filters or values than a request may have, and the first filter that says nothing.
pub fn parse_filters(
    filters: &str,
    primary: &'static Entity,
    now: Timestamp,
) -> Result<Vec<Predicate>> {
    if filters.is_empty() {
        return Ok(Vec::new());
    }
    at_most("filters", filters.split('+').count(), MAX_FILTERS)?;
    let values = filters.split(['+', ';']).count();
    at_most("values in filters", values, MAX_FILTER_VALUES)?;
    filters
        .split('+')
        .map(|filter| parse_filter(filter, primary, now))
        .collect()
}

fn at_most(what: &str, count: usize, most: usize) -> Result<()> {
    if count > most {
        return Err(Error::Invalid(format!(
            "{count} {what} are more than {most}, the most that one request may have"
        )));
    }
    Ok(())
}

fn parse_filter(filter: &str, primary: &'static Entity, now: Timestamp) -> Result<Predicate> {
    let (function, field, value) =
        split(filter).ok_or_else(|| Error::invalid("invalid value for filters"))?;
    let (entity, column) = resolve(field, primary)?;
    let list = value.contains(';') || matches!(function, "value_in" | "value_not_in");
    let read = |text: &str| read_value(column.kind, text, now);
    let values = if list {
        value.split(';').map(read).collect::<Result<Vec<_>>>()?
    } else {
        vec![read(value)?]
    };
    let single = |operator: &str| match values.as_slice() {
        [one] if !list => Ok(one.clone()),
        _ => Err(Error::Invalid(format!(
            "failed database operation with operator does not exist: {} {operator} record",
            type_name(column.kind)
        ))),
    };
    let pattern = || match column.kind {
        Kind::Text | Kind::Bytes => single("~~"),
        Kind::Integer | Kind::BigInteger | Kind::Time | Kind::Duration => {
            Err(Error::Invalid(format!(
                "failed database operation with operator does not exist: {} ~~ unknown",
                type_name(column.kind)
            )))
        }
    };
    use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
    let test = match function {
        "eq" => Test::Compare(Equal, single("=")?),
        "ne" => Test::Compare(NotEqual, single("<>")?),
        "gt" => Test::Compare(Greater, single(">")?),
        "gte" => Test::Compare(GreaterOrEqual, single(">=")?),
        "lt" => Test::Compare(Less, single("<")?),
        "lte" => Test::Compare(LessOrEqual, single("<=")?),
        "contains" => Test::Contains(pattern()?),
        "not_like" => Test::NotLike(pattern()?),
        "value_in" => Test::In(values),
        "value_not_in" => Test::NotIn(values),
        other => {
            return Err(Error::Invalid(format!(
                "unrecognized filter function: {other}"
            )));
        }
    };
    Ok(Predicate {
        entity,
        column,
        test,
        checked: false,
    })
}

/// The greedy, unanchored pattern of the reference: the last `(` that still has a comma and a `)` after it,
/// then the last comma before the last `)`; one blank after the comma is dropped.
fn split(filter: &str) -> Option<(&str, &str, &str)> {
    let end = filter.rfind(')')?;
    let inside = filter.get(..end)?;
    let (head, value) = inside.rsplit_once(',')?;
    let (function, field) = head.rsplit_once('(')?;
    let value = match value.strip_prefix(' ') {
        Some(rest) if !rest.is_empty() => rest,
        _ => value,
    };
    [function, field, value]
        .iter()
        .all(|part| !part.is_empty())
        .then_some((function, field, value))
}

fn resolve(field: &str, primary: &'static Entity) -> Result<(&'static Entity, &'static Column)> {
    let (entity, name) = match field.split_once('.') {
        Some((prefix, name)) => match entities::ALL.iter().find(|entity| entity.prefix == prefix) {
            Some(entity) => (*entity, name),
            None => (primary, field),
        },
        // Here alone the bare key parts mean the execution's (spec 01 §5.3).
        None if primary == &TASK_EXECUTIONS => match field {
            "project" => (primary, "execution_project"),
            "domain" => (primary, "execution_domain"),
            "name" => (primary, "execution_name"),
            other => (primary, other),
        },
        None => (primary, field),
    };
    if entity != primary && !primary.joinable.contains(&entity.prefix) {
        return Err(Error::Invalid(format!(
            "'{}' entity is not allowed in filters",
            entity.code
        )));
    }
    let column = entity
        .column(name)
        .ok_or_else(|| Error::Invalid(format!("'{}.{name}' is invalid filter", entity.code)))?;
    Ok((entity, column))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_where_its_bytes_do() {
        let query = |limit| ListQuery {
            offset: 10,
            limit: Some(limit),
            ..ListQuery::default()
        };
        for (case, limit, sizes, expected) in [
            ("all fit and more may come", 3, vec![4, 4, 2], (3, "13")),
            ("all fit and nothing comes", 4, vec![4, 4, 2], (3, "")),
            ("the third is too much", 3, vec![4, 4, 3], (2, "12")),
            ("the last of all is too much", 9, vec![4, 4, 3], (2, "12")),
            (
                "one that is too large goes alone",
                3,
                vec![11, 1],
                (1, "11"),
            ),
            ("and may be the last", 3, vec![11], (1, "11")),
            ("nothing", 3, vec![], (0, "")),
        ] {
            let (count, token) = query(limit).fit(&sizes, 10);
            assert_eq!((count, token.as_str()), expected, "{case}");
        }
    }

    fn filters(text: &str, primary: &'static Entity) -> Result<Vec<Predicate>> {
        parse_filters(text, primary, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn expressions_split_at_the_last_parentheses_and_comma() {
        for (filter, expected) in [
            ("eq(name,a)", Some(("eq", "name", "a"))),
            ("eq(name, a)", Some(("eq", "name", "a"))),
            ("eq(name,a)b)", Some(("eq", "name", "a)b"))),
            ("eq(name,1)x", Some(("eq", "name", "1"))),
            ("eq(eq(name,1)", Some(("eq(eq", "name", "1"))),
            ("eq(a,name,1)", Some(("eq", "a,name", "1"))),
            ("eq(name,)", None),
            ("eq(,1)", None),
            ("(name,1)", None),
            ("x", None),
        ] {
            assert_eq!(split(filter), expected, "{filter}");
        }
    }

    #[test]
    fn refusals_name_the_first_bad_expression() {
        for (text, primary, expected) in [
            ("x", &TASKS, "invalid value for filters"),
            ("eq(name,a)+", &TASKS, "invalid value for filters"),
            (
                "invalid_function(type,bar)",
                &TASKS,
                "unrecognized filter function: invalid_function",
            ),
            (
                "eq(project.name, 123)",
                &WORKFLOWS,
                "'p' entity is not allowed in filters",
            ),
            ("eq(foo, 123)", &TASKS, "'t.foo' is invalid filter"),
            (
                "eq(nosuch.name,1)",
                &EXECUTIONS,
                "'e.nosuch.name' is invalid filter",
            ),
            (
                "eq(admin_tag.key,x)",
                &EXECUTIONS,
                "'at.key' is invalid filter",
            ),
            (
                "gt(duration,NaN)",
                &EXECUTIONS,
                "Failed to parse duration [NaNs]",
            ),
            (
                "gt(duration,1e30)",
                &EXECUTIONS,
                "Failed to parse duration [1e+30s]",
            ),
            (
                "eq(state,ACTIVE)",
                &LAUNCH_PLANS,
                "failed database operation with invalid input syntax for type integer: \"ACTIVE\"",
            ),
        ] {
            assert_eq!(
                filters(text, primary).unwrap_err().to_string(),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn several_filters_are_several_predicates() {
        let text = "eq(project, flytesnacks)+ne(domain, development)+value_in(type, 4;5;6)";
        let parsed = filters(text, &TASKS).unwrap();
        let columns: Vec<_> = parsed
            .iter()
            .map(|predicate| predicate.column.name)
            .collect();
        assert_eq!(columns, ["project", "domain", "type"]);
        assert_eq!(
            parsed.last().unwrap().test,
            Test::In(vec!["4".into(), "5".into(), "6".into()])
        );
    }

    #[test]
    fn tokens_are_decimal_offsets() {
        for (token, expected) in [
            ("", Some(0)),
            ("+2", Some(2)),
            ("007", Some(7)),
            (" 1", None),
            ("1.5", None),
            ("-1", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(parse_token(token, "ListTasks").ok(), expected, "{token}");
        }
    }
}
