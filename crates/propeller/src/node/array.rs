//! Array nodes: a task for each element of a list (spec 04 §7.7).
//!
//! ```text
//! None ── inputs are known ──▶ Executing ── all are over, enough succeeded ──▶ Succeeding ── gathered ──▶ Succeeded
//!                                  └── too many failed ──▶ Failing ── the others are aborted ──▶ Failed
//! ```
//!
//! Each element is a node of its own, decided by [`super::step`], in the machine (`machine::array`); what it would tell
//! admin is gathered in [`Progress`] and told in events of the array's task.

mod element;
mod outcome;
mod progress;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use flyte_core::unique_id::{self, Width};
use flyte_crd::{
    ArraySpec, GoStruct, NodeKind, NodePhase, NodeStatus, Time,
    status::{ArrayNodeStatus, ArrayPhase, CompactArray},
};
use flyte_idl::core::{ExecutionError, TaskTemplate, task_execution::Phase};
use flyte_idl::event::ExternalResourceInfo;
use jiff::Timestamp;

use super::{
    Change, Inside, NodeEffect, NodeResult, NodeView, Step, Then, container, fail, failed,
    identity, running, running_event, succeeded, system, unsupported,
};
use crate::events::{self, Event, NodeDetails};

use outcome::Outcome;
use progress::entry;

pub use element::Element;
pub use outcome::Failures;
pub use progress::Progress;

/// What an array fails with whose elements failed before anybody wrote down why.
const FAILING: &str = "ArrayNodeFailing";
/// Largest phase of a node that Go's status has room for.
const MAX_NODE_PHASE: u32 = 12;
/// Largest phase of a task that Go's status has room for.
const MAX_TASK_PHASE: u32 = 10;
/// Longest time from an array's start to an element's that the status has room for, in seconds: three days.
const MAX_DELTA_SECONDS: u32 = 259_200;

pub(super) fn step(view: &NodeView<'_>, result: Option<NodeResult>, now: Timestamp) -> Step {
    match container::within_deadlines(view, |view| decide(view, result, now), now) {
        Step::Change(mut change) => {
            // The elements end the array's task themselves, but not what ends it from outside.
            let told = change
                .events
                .iter()
                .any(|event| matches!(event, Event::Task(_)));
            let phase = match change.status.phase {
                NodePhase::Failed => Some(Phase::Failed),
                NodePhase::TimedOut => Some(Phase::Aborted),
                _ => None,
            };
            if let (Some(phase), false) = (phase, told) {
                let last = last_event_because(view, phase, error_of(&change.status), now);
                change.events.splice(..0, last);
            }
            Step::Change(change)
        }
        other @ (Step::Wait(_) | Step::Do(_)) => other,
    }
}

fn error_of(status: &NodeStatus) -> Option<ExecutionError> {
    status.error.as_ref().map(|error| error.0.clone())
}

fn decide(view: &NodeView<'_>, result: Option<NodeResult>, now: Timestamp) -> Step {
    let Some(spec) = view.spec.array.as_deref() else {
        let message = format!(
            "node [{}] is an array and does not say of what",
            view.spec.id
        );
        return failed(
            view,
            system("BadSpecificationError", message),
            Vec::new(),
            now,
        );
    };
    let known = view.status.array_node_status.as_ref();
    match known.map_or(ArrayPhase::None, |known| known.phase) {
        ArrayPhase::None => begin(view, spec, now),
        ArrayPhase::Executing => executing(view, spec, now),
        ArrayPhase::Failing if view.inside == Inside::UnderWay => Step::Wait(None),
        ArrayPhase::Failing => {
            let error = stored_error(view.status).unwrap_or_else(|| ExecutionError {
                code: FAILING.into(),
                message: format!("too many elements of array node [{}] failed", view.spec.id),
                ..ExecutionError::default()
            });
            failed(view, error, Vec::new(), now)
        }
        ArrayPhase::Succeeding => match result {
            Some(NodeResult::Copied(_)) => {
                let details = NodeDetails {
                    outputs: Some(view.files.outputs()),
                    ..NodeDetails::default()
                };
                let last = last_event_because(view, Phase::Succeeded, None, now);
                succeeded(view, details, last, now)
            }
            _ => Step::Do(NodeEffect::GatherOutputs {
                to: view.files.outputs(),
            }),
        },
        ArrayPhase::Unknown(phase) => {
            let message = format!(
                "array node [{}] has phase [{phase}], which this engine does not know",
                view.spec.id
            );
            fail(view, system("IllegalStateError", message), now).step()
        }
    }
}

