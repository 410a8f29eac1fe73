use std::{fs, path::Path};

use serde::Deserialize;

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Component {
    str2: String,
    limit: i64,
    ratio: f64,
    enabled: bool,
    #[serde(rename = "duration-value")]
    duration_value: Duration,
    strings: Vec<String>,
    annotations: StringMap,
    nested: Nested,
    password: Secret,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Nested {
    #[serde(rename = "maxDownloadMBs")]
    max_download_mbs: u64,
}

impl Default for Component {
    fn default() -> Self {
        Self {
            str2: "two".into(),
            limit: 3,
            ratio: 0.5,
            enabled: true,
            duration_value: Duration::seconds(20),
            strings: vec!["a".into()],
            annotations: StringMap::from([("kept", "yes".to_owned())]),
            nested: Nested::default(),
            password: Secret::default(),
        }
    }
}

fn load(
    folder: &Path,
    files: &[(&str, &str)],
    environment: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Config {
    for (name, text) in files {
        fs::write(folder.join(name), text).unwrap();
    }
    let owned = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    };
    Config::load(Sources {
        pattern: format!("{}/*.yaml", folder.display()),
        environment: environment
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        flags: owned(flags),
    })
    .unwrap()
}

#[test]
fn a_key_that_nothing_hears_is_named_when_it_is_given() {
    #[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
    #[serde(default)]
    struct Old {
        kept: u32,
        gone: u32,
    }
    let unheard = Unheard {
        key: "old.gone",
        instead: "it is gone",
    };
    let warnings = |flags: &[(&str, &str)]| {
        let flags = flags
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let config = Config::load(Sources {
            flags: flags.collect(),
            ..Sources::default()
        });
        let mut config = config.unwrap().with_unheard([unheard]);
        let _section: Old = config.section("old");
        let strict = config.clone().finish_strict();
        assert!(strict.is_ok(), "no mistake: {strict:?}");
        config.finish().unwrap()
    };
    for (case, flags, expected) in [
        ("nothing is given", &[][..], &[][..]),
        ("the default", &[("old.gone", "0")], &[]),
        ("what is heard", &[("old.kept", "1")], &[]),
        (
            "another value",
            &[("old.gone", "1")],
            &["old.gone: this key changes nothing: it is gone (--old.gone)"],
        ),
    ] {
        let shown: Vec<_> = warnings(flags)
            .into_iter()
            .map(|warning| format!("{}: {}", warning.key, warning.message))
            .collect();
        assert_eq!(shown, expected, "{case}");
    }
}

#[test]
fn flags_win_over_environment_over_files_over_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = load(
        folder.path(),
        &[(
            "a.yaml",
            "my-component: {STR2: file, limit: '7', Enabled: false, nested: {maxdownloadmbs: 5}}",
        )],
        &[
            ("MY_COMPONENT.LIMIT", "8"),
            ("MY-COMPONENT.STR2", "environment"),
            ("MY_COMPONENT.RATIO", ""),
        ],
        &[
            ("my-component.str2", "flag"),
            ("my-component.nested.maxDownloadMBs", "9"),
        ],
    );
    let section: Component = config.section("my-component");
    assert_eq!(
        section,
        Component {
            str2: "flag".into(),
            limit: 8,
            enabled: false,
            nested: Nested {
                max_download_mbs: 9
            },
            ..Component::default()
        }
    );
    assert_eq!(config.finish().unwrap(), []);
}

#[test]
fn a_map_stays_when_another_file_holds_a_list() {
    for files in [
        [
            ("a.yaml", "c: {annotations: {x: 1}}"),
            ("b.yaml", "c: {annotations: [{y: 2}]}"),
        ],
        [
            ("a.yaml", "c: {annotations: [{y: 2}]}"),
            ("b.yaml", "c: {annotations: {x: 1}}"),
        ],
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut config = load(folder.path(), &files, &[], &[]);
        let section: Component = config.section("c");
        assert_eq!(
            section.annotations,
            StringMap::from([("x", "1".to_owned())])
        );
    }
}

#[test]
fn dotted_keys_and_lists_keep_their_case() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = load(
        folder.path(),
        &[(
            "a.yaml",
            "c:\n  annotations:\n    sidecar.istio.io/Inject: 'false'\n    Lost: x\nd:\n  annotations:\n  - FLYTE_AWS_ENDPOINT: y\n",
        )],
        &[],
        &[],
    );
    let c: Component = config.section("c");
    assert_eq!(
        c.annotations,
        StringMap::from([
            ("sidecar.istio.io/Inject", "false".to_owned()),
            ("lost", "x".to_owned())
        ])
    );
    let d: Component = config.section("d");
    assert_eq!(
        d.annotations,
        StringMap::from([("FLYTE_AWS_ENDPOINT", "y".to_owned())])
    );
}

