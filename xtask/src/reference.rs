//! The reference pages, written from what they describe: nothing is listed a second time.
//!
//! ```text
//! built programs ── config docs --json ──> sections, keys, defaults ─┐
//! crates/*/src ── syn ──> doc comments and types of the structs ─────┴──> docs/reference/configuration.md
//! built programs ── --help, of every subcommand ────────────────────────> docs/reference/cli.md
//! ```

mod cli;
mod configuration;
mod programs;
mod source;

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use programs::Programs;

/// What CI builds too, so that nothing is built twice with other features.
const BUILD: [&str; 5] = ["build", "--quiet", "--workspace", "--bins", "--examples"];

/// Writes the pages, or with `check` says whether they are as they should be and prints how they are not.
///
/// # Errors
/// A build that fails, a key without a doc comment, a file that cannot be read or written.
pub(crate) fn run(root: &Path, check: bool) -> Result<bool> {
    let mut build = Command::new("cargo");
    build.args(BUILD).current_dir(root);
    // `cargo run` tells this program about its own package; build scripts (ring's) watch these variables, and would run
    // again, with all that depends on them.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        }) {
            build.env_remove(&name);
        }
    }
    let built = build.status().context("cargo cannot be started")?;
    ensure!(built.success(), "the programs cannot be built");
    let programs = Programs::of(root)?;
    let source = source::Source::read(&root.join("crates"))?;
    let folder = root.join("docs/reference");
    let mut good = true;
    for (name, text) in [
        ("configuration.md", configuration::page(&programs, &source)?),
        ("cli.md", cli::page(&programs)?),
    ] {
        let file = folder.join(name);
        let old = fs::read_to_string(&file).unwrap_or_default();
        if old == text {
            continue;
        }
        if check {
            good = false;
            difference(&file, &text)?;
            anstream::eprintln!(
                "{} is out of date: run `cargo xtask reference`",
                file.display()
            );
        } else {
            fs::create_dir_all(&folder)?;
            fs::write(&file, text)
                .with_context(|| format!("{} cannot be written", file.display()))?;
        }
    }
    Ok(good)
}

/// Prints what would change in `file`.
fn difference(file: &Path, text: &str) -> Result<()> {
    let mut child = Command::new("diff")
        .args(["--unified", "--new-file"])
        .arg(file)
        .arg("-")
        .stdin(Stdio::piped())
        .spawn()
        .context("diff cannot be started")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(text.as_bytes())?;
    }
    child.wait()?;
    Ok(())
}