/// Finds out how many elements there are, and lets them begin.
fn begin(view: &NodeView<'_>, spec: &ArraySpec, now: Timestamp) -> Step {
    let kind = spec.sub_node_spec.kind;
    if kind != NodeKind::Task {
        let what = format!("array of {}", kind.as_str());
        return unsupported::fail(view, &what, now);
    }
    let bound = bound_inputs(spec);
    let Some(inputs) = view
        .inputs
        .filter(|inputs| !element::is_incomplete(inputs, &bound))
    else {
        return Step::Do(NodeEffect::ReadInputs(view.files.inputs()));
    };
    let count = match element::count(inputs, &bound) {
        Ok(count) => count,
        Err(error) => return failed(view, *error, Vec::new(), now),
    };
    let prefix = name_prefix(view);
    let queued = (0..count).map(|index| named(&prefix, entry(index, 0, Phase::Queued)));
    let mut events = vec![event(
        view,
        Told {
            phase: Phase::Queued,
            version: 0,
            resources: queued.collect(),
            error: None,
        },
        now,
    )];
    events.extend(running_event(view, now));
    let mut status = if view.status.phase == NodePhase::Queued {
        running(view.status, now)
    } else {
        view.status.clone()
    };
    status.last_updated_at = Some(Time::new(now));
    status.array_node_status = Some(first_status(view, spec, count));
    Change::new(events, status).then(Then::StartElements).step()
}

/// Room for what is to be known of each element, as Go measures it (spec 04 §12.4).
fn first_status(view: &NodeView<'_>, spec: &ArraySpec, count: u32) -> ArrayNodeStatus {
    let config = &view.workflow.settings.propeller.node_config;
    let asked = [view.spec.retry, spec.sub_node_spec.retry];
    let attempts = asked
        .into_iter()
        .flatten()
        .map(|retry| retry.min_attempts)
        .max()
        .filter(|attempts| *attempts > 0)
        .unwrap_or(config.default_max_attempts);
    let (attempts, failures) = if config.ignore_retry_cause {
        (attempts, attempts)
    } else {
        let failures = config.max_node_retries_system_failures;
        (attempts.saturating_add(failures), failures)
    };
    ArrayNodeStatus {
        phase: ArrayPhase::Executing,
        subphase: CompactArray::new(count, MAX_NODE_PHASE),
        subtphase: CompactArray::new(count, MAX_TASK_PHASE),
        subattempts: CompactArray::new(count, attempts),
        subsysfailures: CompactArray::new(count, failures),
        subtimestamps: CompactArray::new(count, MAX_DELTA_SECONDS),
        ..ArrayNodeStatus::default()
    }
}

/// Elements are under way: tells of them, unless they have ended.
fn executing(view: &NodeView<'_>, spec: &ArraySpec, now: Timestamp) -> Step {
    let Some(progress) = view.elements else {
        return Step::Wait(None);
    };
    let size = size(view.status);
    let required = outcome::required(spec, size);
    let ends = match outcome::outcome(size, required, progress.succeeded, progress.failed) {
        Outcome::Succeeded => Some((ArrayPhase::Succeeding, Then::Nothing)),
        Outcome::Failed => Some((ArrayPhase::Failing, Then::AbortInside)),
        Outcome::UnderWay => None,
    };
    if let Some((phase, then)) = ends {
        let mut change = Change::new(Vec::new(), told_status(view, progress));
        if let Some(array) = &mut change.status.array_node_status {
            array.phase = phase;
        }
        return change.then(then).step();
    }
    if !progress.has_news() {
        return Step::Wait(None);
    }
    if let Some(at) = progress.tell_at.filter(|at| *at > now) {
        return Step::Wait(Some(at));
    }
    let mut status = told_status(view, progress);
    let mut version = 0;
    if let Some(array) = &mut status.array_node_status {
        array.task_phase_version = array.task_phase_version.saturating_add(1);
        version = array.task_phase_version;
    }
    let resources = progress.first_news();
    let then = Then::TellElements(resources.len());
    let told = Told {
        phase: Phase::Running,
        version,
        resources,
        error: None,
    };
    Change::new(vec![event(view, told, now)], status)
        .then(then)
        .step()
}

/// The status with why elements have failed so far. What an earlier process wrote about it stays as it is.
fn told_status(view: &NodeView<'_>, progress: &Progress) -> NodeStatus {
    let mut status = view.status.clone();
    if let (Some(array), Some(message)) =
        (&mut status.array_node_status, progress.failures.summary())
        && (array.execution_error.is_none() || progress.failures_are_complete())
    {
        array.execution_error = Some(GoStruct(events::cut(ExecutionError {
            message,
            ..ExecutionError::default()
        })));
    }
    status
}

/// Why the elements failed, as far as the status says.
fn stored_error(status: &NodeStatus) -> Option<ExecutionError> {
    let array = status.array_node_status.as_ref()?;
    array.execution_error.as_ref().map(|error| error.0.clone())
}

/// An array that fails from outside does when its elements have ended.
pub(crate) fn failing(view: &NodeView<'_>, error: ExecutionError, now: Timestamp) -> Change {
    container::leaving(view, NodePhase::Failing, Some(error), now)
}

