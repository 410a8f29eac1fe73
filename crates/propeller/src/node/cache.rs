//! The cache around a task (spec 04 §7.2, 06 B9).
//!
//! ```text
//! inputs ──▶ look up ── hit ──▶ Succeeded
//!              │ miss
//!              ▼               somebody else has it
//!            Queued ── reserve ─────────────────────▶ "waiting on serialized cache" ──▶ look up, reserve
//!              │ ours, or not serialized
//!              ▼
//!            the task, and what it may make ── succeeded ──▶ write, release ──▶ Succeeded
//!              (reserved again every `propeller.workflow-reeval-duration`)
//! ```
//!
//! What the cache is asked for follows from the status alone, so that a process which knows nothing asks again; nothing that
//! goes wrong with the cache after the task has begun is the task's concern.

use std::sync::Arc;

use flyte_crd::{NodePhase, NodeStatus};
use flyte_idl::{
    core::{
        CatalogCacheStatus, CatalogMetadata, LiteralMap,
        catalog_reservation::Status as ReservationStatus, node_execution::Phase as EventPhase,
    },
    datacatalog::DatasetId,
    event::{TaskNodeMetadata, node_execution_event::TargetMetadata},
};
use jiff::Timestamp;

use super::{
    Change, NodeEffect, NodeResult, NodeView, Step, declares_outputs, identity, node_end::ended,
    task, template,
};
use crate::events::{self, Event, NodeDetails};

/// The message of a node that waits for somebody else's reservation. Go tells by it that the cache is to be asked again.
const WAITING: &str = "waiting on serialized cache";

/// Where a task's outputs are in the cache.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheKey {
    /// The task in one version of its interface and of its cache.
    pub dataset: DatasetId,
    /// One set of inputs.
    pub tag: String,
}

/// What this process knows of a node's entry in the cache beside its status.
#[derive(Clone, Debug, Default)]
pub struct CacheView {
    /// Its key, once it was needed.
    pub key: Option<Arc<CacheKey>>,
    /// How the last attempt to reserve it went.
    pub reservation: Option<Reservation>,
    /// The entry is there, and too old or of no use: it is to be replaced.
    pub is_stale: bool,
}

/// Who has reserved an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// This node, or somebody else.
    pub is_ours: bool,
    /// When to ask again.
    pub ask_again: Timestamp,
}

/// What was found under a key.
#[derive(Clone, Debug, PartialEq)]
pub enum LookUp {
    /// Outputs, which are the node's now.
    Hit(Box<CatalogMetadata>),
    /// Nothing.
    Miss,
    /// Something that is too old or of no use.
    Stale,
}

/// What became of an entry once the task had ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Whether it was written.
    pub status: CatalogCacheStatus,
    /// Which entry it is.
    pub metadata: Option<Box<CatalogMetadata>>,
    /// Whether it was released, for those that are reserved.
    pub reservation: Option<ReservationStatus>,
}

/// How a task is cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Caching {
    /// One at a time runs for a key.
    is_serialized: bool,
    /// Entries are not used, and replaced.
    overwrites: bool,
}

impl Caching {
    /// How the task of a node is cached, if it is.
    fn of(view: &NodeView<'_>) -> Option<Self> {
        if view.element.is_some() {
            // Its key is made of other inputs and outputs than its template says, and of its events other parts are told.
            return None;
        }
        let metadata = template(view)?.metadata.as_ref()?;
        let is_cached = view.workflow.settings.caches && metadata.discoverable;
        is_cached.then_some(Self {
            is_serialized: metadata.cache_serializable,
            overwrites: view.workflow.execution_config.overwrite_cache,
        })
    }
}

/// Whether a node waits for somebody else's reservation. It may do so for as long as what it waits for takes, which may need the
/// slot that the node would hold.
pub(crate) fn is_waiting(status: &NodeStatus) -> bool {
    status.phase == NodePhase::Queued && status.message == WAITING
}

/// What comes between the inputs of a node and its being queued; none when there is nothing.
pub(super) fn before(view: &NodeView<'_>, result: &NodeResult, now: Timestamp) -> Option<Step> {
    let caching = Caching::of(view)?;
    match result {
        NodeResult::Prepared(Ok(inputs)) if !caching.overwrites => {
            Some(look_up(view, Some(inputs.clone())))
        }
        NodeResult::CacheLookedUp(_, LookUp::Hit(metadata)) => Some(hit(view, metadata, now)),
        _ => None,
    }
}

