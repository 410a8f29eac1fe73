//! `flyte start` without configuration: everything in this process.

use std::{
    collections::BTreeMap,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use flyte_admin::{config::AdminConfig, targets::ExecutionTargets};
use flyte_core::quantity::Quantity;
use flyte_local::{
    KubeletOptions, LocalPlatform, PlatformOptions,
    kubelet::{Amount, SupervisorCommand},
    s3::Credentials,
};
use flyte_platform::{
    Clock, Tasks,
    blob::BlobStore,
    cli,
    client::{AdminClientConfig, RetryPolicy},
    config::{Duration as ConfigDuration, StringMap},
    metrics::Scope,
    server::{self, CallMetrics},
    sql::{Database, DatabaseConfig},
    telemetry::{self, Format, FormatterConfig, LoggerConfig, OtelConfig},
    tls,
};
use flyte_plugins::config::{K8sConfig, LogsConfig, PluginsConfig};
use flyte_propeller::config::PropellerConfig;
use kube::{Api, api::PostParams};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::SUPERVISOR,
    guard::{self, AllowedHosts},
    lock, pages, python,
};

const BUCKET: &str = "my-s3-bucket";
const ACCESS_KEY: &str = "minio";
const SECRET_KEY: &str = "miniostorage";
/// How long open calls and pods have when the process is asked to end.
const GRACE: Duration = Duration::from_secs(10);
/// How deep resources may nest: 1,000 levels of a type are four times as many of JSON, and each takes about 3 KiB of
/// the 16 MiB stacks of [`cli::runtime`].
const JSON_DEPTH: usize = 4_096;
/// Longer than this and something is wrong that a person should hear of.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// What the command line says.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) host: String,
    pub(crate) http_port: u16,
    pub(crate) s3_port: u16,
    pub(crate) kubernetes_port: u16,
    pub(crate) python: String,
    pub(crate) node_cpu: Option<String>,
    pub(crate) node_memory: Option<String>,
    pub(crate) verbosity: u8,
}

/// What the environment of this process says.
struct Surroundings {
    variables: BTreeMap<String, String>,
}

impl Surroundings {
    fn of_process() -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self { variables }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.variables
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    fn data_dir(&self) -> anyhow::Result<PathBuf> {
        let base = match (self.get("XDG_DATA_HOME"), self.get("HOME")) {
            (Some(base), _) => PathBuf::from(base),
            (None, Some(home)) => Path::new(home).join(".local/share"),
            (None, None) => anyhow::bail!(
                "neither XDG_DATA_HOME nor HOME is set; name a data folder with --data-dir"
            ),
        };
        Ok(base.join("flyte"))
    }
}

/// `flyte platform`: Kubernetes API, node and S3, until asked to stop.
pub(crate) async fn platform(options: Options) -> anyhow::Result<()> {
    let started = Instant::now();
    let stop = CancellationToken::new();
    let prepared = Prepared::new(&options).await?;
    let platform = LocalPlatform::start(prepared.platform.clone(), stop.clone()).await?;
    define_workflows(platform.cluster().client()).await?;
    cli::print(&format!(
        "Embedded platform ready in {:.2} s (pid {})\n  Kubernetes   {} (kubeconfig {})\n  Storage      storage.stow.kind=s3 \
         endpoint={} access_key_id={ACCESS_KEY} secret_key={SECRET_KEY} container={BUCKET}\n  Node         {}\n",
        started.elapsed().as_secs_f64(),
        std::process::id(),
        platform.kubernetes_address(),
        platform.kubeconfig().display(),
        platform.s3_url(),
        prepared.node_text(),
    ));
    let mut tasks = Tasks::new(stop.clone());
    tasks.spawn("embedded platform", platform.run());
    cli::stop_on_signals(&mut tasks);
    Ok(tasks
        .run_until_stopped(GRACE + Duration::from_secs(5))
        .await?)
}

