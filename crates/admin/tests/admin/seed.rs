//! The entities and executions of the recording, as far as requests of the golden data meet them.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use flyte_admin::{
    records::{Execution, NodeExecution, Signal, TaskExecution, Workflow},
    repository,
};
use flyte_core::identifiers::{
    EntityId, ExecutionId, NodeExecutionId, ResourceType, TaskExecutionId,
};
use flyte_idl::{admin, core, stored::Stored};
use jiff::Timestamp;
use prost::Message as _;
use serde_json::Value;

use crate::harness::{World, recorded, text};

/// Executions of the recording in order of creation, and how they ended.
const EXECUTIONS: [(&str, &str, &str); 11] = [
    ("rec-cached-pair", "recwf.cached_pair", "SUCCEEDED"),
    ("rec-branches-fail", "recwf.branches", "FAILED"),
    ("rec-cached-pair2", "recwf.cached_pair", "SUCCEEDED"),
    ("rec-failing", "recwf.failing", "FAILED"),
    ("rec-nested", "recwf.nested", "SUCCEEDED"),
    ("rec-bindings", "recwf.bindings", "SUCCEEDED"),
    ("rec-branches", "recwf.branches", "SUCCEEDED"),
    ("rec-dyn", "recwf.dyn", "SUCCEEDED"),
    ("rec-with-child", "recwf.with_child", "SUCCEEDED"),
    ("rec-with-child-n0-0", "recwf.sub", "SUCCEEDED"),
    ("rec-policy", "recwf.policy", "FAILED"),
];

pub(crate) fn decode(base64: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(base64).unwrap()
}

/// Everything.
pub(crate) async fn all(world: &World) {
    entities(world).await;
    executions(world).await;
    nodes(world).await;
}

/// Tasks and launch plans through the API, workflows as rows with their closures; digests must be Go's.
pub(crate) async fn entities(world: &World) {
    let entities = recorded("entities.jsonl");
    for entity in entities.iter().filter(|entity| entity["kind"] == "tasks") {
        let compiled =
            core::CompiledTask::decode(decode(text(entity, "proto")).as_slice()).unwrap();
        let template = compiled.template.unwrap();
        let id = template.id.clone();
        let request = admin::TaskCreateRequest {
            id: id.clone(),
            spec: Some(admin::TaskSpec {
                template: Some(template),
                description: Some(admin::DescriptionEntity::default()),
            }),
        };
        let _answer: admin::TaskCreateResponse = world.admin("CreateTask", &request).await.unwrap();
        let id = EntityId::any(id.as_ref()).unwrap();
        let mut tx = world.database.read().await.unwrap();
        let task = repository::tasks::get(&mut tx, &id).await.unwrap().unwrap();
        assert_eq!(hex::encode(&task.digest), text(entity, "sha256"), "{id}");
    }
    for workflow in recorded("workflows.jsonl") {
        seed_workflow(world, &workflow).await;
    }
    for entity in entities
        .iter()
        .filter(|entity| entity["kind"] == "launch_plans")
    {
        let plan = admin::LaunchPlan::decode(decode(text(entity, "proto")).as_slice()).unwrap();
        let request = admin::LaunchPlanCreateRequest {
            id: plan.id.clone(),
            spec: plan.spec,
        };
        let _answer: admin::LaunchPlanCreateResponse =
            world.admin("CreateLaunchPlan", &request).await.unwrap();
        let id = EntityId::any(plan.id.as_ref()).unwrap();
        let mut tx = world.database.read().await.unwrap();
        let stored = repository::launch_plans::get(&mut tx, &id)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(hex::encode(&stored.digest), text(entity, "sha256"), "{id}");
    }
}

