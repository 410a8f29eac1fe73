//! The entities and executions of the recording, as far as requests of the golden data meet them.

use std::sync::OnceLock;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use flyte_admin::{
    records::{
        ErrorKind, Execution, ExecutionMode, ExecutionState, LaunchEntity, NodeExecution,
        NodeExecutionRow, Signal, TaskExecution, Workflow,
    },
    repository,
};
use flyte_core::identifiers::{
    EntityId, ExecutionId, NodeExecutionId, ResourceType, TaskExecutionId,
};
use flyte_idl::{admin, core, json, stored::Stored};
use jiff::Timestamp;
use prost::{Message, Name};
use serde_json::Value;

use crate::harness::{World, recorded, text};

/// Executions of the recording in order of creation, and how they ended.
const EXECUTIONS: [(&str, &str, &str); 14] = [
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
    ("rec-mapped", "recwf.mapped", "SUCCEEDED"),
    ("rec-gates", "recwf.gates", "SUCCEEDED"),
    ("rec-all-types", "recwf.all_types", "SUCCEEDED"),
];

/// The bucket of the recording.
pub(crate) const BUCKET: &str = "s3://my-s3-bucket";

pub(crate) fn decode(base64: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(base64).unwrap()
}

/// Everything.
pub(crate) async fn all(world: &World) {
    blobs(world).await;
    projects(world).await;
    entities(world).await;
    executions(world).await;
    nodes(world).await;
}

/// What the recorded answers about data read.
async fn blobs(world: &World) {
    for blob in recorded("blobs.jsonl") {
        let uri = format!("{}/{}", world.blobs.base(), text(&blob, "key"));
        let bytes = decode(text(&blob, "base64"));
        world.blobs.put(&uri, bytes.into()).await.unwrap();
    }
}

async fn projects(world: &World) {
    let answer: admin::Projects = answered(world, "/api/v1/projects").unwrap();
    let seeds: Vec<_> = answer
        .projects
        .into_iter()
        .map(|project| (project.id, project.description))
        .collect();
    world.admin.seed_projects(&seeds).await.unwrap();
}

/// Tasks and launch plans through the API, workflows as rows with their closures; digests must be Go's.
pub(crate) async fn entities(world: &World) {
    Box::pin(register(world)).await;
}

