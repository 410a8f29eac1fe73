//! The subcommand `webhook` of flytepropeller (spec 07 §5.4).

use std::process::ExitCode;

use clap::{ArgMatches, Command};
use flyte_platform::{
    cli::{Sections, complain},
    config::Unheard,
};

use crate::config::WebhookConfig;

/// What the commands that need the webhook answer.
const MISSING: &str =
    "the secret webhook is not built yet; pods start without the secrets that their tasks request";

/// The section that the webhook adds to those of flytepropeller.
pub fn sections() -> Sections {
    let unbuilt = Unheard {
        key: "webhook",
        instead: MISSING,
    };
    Sections::new()
        .with::<WebhookConfig>("webhook")
        .unheard(&[unbuilt])
}

/// The subcommand with its help.
pub fn command() -> Command {
    Command::new("webhook")
        .visible_alias("webhooks")
        .about("Serves the mutating webhook that gives pods the secrets they request")
        .subcommand(
            Command::new("init-certs")
                .visible_alias("init-cert")
                .about("Makes the webhook's certificates and keeps them in a Kubernetes Secret"),
        )
}

/// Runs what was asked for.
pub fn dispatch(_matches: &ArgMatches) -> ExitCode {
    complain(MISSING);
    ExitCode::FAILURE
}
