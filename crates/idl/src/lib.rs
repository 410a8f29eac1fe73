//! The flyteidl messages, gRPC stubs, descriptors and JSON codecs.
//!
//! Everything under [`proto`] is generated from `proto/` at the root of the repository; the packages
//! are re-exported at the crate root under their last name. Maps are `BTreeMap`s, so that encoding is
//! deterministic.

#[expect(
    missing_docs,
    clippy::pedantic,
    clippy::large_enum_variant,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod proto {
    //! Generated modules, one per protobuf package.
    include!(concat!(env!("OUT_DIR"), "/includes.rs"));
}

pub mod descriptors;
pub mod json;
pub mod nesting;
pub mod number;
pub mod stored;
pub mod text;
pub mod time;
pub mod wire;

pub use proto::{
    datacatalog,
    flyteidl::{admin, cacheservice, core, event, plugins, service},
    google::rpc,
};
