//! From a pod to what its supervisor runs: commands, environments, folders, volumes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::kubelet::KubeletOptions;
use crate::kubelet::environment::{EnvironmentError, Sources, environment, expand, memory_limit};
use crate::kubelet::record::{ContainerLaunch, Launch, PodPaths, RestartPolicy, Role};
use crate::kubelet::status::Cause;
use crate::kubelet::temporary;

mod handlers;
mod volumes;

use volumes::Source;

/// Why a pod cannot be launched. It is shown as the reason why its containers wait.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error("{error}")]
    Environment {
        container: String,
        error: EnvironmentError,
    },
    #[error("{error}")]
    Mount {
        volume: String,
        error: EnvironmentError,
    },
    #[error(
        "container {container:?} has neither command nor args; pods run here as processes, without the entrypoint of their image"
    )]
    NoCommand { container: String },
    #[error(
        "program {program:?} of container {container:?} is not on PATH ({path}); pods run here as processes, without \
         their image: install it into the Python environment that this backend uses (for flytekit: pip install \
         flytekit), or give another with --python"
    )]
    NoProgram {
        program: String,
        container: String,
        path: String,
    },
    #[error("volume {volume:?} cannot be mounted: {why}")]
    Volume { volume: String, why: String },
    #[error(
        "container {container:?} mounts {path:?}, which needs mount namespaces: run as root or where users may have namespaces, with the program unshare of util-linux"
    )]
    NoMounts { container: String, path: String },
    #[error("{member} of container {container:?} cannot be run: {member}: {why}")]
    Handler {
        container: String,
        member: String,
        why: String,
    },
    #[error("the folder of the pod cannot be made in {place}: {source}")]
    Folder { place: String, source: io::Error },
}

impl LaunchError {
    /// The part of the pod that the error is caused by.
    pub(crate) fn cause(&self) -> Cause {
        match self {
            Self::Environment { container, .. }
            | Self::NoCommand { container }
            | Self::NoProgram { container, .. }
            | Self::Handler { container, .. }
            | Self::NoMounts { container, .. } => Cause::Container(container.clone()),
            Self::Mount { volume, .. } | Self::Volume { volume, .. } => {
                Cause::Volume(volume.clone())
            }
            Self::Folder { .. } => Cause::Pod,
        }
    }
}

/// Where Kubernetes lets containers write why they ended, if they name no other place.
const DEFAULT_MESSAGE_PATH: &str = "/dev/termination-log";

/// Builds the [`Launch`] of a pod, with its folders and volumes.
pub(crate) struct LaunchBuilder<'a> {
    pub(crate) options: &'a KubeletOptions,
    pub(crate) pod: &'a Pod,
    pub(crate) paths: &'a PodPaths,
    pub(crate) sources: &'a Sources,
    /// The program and arguments that give a process mounts of its own; empty where that is not possible.
    pub(crate) mount_with: &'a [String],
}