/// `flyte start`: everything, until asked to stop.
pub(crate) async fn start(options: Options) -> anyhow::Result<()> {
    let started = Instant::now();
    let address: SocketAddr = tokio::net::lookup_host((options.host.as_str(), options.http_port))
        .await
        .with_context(|| {
            format!(
                "host {:?} is no address of this machine; see --host",
                options.host
            )
        })?
        .next()
        .with_context(|| format!("host {:?} has no address; see --host", options.host))?;
    let listener = server::bind(address, "HTTP and gRPC", "--http-port").await?;
    let http_port = listener.local_addr()?.port();
    let prepared = Prepared::new(&options).await?;
    let _telemetry =
        telemetry::install(&logger(options.verbosity), &OtelConfig::default(), "flyte")?;
    let stop = CancellationToken::new();
    // The platform goes last, so that pods end while API and engine still listen.
    let stop_platform = CancellationToken::new();
    let platform = LocalPlatform::start(prepared.platform.clone(), stop_platform.clone()).await?;
    let cluster = platform.cluster().client();
    let base = format!("http://localhost:{http_port}");
    let blobs = BlobStore::over(
        "s3",
        BUCKET,
        Arc::new(platform.bucket()),
        Some(BlobStore::s3_signer(
            platform.s3_url(),
            BUCKET,
            ACCESS_KEY,
            SECRET_KEY,
        )?),
    );
    let database_config = DatabaseConfig::sqlite(prepared.data_dir.join("admin.db"));
    let (database, defined) = tokio::join!(
        Database::open(&database_config),
        define_workflows(cluster.clone())
    );
    let database = database
        .with_context(|| format!("database {}", prepared.data_dir.join("admin.db").display()))?;
    defined?;
    let clock = Clock::system();
    let metrics = Scope::new("");
    let admin = flyte_admin::wire(
        flyte_admin::Dependencies {
            database,
            blobs: blobs.clone(),
            targets: ExecutionTargets::single(cluster.clone()),
            clock,
        },
        admin_config(database_config),
    );
    admin.migrate().await?;
    admin
        .seed_projects(&[("flytesnacks".into(), "Default project setup.".into())])
        .await?;

    let mut tasks = Tasks::new(stop.clone());
    admin.spawn(&mut tasks);
    let calls = Arc::new(CallMetrics::register(&metrics)?);
    let pages = pages::routes(cluster.clone()).fallback_service(admin.http());
    let router = server::combine(admin.grpc(), pages, calls).layer(
        axum::middleware::from_fn_with_state(AllowedHosts::new(&options.host), guard::guard),
    );
    let (channel, in_process) = server::in_process(router.clone(), stop.child_token());
    tasks.spawn_infallible("in-process API", in_process);
    tasks.spawn_infallible(
        "API",
        server::serve(listener, None, router, stop.child_token(), GRACE),
    );
    let engine = flyte_propeller::wire(
        flyte_propeller::Dependencies {
            kube: cluster,
            blobs,
            admin: channel,
            clock,
            metrics,
        },
        propeller_config(),
        plugins_config(&base, http_port),
        RetryPolicy::from(&AdminClientConfig::default()),
    )?;
    let (mut engine_ready, mut admin_ready) = (engine.readiness(), admin.readiness());
    tasks.spawn("engine", engine.run(stop.child_token()));
    cli::stop_on_signals(&mut tasks);

    let node = prepared.node_text();
    let kubeconfig = platform.kubeconfig().display().to_string();
    let s3_url = platform.s3_url().to_owned();
    let (asked, folder) = (stop.clone(), prepared.data_dir.display().to_string());
    tasks.spawn("readiness", async move {
        let ready = async {
            became_true(&mut engine_ready).await && became_true(&mut admin_ready).await
        };
        tokio::select! {
            biased;
            () = asked.cancelled() => return Ok(()),
            ready = tokio::time::timeout(READY_WITHIN, ready) => {
                if !ready.unwrap_or(false) {
                    return Err(anyhow::anyhow!("not ready within {READY_WITHIN:?}; start with -v to see why"));
                }
            }
        }
        announce(&Announcement { started, base: &base, s3_url: &s3_url, kubeconfig: &kubeconfig, folder: &folder, node: &node });
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
    let ended = tokio::time::timeout(GRACE + Duration::from_secs(5), platform).await;
    outcome?;
    ended.context("the embedded platform did not stop in time")??;
    Ok(())
}

/// Checked before anything is started or written.
struct Prepared {
    data_dir: PathBuf,
    platform: PlatformOptions,
    _lock: lock::FolderLock,
}

impl Prepared {
    async fn new(options: &Options) -> anyhow::Result<Self> {
        tls::install_crypto_provider();
        let surroundings = Surroundings::of_process();
        let path = surroundings
            .get("PATH")
            .unwrap_or("/usr/local/bin:/usr/bin:/bin")
            .to_owned();
        let python = python::find(&options.python, &path).await?;
        let capacity = capacity(options)?;
        let data_dir = match &options.data_dir {
            Some(folder) => std::path::absolute(folder)?,
            None => surroundings.data_dir()?,
        };
        let lock = lock::take(&data_dir)?;
        let program = std::env::current_exe().context("the path of this program is unknown")?;
        let mut environment: Vec<(String, String)> = [
            "HOME",
            "USER",
            "LANG",
            "LC_ALL",
            "TZ",
            "TMPDIR",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
        ]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), surroundings.get(name)?.to_owned())))
        .collect();
        // Logs are followed while a task runs.
        environment.push(("PYTHONUNBUFFERED".to_owned(), "1".to_owned()));
        let clock = Clock::system();
        let node = KubeletOptions {
            node_name: "flyte-local".into(),
            capacity,
            folder: data_dir.join("node"),
            supervisor: SupervisorCommand {
                program,
                arguments: vec![SUPERVISOR.into()],
            },
            schedules: true,
            python_bin: Some(python.bin),
            path,
            environment,
            cgroup_root: None,
            shutdown_grace: GRACE,
            heartbeat: None,
            now: Arc::new(move || clock.now()),
        };
        let platform = PlatformOptions {
            data_dir: data_dir.clone(),
            host: options.host.clone(),
            kubernetes_port: options.kubernetes_port,
            s3_port: options.s3_port,
            credentials: Credentials {
                access_key: ACCESS_KEY.into(),
                secret_key: SECRET_KEY.into(),
            },
            bucket: BUCKET.into(),
            json_depth: JSON_DEPTH,
            node,
        };
        Ok(Self {
            data_dir,
            platform,
            _lock: lock,
        })
    }

    fn node_text(&self) -> String {
        let capacity = &self.platform.node.capacity;
        format!(
            "{}.{:03} cores, {} MiB of memory",
            capacity.cpu_millis / 1000,
            capacity.cpu_millis % 1000,
            capacity.memory / (1024 * 1024)
        )
    }
}

