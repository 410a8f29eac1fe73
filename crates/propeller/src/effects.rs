//! Where decisions become effects: blobs, pods, events.
//!
//! Every effect is idempotent by name, so one that may or may not have happened is simply done again. Each is tried
//! once here, within the [`Budget`] and its timeouts; whether and when it is tried again is the machine's decision
//! (`machine::retry`), so that nobody sleeps here with a permit in hand.

mod arrays;
mod budget;
mod catalog;
mod children;
mod counting;
mod dynamic;
mod error;
mod events;
mod leftovers;
mod pods;
pub mod quota_backoff;
mod quota_queue;
mod recovery;
pub(crate) mod resource;
mod results;
mod signals;
mod statuses;
mod templates;

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    sync::Arc,
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
    service::{
        admin_service_client::AdminServiceClient, signal_service_client::SignalServiceClient,
    },
};
use flyte_platform::{
    Backoff, Chain, Clock,
    blob::{BlobError, BlobStore, Cached},
    client::CountedChannel,
    sync::Mutex,
};
use prost::Message as _;

pub use budget::Budget;
pub(crate) use budget::KUBERNETES_TIMEOUT;
pub use catalog::Catalog;
pub use error::{Answered, Backend, EffectError, PermanentError, TransientError};
pub use quota_queue::{PermitInbox, QuotaQueue};
pub(crate) use statuses::StatusesError;
pub use templates::PodTemplates;

use crate::{
    config::EventConfig,
    machine::{Effect, EffectResult, OwnedNode},
    metrics::EngineMetrics,
    node::{
        NodeEffect, NodeResult, Source, WorkflowContext, launch_plan,
        resolve::{self, Outputs, Unreadable, Upstream},
    },
};
use budget::NamespaceBudget;

/// Outputs larger than this are not kept in memory for later readers.
const MAX_CACHED_BYTES: usize = 256 * 1024;
/// How many outputs of one workflow are kept in memory; others are read again.
const MAX_CACHED: usize = 256;
/// Waits between tries of what is cleaned up in the background.
const CLEANUP_BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
/// How long something is tried to be cleaned up. What is left then is found again at the next start
/// ([`crate::cleanup::orphans`]).
const CLEANUP_WITHIN: Duration = Duration::from_secs(3_600);

/// The clients that the effects of one engine go through.
#[derive(Clone)]
pub struct Effects {
    /// The cluster that the engine's resources and pods are in.
    pub kube: kube::Client,
    /// Where inputs, outputs and spilled statuses are.
    pub blobs: BlobStore,
    /// PodTemplates of the cluster.
    pub templates: PodTemplates,
    /// Where events go.
    pub admin: AdminServiceClient<CountedChannel>,
    /// Where signals are, which gates wait for.
    pub signals: SignalServiceClient<CountedChannel>,
    /// Where outputs of tasks are cached, if they are.
    pub catalog: Option<Catalog>,
    /// What deadlines and waits are measured by; virtual in tests.
    pub clock: Clock,
    /// Bounds how many requests are under way at once, over all workflows.
    pub budget: Budget,
    /// How events carry data.
    pub event_config: EventConfig,
    /// Where pods wait for quota.
    pub quota_queue: QuotaQueue,
    /// What is counted.
    pub metrics: Arc<EngineMetrics>,
}

/// The effects of one workflow.
#[derive(Clone)]
pub struct WorkflowEffects {
    all: Effects,
    budget: NamespaceBudget,
    /// Which of its pods may be tried that waited for quota.
    pub permits: Arc<PermitInbox>,
    outputs_cache: OutputsCache,
    /// The workflow, once it is read.
    workflow: Option<Arc<WorkflowContext>>,
}

impl std::ops::Deref for WorkflowEffects {
    type Target = Effects;

    fn deref(&self) -> &Effects {
        &self.all
    }
}

/// Outputs that one workflow has read or written, by URI. Outputs never change once written.
#[derive(Clone, Debug, Default)]
struct OutputsCache(Arc<Mutex<HashMap<String, Arc<LiteralMap>>>>);

impl OutputsCache {
    fn get(&self, uri: &str) -> Option<Arc<LiteralMap>> {
        self.0.lock().get(uri).cloned()
    }

    fn put(&self, uri: &str, literals: &Arc<LiteralMap>) {
        if literals.encoded_len() > MAX_CACHED_BYTES {
            return;
        }
        let mut known = self.0.lock();
        if known.len() < MAX_CACHED {
            known.insert(uri.to_owned(), literals.clone());
        }
    }
}

