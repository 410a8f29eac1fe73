//! What goes wrong, and when.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use flyte_local::cluster::ApiService;
use flyte_platform::sync::Mutex;
use http::{Method, StatusCode};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;
use tokio::sync::{Notify, watch};
use tower::ServiceExt as _;

use super::{NAMESPACE, watches::Watches};

/// Something that goes wrong at one effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is refused and does not happen.
    Fail,
    /// It happens, but the answer is lost, so it is done again.
    Repeat,
    /// The engine dies just before it.
    CrashBefore,
    /// The engine dies just after it, before it hears the answer.
    CrashAfter,
    /// What asks for it panics.
    Panic,
}

impl Fault {
    /// Every one that a cluster or a process can have; a panic is a mistake of ours.
    pub const ALL: [Self; 4] = [
        Self::Fail,
        Self::Repeat,
        Self::CrashBefore,
        Self::CrashAfter,
    ];
}

/// At which effect what goes wrong; effects are numbered from 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan(pub BTreeMap<u64, Fault>);

impl Plan {
    /// One fault.
    pub fn one(effect: u64, fault: Fault) -> Self {
        Self(BTreeMap::from([(effect, fault)]))
    }

    /// `count` faults at random among the first `effects`, always the same for one seed.
    pub fn random(seed: u64, count: usize, effects: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let fault = |random: &mut StdRng| match random.random_range(0..4) {
            0 => Fault::Fail,
            1 => Fault::Repeat,
            2 => Fault::CrashBefore,
            _ => Fault::CrashAfter,
        };
        Self(
            (0..count)
                .map(|_| (random.random_range(1..=effects), fault(&mut random)))
                .collect(),
        )
    }
}

/// After which writes of the workflow's status the engine dies and is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reloads {
    /// After none.
    #[default]
    Never,
    /// After every one.
    Always,
    /// After half of them, always the same ones for one seed.
    Half(u64),
}

/// How long requests take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delays {
    /// No time at all.
    #[default]
    None,
    /// Some of them up to three seconds, on the way there or back, always the same for one seed. The engine writes a
    /// status every second while it is busy: so the writes come at any point.
    Random(u64),
}

/// What the API server does with requests of one kind.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The method of the requests.
    pub method: &'static str,
    /// A part of their paths.
    pub path: &'static str,
    /// How many of them it concerns; those after them are answered as ever.
    pub count: usize,
    /// What becomes of them.
    pub answer: Answer,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// It is refused.
    Refuse(Refusal),
    /// It is never answered.
    Hang,
}

/// What the API server takes.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// Admin takes no larger message.
    pub(super) event_bytes: usize,
    /// After how many effects admin is away, and for how long.
    pub(super) away: Option<(u64, Duration)>,
    /// So many pods that have not ended.
    pub(super) pods: Option<usize>,
    /// Answers to the first pods.
    pub(super) refusals: Vec<Refusal>,
    /// What asks for an effect whose name contains this panics, however often.
    pub(super) panics: Option<&'static str>,
    /// When the engine is started again.
    pub(super) reloads: Reloads,
    /// How long requests take.
    pub(super) delays: Delays,
    /// Requests that are treated in a way of their own.
    pub(super) rules: Vec<Rule>,
}

/// What the API server says to a pod that it does not take.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    /// HTTP status.
    pub code: u16,
    /// Reason for programs.
    pub reason: &'static str,
    /// Message for people.
    pub message: &'static str,
}

impl Refusal {
    fn status(&self) -> serde_json::Value {
        json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": self.code,
            "reason": self.reason, "message": self.message,
        })
    }
}

/// Counts effects and makes them go wrong. Clones are the same.
#[derive(Clone)]
pub(super) struct Faults(Arc<Inner>);

