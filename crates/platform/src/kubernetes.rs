//! Clients of Kubernetes API servers.

use std::{path::Path, time::Duration};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, Config,
    api::PostParams,
    client::ClientBuilder,
    config::{KubeConfigOptions, Kubeconfig},
};
use tower::{Layer as _, timeout::TimeoutLayer};

/// How long an answer may take to begin. That of a watch begins at once.
const ANSWER: Duration = Duration::from_secs(60);
/// How long a connection may be silent in the middle of an answer: longer than a watch lasts, which clients ask to be
/// ended by the API server after 290 s. Without it, a connection that a router has forgotten would be waited on for
/// ever.
const SILENCE: Duration = Duration::from_secs(300);

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
    let mut config = if kube_config.is_empty() {
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
    config.read_timeout = Some(SILENCE);
    config.write_timeout = Some(ANSWER);
    // The time that a pooled connection was idle does not count.
    config.reset_reader_on_write = true;
    let builder = ClientBuilder::try_from(config)
        .map_err(|error| KubernetesError::Client(Box::new(error)))?;
    Ok(with_timeout(builder.build()))
}

/// The same client, for which an answer that does not begin within a minute is an error. kube's own waits for ever.
pub fn with_timeout(client: Client) -> Client {
    let namespace = client.default_namespace().to_owned();
    let send = tower::service_fn(move |request| {
        let client = client.clone();
        async move { client.send(request).await }
    });
    Client::new(TimeoutLayer::new(ANSWER).layer(send), namespace)
}

/// Has the API server know a custom resource. A definition that is there already stays as it is: an operator may have
/// changed it.
pub async fn define(
    client: Client,
    definition: &CustomResourceDefinition,
) -> Result<(), kube::Error> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client);
    match definitions.create(&PostParams::default(), definition).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(error) => Err(error),
    }
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
