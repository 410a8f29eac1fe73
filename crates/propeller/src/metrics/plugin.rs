//! `plugin:` and `node:<plugin>:`, what happens to tasks and their pods.

use std::{collections::HashMap, sync::Arc, time::Duration};

use flyte_crd::status::TaskPhase;
use flyte_platform::metrics::{
    LabelledCounter, LabelledGauge, LabelledStopWatch, Labels, MetricError, Scope, Unit, Unlabelled,
};
use flyte_platform::sync::Mutex;
use flyte_plugins::Plugin;
use prometheus::IntCounterVec;

use super::{between, node::goes};
use crate::node::task::guard::PANICKED;
use crate::{
    machine::{NodeChanged, TaskEnd},
    node::task::OBJECT_DELETED,
};

/// How many pairs of task type and plugin have metrics of their own: task types are names that users give.
const MOST_PAIRS: usize = 1_000;

/// Tasks, by type and plugin.
#[derive(Debug)]
pub struct PluginMetrics {
    scope: Scope,
    ends: Mutex<HashMap<String, Option<Arc<Ends>>>>,
    queue_latency: LabelledStopWatch,
    initialize_latency: LabelledStopWatch,
    exec_latency: LabelledStopWatch,
    panics: LabelledCounter,
    unsupported: LabelledCounter,
    /// Every plugin that makes pods watches all of them.
    pods: [PodMetrics; 2],
    resources: LabelledGauge,
}

#[derive(Debug)]
struct Ends {
    success: LabelledCounter,
    failure: LabelledCounter,
}

#[derive(Debug)]
struct PodMetrics {
    plugin: Plugin,
    updates: LabelledCounter,
    dropped: LabelledCounter,
    errors: IntCounterVec,
    deleted: LabelledCounter,
    not_released: LabelledCounter,
    /// Looking a pod up that the watch does not show, and each request for it.
    looked_up: LabelledStopWatch,
    asked: LabelledStopWatch,
}

impl PluginMetrics {
    pub(super) fn register(scope: &Scope) -> Result<Self, MetricError> {
        let microseconds = |name, help| {
            scope.labelled_stop_watch(name, help, Unit::Microseconds, Unlabelled::Omit)
        };
        let pods = |plugin: Plugin| PodMetrics::register(scope, plugin);
        let container = Plugin::Container.id();
        Ok(Self {
            ends: Mutex::default(),
            queue_latency: microseconds("plugin_queue_latency", "Tasks that were queued.")?,
            initialize_latency: microseconds(
                "plugin_initialize_latency",
                "Tasks that were being set up.",
            )?,
            exec_latency: microseconds("plugin_exec_latency", "Asking a plugin to start a task.")?,
            panics: scope.labelled_counter(
                "plugin_panic",
                "Attempts that failed because their plugin panicked.",
                Unlabelled::Omit,
            )?,
            unsupported: scope.labelled_counter(
                "unsupported_tasktype",
                "Tasks that no plugin runs.",
                Unlabelled::Omit,
            )?,
            pods: [pods(Plugin::Container)?, pods(Plugin::Sidecar)?],
            resources: scope
                .sub("node")
                .sub(container)
                .sub(container)
                .with_labels(&["kind", "ns"])
                .labelled_gauge("k8s_resources", "Objects of tasks.", Unlabelled::Omit)?,
            scope: scope.sub("plugin"),
        })
    }

