//! The cache index in the process of `flyte start`: there for the engine, and for nobody else.

use flyte_idl::datacatalog::{
    CreateDatasetRequest, Dataset, DatasetId, GetDatasetRequest,
    data_catalog_client::DataCatalogClient,
};
use tonic::Code;

use crate::backend::Backend;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_reached_in_process_alone() {
    let backend = Backend::start().await;
    let id = DatasetId {
        project: "flytesnacks".to_owned(),
        domain: "development".to_owned(),
        name: "flyte_task-t".to_owned(),
        version: "1.0".to_owned(),
        ..DatasetId::default()
    };
    let dataset = CreateDatasetRequest {
        dataset: Some(Dataset {
            id: Some(id.clone()),
            ..Dataset::default()
        }),
    };
    let look_up = GetDatasetRequest { dataset: Some(id) };
    let mut inside = DataCatalogClient::new(backend.in_process.clone());
    inside.create_dataset(dataset).await.unwrap();
    inside.get_dataset(look_up.clone()).await.unwrap();
    let mut outside = DataCatalogClient::new(backend.outside().await);
    let refused = outside.get_dataset(look_up).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented, "{refused:?}");
    backend.stop().await;
}
