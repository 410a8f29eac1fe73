//! Where attempts wait whose pods the API server refuses (spec 05 §4.6).
//!
//! ```text
//! create a pod ──▶ QuotaQueue ──▶ API server
//!                      │  ▲ refused: wait here, next eligible time set
//!                      │  └ created: two more may come
//!                      └──▶ PermitInbox of the workflow, when time or a pod of the namespace is over
//! ```
//!
//! One queue for each namespace in which something was refused, shared by all workflows of the process and forgotten
//! when nobody waits any more. It is not kept over a restart: the first pods are then refused once more. At the end of
//! a wait only the attempt that has waited longest is called; each pod that is created lets two more be, and a refusal
//! none but those that ask for less. So however many wait, a namespace without room costs one request a wait.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, MutexGuard, Weak},
    time::Duration,
};

use flyte_platform::{Clock, sync::Mutex};
use flyte_plugins::{config::BackoffConfig, quota::Amounts};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

use super::quota_backoff::{QuotaBackoff, Refusal};

/// How many more are called when a pod was created.
const AFTER_SUCCESS: usize = 2;

/// Who waits, by namespace. Clones are the same.
#[derive(Clone, Debug)]
pub struct QuotaQueue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: BackoffConfig,
    clock: Clock,
    namespaces: Mutex<BTreeMap<String, Namespace>>,
    /// When the next wait is over may have changed.
    changed: Notify,
}

#[derive(Debug)]
struct Namespace {
    backoff: QuotaBackoff,
    /// In the order in which they are called.
    waiting: BTreeMap<u64, Waiter>,
    /// The files of those who wait, by pod.
    files: BTreeMap<String, u64>,
    next_place: u64,
    /// How many were called and have not come to an end yet.
    called: usize,
    /// Another pod has ended since somebody was called.
    freed: bool,
}

#[derive(Debug)]
struct Waiter {
    pod: String,
    demands: Amounts,
    inbox: Weak<PermitInbox>,
}

/// Who wants to create a pod.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub(super) namespace: &'a str,
    pub(super) pod: &'a str,
    pub(super) demands: &'a Amounts,
    pub(super) inbox: &'a Arc<PermitInbox>,
}

/// Whether a pod may be tried.
#[derive(Debug)]
pub(super) enum Admission {
    Try(LaunchPermit),
    /// It waits with others, until this time unless there is room before.
    Wait(Timestamp),
}

/// The right to ask for one pod to be created. It goes to the next when it is dropped unused.
#[derive(Debug)]
pub(super) struct LaunchPermit {
    room: QuotaQueue,
    namespace: String,
    pod: String,
    /// It was called; who comes by itself is not counted.
    called: bool,
    while_blocked: bool,
    over: bool,
}

/// What became of a permit.
enum End {
    Created,
    Refused { others_may_fit: bool },
    Unused,
}

impl QuotaQueue {
    /// A queue in which nobody waits.
    pub fn new(config: BackoffConfig, clock: Clock) -> Self {
        Self(Arc::new(Inner {
            config,
            clock,
            namespaces: Mutex::default(),
            changed: Notify::new(),
        }))
    }

    /// Whether anybody is made to wait at all.
    pub(super) fn is_open(&self) -> bool {
        self.0.config.base_second != 0
    }

    /// Asks whether a pod may be tried now; who may not is called later.
    pub(super) fn admit(&self, request: Request<'_>) -> Admission {
        let now = self.0.clock.now();
        let redeemed = request.inbox.redeem(request.pod);
        let mut namespaces = self.lock();
        let Some(namespace) = namespaces.get_mut(request.namespace) else {
            return Admission::Try(redeemed.unwrap_or_else(|| self.permit(request, false)));
        };
        let while_blocked = namespace.backoff.is_blocked(now);
        if let Some(mut permit) = redeemed {
            permit.while_blocked = while_blocked;
            return Admission::Try(permit);
        }
        if !while_blocked || namespace.backoff.is_eligible(request.demands) {
            return Admission::Try(self.permit(request, while_blocked));
        }
        namespace.wait(request);
        let until = namespace.backoff.next_eligible();
        drop(namespaces);
        self.0.changed.notify_one();
        Admission::Wait(until)
    }

    fn permit(&self, request: Request<'_>, while_blocked: bool) -> LaunchPermit {
        LaunchPermit {
            room: self.clone(),
            namespace: request.namespace.to_owned(),
            pod: request.pod.to_owned(),
            called: false,
            while_blocked,
            over: false,
        }
    }

