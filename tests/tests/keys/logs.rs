//! Keys that say which links lead to the logs of a pod (spec 05 §8).

use flyte_idl::core::{TaskLog, task_log::MessageFormat};
use flyte_plugins::task_logs;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::{configured, pods::Attempt};

pub(super) const KEYS: &[&str] = &[
    "plugins.logs.cloudwatch-enabled",
    "plugins.logs.cloudwatch-region",
    "plugins.logs.cloudwatch-log-group",
    "plugins.logs.cloudwatch-template-uri",
    "plugins.logs.kubernetes-enabled",
    "plugins.logs.kubernetes-url",
    "plugins.logs.kubernetes-template-uri",
    "plugins.logs.stackdriver-enabled",
    "plugins.logs.gcp-project",
    "plugins.logs.stackdriver-logresourcename",
    "plugins.logs.stackdriver-template-uri",
    "plugins.logs.templates",
    "plugins.logs.dynamic-log-links",
];

/// Links of pod `p` of namespace `ns`, whose task asks for those of type `vscode`.
fn links(settings: &[(&str, Value)]) -> Vec<TaskLog> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": "p", "namespace": "ns" },
        "spec": { "containers": [{ "name": "c" }] },
        "status": { "containerStatuses": [{
            "name": "c", "ready": true, "restartCount": 0, "image": "i", "imageID": "", "containerID": "cri://42",
        }] },
    }))
    .unwrap();
    let attempt = Attempt::linking("vscode");
    let config = configured(settings);
    task_logs(
        &pod,
        &attempt.context(),
        &config.plugins.logs,
        Timestamp::UNIX_EPOCH,
    )
}

fn uris(settings: &[(&str, Value)]) -> Vec<String> {
    links(settings).into_iter().map(|link| link.uri).collect()
}

const QUIET: (&str, Value) = ("plugins.logs.kubernetes-enabled", Value::Bool(false));

#[test]
fn each_backend_has_its_link() {
    let on = |key| (key, json!(true));
    let cloudwatch = || on("plugins.logs.cloudwatch-enabled");
    let stackdriver = || on("plugins.logs.stackdriver-enabled");
    for (case, settings, expected) in [
        (
            "the default",
            vec![],
            "http://localhost:30082/#!/log/ns/p/pod?namespace=ns",
        ),
        (
            "a dashboard elsewhere",
            vec![
                ("plugins.logs.kubernetes-template-uri", json!("")),
                ("plugins.logs.kubernetes-url", json!("https://k")),
            ],
            "https://k/#!/log/ns/p/pod?namespace=ns",
        ),
        (
            "a template of Kubernetes",
            vec![(
                "plugins.logs.kubernetes-template-uri",
                json!("https://k/{{ .podName }}"),
            )],
            "https://k/p",
        ),
        (
            "CloudWatch",
            vec![
                QUIET,
                cloudwatch(),
                ("plugins.logs.cloudwatch-region", json!("eu-west-1")),
                ("plugins.logs.cloudwatch-log-group", json!("/flyte")),
            ],
            "https://console.aws.amazon.com/cloudwatch/home?region=eu-west-1#logEventViewer:group=/flyte;stream=var.log.containers.p_ns_c-42.log",
        ),
        (
            "a template of CloudWatch",
            vec![
                QUIET,
                cloudwatch(),
                (
                    "plugins.logs.cloudwatch-template-uri",
                    json!("https://c/{{ .namespace }}"),
                ),
            ],
            "https://c/ns",
        ),
        (
            "Stackdriver",
            vec![
                QUIET,
                stackdriver(),
                ("plugins.logs.gcp-project", json!("g")),
                ("plugins.logs.stackdriver-logresourcename", json!("r")),
            ],
            "https://console.cloud.google.com/logs/viewer?project=g&angularJsUrl=%2Flogs%2Fviewer%3Fproject%3Dg&resource=r&advancedFilter=resource.labels.pod_name%3Dp",
        ),
        (
            "a template of Stackdriver",
            vec![
                QUIET,
                stackdriver(),
                (
                    "plugins.logs.stackdriver-template-uri",
                    json!("https://s/{{ .containerName }}"),
                ),
            ],
            "https://s/c",
        ),
    ] {
        assert_eq!(uris(&settings), [expected], "{case}");
    }
    assert_eq!(uris(&[QUIET]), [] as [String; 0], "no backend");
}

#[test]
fn links_of_the_installation_s_own() {
    let template = json!([{
        "name": "vscode", "displayName": "Mine", "templateUris": ["https://t/{{ .podName }}"],
        "dynamicTemplateUris": ["https://d/{{ .taskConfig.port }}"], "messageFormat": 1,
        "showWhilePending": true, "hideOnceFinished": true,
    }]);
    let found = links(&[QUIET, ("plugins.logs.templates", template)]);
    let [plain, asked] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(
        (plain.uri.as_str(), asked.uri.as_str()),
        ("https://t/p", "https://d/80")
    );
    for link in [plain, asked] {
        assert_eq!(link.name, "Mine (User)");
        assert_eq!(link.message_format, i32::from(MessageFormat::Csv));
        assert!(link.show_while_pending && link.hide_once_finished);
    }
    let bare = json!([{ "displayName": "Mine", "templateUris": ["https://t"], "dynamicTemplateUris": ["https://d"] }]);
    let found = links(&[QUIET, ("plugins.logs.templates", bare)]);
    let [plain] = found.as_slice() else {
        panic!("nobody asked for the other: {found:?}");
    };
    assert!(!plain.show_while_pending && !plain.hide_once_finished);
}

#[test]
fn links_that_tasks_ask_for() {
    let asked = json!({
        "vscode": { "displayName": "VS Code", "templateUris": ["https://v/{{ .podName }}/{{ .taskConfig.port }}"] },
        "jupyter": { "displayName": "Jupyter", "templateUris": ["https://j"] },
    });
    let found = links(&[QUIET, ("plugins.logs.dynamic-log-links", asked)]);
    let [link] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(
        (link.name.as_str(), link.uri.as_str()),
        ("VS Code (User)", "https://v/p/80")
    );
}
