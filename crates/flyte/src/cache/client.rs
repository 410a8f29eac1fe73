//! A client of [`flyte_datacatalog::management`].

use std::time::Duration;

use anyhow::Context as _;
use flyte_datacatalog::management::{
    ENTRIES, EVICTIONS, EntriesPage, EntriesRequest, Eviction, EvictionRequest, Refusal,
};
use flyte_platform::client;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Serialize, de::DeserializeOwned};
use tonic::{body::Body, transport::Channel};
use tower::ServiceExt as _;

/// How long one request may take: an eviction of some hundred entries removes as many objects.
const WITHIN: Duration = Duration::from_secs(120);

/// The largest answer in bytes; a page of entries has a thousand.
const LARGEST: usize = 64 * 1024 * 1024;

/// Reaches a datacatalog, over HTTP/2 as its RPCs do.
pub(super) struct Client {
    endpoint: String,
    channel: Channel,
}

impl Client {
    /// A client of `endpoint`, which is connected to when it is first asked.
    ///
    /// # Errors
    /// An endpoint that is none.
    pub(super) fn new(endpoint: &str, insecure: bool) -> anyhow::Result<Self> {
        let channel = client::channel(endpoint, insecure)?;
        Ok(Self {
            endpoint: endpoint.to_owned(),
            channel,
        })
    }

    /// A page of entries.
    pub(super) async fn entries(&self, request: &EntriesRequest) -> anyhow::Result<EntriesPage> {
        let path = format!("{ENTRIES}?{}", query(request)?);
        self.ask(Request::get(path).body(Body::empty())?).await
    }

    /// Evicts entries, or counts them.
    pub(super) async fn evict(&self, request: &EvictionRequest) -> anyhow::Result<Eviction> {
        let request = Request::post(EVICTIONS)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::new(serde_json::to_string(request)?))?;
        self.ask(request).await
    }

    async fn ask<T: DeserializeOwned>(&self, request: Request<Body>) -> anyhow::Result<T> {
        let endpoint = &self.endpoint;
        let asked = async {
            let answer = self.channel.clone().oneshot(request).await.with_context(|| {
                format!(
                    "datacatalog does not answer at {endpoint}; is `flyte start` running? --endpoint names another place"
                )
            })?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), LARGEST).collect().await;
            let body = body.map_err(anyhow::Error::from_boxed)?.to_bytes();
            anyhow::Ok((status, body))
        };
        let answered = tokio::time::timeout(WITHIN, asked).await;
        let (status, body) = answered.map_err(|_elapsed| {
            let seconds = WITHIN.as_secs();
            anyhow::anyhow!("datacatalog at {endpoint} has not answered within {seconds} s")
        })??;
        if status == StatusCode::OK {
            let read = serde_json::from_slice(&body);
            return read.with_context(|| format!("{endpoint} answers something else"));
        }
        match serde_json::from_slice::<Refusal>(&body) {
            Ok(Refusal { error }) if status != StatusCode::NOT_FOUND => anyhow::bail!("{error}"),
            _ => anyhow::bail!(
                "{endpoint} answers {status} and shows no cache: it is no datacatalog, Go's, or older than this program"
            ),
        }
    }
}

/// A query of the fields that are set.
fn query(request: &impl Serialize) -> anyhow::Result<String> {
    let fields = serde_json::to_value(request)?;
    let fields = fields.as_object().into_iter().flatten();
    let pairs = fields.filter_map(|(name, value)| {
        let text = match value {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Null => return None,
            other => other.to_string(),
        };
        Some(format!(
            "{name}={}",
            utf8_percent_encode(&text, NON_ALPHANUMERIC)
        ))
    });
    Ok(pairs.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_has_what_is_set_and_says_any_text() {
        let request = EntriesRequest {
            project: Some("a b&c=d".to_owned()),
            older_than_seconds: Some(60),
            limit: 7,
            ..EntriesRequest::default()
        };
        let expected = "project=a%20b%26c%3Dd&olderThanSeconds=60&limit=7&token=";
        assert_eq!(query(&request).unwrap(), expected);
    }
}
