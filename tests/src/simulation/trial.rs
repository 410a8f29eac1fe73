//! What a run has to bear, as a builder.

use std::time::Duration;

use flyte_crd::FlyteWorkflow;
use flyte_platform::metrics::LabelKeys;
use flyte_plugins::config::PluginsConfig;
use flyte_propeller::config::{CatalogConfig, EventConfig, PropellerConfig};

use super::{
    Beginning, Delays, OTHER, Outside, Plan, Refusal, Reloads, Rule, Run, Simulation, encoded_bytes,
};

impl Simulation {
    /// Beside these, in their own namespace [`super::NEIGHBOURS`]; admin takes all that is said of them, and nobody waits for
    /// their end.
    #[must_use]
    pub fn beside(mut self, neighbours: Vec<FlyteWorkflow>) -> Self {
        self.neighbours = neighbours;
        self
    }

    /// Created only after rules have refused so many requests of others; [`super::Run::elapsed`] counts from then on.
    #[must_use]
    pub fn after_refusals(mut self, requests: usize) -> Self {
        self.after_refusals = requests;
        self
    }

    /// The API server treats requests like this.
    #[must_use]
    pub fn ruled(mut self, rules: Vec<Rule>) -> Self {
        self.limits.rules = rules;
        self
    }

    /// The engine is given this long after the end, instead of two minutes, to delete what need not stay.
    #[must_use]
    pub fn settling(mut self, time: Duration) -> Self {
        self.settling = time;
        self
    }

    /// The workflow was begun by another engine, which left this behind besides its status.
    #[must_use]
    pub fn resuming(mut self, beginning: Beginning) -> Self {
        self.beginning = Some(beginning);
        self
    }

    /// The execution recovers the one of another run, whose files are still there.
    #[must_use]
    pub fn recovering(mut self, other: &Run) -> Self {
        let id = &mut self.workflow.execution_config.recovery_execution.0;
        id.clone_from(&self.workflow.execution_id.0);
        OTHER.clone_into(&mut id.name);
        self.other = Some((other.records.clone(), other.objects.clone()));
        self
    }

    /// With these faults.
    #[must_use]
    pub fn with(mut self, plan: Plan) -> Self {
        self.plan = plan;
        self
    }

    /// Deletes the resource once this many effects have happened, as a user who terminates the execution does.
    #[must_use]
    pub fn deleted_after(self, effects: u64) -> Self {
        self.with_outside(effects, Outside::Terminate)
    }

    /// Somebody else does this when so many effects have happened.
    #[must_use]
    pub fn with_outside(mut self, effects: u64, what: Outside) -> Self {
        self.outside.push((effects, what));
        self
    }

    /// The API server takes no object that is larger than the workflow at its beginning by more than this.
    #[must_use]
    pub fn with_room_for(mut self, bytes: usize) -> Self {
        self.object_bytes = Some(encoded_bytes(&self.workflow) + bytes);
        self
    }

    /// The engine keeps node statuses in a blob when the resource is larger than the workflow at its beginning by more
    /// than this.
    #[must_use]
    pub fn spilling_beyond(mut self, bytes: usize) -> Self {
        self.propeller.max_resource_bytes = encoded_bytes(&self.workflow) + bytes;
        self
    }

    /// Events carry data as this says, and admin takes none that are larger than `most_bytes`.
    #[must_use]
    pub fn with_events(mut self, config: EventConfig, most_bytes: usize) -> Self {
        self.propeller.event_config = config;
        self.with_admin_taking(most_bytes)
    }

    /// Admin takes no messages that are larger.
    #[must_use]
    pub fn with_admin_taking(mut self, most_bytes: usize) -> Self {
        self.limits.event_bytes = most_bytes;
        self
    }

    /// Admin is away for so long when this many effects have happened.
    #[must_use]
    pub fn with_admin_away(mut self, effects: u64, time: Duration) -> Self {
        self.limits.away = Some((effects, time));
        self
    }

    /// Node statuses that were kept in a blob are gone when the engine is started again.
    #[must_use]
    pub fn losing_statuses(mut self) -> Self {
        self.loses_statuses = true;
        self
    }

    /// A quota allows so many pods at once.
    #[must_use]
    pub fn with_quota(mut self, pods: usize) -> Self {
        self.limits.pods = Some(pods);
        self
    }

    /// The API server answers the first pods like this.
    #[must_use]
    pub fn refusing_pods(mut self, refusals: Vec<Refusal>) -> Self {
        self.limits.refusals = refusals;
        self
    }

    /// What asks for an effect whose name contains this panics, however often it is tried.
    #[must_use]
    pub fn panicking_at(mut self, part: &'static str) -> Self {
        self.limits.panics = Some(part);
        self
    }

    /// The engine is started again after these writes of the status.
    #[must_use]
    pub fn reloading(mut self, reloads: Reloads) -> Self {
        self.limits.reloads = reloads;
        self
    }

    /// Requests take this long.
    #[must_use]
    pub fn delayed(mut self, delays: Delays) -> Self {
        self.limits.delays = delays;
        self
    }

    /// Plugins are configured like this.
    #[must_use]
    pub fn with_plugins(mut self, config: PluginsConfig) -> Self {
        self.plugins = config;
        self
    }

    /// The cache is used as section `catalog-cache` says; it is always there.
    #[must_use]
    pub fn cached_by(self, catalog: CatalogConfig) -> Self {
        Self { catalog, ..self }
    }

    /// The engine is configured like this. Raw data stays where it is unless `propeller` names a place.
    #[must_use]
    pub fn configured(mut self, propeller: PropellerConfig, plugins: PluginsConfig) -> Self {
        self.labels = LabelKeys::new(&propeller.metrics_keys);
        self.propeller = PropellerConfig {
            rawoutput_prefix: if propeller.rawoutput_prefix.is_empty() {
                self.propeller.rawoutput_prefix
            } else {
                propeller.rawoutput_prefix
            },
            ..propeller
        };
        self.plugins = plugins;
        self
    }

    /// The engine never keeps node statuses in a blob.
    #[must_use]
    pub fn never_spilling(mut self) -> Self {
        self.propeller.max_resource_bytes = 0;
        self
    }
}
