//! Blobs through both faces: `object_store` in process, and S3 by the client of `object_store` and by hand-signed requests.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flyte_local::platform::LocalPlatform;
use flyte_local::s3::{Attributes, BlobBucket, BlobFolder, ListRequest, WriteIf};
use futures::{StreamExt, TryStreamExt};
use md5::{Digest, Md5};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{
    Attribute, AttributeValue, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode,
    PutOptions,
};
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::signing::{KEY, Key, authorize, path, presign};

const BUCKET: &str = "my-s3-bucket";

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

#[tokio::test]
async fn what_one_face_writes_both_faces_read() {
    let store = Store::start().await;
    let faces = store.both();
    for (index, writer) in faces.iter().enumerate() {
        let location = Path::from(format!("metadata/n{index}/outputs.pb"));
        let attributes = [
            (Attribute::ContentType, AttributeValue::from("text/html")),
            (
                Attribute::Metadata("owner".into()),
                AttributeValue::from("me"),
            ),
        ];
        let options = PutOptions {
            attributes: attributes.into_iter().collect(),
            ..PutOptions::default()
        };
        let put = writer
            .put_opts(&location, "0123456789".into(), options)
            .await
            .unwrap();
        let expected = format!("\"{}\"", hex::encode(Md5::digest("0123456789")));
        assert_eq!(put.e_tag.as_deref(), Some(expected.as_str()));
        for reader in &faces {
            let got = reader.get(&location).await.unwrap();
            assert_eq!(got.meta.e_tag.as_deref(), Some(expected.as_str()));
            assert_eq!(
                got.attributes
                    .get(&Attribute::ContentType)
                    .unwrap()
                    .as_ref(),
                "text/html"
            );
            assert_eq!(
                got.attributes
                    .get(&Attribute::Metadata("owner".into()))
                    .unwrap()
                    .as_ref(),
                "me"
            );
            assert_eq!(got.bytes().await.unwrap(), "0123456789");
            for (range, expected) in [
                (GetRange::Bounded(2..5), "234"),
                (GetRange::Offset(7), "789"),
                (GetRange::Suffix(3), "789"),
                (GetRange::Bounded(8..99), "89"),
            ] {
                let options = GetOptions {
                    range: Some(range),
                    ..GetOptions::default()
                };
                assert_eq!(
                    reader
                        .get_opts(&location, options)
                        .await
                        .unwrap()
                        .bytes()
                        .await
                        .unwrap(),
                    expected
                );
            }
            assert_eq!(reader.head(&location).await.unwrap().size, 10);
        }
    }
    for face in &faces {
        let missing = face.get(&Path::from("missing")).await.unwrap_err();
        assert!(
            matches!(missing, object_store::Error::NotFound { .. }),
            "{missing}"
        );
    }
}

#[tokio::test]
async fn writes_may_depend_on_what_is_there() {
    let store = Store::start().await;
    for (index, face) in store.both().iter().enumerate() {
        let location = Path::from(format!("condition-{index}"));
        let create = || PutOptions::from(PutMode::Create);
        let first = face
            .put_opts(&location, "1".into(), create())
            .await
            .unwrap();
        let twice = face
            .put_opts(&location, "2".into(), create())
            .await
            .unwrap_err();
        assert!(
            matches!(twice, object_store::Error::AlreadyExists { .. }),
            "{twice}"
        );
        let update = |e_tag| {
            PutOptions::from(PutMode::Update(object_store::UpdateVersion {
                e_tag,
                version: None,
            }))
        };
        face.put_opts(&location, "3".into(), update(first.e_tag.clone()))
            .await
            .unwrap();
        let stale = face
            .put_opts(&location, "4".into(), update(first.e_tag))
            .await
            .unwrap_err();
        assert!(
            matches!(stale, object_store::Error::Precondition { .. }),
            "{stale}"
        );
        assert_eq!(
            face.get(&location).await.unwrap().bytes().await.unwrap(),
            "3"
        );
        let options = GetOptions {
            if_none_match: face.head(&location).await.unwrap().e_tag,
            ..GetOptions::default()
        };
        let same = face.get_opts(&location, options).await.unwrap_err();
        assert!(
            matches!(same, object_store::Error::NotModified { .. }),
            "{same}"
        );
    }
}

