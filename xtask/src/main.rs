//! Chores of the workspace that need code: `cargo xtask orphans`.

use std::{path::Path, process::ExitCode};

use clap::{Parser, Subcommand};

mod orphans;

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
}

fn main() -> ExitCode {
    let Chore::Orphans = Arguments::parse().chore;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."));
    match orphans::find(root) {
        Ok(orphans) if orphans.is_empty() => ExitCode::SUCCESS,
        Ok(orphans) => {
            for orphan in orphans {
                anstream::eprintln!("{}: no build reads this file", orphan.display());
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            anstream::eprintln!("orphans: {error:#}");
            ExitCode::FAILURE
        }
    }
}
