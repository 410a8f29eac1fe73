//! What is left behind, and how it ends.
//!
//! | left behind | found | by |
//! |---|---|---|
//! | nodes and pods of which no status tells, when a workflow fails or is aborted | before its last event | [`leftovers`] |
//! | pods whose workflow is over or gone | at the start, and when such a pod changes | [`orphans`] |
//! | resources of workflows that ended long ago | every `propeller.gc-interval` | [`garbage`] |

pub(crate) mod garbage;
pub mod leftovers;
pub(crate) mod orphans;
