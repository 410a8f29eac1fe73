//! CreateDataset, GetDataset, ListDatasets.

use std::collections::BTreeMap;

use flyte_idl::datacatalog::{
    self, CreateDatasetRequest, CreateDatasetResponse, GetDatasetRequest, GetDatasetResponse,
    ListDatasetsRequest, ListDatasetsResponse,
};
use prost::Message as _;
use uuid::Uuid;

use crate::{
    context::CatalogContext,
    domain::{
        filters,
        ids::{self, DatasetKey},
        metadata,
        pages::{FullPage, Page},
        partitions,
    },
    error::{Error, Result},
    metrics::labels,
    records::Dataset,
    repository::datasets::{self, Insertion, NewDataset},
};

/// Creates a dataset. Propeller asks for it before each artifact and takes ALREADY_EXISTS for success.
pub(crate) async fn create(
    context: &CatalogContext,
    request: CreateDatasetRequest,
) -> Result<CreateDatasetResponse> {
    let metrics = &context.metrics.datasets;
    let dataset = request.dataset.unwrap_or_default();
    let id = dataset.id.clone().unwrap_or_default();
    let labels = labels(&id.project, &id.domain);
    let work = async {
        let new = accept(dataset)?;
        let now = context.clock.now();
        let insertion = context.database.write((new, now), |(new, now), tx| {
            Box::pin(async move { datasets::create(tx, new, *now).await })
        });
        let watch = &context.metrics.repositories.dataset.create;
        match watch.timed(&labels, insertion).await? {
            Insertion::Made => Ok(CreateDatasetResponse {}),
            Insertion::AlreadyThere => Err(Error::AlreadyExists { table: "datasets" }),
        }
    };
    let outcome = metrics.create_duration.timed(&labels, Box::pin(work)).await;
    metrics.settle(&labels, &metrics.create, &outcome);
    outcome
}

/// Both the id and the partition keys are looked at, and everything that is wrong is told.
fn accept(dataset: datacatalog::Dataset) -> Result<NewDataset> {
    let key = DatasetKey::of_request(dataset.id.as_ref()).and_then(|key| {
        key.require_room(&[])?;
        let uuid = dataset.id.as_ref().map(ids::dataset_uuid).transpose()?;
        Ok((key, uuid.flatten()))
    });
    let wrong_keys = partitions::wrong_keys(&dataset.partition_keys);
    let (key, uuid) = match (key, wrong_keys) {
        (Ok(key), None) => key,
        (Ok(_), Some(wrong)) => return Err(Error::invalid(wrong)),
        (Err(error), None) => return Err(error),
        (Err(error), Some(wrong)) => return Err(Error::invalid(format!("{error}, {wrong}"))),
    };
    for name in &dataset.partition_keys {
        key.require_room(&[name])?;
    }
    Ok(NewDataset {
        key,
        uuid: uuid.unwrap_or_else(Uuid::new_v4),
        metadata: metadata::of_request(dataset.metadata)?,
        partition_keys: dataset.partition_keys,
    })
}

/// The dataset of an id; with a UUID in it, only that one.
pub(crate) async fn get(
    context: &CatalogContext,
    request: GetDatasetRequest,
) -> Result<GetDatasetResponse> {
    let metrics = &context.metrics.datasets;
    let id = request.dataset.clone().unwrap_or_default();
    let labels = labels(&id.project, &id.domain);
    let work = async {
        let key = DatasetKey::of_request(request.dataset.as_ref())?;
        let uuid = ids::dataset_uuid(&id)?;
        let (dataset, keys) = with_keys(context, &key, uuid).await?;
        Ok(GetDatasetResponse {
            dataset: Some(on_wire(dataset, keys)),
        })
    };
    let outcome = metrics.get_duration.timed(&labels, Box::pin(work)).await;
    metrics.settle(&labels, &metrics.get, &outcome);
    outcome
}

/// A dataset and its partition keys.
///
/// # Errors
/// NOT_FOUND.
pub(super) async fn with_keys(
    context: &CatalogContext,
    key: &DatasetKey,
    uuid: Option<Uuid>,
) -> Result<(Dataset, Vec<String>)> {
    let look_up = async {
        let mut tx = context.database.read().await?;
        let Some(dataset) = datasets::get(&mut tx, key, uuid).await? else {
            return Err(Error::not_found("Dataset", &key.to_wire(uuid)));
        };
        let uuids: Vec<Uuid> = dataset.id.uuid.into_iter().collect();
        let keys = datasets::partition_keys(&mut tx, &uuids).await?;
        Ok((dataset, keys.into_iter().map(|(_, key)| key).collect()))
    };
    let watch = &context.metrics.repositories.dataset.get;
    watch
        .timed(&labels(key.project(), key.domain()), look_up)
        .await
}

/// Rows of a page whose parts are looked up at once.
pub(super) const ROWS_AT_ONCE: usize = 50;

/// A page of datasets.
pub(crate) async fn list(
    context: &CatalogContext,
    request: ListDatasetsRequest,
) -> Result<ListDatasetsResponse> {
    let metrics = &context.metrics.datasets;
    let labels = labels("", "");
    let outcome = page_of(context, &request).await;
    metrics.settle(&labels, &metrics.list, &outcome);
    outcome
}

/// The page ends early when it is as large as a message may be: the token goes on from there.
async fn page_of(
    context: &CatalogContext,
    request: &ListDatasetsRequest,
) -> Result<ListDatasetsResponse> {
    let filters = filters::of_datasets(request.filter.as_ref())?;
    let page = Page::of_request(request.pagination.as_ref())?;
    let look_up = async {
        let mut tx = context.database.read().await?;
        datasets::list(&mut tx, &filters, &page).await
    };
    let watch = &context.metrics.repositories.dataset.list;
    let listed = watch.timed(&labels("", ""), look_up).await?;
    let places: Vec<Option<Dataset>> = listed.places().map(Option::<&Dataset>::cloned).collect();
    let mut full = FullPage::of(context.message_bytes);
    let (mut listed, mut count) = (Vec::new(), 0);
    'page: for places in places.chunks(ROWS_AT_ONCE) {
        let uuids: Vec<Uuid> = places
            .iter()
            .flatten()
            .filter_map(|dataset| dataset.id.uuid)
            .collect();
        let mut tx = context.database.read().await?;
        let keys = datasets::partition_keys(&mut tx, &uuids).await?;
        drop(tx);
        let mut keys_of: BTreeMap<Uuid, Vec<String>> = BTreeMap::new();
        for (uuid, key) in keys {
            keys_of.entry(uuid).or_default().push(key);
        }
        for place in places {
            if let Some(dataset) = place {
                let keys = dataset.id.uuid.and_then(|uuid| keys_of.remove(&uuid));
                let dataset = on_wire(dataset.clone(), keys.unwrap_or_default());
                if full.with(dataset.encoded_len()) {
                    break 'page;
                }
                listed.push(dataset);
            }
            count += 1;
        }
    }
    Ok(ListDatasetsResponse {
        datasets: listed,
        next_token: page.next_token(count),
    })
}

fn on_wire(dataset: Dataset, partition_keys: Vec<String>) -> datacatalog::Dataset {
    datacatalog::Dataset {
        id: Some(dataset.id.to_wire()),
        metadata: Some(dataset.metadata),
        partition_keys,
    }
}
