//! `flytepropeller`.

use std::process::ExitCode;

fn main() -> ExitCode {
    flyte_propeller::cli::run(&flyte_propeller::cli::command("flytepropeller").get_matches())
}
