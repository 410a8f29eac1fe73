//! Keeps the cache as `datacatalog.retention` says (docs/operations.md, "The cache").
//!
//! ```text
//! run:  entries that are too old --> entries beyond the bytes, the oldest first --> objects that no row refers to
//! ```
//!
//! It wakes when a run is due, of which several processes on one database agree in a table ([`turns`]); should two run at once, an
//! entry is removed once, because it is removed only as it was seen. A run that is interrupted is taken up by the next: whatever it
//! did is decided from rows and objects alone. What it leaves to others: that no request finds half of an entry
//! ([`crate::handlers::evictions`]).

use std::{collections::BTreeSet, future::ready, sync::Arc, time::Duration};

use flyte_platform::{
    Chain,
    blob::{BlobError, BlobStore, Entry},
};
use futures::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::{
    context::CatalogContext,
    domain::{
        entries::Selection,
        locations,
        retention::{Policy, needed},
    },
    error::{Error, Result},
    handlers::{
        evictions::{self, ENTRIES_AT_ONCE, Removed},
        outputs,
    },
    metrics::Reason,
    repository::{
        entries::{self, Seen},
        turns,
    },
};

/// The work's name in [`turns`].
const WORK: &str = "retention";

/// Pause after a run that failed, and the longest between two looks whose turn it is.
const LOOK: Duration = Duration::from_secs(60);

/// Entries that are measured at once, and whose sizes are one transaction.
const MEASURED_AT_ONCE: u64 = 200;

/// Objects whose rows are looked up at once.
const OBJECTS_AT_ONCE: usize = 500;

/// Requests to the store at once.
const REQUESTS_AT_ONCE: usize = 16;

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Entries that were too old.
    pub expired: u64,
    /// Entries that went for their bytes.
    pub over_size: u64,
    /// Bytes of these entries, as far as they were known.
    pub bytes: u64,
    /// Objects without rows that were removed.
    pub orphans: u64,
    /// Bytes of these objects.
    pub orphan_bytes: u64,
}

