//! Which labels a process's metrics have, and what a caller knows of their values (spec 07 §3).

use std::sync::Arc;

/// The labels that every labelled metric of a process has: `flyteadmin.metricsKeys`, `propeller.metrics-keys`, or the
/// single binary's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelKeys(Arc<[LabelKey]>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct LabelKey {
    name: Box<str>,
    meaning: Meaning,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Meaning {
    Project,
    Domain,
    Workflow,
    Node,
    Task,
    TaskType,
    LaunchPlan,
    Execution,
    Phase,
    RuntimeType,
    RuntimeVersion,
    /// One of [`Labels::others`], or empty.
    Other,
}

impl LabelKeys {
    /// The labels of these names, sorted, each once. A name that [`Labels`] does not know is a label that is empty
    /// unless the caller gives it in [`Labels::others`].
    pub fn new<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Self {
        let mut keys: Vec<LabelKey> = names
            .into_iter()
            .map(|name| LabelKey {
                meaning: meaning(name.as_ref()),
                name: name.as_ref().into(),
            })
            .collect();
        keys.sort();
        keys.dedup();
        Self(keys.into())
    }

    /// The ten labels of the single binary, whatever is configured.
    pub fn of_the_single_binary() -> Self {
        Self::new([
            "app_name",
            "project",
            "domain",
            "wf",
            "node",
            "task",
            "tasktype",
            "runtime_type",
            "runtime_version",
            "failure_type",
        ])
    }

    /// These labels and `additional` ones.
    pub(super) fn and(&self, additional: &[&str]) -> Self {
        Self::new(self.names().chain(additional.iter().copied()))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|key| &*key.name)
    }

    /// The values of these labels, in their order.
    pub(super) fn values<'a>(&'a self, labels: &'a Labels<'a>) -> impl Iterator<Item = &'a str> {
        self.0.iter().map(|key| labels.value(key))
    }
}

/// The names of `contextutils` in flytestdlib.
fn meaning(name: &str) -> Meaning {
    match name {
        "project" => Meaning::Project,
        "domain" => Meaning::Domain,
        "wf" => Meaning::Workflow,
        "node" => Meaning::Node,
        "task" => Meaning::Task,
        "tasktype" => Meaning::TaskType,
        "lp" => Meaning::LaunchPlan,
        "exec_id" => Meaning::Execution,
        "phase" => Meaning::Phase,
        "runtime_type" => Meaning::RuntimeType,
        "runtime_version" => Meaning::RuntimeVersion,
        _ => Meaning::Other,
    }
}

/// What a caller knows of the thing it counts; the rest stays empty. A metric picks the labels that it has.
///
/// ```
/// # use flyte_platform::metrics::Labels;
/// let labels = Labels {
///     project: "flytesnacks",
///     domain: "development",
///     ..Labels::default()
/// };
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Labels<'a> {
    /// `project`
    pub project: &'a str,
    /// `domain`
    pub domain: &'a str,
    /// `wf`; in propeller `project:domain:name`
    pub workflow: &'a str,
    /// `node`
    pub node: &'a str,
    /// `task`
    pub task: &'a str,
    /// `tasktype`
    pub task_type: &'a str,
    /// `lp`
    pub launch_plan: &'a str,
    /// `exec_id`
    pub execution: &'a str,
    /// `phase`
    pub phase: &'a str,
    /// `runtime_type`
    pub runtime_type: &'a str,
    /// `runtime_version`
    pub runtime_version: &'a str,
    /// Labels by name that only one metric has, such as `kind`, `ns`, `error_code` or `failure_type`.
    pub others: &'a [(&'a str, &'a str)],
}

impl<'a> Labels<'a> {
    fn value(&self, key: &LabelKey) -> &'a str {
        match key.meaning {
            Meaning::Project => self.project,
            Meaning::Domain => self.domain,
            Meaning::Workflow => self.workflow,
            Meaning::Node => self.node,
            Meaning::Task => self.task,
            Meaning::TaskType => self.task_type,
            Meaning::LaunchPlan => self.launch_plan,
            Meaning::Execution => self.execution,
            Meaning::Phase => self.phase,
            Meaning::RuntimeType => self.runtime_type,
            Meaning::RuntimeVersion => self.runtime_version,
            Meaning::Other => self
                .others
                .iter()
                .find_map(|(name, value)| (*name == &*key.name).then_some(*value))
                .unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn additional_labels_join_the_others_in_order_and_once() {
        let keys = LabelKeys::new(["wf", "project", "nobody_knows"]);
        let keys = keys.and(&["kind", "project"]);
        let names: Vec<&str> = keys.names().collect();
        assert_eq!(names, ["kind", "nobody_knows", "project", "wf"]);
        let labels = Labels {
            project: "p",
            domain: "d",
            others: &[("kind", "pod")],
            ..Labels::default()
        };
        let values: Vec<&str> = keys.values(&labels).collect();
        assert_eq!(values, ["pod", "", "p", ""]);
    }
}
