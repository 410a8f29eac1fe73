//! Create, update and patch. A write reads the current version, decides outside the lock, and makes its change
//! only if that version is still current; otherwise it decides again.

use std::sync::Arc;

use axum::body::Body;
use flyte_idl::text::quoted;
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::cluster::admission::typed::WrongType;
use crate::cluster::admission::{
    Part, admit_change, admit_new, check_unknown_fields, prune, warnings,
};
use crate::cluster::api::{Call, json_answer};
use crate::cluster::api_status::{ApiStatus, StatusCause};
use crate::cluster::apply::{Apply, conflict};
use crate::cluster::events;
use crate::cluster::json;
use crate::cluster::model::Model;
use crate::cluster::object::{Key, Stored, metadata_mut, set_metadata, text_at};
use crate::cluster::patch::{APPLY_MEDIA_TYPE, PatchKind, json_patch, strategic};
use crate::cluster::protobuf::{self, ProtobufError};
use crate::cluster::request::{Form, Target};
use crate::cluster::resource::{DEFINITIONS, NAMESPACES, Resource};
use flyte_platform::json::merge;

/// How a write of a version that may be outdated ended.
pub(crate) enum Try<T> {
    Done(T),
    Outdated,
}

/// Forms of an object in a body.
const BODY_MEDIA_TYPES: &[&str] = &["application/json", "application/yaml", protobuf::MEDIA_TYPE];
/// Forms of a patch of a custom resource.
const CUSTOM_PATCH_MEDIA_TYPES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    APPLY_MEDIA_TYPE,
];

/// Letters of generated names: no vowels, no look-alikes, as in Kubernetes.
const NAME_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

impl Cluster {
    /// Makes a namespace that every cluster has, if it is missing.
    pub(crate) async fn ensure_namespace(&self, name: &str) -> Result<(), ApiStatus> {
        let registry = self.model().registry.clone();
        let resource = registry
            .find("", "v1", NAMESPACES)
            .ok_or_else(ApiStatus::no_such_path)?;
        let mut value =
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        admit_new(
            &resource,
            &mut value,
            &self.now(),
            (self.options().random)(),
        )?;
        self.change(|model| {
            let key = (String::new(), name.to_owned());
            if model.get(NAMESPACES, &key).is_none() {
                model.put(&resource.id, &value)?;
            }
            Ok(())
        })
        .await
    }

    pub(crate) async fn create(
        &self,
        target: &Target,
        call: &Call,
    ) -> Result<Response<Body>, ApiStatus> {
        let form = call.form()?;
        let resource = &target.resource;
        if resource.namespaced() && target.namespace.is_empty() {
            return Err(ApiStatus::method_not_allowed());
        }
        // Said before the body is read, which may be in a form that is taken of few kinds.
        if resource.needs_controller() {
            return Err(ApiStatus::no_controller(&resource.kind));
        }
        let mut value = self.body(target, call)?;
        let has_version = !matches!(text_at(&value, "/metadata/resourceVersion"), "" | "0");
        if has_version && !call.query.dry_run()? {
            return Err(ApiStatus::bad_request(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        let generated = generate_name(&mut value, (self.options().random)());
        let stored = loop {
            let mut attempt = value.clone();
            match self.insert(target, &mut attempt, call).await {
                Err(refusal) if generated && refusal.reason == "AlreadyExists" => {
                    generate_name(&mut value, (self.options().random)());
                }
                other => break other?,
            }
        };
        self.written(StatusCode::CREATED, &stored, resource, form)
    }

    /// The answer to a write, with its warnings.
    fn written(
        &self,
        code: StatusCode,
        stored: &Stored,
        resource: &Resource,
        form: Form,
    ) -> Result<Response<Body>, ApiStatus> {
        let mut answer = json_answer(code, self.render(stored, resource, form)?);
        if &*resource.id == DEFINITIONS {
            for warning in warnings(resource, &stored.value()?) {
                // RFC 9111: code, agent, text.
                if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{warning}\"")) {
                    answer.headers_mut().append(header::WARNING, value);
                }
            }
        }
        Ok(answer)
    }

    async fn insert(
        &self,
        target: &Target,
        value: &mut Value,
        call: &Call,
    ) -> Result<Arc<Stored>, ApiStatus> {
        let resource = &target.resource;
        if resource.needs_controller() {
            return Err(ApiStatus::no_controller(&resource.kind));
        }
        check_unknown_fields(resource, value, call.query.text("fieldValidation"))?;
        if resource.is_modern_event() {
            *value = events::to_core(std::mem::take(value));
        }
        if resource.namespaced() {
            set_metadata(value, "namespace", target.namespace.clone().into());
        } else {
            set_metadata(value, "namespace", Value::Null);
        }
        set_metadata(value, "resourceVersion", Value::Null);
        let now = self.now();
        let name = text_at(value, "/metadata/name").to_owned();
        let admitted = admit_new(resource, value, &now, (self.options().random)());
        // A missing namespace is refused before what is wrong with the object.
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
            check_free(&self.model(), resource, &key)?;
            return Ok(Arc::new(Stored::new(resource.id.clone(), 0, &value, None)?));
        }
        self.change(|model| {
            Self::check_namespace(model, target, &name)?;
            check_free(model, resource, &key)?;
            let stored = model.put(&resource.id, &value)?;
            model.after_put(&stored, &now)?;
            Ok(stored)
        })
        .await
    }

