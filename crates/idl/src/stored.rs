//! Persisted messages that a newer client, or a newer Flyte, may have written.
//!
//! A generated message forgets fields that it does not know, so writing one back would lose them. [`Stored`]
//! keeps the bytes; an update that meets unknown fields puts them into the new bytes (design, "Persisted messages").

use std::collections::HashMap;

use prost::{Message, Name};
use prost_reflect::{
    DynamicMessage, MapKey, MessageDescriptor, ReflectMessage as _, UnknownField, Value,
};

use crate::{
    descriptors,
    nesting::{self, NestingError},
};

/// A message together with the bytes that it was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored<M> {
    bytes: Vec<u8>,
    message: M,
    has_unknown: bool,
}

impl<M: Message + Name + Default> Stored<M> {
    /// Scans and decodes bytes.
    pub fn decode(bytes: Vec<u8>) -> Result<Self, NestingError> {
        let scan = nesting::scan(&descriptors::message::<M>(), &bytes)?;
        let message = M::decode(bytes.as_slice()).map_err(|_| NestingError::Malformed)?;
        Ok(Self {
            bytes,
            message,
            has_unknown: scan.has_unknown,
        })
    }

    /// A message of our own making.
    pub fn new(message: M) -> Self {
        Self {
            bytes: message.encode_to_vec(),
            message,
            has_unknown: false,
        }
    }

    /// The fields that we know.
    pub fn get(&self) -> &M {
        &self.message
    }

    /// The fields that we know, giving up the others.
    pub fn into_inner(self) -> M {
        self.message
    }

    /// The bytes to persist, unknown fields included.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// As [`Stored::bytes`], giving up the message.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Whether there are fields that we do not know.
    pub fn has_unknown(&self) -> bool {
        self.has_unknown
    }

    /// The message with its unknown fields; none if it has none.
    pub fn unknown(&self) -> Option<DynamicMessage> {
        if !self.has_unknown {
            return None;
        }
        DynamicMessage::decode(descriptors::message::<M>(), self.bytes.as_slice()).ok()
    }

    /// Takes over the unknown fields of `source`, a message of the same type, for every part that both have.
    pub fn keep(&mut self, source: &DynamicMessage) {
        if let Some(bytes) = merged(&descriptors::message::<M>(), source, &self.bytes) {
            self.has_unknown |= bytes != self.bytes;
            self.bytes = bytes;
        }
    }

    /// Changes the message. Unknown fields of every part that is still there afterwards are kept: parts are
    /// the same when they are at the same field, map key, or place in a list; in a list of things with ids, when
    /// they have the same id.
    pub fn update(&mut self, change: impl FnOnce(&mut M)) {
        change(&mut self.message);
        let bytes = self.message.encode_to_vec();
        self.bytes = if self.has_unknown {
            merge_unknown(&descriptors::message::<M>(), &self.bytes, &bytes).unwrap_or(bytes)
        } else {
            bytes
        };
    }
}

/// The message `new` with the unknown fields of `old`. `None` when either does not decode.
pub fn merge_unknown(descriptor: &MessageDescriptor, old: &[u8], new: &[u8]) -> Option<Vec<u8>> {
    let old = DynamicMessage::decode(descriptor.clone(), old).ok()?;
    merged(descriptor, &old, new)
}

/// As [`merge_unknown`], for an old message that has been decoded.
pub fn merged(descriptor: &MessageDescriptor, old: &DynamicMessage, new: &[u8]) -> Option<Vec<u8>> {
    let new = DynamicMessage::decode(descriptor.clone(), new).ok()?;
    Some(write(new, old))
}

/// Encodes `new`, giving it and each sub-message the unknown fields of its counterpart in `old`.
fn write(mut new: DynamicMessage, old: &DynamicMessage) -> Vec<u8> {
    for (field, value) in new.fields_mut() {
        if old.has_field(&field) {
            merge_value(value, old.get_field(&field).as_ref());
        }
    }
    let mut out = new.encode_to_vec();
    let known: Vec<Vec<u8>> = new.unknown_fields().map(encoded).collect();
    for field in old.unknown_fields().map(encoded) {
        if !known.contains(&field) {
            out.extend(field);
        }
    }
    out
}

fn encoded(field: &UnknownField) -> Vec<u8> {
    let mut bytes = Vec::new();
    field.encode(&mut bytes);
    bytes
}

/// What tells an element of a list from others: its own id, that of its template, or the name of a binding.
fn identity(value: &Value) -> Option<Value> {
    let message = value.as_message()?;
    if let Some(template) = message.get_field_by_name("template") {
        return identity(&template);
    }
    let id = ["id", "var"]
        .into_iter()
        .find_map(|name| message.get_field_by_name(name))?;
    Some(id.into_owned())
}

