//! The command line of `datacatalog` (spec 07 §5.3).

use std::{ffi::OsString, process::ExitCode};

use clap::{ArgMatches, Command};
use flyte_platform::{
    blob::StorageConfig,
    cli::{Sections, complain},
    sql::DatabaseConfig,
    telemetry::{LoggerConfig, OtelConfig},
};

use crate::config::{ApplicationConfig, DataCatalogConfig};

/// What the commands that need the service answer.
const MISSING: &str =
    "the cache index is not built yet; tasks run without cache (catalog-cache.type: noop)";

/// The sections that datacatalog reads (spec 07 §1.12).
pub fn sections() -> Sections {
    Sections::new()
        .with::<ApplicationConfig>("application")
        .with::<DataCatalogConfig>("datacatalog")
        .with::<DatabaseConfig>("database")
        .with::<StorageConfig>("storage")
        .with::<LoggerConfig>("logger")
        .with::<OtelConfig>("otel")
}

/// The commands with their help.
pub fn command() -> Command {
    let command = Command::new("datacatalog")
        .about("Remembers which outputs a cached task already has")
        .version(env!("CARGO_PKG_VERSION"))
        .after_help(
            "Every configuration key is also a flag; --help lists them, -h leaves them out.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("serve").about("Serves gRPC, health and metrics until it is stopped"),
        )
        .subcommand(
            Command::new("serve-dummy")
                .about("Serves the same API with nothing behind it, for tests"),
        )
        .subcommand(
            Command::new("migrate")
                .about("Changes the database")
                .subcommand_required(true)
                .arg_required_else_help(true)
                .subcommand(
                    Command::new("run").about("Creates the database and applies what is missing"),
                ),
        );
    sections().extend(command)
}

/// Runs the command line `arguments`, program name included.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match command().try_get_matches_from(arguments) {
        Ok(matches) => dispatch(&matches),
        Err(error) => {
            // Asking for help is no mistake.
            let printed = error.print().is_ok();
            if printed && !error.use_stderr() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// Runs what was asked for; `flyte datacatalog` calls this too.
pub fn dispatch(matches: &ArgMatches) -> ExitCode {
    if let Some(("config", inner)) = matches.subcommand() {
        return sections().run_config(inner);
    }
    complain(MISSING);
    ExitCode::FAILURE
}
