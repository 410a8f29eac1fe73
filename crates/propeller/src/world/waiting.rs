//! Where attempts wait whose pods the API server refuses (spec 05 §4.6).
//!
//! ```text
//! launch ──▶ WaitingRoom ──▶ API server
//!                │  ▲ refused: wait here, next eligible time set
//!                │  └ created: two more may come
//!                └──▶ Calls of the workflow, when time or a pod of the namespace is over
//! ```
//!
//! One room for each namespace in which something was refused, shared by all workflows of the process and forgotten
//! when nobody waits any more. It is not kept over a restart: the first pods are then refused once more. At the end of
//! a wait only the attempt that has waited longest is called; each pod that is created lets two more be, and a refusal
//! none but those that ask for less. So however many wait, a namespace without room costs one request a wait.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use flyte_platform::Clock;
use flyte_plugins::{config::BackoffConfig, quota::Amounts};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

use crate::backoff::{Backoff, Refusal};

/// How many more are called when a pod was created.
const AFTER_SUCCESS: usize = 2;

/// Who waits, by namespace. Clones are the same.
#[derive(Clone, Debug)]
pub struct WaitingRoom(Arc<Inner>);

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
    backoff: Backoff,
    /// In the order in which they are called.
    waiting: BTreeMap<u64, Waiter>,
    /// The places of those who wait, by pod.
    places: BTreeMap<String, u64>,
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
    calls: Weak<Calls>,
}

/// Who wants to create a pod.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub(super) namespace: &'a str,
    pub(super) pod: &'a str,
    pub(super) demands: &'a Amounts,
    pub(super) calls: &'a Arc<Calls>,
}

/// Whether a pod may be tried.
#[derive(Debug)]
pub(super) enum Admission {
    Try(Turn),
    /// It waits with others, until this time unless there is room before.
    Wait(Timestamp),
}

/// The right to try one pod. Whoever drops it without having tried hands it on.
#[derive(Debug)]
pub(super) struct Turn {
    room: WaitingRoom,
    namespace: String,
    pod: String,
    /// It was called; who comes by itself is not counted.
    called: bool,
    while_blocked: bool,
    over: bool,
}

/// What became of a turn.
enum End {
    Created,
    Refused { others_may_fit: bool },
    Unused,
}

