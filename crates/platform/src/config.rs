//! Configuration as Flyte operators know it (spec 07 §1).
//!
//! A process registers the sections it reads, each a plain struct with `Default`. Values come from, in
//! falling precedence: a flag that was given, an environment variable that is not empty, the merged
//! files, the default. There are no globals: two configurations live in one process.
//!
//! ```text
//! files --(merge: keys lower-cased, rules of §1.3)--> tree --(shape of the defaults)--> section struct
//!                                             env, flags --^
//! ```

mod decode;
mod duration;
mod environment;
mod files;
mod flags;
mod foreign;
mod map;
mod merge;
mod reload;
mod secret;
mod shape;
mod text;
mod unheard;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

pub use duration::Duration;
pub use environment::ProcessEnvironment;
pub use files::discover;
pub use flags::{arguments, given};
pub use map::{FromLoose, KeyedList, StringMap};
pub use reload::{Decode, Reload, decoded};
pub use secret::Secret;
pub use shape::Shape;
pub(crate) use shape::environment_names;
pub use text::text_that;
pub use unheard::Unheard;

/// The sections of all of Flyte's programs, beside those that a program reads itself (spec 07 §1.12).
const OF_FLYTE: [&str; 35] = [
    "admin",
    "application",
    "auth",
    "catalog-cache",
    "cloudEvents",
    "cluster_resources",
    "clusterPools",
    "clusters",
    "database",
    "datacatalog",
    "domains",
    "event",
    "externalEvents",
    "flyte",
    "flyteadmin",
    "logger",
    "manager",
    "namespace_mapping",
    "notifications",
    "otel",
    "plugins",
    "prof",
    "propeller",
    "qualityOfService",
    "queues",
    "registration",
    "remoteData",
    "scheduler",
    "secrets",
    "server",
    "storage",
    "task_resources",
    "task_type_whitelist",
    "tasks",
    "webhook",
];

fn is_of_flyte(key: &str) -> bool {
    OF_FLYTE.iter().any(|name| name.eq_ignore_ascii_case(key))
}

/// Environment variables and flags, as values, so that tests need neither.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// What `--config` holds: a path or a glob; empty uses the default places.
    pub pattern: String,
    /// The variables of the process, of which those that name a key are read.
    pub environment: ProcessEnvironment,
    /// Section flags that were given, by full name (`storage.limits.maxDownloadMBs`).
    pub flags: BTreeMap<String, String>,
}

impl Sources {
    /// The environment of this process, with `pattern` for the files.
    pub fn of_process(pattern: impl Into<String>, flags: BTreeMap<String, String>) -> Self {
        Self {
            pattern: pattern.into(),
            environment: ProcessEnvironment::of_process(),
            flags,
        }
    }
}

/// One problem in the configuration, with the place where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Dotted path of the key, or the file's path.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// The configuration cannot be used; all problems at once.
#[derive(Debug, thiserror::Error)]
#[error("invalid configuration: {}", .0.iter().map(|problem| format!("{}: {}", problem.key, problem.message)).collect::<Vec<_>>().join("; "))]
pub struct ConfigError(pub Vec<Problem>);

/// The merged tree, before sections are decoded from it.
#[derive(Clone, Debug)]
pub struct Config {
    /// The files that were read, in order.
    pub files: Vec<PathBuf>,
    documents: Vec<(PathBuf, Value)>,
    tree: Value,
    sources: Sources,
    /// What told the files apart from others when they were read.
    stamp: files::Stamp,
    warnings: Vec<Problem>,
    problems: Vec<Problem>,
    known: Vec<String>,
    unheard: Vec<Unheard>,
    /// Those of them that were given.
    given_in_vain: Vec<Problem>,
}

impl Config {
    /// Warns of these keys when they are given, in sections that are decoded from now on.
    #[must_use]
    pub fn with_unheard(mut self, unheard: impl IntoIterator<Item = Unheard>) -> Self {
        self.unheard.extend(unheard);
        self
    }

