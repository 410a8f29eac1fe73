//! `<entity>:event_recording:`, telling admin.

use std::time::Duration;

use flyte_platform::metrics::{
    LabelledCounter, LabelledStopWatch, Labels, MetricError, Scope, Unit, Unlabelled,
};
use tonic::{Code, Status};

use crate::events::Event;

/// Events of workflows, nodes and tasks.
#[derive(Debug)]
pub struct RecordingMetrics {
    workflow: Recording,
    node: Recording,
    task: Recording,
}

/// Events of one kind of entity.
#[derive(Debug)]
pub struct Recording {
    success: LabelledStopWatch,
    failure: LabelledStopWatch,
    already_exists: LabelledCounter,
    resource_exhausted: LabelledCounter,
    invalid_argument: LabelledCounter,
    unexpected: LabelledCounter,
}

impl RecordingMetrics {
    pub(super) fn register(scope: &Scope) -> Result<Self, MetricError> {
        let of = |entity| Recording::register(&scope.sub(entity).sub("event_recording"));
        Ok(Self {
            workflow: of("workflow")?,
            node: of("node")?,
            task: of("task")?,
        })
    }

    /// An event was sent to admin, which took this long.
    pub(crate) fn reported(
        &self,
        labels: &Labels<'_>,
        event: &Event,
        time: Duration,
        answer: &Result<(), Status>,
    ) {
        match event {
            Event::Workflow(_) => self.workflow.reported(labels, time, answer),
            Event::Node(_) => self.node.reported(labels, time, answer),
            Event::Task(event) => {
                let task_type = event.task_type.as_str();
                let labels = Labels {
                    task_type,
                    ..*labels
                };
                self.task.reported(&labels, time, answer);
            }
        }
    }
}

impl Recording {
    fn register(scope: &Scope) -> Result<Self, MetricError> {
        let stop_watch = |name, help| {
            scope.labelled_stop_watch(name, help, Unit::Milliseconds, Unlabelled::Omit)
        };
        let counter = |name, help| scope.labelled_counter(name, help, Unlabelled::Omit);
        Ok(Self {
            success: stop_watch("success_duration", "Events that admin took.")?,
            failure: stop_watch("failure_duration", "Events that admin did not take.")?,
            already_exists: counter("already_exists", "Events that admin had heard of.")?,
            resource_exhausted: counter(
                "resource_exhausted",
                "Events that were too many or too large.",
            )?,
            invalid_argument: counter("invalid_argument", "Events that admin found malformed.")?,
            unexpected: counter("unexpected_err", "Events that failed for another reason.")?,
        })
    }

    fn reported(&self, labels: &Labels<'_>, time: Duration, answer: &Result<(), Status>) {
        let Err(status) = answer else {
            self.success.observe(labels, time);
            return;
        };
        self.failure.observe(labels, time);
        let counter = match status.code() {
            Code::AlreadyExists => &self.already_exists,
            Code::ResourceExhausted => &self.resource_exhausted,
            Code::InvalidArgument => &self.invalid_argument,
            _ => &self.unexpected,
        };
        counter.inc(labels);
    }
}
