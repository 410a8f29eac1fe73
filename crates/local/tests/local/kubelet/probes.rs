//! Probes, lifecycle hooks and termination messages.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use kube::api::{Api, DeleteParams};
use kube::runtime::wait::await_condition;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::kubelet::{Machine, PATIENCE, ended, shell};

fn container(script: &str, more: &Value) -> Value {
    let mut container = shell("main", script);
    for (name, member) in more.as_object().unwrap() {
        container[name] = member.clone();
    }
    container
}

fn one(container: Value) -> Value {
    json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 5, "containers": [container]})
}

fn status(pod: Option<&Pod>) -> Option<&ContainerStatus> {
    pod?.status.as_ref()?.container_statuses.as_ref()?.first()
}

fn is_ready(pod: Option<&Pod>) -> bool {
    status(pod).is_some_and(|status| status.ready)
}

/// Waits for an event about a pod.
async fn event(machine: &Machine, pod: &str, reason: &str) -> Event {
    let events: Api<Event> = Api::namespaced(machine.client.clone(), "default");
    let about =
        watcher::Config::default().fields(&format!("involvedObject.name={pod},reason={reason}"));
    let mut found = Box::pin(watcher::watcher(events, about).applied_objects());
    tokio::time::timeout(PATIENCE, found.next())
        .await
        .unwrap_or_else(|_| panic!("no event {reason} about {pod}"))
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn a_container_is_ready_while_its_readiness_probe_succeeds() {
    let machine = Machine::start().await;
    let flag = machine.file("ready");
    let probe = json!({"readinessProbe": {
        "exec": {"command": ["/bin/sh", "-c", format!("echo not yet; test -e {}", flag.display())]},
        "periodSeconds": 1, "failureThreshold": 1,
    }});
    machine
        .create("p", one(container("sleep 300", &probe)))
        .await;
    let running = machine.phase("p", "Running").await;
    assert!(!is_ready(Some(&running)));
    let unhealthy = event(&machine, "p", "Unhealthy").await;
    assert_eq!(
        unhealthy.message.as_deref(),
        Some("Readiness probe failed: not yet")
    );
    assert_eq!(unhealthy.type_.as_deref(), Some("Warning"));
    std::fs::write(&flag, "").unwrap();
    let pod = machine.until("p", "ready", is_ready).await.unwrap();
    let conditions = pod.status.unwrap().conditions.unwrap();
    let ready = conditions
        .iter()
        .find(|condition| condition.type_ == "Ready");
    assert_eq!(ready.unwrap().status, "True");
    std::fs::remove_file(&flag).unwrap();
    machine.until("p", "unready", |pod| !is_ready(pod)).await;
    machine
        .pods()
        .delete("p", &DeleteParams::default())
        .await
        .unwrap();
    machine.gone("p").await;
}

#[tokio::test]
async fn a_container_whose_liveness_probe_fails_is_ended() {
    let machine = Machine::start().await;
    // It ignores SIGTERM, and is killed when the probe's grace period is over.
    let probe = json!({"livenessProbe": {
        "exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 2, "terminationGracePeriodSeconds": 1,
    }});
    machine
        .create(
            "p",
            one(container(
                "trap '' TERM; while :; do sleep 0.1; done",
                &probe,
            )),
        )
        .await;
    let pod = machine.phase("p", "Failed").await;
    let end = ended(&pod, "main");
    assert_eq!((end.exit_code, end.reason.as_deref()), (137, Some("Error")));
    let killing = event(&machine, "p", "Killing").await;
    assert_eq!(
        killing.message.as_deref(),
        Some("Container main failed liveness probe")
    );
}

#[tokio::test]
async fn a_container_whose_liveness_probe_fails_is_restarted_when_its_policy_says_so() {
    let machine = Machine::start().await;
    let probe = json!({"livenessProbe": {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}});
    let mut spec = one(container("sleep 300", &probe));
    spec["restartPolicy"] = json!("Always");
    machine.create("p", spec).await;
    let pod = machine
        .until("p", "restarted", |pod| {
            status(pod).is_some_and(|status| status.restart_count == 1)
        })
        .await
        .unwrap();
    let last = status(Some(&pod)).unwrap().last_state.clone().unwrap();
    assert_eq!(last.terminated.unwrap().exit_code, 143);
    machine
        .pods()
        .delete("p", &DeleteParams::default())
        .await
        .unwrap();
    machine.gone("p").await;
}

#[tokio::test]
async fn a_startup_probe_holds_the_others_back() {
    let machine = Machine::start().await;
    let flag = machine.file("started");
    let probes = json!({
        "startupProbe": {
            "exec": {"command": ["test", "-e", flag]}, "periodSeconds": 1, "failureThreshold": 100,
        },
        // It would end the container at once.
        "livenessProbe": {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1},
    });
    machine
        .create("p", one(container("sleep 300", &probes)))
        .await;
    event(&machine, "p", "Unhealthy").await;
    let pod = machine.pods().get("p").await.unwrap();
    let found = status(Some(&pod)).unwrap();
    assert!(found.state.as_ref().unwrap().running.is_some(), "{found:?}");
    assert_eq!((found.started, found.ready), (Some(false), false));
    std::fs::write(&flag, "").unwrap();
    let pod = machine.phase("p", "Failed").await;
    assert_eq!(ended(&pod, "main").exit_code, 143);
}

#[tokio::test]
async fn ports_are_probed_over_tcp_and_http() {
    let machine = Machine::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut server = tokio::task::JoinSet::new();
    server.spawn(async move {
        let answer = async |request: axum::extract::Request| {
            let asked = request
                .headers()
                .get("x-probe")
                .map(|value| value.as_bytes().to_vec());
            match (request.uri().path(), asked) {
                ("/healthz", Some(value)) if value == b"yes" => axum::http::StatusCode::OK,
                _ => axum::http::StatusCode::SERVICE_UNAVAILABLE,
            }
        };
        let router = axum::Router::new().fallback(answer);
        axum::serve(listener, router).await.unwrap();
    });
    let http = |path: &str| {
        json!({"readinessProbe": {"periodSeconds": 1, "httpGet": {
            "path": path, "port": "web", "httpHeaders": [{"name": "X-Probe", "value": "yes"}]}}})
    };
    for (name, mut probe, ready) in [
        ("http", http("/healthz"), true),
        ("unavailable", http("/other"), false),
        (
            "tcp",
            json!({"readinessProbe": {"periodSeconds": 1, "tcpSocket": {"port": port}}}),
            true,
        ),
    ] {
        probe["ports"] = json!([{"name": "web", "containerPort": port}]);
        machine
            .create(name, one(container("sleep 300", &probe)))
            .await;
        if ready {
            machine.until(name, "ready", is_ready).await;
        } else {
            let unhealthy = event(&machine, name, "Unhealthy").await;
            let expected = "Readiness probe failed: HTTP probe failed with statuscode: 503";
            assert_eq!(unhealthy.message.as_deref(), Some(expected));
        }
        machine
            .pods()
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
        machine.gone(name).await;
    }
}

#[tokio::test]
async fn hooks_run_after_the_start_and_before_the_end() {
    let machine = Machine::start().await;
    let file = machine.file("order");
    let write = |word: &str| json!({"exec": {"command": ["/bin/sh", "-c", format!("echo {word} $NAMED >> {}", file.display())]}});
    let mut hooked = container(
        &format!(
            "trap 'echo term >> {}; exit 0' TERM; while :; do sleep 0.05; done",
            file.display()
        ),
        &json!({"lifecycle": {"postStart": write("post"), "preStop": write("pre")}}),
    );
    hooked["env"] = json!([{"name": "NAMED", "value": "named"}]);
    machine.create("p", one(hooked)).await;
    machine
        .until("p", "started", |pod| {
            status(pod).is_some_and(|status| status.started == Some(true))
        })
        .await;
    machine
        .pods()
        .delete("p", &DeleteParams::default())
        .await
        .unwrap();
    machine.gone("p").await;
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        "post named\npre named\nterm\n"
    );

    let failing = json!({"lifecycle": {"postStart": {"exec": {"command": ["/bin/sh", "-c", "echo why; exit 3"]}}}});
    machine
        .create("q", one(container("sleep 300", &failing)))
        .await;
    let pod = machine.phase("q", "Failed").await;
    assert_eq!(ended(&pod, "main").exit_code, 143);
    let failed = event(&machine, "q", "FailedPostStartHook").await;
    assert_eq!(failed.message.as_deref(), Some("PostStartHook failed: why"));
}

