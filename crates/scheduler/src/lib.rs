//! The launcher of cron and fixed-rate schedules (spec 06 C).
//!
//! Built so far are its configuration ([`config`]) and its command line ([`cli`]); commands that need the launcher
//! itself say so and fail. Launch plans keep their schedules, so nothing is lost until it is there.

pub mod cli;
pub mod config;
