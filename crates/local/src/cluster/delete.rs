//! Delete, of one object and of a collection.

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::cluster::api::{Call, json_answer};
use crate::cluster::api_status::{ApiStatus, StatusCause};
use crate::cluster::causes::Causes;
use crate::cluster::model::{DeleteOrder, Deleted, Propagation};
use crate::cluster::object::{Stored, text_at};
use crate::cluster::protobuf;
use crate::cluster::request::{Form, Target};
use crate::cluster::resource::{NAMESPACES, Resource};

impl Cluster {
    pub(crate) async fn delete(
        &self,
        target: &Target,
        call: &Call,
    ) -> Result<Response<Body>, ApiStatus> {
        let options = DeleteOptions::read(call)?;
        let form = call.form()?;
        let key = target.key()?;
        let resource = &target.resource;
        let now = self.now();
        let deleted = self
            .change(|model| {
                let current = model
                    .get(&resource.id, &key)
                    .cloned()
                    .ok_or_else(|| target.not_found(&key.1))?;
                options.check(resource, &current)?;
                if options.dry_run {
                    return Ok(Some(Deleted::Gone(current)));
                }
                model.delete(&current.reference(), options.order, &now)
            })
            .await?;
        match deleted.ok_or_else(|| target.not_found(&key.1))? {
            Deleted::Gone(last) if !matches!(&*resource.id, "pods" | "namespaces") => {
                let mut details =
                    json!({ "name": last.name(), "kind": resource.plural, "uid": last.meta.uid });
                if let (false, Some(map)) = (resource.group.is_empty(), details.as_object_mut()) {
                    map.insert("group".to_owned(), resource.group.clone().into());
                }
                let status = json!({
                    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
                });
                Ok(json_answer(StatusCode::OK, status.to_string()))
            }
            Deleted::Gone(object) | Deleted::Pending(object) => Ok(json_answer(
                StatusCode::OK,
                self.render(&object, resource, form)?,
            )),
        }
    }

    pub(crate) async fn delete_collection(
        &self,
        target: &Target,
        call: &Call,
    ) -> Result<Response<Body>, ApiStatus> {
        let resource = &target.resource;
        if resource.namespaced() && target.namespace.is_empty() {
            return Err(ApiStatus::method_not_allowed());
        }
        if &*resource.id == NAMESPACES {
            return Err(ApiStatus::method_not_allowed());
        }
        let options = DeleteOptions::read(call)?;
        let selector = Self::selector(target, call)?;
        let chosen = self.selected(target, &selector);
        let now = self.now();
        if !options.dry_run {
            self.change(|model| {
                for object in &chosen {
                    model.delete(&object.reference(), options.order, &now)?;
                }
                Ok(())
            })
            .await?;
        }
        let mut body = format!(
            r#"{{"kind":{},"apiVersion":{},"metadata":{{"resourceVersion":"{}"}},"items":["#,
            Value::from(resource.list_kind.clone()),
            Value::from(resource.api_version()),
            self.model().revision
        )
        .into_bytes();
        for (index, object) in chosen.iter().enumerate() {
            if index > 0 {
                body.push(b',');
            }
            body.extend_from_slice(&self.render(object, resource, Form::Object)?);
        }
        body.extend_from_slice(b"]}\n");
        Ok(json_answer(StatusCode::OK, body))
    }
}

/// What a delete request asks for, in its body or its query.
struct DeleteOptions {
    order: DeleteOrder,
    uid: Option<String>,
    resource_version: Option<String>,
    dry_run: bool,
}

impl DeleteOptions {
    fn read(call: &Call) -> Result<Self, ApiStatus> {
        let body = call.value("the delete options", protobuf::delete_options)?;
        let grace = match body.get("gracePeriodSeconds").and_then(Value::as_i64) {
            Some(seconds) => Some(seconds),
            None => call.query.number::<i64>("gracePeriodSeconds")?,
        };
        let policy = match text_at(&body, "/propagationPolicy") {
            "" => call.query.text("propagationPolicy"),
            given => given,
        };
        let orphan = body.get("orphanDependents").and_then(Value::as_bool);
        let mut causes = Causes::default();
        if orphan.is_some() && !policy.is_empty() {
            let rule = "orphanDependents and deletionPropagation cannot be both set";
            causes.push(StatusCause::value("propagationPolicy", policy, rule));
        }
        let propagation = match policy {
            "" if orphan == Some(true) => Propagation::Orphan,
            "" | "Background" => Propagation::Background,
            "Foreground" => Propagation::Foreground,
            "Orphan" => Propagation::Orphan,
            other => {
                let known = ["Foreground", "Background", "Orphan", "nil"];
                causes.push(StatusCause::unsupported("propagationPolicy", other, &known));
                Propagation::Background
            }
        };
        let text = |pointer| {
            body.pointer(pointer)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let dry_runs = body.get("dryRun").and_then(Value::as_array);
        let dry_runs: Vec<&str> = dry_runs
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let dry_run = !dry_runs.is_empty();
        if dry_runs.iter().any(|given| *given != "All") {
            causes.push(StatusCause::unsupported_dry_run(&dry_runs));
        }
        if !causes.is_empty() {
            return Err(ApiStatus::wrong_options("DeleteOptions", &causes));
        }
        Ok(Self {
            order: DeleteOrder { grace, propagation },
            uid: text("/preconditions/uid"),
            resource_version: text("/preconditions/resourceVersion"),
            dry_run: dry_run || call.query.dry_run()?,
        })
    }

    fn check(&self, resource: &Resource, current: &Stored) -> Result<(), ApiStatus> {
        let conflict = |what: &str, asked: &str, found: &str, likely: &str| {
            let why = format!(
                "the {what} in the precondition ({asked}) does not match the {what} in record ({found}). The object might \
                 have been {likely}"
            );
            // Here Kubernetes names the kind, where all else names the resource.
            Err(ApiStatus::conflict(
                &resource.group,
                &resource.kind,
                current.name(),
                &why,
            ))
        };
        match (&self.uid, &self.resource_version) {
            (Some(uid), _) if *uid != current.meta.uid => {
                conflict("UID", uid, &current.meta.uid, "deleted and then recreated")
            }
            (_, Some(version)) if *version != current.revision.to_string() => {
                let revision = current.revision.to_string();
                conflict("ResourceVersion", version, &revision, "modified")
            }
            _ => Ok(()),
        }
    }
}
