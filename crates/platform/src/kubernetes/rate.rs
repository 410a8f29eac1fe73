//! How many requests a second a client sends to an API server: client-go's token bucket.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::time::Instant;
use tower::{Layer, Service};

use crate::sync::Mutex;

/// A bucket of tokens, of which each request takes one. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct RateLayer(Arc<Mutex<Bucket>>);

impl RateLayer {
    /// `burst` requests at once, then `qps` a second.
    pub(super) fn new(qps: f64, burst: u32) -> Self {
        Self(Arc::new(Mutex::new(Bucket {
            qps,
            burst: f64::from(burst),
            tokens: f64::from(burst),
            at: Instant::now(),
        })))
    }
}

impl<S> Layer<S> for RateLayer {
    type Service = Rated<S>;

    fn layer(&self, inner: S) -> Rated<S> {
        Rated {
            inner,
            bucket: self.0.clone(),
        }
    }
}

#[derive(Debug)]
struct Bucket {
    /// Tokens that come a second.
    qps: f64,
    /// The most that it holds.
    burst: f64,
    /// What it held at `at`; below zero if requests wait for tokens to come.
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// Takes a token and says how long it is until it is there. Requests get theirs in the order in which they ask.
    fn take(&mut self, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.tokens = (self.tokens + passed * self.qps).min(self.burst) - 1.0;
        if self.tokens >= 0.0 {
            Duration::ZERO
        } else {
            Duration::try_from_secs_f64(-self.tokens / self.qps).unwrap_or(Duration::MAX)
        }
    }
}

/// A service whose requests wait for their token. How long depends on those before: whoever asks has the deadline.
#[derive(Clone, Debug)]
pub(super) struct Rated<S> {
    inner: S,
    bucket: Arc<Mutex<Bucket>>,
}

impl<S, R> Service<R> for Rated<S>
where
    S: Service<R, Future: Send> + Clone + Send + 'static,
    R: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let clone = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, clone);
        let wait = self.bucket.lock().take(Instant::now());
        let turn = Turn {
            bucket: self.bucket.clone(),
            is_used: wait.is_zero(),
        };
        Box::pin(async move {
            if !wait.is_zero() {
                tracing::debug!(?wait, "client-side limit of requests to Kubernetes");
                tokio::time::sleep(wait).await;
            }
            turn.uses();
            ready.call(request).await
        })
    }
}

/// The token of a request. A request that gives up before its turn gives it back: otherwise those that nobody waits for
/// any more would keep the later ones waiting, until they give up as well.
struct Turn {
    bucket: Arc<Mutex<Bucket>>,
    is_used: bool,
}

impl Turn {
    fn uses(mut self) {
        self.is_used = true;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.is_used {
            self.bucket.lock().tokens += 1.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_before_its_turn_keeps_nobody_waiting() {
        let layer = RateLayer::new(10.0, 1);
        let service = layer.layer(tower::service_fn(async |(): ()| Ok::<_, ()>(())));
        let within =
            |time| tokio::time::timeout(Duration::from_secs(time), service.clone().call(()));
        // A thousand requests are a hundred seconds of tokens; nine hundred give up after ten.
        let answered = futures::future::join_all((0..1_000).map(|_| within(10))).await;
        let answered = answered.iter().filter(|result| result.is_ok()).count();
        assert!((100..=101).contains(&answered), "{answered}");
        let began = Instant::now();
        within(10).await.unwrap().unwrap();
        assert!(
            began.elapsed() < Duration::from_secs(1),
            "{:?}",
            began.elapsed()
        );
    }

    #[test]
    fn a_burst_is_free_and_the_rest_comes_at_the_rate() {
        let begin = Instant::now();
        let mut bucket = Bucket {
            qps: 10.0,
            burst: 2.0,
            tokens: 2.0,
            at: begin,
        };
        for (case, after, expected) in [
            ("the first of the burst", 0, 0),
            ("the second", 0, 0),
            ("the third waits for a token", 0, 100),
            ("the fourth behind it", 0, 200),
            ("one that comes later waits less", 50, 250),
            ("when all tokens were paid back", 350, 50),
            ("after a long pause there is one burst", 60_000, 0),
            ("and its second", 60_000, 0),
            ("but no third", 60_000, 100),
        ] {
            let wait = bucket.take(begin + Duration::from_millis(after));
            let wait = (wait.as_secs_f64() * 1_000.0).round();
            assert!(
                (wait - f64::from(expected)).abs() < 1.0,
                "{case}: {wait} ms"
            );
        }
    }
}
