//! The `flytescheduler` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    flyte_scheduler::cli::main(std::env::args_os())
}
