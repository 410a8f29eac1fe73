//! What operators ask and order beside Go's RPCs, as JSON over HTTP on the service's own port; `flyte cache` is its client.
//!
//! ```text
//! GET  /datacatalog/v1/entries?project=…&limit=…&token=…    a page of entries, the newest first
//! POST /datacatalog/v1/evictions {"selection": {…}, …}      removes some of them, or counts what it would
//! ```
//!
//! Go's datacatalog has neither (404). Whoever reaches the port may use both, as all of the service's RPCs, which can overwrite
//! every entry; pages in browsers may not.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Query, Request, State, rejection::JsonRejection, rejection::QueryRejection},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tonic::Code;

use crate::{context::CatalogContext, domain::entries::Selection, error::Error, handlers::entries};

/// The path of pages of entries.
pub const ENTRIES: &str = "/datacatalog/v1/entries";

/// The path of evictions.
pub const EVICTIONS: &str = "/datacatalog/v1/evictions";

/// A page that is asked for: the query of a GET of [`ENTRIES`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EntriesRequest {
    /// As [`Selection::project`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// As [`Selection::domain`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// As [`Selection::name`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// As [`Selection::version`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// As [`Selection::tag`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Those that were written last at least so long ago.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub older_than_seconds: Option<u32>,
    /// The most entries of the page; 0 is 100, and 1,000 are the most.
    pub limit: u32,
    /// Of the page before; empty for the first.
    pub token: String,
}

/// A page of entries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EntriesPage {
    /// The entries, the newest first.
    pub entries: Vec<CacheEntry>,
    /// What brings the next page; empty on the last.
    pub next_token: String,
}

/// An entry of the cache.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CacheEntry {
    /// The project of the task.
    pub project: String,
    /// Its domain.
    pub domain: String,
    /// The name of the dataset, `flyte_task-` and the name of the task.
    pub name: String,
    /// The version of the dataset: the cache version and two hashes of the task's interface.
    pub version: String,
    /// The artifact's id.
    pub artifact_id: String,
    /// What names it: hashes of inputs.
    pub tags: Vec<String>,
    /// When its outputs were written last.
    pub written_at: Timestamp,
    /// What its outputs take in the cache; none where the store does not tell.
    pub bytes: Option<u64>,
    /// The execution that wrote it; none where its metadata does not tell.
    pub source: Option<Source>,
}

/// The execution that wrote an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Source {
    /// Its project.
    pub project: String,
    /// Its domain.
    pub domain: String,
    /// Its name.
    pub execution: String,
    /// The node.
    pub node: String,
    /// The attempt of the node, from 0 on.
    pub attempt: String,
}

/// What is to be evicted: the body of a POST to [`EVICTIONS`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct EvictionRequest {
    /// Which entries.
    pub selection: Selection,
    /// Those of them that were written last at least so long ago.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub older_than_seconds: Option<u32>,
    /// Must be true where the selection is empty.
    pub all: bool,
    /// Removes nothing and says what would be removed.
    pub dry_run: bool,
    /// The most entries that this request removes; 0 is 500, and 5,000 are the most.
    pub limit: u32,
}

/// What an eviction came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Eviction {
    /// Entries that were removed, or would be.
    pub entries: u64,
    /// Their bytes, as far as they are known.
    pub bytes: u64,
    /// Whether nothing is left that the request selects.
    pub done: bool,
    /// Only what was written last before this moment was selected. Bring it back in the selection to go on: entries that are
    /// written meanwhile stay.
    pub written_before: Timestamp,
}

/// The answer to a request that is refused or fails.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What is wrong.
    pub error: String,
}

/// Its routes.
pub(crate) fn routes(context: Arc<CatalogContext>) -> Router {
    Router::new()
        .route(ENTRIES, get(list))
        .route(EVICTIONS, post(evict))
        .layer(middleware::from_fn(without_pages))
        .with_state(context)
}

/// Refuses pages in browsers, whose users did not mean this: they say `Origin` or `Sec-Fetch-Site`, and cannot help it.
async fn without_pages(request: Request, next: Next) -> Response {
    let says = |headers: &HeaderMap| {
        headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site")
    };
    if says(request.headers()) {
        let text = "pages in browsers may not manage the cache; use `flyte cache`";
        return refusal(StatusCode::FORBIDDEN, text);
    }
    next.run(request).await
}

async fn list(
    State(context): State<Arc<CatalogContext>>,
    query: Result<Query<EntriesRequest>, QueryRejection>,
) -> Response {
    match query {
        Ok(Query(request)) => answer(entries::list(&context, request).await),
        Err(wrong) => refusal(StatusCode::BAD_REQUEST, &wrong.body_text()),
    }
}

async fn evict(
    State(context): State<Arc<CatalogContext>>,
    body: Result<Json<EvictionRequest>, JsonRejection>,
) -> Response {
    match body {
        Ok(Json(request)) => answer(entries::evict(&context, request).await),
        Err(wrong) => refusal(wrong.status(), &wrong.body_text()),
    }
}

fn answer<T: Serialize>(outcome: Result<T, Error>) -> Response {
    match outcome {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => {
            let text = error.public_text();
            let status = match error.logged() {
                Code::InvalidArgument => StatusCode::BAD_REQUEST,
                Code::NotFound => StatusCode::NOT_FOUND,
                Code::Unavailable | Code::Aborted => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            refusal(status, &text)
        }
    }
}

fn refusal(status: StatusCode, text: &str) -> Response {
    let error = text.to_owned();
    (status, Json(Refusal { error })).into_response()
}
