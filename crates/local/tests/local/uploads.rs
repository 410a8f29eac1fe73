//! Objects that come in parts, and what S3's clients may ask of objects besides.

use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use flyte_local::s3::{Attributes, BlobError, BlobFolder, ListRequest, Part, WriteIf};
use tempfile::TempDir;

use crate::s3::{Store, bucket, put};
use crate::signing::{authorize, path};

const BUCKET: &str = "my-s3-bucket";
/// All parts but the last have at least 5 MiB.
const LARGE: usize = 5 << 20;

fn part(blobs: &BlobFolder, key: &str, id: &str, (number, byte, size): (u32, u8, usize)) -> Part {
    let mut draft = blobs.begin().unwrap();
    draft.write(&vec![byte; size]).unwrap();
    let info = blobs.commit_part(draft, (BUCKET, key), id, number).unwrap();
    Part {
        number,
        etag: info.etag,
    }
}

fn begin(blobs: &BlobFolder, key: &str) -> (String, Vec<Part>) {
    let id = blobs
        .begin_upload(BUCKET, key, Attributes::default())
        .unwrap();
    let parts = vec![
        part(blobs, key, &id, (1, b'a', LARGE)),
        part(blobs, key, &id, (3, b'c', 10)),
    ];
    // Uploaded, and not of the object.
    part(blobs, key, &id, (2, b'b', LARGE));
    (id, parts)
}

fn complete(blobs: &BlobFolder, key: &str, id: &str, parts: &[Part]) -> Result<String, BlobError> {
    let info = blobs.complete_upload((BUCKET, key), id, parts, &WriteIf::Always)?;
    Ok(info.etag)
}

fn parts_folder(folder: &TempDir, id: &str) -> PathBuf {
    folder.path().join("parts").join(id)
}

fn keys(blobs: &BlobFolder) -> Vec<String> {
    let request = ListRequest {
        limit: 1000,
        ..ListRequest::default()
    };
    let page = blobs.list(BUCKET, &request).unwrap();
    page.objects.into_iter().map(|info| info.key).collect()
}

#[test]
fn completing_an_upload_copies_nothing_and_may_be_repeated() {
    let (folder, blobs) = bucket();
    let (id, parts) = begin(&blobs, "k");
    let uploaded = folder.path().join("uploads").join(&id).join("part-00001%o");
    let before = std::fs::metadata(&uploaded).unwrap().ino();
    let etag = complete(&blobs, "k", &id, &parts).unwrap();
    assert!(etag.ends_with("-2"), "{etag}");
    let kept = parts_folder(&folder, &id);
    let after = std::fs::metadata(kept.join("part-00001%o")).unwrap().ino();
    assert_eq!(before, after, "the part is the same file");
    assert!(!kept.join("part-00002%o").exists(), "nobody wanted it");
    // A client that lost the answer asks again; one that asks for something else is told so.
    assert_eq!(complete(&blobs, "k", &id, &parts).unwrap(), etag);
    let other = complete(&blobs, "k", &id, &parts[..1]).unwrap_err();
    assert!(matches!(other, BlobError::NoUpload(_)), "{other}");
    let (mut content, info) = blobs.open_object(BUCKET, "k").unwrap();
    assert_eq!(info.size, LARGE as u64 + 10);
    content.seek(SeekFrom::Start(LARGE as u64 - 3)).unwrap();
    let mut end = String::new();
    content.read_to_string(&mut end).unwrap();
    assert_eq!(end, "aaacccccccccc");
    let again = BlobFolder::open(folder.path()).unwrap();
    assert_eq!(again.head(BUCKET, "k").unwrap().etag, etag);
    assert_eq!(keys(&again), ["k"]);
}

#[test]
fn parts_go_with_their_object_once_nobody_reads_them() {
    let (folder, blobs) = bucket();
    for replaced in [false, true] {
        let (id, parts) = begin(&blobs, "k");
        complete(&blobs, "k", &id, &parts).unwrap();
        let (mut content, info) = blobs.open_object(BUCKET, "k").unwrap();
        if replaced {
            put(&blobs, "k", b"new");
        } else {
            assert!(blobs.delete(BUCKET, "k").unwrap());
        }
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, info.size, "replaced: {replaced}");
        assert!(parts_folder(&folder, &id).exists());
        drop(content);
        assert!(!parts_folder(&folder, &id).exists(), "replaced: {replaced}");
    }
}

