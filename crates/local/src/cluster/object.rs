//! A stored object: its JSON as it is served, and the few fields that the API itself decides on.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::cluster::refusal::Refusal;
use crate::cluster::resource::{EVENTS, PODS, ResourceId};

/// Namespace (empty for cluster-scoped kinds) and name: the order of lists.
pub(crate) type Key = (String, String);

/// Names one object of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ObjectRef {
    pub(crate) resource: ResourceId,
    pub(crate) key: Key,
}

/// An entry of `metadata.ownerReferences`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Owner {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) uid: String,
    pub(crate) block_owner_deletion: bool,
}

/// The part of `metadata` that decisions read.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Meta {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) finalizers: Vec<String>,
    pub(crate) owner_references: Vec<Owner>,
    pub(crate) creation_timestamp: Option<String>,
    pub(crate) deletion_timestamp: Option<String>,
    pub(crate) deletion_grace_period_seconds: Option<i64>,
    pub(crate) generation: i64,
}

/// One version of an object. Its JSON is kept serialized: it is served far more often than it is read here, and takes
/// a fraction of the memory of a parsed tree.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) resource: ResourceId,
    pub(crate) revision: u64,
    pub(crate) meta: Meta,
    pub(crate) json: Bytes,
    /// Fields other than those of metadata by which lists may be filtered.
    fields: BTreeMap<&'static str, String>,
    metadata_only: OnceLock<Bytes>,
}

impl Stored {
    /// Serializes `value` as version `revision`.
    pub(crate) fn new(
        resource: ResourceId,
        revision: u64,
        value: &mut Value,
    ) -> Result<Self, Refusal> {
        set_metadata(value, "resourceVersion", revision.to_string().into());
        let json =
            serde_json::to_vec(value).map_err(|error| Refusal::internal(error.to_string()))?;
        let meta = read_meta(value)?;
        let fields = selectable(&resource, value);
        Ok(Self {
            resource,
            revision,
            meta,
            json: json.into(),
            fields,
            metadata_only: OnceLock::new(),
        })
    }

    /// Reads a version back from the store.
    pub(crate) fn restore(
        resource: ResourceId,
        revision: u64,
        json: Bytes,
    ) -> Result<Self, Refusal> {
        let value: Value = parse(&json)?;
        let meta = read_meta(&value)?;
        let fields = selectable(&resource, &value);
        Ok(Self {
            resource,
            revision,
            meta,
            json,
            fields,
            metadata_only: OnceLock::new(),
        })
    }

    pub(crate) fn key(&self) -> Key {
        (self.meta.namespace.clone(), self.meta.name.clone())
    }

    pub(crate) fn reference(&self) -> ObjectRef {
        ObjectRef {
            resource: self.resource.clone(),
            key: self.key(),
        }
    }

    /// The parsed object.
    pub(crate) fn value(&self) -> Result<Value, Refusal> {
        parse(&self.json)
    }

    /// A field that a field selector names; absent fields are empty.
    pub(crate) fn field(&self, path: &str) -> Option<&str> {
        match path {
            "metadata.name" => Some(&self.meta.name),
            "metadata.namespace" => Some(&self.meta.namespace),
            _ => self.fields.get(path).map(String::as_str),
        }
    }

    /// The object as `PartialObjectMetadata`.
    pub(crate) fn metadata_only(&self) -> Bytes {
        self.metadata_only
            .get_or_init(|| {
                #[derive(Deserialize)]
                struct Envelope<'a> {
                    #[serde(borrow)]
                    metadata: &'a RawValue,
                }
                let head =
                    br#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":"#;
                let metadata = serde_json::from_slice::<Envelope<'_>>(&self.json)
                    .map_or("{}", |found| found.metadata.get());
                let mut text = Vec::with_capacity(head.len() + metadata.len() + 1);
                text.extend_from_slice(head);
                text.extend_from_slice(metadata.as_bytes());
                text.push(b'}');
                text.into()
            })
            .clone()
    }
}