    /// A task is not what it was before; its type and plugin are known unless nothing runs it.
    pub(crate) fn changed(
        &self,
        labels: &Labels<'_>,
        node: &NodeChanged,
        task_type: &str,
        plugin: Option<Plugin>,
    ) {
        if let Some((from, to, since)) = node.task {
            use TaskPhase::{Initializing, Queued, Running};
            let time = since.map(|since| between(since, node.at));
            let typed = Labels {
                task_type,
                ..*labels
            };
            if let Some(time) = time {
                if goes((from, to), Queued, &[Initializing, Running]) {
                    self.queue_latency.observe(&typed, time);
                }
                if goes((from, to), Initializing, &[Running]) {
                    self.initialize_latency.observe(&typed, time);
                }
            }
        }
        let Some(end) = node.task_end else { return };
        let Some(plugin) = plugin else {
            self.unsupported.inc(labels);
            return;
        };
        // The counters of Go have no task type among their labels: it is in the name.
        match (end, self.ends(task_type, plugin)) {
            (TaskEnd::Success, Some(ends)) => ends.success.inc(labels),
            (TaskEnd::PodFailed | TaskEnd::ResultFailed, Some(ends)) => ends.failure.inc(labels),
            (_, None) => {}
        }
    }

    fn ends(&self, task_type: &str, plugin: Plugin) -> Option<Arc<Ends>> {
        let mut known = self.ends.lock();
        // As a rule a type has one plugin, so that looking it up allocates nothing.
        let key = if plugin == Plugin::Container {
            std::borrow::Cow::Borrowed(task_type)
        } else {
            std::borrow::Cow::Owned(format!("{task_type}/{}", plugin.id()))
        };
        if let Some(ends) = known.get(key.as_ref()) {
            return ends.clone();
        }
        if known.len() >= MOST_PAIRS {
            return None;
        }
        let name = cleaned(&format!("{task_type}_{}", plugin.id()));
        let ends = Ends::register(&self.scope, &name).ok().map(Arc::new);
        known.insert(key.into_owned(), ends.clone());
        ends
    }

    /// The watch shows another version of a pod, which concerns a workflow under way or does not.
    pub(crate) fn pod_seen(&self, concerns: bool) {
        for pods in &self.pods {
            let counter = if concerns {
                &pods.updates
            } else {
                &pods.dropped
            };
            counter.inc(&Labels::default());
        }
    }

    /// There is one pod more or less in a namespace.
    pub(crate) fn pods(&self, namespace: &str, more: i64) {
        let labels = Labels {
            others: &[("kind", "pod"), ("ns", namespace)],
            ..Labels::default()
        };
        self.resources.add(&labels, more);
    }

    /// An attempt has failed with this code, without leaving anything behind.
    pub(crate) fn failed(&self, labels: &Labels<'_>, plugin: Plugin, code: &str) {
        let Some(pods) = self.pods_of(plugin) else {
            return;
        };
        let (phase, code) = match code.strip_prefix("RetriesExhausted|") {
            Some(code) => ("PhaseRetryableFailure", code),
            None => ("PhasePermanentFailure", code),
        };
        pods.errors.with_label_values(&[code, phase]).inc();
        match code {
            OBJECT_DELETED => pods.deleted.inc(labels),
            PANICKED => self.panics.inc(labels),
            _ => {}
        }
    }

    /// A plugin was asked to start a task, which took this long.
    pub(crate) fn launched(&self, labels: &Labels<'_>, time: Duration) {
        self.exec_latency.observe(labels, time);
    }

    /// A pod that the watch does not show was looked up.
    pub(crate) fn looked_up(&self, labels: &Labels<'_>, plugin: Plugin, time: Duration) {
        if let Some(pods) = self.pods_of(plugin) {
            pods.looked_up.observe(labels, time);
        }
    }

    /// The API server was asked for a pod.
    pub(crate) fn asked(&self, labels: &Labels<'_>, plugin: Plugin, time: Duration) {
        if let Some(pods) = self.pods_of(plugin) {
            pods.asked.observe(labels, time);
        }
    }

    /// Our finalizer could not be taken off a pod. A pod does not tell which plugin made it: all count as `container`.
    pub(crate) fn not_released(&self, labels: &Labels<'_>) {
        if let Some(pods) = self.pods_of(Plugin::Container) {
            pods.not_released.inc(labels);
        }
    }

    fn pods_of(&self, plugin: Plugin) -> Option<&PodMetrics> {
        self.pods.iter().find(|pods| pods.plugin == plugin)
    }
}

