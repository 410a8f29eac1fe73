//! Clients of Kubernetes API servers.

use std::path::Path;

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

/// No client can be made.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// The kubeconfig file cannot be used.
    #[error("kubeconfig {path:?} cannot be used")]
    Kubeconfig {
        /// The file, variables expanded.
        path: String,
        /// Why not.
        source: Box<kube::config::KubeconfigError>,
    },
    /// Neither a service account nor a kubeconfig was found.
    #[error(
        "no Kubernetes API server is configured: name a kubeconfig in server.kube-config (flyteadmin) or \
         propeller.kube-config, or in the variable KUBECONFIG, or run inside a cluster"
    )]
    NotFound,
    /// The client cannot be built.
    #[error("the client of the Kubernetes API cannot be built")]
    Client(#[source] Box<kube::Error>),
}

/// A client for a kubeconfig file (`$VAR` and `${VAR}` in the path are expanded from `variables`); an empty path
/// takes the service account of the pod, then `KUBECONFIG` and `~/.kube/config`.
pub async fn client(
    kube_config: &str,
    variables: impl Fn(&str) -> Option<String>,
) -> Result<Client, KubernetesError> {
    crate::tls::install_crypto_provider();
    let config = if kube_config.is_empty() {
        Config::infer().await.map_err(|error| {
            // It says twice for each place that there is nothing.
            tracing::debug!(%error, "no cluster");
            KubernetesError::NotFound
        })?
    } else {
        let path = expand(kube_config, variables);
        let wrong = |error| KubernetesError::Kubeconfig {
            path: path.clone(),
            source: Box::new(error),
        };
        let parsed = Kubeconfig::read_from(Path::new(&path)).map_err(wrong)?;
        Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default())
            .await
            .map_err(wrong)?
    };
    Client::try_from(config).map_err(|error| KubernetesError::Client(Box::new(error)))
}

fn expand(text: &str, variables: impl Fn(&str) -> Option<String>) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        let (name, tail) = match after
            .strip_prefix('{')
            .and_then(|inner| inner.split_once('}'))
        {
            Some(pair) => pair,
            None => {
                let end = after
                    .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                    .unwrap_or(after.len());
                after.split_at(end)
            }
        };
        expanded.push_str(&variables(name).unwrap_or_default());
        rest = tail;
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_in_paths_are_expanded() {
        let variables = |name: &str| (name == "HOME").then(|| "/root".to_owned());
        for (text, expected) in [
            ("$HOME/.flyte/kubeconfig", "/root/.flyte/kubeconfig"),
            ("${HOME}x", "/rootx"),
            ("/etc/$NOTHING/k", "/etc//k"),
        ] {
            assert_eq!(expand(text, variables), expected);
        }
    }
}