#[tokio::test]
async fn a_hook_that_outlives_its_container_leaves_the_next_run_alone() {
    let machine = Machine::start().await;
    let members = json!({
        // Fails once: the hook begins, and goes on after the container has ended by itself and started again.
        "livenessProbe": {
            "exec": {"command": ["/bin/sh", "-c", "test -e probed || { touch probed; exit 1; }"]},
            "periodSeconds": 1, "failureThreshold": 1, "terminationGracePeriodSeconds": 14,
        },
        "lifecycle": {"preStop": {"exec": {"command": ["/bin/sh", "-c", "exec sleep 60"]}}},
    });
    let script = "test -e again && exec sleep 300; touch again; sleep 2";
    let mut spec = one(container(script, &members));
    spec["restartPolicy"] = json!("Always");
    machine.create("p", spec).await;
    let runs_again = |pod: Option<&Pod>| {
        status(pod).is_some_and(|status| {
            let state = status.state.as_ref().unwrap();
            status.restart_count == 1 && state.running.is_some()
        })
    };
    machine.until("p", "running again", runs_again).await;
    // Restarts wait 10 s, so the hook's time is up within three.
    let ended = await_condition(machine.pods(), "p", |pod: Option<&Pod>| !runs_again(pod));
    let ended = tokio::time::timeout(Duration::from_secs(5), ended).await;
    assert!(ended.is_err(), "the second run was ended: {ended:?}");
    let now = DeleteParams::default().grace_period(0);
    machine.pods().delete("p", &now).await.unwrap();
    machine.gone("p").await;
}

