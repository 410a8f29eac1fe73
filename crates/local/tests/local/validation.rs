//! What the API takes and what it refuses, by the rules of Kubernetes.

use flyte_local::cluster::{Cluster, ClusterOptions, Row, RowChange, SqliteStore, Store};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::cluster::cluster;
use crate::kubelet::{Machine, sh};

/// Sends an object as it is, past the types of the client; code, message and the fields of its causes.
async fn post(client: &Client, uri: &str, object: &Value) -> (u16, String, Vec<String>) {
    let request = http::Request::post(uri)
        .header("content-type", "application/json")
        .body(serde_json::to_vec(object).unwrap())
        .unwrap();
    match client.request::<Value>(request).await {
        Ok(_) => (201, String::new(), Vec::new()),
        Err(kube::Error::Api(status)) => {
            let causes = status
                .details
                .map(|details| details.causes)
                .unwrap_or_default();
            let fields = causes.into_iter().map(|cause| cause.field).collect();
            (status.code, status.message, fields)
        }
        Err(error) => panic!("{error}"),
    }
}

const PODS: &str = "/api/v1/namespaces/default/pods";

/// What makes a fine pod another.
type Change = Box<dyn FnOnce(&mut Value)>;

/// A pod that is fine but for what `change` does to it.
fn pod(name: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "main", "image": "i"}]},
    });
    change(&mut pod);
    pod
}

/// Sets one member of a pod by its JSON pointer; containers are made long enough.
fn with(pointer: &'static str, member: Value) -> impl FnOnce(&mut Value) {
    move |pod| {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        pod.pointer_mut(parent).unwrap()[name] = member;
    }
}

