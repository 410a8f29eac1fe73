//! The configuration as it is now (spec 07 §1.9).

use std::sync::Arc;

use flyte_platform::config::Reload;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;

use super::admin::AdminConfig;

/// What flyteadmin is configured by now, and how it changes: sections that are read where they are used follow their
/// files. Listeners, clients, the database, the store and the names of metrics stay as they were at the start.
#[derive(Clone, Debug)]
pub struct LiveConfig(watch::Receiver<Arc<AdminConfig>>);

impl LiveConfig {
    /// Begins with `config` and follows the files of `reload`.
    pub fn following(config: AdminConfig, reload: &mut Reload) -> Self {
        let (sender, receiver) = watch::channel(Arc::new(config));
        let mut sections = Followed { reload, sender };
        sections.take("flyteadmin", |config, section| config.flyteadmin = section);
        sections.reload.fixed(
            "flyteadmin",
            &["metricsScope", "metricsKeys", "profilerPort"],
        );
        sections.take("domains", |config, section| config.domains = section);
        sections.take("registration", |config, section| {
            config.registration = section;
        });
        sections.take("namespace_mapping", |config, section| {
            config.namespace_mapping = section;
        });
        sections.take("task_resources", |config, section| {
            config.task_resources = section;
        });
        sections.take("task_type_whitelist", |config, section| {
            config.task_type_whitelist = section;
        });
        sections.take("remoteData", |config, section| config.remote_data = section);
        sections.take("clusterPools", |config, section| {
            config.cluster_pools = section;
        });
        sections.take("cluster_resources", |config, section| {
            config.cluster_resources = section;
        });
        Self(receiver)
    }

    /// As it is now. Who asks twice may see two states.
    pub(crate) fn now(&self) -> Arc<AdminConfig> {
        self.0.borrow().clone()
    }

    /// Waits until it is as wanted; for ever if that never comes.
    pub async fn becomes(&mut self, wanted: impl Fn(&AdminConfig) -> bool) {
        if self.0.wait_for(|config| wanted(config)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until it is another than when this was last asked; for ever if it never changes.
    pub(crate) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// A configuration that stays as it is.
impl From<AdminConfig> for LiveConfig {
    fn from(config: AdminConfig) -> Self {
        Self(watch::channel(Arc::new(config)).1)
    }
}

struct Followed<'a> {
    reload: &'a mut Reload,
    sender: watch::Sender<Arc<AdminConfig>>,
}

impl Followed<'_> {
    fn take<S>(&mut self, name: &str, put: fn(&mut AdminConfig, S))
    where
        S: Serialize + DeserializeOwned + Default + Send + 'static,
    {
        let sender = self.sender.clone();
        self.reload.on_change(name, move |section| {
            sender.send_modify(|config| put(Arc::make_mut(config), section));
        });
    }
}