struct Inner {
    plan: Plan,
    reloads: Option<Mutex<StdRng>>,
    always_reloads: bool,
    delays: Option<Mutex<StdRng>>,
    rules: Mutex<Vec<Rule>>,
    /// Admin takes no larger message.
    most_bytes: usize,
    away: Option<(u64, Duration)>,
    /// Until when admin is away; set when it goes.
    returns: std::sync::OnceLock<tokio::time::Instant>,
    most_pods: Option<usize>,
    refusals: Mutex<VecDeque<Refusal>>,
    panics: Option<&'static str>,
    /// Pods are counted and created one by one.
    admission: tokio::sync::Mutex<()>,
    effects: watch::Sender<u64>,
    /// Requests that a rule has refused.
    refused: watch::Sender<usize>,
    watches: Watches,
    crash: Notify,
    pods: Mutex<BTreeMap<String, u32>>,
    trace: Mutex<Vec<String>>,
    /// What the engine read of the cluster and watched.
    reads: Mutex<BTreeSet<String>>,
    status_writes: AtomicU64,
    calls: AtomicU64,
}

/// What the seam does with one effect.
enum Verdict {
    Perform,
    Refuse,
    PerformAndLose,
    DieBefore,
    DieAfter,
    Panic,
}

impl Faults {
    pub(super) fn new(plan: Plan, limits: Limits) -> Self {
        let random = |seed| Mutex::new(StdRng::seed_from_u64(seed));
        Self(Arc::new(Inner {
            plan,
            reloads: match limits.reloads {
                Reloads::Never | Reloads::Always => None,
                Reloads::Half(seed) => Some(random(seed)),
            },
            always_reloads: limits.reloads == Reloads::Always,
            delays: match limits.delays {
                Delays::None => None,
                Delays::Random(seed) => Some(random(seed)),
            },
            rules: Mutex::new(limits.rules),
            most_bytes: limits.event_bytes,
            away: limits.away,
            returns: std::sync::OnceLock::new(),
            most_pods: limits.pods,
            refusals: Mutex::new(limits.refusals.into()),
            panics: limits.panics,
            admission: tokio::sync::Mutex::default(),
            effects: watch::Sender::new(0),
            refused: watch::Sender::new(0),
            watches: Watches::default(),
            crash: Notify::new(),
            pods: Mutex::default(),
            trace: Mutex::default(),
            reads: Mutex::default(),
            status_writes: AtomicU64::new(0),
            calls: AtomicU64::new(0),
        }))
    }

    pub(super) fn effects(&self) -> u64 {
        *self.0.effects.borrow()
    }

    pub(super) fn pods(&self) -> BTreeMap<String, u32> {
        self.0.pods.lock().clone()
    }

    /// All effects in the order in which they began.
    pub(super) fn trace(&self) -> Vec<String> {
        self.0.trace.lock().clone()
    }

    /// The effect that began last.
    pub(super) fn last(&self) -> Option<String> {
        self.0.trace.lock().last().cloned()
    }

    /// Writes of workflow resources, and calls of admin.
    pub(super) fn counts(&self) -> (u64, u64) {
        (
            self.0.status_writes.load(Ordering::Relaxed),
            self.0.calls.load(Ordering::Relaxed),
        )
    }

    /// What was read of the cluster and watched, each once.
    pub(super) fn reads(&self) -> BTreeSet<String> {
        self.0.reads.lock().clone()
    }

    fn reading(&self, path: &str) {
        self.0.reads.lock().insert(path.to_owned());
    }

    /// Waits until so many effects have begun.
    pub(super) async fn reached(&self, effects: u64) {
        let mut watched = self.0.effects.subscribe();
        drop(watched.wait_for(|count| *count >= effects).await);
    }

    /// Waits until rules have refused so many requests.
    pub(super) async fn refused(&self, requests: usize) {
        let mut watched = self.0.refused.subscribe();
        drop(watched.wait_for(|count| *count >= requests).await);
    }

    /// What the engine watches.
    pub(super) fn watches(&self) -> &Watches {
        &self.0.watches
    }

    /// How many requests rules have refused.
    pub(super) fn refusals(&self) -> usize {
        *self.0.refused.borrow()
    }

    /// Waits for the next crash.
    pub(super) async fn crashed(&self) {
        self.0.crash.notified().await;
    }

    /// Takes the time that something takes.
    pub(super) async fn pause(&self) {
        let Some(delays) = &self.0.delays else { return };
        let wait = {
            let mut random = delays.lock();
            let waits = random.random_bool(0.3);
            waits.then(|| Duration::from_millis(random.random_range(100..3_000)))
        };
        if let Some(wait) = wait {
            tokio::time::sleep(wait).await;
        }
    }

