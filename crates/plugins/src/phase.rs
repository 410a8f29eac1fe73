//! What a plugin says about an attempt (spec 05 §2.1).

use flyte_crd::status::TaskPhase;
use flyte_idl::core::{ExecutionError, TaskLog, execution_error::ErrorKind};
use jiff::Timestamp;

/// Phase of an attempt and what is known with it.
#[derive(Clone, Debug, PartialEq)]
pub struct PhaseInfo {
    /// The phase that the observed object means for the task.
    pub phase: TaskPhase,
    /// Version within the phase; failures are always 0.
    pub version: u32,
    /// Why, for people.
    pub reason: String,
    /// Code, text and kind of the failure; none in other phases.
    pub error: Option<ExecutionError>,
    /// The object goes on although the attempt has failed, and must be deleted.
    pub clean_up: bool,
    /// Logs and times.
    pub info: TaskInfo,
}

/// Logs and times of an attempt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskInfo {
    /// Links to logs.
    pub logs: Vec<TaskLog>,
    /// When it happened; the handler's time when none.
    pub occurred_at: Option<Timestamp>,
    /// When it was reported.
    pub reported_at: Option<Timestamp>,
    /// What else is to be said about it.
    pub additional_reasons: Vec<AdditionalReason>,
}

/// What the cluster said about the object of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct AdditionalReason {
    /// A sentence about what happened, shown in the console.
    pub reason: String,
    /// When it was said.
    pub occurred_at: Timestamp,
}

impl PhaseInfo {
    /// A phase that is no failure.
    pub fn new(phase: TaskPhase, version: u32, reason: impl Into<String>, info: TaskInfo) -> Self {
        Self {
            phase,
            version,
            reason: reason.into(),
            error: None,
            clean_up: false,
            info,
        }
    }

    /// An attempt that failed.
    pub fn failure(
        phase: TaskPhase,
        kind: ErrorKind,
        code: &str,
        message: impl Into<String>,
    ) -> Self {
        let error = ExecutionError {
            code: code.to_owned(),
            message: message.into(),
            kind: kind.into(),
            ..ExecutionError::default()
        };
        Self {
            phase,
            version: 0,
            reason: String::new(),
            error: Some(error),
            clean_up: false,
            info: TaskInfo::default(),
        }
    }

    /// Another attempt may succeed.
    pub fn retryable(kind: ErrorKind, code: &str, message: impl Into<String>) -> Self {
        Self::failure(TaskPhase::RetryableFailure, kind, code, message)
    }

    /// No attempt can succeed.
    pub fn permanent(kind: ErrorKind, code: &str, message: impl Into<String>) -> Self {
        Self::failure(TaskPhase::PermanentFailure, kind, code, message)
    }

    /// With these logs and times.
    #[must_use]
    pub fn with(mut self, info: TaskInfo) -> Self {
        self.info = info;
        self
    }

    /// The object must be deleted although the attempt has failed.
    #[must_use]
    pub fn cleaned_up(mut self) -> Self {
        self.clean_up = true;
        self
    }
}
