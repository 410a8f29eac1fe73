//! Inputs as files: each kind of literal in each format (spec 05 §17.2).

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _};

use flyte_copilot::download::{Format, Step, plan};
use flyte_core::literals::{
    self, boolean, collection, datetime, duration, float, integer, none, string, variant,
};
use flyte_idl::core::{
    Binary, Error, Literal, LiteralMap, LiteralOffloadedMetadata, Primitive, Scalar, Schema,
    SimpleType, StructuredDataset, blob_type::BlobDimensionality, literal, scalar,
};
use prost::Message as _;
use serde_json::{Value, json};

use crate::literals::{Pod, blob, files, map, simple, told};

const FORMATS: [Format; 3] = [Format::Json, Format::Yaml, Format::Proto];

/// A literal, the files that it becomes below `x`, its value, and what `inputs.pb` says instead, `{}` being the folder.
struct Row {
    case: &'static str,
    literal: Literal,
    files: Vec<(&'static str, &'static [u8])>,
    value: Value,
    rewritten: Literal,
}

fn row(case: &'static str, literal: Literal, file: &'static [u8], value: impl Into<Value>) -> Row {
    Row {
        case,
        rewritten: literal.clone(),
        literal,
        files: vec![("x", file)],
        value: value.into(),
    }
}

fn of(value: scalar::Value) -> Literal {
    literals::scalar(value)
}

fn moment(seconds: i64, nanos: i32) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos }
}

fn length(seconds: i64, nanos: i32) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos }
}

fn schema(uri: &str) -> Literal {
    of(scalar::Value::Schema(Schema {
        uri: uri.to_owned(),
        r#type: None,
    }))
}

fn dataset(uri: &str) -> Literal {
    of(scalar::Value::StructuredDataset(StructuredDataset {
        uri: uri.to_owned(),
        metadata: None,
    }))
}

fn values() -> Vec<Row> {
    let object = json!({ "a": [1, 2.5, "x"], "n": null, "t": true });
    let fields = flyte_idl::json::json_to_struct(object.as_object().unwrap());
    let unset = of(scalar::Value::Primitive(Primitive { value: None }));
    vec![
        row(
            "a string",
            string("a\nb \u{fc}<&>"),
            "a\nb \u{fc}<&>".as_bytes(),
            "a\nb \u{fc}<&>",
        ),
        row("an empty string", string(""), b"", ""),
        row("true", boolean(true), b"true", true),
        row("false", boolean(false), b"false", false),
        row("an integer", integer(-42), b"-42", -42),
        row(
            "the largest integer",
            integer(i64::MAX),
            b"9223372036854775807",
            i64::MAX,
        ),
        row("a whole float", float(3.0), b"3", 3.0),
        row("a float", float(0.1), b"0.1", 0.1),
        row("a small float", float(1e-7), b"0.0000001", 1e-7),
        row(
            "a large float",
            float(1e21),
            b"1000000000000000000000",
            1e21,
        ),
        row(
            "a moment",
            datetime(moment(1_700_000_000, 0)),
            b"2023-11-14T22:13:20Z",
            "2023-11-14T22:13:20Z",
        ),
        row(
            "a part of a second",
            datetime(moment(0, 120_000_000)),
            b"1970-01-01T00:00:00.12Z",
            "1970-01-01T00:00:00.12Z",
        ),
        row(
            "a nanosecond",
            datetime(moment(-1, 999_999_999)),
            b"1969-12-31T23:59:59.999999999Z",
            "1969-12-31T23:59:59.999999999Z",
        ),
        row(
            "an hour",
            duration(length(3_600, 0)),
            b"1h0m0s",
            Value::Null,
        ),
        row(
            "less than nothing",
            duration(length(-1, -500_000_000)),
            b"-1.5s",
            Value::Null,
        ),
        row("none", none(), b"null", Value::Null),
        row("an unset primitive", unset, b"null", Value::Null),
        row(
            "bytes",
            of(scalar::Value::Binary(Binary {
                value: b"\x00\xff\n".to_vec(),
                tag: "msgpack".into(),
            })),
            b"\x00\xff\n",
            "AP8K",
        ),
        row(
            "an error",
            of(scalar::Value::Error(Error {
                failed_node_id: "n0".into(),
                message: "went wrong".into(),
            })),
            b"went wrong",
            "went wrong",
        ),
        row(
            "a structure",
            of(scalar::Value::Generic(fields)),
            br#"{"a":[1,2.5,"x"],"n":null,"t":true}"#,
            object,
        ),
        row(
            "a variant",
            variant(integer(1), simple(SimpleType::Integer)),
            b"1",
            1,
        ),
        row(
            "none of a variant",
            variant(none(), simple(SimpleType::None)),
            b"null",
            Value::Null,
        ),
        Row {
            files: vec![("x/0", b"1"), ("x/1", b"2")],
            ..row(
                "a list",
                collection(vec![integer(1), integer(2)]),
                b"",
                json!([1, 2]),
            )
        },
        Row {
            files: vec![],
            ..row("an empty list", collection(vec![]), b"", json!([]))
        },
        Row {
            files: vec![("x/0/0", b"a"), ("x/2/0", b"b"), ("x/2/1", b"c")],
            ..row(
                "lists in a list",
                collection(vec![
                    collection(vec![string("a")]),
                    collection(vec![]),
                    collection(vec![string("b"), string("c")]),
                ]),
                b"",
                json!([["a"], [], ["b", "c"]]),
            )
        },
        Row {
            files: vec![("x/a~b", b"1"), ("x/k/inner", b"true")],
            ..row(
                "a map",
                literals::map(BTreeMap::from([
                    ("a~b".to_owned(), integer(1)),
                    (
                        "k".to_owned(),
                        literals::map(BTreeMap::from([("inner".to_owned(), boolean(true))])),
                    ),
                ])),
                b"",
                json!({ "a~b": 1, "k": { "inner": true } }),
            )
        },
        Row {
            files: vec![],
            ..row(
                "an empty map",
                literals::map(BTreeMap::new()),
                b"",
                json!({}),
            )
        },
    ]
}

