//! Wake-ups: stepping marked nodes and taking in what their effects brought (spec 04 §5, §6).

use std::collections::BTreeMap;

use flyte_core::layout::END_NODE;
use flyte_crd::{NodePhase, status::TaskPhase};
use jiff::Timestamp;

use super::{
    Effect, EffectResult, Job, JobId, Machine, NodeIndex, Receipt, Watches,
    graph_state::GraphState,
    nodes::{AbortState, Pending, QuotaWait, Readiness},
    retry::{Policy, Retry},
};
use crate::{
    effects::{EffectError, PermanentError, TransientError},
    node::{
        self, Change, Inside, NodeEffect, NodeResult, Source, Step, Then, WorkflowDefinition,
        cache::LookUp, dynamic, launch_plan, recovery::Recovered, resolve, system,
        task::observed_pod::ObservedPod,
    },
};

/// Why active nodes end when another one has failed.
pub(crate) const AUTO_ABORT: &str = "Some node execution failed, auto-abort.";
/// What sending events is for.
pub(super) const SEND: &str = "send events";
/// How often in a row the result of an effect may lead to the same effect and to nothing else. Twice happens, when
/// something arrives between effect and result; a decision that does not take its result in would go on for ever.
const MOST_REPEATS: u32 = 8;

impl Machine {
    /// Steps everything that is marked, and hands out jobs, more of them as others are completed; `watches` know what
    /// nodes wait for.
    pub fn next_jobs(&mut self, now: Timestamp, watches: impl Watches) -> Vec<Job> {
        loop {
            self.steps += 1;
            if self.workflow_can_step() {
                self.step_workflow(now);
            } else if let Some(index) = self.queue.next() {
                self.step_node(index, now, &watches);
            } else if !self.conclude() {
                break;
            }
        }
        self.jobs.hand_out()
    }

    /// Takes in what a job brought.
    pub fn complete(
        &mut self,
        id: JobId,
        result: Result<EffectResult, EffectError>,
        now: Timestamp,
    ) {
        self.jobs.completed();
        match id {
            JobId::Workflow => self.workflow_result(result, now),
            JobId::Node(index) => self.node_result(index, result, now),
        }
    }

    fn step_node(&mut self, index: NodeIndex, now: Timestamp, watches: &impl Watches) {
        let node = &self.nodes[index];
        match node.abort {
            AbortState::Done => return,
            AbortState::Wanted => {
                self.step_abort(index, now, watches);
                return;
            }
            AbortState::None => {}
        }
        if !self.may_step(index) || self.writer.holds(index) {
            return;
        }
        if self.nodes[index].pending.is_some() {
            self.send_pending(index, now);
            return;
        }
        let node = &self.nodes[index];
        if node.status.phase == NodePhase::NotYetStarted && node.result.is_none() {
            let takes_slot = node.takes_slot();
            match self.nodes.readiness(index) {
                Readiness::NotReady => return,
                Readiness::Skip => {
                    let change = node::skip(&self.nodes.view(&self.context, index), now);
                    self.begin_change(index, change, now);
                    return;
                }
                Readiness::Ready => {}
            }
            if takes_slot && self.queue.waits_for_slot(index) {
                self.nodes[index].metrics.waited_for_others = true;
                return;
            }
        }
        if self.has_elements(index) && !self.started_elements(index, now) {
            return;
        }
        let result = self.nodes[index].result.take();
        let is_fresh = result.is_some();
        let observed = self.observed_pod(index, watches);
        let child = self.children.awaited_by(index);
        let child = child.and_then(|child| watches.child(child));
        let mut view = self.nodes.view(&self.context, index);
        if let Some(observed) = &observed {
            view.task.pod = Some(&observed.pod);
            view.task.object_events = &observed.events;
        }
        view.child = child.as_ref();
        view.elements = self.arrays.progress(index);
        match node::step(&view, result, now) {
            Step::Wait(until) => {
                self.nodes[index].repeats = 0;
                self.queue.set_timer(index, until);
            }
            Step::Do(effect) => self.begin_effect(index, effect, is_fresh, now),
            Step::Change(change) => self.begin_change(index, *change, now),
        }
    }

