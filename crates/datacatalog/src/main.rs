//! The `datacatalog` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    flyte_datacatalog::cli::main(std::env::args_os())
}
