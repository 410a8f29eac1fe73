//! Tests of flyte-idl through its public interface.

mod gateway;
mod inventory;
mod properties;
mod routes;
