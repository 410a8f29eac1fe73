//! The descriptor set of `proto/`, for reflection, the REST gateway and the JSON codecs.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use prost::{Message, Name};
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, MapKey, MessageDescriptor, Value,
};

/// The encoded `FileDescriptorSet` of all files in `proto/` and the well-known types they import.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("the build script compiled this very set")
});

/// Fields of every message in order of declaration; prost-reflect itself lists them by number.
static FIELDS: LazyLock<HashMap<String, Arc<[FieldDescriptor]>>> = LazyLock::new(|| {
    pool()
        .all_messages()
        .map(|message| (message.full_name().to_owned(), declared(&message)))
        .collect()
});

fn declared(message: &MessageDescriptor) -> Arc<[FieldDescriptor]> {
    message
        .descriptor_proto()
        .field
        .iter()
        .filter_map(|field| message.get_field(u32::try_from(field.number()).ok()?))
        .collect()
}

/// All descriptors, decoded once.
pub fn pool() -> &'static DescriptorPool {
    &POOL
}

/// The descriptor of a generated message.
pub fn message<M: Name>() -> MessageDescriptor {
    pool()
        .get_message_by_name(&M::full_name())
        .expect("every generated message is in the set it was generated from")
}

/// The fields of a message in order of declaration, the order in which Go prints them.
pub fn fields(message: &MessageDescriptor) -> Arc<[FieldDescriptor]> {
    FIELDS
        .get(message.full_name())
        .cloned()
        .unwrap_or_else(|| declared(message))
}

/// A generated message as a dynamic one.
pub fn dynamic<M: Message + Name>(source: &M) -> DynamicMessage {
    DynamicMessage::decode(message::<M>(), source.encode_to_vec().as_slice())
        .expect("what prost encodes is valid for the descriptor it was generated from")
}

/// The keys of a map field in the order of Go's writers: false before true, numbers ascending, text bytewise.
pub fn sorted_keys<S>(entries: &HashMap<MapKey, Value, S>) -> Vec<&MapKey> {
    let mut keys: Vec<&MapKey> = entries.keys().collect();
    keys.sort_unstable();
    keys
}
