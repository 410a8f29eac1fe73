//! Launch plans: one active version per name.

use flyte_idl::admin;
use serde_json::json;

use crate::{
    harness::{Store, World},
    on_both_databases, seed,
};

on_both_databases!(at_most_one_version_of_a_name_is_active);

async fn at_most_one_version_of_a_name_is_active(store: Store) {
    let world = World::start(store).await;
    seed::entities(&world).await;
    let id = |version: &str| json!({"resource_type": "LAUNCH_PLAN", "project": "flytesnacks", "domain": "development", "name": "many", "version": version});
    for version in ["v1", "v2", "v3", "v4"] {
        let request = json!({"id": id(version), "spec": {
            "workflow_id": {"resource_type": "WORKFLOW", "project": "flytesnacks", "domain": "development", "name": "recwf.sub", "version": "rec1"},
            "default_inputs": {"parameters": {"n": {"var": {"type": {"simple": "INTEGER"}}, "default": {"scalar": {"primitive": {"integer": "1"}}}}}},
            "entity_metadata": {"schedule": {"cron_schedule": {"schedule": "@daily"}}},
        }});
        let _: admin::LaunchPlanCreateResponse =
            world.get("CreateLaunchPlan", &request).await.unwrap();
    }
    let requests: Vec<_> = ["v1", "v2", "v3", "v4", "v1"]
        .iter()
        .map(|version| json!({"id": id(version), "state": "ACTIVE"}))
        .collect();
    let activations = requests
        .iter()
        .map(|request| world.get::<admin::LaunchPlanUpdateResponse>("UpdateLaunchPlan", request));
    for answer in futures::future::join_all(activations).await {
        answer.unwrap();
    }
    let active: admin::LaunchPlanList = world
        .get(
            "ListActiveLaunchPlans",
            &json!({"project": "flytesnacks", "domain": "development", "limit": 10}),
        )
        .await
        .unwrap();
    assert_eq!(active.launch_plans.len(), 1);
    let version = active.launch_plans[0].id.as_ref().unwrap().version.clone();
    let _: admin::LaunchPlanUpdateResponse = world
        .get(
            "UpdateLaunchPlan",
            &json!({"id": id(&version), "state": "INACTIVE"}),
        )
        .await
        .unwrap();
    let status = world
        .get::<admin::LaunchPlan>(
            "GetActiveLaunchPlan",
            &json!({"id": {"project": "flytesnacks", "domain": "development", "name": "many"}}),
        )
        .await
        .unwrap_err();
    assert_eq!(
        status.message(),
        "No active launch plan could be found: flytesnacks:development:many"
    );
}
