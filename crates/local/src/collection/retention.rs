//! How long files of executions that ended are kept: the decision, as a function of what is known.

use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};

/// The longest time that a retention may name; beyond it is a mistake.
const LONGEST: SignedDuration = SignedDuration::from_hours(100 * 366 * 24);

/// How long something is kept after its execution ended. None: for ever.
pub type Age = Option<SignedDuration>;

/// How long files of executions that ended are kept, by what they are to the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Files that only the running engine reads: task templates, specs of dynamic tasks, node statuses,
    /// and second copies of the inputs and outputs of workflows.
    pub intermediate: Age,
    /// Files that the API shows: inputs, outputs, errors and decks of nodes, and raw outputs.
    pub shown: Age,
}

impl Default for Retention {
    /// A day for what nobody can see, as the engine keeps resources of executions that ended for 23 hours; all that the
    /// API shows stays.
    fn default() -> Self {
        Self {
            intermediate: Some(SignedDuration::from_hours(24)),
            shown: None,
        }
    }
}

impl Retention {
    /// Nothing is ever removed.
    #[must_use]
    pub const fn everything() -> Self {
        Self {
            intermediate: None,
            shown: None,
        }
    }

    /// Reads a time such as `90m`, `24h` or `30d`; none for `never`.
    ///
    /// # Errors
    /// The text is neither, or less than a minute or more than a hundred years.
    pub fn parse(text: &str) -> Result<Age, RetentionError> {
        if text == "never" {
            return Ok(None);
        }
        let invalid = || RetentionError(text.to_owned());
        let (number, unit) = text
            .split_at_checked(text.len().saturating_sub(1))
            .ok_or_else(invalid)?;
        let seconds = match unit {
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return Err(invalid()),
        };
        let number = u32::from_str(number).map_err(|_| invalid())?;
        let kept = SignedDuration::from_secs(i64::from(number) * seconds);
        if kept < SignedDuration::from_mins(1) || kept > LONGEST {
            return Err(invalid());
        }
        Ok(Some(kept))
    }
}

/// A text that is no retention.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no time that files can be kept: a number and m, h or d, such as 24h or 30d, or never"
)]
pub struct RetentionError(String);

/// What a file in the folder of an execution is to the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// The running engine alone reads it.
    Intermediate,
    /// The API shows it, or it is not known not to.
    Shown,
}

impl Content {
    /// What the file at `path` is, below the folder of its execution (spec 04 §9.2). Admin keeps its own copy of the
    /// closure of a dynamic workflow (spec 01 §15.1). The outputs of a start node are the inputs of its workflow, and the
    /// inputs of an end node its outputs: both are shown from another file.
    pub(super) fn of(path: &str) -> Self {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let is_of_node = |node: &str| folder.split('/').any(|segment| segment == node);
        let is_intermediate = match name {
            "task.pb" | "futures.pb" | "futures_compiled.pb" | "dynamic_compiled.pb" => true,
            "outputs.pb" => is_of_node("start-node"),
            "inputs.pb" => is_of_node("end-node"),
            _ => folder == "node-status",
        };
        if is_intermediate {
            Self::Intermediate
        } else {
            Self::Shown
        }
    }
}

/// What an execution does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activity {
    /// It has not ended, or may not have.
    Running,
    /// It has ended, and the last of its files was written then.
    Idle { since: Timestamp },
}

/// Whether a file goes.
pub(super) fn is_expired(
    content: Content,
    activity: Activity,
    retention: &Retention,
    now: Timestamp,
) -> bool {
    let kept = match (content, retention.intermediate, retention.shown) {
        // What a node had in between never outlives what it gave.
        (Content::Intermediate, Some(intermediate), Some(shown)) => Some(intermediate.min(shown)),
        (Content::Intermediate, intermediate, shown) => intermediate.or(shown),
        (Content::Shown, _, shown) => shown,
    };
    match (activity, kept) {
        (Activity::Running, _) | (_, None) => false,
        (Activity::Idle { since }, Some(kept)) => now.duration_since(since) > kept,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_when_its_execution_has_ended_and_its_time_is_up() {
        let hours = SignedDuration::from_hours;
        let now = Timestamp::from_second(10_000_000).unwrap();
        let idle = |ago: i64| Activity::Idle {
            since: now - hours(ago),
        };
        let both = Retention {
            intermediate: Some(hours(24)),
            shown: Some(hours(72)),
        };
        let shown_only = Retention {
            intermediate: None,
            ..both
        };
        let (ours, shown) = (Content::Intermediate, Content::Shown);
        for (content, activity, retention, goes) in [
            (ours, idle(25), Retention::default(), true),
            (ours, idle(24), Retention::default(), false),
            (ours, Activity::Running, Retention::default(), false),
            (ours, idle(-5), Retention::default(), false),
            (ours, idle(2_000), Retention::everything(), false),
            (shown, idle(2_000), Retention::default(), false),
            (shown, idle(71), both, false),
            (shown, idle(73), both, true),
            (ours, idle(73), both, true),
            (shown, Activity::Running, both, false),
            (shown, idle(2_000), Retention::everything(), false),
            (ours, idle(73), shown_only, true),
            (ours, idle(71), shown_only, false),
        ] {
            assert_eq!(
                is_expired(content, activity, &retention, now),
                goes,
                "{content:?} {activity:?} {retention:?}"
            );
        }
    }

    #[test]
    fn only_what_the_engine_alone_reads_is_intermediate() {
        for (path, expected) in [
            ("n0/data/task.pb", Content::Intermediate),
            ("n0/data/0/futures.pb", Content::Intermediate),
            ("n0/data/0/futures_compiled.pb", Content::Intermediate),
            ("n0/data/0/dynamic_compiled.pb", Content::Intermediate),
            ("node-status/1-00ff.json", Content::Intermediate),
            ("start-node/data/0/outputs.pb", Content::Intermediate),
            ("n0/data/0/start-node/0/outputs.pb", Content::Intermediate),
            ("end-node/data/inputs.pb", Content::Intermediate),
            ("n0/data/0/end-node/inputs.pb", Content::Intermediate),
            ("n0/data/0/end-node/0/outputs.pb", Content::Shown),
            ("start-node-2/data/0/outputs.pb", Content::Shown),
            ("n0/data/inputs.pb", Content::Shown),
            ("n0/data/0/outputs.pb", Content::Shown),
            ("n0/data/0/error.pb", Content::Shown),
            ("n0/data/0/deck.html", Content::Shown),
            ("end-node/data/0/outputs.pb", Content::Shown),
            ("n0/data/0/node-status/x", Content::Shown),
            ("", Content::Shown),
        ] {
            assert_eq!(Content::of(path), expected, "{path:?}");
        }
    }

    #[test]
    fn times_are_read_with_their_unit() {
        let hours = SignedDuration::from_hours;
        for (text, expected) in [
            ("24h", Some(Some(hours(24)))),
            ("30d", Some(Some(hours(720)))),
            ("90m", Some(Some(SignedDuration::from_mins(90)))),
            ("never", Some(None)),
            ("0h", None),
            ("", None),
            ("h", None),
            ("24", None),
            ("-1h", None),
            ("1é", None),
            ("4294967295d", None),
        ] {
            assert_eq!(Retention::parse(text).ok(), expected, "{text:?}");
        }
    }
}
