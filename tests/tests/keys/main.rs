//! Every key of the engine's sections does what docs/reference says: it is set in a file, as an operator would, and what
//! comes of it is looked at beside what comes of the default. Keys that change nothing are warned of instead
//! (`flyte keys::every_key_is_heard_or_warned_about`).

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails says where"
)]

mod engine;
mod logs;
mod pods;
mod statuses;

use std::{collections::BTreeSet, io::Write as _};

use flyte_platform::config::{Config, ProcessEnvironment, Sources};
use flyte_propeller::cli::EngineConfig;
use serde_json::{Map, Value, json};

/// The engine's configuration when a file gives these keys these values.
///
/// # Panics
/// When the file is not taken, or taken with a warning.
fn configured(settings: &[(&str, Value)]) -> EngineConfig {
    let mut tree = Map::new();
    for (key, value) in settings {
        let (last, before) = key
            .rsplit_once('.')
            .map_or((*key, ""), |(before, last)| (last, before));
        let mut place = &mut tree;
        for part in before.split('.') {
            place = place
                .entry(part)
                .or_insert_with(|| json!({}))
                .as_object_mut()
                .unwrap();
        }
        place.insert(last.to_owned(), value.clone());
    }
    let mut file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    file.write_all(Value::Object(tree).to_string().as_bytes())
        .unwrap();
    let sources = Sources {
        pattern: file.path().display().to_string(),
        environment: ProcessEnvironment::from_iter([("OF_THE_ENGINE".to_owned(), "e".to_owned())]),
        ..Sources::default()
    };
    let mut config = Config::load(sources).unwrap();
    let read = EngineConfig::read(&mut config);
    let warnings = config.finish().unwrap_or_else(|error| panic!("{error}"));
    assert!(warnings.is_empty(), "{warnings:?}");
    read
}

/// Keys below `section` that change something.
fn heard(section: &str) -> BTreeSet<String> {
    flyte_propeller::cli::sections()
        .keys()
        .into_iter()
        .filter(|(key, instead)| {
            instead.is_none()
                && key
                    .strip_prefix(section)
                    .is_some_and(|rest| rest.starts_with('.'))
        })
        .map(|(key, _)| key)
        .collect()
}

#[test]
fn every_key_has_a_row() {
    let rows: BTreeSet<String> = pods::KEYS
        .iter()
        .chain(statuses::KEYS)
        .chain(logs::KEYS)
        .chain(engine::KEYS)
        .map(ToString::to_string)
        .collect();
    let sections = [
        "admin",
        "catalog-cache",
        "plugins.k8s",
        "plugins.logs",
        "plugins.echo",
        "tasks",
        "propeller",
    ];
    let keys: BTreeSet<String> = sections.into_iter().flat_map(heard).collect();
    let missing: Vec<_> = keys.difference(&rows).collect();
    assert!(missing.is_empty(), "no row sets {missing:?}");
    let gone: Vec<_> = rows.difference(&keys).collect();
    assert!(gone.is_empty(), "there is no key {gone:?}");
}
