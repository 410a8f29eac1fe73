//! `flyte start` without configuration: everything in this process.

mod options;
mod prepare;
pub mod services;

use std::{
    io::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use flyte_local::{
    LocalPlatform, PlatformOptions,
    platform::{ApiServer, Listeners},
};
use flyte_platform::{
    Clock, Tasks,
    blob::{BlobStore, StorageConfig},
    cli,
    config::{ProcessEnvironment, Secret},
    kubernetes::{self, KubeClientConfig},
    metrics::{LabelKeys, Scope},
    server::{self, AllowedHosts, Guard, PagesRead},
    sql::DatabaseConfig,
    telemetry::{self, Format, FormatterConfig, LoggerConfig, OtelConfig},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use options::{ACCESS_KEY, GRACE, PLATFORM_GRACE, SECRET_KEY};
pub(crate) use options::{Options, SUPERVISOR};
use prepare::Prepared;
use services::{BUCKET, Backends, Services, define_workflows};

/// Longer than this and something is wrong that a person should hear of.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// `flyte platform`: Kubernetes API, node and S3, until asked to stop.
pub(crate) async fn platform(options: Options) -> anyhow::Result<()> {
    let started = Instant::now();
    let stop = CancellationToken::new();
    let kubernetes = Kubernetes::of(&options).await?;
    let s3_listener = s3_listener(&options).await?;
    let prepared = Prepared::new(&options).await?;
    let platform = kubernetes
        .platform(s3_listener, prepared.platform.clone(), stop.clone())
        .await?;
    define_workflows(platform.client()).await?;
    let kubernetes = match platform.kubernetes_address() {
        Some(address) => format!("{address} (kubeconfig {})", platform.kubeconfig().display()),
        None => format!("that of {}", platform.kubeconfig().display()),
    };
    cli::print(&format!(
        "Embedded platform ready in {:.2} s (pid {})\n  Kubernetes   {kubernetes}\n  Storage      storage.stow.kind=s3 \
         endpoint={} access_key_id={ACCESS_KEY} secret_key={SECRET_KEY} container={BUCKET}\n  Node         {}\n",
        started.elapsed().as_secs_f64(),
        std::process::id(),
        platform.s3_url(),
        prepared.node_text(),
    ));
    let mut tasks = Tasks::new(stop.clone());
    tasks.spawn("embedded platform", platform.run());
    cli::stop_on_signals(&mut tasks);
    Ok(tasks.run_until_stopped(PLATFORM_GRACE).await?)
}

/// `flyte start`: everything, until asked to stop.
pub(crate) async fn start(options: Options) -> anyhow::Result<()> {
    let started = Instant::now();
    let listener = listen(&options, options.http_port, "HTTP and gRPC", "--http-port").await?;
    let kubernetes = Kubernetes::of(&options).await?;
    let s3_listener = s3_listener(&options).await?;
    let http_port = listener.local_addr()?.port();
    let prepared = Prepared::new(&options).await?;
    let _telemetry =
        telemetry::install(&logger(options.verbosity), &OtelConfig::default(), "flyte")?;
    let stop = CancellationToken::new();
    // The platform goes last, so that pods end while API and engine still listen.
    let stop_platform = CancellationToken::new();
    let platform = kubernetes
        .platform(
            s3_listener,
            prepared.platform.clone(),
            stop_platform.clone(),
        )
        .await?;
    let base = format!("http://localhost:{http_port}");
    let services = Services::open(Backends {
        cluster: platform.client(),
        blobs: BlobStore::over(
            "s3",
            BUCKET,
            Arc::new(platform.bucket()),
            Some(BlobStore::s3_signer(
                platform.s3_url(),
                BUCKET,
                ACCESS_KEY,
                SECRET_KEY,
            )?),
        ),
        storage: storage(platform.s3_url()),
        database: DatabaseConfig::sqlite(prepared.data_dir.join("admin.db")),
        catalog: DatabaseConfig::sqlite(prepared.data_dir.join("datacatalog.db")),
        cache_retention: options.cache_retention,
        clock: Clock::system(),
        metrics: Scope::new("").labelled_by(LabelKeys::of_the_single_binary()),
    })
    .await?;

    let mut tasks = Tasks::new(stop.clone());
    services.spawn(&mut tasks);
    let router = services.router();
    let (channel, in_process) =
        server::in_process(services.in_process_router(), stop.child_token());
    let hosts = AllowedHosts::new(&options.host);
    let router = router.layer(Guard::plain(hosts, PagesRead::AsGranted));
    tasks.spawn_infallible("in-process API", in_process);
    tasks.spawn_infallible(
        "API",
        server::serve(listener, None, router, stop.child_token(), GRACE),
    );
    let engine = services.engine(channel, http_port)?;
    let (mut engine_ready, mut admin_ready) = (engine.readiness(), services.admin().readiness());
    let mut catalog_ready = services.catalog().readiness();
    tasks.spawn("engine", engine.run(stop.child_token()));
    cli::stop_on_signals(&mut tasks);

    let node = prepared.node_text();
    let kubeconfig = platform.kubeconfig().display().to_string();
    let s3_url = platform.s3_url().to_owned();
    let (asked, folder) = (stop.clone(), prepared.data_dir.display().to_string());
    tasks.spawn("readiness", async move {
        let ready = async {
            became_true(&mut engine_ready).await
                && became_true(&mut admin_ready).await
                && became_true(&mut catalog_ready).await
        };
        let in_time = tokio::select! {
            biased;
            () = asked.cancelled() => return Ok(()),
            ready = tokio::time::timeout(READY_WITHIN, ready) => ready.unwrap_or(false),
        };
        if !in_time {
            let waits = [
                ("the engine", *engine_ready.borrow()),
                ("the API", *admin_ready.borrow()),
                ("the cache index", *catalog_ready.borrow()),
            ];
            let parts: Vec<&str> = waits
                .iter()
                .filter(|(_, ready)| !ready)
                .map(|(part, _)| *part)
                .collect();
            return Err(anyhow::anyhow!(
                "{} did not get ready within {} s; start with -v to see what it waits for",
                parts.join(" and "),
                READY_WITHIN.as_secs()
            ));
        }
        announce(&Announcement {
            started,
            base: &base,
            s3_url: &s3_url,
            kubeconfig: &kubeconfig,
            folder: &folder,
            node: &node,
        });
        asked.cancelled().await;
        Ok(())
    });
    let platform = platform.run();
    tokio::pin!(platform);
    let services = tasks.run_until_stopped(GRACE);
    tokio::pin!(services);
    let outcome = tokio::select! {
        outcome = &mut services => outcome.map_err(anyhow::Error::from),
        ended = &mut platform => {
            stop.cancel();
            drop(services.await);
            return ended.map_err(anyhow::Error::from);
        }
    };
    stop_platform.cancel();
    let ended = tokio::time::timeout(PLATFORM_GRACE, platform).await;
    outcome?;
    ended.context("the embedded platform did not stop in time")??;
    Ok(())
}

/// How processes of tasks reach the bucket.
fn storage(s3_url: &str) -> StorageConfig {
    let mut storage = StorageConfig {
        container: BUCKET.into(),
        ..StorageConfig::default()
    };
    let connection = &mut storage.connection;
    s3_url.clone_into(&mut connection.endpoint);
    "accesskey".clone_into(&mut connection.auth_type);
    ACCESS_KEY.clone_into(&mut connection.access_key);
    connection.secret_key = Secret::new(SECRET_KEY);
    storage
}

/// The Kubernetes API of the platform: its port, or the API server that is named. Neither has been written to.
enum Kubernetes {
    Embedded(TcpListener),
    Given(ApiServer),
}

impl Kubernetes {
    async fn of(options: &Options) -> anyhow::Result<Self> {
        let Some(file) = &options.kubeconfig else {
            let (port, purpose) = (options.kubernetes_port, "the Kubernetes API");
            let listener = listen(options, port, purpose, "--kubernetes-port").await?;
            return Ok(Self::Embedded(listener));
        };
        let kubeconfig = std::path::absolute(file)?;
        let server = kubernetes::Server {
            kube_config: file,
            master: "",
            pace: &KubeClientConfig::default(),
        };
        let process = ProcessEnvironment::of_process();
        let client = kubernetes::client(server, |name| process.get(name).map(str::to_owned)).await;
        Ok(Self::Given(ApiServer {
            client: client.context("--kubeconfig")?,
            kubeconfig,
        }))
    }

    async fn platform(
        self,
        s3: TcpListener,
        options: PlatformOptions,
        stop: CancellationToken,
    ) -> anyhow::Result<LocalPlatform> {
        Ok(match self {
            Self::Embedded(kubernetes) => {
                LocalPlatform::start_on(Listeners { kubernetes, s3 }, options, stop).await?
            }
            Self::Given(server) => LocalPlatform::join(server, s3, options, stop).await?,
        })
    }
}

/// Takes the port of S3 before anything is written.
async fn s3_listener(options: &Options) -> anyhow::Result<TcpListener> {
    listen(options, options.s3_port, "the S3 endpoint", "--s3-port").await
}

async fn listen(
    options: &Options,
    port: u16,
    purpose: &str,
    flag: &str,
) -> anyhow::Result<TcpListener> {
    let host = &options.host;
    let mut addresses = tokio::net::lookup_host((host.as_str(), port))
        .await
        .with_context(|| format!("host {host:?} has no address; see --host"))?;
    let address = addresses
        .next()
        .with_context(|| format!("host {host:?} has no address; see --host"))?;
    Ok(server::bind(address, purpose, flag).await?)
}

fn logger(verbosity: u8) -> LoggerConfig {
    LoggerConfig {
        level: match verbosity {
            0 => 3,
            1 => 5,
            _ => 6,
        },
        formatter: FormatterConfig { kind: Format::Text },
        ..LoggerConfig::default()
    }
}

/// False when the one who would say so is gone.
async fn became_true(watched: &mut tokio::sync::watch::Receiver<bool>) -> bool {
    watched.wait_for(|ready| *ready).await.is_ok()
}

struct Announcement<'a> {
    started: Instant,
    base: &'a str,
    s3_url: &'a str,
    kubeconfig: &'a str,
    folder: &'a str,
    node: &'a str,
}

fn announce(ready: &Announcement<'_>) {
    let bold = anstyle::Style::new().bold();
    let text = format!(
        "{bold}Flyte is ready{bold:#} after {:.2} s (pid {})\n  API          {} (gRPC and HTTP)\n  Storage      {} (bucket \
         {BUCKET}, {ACCESS_KEY}/{SECRET_KEY})\n  Kubernetes   KUBECONFIG={}\n  Data         {}\n  Node         {}\n\
         Ctrl-C stops it.\n",
        ready.started.elapsed().as_secs_f64(),
        std::process::id(),
        ready.base,
        ready.s3_url,
        ready.kubeconfig,
        ready.folder,
        ready.node,
    );
    let mut out = anstream::stdout().lock();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}
