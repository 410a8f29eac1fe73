//! Create, update, patch and delete. A write reads the current version, decides outside the lock, and makes its change
//! only if that version is still current; otherwise it decides again.

use std::sync::Arc;

use axum::body::Body;
use http::{Response, StatusCode};
use rand::RngExt;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::cluster::admission::{Part, admit_change, admit_new};
use crate::cluster::api::{Call, json_answer};
use crate::cluster::apply::{Apply, conflict};
use crate::cluster::events;
use crate::cluster::model::{DeleteOrder, Deleted, Model, Propagation};
use crate::cluster::object::{Stored, metadata_mut, set_metadata, text_at};
use crate::cluster::patch::{PatchKind, json_patch, merge, strategic};
use crate::cluster::refusal::Refusal;
use crate::cluster::request::Target;
use crate::cluster::resource::{EVENTS, NAMESPACES, Resource};

/// How a write of a version that may be outdated ended.
enum Try<T> {
    Done(T),
    Outdated,
}

/// Letters of generated names: no vowels, no look-alikes, as in Kubernetes.
const NAME_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Seconds that events are kept, kube-apiserver's default.
const EVENT_SECONDS: i64 = 3600;

impl Cluster {
    /// Makes a namespace that every cluster has, if it is missing.
    pub(crate) async fn ensure_namespace(&self, name: &str) -> Result<(), Refusal> {
        let registry = self.model().registry.clone();
        let resource = registry
            .find("", "v1", NAMESPACES)
            .ok_or_else(Refusal::no_such_path)?;
        let mut value =
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        admit_new(&resource, &mut value, &self.now())?;
        self.change(|model| {
            let key = (String::new(), name.to_owned());
            if model.get(NAMESPACES, &key).is_none() {
                model.put(&resource.id, value)?;
            }
            Ok(())
        })
        .await
    }

