//! What has become of the executions that launch plan nodes have made (spec 04 §7.5).
//!
//! flyteadmin has no watch. So all children of an engine that have not ended are asked for together, a hundred in one
//! list, once a second; and one whose workflow this engine has just seen end is asked for at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use flyte_core::identifiers::ExecutionId;
use flyte_idl::{
    admin::{self, Execution, ResourceListRequest, execution_closure},
    core::workflow_execution::Phase,
};
use flyte_platform::{Backoff, sync::Mutex};
use tokio::{sync::Notify, time::Instant};

use super::inbox::Inbox;
use crate::{
    effects::{Effects, TransientError},
    machine::ChildWatch,
    node::{ChildState, launch_plan},
};

/// How often children are asked for.
const INTERVAL: Duration = Duration::from_secs(1);
/// How many are asked for with one list.
const AT_ONCE: usize = 100;
/// A child that lists do not have for so long is asked for by itself: lists leave out what is archived or cannot be read, and a
/// read replica may lag.
const ABSENT_FOR: Duration = Duration::from_secs(10);
/// Waits while flyteadmin does not answer.
const BACKOFF: Backoff = Backoff::new(INTERVAL, Duration::from_secs(5));

/// The children that workflows of one engine wait for.
#[derive(Debug, Default)]
pub(super) struct Children {
    known: Mutex<Known>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Known {
    children: BTreeMap<ExecutionId, Child>,
    /// To be asked for at once.
    due: BTreeSet<ExecutionId>,
}

#[derive(Debug)]
struct Child {
    parent: ExecutionId,
    inbox: Arc<Inbox>,
    state: ChildState,
    absent_since: Option<Instant>,
}

/// The children of one workflow; nobody asks for them any more when this is dropped.
pub(super) struct ChildrenOf {
    all: Arc<Children>,
    parent: ExecutionId,
    inbox: Arc<Inbox>,
    names: BTreeSet<String>,
}

impl ChildrenOf {
    pub(super) fn new(all: Arc<Children>, parent: ExecutionId, inbox: Arc<Inbox>) -> Self {
        Self {
            all,
            parent,
            inbox,
            names: BTreeSet::new(),
        }
    }

    fn id(&self, name: String) -> ExecutionId {
        ExecutionId {
            name,
            ..self.parent.clone()
        }
    }

    /// Takes in what the workflow wants to hear of. `may_have_ended`: it was launched by an earlier process.
    pub(super) fn change(&mut self, changes: Vec<ChildWatch>, may_have_ended: bool) {
        for change in changes {
            match change {
                ChildWatch::Begin(name) => {
                    let child = Child {
                        parent: self.parent.clone(),
                        inbox: self.inbox.clone(),
                        state: ChildState::UnderWay,
                        absent_since: None,
                    };
                    self.all.begin(self.id(name.clone()), child, may_have_ended);
                    self.names.insert(name);
                }
                ChildWatch::End(name) => {
                    self.names.remove(&name);
                    self.all.end(&self.id(name));
                }
            }
        }
    }

    /// What flyteadmin has said of a child.
    pub(super) fn state(&self, name: &str) -> Option<ChildState> {
        let id = self.id(name.to_owned());
        let known = self.all.known.lock();
        known.children.get(&id).map(|child| child.state.clone())
    }
}

impl Drop for ChildrenOf {
    fn drop(&mut self) {
        for name in std::mem::take(&mut self.names) {
            self.all.end(&self.id(name));
        }
    }
}

impl Children {
    fn begin(&self, id: ExecutionId, child: Child, may_have_ended: bool) {
        let mut known = self.known.lock();
        if may_have_ended {
            known.due.insert(id.clone());
        }
        known.children.insert(id, child);
        drop(known);
        self.changed.notify_one();
    }

    fn end(&self, id: &ExecutionId) {
        let mut known = self.known.lock();
        known.children.remove(id);
        known.due.remove(id);
    }

    /// The workflow of this execution is over, as flyteadmin knows by now.
    pub(super) fn ended(&self, execution: &ExecutionId) {
        let mut known = self.known.lock();
        if known.children.contains_key(execution) {
            known.due.insert(execution.clone());
            drop(known);
            self.changed.notify_one();
        }
    }

