//! Outputs from files: each type, and what goes wrong (spec 05 §17.3).

use std::{fs, os::unix::fs::symlink, path::Path};

use flyte_core::literals::{self, boolean, datetime, duration, float, integer, none, string};
use flyte_idl::core::{
    Binary, BlobType, EnumType, Error, Literal, LiteralType, SchemaType, SimpleType,
    StructuredDatasetType, UnionType, blob_type::BlobDimensionality, literal_type::Type, scalar,
};
use serde_json::json;

use crate::literals::{OUTPUTS, Pod, RAW, blob, map, of, simple, told};

fn blob_type() -> LiteralType {
    of(Type::Blob(BlobType::default()))
}

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn structure() -> Literal {
    let object = json!({ "a": [1, null], "b": { "c": "d" } });
    let fields = flyte_idl::json::json_to_struct(object.as_object().unwrap());
    literals::scalar(scalar::Value::Generic(fields))
}

fn bytes(value: &[u8]) -> Literal {
    literals::scalar(scalar::Value::Binary(Binary {
        value: value.to_vec(),
        tag: "msgpack".to_owned(),
    }))
}

fn error(message: &str) -> Literal {
    literals::scalar(scalar::Value::Error(Error {
        message: message.to_owned(),
        ..Error::default()
    }))
}

fn moment(seconds: i64, nanos: i32) -> Literal {
    datetime(prost_types::Timestamp { seconds, nanos })
}

fn length(seconds: i64, nanos: i32) -> Literal {
    duration(prost_types::Duration { seconds, nanos })
}

#[tokio::test]
async fn every_simple_type_is_read() {
    use SimpleType as T;
    for (simple_type, file, expected) in [
        (T::Integer, &b"42"[..], Some(integer(42))),
        (T::Integer, b" \t-7\n", Some(integer(-7))),
        (T::Integer, b"+5", Some(integer(5))),
        (T::Integer, b"0x10", None),
        (T::Integer, b"1.0", None),
        (T::Integer, b"9223372036854775808", None),
        (T::Integer, b"", None),
        (T::Float, b"2.5\n", Some(float(2.5))),
        (T::Float, b"1e3", Some(float(1000.0))),
        (T::Float, b"-Inf", Some(float(f64::NEG_INFINITY))),
        (T::Float, b"1e400", None),
        (T::Float, b"two", None),
        (T::Boolean, b"1", Some(boolean(true))),
        (T::Boolean, b"t", Some(boolean(true))),
        (T::Boolean, b"TRUE\n", Some(boolean(true))),
        (T::Boolean, b"False", Some(boolean(false))),
        (T::Boolean, b"0", Some(boolean(false))),
        (T::Boolean, b"yes", None),
        (
            T::String,
            b" text with space \n",
            Some(string("text with space")),
        ),
        (T::String, b"", Some(string(""))),
        (T::String, b"\xff", None),
        (T::Duration, b"1h0m0.5s", Some(length(3600, 500_000_000))),
        (T::Duration, b"5", None),
        (
            T::Datetime,
            b"2023-11-14T22:13:20Z",
            Some(moment(1_700_000_000, 0)),
        ),
        (
            T::Datetime,
            b"2023-11-14T23:13:20.5+01:00",
            Some(moment(1_700_000_000, 500_000_000)),
        ),
        (T::Datetime, b"2023-11-14", None),
        (
            T::Struct,
            br#"{"a":[1,null],"b":{"c":"d"}}"#,
            Some(structure()),
        ),
        (T::Struct, b"[1]", None),
        (T::Binary, b" \x00\xff\n", Some(bytes(b" \x00\xff\n"))),
        (T::Error, b"oh no\n", Some(error("oh no"))),
        (T::None, b"whatever", Some(none())),
    ] {
        let case = format!("{simple_type:?} of {:?}", String::from_utf8_lossy(file));
        let pod = Pod::new();
        write(&pod.outputs(), "o", file);
        let done = pod.upload(&[("o", simple(simple_type))]).await;
        match (done, expected) {
            (Ok(outputs), Some(expected)) => assert_eq!(outputs, map([("o", expected)]), "{case}"),
            (Err(error), None) => {
                assert!(
                    told(&error).starts_with("output \"o\" of type"),
                    "{case}: {error}"
                );
                assert!(!pod.store.exists(OUTPUTS).await.unwrap(), "{case}");
            }
            (Ok(outputs), None) => panic!("{case} became {outputs:?}"),
            (Err(error), Some(_)) => panic!("{case}: {}", told(&error)),
        }
    }
}

