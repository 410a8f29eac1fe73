//! The engine that drives FlyteWorkflow resources.
