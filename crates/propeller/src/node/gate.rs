//! Gate nodes: a length of time, a person's yes, a value from outside (spec 04 §7.8).
//!
//! Approvals and values are signals, which flyteadmin keeps by execution and signal id. It has no watch for them, so they are
//! asked for, at first every second, and the longer it takes the more seldom.

use std::time::Duration;

use flyte_crd::{
    GateSpec, NodePhase,
    status::{GateNodeStatus, GatePhase},
};
use flyte_idl::core::{
    Literal, LiteralMap, LiteralType, SimpleType, execution_error::ErrorKind, literal,
    literal_type, primitive, scalar,
};
use jiff::{SignedDuration, Timestamp};

use super::{
    Change, NodeEffect, NodeResult, NodeView, Source, Step, error, failed, running, running_event,
    succeeded, system, user,
};
use crate::events::NodeDetails;

/// A signal is asked for no more often than this.
const SOONEST: SignedDuration = SignedDuration::from_secs(1);
/// And no more seldom.
const LATEST: SignedDuration = SignedDuration::from_secs(10);
/// A signal is asked for again after this part of the time that it has taken already.
const PART: i32 = 10;
/// Times in a status are whole seconds; a gate that sleeps may have begun as much later.
const RESOLUTION: SignedDuration = SignedDuration::from_secs(1);

/// What a gate waits for.
enum Condition<'a> {
    Sleep(SignedDuration),
    /// A boolean of this id.
    Approval(&'a str),
    /// A value of this id, which becomes the output of this name.
    Value {
        id: &'a str,
        kind: &'a LiteralType,
        output: &'a str,
    },
}

/// A condition that the resource does not have, or that makes no sense.
#[derive(Debug, thiserror::Error)]
enum NoCondition {
    #[error("gate node [{0}] has no condition")]
    Missing(String),
    #[error("gate node [{0}] sleeps for a length of time that cannot be told")]
    Duration(String),
}

impl<'a> Condition<'a> {
    fn of(node: &str, gate: Option<&'a GateSpec>) -> Result<Self, NoCondition> {
        let missing = || NoCondition::Missing(node.to_owned());
        let gate = gate.ok_or_else(missing)?;
        if let Some(approve) = &gate.approve {
            return Ok(Self::Approval(&approve.0.signal_id));
        }
        if let Some(signal) = &gate.signal {
            let kind = signal.0.r#type.as_ref().ok_or_else(missing)?;
            return Ok(Self::Value {
                id: &signal.0.signal_id,
                kind,
                output: &signal.0.output_variable_name,
            });
        }
        let sleep = gate.sleep.as_ref().ok_or_else(missing)?;
        let length = sleep.0.duration.as_ref().ok_or_else(missing)?;
        // What is negative is over at once.
        let length = Duration::try_from(*length).or_else(|error| match error {
            prost_types::DurationError::NegativeDuration(_) => Ok(Duration::ZERO),
            _ => Err(NoCondition::Duration(node.to_owned())),
        })?;
        let length = SignedDuration::try_from(length);
        length
            .map(Self::Sleep)
            .map_err(|_| NoCondition::Duration(node.to_owned()))
    }
}

pub(super) fn step(view: &NodeView<'_>, result: Option<NodeResult>, now: Timestamp) -> Step {
    let condition = match Condition::of(&view.spec.id, view.spec.gate.as_ref()) {
        Ok(condition) => condition,
        Err(error) => {
            let error = system("BadSpecificationError", error.to_string());
            return failed(view, error, Vec::new(), now);
        }
    };
    if let Some(NodeResult::Copied(_)) = result {
        let details = NodeDetails {
            outputs: Some(view.files.outputs()),
            ..NodeDetails::default()
        };
        return succeeded(view, details, Vec::new(), now);
    }
    match (condition, result) {
        _ if view.status.gate_node_status.is_none() || view.status.phase == NodePhase::Queued => {
            begin(view, now)
        }
        (Condition::Sleep(length), _) => sleep(view, length, now),
        (Condition::Approval(_), Some(NodeResult::Signal(Some(value)))) => {
            approval(view, &value, now)
        }
        (Condition::Value { output, .. }, Some(NodeResult::Signal(Some(value)))) => {
            Step::Do(NodeEffect::WriteOutputs {
                outputs: LiteralMap {
                    literals: [(output.to_owned(), *value)].into(),
                },
                to: view.files.outputs(),
            })
        }
        (_, Some(NodeResult::Signal(None))) => Step::Wait(Some(next_look(view, now))),
        (Condition::Approval(id), _) => Step::Do(NodeEffect::GetSignal {
            id: id.to_owned(),
            kind: boolean(),
        }),
        (Condition::Value { id, kind, .. }, _) => Step::Do(NodeEffect::GetSignal {
            id: id.to_owned(),
            kind: Box::new(kind.clone()),
        }),
    }
}

fn begin(view: &NodeView<'_>, now: Timestamp) -> Step {
    let mut status = running(view.status, now);
    status.gate_node_status = Some(GateNodeStatus {
        phase: GatePhase::Executing,
    });
    Change::new(running_event(view, now), status).step()
}

fn sleep(view: &NodeView<'_>, length: SignedDuration, now: Timestamp) -> Step {
    let since = view.status.last_attempt_started_at;
    let since = since.map_or(now, flyte_crd::Time::timestamp);
    let until = since
        .checked_add(length)
        .and_then(|until| until.checked_add(RESOLUTION))
        .unwrap_or(Timestamp::MAX);
    if until <= now || length.is_zero() {
        return succeeded(view, NodeDetails::default(), Vec::new(), now);
    }
    Step::Wait(Some(until))
}

/// What a person said.
fn approval(view: &NodeView<'_>, value: &Literal, now: Timestamp) -> Step {
    let said = match &value.value {
        Some(literal::Value::Scalar(scalar)) => match &scalar.value {
            Some(scalar::Value::Primitive(primitive)) => match primitive.value {
                Some(primitive::Value::Boolean(said)) => Some(said),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    };
    match said {
        Some(true) => Step::Do(NodeEffect::CopyOutputs {
            from: Source::File(view.files.inputs()),
            to: view.files.outputs(),
        }),
        Some(false) => {
            let message = "received a reject signal to disapprove the node input values";
            let error = user("ReceivedRejectSignal", message);
            failed(view, error, Vec::new(), now)
        }
        None => {
            let message = format!(
                "the signal that gate node [{}] waits for is set to a value that is not a boolean",
                view.spec.id
            );
            let error = error(ErrorKind::Unknown, "RuntimeExecutionError", message);
            failed(view, error, Vec::new(), now)
        }
    }
}

/// When the signal is asked for again.
fn next_look(view: &NodeView<'_>, now: Timestamp) -> Timestamp {
    let since = view.status.last_attempt_started_at;
    let elapsed = since.map_or(SignedDuration::ZERO, |since| {
        now.duration_since(since.timestamp())
    });
    let wait = (elapsed / PART).clamp(SOONEST, LATEST);
    now.checked_add(wait).unwrap_or(Timestamp::MAX)
}

fn boolean() -> Box<LiteralType> {
    Box::new(LiteralType {
        r#type: Some(literal_type::Type::Simple(SimpleType::Boolean.into())),
        ..LiteralType::default()
    })
}