impl Effects {
    /// The same clients, for the effects of one workflow in `namespace` of which no more is known yet.
    pub fn of_workflow(&self, namespace: &str) -> WorkflowEffects {
        WorkflowEffects {
            all: self.clone(),
            budget: self.budget.of(namespace),
            permits: Arc::default(),
            outputs_cache: OutputsCache::default(),
            workflow: None,
        }
    }
}

/// What a node's effect is done with.
struct Sources {
    /// Where the outputs are of each node that its bindings name, by id.
    outputs: BTreeMap<String, String>,
    /// Outputs of the node inside that gives this node its own.
    inner: Option<String>,
    /// An input to replace: the error that a failure node gets.
    error: Option<ExecutionError>,
}

impl WorkflowEffects {
    /// The same, counted for this workflow.
    #[must_use]
    pub fn on_behalf_of(&self, workflow: &Arc<WorkflowContext>) -> Self {
        Self {
            all: self.all.counted_for(workflow),
            outputs_cache: OutputsCache::default(),
            workflow: Some(workflow.clone()),
            ..self.clone()
        }
    }

    /// Has the effect, once. `node` is none for effects of the workflow itself.
    ///
    /// # Errors
    /// When it may not have happened, or cannot.
    pub async fn run(
        &self,
        effect: Effect,
        node: Option<OwnedNode>,
    ) -> Result<EffectResult, EffectError> {
        let timer = self.begin_counting(&effect);
        let mut result = Box::pin(self.dispatch(effect, node.as_ref())).await;
        if let Err(EffectError::Transient(error)) = &mut result
            && error.answered == Answered::Refused
        {
            error.retry_after = self.retry_after();
        }
        timer.ends(node.as_ref(), &result);
        result
    }

    /// How long what was refused just now waits for its next try, at least.
    pub(crate) fn retry_after(&self) -> Duration {
        self.budget.retry_after()
    }

    async fn dispatch(
        &self,
        effect: Effect,
        node: Option<&OwnedNode>,
    ) -> Result<EffectResult, EffectError> {
        match effect {
            Effect::Begin {
                inputs,
                offloaded,
                to,
            } => {
                self.begin(inputs, &offloaded, &to).await?;
                Ok(EffectResult::Begun)
            }
            Effect::Send(events) => {
                let labels = self.labels(node);
                Ok(EffectResult::Sent(self.send(events, &labels).await?))
            }
            Effect::FindLeftovers(query) => {
                Ok(EffectResult::Leftovers(self.find_leftovers(&query).await?))
            }
            Effect::Clear(clearance) => {
                let labels = self.labels(node);
                let Some(context) = &self.workflow else {
                    let message = "an effect of a workflow that is not read".to_owned();
                    let code = "InternalError";
                    return Err(PermanentError::new(ErrorKind::System, code, message).into());
                };
                let cleared = self.clear(context, clearance, &labels).await?;
                Ok(EffectResult::Sent(cleared))
            }
            Effect::Node {
                effect,
                outputs,
                inner,
                error,
            } => {
                let Some(node) = node else {
                    let message = "an effect of a node without the node".to_owned();
                    return Err(
                        PermanentError::new(ErrorKind::System, "InternalError", message).into(),
                    );
                };
                let sources = Sources {
                    outputs,
                    inner,
                    error,
                };
                Box::pin(self.node(node, effect, sources))
                    .await
                    .map(|result| EffectResult::Node(Box::new(result)))
            }
        }
    }

