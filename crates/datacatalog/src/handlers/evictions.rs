//! The removal of entries: their rows in one transaction, then the objects that these named.
//!
//! In this order nobody finds an entry whose outputs are gone. Whatever is interrupted in between leaves objects without rows,
//! which [`crate::retention`] removes. An entry that was written again since it was selected stays.

use flyte_platform::sql::DbError;
use futures::{StreamExt as _, stream};

use super::outputs;
use crate::{
    context::CatalogContext,
    domain::entries::Selection,
    error::Result,
    metrics::Reason,
    records::ArtifactKey,
    repository::entries::{self, Seen},
};

/// Entries that are removed in one transaction: on SQLite others wait for it to write.
pub(crate) const ENTRIES_AT_ONCE: u64 = 50;

/// Entries whose objects are removed at once.
const OBJECTS_OF_AT_ONCE: usize = 4;

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Removed {
    /// Entries.
    pub(crate) entries: u64,
    /// Their bytes, as far as they were measured.
    pub(crate) bytes: u64,
}

impl Removed {
    pub(crate) fn add(&mut self, more: Self) {
        self.entries = self.entries.saturating_add(more.entries);
        self.bytes = self.bytes.saturating_add(more.bytes);
    }
}

/// Removes at most `most` of the entries that `selection` fits, the oldest first. Fewer than `most` are removed when there are
/// no more, or none of those that remain is as it was.
pub(crate) async fn evict(
    context: &CatalogContext,
    selection: &Selection,
    most: u64,
    reason: Reason,
) -> Result<Removed> {
    let mut removed = Removed::default();
    while removed.entries < most {
        let limit = ENTRIES_AT_ONCE.min(most - removed.entries);
        let mut tx = context.database.read().await?;
        let seen = entries::oldest(&mut tx, selection, limit).await?;
        drop(tx);
        if seen.is_empty() {
            break;
        }
        let last = (seen.len() as u64) < limit;
        let of_batch = remove(context, seen, reason).await?;
        removed.add(of_batch);
        if last || of_batch == Removed::default() {
            break;
        }
    }
    Ok(removed)
}

/// Removes those of these entries that are as they were seen.
pub(crate) async fn remove(
    context: &CatalogContext,
    seen: Vec<Seen>,
    reason: Reason,
) -> Result<Removed> {
    let removal = context.database.write(seen, |seen, tx| {
        Box::pin(async move {
            let mut gone: Vec<(ArtifactKey, u64, Vec<String>)> = Vec::with_capacity(seen.len());
            for entry in seen {
                if let Some(locations) = entries::remove(tx, entry).await? {
                    let bytes = entry.bytes.unwrap_or_default();
                    gone.push((entry.key.clone(), bytes, locations));
                }
            }
            Ok::<_, DbError>(gone)
        })
    });
    let gone = removal.await?;
    let removed = Removed {
        entries: gone.len() as u64,
        bytes: gone.iter().map(|(_, bytes, _)| bytes).sum(),
    };
    context.metrics.retention.removed(reason, &removed);
    stream::iter(gone)
        .for_each_concurrent(OBJECTS_OF_AT_ONCE, |(key, _, locations)| async move {
            outputs::remove(context, &key, locations).await;
        })
        .await;
    Ok(removed)
}