    /// Finds, reads and merges the files that `sources.pattern` names.
    ///
    /// # Errors
    /// Every file that cannot be read or is not YAML.
    pub fn load(sources: Sources) -> Result<Self, ConfigError> {
        // Taken first: a file that changes while it is read is read again.
        let stamp = files::stamp(&sources.pattern);
        let files: Vec<PathBuf> = stamp.iter().map(|(file, _)| file.clone()).collect();
        let mut problems = Vec::new();
        let mut documents = Vec::new();
        for file in &files {
            match read(file) {
                Ok(value) => documents.push((file.clone(), value)),
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(ConfigError(problems));
        }
        let (tree, mut warnings) = merge::merge(&documents);
        if !sources.pattern.is_empty() && !files::matches(&sources.pattern) {
            let instead = match files.as_slice() {
                [] => "defaults, environment and flags are all there is".to_owned(),
                files => format!("{} is read instead", files::listed(files)),
            };
            warnings.push(Problem {
                key: "--config".into(),
                message: format!("no file matches {:?}; {instead}", sources.pattern),
            });
        }
        Ok(Self {
            files,
            documents,
            tree,
            sources,
            stamp,
            warnings,
            problems: Vec::new(),
            known: Vec::new(),
            unheard: Vec::new(),
            given_in_vain: Vec::new(),
        })
    }

    /// The same files, environment and flags, with no section decoded yet; what loading found is told by `self` alone.
    #[must_use]
    pub(crate) fn afresh(&self) -> Self {
        Self {
            warnings: Vec::new(),
            problems: Vec::new(),
            known: Vec::new(),
            given_in_vain: Vec::new(),
            ..self.clone()
        }
    }

    /// Decodes the section with this (possibly dotted) name; problems are kept for [`Config::finish`].
    pub fn section<S>(&mut self, name: &str) -> S
    where
        S: Serialize + DeserializeOwned + Default,
    {
        self.known.push(name.to_lowercase());
        let default = S::default();
        let shape = Shape::of(&default);
        let raw = self
            .lookup(name)
            .map(|merged| foreign::spelled(&shape, merged, &self.documents, name));
        let mut decoder = shape::Decoder::new(name);
        let mut value = decoder.decode(&shape, raw);
        for leaf in shape.leaves() {
            let path = format!("{name}.{leaf}");
            let text = self.sources.flags.get(&path).map(String::as_str);
            let text = text.or_else(|| {
                shape::environment_names(&path)
                    .into_iter()
                    .find_map(|variable| self.sources.environment.get(&variable))
            });
            if let Some(text) = text {
                decoder.set(&shape, &mut value, &leaf, text);
            }
        }
        let in_vain: Vec<_> = unheard::given(&self.unheard, name, &shape, &value)
            .into_iter()
            .map(|it| self.placed(it))
            .collect();
        for problem in in_vain {
            if !self.given_in_vain.contains(&problem) {
                self.given_in_vain.push(problem);
            }
        }
        let (warnings, problems) = decoder.finish();
        let warnings: Vec<_> = warnings.into_iter().map(|it| self.placed(it)).collect();
        let problems: Vec<_> = problems.into_iter().map(|it| self.placed(it)).collect();
        self.warnings.extend(warnings);
        self.problems.extend(problems);
        let (section, unfit) = decode::decode::<S>(name, &value);
        let unfit: Vec<_> = unfit.into_iter().map(|it| self.placed(it)).collect();
        if unfit.is_empty()
            && let Some(section) = &section
        {
            let kept = serde_json::to_value(section).unwrap_or_default();
            let lost = foreign::lost(name, &value, &kept).into_iter();
            let lost: Vec<_> = lost.map(|it| self.placed(it)).collect();
            self.warnings.extend(lost);
        }
        self.problems.extend(unfit);
        section.unwrap_or(default)
    }

    /// A variable of the environment, where a key says which one to read.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.sources.environment.get(name)
    }

