//! What is counted, and whether it has the names of Go's single binary.

use std::collections::BTreeSet;

use flyte_idl::datacatalog::{
    CreateDatasetRequest, Dataset, GetDatasetRequest, GetOrExtendReservationRequest,
    ListArtifactsRequest, ListDatasetsRequest, ReleaseReservationRequest, ReservationId,
};

use crate::harness::{Store, World, refusal, task};

/// Names that Go has and this does not.
const LEFT_OUT: [&str; 2] = [
    // Messages are encoded before the store sees them, and that cannot fail.
    "datacatalog:datacatalog:storage:marshal_ms",
    "datacatalog:datacatalog:storage:marshal_failure",
];

/// Names that this has and Go has not, after the same requests. It counts reservations that were taken as held by others.
const ADDED: [&str; 2] = [
    "datacatalog:datacatalog:reservation:reservation_acquired",
    "datacatalog:datacatalog:tag:already_exists_count",
];

/// The value of a series, 0 if it is not there.
fn value(text: &str, series: &str) -> f64 {
    text.lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
        .unwrap_or_default()
}

#[tokio::test]
async fn names_and_counts_are_those_of_the_reference() {
    let world = World::start(Store::Sqlite).await;
    let mut client = world.client.clone();
    let id = task("counted");
    let look_up = GetDatasetRequest {
        dataset: Some(id.clone()),
    };
    assert!(refusal(client.get_dataset(look_up.clone()).await).is_some());
    world.dataset(&id, &[]).await;
    let again = CreateDatasetRequest {
        dataset: Some(Dataset {
            id: Some(id.clone()),
            ..Dataset::default()
        }),
    };
    assert!(refusal(client.create_dataset(again).await).is_some());
    client.get_dataset(look_up).await.unwrap();
    assert!(refusal(world.tagged(&id, "t").await).is_some());
    world
        .artifact(&id, "a", &[("o0", 1), ("o1", 1)])
        .await
        .unwrap();
    world.tag(&id, "t", "a").await.unwrap();
    assert!(refusal(world.tag(&id, "t", "a").await).is_some());
    world.tagged(&id, "t").await.unwrap();
    world.overwrite(&id, "t", &[("o0", 2)]).await.unwrap();
    client
        .list_datasets(ListDatasetsRequest::default())
        .await
        .unwrap();
    let list = ListArtifactsRequest {
        dataset: Some(id.clone()),
        ..ListArtifactsRequest::default()
    };
    client.list_artifacts(list).await.unwrap();
    let reservation_id = Some(ReservationId {
        dataset_id: Some(id),
        tag_name: "t".to_owned(),
    });
    for owner in ["a", "a", "b"] {
        let request = GetOrExtendReservationRequest {
            reservation_id: reservation_id.clone(),
            owner_id: owner.to_owned(),
            heartbeat_interval: None,
        };
        client.get_or_extend_reservation(request).await.unwrap();
    }
    let release = ReleaseReservationRequest {
        reservation_id,
        owner_id: "a".to_owned(),
    };
    client.release_reservation(release).await.unwrap();

    let text = world.metrics.render();
    for (series, count) in [
        ("dataset:create_success_count_unlabeled", 1.0),
        ("dataset:already_exists_count_unlabeled", 1.0),
        ("dataset:get_success_count_unlabeled", 1.0),
        ("dataset:does_not_exists_count_unlabeled", 1.0),
        ("dataset:get_failed_count_unlabeled", 0.0),
        ("dataset:list_success_count_unlabeled", 1.0),
        ("artifact:create_success_count_unlabeled", 1.0),
        ("artifact:create_data_success_count_unlabeled", 2.0),
        ("artifact:get_success_count_unlabeled", 1.0),
        ("artifact:does_not_exists_count_unlabeled", 1.0),
        ("artifact:get_failure_count_unlabeled", 1.0),
        ("artifact:update_success_count_unlabeled", 1.0),
        ("artifact:update_data_success_count_unlabeled", 1.0),
        ("artifact:delete_data_success_count_unlabeled", 2.0),
        ("artifact:list_success_count_unlabeled", 1.0),
        ("tag:create_success_count_unlabeled", 1.0),
        ("tag:already_exists_count_unlabeled", 1.0),
        ("tag:create_failure_count_unlabeled", 0.0),
        ("artifact:get_duration_unlabeled_ms_count", 2.0),
    ] {
        let found = value(&text, &format!("datacatalog:datacatalog:{series}"));
        assert!((found - count).abs() < f64::EPSILON, "{series}: {found}");
    }
    for (series, count) in [
        ("reservation_acquired", 2.0),
        ("reservation_already_in_progress", 1.0),
        ("reservation_released", 1.0),
    ] {
        let labels = "app_name=\"\",domain=\"development\",failure_type=\"\",node=\"\",project=\"flytesnacks\",\
                      runtime_type=\"\",runtime_version=\"\",task=\"\",tasktype=\"\",wf=\"\"";
        let series = format!("datacatalog:datacatalog:reservation:{series}{{{labels}}}");
        let found = value(&text, &series);
        assert!(
            (found - count).abs() < f64::EPSILON,
            "{series}: {found} in {text}"
        );
    }

    let ours: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let recorded: BTreeSet<&str> = include_str!("../data/metrics.tsv")
        .lines()
        .filter_map(|line| line.split('\t').next())
        .collect();
    let missing: Vec<&&str> = recorded
        .difference(&ours)
        .filter(|name| !LEFT_OUT.contains(name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    // What the recorded runs never came to, such as overwrites and lists, has names of the reference as well.
    let of_other_runs = |name: &str| {
        let unlabelled = match name.strip_suffix("_ms") {
            Some(name) => format!("{name}_unlabeled_ms"),
            None => format!("{name}_unlabeled"),
        };
        recorded.contains(unlabelled.as_str()) || name.contains(":repositories:")
    };
    let added: Vec<&&str> = ours
        .difference(&recorded)
        // Go's has no retention.
        .filter(|name| !name.contains(":retention:"))
        .filter(|name| !ADDED.contains(name) && !of_other_runs(name))
        .collect();
    assert!(added.is_empty(), "{added:?}");
}