#[tokio::test]
async fn types_that_files_do_not_have_are_refused_as_by_go() {
    let inner = Box::new(simple(SimpleType::Integer));
    for refused in [
        of(Type::CollectionType(inner.clone())),
        of(Type::MapValueType(inner)),
        of(Type::Schema(SchemaType::default())),
        of(Type::StructuredDatasetType(StructuredDatasetType::default())),
        of(Type::EnumType(EnumType::default())),
        of(Type::UnionType(UnionType::default())),
        LiteralType::default(),
    ] {
        let pod = Pod::new();
        write(&pod.outputs(), "o", b"1");
        let error = pod.upload(&[("o", refused.clone())]).await.unwrap_err();
        let error = told(&error);
        assert!(
            error.starts_with("output \"o\": currently CoPilot uploader does not support ["),
            "{refused:?}: {error}"
        );
    }
}

#[tokio::test]
async fn files_and_folders_go_to_the_raw_prefix_before_the_outputs() {
    use BlobDimensionality::{Multipart, Single};
    let pod = Pod::new();
    let outputs = pod.outputs();
    write(&outputs, "file", b"F");
    write(&outputs, "table.csv", b"a,b");
    write(&outputs, "folder/a", b"A");
    write(&outputs, "folder/deep/er/a", b"another A");
    write(&outputs, "folder/deep/b c%20?#", b"B");
    fs::create_dir(outputs.join("empty")).unwrap();
    write(&outputs, "n", b"1");
    symlink("file", outputs.join("link")).unwrap();
    let written = pod
        .upload(&[
            ("file", blob_type()),
            ("table", blob_type()),
            ("folder", blob_type()),
            ("empty", blob_type()),
            ("link", blob_type()),
            ("n", simple(SimpleType::Integer)),
        ])
        .await
        .unwrap();
    let at = |name: &str| format!("{RAW}/{name}");
    assert_eq!(
        written,
        map([
            ("file", blob(&at("file"), Single)),
            ("table", blob(&at("table"), Single)),
            ("folder", blob(&at("folder"), Multipart)),
            ("empty", blob(&at("empty"), Multipart)),
            ("link", blob(&at("link"), Single)),
            ("n", integer(1)),
        ])
    );
    let names: Vec<(String, Vec<u8>)> = {
        use futures::TryStreamExt as _;
        let entries: Vec<_> = pod
            .store
            .entries(RAW)
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        let mut names = Vec::new();
        for entry in entries {
            let bytes = pod.store.get(&entry.reference).await.unwrap();
            names.push((entry.name, bytes.to_vec()));
        }
        names.sort();
        names
    };
    let expected: Vec<(String, Vec<u8>)> = [
        ("file", &b"F"[..]),
        ("folder/a", b"A"),
        ("folder/deep/b c%20?#", b"B"),
        ("folder/deep/er/a", b"another A"),
        ("link", b"F"),
        ("table", b"a,b"),
    ]
    .into_iter()
    .map(|(name, bytes)| (name.to_owned(), bytes.to_vec()))
    .collect();
    assert_eq!(names, expected);
}

#[tokio::test]
async fn a_file_with_an_extension_is_taken_when_it_is_the_only_one() {
    let pod = Pod::new();
    let outputs = pod.outputs();
    write(&outputs, "x.txt", b"1");
    write(&outputs, "xy", b"2");
    let integer_type = || simple(SimpleType::Integer);
    let written = pod.upload(&[("x", integer_type())]).await.unwrap();
    assert_eq!(written, map([("x", integer(1))]));
    write(&outputs, "x.csv", b"2");
    let error = pod.upload(&[("x", integer_type())]).await.unwrap_err();
    assert!(error.to_string().contains("is ambiguous"), "{error}");
    write(&outputs, "x", b"3");
    let written = pod.upload(&[("x", integer_type())]).await.unwrap();
    assert_eq!(written, map([("x", integer(3))]));
}

