//! What is wrong in the files of the configuration is told by key, all at once, before anything runs (spec 07 §1).

use flyte_admin::cli;
use flyte_platform::config::{Config, Problem, Reload, Sources};

fn load(text: &str) -> (tempfile::TempDir, Config) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("admin.yaml");
    std::fs::write(&file, text).unwrap();
    let sources = Sources {
        pattern: file.display().to_string(),
        ..Sources::default()
    };
    (folder, Config::load(sources).unwrap())
}

/// As `config validate` does.
fn decoded(text: &str) -> (tempfile::TempDir, Config) {
    let (folder, mut config) = load(text);
    for (section, decode) in cli::sections().decoders() {
        decode(&mut config, &section);
    }
    (folder, config)
}

/// The problems without their places.
fn told(folder: &tempfile::TempDir, problems: &[Problem]) -> Vec<String> {
    let file = folder.path().join("admin.yaml").display().to_string();
    problems
        .iter()
        .map(|Problem { key, message }| {
            let message = message.strip_suffix(&format!(" ({file})"));
            format!("{key}: {}", message.expect("the file is named"))
        })
        .collect()
}

#[test]
fn values_that_do_not_fit_are_told_by_their_keys() {
    const SECTION: &str = "a section, which is a map of keys";
    const QUANTITY: &str = "a Kubernetes quantity such as 500m, 2 or 4Gi";
    for (text, expected) in [
        (
            "task_resources: {defaults: {cpu: many}, limits: {memory: 1Gib}}",
            vec![
                format!("task_resources.defaults.cpu: expected {QUANTITY}, found \"many\""),
                format!("task_resources.limits.memory: expected {QUANTITY}, found \"1Gib\""),
            ],
        ),
        (
            "registration: {workflowSizeLimit: much}",
            vec![format!(
                "registration.workflowSizeLimit: expected {QUANTITY}, found \"much\""
            )],
        ),
        (
            "storage: {type: floppy, stow: {kind: tape}}",
            vec![
                "storage.type: expected one of s3, minio, local, mem, stow, found \"floppy\"".into(),
                "storage.stow.kind: expected one of s3, google, azure, local, found \"tape\"".into(),
            ],
        ),
        (
            "namespace_mapping: {template: \"{{project}}\"}",
            vec![
                "namespace_mapping.template: expected a template that makes a Kubernetes namespace (lower case letters, \
                 digits and hyphens) when exactly \"{{ project }}\" and \"{{ domain }}\" in it are replaced, such as \
                 \"{{ project }}-{{ domain }}\", found \"{{project}}\""
                    .into(),
            ],
        ),
        (
            "remoteData: {inlineEventDataPolicy: Both}",
            vec![
                "remoteData.inlineEventDataPolicy: expected Offload or StoreInline, found \"Both\"".into(),
            ],
        ),
        (
            "storage: [s3, bucket]\nserver: {grpc: [1], httpPort: {a: 1}}\n",
            vec![
                "server.httpPort: expected a whole number from 0 to 65535, found the section {\"a\":1}".into(),
                format!("server.grpc: expected {SECTION}, found the list [1]"),
                format!("storage: expected {SECTION}, found the list [\"s3\",\"bucket\"]"),
            ],
        ),
        (
            "domains: [{id: a, name: A}, {name: B}, {id: ''}]",
            vec![
                "domains[1]: expected a section with the key \"id\", found the section {\"name\":\"B\"}".into(),
                "domains[2].id: expected the id of a domain, found \"\"".into(),
            ],
        ),
        (
            "domains: text",
            vec!["domains[0]: expected a section, which is a map of keys, found \"text\"".into()],
        ),
        (
            "domains: [{id: a}, {id: [b]}, {id: c, name: {d: e}}]",
            vec![
                "domains[1].id: expected text, found the list [\"b\"]".into(),
                "domains[2].name: expected text, found the section {\"d\":\"e\"}".into(),
            ],
        ),
        (
            "cluster_resources: {refreshInterval: soon}\nregistration: {compilerRules: lax, maxWorkflowNodes: -1}",
            vec![
                "registration.compilerRules: expected one of \"strict\", \"reference\", found \"lax\"".into(),
                format!(
                    "registration.maxWorkflowNodes: expected a whole number from 0 to {}, found -1",
                    u64::MAX
                ),
                "cluster_resources.refreshInterval: expected a duration such as 300ms, 10s or 1h30m, or a number of \
                 nanoseconds, found \"soon\""
                    .into(),
            ],
        ),
        (
            "task_type_whitelist: {spark: [{project: [p]}]}\nclusterPools: {clusterPoolAssignments: {production: {pool: [a]}}}",
            vec![
                "task_type_whitelist.spark[0].project: expected text, found the list [\"p\"]".into(),
                "clusterPools.clusterPoolAssignments.production.pool: expected text, found the list [\"a\"]".into(),
            ],
        ),
        (
            "database: {port: 70000, postgres: {password: [hunter2], options: [password=hunter2]}}",
            vec![
                "database.port: expected a whole number from 0 to 65535, found 70000".into(),
                "database.postgres.password: expected text, found a value that is not shown, since it may be secret".into(),
                "database.postgres.options: expected text, found the list [\"password=***\"]".into(),
            ],
        ),
    ] {
        let (folder, config) = decoded(text);
        let mut problems = told(&folder, &config.finish().unwrap_err().0);
        let mut expected = expected;
        problems.sort_unstable();
        expected.sort_unstable();
        assert_eq!(problems, expected, "{text}");

        // A start and a reload decode no less.
        let (_folder, config) = load(text);
        let refused = Reload::new(&config, cli::sections().decoders()).map(drop);
        assert_eq!(refused.unwrap_err().0.len(), expected.len(), "{text}");
    }
}

