//! Cache keys as the reference computed them (recorded/vectors.json).

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use base64::{Engine as _, prelude::BASE64_STANDARD};
use flyte_core::{catalog, types};
use flyte_idl::core::{Identifier, LiteralMap, TypedInterface};
use prost::Message;
use serde_json::Value;

fn decoded<M: Message + Default>(value: &Value) -> M {
    let bytes = BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap();
    M::decode(bytes.as_slice()).unwrap()
}

fn texts(value: &Value) -> Vec<String> {
    let texts = value.as_array().into_iter().flatten();
    texts
        .map(|text| text.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn cache_keys_are_as_recorded() {
    for line in include_str!("../data/cache-keys.jsonl").lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let task = Identifier {
            name: row["task"].as_str().unwrap().to_owned(),
            ..Default::default()
        };
        let mut interface: TypedInterface = decoded(&row["interface"]);
        types::strip(&mut interface);
        let is_array = row["array"] == true;
        if is_array {
            interface = catalog::item_interface(&interface);
        }
        let version = row["cache_version"].as_str().unwrap();
        let dataset = catalog::dataset(&task, version, Some(&interface)).unwrap();
        assert_eq!(dataset.name, row["dataset"].as_str().unwrap(), "{line}");
        assert_eq!(dataset.version, row["version"].as_str().unwrap(), "{line}");
        let ignored = texts(&row["cache_ignore_input_vars"]);
        let inputs: LiteralMap = decoded(&row["inputs"]);
        if is_array {
            let bound = texts(&row["bound_inputs"]);
            for (index, tag) in texts(&row["tags"]).into_iter().enumerate() {
                let item = catalog::item_inputs(&inputs.literals, &bound, index).unwrap();
                assert_eq!(catalog::input_tag(&item, &ignored), Ok(tag), "{line}");
            }
        } else {
            let tag = catalog::input_tag(&inputs.literals, &ignored).unwrap();
            assert_eq!(tag, row["tag"].as_str().unwrap(), "{line}");
        }
    }
}
