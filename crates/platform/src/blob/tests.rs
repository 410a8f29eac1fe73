use super::*;
use crate::{
    config::StringMap,
    metrics::{LabelKeys, Scope},
};

#[test]
fn references_split_as_the_reference_does() {
    for (text, container, key) in [
        ("s3://bucket/a/b", "bucket", "a/b"),
        ("s3://bucket/a%20b/", "bucket", "a b"),
        ("s3://bucket", "bucket", ""),
        ("file:///tmp/x", "", "tmp/x"),
        ("gs://b/k?x=1#y", "b", "k"),
    ] {
        let parsed: Reference = text.parse().unwrap();
        assert_eq!(
            (parsed.container.as_str(), parsed.key.as_str()),
            (container, key),
            "{text}"
        );
    }
    for (text, error) in [
        ("bucket/key", ReferenceError::NoScheme),
        ("s3:///key", ReferenceError::NoContainer),
        ("s3://b/%ff", ReferenceError::NotUtf8),
    ] {
        assert_eq!(text.parse::<Reference>().unwrap_err(), error, "{text}");
    }
}

#[tokio::test]
async fn objects_round_trip_and_missing_ones_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let on_disk = BlobStore::open(&StorageConfig {
        container: "bucket".into(),
        stow: StowConfig {
            kind: "local".into(),
            config: StringMap::from([("path", folder.path().display().to_string())]),
        },
        ..StorageConfig::default()
    })
    .unwrap();
    for store in [BlobStore::in_memory(), on_disk] {
        let reference = format!("{}/metadata/x y/inputs.pb", store.base());
        assert!(store.get(&reference).await.unwrap_err().is_not_found());
        assert_eq!(store.head(&reference).await.unwrap(), None);
        store
            .put(&reference, Bytes::from_static(b"abc"))
            .await
            .unwrap();
        assert_eq!(store.get(&reference).await.unwrap(), "abc");
        assert_eq!(store.head(&reference).await.unwrap().unwrap().size, 3);
        let again = store
            .put_if_absent(&reference, Bytes::new())
            .await
            .unwrap_err();
        assert!(matches!(again, BlobError::AlreadyExists(_)), "{again}");
        let listed = store
            .list(&format!("{}/metadata", store.base()), 10)
            .await
            .unwrap();
        assert_eq!(listed, std::slice::from_ref(&reference));
        store.delete(&reference).await.unwrap();
        assert!(!store.exists(&reference).await.unwrap());
    }
}

/// References, and the keys of their objects.
const PLACES: [(&str, &str); 4] = [
    ("s3://b/q/r", "q/r"),
    ("s3://b/q//r", "q//r"),
    ("s3://b/q///r//s", "q///r//s"),
    ("s3://b/q//r%20s", "q//r s"),
];

#[tokio::test]
async fn an_object_is_where_its_reference_says() {
    let memory = Arc::new(InMemory::new());
    let store = BlobStore::over("s3", "b", memory.clone(), None);
    for (reference, key) in PLACES {
        store.put(reference, Bytes::new()).await.unwrap();
        let found: Vec<_> = memory.list(None).try_collect().await.unwrap();
        let keys: Vec<&str> = found.iter().map(|meta| meta.location.as_ref()).collect();
        assert_eq!(keys, [key], "{reference}");
        store.delete(reference).await.unwrap();
    }
}

#[cfg(feature = "s3")]
#[tokio::test]
async fn a_signed_url_is_of_the_object_that_its_reference_names() {
    let signer = BlobStore::s3_signer("http://localhost:1", "b", "key", "secret").unwrap();
    let store = BlobStore::over("s3", "b", Arc::new(InMemory::new()), Some(signer));
    for (reference, _) in PLACES {
        let request = SignRequest {
            verb: Verb::Put,
            expires_in: std::time::Duration::from_mins(1),
            content_md5: None,
            add_content_md5_metadata: false,
        };
        let signed = store.sign(reference, &request).await.unwrap().url;
        let path = reference.strip_prefix("s3:/").unwrap();
        assert!(signed.contains(&format!("{path}?")), "{signed}");
    }
}

