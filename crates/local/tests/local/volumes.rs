//! Volumes of pods: what containers see of them, and what is said where they cannot be had.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, LogParams, PostParams};
use serde_json::{Value, json};

use crate::kubelet::{Machine, sh};

/// A machine with a ConfigMap `m` and a Secret `s`.
async fn machine() -> Machine {
    let machine = Machine::start().await;
    let map = json!({"metadata": {"name": "m"}, "data": {"a.conf": "one\n", "b.conf": "two\n"}});
    Api::<ConfigMap>::namespaced(machine.client.clone(), "default")
        .create(
            &PostParams::default(),
            &serde_json::from_value(map).unwrap(),
        )
        .await
        .unwrap();
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"key": "hidden\n"}});
    Api::<Secret>::namespaced(machine.client.clone(), "default")
        .create(
            &PostParams::default(),
            &serde_json::from_value(secret).unwrap(),
        )
        .await
        .unwrap();
    machine
}

fn with_volume(script: &str, volume: Value, mounts: Value) -> Value {
    let mut spec = sh(script);
    spec["volumes"] = json!([volume]);
    spec["containers"][0]["volumeMounts"] = mounts;
    spec
}

/// Runs a pod to its end; its log.
async fn output(machine: &Machine, name: &str, spec: Value) -> String {
    machine.create(name, spec).await;
    let pod = machine
        .until(name, "over", |pod| {
            let phase = pod.and_then(|pod| pod.status.as_ref()?.phase.as_deref());
            matches!(phase, Some("Succeeded" | "Failed"))
        })
        .await;
    let log = machine.log(name, &LogParams::default()).await;
    let phase = pod.unwrap().status.unwrap().phase;
    assert_eq!(phase.as_deref(), Some("Succeeded"), "{name}: {log}");
    log
}

#[tokio::test]
async fn a_container_sees_the_part_of_a_volume_that_it_mounts() {
    let machine = machine().await;
    let at = machine.file("at");
    let map = json!({"name": "v", "configMap": {"name": "m"}});
    let file = json!([{"name": "v", "mountPath": at.join("etc/a.conf"), "subPath": "a.conf"}]);
    let script = format!("cat {0}/etc/a.conf; ls {0}/etc", at.display());
    assert_eq!(
        output(&machine, "file", with_volume(&script, map, file)).await,
        "one\na.conf\n"
    );
    let empty = || json!({"name": "v", "emptyDir": {}});
    let mut spec = with_volume(
        &format!("echo x > {0}/part/file; ls {0}/whole", at.display()),
        empty(),
        json!([
            {"name": "v", "mountPath": at.join("part"), "subPathExpr": "of-$(POD)"},
            {"name": "v", "mountPath": at.join("whole")},
        ]),
    );
    spec["containers"][0]["env"] =
        json!([{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]);
    assert_eq!(
        output(&machine, "expression", spec).await,
        "of-expression\n"
    );
    // The inner mount is named first, and is inside the outer all the same.
    let nested = with_volume(
        &format!(
            "echo x > {0}/outer/inner/file; ls {0}/outer/inner",
            at.display()
        ),
        empty(),
        json!([
            {"name": "v", "mountPath": at.join("outer/inner"), "subPath": "i"},
            {"name": "v", "mountPath": at.join("outer"), "subPath": "o"},
        ]),
    );
    assert_eq!(output(&machine, "nested", nested).await, "file\n");
}

#[tokio::test]
async fn files_of_objects_have_their_modes_and_cannot_be_changed() {
    let machine = machine().await;
    let at = machine.file("at");
    let mount = json!([{"name": "v", "mountPath": at}]);
    let volume = json!({"name": "v", "configMap": {"name": "m", "defaultMode": 0o440, "items": [
        {"key": "a.conf", "path": "deep/a"}, {"key": "b.conf", "path": "b", "mode": 0o755}]}});
    let script = format!(
        "cd {}; stat -c '%a %n' b deep/a; echo changed > b || echo refused; rm b || echo kept; cat b",
        at.display()
    );
    let log = output(
        &machine,
        "modes",
        with_volume(&script, volume, mount.clone()),
    )
    .await;
    let told: Vec<&str> = log
        .lines()
        .filter(|line| !line.contains("ead-only"))
        .collect();
    assert_eq!(
        told,
        ["755 b", "440 deep/a", "refused", "kept", "two"],
        "{log}"
    );
    let script = format!("stat -c %a {}/key", at.display());
    let volume = json!({"name": "v", "secret": {"secretName": "s"}});
    let log = output(&machine, "default", with_volume(&script, volume, mount)).await;
    assert_eq!(log, "644\n");
}

#[tokio::test]
async fn a_pod_reads_about_itself_in_files() {
    let machine = machine().await;
    let at = machine.file("at");
    let items = json!([
        {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}},
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "memory", "resourceFieldRef": {"containerName": "main", "resource": "limits.memory", "divisor": "1Mi"}},
    ]);
    let volume = json!({"name": "v", "projected": {"sources": [
        {"downwardAPI": {"items": items}}, {"secret": {"name": "s"}}, {"configMap": {"name": "none", "optional": true}}]}});
    let script = format!(
        "cd {}; for f in name labels memory key; do cat $f; echo; done",
        at.display()
    );
    let mut spec = with_volume(&script, volume, json!([{"name": "v", "mountPath": at}]));
    spec["containers"][0]["resources"] = json!({"limits": {"memory": "64Mi"}});
    let pod = json!({"metadata": {"name": "p", "labels": {"b": "2", "a": "1"}}, "spec": spec});
    machine
        .pods()
        .create(
            &PostParams::default(),
            &serde_json::from_value(pod).unwrap(),
        )
        .await
        .unwrap();
    machine.phase("p", "Succeeded").await;
    let log = machine.log("p", &LogParams::default()).await;
    assert_eq!(log, "p\na=\"1\"\nb=\"2\"\n64\nhidden\n\n");
}

