//! Where decisions become effects: blobs, pods, events.
//!
//! Every effect is idempotent by name, so one that may or may not have happened is simply done again. What may
//! succeed later is retried here, with growing waits; only what cannot is an [`Outcome`].

mod counting;
mod events;
mod pods;
mod results;
mod statuses;
mod sweep;
mod templates;
mod waiting;

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    hash::Hasher as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use flyte_idl::{
    core::{
        Error as ErrorLiteral, ExecutionError, Literal, LiteralMap, LiteralType, Scalar,
        SimpleType, TypeStructure, Union, execution_error::ErrorKind, literal, literal_type,
        scalar,
    },
    descriptors, nesting,
};
use flyte_platform::{
    Chain, Clock,
    blob::{BlobError, BlobStore, Cached},
    client::{CountedChannel, RetryPolicy},
};
use prost::Message as _;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use flyte_idl::service::admin_service_client::AdminServiceClient;

pub(crate) use sweep::is_finished;

pub use templates::PodTemplates;
pub use waiting::{Calls, WaitingRoom};

use crate::{
    config::EventConfig,
    machine::{JobTask, Outcome, OwnedNode},
    metrics::EngineMetrics,
    node::{Constants, Source, Work},
    resolve::{self, Outputs},
};

/// Wait between the first two tries of an effect.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Longest wait between two tries of an effect.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// Outputs larger than this are not kept in memory for later readers.
const MAX_REMEMBERED: usize = 256 * 1024;
/// How many outputs of one workflow are kept in memory; others are read again.
const REMEMBERED: usize = 256;

/// The clients that effects go through.
#[derive(Clone)]
pub struct World {
    /// Kubernetes.
    pub kube: kube::Client,
    /// Blobs.
    pub blobs: BlobStore,
    /// PodTemplates of the cluster.
    pub templates: PodTemplates,
    /// Admin.
    pub admin: AdminServiceClient<CountedChannel>,
    /// How calls of admin are tried again.
    pub retry: RetryPolicy,
    /// Time.
    pub clock: Clock,
    /// Bounds how many effects are under way at once, over all workflows.
    pub permits: Arc<tokio::sync::Semaphore>,
    /// How events carry data.
    pub event_config: EventConfig,
    /// Spreads tries apart.
    pub jitter: Jitter,
    /// Where pods wait that a namespace has no room for.
    pub waiting_room: WaitingRoom,
    /// Which pods of one workflow may try again.
    pub calls: Arc<Calls>,
    /// What is counted.
    pub metrics: Arc<EngineMetrics>,
    /// The workflow whose effects they are, once it is read.
    pub subject: Option<Arc<Constants>>,
}

/// What spreads the tries of different workflows apart, the same for one workflow in every run.
#[derive(Clone, Debug)]
pub struct Jitter(Arc<Mutex<StdRng>>);

impl Jitter {
    /// That of whatever has this name.
    pub fn of(name: &str) -> Self {
        let mut hasher = fnv::FnvHasher::default();
        hasher.write(name.as_bytes());
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(hasher.finish()))))
    }

    /// Between half of the wait and all of it.
    fn spread(&self, wait: Duration) -> Duration {
        let mut random = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wait.mul_f64(random.random_range(0.5..=1.0))
    }
}

/// Outputs that one workflow has read or written, by URI. Outputs never change once written.
#[derive(Clone, Debug, Default)]
pub struct Remembered(Arc<Mutex<HashMap<String, Arc<LiteralMap>>>>);

impl Remembered {
    fn get(&self, uri: &str) -> Option<Arc<LiteralMap>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(uri)
            .cloned()
    }

    fn put(&self, uri: &str, literals: &Arc<LiteralMap>) {
        if literals.encoded_len() > MAX_REMEMBERED {
            return;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < REMEMBERED {
            known.insert(uri.to_owned(), literals.clone());
        }
    }
}

/// An effect that will not succeed however often it is tried.
#[derive(Debug)]
struct Hopeless(ExecutionError);

impl Hopeless {
    fn new(kind: ErrorKind, code: &str, message: String) -> Self {
        Self(ExecutionError {
            code: code.to_owned(),
            message,
            kind: kind.into(),
            ..ExecutionError::default()
        })
    }
}

