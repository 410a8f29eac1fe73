//! Clients that ask and do not read the answer, or announce a body and do not send it, at each listening port: their
//! connection is ended when its time is over, so that it holds neither bytes nor a place.

use std::time::{Duration, Instant};

use bytes::Bytes;
use flyte_local::platform::{Listeners, LocalPlatform};
use flyte_local::s3::{Attributes, WriteIf};
use flyte_platform::server::ConnectionLimits;
use futures::{StreamExt, TryStreamExt};
use http_body::Frame;
use http_body_util::StreamBody;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, PostParams};
use kube::config::Kubeconfig;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::kubelet::PATIENCE;
use crate::signing::{KEY, path, presign};

const BUCKET: &str = "my-s3-bucket";
/// What an answer may wait; the time of the servers' defaults is the subject of their own tests.
const BOUND: Duration = Duration::from_millis(500);
/// An answer of so many parts of so many bytes is more than the buffers between server and client hold.
const PARTS: usize = 32;
const PART: usize = 800_000;

/// What a client speaks.
#[derive(Clone, Copy, Debug)]
enum Protocol {
    /// Nothing is read from the connection.
    Http1,
    /// The connection is read; the window of the stream is not opened.
    Http2,
}

impl Protocol {
    fn client(self) -> reqwest::Client {
        let builder = reqwest::Client::builder().tls_danger_accept_invalid_certs(true);
        let builder = match self {
            Self::Http1 => builder.http1_only(),
            Self::Http2 => builder
                .http2_prior_knowledge()
                .http2_initial_stream_window_size(65_535),
        };
        builder.build().unwrap()
    }
}

/// A platform whose ports serve one connection at a time.
struct Narrow {
    folder: TempDir,
    platform: LocalPlatform,
}

impl Narrow {
    async fn start() -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let folder = tempfile::tempdir().unwrap();
        let limits = ConnectionLimits {
            write_timeout: BOUND,
            max_connections: 1,
            ..ConnectionLimits::default()
        };
        let listener = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listeners = Listeners {
            kubernetes: listener().await,
            s3: listener().await,
        };
        let options = crate::platform::options(folder.path());
        let stop = CancellationToken::new();
        let platform = LocalPlatform::start_within(limits, listeners, options, stop)
            .await
            .unwrap();
        Self { folder, platform }
    }

    /// Large config maps, past the port.
    async fn create_maps(&self) {
        let api: Api<ConfigMap> = Api::namespaced(self.platform.client(), "default");
        for index in 0..PARTS {
            let mut map = ConfigMap::default();
            map.metadata.name = Some(format!("m{index}"));
            map.data = Some([("k".to_owned(), "x".repeat(PART))].into());
            api.create(&PostParams::default(), &map).await.unwrap();
        }
    }

    /// A large object, past the port.
    fn put_object(&self) {
        let blobs = self.platform.blobs();
        let mut draft = blobs.begin().unwrap();
        for _ in 0..PARTS {
            draft.write(&[7; PART]).unwrap();
        }
        let to = (BUCKET, "large");
        let all = (Attributes::default(), WriteIf::Always);
        blobs.commit(draft, to, all.0, &all.1).unwrap();
    }

    fn get(&self, client: &reqwest::Client, what: &str) -> reqwest::RequestBuilder {
        if let Some(path) = what.strip_prefix("kubernetes:") {
            let file = self.folder.path().join("data/kubeconfig");
            let config = serde_json::to_value(Kubeconfig::read_from(file).unwrap()).unwrap();
            let token = config["users"][0]["user"]["token"].as_str().unwrap();
            let address = self.platform.kubernetes_address().unwrap();
            return client
                .get(format!("https://{address}{path}"))
                .bearer_auth(token);
        }
        let host = self.platform.s3_address().to_string();
        let now = (jiff::Timestamp::now(), 60);
        client.get(presign(("GET", &host, what), &KEY, now, &[]))
    }

    /// Asks twice, and reads the second answer alone, for which the first connection has to go.
    async fn cuts_off(&self, protocol: Protocol, what: &str, other: &str) {
        let case = format!("{protocol:?} {what}");
        let began = Instant::now();
        let unread = self.get(&protocol.client(), what).send().await.unwrap();
        assert_eq!(unread.status(), 200, "{case}");
        if what.contains("watch=") {
            self.create_maps().await;
        }
        let client = protocol.client();
        let second = tokio::time::timeout(PATIENCE, self.get(&client, other).send()).await;
        let second = second.unwrap_or_else(|_| panic!("{case}: the first connection stays"));
        assert_eq!(second.unwrap().status(), 200, "{case}");
        let took = began.elapsed();
        assert!(
            took >= BOUND,
            "{case}: the answer was cut off after {took:?}"
        );
        let rest = unread.bytes().await;
        assert!(rest.is_err(), "{case}: the answer is whole");
    }
}

#[tokio::test]
async fn the_kubernetes_port_cuts_off_who_does_not_read_a_list_or_a_watch() {
    let maps = "kubernetes:/api/v1/namespaces/default/configmaps";
    let news = format!("{maps}?watch=true");
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let narrow = Narrow::start().await;
        // What the watch tells comes while it goes on, and is what the list has then.
        for what in [&*news, maps] {
            narrow.cuts_off(protocol, what, "kubernetes:/version").await;
        }
    }
}

#[tokio::test]
async fn the_s3_port_cuts_off_who_does_not_read_an_object() {
    let narrow = Narrow::start().await;
    narrow.put_object();
    let (object, other) = (path(BUCKET, "large"), format!("/{BUCKET}"));
    for protocol in [Protocol::Http1, Protocol::Http2] {
        narrow.cuts_off(protocol, &object, &other).await;
    }
}

/// A body of which the first bytes come and no more.
fn unsent() -> reqwest::Body {
    let first = futures::stream::iter([Ok::<_, std::io::Error>("{".into())]);
    let frames = first.chain(futures::stream::pending());
    reqwest::Body::wrap(StreamBody::new(frames.map_ok(Frame::<Bytes>::data)))
}

#[tokio::test]
async fn both_ports_refuse_a_body_that_does_not_arrive() {
    let narrow = Narrow::start().await;
    let host = narrow.platform.s3_address().to_string();
    let maps = "kubernetes:/api/v1/namespaces/default/configmaps";
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let client = protocol.client();
        let now = (jiff::Timestamp::now(), 60);
        let object = presign(("PUT", &host, &path(BUCKET, "k")), &KEY, now, &[]);
        let bucket = presign(("PUT", &host, "/another-bucket"), &KEY, now, &[]);
        let mut create = narrow.get(&client, maps).build().unwrap();
        *create.method_mut() = reqwest::Method::POST;
        let create = reqwest::RequestBuilder::from_parts(client.clone(), create);
        for (request, status, words) in [
            (create, 408, "did not arrive"),
            (client.put(object), 400, "RequestTimeout"),
            (client.put(bucket), 400, "RequestTimeout"),
        ] {
            let case = format!("{protocol:?} {words}");
            let began = Instant::now();
            let unsent = request.header("content-length", 1_000).body(unsent());
            let answer = tokio::time::timeout(PATIENCE, unsent.send()).await;
            let answer = answer.unwrap_or_else(|_| panic!("{case}: no answer"));
            let answer = answer.unwrap();
            assert_eq!(answer.status(), status, "{case}");
            let text = answer.text().await.unwrap();
            assert!(text.contains(words), "{case}: {text}");
            assert!(began.elapsed() >= BOUND, "{case}");
        }
    }
}
