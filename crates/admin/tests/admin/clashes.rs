//! Ids that are different and whose names, joined, are one.

use flyte_admin::config::{AdminConfig, NamespaceMappingConfig};
use flyte_idl::admin;
use serde_json::{Value, json};

use crate::{
    executions::{integer, launch},
    harness::{Store, World, code_name, config},
    on_both_databases, seed,
};

on_both_databases!(
    a_folder_has_one_execution,
    of_executions_of_one_folder_that_come_at_once_one_is_created,
    a_resource_of_another_execution_is_not_taken_for_ones_own
);

async fn projects(world: &World, ids: &[&str]) {
    seed::entities(world).await;
    for id in ids {
        let request = json!({"project": {"id": id, "name": id}});
        let _: admin::ProjectRegisterResponse =
            world.get("RegisterProject", &request).await.unwrap();
    }
}

fn request([project, domain, name]: [&str; 3]) -> Value {
    let mut request = launch(name, &json!({"n": integer(3)}));
    request["project"] = json!(project);
    request["domain"] = json!(domain);
    request
}

async fn create(world: &World, id: [&str; 3]) -> Result<(), tonic::Status> {
    let created: admin::ExecutionCreateResponse =
        world.get("CreateExecution", &request(id)).await?;
    assert!(created.id.is_some());
    Ok(())
}

async fn get(world: &World, [project, domain, name]: [&str; 3]) -> admin::Execution {
    let id = json!({"id": {"project": project, "domain": domain, "name": name}});
    world.get("GetExecution", &id).await.unwrap()
}

async fn a_folder_has_one_execution(store: Store) {
    let world = World::start(store).await;
    projects(&world, &["x", "x-development"]).await;
    create(&world, ["x-development", "development", "yy"])
        .await
        .unwrap();
    for other in [
        ["x", "development", "development-zz"],
        ["x", "development", "yy"],
        ["x-development", "staging", "yy"],
        ["x-development", "development", "y-y"],
    ] {
        create(&world, other).await.unwrap();
    }
    let status = create(&world, ["x", "development", "development-yy"])
        .await
        .unwrap_err();
    assert_eq!(code_name(status.code()), "FAILED_PRECONDITION");
    assert_eq!(
        status.message(),
        "execution x:development:development-yy would write into folder x-development-development-yy of execution \
         x-development:development:yy, whose outputs it would overwrite: folders are named <project>-<domain>-<name>; \
         choose another name"
    );
    // A repeat of the first is what it always was.
    let status = create(&world, ["x-development", "development", "yy"])
        .await
        .unwrap_err();
    assert_eq!(code_name(status.code()), "ALREADY_EXISTS");
}

async fn of_executions_of_one_folder_that_come_at_once_one_is_created(store: Store) {
    let world = World::start(store).await;
    projects(&world, &["x", "x-development"]).await;
    for number in 0..8 {
        let (long, short) = (format!("development-a{number}"), format!("a{number}"));
        let answers = futures::future::join(
            create(&world, ["x", "development", &long]),
            create(&world, ["x-development", "development", &short]),
        )
        .await;
        let mut codes = [answers.0, answers.1]
            .map(|answer| answer.map_or_else(|status| code_name(status.code()), |()| "OK"));
        codes.sort_unstable();
        assert_eq!(codes, ["FAILED_PRECONDITION", "OK"]);
    }
}

async fn a_resource_of_another_execution_is_not_taken_for_ones_own(store: Store) {
    let config = AdminConfig {
        namespace_mapping: NamespaceMappingConfig {
            template: "{{ project }}".to_owned(),
            ..NamespaceMappingConfig::default()
        },
        ..config()
    };
    let world = World::start_with(store, config).await;
    projects(&world, &["x"]).await;
    let (development, staging) = (["x", "development", "same"], ["x", "staging", "same"]);
    create(&world, staging).await.unwrap();
    world.cluster.forget("x", "same").await;
    create(&world, development).await.unwrap();
    let before = world.cluster.workflow("x", "same").await.unwrap();
    assert_eq!(before["executionId"]["domain"], "development");

    let mut terminate = json!({"id": {"project": "x", "domain": "staging", "name": "same"}});
    terminate["cause"] = json!("enough");
    let _: admin::ExecutionTerminateResponse =
        world.get("TerminateExecution", &terminate).await.unwrap();
    let phase = get(&world, staging).await.closure.unwrap().phase();
    assert_eq!(phase.as_str_name(), "ABORTED");
    let after = world.cluster.workflow("x", "same").await;
    assert_eq!(after.as_ref(), Some(&before), "it is another's");

    let production = ["x", "production", "same"];
    create(&world, production).await.unwrap();
    let closure = get(&world, production).await.closure.unwrap();
    assert_eq!(closure.phase().as_str_name(), "FAILED");
    let Some(admin::execution_closure::OutputResult::Error(error)) = closure.output_result else {
        panic!("no error");
    };
    assert_eq!(
        error.message,
        "failed to create workflow in propeller: execution x:development:same has the workflow resource same of namespace \
         x, which namespace_mapping.template gives to both; choose another name"
    );
    assert_eq!(world.cluster.workflow("x", "same").await, Some(before));
}
