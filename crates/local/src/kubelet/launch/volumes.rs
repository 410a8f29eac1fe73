//! The volumes of a pod as folders of this machine, and where its containers see them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, HostPathVolumeSource, KeyToPath, Volume, VolumeMount,
};

use super::{LaunchBuilder, LaunchError, make_folder};
use crate::kubelet::environment::{EnvironmentError, expand, field, resource_field};
use crate::kubelet::record::Mount;

/// A volume that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    path: PathBuf,
    /// Its files are made of objects: nobody may change them, and what they do not have is not made.
    read_only: bool,
}

/// How files of a volume are made.
struct Files<'a> {
    volume: &'a str,
    folder: &'a Path,
    default_mode: u32,
}

const READABLE: i32 = 0o644;

fn mode(given: Option<i32>) -> u32 {
    u32::try_from(given.unwrap_or(READABLE)).unwrap_or(0) & 0o777
}

impl Files<'_> {
    fn write(&self, path: &str, bytes: &[u8], own_mode: Option<i32>) -> Result<(), LaunchError> {
        // The API allows no other path; a file must not leave its volume.
        if !is_inside(Path::new(path)) {
            return Err(LaunchError::Volume {
                volume: self.volume.to_owned(),
                why: format!("path {path:?} leads out of the volume"),
            });
        }
        let file = self.folder.join(path);
        let bits = own_mode.map_or(self.default_mode, |own| mode(Some(own)));
        let written = file
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            // An earlier try may have left one that may not be written.
            .and_then(|()| match fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            })
            .and_then(|()| fs::write(&file, bytes))
            .and_then(|()| fs::set_permissions(&file, fs::Permissions::from_mode(bits)));
        written.map_err(|source| LaunchError::Folder {
            place: file.display().to_string(),
            source,
        })
    }

    /// The keys of an object, or those that `items` name.
    fn write_keys(
        &self,
        kind: &'static str,
        data: &BTreeMap<&str, &[u8]>,
        (items, optional): (Option<&[KeyToPath]>, bool),
    ) -> Result<(), LaunchError> {
        let Some(items) = items.filter(|items| !items.is_empty()) else {
            return data
                .iter()
                .try_for_each(|(key, bytes)| self.write(key, bytes, None));
        };
        for item in items {
            match data.get(item.key.as_str()) {
                Some(bytes) => self.write(&item.path, bytes, item.mode)?,
                None if optional => {}
                None => {
                    return Err(LaunchError::Volume {
                        volume: self.volume.to_owned(),
                        why: format!("references non-existent {kind} key: {}", item.key),
                    });
                }
            }
        }
        Ok(())
    }

    fn missing(&self, kind: &'static str, name: &str, optional: bool) -> Result<(), LaunchError> {
        if optional {
            return Ok(());
        }
        Err(LaunchError::Mount {
            volume: self.volume.to_owned(),
            error: EnvironmentError::Object {
                kind,
                name: name.to_owned(),
            },
        })
    }
}