/// A structure of somebody else, whose decoder compares case and passes over what it does not know.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Foreign {
    #[serde(skip_serializing_if = "Option::is_none")]
    run_as_user: Option<u32>,
    match_labels: BTreeMap<String, String>,
}

impl FromLoose for Foreign {
    fn from_loose(value: Value) -> Result<Self, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }
}

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct WithForeign {
    pod_context: Option<Foreign>,
    by_name: KeyedList<Foreign>,
    listed: Vec<Foreign>,
}

#[test]
fn structures_of_others_get_their_keys_as_they_are_written() {
    let object = |user, label: &str| Foreign {
        run_as_user: Some(user),
        match_labels: [(label.to_owned(), "x".to_owned())].into(),
    };
    let written = |user, label| format!("{{runAsUser: {user}, matchLabels: {{{label}: x}}}}");
    let one = |user, label| {
        (
            "a.yaml",
            format!(
                "C:\n  Pod-Context: {0}\n  by-name: {{First: {0}}}\n  listed: [{0}]\n",
                written(user, label)
            ),
        )
    };
    let folder = tempfile::tempdir().unwrap();
    for (case, files, expected) in [
        (
            "one file",
            vec![one(1, "App")],
            WithForeign {
                pod_context: Some(object(1, "App")),
                by_name: KeyedList::from([("first", object(1, "App"))]),
                listed: vec![object(1, "App")],
            },
        ),
        (
            "a second one sets a part of it",
            vec![
                one(1, "App"),
                ("b.yaml", "c: {pod-context: {runAsUser: 2}}".into()),
            ],
            WithForeign {
                pod_context: Some(object(2, "App")),
                by_name: KeyedList::from([("first", object(1, "App"))]),
                listed: vec![object(1, "App")],
            },
        ),
        (
            "a map as a list of maps of one key",
            vec![(
                "a.yaml",
                format!("c: {{by-name: [{{First: {}}}]}}", written(1, "App")),
            )],
            WithForeign {
                by_name: KeyedList::from([("First", object(1, "App"))]),
                ..WithForeign::default()
            },
        ),
    ] {
        let files: Vec<_> = files
            .iter()
            .map(|(name, text)| (*name, text.as_str()))
            .collect();
        let mut config = load(folder.path(), &files, &[], &[]);
        assert_eq!(config.section::<WithForeign>("c"), expected, "{case}");
        assert_eq!(config.finish().unwrap(), [], "{case}");
        for (name, _) in files {
            std::fs::remove_file(folder.path().join(name)).unwrap();
        }
    }
}

#[test]
fn keys_that_structures_of_others_do_not_have_are_told() {
    let folder = tempfile::tempdir().unwrap();
    for (text, expected) in [
        (
            "c: {pod-context: {runasuser: 1}}",
            vec!["c.pod-context.runasuser"],
        ),
        (
            "c: {listed: [{runAsUser: 1, mistake: 2}], by-name: {a: {mistake: 1}}}",
            vec!["c.by-name.a.mistake", "c.listed[0].mistake"],
        ),
        (
            "c: {by-name: [{a: {mistake: 1}}]}",
            vec!["c.by-name.a.mistake"],
        ),
        (
            "c: {pod-context: {runAsUser: null, matchLabels: {}}}",
            vec![],
        ),
    ] {
        let mut config = load(folder.path(), &[("a.yaml", text)], &[], &[]);
        let _: WithForeign = config.section("c");
        let warnings = config.finish().unwrap();
        let mut keys: Vec<_> = warnings
            .iter()
            .map(|warning| warning.key.as_str())
            .collect();
        keys.sort_unstable();
        assert_eq!(keys, expected, "{text}");
    }
}

#[test]
fn unknown_keys_warn_and_fail_only_in_strict_mode() {
    let text = "unknown-key: something\nc: {colour: red}";
    let folder = tempfile::tempdir().unwrap();
    let mut tolerant = load(folder.path(), &[("a.yaml", text)], &[], &[]);
    let _: Component = tolerant.section("c");
    let warnings = tolerant.finish().unwrap();
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].key, "c.colour");
    let mut strict = load(folder.path(), &[("a.yaml", text)], &[], &[]);
    let _: Component = strict.section("c");
    let error = strict.finish_strict().unwrap_err();
    assert_eq!(
        error.0.iter().map(|p| p.key.as_str()).collect::<Vec<_>>(),
        ["unknown-key", "c.colour"]
    );
}

