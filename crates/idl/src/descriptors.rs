//! The descriptor set of `proto/`, for reflection, the REST gateway and the JSON codecs.

use std::sync::LazyLock;

use prost::Name;
use prost_reflect::{DescriptorPool, MessageDescriptor};

/// The encoded `FileDescriptorSet` of all files in `proto/` and the well-known types they import.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("the build script compiled this very set")
});

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
