//! Bodies in Kubernetes protobuf, as `kubectl create` sends them.

use kube::Client;
use serde_json::{Value, json};

use crate::cluster::cluster;

/// Sends a body as `kubectl create` does.
async fn send_protobuf(client: &Client, uri: &str, body: &[u8]) -> Result<Value, (u16, String)> {
    let request = http::Request::post(uri)
        .header("content-type", "application/vnd.kubernetes.protobuf")
        .header(
            "accept",
            "application/vnd.kubernetes.protobuf,application/json",
        )
        .body(body.to_vec())
        .unwrap();
    match client.request(request).await {
        Ok(object) => Ok(object),
        Err(kube::Error::Api(status)) => Err((status.code, status.message)),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn what_kubectl_creates_by_flags_is_read_from_protobuf() {
    let client = cluster().await;
    // Recorded of kubectl 1.37 (create secret generic, namespace, serviceaccount).
    let secret = b"k8s\0\n\x0c\n\x02v1\x12\x06Secret\x123\n\x15\n\x05token\x12\0\x1a\0\"\0*\x002\x008\0B\0\x12\x0c\n\x03key\x12\x05value\
        \x1a\x0cexample/type\x1a\0\"\0";
    let namespace = b"k8s\0\n\x0f\n\x02v1\x12\tNamespace\x12\x1c\n\x14\n\x04team\x12\0\x1a\0\"\0*\x002\x008\0B\0\x12\0\x1a\x02\n\0\x1a\0\"\0";
    let account = b"k8s\0\n\x14\n\x02v1\x12\x0eServiceAccount\x12\x18\n\x16\n\x06runner\x12\0\x1a\0\"\0*\x002\x008\0B\0\x1a\0\"\0";
    let core = "/api/v1/namespaces";
    let made = send_protobuf(&client, &format!("{core}/default/secrets"), secret).await;
    let made = made.unwrap();
    assert_eq!(made["data"], json!({"key": "dmFsdWU="}));
    assert_eq!(made["type"], json!("example/type"));
    let made = send_protobuf(&client, core, namespace).await.unwrap();
    assert_eq!(made["metadata"]["name"], json!("team"));
    assert_eq!(made["status"]["phase"], json!("Active"));
    let made = send_protobuf(&client, &format!("{core}/team/serviceaccounts"), account).await;
    assert_eq!(made.unwrap()["metadata"]["namespace"], json!("team"));
    let role = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";
    let (code, message) = send_protobuf(&client, role, secret).await.unwrap_err();
    assert_eq!(code, 415, "{message}");
    let remedy = "add \"--dry-run=client -o yaml | kubectl apply -f -\"";
    assert!(
        message.contains("Role") && message.contains(remedy),
        "{message}"
    );
    for (uri, body, expected) in [
        ("/api/v1/namespaces/default/pods", &secret[..], 415),
        ("/api/v1/namespaces/default/secrets", b"", 400),
        ("/api/v1/namespaces/default/secrets", &secret[..20], 400),
        ("/api/v1/namespaces/default/configmaps", &secret[..], 400),
    ] {
        let (code, message) = send_protobuf(&client, uri, body).await.unwrap_err();
        assert_eq!(code, expected, "{uri}: {message}");
    }
}

/// A length-delimited field.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).unwrap();
    [&[number << 3 | 2, length], bytes].concat()
}

/// A body that says what it is.
fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let is = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
    [b"k8s\0".to_vec(), field(1, &is), field(2, raw)].concat()
}

async fn request(
    client: &Client,
    method: &str,
    uri: &str,
    body: Vec<u8>,
) -> Result<Value, (u16, String)> {
    let request = http::Request::builder()
        .method(method)
        .uri(uri)
        .header("content-type", "application/vnd.kubernetes.protobuf")
        .header(
            "accept",
            "application/vnd.kubernetes.protobuf,application/json",
        )
        .body(body)
        .unwrap();
    match client.request::<Value>(request).await {
        Ok(answer) => Ok(answer),
        Err(kube::Error::Api(status)) => Err((status.code, status.message)),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn what_helm_and_drain_delete_by_protobuf_is_deleted() {
    let client = cluster().await;
    let pods: kube::Api<k8s_openapi::api::core::v1::Pod> =
        kube::Api::namespaced(client.clone(), "default");
    // gracePeriodSeconds 0, preconditions.uid, propagationPolicy.
    let options = |uid: &str| {
        let preconditions = field(1, uid.as_bytes());
        [
            vec![0x08, 0],
            field(2, &preconditions),
            field(4, b"Background"),
        ]
        .concat()
    };
    for evicted in [false, true] {
        let pod = serde_json::json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        let made = pods
            .create(
                &kube::api::PostParams::default(),
                &serde_json::from_value(pod).unwrap(),
            )
            .await
            .unwrap();
        let send = async |uid: &str| {
            if evicted {
                let raw = [field(1, &field(1, b"p")), field(2, &options(uid))].concat();
                let uri = "/api/v1/namespaces/default/pods/p/eviction";
                request(&client, "POST", uri, body("policy/v1", "Eviction", &raw)).await
            } else {
                let body = body("v1", "DeleteOptions", &options(uid));
                request(&client, "DELETE", "/api/v1/namespaces/default/pods/p", body).await
            }
        };
        let other = send("00000000-0000-0000-0000-000000000000")
            .await
            .unwrap_err();
        assert_eq!(other.0, 409, "the precondition is read: {other:?}");
        send(&made.metadata.uid.unwrap()).await.unwrap();
        assert!(
            pods.get_opt("p").await.unwrap().is_none(),
            "evicted: {evicted}"
        );
    }
}

#[tokio::test]
async fn who_asks_by_protobuf_what_it_may_do_is_answered() {
    let client = cluster().await;
    let uri = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let asked = body("authorization.k8s.io/v1", "SelfSubjectAccessReview", &[]);
    let answer = request(&client, "POST", uri, asked).await.unwrap();
    assert_eq!(answer["status"]["allowed"], true);
    assert_eq!(answer["kind"], "SelfSubjectAccessReview");
}

#[tokio::test]
async fn what_nothing_would_run_is_refused_with_a_sentence() {
    let client = cluster().await;
    for (group, plural, kind) in [
        ("apps", "deployments", "Deployment"),
        ("apps", "statefulsets", "StatefulSet"),
        ("batch", "jobs", "Job"),
        ("batch", "cronjobs", "CronJob"),
    ] {
        let object = serde_json::json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": {"name": "x"}});
        let uri = format!("/apis/{group}/v1/namespaces/default/{plural}");
        let post = http::Request::post(uri)
            .header("content-type", "application/json")
            .body(object.to_string().into_bytes())
            .unwrap();
        let refused = client.request::<Value>(post).await.unwrap_err();
        let kube::Error::Api(status) = refused else {
            panic!("{refused}")
        };
        assert_eq!(status.code, 501);
        assert!(
            status.message.starts_with(&format!("{kind}s are not run")),
            "{}",
            status.message
        );
    }
}