#[tokio::test]
async fn what_goes_wrong_is_told_and_nothing_is_written() {
    type Prepare = fn(&Path);
    let cases: [(&str, Prepare, &str); 14] = [
        ("nothing", |_| {}, r#"outputs ["a", "b"] are not in"#),
        (
            "one of two",
            |folder| write(folder, "a", b"1"),
            r#"outputs ["b"] are not in"#,
        ),
        (
            "an error",
            |folder| {
                write(folder, "a", b"1");
                write(folder, "b", b"1");
                write(folder, "_ERROR", b"it broke");
            },
            "User Error: it broke",
        ),
        (
            "an error that is not text",
            |folder| write(folder, "_ERROR", b"\xff"),
            "User Error: \u{fffd}",
        ),
        (
            "a long error",
            |folder| write(folder, "_ERROR", &vec![b'x'; 1024 * 1024 + 1]),
            "_ERROR has 1048577 bytes",
        ),
        (
            "a folder of errors",
            |folder| fs::create_dir(folder.join("_ERROR")).unwrap(),
            "_ERROR is a folder",
        ),
        (
            "a long value",
            |folder| {
                write(folder, "a", &[b'1'; 1025]);
                write(folder, "b", b"1");
            },
            "it has 1025 bytes, and a value has 1024 at most",
        ),
        (
            "a folder for a value",
            |folder| {
                fs::create_dir(folder.join("a")).unwrap();
                write(folder, "b", b"1");
            },
            r#"output "a" is a folder"#,
        ),
        (
            "a link out of the folder",
            |folder| {
                write(folder, "a", b"1");
                symlink("/proc/self/environ", folder.join("b")).unwrap();
            },
            "leads out of the folder of the outputs",
        ),
        (
            "a link to nothing",
            |folder| {
                write(folder, "a", b"1");
                symlink("gone", folder.join("b")).unwrap();
            },
            r#"outputs ["b"] are not in"#,
        ),
        (
            "a pipe",
            |folder| {
                write(folder, "a", b"1");
                let path = folder.join("b");
                let made = std::process::Command::new("mkfifo").arg(path).status();
                assert!(made.unwrap().success());
            },
            "is neither a file nor a folder",
        ),
        (
            "a link out of a folder in the folder",
            |folder| {
                write(folder, "a", b"1");
                write(folder, "b/c", b"1");
                symlink("/etc/passwd", folder.join("b/d")).unwrap();
            },
            "leads out of the folder of the outputs",
        ),
        (
            "a folder in a circle",
            |folder| {
                write(folder, "a", b"1");
                fs::create_dir(folder.join("b")).unwrap();
                symlink("..", folder.join("b/up")).unwrap();
            },
            "is neither a file nor a folder",
        ),
        (
            "a name that is not UTF-8",
            |folder| {
                use std::os::unix::ffi::OsStrExt as _;
                write(folder, "a", b"1");
                fs::create_dir(folder.join("b")).unwrap();
                let name = std::ffi::OsStr::from_bytes(b"\xff");
                fs::write(folder.join("b").join(name), b"1").unwrap();
            },
            "is not UTF-8",
        ),
    ];
    for (case, prepare, expected) in cases {
        let pod = Pod::new();
        prepare(&pod.outputs());
        let done = pod
            .upload(&[("a", simple(SimpleType::Integer)), ("b", blob_type())])
            .await;
        let error = told(&done.unwrap_err());
        assert!(error.contains(expected), "{case}: {error}");
        assert!(!pod.store.exists(OUTPUTS).await.unwrap(), "{case}");
    }
}

#[tokio::test]
async fn a_folder_that_was_never_made_has_no_outputs() {
    let pod = Pod::new();
    let error = pod.upload(&[("a", blob_type())]).await.unwrap_err();
    assert!(error.to_string().contains(r#"outputs ["a"]"#), "{error}");
}

#[tokio::test]
async fn no_name_of_an_output_leads_out_of_the_folder() {
    let long = "x".repeat(300);
    for bad in ["../x", "..", "/etc/passwd", "a/b", "", "\0", &long] {
        let pod = Pod::new();
        write(pod.folder.path(), "x", b"1");
        pod.outputs();
        let error = pod.upload(&[(bad, blob_type())]).await.unwrap_err();
        let error = error.to_string();
        assert!(error.contains("cannot be the name of a file"), "{error}");
    }
}
