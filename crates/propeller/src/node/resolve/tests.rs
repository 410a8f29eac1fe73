//! What bindings become, and what is said when they cannot.

use flyte_idl::core::{
    Binary, Primitive, PromiseAttribute, Scalar, primitive, promise_attribute, scalar,
};
use serde_json::json;

use super::*;

const URI: &str = "s3://bucket/run/n0/data/0/outputs.pb";

fn scalar(value: scalar::Value) -> Literal {
    let scalar = Scalar { value: Some(value) };
    Literal {
        value: Some(literal::Value::Scalar(Box::new(scalar))),
        ..Literal::default()
    }
}

fn primitive(value: primitive::Value) -> Literal {
    scalar(scalar::Value::Primitive(Primitive { value: Some(value) }))
}

fn integer(number: i64) -> Literal {
    primitive(primitive::Value::Integer(number))
}

fn float(number: f64) -> Literal {
    primitive(primitive::Value::FloatValue(number))
}

fn text(text: &str) -> Literal {
    primitive(primitive::Value::StringValue(text.into()))
}

fn list(literals: Vec<Literal>) -> Literal {
    Literal {
        value: Some(literal::Value::Collection(LiteralCollection { literals })),
        ..Literal::default()
    }
}

fn binary(tag: &str, value: Vec<u8>) -> Literal {
    let tag = tag.to_owned();
    scalar(scalar::Value::Binary(Binary { value, tag }))
}

fn msgpack(value: &rmpv::Value) -> Literal {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).unwrap();
    binary("msgpack", bytes)
}

/// A dataclass as newer versions of flytekit write it.
fn dataclass() -> Literal {
    let entry = |key: &str, value: rmpv::Value| (key.into(), value);
    msgpack(&rmpv::Value::Map(vec![
        entry("list", rmpv::Value::Array(vec!["one".into(), "two".into()])),
        entry("a", 7.into()),
        entry("b", (-300).into()),
        entry("f", 0.5.into()),
        entry("large", u64::MAX.into()),
        entry("none", rmpv::Value::Nil),
    ]))
}

/// A dataclass as older versions write it.
fn structure() -> Literal {
    let literal = json!({ "scalar": { "generic": {
        "a": 7, "inner": { "t": true }, "list": ["one", 0.5, null] } } });
    let literal: flyte_crd::Proto<Literal> = serde_json::from_value(literal).unwrap();
    literal.0
}

fn offloaded() -> Literal {
    Literal {
        value: Some(literal::Value::OffloadedMetadata(
            flyte_idl::core::LiteralOffloadedMetadata::default(),
        )),
        ..Literal::default()
    }
}

fn map() -> Literal {
    let literals = [("k".to_owned(), integer(1)), ("j".to_owned(), text("x"))].into();
    Literal {
        value: Some(literal::Value::Map(LiteralMap { literals })),
        ..Literal::default()
    }
}

fn upstream(literals: Result<LiteralMap, Unreadable>) -> Upstream {
    Upstream {
        uri: URI.into(),
        literals: literals.map(Arc::new),
    }
}

fn outputs() -> Outputs {
    let literals = [
        ("o0", integer(5)),
        ("list", list(vec![integer(1), integer(2)])),
        ("map", map()),
        ("data", dataclass()),
        ("old", structure()),
        ("foreign", binary("pickle", vec![1])),
        ("broken", binary("msgpack", vec![0x92, 0x01])),
        ("large", offloaded()),
    ];
    let literals = literals.map(|(name, literal)| (name.to_owned(), literal));
    let literals = literals.into();
    BTreeMap::from([
        ("n0".to_owned(), upstream(Ok(LiteralMap { literals }))),
        ("empty".to_owned(), upstream(Ok(LiteralMap::default()))),
        (
            "gone".to_owned(),
            upstream(Err(Unreadable::Missing(URI.into()))),
        ),
        (
            "garbled".to_owned(),
            upstream(Err(Unreadable::Malformed {
                uri: URI.into(),
                why: "no literals".into(),
            })),
        ),
    ])
}

/// A step of a path.
fn key(name: &str) -> PromiseAttribute {
    PromiseAttribute {
        value: Some(promise_attribute::Value::StringValue(name.into())),
    }
}

fn index(number: i32) -> PromiseAttribute {
    PromiseAttribute {
        value: Some(promise_attribute::Value::IntValue(number)),
    }
}

fn promise_of(node: &str, var: &str, path: Vec<PromiseAttribute>) -> Binding {
    Binding {
        var: "x".into(),
        binding: Some(BindingData {
            value: Some(binding_data::Value::Promise(OutputReference {
                node_id: node.into(),
                var: var.into(),
                attr_path: path,
            })),
            ..BindingData::default()
        }),
    }
}

