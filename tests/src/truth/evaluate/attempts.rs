//! The attempts of a task: which one decides, when, and how (spec 04 §6.3, §6.4).

use std::collections::BTreeMap;

use super::{How, Seconds};
use crate::truth::{
    compute::End,
    program::{Node, Task},
    values::Value,
};

/// The attempt that decides.
pub(super) struct Deciding {
    pub(super) attempt: u32,
    pub(super) ended: Seconds,
    pub(super) how: How,
}

/// What becomes of a task that begins at this time.
pub(super) fn deciding(
    task: &Task,
    node: &Node,
    inputs: &BTreeMap<String, Value>,
    began: Seconds,
) -> Deciding {
    let retries = if node.retries == 0 {
        task.retries
    } else {
        node.retries
    };
    let given_up = node.timeout.map(|timeout| began + 2 * timeout);
    let mut start = began;
    let mut attempt = 0;
    loop {
        let takes = task.behaviour.seconds;
        let too_long = node.timeout.is_some_and(|timeout| timeout < takes);
        let ended = start + node.timeout.map_or(takes, |timeout| takes.min(timeout));
        if let Some(given_up) = given_up
            && given_up <= ended
        {
            return Deciding {
                attempt,
                ended: given_up,
                how: How::TimedOut,
            };
        }
        let failure = if too_long {
            Some("TimeoutExpired".to_owned())
        } else {
            failure(task, attempt)
        };
        let how = match failure {
            None if task.behaviour.end == End::Error => {
                let code = format!("USER:Error{}", task.behaviour.salt);
                How::Failed([code].into())
            }
            None => How::Succeeded(Some(task.behaviour.outputs(inputs))),
            Some(_) if attempt < retries => {
                attempt += 1;
                start = ended;
                continue;
            }
            Some(code) => How::Failed([format!("RetriesExhausted|{code}")].into()),
        };
        return Deciding {
            attempt,
            ended,
            how,
        };
    }
}

/// The code of a failure that may be tried again.
fn failure(task: &Task, attempt: u32) -> Option<String> {
    match task.behaviour.end {
        End::Crashes(times) if attempt < times => Some("Evicted".to_owned()),
        End::Recoverable(times) if attempt < times => {
            Some(format!("USER:Recoverable{}", task.behaviour.salt))
        }
        End::Well | End::Crashes(_) | End::Recoverable(_) | End::Error => None,
    }
}
