//! What is compared: the admin of the simulation, and flyteadmin on each database.

use flyte_admin::{
    Admin, Dependencies,
    config::{AdminConfig, DomainConfig, DomainsConfig},
    targets::ExecutionTargets,
};
use flyte_core::identifiers::ExecutionId;
use flyte_idl::{
    admin::{
        Execution, ExecutionCreateRequest, LaunchPlanCreateRequest, NodeExecutionEventRequest,
        NodeExecutionGetRequest, NodeExecutionListRequest, TaskCreateRequest,
        TaskExecutionEventRequest, TaskExecutionGetRequest, TaskExecutionListRequest,
        WorkflowCreateRequest, WorkflowExecutionEventRequest, WorkflowExecutionGetRequest,
    },
    core::TaskExecutionIdentifier,
    json::{self, Codec, Unknown},
    rpc,
    service::admin_service_client::AdminServiceClient,
};
use flyte_local::cluster::{Cluster, ClusterOptions, NoStore};
use flyte_platform::{
    Clock,
    blob::BlobStore,
    kubernetes,
    metrics::Scope,
    sql::{Database, DatabaseConfig},
};
use flyte_tests::simulation;
use prost::{Message, Name};
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::{Code, Request, Status, service::Routes};

use crate::sequences::{DOMAIN, PROJECT, Step};

/// A client of one admin.
#[derive(Clone)]
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) client: AdminServiceClient<Routes>,
}

/// flyteadmin on both databases.
pub(crate) struct Admins {
    real: Vec<Subject>,
    _folder: TempDir,
}

/// Code, message and details of an answer; row numbers differ, so they are left out.
pub(crate) type Verdict = (Code, String, Vec<u8>);

impl Admins {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sqlite = DatabaseConfig::sqlite(folder.path().join("admin.db"));
        let real = vec![
            Subject {
                name: "SQLite",
                client: Box::pin(admin(&sqlite)).await,
            },
            Subject {
                name: "PostgreSQL",
                client: Box::pin(admin(&flyte_postgres::database())).await,
            },
        ];
        Self {
            real,
            _folder: folder,
        }
    }

    /// All admins, each with a fresh execution called `name`; the one of the simulation first.
    pub(crate) async fn with_execution(&self, name: &str) -> Vec<Subject> {
        let id = ExecutionId::new(PROJECT, DOMAIN, name).unwrap();
        let mut subjects = vec![Subject {
            name: "simulation",
            client: AdminServiceClient::new(simulation::in_memory(id)),
        }];
        for subject in &self.real {
            let mut subject = subject.clone();
            let request: ExecutionCreateRequest = message(&json!({
                "project": PROJECT, "domain": DOMAIN, "name": name,
                "spec": {"launch_plan": entity("LAUNCH_PLAN", "wf"), "metadata": {}},
            }));
            subject.client.create_execution(request).await.unwrap();
            subjects.push(subject);
        }
        subjects
    }
}

/// The id of an entity of version v.
pub(crate) fn entity(kind: &str, name: &str) -> Value {
    json!({"resource_type": kind, "project": PROJECT, "domain": DOMAIN, "name": name, "version": "v"})
}

/// A message from JSON.
pub(crate) fn message<M: Message + Name + Default>(value: &Value) -> M {
    json::from_value(Unknown::Refuse, value).unwrap()
}

/// A flyteadmin with one project, and its cluster.
pub(crate) async fn bare_admin(database: &DatabaseConfig) -> (Admin, Cluster) {
    let options = ClusterOptions {
        // As `flyte start` sets it.
        json_depth: 4_096,
        ..ClusterOptions::default()
    };
    let cluster = Cluster::new(NoStore, options).await.unwrap();
    kubernetes::define(cluster.client(), &flyte_crd::custom_resource_definition())
        .await
        .unwrap();
    let dependencies = Dependencies {
        database: Database::open(database).await.unwrap(),
        blobs: BlobStore::in_memory(),
        targets: ExecutionTargets::single(cluster.client()),
        clock: Clock::system(),
        metrics: Scope::new(""),
    };
    let config = AdminConfig {
        domains: DomainsConfig(vec![DomainConfig {
            id: DOMAIN.to_owned(),
            name: DOMAIN.to_owned(),
        }]),
        ..AdminConfig::default()
    };
    let admin = flyte_admin::wire(dependencies, config).unwrap();
    admin.migrate().await.unwrap();
    admin
        .seed_projects(&[(PROJECT.to_owned(), String::new())])
        .await
        .unwrap();
    admin.sync_cluster_resources().await.unwrap();
    (admin, cluster)
}

/// A flyteadmin with a launch plan `wf` of one task `t`.
async fn admin(database: &DatabaseConfig) -> AdminServiceClient<Routes> {
    let (admin, _cluster) = Box::pin(bare_admin(database)).await;
    let mut client = AdminServiceClient::new(admin.grpc());
    let interface = json!({"inputs": {}, "outputs": {}});
    let task: TaskCreateRequest = message(&json!({
        "id": entity("TASK", "t"),
        "spec": {"template": {
            "type": "container", "interface": interface, "container": {"image": "i", "args": ["x"]},
            "metadata": {"runtime": {"version": "1"}},
        }},
    }));
    client.create_task(task).await.unwrap();
    let workflow: WorkflowCreateRequest = message(&json!({
        "id": entity("WORKFLOW", "wf"),
        "spec": {"template": {
            "interface": interface,
            "nodes": [{"id": "n0", "task_node": {"reference_id": entity("TASK", "t")}}],
        }},
    }));
    client.create_workflow(workflow).await.unwrap();
    let plan: LaunchPlanCreateRequest = message(&json!({
        "id": entity("LAUNCH_PLAN", "wf"),
        "spec": {"workflow_id": entity("WORKFLOW", "wf"), "entity_metadata": {}},
    }));
    client.create_launch_plan(plan).await.unwrap();
    client
}

