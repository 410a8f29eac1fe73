//! A service's own program: its commands, what every program has besides, and its exit codes.

use std::{ffi::OsString, process::ExitCode};

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;

use super::{Sections, complain};

/// The command line of one service. Besides its own commands it has `config`, `completion`, `--config`, a flag for every
/// key, `--help` and `--version`. A mistake in using it exits 1, as with Go's programs, and asking for help exits 0.
pub struct Program {
    command: Command,
    sections: Sections,
}

impl Program {
    /// A program that reads `sections`; `about` says in one line what it is for.
    pub fn new(name: &'static str, about: &'static str, sections: Sections) -> Self {
        let command = Command::new(name)
            .about(about)
            .version(env!("CARGO_PKG_VERSION"))
            .after_help(
                "Every configuration key is also a flag; --help lists them, -h leaves them out.",
            );
        Self {
            command: sections.extend(command).subcommand(completion()),
            sections,
        }
    }

    /// Requires one of `commands`, which it adds.
    #[must_use]
    pub fn commands(self, commands: impl IntoIterator<Item = Command>) -> Self {
        self.with(|command| {
            command
                .subcommand_required(true)
                .arg_required_else_help(true)
                .subcommands(commands)
        })
    }

    /// Changes the command as clap allows.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(Command) -> Command) -> Self {
        self.command = change(self.command);
        self
    }

    /// The whole command, for `flyte`, which has it as a subcommand.
    pub fn command(&self) -> &Command {
        &self.command
    }

    /// The sections that it reads.
    pub fn sections(&self) -> &Sections {
        &self.sections
    }

    /// Runs the command line `arguments`, program name included. Commands of its own are given to `run`.
    pub fn main(
        &self,
        arguments: impl IntoIterator<Item = OsString>,
        run: impl FnOnce(&ArgMatches) -> ExitCode,
    ) -> ExitCode {
        match parse(self.command.clone(), arguments) {
            Ok(matches) => match matches.subcommand() {
                Some(("config", inner)) => self.sections.run_config(inner),
                Some(("completion", inner)) => complete(self.command.clone(), inner),
                _ => run(&matches),
            },
            Err(code) => code,
        }
    }

    /// As [`Program::main`] of a service of which no more than configuration and commands is built: its own commands say
    /// `missing` and fail.
    pub fn unbuilt(
        &self,
        arguments: impl IntoIterator<Item = OsString>,
        missing: &str,
    ) -> ExitCode {
        self.main(arguments, |_| {
            complain(missing);
            ExitCode::FAILURE
        })
    }
}

/// Reads a command line; on a mistake, and on `--help` and `--version`, what is to be said is said and the exit code
/// returned: 1 for a mistake (clap's own is 2, Go's programs exit 1), else 0.
///
/// # Errors
/// The exit code with which the process has to end.
pub fn parse(
    command: Command,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<ArgMatches, ExitCode> {
    command.try_get_matches_from(arguments).map_err(|error| {
        if let Some(mistake) = mistake(&error) {
            complain(&mistake);
            return ExitCode::FAILURE;
        }
        let said = error.print().is_ok();
        if said && !error.use_stderr() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    })
}

/// A mistake in using a program, in one line; none if help or the version was asked for, or no command was given, which
/// shows the help.
fn mistake(error: &clap::Error) -> Option<String> {
    use clap::error::ErrorKind;
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return None;
    }
    let text = error.render().to_string();
    let (said, _usage) = text.split_once("\n\nUsage:").unwrap_or((&text, ""));
    let parts = said.split("\n\n").map(|part| {
        let lines: Vec<_> = part.lines().map(str::trim).collect();
        lines.join(" ")
    });
    let parts: Vec<_> = parts
        .map(|part| part.trim_start_matches("error: ").trim().to_owned())
        .filter(|part| !part.is_empty() && !part.starts_with("For more information"))
        .collect();
    Some(format!("{}; --help lists what there is", parts.join("; ")))
}

/// The subcommand `completion`.
pub fn completion() -> Command {
    Command::new("completion")
        .about("Prints the completion script of a shell")
        .long_about(
            "Prints the completion script of a shell. In bash, for this session:\n\n  source <(PROGRAM completion bash)\n\n\
             In zsh, for all: PROGRAM completion zsh > \"${fpath[1]}/_PROGRAM\". In fish: PROGRAM completion fish > \
             ~/.config/fish/completions/PROGRAM.fish",
        )
        .arg(
            Arg::new("shell")
                .required(true)
                .value_parser(value_parser!(Shell)),
        )
}

/// Runs `completion` of `command`, whose matches are `matches`.
pub fn complete(mut command: Command, matches: &ArgMatches) -> ExitCode {
    if let Some(shell) = matches.get_one::<Shell>("shell") {
        let name = command.get_name().to_owned();
        let mut script = Vec::new();
        clap_complete::generate(*shell, &mut command, name, &mut script);
        super::print(&String::from_utf8_lossy(&script));
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program() -> Program {
        Program::new("service", "Serves", Sections::new()).commands([Command::new("serve")])
    }

    fn run(line: &str) -> ExitCode {
        program().main(line.split(' ').map(OsString::from), |_| ExitCode::from(7))
    }

    #[test]
    fn mistakes_exit_1_and_help_exits_0() {
        for (line, code) in [
            ("service serve", ExitCode::from(7)),
            ("service", ExitCode::FAILURE),
            ("service sing", ExitCode::FAILURE),
            ("service serve --loudly", ExitCode::FAILURE),
            ("service completion cobol", ExitCode::FAILURE),
            ("service --help", ExitCode::SUCCESS),
            ("service serve -h", ExitCode::SUCCESS),
            ("service --version", ExitCode::SUCCESS),
            ("service completion zsh", ExitCode::SUCCESS),
            ("service config docs", ExitCode::SUCCESS),
        ] {
            assert_eq!(run(line), code, "{line}");
        }
    }

    #[test]
    fn a_mistake_is_one_line() {
        let mistake = |line: &str| {
            let command = program().command().clone();
            let error = command.try_get_matches_from(line.split(' ')).unwrap_err();
            mistake(&error)
        };
        for (line, expected) in [
            ("service --help", None),
            ("service", None),
            (
                "service sing",
                Some("unrecognized subcommand 'sing'; --help lists what there is"),
            ),
            (
                "service serv",
                Some(
                    "unrecognized subcommand 'serv'; tip: a similar subcommand exists: 'serve'; --help lists what there is",
                ),
            ),
            (
                "service completion",
                Some(
                    "the following required arguments were not provided: <shell>; --help lists what there is",
                ),
            ),
        ] {
            assert_eq!(mistake(line).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn its_command_line_is_well_formed() {
        program().command().clone().debug_assert();
    }
}
