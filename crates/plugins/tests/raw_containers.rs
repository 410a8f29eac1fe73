//! The pods of raw containers, whose data flyte-copilot carries (spec 05 §7). No recording has one; what is expected here is
//! written by hand from the rules.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use flyte_core::identifiers::ExecutionId;
use flyte_crd::{execution_config::TaskResources, status::TaskPhase};
use flyte_idl::core::{
    Container, DataLoadingConfig, Identifier, LiteralType, Resources, SecurityContext, SimpleType,
    TaskTemplate, TypedInterface, Variable, VariableMap, data_loading_config::LiteralMapFormat,
    literal_type::Type, task_template::Target,
};
use flyte_platform::config::{Duration, Secret, StringMap};
use flyte_plugins::{
    Plugin, TaskContext, TaskInfo,
    config::{Credentials, K8sConfig, PluginsConfig},
    pod, status,
};
use k8s_openapi::{
    api::core::v1::{Pod, PodTemplateSpec, ResourceRequirements},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use prost::Message as _;
use serde_json::{Value, json};

/// Variables of type INTEGER.
fn variables(names: &[&str]) -> VariableMap {
    let integer = || Variable {
        r#type: Some(LiteralType {
            r#type: Some(Type::Simple(SimpleType::Integer.into())),
            ..LiteralType::default()
        }),
        ..Variable::default()
    };
    VariableMap {
        variables: names
            .iter()
            .map(|name| ((*name).to_owned(), integer()))
            .collect(),
    }
}

struct Raw {
    template: TaskTemplate,
    execution: ExecutionId,
    resources: ResourceRequirements,
    platform: TaskResources,
    none: BTreeMap<String, String>,
    security_context: SecurityContext,
}

impl Raw {
    fn new(inputs: &[&str], outputs: &[&str], data: DataLoadingConfig) -> Self {
        Self {
            template: TaskTemplate {
                id: Some(Identifier {
                    name: "task".into(),
                    ..Identifier::default()
                }),
                r#type: "raw-container".into(),
                interface: Some(TypedInterface {
                    inputs: Some(variables(inputs)),
                    outputs: Some(variables(outputs)),
                }),
                target: Some(Target::Container(Container {
                    image: "alpine".into(),
                    command: vec!["wc".into()],
                    resources: Some(Resources::default()),
                    data_config: Some(data),
                    ..Container::default()
                })),
                ..TaskTemplate::default()
            },
            execution: ExecutionId::new("project", "development", "run").unwrap(),
            resources: ResourceRequirements::default(),
            platform: TaskResources::default(),
            none: BTreeMap::new(),
            security_context: SecurityContext::default(),
        }
    }

    fn interface(&self) -> &TypedInterface {
        self.template.interface.as_ref().unwrap()
    }

    fn pod(&self, config: &PluginsConfig, template: Option<&PodTemplateSpec>) -> Value {
        let context = TaskContext {
            template: &self.template,
            execution: &self.execution,
            workflow: "project:development:wf",
            node_id: "n0",
            unique_node_id: "n0",
            attempt: 0,
            generated_name: "run-n0-0",
            namespace: "project-development",
            owner: OwnerReference::default(),
            labels: &self.none,
            annotations: &self.none,
            inputs: "s3://bucket/meta/run/n0/data/inputs.pb".into(),
            output_folder: "s3://bucket/meta/run/n0/data/0".into(),
            raw_output: "s3://bucket/data/xz/run-n0-0".into(),
            checkpoints: String::new(),
            previous_checkpoints: String::new(),
            task_template: String::new(),
            resources: &self.resources,
            extended_resources: None,
            container_image: "",
            pod_template: None,
            platform: &self.platform,
            environment: &self.none,
            interruptible: false,
            service_account: "",
            security_context: &self.security_context,
            console_url: "",
        };
        let supplies = pod::Supplies {
            template,
            ..pod::Supplies::default()
        };
        let pod = pod::build(&context, Plugin::Container, supplies, config).unwrap();
        serde_json::to_value(pod).unwrap()
    }
}

fn enabled() -> DataLoadingConfig {
    DataLoadingConfig {
        enabled: true,
        ..DataLoadingConfig::default()
    }
}

/// A store with keys, in the older form.
fn config() -> PluginsConfig {
    let mut config = PluginsConfig::default();
    config.storage.container = "bucket".into();
    config.storage.enable_multicontainer = true;
    config.storage.kind = "minio".into();
    let connection = &mut config.storage.connection;
    connection.endpoint = "http://minio:9000".into();
    connection.auth_type = "accesskey".into();
    connection.access_key = "id".into();
    connection.secret_key = Secret::new("key");
    config
}