    /// Ends the decoding of sections.
    ///
    /// Keys that no section of this process reads are fine (files are shared between services); keys that
    /// a known section does not have are returned as warnings, as are those that change nothing.
    ///
    /// # Errors
    /// All problems of all sections.
    pub fn finish(mut self) -> Result<Vec<Problem>, ConfigError> {
        let misspelt = self.unread().filter_map(|name| {
            let meant = shape::similar(name, self.known.iter().map(String::as_str))?;
            Some(self.placed(Problem {
                key: name.clone(),
                message: format!("no section of this program; is {meant:?} meant?"),
            }))
        });
        let misspelt: Vec<_> = misspelt.collect();
        self.warnings.extend(misspelt);
        self.warnings.append(&mut self.given_in_vain);
        if self.problems.is_empty() {
            Ok(self.warnings)
        } else {
            Err(ConfigError(self.problems))
        }
    }

    /// As [`Config::finish`], but an unknown key is an error (`config validate --strict`, spec 07 §1.8).
    ///
    /// # Errors
    /// All problems, and every key that nothing reads.
    pub fn finish_strict(mut self) -> Result<(), ConfigError> {
        // A file that services share has sections of all of them.
        let unread = self.unread().filter(|key| !is_of_flyte(key));
        let unread = unread.map(|key| {
            let meant = self.known.iter().map(String::as_str).chain(OF_FLYTE);
            let meant = shape::similar(key, meant)
                .map_or_else(String::new, |name| format!("; is {name:?} meant?"));
            self.placed(Problem {
                key: key.clone(),
                message: format!(
                    "strict mode is on but received a key that no section reads{meant}"
                ),
            })
        });
        let unread: Vec<_> = unread.collect();
        self.problems.extend(unread);
        self.problems.append(&mut self.warnings);
        if self.problems.is_empty() {
            Ok(())
        } else {
            Err(ConfigError(self.problems))
        }
    }

    /// The problem with the place where its key got its value: flag, variable or file.
    fn placed(&self, mut problem: Problem) -> Problem {
        let mut key = problem.key.as_str();
        // What is in a list or in a map of the user's is where that is.
        let place = loop {
            match (self.place(key), key.rsplit_once(['.', '['])) {
                (Some(place), _) => break Some(place),
                (None, Some((above, _))) => key = above,
                (None, None) => break None,
            }
        };
        if let Some(place) = place {
            problem.message = format!("{} ({place})", problem.message);
        }
        problem
    }

    /// Where `key` got its value.
    fn place(&self, key: &str) -> Option<String> {
        if self.sources.flags.contains_key(key) {
            return Some(format!("--{key}"));
        }
        let variable = shape::environment_names(key)
            .into_iter()
            .find(|name| self.sources.environment.get(name).is_some());
        if let Some(name) = variable {
            return Some(format!("variable {name}"));
        }
        let holds = |(_, document): &&(PathBuf, Value)| merge::holds(document, key);
        let file = self.documents.iter().rev().find(holds);
        file.map(|(file, _)| file.display().to_string())
    }

    /// Top-level keys that no section of this process reads.
    fn unread(&self) -> impl Iterator<Item = &String> {
        let keys = self
            .tree
            .as_object()
            .into_iter()
            .flat_map(|tree| tree.keys());
        keys.filter(|key| {
            let nested = format!("{key}.");
            !self
                .known
                .iter()
                .any(|known| known == *key || known.starts_with(&nested))
        })
    }

    /// What the files say about the section `name`.
    fn lookup(&self, name: &str) -> Option<Value> {
        let mut at = &self.tree;
        for part in name.to_lowercase().split('.') {
            at = at.get(part)?;
        }
        Some(at.clone())
    }
}

fn read(file: &Path) -> Result<Value, Problem> {
    let problem = |message: String| Problem {
        key: file.display().to_string(),
        message,
    };
    let text = std::fs::read_to_string(file)
        .map_err(|error| problem(format!("cannot be read: {error}")))?;
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    let value: serde_norway::Value =
        serde_norway::from_str(&text).map_err(|error| problem(format!("is not YAML: {error}")))?;
    merge::to_json(value).map_err(problem)
}

#[cfg(test)]
mod tests;
