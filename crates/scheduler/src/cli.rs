//! The command line of `flytescheduler` (spec 07 §5.2).

use std::{ffi::OsString, process::ExitCode};

use clap::Command;
use flyte_platform::{
    cli::{Program, Sections},
    client::AdminClientConfig,
    config::Unheard,
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
        .unheard(&[Unheard {
            key: "scheduler",
            instead: MISSING,
        }])
}

/// Its command line.
pub fn program() -> Program {
    Program::new(
        "flytescheduler",
        "Starts executions when the schedules of active launch plans are due",
        sections(),
    )
    .commands([
        Command::new("run").about("Launches until it is stopped; run one of it"),
        Command::new("precheck").about(
            "Succeeds when flyteadmin serves; for init containers, which Kubernetes restarts",
        ),
    ])
}

/// Runs the command line `arguments`, program name included; `flyte scheduler` calls this too.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    program().unbuilt(arguments, MISSING)
}
