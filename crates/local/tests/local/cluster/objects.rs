//! Writing and reading single objects: identity, defaults, conflicts, status, refusals.

use flyte_local::cluster::{Cluster, ClusterOptions, NoStore};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use serde_json::{Value, json};

use crate::cluster::{cluster, code, config, costs::worked, define_workflows, object, pod, raw};

#[tokio::test]
async fn a_created_object_has_identity_and_defaults() {
    let client = cluster().await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let created = pods
        .create(&PostParams::default(), &pod("a"))
        .await
        .unwrap();
    assert!(created.uid().is_some() && created.creation_timestamp().is_some());
    assert_eq!(created.metadata.generation, Some(1));
    let spec = created.spec.as_ref().unwrap();
    assert_eq!(spec.restart_policy.as_deref(), Some("Always"));
    assert_eq!(spec.termination_grace_period_seconds, Some(30));
    assert_eq!(
        spec.containers[0].image_pull_policy.as_deref(),
        Some("Always")
    );
    let requests = spec.containers[0]
        .resources
        .as_ref()
        .unwrap()
        .requests
        .as_ref()
        .unwrap();
    assert_eq!(requests["cpu"].0, "1");
    let status = created.status.as_ref().unwrap();
    assert_eq!(
        (status.phase.as_deref(), status.qos_class.as_deref()),
        (Some("Pending"), Some("Guaranteed"))
    );
    assert_eq!(pods.get("a").await.unwrap(), created);
}

#[tokio::test]
async fn refusals_have_the_codes_and_words_of_kubernetes() {
    let client = cluster().await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    maps.create(&PostParams::default(), &config("a", &[]))
        .await
        .unwrap();
    let absent: Api<ConfigMap> = Api::namespaced(client.clone(), "absent");
    let mut foreign = config("b", &[]);
    foreign.metadata.namespace = Some("other".to_owned());
    let mut versioned = config("b", &[]);
    versioned.metadata.resource_version = Some("7".to_owned());
    let large = "x".repeat(1_600_000);
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let mut no_containers = pod("p");
    no_containers.spec.as_mut().unwrap().containers.clear();
    let post = PostParams::default();
    for (case, result, expected, words) in [
        (
            "twice",
            code(maps.create(&post, &config("a", &[])).await),
            409,
            "configmaps \"a\" already exists",
        ),
        (
            "missing",
            code(maps.get("b").await),
            404,
            "configmaps \"b\" not found",
        ),
        (
            "missing namespace",
            code(absent.create(&post, &config("a", &[])).await),
            404,
            "namespaces \"absent\" not found",
        ),
        (
            "other namespace",
            code(maps.create(&post, &foreign).await),
            400,
            "does not match the namespace",
        ),
        (
            "version at creation",
            code(maps.create(&post, &versioned).await),
            400,
            "resourceVersion should not be set",
        ),
        (
            "bad name",
            code(maps.create(&post, &config("A_b", &[])).await),
            422,
            "ConfigMap \"A_b\" is invalid: metadata.name",
        ),
        (
            "too large",
            code(maps.create(&post, &config("l", &[("k", &large)])).await),
            413,
            "etcdserver: request is too large",
        ),
    ] {
        assert_eq!(result.0, expected, "{case}: {}", result.1);
        assert!(result.1.contains(words), "{case}: {}", result.1);
    }
    let (status, message) = code(pods.create(&post, &no_containers).await);
    assert_eq!(
        (status, message.as_str()),
        (422, "Pod \"p\" is invalid: spec.containers: Required value")
    );
    assert_eq!(
        raw(&client, "GET", "/apis/no.such/v1/things", "*/*")
            .await
            .0,
        404
    );
    assert_eq!(
        raw(&client, "GET", "/api/v1/pods", "application/xml")
            .await
            .0,
        406
    );
    assert_eq!(
        raw(&client, "PUT", "/api/v1/namespaces/default/pods", "*/*")
            .await
            .0,
        405
    );
    pods.create(&post, &pod("p")).await.unwrap();
    for part in ["exec", "attach", "portforward"] {
        let uri = format!("/api/v1/namespaces/default/pods/p/{part}");
        assert_eq!(raw(&client, "POST", &uri, "*/*").await.0, 501, "{part}");
    }
}

