//! datacatalog over its gRPC service, on SQLite and on a real PostgreSQL.

#[cfg(test)]
mod artifacts;
#[cfg(test)]
mod bounds;
#[cfg(test)]
mod configuration;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod lists;
#[cfg(test)]
mod lost;
#[cfg(test)]
mod management;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod process;
#[cfg(test)]
mod recorded;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod reservations;
#[cfg(test)]
mod retention;
#[cfg(test)]
mod schema;

pub(crate) use flyte_postgres::on_both_databases;
