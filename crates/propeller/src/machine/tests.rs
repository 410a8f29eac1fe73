//! The transitions of a workflow's lifecycle and of a graph's run, as tables (see the heads of `lifecycle` and
//! `graph_end`).

use flyte_crd::{FlyteWorkflow, status::TaskPhase};
use flyte_idl::core::{
    execution_error::ErrorKind, workflow_execution, workflow_metadata::OnFailurePolicy,
};
use flyte_plugins::{PhaseInfo, Registry, TaskInfo, config::PluginsConfig};
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::*;
use crate::{
    cleanup::leftovers::Leftovers,
    config::PropellerConfig,
    effects::{Answered, Backend, EffectError, PermanentError, TransientError},
    events::Event,
    node::{NodeEffect, NodeResult, TaskResult, system},
};

/// How an effect of the workflow itself goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goes {
    Well,
    /// Admin had heard of it from an earlier process.
    Repeated,
    /// There is no such execution.
    Missing,
    /// It is being aborted.
    WrongPhase,
    /// It has succeeded, or failed.
    Succeeded,
    Failed,
    /// Admin finds it malformed.
    Invalid,
    /// Nobody answers.
    NoAnswer,
    /// It is refused, and may be tried again.
    Refused,
    /// It can never be done.
    Never,
    /// It goes well, and the resource is deleted meanwhile.
    WellAndDeleted,
}

use Goes::{
    Failed, Invalid, Missing, Never, NoAnswer, Refused, Repeated, Succeeded, Well, WellAndDeleted,
    WrongPhase,
};

/// A machine whose nodes' effects are had at once, and whose workflow's effects go as a row says.
struct Driven {
    machine: Machine,
    now: Timestamp,
    /// Tasks whose pods fail, by id.
    failing: Vec<&'static str>,
    /// Effects of the workflow, in words.
    said: Vec<String>,
}

fn settings() -> Arc<Settings> {
    let plugins = PluginsConfig::default();
    Arc::new(Settings {
        registry: Registry::new(&plugins.tasks).unwrap(),
        propeller: PropellerConfig {
            max_workflow_retries: 2,
            ..PropellerConfig::default()
        },
        plugins,
        metadata_root: "mem://bucket/metadata".into(),
        caches: false,
    })
}

/// `n0` and `n1` side by side, between start and end.
fn workflow(changes: Value) -> FlyteWorkflow {
    let node =
        |id: &str, kind: &str| json!({ "id": id, "kind": kind, "resources": {}, "task": "t" });
    let mut workflow = json!({
        "metadata": { "name": "run", "namespace": "ns", "labels": { "execution-id": "run" } },
        "spec": {
            "id": "p:d:wf",
            "nodes": {
                "start-node": { "id": "start-node", "kind": "start" },
                "end-node": { "id": "end-node", "kind": "end" },
                "n0": node("n0", "task"), "n1": node("n1", "task"),
            },
            "connections": { "start-node": ["n0", "n1"], "n0": ["end-node"], "n1": ["end-node"] },
        },
        "tasks": { "t": {
            "id": { "resourceType": "TASK", "project": "p", "domain": "d", "name": "t", "version": "v" },
            "type": "container", "metadata": {}, "container": { "image": "i", "resources": {} },
        } },
        "executionId": { "project": "p", "domain": "d", "name": "run" },
        "status": { "phase": 0 },
    });
    for (key, value) in changes.as_object().unwrap() {
        workflow[key] = value.clone();
    }
    serde_json::from_value(workflow).unwrap()
}

impl Driven {
    fn new(workflow: &FlyteWorkflow) -> Self {
        Self {
            machine: Machine::load(workflow, Origin::default(), settings()).unwrap(),
            now: Timestamp::from_second(1_767_225_600).unwrap(),
            failing: Vec::new(),
            said: Vec::new(),
        }
    }