#[tokio::test]
async fn a_grpc_probe_asks_for_the_health_of_its_service() {
    let machine = Machine::start().await;
    let (reporter, health) = tonic_health::server::health_reporter();
    let status = tonic_health::ServingStatus::NotServing;
    reporter.set_service_status("flyte", status).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut server = JoinSet::new();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let serve = tonic::transport::Server::builder()
        .add_service(health)
        .serve_with_incoming(incoming);
    server.spawn(async move { serve.await.unwrap() });
    let probe = json!({"readinessProbe": {
        "grpc": {"port": port, "service": "flyte"}, "periodSeconds": 1, "failureThreshold": 1,
    }});
    machine
        .create("p", one(container("sleep 300", &probe)))
        .await;
    let unhealthy = event(&machine, "p", "Unhealthy").await;
    let message = unhealthy.message.unwrap();
    assert!(
        message.contains("responded with \"NOT_SERVING\""),
        "{message}"
    );
    let status = tonic_health::ServingStatus::Serving;
    reporter.set_service_status("flyte", status).await;
    machine.until("p", "ready", is_ready).await;

    let probe =
        json!({"readinessProbe": {"grpc": {"port": port, "service": "none"}, "periodSeconds": 1}});
    machine
        .create("q", one(container("sleep 300", &probe)))
        .await;
    let unhealthy = event(&machine, "q", "Unhealthy").await;
    let message = unhealthy.message.unwrap();
    assert!(message.contains("status 5"), "{message}");
}

