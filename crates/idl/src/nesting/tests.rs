//! What is scanned, and what is refused.

use prost::Message as _;

use super::*;
use crate::{
    core::{LiteralType, literal_type::Type},
    descriptors,
};

/// `collection_type` around itself, `levels` times, built from the inside out without recursion.
fn nested_bytes(levels: usize) -> Vec<u8> {
    // Each level is a tag, a length and the level inside: write lengths backwards.
    let mut reversed: Vec<u8> = Vec::new();
    for _ in 0..levels {
        let mut length = Vec::new();
        prost::encoding::encode_varint(reversed.len() as u64, &mut length);
        reversed.extend(length.iter().rev());
        reversed.push(3 << 3 | 2);
    }
    reversed.reverse();
    reversed
}

fn of(bytes: &[u8]) -> Result<Scan, NestingError> {
    scan(&descriptors::message::<LiteralType>(), bytes)
}

#[test]
fn a_thousand_levels_are_read() {
    let bytes = nested_bytes(MAX_LEVELS);
    assert_eq!(of(&bytes).map(|found| found.depth), Ok(MAX_LEVELS));
}

#[test]
fn a_level_more_and_ten_million_more_are_refused() {
    let deeper = of(&nested_bytes(MAX_LEVELS + 1));
    assert_eq!(deeper, Err(NestingError::TooDeep));
    assert_eq!(of(&nested_bytes(10_000_000)), Err(NestingError::TooDeep));
    let groups = vec![15 << 3 | 3; 2_000];
    assert_eq!(of(&groups), Err(NestingError::TooDeep));
    assert_eq!(
        NestingError::TooDeep.to_string(),
        "message nests deeper than 1000 levels"
    );
}

#[test]
fn what_json_cannot_say_is_noticed() {
    use crate::event::TaskExecutionEvent;
    use prost_types::{ListValue, Struct, Timestamp, Value, value::Kind};
    let number = |number| Value {
        kind: Some(Kind::NumberValue(number)),
    };
    let event = |at: Option<(i64, i32)>, value: f64| {
        let list = Value {
            kind: Some(Kind::ListValue(ListValue {
                values: vec![number(1.0), number(value)],
            })),
        };
        let event = TaskExecutionEvent {
            occurred_at: at.map(|(seconds, nanos)| Timestamp { seconds, nanos }),
            custom_info: Some(Struct {
                fields: [("a".to_owned(), list)].into(),
            }),
            ..Default::default()
        };
        let descriptor = descriptors::message::<TaskExecutionEvent>();
        scan(&descriptor, &event.encode_to_vec())
            .unwrap()
            .unprintable
    };
    for (at, value, expected) in [
        (None, 1.5, None),
        (Some((0, 0)), f64::MAX, None),
        (Some((253_402_300_799, 999_999_999)), -0.0, None),
        (None, f64::NAN, Some(Unprintable::Number)),
        (None, f64::NEG_INFINITY, Some(Unprintable::Number)),
        (
            Some((253_402_300_800, 0)),
            1.0,
            Some(Unprintable::Timestamp),
        ),
        (
            Some((-62_135_596_801, 0)),
            1.0,
            Some(Unprintable::Timestamp),
        ),
        (Some((0, -1)), 1.0, Some(Unprintable::Timestamp)),
    ] {
        assert_eq!(event(at, value), expected, "{at:?} {value}");
    }
}

#[test]
fn what_is_deep_and_large_at_once_is_refused() {
    // 900 levels around a long message.
    let around = |inner: Vec<u8>| {
        let mut reversed: Vec<u8> = inner;
        for _ in 0..900 {
            let mut length = Vec::new();
            prost::encoding::encode_varint(reversed.len() as u64, &mut length);
            reversed.extend(length.iter().rev());
            reversed.push(3 << 3 | 2);
        }
        reversed.reverse();
        of(&reversed)
    };
    assert!(around([0x01, 0x08].repeat(50_000)).is_ok());
    let refused = around([0x01, 0x08].repeat(500_000));
    assert!(
        matches!(refused, Err(NestingError::TooMuch { .. })),
        "{refused:?}"
    );
}

/// A field that is a message, around what is inside.
fn field(number: u8, inner: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    prost::encoding::encode_varint(inner.len() as u64, &mut bytes);
    bytes.extend(inner);
    bytes
}