    fn of_node(&self, index: NodeIndex, effect: &NodeEffect) -> NodeResult {
        let fails = self.failing.contains(&self.machine.view(index).unique_id);
        match effect {
            NodeEffect::Prepare { .. } => NodeResult::Prepared(Ok(Arc::default())),
            NodeEffect::ReadInputs(_) => NodeResult::Inputs(Arc::default()),
            NodeEffect::CreatePod if fails => {
                let info = PhaseInfo::permanent(ErrorKind::User, "Code", "text");
                NodeResult::PodCreated(info)
            }
            // As the echo plugin: done when it is begun.
            NodeEffect::CreatePod => {
                let info = PhaseInfo::new(TaskPhase::Success, 0, "", TaskInfo::default());
                NodeResult::PodCreated(info)
            }
            NodeEffect::GetPod => NodeResult::Pod(None),
            NodeEffect::CompileDynamic
            | NodeEffect::Recover
            | NodeEffect::LookUpCache { .. }
            | NodeEffect::ReserveCache { .. }
            | NodeEffect::WriteCache { .. } => unreachable!("no task makes a workflow"),
            NodeEffect::ReadResult => NodeResult::TaskResult(TaskResult::Outputs { deck: false }),
            NodeEffect::CopyOutputs { .. }
            | NodeEffect::WriteOutputs { .. }
            | NodeEffect::GatherOutputs { .. }
            | NodeEffect::CopyChildOutputs { .. } => NodeResult::Copied(true),
            NodeEffect::GetSignal { .. } => NodeResult::Signal(None),
            NodeEffect::LaunchChild { .. } => NodeResult::ChildLaunched(Ok(())),
            NodeEffect::TerminateChild { .. } => NodeResult::ChildTerminated,
        }
    }

    fn of_workflow(&mut self, effect: &Effect, goes: Goes) -> Result<EffectResult, EffectError> {
        let transient = |answered| {
            Err(EffectError::Transient(TransientError {
                backend: Backend::Admin,
                answered,
                message: "m".into(),
                retry_after: std::time::Duration::ZERO,
            }))
        };
        match goes {
            NoAnswer => return transient(Answered::NoAnswer),
            Refused => return transient(Answered::Refused),
            Never => {
                let error = PermanentError(Box::new(system("Never", "m")));
                return Err(EffectError::Permanent(error));
            }
            WellAndDeleted => self.machine.abort("deleted"),
            _ => {}
        }
        Ok(match effect {
            Effect::Begin { .. } => EffectResult::Begun,
            Effect::FindLeftovers(_) => EffectResult::Leftovers(Leftovers::default()),
            Effect::Send(_) | Effect::Clear(_) => EffectResult::Sent(match goes {
                Repeated => Ok(Receipt::Repeated),
                Missing => Err(Rejection::NoExecution("m".into())),
                WrongPhase => Err(Rejection::WrongPhase("m".into())),
                Invalid => Err(Rejection::Invalid("m".into())),
                Succeeded | Failed => Err(Rejection::AlreadyEnded {
                    phase: format!("{goes:?}").to_uppercase(),
                    message: "m".into(),
                }),
                _ => Ok(Receipt::New),
            }),
            Effect::Node { .. } => unreachable!("an effect of a node"),
        })
    }

    /// Runs to the end; the workflow's effects go as `goes` says one after the other, and well after that.
    fn run(mut self, goes: &[Goes]) -> String {
        let mut goes = goes.iter().copied();
        for _ in 0..1_000 {
            let jobs = self.machine.next_jobs(self.now, ());
            for job in &jobs {
                let result = match (&job.id, &job.effect) {
                    (JobId::Node(index), Effect::Node { effect, .. }) => {
                        let result = self.of_node(*index, effect);
                        Ok(EffectResult::Node(Box::new(result)))
                    }
                    (JobId::Node(_), _) => Ok(EffectResult::Sent(Ok(Receipt::New))),
                    (JobId::Workflow, effect) => {
                        self.said.push(in_words(effect));
                        self.of_workflow(effect, goes.next().unwrap_or(Well))
                    }
                };
                self.machine.complete(job.id, result, self.now);
            }
            if self.machine.is_over() && self.machine.is_quiescent() {
                let code = self.machine.status.error.as_ref();
                let code = code.map_or("", |error| error.0.code.as_str());
                let end = format!("{:?} {code}", self.machine.phase());
                return format!("{} -> {}", self.said.join(" "), end.trim_end());
            }
            if jobs.is_empty() {
                let timer = self.machine.next_timer();
                self.now = timer.expect("something is awaited");
                self.machine.wake_timers(self.now);
            }
        }
        panic!("it goes round in circles: {:?}", self.said)
    }
}