impl LaunchBuilder<'_> {
    /// Makes the folders and volumes of the pod and says what to run. `started` is when the pod was accepted.
    pub(crate) fn build(&self, started: jiff::Timestamp) -> Result<Launch, LaunchError> {
        let spec = self.pod.spec.clone().unwrap_or_default();
        let folder = self.paths.pod();
        for place in [folder.clone(), folder.join("home")] {
            make_folder(&place)?;
        }
        let temporary =
            temporary::make(&folder, self.paths.uid()).map_err(|source| LaunchError::Folder {
                place: folder.join("tmp").display().to_string(),
                source,
            })?;
        let mut volumes = BTreeMap::new();
        for volume in spec.volumes.iter().flatten() {
            volumes.insert(volume.name.clone(), self.volume(volume)?);
        }
        let mut containers = Vec::new();
        for container in spec.init_containers.iter().flatten() {
            let sidecar = container.restart_policy.as_deref() == Some("Always");
            containers.push(self.container(
                container,
                if sidecar { Role::Sidecar } else { Role::Init },
                (&volumes, &temporary),
            )?);
        }
        for container in &spec.containers {
            containers.push(self.container(container, Role::Main, (&volumes, &temporary))?);
        }
        Ok(Launch {
            containers,
            restart_policy: match spec.restart_policy.as_deref() {
                Some("Never") => RestartPolicy::Never,
                Some("OnFailure") => RestartPolicy::OnFailure,
                _ => RestartPolicy::Always,
            },
            deadline: spec
                .active_deadline_seconds
                .map(|seconds| started.as_second().saturating_add(seconds)),
            grace_seconds: grace_seconds(self.pod),
            shutdown_grace_seconds: Some(shutdown_grace_seconds(self.pod, self.options)),
        })
    }

    fn container(
        &self,
        container: &Container,
        role: Role,
        (volumes, temporary): (&BTreeMap<String, Source>, &Path),
    ) -> Result<ContainerLaunch, LaunchError> {
        let work = self.paths.work(&container.name);
        make_folder(&work)?;
        let working_directory = match container.working_dir.as_deref() {
            None | Some("") => work.clone(),
            Some(given) if Path::new(given).is_absolute() && Path::new(given).is_dir() => {
                PathBuf::from(given)
            }
            // Without the image there is no such folder; the pod gets one of its own.
            Some(given) => {
                let inside = work.join(below_root(given));
                make_folder(&inside)?;
                inside
            }
        };
        let environment = environment(
            &self.base(&working_directory, temporary),
            self.pod,
            container,
            self.sources,
        )
        .map_err(|error| LaunchError::Environment {
            container: container.name.clone(),
            error,
        })?;
        let given = [
            container.command.clone().unwrap_or_default(),
            container.args.clone().unwrap_or_default(),
        ]
        .concat();
        let command: Vec<String> = given
            .iter()
            .map(|word| expand(word, &environment))
            .collect();
        let command = self.installed(unpack_into_working_directory(command));
        let Some(program) = command.first() else {
            return Err(LaunchError::NoCommand {
                container: container.name.clone(),
            });
        };
        let path = environment
            .iter()
            .rev()
            .find(|(name, _)| name == "PATH")
            .map_or("", |(_, value)| value);
        if !program.contains('/') && !is_on_path(program, path) {
            return Err(LaunchError::NoProgram {
                program: program.clone(),
                container: container.name.clone(),
                path: path.to_owned(),
            });
        }
        let message_file = self.message_file(container)?;
        let mounts = self.mounts(container, (volumes, message_file.as_deref()), &environment)?;
        let limit = memory_limit(container);
        let cgroup = match (&self.options.cgroup_root, limit) {
            (Some(root), Some(limit)) => {
                let uid = self.pod.metadata.uid.clone().unwrap_or_default();
                Some((root.join(format!("{uid}-{}", container.name)), limit))
            }
            _ => None,
        };
        Ok(ContainerLaunch {
            name: container.name.clone(),
            role,
            command,
            environment,
            working_directory,
            mounts,
            mount_with: self.mount_with.to_vec(),
            cgroup,
            memory_limit: limit,
            message_from_log: container.termination_message_policy.as_deref()
                == Some("FallbackToLogsOnError"),
            message_file,
            probes: handlers::probes(container)?,
            hooks: handlers::hooks(container)?,
        })
    }

    /// The command with what stands here for a program that only its image has.
    fn installed(&self, mut command: Vec<String>) -> Vec<String> {
        let programs = &self.options.programs;
        if let Some(instead) = command.first().and_then(|program| programs.get(program)) {
            command.splice(..1, instead.iter().cloned());
        }
        command
    }

    /// Makes the file that is mounted at `terminationMessagePath`. The default path is left alone: nobody but root could
    /// make a place for it in `/dev`, which all share.
    fn message_file(&self, container: &Container) -> Result<Option<PathBuf>, LaunchError> {
        let path = container.termination_message_path.as_deref();
        if path.is_none_or(|path| path.is_empty() || path == DEFAULT_MESSAGE_PATH) {
            return Ok(None);
        }
        let file = self.paths.message(&container.name);
        if let Some(folder) = file.parent() {
            make_folder(folder)?;
        }
        fs::write(&file, "").map_err(|source| LaunchError::Folder {
            place: file.display().to_string(),
            source,
        })?;
        Ok(Some(file))
    }

    /// What every process of this pod finds in its environment (spec 08 C17).
    fn base(&self, working_directory: &Path, temporary: &Path) -> Vec<(String, String)> {
        let folder = self.paths.pod();
        let mut path = String::new();
        if let Some(python) = &self.options.python_bin {
            path.push_str(&python.to_string_lossy());
            path.push(':');
        }
        path.push_str(&self.options.path);
        let own = [
            ("PATH", path),
            ("HOME", folder.join("home").to_string_lossy().into_owned()),
            ("TMPDIR", temporary.to_string_lossy().into_owned()),
            ("PWD", working_directory.to_string_lossy().into_owned()),
            (
                "HOSTNAME",
                self.pod.metadata.name.clone().unwrap_or_default(),
            ),
        ];
        let own = own
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        own.chain(self.options.environment.iter().cloned())
            .collect()
    }
}

