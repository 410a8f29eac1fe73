//! What a scan must know of every kind of message: its fields, and what decoding one adds to the memory taken.

use std::{
    collections::{HashMap, HashSet},
    mem::size_of,
    sync::LazyLock,
};

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use super::unprintable::Unprintable;
use crate::descriptors;

// What the build script generates names this crate from outside.
use crate as flyte_idl;

/// Memory of a kind that is not listed: none of those is part of a request.
const UNLISTED: usize = 64;

/// What a field of a message is.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// One value that is not a message: text, bytes, a number; with the memory that another one takes.
    Leaf { memory: usize },
    /// Numbers, which may be packed: each has a length of its own.
    Numbers,
    /// A message of the kind with this index; with the memory that another one takes, nothing where it has its
    /// place in the message around it.
    Message { kind: usize, memory: usize },
}

impl Shape {
    /// Bytes that a value of the field takes in memory besides the message that it is in.
    pub(super) fn memory(&self) -> usize {
        match self {
            Self::Leaf { memory } | Self::Message { memory, .. } => *memory,
            Self::Numbers => 0,
        }
    }
}

pub(super) struct Table {
    pub(super) by_name: HashMap<String, usize>,
    pub(super) fields: Vec<HashMap<u32, Shape>>,
    /// Kinds whose values JSON may have no text for.
    pub(super) values: HashMap<usize, Unprintable>,
    names: Vec<String>,
}

impl Table {
    /// The full name of a kind.
    pub(super) fn name(&self, kind: usize) -> &str {
        self.names.get(kind).map_or("", String::as_str)
    }
}

pub(super) static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let messages: Vec<MessageDescriptor> = descriptors::pool().all_messages().collect();
    let names: Vec<String> = messages
        .iter()
        .map(|message| message.full_name().to_owned())
        .collect();
    let by_name: HashMap<String, usize> = names
        .iter()
        .enumerate()
        .map(|(index, name)| (name.clone(), index))
        .collect();
    let sizes = sizes();
    let fields = messages
        .iter()
        .map(|message| {
            message
                .fields()
                .map(|field| (field.number(), shape(message, &field, &by_name, &sizes)))
                .collect()
        })
        .collect();
    let values = [
        ("google.protobuf.Value", Unprintable::Number),
        ("google.protobuf.Timestamp", Unprintable::Timestamp),
        ("google.protobuf.Duration", Unprintable::Duration),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((*by_name.get(name)?, value)))
    .collect();
    Table {
        by_name,
        fields,
        values,
        names,
    }
});

fn shape(
    message: &MessageDescriptor,
    field: &FieldDescriptor,
    by_name: &HashMap<String, usize>,
    sizes: &HashMap<&'static str, usize>,
) -> Shape {
    let is_apart = field.is_list() || field.is_map();
    match field.kind() {
        Kind::Message(inner) => match by_name.get(inner.full_name()) {
            Some(&kind) if is_apart || contains(&inner, message) => Shape::Message {
                kind,
                memory: size(&inner, sizes),
            },
            Some(&kind) => Shape::Message { kind, memory: 0 },
            None => Shape::Leaf { memory: 0 },
        },
        Kind::String | Kind::Bytes => Shape::Leaf {
            memory: if is_apart { size_of::<String>() } else { 0 },
        },
        _ => Shape::Numbers,
    }
}

/// Bytes of a generated message without what it owns elsewhere.
fn size(message: &MessageDescriptor, sizes: &HashMap<&'static str, usize>) -> usize {
    if message.is_map_entry() {
        let value = match message.map_entry_value_field().kind() {
            Kind::Message(value) => size(&value, sizes),
            _ => size_of::<String>(),
        };
        return size_of::<String>() + value;
    }
    sizes.get(message.full_name()).copied().unwrap_or(UNLISTED)
}

/// Whether a message has, not in a list or map, messages of the kind `wanted` at some depth, itself included: then prost
/// puts it in a box.
fn contains(message: &MessageDescriptor, wanted: &MessageDescriptor) -> bool {
    let mut seen = HashSet::new();
    let mut waiting = vec![message.clone()];
    while let Some(current) = waiting.pop() {
        if current == *wanted {
            return true;
        }
        if seen.insert(current.full_name().to_owned()) {
            let singular = current
                .fields()
                .filter(|field| !field.is_list() && !field.is_map());
            waiting.extend(singular.filter_map(|field| match field.kind() {
                Kind::Message(inner) => Some(inner),
                _ => None,
            }));
        }
    }
    false
}

/// Bytes of each generated message, by its full name.
fn sizes() -> HashMap<&'static str, usize> {
    let mut sizes = HashMap::from([
        ("google.protobuf.Any", size_of::<prost_types::Any>()),
        (
            "google.protobuf.Duration",
            size_of::<prost_types::Duration>(),
        ),
        (
            "google.protobuf.ListValue",
            size_of::<prost_types::ListValue>(),
        ),
        ("google.protobuf.Struct", size_of::<prost_types::Struct>()),
        (
            "google.protobuf.Timestamp",
            size_of::<prost_types::Timestamp>(),
        ),
        ("google.protobuf.Value", size_of::<prost_types::Value>()),
    ]);
    macro_rules! message {
        ($name:literal, $message:path) => {
            sizes.insert($name, size_of::<$message>());
        };
    }
    include!(concat!(env!("OUT_DIR"), "/registry.rs"));
    sizes
}
