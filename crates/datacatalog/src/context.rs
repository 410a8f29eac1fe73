//! What every handler works with.

use flyte_platform::{Clock, blob::BlobStore, server::BodyBudget, sql::Database};

use crate::{
    domain::{locations::Folder, reservations::Terms, retention::Policy},
    metrics::CatalogMetrics,
};

/// The dependencies of datacatalog, wired once.
pub(crate) struct CatalogContext {
    pub(crate) database: Database,
    pub(crate) blobs: BlobStore,
    /// Where new outputs go.
    pub(crate) folder: Folder,
    /// How long reservations last.
    pub(crate) terms: Terms,
    /// What is kept.
    pub(crate) policy: Policy,
    pub(crate) clock: Clock,
    pub(crate) metrics: CatalogMetrics,
    pub(crate) bodies: BodyBudget,
    /// The largest message, in bytes, that requests may have and that lists fill.
    pub(crate) message_bytes: usize,
    /// Whether gRPC reflection answers.
    pub(crate) reflection: bool,
}
