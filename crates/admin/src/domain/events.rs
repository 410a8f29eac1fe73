//! The event state machines (spec 01 §13): what an event does to the record it is about.
//!
//! They are pure and public, so that an in-memory admin of a simulation decides exactly as this one does.
//! Each machine has `check`, which says whether the stored state accepts the event, and functions that
//! make or change the record. Large payloads have been offloaded before: what arrives here is stored.

pub mod node;
pub mod not_found;
pub mod task;
pub mod validate;
pub mod workflow;

mod task_merge;

use crate::error::{Error, Result};

/// The producer that every propeller without a cluster id claims to be.
const DEFAULT_PRODUCER: &str = "propeller";

/// Refuses events of another cluster than the one that the execution runs on.
///
/// An empty producer and the default one are not checked. The detail names the event's cluster
/// (spec 01 §13).
pub fn check_cluster(stored: &str, producer: &str) -> Result<()> {
    if producer.is_empty() || producer == DEFAULT_PRODUCER || producer == stored {
        return Ok(());
    }
    Err(Error::ForeignCluster {
        producer: producer.to_owned(),
        stored: stored.to_owned(),
    })
}

#[cfg(test)]
mod tests;