/// Runs whenever it is this process's turn, until told to stop.
pub(crate) async fn run(context: Arc<CatalogContext>, stop: CancellationToken) {
    let policy = context.policy;
    if policy.keeps_everything() {
        return stop.cancelled().await;
    }
    loop {
        // Not given up at a stop but ended after a batch, so that entries take their objects along.
        let wait = match turn(&context, &stop).await {
            Ok(wait) => wait,
            Err(error) => {
                context.metrics.retention.failed.inc();
                tracing::warn!(error = %Chain(&error), "a run of cache retention failed; the next goes on from what it left");
                LOOK
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Runs if it is due and nobody else does, and says how long nothing is to do.
async fn turn(context: &CatalogContext, stop: &CancellationToken) -> Result<Duration> {
    let interval = context.policy.interval;
    let now = context.clock.now();
    let next = next_turn(context).await?;
    if next.is_none_or(|next| turns::is_due(next, now, interval)) {
        let taking = context
            .database
            .write((now, interval), |(now, interval), tx| {
                Box::pin(turns::take(tx, WORK, *now, *interval))
            });
        if taking.await? {
            once(context, stop).await?;
        }
    }
    let left = next_turn(context)
        .await?
        .map_or(SignedDuration::ZERO, |next| {
            next.duration_since(context.clock.now())
        });
    // Another process may go away, and its clock may be another.
    Ok(Duration::try_from(left).unwrap_or_default().min(LOOK))
}

async fn next_turn(context: &CatalogContext) -> Result<Option<Timestamp>> {
    let mut tx = context.database.read().await?;
    Ok(turns::next(&mut tx, WORK).await?)
}

/// One run, whosever turn it is; `stop` ends it after the batch that is under way.
pub(crate) async fn once(context: &CatalogContext, stop: &CancellationToken) -> Result<Run> {
    let policy = context.policy;
    let now = context.clock.now();
    let mut run = Run::default();
    if let Some(expired) = policy.expired(now) {
        let mut removed = Removed::default();
        while !stop.is_cancelled() {
            let batch = evictions::evict(context, &expired, ENTRIES_AT_ONCE, Reason::Age).await?;
            removed.add(batch);
            if batch.entries < ENTRIES_AT_ONCE {
                break;
            }
        }
        run.expired = removed.entries;
        run.bytes = removed.bytes;
    }
    if let Some(most) = policy.max_bytes {
        measure(context, stop).await?;
        let removed = shrink(context, most, stop).await?;
        run.over_size = removed.entries;
        run.bytes += removed.bytes;
    }
    if let Some(grace) = policy.orphan_grace {
        let before = now.saturating_sub(grace).unwrap_or(now);
        (run.orphans, run.orphan_bytes) = remove_orphans(context, before, stop).await?;
    }
    context.metrics.retention.ran.inc();
    let Policy {
        max_age, max_bytes, ..
    } = policy;
    let Run {
        expired,
        over_size,
        bytes,
        orphans,
        orphan_bytes,
    } = run;
    tracing::info!(
        expired,
        over_size,
        bytes,
        orphans,
        orphan_bytes,
        ?max_age,
        ?max_bytes,
        "cache retention has run"
    );
    Ok(run)
}

/// Measures the entries whose size nobody has noted since they were written: those of Go's datacatalog, and of older versions.
async fn measure(context: &CatalogContext, stop: &CancellationToken) -> Result<()> {
    let mut after = None;
    while !stop.is_cancelled() {
        let mut tx = context.database.read().await?;
        let found = entries::unmeasured(&mut tx, after.as_ref(), MEASURED_AT_ONCE).await?;
        drop(tx);
        let Some(last) = found.last() else {
            return Ok(());
        };
        after = Some(last.position());
        let sizes: Vec<(Seen, u64)> = stream::iter(found)
            .map(|seen| async move {
                let bytes = outputs::size(context, &seen.key).await?;
                Ok::<_, Error>((seen, bytes))
            })
            .buffered(REQUESTS_AT_ONCE)
            .filter_map(|measured| {
                // One that the store does not tell keeps none from being measured; the next run asks again.
                let known = measured.inspect_err(|error| {
                    tracing::warn!(error = %Chain(error), "the size of an entry is not known");
                });
                ready(known.ok())
            })
            .collect()
            .await;
        let noting = context.database.write(sizes, |sizes, tx| {
            Box::pin(async move {
                for (seen, bytes) in sizes {
                    entries::measure(tx, seen, *bytes).await?;
                }
                Ok::<_, Error>(())
            })
        });
        noting.await?;
    }
    Ok(())
}

/// Removes the oldest entries until all together take no more than `most` bytes.
async fn shrink(context: &CatalogContext, most: u64, stop: &CancellationToken) -> Result<Removed> {
    let everything = Selection::default();
    let mut removed = Removed::default();
    while !stop.is_cancelled() {
        let mut tx = context.database.read().await?;
        let totals = entries::totals(&mut tx, &everything).await?;
        context.metrics.retention.bytes_kept(totals.bytes);
        let excess = totals.bytes.saturating_sub(most);
        if excess == 0 {
            break;
        }
        let mut oldest = entries::oldest(&mut tx, &everything, ENTRIES_AT_ONCE).await?;
        drop(tx);
        let sizes = oldest.iter().map(|seen| seen.bytes.unwrap_or_default());
        oldest.truncate(needed(sizes, excess));
        let of_batch = evictions::remove(context, oldest, Reason::Size).await?;
        if of_batch == Removed::default() {
            // Others are writing, or removing, the same entries: the next run sees what they came to.
            break;
        }
        removed.add(of_batch);
    }
    Ok(removed)
}

/// An object that looks like one of ours.
struct Candidate {
    reference: String,
    key: String,
    artifact: String,
    bytes: u64,
}

/// What is listed as one of ours; none for what is not, or was written too lately.
fn candidate(
    entry: Result<Entry, BlobError>,
    before: Timestamp,
) -> Result<Option<Candidate>, BlobError> {
    let entry = entry?;
    let artifact = locations::artifact_of(&entry.name).filter(|_| entry.modified < before);
    let Some(artifact) = artifact.map(str::to_owned) else {
        return Ok(None);
    };
    Ok(Some(Candidate {
        key: BlobStore::key_of(&entry.reference)?,
        reference: entry.reference,
        artifact,
        bytes: entry.size,
    }))
}

/// Removes objects below our folder that were written before a moment and that no row refers to.
async fn remove_orphans(
    context: &CatalogContext,
    before: Timestamp,
    stop: &CancellationToken,
) -> Result<(u64, u64)> {
    let folder = context.folder.uri();
    let failed = |source| Error::Blob {
        context: format!("Unable to list artifact data below {folder}"),
        source,
    };
    let listed = context.blobs.entries(&folder).await.map_err(failed)?;
    let ours = listed.filter_map(|entry| ready(candidate(entry, before).transpose()));
    let mut batches = std::pin::pin!(ours.chunks(OBJECTS_AT_ONCE));
    let (mut objects, mut bytes) = (0, 0);
    while let Some(batch) = batches.next().await {
        let batch: Result<Vec<Candidate>, BlobError> = batch.into_iter().collect();
        let (more, their) = remove_unnamed(context, batch.map_err(failed)?).await?;
        objects += more;
        bytes += their;
        if stop.is_cancelled() {
            break;
        }
    }
    Ok((objects, bytes))
}

/// Removes those of these objects that no row names. Nobody begins to name one that is there: what is written goes beside it.
async fn remove_unnamed(context: &CatalogContext, found: Vec<Candidate>) -> Result<(u64, u64)> {
    let artifacts: BTreeSet<&str> = found.iter().map(|one| one.artifact.as_str()).collect();
    let artifacts: Vec<String> = artifacts.into_iter().map(str::to_owned).collect();
    let mut tx = context.database.read().await?;
    let named = entries::locations(&mut tx, &artifacts).await?;
    drop(tx);
    // A location that is no reference names no object.
    let named: BTreeSet<String> = named
        .iter()
        .filter_map(|location| BlobStore::key_of(location).ok())
        .collect();
    let orphans = found.into_iter().filter(|one| !named.contains(&one.key));
    let removals = orphans.map(|orphan| async move {
        match context.blobs.delete(&orphan.reference).await {
            Ok(()) => Some(orphan.bytes),
            Err(error) => {
                let location = orphan.reference;
                tracing::warn!(error = %Chain(&error), location, "an object without a row stays");
                None
            }
        }
    });
    let removed: Vec<Option<u64>> = stream::iter(removals)
        .buffer_unordered(REQUESTS_AT_ONCE)
        .collect()
        .await;
    let (mut objects, mut bytes) = (0, 0);
    for size in removed.into_iter().flatten() {
        objects += 1;
        bytes += size;
    }
    context.metrics.retention.orphans(objects);
    Ok((objects, bytes))
}