fn promise(var: &str, path: Vec<PromiseAttribute>) -> Binding {
    promise_of("n0", var, path)
}

#[test]
fn promises_reach_outputs_elements_and_attributes() {
    let pair = || vec![key("list"), index(1)];
    for (case, binding, expected) in [
        ("an output", promise("o0", vec![]), integer(5)),
        ("an indexed output", promise("[1].list", vec![]), integer(2)),
        ("an element", promise("list", vec![index(0)]), integer(1)),
        ("an entry", promise("map", vec![key("j")]), text("x")),
        ("a field", promise("data", vec![key("a")]), integer(7)),
        (
            "an element of a field",
            promise("data", pair()),
            text("two"),
        ),
        (
            "a field of a struct",
            promise("old", vec![key("a")]),
            float(7.0),
        ),
        ("an element of it", promise("old", pair()), float(0.5)),
        (
            "what is left of a path at an integer is ignored",
            promise("o0", vec![key("a"), index(3)]),
            integer(5),
        ),
        (
            "and at a number of a struct",
            promise("old", vec![key("a"), key("b")]),
            float(7.0),
        ),
    ] {
        let resolved = resolve(&[binding], &outputs()).unwrap();
        assert_eq!(resolved.literals["x"], expected, "{case}");
    }
}

/// What `flytepropeller` 1.16.8 says of the same binding, as the message of the node's error (its `nodes/resolve.go`,
/// `nodes/output_resolver.go`, `nodes/attr_path_resolver.go`). Two blanks that Go's prototext may put are one.
#[test]
fn what_is_not_there_is_said_in_the_words_of_the_reference() {
    const DATA: &str = "map[a:7 b:-300 f:0.5 large:18446744073709551615 list:[one two] none:<nil>]";
    let attribute = |text: &str| format!("n0]. PromiseAttributeResolveError: {text}");
    for (case, binding, theirs) in [
        (
            "no output of that name",
            promise("o1", vec![]),
            "n0]. OutputsNotFoundError: Failed to find [n0].[o1]".into(),
        ),
        (
            "no outputs at all",
            promise_of("empty", "o0", vec![]),
            format!("empty]. OutputsNotFoundError: Outputs not found at [{URI}]"),
        ),
        (
            "no file of outputs",
            promise_of("gone", "o0", vec![]),
            format!(
                "gone]. CausedByError: Failed to GetPrevious data from outputDir [{URI}], caused by: path:{URI}: not found"
            ),
        ),
        (
            "a file of something else, which ends as the decoder says",
            promise_of("garbled", "o0", vec![]),
            format!(
                "garbled]. CausedByError: Failed to GetPrevious data from outputDir [{URI}], caused by: \
                 unmarshall: {URI}: no literals"
            ),
        ),
        (
            "an element past the end of an output",
            promise("[7].list", vec![]),
            "n0]. OutputsNotFoundError: Failed to find [n0[7].list]".into(),
        ),
        (
            "an element of an output that is not there",
            promise("[0].o1", vec![]),
            "n0]. BadSpecificationError: Output of array tasks is expected to be a single literal map entry named 'array' \
             of type LiteralCollection."
                .into(),
        ),
        (
            "an element of an integer",
            promise("[0].o0", vec![]),
            "n0]. BadSpecificationError: Output of array tasks of key 'array' is of type [*core.Literal_Scalar]. \
             LiteralCollection is expected."
                .into(),
        ),
        (
            "no entry of a map",
            promise("map", vec![key("l")]),
            attribute(
                "key [l] does not exist in literal map[j:scalar:{primitive:{string_value:\"x\"}} \
                 k:scalar:{primitive:{integer:1}}]",
            ),
        ),
        (
            "an index into a map",
            promise("map", vec![index(0)]),
            attribute(
                "key [] does not exist in literal map[j:scalar:{primitive:{string_value:\"x\"}} \
                 k:scalar:{primitive:{integer:1}}]",
            ),
        ),
        (
            "past the end of a list",
            promise("list", vec![index(2)]),
            attribute(
                "index [2] is out of range of [scalar:{primitive:{integer:1}} scalar:{primitive:{integer:2}}]",
            ),
        ),
        (
            "no field",
            promise("data", vec![key("c")]),
            attribute(&format!("key [c] does not exist in literal {DATA}")),
        ),
        (
            "an index into fields",
            promise("data", vec![index(3)]),
            attribute("unexpected attribute type [*core.PromiseAttribute_IntValue] for value &{3}"),
        ),
        (
            "a key into a list of a field",
            promise("data", vec![key("list"), key("k")]),
            attribute("unexpected attribute type [*core.PromiseAttribute_StringValue] for value &{k}"),
        ),
        (
            "past the end of a list of a field",
            promise("data", vec![key("list"), index(2)]),
            attribute("index [2] is out of range of [one two]"),
        ),
        (
            "before its beginning",
            promise("data", vec![key("list"), index(-1)]),
            attribute("index [-1] is out of range of [one two]"),
        ),
        (
            "a field of an integer",
            promise("data", vec![key("a"), key("b")]),
            attribute("unexpected type [uint8] for value 7"),
        ),
        (
            "a field of a negative one",
            promise("data", vec![key("b"), key("b")]),
            attribute("unexpected type [int16] for value -300"),
        ),
        (
            "a field of None",
            promise("data", vec![key("none"), key("b")]),
            attribute("unexpected type [<nil>] for value <nil>"),
        ),
        (
            "an integer that no literal holds",
            promise("data", vec![key("large")]),
            "n0]. InvalidPrimitiveType: uint64 value is too large to be converted to int64".into(),
        ),
        (
            "no field of a struct",
            promise("old", vec![key("b")]),
            attribute(
                "key [b] does not exist in literal map[a:7 inner:map[t:true] list:[one 0.5 <nil>]]",
            ),
        ),
        (
            "past the end of a list of a struct",
            promise("old", vec![key("list"), index(3)]),
            attribute("index [3] is out of range of [one 0.5 <nil>]"),
        ),
        (
            "a format that is not known",
            promise("foreign", vec![key("a")]),
            attribute(
                "Unsupported format 'pickle' found for literal value.\n\
                 Please ensure the serialization format is supported.",
            ),
        ),
        (
            "an offloaded value that is not read",
            promise("large", vec![key("a")]),
            attribute("failed to read offloaded metadata for promise"),
        ),
    ] {
        let error = resolve(&[binding], &outputs()).unwrap_err();
        let expected = format!(
            "failed at Node[n1]. BindingResolutionError: Error binding Var [wf].[x], caused by: failed at Node[{theirs}"
        );
        assert_eq!(error.of_node("n1"), expected, "{case}");
    }
}