#[tokio::test]
async fn lists_copies_and_deletes_agree() {
    let store = Store::start().await;
    let faces = store.both();
    for key in ["a", "a/b", "a/c/d", "a-b", "b"] {
        faces[0]
            .put(&Path::from(key), key.as_bytes().to_vec().into())
            .await
            .unwrap();
    }
    for face in &faces {
        let all: Vec<_> = face
            .list(None)
            .map_ok(|meta| meta.location.to_string())
            .try_collect()
            .await
            .unwrap();
        assert_eq!(all, ["a", "a-b", "a/b", "a/c/d", "b"], "in order of bytes");
        let below = face
            .list_with_delimiter(Some(&Path::from("a")))
            .await
            .unwrap();
        assert_eq!(
            below
                .objects
                .iter()
                .map(|meta| meta.location.as_ref())
                .collect::<Vec<_>>(),
            ["a/b"]
        );
        assert_eq!(below.common_prefixes, [Path::from("a/c")]);
        let after: Vec<_> = face
            .list_with_offset(None, &Path::from("a/b"))
            .map_ok(|meta| meta.location.to_string())
            .try_collect()
            .await
            .unwrap();
        assert_eq!(after, ["a/c/d", "b"]);
    }
    faces[1]
        .copy(&Path::from("a"), &Path::from("copies/a"))
        .await
        .unwrap();
    assert_eq!(
        faces[0]
            .get(&Path::from("copies/a"))
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap(),
        "a"
    );
    let gone = ["a", "a/b", "a/c/d", "copies/a"].map(|key| Ok(Path::from(key)));
    let deleted: Vec<_> = faces[1]
        .delete_stream(futures::stream::iter(gone).boxed())
        .try_collect()
        .await
        .unwrap();
    assert_eq!(deleted.len(), 4);
    let left: Vec<_> = faces[1]
        .list(None)
        .map_ok(|meta| meta.location.to_string())
        .try_collect()
        .await
        .unwrap();
    assert_eq!(left, ["a-b", "b"]);
    assert!(
        !store
            .folder
            .path()
            .join("data/blobs/buckets")
            .join(BUCKET)
            .join("a")
            .exists(),
        "empty folders go"
    );
}

#[tokio::test]
async fn large_objects_come_in_parts() {
    let store = Store::start().await;
    for (index, face) in store.both().iter().enumerate() {
        let location = Path::from(format!("large-{index}"));
        let mut upload = face.put_multipart(&location).await.unwrap();
        let part = |byte: u8, size: usize| vec![byte; size];
        upload.put_part(part(1, 5 << 20).into()).await.unwrap();
        upload.put_part(part(2, 6 << 20).into()).await.unwrap();
        upload.put_part(part(3, 100).into()).await.unwrap();
        assert!(
            face.head(&location).await.is_err(),
            "nothing is visible before the end"
        );
        let put = upload.complete().await.unwrap();
        assert!(put.e_tag.unwrap().ends_with("-3\""));
        assert_eq!(face.head(&location).await.unwrap().size, (11 << 20) + 100);
        let seam = face
            .get_range(&location, (5 << 20) - 1..(5 << 20) + 1)
            .await
            .unwrap();
        assert_eq!(&seam[..], [1, 2]);
        let mut aborted = face.put_multipart(&Path::from("aborted")).await.unwrap();
        aborted.put_part(part(1, 10).into()).await.unwrap();
        aborted.abort().await.unwrap();
        assert!(face.head(&Path::from("aborted")).await.is_err());
    }
    let left = std::fs::read_dir(store.folder.path().join("data/blobs/uploads"))
        .unwrap()
        .count();
    assert_eq!(left, 0, "no upload leaves anything behind");
}

