//! Telling admin (spec 04 §11.3).

use std::{
    future::Future,
    time::{Duration, Instant},
};

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

use super::{Remembered, Trouble, World};
use crate::{
    config::RawOutputPolicy,
    events::{Data, Event},
    machine::{Receipt, Rejection},
};

/// Admin may commit the row of an execution a moment after creating its resource.
const CREATION_RACE: Duration = Duration::from_secs(5);

enum Answer {
    Accepted(Receipt),
    TooLarge(String),
    Refused(Rejection),
    Later(String),
}

/// Why an event was not taken.
enum TooLargeOr {
    TooLarge(String),
    Refused(Rejection),
}

impl From<TooLargeOr> for Rejection {
    fn from(refusal: TooLargeOr) -> Self {
        match refusal {
            TooLargeOr::TooLarge(message) => Self::Invalid(message),
            TooLargeOr::Refused(rejection) => rejection,
        }
    }
}

impl World {
    /// Sends events in order; each is acknowledged before the next. Throttling and outages are waited out.
    pub(super) async fn send(
        &self,
        events: Vec<Event>,
        remembered: &Remembered,
        labels: &Labels<'_>,
    ) -> Result<Receipt, Rejection> {
        let mut receipt = Receipt::New;
        for event in events {
            if self.send_one(event, remembered, labels).await? == Receipt::Repeated {
                receipt = Receipt::Repeated;
            }
        }
        Ok(receipt)
    }

    async fn send_one(
        &self,
        event: Event,
        remembered: &Remembered,
        labels: &Labels<'_>,
    ) -> Result<Receipt, Rejection> {
        let full = match self.event_config.raw_output_policy {
            RawOutputPolicy::Reference => None,
            RawOutputPolicy::Inline => self.with_data(&event, remembered).await,
        };
        let Some(full) = full else {
            return self
                .send_as_it_is(&event, labels)
                .await
                .map_err(TooLargeOr::into);
        };
        match self.send_as_it_is(&full, labels).await {
            Err(TooLargeOr::TooLarge(message))
                if self.event_config.fallback_to_output_reference =>
            {
                tracing::debug!(message, "an event is too large with its data");
                self.send_as_it_is(&event, labels)
                    .await
                    .map_err(TooLargeOr::into)
            }
            sent => sent.map_err(TooLargeOr::into),
        }
    }

    /// The event with its data; none when it has none or they cannot be read.
    async fn with_data(&self, event: &Event, remembered: &Remembered) -> Option<Event> {
        let references = event.references();
        let read = async |uri: Option<&str>| match self.read(uri?, remembered).await {
            Ok(literals) => Some(LiteralMap::clone(&literals)),
            Err(error) => {
                tracing::debug!(error = error.0.message, "data stay a reference in an event");
                None
            }
        };
        let (inputs, outputs) = tokio::join!(read(references.inputs), read(references.outputs));
        let found = inputs.is_some() || outputs.is_some();
        found.then(|| event.clone().with_data(Data { inputs, outputs }))
    }

    async fn send_as_it_is(
        &self,
        event: &Event,
        labels: &Labels<'_>,
    ) -> Result<Receipt, TooLargeOr> {
        let started = tokio::time::Instant::now();
        self.until_it_works("send an event", || async {
            let began = Instant::now();
            let answered = self.in_time(self.call(event)).await;
            let told = (began.elapsed(), &answered);
            self.metrics.recording.told(labels, event, told);
            match answer(event, answered) {
                Answer::Accepted(receipt) => Ok(Ok(receipt)),
                Answer::TooLarge(message) => Ok(Err(TooLargeOr::TooLarge(message))),
                Answer::Refused(Rejection::NoExecution(message))
                    if started.elapsed() < CREATION_RACE =>
                {
                    Err(Trouble::Admin(message))
                }
                Answer::Refused(rejection) => Ok(Err(TooLargeOr::Refused(rejection))),
                Answer::Later(message) => Err(Trouble::Admin(message)),
            }
        })
        .await
    }

    /// A call of admin, given up after the configured time.
    pub(super) async fn in_time<T>(
        &self,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        tokio::time::timeout(self.retry.per_try, call)
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")))
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
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            Answer::Refused(Rejection::Invalid(message))
        }
        // Ours and Go's servers word it so.
        Code::ResourceExhausted if message.contains("message larger than max") => {
            Answer::TooLarge(message)
        }
        code => Answer::Later(format!("{code:?}: {message}")),
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
