//! The data sidecar in the pods of raw containers (spec 05 §7).
//!
//! ```text
//! init containers: uploader (a sidecar, first) ── those of the pod ── downloader
//! volumes:         outputs ──┘                                 inputs ──┘     both in the primary container
//! ```
//!
//! The uploader starts first, so that it hears SIGTERM however soon the container ends. Flags are exactly those of Go's
//! propeller, because the image may be Go's.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use flyte_idl::core::{
    DataLoadingConfig, TypedInterface, VariableMap, data_loading_config::LiteralMapFormat,
    task_template::Target,
};
use flyte_platform::blob::StorageConfig;
use k8s_openapi::{
    api::core::v1::{
        Capabilities, Container, EmptyDirVolumeSource, EnvVar, PodSpec, ResourceRequirements,
        SecurityContext, Volume, VolumeMount,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use prost::Message as _;

use super::{BuildError, primary_of};
use crate::{
    TaskContext,
    config::{CopilotConfig, Credentials, PluginsConfig},
};

/// Where the program is in its image; nothing says otherwise.
const PROGRAM: &str = "/bin/flyte-copilot";

/// What a task's data need beside its container.
pub(super) struct Copilot<'a> {
    context: &'a TaskContext<'a>,
    config: &'a PluginsConfig,
    data: &'a DataLoadingConfig,
    inputs: Option<&'a VariableMap>,
    /// The whole interface, if it has outputs.
    outputs: Option<&'a TypedInterface>,
}

impl<'a> Copilot<'a> {
    /// None for a task that reads and writes its data itself.
    pub(super) fn of(context: &'a TaskContext<'a>, config: &'a PluginsConfig) -> Option<Self> {
        let data = match &context.template.target {
            Some(Target::Container(container)) => container.data_config.as_ref(),
            Some(Target::K8sPod(pod)) => pod.data_config.as_ref(),
            Some(Target::Sql(_)) | None => None,
        };
        let data = data.filter(|data| data.enabled)?;
        let interface = context.template.interface.as_ref();
        let has = |variables: &VariableMap| !variables.variables.is_empty();
        Some(Self {
            context,
            config,
            data,
            inputs: interface
                .and_then(|interface| interface.inputs.as_ref())
                .filter(|inputs| has(inputs)),
            outputs: interface.filter(|interface| interface.outputs.as_ref().is_some_and(has)),
        })
    }

    /// Adds what is needed to the pod. Returns the name of the init container that brings inputs, if there are any.
    ///
    /// # Errors
    /// A pod without its primary container.
    pub(super) fn join(
        &self,
        spec: &mut PodSpec,
        primary: &str,
    ) -> Result<Option<String>, BuildError> {
        let settings = &self.config.k8s.co_pilot;
        let inputs = self.inputs.map(|inputs| {
            let path = given_or(&self.data.input_path, &settings.default_input_path);
            (inputs, mount(&settings.input_vol_name, path))
        });
        let outputs = self.outputs.map(|interface| {
            let path = given_or(&self.data.output_path, &settings.default_output_path);
            (interface, mount(&settings.output_vol_name, path))
        });

        let container = primary_of(spec, primary)?;
        container
            .security_context
            .get_or_insert_with(SecurityContext::default)
            .capabilities
            .get_or_insert_with(Capabilities::default);
        let inner = inputs.iter().map(|(_, mount)| mount);
        let inner = inner.chain(outputs.iter().map(|(_, mount)| mount));
        let inner: Vec<VolumeMount> = inner.cloned().collect();
        if !inner.is_empty() {
            let volumes = inner.iter().map(|mount| self.volume(&mount.name));
            container
                .volume_mounts
                .get_or_insert_default()
                .extend(inner.clone());
            spec.volumes.get_or_insert_default().extend(volumes);
        }

        let mut downloader = None;
        if let Some((inputs, mount)) = inputs {
            let arguments = self.download(inputs, &mount.mount_path);
            let container = self.container("downloader", arguments, mount);
            downloader = Some(container.name.clone());
            spec.init_containers.get_or_insert_default().push(container);
        }
        if let Some((interface, mount)) = outputs {
            let arguments = self.sidecar(interface, &mount.mount_path);
            let container = Container {
                restart_policy: Some("Always".to_owned()),
                ..self.container(UPLOADER, arguments, mount)
            };
            spec.init_containers
                .get_or_insert_default()
                .insert(0, container);
            spec.termination_grace_period_seconds = Some(settings.timeout.to_signed().as_secs());
        }
        Ok(downloader)
    }

    fn download(&self, inputs: &VariableMap, folder: &str) -> Vec<String> {
        let format = match self.data.format() {
            LiteralMapFormat::Json => "JSON",
            LiteralMapFormat::Yaml => "YAML",
            LiteralMapFormat::Proto => "PROTO",
        };
        line(
            "download",
            [
                ("--from-remote", self.context.inputs.clone()),
                ("--to-output-prefix", self.context.output_folder.clone()),
                ("--to-local-dir", folder.to_owned()),
                ("--format", format.to_owned()),
                (
                    "--input-interface",
                    BASE64_STANDARD.encode(inputs.encode_to_vec()),
                ),
            ],
        )
    }

    fn sidecar(&self, interface: &TypedInterface, folder: &str) -> Vec<String> {
        line(
            "sidecar",
            [
                ("--timeout", self.config.k8s.co_pilot.timeout.to_string()),
                ("--to-raw-output", self.context.raw_output.clone()),
                ("--to-output-prefix", self.context.output_folder.clone()),
                ("--from-local-dir", folder.to_owned()),
                (
                    "--interface",
                    BASE64_STANDARD.encode(interface.encode_to_vec()),
                ),
            ],
        )
    }

    fn container(&self, name: &str, arguments: Vec<String>, mount: VolumeMount) -> Container {
        let settings = &self.config.k8s.co_pilot;
        let (command, environment) =
            command(&self.config.storage, settings, self.config.logger.level);
        let amounts: BTreeMap<String, Quantity> = [
            ("cpu", settings.cpu.as_str()),
            ("memory", settings.memory.as_str()),
        ]
        .map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned())))
        .into();
        Container {
            name: format!("{}{name}", settings.name),
            image: Some(settings.image.clone()),
            command: Some(command),
            args: Some(arguments),
            env: (!environment.is_empty()).then_some(environment),
            working_dir: Some("/".to_owned()),
            resources: Some(ResourceRequirements {
                requests: Some(amounts.clone()),
                limits: Some(amounts),
                ..ResourceRequirements::default()
            }),
            volume_mounts: Some(vec![mount]),
            termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
            image_pull_policy: Some("IfNotPresent".to_owned()),
            ..Container::default()
        }
    }

    /// A volume of the pod's own, as large as the node's overrides say.
    fn volume(&self, name: &str) -> Volume {
        let resources = self.context.resources;
        let size = [&resources.limits, &resources.requests]
            .into_iter()
            .flatten()
            .find_map(|amounts| amounts.get("storage"));
        Volume {
            name: name.to_owned(),
            empty_dir: Some(EmptyDirVolumeSource {
                medium: None,
                size_limit: size.cloned(),
            }),
            ..Volume::default()
        }
    }
}