#[tokio::test]
async fn any_text_is_a_key_and_stays_in_the_bucket() {
    let store = Store::start().await;
    let long = "x".repeat(300);
    let keys = [
        "a",
        "a/",
        "a/b",
        "a//b",
        "/lead",
        "../up",
        "a/../../b",
        ".",
        "..",
        "日本 語/é+&?#%25",
        "tab\there",
        &long,
    ];
    let long_folder = format!("{}/{}/leaf", "é".repeat(200), "y".repeat(250));
    let keys: Vec<&str> = keys.into_iter().chain([long_folder.as_str()]).collect();
    for key in &keys {
        let url = store.presigned("PUT", key, &KEY, &[]);
        let body: &'static [u8] = key.as_bytes().to_vec().leak();
        // The client would resolve `..` itself; that is a client's business, so those keys are written below the wire.
        if key.split('/').any(|part| matches!(part, "." | "..")) {
            put(&store.blobs, key, body);
        } else {
            assert_eq!(store.send("PUT", &url, &[], body).await.0, 200, "{key}");
            let (code, text) = store
                .send("GET", &store.presigned("GET", key, &KEY, &[]), &[], b"")
                .await;
            assert_eq!((code, text.as_str()), (200, *key));
        }
        let info = store.blobs.head(BUCKET, key).unwrap();
        assert_eq!((info.key.as_str(), info.size), (*key, key.len() as u64));
    }
    let request = ListRequest {
        limit: 1000,
        ..ListRequest::default()
    };
    let listed: Vec<String> = store
        .blobs
        .list(BUCKET, &request)
        .unwrap()
        .objects
        .into_iter()
        .map(|info| info.key)
        .collect();
    let mut expected = keys.clone();
    expected.sort_unstable();
    assert_eq!(listed, expected);
    let too_long = "z".repeat(1025);
    assert_eq!(
        store
            .send(
                "PUT",
                &store.presigned("PUT", &too_long, &KEY, &[]),
                &[],
                b""
            )
            .await
            .0,
        400
    );
    for key in &keys {
        assert!(store.blobs.delete(BUCKET, key).unwrap(), "{key}");
    }
    let bucket = store.folder.path().join("data/blobs/buckets").join(BUCKET);
    assert_eq!(std::fs::read_dir(bucket).unwrap().count(), 0);
}

