//! The folder below both faces: restarts, concurrency, and lists against their definition.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use flyte_local::s3::{Attributes, BlobFolder, ListRequest, WriteIf};
use proptest::prelude::*;
use tokio::task::JoinSet;

use crate::s3::{BUCKET, bucket, put};

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

#[test]
fn a_key_of_many_folders_does_not_keep_others_from_writing() {
    let (_folder, blobs) = bucket();
    put(&blobs, "others/first", b"x");
    let deep = "/".repeat(1_023) + "a";
    let (began, over) = (Barrier::new(2), AtomicBool::new(false));
    let writes = std::thread::scope(|threads| {
        threads.spawn(|| {
            began.wait();
            put(&blobs, &deep, b"x");
            over.store(true, Ordering::Release);
        });
        began.wait();
        let writes = (0..).take_while(|index| {
            put(&blobs, &format!("others/{index}"), b"x");
            !over.load(Ordering::Acquire)
        });
        writes.count()
    });
    // Each of them has a sync as each folder has one.
    assert!(writes > 20, "{writes} objects were written meanwhile");
    assert_eq!(blobs.head(BUCKET, &deep).unwrap().size, 1);
}

#[test]
fn writes_and_deletions_of_the_last_object_of_a_folder_go_together() {
    let (_folder, blobs) = bucket();
    let refused = WriteIf::Present;
    std::thread::scope(|threads| {
        for index in 0..4 {
            let (blobs, refused) = (&blobs, &refused);
            threads.spawn(move || {
                for round in 0..40 {
                    let key = format!("a/b/c/{}/{index}", round % 3);
                    put(blobs, &key, b"x");
                    let draft = blobs.begin().unwrap();
                    let to = (BUCKET, &*format!("{key}/none"));
                    let all = (Attributes::default(), refused);
                    blobs.commit(draft, to, all.0, all.1).unwrap_err();
                    assert_eq!(blobs.head(BUCKET, &key).unwrap().size, 1);
                    assert!(blobs.delete(BUCKET, &key).unwrap());
                }
            });
        }
    });
    // Nothing is left but the bucket.
    blobs.delete_bucket(BUCKET).unwrap();
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