    /// A node that is to end does, after everything inside it.
    fn step_abort(&mut self, index: NodeIndex, now: Timestamp, watches: &impl Watches) {
        if self.aborts_inside(index) {
            return;
        }
        let node = &mut self.nodes[index];
        let result = node.result.take();
        if let Some(pending) = &node.pending {
            if pending.change.then == Then::Aborted {
                self.send_pending(index, now);
                return;
            }
            // Admin may have these events although its answer was lost, or not: what is aborted is what it may know,
            // and an attempt whose end it may not know.
            let becomes = &pending.change.status;
            let was_begun = becomes.phase.is_active() && becomes.attempts == node.status.attempts;
            let becomes = was_begun.then(|| becomes.clone());
            node.pending = None;
            node.retry = None;
            if let Some(becomes) = becomes {
                self.nodes[index].status = self.with_elements(index, becomes);
            }
        }
        if !self.nodes[index].is_active() {
            // Admin has not heard of it from this process, or has heard its end.
            self.abort_done(index);
            return;
        }
        let reason = self
            .lifecycle
            .abort_reason()
            .unwrap_or(AUTO_ABORT)
            .to_owned();
        let observed = self.observed_pod(index, watches);
        let mut view = self.nodes.view(&self.context, index);
        let has_child = launch_plan::of(view.spec).is_some();
        if has_child && !matches!(result, Some(NodeResult::ChildTerminated)) {
            let cause = launch_plan::cause(&self.context, &reason);
            self.begin_effect(index, NodeEffect::TerminateChild { cause }, false, now);
            return;
        }
        if view.inside == Inside::Unread {
            match result {
                Some(NodeResult::DynamicCompiled(Ok(compiled))) => {
                    self.open_and_stop(index, &compiled.definition);
                    return;
                }
                // What is inside is found among the leftovers of the workflow then.
                Some(NodeResult::DynamicCompiled(Err(_))) => {}
                _ => {
                    self.begin_effect(index, NodeEffect::CompileDynamic, false, now);
                    return;
                }
            }
        }
        view.task.pod = observed.as_ref().map(|observed| &observed.pod);
        view.elements = self.arrays.progress(index);
        let change = node::abort(&view, &reason, now);
        self.begin_change(index, change, now);
    }

    /// What another process has started inside a node ends before the node does.
    fn open_and_stop(&mut self, index: NodeIndex, definition: &WorkflowDefinition) {
        match self.open_dynamic(index, definition) {
            Ok(_) => self.abort_inside(index),
            Err(error) => {
                let error = node::unbuildable(error.to_string());
                self.nodes[index].result = Some(NodeResult::DynamicCompiled(Err(Box::new(error))));
            }
        }
        self.queue.mark(index);
    }

    /// Nodes of graphs that are being aborted or have ended do not go on.
    pub(super) fn may_step(&self, index: NodeIndex) -> bool {
        let graph = &self.nodes[self.nodes[index].graph];
        match &graph.state {
            GraphState::Running => true,
            // The failure node, and what is inside it, run while the rest stands still.
            GraphState::FailureNode(_) => graph.failure_node == Some(index),
            GraphState::Aborting(_) | GraphState::Stopping | GraphState::Ended(_) => false,
        }
    }

    /// What the watches show of the pod of an attempt under way.
    fn observed_pod(&self, index: NodeIndex, watches: &impl Watches) -> Option<ObservedPod> {
        if !self.nodes[index].is_active() {
            return None;
        }
        watches.pod(&self.nodes.pod_name(&self.context, index)?)
    }

    /// Hands an effect of a node out, unless the last one failed and it is not yet time to try again.
    fn begin_effect(
        &mut self,
        index: NodeIndex,
        effect: NodeEffect,
        is_fresh: bool,
        now: Timestamp,
    ) {
        let node = &mut self.nodes[index];
        let purpose = effect.purpose();
        if is_fresh && node.purpose == purpose {
            node.repeats += 1;
        } else {
            node.repeats = 0;
        }
        if node.repeats > MOST_REPEATS {
            let message = format!(
                "node [{}] asks again and again to {purpose}, and nothing changes by it: a mistake in flytepropeller",
                node.spec.id
            );
            tracing::error!(message, status = ?node.status, "a node goes round in circles");
            self.fail_node(index, system("IllegalStateError", message), now);
            return;
        }
        if let Some(not_before) = self.held_back(index, now) {
            let view = self.nodes.view(&self.context, index);
            let deadline = node::next_deadline(&view, now).filter(|deadline| *deadline > now);
            self.queue.set_timer(
                index,
                [Some(not_before), deadline].into_iter().flatten().min(),
            );
            return;
        }
        let node = &mut self.nodes[index];
        node.purpose = purpose;
        let mut outputs = BTreeMap::new();
        let mut error = None;
        let mut inner = None;
        match &effect {
            NodeEffect::Prepare { bindings, .. } => {
                let node = &self.nodes[index];
                let graph = &self.nodes[node.graph];
                for id in resolve::promised_nodes(bindings) {
                    if let Some(source) = graph.find(&id) {
                        outputs.insert(id, self.nodes[source].files.outputs());
                    }
                }
                if let (Some(failure_node), GraphState::FailureNode(failure)) =
                    (graph.failure_node, &graph.state)
                    && failure_node == index
                {
                    error = Some(failure.clone());
                }
                if node.takes_slot() {
                    self.queue.take_slot(index);
                }
            }
            NodeEffect::CopyOutputs {
                from: Source::Inner,
                ..
            } => inner = self.nodes.inner_outputs(index),
            NodeEffect::CreatePod => node.task.may_have_pod = true,
            NodeEffect::CopyOutputs { .. }
            | NodeEffect::CopyChildOutputs { .. }
            | NodeEffect::LaunchChild { .. }
            | NodeEffect::GetSignal { .. }
            | NodeEffect::WriteOutputs { .. }
            | NodeEffect::GatherOutputs { .. }
            | NodeEffect::TerminateChild { .. }
            | NodeEffect::ReadInputs(_)
            | NodeEffect::GetPod
            | NodeEffect::Recover
            | NodeEffect::CompileDynamic
            | NodeEffect::LookUpCache { .. }
            | NodeEffect::ReserveCache { .. }
            | NodeEffect::WriteCache { .. }
            | NodeEffect::ReadResult => {}
        }
        self.queue.set_busy(index);
        let effect = Effect::Node {
            effect,
            outputs,
            inner,
            error,
        };
        self.jobs.add(JobId::Node(index), effect);
    }

