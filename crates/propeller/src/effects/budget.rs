//! How many requests may be under way at once, and how long each may take.
//!
//! A permit is held while a request is under way and never while anything is waited for, so that who can never succeed
//! takes nothing from others. Each backend has its permits, so that one which does not answer stops no other; and of
//! those each namespace has a part, so that its requests leave some to the others.
//!
//! What was refused is tried again at a pace of its namespace, so that thousands of nodes that can never succeed take
//! little of the process and of the backends.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Weak},
    time::Duration,
};

use flyte_platform::sync::Mutex;
use tokio::{sync::Semaphore, time::Instant};

use super::error::{Backend, TransientError};

/// Requests to one backend at once, over all workflows: enough to keep a cluster and a bucket busy, few enough to keep
/// memory and connections bounded.
const PER_BACKEND: usize = 512;
/// Requests of the workflows of one namespace at once.
const PER_NAMESPACE: usize = 128;
/// Tries after a refusal that one namespace may have a second, once it has had as many at once.
const RETRIES_PER_SECOND: u32 = 50;
/// Longest time of one request to the API server: Go's `kube-client-config.timeout`.
pub(crate) const KUBERNETES_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time of one call of datacatalog, which reads and writes outputs.
const CATALOG_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time of one request to the blob store, which may carry gigabytes.
const BLOBS_TIMEOUT: Duration = Duration::from_secs(300);

/// The permits of one engine. Clones are the same.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    kubernetes: Semaphore,
    blobs: Semaphore,
    admin: Semaphore,
    catalog: Semaphore,
    admin_timeout: Duration,
    namespaces: Mutex<HashMap<String, Weak<Namespace>>>,
}

/// The part of one namespace, shared by its workflows.
#[derive(Clone, Debug)]
pub(super) struct NamespaceBudget {
    all: Budget,
    own: Arc<Namespace>,
}

#[derive(Debug)]
struct Namespace {
    permits: Semaphore,
    /// When all tries that have their turn are made.
    tried: Mutex<Option<Instant>>,
}

impl Budget {
    /// With all permits free. `admin_timeout` is how long one call of admin may take.
    pub fn new(admin_timeout: Duration) -> Self {
        Self(Arc::new(Inner {
            kubernetes: Semaphore::new(PER_BACKEND),
            blobs: Semaphore::new(PER_BACKEND),
            admin: Semaphore::new(PER_BACKEND),
            catalog: Semaphore::new(PER_BACKEND),
            admin_timeout,
            namespaces: Mutex::default(),
        }))
    }

    pub(super) fn of(&self, namespace: &str) -> NamespaceBudget {
        let mut namespaces = self.0.namespaces.lock();
        let known = namespaces.get(namespace).and_then(Weak::upgrade);
        let own = known.unwrap_or_else(|| {
            namespaces.retain(|_, namespace| namespace.strong_count() > 0);
            let own = Arc::new(Namespace {
                permits: Semaphore::new(PER_NAMESPACE),
                tried: Mutex::default(),
            });
            namespaces.insert(namespace.to_owned(), Arc::downgrade(&own));
            own
        });
        NamespaceBudget {
            all: self.clone(),
            own,
        }
    }

    /// How many more requests to the API server may begin.
    pub(super) fn free(&self) -> usize {
        self.0.kubernetes.available_permits()
    }

    fn backend(&self, backend: Backend) -> (&Semaphore, Duration) {
        let inner = &self.0;
        match backend {
            Backend::Kubernetes => (&inner.kubernetes, KUBERNETES_TIMEOUT),
            Backend::Blobs => (&inner.blobs, BLOBS_TIMEOUT),
            Backend::Admin => (&inner.admin, inner.admin_timeout),
            Backend::Catalog => (&inner.catalog, CATALOG_TIMEOUT),
        }
    }
}

impl NamespaceBudget {
    /// Makes one request within the budget.
    ///
    /// # Errors
    /// When nothing comes back in time.
    pub(super) async fn request<T>(
        &self,
        backend: Backend,
        call: impl Future<Output = T>,
    ) -> Result<T, TransientError> {
        // Semaphores that nobody closes always give a permit.
        let _own = self.own.permits.acquire().await;
        let (semaphore, within) = self.all.backend(backend);
        let _shared = semaphore.acquire().await;
        tokio::time::timeout(within, call).await.map_err(|_| {
            let message = format!("{backend} did not answer within {within:?}");
            TransientError::no_answer(backend, message)
        })
    }

    /// How long what was refused just now waits for its turn to be tried again, at least.
    pub(super) fn retry_after(&self) -> Duration {
        let now = Instant::now();
        let turn = Duration::from_secs(1) / RETRIES_PER_SECOND;
        let mut tried = self.own.tried.lock();
        let next = tried.map_or(now, |tried| tried.max(now)) + turn;
        *tried = Some(next);
        (next - now).saturating_sub(turn * RETRIES_PER_SECOND)
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    /// Requests that never end; all that get a permit have it when this returns.
    async fn hang(budget: &Budget, namespace: &str, backend: Backend, count: usize) -> JoinSet<()> {
        let mut hanging = JoinSet::new();
        for _ in 0..count {
            let own = budget.of(namespace);
            hanging.spawn(async move {
                drop(own.request(backend, std::future::pending::<()>()).await);
            });
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        hanging
    }

    /// Whether a request of another namespace is answered at once.
    async fn goes_through(budget: &Budget, backend: Backend) -> bool {
        let began = Instant::now();
        let answered = budget.of("good").request(backend, async { 7 }).await;
        answered == Ok(7) && began.elapsed() < Duration::from_millis(2)
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_whose_requests_hang_leaves_permits_to_others() {
        let budget = Budget::new(Duration::from_secs(15));
        let _hanging = hang(&budget, "bad", Backend::Kubernetes, 1_000).await;
        assert!(goes_through(&budget, Backend::Kubernetes).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_backend_that_hangs_leaves_permits_of_others() {
        let budget = Budget::new(Duration::from_secs(15));
        let mut hanging = Vec::new();
        for index in 0..10 {
            let namespace = format!("n{index}");
            hanging.push(hang(&budget, &namespace, Backend::Admin, 100).await);
        }
        assert!(goes_through(&budget, Backend::Blobs).await);
        assert!(!goes_through(&budget, Backend::Admin).await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_is_tried_again_at_the_pace_of_its_namespace() {
        let budget = Budget::new(Duration::from_secs(15));
        let (bad, good) = (budget.of("bad"), budget.of("good"));
        let waits: Vec<_> = (0..5_000).map(|_| bad.retry_after()).collect();
        for second in 0..99 {
            let turns = Duration::from_secs(second)..Duration::from_secs(second + 1);
            let count = waits.iter().filter(|wait| turns.contains(*wait)).count();
            let most = if second == 0 { 100 } else { 50 };
            assert!(count <= most, "{count} tries in second {second}");
        }
        assert!(waits[49].is_zero() && waits[4_999] <= Duration::from_secs(99));
        assert!(good.retry_after().is_zero(), "another namespace waits");
        // Turns are as many after a while.
        tokio::time::sleep(Duration::from_secs(200)).await;
        assert!(bad.retry_after().is_zero());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_not_answered_says_so_in_time() {
        let own = Budget::new(Duration::from_secs(15)).of("n");
        let request = own.request(Backend::Kubernetes, std::future::pending::<()>());
        let error = request.await.unwrap_err();
        let expected = "the Kubernetes API did not answer within 30s";
        assert_eq!(error.to_string(), expected);
    }
}