#[tokio::test]
async fn an_object_of_another_type_is_refused_by_its_field() {
    let client = cluster().await;
    for (uri, object, field) in [
        (
            PODS,
            pod(
                "a",
                with(
                    "/spec/containers/0/env",
                    json!([{"name": "PORT", "value": 8080}]),
                ),
            ),
            "spec.containers[0].env[0].value",
        ),
        (
            PODS,
            pod("a", with("/metadata/labels", json!({"a": true}))),
            "metadata.labels.a",
        ),
        (PODS, pod("a", with("/metadata", json!("a"))), "metadata"),
        (
            PODS,
            pod("a", with("/spec/containers", json!({"name": "main"}))),
            "spec.containers",
        ),
        (
            PODS,
            pod(
                "a",
                with(
                    "/spec/containers/0/resources",
                    json!({"limits": {"memory": "4 GB"}}),
                ),
            ),
            "spec.containers[0].resources.limits.memory",
        ),
        (
            "/api/v1/namespaces/default/configmaps",
            json!({"metadata": {"name": "a"}, "data": {"port": 8080}}),
            "data.port",
        ),
        (
            "/api/v1/namespaces/default/secrets",
            json!({"metadata": {"name": "a"}, "stringData": {"port": 8080}}),
            "stringData.port",
        ),
    ] {
        let (code, message, _) = post(&client, uri, &object).await;
        assert_eq!(code, 400, "{field}: {message}");
        assert!(
            message.contains(&format!(": {field}: ")),
            "{field}: {message}"
        );
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    assert_eq!(
        pods.list(&ListParams::default()).await.unwrap().items.len(),
        0
    );
    assert_eq!(post(&client, PODS, &pod("a", |_| ())).await.0, 201);
    for patch in [
        Patch::Merge(json!({"metadata": {"labels": {"a": 1}}})),
        Patch::Strategic(json!({"spec": {"activeDeadlineSeconds": "soon"}})),
    ] {
        let refused = pods.patch("a", &PatchParams::default(), &patch).await;
        assert!(
            matches!(&refused, Err(kube::Error::Api(status)) if status.code == 422),
            "{refused:?}"
        );
    }
    pods.get("a").await.unwrap();
}

#[tokio::test]
async fn numbers_are_quantities_too() {
    let client = cluster().await;
    let resources = json!({"requests": {"cpu": 1, "memory": 1_000_000}, "limits": {"cpu": 1.5}});
    let created = pod("a", with("/spec/containers/0/resources", resources));
    assert_eq!(
        post(&client, PODS, &created).await,
        (201, String::new(), Vec::new())
    );
    let pods: Api<Pod> = Api::namespaced(client, "default");
    let resources = pods.get("a").await.unwrap().spec.unwrap().containers[0]
        .resources
        .clone()
        .unwrap();
    assert_eq!(resources.requests.unwrap()["cpu"].0, "1");
    assert_eq!(resources.limits.unwrap()["cpu"].0, "1.5");
}

#[tokio::test]
async fn what_kubernetes_finds_invalid_is_refused_with_its_causes() {
    let client = cluster().await;
    let container = "/spec/containers/0";
    let volume = json!([{"name": "v", "emptyDir": {}}]);
    let c = |member: &'static str, value: Value| -> Change {
        Box::new(move |pod: &mut Value| pod.pointer_mut(container).unwrap()[member] = value)
    };
    let s = |member: &'static str, value: Value| -> Change {
        Box::new(move |pod: &mut Value| pod["spec"][member] = value)
    };
    let m = |member: &'static str, value: Value| -> Change {
        Box::new(move |pod: &mut Value| pod["metadata"][member] = value)
    };
    let mounting = |mounts: Value| -> Change {
        let volumes = volume.clone();
        Box::new(move |pod: &mut Value| {
            pod["spec"]["volumes"] = volumes;
            pod.pointer_mut(container).unwrap()["volumeMounts"] = mounts;
        })
    };
    let rows: Vec<(Change, &str, &str)> = vec![
        (
            m("annotations", json!({"not a key": "x"})),
            "metadata.annotations",
            "name part must consist",
        ),
        (
            c("name", json!("Main")),
            "spec.containers[0].name",
            "RFC 1123 label",
        ),
        (
            c("image", json!(" i")),
            "spec.containers[0].image",
            "whitespace",
        ),
        (
            c("imagePullPolicy", json!("Sometimes")),
            "spec.containers[0].imagePullPolicy",
            "supported values",
        ),
        (
            c("ports", json!([{"containerPort": 70000}])),
            "spec.containers[0].ports[0].containerPort",
            "65535",
        ),
        (
            c("env", json!([{"name": ""}])),
            "spec.containers[0].env[0].name",
            "Required value",
        ),
        (
            c("env", json!([{"name": "A=B"}])),
            "spec.containers[0].env[0].name",
            "printable ASCII",
        ),
        (
            c(
                "env",
                json!([{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
            ),
            "spec.containers[0].env[0].valueFrom",
            "may not be specified when `value` is not empty",
        ),
        (
            c("env", json!([{"name": "A", "valueFrom": {}}])),
            "spec.containers[0].env[0].valueFrom",
            "must specify one of",
        ),
        (
            c(
                "env",
                json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.nope"}}}]),
            ),
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath",
            "field label not supported: spec.nope",
        ),
        (
            c(
                "env",
                json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "a/b"}}}]),
            ),
            "spec.containers[0].env[0].valueFrom.secretKeyRef.key",
            "a valid config key",
        ),
        (
            c("envFrom", json!([{"prefix": "A_"}])),
            "spec.containers[0].envFrom",
            "must specify one of",
        ),
        (
            c(
                "resources",
                json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
            ),
            "spec.containers[0].resources.requests",
            "must be less than or equal to cpu limit of 1",
        ),
        (
            c("resources", json!({"requests": {"nvidia.com/gpu": "1"}})),
            "spec.containers[0].resources.limits",
            "Limit must be set for non overcommitable resources",
        ),
        (
            c("resources", json!({"limits": {"gpu": "1"}})),
            "spec.containers[0].resources.limits[gpu]",
            "standard resource for containers",
        ),
        (
            c("resources", json!({"limits": {"cpu": "-1"}})),
            "spec.containers[0].resources.limits[cpu]",
            "greater than or equal to 0",
        ),
        (
            c("volumeMounts", json!([{"name": "v", "mountPath": "/m"}])),
            "spec.containers[0].volumeMounts[0].name",
            "Not found: \"v\"",
        ),
        (
            mounting(json!([{"name": "v", "mountPath": "/m"}, {"name": "v", "mountPath": "/m"}])),
            "spec.containers[0].volumeMounts[1].mountPath",
            "must be unique",
        ),
        (
            mounting(json!([{"name": "v", "mountPath": "/m", "subPath": "../x"}])),
            "spec.containers[0].volumeMounts.subPath",
            "must not contain '..'",
        ),
        (
            s("volumes", json!([{"name": "../v", "emptyDir": {}}])),
            "spec.volumes[0].name",
            "RFC 1123 label",
        ),
        (
            s(
                "volumes",
                json!([{"name": "v", "emptyDir": {}}, {"name": "v", "emptyDir": {}}]),
            ),
            "spec.volumes[1].name",
            "Duplicate value: \"v\"",
        ),
        (
            s(
                "volumes",
                json!([{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]),
            ),
            "spec.volumes[0].hostPath",
            "more than 1 volume type",
        ),
        (
            s(
                "volumes",
                json!([{"name": "v", "configMap": {"name": "m", "items": [{"key": "k", "path": "/etc/k"}]}}]),
            ),
            "spec.volumes[0].configMap.items[0].path",
            "must be a relative path",
        ),
        (
            s(
                "volumes",
                json!([{"name": "v", "secret": {"secretName": "s", "defaultMode": 4096}}]),
            ),
            "spec.volumes[0].secret.defaultMode",
            "0777",
        ),
        (
            s("tolerations", json!([{"value": "x"}])),
            "spec.tolerations[0].operator",
            "operator must be Exists when `key` is empty",
        ),
        (
            s(
                "tolerations",
                json!([{"key": "k", "operator": "Exists", "value": "x"}]),
            ),
            "spec.tolerations[0].operator",
            "value must be empty",
        ),
        (
            s(
                "tolerations",
                json!([{"key": "k", "effect": "NoSchedule", "tolerationSeconds": 1}]),
            ),
            "spec.tolerations[0].effect",
            "must be 'NoExecute'",
        ),
        (
            s("nodeSelector", json!({"a b": "c"})),
            "spec.nodeSelector",
            "name part must consist",
        ),
        (
            s("activeDeadlineSeconds", json!(0)),
            "spec.activeDeadlineSeconds",
            "must be between 1 and 2147483647",
        ),
        (
            s("restartPolicy", json!("Maybe")),
            "spec.restartPolicy",
            "supported values: \"Always\", \"Never\", \"OnFailure\"",
        ),
        (
            s(
                "affinity",
                json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "k", "operator": "Near"}]}]}}}),
            ),
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].operator",
            "not a valid selector operator",
        ),
    ];
    for (change, field, words) in rows {
        let (code, message, fields) = post(&client, PODS, &pod("a", change)).await;
        assert_eq!(code, 422, "{field}: {message}");
        assert_eq!(fields.first().map(String::as_str), Some(field), "{message}");
        assert!(message.contains(words), "{field}: {message}");
    }
    for (kind, field) in [("configmaps", "data[a/b]"), ("secrets", "data[a/b]")] {
        let object = json!({"metadata": {"name": "a"}, "data": {"a/b": ""}});
        let uri = format!("/api/v1/namespaces/default/{kind}");
        assert_eq!(post(&client, &uri, &object).await.2, [field]);
    }
}

