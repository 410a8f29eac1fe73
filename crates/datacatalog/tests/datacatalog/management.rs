//! Entries and evictions over HTTP.

use axum::body::Body;
use flyte_datacatalog::management::{
    CacheEntry, ENTRIES, EVICTIONS, EntriesPage, Eviction, Refusal, Source,
};
use flyte_idl::datacatalog::{Artifact, CreateArtifactRequest, DatasetId, Metadata};
use flyte_platform::Clock;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use tower::ServiceExt as _;

use crate::{
    harness::{Settings, Store, World, data, refusal, task},
    on_both_databases,
};

impl World {
    async fn http<T: DeserializeOwned>(&self, request: Request<Body>) -> (StatusCode, T) {
        let answer = self.catalog.http().oneshot(request).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let read = serde_json::from_slice(&body);
        (
            status,
            read.unwrap_or_else(|error| panic!("{error}: {body:?}")),
        )
    }

    async fn entries(&self, query: &str) -> EntriesPage {
        let (status, page) = self
            .http(crate::harness::get(&format!("{ENTRIES}?{query}")))
            .await;
        assert_eq!(status, StatusCode::OK, "{query}");
        page
    }

    async fn evict<T: DeserializeOwned>(&self, body: &str) -> (StatusCode, T) {
        self.http(eviction(body)).await
    }