/// What the name of the container that takes outputs away ends with.
const UPLOADER: &str = "uploader";

/// The name of the container that takes outputs away.
pub(crate) fn uploader(settings: &CopilotConfig) -> String {
    format!("{}{UPLOADER}", settings.name)
}

fn given_or<'a>(given: &'a str, otherwise: &'a str) -> &'a str {
    if given.is_empty() { otherwise } else { given }
}

fn mount(volume: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    }
}

fn line<const N: usize>(command: &str, flags: [(&str, String); N]) -> Vec<String> {
    let flags = flags
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value]);
    std::iter::once(command.to_owned()).chain(flags).collect()
}

/// The program with what it is told of the store, and its environment.
fn command(
    storage: &StorageConfig,
    settings: &CopilotConfig,
    log_level: i64,
) -> (Vec<String>, Vec<EnvVar>) {
    let mut words = vec![
        PROGRAM.to_owned(),
        "--storage.limits.maxDownloadMBs=0".to_owned(),
        format!("--logger.level={log_level}"),
    ];
    if storage.enable_multicontainer {
        words.push("--storage.enable-multicontainer".to_owned());
    }
    if !storage.container.is_empty() {
        words.push(format!("--storage.container={}", storage.container));
    }
    words.push(format!("--storage.type={}", storage.kind));
    let mut environment = Vec::new();
    let mut by_environment = |key: &str, value: String| {
        environment.push(EnvVar {
            name: key.to_owned(),
            value: Some(value),
            ..EnvVar::default()
        });
    };
    let stow = &storage.stow;
    if !stow.kind.is_empty() && !stow.config.0.is_empty() {
        let pairs = stow.config.0.iter();
        let pairs = pairs.map(|(key, value)| format!("{key}={value}"));
        match settings.credentials {
            Credentials::Arguments => {
                for pair in pairs {
                    words.extend(["--storage.stow.config".to_owned(), pair]);
                }
            }
            Credentials::Environment => {
                by_environment(
                    "FLYTE__STORAGE__STOW__CONFIG",
                    pairs.collect::<Vec<_>>().join(","),
                );
            }
        }
        words.push(format!("--storage.stow.kind={}", stow.kind));
        return (words, environment);
    }
    let connection = &storage.connection;
    let secrets = [
        ("secret-key", connection.secret_key.expose()),
        ("access-key", connection.access_key.as_str()),
    ];
    for (key, value) in secrets {
        match settings.credentials {
            Credentials::Arguments => words.push(format!("--storage.connection.{key}={value}")),
            Credentials::Environment if value.is_empty() => {}
            Credentials::Environment => {
                let key = key.to_uppercase().replace('-', "_");
                by_environment(
                    &format!("FLYTE__STORAGE__CONNECTION__{key}"),
                    value.to_owned(),
                );
            }
        }
    }
    for (key, value) in [
        ("auth-type", &connection.auth_type),
        ("region", &connection.region),
        ("endpoint", &connection.endpoint),
    ] {
        words.push(format!("--storage.connection.{key}={value}"));
    }
    // Go leaves this out, and copilot then speaks TLS to a port that does not.
    if connection.disable_ssl {
        words.push("--storage.connection.disable-ssl=true".to_owned());
    }
    (words, environment)
}