/// A struct with one entry: `google.protobuf.Value` by its wire form.
fn structure(value: &[u8]) -> Vec<u8> {
    let key = [1 << 3 | 2, 1, b'a'];
    field(1, &[&key[..], &field(2, value)].concat())
}

#[test]
fn many_deep_values_are_refused_and_one_is_not() {
    // A struct within a struct, as JSON has it in six bytes a level.
    let deep = (0..990).fold(Vec::new(), |inner, _| field(5, &structure(&inner)));
    let metadata = |count: usize| {
        let list = field(6, &field(1, &deep).repeat(count));
        of(&field(6, &structure(&list)))
    };
    assert!(metadata(1).is_ok());
    for count in [10, 40] {
        let refused = metadata(count);
        assert!(
            matches!(refused, Err(NestingError::TooMuch { .. })),
            "{count}: {refused:?}"
        );
    }
}

#[test]
fn unknown_fields_are_noticed_wherever_they_are() {
    let inner = LiteralType {
        r#type: Some(Type::Simple(1)),
        ..Default::default()
    };
    let known = LiteralType {
        r#type: Some(Type::CollectionType(Box::new(inner))),
        ..Default::default()
    }
    .encode_to_vec();
    assert_eq!(
        of(&known),
        Ok(Scan {
            depth: 1,
            has_unknown: false,
            unprintable: None,
        })
    );
    // collection_type { unknown field 100: varint 1 }
    let unknown = [0x1a, 0x03, 0xa0, 0x06, 0x01];
    assert!(of(&unknown).unwrap().has_unknown);
    for malformed in [&[0x1a, 0x05, 0x00][..], &[0xff], &[0x07], &[0x0c]] {
        assert_eq!(of(malformed), Err(NestingError::Malformed));
    }
}

#[test]
fn memory_is_in_proportion_to_bytes() {
    use crate::{admin::WorkflowSpec, core};
    let within = |name: &str, bytes: &[u8]| {
        scan(
            &descriptors::pool().get_message_by_name(name).unwrap(),
            bytes,
        )
        .err()
    };
    let of =
        |message: WorkflowSpec| within("flyteidl.admin.WorkflowSpec", &message.encode_to_vec());
    let nodes = |nodes: Vec<core::Node>| WorkflowSpec {
        template: Some(core::WorkflowTemplate {
            nodes,
            ..Default::default()
        }),
        ..Default::default()
    };
    let integer = |number| core::Literal {
        value: Some(core::literal::Value::Scalar(Box::new(core::Scalar {
            value: Some(core::scalar::Value::Primitive(core::Primitive {
                value: Some(core::primitive::Value::Integer(number)),
            })),
        }))),
        ..Default::default()
    };
    let list = core::LiteralCollection {
        literals: (0..400_000).map(integer).collect(),
    };
    // What there may be, as much as a request of four MiB holds of it.
    assert_eq!(
        within("flyteidl.core.LiteralCollection", &list.encode_to_vec()),
        None
    );
    assert_eq!(of(nodes(vec![core::Node::default(); 20_000])), None);
    let named = |index: usize| core::Node {
        id: format!("n{index}"),
        upstream_node_ids: vec![format!("n{}", index.saturating_sub(1))],
        ..Default::default()
    };
    assert_eq!(of(nodes((0..100_000).map(named).collect())), None);
    // A few bytes each, and hundreds of bytes of memory.
    let refused = |bytes: &[u8], name: &str, expected: &str| {
        let error = within(name, bytes);
        match &error {
            Some(NestingError::TooManyParts { kind, size, most }) => {
                assert_eq!((kind.as_str(), *size), (expected, bytes.len()));
                assert!(*most < 100 * size + (32 << 20), "{error:?}");
            }
            _ => panic!("{name}: {error:?}"),
        }
    };
    refused(
        &nodes(vec![core::Node::default(); 1_000_000]).encode_to_vec(),
        "flyteidl.admin.WorkflowSpec",
        "flyteidl.core.Node",
    );
    let entries: Vec<u8> = [1 << 3 | 2, 0].repeat(1_000_000);
    refused(
        &entries,
        "flyteidl.admin.ExecutionList",
        "flyteidl.admin.Execution",
    );
}