#[tokio::test]
async fn a_probe_by_https_does_not_ask_who_answers() {
    let machine = Machine::start().await;
    let own = rcgen::generate_simple_self_signed(["elsewhere.example.org".to_owned()]).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let key = rustls_pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut server = JoinSet::new();
    server.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let stream = hyper_util::rt::TokioIo::new(acceptor.accept(stream).await.unwrap());
            let answer = hyper::service::service_fn(
                async |request: http::Request<hyper::body::Incoming>| {
                    let code = if request.uri().path() == "/well" {
                        200
                    } else {
                        503
                    };
                    let mut answer = http::Response::new(String::new());
                    *answer.status_mut() = http::StatusCode::from_u16(code).unwrap();
                    Ok::<_, std::convert::Infallible>(answer)
                },
            );
            // A client may go before it has read everything.
            drop(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(stream, answer)
                    .await,
            );
        }
    });
    let by = |path: &str| {
        let get = json!({"port": port, "scheme": "HTTPS", "path": path});
        json!({"readinessProbe": {"httpGet": get, "periodSeconds": 1, "failureThreshold": 1}})
    };
    machine
        .create("p", one(container("sleep 300", &by("/well"))))
        .await;
    machine.until("p", "ready", is_ready).await;
    machine
        .create("q", one(container("sleep 300", &by("/ill"))))
        .await;
    let unhealthy = event(&machine, "q", "Unhealthy").await;
    let message = unhealthy.message.unwrap();
    assert!(message.contains("statuscode: 503"), "{message}");
}

#[tokio::test]
async fn a_container_leaves_a_message_where_it_says() {
    let machine = Machine::start().await;
    let at = machine.file("message");
    let explain = format!("echo because > {}; exit 3", at.display());
    let named = json!({"terminationMessagePath": at, "terminationMessagePolicy": "File"});
    machine.create("p", one(container(&explain, &named))).await;
    let pod = machine
        .until("p", "over or waiting", |pod| {
            status(pod).is_some_and(|status| {
                let state = status.state.as_ref().unwrap();
                state.terminated.is_some()
                    || state
                        .waiting
                        .as_ref()
                        .is_some_and(|waiting| waiting.message.is_some())
            })
        })
        .await
        .unwrap();
    let state = status(Some(&pod)).unwrap().state.clone().unwrap();
    if let Some(waiting) = state.waiting {
        let message = waiting.message.unwrap();
        assert!(message.contains("mount namespaces"), "{message}");
        return;
    }
    assert_eq!(ended(&pod, "main").message.as_deref(), Some("because\n"));
    // The policy takes the log where the file is empty, and only of a failure.
    for (name, script, policy, expected) in [
        (
            "log",
            "echo said; exit 3",
            "FallbackToLogsOnError",
            Some("said\n"),
        ),
        ("none", "echo said", "FallbackToLogsOnError", None),
        ("file", "echo said; exit 3", "File", None),
        (
            "long",
            "head -c 5000 /dev/zero | tr '\\0' x > MESSAGE; exit 0",
            "File",
            Some("x"),
        ),
    ] {
        let at = machine.file(&format!("message-{name}"));
        let script = script.replace("MESSAGE", &at.display().to_string());
        let named = json!({"terminationMessagePath": at, "terminationMessagePolicy": policy});
        machine.create(name, one(container(&script, &named))).await;
        let pod = machine
            .until(name, "over", |pod| {
                status(pod)
                    .is_some_and(|status| status.state.as_ref().unwrap().terminated.is_some())
            })
            .await
            .unwrap();
        let message = ended(&pod, "main").message;
        match expected {
            Some("x") => assert_eq!(message.unwrap(), "x".repeat(4096), "{name}"),
            expected => assert_eq!(message.as_deref(), expected, "{name}"),
        }
    }
}
