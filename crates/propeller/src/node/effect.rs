//! What a node asks for outside of its decisions, and what that brings.

use std::sync::Arc;

use flyte_idl::core::{Binding, ExecutionError, Literal, LiteralMap, LiteralType};
use flyte_plugins::PhaseInfo;
use k8s_openapi::api::core::v1::Pod;

use super::{
    DynamicWorkflow,
    cache::{CacheKey, LookUp, Reservation, Written},
    dynamic, launch_plan,
    recovery::Recovered,
    resolve::ResolveError,
};

/// What a task left behind (spec 05 §10.3).
#[derive(Clone, Debug, PartialEq)]
pub enum TaskResult {
    /// Its outputs are there, or it has none.
    Outputs {
        /// It wrote a deck.
        deck: bool,
    },
    /// It failed or left nothing usable.
    Failed {
        /// Code, text and kind, as admin and the user are told.
        error: ExecutionError,
        /// Another attempt may succeed.
        recoverable: bool,
        /// It wrote a deck.
        deck: bool,
    },
    /// It made a workflow.
    Futures,
}

/// Something outside the decision.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeEffect {
    /// Resolve bindings and write the result; an end node's also as its outputs.
    Prepare {
        /// Where each input comes from.
        bindings: Vec<Binding>,
        /// URI of the inputs.
        to: String,
        /// URI of a second copy.
        also: Option<String>,
    },
    /// Ask the execution that the node's own recovers what became of the node there.
    Recover,
    /// Read inputs back, by URI.
    ReadInputs(String),
    /// Create the pod of this attempt.
    CreatePod,
    /// Ask the API server for the pod of this attempt.
    GetPod,
    /// Read what the task left behind.
    ReadResult,
    /// Compile the workflow that the task has made, or read what was compiled before.
    CompileDynamic,
    /// Look for its outputs in the cache.
    LookUpCache {
        /// Its inputs, when they are known.
        inputs: Option<Arc<LiteralMap>>,
    },
    /// Reserve its entry in the cache, or go on with the reservation.
    ReserveCache {
        /// Its inputs, when they are known.
        inputs: Option<Arc<LiteralMap>>,
    },
    /// Write its outputs to the cache.
    WriteCache {
        /// Its inputs, when they are known.
        inputs: Option<Arc<LiteralMap>>,
        /// Whether what is there is to be replaced.
        replaces: bool,
        /// Whether there is a reservation to let go.
        releases: bool,
        /// What the node has succeeded with.
        result: Option<Box<NodeResult>>,
    },
    /// Copy outputs; the inner node's, or a file.
    CopyOutputs {
        /// The node or the bindings that the outputs come from.
        from: Source,
        /// URI of the copy.
        to: String,
    },
    /// Ask for the value of a signal, which is made known if it is not.
    GetSignal {
        /// Its id within the execution.
        id: String,
        /// What values it may have.
        kind: Box<LiteralType>,
    },
    /// Write outputs that are known here.
    WriteOutputs {
        /// What they are.
        outputs: LiteralMap,
        /// Their URI.
        to: String,
    },
    /// Have the execution made that the node's launch plan is for.
    LaunchChild {
        /// What it is launched with.
        inputs: Arc<LiteralMap>,
    },
    /// Copy what that execution has for outputs.
    CopyChildOutputs {
        /// URI of the copy.
        to: String,
    },
    /// Make lists of what the elements of an array node have for outputs.
    GatherOutputs {
        /// URI of the lists.
        to: String,
    },
    /// Have that execution terminated, if there is one that has not ended.
    TerminateChild {
        /// Why, as its users read it.
        cause: String,
    },
}

impl NodeEffect {
    /// What it does, in the infinitive: `create the pod`.
    pub fn purpose(&self) -> &'static str {
        match self {
            Self::Prepare { .. } => "write the inputs",
            Self::Recover => "recover the node",
            Self::ReadInputs(_) => "read the inputs",
            Self::CreatePod => "create the pod",
            Self::GetPod => "look the pod up",
            Self::ReadResult => "read what the task wrote",
            Self::CompileDynamic => dynamic::COMPILE,
            Self::LookUpCache { .. } => "look the cache up",
            Self::ReserveCache { .. } => "reserve its entry in the cache",
            Self::WriteCache { .. } => "write the cache",
            Self::CopyOutputs { .. } => "copy the outputs",
            Self::GetSignal { .. } => "ask for the signal",
            Self::WriteOutputs { .. } => "write the outputs",
            Self::LaunchChild { .. } => "launch the child execution",
            Self::CopyChildOutputs { .. } => "copy the outputs of the child execution",
            Self::GatherOutputs { .. } => "gather the outputs of the elements",
            Self::TerminateChild { .. } => launch_plan::TERMINATE,
        }
    }
}

/// Where outputs are copied from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A file, by URI.
    File(String),
    /// Outputs of the node inside that gives this node its outputs: the chosen arm, or the inner end node.
    Inner,
}

/// What an effect of a node brought.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeResult {
    /// Bindings were resolved and inputs written.
    Prepared(Result<Arc<LiteralMap>, ResolveError>),
    /// What the execution that is recovered says of the node.
    Recovered(Recovered),
    /// Inputs were read back.
    Inputs(Arc<LiteralMap>),
    /// The pod was created, or what kept it from being.
    PodCreated(PhaseInfo),
    /// The API server has this pod.
    Pod(Option<Arc<Pod>>),
    /// What the task left behind.
    TaskResult(TaskResult),
    /// The workflow that the task has made, or why it is none that can be run.
    DynamicCompiled(Result<Arc<DynamicWorkflow>, Box<ExecutionError>>),
    /// What the cache has.
    CacheLookedUp(Arc<CacheKey>, LookUp),
    /// Who has reserved its entry.
    CacheReserved(Arc<CacheKey>, Reservation),
    /// What became of its entry, and what the node had succeeded with.
    CacheWritten(Written, Option<Box<NodeResult>>),
    /// Outputs were copied; false when there were none.
    Copied(bool),
    /// The value of a signal, if it is set.
    Signal(Option<Box<Literal>>),
    /// The child execution exists, or flyteadmin will not have it.
    ChildLaunched(Result<(), Box<ExecutionError>>),
    /// There is no child execution any more that goes on, as far as flyteadmin lets us have a say in it.
    ChildTerminated,
}
