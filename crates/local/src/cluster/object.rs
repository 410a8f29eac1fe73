//! A stored object: its JSON as it is served, and the few fields that the API itself decides on.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::cluster::api_status::ApiStatus;
use crate::cluster::json;
use crate::cluster::resource::{EVENTS, NAMESPACES, PODS, ResourceId};

/// Namespace (empty for cluster-scoped kinds) and name: the order of lists.
pub(crate) type Key = (String, String);

/// The key of an object that is kept: its versions and all indexes have the same one.
pub(crate) type SharedKey = Arc<Key>;

/// Names one object of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ObjectRef {
    pub(crate) resource: ResourceId,
    pub(crate) key: SharedKey,
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

/// The part of `metadata` that is checked when it comes in.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Metadata {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) labels: BTreeMap<String, String>,
    uid: String,
    pub(crate) finalizers: Vec<String>,
    pub(crate) owner_references: Vec<Owner>,
    creation_timestamp: Option<String>,
    pub(crate) deletion_timestamp: Option<String>,
    deletion_grace_period_seconds: Option<i64>,
    generation: i64,
}

/// The part of `metadata` that decisions about kept objects read, besides the key.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Meta {
    pub(crate) uid: String,
    pub(crate) finalizers: Vec<String>,
    pub(crate) owner_references: Vec<Owner>,
    pub(crate) deletion_timestamp: Option<String>,
    pub(crate) deletion_grace_period_seconds: Option<i64>,
}

/// One version of an object. Its JSON is kept serialized: it is served far more often than it is read here, and takes a
/// fraction of the memory of a parsed tree. What the version before has as well is shared with it: of most changes only
/// `status` and the revision are new, and the history keeps thousands of versions.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) resource: ResourceId,
    pub(crate) revision: u64,
    pub(crate) key: SharedKey,
    pub(crate) meta: Arc<Meta>,
    /// Everything but metadata and status, without the closing brace: `{"apiVersion":…,"kind":…,"spec":…`.
    rest: Bytes,
    /// The members of metadata but `resourceVersion`, without braces.
    metadata: Bytes,
    /// The value of `status`; empty without one.
    status: Bytes,
    /// Bytes of JSON that are this version's alone.
    own_bytes: usize,
}

impl Stored {
    /// Serializes `value` as version `revision`, after `previous`.
    pub(crate) fn new(
        resource: ResourceId,
        revision: u64,
        value: &Value,
        previous: Option<&Self>,
    ) -> Result<Self, ApiStatus> {
        let texts = Texts::of(value).map_err(|error| ApiStatus::internal(error.to_string()))?;
        let metadata = read_metadata(value)?;
        let key = (metadata.namespace, metadata.name);
        let meta = Meta {
            uid: metadata.uid,
            finalizers: metadata.finalizers,
            owner_references: metadata.owner_references,
            deletion_timestamp: metadata.deletion_timestamp,
            deletion_grace_period_seconds: metadata.deletion_grace_period_seconds,
        };
        let mut own_bytes = 0;
        let mut share = |before: Option<&Bytes>, text: Vec<u8>| match before {
            Some(before) if **before == *text => before.clone(),
            _ => {
                own_bytes += text.len();
                // Not larger than it has to be: most texts stay.
                Bytes::from(text.into_boxed_slice())
            }
        };
        let rest = share(previous.map(|previous| &previous.rest), texts.rest);
        let metadata = share(previous.map(|previous| &previous.metadata), texts.metadata);
        let status = share(previous.map(|previous| &previous.status), texts.status);
        Ok(Self {
            revision,
            key: match previous {
                Some(previous) if *previous.key == key => previous.key.clone(),
                _ => Arc::new(key),
            },
            meta: match previous {
                Some(previous) if *previous.meta == meta => previous.meta.clone(),
                _ => Arc::new(meta),
            },
            rest,
            metadata,
            status,
            own_bytes,
            resource,
        })
    }

    /// The same under a later revision.
    pub(crate) fn at_revision(&self, revision: u64) -> Self {
        Self {
            revision,
            own_bytes: 0,
            ..self.clone()
        }
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.key.0
    }

    pub(crate) fn name(&self) -> &str {
        &self.key.1
    }

    pub(crate) fn reference(&self) -> ObjectRef {
        ObjectRef {
            resource: self.resource.clone(),
            key: self.key.clone(),
        }
    }

    /// What this version takes that the one before does not, in bytes.
    pub(crate) fn own_bytes(&self) -> usize {
        self.own_bytes + size_of::<Self>()
    }