/// Sends an event.
pub(crate) async fn send(client: &AdminServiceClient<Routes>, step: &Step) -> Verdict {
    let mut client = client.clone();
    let request_id = String::new();
    let answer = match step.clone() {
        Step::Workflow(event) => {
            let event = event.map(|event| *event);
            let request = WorkflowExecutionEventRequest { request_id, event };
            Box::pin(client.create_workflow_event(request))
                .await
                .map(drop)
        }
        Step::Node(event) => {
            let event = event.map(|event| *event);
            let request = NodeExecutionEventRequest { request_id, event };
            Box::pin(client.create_node_event(request)).await.map(drop)
        }
        Step::Task(event) => {
            let event = event.map(|event| *event);
            let request = TaskExecutionEventRequest { request_id, event };
            Box::pin(client.create_task_event(request)).await.map(drop)
        }
    };
    match answer {
        Ok(()) => (Code::Ok, String::new(), Vec::new()),
        Err(status) => verdict(&status),
    }
}

fn verdict(status: &Status) -> Verdict {
    let text = status.message();
    let text = match text.split_once("for node execution ") {
        Some((before, after)) if after.bytes().all(|byte| byte.is_ascii_digit()) => before,
        _ => text,
    };
    // The details repeat the message.
    let details = rpc::Status::decode(status.details()).unwrap_or_default();
    let details = details.details.iter().flat_map(Message::encode_to_vec);
    (status.code(), text.to_owned(), details.collect())
}

/// What the step is about, as it is now.
pub(crate) async fn look(
    client: &AdminServiceClient<Routes>,
    step: &Step,
) -> Result<Value, Verdict> {
    let mut client = client.clone();
    let found = match step {
        Step::Workflow(event) => {
            let id = event.as_ref().and_then(|event| event.execution_id.clone());
            let request = Request::new(WorkflowExecutionGetRequest { id });
            let found = client.get_execution(request).await;
            found.map(|found| execution(&found.into_inner()))
        }
        Step::Node(event) => {
            let id = event.as_ref().and_then(|event| event.id.clone());
            let request = Request::new(NodeExecutionGetRequest { id });
            let found = client.get_node_execution(request).await;
            found.map(|found| value(&found.into_inner()))
        }
        Step::Task(event) => {
            let id = event.as_ref().map(|event| TaskExecutionIdentifier {
                task_id: event.task_id.clone(),
                node_execution_id: event.parent_node_execution_id.clone(),
                retry_attempt: event.retry_attempt,
            });
            let request = Request::new(TaskExecutionGetRequest { id });
            let found = client.get_task_execution(request).await;
            found.map(|found| {
                let mut found = value(&found.into_inner());
                // Only flyteadmin looks for the nodes that an attempt made.
                found["is_parent"] = Value::Null;
                found
            })
        }
    };
    found.map_err(|status| verdict(&status))
}

/// What the lists show that the engine sweeps by: all nodes, the children of one, the open ones, and attempts. The order is
/// of no interest.
pub(crate) async fn lists(client: &AdminServiceClient<Routes>, name: &str) -> Vec<Value> {
    let execution = json!({"project": PROJECT, "domain": DOMAIN, "name": name});
    let open = "value_in(phase,UNDEFINED;QUEUED;RUNNING;FAILING;DYNAMIC_RUNNING)";
    let mut answers = Vec::new();
    for (around, filters) in [
        ("", ""),
        ("", open),
        ("n0", ""),
        ("n0", open),
        ("nowhere", ""),
    ] {
        let request: NodeExecutionListRequest = message(&json!({
            "workflow_execution_id": execution, "unique_parent_id": around, "filters": filters, "limit": 100,
        }));
        let mut client = client.clone();
        let answer = Box::pin(client.list_node_executions(request)).await;
        answers.push(answer.map_or_else(
            |status| json!(verdict(&status).1),
            |found| unordered(&found.into_inner(), "node_executions"),
        ));
    }
    for (node, filters) in [("n0", ""), ("n0", open), ("n1", ""), ("nowhere", "")] {
        let request: TaskExecutionListRequest = message(&json!({
            "node_execution_id": {"node_id": node, "execution_id": execution}, "filters": filters, "limit": 100,
        }));
        let mut client = client.clone();
        let found = Box::pin(client.list_task_executions(request))
            .await
            .unwrap();
        answers.push(unordered(&found.into_inner(), "task_executions"));
    }
    answers
}

/// A list in the order of its text.
fn unordered<M: Message + Name>(answer: &M, field: &str) -> Value {
    let mut answer = value(answer);
    let items = answer[field].as_array_mut().unwrap();
    items.sort_by_key(Value::to_string);
    answer
}

fn value<M: Message + Name>(message: &M) -> Value {
    json::to_value(Codec::ProtoNames, message).unwrap()
}

/// An execution without what its creation wrote, which the simulation's admin has not seen.
fn execution(found: &Execution) -> Value {
    let mut value = value(found);
    let cluster = &value["spec"]["metadata"]["system_metadata"]["execution_cluster"];
    let cluster = cluster.as_str().unwrap_or_default().to_owned();
    let closure = value["closure"].as_object_mut().unwrap();
    for created in [
        "created_at",
        "notifications",
        "workflow_id",
        "state_change_details",
    ] {
        closure.remove(created);
    }
    if closure["phase"] == "UNDEFINED" {
        closure.remove("updated_at");
    }
    json!({"closure": closure, "cluster": cluster})
}
