//! Task plugins: task template to pod and back to a phase.
