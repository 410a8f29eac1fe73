//! The FlyteWorkflow resource and the closure-to-resource transform.
