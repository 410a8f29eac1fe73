//! Configuration that changes while admin runs (spec 07 §1.9).

use std::{path::Path, time::Duration};

use flyte_admin::{
    cli,
    config::{AdminConfig, LiveConfig},
};
use flyte_platform::{
    Tasks,
    config::{Config, Reload, Sources},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    harness::{Store, World},
    on_both_databases,
};

on_both_databases!(changed_files_are_heard_without_a_restart);

fn write(file: &Path, domains: &[&str], cpu: &str) {
    let domains: Vec<_> = domains
        .iter()
        .map(|id| json!({"id": id, "name": id}))
        .collect();
    let text = json!({
        "domains": domains,
        "task_resources": {"limits": {"cpu": cpu, "memory": "1Gi"}},
    });
    std::fs::write(file, text.to_string()).unwrap();
}

fn task(version: &str) -> serde_json::Value {
    json!({
        "id": {"resource_type": "TASK", "project": "flytesnacks", "domain": "development", "name": "t", "version": version},
        "spec": {"template": {
            "type": "python-task",
            "metadata": {"runtime": {"type": "FLYTE_SDK", "version": "1", "flavor": "python"}},
            "interface": {},
            "container": {
                "image": "i", "args": ["x"],
                "resources": {"requests": [{"name": "CPU", "value": "3"}], "limits": [{"name": "CPU", "value": "3"}]},
            },
        }},
    })
}

async fn changed_files_are_heard_without_a_restart(store: Store) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("admin.json");
    write(&file, &["development"], "2");
    let sources = Sources {
        pattern: file.display().to_string(),
        ..Sources::default()
    };
    let mut config = Config::load(sources).unwrap();
    let begin = AdminConfig::read(&mut config);
    let mut reload = Reload::new(&config, cli::sections().decoders()).unwrap();
    config.finish().unwrap();
    let mut live = LiveConfig::following(begin, &mut reload);
    let world = World::start_with(store, live.clone()).await;
    let stop = CancellationToken::new();
    let mut tasks = Tasks::new(stop.clone());
    tasks.spawn_infallible("configuration", reload.run(stop.child_token()));
    world.admin.spawn(&mut tasks);
    let register = |version| {
        let request = task(version);
        let world = &world;
        async move {
            world
                .call("flyteidl.service.AdminService/CreateTask", &request)
                .await
        }
    };
    assert!(register("before").await.is_err(), "3 CPUs of 2");

    write(&file, &["development", "research"], "4");
    let all = live
        .becomes(|config| config.domains.0.len() == 2 && config.task_resources.limits.cpu == "4");
    let changed = tokio::time::timeout(Duration::from_secs(60), all);
    changed.await.expect("the change is heard");

    register("after").await.unwrap();
    let domains: serde_json::Value = {
        let answer = world
            .call("flyteidl.service.AdminService/GetDomains", &json!({}))
            .await
            .unwrap();
        serde_json::to_value(answer).unwrap()
    };
    assert!(domains.to_string().contains("research"), "{domains}");
    let research = "flytesnacks-research";
    let made = tokio::time::timeout(Duration::from_secs(60), world.cluster.made(research));
    made.await.expect("the new domain gets its namespace");
    stop.cancel();
}