    /// Until when an effect of a node waits whose last try failed.
    fn held_back(&self, index: NodeIndex, now: Timestamp) -> Option<Timestamp> {
        let retry = self.nodes[index].retry.as_ref()?;
        (retry.not_before > now).then_some(retry.not_before)
    }

    /// Sends the events of a change, or does at once what needs none.
    pub(super) fn begin_change(&mut self, index: NodeIndex, mut change: Change, now: Timestamp) {
        let mut events = std::mem::take(&mut change.events);
        if self.nodes[index].member.is_some() {
            self.gather_news(index, std::mem::take(&mut events));
        }
        if let Then::TellElements(told) = change.then {
            self.telling(index, told, now);
        }
        if events.is_empty() {
            self.commit(index, change, now);
            return;
        }
        self.nodes[index].pending = Some(Pending {
            events,
            change: Box::new(change),
        });
        self.send_pending(index, now);
    }

    fn send_pending(&mut self, index: NodeIndex, now: Timestamp) {
        let is_sending = self.nodes[index].purpose == SEND;
        if let Some(not_before) = self.held_back(index, now).filter(|_| is_sending) {
            self.queue.set_timer(index, Some(not_before));
            return;
        }
        let node = &mut self.nodes[index];
        let Some(pending) = &node.pending else { return };
        let events = pending.events.clone();
        node.purpose = SEND;
        self.queue.set_busy(index);
        self.jobs.add(JobId::Node(index), Effect::Send(events));
    }

    fn node_result(
        &mut self,
        index: NodeIndex,
        result: Result<EffectResult, EffectError>,
        now: Timestamp,
    ) {
        self.queue.set_free(index);
        match result {
            Ok(EffectResult::Node(result)) => {
                self.note_result(index, &result, now);
                let node = &mut self.nodes[index];
                node.retry = None;
                node.result = Some(*result);
                self.queue.mark(index);
            }
            Ok(EffectResult::Sent(sent)) => self.sent(index, sent, now),
            // Only the workflow's own.
            Ok(EffectResult::Begun | EffectResult::Leftovers(_)) => {}
            Err(EffectError::Transient(error)) => self.effect_failed(index, error, now),
            Err(EffectError::Permanent(PermanentError(error))) => {
                let node = &mut self.nodes[index];
                if node.abort == AbortState::None {
                    self.fail_node(index, *error, now);
                    return;
                }
                if node.purpose == dynamic::COMPILE {
                    node.result = Some(NodeResult::DynamicCompiled(Err(error)));
                }
                self.queue.mark(index);
            }
        }
    }