    /// The object's JSON.
    pub(crate) fn json(&self) -> Bytes {
        let length = self.rest.len() + self.metadata.len() + self.status.len() + 64;
        let mut json = Vec::with_capacity(length);
        json.extend_from_slice(&self.rest);
        json.extend_from_slice(b",\"metadata\":");
        self.write_metadata(&mut json);
        if !self.status.is_empty() {
            json.extend_from_slice(b",\"status\":");
            json.extend_from_slice(&self.status);
        }
        json.push(b'}');
        json.into()
    }

    /// The object as `PartialObjectMetadata`.
    pub(crate) fn metadata_only(&self) -> Bytes {
        let head = br#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":"#;
        let mut json = Vec::with_capacity(head.len() + self.metadata.len() + 64);
        json.extend_from_slice(head);
        self.write_metadata(&mut json);
        json.push(b'}');
        json.into()
    }

    fn write_metadata(&self, json: &mut Vec<u8>) {
        json.push(b'{');
        // What a dry run would create has no version.
        if self.revision > 0 {
            json.extend_from_slice(b"\"resourceVersion\":\"");
            json.extend_from_slice(self.revision.to_string().as_bytes());
            json.push(b'"');
        }
        if !self.metadata.is_empty() {
            if self.revision > 0 {
                json.push(b',');
            }
            json.extend_from_slice(&self.metadata);
        }
        json.push(b'}');
    }

    /// The parsed object.
    pub(crate) fn value(&self) -> Result<Value, ApiStatus> {
        parse(&self.json())
    }

    /// Whether the object is kept in this API version.
    pub(crate) fn is_of_version(&self, api_version: &str) -> bool {
        let head = format!("{{\"apiVersion\":{},", Value::from(api_version));
        self.rest.starts_with(head.as_bytes())
    }

    /// Whether labels are known to be the same as in another version, without reading them.
    pub(crate) fn shares_metadata(&self, other: &Self) -> bool {
        self.metadata.as_ptr() == other.metadata.as_ptr()
            && self.metadata.len() == other.metadata.len()
    }

    /// `metadata.labels`; empty where the object has none.
    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Labelled {
            labels: Option<BTreeMap<String, String>>,
        }
        let mut metadata = Vec::with_capacity(self.metadata.len() + 64);
        self.write_metadata(&mut metadata);
        let labelled: Labelled = json::parse(&metadata).unwrap_or_default();
        labelled.labels.unwrap_or_default()
    }
}

/// Whether lists of a resource may be filtered by fields that other resources do not have.
pub(crate) fn has_own_fields(resource: &str) -> bool {
    !selectable(resource).is_empty()
}

/// Whether lists of a resource may be filtered by a field.
pub(crate) fn is_selectable(resource: &str, field: &str) -> bool {
    matches!(field, "metadata.name" | "metadata.namespace")
        || selectable(resource)
            .iter()
            .any(|(known, _)| *known == field)
}

/// The text of a field other than those of the key; absent ones are empty.
pub(crate) fn selected_field<'a>(resource: &str, value: &'a Value, field: &str) -> &'a str {
    let mut known = selectable(resource).iter();
    let places = known.find(|(known, _)| *known == field);
    let mut texts = places
        .into_iter()
        .flat_map(|(_, pointers)| *pointers)
        .map(|pointer| text_at(value, pointer));
    texts.find(|text| !text.is_empty()).unwrap_or_default()
}

/// The JSON of an object in three texts, see [`Stored`].
struct Texts {
    rest: Vec<u8>,
    metadata: Vec<u8>,
    status: Vec<u8>,
}

impl Texts {
    fn of(value: &Value) -> Result<Self, serde_json::Error> {
        let member = |name: &str| value.get(name).unwrap_or(&Value::Null);
        let mut texts = Self {
            rest: b"{\"apiVersion\":".to_vec(),
            metadata: Vec::new(),
            status: Vec::new(),
        };
        serde_json::to_writer(&mut texts.rest, member("apiVersion"))?;
        texts.rest.extend_from_slice(b",\"kind\":");
        serde_json::to_writer(&mut texts.rest, member("kind"))?;
        for (name, member) in value.as_object().into_iter().flatten() {
            match name.as_str() {
                "apiVersion" | "kind" => {}
                "metadata" => {
                    let members = member.as_object().into_iter().flatten();
                    let kept = members.filter(|(name, _)| *name != "resourceVersion");
                    for (name, member) in kept {
                        write_member(&mut texts.metadata, name, member)?;
                    }
                }
                "status" => serde_json::to_writer(&mut texts.status, member)?,
                _ => write_member(&mut texts.rest, name, member)?,
            }
        }
        Ok(texts)
    }
}