/// Whether a path stays below the folder that it begins in.
fn is_inside(path: &Path) -> bool {
    path.components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

impl LaunchBuilder<'_> {
    /// Makes the folder of a volume.
    pub(super) fn volume(&self, volume: &Volume) -> Result<Source, LaunchError> {
        let cannot = |why: &str| LaunchError::Volume {
            volume: volume.name.clone(),
            why: why.to_owned(),
        };
        if !is_inside(Path::new(&volume.name)) || volume.name.contains('/') {
            return Err(cannot("its name is a path"));
        }
        let folder = self.paths.volume(&volume.name);
        if let Some(host) = &volume.host_path {
            check_host_path(host).map_err(|why| cannot(&why))?;
            return Ok(Source {
                path: PathBuf::from(&host.path),
                read_only: false,
            });
        }
        make_folder(&folder)?;
        let files = |default_mode| Files {
            volume: &volume.name,
            folder: &folder,
            default_mode: mode(default_mode),
        };
        if let Some(secret) = &volume.secret {
            let name = secret.secret_name.clone().unwrap_or_default();
            let chosen = (secret.items.as_deref(), secret.optional == Some(true));
            self.secret_files(&files(secret.default_mode), &name, chosen)?;
        } else if let Some(map) = &volume.config_map {
            let chosen = (map.items.as_deref(), map.optional == Some(true));
            self.config_files(&files(map.default_mode), &map.name, chosen)?;
        } else if let Some(downward) = &volume.downward_api {
            self.downward_files(
                &files(downward.default_mode),
                downward.items.as_deref().unwrap_or_default(),
            )?;
        } else if let Some(projected) = &volume.projected {
            let files = files(projected.default_mode);
            for source in projected.sources.iter().flatten() {
                if let Some(secret) = &source.secret {
                    let chosen = (secret.items.as_deref(), secret.optional == Some(true));
                    self.secret_files(&files, &secret.name, chosen)?;
                }
                if let Some(map) = &source.config_map {
                    let chosen = (map.items.as_deref(), map.optional == Some(true));
                    self.config_files(&files, &map.name, chosen)?;
                }
                if let Some(downward) = &source.downward_api {
                    self.downward_files(&files, downward.items.as_deref().unwrap_or_default())?;
                }
                if source.service_account_token.is_some() || source.cluster_trust_bundle.is_some() {
                    return Err(cannot(
                        "this machine issues no tokens of service accounts and no trust bundles; supported are \
                         configMap, downwardAPI and secret",
                    ));
                }
            }
        } else if volume.empty_dir.is_some() {
            return Ok(Source {
                path: folder,
                read_only: false,
            });
        } else {
            return Err(cannot(
                "it is of a kind that this machine does not have; supported are configMap, downwardAPI, emptyDir, \
                 hostPath, projected and secret",
            ));
        }
        Ok(Source {
            path: folder,
            read_only: true,
        })
    }

    fn secret_files(
        &self,
        files: &Files<'_>,
        name: &str,
        chosen: (Option<&[KeyToPath]>, bool),
    ) -> Result<(), LaunchError> {
        let Some(secret) = self.sources.secrets.get(name) else {
            return files.missing("secret", name, chosen.1);
        };
        let data = secret
            .data
            .iter()
            .flatten()
            .map(|(key, value)| (key.as_str(), value.0.as_slice()))
            .collect();
        files.write_keys("secret", &data, chosen)
    }

    fn config_files(
        &self,
        files: &Files<'_>,
        name: &str,
        chosen: (Option<&[KeyToPath]>, bool),
    ) -> Result<(), LaunchError> {
        let Some(map) = self.sources.config_maps.get(name) else {
            return files.missing("configmap", name, chosen.1);
        };
        let texts = map
            .data
            .iter()
            .flatten()
            .map(|(key, value)| (key.as_str(), value.as_bytes()));
        let binary = map
            .binary_data
            .iter()
            .flatten()
            .map(|(key, value)| (key.as_str(), value.0.as_slice()));
        files.write_keys("config", &texts.chain(binary).collect(), chosen)
    }

    fn downward_files(
        &self,
        files: &Files<'_>,
        items: &[DownwardAPIVolumeFile],
    ) -> Result<(), LaunchError> {
        for item in items {
            let text = self
                .downward_text(item)
                .ok_or_else(|| LaunchError::Volume {
                    volume: files.volume.to_owned(),
                    why: format!("the field of file {:?} is not supported", item.path),
                })?;
            files.write(&item.path, text.as_bytes(), item.mode)?;
        }
        Ok(())
    }

    fn downward_text(&self, item: &DownwardAPIVolumeFile) -> Option<String> {
        if let Some(reference) = &item.field_ref {
            let meta = &self.pod.metadata;
            let map = match reference.field_path.as_str() {
                "metadata.labels" => &meta.labels,
                "metadata.annotations" => &meta.annotations,
                path => return field(self.pod, path),
            };
            let lines = map
                .iter()
                .flatten()
                .map(|(key, value)| format!("{key}={value:?}"));
            return Some(lines.collect::<Vec<_>>().join("\n"));
        }
        let reference = item.resource_field_ref.as_ref()?;
        let spec = self.pod.spec.as_ref()?;
        let wanted = reference.container_name.as_deref()?;
        let container = spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
            .find(|container| container.name == wanted)?;
        let divisor = reference
            .divisor
            .as_ref()
            .map_or("1", |divisor| divisor.0.as_str());
        resource_field(container, &reference.resource, divisor)
    }

    /// Where a container sees its volumes: those above before those below, whatever their order in the pod.
    pub(super) fn mounts(
        &self,
        container: &Container,
        (volumes, message_file): (&BTreeMap<String, Source>, Option<&Path>),
        environment: &[(String, String)],
    ) -> Result<Vec<Mount>, LaunchError> {
        let mut mounts = Vec::new();
        if let (Some(file), Some(path)) = (message_file, &container.termination_message_path) {
            if self.mount_with.is_empty() {
                return Err(LaunchError::NoMounts {
                    container: container.name.clone(),
                    path: path.clone(),
                });
            }
            let made = Mount {
                from: file.to_owned(),
                at: Path::new("/").join(path),
                read_only: false,
            };
            mounts.push(("terminationMessagePath".to_owned(), made));
        }
        for mount in container.volume_mounts.iter().flatten() {
            let Some(source) = volumes.get(&mount.name) else {
                return Err(LaunchError::Volume {
                    volume: mount.name.clone(),
                    why: "the pod does not declare it".to_owned(),
                });
            };
            let from = part(source, mount, environment)?;
            let at = Path::new("/").join(&mount.mount_path);
            if from == at {
                continue;
            }
            if self.mount_with.is_empty() {
                return Err(LaunchError::NoMounts {
                    container: container.name.clone(),
                    path: mount.mount_path.clone(),
                });
            }
            let made = Mount {
                from,
                at,
                read_only: source.read_only || mount.read_only == Some(true),
            };
            mounts.push((mount.name.clone(), made));
        }
        mounts.sort_by_key(|(_, mount)| mount.at.components().count());
        for (index, (volume, mount)) in mounts.iter().enumerate() {
            // What is below another mount is made in that, once it is there.
            let mut above = mounts.iter().take(index);
            if !above.any(|(_, above)| mount.at.starts_with(&above.at)) {
                make_mount_point(mount).map_err(|error| LaunchError::Volume {
                    volume: volume.clone(),
                    why: format!(
                        "container {:?} mounts it at {}, which does not exist and cannot be made ({error}); mount it at \
                         a place that exists, or where you may write",
                        container.name,
                        mount.at.display()
                    ),
                })?;
            }
        }
        Ok(mounts.into_iter().map(|(_, mount)| mount).collect())
    }
}

