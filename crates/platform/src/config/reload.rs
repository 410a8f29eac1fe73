//! Configuration that changes while a service runs (spec 07 §1.9).
//!
//! ```text
//! files --(stat, every two seconds)--> changed and at rest? --load, decode all--> what differs
//!                                                 │                               ├─ followed: to its follower
//!                                                 └─ bad: one line, the old stays └─ else: "after a restart"
//! ```
//!
//! Go watches each file with fsnotify. Here their metadata are read every [`PERIOD`]: that sees what a watch sees (edits,
//! replaced files, the swapped `..data` link of a ConfigMap) and what it misses (file systems without events, bind-mounted
//! single files, new files that the glob matches), without one case for each; a ConfigMap takes up to a minute to reach a
//! pod anyway. Reading is put off until the files have been at rest for one period, so that a half-written one is not taken
//! for the whole.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Config, ConfigError, Problem, Sources, files, secret};

/// How often the files are looked at. A look costs as many stat calls as there are files.
const PERIOD: Duration = Duration::from_secs(2);

/// Decodes a section, to see that it can be; problems stay in the configuration.
pub type Decode = fn(&mut Config, &str) -> Value;

/// Decodes the section `name` as an `S` and shows what it holds, without its secrets.
pub fn decoded<S: Serialize + DeserializeOwned + Default>(
    config: &mut Config,
    name: &str,
) -> Value {
    let mut value = serde_json::to_value(config.section::<S>(name)).unwrap_or_default();
    secret::hide(&mut value);
    value
}

/// Decodes a section for its follower; what it returns hands it over.
type Stage = Box<dyn Fn(&mut Config) -> Box<dyn FnOnce()> + Send>;

/// Follows the files of a configuration.
///
/// A change is taken as a whole or not at all: when a file cannot be read or one value of any section does not fit, the
/// service goes on with what it had and says so once.
pub struct Reload {
    sources: Sources,
    sections: Vec<Section>,
    stamp: files::Stamp,
}

struct Section {
    name: String,
    decode: Decode,
    /// What the files say.
    raw: Option<Value>,
    /// What the service makes of it.
    value: Value,
    followers: Vec<Stage>,
    /// Keys, with the section's name, that followers look at only when they start.
    fixed: Vec<String>,
}

impl Reload {
    /// Follows the files that `config` was read from, beginning with what it says about `sections`.
    ///
    /// # Errors
    /// Those of [`Config::finish`].
    pub fn new(config: &Config, sections: Vec<(String, Decode)>) -> Result<Self, ConfigError> {
        let (sources, stamp) = (config.sources.clone(), config.stamp.clone());
        let mut config = config.afresh();
        let sections = sections
            .into_iter()
            .map(|(name, decode)| Section {
                raw: config.lookup(&name),
                value: decode(&mut config, &name),
                name,
                decode,
                followers: Vec::new(),
                fixed: Vec::new(),
            })
            .collect();
        config.finish()?;
        Ok(Self {
            sources,
            sections,
            stamp,
        })
    }

    /// Calls `apply` with each later content of the section `name`, one of those that this follows.
    pub fn on_change<S>(&mut self, name: &str, apply: impl Fn(S) + Clone + Send + 'static)
    where
        S: Serialize + DeserializeOwned + Default + Send + 'static,
    {
        let Some(section) = self.sections.iter_mut().find(|known| known.name == name) else {
            tracing::error!(section = name, "nothing reads a section that is followed");
            return;
        };
        let name = name.to_owned();
        section.followers.push(Box::new(move |config| {
            let (apply, content) = (apply.clone(), config.section::<S>(&name));
            Box::new(move || apply(content))
        }));
    }

    /// Says that these keys of the section `name` are read only at the start, although it is followed: who changes them is
    /// told of the restart.
    pub fn fixed(&mut self, name: &str, keys: &[&str]) {
        if let Some(section) = self.sections.iter_mut().find(|known| known.name == name) {
            let keys = keys.iter().map(|key| format!("{name}.{key}"));
            section.fixed.extend(keys);
        }
    }

    /// The section `name` as it is now, and each later content of it.
    pub fn follow<S>(&mut self, name: &str, now: S) -> watch::Receiver<S>
    where
        S: Serialize + DeserializeOwned + Default + Send + Sync + 'static,
    {
        let sender = watch::Sender::new(now);
        let receiver = sender.subscribe();
        self.on_change(name, move |content| {
            sender.send_replace(content);
        });
        receiver
    }

    /// Follows the files until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut looks = tokio::time::interval(PERIOD);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut pending = None;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = looks.tick() => {}
            }
            let found = files::stamp(&self.sources.pattern);
            if found == self.stamp {
                pending = None;
            } else if pending.as_ref() == Some(&found) {
                pending = None;
                self.stamp = found;
                if let Err(error) = self.read() {
                    tracing::error!(%error, "the changed configuration is not used, the one before stays");
                }
            } else {
                pending = Some(found);
            }
        }
    }

    /// Reads the files and hands over what has changed.
    fn read(&mut self) -> Result<(), ConfigError> {
        let mut good = Config::load(self.sources.clone())?;
        let mut config = good.clone();
        let mut changes = Vec::new();
        for (index, section) in self.sections.iter().enumerate() {
            let raw = config.lookup(&section.name);
            let value = (section.decode)(&mut config, &section.name);
            if raw != section.raw {
                changes.push((index, raw, value));
            }
        }
        for Problem { key, message } in config.finish()? {
            tracing::warn!(key, "{message}");
        }
        let changed = changes
            .iter()
            .filter_map(|(index, ..)| self.sections.get(*index));
        let staged: Vec<_> = changed
            .flat_map(|section| &section.followers)
            .map(|stage| stage(&mut good))
            .collect();
        // The level of the log may be among them: what is told of the change is told with the new one.
        for hand_over in staged {
            hand_over();
        }
        if changes.is_empty() {
            tracing::info!("the files of the configuration changed, what they say did not");
        }
        for (index, raw, value) in changes {
            if let Some(section) = self.sections.get_mut(index) {
                section.tell(&value);
                (section.raw, section.value) = (raw, value);
            }
        }
        Ok(())
    }
}

impl Section {
    fn tell(&self, value: &Value) {
        let mut differences = Vec::new();
        differ(&self.name, &self.value, value, &mut differences);
        if differences.is_empty() {
            // A key that nothing reads, or a secret, which is not shown.
            differences.push((self.name.clone(), String::new(), String::new()));
        }
        for (key, old, new) in differences {
            if self.needs_restart(&key) {
                tracing::warn!(
                    key,
                    old,
                    new,
                    "configuration changed; takes effect after a restart"
                );
            } else {
                tracing::info!(key, old, new, "configuration changed");
            }
        }
    }

    fn needs_restart(&self, key: &str) -> bool {
        let within = |fixed: &String| {
            key.strip_prefix(fixed.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.followers.is_empty() || self.fixed.iter().any(within)
    }
}

/// The leaves in which two values differ: key, old, new.
fn differ(key: &str, old: &Value, new: &Value, found: &mut Vec<(String, String, String)>) {
    match (old, new) {
        (Value::Object(before), Value::Object(after)) => {
            let names: std::collections::BTreeSet<&String> =
                before.keys().chain(after.keys()).collect();
            for name in names {
                let at = |object: &serde_json::Map<String, Value>| {
                    object.get(name).cloned().unwrap_or_default()
                };
                differ(&format!("{key}.{name}"), &at(before), &at(after), found);
            }
        }
        _ if old != new => found.push((key.to_owned(), old.to_string(), new.to_string())),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