/// Appends one member of a JSON object, after a comma if there is anything before it.
fn write_member(text: &mut Vec<u8>, name: &str, member: &Value) -> Result<(), serde_json::Error> {
    if !text.is_empty() {
        text.push(b',');
    }
    serde_json::to_writer(&mut *text, name)?;
    text.push(b':');
    serde_json::to_writer(text, member)
}

/// Parses JSON that this server wrote itself.
pub(crate) fn parse(json: &[u8]) -> Result<Value, ApiStatus> {
    json::parse(json)
        .map_err(|error| ApiStatus::internal(format!("stored object is unreadable: {error}")))
}

/// Reads the decisive part of the metadata. Wrong types are the client's mistake.
pub(crate) fn read_metadata(value: &Value) -> Result<Metadata, ApiStatus> {
    let Some(metadata) = value.get("metadata") else {
        return Ok(Metadata::default());
    };
    Metadata::deserialize(Defaulted(metadata).value()).map_err(|error| {
        ApiStatus::bad_request(format!("unable to read the object: metadata: {error}"))
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

/// The fields of a resource by which it can be selected, and where they are; of several places the first that is not empty.
fn selectable(resource: &str) -> &'static [(&'static str, &'static [&'static str])] {
    match resource {
        PODS => &[
            ("spec.nodeName", &["/spec/nodeName"]),
            ("spec.restartPolicy", &["/spec/restartPolicy"]),
            ("spec.schedulerName", &["/spec/schedulerName"]),
            ("spec.serviceAccountName", &["/spec/serviceAccountName"]),
            ("status.phase", &["/status/phase"]),
            ("status.podIP", &["/status/podIP"]),
        ],
        EVENTS => &[
            ("involvedObject.kind", &["/involvedObject/kind"]),
            ("involvedObject.namespace", &["/involvedObject/namespace"]),
            ("involvedObject.name", &["/involvedObject/name"]),
            ("involvedObject.uid", &["/involvedObject/uid"]),
            ("involvedObject.apiVersion", &["/involvedObject/apiVersion"]),
            (
                "involvedObject.resourceVersion",
                &["/involvedObject/resourceVersion"],
            ),
            ("involvedObject.fieldPath", &["/involvedObject/fieldPath"]),
            ("reason", &["/reason"]),
            ("source", &["/source/component", "/reportingComponent"]),
            ("reportingComponent", &["/reportingComponent"]),
            ("type", &["/type"]),
        ],
        NAMESPACES => &[("status.phase", &["/status/phase"])],
        "secrets" => &[("type", &["/type"])],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod", "spec": {"nodeName": "n", "env": "x".repeat(4000)}, "status": {"phase": "Pending"},
            "metadata": {"name": "p", "namespace": "d", "uid": "u", "resourceVersion": "1", "labels": {"a": "b"}},
        })
    }

    #[test]
    fn a_version_costs_what_it_changes() {
        let before = Stored::new("pods".into(), 7, &pod(), None).unwrap();
        let mut value = pod();
        value["status"]["phase"] = json!("Running");
        let after = Stored::new("pods".into(), 8, &value, Some(&before)).unwrap();
        assert!(before.own_bytes() > 4000);
        assert!(after.own_bytes() < 1000, "{}", after.own_bytes());
        assert!(after.shares_metadata(&before));
        value["metadata"]["labels"]["a"] = json!("c");
        let labelled = Stored::new("pods".into(), 9, &value, Some(&after)).unwrap();
        assert!(!labelled.shares_metadata(&after));
        assert_eq!(labelled.labels()["a"], "c");
    }

    #[test]
    fn a_version_reads_as_it_was_written_under_its_own_revision() {
        let mut value = pod();
        let stored = Stored::new("pods".into(), 7, &value, None).unwrap();
        value["metadata"]["resourceVersion"] = json!("7");
        assert_eq!(stored.value().unwrap(), value);
        value["metadata"]["resourceVersion"] = json!("9");
        assert_eq!(stored.at_revision(9).value().unwrap(), value);
        let json = parse(&stored.at_revision(9).json()).unwrap();
        let again = Stored::new("pods".into(), 9, &json, None).unwrap();
        assert_eq!(again.value().unwrap(), value);
        let metadata = parse(&again.metadata_only()).unwrap();
        assert_eq!(metadata["metadata"], value["metadata"]);
        assert!(stored.is_of_version("v1") && !stored.is_of_version("v"));
    }

    #[test]
    fn what_has_only_metadata_is_whole_json() {
        let value = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}});
        let stored = Stored::new("configmaps".into(), 1, &value, None).unwrap();
        let expected =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"resourceVersion": "1"}});
        assert_eq!(stored.value().unwrap(), expected);
    }
}
