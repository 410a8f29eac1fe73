//! All Flyte services in one process, or any one of them by subcommand.