fn in_words(effect: &Effect) -> String {
    match effect {
        Effect::Begin { .. } => "inputs".into(),
        Effect::FindLeftovers(_) => "leftovers".into(),
        Effect::Node { .. } => "node".into(),
        Effect::Clear(_) => "clear".into(),
        Effect::Send(events) => {
            let phases = events.iter().map(|event| match event {
                Event::Workflow(event) => workflow_execution::Phase::try_from(event.phase)
                    .unwrap()
                    .as_str_name()
                    .to_owned(),
                Event::Node(_) | Event::Task(_) => "node".into(),
            });
            phases.collect::<Vec<_>>().join("+")
        }
    }
}

#[test]
fn a_workflow_goes_through_its_stages_as_the_table_says() {
    for (case, goes, failing, expected) in [
        (
            "all goes well",
            &[][..],
            &[][..],
            "inputs RUNNING SUCCEEDING+SUCCEEDED -> Success",
        ),
        (
            "a node fails",
            &[],
            &["n0"],
            "inputs RUNNING FAILING FAILED -> Failed Code",
        ),
        (
            "a node fails in a workflow that another process began",
            &[Well, Repeated],
            &["n0"],
            "inputs RUNNING FAILING leftovers FAILED -> Failed Code",
        ),
        (
            "inputs cannot be written",
            &[Never],
            &[],
            "inputs FAILING leftovers FAILED -> Failed Never",
        ),
        (
            "the blob store is away for a while",
            &[NoAnswer, NoAnswer, NoAnswer, NoAnswer],
            &[],
            "inputs inputs inputs inputs inputs RUNNING SUCCEEDING+SUCCEEDED -> Success",
        ),
        (
            "it refuses more often than it may",
            &[Refused, Refused, Refused],
            &[],
            "inputs inputs inputs FAILING leftovers FAILED -> Failed RuntimeExecutionError",
        ),
        (
            "admin's row comes a moment late",
            &[Well, Missing],
            &[],
            "inputs RUNNING RUNNING SUCCEEDING+SUCCEEDED -> Success",
        ),
        (
            "terminated before it began",
            &[WellAndDeleted],
            &[],
            "inputs leftovers ABORTED -> Aborted",
        ),
        (
            "terminated while it began, and admin says so first",
            &[Well, WrongPhase, WellAndDeleted],
            &[],
            "inputs RUNNING RUNNING ABORTED -> Aborted",
        ),
        (
            "admin says so and nobody deletes the resource",
            &[Well, WrongPhase, WrongPhase, WrongPhase],
            &[],
            "inputs RUNNING RUNNING RUNNING FAILING leftovers FAILED -> Failed RuntimeExecutionError",
        ),
        (
            "terminated just before its end",
            &[Well, Well, WrongPhase],
            &[],
            "inputs RUNNING SUCCEEDING+SUCCEEDED ABORTED -> Aborted",
        ),
        (
            "admin has its end from an earlier run of ours",
            &[Well, Succeeded],
            &[],
            "inputs RUNNING SUCCEEDING+SUCCEEDED -> Success",
        ),
        (
            "admin has its end from somebody else",
            &[Well, Failed],
            &[],
            "inputs RUNNING leftovers -> Failed",
        ),
        (
            "admin finds RUNNING malformed",
            &[Well, Invalid],
            &[],
            "inputs RUNNING FAILING leftovers FAILED -> Failed ErrorRecordingError",
        ),
        (
            "whatever admin says of the end",
            &[Well, Well, Invalid],
            &[],
            "inputs RUNNING SUCCEEDING+SUCCEEDED -> Success",
        ),
        (
            "but it hears it, however often it fails to take it",
            &[Well, Well, Refused, Refused, Refused, Refused],
            &[],
            "inputs RUNNING SUCCEEDING+SUCCEEDED SUCCEEDING+SUCCEEDED SUCCEEDING+SUCCEEDED SUCCEEDING+SUCCEEDED \
             SUCCEEDING+SUCCEEDED -> Success",
        ),
        (
            "terminated while it fails",
            &[Well, Well, WellAndDeleted],
            &["n0"],
            "inputs RUNNING FAILING ABORTED -> Aborted Code",
        ),
    ] {
        let mut driven = Driven::new(&workflow(json!({})));
        driven.failing = failing.to_vec();
        assert_eq!(driven.run(goes), expected, "{case}");
    }
}