async fn seed_workflow(world: &World, recorded: &Value) {
    let bytes = decode(text(recorded, "closure"));
    let closure = admin::WorkflowClosure::decode(bytes.as_slice()).unwrap();
    let template = closure
        .compiled_workflow
        .and_then(|compiled| compiled.primary?.template)
        .unwrap();
    let id = EntityId::expect(template.id.as_ref(), ResourceType::Workflow).unwrap();
    let closure_uri = format!(
        "{}/metadata/admin/{}/{}/{}/{}",
        world.blobs.base(),
        id.project,
        id.domain,
        id.name,
        id.version
    );
    world.blobs.put(&closure_uri, bytes.into()).await.unwrap();
    let workflow = Workflow {
        row: 0,
        id: id.clone(),
        interface: template.interface,
        closure_uri,
        digest: hex::decode(text(recorded, "digest")).unwrap(),
        short_description: String::new(),
        created_at: None,
    };
    let description = flyte_admin::records::Description {
        id: id.to_proto(),
        short: String::new(),
        long: Some(admin::Description::default()),
        link: String::new(),
    };
    world
        .database
        .write((workflow, description), |(workflow, description), tx| {
            Box::pin(async move {
                let now = Timestamp::now();
                repository::workflows::insert(tx, workflow, now).await?;
                repository::descriptions::insert(tx, description, now).await
            })
        })
        .await
        .unwrap();
}

/// Answers of the reference to GET requests, by path.
fn answered(path: &str) -> Option<Vec<u8>> {
    recorded("rest.jsonl")
        .iter()
        .find(|answer| text(answer, "path") == path)
        .and_then(|answer| answer["proto"]["body"].as_str().map(decode))
}

/// Rows of the executions: what Go answered where that was recorded, else the bare minimum.
pub(crate) async fn executions(world: &World) {
    for (name, workflow, phase) in EXECUTIONS {
        let path = format!("/api/v1/executions/flytesnacks/development/{name}");
        let answer = answered(&path)
            .map(|bytes| admin::Execution::decode(bytes.as_slice()).unwrap())
            .unwrap_or_default();
        let plan_id = |resource_type| core::Identifier {
            resource_type: resource_type as i32,
            project: "flytesnacks".to_owned(),
            domain: "development".to_owned(),
            name: workflow.to_owned(),
            version: "rec1".to_owned(),
            org: String::new(),
        };
        let plan = EntityId::any(Some(&plan_id(ResourceType::LaunchPlan))).unwrap();
        let mut tx = world.database.read().await.unwrap();
        let plan = repository::launch_plans::get(&mut tx, &plan).await.unwrap();
        drop(tx);
        let mut spec = answer.spec.unwrap_or_default();
        spec.launch_plan = Some(plan_id(ResourceType::LaunchPlan));
        let closure = answer.closure.unwrap_or_default();
        let now = Timestamp::now();
        let execution = Execution {
            row: 0,
            id: ExecutionId::new("flytesnacks", "development", name).unwrap(),
            launch_plan_row: plan.as_ref().map_or(0, |plan| plan.row),
            workflow_row: plan.as_ref().map_or(0, |plan| plan.workflow_row),
            task_row: 0,
            phase: phase.to_owned(),
            closure: Stored::new(closure),
            spec: Stored::new(spec),
            started_at: Some(now),
            created_at: Some(now),
            updated_at: Some(now),
            duration: 1_000_000_000,
            abort_cause: String::new(),
            mode: 0,
            source_execution_row: 0,
            parent_node_row: 0,
            cluster: String::new(),
            inputs_uri: String::new(),
            user_inputs_uri: String::new(),
            error_kind: (phase == "FAILED").then(|| "USER".to_owned()),
            error_code: (phase == "FAILED").then(|| "UserError".to_owned()),
            user: String::new(),
            state: 0,
            launch_entity: "launch_plan".to_owned(),
            row_created_at: Some(now),
        };
        world
            .database
            .write(execution, |execution, tx| {
                Box::pin(async move {
                    repository::executions::insert(tx, execution, Timestamp::now()).await
                })
            })
            .await
            .unwrap();
    }
}

