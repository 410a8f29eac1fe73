//! What this process knows of the elements of an array beside the status: how many are over, and what admin is to be
//! told of them.

use std::collections::BTreeMap;

use flyte_crd::NodePhase;
use flyte_idl::{
    core::{CatalogCacheStatus, node_execution, task_execution::Phase},
    event::{ExternalResourceInfo, TaskExecutionEvent, node_execution_event::TargetMetadata},
};
use jiff::Timestamp;

use super::{Element, outcome::Failures};
use crate::events::Event;

/// Most elements that one event tells of while the array runs: with links to logs, an event is a megabyte then, and
/// servers take four.
const MOST_IN_ONE_EVENT: usize = 2_000;

/// How far the elements of an array are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Elements that have succeeded.
    pub succeeded: u32,
    /// Elements that have failed or timed out.
    pub failed: u32,
    /// Elements that have begun and not ended.
    pub running: u32,
    /// Why those failed that did in this process.
    pub failures: Failures,
    /// Nothing is told before.
    pub tell_at: Option<Timestamp>,
    /// What admin has not been told, by index and attempt.
    news: BTreeMap<(u32, u32), ExternalResourceInfo>,
}

impl Progress {
    /// Counts an element that is over.
    pub fn count(&mut self, phase: NodePhase) {
        match phase {
            NodePhase::Succeeded | NodePhase::Skipped | NodePhase::Recovered => self.succeeded += 1,
            NodePhase::Failed | NodePhase::TimedOut => self.failed += 1,
            NodePhase::NotYetStarted
            | NodePhase::Queued
            | NodePhase::Running
            | NodePhase::Failing
            | NodePhase::Succeeding
            | NodePhase::RetryableFailure
            | NodePhase::TimingOut
            | NodePhase::DynamicRunning
            | NodePhase::Unknown(_) => {}
        }
    }

    /// Takes in what an element would tell admin if it were a node of its own; `prefix` is what the names of all its
    /// elements begin with.
    pub fn take_in(&mut self, element: &Element, prefix: &str, attempt: u32, events: Vec<Event>) {
        let mut has_task = false;
        for event in events {
            match event {
                Event::Task(event) => {
                    has_task = true;
                    self.tell(prefix, of_task(element.index, *event));
                }
                // An element that needed no task: its outputs were known.
                Event::Node(event)
                    if !has_task
                        && matches!(
                            event.phase(),
                            node_execution::Phase::Succeeded | node_execution::Phase::Recovered
                        ) =>
                {
                    let cached = match &event.target_metadata {
                        Some(TargetMetadata::TaskNodeMetadata(known)) => known.cache_status,
                        _ => CatalogCacheStatus::CacheDisabled.into(),
                    };
                    self.tell(
                        prefix,
                        ExternalResourceInfo {
                            cache_status: cached,
                            ..entry(element.index, attempt, Phase::Succeeded)
                        },
                    );
                }
                Event::Node(_) | Event::Workflow(_) => {}
            }
        }
    }

    fn tell(&mut self, prefix: &str, mut new: ExternalResourceInfo) {
        new.external_id = name(prefix, new.index, new.retry_attempt);
        let known = self.news.entry((new.index, new.retry_attempt));
        let logs = std::mem::take(&mut new.logs);
        let known = known.or_default();
        let before = std::mem::replace(known, new);
        known.logs = if logs.is_empty() { before.logs } else { logs };
    }

    /// Whether why every failed element did is known here.
    pub(super) fn failures_are_complete(&self) -> bool {
        self.failures.count() == self.failed
    }

    /// Whether there is something to tell.
    pub fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// What one event tells.
    pub(super) fn first_news(&self) -> Vec<ExternalResourceInfo> {
        self.news
            .values()
            .take(MOST_IN_ONE_EVENT)
            .cloned()
            .collect()
    }

    /// What is told of an attempt of an element, if there is something new.
    pub(super) fn news_of(&self, index: u32) -> impl Iterator<Item = &ExternalResourceInfo> {
        let of_element = self.news.range((index, 0)..=(index, u32::MAX));
        of_element.map(|(_, news)| news)
    }

    /// So many of them are being told.
    pub fn told(&mut self, count: usize) {
        for _ in 0..count {
            self.news.pop_first();
        }
    }
}

/// What all elements of an array are called by, followed by `-n‹index›-‹attempt›` (spec 04 §8.3).
pub(super) fn name(prefix: &str, index: u32, attempt: u32) -> String {
    format!("{prefix}-{}-{attempt}", Element::id(index))
}

/// What admin is told of an attempt of an element of which nothing but the phase is known.
pub(super) fn entry(index: u32, attempt: u32, phase: Phase) -> ExternalResourceInfo {
    ExternalResourceInfo {
        index,
        retry_attempt: attempt,
        phase: phase.into(),
        ..ExternalResourceInfo::default()
    }
}

fn of_task(index: u32, event: TaskExecutionEvent) -> ExternalResourceInfo {
    let mut logs = event.logs;
    for log in &mut logs {
        log.name = format!("{}-{index}", log.name);
    }
    ExternalResourceInfo {
        logs,
        custom_info: event.custom_info,
        ..ExternalResourceInfo {
            phase: event.phase,
            ..entry(index, event.retry_attempt, Phase::Undefined)
        }
    }
}
