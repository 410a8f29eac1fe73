//! Random workflows and what is true of them.
//!
//! ```text
//! seed ──▶ generate ──▶ Program ──▶ templates ──▶ compiler ──▶ transform ──▶ engine in the simulation ──▶ what happened
//!                          └──────▶ evaluate ──▶ what must happen ──────────────────────────────────────────▶ equal?
//! ```
//!
//! [`evaluate`] knows the rules of Flyte (spec 04 §5 to §7, §10) and nothing of the engine: it has no pods, no statuses,
//! no events and no clock, and takes nodes in whatever order it needs them.

pub mod compute;
pub mod evaluate;
pub mod flytekit;
pub mod generate;
pub mod program;
mod resolve;
pub mod templates;
pub mod values;
pub mod verdict;

use flyte_crd::Proto;

/// A message from its JSON.
///
/// # Panics
/// When it is not that of this message.
fn message<M: prost::Message + prost::Name + Default>(json: serde_json::Value) -> M {
    let text = json.to_string();
    let read: Proto<M> =
        serde_json::from_value(json).unwrap_or_else(|error| panic!("{error} in {text}"));
    read.0
}