/// What a try brought that is neither success nor hopeless.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("storage")]
    Blob(#[from] BlobError),
    #[error("Kubernetes API")]
    Kubernetes(#[from] kube::Error),
    #[error(transparent)]
    Templates(#[from] templates::NotListed),
    #[error("admin: {0}")]
    Admin(String),
}

impl World {
    /// The same clients, for the effects of one workflow.
    #[must_use]
    pub fn for_workflow(&self, name: &str) -> Self {
        Self {
            jitter: Jitter::of(name),
            calls: Arc::default(),
            ..self.clone()
        }
    }

    /// Does what the job says. `node` is none for jobs of the workflow itself.
    pub async fn perform(
        &self,
        task: JobTask,
        node: Option<OwnedNode>,
        remembered: Remembered,
    ) -> Outcome {
        let Ok(_permit) = self.permits.acquire().await else {
            return Outcome::Broken(ExecutionError::default());
        };
        let counted = self.begin_counting(&task);
        let outcome = self.do_it(task, node.as_ref(), &remembered).await;
        counted.ends(node.as_ref(), &outcome);
        outcome
    }

    async fn do_it(
        &self,
        task: JobTask,
        node: Option<&OwnedNode>,
        remembered: &Remembered,
    ) -> Outcome {
        let done = match task {
            JobTask::Begin {
                inputs,
                offloaded,
                to,
            } => {
                return Outcome::Begun(
                    self.begin(inputs, &offloaded, &to, remembered)
                        .await
                        .map_err(|error| error.0),
                );
            }
            JobTask::Send(events) => {
                let labels = self.labels(node);
                return Outcome::Sent(self.send(events, remembered, &labels).await);
            }
            JobTask::Sweep(search) => return Outcome::Swept(self.sweep(search).await),
            JobTask::Node {
                work,
                sources,
                inner,
                error,
            } => match node {
                Some(node) => {
                    self.work(
                        node,
                        work,
                        Surroundings {
                            sources,
                            inner,
                            error,
                            remembered: remembered.clone(),
                        },
                    )
                    .await
                }
                None => Err(Hopeless::new(
                    ErrorKind::System,
                    "InternalError",
                    "a job of no node".into(),
                )),
            },
        };
        done.unwrap_or_else(|hopeless| Outcome::Broken(hopeless.0))
    }

    async fn work(
        &self,
        node: &OwnedNode,
        work: Work,
        around: Surroundings,
    ) -> Result<Outcome, Hopeless> {
        let view = node.view();
        match work {
            Work::Prepare { bindings, to, also } => {
                let outputs = self.read_outputs(&around).await?;
                let mut inputs = match resolve::resolve(&bindings, &outputs) {
                    Ok(inputs) => inputs,
                    Err(error) => return Ok(Outcome::Prepared(Err(error))),
                };
                if let Some(error) = &around.error
                    && let Some(literal) = inputs.literals.get_mut("err")
                {
                    *literal = error_literal(&view.spec.id, error);
                }
                let bytes = Bytes::from(inputs.encode_to_vec());
                let inputs = Arc::new(inputs);
                if let Some(also) = &also {
                    around.remembered.put(also, &inputs);
                }
                let (first, second) = tokio::join!(self.write(&to, bytes.clone()), async {
                    match &also {
                        Some(also) => self.write(also, bytes.clone()).await,
                        None => Ok(()),
                    }
                });
                first.and(second)?;
                Ok(Outcome::Prepared(Ok(inputs)))
            }
            Work::ReadInputs(uri) => self
                .read(&uri, &around.remembered)
                .await
                .map(Outcome::Inputs),
            Work::Launch => self.launch(&view).await.map(Outcome::Launched),
            Work::LookUp => self.look_up(&view).await.map(Outcome::LookedUp),
            Work::ReadResult => self.read_result(&view).await.map(Outcome::Result),
            Work::Copy { from, to } => {
                let from = match from {
                    Source::File(uri) => Some(uri),
                    Source::Inner => around.inner,
                };
                match from {
                    Some(from) => self.copy(&from, &to).await.map(Outcome::Copied),
                    None => Ok(Outcome::Copied(false)),
                }
            }
        }
    }

    async fn begin(
        &self,
        inputs: Option<LiteralMap>,
        offloaded: &str,
        to: &str,
        remembered: &Remembered,
    ) -> Result<(), Hopeless> {
        let literals = match (inputs, offloaded) {
            (Some(inputs), "") => Arc::new(inputs),
            (Some(_), _) => {
                return Err(Hopeless::new(
                    ErrorKind::System,
                    "BadSpecificationError",
                    "both inputs and offloadedInputs are set".into(),
                ));
            }
            (None, "") => Arc::new(LiteralMap::default()),
            (None, uri) => self.read(uri, remembered).await.map_err(|error| {
                Hopeless::new(
                    ErrorKind::System,
                    "OffloadedInputsReadFailure",
                    error.0.message,
                )
            })?,
        };
        remembered.put(to, &literals);
        self.write(to, Bytes::from(literals.encode_to_vec())).await
    }

    /// Outputs of all nodes that bindings name, read side by side.
    async fn read_outputs(&self, around: &Surroundings) -> Result<Outputs, Hopeless> {
        let reads = around.sources.iter().map(|(id, uri)| async {
            self.read(uri, &around.remembered)
                .await
                .map(|literals| (id.clone(), literals))
        });
        futures::future::try_join_all(reads)
            .await
            .map(|pairs| pairs.into_iter().collect())
    }

    /// Reads literals. A missing file is hopeless: whoever was to write it says that it has.
    async fn read(&self, uri: &str, remembered: &Remembered) -> Result<Arc<LiteralMap>, Hopeless> {
        if let Some(known) = remembered.get(uri) {
            self.blobs.count_cached(Cached::Hit);
            return Ok(known);
        }
        self.blobs.count_cached(Cached::Miss);
        let bytes = self.get(uri).await?.ok_or_else(|| {
            Hopeless::new(
                ErrorKind::System,
                "CausedByError",
                format!("failed to read [{uri}]: it does not exist"),
            )
        })?;
        let unusable = |error: &dyn std::fmt::Display| {
            Hopeless::new(
                ErrorKind::System,
                "CausedByError",
                format!("[{uri}] does not hold literals: {error}"),
            )
        };
        // Tasks write what they like, and decoding recurses.
        nesting::scan(&descriptors::message::<LiteralMap>(), &bytes)
            .map_err(|error| unusable(&error))?;
        let literals = self
            .blobs
            .decoded(|| LiteralMap::decode(bytes))
            .map_err(|error| unusable(&error))?;
        let literals = Arc::new(literals);
        remembered.put(uri, &literals);
        Ok(literals)
    }

    /// Reads a blob; none when there is none.
    async fn get(&self, uri: &str) -> Result<Option<Bytes>, Hopeless> {
        let read = self
            .until_it_works("read a blob", || async {
                match self.blobs.get(uri).await {
                    Ok(bytes) => Ok(Ok(Some(bytes))),
                    Err(BlobError::NotFound(_)) => Ok(Ok(None)),
                    Err(error) if is_hopeless(&error) => Ok(Err(error)),
                    Err(error) => Err(error.into()),
                }
            })
            .await;
        read.map_err(|error| {
            Hopeless::new(
                ErrorKind::User,
                "InputsTooLarge",
                format!("[{uri}] cannot be read: {}", Chain(&error)),
            )
        })
    }

    async fn write(&self, uri: &str, bytes: Bytes) -> Result<(), Hopeless> {
        let written = self
            .until_it_works("write a blob", || async {
                match self.blobs.put(uri, bytes.clone()).await {
                    Ok(()) => Ok(Ok(())),
                    Err(error) if is_hopeless(&error) => Ok(Err(error)),
                    Err(error) => Err(error.into()),
                }
            })
            .await;
        written.map_err(|error| {
            Hopeless::new(
                ErrorKind::System,
                "StorageError",
                format!("[{uri}] cannot be written: {}", Chain(&error)),
            )
        })
    }

    /// Copies a blob; false when there is none.
    async fn copy(&self, from: &str, to: &str) -> Result<bool, Hopeless> {
        match self.get(from).await? {
            Some(bytes) => self.write(to, bytes).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// Tries until it works, waiting longer each time.
    async fn until_it_works<T, F>(&self, what: &str, mut attempt: impl FnMut() -> F) -> T
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        let mut wait = FIRST_WAIT;
        loop {
            match attempt().await {
                Ok(done) => return done,
                Err(trouble) => {
                    tracing::warn!(error = %Chain(&trouble), ?wait, "cannot {what}, trying again");
                    wait = self.pause(wait).await;
                }
            }
        }
    }

    /// Waits about this long, and says how long to wait the next time.
    async fn pause(&self, wait: Duration) -> Duration {
        tokio::time::sleep(self.jitter.spread(wait)).await;
        (wait * 2).min(MAX_WAIT)
    }
}

/// What a node's work is done with.
struct Surroundings {
    sources: BTreeMap<String, String>,
    inner: Option<String>,
    error: Option<ExecutionError>,
    remembered: Remembered,
}

/// Whether no other try can end differently.
fn is_hopeless(error: &BlobError) -> bool {
    matches!(
        error,
        BlobError::Reference { .. }
            | BlobError::ForeignContainer { .. }
            | BlobError::LimitExceeded { .. }
    )
}

/// What a failure node gets as input `err` (spec 04 §4.3). The id is the failure node's own, as in the reference.
fn error_literal(node: &str, error: &ExecutionError) -> Literal {
    let inner = Literal {
        value: Some(literal::Value::Scalar(Box::new(Scalar {
            value: Some(scalar::Value::Error(ErrorLiteral {
                failed_node_id: node.to_owned(),
                message: error.message.clone(),
            })),
        }))),
        ..Literal::default()
    };
    let kind = LiteralType {
        r#type: Some(literal_type::Type::Simple(SimpleType::Error.into())),
        structure: Some(TypeStructure {
            tag: "FlyteError".into(),
            ..TypeStructure::default()
        }),
        ..LiteralType::default()
    };
    Literal {
        value: Some(literal::Value::Scalar(Box::new(Scalar {
            value: Some(scalar::Value::Union(Box::new(Union {
                value: Some(Box::new(inner)),
                r#type: Some(kind),
            }))),
        }))),
        ..Literal::default()
    }
}
