use axum::routing::get;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::*;
use crate::metrics::Scope;

async fn router(scope: &Scope) -> Router {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter
        .set_service_status("flyteadmin", tonic_health::ServingStatus::Serving)
        .await;
    let http = Router::new()
        .route("/healthcheck", get(|| async { "" }))
        .route("/boom", get(async || -> &'static str { panic!("boom") }));
    let calls = CallMetrics::register(scope, Vec::new(), Latency::NotCounted).unwrap();
    let routes = tonic::service::Routes::new(health);
    combine(Arc::new(calls).around(routes), http)
}

#[tokio::test]
async fn one_port_answers_grpc_and_http_and_stops_cleanly() {
    let scope = Scope::new("test");
    let stop = CancellationToken::new();
    let listener = bind("127.0.0.1:0".parse().unwrap(), "test", "--port")
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    let server = serve(
        listener,
        None,
        router(&scope).await,
        stop.clone(),
        Duration::from_secs(5),
    );
    let client = async {
        let channel = tonic::transport::Endpoint::try_from(format!("http://{address}"))
            .unwrap()
            .connect()
            .await
            .unwrap();
        let mut health = HealthClient::new(channel);
        let answer = health
            .check(HealthCheckRequest {
                service: "flyteadmin".into(),
            })
            .await
            .unwrap();
        assert_eq!(answer.into_inner().status, 1);
        let missing = health
            .check(HealthCheckRequest {
                service: "nobody".into(),
            })
            .await
            .unwrap_err();
        assert_eq!(missing.code(), tonic::Code::NotFound);
        stop.cancel();
    };
    tokio::join!(server, client);
    let metrics = scope.render();
    assert!(metrics.contains(r#"grpc_server_handled_total{grpc_code="OK",grpc_method="Check",grpc_service="grpc.health.v1.Health",grpc_type="unary"} 1"#), "{metrics}");
    assert!(metrics.contains(r#"grpc_code="NotFound""#), "{metrics}");
    let of_messages =
        r#"{grpc_method="Check",grpc_service="grpc.health.v1.Health",grpc_type="unary"}"#;
    for (name, count) in [("started", 2), ("msg_received", 2), ("msg_sent", 1)] {
        let line = format!("grpc_server_{name}_total{of_messages} {count}");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
    assert!(
        !metrics.contains("grpc_server_handling_seconds"),
        "{metrics}"
    );
}

/// One call of `path` at a router whose every method panics.
async fn panicking(scope: &Scope, path: &str, latency: Latency) {
    let routes = tonic::service::Routes::from(Router::new().route(
        "/a.Service/Panic",
        axum::routing::any(async || -> &'static str { panic!("boom") }),
    ));
    let calls = CallMetrics::register(scope, ["a.Service/Panic".to_owned()], latency)
        .and_then(|calls| {
            calls.with_endpoints(scope, &[("a.Service/Panic", "panic"), ("", "nobody")])
        })
        .unwrap();
    let router = combine(Arc::new(calls).around(routes), Router::new());
    let request = Request::post(path)
        .header("content-type", "application/grpc")
        .body(Body::empty())
        .unwrap();
    router.oneshot(request).await.unwrap();
}

#[tokio::test]
async fn a_call_that_panics_is_counted_as_internal() {
    let scope = Scope::new("test");
    panicking(&scope, "/a.Service/Panic", Latency::Counted).await;
    let metrics = scope.render();
    for line in [
        r#"grpc_server_handled_total{grpc_code="Internal",grpc_method="Panic",grpc_service="a.Service",grpc_type="unary"} 1"#,
        r#"grpc_server_handling_seconds_count{grpc_method="Panic",grpc_service="a.Service",grpc_type="unary"} 1"#,
        "test:panic:codes:Internal 1",
        "test:panic:errors 1",
        "test:panic:duration_ms_count 1",
        "test:nobody:errors 0",
        "test:handler_panic 1",
    ] {
        assert!(
            metrics.lines().any(|shown| shown == line),
            "{line} in {metrics}"
        );
    }
}

#[tokio::test]
async fn methods_that_callers_invent_are_not_counted() {
    let scope = Scope::new("test");
    panicking(&scope, "/a.Service/Invented", Latency::NotCounted).await;
    assert!(!scope.render().contains("grpc_server_started_total"));
}

#[tokio::test]
async fn a_panic_is_an_internal_error_with_a_request_id() {
    let scope = Scope::new("test");
    let request = Request::builder()
        .uri("/boom")
        .header("x-request-id", "abc")
        .body(Body::empty())
        .unwrap();
    let response = router(&scope).await.oneshot(request).await.unwrap();
    assert_eq!(response.status(), 500);
    assert_eq!(response.headers()["x-request-id"], "abc");
}

#[tokio::test]
async fn in_process_calls_pass_through_the_same_layers() {
    let scope = Scope::new("test");
    let stop = CancellationToken::new();
    let (channel, server) = in_process(router(&scope).await, stop.clone());
    let client = async {
        let mut health = HealthClient::new(channel);
        health
            .check(HealthCheckRequest {
                service: "flyteadmin".into(),
            })
            .await
            .unwrap();
        stop.cancel();
    };
    tokio::join!(server, client);
    assert!(scope.render().contains("grpc_server_started_total"));
}

#[tokio::test]
async fn a_taken_port_names_address_purpose_and_remedy() {
    let first = bind("127.0.0.1:0".parse().unwrap(), "HTTP", "--http-port")
        .await
        .unwrap();
    let address = first.local_addr().unwrap();
    let error = bind(address, "HTTP and gRPC", "--http-port")
        .await
        .unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    assert!(
        error
            .to_string()
            .ends_with("choose another port with --http-port"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_sent_away_and_others_are_not() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let scope = Scope::new("test");
    let stop = CancellationToken::new();
    let listener = bind("127.0.0.1:0".parse().unwrap(), "test", "--port")
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    let limits = ConnectionLimits {
        max_connections: 2,
        ..ConnectionLimits::default()
    };
    let router = router(&scope).await;
    let stopping = Stopping {
        stop: stop.clone(),
        grace: Duration::from_secs(5),
    };
    let server = serve_within(limits, listener, None, router, stopping);
    let client = async {
        let mut silent = tokio::net::TcpStream::connect(address).await.unwrap();
        let mut half = tokio::net::TcpStream::connect(address).await.unwrap();
        half.write_all(b"PRI * HT").await.unwrap();
        // There are two places, so this one is served once one of them is free again.
        let mut third = tokio::net::TcpStream::connect(address).await.unwrap();
        third
            .write_all(b"GET /healthcheck HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        let mut buffer = [0; 12];
        third.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"HTTP/1.1 200");
        let end = async |stream: &mut tokio::net::TcpStream| stream.read(&mut [0; 1]).await;
        assert!(matches!(end(&mut silent).await, Ok(0) | Err(_)));
        assert!(matches!(end(&mut half).await, Ok(0) | Err(_)));
        stop.cancel();
    };
    tokio::join!(server, client);
}

#[tokio::test]
async fn half_a_request_and_a_watch_of_health_do_not_spoil_a_stop() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = bind("127.0.0.1:0".parse().unwrap(), "test", "--port")
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    let health = Health::new();
    let ready = tokio::sync::watch::Sender::new(true);
    health.report("flyteadmin", ready.subscribe());
    let http = Router::new().route(
        "/body",
        axum::routing::post(|body: axum::body::Bytes| async move { body }),
    );
    let router = combine(tonic::service::Routes::new(health.service()), http);
    let stop = CancellationToken::new();
    let grace = Duration::from_millis(300);
    let mut tasks = crate::Tasks::new(stop.clone());
    tasks.spawn_infallible(
        "API",
        serve(listener, None, router, stop.child_token(), grace),
    );
    let client = async {
        let mut half = tokio::net::TcpStream::connect(address).await.unwrap();
        half.write_all(b"POST /body HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\nha")
            .await
            .unwrap();
        // The server has begun to read the body when it says so.
        let mut line = [0; 12];
        half.read_exact(&mut line).await.unwrap();
        assert_eq!(&line, b"HTTP/1.1 100");
        let channel = tonic::transport::Endpoint::try_from(format!("http://{address}"))
            .unwrap()
            .connect()
            .await
            .unwrap();
        let request = HealthCheckRequest {
            service: "flyteadmin".into(),
        };
        let mut watch = HealthClient::new(channel)
            .watch(request)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(watch.message().await.unwrap().unwrap().status, 1);
        stop.cancel();
        // Whoever serves closes health when it is told to stop.
        health.close();
        assert!(watch.message().await.unwrap().is_none());
        (half, ready)
    };
    let (_kept, stopped) = tokio::join!(
        client,
        tasks.run_until_stopped(grace + Duration::from_secs(5))
    );
    stopped.unwrap();
}