/// Parses JSON that this server wrote itself.
pub(crate) fn parse(json: &[u8]) -> Result<Value, Refusal> {
    crate::cluster::json::parse(json)
        .map_err(|error| Refusal::internal(format!("stored object is unreadable: {error}")))
}

/// Reads the decisive part of the metadata. Wrong types are the client's mistake.
pub(crate) fn read_meta(value: &Value) -> Result<Meta, Refusal> {
    let Some(metadata) = value.get("metadata") else {
        return Ok(Meta::default());
    };
    Meta::deserialize(Defaulted(metadata).value()).map_err(|error| {
        Refusal::bad_request(format!("unable to read the object: metadata: {error}"))
    })
}

/// `null` members of metadata mean "absent", as in Go.
struct Defaulted<'a>(&'a Value);

impl Defaulted<'_> {
    fn value(&self) -> Value {
        const READ: [&str; 10] = [
            "name",
            "namespace",
            "uid",
            "labels",
            "finalizers",
            "ownerReferences",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "generation",
        ];
        let members = self.0.as_object().into_iter().flatten();
        let kept =
            members.filter(|(name, value)| READ.contains(&name.as_str()) && !value.is_null());
        Value::Object(
            kept.map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        )
    }
}

/// The metadata map of an object, made if it is missing.
pub(crate) fn metadata_mut(value: &mut Value) -> Option<&mut Map<String, Value>> {
    let object = value.as_object_mut()?;
    let metadata = object
        .entry("metadata")
        .or_insert_with(|| Value::Object(Map::new()));
    if !metadata.is_object() {
        *metadata = Value::Object(Map::new());
    }
    metadata.as_object_mut()
}

/// Sets one member of the metadata; `null` removes it.
pub(crate) fn set_metadata(value: &mut Value, name: &str, member: Value) {
    if let Some(metadata) = metadata_mut(value) {
        if member.is_null() {
            metadata.shift_remove(name);
        } else {
            metadata.insert(name.to_owned(), member);
        }
    }
}

/// A text inside an object, or nothing.
pub(crate) fn text_at<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn selectable(resource: &str, value: &Value) -> BTreeMap<&'static str, String> {
    const POD: &[(&str, &str)] = &[
        ("spec.nodeName", "/spec/nodeName"),
        ("spec.restartPolicy", "/spec/restartPolicy"),
        ("spec.schedulerName", "/spec/schedulerName"),
        ("spec.serviceAccountName", "/spec/serviceAccountName"),
        ("status.phase", "/status/phase"),
        ("status.podIP", "/status/podIP"),
    ];
    const EVENT: &[(&str, &str)] = &[
        ("involvedObject.kind", "/involvedObject/kind"),
        ("involvedObject.namespace", "/involvedObject/namespace"),
        ("involvedObject.name", "/involvedObject/name"),
        ("involvedObject.uid", "/involvedObject/uid"),
        ("involvedObject.apiVersion", "/involvedObject/apiVersion"),
        (
            "involvedObject.resourceVersion",
            "/involvedObject/resourceVersion",
        ),
        ("involvedObject.fieldPath", "/involvedObject/fieldPath"),
        ("reason", "/reason"),
        ("source", "/source/component"),
        ("reportingComponent", "/reportingComponent"),
        ("type", "/type"),
    ];
    const NAMESPACE: &[(&str, &str)] = &[("status.phase", "/status/phase")];
    const SECRET: &[(&str, &str)] = &[("type", "/type")];
    let paths = match resource {
        PODS => POD,
        EVENTS => EVENT,
        "namespaces" => NAMESPACE,
        "secrets" => SECRET,
        _ => &[],
    };
    paths
        .iter()
        .map(|(field, pointer)| {
            let text = match text_at(value, pointer) {
                "" if *field == "source" => text_at(value, "/reportingComponent"),
                text => text,
            };
            (*field, text.to_owned())
        })
        .collect()
}