#[tokio::test]
async fn a_foreign_container_is_refused() {
    let store = BlobStore::in_memory();
    let error = store.get("mem://other/key").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Conf container:container != Passed Container:other. Dynamic loading is disabled"
    );
}

#[tokio::test]
async fn an_object_over_the_limit_is_refused_with_the_text_clients_match() {
    let store = BlobStore::in_memory();
    store
        .put("mem://container/big", Bytes::from(vec![0; 3 * 1024 * 1024]))
        .await
        .unwrap();
    let error = store
        .get_at_most("mem://container/big", 2)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "limit exceeded. 3.000000mb > 2mb. You can increase the limit by setting maxDownloadMBs."
    );
}

#[test]
fn a_missing_container_or_kind_is_named() {
    let error = BlobStore::open(&StorageConfig::default()).unwrap_err();
    assert!(
        error.to_string().starts_with("storage.container is empty"),
        "{error}"
    );
    let error = BlobStore::open(&StorageConfig {
        container: "b".into(),
        stow: StowConfig {
            kind: "floppy".into(),
            config: StringMap::from([("a", "b".to_owned())]),
        },
        ..StorageConfig::default()
    })
    .unwrap_err();
    assert!(
        error.to_string().contains("unsupported stow.kind [floppy]"),
        "{error}"
    );
}

#[cfg(feature = "s3")]
#[tokio::test]
async fn a_signed_upload_binds_the_digest_and_uses_the_public_endpoint() {
    let store = BlobStore::open(&StorageConfig {
        container: "my-s3-bucket".into(),
        stow: StowConfig {
            kind: "s3".into(),
            config: StringMap::from([
                ("access_key_id", "minio".to_owned()),
                ("secret_key", "miniostorage".to_owned()),
                ("endpoint", "http://minio.flyte:9000".to_owned()),
            ]),
        },
        signed_url: SignedUrlConfig {
            stow_config_override: StringMap::from([(
                "endpoint",
                "http://localhost:30002".to_owned(),
            )]),
        },
        ..StorageConfig::default()
    })
    .unwrap();
    let signed = store
        .sign(
            "s3://my-s3-bucket/a/b.txt",
            &SignRequest {
                verb: Verb::Put,
                expires_in: std::time::Duration::from_secs(60),
                content_md5: Some("kAFQmDzST7DWlj99KOF/cg==".into()),
                add_content_md5_metadata: true,
            },
        )
        .await
        .unwrap();
    assert!(
        signed
            .url
            .starts_with("http://localhost:30002/my-s3-bucket/a/b.txt?"),
        "{}",
        signed.url
    );
    assert!(
        signed
            .url
            .contains("X-Amz-SignedHeaders=content-md5%3Bhost%3Bx-amz-meta-flytecontentmd5"),
        "{}",
        signed.url
    );
    assert_eq!(
        signed.headers.keys().collect::<Vec<_>>(),
        ["Content-MD5", "x-amz-meta-flyteContentMD5"]
    );
}

