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