#[test]
fn an_upload_survives_a_crash_while_it_is_completed() {
    let (folder, blobs) = bucket();
    let (id, parts) = begin(&blobs, "k");
    drop(blobs);
    // The folder has moved, the description was not written.
    let here = folder.path().join("uploads").join(&id);
    std::fs::rename(here, parts_folder(&folder, &id)).unwrap();
    let blobs = BlobFolder::open(folder.path()).unwrap();
    assert_eq!(keys(&blobs), [""; 0]);
    complete(&blobs, "k", &id, &parts).unwrap();
    assert_eq!(keys(&blobs), ["k"]);
    // A condition that does not hold leaves it as it was, too.
    let (id, parts) = begin(&blobs, "k");
    let refused = blobs
        .complete_upload((BUCKET, "k"), &id, &parts, &WriteIf::Absent)
        .unwrap_err();
    assert!(matches!(refused, BlobError::Condition(_)));
    complete(&blobs, "k", &id, &parts).unwrap();
}

#[test]
fn uploads_that_nobody_goes_on_with_expire() {
    let (folder, blobs) = bucket();
    let (old, old_parts) = begin(&blobs, "old");
    let (new, new_parts) = begin(&blobs, "new");
    drop(blobs);
    let eight_days = std::time::Duration::from_hours(8 * 24);
    let left = std::fs::File::open(folder.path().join("uploads").join(&old)).unwrap();
    let now = left.metadata().unwrap().modified().unwrap();
    left.set_modified(now - eight_days).unwrap();
    let blobs = BlobFolder::open(folder.path()).unwrap();
    let gone = complete(&blobs, "old", &old, &old_parts).unwrap_err();
    assert!(matches!(gone, BlobError::NoUpload(_)), "{gone}");
    complete(&blobs, "new", &new, &new_parts).unwrap();
}

#[test]
fn files_of_others_break_no_list() {
    let (folder, blobs) = bucket();
    put(&blobs, "a/mine", b"x");
    put(&blobs, "z", b"x");
    let bucket = folder.path().join("buckets").join(BUCKET);
    std::fs::write(bucket.join(".DS_Store"), "x").unwrap();
    std::fs::write(bucket.join("a/notes.txt"), "x").unwrap();
    std::fs::write(bucket.join("a/strange%o"), "no object").unwrap();
    std::fs::write(bucket.join("a/empty%o"), "").unwrap();
    std::fs::create_dir(bucket.join("a/folder%o")).unwrap();
    std::fs::write(bucket.join("a/b%20c%o"), "x").unwrap();
    std::fs::copy(bucket.join("a/mine%o"), bucket.join("a/copied%o")).unwrap();
    std::fs::write(folder.path().join("buckets/.DS_Store"), "x").unwrap();
    std::fs::write(folder.path().join("uploads/notes.txt"), "x").unwrap();
    assert_eq!(keys(&blobs), ["a/copied", "a/mine", "z"]);
    let buckets = blobs.buckets().unwrap();
    assert_eq!(buckets.len(), 1, "{buckets:?}");
    BlobFolder::open(folder.path()).unwrap();
}

/// Sends a request that is signed in its headers; code, one header of the answer, and its text.
async fn signed(
    store: &Store,
    (method, key, query): (&str, &str, &str),
    headers: &[(&str, &str)],
    wanted: &str,
) -> (u16, String, String) {
    let place = path(BUCKET, key);
    let all = authorize(
        (method, &store.host, &place),
        (query, "UNSIGNED-PAYLOAD"),
        headers,
    );
    let url = format!("http://{}{place}?{query}", store.host);
    let mut request = store.http.request(method.parse().unwrap(), url);
    for (name, value) in all {
        request = request.header(name, value);
    }
    let answer = request.send().await.unwrap();
    let found = answer.headers().get(wanted);
    let found = found.map_or(String::new(), |value| value.to_str().unwrap().to_owned());
    (
        answer.status().as_u16(),
        found,
        answer.text().await.unwrap(),
    )
}