const COMMAND: [&str; 11] = [
    "/bin/flyte-copilot",
    "--storage.limits.maxDownloadMBs=0",
    "--logger.level=3",
    "--storage.enable-multicontainer",
    "--storage.container=bucket",
    "--storage.type=minio",
    "--storage.connection.secret-key=key",
    "--storage.connection.access-key=id",
    "--storage.connection.auth-type=accesskey",
    "--storage.connection.region=us-east-1",
    "--storage.connection.endpoint=http://minio:9000",
];

#[test]
fn a_container_with_inputs_and_outputs_is_between_two_of_copilot() {
    let raw = Raw::new(&["x"], &["y"], enabled());
    let pod = raw.pod(&config(), None);
    let resources = json!({
        "requests": { "cpu": "500m", "memory": "128Mi" },
        "limits": { "cpu": "500m", "memory": "128Mi" },
    });
    let inputs = BASE64_STANDARD.encode(variables(&["x"]).encode_to_vec());
    let interface = BASE64_STANDARD.encode(raw.interface().encode_to_vec());
    let image = "cr.flyte.org/flyteorg/flytecopilot:v0.0.15";
    assert_eq!(
        pod["spec"]["initContainers"],
        json!([
            {
                "name": "flyte-copilot-uploader",
                "image": image,
                "command": COMMAND,
                "args": [
                    "sidecar", "--timeout", "1h0m0s", "--to-raw-output", "s3://bucket/data/xz/run-n0-0",
                    "--to-output-prefix", "s3://bucket/meta/run/n0/data/0", "--from-local-dir", "/var/flyte/outputs",
                    "--interface", interface,
                ],
                "workingDir": "/",
                "resources": resources,
                "volumeMounts": [{ "name": "flyte-outputs", "mountPath": "/var/flyte/outputs" }],
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "imagePullPolicy": "IfNotPresent",
                "restartPolicy": "Always",
            },
            {
                "name": "flyte-copilot-downloader",
                "image": image,
                "command": COMMAND,
                "args": [
                    "download", "--from-remote", "s3://bucket/meta/run/n0/data/inputs.pb",
                    "--to-output-prefix", "s3://bucket/meta/run/n0/data/0", "--to-local-dir", "/var/flyte/inputs",
                    "--format", "JSON", "--input-interface", inputs,
                ],
                "workingDir": "/",
                "resources": resources,
                "volumeMounts": [{ "name": "flyte-inputs", "mountPath": "/var/flyte/inputs" }],
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "imagePullPolicy": "IfNotPresent",
            },
        ])
    );
    assert_eq!(
        pod["spec"]["volumes"],
        json!([
            { "name": "flyte-inputs", "emptyDir": {} },
            { "name": "flyte-outputs", "emptyDir": {} },
        ])
    );
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["command"], json!(["wc"]));
    assert_eq!(
        container["volumeMounts"],
        json!([
            { "name": "flyte-inputs", "mountPath": "/var/flyte/inputs" },
            { "name": "flyte-outputs", "mountPath": "/var/flyte/outputs" },
        ])
    );
    assert_eq!(container["securityContext"], json!({ "capabilities": {} }));
    assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 3600);
    assert_eq!(pod["spec"]["restartPolicy"], "Never");
    // It has succeeded when the uploader has, too.
    assert_eq!(
        pod["metadata"]["annotations"].get("primary_container_name"),
        None
    );
}

fn names(list: &Value) -> Vec<&str> {
    let list = list.as_array().map_or(&[][..], Vec::as_slice);
    list.iter()
        .map(|item| item["name"].as_str().unwrap())
        .collect()
}

#[test]
fn only_what_the_interface_asks_for_is_there() {
    let (up, down) = ("flyte-copilot-uploader", "flyte-copilot-downloader");
    for (case, inputs, outputs, data, expected) in [
        ("both", &["x"][..], &["y"][..], enabled(), vec![up, down]),
        ("inputs", &["x"], &[], enabled(), vec![down]),
        ("outputs", &[], &["y"], enabled(), vec![up]),
        ("nothing", &[], &[], enabled(), vec![]),
        ("off", &["x"], &["y"], DataLoadingConfig::default(), vec![]),
    ] {
        let pod = Raw::new(inputs, outputs, data.clone()).pod(&config(), None);
        assert_eq!(names(&pod["spec"]["initContainers"]), expected, "{case}");
        let mut volumes = Vec::new();
        if data.enabled && !inputs.is_empty() {
            volumes.push("flyte-inputs");
        }
        if data.enabled && !outputs.is_empty() {
            volumes.push("flyte-outputs");
        }
        assert_eq!(names(&pod["spec"]["volumes"]), volumes, "{case}");
        let mounts = &pod["spec"]["containers"][0]["volumeMounts"];
        assert_eq!(names(mounts), volumes, "{case}");
        let grace = &pod["spec"]["terminationGracePeriodSeconds"];
        assert_eq!(*grace == json!(3600), expected.contains(&up), "{case}");
    }
}

