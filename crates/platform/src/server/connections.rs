//! What one connection may take, and how many there are.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::{
    rt::{TokioExecutor, TokioTimer},
    server::conn::auto,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Streams of an HTTP/2 connection at once, unless configured.
const STREAMS: u32 = 1024;

/// How long the head of a request may take, unless configured; Go's default.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(32);

/// How long an answer may wait for its client: as long as a request's body may take to arrive.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// What an HTTP/2 client begins with. Whoever has sent it, or something else, speaks some HTTP, and hyper's own timeouts
/// count; hyper waits for it without one.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the connections of a port may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// How long a client has for the head of a request: from the connection on for the first, from its first byte for
    /// later ones.
    pub header_read_timeout: Duration,
    /// How long an answer may wait for its client, on the connection or for the window of its stream; then the connection
    /// ends. Each piece of 64 KiB that is taken begins it anew.
    pub write_timeout: Duration,
    /// Calls at once on one connection.
    pub max_concurrent_streams: u32,
    /// Connections at once; more wait in the system's queue. By default three quarters of the files that this process may
    /// have open.
    pub max_connections: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            header_read_timeout: HEADER_READ_TIMEOUT,
            write_timeout: WRITE_TIMEOUT,
            max_concurrent_streams: STREAMS,
            max_connections: three_quarters_of_files(),
        }
    }
}

fn three_quarters_of_files() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let files = limit.and_then(|files| usize::try_from(files).ok());
    // Without a limit, or with one beyond what a semaphore counts.
    let files = files.unwrap_or(usize::MAX).min(1 << 20);
    files / 4 * 3
}

impl ConnectionLimits {
    pub(super) fn builder(&self) -> auto::Builder<TokioExecutor> {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.header_read_timeout);
        // flytekit pings every 30 s and must not be taken for an abuser; half-open peers are found out.
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(Duration::from_secs(60)))
            .keep_alive_timeout(Duration::from_secs(20))
            .max_concurrent_streams(self.max_concurrent_streams)
            .initial_stream_window_size(1024 * 1024)
            .initial_connection_window_size(4 * 1024 * 1024);
        builder
    }
}

/// Whether a client has begun to speak.
#[derive(Clone, Default)]
pub(super) struct Spoken(Arc<AtomicBool>);

impl Spoken {
    pub(super) fn yet(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A stream that notes when enough has been read to tell what the client speaks.
pub(super) struct Listened<S> {
    stream: S,
    /// What of the preface has not been read.
    preface: &'static [u8],
    spoken: Spoken,
}

impl<S> Listened<S> {
    pub(super) fn new(stream: S, spoken: Spoken) -> Self {
        Self {
            stream,
            preface: PREFACE,
            spoken,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Listened<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if !self.preface.is_empty() {
            let new = buffer.filled().get(before..).unwrap_or_default();
            let shared = new
                .iter()
                .zip(self.preface)
                .take_while(|(new, expected)| new == expected)
                .count();
            let differs = shared < new.len();
            self.preface = match self.preface.get(shared..) {
                Some(rest) if !differs => rest,
                _ => &[],
            };
            if self.preface.is_empty() {
                self.spoken.0.store(true, Ordering::Relaxed);
            }
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Listened<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
