//! Telling admin (spec 04 §11.3).

use std::time::Instant;

use flyte_idl::{
    admin::{
        EventFailureReason, NodeExecutionEventRequest, TaskExecutionEventRequest,
        WorkflowExecutionEventRequest, event_failure_reason,
    },
    core::LiteralMap,
    rpc,
};
use flyte_platform::metrics::Labels;
use prost::Message as _;
use tonic::{Code, Status};

use super::{Backend, TransientError, WorkflowEffects};
use crate::{
    config::RawOutputPolicy,
    events::{Data, Event},
    machine::{Receipt, Rejection},
};

enum Answer {
    Accepted(Receipt),
    TooLarge(String),
    Refused(Rejection),
    Later(TransientError),
}

/// Why an event was not taken.
enum NotTaken {
    TooLarge(String),
    Refused(Rejection),
    Later(TransientError),
}

impl WorkflowEffects {
    /// Sends events in order; each is acknowledged before the next. Those that were sent before an error are sent again
    /// with the rest, which admin takes for what it is.
    pub(super) async fn send(
        &self,
        events: Vec<Event>,
        labels: &Labels<'_>,
    ) -> Result<Result<Receipt, Rejection>, TransientError> {
        let mut receipt = Receipt::New;
        for event in events {
            match self.send_one(event, labels).await {
                Ok(Receipt::Repeated) => receipt = Receipt::Repeated,
                Ok(Receipt::New) => {}
                Err(NotTaken::TooLarge(message)) => return Ok(Err(Rejection::Invalid(message))),
                Err(NotTaken::Refused(rejection)) => return Ok(Err(rejection)),
                Err(NotTaken::Later(error)) => return Err(error),
            }
        }
        Ok(Ok(receipt))
    }

    async fn send_one(&self, event: Event, labels: &Labels<'_>) -> Result<Receipt, NotTaken> {
        let full = match self.event_config.raw_output_policy {
            RawOutputPolicy::Reference => None,
            RawOutputPolicy::Inline => self.with_data(&event).await,
        };
        let Some(full) = full else {
            return self.send_as_it_is(&event, labels).await;
        };
        match self.send_as_it_is(&full, labels).await {
            Err(NotTaken::TooLarge(message)) if self.event_config.fallback_to_output_reference => {
                tracing::debug!(message, "an event is too large with its data");
                self.send_as_it_is(&event, labels).await
            }
            sent => sent,
        }
    }

    /// The event with its data; none when it has none or they cannot be read.
    async fn with_data(&self, event: &Event) -> Option<Event> {
        let references = event.references();
        let read = async |uri: Option<&str>| match self.read(uri?).await {
            Ok(literals) => Some(LiteralMap::clone(&literals)),
            Err(error) => {
                tracing::debug!(?error, "data stay a reference in an event");
                None
            }
        };
        let (inputs, outputs) = tokio::join!(read(references.inputs), read(references.outputs));
        let found = inputs.is_some() || outputs.is_some();
        found.then(|| event.clone().with_data(Data { inputs, outputs }))
    }

    async fn send_as_it_is(&self, event: &Event, labels: &Labels<'_>) -> Result<Receipt, NotTaken> {
        let began = Instant::now();
        let answered = self
            .budget
            .request(Backend::Admin, self.call(event))
            .await
            .unwrap_or_else(|error| Err(Status::deadline_exceeded(error.message)));
        let recording = &self.metrics.recording;
        recording.reported(labels, event, began.elapsed(), &answered);
        match answer(event, answered) {
            Answer::Accepted(receipt) => Ok(receipt),
            Answer::TooLarge(message) => Err(NotTaken::TooLarge(message)),
            Answer::Refused(rejection) => Err(NotTaken::Refused(rejection)),
            Answer::Later(error) => Err(NotTaken::Later(error)),
        }
    }

