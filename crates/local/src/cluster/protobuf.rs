//! Bodies in Kubernetes' protobuf, for the few kinds that `kubectl create` makes by flags, and for what typed clients (Helm,
//! `kubectl drain`, `kubectl auth can-i`) send besides objects: they send it in no other form and do not fall back. Other
//! kinds are refused as an unknown format, answers are always JSON.
//!
//! The field numbers are those of the `generated.proto` files of Kubernetes' API, where they never change.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use prost::Message;
use serde_json::{Map, Value, json};

use crate::cluster::resource::{NAMESPACES, Resource};

/// The media type of such bodies.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// What every such body begins with.
const MAGIC: &[u8] = b"k8s\0";

/// Why a body cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProtobufError {
    /// There is no reading of this kind.
    #[error("objects of this kind are read as JSON and YAML")]
    Kind,
    /// The body does not begin as it should.
    #[error("it has no protobuf prefix")]
    Prefix,
    /// The body is not the message that it should be.
    #[error("it is not a message of its kind: {0}")]
    Message(#[from] prost::DecodeError),
}

/// `runtime.Unknown`: an object and what it is.
#[derive(Clone, PartialEq, Message)]
struct Envelope {
    #[prost(message, optional, tag = "1")]
    type_meta: Option<TypeMeta>,
    #[prost(bytes = "vec", tag = "2")]
    raw: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct TypeMeta {
    #[prost(string, tag = "1")]
    api_version: String,
    #[prost(string, tag = "2")]
    kind: String,
}

/// What a client gives; the rest is the server's.
#[derive(Clone, PartialEq, Message)]
struct ObjectMeta {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    generate_name: String,
    #[prost(string, tag = "3")]
    namespace: String,
    #[prost(string, tag = "5")]
    uid: String,
    #[prost(string, tag = "6")]
    resource_version: String,
    #[prost(btree_map = "string, string", tag = "11")]
    labels: BTreeMap<String, String>,
    #[prost(btree_map = "string, string", tag = "12")]
    annotations: BTreeMap<String, String>,
    #[prost(message, repeated, tag = "13")]
    owner_references: Vec<OwnerReference>,
    #[prost(string, repeated, tag = "14")]
    finalizers: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct OwnerReference {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    uid: String,
    #[prost(string, tag = "5")]
    api_version: String,
    #[prost(bool, optional, tag = "6")]
    controller: Option<bool>,
    #[prost(bool, optional, tag = "7")]
    block_owner_deletion: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
struct ConfigMap {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ObjectMeta>,
    #[prost(btree_map = "string, string", tag = "2")]
    data: BTreeMap<String, String>,
    #[prost(btree_map = "string, bytes", tag = "3")]
    binary_data: BTreeMap<String, Vec<u8>>,
    #[prost(bool, optional, tag = "4")]
    immutable: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
struct Secret {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ObjectMeta>,
    #[prost(btree_map = "string, bytes", tag = "2")]
    data: BTreeMap<String, Vec<u8>>,
    #[prost(string, tag = "3")]
    kind: String,
    #[prost(btree_map = "string, string", tag = "4")]
    string_data: BTreeMap<String, String>,
    #[prost(bool, optional, tag = "5")]
    immutable: Option<bool>,
}

/// Namespaces and service accounts, of which clients give no more.
#[derive(Clone, PartialEq, Message)]
struct Plain {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ObjectMeta>,
}

#[derive(Clone, PartialEq, Message)]
struct DeleteOptions {
    #[prost(int64, optional, tag = "1")]
    grace_period_seconds: Option<i64>,
    #[prost(message, optional, tag = "2")]
    preconditions: Option<Preconditions>,
    #[prost(bool, optional, tag = "3")]
    orphan_dependents: Option<bool>,
    #[prost(string, optional, tag = "4")]
    propagation_policy: Option<String>,
    #[prost(string, repeated, tag = "5")]
    dry_run: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Preconditions {
    #[prost(string, optional, tag = "1")]
    uid: Option<String>,
    #[prost(string, optional, tag = "2")]
    resource_version: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Eviction {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ObjectMeta>,
    #[prost(message, optional, tag = "2")]
    delete_options: Option<DeleteOptions>,
}

fn envelope(body: &[u8]) -> Result<Envelope, ProtobufError> {
    let rest = body.strip_prefix(MAGIC).ok_or(ProtobufError::Prefix)?;
    Ok(Envelope::decode(rest)?)
}

/// The options of a delete request, as JSON.
pub(crate) fn delete_options(body: &[u8]) -> Result<Value, ProtobufError> {
    let options = DeleteOptions::decode(&*envelope(body)?.raw)?;
    Ok(options_as_json(options))
}

fn options_as_json(options: DeleteOptions) -> Value {
    let preconditions = options.preconditions.map(|given| {
        present(json!({ "uid": given.uid, "resourceVersion": given.resource_version }))
    });
    present(json!({
        "gracePeriodSeconds": options.grace_period_seconds, "preconditions": preconditions,
        "orphanDependents": options.orphan_dependents, "propagationPolicy": options.propagation_policy,
        "dryRun": options.dry_run,
    }))
}

/// An eviction, as JSON.
pub(crate) fn eviction(body: &[u8]) -> Result<Value, ProtobufError> {
    let eviction = Eviction::decode(&*envelope(body)?.raw)?;
    let options = eviction.delete_options.map(options_as_json);
    Ok(json!({ "metadata": metadata(eviction.metadata), "deleteOptions": options }))
}

/// What a body is, as JSON without its content: for reviews, which are answered alike whatever they ask.
pub(crate) fn type_only(body: &[u8]) -> Result<Value, ProtobufError> {
    let is = envelope(body)?.type_meta.unwrap_or_default();
    Ok(json!({ "apiVersion": is.api_version, "kind": is.kind, "metadata": {}, "spec": {} }))
}

/// The object in a protobuf body, as JSON.
pub(crate) fn read(body: &[u8], resource: &Resource) -> Result<Value, ProtobufError> {
    let decode: fn(&[u8]) -> Result<Value, prost::DecodeError> = match &*resource.id {
        "configmaps" => config_map,
        "secrets" => secret,
        NAMESPACES | "serviceaccounts" => plain,
        _ => return Err(ProtobufError::Kind),
    };
    let envelope = envelope(body)?;
    let mut value = decode(&envelope.raw)?;
    if let (Some(members), Some(is)) = (value.as_object_mut(), envelope.type_meta) {
        members.insert("apiVersion".to_owned(), is.api_version.into());
        members.insert("kind".to_owned(), is.kind.into());
    }
    Ok(value)
}

fn config_map(raw: &[u8]) -> Result<Value, prost::DecodeError> {
    let map = ConfigMap::decode(raw)?;
    Ok(present(json!({
        "metadata": metadata(map.metadata), "data": map.data, "binaryData": encoded(map.binary_data),
        "immutable": map.immutable,
    })))
}

fn secret(raw: &[u8]) -> Result<Value, prost::DecodeError> {
    let secret = Secret::decode(raw)?;
    Ok(present(json!({
        "metadata": metadata(secret.metadata), "data": encoded(secret.data), "type": secret.kind,
        "stringData": secret.string_data, "immutable": secret.immutable,
    })))
}

fn plain(raw: &[u8]) -> Result<Value, prost::DecodeError> {
    let plain = Plain::decode(raw)?;
    Ok(json!({ "metadata": metadata(plain.metadata) }))
}

fn metadata(meta: Option<ObjectMeta>) -> Value {
    let meta = meta.unwrap_or_default();
    let owners = meta.owner_references.into_iter().map(|owner| {
        present(json!({
            "apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name, "uid": owner.uid,
            "controller": owner.controller, "blockOwnerDeletion": owner.block_owner_deletion,
        }))
    });
    let owners: Vec<Value> = owners.collect();
    present(json!({
        "name": meta.name, "generateName": meta.generate_name, "namespace": meta.namespace, "uid": meta.uid,
        "resourceVersion": meta.resource_version, "labels": meta.labels, "annotations": meta.annotations,
        "ownerReferences": owners, "finalizers": meta.finalizers,
    }))
}

/// Bytes as JSON has them.
fn encoded(data: BTreeMap<String, Vec<u8>>) -> BTreeMap<String, String> {
    data.into_iter()
        .map(|(key, bytes)| (key, BASE64_STANDARD.encode(bytes)))
        .collect()
}

/// The members that are there: in protobuf, an empty one and an absent one are the same.
fn present(object: Value) -> Value {
    let is_there = |member: &Value| match member {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    };
    match object {
        Value::Object(members) => {
            let kept = members.into_iter().filter(|(_, member)| is_there(member));
            Value::Object(kept.collect::<Map<String, Value>>())
        }
        other => other,
    }
}