async fn register(world: &World) {
    let mut entities = recorded("entities.jsonl");
    // Two answers are in order of registration.
    entities.sort_by_key(|entity| match text(entity, "name") {
        "recwf.everything" => 1,
        "recwf.to_dir" => 2,
        _ => 0,
    });
    let square = entities
        .iter()
        .find(|entity| text(entity, "name") == "recwf.square");
    let mut hello = task(square.unwrap());
    let id = hello.id.as_mut().unwrap();
    id.name = "hw.hello".to_owned();
    id.version = "Lxp81uwuQru1kt8HQjlWfA".to_owned();
    create_task(world, hello).await;
    for entity in entities.iter().filter(|entity| entity["kind"] == "tasks") {
        let template = task(entity);
        let id = EntityId::any(template.id.as_ref()).unwrap();
        create_task(world, template).await;
        let mut tx = world.database.read().await.unwrap();
        let task = repository::tasks::get(&mut tx, &id).await.unwrap().unwrap();
        assert_eq!(hex::encode(&task.digest), text(entity, "sha256"), "{id}");
    }
    let first: admin::WorkflowList =
        answered(world, "/api/v1/workflows/flytesnacks/development?limit=2").unwrap();
    insert_workflow(world, first.workflows[0].clone(), Vec::new()).await;
    for workflow in recorded("workflows.jsonl") {
        seed_workflow(world, &workflow).await;
    }
    let first: admin::LaunchPlanList = answered(
        world,
        "/api/v1/launch_plans/flytesnacks/development?limit=2",
    )
    .unwrap();
    let request = admin::LaunchPlanCreateRequest {
        id: first.launch_plans[0].id.clone(),
        spec: first.launch_plans[0].spec.clone(),
    };
    let _answer: admin::LaunchPlanCreateResponse =
        world.admin("CreateLaunchPlan", &request).await.unwrap();
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

fn task(entity: &Value) -> core::TaskTemplate {
    let compiled = core::CompiledTask::decode(decode(text(entity, "proto")).as_slice()).unwrap();
    compiled.template.unwrap()
}

async fn create_task(world: &World, template: core::TaskTemplate) {
    let name = template.id.as_ref().unwrap().name.clone();
    let request = admin::TaskCreateRequest {
        id: template.id.clone(),
        spec: Some(admin::TaskSpec {
            template: Some(template),
            description: Some(admin::DescriptionEntity {
                short_description: short_description(world, "tasks", &name),
                ..Default::default()
            }),
        }),
    };
    let _answer: admin::TaskCreateResponse = world.admin("CreateTask", &request).await.unwrap();
}

/// The line for people that recwf.* of version rec1 was answered with.
fn short_description(world: &World, kind: &str, name: &str) -> String {
    let path = format!("/api/v1/{kind}/flytesnacks/development/{name}/rec1");
    let newest = "/api/v1/tasks/flytesnacks/development?limit=2&sort_by.key=created_at&sort_by.direction=DESCENDING";
    let newest: admin::TaskList = answered(world, newest).unwrap();
    match kind {
        "tasks" => answered::<admin::Task>(world, &path)
            .into_iter()
            .chain(newest.tasks)
            .find(|task| task.id.as_ref().is_some_and(|id| id.name == name))
            .map(|task| task.short_description),
        _ => answered::<admin::Workflow>(world, &path).map(|workflow| workflow.short_description),
    }
    .unwrap_or_default()
}

async fn seed_workflow(world: &World, recorded: &Value) {
    let bytes = decode(text(recorded, "closure"));
    let closure = admin::WorkflowClosure::decode(bytes.as_slice()).unwrap();
    let compiled = closure.compiled_workflow.as_ref().unwrap();
    let template = compiled
        .primary
        .as_ref()
        .unwrap()
        .template
        .as_ref()
        .unwrap();
    let id = template.id.clone();
    let name = &id.as_ref().unwrap().name;
    let workflow = admin::Workflow {
        short_description: short_description(world, "workflows", name),
        id,
        closure: Some(closure),
    };
    insert_workflow(
        world,
        workflow,
        hex::decode(text(recorded, "digest")).unwrap(),
    )
    .await;
}

async fn insert_workflow(world: &World, workflow: admin::Workflow, digest: Vec<u8>) {
    let id = EntityId::expect(workflow.id.as_ref(), ResourceType::Workflow).unwrap();
    let closure_uri = format!(
        "{}/metadata/admin/{}/{}/{}/{}",
        world.blobs.base(),
        id.project,
        id.domain,
        id.name,
        id.version
    );
    let closure = workflow.closure.unwrap();
    let bytes = closure.encode_to_vec();
    world.blobs.put(&closure_uri, bytes.into()).await.unwrap();
    let compiled = closure.compiled_workflow.unwrap().primary.unwrap();
    let record = Workflow {
        row: None,
        id: id.clone(),
        interface: compiled.template.unwrap().interface.map(Stored::new),
        closure_uri,
        digest,
        short_description: workflow.short_description.clone(),
        created_at: None,
    };
    let description = flyte_admin::records::Description {
        id: id.to_proto(),
        short: workflow.short_description,
        long: Some(Stored::new(admin::Description {
            format: admin::DescriptionFormat::Rst.into(),
            ..Default::default()
        })),
        link: String::new(),
    };
    world
        .database
        .write((record, description), |(workflow, description), tx| {
            Box::pin(async move {
                let now = Timestamp::now();
                repository::workflows::insert(tx, workflow, now).await?;
                repository::descriptions::insert(tx, description, now).await
            })
        })
        .await
        .unwrap();
}

/// The answer of the reference to a GET request, its bucket replaced by the one of `world`.
fn answered<M: Message + Name + Default>(world: &World, path: &str) -> Option<M> {
    static ANSWERS: OnceLock<Vec<Value>> = OnceLock::new();
    let answers = ANSWERS.get_or_init(|| recorded("rest.jsonl"));
    let answer = answers.iter().find(|answer| text(answer, "path") == path)?;
    let body = text(&answer["json"], "body").replace(BUCKET, &world.blobs.base());
    Some(json::from_slice(json::Unknown::Refuse, body.as_bytes()).unwrap())
}

/// Rows of the executions: what Go answered where that was recorded, else the bare minimum.
pub(crate) async fn executions(world: &World) {
    for (name, workflow, phase) in EXECUTIONS {
        let path = format!("/api/v1/executions/flytesnacks/development/{name}");
        let answer = answered::<admin::Execution>(world, &path).unwrap_or_else(|| {
            let outputs = format!(
                "{}/metadata/propeller/flytesnacks-development-{name}/end-node/data/0/outputs.pb",
                world.blobs.base()
            );
            let minimum = serde_json::json!({"closure": {"outputs": {"uri": outputs}}});
            json::from_value(json::Unknown::Refuse, &minimum).unwrap()
        });
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
            row: None,
            id: ExecutionId::new("flytesnacks", "development", name).unwrap(),
            launch_plan_row: plan.as_ref().and_then(|plan| plan.row),
            workflow_row: plan.as_ref().and_then(|plan| plan.workflow_row),
            task_row: None,
            phase: phase.into(),
            closure: Stored::new(closure),
            spec: Stored::new(spec),
            started_at: Some(now),
            created_at: Some(now),
            updated_at: Some(now),
            duration: 1_000_000_000,
            abort_cause: String::new(),
            mode: ExecutionMode::Manual,
            source_execution_row: None,
            parent_node_row: None,
            cluster: String::new(),
            inputs_uri: format!(
                "{}/metadata/flytesnacks/development/{name}/inputs",
                world.blobs.base()
            ),
            user_inputs_uri: String::new(),
            error_kind: (phase == "FAILED").then_some(ErrorKind::User),
            error_code: (phase == "FAILED").then(|| "UserError".to_owned()),
            user: String::new(),
            state: ExecutionState::Active,
            launch_entity: Some(LaunchEntity::LaunchPlan),
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
        let mut answer: Option<admin::NodeExecutionList> = answered(world, &path);
        // The newest came first.
        if let Some(answer) = &mut answer {
            answer.node_executions.reverse();
        }
        seed_nodes(world, answer, None).await;
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
    seed_nodes(world, answered(world, sub), row).await;
    for path in [
        "/api/v1/task_executions/flytesnacks/development/rec-dyn/n0?limit=10",
        "/api/v1/task_executions/flytesnacks/development/rec-bindings/n0?limit=10",
        "/api/v1/task_executions/flytesnacks/development/rec-mapped/n0?limit=10",
        "/api/v1/task_executions/flytesnacks/development/rec-policy/n0?limit=10",
        "/api/v1/task_executions/flytesnacks/development/rec-failing/n0?limit=10",
    ] {
        seed_tasks(world, answered(world, path).unwrap()).await;
    }
    let gates = ExecutionId::new("flytesnacks", "development", "rec-gates").unwrap();
    for (signal, simple) in [
        ("value", core::SimpleType::Integer),
        ("ok", core::SimpleType::Boolean),
    ] {
        let signal = Signal {
            execution: gates.clone(),
            signal: signal.to_owned(),
            literal_type: Stored::new(flyte_core::types::simple(simple)),
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
    flyte_admin::time::from_wire(time.as_ref())
}

async fn seed_nodes(
    world: &World,
    answer: Option<admin::NodeExecutionList>,
    parent_row: Option<NodeExecutionRow>,
) {
    let Some(list) = answer else {
        return;
    };
    for node in list.node_executions {
        let closure = node.closure.unwrap();
        let phase = core::node_execution::Phase::try_from(closure.phase).unwrap();
        let dynamic_closure_uri = match &node.metadata {
            Some(metadata) if metadata.is_dynamic => {
                let key = "metadata/admin/flytesnacks/development/rec-dyn/n0/flytesnacks_development_dynamic_n0_2h822w4x57";
                format!("{}/{key}", world.blobs.base())
            }
            _ => String::new(),
        };
        let record = NodeExecution {
            row: None,
            id: NodeExecutionId::from_proto(node.id.as_ref()).unwrap(),
            phase: phase.into(),
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
            dynamic_closure_uri,
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

async fn seed_tasks(world: &World, list: admin::TaskExecutionList) {
    for task in list.task_executions {
        let closure = task.closure.unwrap();
        let phase = core::task_execution::Phase::try_from(closure.phase).unwrap();
        let record = TaskExecution {
            row: None,
            id: TaskExecutionId::from_proto(task.id.as_ref()).unwrap(),
            phase: phase.into(),
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
