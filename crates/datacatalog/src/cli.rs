//! The command line of `datacatalog` (spec 07 §5.3).

mod serve;

use std::{error::Error, ffi::OsString, io::Write as _, process::ExitCode};

use clap::{ArgMatches, Command};
use flyte_platform::{
    Chain,
    blob::{self, StorageConfig},
    cli::{self, Bootstrap, Program, Sections},
    config::{Reload, Unheard},
    server::ProfConfig,
    sql::{self, Database, DatabaseConfig},
    telemetry::{LoggerConfig, OtelConfig},
};
use serde_json::Value;

use crate::{
    config::{ApplicationConfig, CatalogConfig, DataCatalogConfig},
    repository::schema,
};

/// What a command comes to; its error is shown to who gave it.
type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// Keys that are there for the reference's sake.
const UNHEARD: &[Unheard] = &[Unheard {
    key: "application.secure",
    instead: "the reference never reads it either; datacatalog speaks plain text, so let a proxy or mesh do TLS",
}];

/// The sections that datacatalog reads (spec 07 §1.12).
pub fn sections() -> Sections {
    Sections::new()
        .with::<ApplicationConfig>("application")
        .with::<DataCatalogConfig>("datacatalog")
        .with::<DatabaseConfig>("database")
        .with::<StorageConfig>("storage")
        .with::<LoggerConfig>("logger")
        .with::<OtelConfig>("otel")
        .with::<ProfConfig>("prof")
        .unheard(UNHEARD)
        .unheard(blob::UNHEARD)
        .unheard(sql::UNHEARD)
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
    program().main(arguments, |matches| {
        let matches = matches.clone();
        cli::run(async move { Box::pin(run(&matches)).await })
    })
}

async fn run(matches: &ArgMatches) -> Outcome {
    let path: Vec<(&str, &ArgMatches)> =
        std::iter::successors(matches.subcommand(), |(_, inner)| inner.subcommand()).collect();
    let names: Vec<&str> = path.iter().map(|(name, _)| *name).collect();
    let Some((_, innermost)) = path.last() else {
        return Ok(());
    };
    match names.as_slice() {
        ["migrate", "run"] => {
            let database =
                Database::open_as(&load(innermost)?.catalog.database, "datacatalog").await?;
            let made = schema::complete(&database)
                .await
                .map_err(|error| format!("database migration failed: {}", Chain(&error)))?;
            say(&format!("{made} tables, columns and indexes made"));
            Ok(())
        }
        ["serve"] => serve::run(load(innermost)?).await,
        ["serve-dummy"] => serve::run_dummy(load(innermost)?).await,
        other => Err(format!("unknown command {}", other.join(" ")).into()),
    }
}

/// Everything that the configuration says.
struct Loaded {
    catalog: CatalogConfig,
    logger: LoggerConfig,
    otel: OtelConfig,
    /// What `/config` shows, if it is there.
    shown: Option<Value>,
    /// Follows the files it was read from.
    reload: Reload,
}

/// Reads it, and tells the operator what changes nothing.
///
/// # Errors
/// Whatever cannot be read.
fn load(matches: &ArgMatches) -> Outcome<Loaded> {
    let Bootstrap {
        mut config,
        shown,
        reload,
    } = sections().bootstrap(matches)?;
    let loaded = Loaded {
        catalog: CatalogConfig::read(&mut config),
        logger: config.section("logger"),
        otel: config.section("otel"),
        shown,
        reload,
    };
    for warning in config.finish()? {
        say(&format!("Warning: {}: {}", warning.key, warning.message));
    }
    Ok(loaded)
}

/// A line for the operator; there may be no log yet.
fn say(line: &str) {
    // There is nowhere to report that stderr is closed.
    writeln!(std::io::stderr(), "{line}").unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spellings_of_the_charts_are_understood() {
        let command = program().command().clone();
        command.clone().debug_assert();
        for arguments in [
            "datacatalog --config /etc/datacatalog/config/*.yaml serve",
            "datacatalog --config /etc/datacatalog/config/*.yaml migrate run",
            "datacatalog serve --application.grpcPort 8089",
            "datacatalog serve-dummy",
            "datacatalog config validate --strict",
        ] {
            let matches = command.clone().try_get_matches_from(arguments.split(' '));
            assert!(matches.is_ok(), "{arguments}: {:?}", matches.err());
        }
    }
}
