//! Binding: a pod is put on a node.

use axum::body::Body;
use flyte_idl::text::quoted;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::cluster::admission::is_gated;
use crate::cluster::api::{Call, json_answer};
use crate::cluster::api_status::ApiStatus;
use crate::cluster::object::text_at;
use crate::cluster::request::Target;
use crate::cluster::write::Try;

impl Cluster {
    /// Puts a pod on a node, once (`pods/binding`).
    pub(crate) async fn bind(
        &self,
        target: &Target,
        call: &Call,
    ) -> Result<Response<Body>, ApiStatus> {
        let binding: Value = serde_json::from_slice(&call.body).map_err(|error| {
            ApiStatus::bad_request(format!("the binding is unreadable: {error}"))
        })?;
        let node = text_at(&binding, "/target/name");
        if node.is_empty() {
            return Err(ApiStatus::bad_request("target.name: Required value"));
        }
        let key = target.key()?;
        if text_at(&binding, "/metadata/name") != key.1 {
            return Err(ApiStatus::bad_request(
                "name in URL does not match name in Binding object",
            ));
        }
        let (now, dry_run) = (self.now(), call.query.dry_run()?);
        let resource = &target.resource;
        loop {
            let found = self.model().get(&resource.id, &key).cloned();
            let current = found.ok_or_else(|| target.not_found(&key.1))?;
            let mut next = current.value()?;
            let node_before = text_at(&next, "/spec/nodeName");
            if current.meta.deletion_timestamp.is_some() {
                let why = format!(
                    "pod {} is being deleted, cannot be assigned to a host",
                    key.1
                );
                return Err(ApiStatus::conflict("", "pods/binding", &key.1, &why));
            }
            if !node_before.is_empty() {
                let why = format!(
                    "pod {} is already assigned to node {}",
                    key.1,
                    quoted(node_before)
                );
                return Err(ApiStatus::conflict("", "pods/binding", &key.1, &why));
            }
            if next.get("spec").is_some_and(is_gated) {
                let why = format!("pod {} has non-empty .spec.schedulingGates", key.1);
                return Err(ApiStatus::conflict("", "pods/binding", &key.1, &why));
            }
            let bound = || {
                let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 });
                json_answer(StatusCode::CREATED, status.to_string())
            };
            if dry_run {
                return Ok(bound());
            }
            if let Some(spec) = next.get_mut("spec").and_then(Value::as_object_mut) {
                spec.insert("nodeName".to_owned(), node.into());
            }
            set_condition(
                &mut next,
                &json!({ "type": "PodScheduled", "status": "True", "lastTransitionTime": now }),
            );
            if let Try::Done(_) = self.replace(resource, &current, next, &now).await? {
                return Ok(bound());
            }
        }
    }
}

/// Adds or replaces a condition of the object's status.
fn set_condition(object: &mut Value, condition: &Value) {
    let Some(members) = object.as_object_mut() else {
        return;
    };
    let status = members.entry("status").or_insert_with(|| json!({}));
    let Some(status) = status.as_object_mut() else {
        return;
    };
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    if let Some(conditions) = conditions.as_array_mut() {
        conditions.retain(|found| found.get("type") != condition.get("type"));
        conditions.push(condition.clone());
    }
}
