//! The `flyte-copilot` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    flyte_copilot::cli::main(std::env::args_os())
}
