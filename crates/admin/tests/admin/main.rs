//! flyteadmin against what Go Flyte answered, on SQLite and on a real PostgreSQL.

#[cfg(test)]
mod bounds;
#[cfg(test)]
mod clashes;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod configuration;
#[cfg(test)]
mod data_proxy;
#[cfg(test)]
mod database;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod events;
#[cfg(test)]
mod executions;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod launch_plans;
#[cfg(test)]
mod list_world;
#[cfg(test)]
mod lists;
#[cfg(test)]
mod live;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod migrations;
#[cfg(test)]
mod names;
#[cfg(test)]
mod not_now;
#[cfg(test)]
mod paths;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod registrations;
mod rendezvous;
#[cfg(test)]
mod resources;
#[cfg(test)]
mod rest;
#[cfg(test)]
mod seed;
#[cfg(test)]
mod unknown;
#[cfg(test)]
mod unreadable;

pub(crate) use flyte_postgres::on_both_databases;
