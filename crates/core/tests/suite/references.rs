//! References as the reference built them (recorded/vectors.json).

use flyte_core::reference;
use serde_json::Value;

#[test]
fn references_are_built_as_recorded() {
    for line in include_str!("../data/references.jsonl").lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let parts: Vec<&str> = row["parts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|part| part.as_str().unwrap())
            .collect();
        let built = reference::construct(row["base"].as_str().unwrap(), &parts);
        match row["uri"].as_str() {
            Some(uri) => {
                assert_eq!(built.as_deref(), Ok(uri), "{line}");
                let object = reference::object(uri).unwrap();
                assert_eq!(object.key, row["key"].as_str().unwrap(), "{line}");
                assert_eq!(
                    (object.scheme.as_str(), object.container.as_str()),
                    ("s3", "my-s3-bucket")
                );
            }
            None => assert!(built.is_err(), "{line}"),
        }
    }
}
