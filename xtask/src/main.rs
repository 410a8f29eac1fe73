//! Chores of the workspace that need code: `cargo xtask orphans`, `cargo xtask citations`, `cargo xtask reference`.

use std::{path::Path, process::ExitCode};

use clap::{Parser, Subcommand};

mod citations;
mod orphans;
mod reference;
mod workspace;

/// Chores of the workspace that need code.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Fail when there is a .rs file that no build reads (a forgotten `mod` line hides its tests).
    Orphans,
    /// Fail when a comment cites a section of docs/spec or docs/design.md that is not there.
    Citations,
    /// Write docs/reference/configuration.md and docs/reference/cli.md from doc comments and built programs.
    Reference {
        /// Write nothing; print the difference and fail if there is one.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."));
    let done = match Arguments::parse().chore {
        Chore::Orphans => orphans::find(root).map(|orphans| {
            for orphan in &orphans {
                anstream::eprintln!("{}: no build reads this file", orphan.display());
            }
            orphans.is_empty()
        }),
        Chore::Citations => citations::find(root).map(|dangling| {
            for found in &dangling {
                let (file, line) = (found.file.display(), found.line);
                anstream::eprintln!("{file}:{line}: there is no {}", found.citation);
            }
            dangling.is_empty()
        }),
        Chore::Reference { check } => reference::run(root, check),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            anstream::eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