    /// Asks flyteadmin for as long as somebody waits for a child. Never ends.
    pub(super) async fn ask(&self, effects: &Effects) {
        let mut next = Instant::now() + INTERVAL;
        let mut failures = 0;
        loop {
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep_until(next), if self.are_awaited() => {}
            }
            if failures > 0 {
                tokio::time::sleep_until(next).await;
            }
            let ids = self.to_ask_for(Instant::now() >= next);
            if Instant::now() >= next {
                next = Instant::now() + INTERVAL;
            }
            match self.ask_for(effects, &ids).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures += 1;
                    let wait = BACKOFF.wait(failures, 0);
                    tracing::warn!(%error, ?wait, "flyteadmin does not say how child executions are");
                    next = Instant::now() + wait;
                }
            }
        }
    }

    fn are_awaited(&self) -> bool {
        let known = self.known.lock();
        let mut children = known.children.values();
        children.any(|child| child.state == ChildState::UnderWay)
    }

    /// Those that have not ended, or only those that are due, by project and domain.
    fn to_ask_for(&self, all: bool) -> Vec<ExecutionId> {
        let mut known = self.known.lock();
        let due = std::mem::take(&mut known.due);
        let under_way = known.children.iter().filter(|(id, child)| {
            child.state == ChildState::UnderWay && (all || due.contains(*id))
        });
        under_way.map(|(id, _)| id.clone()).collect()
    }

    async fn ask_for(&self, effects: &Effects, ids: &[ExecutionId]) -> Result<(), TransientError> {
        let same = |one: &ExecutionId, other: &ExecutionId| {
            one.project == other.project && one.domain == other.domain
        };
        for chunk in ids.chunk_by(same).flat_map(|ids| ids.chunks(AT_ONCE)) {
            let Some(first) = chunk.first() else { continue };
            let names: Vec<_> = chunk.iter().map(|id| id.name.as_str()).collect();
            let request = ResourceListRequest {
                id: Some(admin::NamedEntityIdentifier {
                    project: first.project.to_string(),
                    domain: first.domain.to_string(),
                    ..admin::NamedEntityIdentifier::default()
                }),
                limit: u32::try_from(chunk.len()).unwrap_or(u32::MAX),
                filters: format!("value_in(execution_name,{})", names.join(";")),
                ..ResourceListRequest::default()
            };
            let mut found = effects.list_executions(request).await?;
            for execution in &mut found {
                let closure = execution.closure.as_ref();
                let has_failed = closure.is_some_and(|closure| closure.phase() == Phase::Failed);
                // Lists show the beginning of errors (spec 01 §12.10).
                if let Some(id) = execution.id.clone().filter(|_| has_failed)
                    && let Some(whole) = effects.get_execution(id).await?
                {
                    *execution = whole;
                }
            }
            let mut missing = BTreeSet::new();
            for id in self.long_absent(chunk, &found) {
                match effects.get_execution(id.to_proto()).await? {
                    Some(execution) => found.push(execution),
                    None => {
                        missing.insert(id);
                    }
                }
            }
            self.take_in(chunk, found, &missing);
        }
        Ok(())
    }

    /// Those that lists have not had for long.
    fn long_absent(&self, asked: &[ExecutionId], found: &[Execution]) -> Vec<ExecutionId> {
        let found: BTreeSet<&str> = found.iter().filter_map(name_of).collect();
        let mut known = self.known.lock();
        let absent = asked.iter().filter(|id| {
            let Some(child) = known.children.get_mut(id) else {
                return false;
            };
            if found.contains(id.name.as_str()) {
                child.absent_since = None;
                return false;
            }
            let since = *child.absent_since.get_or_insert_with(Instant::now);
            since.elapsed() >= ABSENT_FOR
        });
        absent.cloned().collect()
    }

    fn take_in(
        &self,
        asked: &[ExecutionId],
        found: Vec<Execution>,
        missing: &BTreeSet<ExecutionId>,
    ) {
        let mut found: BTreeMap<String, Execution> = found
            .into_iter()
            .filter_map(|execution| Some((name_of(&execution)?.to_owned(), execution)))
            .collect();
        let mut known = self.known.lock();
        for id in asked {
            let Some(child) = known.children.get_mut(id) else {
                continue;
            };
            let state = match found.remove(&id.name) {
                Some(execution) => state_of(execution, &child.parent),
                None if missing.contains(id) => ChildState::Missing,
                None => continue,
            };
            if state != child.state {
                child.state = state;
                child.inbox.child(id.name.clone());
            }
        }
    }
}

fn name_of(execution: &Execution) -> Option<&str> {
    execution.id.as_ref().map(|id| id.name.as_str())
}

/// Where an execution stands that a node of `parent` waits for.
fn state_of(execution: Execution, parent: &ExecutionId) -> ChildState {
    let metadata = execution.spec.and_then(|spec| spec.metadata);
    let node = metadata.and_then(|metadata| metadata.parent_node_execution);
    if node.and_then(|node| node.execution_id) != Some(parent.to_proto()) {
        return ChildState::Foreign;
    }
    let closure = execution.closure.unwrap_or_default();
    match closure.phase() {
        Phase::Succeeded => ChildState::Succeeded,
        Phase::Aborted => ChildState::Aborted,
        Phase::TimedOut => ChildState::TimedOut,
        Phase::Failed => ChildState::Failed(Box::new(match closure.output_result {
            Some(execution_closure::OutputResult::Error(error)) => error,
            _ => launch_plan::unknown_failure(),
        })),
        Phase::Undefined
        | Phase::Queued
        | Phase::Running
        | Phase::Succeeding
        | Phase::Failing
        | Phase::Aborting => ChildState::UnderWay,
    }
}
