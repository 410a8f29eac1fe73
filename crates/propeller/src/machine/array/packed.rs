//! The status of an element, as far as that of its array has room for it (spec 04 §7.7, §12.4). Pure.

use flyte_crd::{
    NodePhase, NodeStatus, Time,
    gob::{PluginState, Progress},
    status::{TaskNodeStatus, TaskPhase},
};
use jiff::SignedDuration;

/// Version of the plugin state that we and Go write.
const PLUGIN_STATE_VERSION: u32 = 1;

/// What is kept of the status of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packed {
    phase: NodePhase,
    task: TaskPhase,
    attempts: u32,
    system_failures: u32,
    /// Seconds from the array's start to that of the attempt, at least 1; 0 as long as it has no pod.
    delta: u32,
}

impl Packed {
    /// What is to be kept of an element.
    pub(super) fn of(element: &NodeStatus, array: &NodeStatus) -> Self {
        let task = element.task_node_status.as_ref();
        let is_under_way = task.is_some();
        let delta = element
            .last_attempt_started_at
            .filter(|_| is_under_way)
            .zip(started_at(array))
            .map(|(element, array)| {
                let delta = element.timestamp().duration_since(array.timestamp());
                // 0 is not known.
                u32::try_from(delta.as_secs()).unwrap_or(0).max(1)
            });
        Self {
            phase: element.phase,
            task: task.map_or(TaskPhase::Undefined, |task| task.phase),
            attempts: element.attempts,
            system_failures: element.system_failures,
            delta: delta.unwrap_or(0),
        }
    }

    /// What an array keeps of an element.
    pub(super) fn read(array: &NodeStatus, index: u32) -> Self {
        let Some(known) = &array.array_node_status else {
            return Self::of(&NodeStatus::default(), array);
        };
        Self {
            phase: NodePhase::from(i64::from(known.subphase.get(index))),
            task: TaskPhase::from(i64::from(known.subtphase.get(index))),
            attempts: known.subattempts.get(index),
            system_failures: known.subsysfailures.get(index),
            delta: known.subtimestamps.get(index),
        }
    }

    pub(super) fn write(self, array: &mut NodeStatus, index: u32) {
        let Some(known) = &mut array.array_node_status else {
            return;
        };
        let number = |phase: i64| u32::try_from(phase).unwrap_or(0);
        known.subphase.set(index, number(self.phase.number()));
        known.subtphase.set(index, number(self.task.number()));
        known.subattempts.set(index, self.attempts);
        known.subsysfailures.set(index, self.system_failures);
        known.subtimestamps.set(index, self.delta);
    }

    /// The status that an element goes on with of which no more is known.
    pub(super) fn unpack(self, array: &NodeStatus) -> NodeStatus {
        let has_task = self.task != TaskPhase::Undefined;
        let began = started_at(array).filter(|_| has_task).map(|array| {
            let delta = SignedDuration::from_secs(self.delta.into());
            Time::new(
                array
                    .timestamp()
                    .saturating_add(delta)
                    .unwrap_or(array.timestamp()),
            )
        });
        let progress = match self.task {
            TaskPhase::Undefined | TaskPhase::RetryableFailure | TaskPhase::WaitingForResources => {
                Progress::NotStarted
            }
            _ => Progress::Started,
        };
        NodeStatus {
            phase: self.phase,
            attempts: self.attempts,
            system_failures: self.system_failures,
            queued_at: began,
            started_at: began,
            last_attempt_started_at: began,
            task_node_status: has_task.then(|| TaskNodeStatus {
                phase: self.task,
                plugin_state: PluginState {
                    progress,
                    phase: self.task,
                    ..PluginState::default()
                }
                .encode(),
                plugin_state_version: PLUGIN_STATE_VERSION,
                ..TaskNodeStatus::default()
            }),
            ..NodeStatus::default()
        }
    }

    pub(super) fn phase(self) -> NodePhase {
        self.phase
    }
}

fn started_at(array: &NodeStatus) -> Option<Time> {
    array.last_attempt_started_at.or(array.started_at)
}

#[cfg(test)]
mod tests {
    use flyte_crd::status::{ArrayNodeStatus, CompactArray};
    use jiff::Timestamp;

    use super::*;

    fn time(second: i64) -> Time {
        Time::new(Timestamp::from_second(1_767_225_600 + second).unwrap())
    }

    #[test]
    fn an_element_is_found_as_it_was_kept() {
        let mut array = NodeStatus {
            last_attempt_started_at: Some(time(0)),
            array_node_status: Some(ArrayNodeStatus {
                subphase: CompactArray::new(3, 12),
                subtphase: CompactArray::new(3, 10),
                subattempts: CompactArray::new(3, 4),
                subsysfailures: CompactArray::new(3, 3),
                subtimestamps: CompactArray::new(3, 259_200),
                ..ArrayNodeStatus::default()
            }),
            ..NodeStatus::default()
        };
        let untouched = Packed::read(&array, 0);
        for (case, phase, task, attempts, second) in [
            ("queued", NodePhase::Queued, None, 0, 0),
            (
                "running",
                NodePhase::Running,
                Some(TaskPhase::Running),
                2,
                70,
            ),
            (
                "waiting",
                NodePhase::Running,
                Some(TaskPhase::WaitingForResources),
                1,
                5,
            ),
            ("over", NodePhase::Succeeded, None, 1, 0),
        ] {
            let element = NodeStatus {
                phase,
                attempts,
                last_attempt_started_at: Some(time(second)),
                task_node_status: task.map(|phase| TaskNodeStatus {
                    phase,
                    ..TaskNodeStatus::default()
                }),
                ..NodeStatus::default()
            };
            let packed = Packed::of(&element, &array);
            packed.write(&mut array, 1);
            assert_eq!(Packed::read(&array, 1), packed, "{case}");
            let found = Packed::read(&array, 1).unpack(&array);
            assert_eq!((found.phase, found.attempts), (phase, attempts), "{case}");
            assert_eq!(
                found.task_node_status.map(|task| task.phase),
                task,
                "{case}"
            );
            if task.is_some() {
                assert_eq!(found.last_attempt_started_at, Some(time(second)), "{case}");
            }
        }
        assert_eq!(Packed::read(&array, 0), untouched);
        assert_eq!(Packed::read(&array, 2), untouched);
    }
}
