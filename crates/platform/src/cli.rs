//! What the command lines of all services share (spec 07 §1.6, §1.10).
//!
//! A service lists its sections once in [`Sections`]; from that come a flag for every key, the subcommand
//! `config discover|validate|docs`, and the loaded [`Config`].

use std::{collections::BTreeMap, io::Write as _, path::PathBuf, process::ExitCode};

use clap::{Arg, ArgMatches, Command};
use serde::{Serialize, de::DeserializeOwned};

use crate::Tasks;
use crate::config::{self, Config, ConfigError, Shape, Sources};

/// The sections that a service reads.
#[derive(Default)]
pub struct Sections {
    known: Vec<Section>,
}

struct Section {
    name: String,
    shape: Shape,
    decode: fn(&mut Config, &str),
}

impl Sections {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the section `name`, whose keys are the fields of `S`.
    #[must_use]
    pub fn with<S: Serialize + DeserializeOwned + Default>(mut self, name: &str) -> Self {
        fn decode<S: Serialize + DeserializeOwned + Default>(config: &mut Config, name: &str) {
            drop(config.section::<S>(name));
        }
        self.known.push(Section {
            name: name.to_owned(),
            shape: Shape::of(&S::default()),
            decode: decode::<S>,
        });
        self
    }

    /// All sections of both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        for section in other.known {
            if !self.known.iter().any(|known| known.name == section.name) {
                self.known.push(section);
            }
        }
        self
    }

    /// `--config`, the flags of all keys, and the subcommand `config`, added to a service's own command.
    pub fn extend(&self, command: Command) -> Command {
        let mut command = command
            .arg(
                Arg::new("config")
                    .long("config")
                    .value_name("FILES")
                    .help("Configuration file, or a glob such as /etc/flyte/config/*.yaml")
                    .global(true)
                    .default_value(""),
            )
            .subcommand(Self::config_command());
        for section in &self.known {
            command = command.args(config::arguments(&section.name, &section.shape));
        }
        command
    }

    /// Loads the configuration that `matches` name.
    ///
    /// # Errors
    /// Files that cannot be read or are not YAML.
    pub fn load(&self, matches: &ArgMatches) -> Result<Config, ConfigError> {
        Config::load(self.sources(matches))
    }

    fn sources(&self, matches: &ArgMatches) -> Sources {
        let names: Vec<String> = self
            .known
            .iter()
            .flat_map(|section| {
                section
                    .shape
                    .leaves()
                    .into_iter()
                    .map(|leaf| format!("{}.{leaf}", section.name))
            })
            .collect();
        // Flags may stand before or after the subcommand; clap hands global ones down to the innermost.
        let mut flags = BTreeMap::new();
        let mut at = Some(matches);
        let mut pattern = String::new();
        while let Some(level) = at {
            flags.extend(config::given(level, names.iter().map(String::as_str)));
            if let Ok(Some(value)) = level.try_get_one::<String>("config")
                && !value.is_empty()
            {
                pattern.clone_from(value);
            }
            at = level.subcommand().map(|(_, inner)| inner);
        }
        Sources::of_process(pattern, flags)
    }

    fn config_command() -> Command {
        Command::new("config")
            .about("Shows and checks configuration")
            .subcommand_required(true)
            .arg(
                Arg::new("file")
                    .long("file")
                    .value_name("PATH")
                    .help("Checks this file instead of those that --config names")
                    .global(true),
            )
            .subcommand(
                Command::new("discover")
                    .about("Names the files that would be read, and checks them"),
            )
            .subcommand(
                Command::new("validate").about("Checks the files").arg(
                    Arg::new("strict")
                        .long("strict")
                        .help("Keys that nothing reads are errors")
                        .action(clap::ArgAction::SetTrue),
                ),
            )
            .subcommand(
                Command::new("docs").about("Prints all sections and keys with their defaults"),
            )
    }

    /// Runs `config …`; `matches` are those of that subcommand.
    pub fn run_config(&self, matches: &ArgMatches) -> ExitCode {
        match matches.subcommand() {
            Some(("docs", _)) => {
                print(&self.reference());
                ExitCode::SUCCESS
            }
            Some((_, inner)) => self.validate(matches, inner),
            None => ExitCode::FAILURE,
        }
    }

    fn validate(&self, matches: &ArgMatches, inner: &ArgMatches) -> ExitCode {
        let mut sources = self.sources(matches);
        if let Ok(Some(file)) = inner.try_get_one::<String>("file") {
            sources.pattern.clone_from(file);
        }
        let files: Vec<PathBuf> = config::discover(&sources.pattern);
        if files.is_empty() {
            print("Couldn't find a config file.\n");
        } else {
            let names: Vec<_> = files
                .iter()
                .map(|file| file.display().to_string())
                .collect();
            print(&format!("Config file(s) found at: {}\n", names.join(",")));
        }
        let strict = inner
            .try_get_one::<bool>("strict")
            .ok()
            .flatten()
            .copied()
            .unwrap_or(false);
        let checked = Config::load(sources).and_then(|mut config| {
            for section in &self.known {
                (section.decode)(&mut config, &section.name);
            }
            if strict {
                config.finish_strict().map(|()| Vec::new())
            } else {
                config.finish()
            }
        });
        match checked {
            Ok(warnings) => {
                for warning in warnings {
                    print(&format!("warning: {}: {}\n", warning.key, warning.message));
                }
                print("Validated config file successfully.\n");
                ExitCode::SUCCESS
            }
            Err(error) => {
                print("Failed to validate config file.\n");
                for problem in error.0 {
                    print(&format!("{}: {}\n", problem.key, problem.message));
                }
                ExitCode::FAILURE
            }
        }
    }

    /// All keys with their defaults, as reStructuredText.
    pub fn reference(&self) -> String {
        let mut text = String::new();
        for section in &self.known {
            let title = format!("Section: {}", section.name);
            text.push_str(&format!("{title}\n{}\n\n", "=".repeat(title.len())));
            for leaf in section.shape.leaves() {
                let default = section.shape.default_text(&leaf);
                text.push_str(&format!(
                    "``{}.{leaf}``\n    default: ``{default}``\n\n",
                    section.name
                ));
            }
        }
        text
    }
}

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

