//! The data sidecar of raw containers: brings inputs in as files and takes outputs away (spec 05, spec 07 §5.7).
//!
//! Built so far is its command line ([`cli`]), with exactly the flags that propeller of either making writes into
//! pods; commands say what is missing and fail. Its configuration is section `storage` and `logger`.

pub mod cli;
