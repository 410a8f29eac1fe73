//! Whether what happened is what must happen.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    evaluate::{Codes, Expected, How, Record},
    values::{self, Value},
};
use crate::simulation::Run;

/// Where the simulation keeps the files of its workflow.
const ROOT: &str = "mem://bucket/metadata/propeller/project-development-run/";

/// All that is not as it must be, one a line; empty when everything is.
pub fn compare(expected: &Expected, run: &Run) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut check = |fits: bool, what: String| {
        if !fits {
            wrong.push(what);
        }
    };
    let (phase, code) = run.records.workflow();
    match &expected.end {
        Ok(outputs) => {
            check(
                phase == "SUCCEEDED" && code.is_empty(),
                format!("the workflow is {phase} {code}, not SUCCEEDED"),
            );
            let found = run.records.output_uri();
            let found = found.map(|uri| read(run, &uri)).unwrap_or_default();
            let found = found.unwrap_or_default();
            check(
                found == *outputs,
                format!("the workflow's outputs are {found:?}, not {outputs:?}"),
            );
        }
        Err(codes) => check(
            phase == "FAILED" && codes.contains(&code),
            format!("the workflow is {phase} {code}, not FAILED {codes:?}"),
        ),
    }
    let nodes = run.records.nodes();
    let (errors, uris) = (run.records.errors(), run.records.output_uris());
    for (id, phase) in &nodes {
        check(
            expected.nodes.contains_key(id),
            format!("{id} is {phase}, but nothing may be heard of it"),
        );
    }
    for (id, record) in &expected.nodes {
        let phase = nodes.get(id).map_or("ABSENT", String::as_str);
        let allowed = allowed(record, expected.close);
        check(
            allowed.contains(phase),
            format!("{id} is {phase}, not {allowed:?}: {record:?}"),
        );
        if let (How::Failed(codes), "FAILED") = (&record.how, phase) {
            check_error(id, codes, errors.get(id), &mut check);
        }
        if let (How::Succeeded(outputs), "SUCCEEDED") = (&record.how, phase) {
            let folder = format!("{ROOT}{}/outputs.pb", record.folder);
            if let Some(outputs) = outputs {
                let found = read(run, &folder).unwrap_or_default();
                check(
                    found == *outputs,
                    format!("{id} wrote {found:?} to {folder}, not {outputs:?}"),
                );
            }
            let said = uris.get(id).filter(|uri| !uri.is_empty());
            check(
                said.is_none_or(|said| *said == folder),
                format!("{id} says that it wrote to {said:?}, not to {folder}"),
            );
        }
    }
    for violation in run.records.violations() {
        check(false, violation.clone());
    }
    for name in run.doubles() {
        check(false, format!("{name} ran twice"));
    }
    for name in &run.left {
        check(false, format!("{name} still runs"));
    }
    for id in run.records.open() {
        check(false, format!("{id} is still open"));
    }
    wrong
}

fn check_error(
    id: &str,
    codes: &Codes,
    said: Option<&String>,
    check: &mut impl FnMut(bool, String),
) {
    check(
        said.is_some_and(|said| codes.contains(said)),
        format!("{id} failed with {said:?}, not {codes:?}"),
    );
}

fn read(run: &Run, uri: &str) -> Option<BTreeMap<String, Value>> {
    let key = uri.strip_prefix("mem://bucket/")?;
    run.literals.get(key).map(values::of_literals)
}

/// The phases that admin may know of a node at the end.
fn allowed(record: &Record, close: u64) -> BTreeSet<&'static str> {
    let own = match record.how {
        How::Succeeded(_) => "SUCCEEDED",
        How::Failed(_) => "FAILED",
        How::TimedOut => "TIMED_OUT",
        How::Skipped => "SKIPPED",
        How::Unfinished => "ABORTED",
    };
    let Some(cut) = record.cut else {
        return [own].into();
    };
    let earliest = cut.saturating_sub(close);
    let latest = cut.saturating_add(close);
    let mut allowed = BTreeSet::new();
    let ended = record.ended.unwrap_or(u64::MAX);
    if record.began >= earliest {
        allowed.insert("ABSENT");
    }
    if record.began <= latest && ended <= latest {
        allowed.insert(own);
    }
    if record.began <= latest && ended >= earliest {
        allowed.insert("ABORTED");
    }
    allowed
}