#[test]
fn the_task_says_where_and_how_it_wants_its_data() {
    for (format, name) in [
        (LiteralMapFormat::Json, "JSON"),
        (LiteralMapFormat::Yaml, "YAML"),
        (LiteralMapFormat::Proto, "PROTO"),
    ] {
        let mut raw = Raw::new(
            &["x"],
            &["y"],
            DataLoadingConfig {
                enabled: true,
                input_path: "/in".into(),
                output_path: "/out".into(),
                format: format.into(),
                ..DataLoadingConfig::default()
            },
        );
        let storage = json!({ "limits": { "storage": "5Gi" }, "requests": { "storage": "1Gi" } });
        raw.resources = serde_json::from_value(storage).unwrap();
        let pod = raw.pod(&config(), None);
        let init = &pod["spec"]["initContainers"];
        assert_eq!(init[0]["args"][8], "/out");
        assert_eq!(init[1]["args"][6], "/in");
        assert_eq!(init[1]["args"][8], name);
        let paths = &pod["spec"]["containers"][0]["volumeMounts"];
        assert_eq!(
            [&paths[0]["mountPath"], &paths[1]["mountPath"]],
            ["/in", "/out"]
        );
        for volume in pod["spec"]["volumes"].as_array().unwrap() {
            assert_eq!(volume["emptyDir"]["sizeLimit"], "5Gi");
        }
    }
}

#[test]
fn the_store_is_described_as_go_describes_it() {
    let stow = {
        let mut config = config();
        config.storage.enable_multicontainer = false;
        config.storage.kind = "stow".into();
        config.storage.stow.kind = "s3".into();
        config.storage.stow.config = StringMap::from([
            ("access_key_id", "id".to_owned()),
            ("secret_key", "key".to_owned()),
        ]);
        config.logger.level = 5;
        config
    };
    let without_tls = {
        let mut config = config();
        config.storage.connection.disable_ssl = true;
        config
    };
    let by_environment = |mut config: PluginsConfig| {
        config.k8s.co_pilot.credentials = Credentials::Environment;
        config
    };
    let stow_line = [
        "/bin/flyte-copilot",
        "--storage.limits.maxDownloadMBs=0",
        "--logger.level=5",
        "--storage.container=bucket",
        "--storage.type=stow",
        "--storage.stow.config",
        "access_key_id=id",
        "--storage.stow.config",
        "secret_key=key",
        "--storage.stow.kind=s3",
    ];
    let keyless: Vec<&str> = COMMAND
        .into_iter()
        .filter(|word| !word.contains("-key="))
        .collect();
    let stow_keyless = [&stow_line[..5], &stow_line[9..]].concat();
    for (case, config, command, environment) in [
        ("older form", config(), COMMAND.to_vec(), Value::Null),
        (
            "without TLS",
            without_tls,
            [&COMMAND[..], &["--storage.connection.disable-ssl=true"]].concat(),
            Value::Null,
        ),
        ("stow", stow.clone(), stow_line.to_vec(), Value::Null),
        (
            "keys in the environment",
            by_environment(config()),
            keyless,
            json!([
                { "name": "FLYTE__STORAGE__CONNECTION__SECRET_KEY", "value": "key" },
                { "name": "FLYTE__STORAGE__CONNECTION__ACCESS_KEY", "value": "id" },
            ]),
        ),
        (
            "stow in the environment",
            by_environment(stow),
            stow_keyless,
            json!([{ "name": "FLYTE__STORAGE__STOW__CONFIG", "value": "access_key_id=id,secret_key=key" }]),
        ),
    ] {
        let pod = Raw::new(&["x"], &["y"], enabled()).pod(&config, None);
        for container in pod["spec"]["initContainers"].as_array().unwrap() {
            assert_eq!(container["command"], json!(command), "{case}");
            assert_eq!(container["env"], environment, "{case}");
        }
    }
}

