//! Executions from creation to their end.

use std::time::Duration;

use flyte_idl::admin;
use flyte_platform::sql::DbError;
use sea_query::{Expr, ExprTrait as _, Query};
use serde_json::{Value, json};

use crate::{
    harness::{Store, World, code_name},
    on_both_databases, seed,
};

on_both_databases!(
    an_execution_of_a_launch_plan_makes_its_resource,
    a_single_task_runs_in_a_workflow_of_its_own,
    a_name_is_taken_once,
    a_resource_that_is_refused_fails_the_execution_of_a_launch_plan,
    a_resource_that_is_refused_gives_back_the_name_of_a_task,
    a_creation_whose_answer_is_lost_is_made_once,
    a_creation_while_the_cluster_is_away_is_finished_later,
    an_abandoned_reservation_is_finished,
    the_repeat_of_an_interrupted_creation_completes_it,
    rows_that_need_nothing_never_keep_the_reconciler_from_others,
    a_client_that_leaves_does_not_interrupt_its_execution,
    termination_without_a_resource_ends_the_execution,
    a_relaunch_repeats_the_inputs_of_the_user,
    labels_of_executions_are_found_by_tag_filters,
    every_project_and_domain_has_its_namespace,
    a_project_is_usable_before_the_next_round_of_the_resource_loop,
    values_of_a_newer_version_survive
);

fn plan(name: &str) -> Value {
    json!({"resource_type": "LAUNCH_PLAN", "project": "flytesnacks", "domain": "development", "name": name, "version": "rec1"})
}

pub(crate) fn launch(name: &str, inputs: &Value) -> Value {
    json!({
        "project": "flytesnacks", "domain": "development", "name": name,
        "spec": {"launch_plan": plan("recwf.sub"), "metadata": {}},
        "inputs": {"literals": inputs},
    })
}

pub(crate) fn integer(value: i64) -> Value {
    json!({"scalar": {"primitive": {"integer": value.to_string()}}})
}

fn id(name: &str) -> Value {
    json!({"id": {"project": "flytesnacks", "domain": "development", "name": name}})
}

const NAMESPACE: &str = "flytesnacks-development";

async fn phase(world: &World, name: &str) -> String {
    let execution: admin::Execution = world.get("GetExecution", &id(name)).await.unwrap();
    execution.closure.unwrap().phase().as_str_name().to_owned()
}

async fn an_execution_of_a_launch_plan_makes_its_resource(store: Store) {
    let world = World::start(store).await;
    seed::entities(&world).await;
    let created: admin::ExecutionCreateResponse = world
        .get("CreateExecution", &launch("e1", &json!({"n": integer(3)})))
        .await
        .unwrap();
    assert_eq!(created.id.unwrap().name, "e1");
    let resource = world.cluster.workflow(NAMESPACE, "e1").await.unwrap();
    assert_eq!(resource["kind"], "FlyteWorkflow");
    assert_eq!(
        resource["metadata"]["finalizers"],
        json!(["flyte.org/finalizer"])
    );
    assert_eq!(resource["metadata"]["labels"]["execution-id"], "e1");
    assert_eq!(
        resource["executionId"],
        json!({"project": "flytesnacks", "domain": "development", "name": "e1"})
    );
    assert_eq!(resource["inputs"]["literals"]["n"], integer(3));
    assert_eq!(resource["executionConfig"]["MaxParallelism"], 25);
    assert_eq!(
        resource["executionConfig"]["TaskResources"]["Limits"]["Memory"],
        "4Gi"
    );
    assert_eq!(resource["securityContext"], json!({"run_as": {}}));
    let execution: admin::Execution = world.get("GetExecution", &id("e1")).await.unwrap();
    let metadata = execution.spec.unwrap().metadata.unwrap();
    assert_eq!(metadata.system_metadata.unwrap().namespace, NAMESPACE);
    let data: admin::WorkflowExecutionGetDataResponse =
        world.get("GetExecutionData", &id("e1")).await.unwrap();
    assert_eq!(data.full_inputs.unwrap().literals.len(), 1);
    assert!(data.full_outputs.is_some());
    let generated: admin::ExecutionCreateResponse = world
        .get("CreateExecution", &launch("", &json!({"n": integer(3)})))
        .await
        .unwrap();
    assert_eq!(generated.id.unwrap().name.len(), 20);
}

