//! The data sidecar of raw containers: brings inputs in as files and takes outputs away (spec 05 §17, spec 07 §5.7).
//!
//! ```text
//! inputs.pb ──download──> files ──container──> files ──sidecar──> outputs.pb
//!                      (init container)            (sidecar, on SIGTERM)
//! ```
//!
//! A container that knows nothing of Flyte thereby takes part in a workflow. [`download`] and [`sidecar`] are the two
//! halves, [`cli`] is the command line that propeller of either making writes into pods. What fails is told by an error
//! document beside the outputs, where the engine looks for one.

pub mod cli;
pub mod download;
mod names;
pub mod report;
pub mod sidecar;
mod transfer;
mod yaml;

pub use names::{NotAFileName, file_name};
pub use transfer::{Transfer, TransferError};