/// Objects that the rows below name.
const OBJECTS: [(&str, &[u8]); 7] = [
    ("one", b"single"),
    ("many/a", b"A"),
    ("many/deep/b c%20?#", b"B"),
    ("many/deep/folder", b""),
    ("many/deep/folder/c", b"C"),
    ("manyfold/other", b"not below the prefix"),
    ("table/00000", b"PAR1"),
];

fn data() -> Vec<Row> {
    use BlobDimensionality::{Multipart, Single};
    let many = vec![
        ("x/a", &b"A"[..]),
        ("x/deep/b c%20?#", b"B"),
        ("x/deep/folder/c", b"C"),
    ];
    let at = |name: &str| format!("mem://container/{name}");
    vec![
        Row {
            case: "a file",
            literal: blob(&at("one"), Single),
            files: vec![("x", b"single")],
            value: json!("{}/x"),
            rewritten: blob("{}/x", Single),
        },
        Row {
            case: "a folder",
            literal: blob(&at("many"), Multipart),
            files: many.clone(),
            value: json!("{}/x"),
            rewritten: blob("{}/x", Multipart),
        },
        Row {
            case: "a folder with a slash",
            literal: blob(&at("many/"), Multipart),
            files: many,
            value: json!("{}/x"),
            rewritten: blob("{}/x", Multipart),
        },
        Row {
            case: "a folder of nothing",
            literal: blob(&at("nothing"), Multipart),
            files: vec![],
            value: Value::Null,
            rewritten: blob("{}/x", Multipart),
        },
        Row {
            case: "a schema",
            literal: schema(&at("table")),
            files: vec![("x/00000", b"PAR1")],
            value: json!("{}/x"),
            rewritten: schema("{}/x"),
        },
        Row {
            case: "a structured dataset",
            literal: dataset(&at("table")),
            files: vec![("x/00000", b"PAR1")],
            value: json!("{}/x"),
            rewritten: dataset("{}/x"),
        },
        Row {
            case: "files in lists and maps and variants",
            literal: collection(vec![
                literals::map(BTreeMap::from([(
                    "~/k".replace('/', "-"),
                    blob(&at("one"), Single),
                )])),
                variant(blob(&at("nothing"), Multipart), simple(SimpleType::None)),
                blob(&at("one"), Single),
            ]),
            files: vec![("x/0/~-k", b"single"), ("x/2", b"single")],
            value: json!([{ "~-k": "{}/x/0/~-k" }, null, "{}/x/2"]),
            rewritten: collection(vec![
                literals::map(BTreeMap::from([(
                    "~-k".to_owned(),
                    blob("{}/x/0/~-k", Single),
                )])),
                variant(blob("{}/x/1", Multipart), simple(SimpleType::None)),
                blob("{}/x/2", Single),
            ]),
        },
    ]
}

