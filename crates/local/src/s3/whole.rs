//! Bodies that the library reads whole before an operation begins: the XML of `DeleteObjects`,
//! `CompleteMultipartUpload`, `CreateBucket` and the like. Of one that it cannot read it says `InternalError`, whoever is to
//! blame; what passes by is noted here, so that a client's fault is answered as one.

use std::cell::Cell;
use std::sync::Arc;

use bytes::Bytes;
use flyte_platform::sync::Mutex;
use http::{HeaderMap, Method, Uri};
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};

use crate::arriving::Late;

/// The longest body that is read whole, in bytes. A thousand keys to delete, each of a thousand escaped bytes, fit.
pub(crate) const WHOLE_BYTES: usize = 20 << 20;

/// What is wrong with a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It ended before its announced length.
    Incomplete,
    /// It did not arrive in time.
    Late,
    /// It is longer than [`WHOLE_BYTES`].
    TooLong,
    /// It is another than its signed hash says.
    Digest,
    /// It is not in the chunks that are announced, or their signatures are others.
    Chunks,
}

tokio::task_local! {
    /// Whether the operation of the request has begun: what goes wrong then is no fault of the body.
    static BEGUN: Cell<bool>;
}

/// An operation begins: its body was read.
pub(crate) fn operation_begins() {
    match BEGUN.try_with(|begun| begun.set(true)) {
        // There is no request around what tests call.
        Ok(()) | Err(_) => {}
    }
}

/// Serves a request, and says whether an operation began.
pub(crate) async fn noting<T>(served: impl Future<Output = T>) -> (T, bool) {
    let noted = async {
        let answer = served.await;
        (answer, BEGUN.with(Cell::get))
    };
    BEGUN.scope(Cell::new(false), noted).await
}

/// What has passed of a body.
#[derive(Debug, Default)]
struct Seen {
    bytes: usize,
    hash: Sha256,
    broken: bool,
    late: bool,
}

/// The body of one request, as far as it was read.
#[derive(Debug)]
pub(crate) struct Whole {
    /// What the request says of its body: the hash in hexadecimal, or how it is sent instead.
    announced: Option<String>,
    seen: Arc<Mutex<Seen>>,
}

impl Whole {
    /// Notes of the body of a request, unless that is the content of an object: such bodies are checked as they are written.
    pub(crate) fn of(method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<Self> {
        is_read_whole(method, uri).then(|| Self {
            announced: headers
                .get("x-amz-content-sha256")
                .and_then(|value| value.to_str().ok())
                .map(|value| value.trim().to_ascii_lowercase()),
            seen: Arc::default(),
        })
    }

    /// The same body, noted as it passes.
    pub(crate) fn seen<B>(
        &self,
        body: B,
    ) -> impl http_body::Body<Data = Bytes, Error = B::Error> + Send + use<B>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: std::error::Error + 'static,
    {
        let (passed, failed) = (self.seen.clone(), self.seen.clone());
        body.map_frame(move |frame| {
            if let Some(data) = frame.data_ref() {
                let mut seen = passed.lock();
                seen.bytes = seen.bytes.saturating_add(data.len());
                seen.hash.update(data);
            }
            frame
        })
        .map_err(move |error| {
            let mut seen = failed.lock();
            seen.broken = true;
            seen.late = Late::find(&error).is_some();
            drop(seen);
            error
        })
    }

    /// What is wrong with a body that the library refused to read, if that is the client's fault; `begun` is what [`noting`]
    /// said.
    pub(crate) fn fault(self, begun: bool) -> Option<Fault> {
        let seen = std::mem::take(&mut *self.seen.lock());
        if seen.late {
            return Some(Fault::Late);
        }
        if seen.broken {
            return Some(Fault::Incomplete);
        }
        if seen.bytes > WHOLE_BYTES {
            return Some(Fault::TooLong);
        }
        let announced = self.announced?;
        if announced.starts_with("streaming-") {
            return (!begun).then_some(Fault::Chunks);
        }
        if !is_hash(&announced) {
            return None;
        }
        (hex::encode(seen.hash.finalize()) != announced).then_some(Fault::Digest)
    }
}

/// Other values say how the body is sent: `UNSIGNED-PAYLOAD`, `STREAMING-…`.
fn is_hash(announced: &str) -> bool {
    announced.len() == 64 && announced.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// All that is sent but objects and parts. A bucket in the host's name makes a key look like a bucket; a note too many is
/// all that comes of that.
fn is_read_whole(method: &Method, uri: &Uri) -> bool {
    const OF_OBJECTS: [&str; 4] = ["acl", "legal-hold", "retention", "tagging"];
    let names_object = uri.path().trim_matches('/').contains('/');
    let mut query = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    match method.as_str() {
        "POST" => true,
        "PUT" => !names_object || query.any(|(name, _)| OF_OBJECTS.contains(&&*name)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_of_objects_are_not_noted() {
        for (method, uri, expected) in [
            ("POST", "/b?delete", true),
            ("POST", "/b/k?uploadId=1", true),
            ("PUT", "/b", true),
            ("PUT", "/b/?versioning", true),
            ("PUT", "/b/k?tagging", true),
            ("PUT", "/b/k", false),
            ("PUT", "/b/k?partNumber=1&uploadId=1", false),
            ("GET", "/b", false),
        ] {
            let found = is_read_whole(&method.parse().unwrap(), &uri.parse().unwrap());
            assert_eq!(found, expected, "{method} {uri}");
        }
    }
}
