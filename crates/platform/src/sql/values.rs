//! Binds sea-query's values to either database.
//!
//! The published binder cannot bind `jiff` times to PostgreSQL; this one does, needs only the kinds of
//! value that our tables have, and refuses text that PostgreSQL cannot store on both databases alike.

use jiff::Timestamp;
use sea_query::{OptionEnum, Value, Values};
use sqlx::{
    Arguments as _, Encode, Postgres, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgArguments, PgTypeInfo},
    sqlite::SqliteArguments,
};
use uuid::Uuid;

use super::DbError;

/// Microseconds between 1970 and 2000, where PostgreSQL's times begin.
pub(super) const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// What a [`Value`] is for a database.
enum Bound {
    Boolean(Option<bool>),
    Integer(Option<i64>),
    Number(Option<f64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
    Uuid(Option<Uuid>),
    Time(Option<Timestamp>),
}

fn bound(value: Value) -> Result<Bound, DbError> {
    let bound = match value {
        Value::Bool(value) => Bound::Boolean(value),
        Value::TinyInt(value) => Bound::Integer(value.map(i64::from)),
        Value::SmallInt(value) => Bound::Integer(value.map(i64::from)),
        Value::Int(value) => Bound::Integer(value.map(i64::from)),
        Value::BigInt(value) => Bound::Integer(value),
        Value::TinyUnsigned(value) => Bound::Integer(value.map(i64::from)),
        Value::SmallUnsigned(value) => Bound::Integer(value.map(i64::from)),
        Value::Unsigned(value) => Bound::Integer(value.map(i64::from)),
        Value::BigUnsigned(value) => Bound::Integer(match value {
            None => None,
            Some(number) => Some(i64::try_from(number).map_err(|_overflow| {
                DbError::invalid_value(format!(
                    "value \"{number}\" is out of range for type bigint"
                ))
            })?),
        }),
        Value::Float(value) => Bound::Number(value.map(f64::from)),
        Value::Double(value) => Bound::Number(value),
        Value::String(value) => Bound::Text(value),
        Value::Enum(OptionEnum::Some(value)) => Bound::Text(Some(value.value.into_owned())),
        Value::Enum(OptionEnum::None(_)) => Bound::Text(None),
        Value::Char(value) => Bound::Text(value.map(String::from)),
        Value::Bytes(value) => Bound::Bytes(value),
        Value::Uuid(value) => Bound::Uuid(value),
        Value::JiffTimestamp(value) => Bound::Time(value.map(|time| *time)),
        Value::JiffDate(_) | Value::JiffTime(_) | Value::JiffDateTime(_) => {
            return Err(DbError::invalid_value("civil times are not stored"));
        }
    };
    if let Bound::Text(Some(text)) = &bound
        && text.contains('\0')
    {
        return Err(DbError::invalid_value(
            "invalid byte sequence for encoding \"UTF8\": 0x00",
        ));
    }
    Ok(bound)
}

pub(super) fn sqlite(values: Values) -> Result<SqliteArguments, DbError> {
    let mut arguments = SqliteArguments::default();
    for value in values {
        match bound(value)? {
            Bound::Boolean(value) => arguments.add(value),
            Bound::Integer(value) => arguments.add(value),
            Bound::Number(value) => arguments.add(value),
            Bound::Text(value) => arguments.add(value),
            Bound::Bytes(value) => arguments.add(value),
            Bound::Uuid(value) => arguments.add(value.map(|id| id.to_string())),
            Bound::Time(value) => arguments.add(value.map(Timestamp::as_microsecond)),
        }
        .map_err(|error| DbError::Other(sqlx::Error::Encode(error)))?;
    }
    Ok(arguments)
}

pub(super) fn postgres(values: Values) -> Result<PgArguments, DbError> {
    let mut arguments = PgArguments::default();
    for value in values {
        match bound(value)? {
            Bound::Boolean(value) => arguments.add(value),
            Bound::Integer(value) => arguments.add(value),
            Bound::Number(value) => arguments.add(value),
            Bound::Text(value) => arguments.add(value),
            Bound::Bytes(value) => arguments.add(value),
            Bound::Uuid(value) => arguments.add(value.map(PostgresUuid)),
            Bound::Time(value) => arguments.add(value.map(PostgresTime)),
        }
        .map_err(|error| DbError::Other(sqlx::Error::Encode(error)))?;
    }
    Ok(arguments)
}

/// A `timestamptz` parameter in PostgreSQL's binary form.
struct PostgresTime(Timestamp);

impl Type<Postgres> for PostgresTime {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("TIMESTAMPTZ")
    }
}

impl Encode<'_, Postgres> for PostgresTime {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let micros = self.0.as_microsecond() - POSTGRES_EPOCH;
        buffer.extend_from_slice(&micros.to_be_bytes());
        Ok(IsNull::No)
    }
}

/// A `uuid` parameter in PostgreSQL's binary form.
struct PostgresUuid(Uuid);

impl Type<Postgres> for PostgresUuid {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("UUID")
    }
}

impl Encode<'_, Postgres> for PostgresUuid {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }
}
