//! Objects as `metav1.Table`, the form that kubectl prints.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cluster::api_status::ApiStatus;
use crate::cluster::object::{Stored, text_at};
use crate::cluster::resource::Resource;

/// A column: name, type, and 0 if it is always shown.
type Column = (&'static str, &'static str, u8);

const NAME: Column = ("Name", "string", 0);
const AGE: Column = ("Age", "string", 0);

/// The table of some objects; `metadata` is that of the list.
pub(crate) fn table(
    resource: &Resource,
    objects: &[&Stored],
    metadata: &Value,
    now: Timestamp,
) -> Result<Value, ApiStatus> {
    let columns = columns(resource);
    let mut rows = Vec::with_capacity(objects.len());
    for object in objects {
        let value = object.value()?;
        let metadata: Value = crate::cluster::object::parse(&object.metadata_only())?;
        rows.push(json!({ "cells": cells(resource, &value, now), "object": metadata }));
    }
    Ok(json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": columns, "rows": rows,
    }))
}

fn columns(resource: &Resource) -> Vec<Value> {
    if resource.custom && !resource.columns.is_empty() {
        let own = resource.columns.iter().map(|column| {
            json!({
                "name": column.get("name"), "type": column.get("type"), "format": column.get("format").unwrap_or(&"".into()),
                "description": column.get("description").unwrap_or(&"".into()),
                "priority": column.get("priority").unwrap_or(&0.into()),
            })
        });
        return std::iter::once(column(NAME)).chain(own).collect();
    }
    built_in(resource).iter().copied().map(column).collect()
}

fn column((name, kind, priority): Column) -> Value {
    let format = if name == "Name" { "name" } else { "" };
    json!({ "name": name, "type": kind, "format": format, "description": "", "priority": priority })
}

fn built_in(resource: &Resource) -> &'static [Column] {
    match &*resource.id {
        "pods" => &[
            NAME,
            ("Ready", "string", 0),
            ("Status", "string", 0),
            ("Restarts", "string", 0),
            AGE,
            ("IP", "string", 1),
            ("Node", "string", 1),
            ("Nominated Node", "string", 1),
            ("Readiness Gates", "string", 1),
        ],
        "namespaces" => &[NAME, ("Status", "string", 0), AGE],
        "nodes" => &[
            NAME,
            ("Status", "string", 0),
            ("Roles", "string", 0),
            AGE,
            ("Version", "string", 0),
        ],
        "configmaps" => &[NAME, ("Data", "string", 0), AGE],
        "secrets" => &[NAME, ("Type", "string", 0), ("Data", "string", 0), AGE],
        "events" => &[
            ("Last Seen", "string", 0),
            ("Type", "string", 0),
            ("Reason", "string", 0),
            ("Object", "string", 0),
            ("Subobject", "string", 1),
            ("Source", "string", 1),
            ("Message", "string", 0),
            ("First Seen", "string", 1),
            ("Count", "string", 1),
            ("Name", "string", 1),
        ],
        "customresourcedefinitions.apiextensions.k8s.io" => &[NAME, ("Created At", "date", 0)],
        _ => &[NAME, AGE],
    }
}

fn cells(resource: &Resource, value: &Value, now: Timestamp) -> Vec<Value> {
    let name = || Value::from(text_at(value, "/metadata/name"));
    let age = || Value::from(age_of(text_at(value, "/metadata/creationTimestamp"), now));
    let members = |pointer: &str| {
        value
            .pointer(pointer)
            .and_then(Value::as_object)
            .map_or(0, serde_json::Map::len)
    };
    if resource.custom && !resource.columns.is_empty() {
        let own = resource.columns.iter().map(|column| {
            let found = text_at(column, "/jsonPath");
            let cell = simple_path(value, found).cloned().unwrap_or_default();
            match (text_at(column, "/type"), cell.as_str()) {
                ("date", Some(time)) => age_of(time, now).into(),
                _ => cell,
            }
        });
        return std::iter::once(name()).chain(own).collect();
    }
    match &*resource.id {
        "pods" => pod_cells(value, now),
        "namespaces" => vec![name(), text_at(value, "/status/phase").into(), age()],
        "nodes" => {
            let conditions = value
                .pointer("/status/conditions")
                .and_then(Value::as_array);
            let ready = conditions.into_iter().flatten().any(|condition| {
                text_at(condition, "/type") == "Ready" && text_at(condition, "/status") == "True"
            });
            let version = text_at(value, "/status/nodeInfo/kubeletVersion").into();
            let cordoned = value.pointer("/spec/unschedulable") == Some(&true.into());
            let ready = if ready { "Ready" } else { "NotReady" };
            let cordoned = if cordoned { ",SchedulingDisabled" } else { "" };
            vec![
                name(),
                format!("{ready}{cordoned}").into(),
                "<none>".into(),
                age(),
                version,
            ]
        }
        "configmaps" => vec![
            name(),
            (members("/data") + members("/binaryData")).into(),
            age(),
        ],
        "secrets" => vec![
            name(),
            text_at(value, "/type").into(),
            members("/data").into(),
            age(),
        ],
        "events" => event_cells(value, now),
        "customresourcedefinitions.apiextensions.k8s.io" => {
            vec![name(), text_at(value, "/metadata/creationTimestamp").into()]
        }
        _ => vec![name(), age()],
    }
}

