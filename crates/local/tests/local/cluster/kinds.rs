//! Rules and defaults of Kubernetes' kinds other than pods and their data.

use flyte_local::cluster::{Cluster, ClusterOptions, NoStore};
use serde_json::{Value, json};

use crate::cluster::cluster;

#[tokio::test]
async fn other_kinds_have_their_rules_too() {
    let client = cluster().await;
    let create = async |path: &str, object: &Value| {
        let body = serde_json::to_vec(object).unwrap();
        let request = http::Request::post(path)
            .header("content-type", "application/json")
            .body(body)
            .unwrap();
        client.request::<Value>(request).await
    };
    let core = "/api/v1/namespaces/default";
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let service = |spec: Value| json!({"metadata": {"name": "s"}, "spec": spec});
    let role = |rule: Value| json!({"metadata": {"name": "r"}, "rules": [rule]});
    let binding = |role: Value, subject: Value| json!({"metadata": {"name": "b"}, "roleRef": role, "subjects": [subject]});
    let user = json!({"kind": "User", "name": "u"});
    let own = json!({"kind": "Role", "name": "r"});
    let owner = |uid: &str| json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid, "controller": true});
    for (path, object, field, message) in [
        (
            format!("{core}/services"),
            json!({"metadata": {"name": "1s"}, "spec": {"ports": [{"port": 1}]}}),
            "metadata.name",
            "DNS-1035",
        ),
        (
            format!("{core}/services"),
            service(json!({})),
            "spec.ports",
            "Required value",
        ),
        (
            format!("{core}/services"),
            service(json!({"ports": [{"port": 0}]})),
            "spec.ports[0].port",
            "between 1 and 65535",
        ),
        (
            format!("{core}/services"),
            service(json!({"ports": [{"port": 1, "name": "a"}, {"port": 2}]})),
            "spec.ports[1].name",
            "Required value",
        ),
        (
            format!("{core}/services"),
            service(json!({"ports": [{"port": 1}], "type": "Other"})),
            "spec.type",
            "supported values",
        ),
        (
            format!("{core}/services"),
            service(json!({"ports": [{"port": 1}], "selector": {"a b": "c"}})),
            "spec.selector",
            "name part must consist",
        ),
        (
            format!("{core}/resourcequotas"),
            json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "-1"}}}),
            "spec.hard[pods]",
            "greater than or equal to 0",
        ),
        (
            format!("{core}/limitranges"),
            json!({"metadata": {"name": "l"}, "spec": {"limits": [{"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}}]}}),
            "spec.limits[0].min[cpu]",
            "greater than max value",
        ),
        (
            format!("{core}/persistentvolumeclaims"),
            json!({"metadata": {"name": "c"}, "spec": {"resources": {"requests": {"storage": "1Gi"}}}}),
            "spec.accessModes",
            "at least 1 access mode",
        ),
        (
            format!("{rbac}/roles"),
            role(json!({"apiGroups": [""], "resources": ["pods"], "verbs": []})),
            "rules[0].verbs",
            "at least one value",
        ),
        (
            format!("{rbac}/roles"),
            role(json!({"nonResourceURLs": ["/metrics"], "verbs": ["get"]})),
            "rules[0].nonResourceURLs",
            "namespaced rules cannot apply",
        ),
        (
            format!("{rbac}/rolebindings"),
            binding(json!({"kind": "Other", "name": "r"}), user.clone()),
            "roleRef.kind",
            "supported values",
        ),
        (
            "/apis/coordination.k8s.io/v1/namespaces/default/leases".to_owned(),
            json!({"metadata": {"name": "l"}, "spec": {"leaseDurationSeconds": 0}}),
            "spec.leaseDurationSeconds",
            "greater than 0",
        ),
        (
            "/apis/policy/v1/namespaces/default/poddisruptionbudgets".to_owned(),
            json!({"metadata": {"name": "p"}, "spec": {"minAvailable": 1, "maxUnavailable": 1}}),
            "spec",
            "cannot be both set",
        ),
        (
            "/apis/storage.k8s.io/v1/storageclasses".to_owned(),
            json!({"metadata": {"name": "s"}, "provisioner": ""}),
            "provisioner",
            "Required value",
        ),
        (
            "/apis/scheduling.k8s.io/v1/priorityclasses".to_owned(),
            json!({"metadata": {"name": "system-own"}, "value": 1}),
            "metadata.name",
            "reserved for system use",
        ),
        (
            format!("{core}/serviceaccounts"),
            json!({"metadata": {"name": "a", "ownerReferences": [owner("1"), owner("2")]}}),
            "metadata.ownerReferences",
            "Only one reference",
        ),
    ] {
        let Err(kube::Error::Api(status)) = create(&path, &object).await else {
            panic!("{object} is taken");
        };
        assert_eq!(status.code, 422, "{object}: {}", status.message);
        let details = status.details.clone().unwrap();
        let fields: Vec<&str> = details
            .causes
            .iter()
            .map(|cause| cause.field.as_str())
            .collect();
        assert!(fields.contains(&field), "{object}: {}", status.message);
        assert!(
            status.message.contains(message),
            "{object}: {}",
            status.message
        );
    }
    let good = create(
        &format!("{core}/services"),
        &service(json!({"ports": [{"port": 80}], "selector": {"app": "a"}})),
    )
    .await
    .unwrap();
    assert_eq!(good["spec"]["type"], "ClusterIP");
    assert_eq!(
        good["spec"]["ports"],
        json!([{"port": 80, "protocol": "TCP", "targetPort": 80}])
    );
    let headless = json!({"metadata": {"name": "h"}, "spec": {"clusterIP": "None"}});
    create(&format!("{core}/services"), &headless)
        .await
        .unwrap();
    let bound = create(&format!("{rbac}/rolebindings"), &binding(own, user))
        .await
        .unwrap();
    assert_eq!(bound["roleRef"]["apiGroup"], "rbac.authorization.k8s.io");
    assert_eq!(
        bound["subjects"][0]["apiGroup"],
        "rbac.authorization.k8s.io"
    );
    let other = json!({"roleRef": {"name": "other"}})
        .to_string()
        .into_bytes();
    let request = http::Request::patch(format!("{rbac}/rolebindings/b"))
        .header("content-type", "application/merge-patch+json")
        .body(other)
        .unwrap();
    let refused = client
        .request::<Value>(request)
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("cannot change roleRef"), "{refused}");
}

#[tokio::test]
async fn fields_that_a_kind_does_not_have_are_dropped_or_refused() {
    const JSON: &str = "application/json";
    const APPLY: &str = "application/apply-patch+yaml";
    const MERGE: &str = "application/merge-patch+json";
    let options = ClusterOptions {
        json_depth: 400,
        ..ClusterOptions::default()
    };
    let client = Cluster::new(NoStore, options).await.unwrap().client();
    let send = async |method: &str, path: &str, form: &str, object: &Value| {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("/api/v1/namespaces/default/{path}"))
            .header("content-type", form)
            .body(serde_json::to_vec(object).unwrap())
            .unwrap();
        client.request::<Value>(request).await
    };
    let mut deep = json!(1);
    for _ in 0..300 {
        deep = json!({ "a": deep });
    }
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "typo": 1}, "data": {"any": "key"}, "unknown": deep});
    let pod = json!({"metadata": {"name": "p"}, "spec": {"typo": {}, "containers": [
        {"name": "c", "image": "i", "imagee": "j", "resources": {"limits": {"cpu": 2}}},
    ]}});
    for (method, path, form, object, words) in [
        (
            "POST",
            "configmaps?fieldValidation=Strict",
            JSON,
            &map,
            "unknown field \"metadata.typo\", unknown field \"unknown\"",
        ),
        (
            "PATCH",
            "configmaps/m?fieldManager=me&fieldValidation=Strict",
            APPLY,
            &map,
            "unknown field \"unknown\"",
        ),
        (
            "POST",
            "pods?fieldValidation=Strict",
            JSON,
            &pod,
            "unknown field \"spec.typo\", unknown field \"spec.containers[0].imagee\"",
        ),
    ] {
        match send(method, path, form, object).await {
            Err(kube::Error::Api(status)) => {
                assert_eq!(status.code, 400, "{path}: {}", status.message);
                assert!(status.message.contains(words), "{path}: {}", status.message);
            }
            other => panic!("{path}: {other:?}"),
        }
    }
    let expected = json!({"any": "key"});
    for (method, path, form) in [
        ("PATCH", "configmaps/m?fieldManager=me", APPLY),
        ("PATCH", "configmaps/m?fieldManager=me", APPLY),
        ("PATCH", "configmaps/m", MERGE),
        ("PUT", "configmaps/m", JSON),
    ] {
        let kept = send(method, path, form, &map).await.unwrap();
        assert_eq!(kept["data"], expected, "{method}");
        for unknown in ["typo", "unknown"] {
            assert!(
                !kept.to_string().contains(unknown),
                "{method} {form}: {kept}"
            );
        }
    }
    let kept = send("POST", "pods", JSON, &pod).await.unwrap();
    assert_eq!(
        kept["spec"]["containers"][0]["resources"]["limits"],
        json!({"cpu": "2"})
    );
    assert!(kept["spec"].get("typo").is_none(), "{kept}");
    assert!(
        kept["spec"]["containers"][0].get("imagee").is_none(),
        "{kept}"
    );
    let known = json!({"metadata": {"name": "k"}, "data": {"typo": "kept"}, "immutable": null});
    send("POST", "configmaps?fieldValidation=Strict", JSON, &known)
        .await
        .unwrap();
}

#[tokio::test]
async fn kinds_without_a_controller_are_listed_and_not_made() {
    // `kubectl apply --prune` lists them all.
    let client = cluster().await;
    for (version, plural) in [
        ("api/v1", "replicationcontrollers"),
        ("apis/apps/v1", "deployments"),
        ("apis/batch/v1", "jobs"),
    ] {
        let uri = format!("/{version}/namespaces/default/{plural}");
        let list = http::Request::get(&uri).body(Vec::new()).unwrap();
        let listed = client.request::<Value>(list).await.unwrap();
        assert_eq!(listed["items"], json!([]), "{plural}");
        let create = http::Request::post(&uri)
            .header("content-type", "application/json")
            .body(br#"{"metadata": {"name": "a"}}"#.to_vec())
            .unwrap();
        let refused = client.request::<Value>(create).await.unwrap_err();
        assert!(
            refused.to_string().contains("no controller"),
            "{plural}: {refused}"
        );
    }
}
