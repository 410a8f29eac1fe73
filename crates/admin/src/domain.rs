//! The rules of flyteadmin.

pub mod lists;