    /// A pod of the namespace has ended or is gone: there may be room for one that waits.
    pub fn freed(&self, namespace: &str) {
        let found = self.lock().get_mut(namespace).is_some_and(|namespace| {
            if namespace.called > 0 {
                namespace.freed = true;
                return false;
            }
            true
        });
        if found {
            self.call(namespace, 1, |_, _| true);
        }
    }

    /// PermitInbox those whose wait is over, for ever.
    pub async fn call_in_time(self) {
        loop {
            let due = self.due();
            let wait = async {
                match due {
                    None => std::future::pending().await,
                    Some((time, _)) => {
                        let wait = time.duration_since(self.0.clock.now());
                        tokio::time::sleep(Duration::try_from(wait).unwrap_or_default()).await;
                    }
                }
            };
            tokio::select! {
                biased;
                () = self.0.changed.notified() => continue,
                () = wait => {}
            }
            if let Some((time, namespace)) = due
                && time <= self.0.clock.now()
            {
                self.call(&namespace, 1, |_, _| true);
            }
        }
    }

    /// When which namespace is to be tried next, of those that nobody is trying.
    fn due(&self) -> Option<(Timestamp, String)> {
        let namespaces = self.lock();
        let idle = namespaces
            .iter()
            .filter(|(_, namespace)| namespace.called == 0 && !namespace.waiting.is_empty());
        idle.map(|(name, namespace)| {
            let end = namespace.backoff.next_eligible();
            // At the very end of a wait it is not over.
            let after = end.saturating_add(SignedDuration::from_nanos(1));
            (after.unwrap_or(end), name.clone())
        })
        .min()
    }

    /// PermitInbox the first `count` who may come; those who are gone are passed over.
    fn call(&self, namespace: &str, count: usize, may_come: fn(&QuotaBackoff, &Amounts) -> bool) {
        let mut left = count;
        while left > 0 {
            let Some(waiter) = self.next(namespace, may_come) else {
                break;
            };
            // Outside of the lock: dropping the last reference may end permits, which take it.
            let permit = LaunchPermit {
                room: self.clone(),
                namespace: namespace.to_owned(),
                pod: waiter.pod,
                called: true,
                while_blocked: false,
                over: false,
            };
            match waiter.inbox.upgrade() {
                Some(inbox) => {
                    left -= 1;
                    inbox.deliver(permit);
                }
                None => permit.not_needed(),
            }
        }
        self.0.changed.notify_one();
    }

    fn next(&self, name: &str, may_come: fn(&QuotaBackoff, &Amounts) -> bool) -> Option<Waiter> {
        let mut namespaces = self.lock();
        let namespace = namespaces.get_mut(name)?;
        let place = namespace
            .waiting
            .iter()
            .find(|(_, waiter)| may_come(&namespace.backoff, &waiter.demands))
            .map(|(place, _)| *place);
        let waiter = place.and_then(|place| namespace.waiting.remove(&place));
        match &waiter {
            Some(_) => namespace.called += 1,
            None if namespace.waiting.is_empty() && namespace.called == 0 => {
                namespaces.remove(name);
            }
            None => {}
        }
        waiter
    }

