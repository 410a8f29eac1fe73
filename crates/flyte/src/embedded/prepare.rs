//! What is checked before an embedded backend starts anything or writes anything.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use flyte_core::quantity::Quantity;
use flyte_local::{
    KubeletOptions, PlatformOptions,
    kubelet::{Amount, SupervisorCommand, cgroup_root},
    s3::Credentials,
};
use flyte_platform::{Clock, config::ProcessEnvironment, tls};

use super::{
    options::{ACCESS_KEY, GRACE, HEARTBEAT, Options, SECRET_KEY, SUPERVISOR},
    services::{BUCKET, JSON_DEPTH},
};
use crate::{lock, python};

/// Checked before anything is started or written.
pub(super) struct Prepared {
    pub(super) data_dir: PathBuf,
    pub(super) platform: PlatformOptions,
    _lock: lock::FolderLock,
}

impl Prepared {
    pub(super) async fn new(options: &Options) -> anyhow::Result<Self> {
        tls::install_crypto_provider();
        let process = ProcessEnvironment::of_process();
        let path = process
            .get("PATH")
            .unwrap_or("/usr/local/bin:/usr/bin:/bin")
            .to_owned();
        let python = python::find(&options.python, &path).await?;
        let capacity = capacity(options)?;
        let data_dir = match &options.data_dir {
            Some(folder) => std::path::absolute(folder)?,
            None => default_data_dir(&process)?,
        };
        let lock = lock::take(&data_dir)?;
        let program = std::env::current_exe().context("the path of this program is unknown")?;
        let mut environment: Vec<(String, String)> = [
            "HOME",
            "USER",
            "LANG",
            "LC_ALL",
            "TZ",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
        ]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), process.get(name)?.to_owned())))
        .collect();
        // Logs are followed while a task runs.
        environment.push(("PYTHONUNBUFFERED".to_owned(), "1".to_owned()));
        let clock = Clock::system();
        let node = KubeletOptions {
            node_name: "flyte-local".into(),
            capacity,
            folder: data_dir.join("node"),
            // There is no image of copilot here, but this program is it too.
            programs: BTreeMap::from([(
                COPILOT.to_owned(),
                vec![own_program(&program)?, "copilot".to_owned()],
            )]),
            supervisor: SupervisorCommand {
                program,
                arguments: vec![SUPERVISOR.into()],
            },
            schedules: true,
            python_bin: Some(python.bin),
            path,
            environment,
            cgroup_root: cgroup_root().await,
            shutdown_grace: GRACE,
            heartbeat: options.kubeconfig.as_ref().map(|_| HEARTBEAT),
            port: None,
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
            retention: options.retention,
            json_depth: JSON_DEPTH,
            node,
        };
        Ok(Self {
            data_dir,
            platform,
            _lock: lock,
        })
    }

    pub(super) fn node_text(&self) -> String {
        let capacity = &self.platform.node.capacity;
        format!(
            "{}.{:03} cores, {} MiB of memory",
            capacity.cpu_millis / 1000,
            capacity.cpu_millis % 1000,
            capacity.memory / (1024 * 1024)
        )
    }
}

/// Where images of copilot have it (spec 07 §5.7).
const COPILOT: &str = "/bin/flyte-copilot";

/// This program as a word of a command.
fn own_program(program: &Path) -> anyhow::Result<String> {
    let text = program.to_str().map(str::to_owned);
    text.with_context(|| {
        format!(
            "the path of this program, {}, is not UTF-8",
            program.display()
        )
    })
}

/// The user's own folder for data (XDG base directories).
fn default_data_dir(process: &ProcessEnvironment) -> anyhow::Result<PathBuf> {
    let base = match (process.get("XDG_DATA_HOME"), process.get("HOME")) {
        (Some(base), _) => PathBuf::from(base),
        (None, Some(home)) => Path::new(home).join(".local/share"),
        (None, None) => anyhow::bail!(
            "neither XDG_DATA_HOME nor HOME is set; name a data folder with --data-dir"
        ),
    };
    Ok(base.join("flyte"))
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
