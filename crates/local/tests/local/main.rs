//! Tests of the embedded platform through its public faces.
#![cfg(test)]

mod cluster;
mod collection;
mod conformance;
mod doors;
mod events;
mod joined;
mod kubelet;
mod platform;
mod processes;
mod protobuf;
mod s3;
mod signing;
mod unread;
mod uploads;
mod validation;
mod volumes;
