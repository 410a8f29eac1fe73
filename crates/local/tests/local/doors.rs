//! What pages of other sites try, with the keys that the documentation prints, on each listening port.

use flyte_local::platform::LocalPlatform;
use kube::config::Kubeconfig;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::signing::{KEY, form, path, presign};

const BUCKET: &str = "my-s3-bucket";
const FOREIGN: &str = "http://evil.example";
const NEAR: &str = "http://localhost:3000";

/// A platform, and a client that may say of itself what a browser would.
struct Doors {
    folder: TempDir,
    platform: Option<LocalPlatform>,
    s3: String,
    kubernetes: String,
    http: reqwest::Client,
    running: JoinSet<()>,
}

impl Doors {
    async fn open() -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let folder = tempfile::tempdir().unwrap();
        let platform = LocalPlatform::start(
            crate::platform::options(folder.path()),
            CancellationToken::new(),
        )
        .await
        .unwrap();
        let mut draft = platform.blobs().begin().unwrap();
        draft.write(b"code").unwrap();
        platform
            .blobs()
            .commit(
                draft,
                (BUCKET, "code.tar.gz"),
                flyte_local::s3::Attributes::default(),
                &flyte_local::s3::WriteIf::Always,
            )
            .unwrap();
        Self {
            s3: format!("127.0.0.1:{}", platform.s3_address().port()),
            kubernetes: format!(
                "https://127.0.0.1:{}",
                platform.kubernetes_address().unwrap().port()
            ),
            http: reqwest::Client::builder()
                .tls_danger_accept_invalid_certs(true)
                .build()
                .unwrap(),
            folder,
            platform: Some(platform),
            running: JoinSet::new(),
        }
    }

    fn code(&self) -> Vec<u8> {
        use std::io::Read;
        let platform = self.platform.as_ref().unwrap();
        let (file, info) = platform.blobs().open_object(BUCKET, "code.tar.gz").unwrap();
        let mut bytes = Vec::new();
        file.take(info.size).read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// A list of the bucket, signed with the documented key for `host`, sent to the S3 port.
    async fn list(&self, host: &str, headers: &[(&str, &str)]) -> (u16, Option<String>, String) {
        let signed = presign(
            ("GET", host, &format!("/{BUCKET}")),
            &KEY,
            (jiff::Timestamp::now(), 60),
            &[],
        );
        let url = signed.replacen(host, &self.s3, 1);
        let mut request = self.http.get(url).header("host", host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request).await
    }
}

/// Code, who may read it, and text of the answer.
async fn answer(request: reqwest::RequestBuilder) -> (u16, Option<String>, String) {
    let answer = request.send().await.unwrap();
    let reader = answer
        .headers()
        .get("access-control-allow-origin")
        .map(|value| value.to_str().unwrap().to_owned());
    (
        answer.status().as_u16(),
        reader,
        answer.text().await.unwrap(),
    )
}

#[tokio::test]
async fn a_name_that_resolves_to_loopback_opens_no_bucket() {
    let doors = Doors::open().await;
    for (host, allowed) in [
        ("evil.example", false),
        ("evil.example:30002", false),
        ("localhost.evil.example", false),
        (doors.s3.as_str(), true),
        ("localhost:30002", true),
    ] {
        let (code, _, text) = doors.list(host, &[]).await;
        assert_eq!(code == 200, allowed, "{host}: {code} {text}");
        assert_eq!(text.contains("code.tar.gz"), allowed, "{host}: {text}");
        assert!(
            allowed || text.contains("<Code>AccessDenied</Code>"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn only_pages_of_this_machine_read_the_bucket() {
    let doors = Doors::open().await;
    let host = doors.s3.clone();
    let (code, reader, text) = doors.list(&host, &[("origin", FOREIGN)]).await;
    assert_eq!((code, reader), (403, None), "{text}");
    assert!(!text.contains("code.tar.gz"), "{text}");
    let (code, reader, text) = doors.list(&host, &[("origin", NEAR)]).await;
    assert_eq!((code, reader.as_deref()), (200, Some(NEAR)), "{text}");
    let (code, reader, _) = doors.list(&host, &[]).await;
    assert_eq!((code, reader), (200, None));
    for (origin, expected) in [(FOREIGN, 403), (NEAR, 204)] {
        let url = format!("http://{host}{}", path(BUCKET, "code.tar.gz"));
        let asked = doors
            .http
            .request(reqwest::Method::OPTIONS, url)
            .header("origin", origin)
            .header("access-control-request-method", "GET");
        let (code, reader, _) = answer(asked).await;
        assert_eq!(code, expected, "{origin}");
        assert_eq!(reader.is_some(), origin == NEAR, "{origin}");
    }
}

#[tokio::test]
async fn a_form_does_not_replace_what_a_task_will_run() {
    let doors = Doors::open().await;
    let mut body = String::new();
    for (name, value) in form(BUCKET, "code.tar.gz") {
        body.push_str(&format!(
            "--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        ));
    }
    body.push_str(
        "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nevil\r\n--x--\r\n",
    );
    // A page, one of this machine, and a program: no client of S3 sends forms.
    for origin in [Some(FOREIGN), Some(NEAR), None] {
        let mut request = doors
            .http
            .post(format!("http://{}/{BUCKET}", doors.s3))
            .header("content-type", "multipart/form-data; boundary=x")
            .body(body.clone());
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let (code, _, text) = answer(request).await;
        assert_eq!(code, 403, "{origin:?}: {text}");
        assert_eq!(doors.code(), b"code", "{origin:?}: {text}");
    }
    // A form may also send to a URL that is signed for something else that is done by POST.
    let signed = presign(
        ("POST", &doors.s3, &path(BUCKET, "code.tar.gz")),
        &KEY,
        (jiff::Timestamp::now(), 60),
        &[],
    );
    let request = doors
        .http
        .post(format!("{signed}&uploads"))
        .header("content-type", "application/x-www-form-urlencoded");
    let (code, _, text) = answer(request).await;
    assert_eq!(code, 403, "{text}");
    assert!(!text.contains("UploadId"), "{text}");
}

#[tokio::test]
async fn the_kubernetes_port_answers_neither_pages_nor_foreign_names() {
    let mut doors = Doors::open().await;
    let config = Kubeconfig::read_from(doors.folder.path().join("data/kubeconfig")).unwrap();
    let token = serde_json::to_value(&config.auth_infos[0]).unwrap()["user"]["token"]
        .as_str()
        .unwrap()
        .to_owned();
    let platform = doors.platform.take().unwrap();
    doors
        .running
        .spawn(async move { platform.run().await.unwrap() });
    for (name, value, expected) in [
        ("accept", "*/*", 200),
        ("host", "evil.example", 403),
        ("origin", FOREIGN, 403),
    ] {
        let request = doors
            .http
            .get(format!("{}/api/v1/namespaces", doors.kubernetes))
            .header("authorization", format!("Bearer {token}"))
            .header(name, value);
        let (code, reader, text) = answer(request).await;
        assert_eq!((code, reader), (expected, None), "{name}: {text}");
        assert_eq!(
            text.contains("kube-system"),
            expected == 200,
            "{name}: {text}"
        );
    }
}
