//! Pure domain logic of Flyte without I/O.