fn merge_value(new: &mut Value, old: &Value) {
    match (new, old) {
        (Value::Message(new), Value::Message(old)) => merge_message(new, old),
        (Value::List(new), Value::List(old)) => {
            for (place, new) in new.iter_mut().enumerate() {
                let counterpart = match identity(new) {
                    Some(id) => old.iter().find(|old| identity(old).as_ref() == Some(&id)),
                    None => old.get(place),
                };
                if let Some(old) = counterpart {
                    merge_value(new, old);
                }
            }
        }
        (Value::Map(new), Value::Map(old)) => merge_map(new, old),
        _ => {}
    }
}

fn merge_map(new: &mut HashMap<MapKey, Value>, old: &HashMap<MapKey, Value>) {
    for (key, value) in new {
        if let Some(before) = old.get(key) {
            merge_value(value, before);
        }
    }
}

fn merge_message(new: &mut DynamicMessage, old: &DynamicMessage) {
    let bytes = write(new.clone(), old);
    // What was just encoded decodes; should it ever not, the known fields are still right.
    if let Ok(merged) = DynamicMessage::decode(new.descriptor(), bytes.as_slice()) {
        *new = merged;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Identifier, TaskTemplate};

    /// A template with unknown field 900 in itself and 901 in its id.
    fn newer() -> Vec<u8> {
        let id = Identifier {
            name: "n".into(),
            ..Default::default()
        };
        let mut id = id.encode_to_vec();
        prost::encoding::string::encode(901, &"id".to_owned(), &mut id);
        let mut template = Vec::new();
        prost::encoding::bytes::encode(1, &id, &mut template);
        prost::encoding::string::encode(900, &"template".to_owned(), &mut template);
        template
    }

    #[test]
    fn an_update_keeps_what_a_newer_client_wrote() {
        let mut stored = Stored::<TaskTemplate>::decode(newer()).unwrap();
        assert!(stored.has_unknown());
        stored.update(|template| {
            template.r#type = "container".into();
            if let Some(id) = &mut template.id {
                id.version = "v2".into();
            }
        });
        let text = String::from_utf8_lossy(stored.bytes()).into_owned();
        assert!(text.contains("template") && text.contains("id") && text.contains("container"));
        let again = Stored::<TaskTemplate>::decode(stored.bytes().to_vec()).unwrap();
        assert!(again.has_unknown());
        assert_eq!(again.get(), stored.get());
        assert_eq!(again.get().id.as_ref().unwrap().version, "v2");
    }

    #[test]
    fn things_with_ids_keep_their_fields_when_a_list_is_rearranged() {
        use crate::core::{Node, WorkflowTemplate};
        let mut node = Node {
            id: "n0".into(),
            ..Default::default()
        }
        .encode_to_vec();
        prost::encoding::string::encode(900, &"of n0".to_owned(), &mut node);
        let mut source = Vec::new();
        prost::encoding::bytes::encode(4, &node, &mut source);
        let descriptor = descriptors::message::<WorkflowTemplate>();
        let source = DynamicMessage::decode(descriptor, source.as_slice()).unwrap();
        let nodes = ["start-node", "n0"].map(|id| Node {
            id: id.into(),
            ..Default::default()
        });
        let mut stored = Stored::new(WorkflowTemplate {
            nodes: nodes.to_vec(),
            ..Default::default()
        });
        stored.keep(&source);
        stored.keep(&source);
        assert!(stored.has_unknown());
        let nodes = stored.unknown().unwrap();
        let nodes = nodes.get_field_by_name("nodes").unwrap();
        let counts: Vec<usize> = nodes
            .as_list()
            .unwrap()
            .iter()
            .map(|node| node.as_message().unwrap().unknown_fields().count())
            .collect();
        assert_eq!(counts, [0, 1]);
    }

    #[test]
    fn a_part_that_is_removed_takes_its_unknown_fields_along() {
        let mut stored = Stored::<TaskTemplate>::decode(newer()).unwrap();
        stored.update(|template| template.id = None);
        let text = String::from_utf8_lossy(stored.bytes()).into_owned();
        assert!(text.contains("template") && !text.contains("id"));
    }

    #[test]
    fn messages_without_unknown_fields_are_encoded_directly() {
        let mut stored = Stored::new(Identifier::default());
        stored.update(|id| id.name = "n".into());
        assert!(!stored.has_unknown());
        assert_eq!(stored.bytes(), stored.get().encode_to_vec());
    }
}
