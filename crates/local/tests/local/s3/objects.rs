//! Objects: both faces read what one writes, conditions, copies, parts, keys of any text.

use flyte_local::s3::ListRequest;
use futures::{StreamExt, TryStreamExt};
use md5::{Digest, Md5};
use object_store::path::Path;
use object_store::{
    Attribute, AttributeValue, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode,
    PutOptions,
};

use crate::s3::{BUCKET, Store, put};
use crate::signing::KEY;

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