#[test]
fn a_misspelt_key_or_section_names_the_one_that_is_meant() {
    for (yaml, key, message) in [
        (
            "component: {limt: 3}",
            "component.limt",
            "is \"limit\" meant?",
        ),
        (
            "component: {durationValue: 3s}",
            "component.durationvalue",
            "is \"duration-value\" meant?",
        ),
        (
            "componnet: {limit: 3}",
            "componnet",
            "is \"component\" meant?",
        ),
        (
            "component: {colour: red}",
            "component.colour",
            "`config docs` lists those of \"component\"",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut config = load(folder.path(), &[("a.yaml", yaml)], &[], &[]);
        drop(config.section::<Component>("component"));
        let warnings = config.finish().unwrap();
        assert_eq!(warnings.len(), 1, "{yaml}: {warnings:?}");
        assert_eq!(warnings[0].key, key);
        assert!(
            warnings[0].message.contains(message),
            "{yaml}: {warnings:?}"
        );
    }
}

#[test]
fn a_problem_names_where_the_value_comes_from() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml").display().to_string();
    let yaml = "component: {limit: many, ratio: 1, enabled: perhaps}";
    for (environment, flags, key, place) in [
        (&[][..], &[][..], "component.limit", file.as_str()),
        (
            &[("COMPONENT.LIMIT", "few")],
            &[],
            "component.limit",
            "variable COMPONENT.LIMIT",
        ),
        (
            &[],
            &[("component.limit", "few")],
            "component.limit",
            "--component.limit",
        ),
    ] {
        let mut config = load(folder.path(), &[("a.yaml", yaml)], environment, flags);
        drop(config.section::<Component>("component"));
        let problems = config.finish().unwrap_err().0;
        let last = problems.iter().rfind(|problem| problem.key == key).unwrap();
        assert!(
            last.message.ends_with(&format!("({place})")),
            "{}",
            last.message
        );
    }
}

#[test]
fn files_that_are_not_there_are_told() {
    let config = Config::load(Sources {
        pattern: "/nowhere/*.yaml".into(),
        ..Sources::default()
    });
    let warnings = config.unwrap().finish().unwrap();
    assert!(
        warnings[0].message.contains("/nowhere/*.yaml"),
        "{warnings:?}"
    );
}

#[test]
fn every_problem_is_reported_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = load(
        folder.path(),
        &[("a.yaml", "c: {limit: many, enabled: perhaps}")],
        &[],
        &[],
    );
    let _: Component = config.section("c");
    let error = config.finish().unwrap_err();
    let mut keys: Vec<_> = error.0.iter().map(|p| p.key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["c.enabled", "c.limit"]);
}

#[test]
fn a_number_is_text_where_text_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = "component: {str2: 0, duration-value: 1500000000, ratio: 1}\n";
    let mut config = load(folder.path(), &[("a.yaml", yaml)], &[], &[]);
    let component: Component = config.section("component");
    assert_eq!(config.finish().unwrap(), []);
    assert_eq!(component.str2, "0");
    assert_eq!(component.duration_value, Duration::milliseconds(1500));
}

#[test]
fn a_problem_spells_its_key_as_the_documentation_does() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = "component: {NESTED: {MAXDOWNLOADMBS: many}}\n";
    let mut config = load(folder.path(), &[("a.yaml", yaml)], &[], &[]);
    drop(config.section::<Component>("component"));
    let problems = config.finish().unwrap_err().0;
    assert_eq!(
        problems.first().unwrap().key,
        "component.nested.maxDownloadMBs"
    );
}

#[test]
fn a_file_that_is_not_yaml_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x.yaml"), "a: [").unwrap();
    let error = Config::load(Sources {
        pattern: folder.path().join("x.yaml").display().to_string(),
        ..Sources::default()
    })
    .unwrap_err();
    assert!(error.0[0].key.ends_with("x.yaml"), "{error}");
}

#[test]
fn secrets_do_not_print_and_survive_decoding() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = load(
        folder.path(),
        &[("a.yaml", "c: {password: hunter2}")],
        &[],
        &[],
    );
    let section: Component = config.section("c");
    assert_eq!(section.password.expose(), "hunter2");
    assert!(!format!("{section:?}").contains("hunter2"));
    assert!(!serde_json::to_string(&section).unwrap().contains("hunter2"));
}