    /// Objects in a missing namespace are refused, and so are new ones in a namespace that goes.
    fn check_namespace(model: &Model, target: &Target, name: &str) -> Result<(), ApiStatus> {
        if !target.resource.namespaced() {
            return Ok(());
        }
        if target.namespace.is_empty() {
            return Err(ApiStatus::bad_request(
                "an empty namespace may not be set during creation",
            ));
        }
        let found = model.get(NAMESPACES, &(String::new(), target.namespace.clone()));
        let namespace =
            found.ok_or_else(|| ApiStatus::not_found("", NAMESPACES, &target.namespace))?;
        if namespace.meta.deletion_timestamp.is_some() {
            let resource = &target.resource;
            let why = format!(
                "unable to create new content in namespace {} because it is being terminated",
                target.namespace
            );
            return Err(ApiStatus::forbidden(
                &resource.group,
                &resource.plural,
                name,
                &why,
            ));
        }
        Ok(())
    }

    fn check_size(&self, value: &Value) -> Result<(), ApiStatus> {
        let limit = self.options().object_bytes;
        let size = serde_json::to_vec(value).map_or(0, |json| json.len());
        if size > limit {
            Err(ApiStatus::object_too_large(size, limit))
        } else {
            Ok(())
        }
    }

    /// The object in the body, checked against the path.
    fn body(&self, target: &Target, call: &Call) -> Result<Value, ApiStatus> {
        let value: Value = match call.content_type() {
            "" | "application/json" => self.parse_json(&call.body).map_err(|error| {
                ApiStatus::bad_request(format!(
                    "the object provided is unrecognized (must be of type {}): {error}",
                    target.resource.kind
                ))
            })?,
            "application/yaml" | APPLY_MEDIA_TYPE => self.parse_yaml(&call.body)?,
            protobuf::MEDIA_TYPE => {
                protobuf::read(&call.body, &target.resource).map_err(|error| match error {
                    ProtobufError::Kind => ApiStatus::not_in_protobuf(&target.resource.kind),
                    error => ApiStatus::bad_request(format!("the body cannot be read: {error}")),
                })?
            }
            _ => return Err(ApiStatus::unsupported_media(BODY_MEDIA_TYPES)),
        };
        if call.query.text("fieldValidation") == "Strict"
            && matches!(call.content_type(), "" | "application/json")
            && let Some(field) = json::doubled(&call.body)
        {
            let (kind, version) = (&target.resource.kind, &target.resource.version);
            return Err(ApiStatus::bad_request(format!(
                "{kind} in version {} cannot be handled as a {kind}: strict decoding error: duplicate field {}",
                quoted(version),
                quoted(&field)
            )));
        }
        Self::check_body(target, value)
    }

