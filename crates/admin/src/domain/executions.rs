//! Executions: what a request to create one must obey, the record that it becomes, and how admin itself changes that.

pub(crate) mod concurrency;
pub(crate) mod config;
pub(crate) mod folder;
pub(crate) mod lineage;
pub(crate) mod record;
pub(crate) mod request;
pub(crate) mod resource;
pub(crate) mod transitions;
