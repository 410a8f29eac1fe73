//! Clients that do not read their answers.
//!
//! An answer that nobody takes keeps its bytes and its connection. There are two ways not to take one, and both are bounded by
//! the same time without progress:
//!
//! - nothing is read from the connection, so that a write waits: [`Writing`] ends the connection with an error;
//! - over HTTP/2, the connection is read but the window of a stream is never opened: writes go on, for pings and other
//!   streams, while hyper holds the answer back. So [`Progress`] hands bodies over in pieces and notes when each has been
//!   let go.
//!
//! A body that waits for the server (a watch, a log that is followed) is not late.

use std::{
    collections::BTreeMap,
    future::Future as _,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::{Body, Bytes};
use http_body::{Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use crate::sync::Mutex;

/// The most bytes of a body that are handed over at once: whoever takes that many in the time of a bound is not cut off.
const PIECE: usize = 64 * 1024;

/// What becomes of the answers of one connection.
#[derive(Clone, Default)]
pub struct Progress(Arc<Mutex<Answers>>);

#[derive(Default)]
struct Answers {
    next: u64,
    under_way: BTreeMap<u64, Answer>,
}

/// An answer of which something is still held.
struct Answer {
    /// When something happened to it last.
    since: Instant,
    /// Pieces that were handed over and not let go.
    pieces: usize,
    body: Source,
}

/// Where the next piece comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The body has it, or may have: the client is to take it.
    Client,
    /// The server has not made it.
    Server,
    /// There is none.
    Over,
}

impl Answer {
    /// Since when it has waited for the client.
    fn waiting(&self) -> Option<Instant> {
        (self.pieces > 0 || self.body == Source::Client).then_some(self.since)
    }
}

impl Progress {
    /// Watches what a connection writes.
    pub fn writing<S>(stream: S, longest: Duration) -> Writing<S> {
        Writing {
            stream,
            longest,
            waiting: None,
        }
    }

    /// Watches a body.
    pub fn body(&self, body: Body) -> WatchedBody {
        let mut answers = self.0.lock();
        let id = answers.next;
        answers.next += 1;
        let answer = Answer {
            since: Instant::now(),
            pieces: 0,
            body: Source::Client,
        };
        answers.under_way.insert(id, answer);
        WatchedBody {
            body,
            rest: Bytes::new(),
            note: Note {
                progress: self.clone(),
                id,
            },
        }
    }

    /// Returns once an answer has waited `longest` for its client.
    pub async fn stalled(&self, longest: Duration) {
        loop {
            let now = Instant::now();
            let first = self.first_waiting();
            // One that comes to wait from now on has the whole time before it.
            let next = first.unwrap_or(now) + longest;
            if next <= now {
                return;
            }
            tokio::time::sleep_until(next).await;
        }
    }

    fn first_waiting(&self) -> Option<Instant> {
        let answers = self.0.lock();
        answers.under_way.values().filter_map(Answer::waiting).min()
    }
}

/// Tells what happens to one answer.
#[derive(Clone)]
struct Note {
    progress: Progress,
    id: u64,
}

impl Note {
    fn happens(&self, change: impl FnOnce(&mut Answer)) {
        let mut answers = self.progress.0.lock();
        let Some(answer) = answers.under_way.get_mut(&self.id) else {
            return;
        };
        change(answer);
        answer.since = Instant::now();
        if answer.body == Source::Over && answer.pieces == 0 {
            answers.under_way.remove(&self.id);
        }
    }
}

/// Some bytes of an answer, until they have been sent.
struct Piece {
    bytes: Bytes,
    note: Note,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.note.happens(|answer| answer.pieces -= 1);
    }
}

/// A body in pieces; see [`Progress::body`].
pub struct WatchedBody {
    body: Body,
    rest: Bytes,
    note: Note,
}

impl WatchedBody {
    fn piece(&mut self) -> Frame<Bytes> {
        let bytes = self.rest.split_to(self.rest.len().min(PIECE));
        self.note.happens(|answer| answer.pieces += 1);
        Frame::data(Bytes::from_owner(Piece {
            bytes,
            note: self.note.clone(),
        }))
    }
}

impl http_body::Body for WatchedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(self.piece())));
        }
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let source = match &polled {
            Poll::Pending => Source::Server,
            Poll::Ready(Some(Ok(_))) => Source::Client,
            Poll::Ready(None | Some(Err(_))) => Source::Over,
        };
        self.note.happens(|answer| answer.body = source);
        Poll::Ready(match ready!(polled) {
            Some(Ok(frame)) => Some(Ok(match frame.into_data() {
                Ok(data) if !data.is_empty() => {
                    self.rest = data;
                    self.piece()
                }
                Ok(empty) => Frame::data(empty),
                Err(trailers) => trailers,
            })),
            ended => ended,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let of_body = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(of_body.lower().saturating_add(rest));
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}

impl Drop for WatchedBody {
    fn drop(&mut self) {
        self.note.happens(|answer| answer.body = Source::Over);
    }
}

/// A stream whose writes fail once nothing has been taken for some time; see [`Progress::writing`].
pub struct Writing<S> {
    stream: S,
    longest: Duration,
    /// Ends when a write that waits has waited too long.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S: Unpin> Writing<S> {
    /// What became of a write: one that waits does so until its time is up.
    fn within<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waiting = None;
            return polled;
        }
        let longest = self.longest;
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(longest)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("the client has read nothing for {longest:?}"),
        )))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Writing<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Writing<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.within(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.within(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.within(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.within(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;
