//! docs/reference/cli.md: the help of every program and subcommand.

use anyhow::Result;

use super::programs::{Programs, WHOLE};

/// Subcommands that every program has; they are shown once.
const COMMON: [&str; 2] = ["config", "completion"];

/// The page.
pub(super) fn page(programs: &Programs) -> Result<String> {
    let mut text = "# Command lines\n\n\
        Written by `cargo xtask reference` from what the programs say; do not edit.\n\n\
        Every configuration key is a flag too: `--logger.level 5` is key `logger.level` of\n\
        [configuration.md](configuration.md). These flags are left out here. A mistake in the use of a program, and any\n\
        failure, exits 1 with one line on standard error.\n"
        .to_owned();
    for name in &programs.names {
        text.push_str(&format!("\n## {name}\n"));
        command(programs, name, &[], &mut text)?;
    }
    Ok(text)
}

fn command(programs: &Programs, program: &str, path: &[&str], text: &mut String) -> Result<()> {
    let mut arguments = path.to_vec();
    arguments.push("--help");
    let help = without_keys(&programs.output(program, &arguments)?);
    // `flyte admin` is flyteadmin, which has a place of its own.
    if let [service] = path
        && let Some(other) = usage(&help)
        && other != program
    {
        text.push_str(&format!(
            "\n`{program} {service}` is [`{other}`](#{other}).\n"
        ));
        return Ok(());
    }
    if !path.is_empty() {
        let level = "#".repeat(path.len() + 2);
        text.push_str(&format!("\n{level} {program} {}\n", path.join(" ")));
    }
    text.push_str(&format!("\n```text\n{}\n```\n", help.trim_end()));
    for name in subcommands(&help) {
        let common = path.is_empty() && COMMON.contains(&name);
        if name == "help" || common && program != WHOLE {
            continue;
        }
        let mut inner = path.to_vec();
        inner.push(name);
        command(programs, program, &inner, text)?;
    }
    Ok(())
}

/// The help without the flags of configuration keys, which stand under headings of their own.
fn without_keys(help: &str) -> String {
    let mut kept = Vec::new();
    let mut in_section = false;
    for line in help.lines() {
        if !line.is_empty() && !line.starts_with(' ') {
            in_section = line.starts_with("Section ");
        }
        if !in_section {
            kept.push(line);
        }
    }
    kept.join("\n")
}

/// The program that a help is of.
fn usage(help: &str) -> Option<&str> {
    help.lines()
        .find_map(|line| line.strip_prefix("Usage: "))?
        .split_whitespace()
        .next()
}

/// Names below "Commands:".
fn subcommands(help: &str) -> Vec<&str> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| line.starts_with(' '))
        // Continued lines are indented deeper.
        .filter_map(|line| {
            line.strip_prefix("  ")
                .filter(|rest| !rest.starts_with(' '))
        })
        .filter_map(|line| line.split_whitespace().next())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELP: &str = "Serves\n\nUsage: service [OPTIONS] <COMMAND>\n\nCommands:\n  serve    Serves\n           for long\n  help     \
        Print this\n\nOptions:\n  -h, --help\n          Print help\n\nSection logger:\n      --logger.level <VALUE>\n          \
        Default: 3\n\nEvery key is a flag.\n";

    #[test]
    fn flags_of_keys_are_left_out() {
        let help = without_keys(HELP);
        assert!(!help.contains("logger.level"), "{help}");
        assert!(help.ends_with("Every key is a flag."), "{help}");
    }

    #[test]
    fn subcommands_and_program_are_read_from_the_help() {
        assert_eq!(subcommands(HELP), ["serve", "help"]);
        assert_eq!(usage(HELP), Some("service"));
    }
}
