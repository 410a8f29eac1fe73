use std::convert::Infallible;

use axum::{Router, routing::get};
use http::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::server::{ConnectionLimits, connection, connections};

/// More than any buffer between server and client holds.
const LARGE: usize = 8 * 1024 * 1024;

/// Bytes that tell when nobody has them any more.
struct Kept(
    Vec<u8>,
    #[expect(dead_code, reason = "its drop tells")] DropGuard,
);

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A server at one end of a pipe: `/large` is one answer, `/endless` a stream without end, `/watch` says something an hour
/// later. The token is cancelled once the server has let go of what it answered.
struct Server {
    gone: CancellationToken,
    router: Router,
}

impl Server {
    fn new() -> Self {
        let gone = CancellationToken::new();
        let kept = |gone: &CancellationToken| {
            Bytes::from_owner(Kept(vec![7; LARGE], gone.clone().drop_guard()))
        };
        let (large, endless) = (gone.clone(), gone.clone());
        let router = Router::new()
            .route("/large", get(async move || Body::from(kept(&large))))
            .route(
                "/endless",
                get(async move || {
                    let bytes = kept(&endless);
                    Body::from_stream(futures::stream::repeat_with(move || {
                        Ok::<_, Infallible>(bytes.slice(0..PIECE / 2))
                    }))
                }),
            )
            .route(
                "/watch",
                get(async || {
                    let later = futures::stream::once(async {
                        tokio::time::sleep(Duration::from_secs(3_600)).await;
                        Ok::<_, Infallible>("news")
                    });
                    Body::from_stream(later)
                }),
            );
        Self { gone, router }
    }

    /// Serves `stream` and says how long it did.
    async fn serve(&self, stream: DuplexStream) -> Duration {
        let began = Instant::now();
        let limits = ConnectionLimits::default();
        let graceful = hyper_util::server::graceful::GracefulShutdown::new();
        connection(
            limits,
            &limits.builder(),
            stream,
            self.router.clone(),
            graceful.watcher(),
        )
        .await;
        began.elapsed()
    }
}

/// How a client does not take its answer.
#[derive(Clone, Copy, Debug)]
enum Client {
    /// HTTP/1, and reads nothing.
    Http1,
    /// HTTP/2, and reads nothing after the head of the answer.
    Http2,
    /// HTTP/2, reads all that comes, and never opens the window of its stream, which has so many bytes.
    Window(u32),
}

impl Client {
    /// Asks for `path` and stays; ends only by an error of its own.
    async fn ask(self, mut stream: DuplexStream, path: &str) {
        let window = match self {
            Self::Http1 => {
                let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
                stream.write_all(request.as_bytes()).await.unwrap();
                return std::future::pending().await;
            }
            Self::Http2 => 1 << 30,
            Self::Window(bytes) => bytes,
        };
        let (sender, mut connection) = h2::client::Builder::new()
            .initial_window_size(window)
            .initial_connection_window_size(1 << 30)
            .handshake::<_, Bytes>(stream)
            .await
            .unwrap();
        let head = async {
            let mut sender = sender.ready().await.unwrap();
            let request = Request::get(format!("http://a{path}")).body(()).unwrap();
            let (response, _) = sender.send_request(request, true).unwrap();
            (response.await.unwrap(), sender)
        };
        let _answer = tokio::select! {
            answer = head => answer,
            ended = &mut connection => panic!("{ended:?}"),
        };
        if matches!(self, Self::Window(_)) {
            // Reads, answers pings, and hands nothing to anybody.
            drop(connection.await);
        }
        std::future::pending::<()>().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_take_its_answer_is_cut_off_and_the_answer_let_go() {
    let bound = connections::WRITE_TIMEOUT;
    for client in [
        Client::Http1,
        Client::Http2,
        Client::Window(65_535),
        Client::Window(0),
    ] {
        for path in ["/large", "/endless"] {
            let case = format!("{client:?} {path}");
            let server = Server::new();
            let (near, far) = tokio::io::duplex(PIECE);
            let took = tokio::select! {
                took = server.serve(far) => took,
                () = client.ask(near, path) => panic!("{case}: the client ends"),
            };
            assert!(took >= bound && took < bound * 2, "{case}: {took:?}");
            let gone = server.gone.clone();
            drop(server);
            gone.cancelled().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_its_answer_slowly_gets_it() {
    let server = Server::new();
    let (mut near, far) = tokio::io::duplex(1024);
    let client = async move {
        near.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut buffer = vec![0; PIECE];
        let mut total = 0;
        loop {
            tokio::time::sleep(connections::WRITE_TIMEOUT / 2).await;
            match near.read(&mut buffer).await.unwrap() {
                0 => return total,
                count => total += count,
            }
            // The rest of a piece; what is written comes in kilobytes.
            while total % PIECE != 0 {
                match near.read(&mut buffer).await.unwrap() {
                    0 => return total,
                    count => total += count,
                }
            }
        }
    };
    let (_, total) = tokio::join!(server.serve(far), client);
    assert!(total > LARGE, "{total}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_without_news_is_not_late() {
    let server = Server::new();
    let (near, far) = tokio::io::duplex(PIECE);
    let client = async {
        let (sender, connection) = h2::client::handshake(near).await.unwrap();
        let news = async {
            let mut sender: h2::client::SendRequest<Bytes> = sender.ready().await.unwrap();
            let request = Request::get("http://a/watch").body(()).unwrap();
            let (response, _) = sender.send_request(request, true).unwrap();
            let mut body = response.await.unwrap().into_body();
            body.data().await.unwrap().unwrap()
        };
        tokio::select! {
            news = news => news,
            ended = connection => panic!("{ended:?}"),
        }
    };
    let news = tokio::select! {
        news = client => news,
        took = server.serve(far) => panic!("cut off after {took:?}"),
    };
    assert_eq!(&news[..], b"news");
    // What has been sent is remembered no longer.
    let progress = Progress::default();
    let mut body = progress.body(Body::from("all"));
    let sent: Vec<_> = std::iter::from_fn(|| {
        futures::executor::block_on(http_body_util::BodyExt::frame(&mut body))
    })
    .collect();
    assert_eq!(sent.len(), 1);
    assert!(progress.first_waiting().is_some(), "one piece is held");
    drop(sent);
    drop(body);
    assert!(progress.0.lock().under_way.is_empty());
}