/// Where the reference says something else, and why this does not.
#[test]
fn what_is_said_in_other_words() {
    let attribute =
        |text: &str| format!("failed at Node[n0]. PromiseAttributeResolveError: {text}");
    for (why, binding, ours) in [
        (
            "its arguments are swapped: `failed at Node[id]. IllegalStateError: n7%!(EXTRA string=Undefined node in Workflow)`",
            promise_of("n7", "o0", vec![]),
            "failed at Node[n7]. IllegalStateError: Undefined node in Workflow".into(),
        ),
        (
            "it crashes",
            promise("list", vec![index(-1)]),
            attribute(
                "index [-1] is out of range of [scalar:{primitive:{integer:1}} scalar:{primitive:{integer:2}}]",
            ),
        ),
        (
            "it takes the first element",
            promise("list", vec![key("k")]),
            attribute(
                "unexpected attribute type [*core.PromiseAttribute_StringValue] for value &{k}",
            ),
        ),
        (
            "it takes the first element",
            promise("old", vec![key("list"), key("k")]),
            attribute(
                "unexpected attribute type [*core.PromiseAttribute_StringValue] for value &{k}",
            ),
        ),
        (
            "the words are those of its decoder, without the node: `data length lacks to create slice`",
            promise("broken", vec![key("a")]),
            attribute(
                "the value is not msgpack: I/O error while reading marker byte: failed to fill whole buffer",
            ),
        ),
    ] {
        let error = resolve(&[binding], &outputs()).unwrap_err();
        assert_eq!(error.cause.to_string(), ours, "{why}");
    }
}

#[test]
fn long_values_are_shown_by_their_beginning() {
    let long = || "é".repeat(1_000_000);
    let entries = (0..100_000).map(|n| (format!("k{n}").into(), n.into()));
    for (case, literal) in [
        (
            "a long field",
            msgpack(&rmpv::Value::Map(vec![("a".into(), long().into())])),
        ),
        ("many fields", msgpack(&rmpv::Value::Map(entries.collect()))),
        ("a long element", list(vec![text(&long())])),
    ] {
        let literals = [("o".to_owned(), literal)].into();
        let outputs = [("n0".to_owned(), upstream(Ok(LiteralMap { literals })))].into();
        let step = if case == "a long element" {
            index(1)
        } else {
            key("b")
        };
        let error = resolve(&[promise("o", vec![step])], &outputs).unwrap_err();
        let message = error.of_node("n1");
        assert!(message.len() < 5_000, "{case}: {} bytes", message.len());
        assert!(
            message.contains(flyte_core::excerpt::MARK),
            "{case}: {message}"
        );
    }
}

#[test]
fn an_empty_node_id_means_the_start_node() {
    assert_eq!(
        promised_nodes(&[promise_of("", "n", vec![])]),
        ["start-node"]
    );
}