    /// What a rule says about this request.
    fn ruled(&self, method: &Method, path: &str) -> Option<Answer> {
        let mut rules = self.0.rules.lock();
        let rule = rules
            .iter_mut()
            .find(|rule| rule.count > 0 && rule.method == method && path.contains(rule.path))?;
        rule.count -= 1;
        if let Answer::Refuse(_) = rule.answer {
            self.0.refused.send_modify(|count| *count += 1);
        }
        Some(rule.answer)
    }

    /// Whether admin is away now.
    fn admin_is_away(&self) -> bool {
        let Some((effects, time)) = self.0.away else {
            return false;
        };
        if self.effects() < effects {
            return false;
        }
        let now = tokio::time::Instant::now();
        now < *self.0.returns.get_or_init(|| now + time)
    }

    /// Whether the engine dies after this write of a status.
    fn reloads(&self) -> bool {
        self.0.always_reloads
            || self.0.reloads.as_ref().is_some_and(|reloads| {
                let mut random = reloads.lock();
                random.random_bool(0.5)
            })
    }

    fn next(&self, what: String) -> Verdict {
        let writes_status = what.starts_with("PATCH") && what.contains("/flyteworkflows/");
        let panics = self.0.panics.is_some_and(|part| what.contains(part));
        self.0.trace.lock().push(what);
        let mut number = 0;
        self.0.effects.send_modify(|count| {
            *count += 1;
            number = *count;
        });
        match self.0.plan.0.get(&number) {
            Some(Fault::Panic) => Verdict::Panic,
            _ if panics => Verdict::Panic,
            None if writes_status && self.reloads() => Verdict::DieAfter,
            None => Verdict::Perform,
            Some(Fault::Fail) => Verdict::Refuse,
            Some(Fault::Repeat) => Verdict::PerformAndLose,
            Some(Fault::CrashBefore) => Verdict::DieBefore,
            Some(Fault::CrashAfter) => Verdict::DieAfter,
        }
    }

    /// Performs one effect, or what the plan makes of it. After a crash nothing comes back: the engine that asked is
    /// no more.
    pub(super) async fn effect<T>(
        &self,
        what: String,
        perform: impl Future<Output = T>,
        refusal: impl FnOnce() -> T,
    ) -> T {
        self.pause().await;
        match self.next(what) {
            Verdict::Perform => {
                let done = perform.await;
                self.pause().await;
                done
            }
            Verdict::Refuse => refusal(),
            Verdict::PerformAndLose => {
                perform.await;
                refusal()
            }
            Verdict::DieBefore => self.die().await,
            Verdict::DieAfter => {
                perform.await;
                self.die().await
            }
            Verdict::Panic => panic!("a fault of the simulation"),
        }
    }

    async fn die<T>(&self) -> T {
        self.0.crash.notify_one();
        std::future::pending().await
    }

    /// Why one more pod is not taken.
    async fn refusal(&self, service: &ApiService) -> Option<serde_json::Value> {
        let said = |code: u16, reason: &str, message: String| {
            json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
                "reason": reason, "message": message,
            })
        };
        let scripted = self.0.refusals.lock().pop_front();
        if let Some(refusal) = scripted {
            return Some(said(
                refusal.code,
                refusal.reason,
                refusal.message.to_owned(),
            ));
        }
        let most = self.0.most_pods?;
        let used = running(service).await;
        (used >= most).then(|| {
            let message = format!(
                "pods is forbidden: exceeded quota: few, requested: pods=1, used: pods={used}, limited: pods={most}"
            );
            said(403, "Forbidden", message)
        })
    }

    async fn create_pod(
        &self,
        service: ApiService,
        request: http::Request<kube::client::Body>,
    ) -> Result<http::Response<Body>, std::convert::Infallible> {
        let response = service.oneshot(request).await?;
        if response.status() != StatusCode::CREATED {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX)
            .await
            .unwrap_or_default();
        let made: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        self.created_pod(
            made["metadata"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        );
        Ok(http::Response::from_parts(parts, Body::from(bytes)))
    }

    fn created_pod(&self, name: String) {
        *self.0.pods.lock().entry(name).or_default() += 1;
    }
}

