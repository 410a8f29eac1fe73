//! The two commands as a process: its signals, its time, its error document and its exit code.
//!
//! | | done | failed, document written | failed without a document |
//! |---|---|---|---|
//! | `download` | 0 | 1: the container must not start without its inputs | 1 |
//! | `sidecar` | 0 | 0: the engine reads the document of a task that ended well | 1 |

use std::{error::Error, time::Duration};

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use clap::ArgMatches;
use flyte_idl::core::TypedInterface;
use flyte_platform::{
    Chain,
    blob::{BlobStore, StorageConfig, below},
    cli::Bootstrap,
    config,
    telemetry::{self, LoggerConfig, OtelConfig},
};
use tokio::signal::unix::Signal;

use super::sections;
use crate::{
    download::{Download, Format},
    report::{self, Failed},
    sidecar::Upload,
    transfer::{Transfer, decode},
};

/// Runs one of the two commands. `terminate` hears SIGTERM from before anything was done.
///
/// # Errors
/// What makes the process exit 1.
pub(super) async fn run(matches: ArgMatches, terminate: Signal) -> anyhow::Result<()> {
    let Bootstrap {
        config: mut loaded, ..
    } = sections().bootstrap(&matches)?;
    let storage: StorageConfig = loaded.section("storage");
    let logger: LoggerConfig = loaded.section("logger");
    let otel: OtelConfig = loaded.section("otel");
    loaded.finish_strict()?;
    // Spans are sent when it is dropped.
    let _telemetry = telemetry::install(&logger, &otel, "flyte-copilot")?;
    match matches.subcommand() {
        Some(("download", matches)) => download(matches, &storage, terminate).await,
        Some(("sidecar", matches)) => sidecar(matches, &storage, terminate).await,
        _ => anyhow::bail!("a command is missing: download or sidecar"),
    }
}

async fn download(
    matches: &ArgMatches,
    storage: &StorageConfig,
    mut terminate: Signal,
) -> anyhow::Result<()> {
    let desk = Desk::open(matches, storage)?;
    let format = Format::parse(&text(matches, "format")).context("--format is not known")?;
    let work = async {
        let download = Download {
            from: required(matches, "from-remote")?,
            to: required(matches, "to-local-dir")?.into(),
            format,
        };
        download.run(&desk.transfer).await.map_err(Failure::of)
    };
    let stopped = async {
        terminate.recv().await;
        Err(Failure("stopped before all inputs were there".to_owned()))
    };
    let done = tokio::select! {
        biased;
        stopped = stopped => stopped,
        done = within(time(matches), &desk.transfer, work) => done,
    };
    let Err(failure) = done else {
        return Ok(());
    };
    tracing::error!(error = failure.0, "inputs cannot be downloaded");
    // The container would run without its inputs if this ended well (spec 05 §17.2).
    match desk.report(Failed::Download, &failure.0).await {
        Ok(()) => anyhow::bail!("inputs cannot be downloaded: {}", failure.0),
        Err(unwritten) => Err(unwritten).context(failure.0),
    }
}

async fn sidecar(
    matches: &ArgMatches,
    storage: &StorageConfig,
    mut terminate: Signal,
) -> anyhow::Result<()> {
    if text(matches, "interface").is_empty() {
        tracing::info!("no interface was given: there is nothing to upload");
        return Ok(());
    }
    let desk = Desk::open(matches, storage)?;
    let done = upload(matches, &desk, &mut terminate).await;
    let Err(failure) = done else {
        return Ok(());
    };
    tracing::error!(error = failure.0, "outputs cannot be uploaded");
    let reported = desk.report(Failed::Upload, &failure.0).await;
    reported.with_context(|| failure.0.clone())
}

async fn upload(matches: &ArgMatches, desk: &Desk, terminate: &mut Signal) -> Result<(), Failure> {
    let upload = Upload {
        from: required(matches, "from-local-dir")?.into(),
        raw: required(matches, "to-raw-output")?,
        outputs: below(&desk.outputs, &text(matches, "meta-output-name")),
        interface: interface(&text(matches, "interface"))?,
    };
    if !upload.has_outputs() {
        tracing::info!("the task has no outputs: there is nothing to upload");
        return Ok(());
    }
    if text(matches, "start-watcher-type") == "signal" {
        tracing::info!("waiting for SIGTERM, with which the container has ended");
        terminate.recv().await;
    }
    tracing::info!("uploading outputs");
    // Whoever says it again, or means to interrupt, gets the outputs sooner by waiting: SIGTERM does nothing now.
    let limit = time(matches).map(before_the_kill);
    let work = async { upload.run(&desk.transfer).await.map_err(Failure::of) };
    within(limit, &desk.transfer, work).await
}

/// The kubelet kills what runs for as long as `limit` after its SIGTERM; the error document has to be written until then.
fn before_the_kill(limit: Duration) -> Duration {
    limit.saturating_sub(report::PATIENCE.min(limit / 10))
}

/// Where results and failures go.
struct Desk {
    transfer: Transfer,
    /// For how long a failure is tried to be told.
    patience: Duration,
    outputs: String,
    error_name: String,
}

impl Desk {
    fn open(matches: &ArgMatches, storage: &StorageConfig) -> anyhow::Result<Self> {
        let outputs = text(matches, "to-output-prefix");
        anyhow::ensure!(
            !outputs.is_empty(),
            "--to-output-prefix is missing: without it nobody would learn of a failure"
        );
        Ok(Self {
            transfer: Transfer::new(BlobStore::open(storage)?),
            patience: time(matches).map_or(report::PATIENCE, |limit| limit.min(report::PATIENCE)),
            outputs,
            error_name: text(matches, "err-output-name"),
        })
    }

    async fn report(&self, failed: Failed, message: &str) -> Result<(), report::Unwritten> {
        let reference = below(&self.outputs, &self.error_name);
        let document = report::document(failed, message);
        report::write(&self.transfer, &reference, (&document, self.patience)).await
    }
}

/// Why it failed, with all causes.
struct Failure(String);

impl Failure {
    fn of<E: Error>(error: E) -> Self {
        Self(Chain(&error).to_string())
    }
}

/// `work` for at most `limit`.
async fn within(
    limit: Option<Duration>,
    transfer: &Transfer,
    work: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let Some(limit) = limit else {
        return work.await;
    };
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or_else(|_elapsed| {
            let why = transfer.trouble();
            Err(Failure(format!("not done in {limit:?}: {why}")))
        })
}

/// The time that was given; 0 is no limit.
fn time(matches: &ArgMatches) -> Option<Duration> {
    let time = matches.get_one::<config::Duration>("timeout");
    time.map(|time| time.to_std())
        .filter(|time| !time.is_zero())
}

fn text(matches: &ArgMatches, name: &str) -> String {
    matches.get_one::<String>(name).cloned().unwrap_or_default()
}

fn required(matches: &ArgMatches, name: &str) -> Result<String, Failure> {
    let value = text(matches, name);
    if value.is_empty() {
        return Err(Failure(format!("--{name} is missing")));
    }
    Ok(value)
}

fn interface(text: &str) -> Result<TypedInterface, Failure> {
    let wrong = |why: String| Failure(format!("--interface is no TypedInterface in base64: {why}"));
    let bytes = BASE64_STANDARD
        .decode(text)
        .map_err(|error| wrong(error.to_string()))?;
    decode(&bytes).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_time_left_for_the_error_document() {
        for (limit, left) in [(3600, 3570), (300, 270), (100, 90), (10, 9)] {
            let limit = before_the_kill(Duration::from_secs(limit));
            assert_eq!(limit, Duration::from_secs(left));
        }
    }
}