/// Node and task executions that Go answered, and the signals of rec-gates.
pub(crate) async fn nodes(world: &World) {
    for (name, _, _) in EXECUTIONS {
        let path = format!(
            "/api/v1/node_executions/flytesnacks/development/{name}?limit=50&sort_by.key=created_at"
        );
        seed_nodes(world, answered(&path), None).await;
    }
    let sub = "/api/v1/node_executions/flytesnacks/development/rec-nested?limit=50&unique_parent_id=the-sub";
    let parent = core::NodeExecutionIdentifier {
        node_id: "the-sub".to_owned(),
        execution_id: Some(
            ExecutionId::new("flytesnacks", "development", "rec-nested")
                .unwrap()
                .to_proto(),
        ),
    };
    let parent = NodeExecutionId::from_proto(Some(&parent)).unwrap();
    let mut tx = world.database.read().await.unwrap();
    let row = repository::node_executions::row(&mut tx, &parent)
        .await
        .unwrap();
    drop(tx);
    seed_nodes(world, answered(sub), row).await;
    for path in [
        "/api/v1/task_executions/flytesnacks/development/rec-dyn/n0?limit=10",
        "/api/v1/task_executions/flytesnacks/development/rec-bindings/n0?limit=10",
    ] {
        seed_tasks(world, answered(path)).await;
    }
    let gates = ExecutionId::new("flytesnacks", "development", "rec-gates").unwrap();
    for (signal, simple) in [
        ("value", core::SimpleType::Integer),
        ("ok", core::SimpleType::Boolean),
    ] {
        let signal = Signal {
            execution: gates.clone(),
            signal: signal.to_owned(),
            literal_type: flyte_core::types::simple(simple),
            value: None,
        };
        world
            .database
            .write(signal, |signal, tx| {
                Box::pin(
                    async move { repository::signals::ensure(tx, signal, Timestamp::now()).await },
                )
            })
            .await
            .unwrap();
    }
}

fn moment(time: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    flyte_admin::domain::time::from_wire(time.as_ref())
}

async fn seed_nodes(world: &World, answer: Option<Vec<u8>>, parent_row: Option<i64>) {
    let Some(answer) = answer else {
        return;
    };
    let list = admin::NodeExecutionList::decode(answer.as_slice()).unwrap();
    for node in list.node_executions {
        let closure = node.closure.unwrap();
        let phase = core::node_execution::Phase::try_from(closure.phase).unwrap();
        let record = NodeExecution {
            row: 0,
            id: NodeExecutionId::from_proto(node.id.as_ref()).unwrap(),
            phase: phase.as_str_name().to_owned(),
            input_uri: node.input_uri,
            started_at: moment(closure.started_at),
            created_at: moment(closure.created_at),
            updated_at: moment(closure.updated_at),
            duration: 1,
            closure: Stored::new(closure),
            metadata: Stored::new(node.metadata.unwrap_or_default()),
            parent_row,
            parent_task_row: None,
            error_kind: None,
            error_code: None,
            cache_status: None,
            dynamic_closure_uri: String::new(),
            event_version: 2,
        };
        world
            .database
            .write(record, |record, tx| {
                Box::pin(async move {
                    repository::node_executions::insert(tx, record, Timestamp::now()).await
                })
            })
            .await
            .unwrap();
    }
}

async fn seed_tasks(world: &World, answer: Option<Vec<u8>>) {
    let list = admin::TaskExecutionList::decode(answer.unwrap().as_slice()).unwrap();
    for task in list.task_executions {
        let closure = task.closure.unwrap();
        let phase = core::task_execution::Phase::try_from(closure.phase).unwrap();
        let record = TaskExecution {
            row: 0,
            id: TaskExecutionId::from_proto(task.id.as_ref()).unwrap(),
            phase: phase.as_str_name().to_owned(),
            phase_version: 1,
            input_uri: task.input_uri,
            started_at: moment(closure.started_at),
            created_at: moment(closure.created_at),
            updated_at: moment(closure.updated_at),
            duration: 1,
            closure: Stored::new(closure),
        };
        world
            .database
            .write(record, |record, tx| {
                Box::pin(async move {
                    repository::task_executions::insert(tx, record, Timestamp::now()).await
                })
            })
            .await
            .unwrap();
    }
}
