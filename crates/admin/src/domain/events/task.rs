//! What a task event does to one attempt of a task (spec 01 §13.3).

use flyte_core::identifiers::TaskExecutionId;
use flyte_idl::{
    admin,
    event::{
        TaskExecutionEvent,
        task_execution_event::{InputValue, OutputResult},
    },
    stored::Stored,
    text,
};
use jiff::Timestamp;

use super::task_merge;
use crate::{
    error::{Error, Result},
    records::{TaskExecution, TaskPhase},
    time,
};

/// Whether the stored attempt accepts `event`.
///
/// # Errors
/// ALREADY_EXISTS for a phase and version that are recorded, FAILED_PRECONDITION for an attempt that has
/// ended.
pub fn check(task: &TaskExecution, event: &TaskExecutionEvent) -> Result<()> {
    let stored = &task.phase;
    let next = TaskPhase::from(event.phase);
    let id = || text::prototext(&task.id.to_proto());
    if *stored == next && task.phase_version >= event.phase_version {
        return Err(Error::PhaseRecorded(format!(
            "have already recorded task execution phase {next} (version: {}) for {}",
            event.phase_version,
            id()
        )));
    }
    if stored.is_terminal() {
        // As for nodes: the stored phase, not the event's (spec 01 §24 no. 7).
        return Err(Error::Terminal {
            message: format!(
                "invalid phase change from {stored} to {next} for task execution {}",
                id()
            ),
            phase: stored.to_string(),
        });
    }
    occurred(event).map(drop)
}

fn occurred(event: &TaskExecutionEvent) -> Result<Timestamp> {
    time::from_wire(event.occurred_at.as_ref()).ok_or_else(|| Error::missing("occurred_at"))
}

/// The attempt that the first event about it makes.
///
/// # Errors
/// `missing occurred_at`.
pub fn create(id: TaskExecutionId, event: &TaskExecutionEvent) -> Result<TaskExecution> {
    let occurred = occurred(event)?;
    let mut metadata = event.metadata.clone();
    if let Some(metadata) = &mut metadata {
        metadata
            .external_resources
            .sort_by_key(|resource| (resource.index, resource.retry_attempt));
    }
    let mut task = TaskExecution {
        row: None,
        id,
        phase: TaskPhase::Undefined,
        phase_version: 0,
        input_uri: String::new(),
        closure: Stored::new(admin::TaskExecutionClosure {
            created_at: Some(time::to_wire(occurred)),
            logs: event.logs.clone(),
            custom_info: event.custom_info.clone(),
            task_type: event.task_type.clone(),
            metadata,
            event_version: event.event_version,
            ..Default::default()
        }),
        started_at: None,
        created_at: Some(occurred),
        updated_at: None,
        duration: 0,
    };
    change(&mut task, event, occurred);
    Ok(task)
}

/// Changes an attempt that exists as `event` says.
///
/// # Errors
/// Those of [`check`].
pub fn apply(task: &mut TaskExecution, event: &TaskExecutionEvent) -> Result<()> {
    check(task, event)?;
    let occurred = occurred(event)?;
    let phase_changes = task.phase != TaskPhase::from(event.phase);
    task.closure.update(|closure| {
        task_merge::merge(closure, event, phase_changes);
    });
    change(task, event, occurred);
    Ok(())
}

fn change(task: &mut TaskExecution, event: &TaskExecutionEvent, occurred: Timestamp) {
    let updated = time::from_wire(event.reported_at.as_ref())
        .filter(|moment| *moment != Timestamp::UNIX_EPOCH)
        .unwrap_or(occurred);
    task.phase = TaskPhase::from(event.phase);
    // The reference never writes a version of 0 and so loses updates (spec 01 §13.4).
    task.phase_version = event.phase_version;
    task.updated_at = Some(updated);
    let terminal = task.phase.is_terminal();
    if task.phase == TaskPhase::Running && task.started_at.is_none() {
        task.started_at = Some(occurred);
    }
    if let (true, Some(start)) = (terminal, task.started_at) {
        task.duration = time::nanoseconds_between(start, occurred);
    }
    if task.input_uri.is_empty()
        && let Some(InputValue::InputUri(uri)) = &event.input_value
    {
        task.input_uri.clone_from(uri);
    }
    let (started, duration) = (task.started_at, task.duration);
    task.closure.update(|closure| {
        closure.phase = event.phase;
        closure.updated_at = Some(time::to_wire(updated));
        closure.started_at = started.map(time::to_wire);
        task_merge::add_reasons(closure, event);
        if event.log_context.is_some() {
            closure.log_context.clone_from(&event.log_context);
        }
        if terminal {
            if started.is_some() {
                closure.duration = Some(time::duration_to_wire(duration));
            }
            if let Some(output) = &event.output_result {
                closure.output_result = Some(output_result(output));
            }
        }
    });
}

fn output_result(output: &OutputResult) -> admin::task_execution_closure::OutputResult {
    use admin::task_execution_closure::OutputResult as Stored;
    match output {
        OutputResult::OutputUri(uri) => Stored::OutputUri(uri.clone()),
        OutputResult::Error(error) => Stored::Error(error.clone()),
        OutputResult::OutputData(data) => Stored::OutputData(data.clone()),
    }
}