fn event_cells(event: &Value, now: Timestamp) -> Vec<Value> {
    let text = |pointer| text_at(event, pointer);
    let first_text = |pointers: &[&'static str]| {
        let mut texts = pointers.iter().map(|pointer| text(pointer));
        texts.find(|text| !text.is_empty()).unwrap_or_default()
    };
    let first = first_text(&["/firstTimestamp", "/eventTime"]);
    let last = first_text(&[
        "/series/lastObservedTime",
        "/lastTimestamp",
        "/firstTimestamp",
        "/eventTime",
    ]);
    let count = ["/series/count", "/count"]
        .into_iter()
        .filter_map(|pointer| event.pointer(pointer).and_then(Value::as_i64))
        .find(|count| *count > 0);
    let about = format!(
        "{}/{}",
        text("/involvedObject/kind").to_lowercase(),
        text("/involvedObject/name")
    );
    let component = first_text(&["/source/component", "/reportingComponent"]);
    let source = match first_text(&["/source/host", "/reportingInstance"]) {
        "" => component.to_owned(),
        instance => format!("{component}, {instance}"),
    };
    vec![
        age_of(last, now).into(),
        text("/type").into(),
        text("/reason").into(),
        about.into(),
        text("/involvedObject/fieldPath").into(),
        source.into(),
        text("/message").trim().into(),
        age_of(first, now).into(),
        count.unwrap_or(1).to_string().into(),
        text("/metadata/name").into(),
    ]
}

/// A JSON path of plain members, `.spec.a.b`; other paths show nothing.
fn simple_path<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.')
        .filter(|name| !name.is_empty())
        .try_fold(value, |value, name| value.get(name))
}

fn pod_cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let list = |pointer: &str| {
        pod.pointer(pointer)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let statuses = list("/status/containerStatuses");
    let ready = statuses
        .iter()
        .filter(|status| status.get("ready").and_then(Value::as_bool) == Some(true))
        .count();
    let restarts: i64 = statuses
        .iter()
        .filter_map(|status| status.get("restartCount").and_then(Value::as_i64))
        .sum();
    let mut status = match text_at(pod, "/status/reason") {
        "" => text_at(pod, "/status/phase").to_owned(),
        reason => reason.to_owned(),
    };
    let gated = list("/status/conditions").iter().any(|condition| {
        let is = |member, text| text_at(condition, member) == text;
        is("/type", "PodScheduled") && is("/reason", "SchedulingGated")
    });
    if gated {
        "SchedulingGated".clone_into(&mut status);
    }
    for container in statuses.iter().rev() {
        let waiting = text_at(container, "/state/waiting/reason");
        let ended = text_at(container, "/state/terminated/reason");
        if !waiting.is_empty() {
            waiting.clone_into(&mut status);
        } else if !ended.is_empty() {
            ended.clone_into(&mut status);
        }
    }
    for (index, container) in list("/status/initContainerStatuses").iter().enumerate() {
        match container
            .pointer("/state/terminated/exitCode")
            .and_then(Value::as_i64)
        {
            Some(0) => {}
            Some(code) => {
                status = format!("Init:ExitCode:{code}");
                break;
            }
            None if text_at(pod, "/status/phase") == "Pending" => {
                status = format!("Init:{index}/{}", list("/spec/initContainers").len());
                break;
            }
            None => {}
        }
    }
    if pod.pointer("/metadata/deletionTimestamp").is_some() {
        "Terminating".clone_into(&mut status);
    }
    let or_none = |text: &str| Value::from(if text.is_empty() { "<none>" } else { text });
    vec![
        text_at(pod, "/metadata/name").into(),
        format!("{ready}/{}", list("/spec/containers").len()).into(),
        status.into(),
        restarts.to_string().into(),
        age_of(text_at(pod, "/metadata/creationTimestamp"), now).into(),
        or_none(text_at(pod, "/status/podIP")),
        or_none(text_at(pod, "/spec/nodeName")),
        "<none>".into(),
        "<none>".into(),
    ]
}

/// How long ago, in the two largest units as kubectl writes it: `45s`, `3m10s`, `2h`, `5d`.
fn age_of(time: &str, now: Timestamp) -> String {
    let Ok(then) = time.parse::<Timestamp>() else {
        return "<unknown>".to_owned();
    };
    let seconds = (now.as_second() - then.as_second()).max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 if seconds % 60 != 0 => format!("{minutes}m{}s", seconds % 60),
        120..10_800 => format!("{minutes}m"),
        10_800..28_800 if minutes % 60 != 0 => format!("{hours}h{}m", minutes % 60),
        10_800..172_800 => format!("{hours}h"),
        172_800..691_200 if hours % 24 != 0 => format!("{days}d{}h", hours % 24),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_as_in_kubectl() {
        let now: Timestamp = "2026-01-10T00:00:00Z".parse().unwrap();
        for (then, expected) in [
            ("2026-01-10T00:00:05Z", "0s"),
            ("2026-01-09T23:58:01Z", "119s"),
            ("2026-01-09T23:55:30Z", "4m30s"),
            ("2026-01-09T23:00:00Z", "60m"),
            ("2026-01-09T19:30:00Z", "4h30m"),
            ("2026-01-09T12:00:00Z", "12h"),
            ("2026-01-01T00:00:00Z", "9d"),
            ("yesterday", "<unknown>"),
        ] {
            assert_eq!(age_of(then, now), expected, "{then}");
        }
    }
}
