//! What each RPC does (spec 06 A3): accept, decide, store, answer.

pub(crate) mod artifacts;
pub(crate) mod datasets;
pub(crate) mod entries;
pub(crate) mod evictions;
pub(crate) mod outputs;
pub(crate) mod reservations;
pub(crate) mod tags;

mod parts;
