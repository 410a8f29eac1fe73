//! What the command lines of all services share (spec 07 §1.6, §1.10, §5).
//!
//! A service lists its sections once in [`Sections`] and its commands in a [`Program`]; from that come a flag for every
//! key, the subcommands `config` and `completion`, the exit codes, and the loaded configuration.

mod program;
mod sections;
mod signals;

use std::{error::Error, io::Write as _, process::ExitCode};

use crate::Chain;

pub use program::{Program, complete, completion, parse};
pub use sections::{Bootstrap, Sections};
pub use signals::stop_on_signals;

/// Writes to standard output. A reader that has gone away is no error of ours.
pub fn print(text: &str) {
    drop(anstream::stdout().lock().write_all(text.as_bytes()));
}

/// Writes one line about a failure to standard error.
pub fn complain(text: &str) {
    let style = anstyle::Style::new()
        .bold()
        .fg_color(Some(anstyle::AnsiColor::Red.into()));
    drop(writeln!(
        anstream::stderr().lock(),
        "{style}error:{style:#} {text}"
    ));
}

/// A runtime for a service. Its stacks hold messages nested as deeply as we accept (1,000 levels).
///
/// # Errors
/// When the system has no threads to give.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .thread_stack_size(16 * 1024 * 1024)
        .thread_name("flyte")
        .enable_all()
        .build()
}

/// Runs `work` on a runtime of its own. A failure is one line on standard error, with its causes, and exit code 1.
pub fn run<E>(work: impl Future<Output = Result<(), E>>) -> ExitCode
where
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let done = runtime().map_err(Into::into).and_then(|runtime| {
        let done = runtime.block_on(work).map_err(Into::into);
        // Blocking reads of files that nobody waits for any more must not hold up the end.
        runtime.shutdown_background();
        done
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&Chain(error.as_ref()).to_string());
            ExitCode::FAILURE
        }
    }
}