    /// What is to be remembered of a result, whatever is decided on it.
    fn note_result(&mut self, index: NodeIndex, result: &NodeResult, now: Timestamp) {
        let node = &mut self.nodes[index];
        match result {
            NodeResult::Prepared(Ok(inputs)) | NodeResult::Inputs(inputs) => {
                node.inputs = Some(inputs.clone());
            }
            NodeResult::PodCreated(info) => {
                let waits = info.phase == TaskPhase::WaitingForResources;
                let exists = !waits && !info.phase.is_terminal();
                node.task.may_have_pod = exists;
                node.task.pod_created_at = exists.then_some(now);
                node.task.quota = match node.task.quota {
                    QuotaWait::None | QuotaWait::Waiting if waits => QuotaWait::Waiting,
                    QuotaWait::None | QuotaWait::Waiting | QuotaWait::PermitCameEarly => {
                        QuotaWait::None
                    }
                };
            }
            NodeResult::Pod(found) => {
                node.task.pod_created_at = None;
                if found.is_none() {
                    node.task.may_have_pod = false;
                }
            }
            NodeResult::TaskResult(_) => node.metrics.result_read = true,
            NodeResult::Recovered(Recovered::Runs { checkpoint }) => {
                node.checkpoint = Some(checkpoint.as_str().into());
            }
            NodeResult::CacheLookedUp(key, found) => {
                node.cache.key = Some(key.clone());
                node.cache.is_stale = *found == LookUp::Stale;
            }
            NodeResult::CacheReserved(key, reservation) => {
                node.cache.key = Some(key.clone());
                node.cache.reservation = Some(*reservation);
                if reservation.is_ours && !dynamic::has_begun(&node.status) {
                    self.queue.take_slot(index);
                }
            }
            NodeResult::Prepared(Err(_))
            | NodeResult::DynamicCompiled(_)
            | NodeResult::CacheWritten(..)
            | NodeResult::Recovered(_)
            | NodeResult::Copied(_)
            | NodeResult::ChildLaunched(_)
            | NodeResult::Signal(_)
            | NodeResult::ChildTerminated => {}
        }
    }

    /// Admin has the events of a change, or refuses them for good.
    fn sent(&mut self, index: NodeIndex, sent: Result<Receipt, super::Rejection>, now: Timestamp) {
        let node = &mut self.nodes[index];
        node.retry = None;
        let Some(Pending { mut change, events }) = node.pending.take() else {
            return;
        };
        // The end of a terminated node and the end node's events are told, not asked about.
        let is_only_told = node.unique_id == END_NODE || change.then == Then::Aborted;
        match sent {
            Ok(receipt) => {
                if receipt == Receipt::Repeated {
                    if let Some(again) = self.told_again(index, &change, &events) {
                        self.begin_change(index, again, now);
                        return;
                    }
                    Self::repeated(&mut change);
                }
                self.commit(index, *change, now);
            }
            Err(_) if is_only_told => self.commit(index, *change, now),
            Err(rejection) => self.rejected(index, rejection, now),
        }
    }

    /// An effect did not succeed: it is tried again later, or the node fails with it.
    fn effect_failed(&mut self, index: NodeIndex, error: TransientError, now: Timestamp) {
        let most_refusals = self.context.settings.propeller.max_workflow_retries;
        let node = &mut self.nodes[index];
        let (purpose, previous) = (node.purpose, node.retry.take());
        let policy = Policy {
            most_refusals,
            subject: &node.unique_id,
        };
        let next = Retry::next(previous, purpose, error, policy, now);
        let next = match next {
            Ok(retry)
                if node.abort != AbortState::None
                    && purpose == dynamic::COMPILE
                    && retry.is_shown() =>
            {
                Err(Box::new(system("RuntimeExecutionError", retry.to_string())))
            }
            next => next,
        };
        match next {
            Ok(retry) => {
                tracing::warn!(node = node.unique_id, "{retry}; trying again");
                let shown = (retry.is_shown() && node.pending.is_none()).then(|| retry.to_string());
                self.queue.set_timer(index, Some(retry.not_before));
                node.retry = Some(retry);
                if node.abort != AbortState::None {
                    self.queue.mark(index);
                } else if let Some(shown) = shown {
                    let view = self.nodes.view(&self.context, index);
                    let change = node::troubled(&view, &shown, now);
                    self.begin_change(index, change, now);
                }
            }
            Err(error) => {
                tracing::error!(node = node.unique_id, "{}", error.message);
                let pending = node.pending.take();
                match pending {
                    // Admin does not want to hear the end of the node, which it is nevertheless.
                    Some(Pending { change, .. })
                        if change.then == Then::Aborted
                            || change.status.phase.is_terminal()
                            || node.abort != AbortState::None =>
                    {
                        self.commit(index, *change, now);
                    }
                    // The child may run on, and the node ends nevertheless.
                    _ if purpose == launch_plan::TERMINATE => {
                        node.result = Some(NodeResult::ChildTerminated);
                        self.queue.mark(index);
                    }
                    _ if node.abort != AbortState::None => {
                        if purpose == dynamic::COMPILE {
                            node.result = Some(NodeResult::DynamicCompiled(Err(error)));
                        }
                        self.queue.mark(index);
                    }
                    _ => self.fail_node(index, *error, now),
                }
            }
        }
    }
}