async fn a_single_task_runs_in_a_workflow_of_its_own(store: Store) {
    let world = World::start(store).await;
    seed::entities(&world).await;
    let mut request = launch("t1", &json!({"x": integer(3)}));
    request["spec"]["launch_plan"] = json!({"resource_type": "TASK", "project": "flytesnacks", "domain": "development", "name": "recwf.square", "version": "rec1"});
    let task: admin::Task = world
        .get("GetTask", &json!({"id": request["spec"]["launch_plan"]}))
        .await
        .unwrap();
    let interface = task
        .closure
        .unwrap()
        .compiled_task
        .unwrap()
        .template
        .unwrap()
        .interface
        .unwrap();
    let input = interface
        .inputs
        .unwrap()
        .variables
        .into_keys()
        .next()
        .unwrap();
    request["inputs"]["literals"] = json!({input: integer(3)});
    for name in ["t1", "t2"] {
        request["name"] = json!(name);
        let _: admin::ExecutionCreateResponse =
            world.get("CreateExecution", &request).await.unwrap();
    }
    let resource = world.cluster.workflow(NAMESPACE, "t2").await.unwrap();
    assert_eq!(resource["spec"]["nodes"]["recwfsquare"]["kind"], "task");
    let execution: admin::Execution = world.get("GetExecution", &id("t1")).await.unwrap();
    let reference = execution.spec.unwrap().launch_plan.unwrap();
    assert_eq!(reference.resource_type().as_str_name(), "TASK");
    let names: admin::NamedEntityList = world
        .get("ListNamedEntities", &json!({"resource_type": "WORKFLOW", "project": "flytesnacks", "domain": "development", "limit": 100, "filters": "eq(state,2)"}))
        .await
        .unwrap();
    assert_eq!(
        names.entities[0].id.as_ref().unwrap().name,
        ".flytegen.recwf.square"
    );
}

async fn a_name_is_taken_once(store: Store) {
    let world = World::start(store).await;
    seed::entities(&world).await;
    let rpc = "flyteidl.service.AdminService/CreateExecution";
    let requests: Vec<Value> = (0..6)
        .map(|number| launch("same", &json!({"n": integer(number)})))
        .collect();
    let answers =
        futures::future::join_all(requests.iter().map(|request| world.call(rpc, request))).await;
    let codes: Vec<_> = answers
        .iter()
        .map(|answer| {
            answer
                .as_ref()
                .map_or_else(|status| code_name(status.code()), |_| "OK")
        })
        .collect();
    let winner = codes.iter().position(|code| *code == "OK").unwrap();
    assert_eq!(
        codes
            .iter()
            .filter(|code| **code == "ALREADY_EXISTS")
            .count(),
        5,
        "{codes:?}"
    );
    // The losers wrote nothing over the winner's inputs.
    let resource = world.cluster.workflow(NAMESPACE, "same").await.unwrap();
    let number = i64::try_from(winner).unwrap();
    assert_eq!(resource["inputs"]["literals"]["n"], integer(number));
    let data: admin::WorkflowExecutionGetDataResponse =
        world.get("GetExecutionData", &id("same")).await.unwrap();
    let literal = data.full_inputs.unwrap().literals.remove("n").unwrap();
    let expected: flyte_idl::core::Literal =
        flyte_idl::json::from_value(flyte_idl::json::Unknown::Refuse, &integer(number)).unwrap();
    assert_eq!(literal, expected);
}