#[test]
fn a_graph_ends_as_its_statuses_say_whoever_wrote_them() {
    let end = |nodes: Value, policy: OnFailurePolicy| {
        let mut resource = workflow(json!({ "status": { "phase": 1, "nodeStatus": nodes } }));
        resource.spec.as_mut().unwrap().on_failure_policy = policy;
        Driven::new(&resource).run(&[])
    };
    let (at_once, after) = (
        OnFailurePolicy::FailImmediately,
        OnFailurePolicy::FailAfterExecutableNodesComplete,
    );
    let done = || json!({ "phase": 5 });
    let failed = |code: &str| json!({ "phase": 6, "error": { "code": code } });
    let node = |start: Value, n0: Value, n1: Value, end: Value| json!({ "start-node": start, "n0": n0, "n1": n1, "end-node": end });
    let success = "SUCCEEDING+SUCCEEDED -> Success";
    for (case, nodes, policy, expected) in [
        ("nothing has begun", json!({}), at_once, success),
        (
            "all have ended",
            node(done(), done(), done(), done()),
            at_once,
            success,
        ),
        (
            "the end node is queued",
            node(done(), done(), done(), json!({ "phase": 1 })),
            at_once,
            success,
        ),
        (
            "Go was between two rounds",
            node(done(), json!({ "phase": 4 }), done(), json!({})),
            at_once,
            success,
        ),
        (
            "one has failed and the other may begin",
            node(done(), failed("A"), json!({}), json!({})),
            at_once,
            "FAILING leftovers FAILED -> Failed A",
        ),
        (
            "both have failed: the first in the walk",
            node(done(), failed("A"), failed("B"), json!({ "phase": 7 })),
            at_once,
            "FAILING leftovers FAILED -> Failed A",
        ),
        (
            "both have failed: the last in the walk",
            node(done(), failed("A"), failed("B"), json!({ "phase": 7 })),
            after,
            "FAILING leftovers FAILED -> Failed B",
        ),
        (
            "the rest runs first",
            node(done(), failed("A"), json!({}), json!({})),
            after,
            "FAILING leftovers FAILED -> Failed A",
        ),
        (
            "a phase that nobody knows",
            node(done(), json!({ "phase": 77 }), done(), json!({})),
            at_once,
            "FAILING leftovers FAILED -> Failed IllegalStateError",
        ),
    ] {
        assert_eq!(end(nodes, policy), expected, "{case}");
    }
}

#[test]
fn a_failing_workflow_goes_on_failing_with_its_error_or_without() {
    for (case, status, expected) in [
        (
            "its error is written",
            json!({ "phase": 4, "error": { "code": "A" } }),
            "leftovers FAILED -> Failed A",
        ),
        (
            "it is not",
            json!({ "phase": 4 }),
            "leftovers FAILED -> Failed RuntimeExecutionError",
        ),
        (
            "a phase that nobody knows",
            json!({ "phase": 78 }),
            "FAILING leftovers FAILED -> Failed IllegalStateError",
        ),
    ] {
        let driven = Driven::new(&workflow(json!({ "status": status })));
        assert_eq!(driven.run(&[]), expected, "{case}");
    }
}

#[test]
fn an_effect_that_leads_to_nothing_but_itself_fails_its_node() {
    let resource = workflow(json!({}));
    let mut machine = Machine::load(&resource, Origin::default(), settings()).unwrap();
    let now = Timestamp::from_second(1_767_225_600).unwrap();
    let mut asked = 0;
    let mut jobs = machine.next_jobs(now, ());
    while let Some(job) = jobs.pop() {
        let result = match &job.effect {
            Effect::Begin { .. } => EffectResult::Begun,
            // Never what was asked for: the step does not take it in.
            Effect::Node { .. } => {
                asked += 1;
                assert!(asked < 100, "it is asked for ever");
                EffectResult::Node(Box::new(NodeResult::Copied(true)))
            }
            Effect::Send(_) | Effect::Clear(_) => EffectResult::Sent(Ok(Receipt::New)),
            Effect::FindLeftovers(_) => EffectResult::Leftovers(Leftovers::default()),
        };
        machine.complete(job.id, Ok(result), now);
        jobs.extend(machine.next_jobs(now, ()));
    }
    assert!(machine.is_over());
    let error = &machine.status.error.as_ref().unwrap().0;
    assert_eq!(error.code, "IllegalStateError");
    assert!(
        error.message.contains("write the inputs"),
        "{}",
        error.message
    );
}