/// What `decide` says of a node that has been queued, with the cache around it.
pub(super) fn around(
    view: &NodeView<'_>,
    result: Option<NodeResult>,
    now: Timestamp,
    decide: impl Fn(&NodeView<'_>, Option<NodeResult>) -> Step,
) -> Step {
    let Some(caching) = Caching::of(view) else {
        return decide(view, result);
    };
    let result = match result {
        Some(NodeResult::CacheLookedUp(_, LookUp::Hit(metadata))) => {
            return hit(view, &metadata, now);
        }
        Some(NodeResult::CacheLookedUp(..)) => return reserve(view),
        Some(NodeResult::CacheWritten(written, result)) => {
            return match decide(view, result.map(|result| *result)) {
                Step::Change(mut change) if succeeds(&change) => {
                    tell(&mut change, written);
                    Step::Change(change)
                }
                other => other,
            };
        }
        Some(NodeResult::CacheReserved(..)) => None,
        other => other,
    };
    let is_serialized = caching.is_serialized && !caching.overwrites;
    if is_serialized
        && view.status.phase == NodePhase::Queued
        && let Some(step) = until_reserved(view, now)
    {
        return step;
    }
    let step = decide(view, result.clone());
    match step {
        Step::Change(change) if succeeds(&change) => Step::Do(NodeEffect::WriteCache {
            inputs: view.inputs.cloned(),
            replaces: caching.overwrites || view.cache.is_stale,
            releases: is_serialized,
            result: result.map(Box::new),
        }),
        Step::Wait(until) if is_serialized => {
            let heartbeat = view.cache.reservation.map_or(now, |known| known.ask_again);
            if heartbeat <= now {
                reserve(view)
            } else {
                Step::Wait([until, Some(heartbeat)].into_iter().flatten().min())
            }
        }
        other => other,
    }
}

fn look_up(view: &NodeView<'_>, inputs: Option<Arc<LiteralMap>>) -> Step {
    Step::Do(NodeEffect::LookUpCache {
        inputs: inputs.or_else(|| view.inputs.cloned()),
    })
}

fn reserve(view: &NodeView<'_>) -> Step {
    Step::Do(NodeEffect::ReserveCache {
        inputs: view.inputs.cloned(),
    })
}

/// What a queued node does before it may run; none when it may.
fn until_reserved(view: &NodeView<'_>, now: Timestamp) -> Option<Step> {
    let waits = is_waiting(view.status);
    match view.cache.reservation {
        Some(known) if known.is_ours => None,
        // Another process waited: there may be an entry by now.
        None if waits => Some(look_up(view, None)),
        None => Some(reserve(view)),
        Some(_) if !waits => {
            let mut status = view.status.clone();
            WAITING.clone_into(&mut status.message);
            Some(Change::new(Vec::new(), status).step())
        }
        Some(known) if known.ask_again <= now => Some(look_up(view, None)),
        Some(known) => Some(task::wait(view, Some(known.ask_again), now)),
    }
}

fn succeeds(change: &Change) -> bool {
    change.status.phase == NodePhase::Succeeded
}

/// The outputs of an earlier execution are the node's.
fn hit(view: &NodeView<'_>, metadata: &CatalogMetadata, now: Timestamp) -> Step {
    let has_outputs = template(view).is_some_and(declares_outputs);
    let details = NodeDetails {
        outputs: has_outputs.then(|| view.files.outputs()),
        ..NodeDetails::default()
    };
    let event = events::node(&identity(view), EventPhase::Succeeded, now, details);
    let status = ended(view.status, NodePhase::Succeeded, now);
    let mut change = Change::new(vec![event], status);
    let written = Written {
        status: CatalogCacheStatus::CacheHit,
        metadata: Some(Box::new(metadata.clone())),
        reservation: None,
    };
    tell(&mut change, written);
    change.step()
}

/// What the last event of a node says of its entry.
fn tell(change: &mut Change, written: Written) {
    let Some(Event::Node(event)) = change.events.last_mut() else {
        return;
    };
    let mut metadata = match event.target_metadata.take() {
        Some(TargetMetadata::TaskNodeMetadata(metadata)) => metadata,
        _ => TaskNodeMetadata::default(),
    };
    metadata.cache_status = written.status.into();
    metadata.catalog_key = written.metadata.map(|metadata| *metadata);
    if let Some(reservation) = written.reservation {
        metadata.reservation_status = reservation.into();
    }
    event.target_metadata = Some(TargetMetadata::TaskNodeMetadata(metadata));
}