#[tokio::test]
async fn requests_are_counted_by_what_came_of_them_and_for_whom() {
    let scope = Scope::new("storage").labelled_by(LabelKeys::new(["project", "wf"]));
    let metrics = Arc::new(BlobMetrics::register(&scope).unwrap());
    let store = BlobStore::in_memory()
        .counted(metrics)
        .used_by("snacks", "development", "wf");
    store
        .put("mem://container/a", Bytes::from_static(b"a"))
        .await
        .unwrap();
    store.get("mem://container/a").await.unwrap();
    store.get("mem://container/b").await.unwrap_err();
    store.head("mem://container/b").await.unwrap();
    store.delete("mem://container/b").await.unwrap();
    store.get("mem://other/b").await.unwrap_err();
    store.get("nowhere").await.unwrap_err();
    store.count_cached(Cached::Hit);
    let refused: Result<(), &str> = store.decoded(|| Err("no message"));
    refused.unwrap_err();
    let text = scope.render();
    for line in [
        r#"storage:write_ms_count{project="snacks",wf="wf"} 1"#,
        "storage:write_unlabeled_count 1",
        "storage:write_failure_unlabeled 0",
        r#"storage:read_open_ms_count{project="snacks",wf="wf"} 2"#,
        r#"storage:read_failure{failure_type="NotFound",project="snacks",wf="wf"} 1"#,
        "storage:read_failure_unrelated_to_cache 1",
        "storage:proto_fetch_ms_count 1",
        "storage:head_failure_unlabeled 0",
        "storage:head_unlabeled_ms_count 1",
        "storage:delete_failure_unlabeled 0",
        "storage:bad_container_unlabeled 1",
        "storage:bad_key_unlabeled 1",
        "storage:cache_hit 1",
        "storage:cache_miss 0",
        "storage:unmarshal_failure 1",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line} in {text}");
    }
}

#[tokio::test]
async fn a_folder_is_never_left() {
    let root = tempfile::tempdir().unwrap();
    let inside = root.path().join("inside");
    std::fs::create_dir(&inside).unwrap();
    std::fs::create_dir(root.path().join("outside")).unwrap();
    std::fs::write(root.path().join("outside/secret"), "secret").unwrap();
    let mut config = StorageConfig {
        container: "bucket".into(),
        enable_multicontainer: true,
        ..StorageConfig::default()
    };
    config.stow.kind = "local".into();
    config.stow.config = crate::config::StringMap::from([("path", inside.display().to_string())]);
    let store = BlobStore::open(&config).unwrap();
    for reference in [
        "file://bucket/../../outside/secret",
        "file://bucket/%2e%2e/%2e%2e/outside/secret",
        "file://bucket/%252e%252e/%252e%252e/outside/secret",
        "file://bucket/a%2F..%2F..%2F..%2Foutside/secret",
        "file://../outside/secret",
        "file://..%2Foutside/secret",
        "file:///../outside/secret",
        "file://bucket/.%09./.%09./outside/secret",
    ] {
        let read = store.get(reference).await;
        assert!(!read.is_ok_and(|bytes| bytes == "secret"), "{reference}");
        // What it writes is somewhere inside, if anywhere.
        drop(store.put(reference, Bytes::from_static(b"mine")).await);
        let outside = std::fs::read_dir(root.path().join("outside")).unwrap();
        assert_eq!(outside.count(), 1, "{reference}");
        let secret = std::fs::read(root.path().join("outside/secret")).unwrap();
        assert_eq!(secret, b"secret", "{reference}");
    }
    let long = format!("file://bucket/{}", "x".repeat(300));
    let refused = store.put(&long, Bytes::new()).await.unwrap_err();
    assert!(matches!(refused, BlobError::NameTooLong(_)), "{refused}");
}

#[cfg(feature = "s3")]
#[tokio::test]
async fn a_bucket_is_not_signed() {
    let signer = BlobStore::s3_signer("http://localhost:1", "bucket", "key", "secret").unwrap();
    let store = BlobStore::over("s3", "bucket", Arc::new(InMemory::new()), Some(signer));
    let request = SignRequest {
        verb: Verb::Get,
        expires_in: std::time::Duration::from_secs(60),
        content_md5: None,
        add_content_md5_metadata: false,
    };
    assert!(store.sign("s3://bucket/a", &request).await.is_ok());
    for reference in [
        "s3://bucket",
        "s3://bucket/",
        "s3://bucket/%2F",
        "s3://bucket?list-type=2",
    ] {
        let refused = store.sign(reference, &request).await;
        assert!(
            matches!(refused, Err(BlobError::Reference { .. })),
            "{reference}: {refused:?}"
        );
    }
}
