//! How a later task event merges into what is known of an attempt (spec 01 §13.3 step 4).

use flyte_idl::{
    admin::{self, TaskExecutionClosure},
    core::{CatalogCacheStatus, TaskLog},
    event::{ExternalResourceInfo, TaskExecutionEvent, TaskExecutionMetadata},
};
use prost_types::{Struct, value::Kind};

use crate::records::TaskPhase;

/// Logs, custom information, metadata and event version of `event`.
pub(super) fn merge(
    closure: &mut TaskExecutionClosure,
    event: &TaskExecutionEvent,
    phase_changes: bool,
) {
    closure.logs = visible(merge_logs(&event.logs, &closure.logs), event.phase);
    if let Some(patch) = &event.custom_info {
        merge_struct(closure.custom_info.get_or_insert_default(), patch);
    }
    match (&mut closure.metadata, &event.metadata) {
        (Some(known), Some(new)) => merge_metadata(known, new),
        (known @ None, new) => known.clone_from(new),
        (Some(_), None) => {}
    }
    if phase_changes && let Some(metadata) = &mut closure.metadata {
        for resource in &mut metadata.external_resources {
            resource.logs = visible(std::mem::take(&mut resource.logs), event.phase);
        }
    }
    closure.event_version = closure.event_version.max(event.event_version);
}

/// Appends the reasons of `event`; the last one is the current one.
pub(super) fn add_reasons(closure: &mut TaskExecutionClosure, event: &TaskExecutionEvent) {
    if let Some(last) = event.reasons.last() {
        closure
            .reasons
            .extend(event.reasons.iter().map(|reason| admin::Reason {
                occurred_at: reason.occurred_at,
                message: reason.reason.clone(),
            }));
        closure.reason.clone_from(&last.reason);
    } else if !event.reason.is_empty() {
        if closure.reason != event.reason {
            closure.reasons.push(admin::Reason {
                occurred_at: event.occurred_at,
                message: event.reason.clone(),
            });
        }
        closure.reason.clone_from(&event.reason);
    }
}

/// New logs first, then known ones that no new one replaces by uri or by name.
fn merge_logs(new: &[TaskLog], known: &[TaskLog]) -> Vec<TaskLog> {
    let replaced = |log: &&TaskLog| {
        new.iter()
            .any(|other| other.uri == log.uri || (!log.name.is_empty() && other.name == log.name))
    };
    let kept = known.iter().filter(|log| !replaced(log));
    new.iter().chain(kept).cloned().collect()
}

/// The logs that are shown in a phase.
fn visible(logs: Vec<TaskLog>, phase: i32) -> Vec<TaskLog> {
    let phase = TaskPhase::from(phase);
    let ended = phase.is_terminal();
    let pending = matches!(phase, TaskPhase::Queued | TaskPhase::Initializing);
    logs.into_iter()
        .filter(|log| !(ended && log.hide_once_finished || pending && !log.show_while_pending))
        .collect()
}

/// RFC 7396: null deletes, objects merge, everything else replaces.
fn merge_struct(known: &mut Struct, patch: &Struct) {
    for (key, value) in &patch.fields {
        match &value.kind {
            None | Some(Kind::NullValue(_)) => {
                known.fields.remove(key);
            }
            Some(Kind::StructValue(patch)) => {
                let entry = known.fields.entry(key.clone()).or_default();
                if !matches!(entry.kind, Some(Kind::StructValue(_))) {
                    entry.kind = Some(Kind::StructValue(Struct::default()));
                }
                if let Some(Kind::StructValue(known)) = &mut entry.kind {
                    merge_struct(known, patch);
                }
            }
            Some(_) => {
                known.fields.insert(key.clone(), value.clone());
            }
        }
    }
}

fn merge_metadata(known: &mut TaskExecutionMetadata, new: &TaskExecutionMetadata) {
    if !new.generated_name.is_empty() {
        known.generated_name.clone_from(&new.generated_name);
    }
    if !new.plugin_identifier.is_empty() {
        known.plugin_identifier.clone_from(&new.plugin_identifier);
    }
    if new.instance_class != 0 {
        known.instance_class = new.instance_class;
    }
    known.resource_pool_info.clone_from(&new.resource_pool_info);
    for resource in &new.external_resources {
        let key = (resource.index, resource.retry_attempt);
        let found = known
            .external_resources
            .binary_search_by_key(&key, |known| (known.index, known.retry_attempt));
        match found {
            Err(place) => known.external_resources.insert(place, resource.clone()),
            Ok(place) => {
                if let Some(known) = known.external_resources.get_mut(place) {
                    merge_resource(known, resource);
                }
            }
        }
    }
}

fn merge_resource(known: &mut ExternalResourceInfo, new: &ExternalResourceInfo) {
    if !new.external_id.is_empty() {
        known.external_id.clone_from(&new.external_id);
    }
    known.phase = new.phase;
    if new.cache_status != CatalogCacheStatus::CacheDisabled as i32 {
        known.cache_status = new.cache_status;
    }
    known.logs = merge_logs(&new.logs, &known.logs);
    if new.custom_info.is_some() {
        known.custom_info.clone_from(&new.custom_info);
    }
    // The reference forgets these two (spec 01 §13.3).
    if new.log_context.is_some() {
        known.log_context.clone_from(&new.log_context);
    }
    if new.target_metadata.is_some() {
        known.target_metadata.clone_from(&new.target_metadata);
    }
}

#[cfg(test)]
mod tests {
    use flyte_idl::core::task_execution::Phase;

    use super::*;

    fn log(name: &str, uri: &str) -> TaskLog {
        TaskLog {
            name: name.to_owned(),
            uri: uri.to_owned(),
            ..Default::default()
        }
    }

    #[test]
    fn new_logs_replace_known_ones_by_name_or_uri() {
        let merged = merge_logs(
            &[log("a", "2")],
            &[log("a", "1"), log("", "2"), log("b", "3")],
        );
        assert_eq!(merged, [log("a", "2"), log("b", "3")]);
    }

    #[test]
    fn logs_of_finished_tasks_may_hide() {
        let mut hidden = log("a", "1");
        hidden.hide_once_finished = true;
        let logs = vec![hidden, log("b", "2")];
        assert_eq!(
            visible(logs.clone(), Phase::Succeeded as i32),
            [log("b", "2")]
        );
        assert_eq!(visible(logs.clone(), Phase::Running as i32), logs);
        assert_eq!(visible(logs, Phase::Queued as i32), []);
    }

    #[test]
    fn external_resources_stay_sorted_by_index_and_attempt() {
        let resource = |index, retry_attempt, phase: Phase| ExternalResourceInfo {
            index,
            retry_attempt,
            phase: phase as i32,
            ..Default::default()
        };
        let mut known = TaskExecutionMetadata {
            external_resources: vec![
                resource(0, 0, Phase::Running),
                resource(2, 0, Phase::Running),
            ],
            ..Default::default()
        };
        let new = TaskExecutionMetadata {
            external_resources: vec![
                resource(1, 0, Phase::Queued),
                resource(2, 0, Phase::Succeeded),
                resource(0, 1, Phase::Queued),
            ],
            ..Default::default()
        };
        merge_metadata(&mut known, &new);
        let keys: Vec<_> = known
            .external_resources
            .iter()
            .map(|resource| (resource.index, resource.retry_attempt, resource.phase))
            .collect();
        assert_eq!(
            keys,
            [
                (0, 0, Phase::Running as i32),
                (0, 1, Phase::Queued as i32),
                (1, 0, Phase::Queued as i32),
                (2, 0, Phase::Succeeded as i32)
            ]
        );
    }
}
