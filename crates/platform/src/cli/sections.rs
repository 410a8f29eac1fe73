//! The sections of a service: a flag for every key, `config discover|validate|docs`, and the loaded configuration.

use std::{any::type_name, collections::BTreeMap, path::PathBuf, process::ExitCode};

use clap::{Arg, ArgMatches, Command};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::print;
use crate::{
    config::{self, Config, ConfigError, Decode, Reload, Shape, Sources, Unheard},
    server::ProfConfig,
};

/// The sections that a service reads.
#[derive(Default)]
pub struct Sections {
    known: Vec<Section>,
    unheard: Vec<Unheard>,
}

/// What a service begins with, all of one reading of its files.
pub struct Bootstrap {
    /// For the service to decode its sections from.
    pub config: Config,
    /// What `/config` shows; none if section `prof` says that nobody is to see it.
    pub shown: Option<Value>,
    /// Follows the files; nothing happens before [`Reload::run`].
    pub reload: Reload,
}

struct Section {
    name: String,
    /// The struct that it is decoded into, as the compiler names it.
    rust: &'static str,
    shape: Shape,
    decode: config::Decode,
}

impl Section {
    /// Keys with their paths below the section; a section that is a list or a map is its own and only key.
    fn keys(&self) -> Vec<(String, String)> {
        match self.shape.leaves() {
            leaves if leaves.is_empty() => vec![(self.name.clone(), String::new())],
            leaves => leaves
                .into_iter()
                .map(|leaf| (format!("{}.{leaf}", self.name), leaf))
                .collect(),
        }
    }
}

impl Sections {
    /// An empty set, to which a service adds its sections.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the section `name`, whose keys are the fields of `S`.
    #[must_use]
    pub fn with<S: Serialize + DeserializeOwned + Default>(mut self, name: &str) -> Self {
        self.known.push(Section {
            name: name.to_owned(),
            rust: type_name::<S>(),
            shape: Shape::of(&S::default()),
            decode: config::decoded::<S>,
        });
        self
    }

    /// Adds keys that change nothing here; whoever gives one is warned.
    #[must_use]
    pub fn unheard(mut self, unheard: &[Unheard]) -> Self {
        self.unheard.extend(unheard);
        self
    }

    /// Every key with its path, and for those that change nothing, what is the case instead.
    pub fn keys(&self) -> Vec<(String, Option<&'static str>)> {
        let keys = self.known.iter().flat_map(Section::keys);
        keys.map(|(key, _)| {
            let unheard = self.unheard.iter().find(|unheard| unheard.covers(&key));
            (key, unheard.map(|unheard| unheard.instead))
        })
        .collect()
    }

    /// All sections of both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        for section in other.known {
            if !self.known.iter().any(|known| known.name == section.name) {
                self.known.push(section);
            }
        }
        for unheard in other.unheard {
            if !self.unheard.contains(&unheard) {
                self.unheard.push(unheard);
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
                    .default_value("")
                    .hide_default_value(true),
            )
            .subcommand(Self::config_command());
        for section in &self.known {
            command = command.args(config::arguments(&section.name, &section.shape));
        }
        command
    }

    /// Reads the configuration that `matches` name, once, for all that a service begins with.
    ///
    /// # Errors
    /// Files that cannot be read or are not YAML, and values that do not fit, whether or not the service uses them.
    pub fn bootstrap(&self, matches: &ArgMatches) -> Result<Bootstrap, ConfigError> {
        let mut config = self.load(matches)?;
        let prof: ProfConfig = config.section("prof");
        let shown = (!prof.disable_config_endpoint).then(|| self.effective(&config));
        let reload = Reload::new(&config, self.decoders())?;
        Ok(Bootstrap {
            config,
            shown,
            reload,
        })
    }

    fn load(&self, matches: &ArgMatches) -> Result<Config, ConfigError> {
        let config = Config::load(self.sources(matches))?;
        let mut config = config.with_unheard(self.unheard.iter().copied());
        // Nobody decodes a section of which nothing is heard.
        for section in &self.known {
            if self
                .unheard
                .iter()
                .any(|unheard| unheard.key == section.name)
            {
                (section.decode)(&mut config, &section.name);
            }
        }
        Ok(config)
    }

    /// The sections by name, as [`Reload::new`] takes them.
    pub fn decoders(&self) -> Vec<(String, Decode)> {
        self.known
            .iter()
            .map(|section| (section.name.clone(), section.decode))
            .collect()
    }

    /// What all sections hold, defaults included and secrets left out, by the names of the sections.
    fn effective(&self, config: &Config) -> Value {
        let mut config = config.afresh();
        let sections = self.known.iter().map(|section| {
            let value = (section.decode)(&mut config, &section.name);
            (section.name.clone(), value)
        });
        Value::Object(sections.collect())
    }

    /// The flags of sections that stand in `matches`, by key: for commands that read no configuration.
    pub fn given(&self, matches: &ArgMatches) -> Vec<String> {
        self.sources(matches).flags.into_keys().collect()
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
                Command::new("docs")
                    .about("Prints all sections and keys with their defaults")
                    .arg(
                        Arg::new("json")
                            .long("json")
                            .help("As JSON, with environment variables")
                            .action(clap::ArgAction::SetTrue),
                    ),
            )
    }

    /// Runs `config …`; `matches` are those of that subcommand.
    pub fn run_config(&self, matches: &ArgMatches) -> ExitCode {
        match matches.subcommand() {
            Some(("docs", inner)) => {
                print(&if inner.get_flag("json") {
                    format!("{:#}\n", self.reference_json())
                } else {
                    self.reference()
                });
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

    /// All keys with their defaults and environment variables, and the struct that each section is decoded into.
    pub fn reference_json(&self) -> Value {
        let sections = self.known.iter().map(|section| {
            let keys = section.keys().into_iter().map(|(key, leaf)| {
                let environment = config::environment_names(&key);
                json!({ "path": leaf, "default": section.shape.default_text(&leaf), "environment": environment, "key": key })
            });
            json!({ "name": section.name, "rust": section.rust, "keys": keys.collect::<Vec<_>>() })
        });
        sections.collect()
    }

    /// All keys with their defaults, as reStructuredText.
    pub fn reference(&self) -> String {
        let mut text = String::new();
        for section in &self.known {
            let title = format!("Section: {}", section.name);
            text.push_str(&format!("{title}\n{}\n\n", "=".repeat(title.len())));
            for (key, leaf) in section.keys() {
                let default = section.shape.default_text(&leaf);
                text.push_str(&format!("``{key}``\n    default: ``{default}``\n\n"));
            }
        }
        text
    }
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
    fn what_is_in_effect_is_told_unless_it_is_not_to_be() {
        let sections = Sections::new()
            .with::<Logger>("logger")
            .with::<ProfConfig>("prof");
        let shown = |line: &[&str]| {
            let command = sections.extend(Command::new("flyteadmin"));
            let matches = command.try_get_matches_from(line).unwrap();
            sections.bootstrap(&matches).unwrap().shown
        };
        let level = ["flyteadmin", "--logger.level=5"];
        let told = shown(&level).unwrap();
        assert_eq!(told["logger"], json!({ "level": 5 }));
        let closed = [
            "flyteadmin",
            "--logger.level=5",
            "--prof.DisableConfigEndpoint=true",
        ];
        assert_eq!(shown(&closed), None);
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
