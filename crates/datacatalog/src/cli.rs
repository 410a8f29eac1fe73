//! The command line of `datacatalog` (spec 07 §5.3).

use std::{ffi::OsString, process::ExitCode};

use clap::Command;
use flyte_platform::{
    blob::StorageConfig,
    cli::{Program, Sections},
    config::Unheard,
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
        .unheard(&["application", "datacatalog"].map(|key| Unheard {
            key,
            instead: MISSING,
        }))
}

/// Its command line.
pub fn program() -> Program {
    Program::new(
        "datacatalog",
        "Remembers which outputs a cached task already has",
        sections(),
    )
    .commands([
        Command::new("serve").about("Serves gRPC, health and metrics until it is stopped"),
        Command::new("serve-dummy").about("Serves the same API with nothing behind it, for tests"),
        Command::new("migrate")
            .about("Changes the database")
            .subcommand_required(true)
            .arg_required_else_help(true)
            .subcommand(
                Command::new("run").about("Creates the database and applies what is missing"),
            ),
    ])
}

/// Runs the command line `arguments`, program name included; `flyte datacatalog` calls this too.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    program().unbuilt(arguments, MISSING)
}