async fn a_resource_that_is_refused_fails_the_execution_of_a_launch_plan(store: Store) {
    let world = World::start(store).await;
    seed::entities(&world).await;
    world.cluster.refuse(Some((422, "bad annotation")));
    let _: admin::ExecutionCreateResponse = world
        .get(
            "CreateExecution",
            &launch("refused", &json!({"n": integer(3)})),
        )
        .await
        .unwrap();
    let execution: admin::Execution = world.get("GetExecution", &id("refused")).await.unwrap();
    let closure = execution.closure.unwrap();
    assert_eq!(closure.phase().as_str_name(), "FAILED");
    let Some(admin::execution_closure::OutputResult::Error(error)) = closure.output_result else {
        panic!("no error");
    };
    assert_eq!(error.code, "Internal");
    assert_eq!(
        error.message,
        "failed to create workflow in propeller bad annotation"
    );
    assert_eq!(error.kind().as_str_name(), "SYSTEM");
    let list: admin::ExecutionList = world
        .get("ListExecutions", &json!({"id": {"project": "flytesnacks", "domain": "development"}, "limit": 5, "filters": "eq(error_kind,SYSTEM)"}))
        .await
        .unwrap();
    assert_eq!(list.executions.len(), 1);
}

async fn a_resource_that_is_refused_gives_back_the_name_of_a_task(store: Store) {
    let world = World::start(store).await;
    let task = json!({"resource_type": "TASK", "project": "flytesnacks", "domain": "development", "name": "plain", "version": "v"});
    let register = json!({"id": task, "spec": {"template": {
        "type": "python-task", "metadata": {"runtime": {"version": "1"}}, "interface": {},
        "container": {"image": "i", "args": ["x"]},
    }}});
    let _: admin::TaskCreateResponse = world.get("CreateTask", &register).await.unwrap();
    let request = json!({"project": "flytesnacks", "domain": "development", "name": "again", "spec": {"launch_plan": task}});
    world.cluster.refuse(Some((403, "forbidden")));
    let status = world
        .get::<admin::ExecutionCreateResponse>("CreateExecution", &request)
        .await
        .unwrap_err();
    assert_eq!(
        status.message(),
        "failed to create workflow in propeller forbidden"
    );
    world.cluster.refuse(None);
    let _: admin::ExecutionCreateResponse = world.get("CreateExecution", &request).await.unwrap();
    assert!(world.cluster.workflow(NAMESPACE, "again").await.is_some());
}

async fn a_creation_whose_answer_is_lost_is_made_once(store: Store) {
    let world = World::start(store).await;
    seed::entities(&world).await;
    world.cluster.lose_answers(2);
    let request = launch("lost", &json!({"n": integer(3)}));
    let _: admin::ExecutionCreateResponse = world.get("CreateExecution", &request).await.unwrap();
    let execution: admin::Execution = world.get("GetExecution", &id("lost")).await.unwrap();
    assert_eq!(
        execution.closure.unwrap().phase().as_str_name(),
        "UNDEFINED"
    );
    assert!(world.cluster.workflow(NAMESPACE, "lost").await.is_some());
}

/// Of a launch plan and of a single task: both keep their name, and run when the cluster is back.
async fn a_creation_while_the_cluster_is_away_is_finished_later(store: Store) {
    let world = World::start(store).await;
    seed::entities(&world).await;
    let task = json!({"resource_type": "TASK", "project": "flytesnacks", "domain": "development", "name": "plain", "version": "v"});
    let register = json!({"id": task, "spec": {"template": {
        "type": "python-task", "metadata": {"runtime": {"version": "1"}}, "interface": {},
        "container": {"image": "i", "args": ["x"]},
    }}});
    let _: admin::TaskCreateResponse = world.get("CreateTask", &register).await.unwrap();
    world
        .cluster
        .refuse(Some((503, "the server is currently unable")));
    let of_plan = launch("plan", &json!({"n": integer(3)}));
    let of_task = json!({"project": "flytesnacks", "domain": "development", "name": "task", "spec": {"launch_plan": task}});
    let created = futures::future::try_join(
        world.get::<admin::ExecutionCreateResponse>("CreateExecution", &of_plan),
        world.get::<admin::ExecutionCreateResponse>("CreateExecution", &of_task),
    );
    created.await.unwrap();
    world.cluster.refuse(None);
    assert_eq!(world.replica().reconcile(Duration::ZERO).await.unwrap(), 2);
    for name in ["plan", "task"] {
        let execution: admin::Execution = world.get("GetExecution", &id(name)).await.unwrap();
        let phase = execution.closure.unwrap().phase();
        assert_eq!(phase.as_str_name(), "UNDEFINED", "{name}");
        let resource = world.cluster.workflow(NAMESPACE, name).await;
        assert!(resource.is_some(), "{name}");
    }
}

