//! What of a pod may change once it is there: images, the deadline, tolerations that are added, gates that are taken away
//! and, before that, what it asks of its node.

use serde_json::Value;

use super::gates;
use crate::cluster::api_status::StatusCause;
use crate::cluster::causes::Causes;

const RULE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
                    `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to \
                    existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
                    previously negative)";

/// Adds a cause for each change that may not be.
pub(crate) fn guard_spec(current: &Value, next: &Value, causes: &mut Causes) {
    let none = Value::Null;
    let before = current.get("spec").unwrap_or(&none);
    let after = next.get("spec").unwrap_or(&none);
    let count =
        |spec: &Value, list: &str| spec.get(list).and_then(Value::as_array).map_or(0, Vec::len);
    for list in ["containers", "initContainers"] {
        if count(before, list) != count(after, list) {
            let rule = "pod updates may not add or remove containers";
            causes.push(StatusCause::forbidden(format!("spec.{list}"), rule));
            return;
        }
    }
    guard_deadline(before, after, causes);
    guard_tolerations(before, after, causes);
    gates::guard(before, after, causes);
    let after = gates::without_additions(before, after, causes);
    if fixed(before) != fixed(&after) {
        causes.push(StatusCause::forbidden("spec", RULE));
    }
}

/// What stays, or is guarded by a rule of its own.
fn fixed(spec: &Value) -> Value {
    let mut spec = spec.clone();
    let Some(members) = spec.as_object_mut() else {
        return spec;
    };
    for member in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        members.shift_remove(member);
    }
    const GRACE: &str = "terminationGracePeriodSeconds";
    let grace = members.get(GRACE).and_then(Value::as_i64);
    if grace.is_some_and(|seconds| seconds < 0) {
        members.insert(GRACE.to_owned(), 1.into());
    }
    for list in ["containers", "initContainers"] {
        let containers = members.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            if let Some(container) = container.as_object_mut() {
                container.shift_remove("image");
            }
        }
    }
    spec
}

fn guard_deadline(before: &Value, after: &Value, causes: &mut Causes) {
    const FIELD: &str = "spec.activeDeadlineSeconds";
    let seconds = |spec: &Value| spec.get("activeDeadlineSeconds").and_then(Value::as_i64);
    match (seconds(before), seconds(after)) {
        (Some(_), None) => causes.push(StatusCause::value(
            FIELD,
            "",
            "must not update from a positive integer to nil value",
        )),
        (Some(old), Some(new)) if new > old => causes.push(StatusCause::number(
            FIELD,
            new,
            "must be less than or equal to previous value",
        )),
        _ => {}
    }
}

fn guard_tolerations(before: &Value, after: &Value, causes: &mut Causes) {
    let tolerations = |spec: &Value| -> Vec<Value> {
        let list = spec.get("tolerations").and_then(Value::as_array);
        let mut list = list.cloned().unwrap_or_default();
        for toleration in list.iter_mut().filter_map(Value::as_object_mut) {
            toleration.shift_remove("tolerationSeconds");
        }
        list
    };
    let new = tolerations(after);
    if tolerations(before).iter().any(|old| !new.contains(old)) {
        let rule = "existing toleration can not be modified except its tolerationSeconds";
        causes.push(StatusCause::forbidden("spec.tolerations", rule));
    }
}