/// The part of a volume that is mounted: all of it, or what `subPath` or `subPathExpr` names.
fn part(
    source: &Source,
    mount: &VolumeMount,
    environment: &[(String, String)],
) -> Result<PathBuf, LaunchError> {
    let cannot = |why: String| LaunchError::Volume {
        volume: mount.name.clone(),
        why,
    };
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let inner = match (given(&mount.sub_path), given(&mount.sub_path_expr)) {
        (Some(path), _) => path,
        (None, Some(expression)) => {
            let path = expand(&expression, environment);
            if path.contains("$(") {
                return Err(cannot(format!(
                    "subPathExpr {expression:?} names a variable that the container does not have"
                )));
            }
            path
        }
        (None, None) => return Ok(source.path.clone()),
    };
    let path = source.path.join(&inner);
    let leads_out = || cannot(format!("subPath {inner:?} leads out of the volume"));
    if !is_inside(Path::new(&inner)) {
        return Err(leads_out());
    }
    if !path.exists() && source.read_only {
        return Err(cannot(format!("subPath {inner:?} is not in the volume")));
    }
    // A container may have put links there.
    let real = |path: &Path| {
        fs::canonicalize(path).map_err(|source| LaunchError::Folder {
            place: path.display().to_string(),
            source,
        })
    };
    let root = real(&source.path)?;
    let known = path.ancestors().find(|above| above.exists());
    if !known.is_some_and(|known| real(known).is_ok_and(|known| known.starts_with(&root))) {
        return Err(leads_out());
    }
    if !path.exists() {
        make_folder(&path)?;
    }
    Ok(path)
}

/// Makes what a volume is mounted on, a folder or an empty file. Without an image there may be none.
fn make_mount_point(mount: &Mount) -> io::Result<()> {
    if mount.from.is_dir() {
        return fs::create_dir_all(&mount.at);
    }
    if mount.at.exists() {
        return Ok(());
    }
    if let Some(folder) = mount.at.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::File::create_new(&mount.at).map(drop)
}

/// Checks, or makes, what a `hostPath` names.
fn check_host_path(host: &HostPathVolumeSource) -> Result<(), String> {
    let path = Path::new(&host.path);
    let kind = host.type_.as_deref().unwrap_or_default();
    let found = fs::metadata(path).ok().map(|found| found.file_type());
    let is = |wanted: fn(&fs::FileType) -> bool| found.as_ref().is_some_and(wanted);
    let holds = match kind {
        "" => return make_if_missing(path, found.is_some()),
        "DirectoryOrCreate" => {
            make_if_missing(path, found.is_some())?;
            path.is_dir()
        }
        "FileOrCreate" => {
            if found.is_none() {
                fs::File::create_new(path)
                    .map_err(|error| format!("hostPath {}: {error}", host.path))?;
            }
            path.is_file()
        }
        "Directory" => is(fs::FileType::is_dir),
        "File" => is(fs::FileType::is_file),
        "Socket" => is(FileTypeExt::is_socket),
        "CharDevice" => is(FileTypeExt::is_char_device),
        "BlockDevice" => is(FileTypeExt::is_block_device),
        other => return Err(format!("hostPath type {other:?} is not known")),
    };
    if holds {
        Ok(())
    } else {
        Err(format!(
            "hostPath type check failed: {} is not a {kind}",
            host.path
        ))
    }
}

fn make_if_missing(path: &Path, there: bool) -> Result<(), String> {
    if there {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(|error| format!("hostPath {}: {error}", path.display()))
}
