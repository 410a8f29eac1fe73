//! Pods of one workflow that are being deleted or released in the background, once a written status needs them no more.

use std::collections::HashMap;

use tokio::task::{Id, JoinSet};
use tracing::Instrument as _;

use crate::{effects::WorkflowEffects, key::Key};

/// How often one clean-up may panic before it is left to the next start.
const MOST_PANICS: u32 = 3;

/// What is to be done with a pod.
#[derive(Clone, Debug)]
pub(super) struct PodCleanup {
    pub(super) name: String,
    /// It goes; else only our finalizer does.
    pub(super) is_deleted: bool,
}

/// Clean-ups under way.
pub(super) struct Cleanups {
    effects: WorkflowEffects,
    workflow: Key,
    tasks: JoinSet<()>,
    under_way: HashMap<Id, (PodCleanup, u32)>,
}

impl Cleanups {
    pub(super) fn new(effects: WorkflowEffects, workflow: Key) -> Self {
        Self {
            effects,
            workflow,
            tasks: JoinSet::new(),
            under_way: HashMap::new(),
        }
    }

    pub(super) fn begin(&mut self, pod: PodCleanup) {
        self.spawn(pod, 0);
    }

    fn spawn(&mut self, pod: PodCleanup, panics: u32) {
        let (effects, workflow) = (self.effects.clone(), self.workflow.clone());
        let PodCleanup { name, is_deleted } = pod.clone();
        let cleaning_up = async move {
            if is_deleted {
                effects.delete_pod(&workflow, &name).await;
            } else {
                effects.release_pod(&workflow, &name).await;
            }
        };
        let handle = self.tasks.spawn(cleaning_up.in_current_span());
        self.under_way.insert(handle.id(), (pod, panics));
    }

    pub(super) fn are_over(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Waits until one of them has ended; false when there is none. One that panicked is begun again. Cancel-safe.
    pub(super) async fn next(&mut self) -> bool {
        let Some(ended) = self.tasks.join_next_with_id().await else {
            return false;
        };
        let (id, panicked) = match &ended {
            Ok((id, ())) => (*id, false),
            Err(error) => (error.id(), error.is_panic()),
        };
        let Some((pod, panics)) = self.under_way.remove(&id) else {
            return true;
        };
        if panicked && panics < MOST_PANICS {
            tracing::error!(pod = pod.name, "a clean-up panicked; beginning it again");
            self.spawn(pod, panics + 1);
        } else if panicked {
            tracing::error!(
                pod = pod.name,
                "a clean-up panicked; left to the next start"
            );
        }
        true
    }
}
