//! What `flyte cache` asks for: entries with their age, size and source, and evictions.

use std::collections::{BTreeMap, HashMap};

use flyte_core::catalog as key;
use flyte_platform::Chain;
use futures::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};

use super::{evictions, outputs};
use crate::{
    context::CatalogContext,
    domain::{
        entries::{Position, Selection},
        ids::DatasetKey,
    },
    error::{Error, Result},
    management::{CacheEntry, EntriesPage, EntriesRequest, Eviction, EvictionRequest, Source},
    metrics::Reason,
    records::{Artifact, ArtifactKey, DatasetRef},
    repository::{
        entries::{self, Entry},
        tags,
    },
};

/// The length of a page, if the request does not say.
const DEFAULT_PAGE: u32 = 100;

/// The most entries of a page.
const MAX_PAGE: u32 = 1_000;

/// What one request removes, if it does not say: seconds of work at most, so that its client can tell how far it is.
const DEFAULT_EVICTION: u32 = 500;

/// The most that one request removes.
const MAX_EVICTION: u32 = 5_000;

/// Entries that are measured at once because nobody has noted their size.
const MEASURED_AT_ONCE: usize = 8;

/// A page of entries.
pub(crate) async fn list(context: &CatalogContext, request: EntriesRequest) -> Result<EntriesPage> {
    let EntriesRequest {
        project,
        domain,
        name,
        version,
        tag,
        older_than_seconds,
        limit,
        token,
    } = request;
    let selection = Selection {
        project,
        domain,
        name,
        version,
        tag,
        written_before: None,
    };
    let now = context.clock.now();
    let selection = older_than(selection.without_blanks(), older_than_seconds, now);
    let limit = match limit {
        0 => DEFAULT_PAGE,
        limit => limit.min(MAX_PAGE),
    };
    let after = Position::of_token(&token)?;
    let mut tx = context.database.read().await?;
    let listed = entries::list(&mut tx, &selection, after.as_ref(), u64::from(limit)).await?;
    let full = listed.len() as u64 == u64::from(limit);
    let found = listed.into_vec();
    let mut by_dataset: BTreeMap<DatasetKey, (DatasetRef, Vec<String>)> = BTreeMap::new();
    for Entry { artifact, .. } in &found {
        let of_dataset = by_dataset.entry(artifact.dataset.key.clone());
        let (_, ids) = of_dataset.or_insert_with(|| (artifact.dataset.clone(), Vec::new()));
        ids.push(artifact.id.clone());
    }
    let mut tags_of: HashMap<ArtifactKey, Vec<String>> = HashMap::new();
    for (dataset, ids) in by_dataset.values() {
        for (id, tag) in tags::of(&mut tx, dataset, ids).await? {
            let dataset = dataset.key.clone();
            let of_artifact = tags_of.entry(ArtifactKey { dataset, id });
            of_artifact.or_default().push(tag);
        }
    }
    drop(tx);
    let last = found.last().filter(|_| full).map(|entry| Position {
        written_at: entry.written_at,
        artifact: entry.artifact.id.clone(),
    });
    let entries = stream::iter(found)
        .map(|entry| {
            let tags = tags_of.get(&entry.artifact.key()).cloned();
            shown(context, entry, tags.unwrap_or_default())
        })
        .buffered(MEASURED_AT_ONCE)
        .collect()
        .await;
    Ok(EntriesPage {
        entries,
        next_token: last.map(|position| position.token()).unwrap_or_default(),
    })
}

async fn shown(context: &CatalogContext, entry: Entry, tags: Vec<String>) -> CacheEntry {
    let Entry {
        artifact,
        written_at,
        bytes,
    } = entry;
    let bytes = match bytes {
        Some(bytes) => Some(bytes),
        None => outputs::size(context, &artifact.key())
            .await
            .inspect_err(|error| {
                tracing::debug!(error = %Chain(error), "the size of an entry is not known");
            })
            .ok(),
    };
    let dataset = &artifact.dataset.key;
    CacheEntry {
        project: dataset.project().to_owned(),
        domain: dataset.domain().to_owned(),
        name: dataset.name().to_owned(),
        version: dataset.version().to_owned(),
        tags,
        written_at,
        bytes,
        source: source(&artifact),
        artifact_id: artifact.id,
    }
}

/// The execution that wrote an artifact, if its metadata names one; propeller's own defaults stand for what is missing beside.
fn source(artifact: &Artifact) -> Option<Source> {
    let value = |key: &str| artifact.metadata.key_map.get(key).cloned();
    let dataset = &artifact.dataset.key;
    Some(Source {
        execution: value(key::EXECUTION)?,
        project: value(key::PROJECT).unwrap_or_else(|| dataset.project().to_owned()),
        domain: value(key::DOMAIN).unwrap_or_else(|| dataset.domain().to_owned()),
        node: value(key::NODE).unwrap_or_default(),
        attempt: value(key::ATTEMPT).unwrap_or_else(|| "0".to_owned()),
    })
}

/// Removes entries, or says which would be removed.
pub(crate) async fn evict(context: &CatalogContext, request: EvictionRequest) -> Result<Eviction> {
    let EvictionRequest {
        selection,
        older_than_seconds,
        all,
        dry_run,
        limit,
    } = request;
    let selection = selection.without_blanks();
    if selection.is_everything() && older_than_seconds.is_none() && !all {
        return Err(Error::invalid(
            "nothing says which entries to evict; select some, or set `all` to evict every one",
        ));
    }
    let now = context.clock.now();
    let selection = older_than(selection, Some(older_than_seconds.unwrap_or(0)), now);
    let written_before = selection.written_before.unwrap_or(now);
    if dry_run {
        let mut tx = context.database.read().await?;
        let totals = entries::totals(&mut tx, &selection).await?;
        return Ok(Eviction {
            entries: totals.entries,
            bytes: totals.bytes,
            done: totals.entries == 0,
            written_before,
        });
    }
    let most = match limit {
        0 => DEFAULT_EVICTION,
        limit => limit.min(MAX_EVICTION),
    };
    let most = u64::from(most);
    let removed = evictions::evict(context, &selection, most, Reason::Request).await?;
    Ok(Eviction {
        entries: removed.entries,
        bytes: removed.bytes,
        done: removed.entries < most,
        written_before,
    })
}

fn older_than(selection: Selection, seconds: Option<u32>, now: Timestamp) -> Selection {
    match seconds {
        Some(seconds) => selection.older_than(SignedDuration::from_secs(i64::from(seconds)), now),
        None => selection,
    }
}