#[tokio::test]
async fn presigned_urls_are_verified() {
    let store = Store::start().await;
    let md5 = BASE64_STANDARD.encode(Md5::digest("hello"));
    let headers = [("content-md5", md5.as_str()), ("x-amz-meta-flyte", "yes")];
    let url = store.presigned("PUT", "signed", &KEY, &headers);
    assert_eq!(
        store.send("PUT", &url, &headers, b"hello").await.0,
        200,
        "as signed"
    );
    assert_eq!(
        store
            .blobs
            .head(BUCKET, "signed")
            .unwrap()
            .attributes
            .metadata["flyte"],
        "yes"
    );
    let stranger = Key {
        access: "minio",
        secret: "wrong",
    };
    let unknown = Key {
        access: "nobody",
        secret: "miniostorage",
    };
    let old = jiff::Timestamp::now()
        .checked_sub(jiff::SignedDuration::from_hours(1))
        .unwrap();
    let place = path(BUCKET, "signed");
    let expired = presign(("GET", &store.host, &place), &KEY, (old, 60), &[]);
    let plain = store.presigned("PUT", "plain", &KEY, &[]);
    for (case, method, url, headers, body, expected, code) in [
        (
            "another body than signed",
            "PUT",
            &url,
            &headers[..],
            &b"other"[..],
            400,
            "BadDigest",
        ),
        (
            "without a signed header",
            "PUT",
            &url,
            &headers[..1],
            b"hello",
            403,
            "SignatureDoesNotMatch",
        ),
        (
            "an unsigned header",
            "PUT",
            &plain,
            &[("x-amz-meta-more", "1")],
            b"",
            403,
            "AccessDenied",
        ),
        (
            "the wrong key",
            "GET",
            &store.presigned("GET", "signed", &stranger, &[]),
            &[],
            b"",
            403,
            "SignatureDoesNotMatch",
        ),
        (
            "an unknown key",
            "GET",
            &store.presigned("GET", "signed", &unknown, &[]),
            &[],
            b"",
            403,
            "",
        ),
        (
            "another method",
            "DELETE",
            &store.presigned("GET", "signed", &KEY, &[]),
            &[],
            b"",
            403,
            "SignatureDoesNotMatch",
        ),
        ("too late", "GET", &expired, &[], b"", 403, "AccessDenied"),
        (
            "no signature",
            "GET",
            &format!("http://{}{place}", store.host),
            &[],
            b"",
            403,
            "AccessDenied",
        ),
    ] {
        let (status, text) = store.send(method, url, headers, body).await;
        assert_eq!(status, expected, "{case}: {text}");
        assert!(text.contains(code), "{case}: {text}");
    }
    assert_eq!(
        store.blobs.head(BUCKET, "signed").unwrap().size,
        5,
        "nothing was changed"
    );
    let (code, text) = store
        .send(
            "GET",
            &store.presigned("GET", "signed", &KEY, &[]),
            &[],
            b"",
        )
        .await;
    assert_eq!((code, text.as_str()), (200, "hello"));
}