async fn an_abandoned_reservation_is_finished(store: Store) {
    let world = World::start(store).await;
    seed::entities(&world).await;
    let _: admin::ExecutionCreateResponse = world
        .get(
            "CreateExecution",
            &launch("lost", &json!({"n": integer(3)})),
        )
        .await
        .unwrap();
    let before = world.cluster.workflow(NAMESPACE, "lost").await.unwrap();
    // As if the process had died between row and resource.
    world.cluster.forget(NAMESPACE, "lost").await;
    assert_eq!(world.replica().reconcile(Duration::ZERO).await.unwrap(), 1);
    assert_eq!(
        world.cluster.workflow(NAMESPACE, "lost").await.unwrap(),
        before
    );
}

async fn the_repeat_of_an_interrupted_creation_completes_it(store: Store) {
    let world = World::start(store).await;
    seed::entities(&world).await;
    let request = launch("lost", &json!({"n": integer(3)}));
    let create = async |world: &World, request: &Value| {
        let created = world
            .get::<admin::ExecutionCreateResponse>("CreateExecution", request)
            .await;
        created.map_or_else(|status| code_name(status.code()), |_| "OK")
    };
    assert_eq!(create(&world, &request).await, "OK");
    let before = world.cluster.workflow(NAMESPACE, "lost").await.unwrap();
    assert_eq!(create(&world, &request).await, "ALREADY_EXISTS");
    // As if the process had died between row and resource.
    world.cluster.forget(NAMESPACE, "lost").await;
    let other = launch("lost", &json!({"n": integer(4)}));
    assert_eq!(create(&world, &other).await, "ALREADY_EXISTS");
    assert!(world.cluster.workflow(NAMESPACE, "lost").await.is_none());
    assert_eq!(create(&world, &request).await, "OK");
    assert_eq!(
        world.cluster.workflow(NAMESPACE, "lost").await.unwrap(),
        before
    );
    // Versions that wrote the inputs after the row left rows without.
    let data: admin::WorkflowExecutionGetDataResponse =
        world.get("GetExecutionData", &id("lost")).await.unwrap();
    for file in ["inputs", "user_inputs"] {
        let base = world.blobs.base();
        let uri = format!("{base}/metadata/flytesnacks/development/lost/{file}");
        assert!(world.blobs.exists(&uri).await.unwrap());
        world.blobs.delete(&uri).await.unwrap();
    }
    world.cluster.forget(NAMESPACE, "lost").await;
    assert_eq!(create(&world, &request).await, "OK");
    assert_eq!(
        world.cluster.workflow(NAMESPACE, "lost").await.unwrap(),
        before
    );
    let again: admin::WorkflowExecutionGetDataResponse =
        world.get("GetExecutionData", &id("lost")).await.unwrap();
    assert_eq!(again.full_inputs, data.full_inputs);
}

async fn rows_that_need_nothing_never_keep_the_reconciler_from_others(store: Store) {
    let world = World::start(store).await;
    seed::entities(&world).await;
    for number in 0..121 {
        let request = launch(&format!("e{number}"), &json!({"n": integer(3)}));
        let _: admin::ExecutionCreateResponse =
            world.get("CreateExecution", &request).await.unwrap();
    }
    world.cluster.forget(NAMESPACE, "e120").await;
    assert_eq!(world.admin.reconcile(Duration::ZERO).await.unwrap(), 121);
    assert!(world.cluster.workflow(NAMESPACE, "e120").await.is_some());
}

