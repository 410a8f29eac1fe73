//! The clusters that executions run on (spec 03 §3).

use std::{sync::Arc, time::Duration};

use flyte_core::identifiers::ExecutionId;
use flyte_crd::FlyteWorkflow;
use flyte_platform::{Backoff, kubernetes};
use http::{HeaderValue, header};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Resource as _,
    api::{DeleteParams, GetParams, ObjectMeta, PostParams, Request},
};
use serde::{Deserialize, de::IgnoredAny};
use tokio::time::Instant;

use crate::error::{Error, Result};

/// The media type of an object's metadata alone, with the object as the second choice.
const METADATA_OF_ONE: &str =
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";

/// How long a cluster is asked to create a resource while it does not say whether it has. The reconciler goes on after that.
const CREATE_WITHIN: Duration = Duration::from_secs(5);
/// Waits between those tries.
const CREATE_BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));

/// A Kubernetes cluster that executions may be created in.
#[derive(Clone)]
pub struct ExecutionTarget {
    /// Its id, stored with every execution; empty when there is only this one.
    pub id: String,
    /// A client of its API server.
    pub client: kube::Client,
}

/// All clusters, one by default.
#[derive(Clone)]
pub struct ExecutionTargets(Arc<Vec<ExecutionTarget>>);

/// How it comes that a resource is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ensured {
    /// It was created.
    Created,
    /// It was there before.
    Existed,
}

/// Whose resource a name in a namespace leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// There is none.
    Nobody,
    /// The execution's own, or one that names no execution, as an operator writes it.
    Own,
    /// Another execution's, as `project:domain:name`.
    Other(String),
}

/// What is read of a resource to see whose it is: all else is passed over, whatever it is and however deep.
#[derive(Deserialize)]
struct Held {
    #[serde(rename = "executionId")]
    id: Option<HeldId>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct HeldId {
    project: String,
    domain: String,
    name: String,
}

/// What became of a resource that was to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// The API server accepted the deletion; the engine will finish the execution.
    Accepted,
    /// There is no such resource.
    Absent,
}

impl ExecutionTargets {
    /// One cluster, whose id is empty.
    pub fn single(client: kube::Client) -> Self {
        Self::new(vec![ExecutionTarget {
            id: String::new(),
            client,
        }])
    }

    /// Several clusters.
    pub fn new(targets: Vec<ExecutionTarget>) -> Self {
        Self(Arc::new(targets))
    }

    /// All of them.
    pub fn all(&self) -> &[ExecutionTarget] {
        &self.0
    }

    /// The target for a new execution. `label` is the cluster label that it asks for.
    ///
    /// # Errors
    /// A single target supports no label (spec 03 §3.1).
    pub fn choose(&self, label: &str) -> Result<&ExecutionTarget> {
        let target = match self.0.as_slice() {
            [only] if !label.is_empty() && only.id != label => {
                return Err(Error::Internal(format!(
                    "execution cluster label {label} is not supported"
                )));
            }
            targets if label.is_empty() => targets.first(),
            targets => targets.iter().find(|target| target.id == label),
        };
        target.ok_or_else(|| Error::Internal(format!("invalid cluster target {label}")))
    }

    /// The target that an execution was stored with. Old rows of a single target say `id`.
    pub fn stored(&self, cluster: &str) -> Result<&ExecutionTarget> {
        if let [only] = self.0.as_slice() {
            return if cluster.is_empty() || cluster == "id" || only.id == cluster {
                Ok(only)
            } else {
                Err(Error::Internal(format!(
                    "remote target {cluster} is not supported"
                )))
            };
        }
        self.0
            .iter()
            .find(|target| target.id == cluster)
            .ok_or_else(|| Error::Internal(format!("invalid cluster target {cluster}")))
    }
}

impl ExecutionTarget {
    /// Requests about resources of a namespace.
    fn workflows(namespace: &str) -> Request {
        Request::new(FlyteWorkflow::url_path(&(), Some(namespace)))
    }

    /// Sends a request whose answer matters only by its status. The metadata is asked for, because a resource
    /// can be large; whatever comes is not decoded, because it can be of a newer engine, or nest deeper than
    /// kube's reader goes, and neither must make a success look failed.
    async fn send(&self, mut request: http::Request<Vec<u8>>) -> Result<(), kube::Error> {
        request
            .headers_mut()
            .insert(header::ACCEPT, HeaderValue::from_static(METADATA_OF_ONE));
        self.client.request::<IgnoredAny>(request).await.map(drop)
    }

    async fn post(&self, namespace: &str, body: &[u8]) -> Result<(), kube::Error> {
        let request = Self::workflows(namespace)
            .create(&PostParams::default(), body.to_vec())
            .map_err(kube::Error::BuildRequest)?;
        self.send(request).await
    }