    async fn node(
        &self,
        node: &OwnedNode,
        effect: NodeEffect,
        sources: Sources,
    ) -> Result<NodeResult, EffectError> {
        let view = node.view();
        match effect {
            NodeEffect::Prepare { bindings, to, also } => {
                let outputs = self.read_outputs(&sources).await?;
                let mut inputs = match resolve::resolve(&bindings, &outputs) {
                    Ok(inputs) => inputs,
                    Err(error) => return Ok(NodeResult::Prepared(Err(error))),
                };
                if let Some(error) = &sources.error
                    && let Some(literal) = inputs.literals.get_mut("err")
                {
                    *literal = error_literal(&view.spec.id, error);
                }
                let bytes = Bytes::from(inputs.encode_to_vec());
                let inputs = Arc::new(inputs);
                if let Some(also) = &also {
                    self.outputs_cache.put(also, &inputs);
                }
                let (first, second) = tokio::join!(self.write(&to, bytes.clone()), async {
                    match &also {
                        Some(also) => self.write(also, bytes.clone()).await,
                        None => Ok(()),
                    }
                });
                first.and(second)?;
                Ok(NodeResult::Prepared(Ok(inputs)))
            }
            NodeEffect::Recover => self.recover(&view).await.map(NodeResult::Recovered),
            NodeEffect::ReadInputs(uri) => self.inputs(&view, &uri).await.map(NodeResult::Inputs),
            NodeEffect::CreatePod => self.create_pod(&view).await.map(NodeResult::PodCreated),
            NodeEffect::GetPod => self.get_pod(&view).await.map(NodeResult::Pod),
            NodeEffect::ReadResult => self.read_result(&view).await.map(NodeResult::TaskResult),
            NodeEffect::CompileDynamic => {
                let compiled = self.compile_dynamic(&view).await?;
                Ok(NodeResult::DynamicCompiled(compiled))
            }
            NodeEffect::LookUpCache { inputs } => {
                let (key, found) = Box::pin(self.look_up_cache(&view, inputs)).await?;
                Ok(NodeResult::CacheLookedUp(key, found))
            }
            NodeEffect::ReserveCache { inputs } => {
                let (key, reservation) = self.reserve_cache(&view, inputs).await?;
                Ok(NodeResult::CacheReserved(key, reservation))
            }
            NodeEffect::WriteCache {
                inputs,
                replaces,
                releases,
                result,
            } => {
                let written = self.write_cache(&view, inputs, replaces, releases).await?;
                Ok(NodeResult::CacheWritten(written, result))
            }
            NodeEffect::CopyOutputs { from, to } => {
                let from = match from {
                    Source::File(uri) => Some(uri),
                    Source::Inner => sources.inner,
                };
                match from {
                    Some(from) => self.copy(&from, &to).await.map(NodeResult::Copied),
                    None => Ok(NodeResult::Copied(false)),
                }
            }
            NodeEffect::GetSignal { id, kind } => {
                self.signal(&view, id, *kind).await.map(NodeResult::Signal)
            }
            NodeEffect::WriteOutputs { outputs, to } => {
                let bytes = Bytes::from(outputs.encode_to_vec());
                self.write(&to, bytes).await?;
                Ok(NodeResult::Copied(true))
            }
            NodeEffect::LaunchChild { inputs } => {
                let inputs = Arc::unwrap_or_clone(inputs);
                let launched = self.launch_child(&view, inputs).await?;
                Ok(NodeResult::ChildLaunched(launched))
            }
            NodeEffect::CopyChildOutputs { to } => {
                let copied = self.copy_child_outputs(&view, &to).await?;
                Ok(NodeResult::Copied(copied))
            }
            NodeEffect::GatherOutputs { to } => {
                self.gather_outputs(&view, &to).await?;
                Ok(NodeResult::Copied(true))
            }
            NodeEffect::TerminateChild { cause } => {
                let name = launch_plan::child_name(&view);
                self.terminate_child(view.workflow, name, cause).await?;
                Ok(NodeResult::ChildTerminated)
            }
        }
    }

    async fn begin(
        &self,
        inputs: Option<LiteralMap>,
        offloaded: &str,
        to: &str,
    ) -> Result<(), EffectError> {
        let literals = match (inputs, offloaded) {
            (Some(inputs), "") => Arc::new(inputs),
            (Some(_), _) => {
                let message = "both inputs and offloadedInputs are set".to_owned();
                let code = "BadSpecificationError";
                return Err(PermanentError::new(ErrorKind::System, code, message).into());
            }
            (None, "") => Arc::new(LiteralMap::default()),
            (None, uri) => self.read(uri).await.map_err(|error| match error {
                EffectError::Permanent(PermanentError(error)) => PermanentError::new(
                    ErrorKind::System,
                    "OffloadedInputsReadFailure",
                    error.message,
                )
                .into(),
                transient @ EffectError::Transient(_) => transient,
            })?,
        };
        self.outputs_cache.put(to, &literals);
        self.write(to, Bytes::from(literals.encode_to_vec())).await
    }

    /// Outputs of all nodes that bindings name.
    async fn read_outputs(&self, sources: &Sources) -> Result<Outputs, EffectError> {
        // The budget bounds how many are under way.
        let reads = sources.outputs.iter().map(|(id, uri)| async {
            let literals = self.literals(uri).await?;
            let uri = uri.clone();
            Ok::<_, EffectError>((id.clone(), Upstream { uri, literals }))
        });
        let pairs = futures::future::try_join_all(reads).await?;
        Ok(pairs.into_iter().collect())
    }

    /// Reads literals. A missing file is permanent: whoever was to write it says that it has.
    async fn read(&self, uri: &str) -> Result<Arc<LiteralMap>, EffectError> {
        self.literals(uri).await?.map_err(|unreadable| {
            let message = unreadable.to_string();
            PermanentError::new(ErrorKind::System, "CausedByError", message).into()
        })
    }

