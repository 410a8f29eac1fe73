//! The ConfigMaps and Secrets that environment and volumes of a pod read.

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::Api;

use crate::kubelet::environment::Sources;

/// How many are read at once.
const AT_ONCE: usize = 8;

/// Reads all that the pod names; those that do not exist are left out.
pub(crate) async fn read(client: &kube::Client, pod: &Pod) -> Result<Sources, kube::Error> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let (config_names, secret_names) = named_sources(pod);
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let config_maps = stream::iter(config_names)
        .map(async |name| Ok::<_, kube::Error>((maps.get_opt(&name).await?, name)))
        .buffer_unordered(AT_ONCE)
        .try_filter_map(async |(map, name)| Ok(map.map(|map| (name, map))))
        .try_collect();
    let secrets = stream::iter(secret_names)
        .map(async |name| Ok::<_, kube::Error>((secrets.get_opt(&name).await?, name)))
        .buffer_unordered(AT_ONCE)
        .try_filter_map(async |(secret, name)| Ok(secret.map(|secret| (name, secret))))
        .try_collect();
    let (config_maps, secrets) = futures::try_join!(config_maps, secrets)?;
    Ok(Sources {
        config_maps,
        secrets,
    })
}

/// Names of the ConfigMaps and Secrets that environment and volumes of a pod read.
fn named_sources(pod: &Pod) -> (Vec<String>, Vec<String>) {
    let spec = pod.spec.clone().unwrap_or_default();
    let (mut maps, mut secrets) = (Vec::new(), Vec::new());
    for container in spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers)
    {
        for source in container.env_from.iter().flatten() {
            maps.extend(
                source
                    .config_map_ref
                    .iter()
                    .map(|reference| reference.name.clone()),
            );
            secrets.extend(
                source
                    .secret_ref
                    .iter()
                    .map(|reference| reference.name.clone()),
            );
        }
        for from in container
            .env
            .iter()
            .flatten()
            .filter_map(|variable| variable.value_from.as_ref())
        {
            maps.extend(
                from.config_map_key_ref
                    .iter()
                    .map(|reference| reference.name.clone()),
            );
            secrets.extend(
                from.secret_key_ref
                    .iter()
                    .map(|reference| reference.name.clone()),
            );
        }
    }
    for volume in spec.volumes.iter().flatten() {
        maps.extend(volume.config_map.iter().map(|map| map.name.clone()));
        secrets.extend(
            volume
                .secret
                .iter()
                .filter_map(|secret| secret.secret_name.clone()),
        );
        for source in volume
            .projected
            .iter()
            .flat_map(|projected| projected.sources.iter().flatten())
        {
            maps.extend(source.config_map.iter().map(|map| map.name.clone()));
            secrets.extend(source.secret.iter().map(|secret| secret.name.clone()));
        }
    }
    for names in [&mut maps, &mut secrets] {
        names.sort();
        names.dedup();
    }
    (maps, secrets)
}
