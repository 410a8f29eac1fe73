use super::*;
use crate::{
    admin::{NamedEntityIdentifier, Project, ProjectRegisterRequest},
    core::{Literal, LiteralType, Primitive, TaskMetadata, TaskTemplate, literal_type::Type},
};

fn refused<M: Message + Name + Default + std::fmt::Debug>(text: &str) -> String {
    from_slice::<M>(Unknown::Refuse, text.as_bytes())
        .unwrap_err()
        .to_string()
}

#[test]
fn the_three_codecs_differ_in_names_and_defaults() {
    let metadata = TaskMetadata {
        timeout: Some(prost_types::Duration {
            seconds: 60,
            nanos: 0,
        }),
        generates_deck: Some(false),
        ..Default::default()
    };
    assert_eq!(
        to_string(Codec::Jsonpb, &metadata).unwrap(),
        r#"{"timeout":"60s","generatesDeck":false}"#
    );
    let snake = to_string(Codec::ProtoNames, &metadata).unwrap();
    assert!(snake.starts_with(r#"{"discoverable":false,"runtime":null,"timeout":"60s","retries":null,"discovery_version":"","#), "{snake}");
    let camel = to_string(Codec::JsonNames, &metadata).unwrap();
    assert!(camel.contains(r#""discoveryVersion":"","#), "{camel}");
}

#[test]
fn both_name_styles_are_read() {
    for text in [
        r#"{"resource_type":"TASK","name":"n"}"#,
        r#"{"resourceType":1,"name":"n"} ignored"#,
    ] {
        let id: crate::core::Identifier = from_slice(Unknown::Refuse, text.as_bytes()).unwrap();
        assert_eq!((id.resource_type, id.name.as_str()), (1, "n"));
    }
}

#[test]
fn errors_are_worded_as_by_go() {
    assert_eq!(
        refused::<NamedEntityIdentifier>(r#"{"zz":1}"#),
        "proto: (line 1:2): unknown field \"zz\""
    );
    assert_eq!(
        refused::<ProjectRegisterRequest>(r#"{"project": "x"}"#),
        "proto: syntax error (line 1:13): unexpected token \"x\""
    );
    assert_eq!(
        refused::<ProjectRegisterRequest>(r#"{"project": {"id": 1}}"#),
        "proto: (line 1:20): invalid value for string field id: 1"
    );
    assert_eq!(
        refused::<Project>(r#"{"state":"ZZ"}"#),
        "proto: (line 1:10): invalid value for enum field state: \"ZZ\""
    );
    assert_eq!(
        refused::<Project>(r#"{"id":"a","id":"b"}"#),
        "proto: (line 1:11): duplicate field \"id\""
    );
    assert_eq!(
        refused::<Primitive>(r#"{"integer":1,"boolean":true}"#),
        "proto: (line 1:14): error parsing \"boolean\", oneof flyteidl.core.Primitive.value is already set"
    );
    assert_eq!(
        refused::<Primitive>(r#"{"datetime":"yesterday"}"#),
        "proto: (line 1:13): invalid google.protobuf.Timestamp value \"yesterday\""
    );
    assert_eq!(
        refused::<Project>("null"),
        "proto: syntax error (line 1:1): unexpected token null"
    );
    assert_eq!(
        refused::<Project>("[]"),
        "proto: syntax error (line 1:1): unexpected token ["
    );
    assert_eq!(
        refused::<Project>("x"),
        "invalid character 'x' looking for beginning of value"
    );
    for (text, rest) in [
        ("\u{1}", r"'\x01' looking for beginning of value"),
        ("é", "'Ã' looking for beginning of value"),
        ("'", r"'\'' looking for beginning of value"),
        (r"\", r"'\\' looking for beginning of value"),
        ("tr\u{7f}", r"'\x7f' in literal true (expecting 'u')"),
    ] {
        let expected = format!("invalid character {rest}");
        assert_eq!(refused::<Project>(text), expected);
    }
    assert_eq!(refused::<Project>(r#"{"id":"#), "unexpected EOF");
    assert_eq!(
        refused::<Project>(r#"{"id" 1}"#),
        "invalid character '1' after object key"
    );
}

/// Go shows what the client wrote, and escapes nothing itself.
#[test]
fn errors_show_keys_as_they_were_written() {
    for (text, expected) in [
        (
            r#"{"z\u001f\"é":1}"#,
            r#"proto: (line 1:2): unknown field "z\u001f\"é""#,
        ),
        (
            r#"{"id":"a","\u0069d":"b"}"#,
            r#"proto: (line 1:11): duplicate field "\u0069d""#,
        ),
        (
            r#"{"labels":{"values":{"\u0061":"b","a":"c"}}}"#,
            r#"proto: (line 1:35): duplicate map key "a""#,
        ),
    ] {
        assert_eq!(refused::<Project>(text), expected);
    }
    assert_eq!(
        refused::<prost_types::Any>(r#"{"@type":"x.\u0041"}"#),
        r#"proto: (line 1:10): unable to resolve "x.\u0041": "not found""#
    );
}

#[test]
fn numbers_are_read_leniently_where_protojson_is() {
    for (text, number) in [
        ("1", 1),
        ("1.0", 1),
        ("1e2", 100),
        ("\"7\"", 7),
        ("-3", -3),
        ("120e-1", 12),
    ] {
        let template: TaskTemplate = from_slice(
            Unknown::Refuse,
            format!(r#"{{"task_type_version":{text}}}"#).as_bytes(),
        )
        .unwrap();
        assert_eq!(template.task_type_version, number, "{text}");
    }
    for text in ["1.5", "\"x\"", "2147483648", "true", "\" 1\"", "[1]"] {
        let error = refused::<TaskTemplate>(&format!(r#"{{"task_type_version":{text}}}"#));
        assert!(
            error.contains("invalid value for int32 field taskTypeVersion"),
            "{error}"
        );
    }
}

#[test]
fn struct_values_keep_null_and_zero() {
    let text = r#"{"type":"t","custom":{"a":null,"b":[],"c":{},"d":0,"e":[1.5,"x",false]}}"#;
    let template: TaskTemplate = from_slice(Unknown::Refuse, text.as_bytes()).unwrap();
    assert_eq!(to_string(Codec::Jsonpb, &template).unwrap(), text);
}

#[test]
fn a_thousand_levels_survive_json() {
    let mut literal_type = LiteralType::default();
    for _ in 0..nesting::MAX_LEVELS {
        literal_type = LiteralType {
            r#type: Some(Type::CollectionType(Box::new(literal_type))),
            ..Default::default()
        };
    }
    on_a_large_stack(move || {
        let text = to_string(Codec::Jsonpb, &literal_type).unwrap();
        let again: LiteralType = from_slice(Unknown::Refuse, text.as_bytes()).unwrap();
        assert_eq!(again, literal_type);
        let deeper = format!("{{\"collectionType\":{text}}}");
        let error = from_slice::<LiteralType>(Unknown::Refuse, deeper.as_bytes()).unwrap_err();
        assert_eq!(error, JsonError::Nesting(nesting::NestingError::TooDeep));
    });
}

#[test]
fn ten_million_levels_of_json_are_refused() {
    let text = "{\"collection\":".repeat(10_000_000);
    assert_eq!(
        refused::<Literal>(&text),
        "JSON nests deeper than 5100 levels"
    );
}

fn on_a_large_stack(test: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new()
        .stack_size(16 << 20)
        .spawn(test)
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn deep_json_becomes_a_value() {
    on_a_large_stack(|| {
        let text = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
        let value = parse(text.as_bytes()).unwrap();
        assert_eq!(value_to_string(&value), text);
    });
    let text = r#"{"a":[1,-2,18446744073709551615,1.5,true,null,"x"]}"#;
    assert_eq!(value_to_string(&parse(text.as_bytes()).unwrap()), text);
}