/// Completes when the process is asked to end: SIGINT or SIGTERM.
///
/// # Errors
/// When signals cannot be listened for.
pub async fn asked_to_stop() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// Stops `tasks` when the process is asked to end.
pub fn stop_on_signals(tasks: &mut Tasks) {
    let stop = tasks.stop_token();
    tasks.spawn("signals", async move {
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            heard = asked_to_stop() => {
                stop.cancel();
                heard
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Serialize, Deserialize)]
    #[serde(default)]
    struct Logger {
        level: i64,
    }

    impl Default for Logger {
        fn default() -> Self {
            Self { level: 3 }
        }
    }

    #[test]
    fn flags_before_and_after_a_subcommand_are_heard() {
        let sections = Sections::new().with::<Logger>("logger");
        for line in [
            ["flyteadmin", "--config=x.yaml", "--logger.level=5", "serve"],
            ["flyteadmin", "serve", "--config=x.yaml", "--logger.level=5"],
        ] {
            let command = sections
                .extend(Command::new("flyteadmin"))
                .subcommand(Command::new("serve"));
            let matches = command.try_get_matches_from(line).unwrap();
            let sources = sections.sources(&matches);
            assert_eq!(sources.pattern, "x.yaml");
            assert_eq!(
                sources.flags.get("logger.level").map(String::as_str),
                Some("5")
            );
        }
    }

    #[test]
    fn the_reference_names_every_key_with_its_default() {
        let text = Sections::new().with::<Logger>("logger").reference();
        assert!(
            text.contains("``logger.level``\n    default: ``3``"),
            "{text}"
        );
    }
}
