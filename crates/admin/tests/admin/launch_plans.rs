//! Launch plans: one active version per name.

use flyte_idl::admin;
use sea_query::{Alias, Expr, ExprTrait as _, Query};
use serde_json::{Value, json};

use crate::{
    harness::{Store, World},
    on_both_databases, seed,
};

on_both_databases!(
    at_most_one_version_of_a_name_is_active,
    a_plan_and_its_schedule_are_active_together
);

fn id(version: &str) -> Value {
    json!({"resource_type": "LAUNCH_PLAN", "project": "flytesnacks", "domain": "development", "name": "many", "version": version})
}

async fn scheduled(world: &World, versions: &[&str]) {
    for version in versions {
        let request = json!({"id": id(version), "spec": {
            "workflow_id": {"resource_type": "WORKFLOW", "project": "flytesnacks", "domain": "development", "name": "recwf.sub", "version": "rec1"},
            "default_inputs": {"parameters": {"n": {"var": {"type": {"simple": "INTEGER"}}, "default": {"scalar": {"primitive": {"integer": "1"}}}}}},
            "entity_metadata": {"schedule": {"cron_schedule": {"schedule": "@daily"}}},
        }});
        let _: admin::LaunchPlanCreateResponse =
            world.get("CreateLaunchPlan", &request).await.unwrap();
    }
}

/// A plan is one row and its schedule another.
async fn a_plan_and_its_schedule_are_active_together(store: Store) {
    let world = World::start(store).await;
    seed::entities(&world).await;
    scheduled(&world, &["v1"]).await;
    let flag = |table: &'static str, flag: &'static str| {
        Query::select()
            .expr_as(Expr::cust(flag), Alias::new("flag"))
            .from(Alias::new(table))
            .and_where(Expr::col(Alias::new("name")).eq("many"))
            .take()
    };
    for round in 0..40 {
        let requests: Vec<_> = ["ACTIVE", "INACTIVE", "ACTIVE", "INACTIVE"]
            .iter()
            .map(|state| json!({"id": id("v1"), "state": state}))
            .collect();
        let updates = requests.iter().map(|request| {
            world.get::<admin::LaunchPlanUpdateResponse>("UpdateLaunchPlan", request)
        });
        for answer in futures::future::join_all(updates).await {
            answer.unwrap();
        }
        let mut tx = world.database.read().await.unwrap();
        let plan = tx
            .fetch_optional(&flag(
                "launch_plans",
                "CASE WHEN state = 1 THEN 1 ELSE 0 END",
            ))
            .await
            .unwrap();
        let schedule = tx
            .fetch_optional(&flag(
                "schedulable_entities",
                "CASE WHEN active THEN 1 ELSE 0 END",
            ))
            .await
            .unwrap();
        let of =
            |row: Option<flyte_platform::sql::Row>| row.map(|row| row.integer("flag").unwrap());
        assert_eq!(of(plan), of(schedule), "round {round}");
    }
}

async fn at_most_one_version_of_a_name_is_active(store: Store) {
    let world = World::start(store).await;
    seed::entities(&world).await;
    scheduled(&world, &["v1", "v2", "v3", "v4"]).await;
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
