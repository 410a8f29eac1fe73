//! The command line of `flytescheduler` (spec 07 §5.2).

use std::{ffi::OsString, process::ExitCode};

use clap::{ArgMatches, Command};
use flyte_platform::{
    cli::{Sections, complain},
    client::AdminClientConfig,
    sql::DatabaseConfig,
    telemetry::{LoggerConfig, OtelConfig},
};

use crate::config::SchedulerConfig;

/// What the commands that need the launcher answer.
const MISSING: &str =
    "the schedule launcher is not built yet; schedules of active launch plans do not fire";

/// The sections that the scheduler reads (spec 07 §1.12); those of admin in the same files are left alone.
pub fn sections() -> Sections {
    Sections::new()
        .with::<SchedulerConfig>("scheduler")
        .with::<AdminClientConfig>("admin")
        .with::<DatabaseConfig>("database")
        .with::<LoggerConfig>("logger")
        .with::<OtelConfig>("otel")
}

/// The commands with their help.
pub fn command() -> Command {
    let command = Command::new("flytescheduler")
        .about("Starts executions when the schedules of active launch plans are due")
        .version(env!("CARGO_PKG_VERSION"))
        .after_help(
            "Every configuration key is also a flag; --help lists them, -h leaves them out.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("run").about("Launches until it is stopped; run one of it"))
        .subcommand(Command::new("precheck").about(
            "Succeeds when flyteadmin serves; for init containers, which Kubernetes restarts",
        ));
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

/// Runs what was asked for; `flyte flytescheduler` calls this too.
pub fn dispatch(matches: &ArgMatches) -> ExitCode {
    if let Some(("config", inner)) = matches.subcommand() {
        return sections().run_config(inner);
    }
    complain(MISSING);
    ExitCode::FAILURE
}