/// Whether the elements of an array are to be aborted because too many have failed.
pub(crate) fn is_failing(status: &NodeStatus) -> bool {
    let array = status.array_node_status.as_ref();
    array.is_some_and(|array| array.phase == ArrayPhase::Failing)
}

/// Whether the elements of an array have begun and may go on, as far as its status says.
pub(crate) fn is_executing(status: &NodeStatus) -> bool {
    let array = status.array_node_status.as_ref();
    array.is_some_and(|array| array.phase == ArrayPhase::Executing)
}

/// How many elements there are.
pub(crate) fn size(status: &NodeStatus) -> u32 {
    let array = status.array_node_status.as_ref();
    array.map_or(0, |array| array.subphase.len())
}

/// Inputs that each element gets whole.
pub(crate) fn bound_inputs(spec: &ArraySpec) -> BTreeSet<String> {
    spec.bound_inputs.iter().flatten().cloned().collect()
}

/// The task that runs for each element.
pub(crate) fn template<'a>(view: &NodeView<'a>) -> Option<&'a TaskTemplate> {
    let key = view.spec.array.as_deref()?.sub_node_spec.task.as_ref()?;
    view.entities.tasks.get(key).map(|template| &template.0)
}

/// The element as a node, for a table of decisions or a machine.
pub(crate) fn element(index: u32, bound: &Arc<BTreeSet<String>>) -> Element {
    Element {
        index,
        bound: bound.clone(),
    }
}

/// What the names of all elements begin with, of the array's attempt under way (spec 04 §8.3).
pub(crate) fn name_prefix(view: &NodeView<'_>) -> String {
    let attempt = view.status.attempts.to_string();
    let parts = [view.workflow.name.as_str(), view.unique_id, &attempt];
    let joined = unique_id::join(unique_id::GENERATED_NAME_MAX, &parts, Width::Bits32);
    joined.unwrap_or_else(|too_long| too_long.name)
}

fn named(prefix: &str, told: ExternalResourceInfo) -> ExternalResourceInfo {
    ExternalResourceInfo {
        external_id: progress::name(prefix, told.index, told.retry_attempt),
        ..told
    }
}

/// What an event of the array's task says.
struct Told {
    phase: Phase,
    version: u32,
    resources: Vec<ExternalResourceInfo>,
    error: Option<ExecutionError>,
}

fn event(view: &NodeView<'_>, told: Told, now: Timestamp) -> Event {
    let outputs = (told.phase == Phase::Succeeded).then(|| view.files.outputs());
    let task = template(view).and_then(|template| template.id.clone());
    events::array_task(
        &identity(view),
        events::ArrayTask {
            task,
            phase: told.phase,
            version: told.version,
            resources: told.resources,
            error: told.error,
            outputs,
        },
        now,
    )
}

/// The event that ends the array's task, if it has begun, with where every element stands.
pub(super) fn last_event(view: &NodeView<'_>, phase: Phase, now: Timestamp) -> Vec<Event> {
    if view.spec.kind != NodeKind::Array {
        return Vec::new();
    }
    last_event_because(view, phase, None, now)
}

fn last_event_because(
    view: &NodeView<'_>,
    phase: Phase,
    error: Option<ExecutionError>,
    now: Timestamp,
) -> Vec<Event> {
    let Some(array) = &view.status.array_node_status else {
        return Vec::new();
    };
    let prefix = name_prefix(view);
    let mut resources = Vec::new();
    for index in 0..array.subphase.len() {
        let current = array.subattempts.get(index);
        let news = view
            .elements
            .into_iter()
            .flat_map(|elements| elements.news_of(index));
        let known: BTreeMap<u32, _> = news.map(|news| (news.retry_attempt, news)).collect();
        // Of earlier attempts an earlier process may not have told that they failed.
        for attempt in 0..=current {
            resources.push(match known.get(&attempt) {
                Some(news) => (*news).clone(),
                None => {
                    let stands = NodePhase::from(i64::from(array.subphase.get(index)));
                    let phase = if attempt < current {
                        Phase::Failed
                    } else {
                        last_phase(stands)
                    };
                    named(&prefix, entry(index, attempt, phase))
                }
            });
        }
    }
    let told = Told {
        phase,
        version: 0,
        resources,
        error,
    };
    vec![event(view, told, now)]
}

/// What the task of an element has come to when its array has ended.
fn last_phase(phase: NodePhase) -> Phase {
    match phase {
        NodePhase::Succeeding | NodePhase::Succeeded | NodePhase::Recovered => Phase::Succeeded,
        NodePhase::Failing
        | NodePhase::Failed
        | NodePhase::TimingOut
        | NodePhase::TimedOut
        | NodePhase::RetryableFailure => Phase::Failed,
        NodePhase::Skipped | NodePhase::Unknown(_) => Phase::Undefined,
        NodePhase::NotYetStarted
        | NodePhase::Queued
        | NodePhase::Running
        | NodePhase::DynamicRunning => Phase::Aborted,
    }
}
