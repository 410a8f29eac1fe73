//! The node: room for pods, its heartbeat, many pods at once.

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::Api;
use kube::runtime::wait::await_condition;
use serde_json::json;

use crate::kubelet::{Machine, PATIENCE, ended, sh};

#[tokio::test]
async fn pods_wait_for_room_and_are_told_how_much_there_is() {
    let machine = Machine::start().await;
    let go = machine.file("go");
    let sized = |cpu: &str, script: &str| {
        let mut spec = sh(script);
        spec["containers"][0]["resources"] = json!({"requests": {"cpu": cpu}});
        spec
    };
    machine.create("huge", sized("64", "true")).await;
    let huge = machine
        .until("huge", "unschedulable", |pod| {
            pod.is_some_and(|pod| format!("{pod:?}").contains("Unschedulable"))
        })
        .await
        .unwrap();
    let condition = huge
        .status
        .unwrap()
        .conditions
        .unwrap()
        .into_iter()
        .find(|condition| condition.type_ == "PodScheduled")
        .unwrap();
    let message = condition.message.unwrap();
    assert!(
        message.contains("requested cpu 64") && message.contains("available cpu 2"),
        "{message}"
    );
    machine
        .create(
            "first",
            sized(
                "1500m",
                &format!("while ! [ -e {} ]; do sleep 0.02; done", go.display()),
            ),
        )
        .await;
    machine.phase("first", "Running").await;
    machine.create("second", sized("1", "true")).await;
    machine
        .until("second", "told to wait", |pod| {
            pod.is_some_and(|pod| format!("{pod:?}").contains("waiting for other pods"))
        })
        .await;
    std::fs::write(&go, "").unwrap();
    machine.phase("second", "Succeeded").await;
    let first = ended(&machine.phase("first", "Succeeded").await, "main")
        .finished_at
        .unwrap();
    let second = ended(&machine.phase("second", "Succeeded").await, "main")
        .started_at
        .unwrap();
    assert!(second >= first);
}

#[tokio::test]
async fn a_node_says_that_it_is_alive() {
    let machine = Machine::start().await;
    let leases: Api<Lease> = Api::namespaced(machine.client.clone(), "kube-node-lease");
    let renewed = |lease: Option<&Lease>| {
        lease
            .and_then(|lease| lease.spec.clone())
            .and_then(|spec| spec.renew_time)
    };
    let first = renewed(Some(&leases.get("node").await.unwrap())).unwrap();
    let again = await_condition(leases, "node", move |lease: Option<&Lease>| {
        renewed(lease).is_some_and(|time| time > first)
    });
    tokio::time::timeout(PATIENCE, again)
        .await
        .expect("a heartbeat")
        .unwrap();
}

#[tokio::test]
async fn many_pods_all_end() {
    let machine = Machine::start().await;
    for index in 0..30 {
        machine.create(&format!("p{index}"), sh("true")).await;
    }
    for index in 0..30 {
        machine.phase(&format!("p{index}"), "Succeeded").await;
    }
}