#[tokio::test]
async fn a_write_based_on_an_old_version_conflicts() {
    let client = cluster().await;
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let first = maps
        .create(&PostParams::default(), &config("a", &[("k", "1")]))
        .await
        .unwrap();
    let mut next = first.clone();
    next.data
        .as_mut()
        .unwrap()
        .insert("k".to_owned(), "2".to_owned());
    let second = maps
        .replace("a", &PostParams::default(), &next)
        .await
        .unwrap();
    assert_ne!(first.resource_version(), second.resource_version());
    let (status, message) = code(maps.replace("a", &PostParams::default(), &next).await);
    assert_eq!(status, 409);
    assert!(
        message.contains("the object has been modified"),
        "{message}"
    );
    let stale =
        json!({"metadata": {"resourceVersion": first.resource_version()}, "data": {"k": "3"}});
    assert_eq!(
        code(
            maps.patch("a", &PatchParams::default(), &Patch::Merge(stale))
                .await
        )
        .0,
        409
    );
    let fresh =
        json!({"metadata": {"resourceVersion": second.resource_version()}, "data": {"k": "3"}});
    maps.patch("a", &PatchParams::default(), &Patch::Merge(fresh))
        .await
        .unwrap();
}

#[tokio::test]
async fn metadata_without_entries_is_not_served() {
    let client = cluster().await;
    let maps: Api<DynamicObject> = Api::namespaced_with(
        client.clone(),
        "default",
        &ApiResource::erase::<ConfigMap>(&()),
    );
    let made = object(
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
        "name": "m", "labels": {}, "annotations": {}, "ownerReferences": [], "finalizers": ["a/b"]}}),
    );
    maps.create(&PostParams::default(), &made).await.unwrap();
    let patch = json!({"metadata": {"finalizers": []}});
    maps.patch("m", &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
    let (_, served) = raw(
        &client,
        "GET",
        "/api/v1/namespaces/default/configmaps/m",
        "",
    )
    .await;
    for member in ["labels", "annotations", "ownerReferences", "finalizers"] {
        assert_eq!(served["metadata"].get(member), None, "{member}");
    }
}

#[tokio::test]
async fn a_write_that_changes_nothing_makes_no_version() {
    let client = cluster().await;
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let first = maps
        .create(&PostParams::default(), &config("a", &[("k", "1")]))
        .await
        .unwrap();
    let same = maps
        .patch(
            "a",
            &PatchParams::default(),
            &Patch::Merge(json!({"data": {"k": "1"}})),
        )
        .await
        .unwrap();
    assert_eq!(first.resource_version(), same.resource_version());
}

#[tokio::test]
async fn every_patch_type_changes_its_part() {
    let client = cluster().await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    maps.create(
        &PostParams::default(),
        &config("a", &[("k", "1"), ("l", "1")]),
    )
    .await
    .unwrap();
    let merged = maps
        .patch(
            "a",
            &PatchParams::default(),
            &Patch::Merge(json!({"data": {"l": null, "m": "1"}})),
        )
        .await
        .unwrap();
    assert_eq!(merged.data.unwrap().keys().collect::<Vec<_>>(), ["k", "m"]);
    let steps: json_patch::Patch = object(json!([
        {"op": "test", "path": "/data/k", "value": "1"}, {"op": "replace", "path": "/data/k", "value": "2"},
    ]));
    let stepped = maps
        .patch(
            "a",
            &PatchParams::default(),
            &Patch::<ConfigMap>::Json(steps.clone()),
        )
        .await
        .unwrap();
    assert_eq!(stepped.data.unwrap()["k"], "2");
    assert_eq!(
        code(
            maps.patch(
                "a",
                &PatchParams::default(),
                &Patch::<ConfigMap>::Json(steps)
            )
            .await
        )
        .0,
        422
    );
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    pods.create(&PostParams::default(), &pod("p"))
        .await
        .unwrap();
    let change = json!({"spec": {"containers": [{"name": "main", "image": "other"}]}});
    let changed = pods
        .patch("p", &PatchParams::default(), &Patch::Strategic(change))
        .await
        .unwrap();
    let container = &changed.spec.unwrap().containers[0];
    assert_eq!(container.image.as_deref(), Some("other"));
    assert!(
        container.resources.is_some(),
        "the rest of the container stays"
    );
    let applied = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "s"}, "data": {"k": "1"}});
    let created = maps
        .patch("s", &PatchParams::apply("me"), &Patch::Apply(applied))
        .await
        .unwrap();
    assert_eq!(
        created.metadata.managed_fields.unwrap()[0]
            .manager
            .as_deref(),
        Some("me")
    );
    let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "s"}, "data": {"k": "2"}});
    assert_eq!(
        code(
            maps.patch(
                "s",
                &PatchParams::apply("you"),
                &Patch::Apply(other.clone())
            )
            .await
        )
        .0,
        409
    );
    maps.patch(
        "s",
        &PatchParams::apply("you").force(),
        &Patch::Apply(other),
    )
    .await
    .unwrap();
    assert_eq!(maps.get("s").await.unwrap().data.unwrap()["k"], "2");
}

