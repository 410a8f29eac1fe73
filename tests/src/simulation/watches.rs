//! Watches that show nothing for a while, and then have to begin anew.

use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::watch;

/// How a watch ends whose begin is too long ago.
const EXPIRED: &str = r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old resource version","reason":"Expired","code":410}}"#;

/// All watches of the engine. They count how often they were held and how often they expired, together: while the sum is odd
/// they show nothing.
#[derive(Default)]
pub(super) struct Watches(watch::Sender<u32>);

impl Watches {
    /// They show nothing from now on.
    pub(super) fn hold(&self) {
        self.0.send_modify(|count| *count |= 1);
    }

    /// Those that were held end: what they have not shown is too long ago.
    pub(super) fn expire(&self) {
        self.0.send_modify(|count| *count += *count & 1);
    }

    /// The answer to a watch, which may be held and expire.
    pub(super) fn answer(&self, response: http::Response<Body>) -> http::Response<Body> {
        let held = self.0.subscribe();
        let begun = *held.borrow() & !1;
        let (parts, body) = response.into_parts();
        let shown = Some((body.into_data_stream(), held));
        let frames = futures::stream::unfold(shown, move |shown| async move {
            let (mut frames, mut held) = shown?;
            loop {
                let count = *held.borrow_and_update();
                if count >= begun + 2 {
                    return Some((Ok(Bytes::from(format!("{EXPIRED}\n"))), None));
                }
                tokio::select! {
                    biased;
                    changed = held.changed() => changed.ok()?,
                    frame = frames.next(), if count == begun => {
                        return Some((frame?, Some((frames, held))));
                    }
                }
            }
        });
        http::Response::from_parts(parts, Body::from_stream(frames))
    }
}
