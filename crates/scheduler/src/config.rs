//! Section `scheduler` (spec 07 A.2).

use serde::{Deserialize, Serialize};

/// Section `scheduler`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SchedulerConfig {
    /// Port of metrics and health.
    pub profiler_port: u16,
    /// Where schedules are kept.
    pub event_scheduler: EventSchedulerConfig,
    /// What starts executions when a schedule fires.
    pub workflow_executor: WorkflowExecutorConfig,
    /// Times that a lost connection to a cloud queue is opened again.
    pub reconnect_attempts: u32,
    /// Seconds between two of them.
    pub reconnect_delay_seconds: u32,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            profiler_port: 10254,
            event_scheduler: EventSchedulerConfig::default(),
            workflow_executor: WorkflowExecutorConfig::default(),
            reconnect_attempts: 0,
            reconnect_delay_seconds: 0,
        }
    }
}

/// Section `scheduler.eventScheduler`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EventSchedulerConfig {
    /// `local` or `aws`.
    pub scheme: String,
    /// Deprecated place of `aws.region`.
    pub region: String,
    /// Deprecated place of `aws.scheduleRole`.
    pub schedule_role: String,
    /// Deprecated place of `aws.targetName`.
    pub target_name: String,
    /// Deprecated place of `aws.scheduleNamePrefix`.
    pub schedule_name_prefix: String,
    /// With scheme `aws`.
    pub aws: AwsSchedulesConfig,
}

impl Default for EventSchedulerConfig {
    fn default() -> Self {
        Self {
            scheme: "local".into(),
            region: String::new(),
            schedule_role: String::new(),
            target_name: String::new(),
            schedule_name_prefix: String::new(),
            aws: AwsSchedulesConfig::default(),
        }
    }
}

/// Section `scheduler.eventScheduler.aws`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AwsSchedulesConfig {
    /// Region of the schedules or queue, as AWS names it.
    pub region: String,
    /// Role that schedules assume.
    pub schedule_role: String,
    /// What schedules send to.
    pub target_name: String,
    /// Put before the name of each schedule.
    pub schedule_name_prefix: String,
}

/// Section `scheduler.workflowExecutor`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WorkflowExecutorConfig {
    /// `local` or `aws`.
    pub scheme: String,
    /// Deprecated place of `aws.region`.
    pub region: String,
    /// Deprecated place of `aws.scheduleQueueName`.
    pub schedule_queue_name: String,
    /// Deprecated place of `aws.accountId`.
    pub account_id: String,
    /// With scheme `aws`.
    pub aws: AwsQueueConfig,
    /// With scheme `local`.
    pub local: LocalExecutorConfig,
}

impl Default for WorkflowExecutorConfig {
    fn default() -> Self {
        Self {
            scheme: "local".into(),
            region: String::new(),
            schedule_queue_name: String::new(),
            account_id: String::new(),
            aws: AwsQueueConfig::default(),
            local: LocalExecutorConfig::default(),
        }
    }
}

/// Section `scheduler.workflowExecutor.aws`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AwsQueueConfig {
    /// Region of the schedules or queue, as AWS names it.
    pub region: String,
    /// Queue that schedules send to.
    pub schedule_queue_name: String,
    /// Owner of the queue.
    pub account_id: String,
}

/// Section `scheduler.workflowExecutor.local`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LocalExecutorConfig {
    /// How many executions are created in a second.
    #[serde(rename = "adminRateLimit")]
    pub admin_rate_limit: RateLimitConfig,
    /// Whether cron expressions are read in UTC, else in the time zone of the process.
    #[serde(rename = "useUTCTz")]
    pub use_utc_tz: bool,
}

/// Section `scheduler.workflowExecutor.local.adminRateLimit`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct RateLimitConfig {
    /// Requests a second.
    pub tps: f64,
    /// Requests at once.
    pub burst: u32,
}

impl Default for RateLimitConfig {
    fn default() -> Self {
        Self {
            tps: 100.0,
            burst: 10,
        }
    }
}
