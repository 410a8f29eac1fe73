//! The PodTemplate objects that pods of tasks start from (spec 05 §6.9), kept by a watch.

use std::sync::Arc;

use futures::FutureExt as _;

use flyte_plugins::pod::TemplateName;
use k8s_openapi::api::core::v1::PodTemplate;
use kube::runtime::reflector::{ObjectRef, Store, store::Writer};

/// Namespace of templates for all, unless the process says in which one it runs.
const DEFAULT_NAMESPACE: &str = "flyte";
/// The PodTemplates of a cluster.
#[derive(Clone)]
pub struct PodTemplates {
    store: Store<PodTemplate>,
    namespace: Arc<str>,
}

/// Which PodTemplate is to be used cannot be said yet.
#[derive(Debug, thiserror::Error)]
#[error(
    "PodTemplates are not listed yet; may the engine list and watch podtemplates in all namespaces?"
)]
pub(super) struct NotListed;

impl PodTemplates {
    /// An empty cache and what fills it. `own_namespace` is the engine's; templates in it are for all.
    pub fn new(own_namespace: &str) -> (Self, Writer<PodTemplate>) {
        let (store, writer) = kube::runtime::reflector::store();
        let namespace = match own_namespace {
            "" => DEFAULT_NAMESPACE,
            own => own,
        };
        let templates = Self {
            store,
            namespace: namespace.into(),
        };
        (templates, writer)
    }

    /// The template of this name in the task's namespace, else in the engine's own.
    pub(super) fn find(
        &self,
        namespace: &str,
        name: TemplateName<'_>,
    ) -> Result<Option<Arc<PodTemplate>>, NotListed> {
        self.store
            .wait_until_ready()
            .now_or_never()
            .and_then(Result::ok)
            .ok_or(NotListed)?;
        let (TemplateName::OfTask(name) | TemplateName::Default(name)) = name;
        Ok([namespace, &*self.namespace]
            .into_iter()
            .find_map(|namespace| self.store.get(&ObjectRef::new(name).within(namespace))))
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_nearest_template_of_a_name_is_found() {
        let (templates, mut writer) = PodTemplates::new("engine");
        writer.apply_watcher_event(&Event::Init);
        for (namespace, name) in [
            ("team", "both"),
            ("engine", "both"),
            ("engine", "shared"),
            ("other", "hidden"),
        ] {
            let template: PodTemplate = serde_json::from_value(
                json!({ "metadata": { "namespace": namespace, "name": name } }),
            )
            .unwrap();
            writer.apply_watcher_event(&Event::InitApply(template));
        }
        writer.apply_watcher_event(&Event::InitDone);
        for (name, expected) in [
            ("both", Some("team")),
            ("shared", Some("engine")),
            ("hidden", None),
        ] {
            let found = templates.find("team", TemplateName::OfTask(name)).unwrap();
            let namespace = found.and_then(|template| template.metadata.namespace.clone());
            assert_eq!(namespace.as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn nothing_is_said_of_templates_that_nobody_lists() {
        let (templates, _) = PodTemplates::new("");
        assert!(templates.find("team", TemplateName::Default("x")).is_err());
    }
}