    pub(crate) async fn create(
        &self,
        target: &Target,
        call: &Call,
    ) -> Result<Response<Body>, Refusal> {
        let form = call.form()?;
        let mut value = Self::body(target, call)?;
        let resource = &target.resource;
        if !matches!(text_at(&value, "/metadata/resourceVersion"), "" | "0") {
            return Err(Refusal::bad_request(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        if let Some(name) = &target.name {
            return Err(Refusal::bad_request(format!(
                "objects are created in their collection, not at {name:?}"
            )));
        }
        let generated = generate_name(&mut value);
        let stored = loop {
            let mut attempt = value.clone();
            match self.insert(target, &mut attempt, call).await {
                Err(refusal) if generated && refusal.reason == "AlreadyExists" => {
                    generate_name(&mut value);
                }
                other => break other?,
            }
        };
        Ok(json_answer(
            StatusCode::CREATED,
            self.render(&stored, resource, form)?,
        ))
    }

    async fn insert(
        &self,
        target: &Target,
        value: &mut Value,
        call: &Call,
    ) -> Result<Arc<Stored>, Refusal> {
        let resource = &target.resource;
        if resource.namespaced() {
            set_metadata(value, "namespace", target.namespace.clone().into());
        } else {
            set_metadata(value, "namespace", Value::Null);
        }
        set_metadata(value, "resourceVersion", Value::Null);
        let now = self.now();
        let name = text_at(value, "/metadata/name").to_owned();
        let admitted = admit_new(resource, value, &now);
        // A missing namespace is told before what is wrong with the object.
        Self::check_namespace(&self.model(), target, &name)?;
        admitted?;
        self.check_size(value)?;
        let value = std::mem::take(value);
        let key = (
            if resource.namespaced() {
                target.namespace.clone()
            } else {
                String::new()
            },
            name.clone(),
        );
        if call.query.dry_run()? {
            if self.model().get(&resource.id, &key).is_some() {
                return Err(Refusal::already_exists(
                    &resource.group,
                    &resource.plural,
                    &name,
                ));
            }
            return Ok(Arc::new(Stored::new(
                resource.id.clone(),
                0,
                &mut value.clone(),
            )?));
        }
        let event_cutoff = (&*resource.id == EVENTS).then(|| {
            let now = (self.options().now)();
            let cutoff = now
                .checked_sub(jiff::SignedDuration::from_secs(EVENT_SECONDS))
                .unwrap_or(now);
            crate::cluster::time_text(cutoff)
        });
        self.change(|model| {
            Self::check_namespace(model, target, &name)?;
            if model.get(&resource.id, &key).is_some() {
                return Err(Refusal::already_exists(
                    &resource.group,
                    &resource.plural,
                    &name,
                ));
            }
            if let Some(cutoff) = event_cutoff {
                model.expire_events(&cutoff)?;
            }
            let stored = model.put(&resource.id, value)?;
            model.after_put(&stored, &now)?;
            Ok(stored)
        })
        .await
    }

    /// Objects in a missing namespace are refused, and so are new ones in a namespace that goes.
    fn check_namespace(model: &Model, target: &Target, name: &str) -> Result<(), Refusal> {
        if !target.resource.namespaced() {
            return Ok(());
        }
        if target.namespace.is_empty() {
            return Err(Refusal::bad_request(
                "an empty namespace may not be set during creation",
            ));
        }
        let found = model.get(NAMESPACES, &(String::new(), target.namespace.clone()));
        let namespace =
            found.ok_or_else(|| Refusal::not_found("", NAMESPACES, &target.namespace))?;
        if namespace.meta.deletion_timestamp.is_some() {
            let resource = &target.resource;
            let why = format!(
                "unable to create new content in namespace {} because it is being terminated",
                target.namespace
            );
            return Err(Refusal::forbidden(
                &resource.group,
                &resource.plural,
                name,
                &why,
            ));
        }
        Ok(())
    }

    fn check_size(&self, value: &Value) -> Result<(), Refusal> {
        let limit = self.options().object_bytes;
        let size = serde_json::to_vec(value).map_or(0, |json| json.len());
        if size > limit {
            Err(Refusal::object_too_large(size, limit))
        } else {
            Ok(())
        }
    }

    /// The object in the body, checked against the path.
    fn body(target: &Target, call: &Call) -> Result<Value, Refusal> {
        let value: Value = match call.content_type() {
            "" | "application/json" => serde_json::from_slice(&call.body).map_err(|error| {
                Refusal::bad_request(format!(
                    "the object provided is unrecognized (must be of type {}): {error}",
                    target.resource.kind
                ))
            })?,
            "application/yaml" | "application/apply-patch+yaml" => from_yaml(&call.body)?,
            other => return Err(Refusal::unsupported_media(other)),
        };
        Self::check_body(target, value)
    }

    fn check_body(target: &Target, mut value: Value) -> Result<Value, Refusal> {
        let resource = &target.resource;
        if !value.is_object() {
            return Err(Refusal::bad_request(
                "the object provided is not a JSON object",
            ));
        }
        let (given, expected) = (text_at(&value, "/apiVersion"), resource.api_version());
        if !given.is_empty() && given != expected {
            return Err(Refusal::bad_request(format!(
                "the API version in the data ({given}) does not match the expected API version ({expected})"
            )));
        }
        let kind = text_at(&value, "/kind");
        if !kind.is_empty() && kind != resource.kind {
            return Err(Refusal::bad_request(format!(
                "{kind} in version {expected:?} cannot be handled as a {}",
                resource.kind
            )));
        }
        let namespace = text_at(&value, "/metadata/namespace");
        if resource.namespaced() && !namespace.is_empty() && namespace != target.namespace {
            return Err(Refusal::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        if let Some(name) = &target.name {
            let given = text_at(&value, "/metadata/name");
            if !given.is_empty() && given != name {
                return Err(Refusal::bad_request(format!(
                    "the name of the object ({given}) does not match the name on the URL ({name})"
                )));
            }
        }
        if let Some(members) = value.as_object_mut() {
            // Kept objects always say what they are.
            members.insert("apiVersion".to_owned(), expected.into());
            members.insert("kind".to_owned(), resource.kind.clone().into());
        }
        metadata_mut(&mut value);
        if &*resource.id == EVENTS && !resource.group.is_empty() {
            value = events::to_core(value);
        }
        Ok(value)
    }

    pub(crate) async fn update(
        &self,
        target: &Target,
        call: &Call,
    ) -> Result<Response<Body>, Refusal> {
        let value = Self::body(target, call)?;
        let resource = &target.resource;
        if resource.custom && text_at(&value, "/metadata/resourceVersion").is_empty() {
            let (_, name) = target.key()?;
            let rule = "must be specified for an update";
            let causes = [crate::cluster::refusal::Cause {
                reason: "FieldValueInvalid",
                field: "metadata.resourceVersion".to_owned(),
                message: format!("Invalid value: 0x0: {rule}"),
            }];
            return Err(Refusal::invalid(
                &resource.group,
                &resource.plural,
                &name,
                &causes,
            ));
        }
        self.rewrite(target, call, |_| Ok(value.clone())).await
    }

    pub(crate) async fn patch(
        &self,
        target: &Target,
        call: &Call,
    ) -> Result<Response<Body>, Refusal> {
        let kind = PatchKind::of(call.content_type())?;
        let decode = || {
            serde_json::from_slice::<Value>(&call.body)
                .map_err(|error| Refusal::bad_request(format!("error decoding patch: {error}")))
        };
        match kind {
            PatchKind::Json => {
                self.rewrite(target, call, |current| {
                    let mut next = current.clone();
                    json_patch(&mut next, &call.body)?;
                    Ok(next)
                })
                .await
            }
            PatchKind::Merge => {
                let patch = decode()?;
                self.rewrite(target, call, |current| {
                    let mut next = current.clone();
                    merge(&mut next, patch.clone());
                    Ok(next)
                })
                .await
            }
            PatchKind::Strategic if target.resource.custom => {
                Err(Refusal::unsupported_media(call.content_type()))
            }
            PatchKind::Strategic => {
                let patch = decode()?;
                self.rewrite(target, call, |current| {
                    let mut next = current.clone();
                    strategic(&mut next, patch.clone())?;
                    Ok(next)
                })
                .await
            }
            PatchKind::Apply => self.apply(target, call).await,
        }
    }

    async fn apply(&self, target: &Target, call: &Call) -> Result<Response<Body>, Refusal> {
        let manager = call.query.text("fieldManager");
        if manager.is_empty() {
            return Err(Refusal::bad_request(
                "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
            ));
        }
        let applied = Self::check_body(target, from_yaml(&call.body)?)?;
        if applied
            .pointer("/metadata/managedFields")
            .is_some_and(|fields| !fields.is_null())
        {
            return Err(Refusal::bad_request("metadata.managedFields must be nil"));
        }
        let (key, now) = (target.key()?, self.now());
        let apply = Apply {
            manager,
            subresource: target.subresource.as_deref().unwrap_or_default(),
            force: call.query.flag("force"),
            custom: target.resource.custom,
            now: &now,
        };
        loop {
            let exists = self.model().get(&target.resource.id, &key).is_some();
            if !exists {
                if target.subresource.is_some() {
                    return Err(target.not_found(&key.1));
                }
                let mut created = apply
                    .to(None, &applied)
                    .map_err(|conflicts| conflict(&conflicts))?;
                set_metadata(&mut created, "name", key.1.clone().into());
                match self.insert(target, &mut created, call).await {
                    // Somebody else was quicker: it is an update after all.
                    Err(refusal)
                        if refusal.reason == "AlreadyExists" && !call.query.dry_run()? =>
                    {
                        continue;
                    }
                    other => {
                        let stored = other?;
                        let body = self.render(&stored, &target.resource, call.form()?)?;
                        return Ok(json_answer(StatusCode::CREATED, body));
                    }
                }
            }
            let answer = self
                .rewrite(target, call, |current| {
                    apply
                        .to(Some(current), &applied)
                        .map_err(|conflicts| conflict(&conflicts))
                })
                .await;
            match answer {
                Err(refusal) if refusal.reason == "NotFound" && target.subresource.is_none() => {}
                other => return other,
            }
        }
    }

    /// Replaces an object by what `decide` makes of its current version.
    async fn rewrite(
        &self,
        target: &Target,
        call: &Call,
        decide: impl Fn(&Value) -> Result<Value, Refusal>,
    ) -> Result<Response<Body>, Refusal> {
        let form = call.form()?;
        let key = target.key()?;
        let resource = &target.resource;
        let part = match target.subresource.as_deref() {
            Some("status") => Part::Status,
            Some("finalize") => Part::Finalize,
            _ => Part::Main,
        };
        let dry_run = call.query.dry_run()?;
        let is_apply = call.content_type() == "application/apply-patch+yaml";
        let manager = call.manager();
        let stored = loop {
            let found = self.model().get(&resource.id, &key).cloned();
            let current = found.ok_or_else(|| target.not_found(&key.1))?;
            let now = self.now();
            let before = current.value()?;
            let decided = decide(&before)?;
            check_identity(&decided, &key, resource)?;
            let Some(mut next) = admit_change(resource, part, &before, decided)? else {
                self.until_durable(current.revision).await?;
                break current;
            };
            if !is_apply {
                let update = Apply {
                    manager: &manager,
                    subresource: target.subresource.as_deref().unwrap_or_default(),
                    force: false,
                    custom: resource.custom,
                    now: &now,
                };
                update.note_update(&before, &mut next);
            }
            self.check_size(&next)?;
            if dry_run {
                break Arc::new(Stored::new(
                    resource.id.clone(),
                    current.revision,
                    &mut next,
                )?);
            }
            match self.replace(resource, &current, next, &now).await? {
                Try::Done(stored) => break stored,
                Try::Outdated => {}
            }
        };
        Ok(json_answer(
            StatusCode::OK,
            self.render(&stored, resource, form)?,
        ))
    }

    /// Stores `next` if `current` is still the current version.
    async fn replace(
        &self,
        resource: &Resource,
        current: &Arc<Stored>,
        next: Value,
        now: &str,
    ) -> Result<Try<Arc<Stored>>, Refusal> {
        self.change(|model| {
            match model.get(&resource.id, &current.key()) {
                Some(found) if Arc::ptr_eq(found, current) => {}
                _ => return Ok(Try::Outdated),
            }
            let stored = model.put(&resource.id, next)?;
            model.after_put(&stored, now)?;
            Ok(Try::Done(stored))
        })
        .await
    }

    pub(crate) async fn delete(
        &self,
        target: &Target,
        call: &Call,
    ) -> Result<Response<Body>, Refusal> {
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
                let mut details = json!({ "name": last.meta.name, "kind": resource.plural, "uid": last.meta.uid });
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
    ) -> Result<Response<Body>, Refusal> {
        let resource = &target.resource;
        if resource.namespaced() && target.namespace.is_empty() {
            return Err(Refusal::method_not_allowed());
        }
        if &*resource.id == NAMESPACES {
            return Err(Refusal::method_not_allowed());
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
            body.extend_from_slice(&self.render(
                object,
                resource,
                crate::cluster::request::Form::Object,
            )?);
        }
        body.extend_from_slice(b"]}\n");
        Ok(json_answer(StatusCode::OK, body))
    }

    /// Puts a pod on a node, once (`pods/binding`).
    pub(crate) async fn bind(
        &self,
        target: &Target,
        call: &Call,
    ) -> Result<Response<Body>, Refusal> {
        let binding: Value = serde_json::from_slice(&call.body)
            .map_err(|error| Refusal::bad_request(format!("the binding is unreadable: {error}")))?;
        let node = text_at(&binding, "/target/name");
        if node.is_empty() {
            return Err(Refusal::bad_request("target.name: Required value"));
        }
        let (key, now) = (target.key()?, self.now());
        let resource = &target.resource;
        loop {
            let found = self.model().get(&resource.id, &key).cloned();
            let current = found.ok_or_else(|| target.not_found(&key.1))?;
            let mut next = current.value()?;
            let bound = text_at(&next, "/spec/nodeName");
            if current.meta.deletion_timestamp.is_some() {
                let why = format!(
                    "pod {} is being deleted, cannot be assigned to a host",
                    key.1
                );
                return Err(Refusal::conflict("", "pods/binding", &key.1, &why));
            }
            if !bound.is_empty() {
                let why = format!("pod {} is already assigned to node {bound:?}", key.1);
                return Err(Refusal::conflict("", "pods/binding", &key.1, &why));
            }
            if let Some(spec) = next.get_mut("spec").and_then(Value::as_object_mut) {
                spec.insert("nodeName".to_owned(), node.into());
            }
            set_condition(
                &mut next,
                &json!({ "type": "PodScheduled", "status": "True", "lastTransitionTime": now }),
            );
            if let Try::Done(_) = self.replace(resource, &current, next, &now).await? {
                let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 });
                return Ok(json_answer(StatusCode::CREATED, status.to_string()));
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

/// A patch must not make an object another one.
fn check_identity(
    next: &Value,
    key: &(String, String),
    resource: &Resource,
) -> Result<(), Refusal> {
    let name = text_at(next, "/metadata/name");
    if !name.is_empty() && name != key.1 {
        let message = format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            key.1
        );
        return Err(Refusal::bad_request(message));
    }
    let namespace = text_at(next, "/metadata/namespace");
    if resource.namespaced() && !namespace.is_empty() && namespace != key.0 {
        let message =
            "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Refusal::bad_request(message));
    }
    Ok(())
}

/// Gives an object without a name one made of `generateName`; says whether it did.
fn generate_name(value: &mut Value) -> bool {
    let prefix = text_at(value, "/metadata/generateName").to_owned();
    let marked = text_at(value, "/metadata/name")
        .strip_prefix(&prefix)
        .is_some_and(|rest| rest.len() == 5);
    if prefix.is_empty() || !(text_at(value, "/metadata/name").is_empty() || marked) {
        return false;
    }
    let mut generator = rand::rng();
    let suffix: String = (0..5)
        .filter_map(|_| NAME_LETTERS.get(generator.random_range(0..NAME_LETTERS.len())))
        .map(|letter| char::from(*letter))
        .collect();
    const LONGEST_PREFIX: usize = 58;
    let prefix: String = prefix.chars().take(LONGEST_PREFIX).collect();
    set_metadata(value, "name", format!("{prefix}{suffix}").into());
    true
}

fn from_yaml(body: &[u8]) -> Result<Value, Refusal> {
    if let Ok(value) = serde_json::from_slice(body) {
        return Ok(value);
    }
    serde_norway::from_slice(body)
        .map_err(|error| Refusal::bad_request(format!("error decoding YAML: {error}")))
}

/// What a delete request asks for, in its body or its query.
struct DeleteOptions {
    order: DeleteOrder,
    uid: Option<String>,
    resource_version: Option<String>,
    dry_run: bool,
}

impl DeleteOptions {
    fn read(call: &Call) -> Result<Self, Refusal> {
        let body: Value = if call.body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&call.body).map_err(|error| {
                Refusal::bad_request(format!("the delete options are unreadable: {error}"))
            })?
        };
        let grace = match body.get("gracePeriodSeconds").and_then(Value::as_i64) {
            Some(seconds) => Some(seconds),
            None => call.query.number::<i64>("gracePeriodSeconds")?,
        };
        let policy = match text_at(&body, "/propagationPolicy") {
            "" => call.query.text("propagationPolicy"),
            given => given,
        };
        let orphan = body.get("orphanDependents").and_then(Value::as_bool) == Some(true);
        let propagation = match policy {
            "" if orphan => Propagation::Orphan,
            "" | "Background" => Propagation::Background,
            "Foreground" => Propagation::Foreground,
            "Orphan" => Propagation::Orphan,
            other => {
                return Err(Refusal::bad_request(format!(
                    "invalid propagationPolicy {other:?}: it is one of Background, Foreground, Orphan"
                )));
            }
        };
        let text = |pointer| {
            body.pointer(pointer)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let dry_run = body
            .get("dryRun")
            .and_then(Value::as_array)
            .is_some_and(|values| !values.is_empty());
        Ok(Self {
            order: DeleteOrder { grace, propagation },
            uid: text("/preconditions/uid"),
            resource_version: text("/preconditions/resourceVersion"),
            dry_run: dry_run || call.query.dry_run()?,
        })
    }

    fn check(&self, resource: &Resource, current: &Stored) -> Result<(), Refusal> {
        let conflict = |what: &str, asked: &str, found: &str| {
            let why = format!(
                "Precondition failed: {what} in precondition: {asked}, {what} in object meta: {found}"
            );
            Err(Refusal::conflict(
                &resource.group,
                &resource.plural,
                &current.meta.name,
                &why,
            ))
        };
        match (&self.uid, &self.resource_version) {
            (Some(uid), _) if *uid != current.meta.uid => conflict("UID", uid, &current.meta.uid),
            (_, Some(version)) if *version != current.revision.to_string() => {
                conflict("ResourceVersion", version, &current.revision.to_string())
            }
            _ => Ok(()),
        }
    }
}
