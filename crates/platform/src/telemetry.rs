//! Logs and traces (spec 07 §2.1, §2.2).

mod format;

use std::io::IsTerminal as _;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider},
};
use serde::{Deserialize, Serialize};
use tracing_subscriber::{
    EnvFilter, Layer, Registry, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

use crate::config::Reload;

pub use format::JsonLines;

/// Section `logger`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct LoggerConfig {
    /// 0 panic, 1 fatal, 2 error, 3 warn, 4 info, 5 debug, 6 trace.
    pub level: i64,
    /// Adds file and line to each record.
    #[serde(rename = "show-source")]
    pub show_source: bool,
    /// Whether nothing at all is logged.
    pub mute: bool,
    /// How a record looks.
    pub formatter: FormatterConfig,
}

impl Default for LoggerConfig {
    fn default() -> Self {
        Self {
            level: 3,
            show_source: false,
            mute: false,
            formatter: FormatterConfig::default(),
        }
    }
}

/// Section `logger.formatter`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct FormatterConfig {
    /// `json`, `text` or `gcp`.
    #[serde(rename = "type")]
    pub kind: Format,
}

impl Default for FormatterConfig {
    fn default() -> Self {
        Self { kind: Format::Json }
    }
}

/// How a log record looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `{"json":{fields},"level":"info","msg":"…","ts":"…"}`
    Json,
    /// Lines for people to read, `key=value` after the message.
    Text,
    /// `{"data":{fields},"message":"…","severity":"INFO","timestamp":"…"}`
    Gcp,
}

/// Section `otel`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OtelConfig {
    /// `noop`, `otlpgrpc`.
    #[serde(rename = "type")]
    pub kind: Exporter,
    /// Where `otlpgrpc` sends to.
    pub otlpgrpc: OtlpGrpcConfig,
    /// Which traces are kept.
    pub sampler: SamplerConfig,
}

/// Where spans go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exporter {
    /// Traces are sent nowhere.
    #[default]
    Noop,
    /// To an OTLP collector over gRPC.
    OtlpGrpc,
}

/// Section `otel.otlpgrpc`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct OtlpGrpcConfig {
    /// URL of the collector.
    pub endpoint: String,
}

impl Default for OtlpGrpcConfig {
    fn default() -> Self {
        Self {
            endpoint: "http://localhost:4317".into(),
        }
    }
}

/// Section `otel.sampler`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SamplerConfig {
    /// `always` or `traceid`.
    pub parent_sampler: ParentSampler,
    /// Share of traces kept by `traceid`, 0 to 1.
    pub trace_id_ratio: f64,
}

impl Default for SamplerConfig {
    fn default() -> Self {
        Self {
            parent_sampler: ParentSampler::Always,
            trace_id_ratio: 0.01,
        }
    }
}

/// What decides about a trace that has no parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ParentSampler {
    /// Traces that begin here are all recorded.
    Always,
    /// A share of traces.
    TraceId,
}

/// Logging or tracing cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// A subscriber is already installed in this process.
    #[error("logging is already set up")]
    AlreadySet(#[source] tracing_subscriber::util::TryInitError),
    /// The exporter's endpoint is not usable.
    #[error("otel.otlpgrpc.endpoint {endpoint:?} cannot be used")]
    Exporter {
        /// The configured endpoint.
        endpoint: String,
        /// What is wrong with its settings.
        source: opentelemetry_otlp::ExporterBuildError,
    },
}

/// Keeps the exporter alive; dropping it flushes what is pending.
#[must_use]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
    log: Log,
}

/// The log of this process, which can be set anew while it is written.
#[derive(Clone)]
pub struct Log {
    lines: reload::Handle<Lines, Registry>,
    filter: reload::Handle<EnvFilter, Registry>,
}

/// None writes nothing.
type Lines = Option<Box<dyn Layer<Registry> + Send + Sync>>;

impl Log {
    /// Writes from now on as `logger` says.
    pub fn set(&self, logger: &LoggerConfig) {
        let set = self
            .lines
            .reload(lines(logger))
            .and_then(|()| self.filter.reload(filter(logger.level)));
        if let Err(error) = set {
            // The subscriber is gone, as at the end of the process.
            tracing::debug!(%error, "the log cannot be set anew");
        }
    }
}

impl Telemetry {
    /// The log, for who changes how it is written.
    pub fn log(&self) -> Log {
        self.log.clone()
    }

    /// Lets the log follow section `logger` (spec 07 §1.9).
    pub fn follow(&self, reload: &mut Reload) {
        let log = self.log();
        reload.on_change("logger", move |logger: LoggerConfig| log.set(&logger));
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(provider) = self.provider.take()
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "pending spans were lost");
        }
    }
}