    fn check_body(target: &Target, mut value: Value) -> Result<Value, ApiStatus> {
        let resource = &target.resource;
        if value.is_null() {
            // Read as an object without members, as Go does.
            value = json!({});
        }
        if !value.is_object() {
            return Err(ApiStatus::bad_request(
                "the object provided is not a JSON object",
            ));
        }
        if value
            .get("metadata")
            .is_some_and(|metadata| !metadata.is_object() && !metadata.is_null())
        {
            return Err(WrongType {
                field: "metadata".to_owned(),
                message: "expected an object".to_owned(),
            }
            .refuse(resource));
        }
        let (given, expected) = (text_at(&value, "/apiVersion"), resource.api_version());
        if !given.is_empty() && given != expected {
            let kind = &resource.kind;
            let version = given.rsplit('/').next().unwrap_or(given);
            return Err(ApiStatus::bad_request(format!(
                "{kind} in version {} cannot be handled as a {kind}: no kind {} is registered for version {}",
                quoted(version),
                quoted(kind),
                quoted(given)
            )));
        }
        let kind = text_at(&value, "/kind");
        if !kind.is_empty() && kind != resource.kind {
            return Err(ApiStatus::bad_request(format!(
                "{kind} in version {} cannot be handled as a {}",
                quoted(&resource.version),
                resource.kind
            )));
        }
        let namespace = text_at(&value, "/metadata/namespace");
        if resource.namespaced() && !namespace.is_empty() && namespace != target.namespace {
            return Err(ApiStatus::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        if let Some(name) = &target.name {
            let given = text_at(&value, "/metadata/name");
            if !given.is_empty() && given != name {
                return Err(ApiStatus::bad_request(format!(
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
        Ok(value)
    }

    pub(crate) async fn update(
        &self,
        target: &Target,
        call: &Call,
    ) -> Result<Response<Body>, ApiStatus> {
        let value = self.body(target, call)?;
        let resource = &target.resource;
        if resource.custom && text_at(&value, "/metadata/resourceVersion").is_empty() {
            let (_, name) = target.key()?;
            let rule = "must be specified for an update";
            let causes = [StatusCause {
                reason: "FieldValueInvalid",
                field: "metadata.resourceVersion".to_owned(),
                message: format!("Invalid value: 0: {rule}"),
            }];
            return Err(ApiStatus::invalid(
                &resource.group,
                &resource.plural,
                &name,
                &causes.into(),
            ));
        }
        self.rewrite(target, call, |_| Ok(value.clone())).await
    }

    pub(crate) async fn patch(
        &self,
        target: &Target,
        call: &Call,
    ) -> Result<Response<Body>, ApiStatus> {
        let kind = PatchKind::of(call.content_type())?;
        let decode = || {
            self.parse_json(&call.body)
                .map_err(|error| ApiStatus::bad_request(format!("error decoding patch: {error}")))
        };
        match kind {
            PatchKind::Json => {
                let patch = decode()?;
                self.rewrite(target, call, |current| {
                    let mut next = current.clone();
                    json_patch(&mut next, patch.clone(), self.options().json_depth)?;
                    Ok(next)
                })
                .await
            }
            PatchKind::Merge => {
                let patch = decode()?;
                if !patch.is_object() {
                    let message = "error decoding patch: a merge patch of an object is an object";
                    return Err(ApiStatus::bad_request(message));
                }
                self.rewrite(target, call, |current| {
                    let mut next = current.clone();
                    merge(&mut next, &patch);
                    Ok(next)
                })
                .await
            }
            PatchKind::Strategic if target.resource.custom => {
                Err(ApiStatus::unsupported_media(CUSTOM_PATCH_MEDIA_TYPES))
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

    async fn apply(&self, target: &Target, call: &Call) -> Result<Response<Body>, ApiStatus> {
        let manager = call.query.text("fieldManager");
        let applied = self.parse_yaml(&call.body)?;
        if text_at(&applied, "/kind").is_empty() || text_at(&applied, "/apiVersion").is_empty() {
            let message = "invalid object type: an applied object says its apiVersion and kind";
            return Err(ApiStatus::bad_request(message));
        }
        let mut applied = Self::check_body(target, applied)?;
        if applied
            .pointer("/metadata/managedFields")
            .is_some_and(|fields| !fields.is_null())
        {
            return Err(ApiStatus::bad_request("metadata.managedFields must be nil"));
        }
        let validation = call.query.text("fieldValidation");
        check_unknown_fields(&target.resource, &applied, validation)?;
        if !target.resource.is_modern_event() {
            // Nobody manages a field that there is not.
            prune(&target.resource, &mut applied);
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
                        let form = call.form()?;
                        return self.written(StatusCode::CREATED, &stored, &target.resource, form);
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
        decide: impl Fn(&Value) -> Result<Value, ApiStatus>,
    ) -> Result<Response<Body>, ApiStatus> {
        let form = call.form()?;
        let key = target.key()?;
        let resource = &target.resource;
        let part = match target.subresource.as_deref() {
            Some("status") => Part::Status,
            Some("finalize") => Part::Finalize,
            _ => Part::Main,
        };
        let dry_run = call.query.dry_run()?;
        let is_apply = call.content_type() == APPLY_MEDIA_TYPE;
        let manager = call.manager();
        let stored = loop {
            let found = self.model().get(&resource.id, &key).cloned();
            let current = found.ok_or_else(|| target.not_found(&key.1))?;
            let now = self.now();
            let before = current.value()?;
            let decided = if resource.is_modern_event() {
                events::to_core(decide(&events::from_core(before.clone()))?)
            } else {
                decide(&before)?
            };
            check_identity(&decided, &key, resource)?;
            let validation = call.query.text("fieldValidation");
            let admitted = check_unknown_fields(resource, &decided, validation).and_then(|()| {
                if call.method == Method::PATCH {
                    check_uid(resource, &before, &decided)?;
                }
                admit_change(resource, part, &before, decided)
            });
            let is_patch = call.method == Method::PATCH && !is_apply && !resource.custom;
            let Some(mut next) = admitted.map_err(|refusal| match refusal.reason {
                "BadRequest" if is_patch => ApiStatus::wrong_patch(&refusal.message),
                _ => refusal,
            })?
            else {
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
                    &next,
                    None,
                )?);
            }
            match self.replace(resource, &current, next, &now).await? {
                Try::Done(stored) => break stored,
                Try::Outdated => {}
            }
        };
        self.written(StatusCode::OK, &stored, resource, form)
    }

    /// Stores `next` if `current` is still the current version.
    pub(crate) async fn replace(
        &self,
        resource: &Resource,
        current: &Arc<Stored>,
        next: Value,
        now: &str,
    ) -> Result<Try<Arc<Stored>>, ApiStatus> {
        self.change(|model| {
            match model.get(&resource.id, &current.key) {
                Some(found) if Arc::ptr_eq(found, current) => {}
                _ => return Ok(Try::Outdated),
            }
            Ok(Try::Done(model.replace(&resource.id, &next, now)?))
        })
        .await
    }
}

/// Refuses a name that is taken.
fn check_free(model: &Model, resource: &Resource, key: &Key) -> Result<(), ApiStatus> {
    let (group, plural, name) = (&resource.group, &resource.plural, &key.1);
    match model.get(&resource.id, key) {
        None => Ok(()),
        Some(found) if found.meta.deletion_timestamp.is_some() => {
            Err(ApiStatus::still_there(group, plural, name))
        }
        Some(_) => Err(ApiStatus::already_exists(group, plural, name)),
    }
}

/// A patch cannot give an object another uid. In a replacement that is a precondition instead.
fn check_uid(resource: &Resource, before: &Value, next: &Value) -> Result<(), ApiStatus> {
    let uid = text_at(next, "/metadata/uid");
    if uid.is_empty() || uid == text_at(before, "/metadata/uid") {
        return Ok(());
    }
    let name = text_at(before, "/metadata/name");
    let causes = [StatusCause::immutable("metadata.uid", uid)].into();
    Err(ApiStatus::invalid(
        &resource.group,
        &resource.kind,
        name,
        &causes,
    ))
}

/// A patch must not make an object another one.
fn check_identity(
    next: &Value,
    key: &(String, String),
    resource: &Resource,
) -> Result<(), ApiStatus> {
    let name = text_at(next, "/metadata/name");
    if !name.is_empty() && name != key.1 {
        let message = format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            key.1
        );
        return Err(ApiStatus::bad_request(message));
    }
    let namespace = text_at(next, "/metadata/namespace");
    if resource.namespaced() && !namespace.is_empty() && namespace != key.0 {
        let message =
            "the namespace of the provided object does not match the namespace sent on the request";
        return Err(ApiStatus::bad_request(message));
    }
    Ok(())
}

/// Gives an object without a name one made of `generateName`; says whether it did.
fn generate_name(value: &mut Value, random: u128) -> bool {
    let prefix = text_at(value, "/metadata/generateName").to_owned();
    let marked = text_at(value, "/metadata/name")
        .strip_prefix(&prefix)
        .is_some_and(|rest| rest.len() == 5);
    if prefix.is_empty() || !(text_at(value, "/metadata/name").is_empty() || marked) {
        return false;
    }
    let count = NAME_LETTERS.len() as u128;
    let digits = std::iter::successors(Some(random), |rest| Some(rest / count)).take(5);
    let letter = |rest: u128| {
        usize::try_from(rest % count)
            .ok()
            .and_then(|index| NAME_LETTERS.get(index))
    };
    let suffix: String = digits
        .filter_map(letter)
        .map(|letter| char::from(*letter))
        .collect();
    const LONGEST_PREFIX: usize = 58;
    let prefix: String = prefix.chars().take(LONGEST_PREFIX).collect();
    set_metadata(value, "name", format!("{prefix}{suffix}").into());
    true
}