/// Puts the folder where a row says `{}`.
fn placed(literal: &Literal, folder: &str) -> Literal {
    fn place(literal: &mut Literal, folder: &str) {
        match literal.value.as_mut().unwrap() {
            literal::Value::Collection(items) => {
                items
                    .literals
                    .iter_mut()
                    .for_each(|item| place(item, folder));
            }
            literal::Value::Map(members) => {
                members
                    .literals
                    .values_mut()
                    .for_each(|item| place(item, folder));
            }
            literal::Value::Scalar(scalar) => match scalar.value.as_mut().unwrap() {
                scalar::Value::Union(union) => place(union.value.as_mut().unwrap(), folder),
                scalar::Value::Blob(blob) => blob.uri = blob.uri.replace("{}", folder),
                scalar::Value::Schema(schema) => schema.uri = schema.uri.replace("{}", folder),
                scalar::Value::StructuredDataset(data) => data.uri = data.uri.replace("{}", folder),
                _ => {}
            },
            literal::Value::OffloadedMetadata(_) => {}
        }
    }
    let mut literal = literal.clone();
    place(&mut literal, folder);
    literal
}

fn placed_value(value: &Value, folder: &str) -> Value {
    match value {
        Value::String(text) => Value::from(text.replace("{}", folder)),
        Value::Array(items) => items
            .iter()
            .map(|item| placed_value(item, folder))
            .collect(),
        Value::Object(members) => Value::Object(
            members
                .iter()
                .map(|(key, member)| (key.clone(), placed_value(member, folder)))
                .collect(),
        ),
        other => other.clone(),
    }
}

#[tokio::test]
async fn every_kind_of_value_becomes_files_in_every_format() {
    for row in values().into_iter().chain(data()) {
        for format in FORMATS {
            let case = format!("{} as {format:?}", row.case);
            let pod = Pod::new();
            for (key, bytes) in OBJECTS {
                let reference = flyte_platform::blob::below("mem://container", key);
                pod.put(&reference, bytes).await;
            }
            let inputs = map([("x", row.literal.clone())]);
            let done = pod.download(&inputs, format).await;
            done.unwrap_or_else(|error| panic!("{case}: {}", told(&error)));
            let folder = pod.inputs();
            let at = folder.to_str().unwrap();
            let mut found = files(&folder);
            let written = LiteralMap::decode(found.remove("inputs.pb").unwrap().as_slice());
            let expected = map([("x", placed(&row.rewritten, at))]);
            assert_eq!(written.unwrap(), expected, "{case}");
            let value = json!({ "x": placed_value(&row.value, at) });
            let written: Option<Value> = match format {
                Format::Json => {
                    let text = found.remove("inputs.json").unwrap();
                    Some(serde_json::from_slice(&text).unwrap())
                }
                Format::Yaml => {
                    let text = found.remove("inputs.yaml").unwrap();
                    Some(serde_norway::from_slice(&text).unwrap())
                }
                Format::Proto => None,
            };
            if let Some(written) = written {
                // A whole float is written as an integer, and reads as one.
                let numbers = |value: &Value| value.to_string().replace(".0", "");
                assert_eq!(numbers(&written), numbers(&value), "{case}");
            }
            let expected: BTreeMap<String, Vec<u8>> = row
                .files
                .iter()
                .map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec()))
                .collect();
            assert_eq!(found, expected, "{case}");
        }
    }
}

