//! Get and list.

use std::sync::Arc;

use axum::body::Body;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::cluster::api::{Call, json_answer};
use crate::cluster::api_status::ApiStatus;
use crate::cluster::events;
use crate::cluster::object::{Key, SharedKey, Stored};
use crate::cluster::request::{Form, Target};
use crate::cluster::resource::{EVENTS, Resource};
use crate::cluster::selector::Selector;
use crate::cluster::table;

/// Where a limited list goes on: the revision that all its pages show, and the last key given.
#[derive(Debug, Serialize, Deserialize)]
struct Continue {
    rv: u64,
    after: Key,
}

impl Continue {
    fn encode(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    fn decode(text: &str) -> Result<Self, ApiStatus> {
        BASE64_URL_SAFE_NO_PAD
            .decode(text)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .ok_or_else(|| {
                let why = "invalid continue token: continue key is not valid: it is none of this server's";
                ApiStatus::bad_request(why)
            })
    }
}

/// One page of a list.
struct Page {
    objects: Vec<Arc<Stored>>,
    revision: u64,
    next: Option<Continue>,
    remaining: usize,
}

impl Cluster {
    pub(crate) async fn get(
        &self,
        target: &Target,
        call: &Call,
    ) -> Result<Response<Body>, ApiStatus> {
        let form = call.form()?;
        let key = target.key()?;
        let found = self.current(target, &key).await?;
        let object = found.ok_or_else(|| target.not_found(&key.1))?;
        Ok(json_answer(
            StatusCode::OK,
            self.render(&object, &target.resource, form)?,
        ))
    }

    /// The object, once that is durable. Of a store that fails, the one that it has.
    async fn current(&self, target: &Target, key: &Key) -> Result<Option<Arc<Stored>>, ApiStatus> {
        let (found, revision) = {
            let model = self.model();
            let found = model.get(&target.resource.id, key).cloned();
            // That there is none shows a removal, if that was the last change.
            let revision = found
                .as_ref()
                .map_or(model.revision, |found| found.revision);
            (found, revision)
        };
        let Err(refusal) = self.until_durable(revision).await else {
            return Ok(found);
        };
        let shown = *self.durable().borrow();
        let model = self.model();
        match model.table(&target.resource.id) {
            None => Ok(None),
            Some(table) => {
                let objects = table.at(shown).ok_or(refusal)?;
                Ok(objects.get(key).cloned())
            }
        }
    }

    /// An object as a client sees it through this path.
    pub(crate) fn render(
        &self,
        object: &Stored,
        resource: &Resource,
        form: Form,
    ) -> Result<Bytes, ApiStatus> {
        match form {
            Form::Object => in_version(object, resource),
            Form::Metadata => Ok(object.metadata_only()),
            Form::Table => {
                let now = (self.options().now)();
                Ok(table::table(resource, &[object], &json!({}), now)?
                    .to_string()
                    .into())
            }
        }
    }

    pub(crate) async fn list(
        &self,
        target: &Target,
        call: &Call,
    ) -> Result<Response<Body>, ApiStatus> {
        let form = call.form()?;
        let selector = Self::selector(target, call)?;
        if &*target.resource.id == EVENTS
            && let Err(refusal) = self.expire_events().await
        {
            tracing::debug!(error = %refusal, "events whose time is up stay for now");
        }
        let mut page = self.page(target, call, &selector, None)?;
        if self.until_durable(page.revision).await.is_err() {
            // The store fails: what it has is shown.
            let shown = *self.durable().borrow();
            page = self.page(target, call, &selector, Some(shown))?;
        }
        let mut metadata = json!({ "resourceVersion": page.revision.to_string() });
        if let (Some(next), Some(map)) = (&page.next, metadata.as_object_mut()) {
            map.insert("continue".to_owned(), next.encode().into());
            // As in Kubernetes, the rest is not counted for a list that filters.
            if selector.is_empty() {
                map.insert("remainingItemCount".to_owned(), page.remaining.into());
            }
        }
        let resource = &target.resource;
        let (api_version, kind) = match form {
            Form::Object => (resource.api_version(), resource.list_kind.clone()),
            Form::Metadata => (
                "meta.k8s.io/v1".to_owned(),
                "PartialObjectMetadataList".to_owned(),
            ),
            Form::Table => {
                let objects: Vec<&Stored> = page.objects.iter().map(AsRef::as_ref).collect();
                let table = table::table(resource, &objects, &metadata, (self.options().now)())?;
                return Ok(json_answer(StatusCode::OK, table.to_string()));
            }
        };
        let mut body = format!(
            r#"{{"kind":{},"apiVersion":{},"metadata":{metadata},"items":["#,
            Value::from(kind),
            Value::from(api_version)
        )
        .into_bytes();
        for (index, object) in page.objects.iter().enumerate() {
            if index > 0 {
                body.push(b',');
            }
            body.extend_from_slice(&self.render(object, resource, form)?);
        }
        body.extend_from_slice(b"]}\n");
        Ok(json_answer(StatusCode::OK, body))
    }

