//! The cron and fixed-rate launcher.