    /// Creates the resource of execution `id`; one that it has already is the one of an earlier try. An API server that does
    /// not say whether it did is asked again for a few seconds.
    ///
    /// # Errors
    /// `failed to create workflow in propeller` and what Kubernetes said; [`Error::ClusterAway`] when nothing is known, and
    /// the resource may be there. FAILED_PRECONDITION if another execution has a
    /// resource of this name here: a template of namespaces may give one to several domains or projects.
    pub async fn create(
        &self,
        namespace: &str,
        id: &ExecutionId,
        resource: &FlyteWorkflow,
    ) -> Result<()> {
        let body = serde_json::to_vec(resource).map_err(|error| {
            Error::Internal(format!("failed to create workflow in propeller {error}"))
        })?;
        let deadline = Instant::now() + CREATE_WITHIN;
        let mut tries = 0;
        loop {
            tries += 1;
            let created = self.create_once(namespace, id, &body).await;
            let wait = CREATE_BACKOFF.wait(tries, rand::random());
            let is_away = matches!(created, Err(Error::ClusterAway { .. }));
            if !is_away || Instant::now() + wait > deadline {
                return created;
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn create_once(&self, namespace: &str, id: &ExecutionId, body: &[u8]) -> Result<()> {
        let mut created = self.post(namespace, body).await;
        if let Err(kube::Error::Api(status)) = &created
            && status.code == 404
        {
            // The project is newer than the last round of the cluster-resource loop.
            self.ensure_namespace(namespace)
                .await
                .map_err(not_created)?;
            created = self.post(namespace, body).await;
        }
        match created {
            Ok(()) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => {
                match self.holder(namespace, id).await {
                    Ok(Holder::Own | Holder::Nobody) => Ok(()),
                    Ok(Holder::Other(other)) => Err(Error::Precondition(format!(
                        "failed to create workflow in propeller: execution {other} has the workflow resource {} of namespace \
                         {namespace}, which namespace_mapping.template gives to both; choose another name",
                        id.name
                    ))),
                    Err(error) => Err(not_created(error)),
                }
            }
            Err(error) => Err(not_created(error)),
        }
    }

    /// Creates a namespace unless it is there.
    pub async fn ensure_namespace(&self, name: &str) -> Result<Ensured, kube::Error> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let namespace = Namespace {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        match namespaces.create(&PostParams::default(), &namespace).await {
            Ok(_) => Ok(Ensured::Created),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Ensured::Existed),
            Err(error) => Err(error),
        }
    }

    /// Deletes the resource of execution `id` in the background. Another execution's is not touched.
    pub async fn delete(&self, namespace: &str, id: &ExecutionId) -> Result<Deletion, kube::Error> {
        if self.holder(namespace, id).await? != Holder::Own {
            return Ok(Deletion::Absent);
        }
        let request = Self::workflows(namespace)
            .delete(&id.name, &DeleteParams::background())
            .map_err(kube::Error::BuildRequest)?;
        let deleted = kubernetes::found(self.send(request).await)?;
        Ok(match deleted {
            Some(()) => Deletion::Accepted,
            None => Deletion::Absent,
        })
    }

    /// Whose the resource is that execution `id` would have.
    pub async fn holder(&self, namespace: &str, id: &ExecutionId) -> Result<Holder, kube::Error> {
        let request = Self::workflows(namespace)
            .get(&id.name, &GetParams::default())
            .map_err(kube::Error::BuildRequest)?;
        let HeldId {
            project,
            domain,
            name,
        } = match kubernetes::found(self.client.request::<Held>(request).await)? {
            Some(held) => held.id.unwrap_or_default(),
            None => return Ok(Holder::Nobody),
        };
        let own = [id.project.as_str(), id.domain.as_str(), id.name.as_str()];
        let held = [project.as_str(), domain.as_str(), name.as_str()];
        if held == own || held == [""; 3] {
            return Ok(Holder::Own);
        }
        Ok(Holder::Other(held.join(":")))
    }
}

fn not_created(error: kube::Error) -> Error {
    failed("failed to create workflow in propeller".to_owned(), error)
}

/// What failed, `context`, with the API server's own message where there is one: users read it in the execution's error.
pub(crate) fn failed(context: String, error: kube::Error) -> Error {
    let is_away = kubernetes::is_away(&error);
    let source = match error {
        kube::Error::Api(status) => status.message.clone().into(),
        error => error.into(),
    };
    if is_away {
        Error::ClusterAway { context, source }
    } else {
        Error::Cluster { context, source }
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::client::Body;

    use super::*;

    /// A router that does not know the way says nothing about the resource: it may be there, and its tasks running.
    #[tokio::test]
    async fn only_the_api_server_says_that_a_resource_is_absent() {
        let absent = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}"#;
        for (body, is_absent) in [(absent, true), ("404 page not found\n", false)] {
            let service = tower::service_fn(move |_: Request<Body>| async move {
                let body = Body::from(body.as_bytes().to_vec());
                let answer = Response::builder().status(404).body(body).unwrap();
                Ok::<_, std::convert::Infallible>(answer)
            });
            let target = ExecutionTarget {
                id: String::new(),
                client: kube::Client::new(service, "default"),
            };
            let id = ExecutionId::new("p", "d", "run").unwrap();
            let deleted = target.delete("ns", &id).await.ok();
            let absent = is_absent.then_some(Deletion::Absent);
            assert_eq!(deleted, absent, "{body}");
            let holder = target.holder("ns", &id).await.ok();
            assert_eq!(holder, is_absent.then_some(Holder::Nobody), "{body}");
        }
    }
}