#[tokio::test]
async fn every_recorded_pod_is_taken() {
    let client = cluster().await;
    let recorded = include_str!("../../../plugins/tests/data/pods.jsonl");
    let namespace = json!({"metadata": {"name": "flytesnacks-development"}});
    assert_eq!(post(&client, "/api/v1/namespaces", &namespace).await.0, 201);
    let mut count = 0;
    for line in recorded.lines() {
        let mut pod: Value = serde_json::from_str(line).unwrap();
        let metadata = pod["metadata"].as_object_mut().unwrap();
        metadata.remove("resourceVersion");
        let uri = "/api/v1/namespaces/flytesnacks-development/pods";
        let (code, message, _) = post(&client, uri, &pod).await;
        assert_eq!(code, 201, "{message}");
        count += 1;
    }
    assert!(count > 20, "{count} pods were recorded");
}

fn stored(resource: &str, name: &str, value: &Value) -> RowChange {
    RowChange::Put(Row {
        resource: resource.to_owned(),
        namespace: "default".to_owned(),
        name: name.to_owned(),
        revision: 5,
        json: value.to_string().into(),
    })
}

#[tokio::test]
async fn what_an_earlier_program_took_stops_no_list_and_no_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cluster.db");
    let metadata = |name: &str| json!({"name": name, "namespace": "default", "uid": uuid::Uuid::new_v4().to_string()});
    let wrong = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata("wrong"),
        "spec": {"containers": [{"name": "m", "image": "i", "env": [{"name": "PORT", "value": 8080}]}]}});
    let fine = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("fine"), "data": {"a": "b"}});
    // Of the right type, but not valid: it can still be changed, and goes.
    let invalid = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "invalid", "namespace": "default", "uid": uuid::Uuid::new_v4().to_string(),
                     "annotations": {"not a key": "x"}, "finalizers": ["example.org/f"]}});
    let store = SqliteStore::open(&file).await.unwrap();
    let changes = [
        stored("pods", "wrong", &wrong),
        stored("pods", "damaged", &json!("no object")),
        stored("configmaps", "fine", &fine),
        stored("configmaps", "invalid", &invalid),
    ];
    store.commit(&changes, 5).await.unwrap();
    drop(store);
    let store = SqliteStore::open(&file).await.unwrap();
    let client = Cluster::new(store, ClusterOptions::default())
        .await
        .unwrap()
        .client();
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    assert_eq!(
        pods.list(&ListParams::default()).await.unwrap().items.len(),
        0
    );
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let names = maps.list(&ListParams::default()).await.unwrap();
    let names: Vec<String> = names.iter().map(ResourceExt::name_any).collect();
    assert_eq!(names, ["fine", "invalid"]);
    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    maps.patch("invalid", &PatchParams::default(), &patch)
        .await
        .unwrap();
    let worse = Patch::Merge(json!({"metadata": {"annotations": {"nor this": "x"}}}));
    maps.patch("invalid", &PatchParams::default(), &worse)
        .await
        .unwrap_err();
    // The name can be used again.
    assert_eq!(post(&client, PODS, &pod("wrong", |_| ())).await.0, 201);
    Api::<Namespace>::all(client).get("default").await.unwrap();
}

