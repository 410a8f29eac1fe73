//! Blobs through both faces, `object_store` in process and S3 over HTTP: what their tests share.

use crate::signing::{KEY, Key, path, presign};
use flyte_local::platform::LocalPlatform;
use flyte_local::s3::{Attributes, BlobBucket, BlobFolder, WriteIf};
use object_store::ObjectStore;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

mod folder;
mod objects;
mod requests;

pub(crate) const BUCKET: &str = "my-s3-bucket";

pub(crate) struct Store {
    folder: TempDir,
    pub(crate) blobs: Arc<BlobFolder>,
    pub(crate) host: String,
    pub(crate) http: reqwest::Client,
    _running: JoinSet<()>,
}

impl Store {
    pub(crate) async fn start() -> Self {
        // The clients take the process's provider; another test may have set it.
        drop(rustls::crypto::ring::default_provider().install_default());
        let folder = tempfile::tempdir().unwrap();
        let platform = LocalPlatform::start(
            crate::platform::options(folder.path()),
            CancellationToken::new(),
        )
        .await
        .unwrap();
        let blobs = platform.blobs().clone();
        let host = format!("127.0.0.1:{}", platform.s3_address().port());
        let mut running = JoinSet::new();
        running.spawn(async move { platform.run().await.unwrap() });
        Self {
            folder,
            blobs,
            host,
            http: reqwest::Client::new(),
            _running: running,
        }
    }

    fn s3(&self) -> AmazonS3 {
        AmazonS3Builder::new()
            .with_endpoint(format!("http://{}", self.host))
            .with_bucket_name(BUCKET)
            .with_region("us-east-1")
            .with_access_key_id(KEY.access)
            .with_secret_access_key(KEY.secret)
            .with_allow_http(true)
            .build()
            .unwrap()
    }

    fn both(&self) -> [Arc<dyn ObjectStore>; 2] {
        [
            Arc::new(BlobBucket::new(self.blobs.clone(), BUCKET)),
            Arc::new(self.s3()),
        ]
    }

    fn presigned(&self, method: &str, key: &str, with: &Key, headers: &[(&str, &str)]) -> String {
        presign(
            (method, &self.host, &path(BUCKET, key)),
            with,
            (jiff::Timestamp::now(), 60),
            headers,
        )
    }

    async fn send(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: &'static [u8],
    ) -> (u16, String) {
        let mut request = self.http.request(method.parse().unwrap(), url).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

pub(crate) fn bucket() -> (TempDir, BlobFolder) {
    let folder = tempfile::tempdir().unwrap();
    let blobs = BlobFolder::open(folder.path()).unwrap();
    blobs.create_bucket(BUCKET).unwrap();
    (folder, blobs)
}

pub(crate) fn put(blobs: &BlobFolder, key: &str, bytes: &[u8]) {
    let mut draft = blobs.begin().unwrap();
    draft.write(bytes).unwrap();
    blobs
        .commit(
            draft,
            (BUCKET, key),
            Attributes::default(),
            &WriteIf::Always,
        )
        .unwrap();
}
