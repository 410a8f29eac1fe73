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
/// read replica may lag. One that could not be read is asked for again as much later.
const ALONE_AFTER: Duration = Duration::from_secs(10);
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
    /// It is not to be asked for by itself before.
    alone_after: Option<Instant>,
}

/// The children of one workflow; nobody asks for them any more when this is dropped.
pub(super) struct ChildrenOf {
    all: Arc<Children>,
    parent: ExecutionId,
    inbox: Arc<Inbox>,
    names: BTreeSet<String>,
}

impl ChildrenOf {
    /// Of a workflow that was just read. Its children, `known`, may have ended while nobody looked.
    pub(super) fn new(
        all: Arc<Children>,
        parent: ExecutionId,
        inbox: Arc<Inbox>,
        known: Vec<ChildWatch>,
    ) -> Self {
        let mut children = Self {
            all,
            parent,
            inbox,
            names: BTreeSet::new(),
        };
        children.change(known);
        children
            .all
            .ask_at_once(children.names.iter().map(|name| children.id(name.clone())));
        children
    }

    fn id(&self, name: String) -> ExecutionId {
        ExecutionId {
            name,
            ..self.parent.clone()
        }
    }

    /// Takes in what the workflow wants to hear of.
    pub(super) fn change(&mut self, changes: Vec<ChildWatch>) {
        for change in changes {
            match change {
                ChildWatch::Begin(name) => {
                    let child = Child {
                        parent: self.parent.clone(),
                        inbox: self.inbox.clone(),
                        state: ChildState::UnderWay,
                        alone_after: None,
                    };
                    self.all.begin(self.id(name.clone()), child);
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
    fn begin(&self, id: ExecutionId, child: Child) {
        self.known.lock().children.insert(id, child);
        self.changed.notify_one();
    }

    fn ask_at_once(&self, ids: impl Iterator<Item = ExecutionId>) {
        self.known.lock().due.extend(ids);
        self.changed.notify_one();
    }

    fn end(&self, id: &ExecutionId) {
        let mut known = self.known.lock();
        known.children.remove(id);
        known.due.remove(id);
    }

    /// The workflow of this execution is over, as flyteadmin knows by now.
    pub(super) fn ended(&self, execution: &ExecutionId) {
        let is_awaited = self.known.lock().children.contains_key(execution);
        if is_awaited {
            self.ask_at_once(std::iter::once(execution.clone()));
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

    /// Whatever keeps one child or one list from being read keeps no other.
    async fn ask_for(&self, effects: &Effects, ids: &[ExecutionId]) -> Result<(), TransientError> {
        let same = |one: &ExecutionId, other: &ExecutionId| {
            one.project == other.project && one.domain == other.domain
        };
        let lists = ids.chunk_by(same).flat_map(|ids| ids.chunks(AT_ONCE));
        let asked =
            futures::future::join_all(lists.map(|ids| self.ask_with_one_list(effects, ids)));
        asked.await.into_iter().collect()
    }

    async fn ask_with_one_list(
        &self,
        effects: &Effects,
        ids: &[ExecutionId],
    ) -> Result<(), TransientError> {
        let Some(first) = ids.first() else {
            return Ok(());
        };
        let names: Vec<_> = ids.iter().map(|id| id.name.as_str()).collect();
        let request = ResourceListRequest {
            id: Some(admin::NamedEntityIdentifier {
                project: first.project.to_string(),
                domain: first.domain.to_string(),
                ..admin::NamedEntityIdentifier::default()
            }),
            limit: u32::try_from(ids.len()).unwrap_or(u32::MAX),
            filters: format!("value_in(execution_name,{})", names.join(";")),
            ..ResourceListRequest::default()
        };
        let listed: BTreeMap<String, Execution> = effects
            .list_executions(request)
            .await?
            .into_iter()
            .filter_map(|execution| Some((execution.id.as_ref()?.name.clone(), execution)))
            .collect();
        let alone = self.to_ask_for_alone(ids, &listed);
        let whole = alone
            .iter()
            .map(async |id| effects.get_execution(id.to_proto()).await);
        let whole = futures::future::join_all(whole).await;
        self.take_in(ids, listed, alone.into_iter().zip(whole).collect());
        Ok(())
    }

    /// Those of which a list does not say enough: it shows the beginning of errors (spec 01 §12.10), and may have left a child
    /// out for some time.
    fn to_ask_for_alone(
        &self,
        ids: &[ExecutionId],
        listed: &BTreeMap<String, Execution>,
    ) -> Vec<ExecutionId> {
        let now = Instant::now();
        let mut known = self.known.lock();
        let alone = ids.iter().filter(|id| {
            let Some(child) = known.children.get_mut(id) else {
                return false;
            };
            match listed.get(&id.name) {
                Some(execution) if has_failed(execution) => {
                    child.alone_after.is_none_or(|time| time <= now)
                }
                Some(_) => {
                    child.alone_after = None;
                    false
                }
                None => *child.alone_after.get_or_insert(now + ALONE_AFTER) <= now,
            }
        });
        alone.cloned().collect()
    }

    fn take_in(
        &self,
        ids: &[ExecutionId],
        mut listed: BTreeMap<String, Execution>,
        mut whole: BTreeMap<ExecutionId, Result<Option<Execution>, TransientError>>,
    ) {
        let mut known = self.known.lock();
        for id in ids {
            let Some(child) = known.children.get_mut(id) else {
                continue;
            };
            let state = match (whole.remove(id), listed.remove(&id.name)) {
                (Some(Ok(None)), _) => ChildState::Missing,
                (Some(Err(error)), _) => {
                    tracing::warn!(child = id.name, %error, "flyteadmin does not say how a child execution is");
                    child.alone_after = Some(Instant::now() + ALONE_AFTER);
                    continue;
                }
                // Its error is still to be read.
                (None, Some(execution)) if has_failed(&execution) => continue,
                (Some(Ok(Some(execution))), _) | (None, Some(execution)) => {
                    state_of(execution, &child.parent)
                }
                (None, None) => continue,
            };
            if state != child.state {
                child.state = state;
                child.inbox.child(id.name.clone());
            }
        }
    }
}

fn has_failed(execution: &Execution) -> bool {
    let closure = execution.closure.as_ref();
    closure.is_some_and(|closure| closure.phase() == Phase::Failed)
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
