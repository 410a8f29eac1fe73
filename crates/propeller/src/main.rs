//! `flytepropeller`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let command =
        flyte_propeller::cli::command("flytepropeller").subcommand(flyte_webhook::cli::command());
    let matches = command.get_matches();
    match matches.subcommand() {
        Some(("webhook", inner)) => flyte_webhook::cli::dispatch(inner),
        _ => flyte_propeller::cli::run(&matches),
    }
}
