//! Keys of flyteadmin's own sections that change nothing here.

use flyte_platform::config::Unheard;

/// They are warned about when they are given (docs/reference has them with all others).
pub const UNHEARD: &[Unheard] = &[
    Unheard {
        key: "cluster_resources.templatePath",
        instead: "templates are not built yet; namespaces are created",
    },
    Unheard {
        key: "flyteadmin.asyncEventsBufferSize",
        instead: "events are written in their own transaction",
    },
    Unheard {
        key: "flyteadmin.featureGates.enableArtifacts",
        instead: "artifacts are not built",
    },
    Unheard {
        key: "server.security.insecureCookieHeader",
        instead: "authentication, whose cookies these are, is not built yet",
    },
    Unheard {
        key: "namespace_mapping.mapping",
        instead: "namespace_mapping.template is the key",
    },
    Unheard {
        key: "remoteData.region",
        instead: "the storage section says which region",
    },
    Unheard {
        key: "remoteData.signedUrls.signingPrincipal",
        instead: "the credentials of the storage section sign",
    },
    Unheard {
        key: "task_resources.defaults.storage",
        instead: "ephemeralStorage is the key",
    },
    Unheard {
        key: "task_resources.limits.storage",
        instead: "ephemeralStorage is the key",
    },
];
