//! Tests of the embedded platform through its public faces.
#![cfg(test)]

mod cluster;
mod events;
mod kubelet;
mod platform;
mod protobuf;
mod s3;
mod signing;