#[tokio::test]
async fn what_cannot_be_mounted_is_told_as_failed_mount() {
    let machine = machine().await;
    let at = machine.file("at");
    let plain = json!([{"name": "v", "mountPath": at}]);
    for (name, volume, mounts, words) in [
        (
            "item",
            json!({"name": "v", "secret": {"secretName": "s", "items": [{"key": "none", "path": "x"}]}}),
            plain.clone(),
            "references non-existent secret key: none",
        ),
        (
            "token",
            json!({"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}),
            plain.clone(),
            "issues no tokens of service accounts",
        ),
        (
            "kind",
            json!({"name": "v", "nfs": {"server": "s", "path": "/"}}),
            plain.clone(),
            "of a kind that this machine does not have",
        ),
        (
            "host",
            json!({"name": "v", "hostPath": {"path": "/no/such/folder", "type": "Directory"}}),
            plain,
            "/no/such/folder is not a Directory",
        ),
        (
            "part",
            json!({"name": "v", "configMap": {"name": "m"}}),
            json!([{"name": "v", "mountPath": at, "subPath": "none"}]),
            "subPath \"none\" is not in the volume",
        ),
        (
            "place",
            json!({"name": "v", "emptyDir": {}}),
            json!([{"name": "v", "mountPath": "/proc/no/such"}]),
            "mounts it at /proc/no/such, which does not exist and cannot be made",
        ),
        (
            "variable",
            json!({"name": "v", "emptyDir": {}}),
            json!([{"name": "v", "mountPath": at, "subPathExpr": "$(NONE)"}]),
            "names a variable that the container does not have",
        ),
    ] {
        machine
            .create(name, with_volume("true", volume, mounts))
            .await;
        let pod = machine
            .until(name, "blocked", |pod| {
                format!("{pod:?}").contains("CreateContainerConfigError")
            })
            .await;
        let waits = format!("{pod:?}").replace("\\\"", "\"");
        assert!(waits.contains(words), "{name}: {waits}");
        let told = crate::events::told(&machine, name, |told| {
            told.iter().any(|line| line.contains("FailedMount"))
        })
        .await;
        assert!(
            told.iter().any(|line| line.contains("FailedMount")),
            "{name}: {told:?}"
        );
    }
}

#[tokio::test]
async fn a_link_in_a_volume_leads_nowhere_else() {
    let machine = machine().await;
    let at = machine.file("at");
    let outside = machine.file("outside");
    std::fs::create_dir(&outside).unwrap();
    let link = machine.file("volume/link");
    std::fs::create_dir(machine.file("volume")).unwrap();
    std::os::unix::fs::symlink(&outside, link).unwrap();
    let volume = json!({"name": "v", "hostPath": {"path": machine.file("volume")}});
    let mounts = json!([{"name": "v", "mountPath": at, "subPath": "link/new"}]);
    machine
        .create("p", with_volume("true", volume, mounts))
        .await;
    let pod = machine
        .until("p", "blocked", |pod| {
            format!("{pod:?}").contains("leads out of the volume")
        })
        .await;
    assert!(pod.is_some());
    assert!(!outside.join("new").exists());
}
