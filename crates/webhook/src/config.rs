//! Section `webhook` (spec 07 A.4).

use flyte_platform::config::StringMap;
use serde::{Deserialize, Serialize};

/// Section `webhook`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct WebhookConfig {
    /// First part of metric names.
    #[serde(rename = "metrics-prefix")]
    pub metrics_prefix: String,
    /// Folder with `ca.crt`, `tls.crt` and `tls.key`; `$VAR` is expanded.
    #[serde(rename = "certDir")]
    pub cert_dir: String,
    /// Writes the certificates into `certDir` instead of reading them from there.
    #[serde(rename = "localCert")]
    pub local_cert: bool,
    /// Port of the webhook.
    #[serde(rename = "listenPort")]
    pub listen_port: u16,
    /// Service that the API server calls.
    #[serde(rename = "serviceName")]
    pub service_name: String,
    /// Port of that service.
    #[serde(rename = "servicePort")]
    pub service_port: u16,
    /// Secret that holds the certificates.
    #[serde(rename = "secretName")]
    pub secret_name: String,
    /// Where secrets come from.
    #[serde(rename = "secretManagerType")]
    pub secret_manager_type: SecretManagerType,
    /// With type `AWS`.
    #[serde(rename = "awsSecretManager")]
    pub aws_secret_manager: AwsSecretManagerConfig,
    /// With type `GCP`.
    #[serde(rename = "gcpSecretManager")]
    pub gcp_secret_manager: GcpSecretManagerConfig,
    /// With type `Vault`.
    #[serde(rename = "vaultSecretManager")]
    pub vault_secret_manager: VaultSecretManagerConfig,
    /// Leaves the MutatingWebhookConfiguration to the operator.
    #[serde(rename = "disableCreateMutatingWebhookConfig")]
    pub disable_create_mutating_webhook_config: bool,
    /// Labels of the namespaces whose pods are mutated; none means all.
    #[serde(rename = "namespaceSelector")]
    pub namespace_selector: StringMap,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self {
            metrics_prefix: "flyte:".into(),
            cert_dir: "/etc/webhook/certs".into(),
            local_cert: false,
            listen_port: 9443,
            service_name: "flyte-pod-webhook".into(),
            service_port: 443,
            secret_name: "flyte-pod-webhook".into(),
            secret_manager_type: SecretManagerType::K8s,
            aws_secret_manager: AwsSecretManagerConfig::default(),
            gcp_secret_manager: GcpSecretManagerConfig::default(),
            vault_secret_manager: VaultSecretManagerConfig::default(),
            disable_create_mutating_webhook_config: false,
            namespace_selector: StringMap::default(),
        }
    }
}

/// Where secrets come from (spec 07 §1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecretManagerType {
    /// Files and environment of the webhook itself.
    Global,
    /// Kubernetes Secrets.
    K8s,
    /// AWS Secrets Manager, by a sidecar.
    #[serde(rename = "AWS")]
    Aws,
    /// GCP Secret Manager, by a sidecar.
    #[serde(rename = "GCP")]
    Gcp,
    /// HashiCorp Vault, by its agent.
    Vault,
}

/// Section `webhook.awsSecretManager`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct AwsSecretManagerConfig {
    /// Image of the sidecar.
    #[serde(rename = "sidecarImage")]
    pub sidecar_image: String,
    /// What the sidecar may use.
    pub resources: SidecarResourcesConfig,
}

impl Default for AwsSecretManagerConfig {
    fn default() -> Self {
        Self {
            sidecar_image: "docker.io/amazon/aws-secrets-manager-secret-sidecar:v0.1.4".into(),
            resources: SidecarResourcesConfig::default(),
        }
    }
}

/// Section `webhook.gcpSecretManager`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct GcpSecretManagerConfig {
    /// Image of the sidecar.
    #[serde(rename = "sidecarImage")]
    pub sidecar_image: String,
    /// What the sidecar may use.
    pub resources: SidecarResourcesConfig,
}

impl Default for GcpSecretManagerConfig {
    fn default() -> Self {
        Self {
            sidecar_image: "gcr.io/google.com/cloudsdktool/cloud-sdk:alpine".into(),
            resources: SidecarResourcesConfig::default(),
        }
    }
}

/// Requests and limits of a secret sidecar, as Kubernetes quantities by resource name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct SidecarResourcesConfig {
    /// What is set aside.
    pub requests: StringMap,
    /// What may be used.
    pub limits: StringMap,
}

impl Default for SidecarResourcesConfig {
    fn default() -> Self {
        let both = || StringMap::from([("cpu", "200m".to_owned()), ("memory", "500Mi".to_owned())]);
        Self {
            requests: both(),
            limits: both(),
        }
    }
}

/// Section `webhook.vaultSecretManager`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct VaultSecretManagerConfig {
    /// Role that the agent takes.
    pub role: String,
    /// Version of the key-value engine: `1` or `2`.
    #[serde(rename = "kvVersion")]
    pub kv_version: String,
    /// Further annotations for the agent's injector.
    pub annotations: StringMap,
}

impl Default for VaultSecretManagerConfig {
    fn default() -> Self {
        Self {
            role: "flyte".into(),
            kv_version: "2".into(),
            annotations: StringMap::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secret_managers_are_those_of_the_reference() {
        for (manager, name) in [
            (SecretManagerType::Global, "\"Global\""),
            (SecretManagerType::K8s, "\"K8s\""),
            (SecretManagerType::Aws, "\"AWS\""),
            (SecretManagerType::Gcp, "\"GCP\""),
            (SecretManagerType::Vault, "\"Vault\""),
        ] {
            assert_eq!(serde_json::to_string(&manager).unwrap(), name);
        }
    }
}