#[tokio::test]
async fn status_of_a_pod_is_written_through_its_own_path() {
    let client = cluster().await;
    let pods: Api<Pod> = Api::namespaced(client, "default");
    pods.create(&PostParams::default(), &pod("p"))
        .await
        .unwrap();
    let both = json!({"metadata": {"labels": {"a": "b"}}, "status": {"phase": "Running"}});
    let main = pods
        .patch("p", &PatchParams::default(), &Patch::Merge(&both))
        .await
        .unwrap();
    assert_eq!(main.status.unwrap().phase.as_deref(), Some("Pending"));
    assert_eq!(main.metadata.labels.unwrap()["a"], "b");
    let both = json!({"metadata": {"labels": {"a": "c"}}, "status": {"phase": "Running"}});
    let status = pods
        .patch_status("p", &PatchParams::default(), &Patch::Merge(&both))
        .await
        .unwrap();
    assert_eq!(status.status.unwrap().phase.as_deref(), Some("Running"));
    assert_eq!(status.metadata.labels.unwrap()["a"], "b");
    let spec = json!({"spec": {"restartPolicy": "Never"}});
    assert_eq!(
        code(
            pods.patch("p", &PatchParams::default(), &Patch::Merge(spec))
                .await
        )
        .0,
        422
    );
}

#[tokio::test]
async fn generated_names_differ() {
    let client = cluster().await;
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let map: ConfigMap = object(json!({"metadata": {"generateName": "job-"}}));
    let first = maps.create(&PostParams::default(), &map).await.unwrap();
    let second = maps.create(&PostParams::default(), &map).await.unwrap();
    assert_ne!(first.name_any(), second.name_any());
    assert!(first.name_any().starts_with("job-") && first.name_any().len() == 9);
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let client = cluster().await;
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    maps.create(&dry, &config("a", &[])).await.unwrap();
    assert_eq!(code(maps.get("a").await).0, 404);
    maps.create(&PostParams::default(), &config("a", &[]))
        .await
        .unwrap();
    let patch = Patch::Merge(json!({"data": {"k": "1"}}));
    let patched = maps
        .patch(
            "a",
            &PatchParams {
                dry_run: true,
                ..PatchParams::default()
            },
            &patch,
        )
        .await
        .unwrap();
    assert_eq!(patched.data.unwrap().len(), 1);
    assert!(
        maps.get("a")
            .await
            .unwrap()
            .data
            .is_none_or(|data| data.is_empty())
    );
}

#[tokio::test]
async fn secrets_written_as_text_are_kept_encoded() {
    let client = cluster().await;
    let secrets: Api<Secret> = Api::namespaced(client, "default");
    let secret = secrets
        .create(
            &PostParams::default(),
            &object(json!({"metadata": {"name": "s"}, "stringData": {"k": "v"}})),
        )
        .await
        .unwrap();
    assert_eq!(secret.data.unwrap()["k"].0, b"v");
    assert_eq!(secret.type_.as_deref(), Some("Opaque"));
}

