//! Pods with scheduling gates wait, whatever room there is, until the last gate is taken away.

use k8s_openapi::api::core::v1::{Binding, Event, Node, Pod, PodCondition};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::kubelet::{Machine, phase_of, sh};

fn scheduled(pod: &Pod) -> PodCondition {
    let conditions = pod.status.as_ref().unwrap().conditions.clone();
    let mut conditions = conditions.unwrap_or_default().into_iter();
    conditions
        .find(|condition| condition.type_ == "PodScheduled")
        .unwrap_or_else(|| panic!("nothing says whether it is scheduled: {pod:?}"))
}

fn gated(script: &str, gates: &[&str]) -> Value {
    let mut spec = sh(script);
    let gates: Vec<Value> = gates.iter().map(|name| json!({ "name": name })).collect();
    spec["schedulingGates"] = gates.into();
    spec
}

/// As `kubectl edit` takes a gate away.
fn without(gate: &str) -> Patch<Value> {
    Patch::Strategic(json!({"spec": {"schedulingGates": [{"$patch": "delete", "name": gate}]}}))
}

impl Machine {
    async fn change(&self, name: &str, patch: &Patch<Value>) -> Pod {
        let params = PatchParams::default();
        self.pods().patch(name, &params, patch).await.unwrap()
    }

    /// Asserts that the pod waits for its gates, after the kubelet has seen all that was done before: it sees what happens in
    /// its order, and this runs a later pod to its end.
    async fn still_gated(&self, name: &str, later: &str) {
        self.create(later, sh("true")).await;
        self.phase(later, "Succeeded").await;
        let pod = self.pods().get(name).await.unwrap();
        let condition = scheduled(&pod);
        let node = pod.spec.as_ref().unwrap().node_name.as_deref();
        assert_eq!(
            (
                phase_of(&pod),
                node,
                &*condition.status,
                condition.reason.as_deref()
            ),
            ("Pending", None, "False", Some("SchedulingGated")),
            "{pod:?}"
        );
        assert_eq!(
            condition.message.as_deref(),
            Some("Scheduling is blocked due to non-empty scheduling gates")
        );
    }
}

#[tokio::test]
async fn a_pod_waits_until_its_last_gate_is_taken_away() {
    let mut machine = Machine::start().await;
    machine.create("p", gated("true", &["a", "b"])).await;
    machine.still_gated("p", "after-creation").await;
    machine.change("p", &without("a")).await;
    machine.still_gated("p", "after-one-gate").await;
    machine.stop_kubelet().await;
    machine.start_kubelet().await;
    machine.still_gated("p", "after-a-restart").await;
    let shown = http::Request::get("/api/v1/namespaces/default/pods/p")
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Vec::new())
        .unwrap();
    let shown: Value = machine.client.request(shown).await.unwrap();
    assert_eq!(shown["rows"][0]["cells"][2], "SchedulingGated");
    let events: Api<Event> = Api::namespaced(machine.client.clone(), "default");
    let about = ListParams::default().fields("involvedObject.name=p");
    assert_eq!(events.list(&about).await.unwrap().items, []);
    machine.change("p", &without("b")).await;
    let pod = machine.phase("p", "Succeeded").await;
    assert_eq!(scheduled(&pod).status, "True");
    assert_eq!(pod.spec.unwrap().node_name.as_deref(), Some("node"));
}

#[tokio::test]
async fn what_is_asked_of_the_node_while_gated_holds_afterwards() {
    let machine = Machine::start().await;
    machine.create("p", gated("true", &["a"])).await;
    let narrower = Patch::Merge(json!({"spec": {"nodeSelector": {"disk": "fast"}}}));
    machine.change("p", &narrower).await;
    machine.still_gated("p", "later").await;
    machine.change("p", &without("a")).await;
    let waiting = |pod: Option<&Pod>| {
        pod.is_some_and(|pod| scheduled(pod).reason.as_deref() == Some("Unschedulable"))
    };
    machine.until("p", "unschedulable", waiting).await;
    let nodes: Api<Node> = Api::all(machine.client.clone());
    let label = Patch::Merge(json!({"metadata": {"labels": {"disk": "fast"}}}));
    nodes
        .patch("node", &PatchParams::default(), &label)
        .await
        .unwrap();
    machine.phase("p", "Succeeded").await;
}

#[tokio::test]
async fn a_gated_pod_holds_back_nobody_and_goes_at_once_when_it_is_deleted() {
    let machine = Machine::start().await;
    let mut large = gated("true", &["a"]);
    large["containers"][0]["resources"] = json!({"requests": {"cpu": "2"}});
    machine.create("first", large).await;
    machine.still_gated("first", "second").await;
    // Nobody has to let go of it: it is on no node.
    let params = DeleteParams::default();
    machine.pods().delete("first", &params).await.unwrap();
    assert_eq!(machine.pods().get_opt("first").await.unwrap(), None);
    machine.create("first", gated("true", &["b"])).await;
    machine.still_gated("first", "third").await;
}

#[tokio::test]
async fn a_gated_pod_is_bound_by_nobody() {
    let machine = Machine::start().await;
    machine.create("p", gated("true", &["a"])).await;
    let binding: Binding = serde_json::from_value(
        json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "node"}}),
    )
    .unwrap();
    let (pods, params) = (machine.pods(), PostParams::default());
    let bound = pods.create_subresource::<_, Value>("binding", "p", &params, &binding);
    let Err(kube::Error::Api(refusal)) = bound.await else {
        panic!("a gated pod was bound")
    };
    let why = "Operation cannot be fulfilled on pods/binding \"p\": pod p has non-empty .spec.schedulingGates";
    assert_eq!((refusal.code, &*refusal.message), (409, why));
    machine.still_gated("p", "later").await;
}