    /// Removes events whose time is up: no timer does, so every list of them does.
    async fn expire_events(&self) -> Result<(), ApiStatus> {
        let now = self.now();
        if self.model().has_expired_events(&now) {
            self.change(|model| {
                model.expire_events(&now);
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// The selector of a list, watch or collection delete.
    pub(crate) fn selector(target: &Target, call: &Call) -> Result<Selector, ApiStatus> {
        let mut selector = Selector::parse(
            call.query.text("labelSelector"),
            call.query.text("fieldSelector"),
        )?;
        if target.resource.is_modern_event() {
            selector.rename_fields(events::core_field)?;
        }
        selector.check_fields(&target.resource)?;
        Ok(selector)
    }

    /// All that a list, unlimited, shows now.
    pub(crate) fn selected(&self, target: &Target, selector: &Selector) -> Vec<Arc<Stored>> {
        let model = self.model();
        let Some(table) = model.table(&target.resource.id) else {
            return Vec::new();
        };
        in_scope(&table.objects, target)
            .filter(|object| selector.matches(object))
            .cloned()
            .collect()
    }

    /// A page of the list at the revision that the client asks for, else at `shown`, else of all there is.
    fn page(
        &self,
        target: &Target,
        call: &Call,
        selector: &Selector,
        shown: Option<u64>,
    ) -> Result<Page, ApiStatus> {
        let limit = call
            .query
            .number::<i64>("limit")?
            .filter(|limit| *limit > 0)
            .and_then(|limit| usize::try_from(limit).ok())
            .unwrap_or(usize::MAX);
        let next = match call.query.text("continue") {
            "" => None,
            token => Some(Continue::decode(token)?),
        };
        let asked = call.query.version()?;
        if next.is_some() && asked > 0 {
            let why = "specifying resource version is not allowed when using continue";
            return Err(ApiStatus::bad_request(why));
        }
        let exact = call.query.text("resourceVersionMatch") == "Exact";
        let model = self.model();
        if asked > model.revision {
            // A client of an earlier cluster; it starts afresh when it gets 410.
            return Err(ApiStatus::expired(asked, model.revision));
        }
        let revision = match &next {
            Some(next) => next.rv,
            None if exact => asked,
            None => shown.unwrap_or(model.revision),
        };
        let empty = std::collections::BTreeMap::new();
        let past;
        let objects = match model.table(&target.resource.id) {
            None => &empty,
            Some(table) if revision == model.revision => &table.objects,
            Some(table) => {
                past = table.at(revision).ok_or_else(|| match next {
                    Some(_) => ApiStatus::continue_expired(),
                    None => ApiStatus::expired(revision, table.forgotten),
                })?;
                &past
            }
        };
        let after = next.as_ref().map(|next| &next.after);
        let mut chosen = in_scope(objects, target)
            .filter(|object| after.is_none_or(|after| *object.key > *after))
            .filter(|object| selector.matches(object));
        let page: Vec<Arc<Stored>> = chosen.by_ref().take(limit).cloned().collect();
        let remaining = if page.len() < limit {
            0
        } else {
            chosen.count()
        };
        let next = match page.last() {
            Some(last) if remaining > 0 => Some(Continue {
                rv: revision,
                after: (*last.key).clone(),
            }),
            _ => None,
        };
        Ok(Page {
            objects: page,
            revision,
            next,
            remaining,
        })
    }
}

fn in_scope<'a>(
    objects: &'a std::collections::BTreeMap<SharedKey, Arc<Stored>>,
    target: &'a Target,
) -> impl Iterator<Item = &'a Arc<Stored>> {
    let from = (target.namespace.clone(), String::new());
    objects
        .range::<Key, _>(from..)
        .take_while(|(key, _)| target.namespace.is_empty() || key.0 == target.namespace)
        .map(|(_, object)| object)
}

/// The object in the API version of the path. Stored objects carry the version they were written in.
pub(crate) fn in_version(object: &Stored, resource: &Resource) -> Result<Bytes, ApiStatus> {
    if resource.is_modern_event() {
        return Ok(events::from_core(object.value()?).to_string().into());
    }
    let wanted = resource.api_version();
    if !resource.custom || object.is_of_version(&wanted) {
        return Ok(object.json());
    }
    let mut value = object.value()?;
    if let Some(map) = value.as_object_mut() {
        map.insert("apiVersion".to_owned(), wanted.into());
    }
    Ok(value.to_string().into())
}
