//! Runs the handler of a probe or hook once: a command, a request over HTTP or gRPC, a connection, a pause.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::net::unix::pipe;
use tokio::process::Command;
use tokio::time::timeout;

use crate::kubelet::processes::{POD_VARIABLE, ProcessIdentity};
use crate::kubelet::record::{ContainerLaunch, Handler, Scheme};
use crate::supervisor::container::command_line;

mod grpc;
mod tls;

/// What is kept of the output of a command, in bytes, as a kubelet keeps it.
const OUTPUT: usize = 10 << 10;

/// Runs a handler of a container of pod `uid`. The error says what was wrong, for an event.
pub(super) async fn run(
    handler: &Handler,
    launch: &ContainerLaunch,
    uid: &str,
    limit: Option<Duration>,
) -> Result<(), String> {
    let attempt = async {
        match handler {
            Handler::Exec(command) => exec(command, launch, uid).await,
            Handler::Http {
                scheme,
                host,
                port,
                path,
                headers,
            } => get(*scheme, (host, *port), path, headers).await,
            Handler::Grpc { port, service } => grpc::check(*port, service).await,
            Handler::Tcp { host, port } => connect(host, *port).await.map(drop),
            Handler::Sleep(seconds) => {
                tokio::time::sleep(Duration::from_secs(*seconds)).await;
                Ok(())
            }
        }
    };
    match limit {
        None => attempt.await,
        Some(limit) => timeout(limit, attempt)
            .await
            .unwrap_or_else(|_| Err(format!("timed out after {} s", limit.as_secs()))),
    }
}

/// Ends the processes of a command that is not waited for any more.
struct Group(Option<ProcessIdentity>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(process) = &self.0 {
            process.signal_group(Signal::KILL);
        }
    }
}

/// Runs a command where the container runs: in its folder, with its environment and its mounts.
async fn exec(command: &[String], launch: &ContainerLaunch, uid: &str) -> Result<(), String> {
    let launch = ContainerLaunch {
        command: command.to_vec(),
        ..launch.clone()
    };
    let failed = |error: io::Error| format!("the command {command:?} cannot be run: {error}");
    let (input, output) = pipe::pipe().map_err(failed)?;
    let input = input.into_blocking_fd().map_err(failed)?;
    let second = input.try_clone().map_err(failed)?;
    let (program, arguments) = command_line(&launch);
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(launch.environment.iter().map(|(name, value)| (name, value)))
        .env(POD_VARIABLE, uid)
        .current_dir(&launch.working_directory)
        .stdin(Stdio::null())
        .stdout(input)
        .stderr(second)
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    let _group = Group(pid.and_then(|pid| ProcessIdentity::of(pid).ok()));
    let mut kept = Vec::new();
    let mut open = true;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.map_err(failed)?,
            more = keep(&output, &mut kept), if open => open = more,
        }
    };
    if status.success() {
        return Ok(());
    }
    // What it said last is still in the pipe.
    let mut rest = vec![0; OUTPUT];
    if let Ok(count) = output.try_read(&mut rest) {
        kept.extend_from_slice(rest.get(..count).unwrap_or_default());
    }
    kept.truncate(OUTPUT);
    let said = String::from_utf8_lossy(&kept).trim().to_owned();
    Err(if said.is_empty() {
        format!("the command {command:?} ended with {status}")
    } else {
        said
    })
}

/// Takes output, and keeps the beginning of it; says whether there may be more.
async fn keep(output: &pipe::Receiver, kept: &mut Vec<u8>) -> bool {
    if output.readable().await.is_err() {
        return false;
    }
    let mut buffer = [0; 4096];
    match output.try_read(&mut buffer) {
        Ok(0) => false,
        Ok(count) => {
            let room = OUTPUT.saturating_sub(kept.len()).min(count);
            kept.extend_from_slice(buffer.get(..room).unwrap_or_default());
            true
        }
        Err(error) => matches!(
            error.kind(),
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
        ),
    }
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    TcpStream::connect((host, port))
        .await
        .map_err(|error| format!("dial tcp {host}:{port}: {error}"))
}

/// A connection, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A request that succeeds with a status from 200 to 399.
async fn get(
    scheme: Scheme,
    (host, port): (&str, u16),
    path: &str,
    headers: &[(String, String)],
) -> Result<(), String> {
    let stream = connect(host, port).await?;
    let stream: Box<dyn Stream> = match scheme {
        Scheme::Http => Box::new(stream),
        Scheme::Https => Box::new(tls::connect(host, stream).await?),
    };
    let failed = |error: &dyn std::fmt::Display| format!("Get \"{path}\" of port {port}: {error}");
    let mut request = Request::get(path).header("user-agent", "kube-probe/1.34");
    let has_host = headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"));
    if !has_host {
        let host = if host.is_empty() { "127.0.0.1" } else { host };
        request = request.header("host", format!("{host}:{port}"));
    }
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(&error))?;
    let answer = sender.send_request(request);
    tokio::pin!(answer, connection);
    let response = tokio::select! {
        response = &mut answer => response,
        // The connection may end with the answer.
        _ = &mut connection => answer.await,
    };
    let status = response.map_err(|error| failed(&error))?.status().as_u16();
    if (200..400).contains(&status) {
        Ok(())
    } else {
        Err(format!("HTTP probe failed with statuscode: {status}"))
    }
}
