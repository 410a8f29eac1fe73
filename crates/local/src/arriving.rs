//! Bodies of requests that do not arrive: whoever announces one and sends nothing, or a byte a minute, would hold a
//! connection and what it has sent for ever.

use std::fmt;
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};

/// The time that a body may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Within {
    /// From its beginning to its end, as at the ports of flyteadmin: for bodies that are read whole.
    Whole(Duration),
    /// For each piece of [`PIECE`] bytes: for bodies of any size.
    Piece(Duration),
}

/// As many bytes as an answer is handed over at once: whoever sends that many in the time of a bound is not cut off.
const PIECE: usize = 64 * 1024;

impl Within {
    /// The same body, which fails with [`Late`] once its time is over. Only the time that it is waited for counts.
    pub(crate) fn bound(self, body: Body) -> Body {
        Body::new(Arriving {
            body,
            within: self,
            arrived: 0,
            waited: Duration::ZERO,
            waiting: None,
        })
    }

    fn time(self) -> Duration {
        match self {
            Self::Whole(time) | Self::Piece(time) => time,
        }
    }
}

/// A body did not arrive in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Late(Within);

impl Late {
    /// Whether an error, or what it comes from, is that a body was late.
    pub(crate) fn find(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let mut causes = std::iter::successors(Some(error), |error| error.source());
        causes.find_map(|error| error.downcast_ref::<Self>().copied())
    }
}

impl fmt::Display for Late {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Within::Whole(time) => {
                write!(
                    formatter,
                    "the body of the request did not arrive within {time:?}"
                )
            }
            Within::Piece(time) => write!(
                formatter,
                "less than {PIECE} bytes of the body of the request arrived within {time:?}"
            ),
        }
    }
}

impl std::error::Error for Late {}

struct Arriving {
    body: Body,
    within: Within,
    /// Bytes since the time began.
    arrived: usize,
    /// How long it was waited for before the last wait.
    waited: Duration,
    waiting: Option<Waiting>,
}

struct Waiting {
    since: Instant,
    over: Pin<Box<Sleep>>,
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let Poll::Ready(frame) = polled else {
            let left = self.within.time().saturating_sub(self.waited);
            let waiting = self.waiting.get_or_insert_with(|| Waiting {
                since: Instant::now(),
                over: Box::pin(tokio::time::sleep(left)),
            });
            ready!(waiting.over.as_mut().poll(cx));
            return Poll::Ready(Some(Err(Late(self.within).into())));
        };
        if let Some(waiting) = self.waiting.take() {
            self.waited += waiting.since.elapsed();
        }
        if let Some(Ok(frame)) = &frame {
            self.arrived += frame.data_ref().map_or(0, Bytes::len);
        }
        if matches!(self.within, Within::Piece(_)) && self.arrived >= PIECE {
            (self.arrived, self.waited) = (0, Duration::ZERO);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt, stream};
    use http_body_util::BodyExt;

    use super::*;

    const TIME: Duration = Duration::from_secs(60);

    /// What comes of a body of pieces that come so many seconds after one another.
    async fn arrives(within: Within, pieces: &'static [(u64, usize)], reading: Duration) -> bool {
        let pieces = stream::iter(pieces).then(|(after, bytes)| async {
            tokio::time::sleep(Duration::from_secs(*after)).await;
            Ok::<_, std::io::Error>(Bytes::from(vec![0; *bytes]))
        });
        let mut body = within.bound(Body::from_stream(pieces));
        while let Some(frame) = body.frame().await {
            if let Err(error) = frame {
                assert_eq!(Late::find(&error), Some(Late(within)));
                return false;
            }
            tokio::time::sleep(reading).await;
        }
        true
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_has_its_time() {
        let (whole, piece, fast) = (Within::Whole(TIME), Within::Piece(TIME), Duration::ZERO);
        for (case, within, pieces, reading, expected) in [
            ("at once", whole, &[(0_u64, 1_usize)] as &[_], fast, true),
            ("never", whole, &[(1 << 30, 1)], fast, false),
            ("never", piece, &[(1 << 30, 1)], fast, false),
            ("in time", whole, &[(29, 1), (30, 1)], fast, true),
            (
                "a byte now and then",
                whole,
                &[(29, 1), (32, 1)],
                fast,
                false,
            ),
            (
                "a byte now and then",
                piece,
                &[(29, 1), (32, 1)],
                fast,
                false,
            ),
            (
                "slow and long",
                piece,
                &[(50, PIECE), (50, PIECE), (50, 1)],
                fast,
                true,
            ),
            (
                "slow and long",
                whole,
                &[(50, PIECE), (50, PIECE)],
                fast,
                false,
            ),
            ("read slowly", piece, &[(50, 1), (0, 1), (0, 1)], TIME, true),
        ] {
            let arrived = arrives(within, pieces, reading).await;
            assert_eq!(arrived, expected, "{case}: {within:?}");
        }
    }
}