/// The Kubernetes API with faults at everything that changes something.
pub(super) fn over_cluster(
    service: ApiService,
    faults: Faults,
) -> impl tower::Service<
    http::Request<kube::client::Body>,
    Response = http::Response<Body>,
    Error = std::convert::Infallible,
    Future = impl Future<Output = Result<http::Response<Body>, std::convert::Infallible>> + Send,
> + Clone
+ Send
+ 'static {
    tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let (service, faults) = (service.clone(), faults.clone());
        async move {
            match faults.ruled(request.method(), request.uri().path()) {
                None => {}
                Some(Answer::Hang) => return std::future::pending().await,
                Some(Answer::Refuse(refusal)) => return Ok(status_response(&refusal.status())),
            }
            if *request.method() == Method::GET {
                let path = request.uri().path_and_query();
                faults.reading(path.map_or("", |path| path.as_str()));
                let query = request.uri().query().unwrap_or_default();
                if query.split('&').any(|parameter| parameter == "watch=true") {
                    return Ok(faults.watches().answer(service.oneshot(request).await?));
                }
                return service.oneshot(request).await;
            }
            if request.uri().path().contains("/flyteworkflows/") {
                faults.0.status_writes.fetch_add(1, Ordering::Relaxed);
            }
            let makes_pod =
                *request.method() == Method::POST && request.uri().path().ends_with("/pods");
            let what = format!("{} {}", request.method(), request.uri().path());
            let counted = faults.clone();
            let perform = async move {
                if makes_pod {
                    let _one_by_one = counted.0.admission.lock().await;
                    if let Some(status) = counted.refusal(&service).await {
                        return Ok(status_response(&status));
                    }
                    return counted.create_pod(service, request).await;
                }
                service.oneshot(request).await
            };
            let refusal = || {
                let status = json!({
                    "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 500,
                    "reason": "InternalError", "message": "a fault of the simulation",
                });
                Ok(status_response(&status))
            };
            faults.effect(what, perform, refusal).await
        }
    })
}

fn status_response(status: &serde_json::Value) -> http::Response<Body> {
    let code = status["code"]
        .as_u64()
        .and_then(|code| StatusCode::from_u16(u16::try_from(code).ok()?).ok());
    let mut response = http::Response::new(Body::from(status.to_string()));
    *response.status_mut() = code.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

/// How many pods have not ended.
async fn running(service: &ApiService) -> usize {
    let request = http::Request::get(format!("/api/v1/namespaces/{NAMESPACE}/pods"))
        .body(kube::client::Body::empty())
        .expect("the request is well-formed");
    let Ok(response) = service.clone().oneshot(request).await;
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX)
        .await
        .unwrap_or_default();
    let listed: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let pods = listed["items"].as_array().into_iter().flatten();
    pods.filter(|pod| {
        !matches!(
            pod["status"]["phase"].as_str(),
            Some("Succeeded" | "Failed")
        )
    })
    .count()
}

/// Admin with faults at every call.
pub(super) async fn over_http(
    State(faults): State<Faults>,
    request: Request,
    next: Next,
) -> Response {
    faults.0.calls.fetch_add(1, Ordering::Relaxed);
    if faults.admin_is_away() {
        return refuse(tonic::Status::unavailable("admin is away"));
    }
    let what = request.uri().path().to_owned();
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else {
        return refuse(tonic::Status::cancelled("the caller is gone"));
    };
    let (bytes, most) = (body.len(), faults.0.most_bytes);
    let request = Request::from_parts(parts, Body::from(body));
    let perform = async {
        if bytes > most {
            // As every server of Flyte says it.
            let message = format!("grpc: received message larger than max ({bytes} vs. {most})");
            return refuse(tonic::Status::resource_exhausted(message));
        }
        next.run(request).await
    };
    faults
        .effect(what, perform, || {
            refuse(tonic::Status::unavailable("a fault of the simulation"))
        })
        .await
}

fn refuse(status: tonic::Status) -> Response {
    status.into_http::<Body>().into_response()
}