fn make_folder(place: &Path) -> Result<(), LaunchError> {
    fs::create_dir_all(place).map_err(|source| LaunchError::Folder {
        place: place.display().to_string(),
        source,
    })
}

/// `pyflyte-fast-execute` unpacks the user's code into the folder that `--dest-dir` names, by default `/root` of the
/// image. Here there is no image and every attempt has a working directory of its own: that is where it goes
/// (spec 08 C17).
/// A path as it is below the root of a container, from which no `..` leads out.
fn below_root(given: &str) -> PathBuf {
    let mut below = PathBuf::new();
    for part in Path::new(given).components() {
        match part {
            Component::Normal(name) => below.push(name),
            Component::ParentDir => drop(below.pop()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    below
}

fn unpack_into_working_directory(mut command: Vec<String>) -> Vec<String> {
    let mut destination = false;
    let fast = command
        .first()
        .is_some_and(|program| program.rsplit('/').next() == Some("pyflyte-fast-execute"));
    if !fast {
        return command;
    }
    for word in &mut command {
        if word == "--" {
            break;
        }
        if destination {
            ".".clone_into(word);
        }
        destination = word == "--dest-dir";
    }
    command
}

fn is_on_path(program: &str, path: &str) -> bool {
    path.split(':')
        .filter(|folder| !folder.is_empty())
        .any(|folder| {
            let file = Path::new(folder).join(program);
            fs::metadata(file)
                .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        })
}

/// Seconds between SIGTERM and SIGKILL.
pub(crate) fn grace_seconds(pod: &Pod) -> u64 {
    let own = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.termination_grace_period_seconds);
    own.and_then(|seconds| u64::try_from(seconds).ok())
        .unwrap_or(30)
}

/// Seconds between SIGTERM and SIGKILL when the node shuts down.
pub(crate) fn shutdown_grace_seconds(pod: &Pod, options: &KubeletOptions) -> u64 {
    grace_seconds(pod).min(options.shutdown_grace.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_below_the_root() {
        for (given, expected) in [
            ("/a/b", "a/b"),
            ("a/./b/../c", "a/c"),
            ("../..", ""),
            ("/../../etc", "etc"),
            ("a/../../b", "b"),
        ] {
            assert_eq!(below_root(given), Path::new(expected), "{given}");
        }
    }

    #[test]
    fn code_is_unpacked_into_the_working_directory() {
        let words = |text: &str| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        for (given, expected) in [
            (
                "pyflyte-fast-execute --additional-distribution s3://x --dest-dir /root -- pyflyte-execute --dest-dir /a",
                "pyflyte-fast-execute --additional-distribution s3://x --dest-dir . -- pyflyte-execute --dest-dir /a",
            ),
            ("cp --dest-dir /root", "cp --dest-dir /root"),
        ] {
            assert_eq!(unpack_into_working_directory(words(given)), words(expected));
        }
    }
}