#[test]
fn containers_of_a_pod_and_of_its_template_keep_their_places() {
    let mut raw = Raw::new(&["x"], &["y"], enabled());
    let spec = json!({
        "initContainers": [{ "name": "prepare", "image": "p" }],
        "containers": [{ "name": "main", "image": "m" }],
    });
    let pod_spec = flyte_idl::json::json_to_struct(spec.as_object().unwrap());
    raw.template.target = Some(Target::K8sPod(flyte_idl::core::K8sPod {
        pod_spec: Some(pod_spec),
        data_config: Some(enabled()),
        ..flyte_idl::core::K8sPod::default()
    }));
    raw.template.task_type_version = 2;
    let primary = ("primary_container_name".to_owned(), "main".to_owned());
    raw.template.config.extend([primary]);
    let template: PodTemplateSpec = serde_json::from_value(json!({
        "spec": {
            "containers": [],
            "initContainers": [
                { "name": "default-init", "terminationMessagePath": "/all" },
                { "name": "primary-init", "terminationMessagePath": "/downloader" },
                { "name": "flyte-copilot-uploader", "terminationMessagePath": "/uploader" },
            ],
        },
    }))
    .unwrap();
    let pod = raw.pod(&config(), Some(&template));
    let init = &pod["spec"]["initContainers"];
    let uploader = "flyte-copilot-uploader";
    assert_eq!(
        names(init),
        [uploader, "prepare", "flyte-copilot-downloader"]
    );
    let paths = ["/uploader", "/all", "/downloader"];
    for (container, path) in init.as_array().unwrap().iter().zip(paths) {
        assert_eq!(container["terminationMessagePath"], path);
    }
}

#[test]
fn each_setting_is_seen() {
    let mut config = config();
    let settings = &mut config.k8s.co_pilot;
    settings.name = "our-".into();
    settings.image = "ours:1".into();
    settings.default_input_path = "/i".into();
    settings.default_output_path = "/o".into();
    settings.input_vol_name = "in".into();
    settings.output_vol_name = "out".into();
    settings.cpu = "1".into();
    settings.memory = "1Gi".into();
    settings.timeout = Duration::minutes(90);
    let pod = Raw::new(&["x"], &["y"], enabled()).pod(&config, None);
    let spec = &pod["spec"];
    assert_eq!(
        names(&spec["initContainers"]),
        ["our-uploader", "our-downloader"]
    );
    assert_eq!(names(&spec["volumes"]), ["in", "out"]);
    assert_eq!(spec["terminationGracePeriodSeconds"], 5400);
    let uploader = &spec["initContainers"][0];
    assert_eq!(uploader["image"], "ours:1");
    assert_eq!(uploader["args"][2], "1h30m0s");
    assert_eq!(uploader["args"][8], "/o");
    assert_eq!(
        uploader["resources"]["limits"],
        json!({ "cpu": "1", "memory": "1Gi" })
    );
    assert_eq!(
        spec["initContainers"][1]["volumeMounts"][0]["mountPath"],
        "/i"
    );
}

#[test]
fn a_pod_has_not_succeeded_before_its_outputs_are_away() {
    let state = |ended: bool| {
        if ended {
            json!({ "terminated": { "exitCode": 0, "reason": "Completed" } })
        } else {
            json!({ "running": { "startedAt": "2026-01-01T00:00:00Z" } })
        }
    };
    let named = |name: &str, ended| json!({ "name": name, "ready": false, "restartCount": 0, "image": "", "imageID": "", "state": state(ended) });
    let uploader = "flyte-copilot-uploader";
    for (case, annotations, init, expected) in [
        (
            "raw, uploading",
            json!({}),
            named(uploader, false),
            TaskPhase::Running,
        ),
        (
            "raw, uploaded",
            json!({}),
            named(uploader, true),
            TaskPhase::Success,
        ),
        (
            "with a primary container, uploading",
            json!({ "primary_container_name": "main" }),
            named(uploader, false),
            TaskPhase::Running,
        ),
        (
            "with a primary container, uploaded",
            json!({ "primary_container_name": "main" }),
            named(uploader, true),
            TaskPhase::Success,
        ),
        (
            "another sidecar runs on",
            json!({ "primary_container_name": "main" }),
            named("proxy", false),
            TaskPhase::Success,
        ),
    ] {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "p", "annotations": annotations },
            "spec": { "containers": [{ "name": "main" }] },
            "status": {
                "phase": "Running",
                "initContainerStatuses": [init],
                "containerStatuses": [named("main", true)],
            },
        }))
        .unwrap();
        let now = jiff::Timestamp::UNIX_EPOCH;
        let phase = status::phase(&pod, &K8sConfig::default(), TaskInfo::default(), now);
        assert_eq!(phase.phase, expected, "{case}");
    }
}