#[tokio::test]
async fn chunked_bodies_carry_their_checksums_behind() {
    let store = Store::start().await;
    let place = path(BUCKET, "chunked");
    let good = BASE64_STANDARD.encode(crc32fast::hash(b"hello world").to_be_bytes());
    for (checksum, expected) in [(good.as_str(), 200), ("AAAAAA==", 400)] {
        let body =
            format!("6\r\nhello \r\n5\r\nworld\r\n0\r\nx-amz-checksum-crc32:{checksum}\r\n\r\n");
        let headers = authorize(
            ("PUT", &store.host, &place),
            ("", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
            &[
                ("content-encoding", "aws-chunked"),
                ("x-amz-decoded-content-length", "11"),
                ("x-amz-trailer", "x-amz-checksum-crc32"),
            ],
        );
        let mut request = store
            .http
            .put(format!("http://{}{place}", store.host))
            .body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(
            answer.status().as_u16(),
            expected,
            "{checksum}: {}",
            answer.text().await.unwrap()
        );
    }
    let info = store.blobs.head(BUCKET, "chunked").unwrap();
    assert_eq!((info.size, info.attributes.content_encoding), (11, None));
    assert_eq!(info.checksums["crc32"], good);
}

#[tokio::test]
async fn buckets_and_lists_answer_as_s3() {
    let store = Store::start().await;
    for key in ["d/1", "d/2", "e f", "g"] {
        put(&store.blobs, key, b"x");
    }
    let get = async |path: &str, query: &str| {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let headers = authorize(("GET", &store.host, path), (query, empty), &[]);
        let mut request = store
            .http
            .get(format!("http://{}{path}?{query}", store.host));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let bucket = format!("/{BUCKET}");
    let (code, text) = get(
        &bucket,
        "delimiter=%2F&encoding-type=url&list-type=2&max-keys=2",
    )
    .await;
    assert_eq!(code, 200, "{text}");
    assert!(
        text.contains("<CommonPrefixes><Prefix>d/</Prefix></CommonPrefixes>"),
        "{text}"
    );
    assert!(
        text.contains("<Key>e%20f</Key>") && text.contains("<IsTruncated>true</IsTruncated>"),
        "{text}"
    );
    let token = text
        .split("<NextContinuationToken>")
        .nth(1)
        .unwrap()
        .split('<')
        .next()
        .unwrap();
    let (_, text) = get(
        &bucket,
        &format!("continuation-token={token}&delimiter=%2F&list-type=2"),
    )
    .await;
    assert!(
        text.contains("<Key>g</Key>")
            && !text.contains("CommonPrefixes")
            && text.contains("<KeyCount>1</KeyCount>"),
        "{text}"
    );
    let (_, text) = get(&bucket, "marker=d%2F1&max-keys=1").await;
    assert!(
        text.contains("<Key>d/2</Key>") && text.contains("<NextMarker>d/2</NextMarker>"),
        "{text}"
    );
    let (_, text) = get("/", "").await;
    assert!(text.contains("<Name>my-s3-bucket</Name>"), "{text}");
    assert_eq!(get("/no-such-bucket", "list-type=2").await.0, 404);
}

#[test]
fn an_object_survives_a_reopened_folder_and_half_written_ones_do_not() {
    let (folder, blobs) = bucket();
    put(&blobs, "kept", b"1");
    let mut draft = blobs.begin().unwrap();
    draft.write(b"half").unwrap();
    std::mem::forget(draft);
    let blobs = BlobFolder::open(folder.path()).unwrap();
    assert_eq!(blobs.head(BUCKET, "kept").unwrap().size, 1);
    assert_eq!(
        std::fs::read_dir(folder.path().join("temporary"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test]
async fn concurrent_writers_and_deleters_of_one_folder_do_not_disturb_each_other() {
    let (_folder, blobs) = bucket();
    let blobs = Arc::new(blobs);
    let mut work = JoinSet::new();
    for index in 0..8 {
        let blobs = blobs.clone();
        work.spawn_blocking(move || {
            for round in 0..20 {
                let key = format!("shared/folder/{index}-{round}");
                put(&blobs, &key, b"x");
                assert!(blobs.delete(BUCKET, &key).unwrap());
            }
        });
    }
    tokio::time::timeout(Duration::from_secs(60), work.join_all())
        .await
        .unwrap();
}

/// What S3 answers for these keys, by the definition.
fn model(keys: &BTreeSet<String>, request: &ListRequest) -> (Vec<String>, Vec<String>) {
    let (mut objects, mut prefixes) = (Vec::new(), Vec::new());
    for key in keys.iter().filter(|key| key.starts_with(&request.prefix)) {
        let rest = &key[request.prefix.len()..];
        let end = if request.delimiter.is_empty() {
            None
        } else {
            rest.find(&request.delimiter)
        };
        match end {
            Some(end) => {
                let prefix = key[..request.prefix.len() + end + request.delimiter.len()].to_owned();
                if !prefixes.contains(&prefix) && prefix > request.after {
                    prefixes.push(prefix);
                }
            }
            None if *key > request.after => objects.push(key.clone()),
            None => {}
        }
    }
    (objects, prefixes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn pages_together_are_the_whole_list(
        keys in proptest::collection::btree_set("[ab/.-]{1,6}", 0..12),
        prefix in "[ab/]{0,2}",
        delimiter in prop_oneof![Just(""), Just("/"), Just("b"), Just("a/")],
        limit in 1_usize..4,
    ) {
        let (_folder, blobs) = bucket();
        for key in &keys {
            put(&blobs, key, b"");
        }
        let mut request = ListRequest { prefix, delimiter: delimiter.to_owned(), after: String::new(), limit };
        let expected = model(&keys, &request);
        let (mut objects, mut prefixes) = (Vec::new(), Vec::new());
        loop {
            let page = blobs.list(BUCKET, &request).unwrap();
            prop_assert!(page.objects.len() + page.prefixes.len() <= limit);
            objects.extend(page.objects.into_iter().map(|info| info.key));
            prefixes.extend(page.prefixes);
            match page.next {
                Some(next) => {
                    prop_assert!(next > request.after);
                    request.after = next;
                }
                None => break,
            }
        }
        prop_assert_eq!((objects, prefixes), expected);
    }
}