impl WaitingRoom {
    /// A room in which nobody waits.
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
        let redeemed = request.calls.redeem(request.pod);
        let mut namespaces = self.lock();
        let Some(namespace) = namespaces.get_mut(request.namespace) else {
            return Admission::Try(redeemed.unwrap_or_else(|| self.turn(request, false)));
        };
        let while_blocked = namespace.backoff.is_blocked(now);
        if let Some(mut turn) = redeemed {
            turn.while_blocked = while_blocked;
            return Admission::Try(turn);
        }
        if !while_blocked || namespace.backoff.is_eligible(request.demands) {
            return Admission::Try(self.turn(request, while_blocked));
        }
        namespace.wait(request);
        let until = namespace.backoff.next_eligible();
        drop(namespaces);
        self.0.changed.notify_one();
        Admission::Wait(until)
    }

    /// What the turn of a pod is that has handed it on and was tried nevertheless.
    pub(super) fn out_of_turn(&self, request: Request<'_>) -> Turn {
        self.turn(request, true)
    }

    fn turn(&self, request: Request<'_>, while_blocked: bool) -> Turn {
        Turn {
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

    /// Calls those whose wait is over, for ever.
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

    /// Calls the first `count` who may come; those who are gone are passed over.
    fn call(&self, namespace: &str, count: usize, may_come: fn(&Backoff, &Amounts) -> bool) {
        let mut left = count;
        while left > 0 {
            let Some(waiter) = self.next(namespace, may_come) else {
                break;
            };
            // Outside of the lock: dropping the last reference may end turns, which take it.
            let turn = Turn {
                room: self.clone(),
                namespace: namespace.to_owned(),
                pod: waiter.pod,
                called: true,
                while_blocked: false,
                over: false,
            };
            match waiter.calls.upgrade() {
                Some(calls) => {
                    left -= 1;
                    calls.call(turn);
                }
                None => turn.gone(),
            }
        }
        self.0.changed.notify_one();
    }

    fn next(&self, name: &str, may_come: fn(&Backoff, &Amounts) -> bool) -> Option<Waiter> {
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

    fn end(&self, turn: &Turn, end: &End) {
        let mut namespaces = self.lock();
        let Some(namespace) = namespaces.get_mut(&turn.namespace) else {
            return;
        };
        if turn.called {
            namespace.called = namespace.called.saturating_sub(1);
        }
        if !matches!(end, End::Refused { .. }) {
            namespace.forget(&turn.pod);
        }
        if matches!(end, End::Created) {
            namespace.backoff.created(self.0.clock.now());
        }
        let freed = namespace.called == 0 && std::mem::take(&mut namespace.freed);
        drop(namespaces);
        match end {
            End::Created => self.call(&turn.namespace, AFTER_SUCCESS, |_, _| true),
            End::Refused {
                others_may_fit: true,
            } => self.call(&turn.namespace, 1, Backoff::is_eligible),
            End::Unused if turn.called => self.call(&turn.namespace, 1, |_, _| true),
            End::Refused { .. } | End::Unused => self.0.changed.notify_one(),
        }
        if freed {
            self.call(&turn.namespace, 1, |_, _| true);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Namespace>> {
        self.0
            .namespaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Namespace {
    fn new(now: Timestamp) -> Self {
        Self {
            backoff: Backoff::new(now),
            waiting: BTreeMap::new(),
            places: BTreeMap::new(),
            next_place: 0,
            called: 0,
            freed: false,
        }
    }

    /// Takes the place that the pod had before, or the last one.
    fn wait(&mut self, request: Request<'_>) {
        let place = *self
            .places
            .entry(request.pod.to_owned())
            .or_insert_with(|| {
                self.next_place += 1;
                self.next_place
            });
        let waiter = Waiter {
            pod: request.pod.to_owned(),
            demands: request.demands.clone(),
            calls: Arc::downgrade(request.calls),
        };
        self.waiting.insert(place, waiter);
    }

    fn forget(&mut self, pod: &str) {
        if let Some(place) = self.places.remove(pod) {
            self.waiting.remove(&place);
        }
    }
}

impl Turn {
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

    /// Whom it was given to is no more. Somebody else is called by whoever gave it.
    fn gone(mut self) {
        self.over = true;
        if let Some(namespace) = self.room.clone().lock().get_mut(&self.namespace) {
            namespace.called = namespace.called.saturating_sub(1);
            namespace.forget(&self.pod);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.over {
            self.room.clone().end(self, &End::Unused);
        }
    }
}

/// Which attempts of one workflow are called.
#[derive(Debug, Default)]
pub struct Calls {
    state: Mutex<Called>,
    notify: Notify,
}

#[derive(Debug, Default)]
struct Called {
    /// Pods whose nodes do not know yet.
    new: BTreeSet<String>,
    turns: BTreeMap<String, Turn>,
}

impl Calls {
    fn with<T>(&self, use_it: impl FnOnce(&mut Called) -> T) -> T {
        use_it(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn call(&self, turn: Turn) {
        let before = self.with(|called| {
            called.new.insert(turn.pod.clone());
            called.turns.insert(turn.pod.clone(), turn)
        });
        self.notify.notify_one();
        drop(before);
    }

    fn redeem(&self, pod: &str) -> Option<Turn> {
        self.with(|called| called.turns.remove(pod))
    }

    /// Waits until somebody is called. Cancel-safe: calls stay until [`Calls::take`].
    pub(crate) async fn wait(&self) {
        self.notify.notified().await;
    }

    /// Pods that were called since the last time.
    pub(crate) fn take(&self) -> BTreeSet<String> {
        self.with(|called| std::mem::take(&mut called.new))
    }

    /// Hands on the turns of pods that are no longer wanted.
    pub(crate) fn keep(&self, is_wanted: impl Fn(&str) -> bool) {
        let unwanted = self.with(|called| {
            let all = std::mem::take(&mut called.turns);
            let (wanted, unwanted): (BTreeMap<_, _>, BTreeMap<_, _>) =
                all.into_iter().partition(|(pod, _)| is_wanted(pod));
            called.turns = wanted;
            unwanted
        });
        // Outside of the lock: whoever gets them may be of this workflow.
        drop(unwanted);
    }
}

#[cfg(test)]
mod tests;
