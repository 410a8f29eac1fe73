//! The `flytepropeller` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    flyte_propeller::cli::main(std::env::args_os())
}
