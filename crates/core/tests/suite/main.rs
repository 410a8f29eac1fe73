//! Tests of flyte-core through its public interface, most of them against recordings of the reference.

mod arrays;
mod cache_keys;
mod compiler;
mod depth;
mod digests;
mod properties;
mod references;