#[tokio::test]
async fn a_part_or_a_range_of_an_object_is_described_as_it_is_read() {
    let store = Store::start().await;
    let (id, parts) = begin(&store.blobs, "k");
    complete(&store.blobs, "k", &id, &parts).unwrap();
    put(&store.blobs, "plain", b"0123456789");
    for (key, query, range, expected) in [
        ("plain", "", "bytes=2-4", (206, "bytes 2-4/10")),
        ("plain", "partNumber=1", "", (206, "bytes 0-9/10")),
        ("plain", "partNumber=2", "", (416, "")),
        (
            "k",
            "partNumber=2",
            "",
            (206, "bytes 5242880-5242889/5242890"),
        ),
        ("k", "", "bytes=-4", (206, "bytes 5242886-5242889/5242890")),
    ] {
        let headers: &[(&str, &str)] = if range.is_empty() {
            &[]
        } else {
            &[("range", range)]
        };
        for method in ["HEAD", "GET"] {
            let (code, told, text) =
                signed(&store, (method, key, query), headers, "content-range").await;
            assert_eq!(
                (code, told.as_str()),
                expected,
                "{method} {key} {query} {range}: {text}"
            );
            if method == "GET" && expected.0 == 206 && key == "k" {
                assert!(text.chars().all(|byte| byte == 'c'), "{query} {range}");
            }
        }
    }
    let (_, count, _) = signed(
        &store,
        ("GET", "k", "partNumber=2"),
        &[],
        "x-amz-mp-parts-count",
    )
    .await;
    assert_eq!(count, "2");
}

#[tokio::test]
async fn deletes_and_copies_keep_their_conditions() {
    let store = Store::start().await;
    put(&store.blobs, "a", b"one");
    put(&store.blobs, "b", b"two");
    let etag = store.blobs.head(BUCKET, "a").unwrap().etag;
    let source = format!("/{BUCKET}/a");
    for (case, request, headers, expected) in [
        (
            "delete another",
            ("DELETE", "a", ""),
            vec![("if-match", "\"other\"")],
            412,
        ),
        (
            "copy over something",
            ("PUT", "b", ""),
            vec![
                ("x-amz-copy-source", source.as_str()),
                ("if-none-match", "*"),
            ],
            412,
        ),
        (
            "copy over another",
            ("PUT", "b", ""),
            vec![
                ("x-amz-copy-source", source.as_str()),
                ("if-match", "\"other\""),
            ],
            412,
        ),
        (
            "copy to nothing",
            ("PUT", "c", ""),
            vec![
                ("x-amz-copy-source", source.as_str()),
                ("if-none-match", "*"),
            ],
            200,
        ),
        ("a version", ("GET", "a", "versionId=7"), vec![], 400),
        (
            "delete a version",
            ("DELETE", "a", "versionId=7"),
            vec![],
            400,
        ),
        (
            "the null version",
            ("GET", "a", "versionId=null"),
            vec![],
            200,
        ),
        (
            "own keys",
            ("PUT", "d", ""),
            vec![("x-amz-server-side-encryption-customer-algorithm", "AES256")],
            501,
        ),
        (
            "delete it",
            ("DELETE", "a", ""),
            vec![("if-match", etag.as_str())],
            204,
        ),
        (
            "delete nothing",
            ("DELETE", "a", ""),
            vec![("if-match", etag.as_str())],
            412,
        ),
    ] {
        let (code, _, text) = signed(&store, request, &headers, "etag").await;
        assert_eq!(code, expected, "{case}: {text}");
    }
    assert_eq!(keys(&store.blobs), ["b", "c"]);
    assert_eq!(store.blobs.head(BUCKET, "b").unwrap().size, 3);
}

#[tokio::test]
async fn a_bucket_may_be_named_by_the_host() {
    let store = Store::start().await;
    put(&store.blobs, "folder/key", b"found");
    let port = store.host.rsplit_once(':').unwrap().1;
    let host = format!("{BUCKET}.localhost:{port}");
    let all = authorize(("GET", &host, "/folder/key"), ("", "UNSIGNED-PAYLOAD"), &[]);
    let mut request = store
        .http
        .get(format!("http://{}/folder/key", store.host))
        .header("host", &host);
    for (name, value) in all {
        request = request.header(name, value);
    }
    let answer = request.send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "found");
}