    fn end(&self, permit: &LaunchPermit, end: &End) {
        let mut namespaces = self.lock();
        let Some(namespace) = namespaces.get_mut(&permit.namespace) else {
            return;
        };
        if permit.called {
            namespace.called = namespace.called.saturating_sub(1);
        }
        if !matches!(end, End::Refused { .. }) {
            namespace.forget(&permit.pod);
        }
        if matches!(end, End::Created) {
            namespace.backoff.created(self.0.clock.now());
        }
        let freed = namespace.called == 0 && std::mem::take(&mut namespace.freed);
        drop(namespaces);
        match end {
            End::Created => self.call(&permit.namespace, AFTER_SUCCESS, |_, _| true),
            End::Refused {
                others_may_fit: true,
            } => self.call(&permit.namespace, 1, QuotaBackoff::is_eligible),
            End::Unused if permit.called => self.call(&permit.namespace, 1, |_, _| true),
            End::Refused { .. } | End::Unused => self.0.changed.notify_one(),
        }
        if freed {
            self.call(&permit.namespace, 1, |_, _| true);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Namespace>> {
        self.0.namespaces.lock()
    }
}

impl Namespace {
    fn new(now: Timestamp) -> Self {
        Self {
            backoff: QuotaBackoff::new(now),
            waiting: BTreeMap::new(),
            files: BTreeMap::new(),
            next_place: 0,
            called: 0,
            freed: false,
        }
    }

    /// Takes the place that the pod had before, or the last one.
    fn wait(&mut self, request: Request<'_>) {
        let place = *self.files.entry(request.pod.to_owned()).or_insert_with(|| {
            self.next_place += 1;
            self.next_place
        });
        let waiter = Waiter {
            pod: request.pod.to_owned(),
            demands: request.demands.clone(),
            inbox: Arc::downgrade(request.inbox),
        };
        self.waiting.insert(place, waiter);
    }

    fn forget(&mut self, pod: &str) {
        if let Some(place) = self.files.remove(pod) {
            self.waiting.remove(&place);
        }
    }
}

impl LaunchPermit {
    /// The pod was created.
    pub(super) fn created(mut self) {
        self.over = true;
        self.room.clone().end(&self, &End::Created);
    }

    /// The pod was refused; `scarce` is what a quota had too little of. It waits from now on.
    pub(super) fn refused(mut self, request: Request<'_>, scarce: Amounts) {
        self.over = true;
        let room = self.room.clone();
        let now = room.0.clock.now();
        let mut namespaces = room.lock();
        let namespace = namespaces
            .entry(self.namespace.clone())
            .or_insert_with(|| Namespace::new(now));
        let refusal = Refusal {
            // Of many that were tried at once only the first one makes the others wait longer.
            while_blocked: self.while_blocked
                || (namespace.backoff.is_blocked(now) && !namespace.waiting.is_empty()),
            scarce,
        };
        namespace.backoff.refused(&refusal, room.0.config, now);
        let is_eligible = namespace.backoff.is_eligible(request.demands);
        if is_eligible {
            // What it lacks is not known, so others may lack it less.
            namespace.forget(request.pod);
        }
        namespace.wait(request);
        drop(namespaces);
        let end = End::Refused {
            others_may_fit: !is_eligible,
        };
        room.end(&self, &end);
    }

    /// The workflow that it was for has ended: whoever issued it calls the next.
    fn not_needed(mut self) {
        self.over = true;
        if let Some(namespace) = self.room.clone().lock().get_mut(&self.namespace) {
            namespace.called = namespace.called.saturating_sub(1);
            namespace.forget(&self.pod);
        }
    }
}

impl Drop for LaunchPermit {
    fn drop(&mut self) {
        if !self.over {
            self.room.clone().end(self, &End::Unused);
        }
    }
}

/// The permits that one workflow was given.
#[derive(Debug, Default)]
pub struct PermitInbox {
    state: Mutex<Called>,
    notify: Notify,
}

#[derive(Debug, Default)]
struct Called {
    /// Pods whose nodes do not know yet.
    new: BTreeSet<String>,
    permits: BTreeMap<String, LaunchPermit>,
}

impl PermitInbox {
    fn with<T>(&self, use_it: impl FnOnce(&mut Called) -> T) -> T {
        use_it(&mut self.state.lock())
    }

    fn deliver(&self, permit: LaunchPermit) {
        let before = self.with(|called| {
            called.new.insert(permit.pod.clone());
            called.permits.insert(permit.pod.clone(), permit)
        });
        self.notify.notify_one();
        drop(before);
    }

    fn redeem(&self, pod: &str) -> Option<LaunchPermit> {
        self.with(|called| called.permits.remove(pod))
    }

    /// Waits until there is a permit. Cancel-safe: permits stay until [`PermitInbox::take`].
    pub(crate) async fn wait(&self) {
        self.notify.notified().await;
    }

    /// Pods that were called since the last time.
    pub(crate) fn take(&self) -> BTreeSet<String> {
        self.with(|called| std::mem::take(&mut called.new))
    }

    /// Hands on the permits of pods that are no longer wanted.
    pub(crate) fn keep(&self, is_wanted: impl Fn(&str) -> bool) {
        let unwanted = self.with(|called| {
            let all = std::mem::take(&mut called.permits);
            let (wanted, unwanted): (BTreeMap<_, _>, BTreeMap<_, _>) =
                all.into_iter().partition(|(pod, _)| is_wanted(pod));
            called.permits = wanted;
            unwanted
        });
        // Outside of the lock: whoever gets them may be of this workflow.
        drop(unwanted);
    }
}

#[cfg(test)]
mod tests;