#[tokio::test]
async fn nesting_is_refused_beyond_its_limit_and_kept_below_it() {
    let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    for (limit, levels, accepted) in [(128, 100, true), (128, 1000, false), (400, 300, true)] {
        let options = ClusterOptions {
            json_depth: limit,
            ..ClusterOptions::default()
        };
        let client = Cluster::new(NoStore, options).await.unwrap().client();
        define_workflows(&client).await;
        let body = format!(
            r#"{{"metadata": {{"name": "w"}}, "spec": {}}}"#,
            nested(levels)
        );
        let uri = "/apis/flyte.lyft.com/v1alpha1/namespaces/default/flyteworkflows";
        let request = http::Request::post(uri)
            .header("content-type", "application/json")
            .body(body.into_bytes())
            .unwrap();
        match client.request_text(request).await {
            Ok(text) => assert!(
                accepted && text.contains(&nested(levels)),
                "{levels} of {limit}"
            ),
            Err(error) => {
                let (status, message) = code::<()>(Err(error));
                assert!(
                    !accepted && status == 400 && message.contains("nested"),
                    "{levels} of {limit}: {message}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_json_patch_is_bounded_by_what_it_makes() {
    let client = cluster().await;
    let uri = "/api/v1/namespaces/default/configmaps";
    let request = |method: &str, uri: &str, form: &str, body: &Value| {
        http::Request::builder()
            .method(method)
            .uri(uri)
            .header("content-type", form)
            .body(body.to_string().into_bytes())
            .unwrap()
    };
    let object = json!({"metadata": {"name": "a"}, "data": {"k": "v"}});
    let made = request("POST", uri, "application/json", &object);
    client.request_text(made).await.unwrap();
    // Each copy into its own deepest place doubles the depth.
    let mut nests = vec![json!({"op": "add", "path": "/data/m", "value": {}})];
    let mut deepest = "/data/m".to_owned();
    for _ in 0..13 {
        nests.push(json!({"op": "copy", "from": "/data/m", "path": format!("{deepest}/m")}));
        deepest = format!("{deepest}{}", "/m".repeat(deepest.matches("/m").count()));
    }
    let mut doubles = vec![json!({"op": "add", "path": "/data/l", "value": ["x".repeat(1_000)]})];
    doubles.extend((0..30).map(|_| json!({"op": "copy", "from": "/data/l", "path": "/data/l/-"})));
    let many: Vec<_> = (0..10_001)
        .map(|_| json!({"op": "test", "path": "/data/k", "value": "v"}))
        .collect();
    for (patch, expected, words) in [
        (nests, 422, "levels deep, the limit is 128"),
        (doubles, 413, "it copies more than 3145728 bytes"),
        (
            many,
            413,
            "The allowed maximum operations in a JSON patch is 10000, got 10001",
        ),
        (
            vec![
                json!({"op": "test", "path": "/data/k", "value": "v"}),
                json!({"op": "remove", "path": "/data/none"}),
            ],
            422,
            "operation '/1' failed",
        ),
    ] {
        let form = "application/json-patch+json";
        let patch = request("PATCH", &format!("{uri}/a"), form, &json!(patch));
        let (status, message) = code::<()>(client.request_text(patch).await.map(drop));
        assert_eq!(status, expected, "{message}");
        assert!(message.contains(words), "{message}");
    }
}

#[tokio::test]
async fn yaml_is_bounded_before_it_is_read() {
    let client = cluster().await;
    let deep = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    let mut indented = String::new();
    for level in 0..500 {
        indented.push_str(&format!("{}a:\n", " ".repeat(level)));
    }
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let before = vec![format!("*a{}", level - 1); 9].join(", ");
        laughs.push_str(&format!("a{level}: &a{level} [{before}]\n"));
    }
    let wide = format!(
        "a: &a [{}]\nb: [{}]\n",
        "x, ".repeat(2_000),
        "*a, ".repeat(2_000)
    );
    let uri = "/api/v1/namespaces/default/configmaps";
    let applied = format!("{uri}/a?fieldManager=test");
    for (document, words) in [
        (
            &deep,
            "the document is nested 100000 levels deep, the limit is 128",
        ),
        (
            &indented,
            "the document is nested 500 levels deep, the limit is 128",
        ),
        (&wide, "the document stands for more than 1572864 bytes"),
        (&laughs, "limit exceeded"),
    ] {
        for (method, uri, form) in [
            ("POST", uri, "application/yaml"),
            ("PATCH", &*applied, "application/apply-patch+yaml"),
        ] {
            let request = http::Request::builder()
                .method(method)
                .uri(uri)
                .header("content-type", form)
                .body(document.clone().into_bytes())
                .unwrap();
            let before = worked();
            let (status, message) = code::<()>(client.request_text(request).await.map(drop));
            assert_eq!(status, 400, "{method}: {message}");
            assert!(message.contains(words), "{method}: {message}");
            let took = worked().saturating_sub(before);
            assert!(took.as_secs() < 5, "{method} {words}: {took:?}");
        }
    }
    // Brackets in texts nest nothing.
    let text = format!(
        "metadata: {{name: a}}\ndata:\n  a: |\n    {}\n",
        "[{".repeat(500)
    );
    let request = http::Request::post(uri)
        .header("content-type", "application/yaml")
        .body(text.into_bytes())
        .unwrap();
    let kept = client.request_text(request).await.unwrap();
    assert!(kept.contains(&"[{".repeat(500)), "{kept}");
}
