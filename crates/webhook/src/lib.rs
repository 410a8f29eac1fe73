//! The mutating webhook that gives pods the secrets they ask for (spec 06 D); a part of flytepropeller.
//!
//! Built so far are its configuration ([`config`]) and the subcommand `webhook` of flytepropeller ([`cli`]), which
//! says what is missing and fails.

pub mod cli;
pub mod config;
