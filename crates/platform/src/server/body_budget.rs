//! Bodies of requests on their way in: how large, how long, and how many bytes of all of them at once.
//!
//! A byte of the budget is taken when it has arrived and given back when its request ends, so that nobody waits for bytes
//! that others have only announced. What is over the budget is refused at once, as retriable.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

/// How long a whole body may take. 4 MiB in this time are a line of half a megabit.
const RECEIVED_WITHIN: Duration = Duration::from_secs(60);

/// Bytes of bodies in memory at once.
const AT_ONCE: usize = 256 * 1024 * 1024;

/// The budget counts in units of this many bytes.
const UNIT: usize = 4 * 1024;

/// The budget of a service; clones share it.
#[derive(Clone, Debug)]
pub struct BodyBudget {
    budget: Arc<Semaphore>,
    within: Duration,
}

impl Default for BodyBudget {
    fn default() -> Self {
        Self::of(AT_ONCE, RECEIVED_WITHIN)
    }
}

/// Bytes that are in memory until this is dropped.
#[derive(Debug, Default)]
pub struct HeldBytes(Option<OwnedSemaphorePermit>);

impl BodyBudget {
    fn of(bytes: usize, within: Duration) -> Self {
        Self {
            budget: Arc::new(Semaphore::new(bytes / UNIT)),
            within,
        }
    }

    /// Reads a body until its end or until `enough` answers with what is wrong with what has come so far.
    ///
    /// # Errors
    /// That answer; DEADLINE_EXCEEDED for a body that takes too long, and UNAVAILABLE while others hold the budget.
    pub async fn collect(
        &self,
        body: Body,
        enough: impl Fn(&[u8]) -> Result<(), Status>,
    ) -> Result<(Bytes, HeldBytes), Status> {
        tokio::time::timeout(self.within, self.receive(body, enough))
            .await
            .unwrap_or_else(|_elapsed| {
                Err(Status::deadline_exceeded(format!(
                    "the request did not arrive within {} s",
                    self.within.as_secs()
                )))
            })
    }

    async fn receive(
        &self,
        mut body: Body,
        enough: impl Fn(&[u8]) -> Result<(), Status>,
    ) -> Result<(Bytes, HeldBytes), Status> {
        let mut bytes = BytesMut::new();
        let mut held = HeldBytes::default();
        while let Some(part) = body.frame().await {
            let part =
                part.map_err(|error| Status::cancelled(format!("reading the request: {error}")))?;
            if let Ok(data) = part.into_data() {
                self.grow(&mut held, bytes.len(), bytes.len() + data.len())?;
                bytes.extend_from_slice(&data);
            }
            enough(&bytes)?;
        }
        Ok((bytes.freeze(), held))
    }

    fn grow(&self, held: &mut HeldBytes, before: usize, after: usize) -> Result<(), Status> {
        let units = after.div_ceil(UNIT) - before.div_ceil(UNIT);
        if units == 0 {
            return Ok(());
        }
        let more = u32::try_from(units)
            .ok()
            .and_then(|units| self.budget.clone().try_acquire_many_owned(units).ok())
            .ok_or_else(|| {
                Status::unavailable(
                    "the requests under way hold as much memory as they may; try again",
                )
            })?;
        match &mut held.0 {
            Some(permit) => permit.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use tonic::Code;

    use super::*;

    fn parts(parts: Vec<&'static [u8]>) -> Body {
        Body::from_stream(stream::iter(parts.into_iter().map(Ok::<_, std::io::Error>)))
    }

    #[tokio::test]
    async fn bytes_are_held_until_the_request_ends() {
        static PAGE: [u8; UNIT] = [0; UNIT];
        let bodies = BodyBudget::of(3 * UNIT, RECEIVED_WITHIN);
        let page: &'static [u8] = &PAGE;
        let (bytes, held) = bodies
            .collect(parts(vec![page, b"more"]), |_| Ok(()))
            .await
            .unwrap();
        assert_eq!(bytes.len(), UNIT + 4);
        let over = bodies.collect(parts(vec![page, b"more"]), |_| Ok(())).await;
        assert_eq!(over.unwrap_err().code(), Code::Unavailable);
        drop(held);
        assert!(
            bodies
                .collect(parts(vec![page, page, page]), |_| Ok(()))
                .await
                .is_ok()
        );
    }

    #[tokio::test]
    async fn a_body_that_does_not_end_is_given_up() {
        let endless = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let status = BodyBudget::of(UNIT, Duration::from_millis(10))
            .collect(endless, |_| Ok(()))
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded);
    }
}