async fn termination_without_a_resource_ends_the_execution(store: Store) {
    let world = World::start(store).await;
    seed::entities(&world).await;
    for name in ["running", "gone"] {
        let _: admin::ExecutionCreateResponse = world
            .get("CreateExecution", &launch(name, &json!({"n": integer(3)})))
            .await
            .unwrap();
    }
    world.cluster.forget(NAMESPACE, "gone").await;
    for name in ["running", "gone"] {
        let mut request = id(name);
        request["cause"] = json!("enough");
        let _: admin::ExecutionTerminateResponse =
            world.get("TerminateExecution", &request).await.unwrap();
    }
    assert_eq!(phase(&world, "running").await, "ABORTING");
    // The engine's finalizer keeps it until the engine has cleaned up.
    let running = world.cluster.workflow(NAMESPACE, "running").await.unwrap();
    assert!(running["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(phase(&world, "gone").await, "ABORTED");
    let execution: admin::Execution = world.get("GetExecution", &id("gone")).await.unwrap();
    let Some(admin::execution_closure::OutputResult::AbortMetadata(abort)) =
        execution.closure.unwrap().output_result
    else {
        panic!("no abort metadata");
    };
    assert_eq!(abort.cause, "enough");
}

async fn a_relaunch_repeats_the_inputs_of_the_user(store: Store) {
    let world = World::start(store).await;
    seed::entities(&world).await;
    let _: admin::ExecutionCreateResponse = world
        .get(
            "CreateExecution",
            &launch("first", &json!({"n": integer(9)})),
        )
        .await
        .unwrap();
    let mut request = id("first");
    request["name"] = json!("second");
    let _: admin::ExecutionCreateResponse = world.get("RelaunchExecution", &request).await.unwrap();
    let resource = world.cluster.workflow(NAMESPACE, "second").await.unwrap();
    assert_eq!(resource["inputs"]["literals"]["n"], integer(9));
    let execution: admin::Execution = world.get("GetExecution", &id("second")).await.unwrap();
    let metadata = execution.spec.unwrap().metadata.unwrap();
    assert_eq!(metadata.mode().as_str_name(), "RELAUNCH");
    assert_eq!(metadata.reference_execution.unwrap().name, "first");
}

async fn labels_of_executions_are_found_by_tag_filters(store: Store) {
    let world = World::start(store).await;
    seed::entities(&world).await;
    let mut request = launch("tagged", &json!({"n": integer(1)}));
    request["spec"]["labels"] = json!({"values": {"team": "red", "stage": "two"}});
    request["spec"]["tags"] = json!(["nightly"]);
    let _: admin::ExecutionCreateResponse = world.get("CreateExecution", &request).await.unwrap();
    for (filters, found) in [
        ("eq(execution_tag.key,team)", 1),
        ("eq(execution_tag.key,team)+eq(execution_tag.value,red)", 1),
        ("eq(execution_tag.key,team)+eq(execution_tag.value,two)", 0),
        ("eq(admin_tag.name,nightly)", 1),
        ("ne(execution_tag.value,zz)", 1),
    ] {
        let list: admin::ExecutionList = world
            .get("ListExecutions", &json!({"id": {"project": "flytesnacks", "domain": "development"}, "limit": 5, "filters": filters}))
            .await
            .unwrap();
        assert_eq!(list.executions.len(), found, "{filters}");
    }
    assert_eq!(
        world.cluster.workflow(NAMESPACE, "tagged").await.unwrap()["metadata"]["labels"]["team"],
        "red"
    );
}

async fn every_project_and_domain_has_its_namespace(store: Store) {
    let world = World::start(store).await;
    assert_eq!(
        world.cluster.namespaces().await,
        [
            "flytesnacks-development",
            "flytesnacks-domain",
            "flytesnacks-production",
            "flytesnacks-staging"
        ]
    );
    let _: admin::ProjectRegisterResponse = world
        .get(
            "RegisterProject",
            &json!({"project": {"id": "new", "name": "New"}}),
        )
        .await
        .unwrap();
    let _: admin::ProjectUpdateResponse = world
        .get(
            "UpdateProject",
            &json!({"id": "flytesnacks", "state": "ARCHIVED"}),
        )
        .await
        .unwrap();
    world.admin.sync_cluster_resources().await.unwrap();
    assert!(
        world
            .cluster
            .namespaces()
            .await
            .contains(&"new-staging".to_owned())
    );
    let status = world
        .get::<admin::ExecutionCreateResponse>("CreateExecution", &launch("x", &json!({})))
        .await
        .unwrap_err();
    assert_eq!(status.message(), "project [flytesnacks] is not active");
}

async fn a_project_is_usable_before_the_next_round_of_the_resource_loop(store: Store) {
    let world = World::start(store).await;
    seed::entities(&world).await;
    let _: admin::ProjectRegisterResponse = world
        .get(
            "RegisterProject",
            &json!({"project": {"id": "fresh", "name": "Fresh"}}),
        )
        .await
        .unwrap();
    let mut request = launch("early", &json!({"n": integer(3)}));
    request["project"] = json!("fresh");
    let _: admin::ExecutionCreateResponse = world.get("CreateExecution", &request).await.unwrap();
    assert!(
        world
            .cluster
            .workflow("fresh-development", "early")
            .await
            .is_some()
    );
}

async fn a_client_that_leaves_does_not_interrupt_its_execution(store: Store) {
    let world = World::start(store).await;
    seed::entities(&world).await;
    let request = launch("left", &json!({"n": integer(3)}));
    {
        let call = world.call("flyteidl.service.AdminService/CreateExecution", &request);
        futures::pin_mut!(call);
        assert!(futures::poll!(call.as_mut()).is_pending());
    }
    let finished = world.cluster.submitted(NAMESPACE, "left");
    tokio::time::timeout(Duration::from_secs(20), finished)
        .await
        .unwrap();
}

/// Phases, modes and the like of a newer Flyte: what is not known is listed, and written back as it was.
async fn values_of_a_newer_version_survive(store: Store) {
    let world = World::start(store).await;
    seed::entities(&world).await;
    let request = launch("newer", &json!({"n": integer(3)}));
    let _: admin::ExecutionCreateResponse = world.get("CreateExecution", &request).await.unwrap();
    let newer = Query::update()
        .table("executions")
        .value("phase", "PAUSED")
        .value("mode", 42)
        .value("error_kind", "NETWORK")
        .value("launch_entity", "agent")
        .and_where(Expr::col("execution_name").eq("newer"))
        .to_owned();
    world
        .database
        .write::<_, _, (), DbError>(newer, |newer, tx| {
            Box::pin(async move { tx.execute(newer).await.map(drop) })
        })
        .await
        .unwrap();
    let list = json!({"id": {"project": "flytesnacks", "domain": "development"}, "limit": 5});
    let found: admin::ExecutionList = world.get("ListExecutions", &list).await.unwrap();
    assert_eq!(found.executions.len(), 1);
    let mut archive = id("newer");
    archive["state"] = json!("EXECUTION_ARCHIVED");
    let _: admin::ExecutionUpdateResponse = world.get("UpdateExecution", &archive).await.unwrap();
    let mut tx = world.database.read().await.unwrap();
    let select = Query::select()
        .columns(["phase", "mode", "error_kind", "launch_entity", "state"])
        .from("executions")
        .to_owned();
    let row = tx.fetch_optional(&select).await.unwrap().unwrap();
    let texts = ["phase", "error_kind", "launch_entity"].map(|column| row.text(column).unwrap());
    assert_eq!(texts, ["PAUSED", "NETWORK", "agent"]);
    let numbers = ["mode", "state"].map(|column| row.integer(column).unwrap());
    assert_eq!(numbers, [42, 1]);
}
