//! Reading columns of either database.
//!
//! Integers of any width and NULLs read as zero values, because Go's readers do the same and old
//! databases hold both (spec 01 §19). Where NULL means something, the `optional_` forms keep it.

use jiff::Timestamp;
use sqlx::{
    Row as _, TypeInfo as _, ValueRef as _,
    error::BoxDynError,
    postgres::{PgRow, PgValueFormat},
    sqlite::SqliteRow,
};
use uuid::Uuid;

use super::{DbError, timestamps, values::POSTGRES_EPOCH};

/// One row of a result.
pub struct Row(pub(super) Kind);

pub(super) enum Kind {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    /// Text; NULL is empty.
    pub fn text(&self, column: &str) -> Result<String, DbError> {
        self.optional_text(column).map(Option::unwrap_or_default)
    }

    /// Text or NULL.
    pub fn optional_text(&self, column: &str) -> Result<Option<String>, DbError> {
        match &self.0 {
            Kind::Sqlite(row) => row.try_get(column),
            Kind::Postgres(row) => row.try_get(column),
        }
        .map_err(|error| unreadable(column, error))
    }

    /// Bytes; NULL is empty.
    pub fn bytes(&self, column: &str) -> Result<Vec<u8>, DbError> {
        self.optional_bytes(column).map(Option::unwrap_or_default)
    }

    /// Bytes or NULL.
    pub fn optional_bytes(&self, column: &str) -> Result<Option<Vec<u8>>, DbError> {
        match &self.0 {
            Kind::Sqlite(row) => row.try_get(column),
            Kind::Postgres(row) => row.try_get(column),
        }
        .map_err(|error| unreadable(column, error))
    }

    /// An integer of any width; NULL is 0.
    pub fn integer(&self, column: &str) -> Result<i64, DbError> {
        self.optional_integer(column).map(Option::unwrap_or_default)
    }

    /// An integer of any width or NULL.
    pub fn optional_integer(&self, column: &str) -> Result<Option<i64>, DbError> {
        match &self.0 {
            Kind::Sqlite(row) => row
                .try_get(column)
                .map_err(|error| unreadable(column, error)),
            Kind::Postgres(row) => postgres(row, column, postgres_integer),
        }
    }

    /// An integer that must fit 32 bits, such as an enum number; NULL is 0.
    pub fn number(&self, column: &str) -> Result<i32, DbError> {
        i32::try_from(self.integer(column)?).map_err(|error| unreadable(column, error))
    }

    /// True or false; NULL is false.
    pub fn boolean(&self, column: &str) -> Result<bool, DbError> {
        let value: Option<bool> = match &self.0 {
            Kind::Sqlite(row) => row.try_get(column),
            Kind::Postgres(row) => row.try_get(column),
        }
        .map_err(|error| unreadable(column, error))?;
        Ok(value.unwrap_or_default())
    }

    /// A UUID or NULL; on SQLite it is text.
    pub fn uuid(&self, column: &str) -> Result<Option<Uuid>, DbError> {
        match &self.0 {
            Kind::Sqlite(_) => self
                .optional_text(column)?
                .map(|text| text.parse())
                .transpose()
                .map_err(|error: uuid::Error| unreadable(column, error)),
            Kind::Postgres(row) => postgres(row, column, postgres_uuid),
        }
    }

    /// A moment or NULL.
    pub fn time(&self, column: &str) -> Result<Option<Timestamp>, DbError> {
        match &self.0 {
            Kind::Sqlite(row) => {
                let micros: Option<i64> = row
                    .try_get(column)
                    .map_err(|error| unreadable(column, error))?;
                micros
                    .map(Timestamp::from_microsecond)
                    .transpose()
                    .map_err(|error| unreadable(column, error))
            }
            Kind::Postgres(row) => postgres(row, column, postgres_time),
        }
    }
}

fn unreadable(column: &str, source: impl Into<BoxDynError>) -> DbError {
    DbError::Column {
        column: column.to_owned(),
        source: source.into(),
    }
}

fn postgres<T>(
    row: &PgRow,
    column: &str,
    read: fn(&sqlx::postgres::PgValueRef<'_>) -> Result<T, BoxDynError>,
) -> Result<Option<T>, DbError> {
    let value = row
        .try_get_raw(column)
        .map_err(|error| unreadable(column, error))?;
    if value.is_null() {
        return Ok(None);
    }
    read(&value)
        .map(Some)
        .map_err(|error| unreadable(column, error))
}

fn postgres_integer(value: &sqlx::postgres::PgValueRef<'_>) -> Result<i64, BoxDynError> {
    if value.format() == PgValueFormat::Text {
        return Ok(value.as_str()?.parse()?);
    }
    let bytes = value.as_bytes()?;
    Ok(match bytes.len() {
        1 => i64::from(i8::from_be_bytes(bytes.try_into()?)),
        2 => i64::from(i16::from_be_bytes(bytes.try_into()?)),
        4 => i64::from(i32::from_be_bytes(bytes.try_into()?)),
        8 => i64::from_be_bytes(bytes.try_into()?),
        _ => return Err(format!("type {} is no integer", value.type_info().name()).into()),
    })
}

fn postgres_uuid(value: &sqlx::postgres::PgValueRef<'_>) -> Result<Uuid, BoxDynError> {
    Ok(match value.format() {
        PgValueFormat::Text => value.as_str()?.parse()?,
        PgValueFormat::Binary => Uuid::from_slice(value.as_bytes()?)?,
    })
}

fn postgres_time(value: &sqlx::postgres::PgValueRef<'_>) -> Result<Timestamp, BoxDynError> {
    if value.format() == PgValueFormat::Text {
        return Ok(timestamps::parse_timestamp(
            value.as_str()?,
            Timestamp::UNIX_EPOCH,
        )?);
    }
    let micros = i64::from_be_bytes(value.as_bytes()?.try_into()?);
    // The extremes are PostgreSQL's -infinity and infinity; it also knows years that we do not.
    let micros = micros.saturating_add(POSTGRES_EPOCH);
    Ok(
        Timestamp::from_microsecond(micros).unwrap_or(if micros < 0 {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        }),
    )
}