#[test]
fn a_node_that_waits_to_try_again_can_time_out_and_be_aborted() {
    let mut resource = workflow(json!({}));
    for node in resource.spec.as_mut().unwrap().nodes.values_mut() {
        node.execution_deadline = Some("20s".into());
    }
    let run = |abort_at: Option<i64>| {
        let mut machine = Machine::load(&resource, Origin::default(), settings()).unwrap();
        let begin = Timestamp::from_second(1_767_225_600).unwrap();
        let mut now = begin;
        while !machine.is_over() {
            for job in machine.next_jobs(now, ()) {
                let result = match &job.effect {
                    Effect::Node {
                        effect: NodeEffect::CreatePod,
                        ..
                    } => {
                        let message = "away".to_owned();
                        Err(TransientError::no_answer(Backend::Kubernetes, message).into())
                    }
                    Effect::Node { .. } => Ok(EffectResult::Node(Box::new(NodeResult::Prepared(
                        Ok(Arc::default()),
                    )))),
                    Effect::Begin { .. } => Ok(EffectResult::Begun),
                    Effect::Send(_) | Effect::Clear(_) => Ok(EffectResult::Sent(Ok(Receipt::New))),
                    Effect::FindLeftovers(_) => Ok(EffectResult::Leftovers(Leftovers::default())),
                };
                machine.complete(job.id, result, now);
            }
            if machine.is_quiescent() && !machine.is_over() {
                let elapsed = now.duration_since(begin).as_secs();
                if abort_at.is_some_and(|at| elapsed >= at) {
                    machine.abort("deleted");
                } else {
                    now = machine.next_timer().unwrap_or(now);
                    machine.wake_timers(now);
                }
            }
        }
        let waited = now.duration_since(begin);
        (machine.phase(), waited, machine.status.error.clone())
    };
    let (phase, waited, error) = run(None);
    assert_eq!(phase, WorkflowPhase::Failed);
    assert_eq!(error.unwrap().0.code, "RetriesExhausted|TimeoutExpired");
    assert!(waited < SignedDuration::from_secs(22), "{waited:?}");
    let (phase, waited, _) = run(Some(7));
    assert_eq!(phase, WorkflowPhase::Aborted);
    assert!(waited < SignedDuration::from_secs(13), "{waited:?}");
}

/// Another engine may have the workflow, and have deleted the pod of an attempt that ended well: the attempt that follows is
/// begun when the write was not refused.
#[test]
fn after_a_pod_that_went_the_next_is_made_when_the_loss_is_written() {
    for (gone, waits) in [("ResourceDeletedExternally", true), ("Interrupted", false)] {
        let mut machine =
            Machine::load(&workflow(json!({})), Origin::default(), settings()).unwrap();
        let now = Timestamp::from_second(1_767_225_600).unwrap();
        let mut created = Vec::new();
        let mut run = |machine: &mut Machine| {
            created.clear();
            loop {
                let jobs = machine.next_jobs(now, ());
                if jobs.is_empty() {
                    return created.len();
                }
                for job in jobs {
                    let result = match &job.effect {
                        Effect::Node {
                            effect: NodeEffect::CreatePod,
                            ..
                        } => {
                            created.push(job.id);
                            let info = PhaseInfo::retryable(ErrorKind::System, gone, "gone");
                            // Of the first attempt; that of the next one is under way.
                            if created.len() > 2 {
                                continue;
                            }
                            EffectResult::Node(Box::new(NodeResult::PodCreated(info)))
                        }
                        Effect::Node { .. } => {
                            let inputs = NodeResult::Prepared(Ok(Arc::default()));
                            EffectResult::Node(Box::new(inputs))
                        }
                        Effect::Begin { .. } => EffectResult::Begun,
                        Effect::Send(_) | Effect::Clear(_) => EffectResult::Sent(Ok(Receipt::New)),
                        Effect::FindLeftovers(_) => EffectResult::Leftovers(Leftovers::default()),
                    };
                    machine.complete(job.id, Ok(result), now);
                }
            }
        };
        let before_write = run(&mut machine);
        assert_eq!(before_write, if waits { 2 } else { 4 }, "{gone}");
        assert!(
            machine.must_write() && machine.is_quiescent() == waits,
            "{gone}"
        );
        let patch = machine.patch(&[], now).unwrap();
        machine.written(&patch);
        if waits {
            assert_eq!(run(&mut machine), 2, "{gone}");
        }
    }
}