    async fn call(&self, event: &Event) -> Result<(), Status> {
        let mut admin = self.admin.clone();
        match event {
            Event::Workflow(event) => {
                let request = WorkflowExecutionEventRequest {
                    request_id: String::new(),
                    event: Some((**event).clone()),
                };
                Box::pin(admin.create_workflow_event(request))
                    .await
                    .map(drop)
            }
            Event::Node(event) => {
                let request = NodeExecutionEventRequest {
                    request_id: String::new(),
                    event: Some((**event).clone()),
                };
                Box::pin(admin.create_node_event(request)).await.map(drop)
            }
            Event::Task(event) => {
                let request = TaskExecutionEventRequest {
                    request_id: String::new(),
                    event: Some((**event).clone()),
                };
                Box::pin(admin.create_task_event(request)).await.map(drop)
            }
        }
    }
}

fn answer(event: &Event, result: Result<(), Status>) -> Answer {
    let Err(status) = result else {
        return Answer::Accepted(Receipt::New);
    };
    let message = status.message().to_owned();
    match reason(&status) {
        Some(event_failure_reason::Reason::AlreadyInTerminalState(state)) => {
            // Several steps are taken between two writes, so a replay after a crash says once more that a node runs
            // which admin knows to have ended. Only the workflow's own end can come from somewhere else.
            return if matches!(event, Event::Workflow(_)) {
                Answer::Refused(Rejection::AlreadyEnded {
                    phase: state.current_phase,
                    message,
                })
            } else {
                Answer::Accepted(Receipt::Repeated)
            };
        }
        Some(event_failure_reason::Reason::IncompatibleCluster(_)) => {
            return Answer::Refused(Rejection::IncompatibleCluster(message));
        }
        None => {}
    }
    match status.code() {
        Code::Ok | Code::AlreadyExists => Answer::Accepted(Receipt::Repeated),
        Code::NotFound => Answer::Refused(Rejection::NoExecution(message)),
        // Of a workflow: it is being aborted, as its resource will say in a moment.
        Code::FailedPrecondition if matches!(event, Event::Workflow(_)) => {
            Answer::Refused(Rejection::WrongPhase(message))
        }
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            Answer::Refused(Rejection::Invalid(message))
        }
        // Ours and Go's servers word it so.
        Code::ResourceExhausted if message.contains("message larger than max") => {
            Answer::TooLarge(message)
        }
        _ => Answer::Later(TransientError::of_status(&status)),
    }
}

/// The typed reason that admin attaches to a refusal (spec 01 §4.4).
fn reason(status: &Status) -> Option<event_failure_reason::Reason> {
    let details = rpc::Status::decode(status.details()).ok()?;
    details.details.iter().find_map(|any| {
        any.type_url
            .ends_with("flyteidl.admin.EventFailureReason")
            .then(|| {
                EventFailureReason::decode(any.value.as_slice())
                    .ok()?
                    .reason
            })
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_waited_for_and_what_cannot_is_refused() {
        let node = Event::Node(Box::default());
        for (case, result, expected) in [
            ("taken", Ok(()), "accepted"),
            ("taken before", Err(Status::already_exists("")), "accepted"),
            (
                "throttled",
                Err(Status::resource_exhausted("rate")),
                "later",
            ),
            ("down", Err(Status::unavailable("")), "later"),
            ("slow", Err(Status::deadline_exceeded("")), "later"),
            ("broken", Err(Status::internal("")), "later"),
            ("who", Err(Status::unauthenticated("")), "later"),
            ("no execution", Err(Status::not_found("")), "refused"),
            ("malformed", Err(Status::invalid_argument("")), "refused"),
            (
                "too large",
                Err(Status::resource_exhausted(
                    "grpc: received message larger than max (5 vs. 4)",
                )),
                "too large",
            ),
        ] {
            let found = match answer(&node, result) {
                Answer::Accepted(_) => "accepted",
                Answer::TooLarge(_) => "too large",
                Answer::Refused(_) => "refused",
                Answer::Later(_) => "later",
            };
            assert_eq!(found, expected, "{case}");
        }
    }
}
