//! Which workflow resource: what pods and wake-ups are matched by.

/// Namespace and name of a workflow resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}
