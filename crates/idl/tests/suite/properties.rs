//! What holds for every message: what is written is read back, and bytes from outside never panic.

use flyte_idl::{
    admin, core, descriptors,
    json::{self, Codec, Unknown},
    nesting, stored,
    text::prototext_dynamic,
};
use proptest::prelude::*;
use prost::Message as _;
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-1e15f64..1e15).prop_map(Value::from),
        (-1_000_000i64..1_000_000).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn template() -> impl Strategy<Value = core::TaskTemplate> {
    (
        any::<String>(),
        any::<i32>(),
        prop::collection::btree_map(any::<String>(), json_value(), 0..4),
        any::<Option<(i64, i32)>>(),
        prop::collection::vec(any::<f32>(), 0..3),
    )
        .prop_map(|(text, number, custom, time, _)| core::TaskTemplate {
            r#type: text.clone(),
            task_type_version: number,
            custom: Some(json::json_to_struct(&custom.into_iter().collect())),
            metadata: time.map(|(seconds, nanos)| core::TaskMetadata {
                timeout: Some(prost_types::Duration {
                    seconds: (seconds % 1_000_000).abs(),
                    nanos: (nanos % 1_000_000_000).abs(),
                }),
                discovery_version: text.clone(),
                generates_deck: Some(number % 2 == 0),
                ..Default::default()
            }),
            config: [(text.clone(), text)].into(),
            ..Default::default()
        })
}

proptest! {
    #[test]
    fn every_codec_reads_what_it_writes(template in template()) {
        for codec in [Codec::ProtoNames, Codec::JsonNames, Codec::Jsonpb] {
            let text = json::to_string(codec, &template).unwrap();
            let again: core::TaskTemplate = json::from_slice(Unknown::Refuse, text.as_bytes()).unwrap();
            prop_assert_eq!(&again, &template, "{:?} {}", codec, text);
        }
    }

    #[test]
    fn json_values_print_and_parse(value in json_value()) {
        let text = json::value_to_string(&value);
        let again = json::parse(text.as_bytes()).unwrap();
        prop_assert_eq!(json::value_to_string(&again), text);
    }

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>(), bytes in any::<Vec<u8>>()) {
        let _ignored = json::from_slice::<admin::WorkflowSpec>(Unknown::Ignore, text.as_bytes());
        let _ignored = json::from_slice::<core::Literal>(Unknown::Refuse, &bytes);
        let _ignored = json::parse(&bytes);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in any::<Vec<u8>>()) {
        let descriptor = descriptors::message::<core::Node>();
        let scanned = nesting::scan(&descriptor, &bytes);
        if let Ok(message) = DynamicMessage::decode(descriptor.clone(), bytes.as_slice()) {
            prop_assert!(scanned.is_ok());
            let _ignored = prototext_dynamic(&message);
            let _ignored = json::dynamic_to_string(Codec::Jsonpb, &message);
            prop_assert!(stored::merge_unknown(&descriptor, &bytes, &bytes).is_some());
        }
    }
}

#[test]
fn the_scan_sees_what_prost_decodes() {
    let template = core::TaskTemplate {
        custom: Some(json::json_to_struct(
            json!({"a": [{"b": 1}]}).as_object().expect("an object"),
        )),
        ..Default::default()
    };
    let bytes = template.encode_to_vec();
    let found = nesting::scan(&descriptors::message::<core::TaskTemplate>(), &bytes);
    assert_eq!(found.map(|found| found.has_unknown), Ok(false));
}