/// A client of a server that lists one pod with a number for its restart policy.
fn with_a_wrong_type(real: Client, name: &'static str) -> Client {
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let real = real.clone();
        async move {
            let lists = request.uri().path() == "/api/v1/pods"
                && !request.uri().query().unwrap_or_default().contains("watch");
            let answer = real.send(request).await?;
            if !lists {
                return Ok(answer);
            }
            let (parts, body) = answer.into_parts();
            let bytes = http_body_util::BodyExt::collect(body).await?.to_bytes();
            let mut list: Value = serde_json::from_slice(&bytes).unwrap();
            for pod in list["items"].as_array_mut().unwrap() {
                if pod["metadata"]["name"] == name {
                    pod["spec"]["restartPolicy"] = json!(7);
                }
            }
            let body = kube::client::Body::from(serde_json::to_vec(&list).unwrap());
            Ok::<_, kube::Error>(http::Response::from_parts(parts, body))
        }
    });
    Client::new(service, "default")
}

#[tokio::test]
async fn a_kubelet_leaves_a_pod_alone_that_it_cannot_read() {
    let mut machine = Machine::start().await;
    machine.stop_kubelet().await;
    machine.create("fine", sh("true")).await;
    machine.create("odd", sh("true")).await;
    machine.kubelet_client = with_a_wrong_type(machine.client.clone(), "odd");
    machine.start_kubelet().await;
    machine.phase("fine", "Succeeded").await;
    let odd = machine.pods().get("odd").await.unwrap();
    assert_eq!(odd.status.unwrap().phase.as_deref(), Some("Pending"));
}