    /// An entry that an execution wrote a while ago.
    async fn entry(&self, dataset: &DatasetId, name: &str, ago: SignedDuration) {
        let clock = Clock::simulated(Timestamp::now() - ago);
        let metadata = [
            ("exec-project", "flytesnacks"),
            ("exec-domain", "production"),
            ("execution-name", "f123"),
            ("exec-node", "n0"),
            ("exec-attempt", "1"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
        let request = CreateArtifactRequest {
            artifact: Some(Artifact {
                id: name.to_owned(),
                dataset: Some(dataset.clone()),
                data: data(&[("o0", 1)]),
                metadata: Some(Metadata {
                    key_map: metadata.into(),
                }),
                ..Artifact::default()
            }),
        };
        let mut then = self.at(&Settings::default(), clock);
        then.create_artifact(request).await.unwrap();
        self.tag(dataset, &format!("tag-{name}"), name)
            .await
            .unwrap();
    }
}

fn eviction(body: &str) -> Request<Body> {
    Request::post(EVICTIONS)
        .header("content-type", "application/json")
        .body(Body::from(body.to_owned()))
        .unwrap()
}

fn hours(count: i64) -> SignedDuration {
    SignedDuration::from_hours(count)
}

/// Four entries, the newest first: `d`, `c`, `b`, `a`.
async fn filled(store: Store) -> World {
    let world = World::start(store).await;
    let version = |mut id: DatasetId, version: &str| {
        id.version = format!("{version}-jUwlIzHW-PmK8qF6C");
        id
    };
    let (square, cube) = (task("square"), task("cube"));
    for (dataset, name, ago) in [
        (square.clone(), "a", 48),
        (version(square.clone(), "2.0"), "b", 24),
        (version(square, "2_0"), "c", 12),
        (cube, "d", 0),
    ] {
        world.dataset(&dataset, &[]).await;
        world.entry(&dataset, name, hours(ago)).await;
    }
    world
}

async fn entries_are_listed_with_size_age_and_source(store: Store) {
    let world = filled(store).await;
    for (query, expected) in [
        ("", "dcba"),
        ("project=flytesnacks&domain=development", "dcba"),
        ("project=other", ""),
        // A query without a value is none.
        ("domain=&tag=", "dcba"),
        ("name=flyte_task-square", "cba"),
        ("version=2.0", "b"),
        ("version=2_0", "c"),
        ("version=2.0-jUwlIzHW-PmK8qF6C", "b"),
        ("version=2", ""),
        ("tag=tag-c", "c"),
        ("olderThanSeconds=40000", "cba"),
        ("olderThanSeconds=100000&name=flyte_task-square", "a"),
    ] {
        let page = world.entries(query).await;
        let ids: String = page
            .entries
            .into_iter()
            .map(|entry| entry.artifact_id)
            .collect();
        assert_eq!(ids, expected, "{query}");
        assert_eq!(page.next_token, "", "{query}");
    }
    let [entry] = &world.entries("tag=tag-d").await.entries[..] else {
        panic!("not one")
    };
    let expected = CacheEntry {
        project: "flytesnacks".to_owned(),
        domain: "development".to_owned(),
        name: "flyte_task-cube".to_owned(),
        version: "1.0-jUwlIzHW-PmK8qF6C".to_owned(),
        artifact_id: "d".to_owned(),
        tags: vec!["tag-d".to_owned()],
        written_at: entry.written_at,
        bytes: Some(6),
        source: Some(Source {
            project: "flytesnacks".to_owned(),
            domain: "production".to_owned(),
            execution: "f123".to_owned(),
            node: "n0".to_owned(),
            attempt: "1".to_owned(),
        }),
    };
    assert_eq!(*entry, expected);
    // Go notes no sizes; they are looked up.
    world.sql("DELETE FROM flyte_rs_artifact_sizes").await;
    let sizes = world.entries("").await.entries;
    assert!(
        sizes.iter().all(|entry| entry.bytes == Some(6)),
        "{sizes:?}"
    );
}

async fn pages_follow_each_other(store: Store) {
    let world = filled(store).await;
    let (mut token, mut ids) = (String::new(), String::new());
    let mut pages = 0;
    loop {
        let page = world.entries(&format!("limit=3&token={token}")).await;
        pages += 1;
        ids.extend(page.entries.into_iter().map(|entry| entry.artifact_id));
        token = page.next_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!((ids.as_str(), pages), ("dcba", 2));
    let wrong = crate::harness::get(&format!("{ENTRIES}?token=x"));
    let (status, refusal): (_, Refusal) = world.http(wrong).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(refusal.error, "Invalid token value: x");
}

async fn what_is_selected_is_evicted(store: Store) {
    let world = filled(store).await;
    let left = async || {
        let entries = world.entries("").await.entries.into_iter();
        entries.map(|entry| entry.artifact_id).collect::<String>()
    };
    for (body, removed, rest) in [
        (r#"{"all": true, "dryRun": true}"#, 4, "dcba"),
        (r#"{"selection": {"project": "other"}}"#, 0, "dcba"),
        (r#"{"olderThanSeconds": 100000}"#, 1, "dcb"),
        (
            r#"{"selection": {"version": "2.0", "name": "flyte_task-square"}}"#,
            1,
            "dc",
        ),
        (
            r#"{"selection": {"tag": "tag-d"}, "dryRun": true}"#,
            1,
            "dc",
        ),
        (r#"{"selection": {"tag": "tag-d"}}"#, 1, "c"),
        (r#"{"all": true}"#, 1, ""),
    ] {
        let (status, eviction): (_, Eviction) = world.evict(body).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        assert_eq!(
            (eviction.entries, eviction.bytes),
            (removed, removed * 6),
            "{body}"
        );
        assert_eq!(left().await, rest, "{body}");
    }
    assert!(world.keys().await.is_empty());
    let counted = "datacatalog:datacatalog:retention:evicted_entries 4";
    assert!(world.metrics.render().contains(counted));
    let tagged = world.tagged(&task("cube"), "tag-d").await;
    assert_eq!(refusal(tagged).unwrap().0, tonic::Code::NotFound);
}

/// A client goes on until nothing is left, and what others write meanwhile stays.
async fn an_eviction_goes_on_where_it_stopped(store: Store) {
    let world = filled(store).await;
    let first: (_, Eviction) = world.evict(r#"{"all": true, "limit": 3}"#).await;
    assert_eq!((first.1.entries, first.1.done), (3, false));
    world.entry(&task("cube"), "e", hours(0)).await;
    let before = first.1.written_before;
    let body = format!(r#"{{"selection": {{"writtenBefore": "{before}"}}, "limit": 3}}"#);
    let (_, second): (_, Eviction) = world.evict(&body).await;
    assert_eq!((second.entries, second.done), (1, true));
    assert_eq!(second.written_before, before);
    let ids: Vec<String> = world
        .entries("")
        .await
        .entries
        .into_iter()
        .map(|entry| entry.artifact_id)
        .collect();
    assert_eq!(ids, ["e"]);
}

#[tokio::test]
async fn what_is_not_meant_is_refused() {
    let world = filled(Store::Sqlite).await;
    let json = |body: &str| eviction(body);
    let with = |header: &str, value: &str| {
        let mut request = eviction(r#"{"all": true}"#);
        let name = http::HeaderName::try_from(header).unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
        request
    };
    for (request, status, text) in [
        (
            json("{}"),
            400,
            "nothing says which entries to evict; select some, or set `all` to evict every one",
        ),
        (
            json(r#"{"selection": {"project": ""}}"#),
            400,
            "nothing says which entries",
        ),
        (
            json(r#"{"all": true, "older": 7}"#),
            422,
            "unknown field `older`",
        ),
        (json("{"), 400, "Failed to parse"),
        (
            with("origin", "http://localhost:3000"),
            403,
            "pages in browsers",
        ),
        (
            with("sec-fetch-site", "same-origin"),
            403,
            "pages in browsers",
        ),
        // As a form sends it.
        (with("content-type", "text/plain"), 415, "application/json"),
        (
            crate::harness::get(&format!("{ENTRIES}?limit=x")),
            400,
            "limit",
        ),
    ] {
        let (found, refusal): (_, Refusal) = world.http(request).await;
        assert_eq!(found.as_u16(), status, "{}", refusal.error);
        assert!(refusal.error.contains(text), "{}", refusal.error);
    }
    assert_eq!(world.entries("").await.entries.len(), 4);
}

on_both_databases!(
    entries_are_listed_with_size_age_and_source,
    pages_follow_each_other,
    what_is_selected_is_evicted,
    an_eviction_goes_on_where_it_stopped,
);
