//! Moving bytes between the store and files: piece by piece, a few at a time, tried again while the store is away.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use flyte_platform::{
    Backoff, Chain,
    blob::{BlobError, BlobStore, Entry},
};
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream::BoxStream};
use prost::Message;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::OnceCell,
};

/// Objects that are fetched at once. Each holds one piece of the network in memory.
pub(crate) const FETCHES: usize = 16;
/// Files that are sent at once. Each holds two parts in memory, and a pod gives copilot 128 MiB.
pub(crate) const UPLOADS: usize = 3;
/// Shortest part of an upload: what S3 asks for.
const PART: u64 = 5 * 1024 * 1024;
/// Parts that S3 allows one object, less a few.
const MOST_PARTS: u64 = 9_000;
/// How much of a file is read at a time.
const PIECE: usize = 256 * 1024;
/// Between tries of what the store could not do for now.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));

/// Why bytes did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The store.
    #[error(transparent)]
    Store(#[from] BlobError),
    /// A server that is not the store.
    #[error("{url:?} cannot be fetched")]
    Http {
        /// Its URL without query, which may be a signature.
        url: String,
        /// What went wrong.
        source: reqwest::Error,
    },
    /// It answered something else.
    #[error("{url:?} cannot be fetched: the server answers {status}")]
    Status {
        /// Its URL without query.
        url: String,
        /// The status of the answer.
        status: reqwest::StatusCode,
    },
    /// HTTP has no folders.
    #[error("{0:?} is a folder, and HTTP cannot list one; name one in the store")]
    NoListing(String),
    /// A file of this machine.
    #[error("{}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Bytes that are no message of their kind.
    #[error("the object at {reference:?} is no {kind}: {why}")]
    Malformed {
        /// Where it is.
        reference: String,
        /// What it should be.
        kind: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl TransferError {
    /// Whether another try may succeed.
    fn is_passing(&self) -> bool {
        match self {
            Self::Store(error) => error.is_away(),
            Self::Http { source, .. } => !source.is_builder() && !source.is_redirect(),
            Self::Status { status, .. } => {
                status.is_server_error() || *status == reqwest::StatusCode::TOO_MANY_REQUESTS
            }
            Self::NoListing(_) | Self::File { .. } | Self::Malformed { .. } => false,
        }
    }

    pub(crate) fn file(path: &Path, source: std::io::Error) -> Self {
        Self::File {
            path: path.to_owned(),
            source,
        }
    }
}

/// The store, and a client for what is elsewhere.
pub struct Transfer {
    store: BlobStore,
    /// Made when something is elsewhere, which is rare: reading the system's certificates takes its time.
    http: OnceCell<reqwest::Client>,
    /// What was begun last, or what a try failed with that is repeated.
    trouble: Mutex<String>,
}

impl Transfer {
    /// Over `store`.
    pub fn new(store: BlobStore) -> Self {
        Self {
            store,
            http: OnceCell::new(),
            trouble: Mutex::default(),
        }
    }

    /// What is under way, or why it is being tried again: what there is to say when time runs out.
    pub fn trouble(&self) -> String {
        self.trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set_trouble(&self, trouble: String) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// Does `work` again for as long as it fails for now; who calls bounds the time. `what` is it in a few words.
    async fn persistently<T, F>(
        &self,
        what: String,
        mut work: impl FnMut() -> F,
    ) -> Result<T, TransferError>
    where
        F: Future<Output = Result<T, TransferError>>,
    {
        self.set_trouble(what);
        let mut tries = 0;
        loop {
            match work().await {
                Err(error) if error.is_passing() => {
                    tries += 1;
                    let text = Chain(&error).to_string();
                    tracing::warn!(tries, error = text, "tried again in a moment");
                    self.set_trouble(text);
                    tokio::time::sleep(BACKOFF.wait(tries, u64::from(std::process::id()))).await;
                }
                done => return done,
            }
        }
    }

    /// Reads a message, of at most `storage.limits.maxDownloadMBs`.
    pub(crate) async fn message<M>(
        &self,
        reference: &str,
        kind: &'static str,
    ) -> Result<M, TransferError>
    where
        M: Message + prost::Name + Default,
    {
        let bytes = self
            .persistently(format!("reading {reference}"), async || {
                Ok(self.store.get(reference).await?)
            })
            .await?;
        decode(&bytes).map_err(|why| TransferError::Malformed {
            reference: reference.to_owned(),
            kind,
            why,
        })
    }

    /// Writes a message.
    pub(crate) async fn put_message(
        &self,
        reference: &str,
        message: &impl Message,
    ) -> Result<(), TransferError> {
        let bytes = Bytes::from(message.encode_to_vec());
        self.persistently(format!("writing {reference}"), async || {
            Ok(self.store.put(reference, bytes.clone()).await?)
        })
        .await
    }

    /// Fetches one object, of the store or of an HTTP server, into a file.
    pub(crate) async fn fetch(&self, from: &str, to: &Path) -> Result<(), TransferError> {
        self.persistently(format!("reading {}", without_query(from)), async || {
            let mut pieces = if is_http(from) {
                self.open_url(from).await?
            } else {
                let pieces = self.store.read(from).await?;
                pieces.map_err(TransferError::from).boxed()
            };
            let failed = |source| TransferError::file(to, source);
            let mut file = tokio::fs::File::create(to).await.map_err(failed)?;
            while let Some(piece) = pieces.try_next().await? {
                file.write_all(&piece).await.map_err(failed)?;
            }
            // Only then it is known that the disk had room for it.
            file.flush().await.map_err(failed)
        })
        .await
    }

    async fn open_url(
        &self,
        url: &str,
    ) -> Result<BoxStream<'static, Result<Bytes, TransferError>>, TransferError> {
        let shown = without_query(url);
        let failed = {
            let url = shown.clone();
            move |source: reqwest::Error| TransferError::Http {
                url: url.clone(),
                source: source.without_url(),
            }
        };
        let client = self.http.get_or_try_init(async || http_client());
        let client = client.await.map_err(&failed)?;
        let answer = client.get(url).send().await.map_err(&failed)?;
        if !answer.status().is_success() {
            return Err(TransferError::Status {
                url: shown,
                status: answer.status(),
            });
        }
        let pieces = futures::stream::try_unfold(answer, move |mut answer| {
            let failed = failed.clone();
            async move {
                let piece = answer.chunk().await.map_err(failed)?;
                Ok(piece.map(|piece| (piece, answer)))
            }
        });
        Ok(pieces.boxed())
    }

    /// What is below a prefix of the store.
    pub(crate) async fn entries(
        &self,
        prefix: &str,
    ) -> Result<impl Stream<Item = Result<Entry, TransferError>> + Send + use<>, TransferError>
    {
        if is_http(prefix) {
            return Err(TransferError::NoListing(without_query(prefix)));
        }
        Ok(self
            .store
            .entries(prefix)
            .await?
            .map_err(TransferError::from))
    }

    /// Sends a file.
    pub(crate) async fn send(&self, from: &Path, to: &str) -> Result<(), TransferError> {
        self.persistently(format!("writing {to}"), async || {
            let failed = |source| TransferError::file(from, source);
            let mut file = tokio::fs::File::open(from).await.map_err(failed)?;
            let size = file.metadata().await.map_err(failed)?.len();
            let mut upload = self.store.upload(to, part_of(size)).await?;
            let mut piece = vec![0; PIECE];
            loop {
                let sent = match file.read(&mut piece).await {
                    Ok(0) => break,
                    Ok(read) => {
                        let read = piece.get(..read).unwrap_or_default();
                        upload
                            .put(Bytes::copy_from_slice(read))
                            .await
                            .map_err(TransferError::from)
                    }
                    Err(source) => Err(failed(source)),
                };
                if let Err(error) = sent {
                    upload.abort().await;
                    return Err(error);
                }
            }
            Ok(upload.finish().await?)
        })
        .await
    }
}

fn http_client() -> Result<reqwest::Client, reqwest::Error> {
    flyte_platform::tls::install_crypto_provider();
    reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(30))
        .read_timeout(Duration::from_secs(120))
        .build()
}

/// Length of the parts of a file of `size` bytes.
fn part_of(size: u64) -> usize {
    usize::try_from(PART.max(size.div_ceil(MOST_PARTS))).unwrap_or(usize::MAX)
}

fn is_http(uri: &str) -> bool {
    uri.starts_with("http://") || uri.starts_with("https://")
}

fn without_query(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().to_owned()
}

/// A message that is not nested deeper than what works.
pub(crate) fn decode<M: Message + prost::Name + Default>(bytes: &[u8]) -> Result<M, String> {
    flyte_idl::nesting::scan(&flyte_idl::descriptors::message::<M>(), bytes)
        .map_err(|error| error.to_string())?;
    M::decode(bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_as_short_as_the_store_allows() {
        for (size, part) in [
            (0, PART),
            (1 << 30, PART),
            (PART * MOST_PARTS, PART),
            (5 << 40, (5_u64 << 40).div_ceil(MOST_PARTS)),
        ] {
            assert_eq!(part_of(size), usize::try_from(part).unwrap(), "{size}");
            assert!(size.div_ceil(part) <= MOST_PARTS, "{size}");
        }
    }
}
