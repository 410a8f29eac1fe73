//! The health of a gRPC server (`grpc.health.v1.Health/Check`), by one call over HTTP/2 without TLS, as a kubelet makes it.

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;

use super::connect;

/// The largest answer that is read, in bytes; a right one has 7.
const ANSWER: usize = 4 << 10;
/// A flag and the length before each message (gRPC over HTTP/2).
const PREFIX: usize = 5;
const SERVING: i32 = 1;

#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Asks for the health of a service; the empty one is the server as a whole.
pub(super) async fn check(port: u16, service: &str) -> Result<(), String> {
    let stream = connect("", port).await?;
    let failed = |error: &dyn std::fmt::Display| format!("gRPC probe of port {port}: {error}");
    let message = HealthCheckRequest {
        service: service.to_owned(),
    };
    let request = Request::post(format!(
        "http://127.0.0.1:{port}/grpc.health.v1.Health/Check"
    ))
    .header("content-type", "application/grpc")
    .header("te", "trailers")
    .header("user-agent", "kube-probe/1.34")
    .body(Full::new(framed(&message)))
    .map_err(|error| failed(&error))?;
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(|error| failed(&error))?;
    let call = async {
        let answer = sender.send_request(request).await;
        let (head, body) = answer.map_err(|error| failed(&error))?.into_parts();
        let body = Limited::new(body, ANSWER).collect().await;
        let body = body.map_err(|error| failed(&error))?;
        // The status is in the head if there is no message.
        let status = |map: &http::HeaderMap, name: &str| {
            let text = map.get(name)?.to_str().ok()?;
            Some(text.to_owned())
        };
        let of = |name: &str| {
            let trailers = body.trailers().and_then(|trailers| status(trailers, name));
            trailers.or_else(|| status(&head.headers, name))
        };
        match of("grpc-status").as_deref() {
            Some("0") => judge(&body.to_bytes(), port),
            Some("12") => Err(failed(
                &"this server does not implement the grpc health protocol (grpc.health.v1.Health)",
            )),
            Some(code) => {
                let why = of("grpc-message").unwrap_or_default();
                Err(failed(&format!("status {code}: {why}")))
            }
            None => Err(failed(&"the server does not speak gRPC")),
        }
    };
    tokio::pin!(call, connection);
    tokio::select! {
        found = &mut call => found,
        // The connection may end with the answer.
        _ = &mut connection => call.await,
    }
}

fn framed(message: &HealthCheckRequest) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    frame.put_slice(&message.encode_to_vec());
    frame.freeze()
}

fn judge(body: &[u8], port: u16) -> Result<(), String> {
    let message = body.get(PREFIX..).unwrap_or_default();
    match HealthCheckResponse::decode(message).map(|answer| answer.status) {
        Ok(SERVING) => Ok(()),
        Ok(status) => {
            let status = match status {
                0 => "UNKNOWN",
                2 => "NOT_SERVING",
                3 => "SERVICE_UNKNOWN",
                _ => "a status that there is not",
            };
            Err(format!("service unhealthy (responded with {status:?})"))
        }
        Err(error) => Err(format!("gRPC probe of port {port}: {error}")),
    }
}
