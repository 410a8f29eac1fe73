//! The program itself: its schema, its ports, and its end.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use flyte_idl::datacatalog::{ListDatasetsRequest, data_catalog_client::DataCatalogClient};
use tonic::{Code, transport::Channel};

use crate::harness::refusal;

/// How long anything here may take before its test fails.
const WITHIN: Duration = Duration::from_secs(60);
/// Pause between two looks whether it accepts connections; it tells nobody.
const LOOK: Duration = Duration::from_millis(20);

/// A program that ends with its test.
struct Running {
    program: Child,
    grpc: u16,
    http: u16,
    profiler: u16,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.program.kill());
        drop(self.program.wait());
    }
}

fn command(folder: &Path, words: &[&str]) -> Command {
    let file = folder.join("datacatalog.yaml");
    let database = folder.join("datacatalog.db");
    let text = format!(
        "database: {{sqlite: {{file: {database:?}}}}}\nstorage: {{type: mem, container: flyte}}\n"
    );
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_datacatalog"));
    command.arg("--config").arg(file).args(words);
    command
}

fn run(folder: &Path, words: &[&str]) -> Output {
    command(folder, words).output().unwrap()
}

impl Running {
    /// Starts one; returns when it answers.
    async fn start(folder: &Path, subcommand: &str) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap();
        let listeners = [free(), free(), free()];
        let ports = listeners
            .each_ref()
            .map(|listener| listener.local_addr().unwrap().port());
        drop(listeners);
        let [grpc, http, profiler] = ports;
        let flags = [
            ("application.grpcPort", grpc),
            ("application.httpPort", http),
            ("datacatalog.profiler-port", profiler),
        ];
        let flags = flags.map(|(key, port)| format!("--{key}={port}"));
        let program = command(folder, &[subcommand])
            .args(flags)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut running = Self {
            program,
            grpc,
            http,
            profiler,
        };
        let deadline = Instant::now() + WITHIN;
        while running.channel(http).await.is_none() {
            assert!(
                running.program.try_wait().unwrap().is_none(),
                "it has ended"
            );
            assert!(Instant::now() < deadline, "it does not answer");
            tokio::time::sleep(LOOK).await;
        }
        running
    }

    async fn channel(&self, port: u16) -> Option<Channel> {
        let endpoint = Channel::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
        endpoint.connect().await.ok()
    }

    async fn client(&self) -> DataCatalogClient<Channel> {
        DataCatalogClient::new(self.channel(self.grpc).await.unwrap())
    }

    /// Asks it to end, as Kubernetes does, and says how it ended.
    async fn end(mut self) -> Option<i32> {
        let pid = self.program.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        let deadline = Instant::now() + WITHIN;
        loop {
            if let Some(status) = self.program.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not end");
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Status line and body of a GET.
async fn get(port: u16, path: &str) -> (String, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[tokio::test]
async fn it_migrates_serves_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    for (round, made) in [("first", "17"), ("second", "0")] {
        let output = run(folder.path(), &["migrate", "run"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{round}: {said}");
        assert_eq!(
            said,
            format!("{made} tables, columns and indexes made\n"),
            "{round}"
        );
    }
    let running = Running::start(folder.path(), "serve").await;
    let listed = running
        .client()
        .await
        .list_datasets(ListDatasetsRequest::default())
        .await;
    assert_eq!(listed.unwrap().into_inner().next_token, "0");
    let ok = "HTTP/1.1 200 OK".to_owned();
    assert_eq!(
        get(running.http, "/healthcheck").await,
        (ok.clone(), String::new())
    );
    let (status, body) = get(running.profiler, "/metrics").await;
    assert_eq!(status, ok);
    assert!(
        body.contains("datacatalog:datacatalog:dataset:list_success_count_unlabeled 1"),
        "{body}"
    );
    let (status, body) = get(running.profiler, "/config").await;
    assert_eq!(status, ok);
    assert!(body.contains("storage-prefix"), "{body}");
    assert_eq!(running.end().await, Some(0));
}

#[tokio::test]
async fn a_dummy_has_the_same_api_and_answers_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path(), "serve-dummy").await;
    let listed = running
        .client()
        .await
        .list_datasets(ListDatasetsRequest::default())
        .await;
    let text = "ListDatasets answers nothing in serve-dummy".to_owned();
    assert_eq!(refusal(listed), Some((Code::Unimplemented, text)));
    // It has opened nothing.
    assert!(!folder.path().join("datacatalog.db").exists());
    assert_eq!(running.end().await, Some(0));
}
