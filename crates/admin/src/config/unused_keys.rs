//! Keys of Go's configuration that this service takes and does nothing with.
//!
//! Files of Go's charts have them, so they are no mistake; but whoever changes one expects something of it, and
//! finds a warning in the log.

use super::{AdminConfig, KubeClientConfig, RemoteDataConfig};

/// A key whose value makes no difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnusedKey {
    /// Its path.
    pub key: &'static str,
    /// What is the case instead.
    pub instead: &'static str,
}

impl AdminConfig {
    /// The keys that were given another value than the default, although nothing reads them.
    pub fn unused_keys(&self) -> Vec<UnusedKey> {
        let default = Self::default();
        let kube = |config: &Self| -> KubeClientConfig { config.server.kube_client_config.clone() };
        let (ours, theirs) = (kube(self), kube(&default));
        let remote = |config: &Self| -> RemoteDataConfig { config.remote_data.clone() };
        let (our_data, their_data) = (remote(self), remote(&default));
        let no_limit =
            "requests to Kubernetes are not slowed down here; its own priority and fairness holds";
        let (ours_cache, default_cache) = (&self.storage.cache, &default.storage.cache);
        [
            (
                ours.qps != theirs.qps,
                "server.kubeClientConfig.qps",
                no_limit,
            ),
            (
                ours.burst != theirs.burst,
                "server.kubeClientConfig.burst",
                no_limit,
            ),
            (
                self.database.max_idle_connections != default.database.max_idle_connections,
                "database.maxIdleConnections",
                "idle connections are closed after ten minutes, whatever their number",
            ),
            (
                self.database.enable_foreign_key_constraint_when_migrating,
                "database.enableForeignKeyConstraintWhenMigrating",
                "no foreign keys are created",
            ),
            (
                self.database.postgres.debug,
                "database.postgres.debug",
                "statements are logged at debug level whatever it says",
            ),
            (
                self.flyteadmin.async_events_buffer_size
                    != default.flyteadmin.async_events_buffer_size,
                "flyteadmin.asyncEventsBufferSize",
                "events are written in their own transaction",
            ),
            (
                self.flyteadmin.feature_gates.enable_artifacts,
                "flyteadmin.featureGates.enableArtifacts",
                "artifacts are not built",
            ),
            (
                self.server.security.insecure_cookie_header,
                "server.security.insecureCookieHeader",
                "authentication, whose cookies these are, is not built yet",
            ),
            (
                self.namespace_mapping.mapping != default.namespace_mapping.mapping,
                "namespace_mapping.mapping",
                "namespace_mapping.template is the key",
            ),
            (
                our_data.region != their_data.region,
                "remoteData.region",
                "the storage section says which region",
            ),
            (
                our_data.signed_urls.signing_principal != their_data.signed_urls.signing_principal,
                "remoteData.signedUrls.signingPrincipal",
                "the credentials of the storage section sign",
            ),
            (
                ours_cache.max_size_mbs != default_cache.max_size_mbs
                    || ours_cache.target_gc_percent != default_cache.target_gc_percent,
                "storage.cache",
                "objects are not cached",
            ),
        ]
        .into_iter()
        .filter_map(|(given, key, instead)| given.then_some(UnusedKey { key, instead }))
        .collect()
    }

    /// Warns the operator of each of [`AdminConfig::unused_keys`].
    pub fn warn_of_unused_keys(&self) {
        for UnusedKey { key, instead } in self.unused_keys() {
            tracing::warn!(key, "this key changes nothing: {instead}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_nothing_hears_is_named_when_it_is_given() {
        assert_eq!(AdminConfig::default().unused_keys(), []);
        let mut config = AdminConfig::default();
        config.server.kube_client_config.qps = 7;
        config.database.max_idle_connections = 3;
        let keys: Vec<_> = config
            .unused_keys()
            .iter()
            .map(|unused| unused.key)
            .collect();
        assert_eq!(
            keys,
            ["server.kubeClientConfig.qps", "database.maxIdleConnections"]
        );
    }
}