    /// Reads literals, or says why no other try will.
    async fn literals(
        &self,
        uri: &str,
    ) -> Result<Result<Arc<LiteralMap>, Unreadable>, EffectError> {
        if let Some(known) = self.outputs_cache.get(uri) {
            self.blobs.count_cached(Cached::Hit);
            return Ok(Ok(known));
        }
        self.blobs.count_cached(Cached::Miss);
        let Some(bytes) = self.get(uri).await? else {
            return Ok(Err(Unreadable::Missing(uri.to_owned())));
        };
        let decoded = self.decoded(bytes).map_err(|why| Unreadable::Malformed {
            uri: uri.to_owned(),
            why,
        });
        let literals = decoded.map(Arc::new);
        if let Ok(literals) = &literals {
            self.outputs_cache.put(uri, literals);
        }
        Ok(literals)
    }

    /// A message that a task may have written.
    fn decoded<T: prost::Message + prost::Name + Default>(
        &self,
        bytes: Bytes,
    ) -> Result<T, String> {
        // Tasks write what they like, and decoding recurses.
        nesting::scan(&descriptors::message::<T>(), &bytes).map_err(|error| error.to_string())?;
        let decoded = self.blobs.decoded(|| T::decode(bytes));
        decoded.map_err(|error| error.to_string())
    }

    /// Reads a blob; none when there is none.
    async fn get(&self, uri: &str) -> Result<Option<Bytes>, EffectError> {
        match self.blob(self.blobs.get(uri)).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(BlobFailure::NotFound) => Ok(None),
            Err(BlobFailure::Permanent(error)) => {
                let message = format!("[{uri}] cannot be read: {}", Chain(&error));
                Err(PermanentError::new(ErrorKind::User, "InputsTooLarge", message).into())
            }
            Err(BlobFailure::Transient(error)) => Err(error.into()),
        }
    }

    async fn write(&self, uri: &str, bytes: Bytes) -> Result<(), EffectError> {
        match self.blob(self.blobs.put(uri, bytes)).await {
            Ok(()) => Ok(()),
            Err(BlobFailure::Permanent(error)) => Err(cannot_write(uri, &error).into()),
            Err(BlobFailure::NotFound) => {
                Err(cannot_write(uri, &BlobError::NotFound(uri.to_owned())).into())
            }
            Err(BlobFailure::Transient(error)) => Err(error.into()),
        }
    }

    /// One request to the blob store.
    async fn blob<T>(
        &self,
        call: impl Future<Output = Result<T, BlobError>>,
    ) -> Result<T, BlobFailure> {
        match self.budget.request(Backend::Blobs, call).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(BlobError::NotFound(_))) => Err(BlobFailure::NotFound),
            Ok(Err(error)) if is_permanent(&error) => Err(BlobFailure::Permanent(error)),
            Ok(Err(error)) => Err(BlobFailure::Transient(error.into())),
            Err(error) => Err(BlobFailure::Transient(error)),
        }
    }

    /// Copies a blob; false when there is none.
    async fn copy(&self, from: &str, to: &str) -> Result<bool, EffectError> {
        match self.get(from).await? {
            Some(bytes) => self.write(to, bytes).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// Tries until it works, in the background, without a permit while it waits; given up after an hour, with an error in
    /// the log.
    async fn clean_up<F>(&self, what: &str, name: &str, mut attempt: impl FnMut() -> F)
    where
        F: Future<Output = Result<(), TransientError>>,
    {
        let began = tokio::time::Instant::now();
        let mut tries = 0;
        while let Err(error) = attempt().await {
            tries += 1;
            if began.elapsed() > CLEANUP_WITHIN {
                tracing::error!(%error, name, tries, "cannot {what}; given up until the next start");
                return;
            }
            let wait = CLEANUP_BACKOFF.wait(tries, rand::random());
            tracing::warn!(%error, name, ?wait, "cannot {what}, trying again");
            tokio::time::sleep(wait).await;
        }
    }
}

/// Why a request to the blob store brought nothing.
enum BlobFailure {
    NotFound,
    /// No other try can end differently.
    Permanent(BlobError),
    Transient(TransientError),
}

fn cannot_write(uri: &str, error: &BlobError) -> PermanentError {
    let message = format!("[{uri}] cannot be written: {}", Chain(error));
    PermanentError::new(ErrorKind::System, "StorageError", message)
}

/// Whether no other try can end differently.
fn is_permanent(error: &BlobError) -> bool {
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