impl Ends {
    fn register(scope: &Scope, name: &str) -> Result<Self, MetricError> {
        let counter =
            |end, help| scope.labelled_counter(&format!("{name}_{end}"), help, Unlabelled::Emit);
        Ok(Self {
            success: counter("success", "Tasks that succeeded.")?,
            failure: counter("failure", "Attempts that failed.")?,
        })
    }
}

impl PodMetrics {
    fn register(scope: &Scope, plugin: Plugin) -> Result<Self, MetricError> {
        // Go opens a scope of this name within one of this name.
        let scope = scope.sub("node").sub(plugin.id()).sub(plugin.id());
        let counter = |name, help| scope.labelled_counter(name, help, Unlabelled::Omit);
        let milliseconds = |name, help| {
            scope.labelled_stop_watch(name, help, Unit::Milliseconds, Unlabelled::Omit)
        };
        Ok(Self {
            updates: counter("informer_update", "Changes of pods.")?,
            dropped: counter(
                "informer_update_dropped",
                "Changes of pods that concern no workflow under way.",
            )?,
            deleted: counter("pods_deleted", "Attempts whose pod somebody deleted.")?,
            not_released: counter(
                "clear_finalizers_failures",
                "Tries to take the finalizer off a pod that failed.",
            )?,
            looked_up: milliseconds(
                "get_cache_miss",
                "Looking up pods that the watch does not show.",
            )?,
            asked: milliseconds("get_api", "Requests for single pods.")?,
            errors: scope.counters(
                "task_pod_errors",
                "Failures, by phase and code.",
                &["error_code", "phase"],
            )?,
            plugin,
        })
    }
}

/// As the reference makes a name of it: all other characters are dropped.
fn cleaned(name: &str) -> String {
    name.chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '_' || *c == ':')
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plugin_sees_every_pod() {
        let scope = Scope::new("flyte:");
        let metrics = PluginMetrics::register(&scope).unwrap();
        metrics.pod_seen(true);
        metrics.pod_seen(false);
        metrics.pods("ns", 2);
        metrics.pods("ns", -1);
        let text = scope.render();
        for line in [
            "flyte:node:container:container:informer_update 1",
            "flyte:node:sidecar:sidecar:informer_update_dropped 1",
            "flyte:node:container:container:k8s_resources{kind=\"pod\",ns=\"ns\"} 1",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} in {text}");
        }
    }

    #[test]
    fn an_attempt_that_fails_is_counted_by_its_code() {
        let scope = Scope::new("flyte:");
        let metrics = PluginMetrics::register(&scope).unwrap();
        let labels = Labels::default();
        metrics.failed(&labels, Plugin::Container, PANICKED);
        let again = format!("RetriesExhausted|{PANICKED}");
        metrics.failed(&labels, Plugin::Sidecar, &again);
        metrics.failed(&labels, Plugin::Sidecar, OBJECT_DELETED);
        let text = scope.render();
        for line in [
            "flyte:plugin_panic 2",
            "flyte:node:sidecar:sidecar:pods_deleted 1",
            "flyte:node:sidecar:sidecar:task_pod_errors{error_code=\"PluginPanicked\",phase=\"PhaseRetryableFailure\"} 1",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} in {text}");
        }
    }

    #[test]
    fn each_type_and_plugin_has_counters_and_users_cannot_make_too_many() {
        let scope = Scope::new("flyte:");
        let metrics = PluginMetrics::register(&scope).unwrap();
        for index in 0..2 * MOST_PAIRS {
            metrics.ends(&format!("python-{index}"), Plugin::Container);
        }
        assert!(metrics.ends("python-0", Plugin::Container).is_some());
        // Another type of the same name in metrics.
        assert!(metrics.ends("python0", Plugin::Container).is_none());
        let text = scope.render();
        assert!(
            text.contains("flyte:plugin:python0_container_success_unlabeled 0"),
            "{text}"
        );
        assert!(!text.contains("python1500_"));
    }
}
