//! Which plugin runs a task type (spec 05 §1.2-1.4).

use std::collections::{BTreeMap, BTreeSet};

use flyte_crd::execution_config::TaskPluginOverride;

use crate::config::TasksConfig;

/// The plugins that are built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plugin {
    /// A pod of one container, or of a pod template.
    Container,
    /// A pod given by the task.
    Sidecar,
    /// Copies its input to its output, without a pod.
    Echo,
}

impl Plugin {
    const ALL: [Self; 3] = [Self::Container, Self::Sidecar, Self::Echo];

    /// The id in configuration and events.
    pub fn id(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Sidecar => "sidecar",
            Self::Echo => "echo",
        }
    }

    fn task_types(self) -> &'static [&'static str] {
        match self {
            Self::Container => &["container", "python-task", "raw-container"],
            Self::Sidecar => &["sidecar"],
            Self::Echo => &["echo"],
        }
    }
}

/// The configuration of plugins contradicts itself.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PluginsError {
    /// A default that is not enabled.
    #[error(
        "cannot set default plugin [{plugin}] for task types {task_types:?} when it is not configured to be an enabled plugin"
    )]
    NotEnabled {
        /// The id of the plugin, as in `enabled-plugins`.
        plugin: String,
        /// The task types that it was to be the default for.
        task_types: Vec<String>,
    },
}

/// No plugin runs this task type.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "no plugin defined for Handler type [{task_type}] and no defaultPlugin configured; enabled plugins: {enabled}"
)]
pub struct UnsupportedTaskType {
    /// `type` of the task template.
    pub task_type: String,
    /// Ids of plugins that are enabled.
    pub enabled: String,
}

/// The enabled plugins and what they run.
#[derive(Clone, Debug)]
pub struct Registry {
    enabled: BTreeSet<Plugin>,
    defaults: BTreeMap<String, Plugin>,
}

impl Registry {
    /// Reads `tasks.task-plugins`. Ids of plugins that we do not have are ignored, as are defaults naming them:
    /// tasks of their types then have no plugin and fail with a clear error.
    ///
    /// # Errors
    /// A default for a plugin that is not enabled.
    pub fn new(config: &TasksConfig) -> Result<Self, PluginsError> {
        let wanted: BTreeSet<String> = config
            .task_plugins
            .enabled_plugins
            .iter()
            .map(|id| id.trim().to_lowercase())
            .collect();
        let enabled: BTreeSet<_> = Plugin::ALL
            .into_iter()
            .filter(|plugin| wanted.is_empty() || wanted.contains(plugin.id()))
            .collect();
        let mut defaults = BTreeMap::new();
        for plugin in &enabled {
            for task_type in plugin.task_types() {
                defaults.insert((*task_type).to_owned(), *plugin);
            }
        }
        for (task_type, id) in &config.task_plugins.default_for_task_types.0 {
            let id = id.trim().to_lowercase();
            if !wanted.is_empty() && !wanted.contains(&id) {
                return Err(PluginsError::NotEnabled {
                    plugin: id,
                    task_types: vec![task_type.clone()],
                });
            }
            let task_type = task_type.trim().to_lowercase();
            match Plugin::ALL.into_iter().find(|plugin| plugin.id() == id) {
                Some(plugin) => {
                    defaults.insert(task_type, plugin);
                }
                None => {
                    defaults.remove(&task_type);
                }
            }
        }
        Ok(Self { enabled, defaults })
    }

    /// The plugin for a task type; the container plugin runs every type that has a container.
    ///
    /// # Errors
    /// [`UnsupportedTaskType`], a user error of the node.
    pub fn resolve(
        &self,
        task_type: &str,
        has_container: bool,
        overrides: Option<&TaskPluginOverride>,
    ) -> Result<Plugin, UnsupportedTaskType> {
        let by_id = |id: &String| {
            self.enabled
                .iter()
                .copied()
                .find(|plugin| plugin.id() == id)
        };
        if let Some(overrides) = overrides {
            if let Some(plugin) = overrides.plugin_ids.iter().find_map(by_id) {
                return Ok(plugin);
            }
            if overrides.missing_plugin_behavior == 0 && !overrides.plugin_ids.is_empty() {
                return Err(self.unsupported(task_type));
            }
        }
        if let Some(plugin) = self.defaults.get(&task_type.to_lowercase()) {
            return Ok(*plugin);
        }
        if has_container && self.enabled.contains(&Plugin::Container) {
            return Ok(Plugin::Container);
        }
        Err(self.unsupported(task_type))
    }

    fn unsupported(&self, task_type: &str) -> UnsupportedTaskType {
        UnsupportedTaskType {
            task_type: task_type.to_owned(),
            enabled: self
                .enabled
                .iter()
                .map(|plugin| plugin.id())
                .collect::<Vec<_>>()
                .join(", "),
        }
    }
}

#[cfg(test)]
mod tests {
    use flyte_platform::config::StringMap;

    use super::*;
    use crate::config::TaskPluginsConfig;

    fn config(enabled: &[&str], defaults: StringMap) -> TasksConfig {
        TasksConfig {
            task_plugins: TaskPluginsConfig {
                enabled_plugins: enabled.iter().map(ToString::to_string).collect(),
                default_for_task_types: defaults,
            },
            ..TasksConfig::default()
        }
    }

    #[test]
    fn task_types_find_their_plugin_or_a_clear_error() {
        let registry = Registry::new(&config(
            &[" Container ", "sidecar", "k8s-array"],
            StringMap::default(),
        ))
        .unwrap();
        assert_eq!(
            registry.resolve("python-task", true, None),
            Ok(Plugin::Container)
        );
        assert_eq!(
            registry.resolve("sidecar", false, None),
            Ok(Plugin::Sidecar)
        );
        assert_eq!(
            registry.resolve("shell-of-mine", true, None),
            Ok(Plugin::Container)
        );
        let error = registry.resolve("spark", false, None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no plugin defined for Handler type [spark] and no defaultPlugin configured; enabled plugins: container, sidecar"
        );
    }

    #[test]
    fn a_default_must_be_enabled() {
        let defaults = StringMap::from([("sidecar", "sidecar".to_owned())]);
        assert!(matches!(
            Registry::new(&config(&["container"], defaults)),
            Err(PluginsError::NotEnabled { plugin, .. }) if plugin == "sidecar"
        ));
    }

    #[test]
    fn an_override_wins_for_its_type() {
        let registry = Registry::new(&TasksConfig::default()).unwrap();
        let only = |ids: &[&str], behaviour| TaskPluginOverride {
            plugin_ids: ids.iter().map(ToString::to_string).collect(),
            missing_plugin_behavior: behaviour,
        };
        assert_eq!(
            registry.resolve("python-task", true, Some(&only(&["echo"], 0))),
            Ok(Plugin::Echo)
        );
        assert!(
            registry
                .resolve("python-task", true, Some(&only(&["ray"], 0)))
                .is_err()
        );
        assert_eq!(
            registry.resolve("python-task", true, Some(&only(&["ray"], 1))),
            Ok(Plugin::Container)
        );
    }
}
