//! The `flyteadmin` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    flyte_admin::cli::main(std::env::args_os())
}