#[test]
fn what_the_reference_reads_leniently_is_read() {
    for text in [
        "task_resources: {limits: {cpu: 4, memory: ''}}",
        "task_resources: [{limits: {cpu: 4}}, {defaults: {cpu: 1}}]",
        "domains: {id: only, name: Only}",
        "domains:\n",
        "storage: {stow: {config: [{access_key_id: a}, {secret_key: b}]}}",
        "remoteData: {inlineEventDataPolicy: 1}",
        "cluster_resources: {refreshInterval: 60000000000}",
    ] {
        let (_folder, config) = decoded(text);
        assert_eq!(config.finish().unwrap(), [], "{text}");
    }
}

/// A file that all services share has sections of each (examples/services/flyte.yaml).
#[test]
fn sections_of_other_services_are_known_in_strict_mode() {
    let example = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../examples/services/flyte.yaml"
    );
    let text = std::fs::read_to_string(example).unwrap();
    let (_folder, config) = decoded(&text);
    config.finish_strict().unwrap();

    let (folder, config) = decoded("propeler: {workers: 1}\nwebhook: {certDir: x}");
    let problems = told(&folder, &config.finish_strict().unwrap_err().0);
    assert_eq!(
        problems,
        [
            "propeler: strict mode is on but received a key that no section reads; is \"propeller\" meant?"
        ]
    );
}

#[test]
fn no_password_is_shown() {
    let text = "database: {postgres: {password: hunter1, options: \"password=hunter2 sslmode=disable sslpassword='hunter3 hunter4'\"}}\n\
                storage: {container: b, stow: {kind: azure, config: {account: a, key: hunter5}}}\n\
                server: {security: {allowedOrigins: ['https://me:hunter6@host/']}}\n";
    let (_folder, mut config) = load(text);
    let mut shown = String::new();
    for (section, decode) in cli::sections().decoders() {
        shown += &decode(&mut config, &section).to_string();
    }
    config.finish().unwrap();
    assert!(!shown.contains("hunter"), "{shown}");
    assert!(
        shown.contains("password=*** sslmode=disable sslpassword=***"),
        "{shown}"
    );
    assert!(shown.contains("https://***@host/"), "{shown}");
}
