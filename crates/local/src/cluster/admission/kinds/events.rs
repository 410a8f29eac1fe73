//! Events. Those of `events.k8s.io` are kept as those of the core group, but must say more.

use serde_json::Value;

use crate::cluster::admission::names::{QUALIFIED_NAME_RULE, is_qualified_name};
use crate::cluster::api_status::StatusCause;
use crate::cluster::causes::Causes;
use crate::cluster::object::text_at;
use crate::cluster::resource::Resource;

/// Adds a cause for each rule that an event breaks. It is in the form of the core group.
pub(super) fn validate(resource: &Resource, event: &Value, causes: &mut Causes) {
    if resource.is_modern_event() {
        return modern(event, causes);
    }
    let about = text_at(event, "/involvedObject/namespace");
    if !about.is_empty() && about != text_at(event, "/metadata/namespace") {
        let rule = "does not match event.namespace";
        causes.push(StatusCause::value("involvedObject.namespace", about, rule));
    }
}

fn modern(event: &Value, causes: &mut Causes) {
    let reporter = text_at(event, "/reportingComponent");
    for (field, given) in [
        ("eventTime", text_at(event, "/eventTime")),
        ("reportingController", reporter),
        ("reportingInstance", text_at(event, "/reportingInstance")),
        ("action", text_at(event, "/action")),
        ("reason", text_at(event, "/reason")),
    ] {
        if given.is_empty() {
            causes.push(StatusCause::required(field));
        }
    }
    if !reporter.is_empty() && !is_qualified_name(reporter) {
        let rule = QUALIFIED_NAME_RULE;
        causes.push(StatusCause::value("reportingController", reporter, rule));
    }
    let kind = text_at(event, "/type");
    if !matches!(kind, "Normal" | "Warning") {
        let rule = format!("has invalid value: {kind}");
        causes.push(StatusCause::value("type", "", &rule));
    }
    if let Some(series) = event.get("series").filter(|series| !series.is_null()) {
        let count = series.get("count").and_then(Value::as_i64).unwrap_or(0);
        if count < 2 {
            causes.push(StatusCause::value(
                "series.count",
                "",
                "should be at least 2",
            ));
        }
        if text_at(series, "/lastObservedTime").is_empty() {
            causes.push(StatusCause::required("series.lastObservedTime"));
        }
    }
}

/// Adds a cause for each change of what an event said: only its series goes on.
pub(super) fn guard(current: &Value, next: &Value, causes: &mut Causes) {
    // Under the names that they are kept by, as Kubernetes says them, but for the reporter.
    for member in [
        "involvedObject",
        "reason",
        "message",
        "type",
        "eventTime",
        "action",
        "related",
        "reportingComponent",
        "reportingInstance",
    ] {
        if current.get(member) != next.get(member) {
            let field = match member {
                "reportingComponent" => "reportingController",
                member => member,
            };
            let text = text_at(next, &format!("/{member}"));
            causes.push(StatusCause::value(field, text, "field is immutable"));
        }
    }
}