fn capacity(options: &Options) -> anyhow::Result<Amount> {
    let quantity = |text: &Option<String>, flag: &str| {
        text.as_ref()
            .map(|text| {
                text.parse::<Quantity>().map_err(|error| {
                    anyhow::anyhow!("{flag} {text:?} is not a quantity such as 4 or 8Gi: {error}")
                })
            })
            .transpose()
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cpu_millis = match quantity(&options.node_cpu, "--node-cpu")? {
        Some(quantity) => i128::from(quantity.milli_value()),
        None => i128::try_from(cores).unwrap_or(1) * 1000,
    };
    let memory = match quantity(&options.node_memory, "--node-memory")? {
        Some(quantity) => i128::from(quantity.value()),
        None => {
            i128::from(rustix::system::sysinfo().totalram)
                * i128::from(rustix::system::sysinfo().mem_unit)
        }
    };
    anyhow::ensure!(
        cpu_millis > 0 && memory > 0,
        "--node-cpu and --node-memory must be greater than 0"
    );
    Ok(Amount { cpu_millis, memory })
}

/// Makes the cluster serve FlyteWorkflow.
async fn define_workflows(client: kube::Client) -> anyhow::Result<()> {
    let api: Api<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> =
        Api::all(client);
    match api
        .create(
            &PostParams::default(),
            &flyte_crd::custom_resource_definition(),
        )
        .await
    {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error).context("the FlyteWorkflow definition cannot be created"),
    }
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

fn admin_config(database: DatabaseConfig) -> AdminConfig {
    let mut config = AdminConfig {
        database,
        ..AdminConfig::default()
    };
    config.task_resources.defaults.cpu = "500m".into();
    config.task_resources.defaults.memory = "500Mi".into();
    // 0 is no limit: a node that is too small says so itself.
    for limit in [
        &mut config.task_resources.limits.cpu,
        &mut config.task_resources.limits.memory,
        &mut config.task_resources.limits.gpu,
    ] {
        "0".clone_into(limit);
    }
    config
}

fn propeller_config() -> PropellerConfig {
    PropellerConfig {
        rawoutput_prefix: format!("s3://{BUCKET}/data"),
        ..PropellerConfig::default()
    }
}

fn plugins_config(base: &str, http_port: u16) -> PluginsConfig {
    PluginsConfig {
        k8s: K8sConfig {
            default_env_vars: StringMap::from([
                ("FLYTE_PLATFORM_URL", format!("localhost:{http_port}")),
                ("FLYTE_PLATFORM_INSECURE", "true".to_owned()),
            ]),
            image_pull_backoff_grace_period: ConfigDuration::ZERO,
            ..K8sConfig::default()
        },
        logs: LogsConfig {
            kubernetes_template_uri: pages::log_template(base),
            ..LogsConfig::default()
        },
        ..PluginsConfig::default()
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
