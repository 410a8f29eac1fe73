//! Which partition keys a dataset may have, and which partitions fit it (spec 06 A3).

use std::collections::BTreeMap;

use flyte_idl::datacatalog;

use crate::{
    error::{Error, Result},
    records::Partition,
};

/// The most partition keys of a dataset, and so partitions of an artifact.
pub const MOST: usize = 100;

/// The parts of a text in Go's `map[...]`, sorted by key as Go prints them.
fn counted(values: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for value in values {
        *counts.entry(value.as_str()).or_insert(0) += 1;
    }
    counts
}

/// What is wrong with the partition keys of a new dataset, in the reference's words; none if nothing is.
pub fn wrong_keys(keys: &[String]) -> Option<String> {
    if keys.len() > MOST {
        return Some(format!(
            "{} partition keys are too many, {MOST} are the most",
            keys.len()
        ));
    }
    if keys.iter().any(String::is_empty) {
        return Some("missing partitionKey".to_owned());
    }
    let counts = counted(keys);
    if counts.len() == keys.len() {
        return None;
    }
    let counts: Vec<String> = counts
        .iter()
        .map(|(key, count)| format!("{key}:{count}"))
        .collect();
    Some(format!(
        "invalid value for partitionKey, value:[Keys are not unique, occurrence count: map[{}]]",
        counts.join(" ")
    ))
}

/// The partitions of a new artifact in a dataset with these keys: each key once, with a value.
///
/// # Errors
/// INVALID_ARGUMENT with everything that is wrong with them.
pub fn fitting(keys: &[String], partitions: &[datacatalog::Partition]) -> Result<Vec<Partition>> {
    let given: Vec<String> = partitions
        .iter()
        .map(|partition| partition.key.clone())
        .collect();
    let shown = |keys: &[String]| format!("[{}]", keys.join(" "));
    if keys.len() != partitions.len() {
        return Err(Error::invalid(format!(
            "Partition key mismatch, dataset keys: {}, artifact Partitions: {}",
            shown(keys),
            shown(&given)
        )));
    }
    let mut wrong = Vec::new();
    for (index, partition) in partitions.iter().enumerate() {
        if partition.key.is_empty() {
            wrong.push(format!("missing partitionKey[{index}]"));
        }
        if partition.value.is_empty() {
            wrong.push(format!("missing partitionValue[{index}]"));
        }
    }
    // As many as there are keys: if each of these is there, none is twice.
    if counted(keys) != counted(&given) {
        wrong.push(format!(
            "Artifact partition assignment does not match dataset partition keys: {}",
            shown(keys)
        ));
    }
    if !wrong.is_empty() {
        return Err(Error::invalid(wrong.join(", ")));
    }
    let partitions = partitions.iter().map(|partition| Partition {
        key: partition.key.clone(),
        value: partition.value.clone(),
    });
    Ok(partitions.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn keys_of_a_dataset_are_unique() {
        for (keys, wrong) in [
            (&[][..], None),
            (&["a", "b"], None),
            (
                &["b", "a", "b"],
                Some(
                    "invalid value for partitionKey, value:[Keys are not unique, occurrence count: map[a:1 b:2]]",
                ),
            ),
            (&["a", ""], Some("missing partitionKey")),
        ] {
            assert_eq!(wrong_keys(&texts(keys)).as_deref(), wrong, "{keys:?}");
        }
        let many: Vec<String> = (0..=MOST).map(|number| number.to_string()).collect();
        assert!(wrong_keys(&many).is_some());
    }

    #[test]
    fn partitions_of_an_artifact_are_those_of_its_dataset() {
        for (keys, given, wrong) in [
            (&[][..], &[][..], None),
            (&["a", "b"], &[("b", "1"), ("a", "2")], None),
            (
                &["a"],
                &[],
                Some("Partition key mismatch, dataset keys: [a], artifact Partitions: []"),
            ),
            (
                &["k1", "k2"],
                &[("k1", "1"), ("k1", "2")],
                Some(
                    "Artifact partition assignment does not match dataset partition keys: [k1 k2]",
                ),
            ),
            (
                &["a", "b"],
                &[("a", ""), ("", "x")],
                Some(
                    "missing partitionValue[0], missing partitionKey[1], \
                     Artifact partition assignment does not match dataset partition keys: [a b]",
                ),
            ),
        ] {
            let partitions: Vec<_> = given
                .iter()
                .map(|(key, value)| datacatalog::Partition {
                    key: (*key).to_owned(),
                    value: (*value).to_owned(),
                })
                .collect();
            let outcome = fitting(&texts(keys), &partitions);
            let said = outcome.err().map(|error| error.to_string());
            assert_eq!(said.as_deref(), wrong, "{keys:?} {given:?}");
        }
    }
}