/// Installs logging to stderr and the span exporter for this process.
///
/// # Errors
/// When called twice, or when the exporter cannot be built.
pub fn install(
    logger: &LoggerConfig,
    otel: &OtelConfig,
    service: &str,
) -> Result<Telemetry, TelemetryError> {
    let provider = match otel.kind {
        Exporter::Noop => None,
        Exporter::OtlpGrpc => Some(exporter(otel, service)?),
    };
    let traces = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer().with_tracer(provider.tracer(service.to_owned()))
    });
    let (lines, lines_handle) = reload::Layer::new(lines(logger));
    let (filter, filter_handle) = reload::Layer::new(filter(logger.level));
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .with(traces)
        .try_init()
        .map_err(TelemetryError::AlreadySet)?;
    Ok(Telemetry {
        provider,
        log: Log {
            lines: lines_handle,
            filter: filter_handle,
        },
    })
}

fn lines(logger: &LoggerConfig) -> Lines {
    if logger.mute {
        return None;
    }
    Some(match logger.formatter.kind {
        Format::Json => Box::new(JsonLines::flyte(logger.show_source)),
        Format::Gcp => Box::new(JsonLines::gcp(logger.show_source)),
        Format::Text => Box::new(
            tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .with_ansi(std::io::stderr().is_terminal())
                .with_file(logger.show_source)
                .with_line_number(logger.show_source),
        ),
    })
}

fn filter(level: i64) -> EnvFilter {
    let ours = match level {
        ..=2 => "error",
        3 => "warn",
        4 => "info",
        5 => "debug",
        _ => "trace",
    };
    // Libraries are chatty one level earlier than we are; their details help only when tracing.
    let theirs = if level >= 6 { "debug" } else { "warn" };
    let directives = format!(
        "{theirs},s3s=off,flyte={ours},flyte_admin={ours},flyte_core={ours},flyte_crd={ours},flyte_local={ours},\
         flyte_platform={ours},flyte_plugins={ours},flyte_propeller={ours}"
    );
    EnvFilter::new(if level <= 2 {
        "error".to_owned()
    } else {
        directives
    })
}

fn exporter(otel: &OtelConfig, service: &str) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(&otel.otlpgrpc.endpoint)
        .build()
        .map_err(|source| TelemetryError::Exporter {
            endpoint: otel.otlpgrpc.endpoint.clone(),
            source,
        })?;
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(root(&otel.sampler))))
        .with_resource(
            Resource::builder()
                .with_service_name(service.to_owned())
                .build(),
        )
        .build())
}

/// What decides about traces that begin here.
fn root(config: &SamplerConfig) -> Sampler {
    match config.parent_sampler {
        ParentSampler::Always => Sampler::AlwaysOn,
        ParentSampler::TraceId => Sampler::TraceIdRatioBased(config.trace_id_ratio),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};

    fn configured(flags: &[(&str, &str)]) -> (LoggerConfig, OtelConfig) {
        let flags = flags
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let mut config = Config::load(Sources {
            flags: flags.collect(),
            ..Sources::default()
        })
        .unwrap();
        let sections = (config.section("logger"), config.section("otel"));
        config.finish().unwrap();
        sections
    }

    #[test]
    fn each_key_of_the_sampler_is_heard() {
        for (flags, expected) in [
            (&[][..], "AlwaysOn"),
            (&[("otel.sampler.traceIdRatio", "0.5")], "AlwaysOn"),
            (
                &[("otel.sampler.parentSampler", "traceid")],
                "TraceIdRatioBased(0.01)",
            ),
            (
                &[
                    ("otel.sampler.parentSampler", "traceid"),
                    ("otel.sampler.traceIdRatio", "0.5"),
                ],
                "TraceIdRatioBased(0.5)",
            ),
        ] {
            let (_, otel) = configured(flags);
            assert_eq!(format!("{:?}", root(&otel.sampler)), expected, "{flags:?}");
        }
    }

    #[test]
    fn each_key_of_the_log_is_heard() {
        // What the lines show is in `format`; here: who writes any, and how much.
        for (flags, writes, level) in [
            (&[][..], true, "flyte=warn"),
            (&[("logger.mute", "true")], false, "flyte=warn"),
            (&[("logger.level", "5")], true, "flyte=debug"),
        ] {
            let (logger, _) = configured(flags);
            assert_eq!(lines(&logger).is_some(), writes, "{flags:?}");
            let filter = filter(logger.level).to_string();
            assert!(filter.contains(level), "{flags:?}: {filter}");
        }
    }
}