#[tokio::test]
async fn several_inputs_stand_beside_each_other_in_order() {
    let pod = Pod::new();
    let inputs = map([("y", string("hello")), ("x", integer(1))]);
    pod.download(&inputs, Format::Json).await.unwrap();
    let names: Vec<String> = files(&pod.inputs()).into_keys().collect();
    assert_eq!(names, ["inputs.json", "inputs.pb", "x", "y"]);
    let text = fs::read_to_string(pod.inputs().join("inputs.json")).unwrap();
    assert_eq!(text, r#"{"x":1,"y":"hello"}"#);
}

#[tokio::test]
async fn no_inputs_are_an_empty_document() {
    for (format, name, text) in [
        (Format::Json, "inputs.json", "{}"),
        (Format::Yaml, "inputs.yaml", "{}\n"),
    ] {
        let pod = Pod::new();
        pod.download(&LiteralMap::default(), format).await.unwrap();
        let found = files(&pod.inputs());
        let expected = BTreeMap::from([
            ("inputs.pb".to_owned(), Vec::new()),
            (name.to_owned(), text.into()),
        ]);
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn files_are_as_open_as_the_umask_allows() {
    let pod = Pod::new();
    pod.put("mem://container/one", b"1").await;
    let single = blob("mem://container/one", BlobDimensionality::Single);
    let inputs = map([("v", integer(1)), ("l", collection(vec![])), ("b", single)]);
    pod.download(&inputs, Format::Json).await.unwrap();
    let probe = pod.folder.path().join("probe");
    fs::create_dir(&probe).unwrap();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let allowed = mode(&probe);
    for (name, expected) in [
        ("", allowed),
        ("l", allowed),
        ("v", allowed),
        ("inputs.json", allowed),
        ("inputs.pb", allowed),
        ("b", allowed & 0o666),
    ] {
        let path = pod.inputs().join(name);
        assert_eq!(mode(&path), expected, "{name:?}");
    }
}

#[tokio::test]
async fn offloaded_literals_are_put_where_they_belong() {
    let elsewhere = |uri: &str| Literal {
        value: Some(literal::Value::OffloadedMetadata(
            LiteralOffloadedMetadata {
                uri: uri.to_owned(),
                ..LiteralOffloadedMetadata::default()
            },
        )),
        ..Literal::default()
    };
    let pod = Pod::new();
    let list = collection(vec![integer(7), elsewhere("mem://container/inner")]);
    pod.put("mem://container/list", &list.encode_to_vec()).await;
    pod.put("mem://container/inner", &string("in").encode_to_vec())
        .await;
    let inputs = map([("x", elsewhere("mem://container/list"))]);
    pod.download(&inputs, Format::Json).await.unwrap();
    let found = files(&pod.inputs());
    assert_eq!(found["inputs.json"], br#"{"x":[7,"in"]}"#);
    assert_eq!(found["x/1"], b"in");

    let circle = elsewhere("mem://container/circle");
    pod.put("mem://container/circle", &circle.encode_to_vec())
        .await;
    let refused = pod.download(&map([("x", circle)]), Format::Json).await;
    let refused = told(&refused.unwrap_err());
    assert!(refused.contains("nested more than 16 levels"), "{refused}");
}

#[tokio::test]
async fn no_name_leads_out_of_the_folder() {
    let long = "x".repeat(300);
    for bad in ["../x", "..", ".", "/etc/x", "a/b", "", "\0", "a\0b", &long] {
        let key = literals::map(BTreeMap::from([(bad.to_owned(), integer(1))]));
        for inputs in [map([(bad, integer(1))]), map([("x", key)])] {
            let pod = Pod::new();
            let refused = pod.download(&inputs, Format::Json).await.unwrap_err();
            let refused = told(&refused);
            assert!(
                refused.contains("cannot be the name of a file"),
                "{refused}"
            );
            // Nothing is written, inside or outside.
            assert_eq!(
                fs::read_dir(pod.folder.path()).unwrap().count(),
                0,
                "{bad:?}"
            );
        }
    }
    for own in ["inputs.pb", "inputs.json", "inputs.yaml"] {
        let refused = plan(&map([(own, integer(1))]), "/in".as_ref(), Format::Json);
        assert!(refused.is_err(), "{own}");
    }
    // Nor does the key of an object.
    let pod = Pod::new();
    pod.put("mem://container/many/%2e%2e/%2e%2e/x", b"out")
        .await;
    let folder = blob("mem://container/many", BlobDimensionality::Multipart);
    let done = pod.download(&map([("x", folder)]), Format::Json).await;
    done.unwrap();
    assert!(!pod.folder.path().join("x").exists());
}

#[tokio::test]
async fn what_has_no_file_is_refused_by_name() {
    let unset = Literal::default();
    let no_scalar = Literal {
        value: Some(literal::Value::Scalar(Box::new(Scalar { value: None }))),
        ..Literal::default()
    };
    for (case, literal, expected) in [
        ("no value", unset, "unsupported literal type"),
        ("no scalar", no_scalar, "unsupported scalar type"),
        (
            "a table of a database",
            dataset("bq://project.dataset.table"),
            "unsupported scalar type",
        ),
        (
            "a missing object",
            blob("mem://container/gone", BlobDimensionality::Single),
            "no object at",
        ),
        (
            "another container",
            blob("mem://other/x", BlobDimensionality::Single),
            "Dynamic loading is disabled",
        ),
        (
            "a folder of a web server",
            blob("http://localhost:1/x/", BlobDimensionality::Multipart),
            "HTTP cannot list",
        ),
        ("no URI", blob("", BlobDimensionality::Single), "malformed"),
        (
            "a moment out of range",
            datetime(moment(i64::MAX, 0)),
            "out of range",
        ),
        (
            "a length out of range",
            duration(length(i64::MAX, 0)),
            "out of range",
        ),
        ("not a number", float(f64::NAN), "no form in JSON"),
        (
            "infinite",
            collection(vec![float(f64::INFINITY)]),
            "no form in JSON",
        ),
    ] {
        let pod = Pod::new();
        let refused = pod.download(&map([("wrong", literal)]), Format::Json).await;
        let refused = told(&refused.unwrap_err());
        assert!(refused.contains(expected), "{case}: {refused}");
        assert!(!pod.inputs().join("inputs.pb").exists(), "{case}");
    }
    let pod = Pod::new();
    let numbers = map([("n", float(f64::NAN)), ("i", float(f64::NEG_INFINITY))]);
    pod.download(&numbers, Format::Proto).await.unwrap();
    let found = files(&pod.inputs());
    assert_eq!(found["n"], b"NaN");
    assert_eq!(found["i"], b"-Inf");
}

#[test]
fn a_folder_is_made_before_what_is_in_it() {
    let inputs = map([("x", collection(vec![collection(vec![integer(1)])]))]);
    let steps = plan(&inputs, "/in".as_ref(), Format::Json).unwrap().steps;
    assert_eq!(
        steps,
        [
            Step::Folder("/in/x".into()),
            Step::Folder("/in/x/0".into()),
            Step::File {
                path: "/in/x/0/0".into(),
                bytes: b"1".to_vec()
            },
        ]
    );
}

#[test]
fn literals_as_deep_as_messages_may_be_are_planned() {
    let deep = (0..900).fold(integer(1), |inner, _| collection(vec![inner]));
    let inputs = map([("x", deep)]);
    // The stacks that the binary runs on.
    let thread = std::thread::Builder::new().stack_size(16 * 1024 * 1024);
    let steps = thread
        .spawn(move || {
            plan(&inputs, "/in".as_ref(), Format::Json)
                .unwrap()
                .steps
                .len()
        })
        .unwrap();
    assert_eq!(steps.join().unwrap(), 901);
}
