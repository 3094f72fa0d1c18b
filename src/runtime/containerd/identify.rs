//! A containerd container's identity: its labels, its OCI specification, its image, its cgroup.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Deserialize;

use super::api::Api;
use super::wire;
use crate::root::{Nanos, Root};
use crate::runtime::cgroup_paths::{self, Hierarchies};
use crate::runtime::http::Trouble;
use crate::runtime::{CgroupPaths, Container, Identity, ImageFacts, RuntimeKind, process};

/// What is used of the OCI runtime specification.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    process: Option<SpecProcess>,
    annotations: Option<HashMap<String, String>>,
    linux: Option<Linux>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SpecProcess {
    args: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Linux {
    #[serde(rename = "cgroupsPath")]
    cgroups_path: String,
    namespaces: Option<Vec<SpecNamespace>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SpecNamespace {
    #[serde(rename = "type")]
    kind: String,
}

/// None when the process is gone.
pub fn container(
    root: &Root,
    hierarchies: &Hierarchies,
    told: &wire::Container,
    pid: u32,
    started: Option<Nanos>,
) -> Option<Container> {
    let spec: Spec = told.spec.as_ref().and_then(|any| serde_json::from_slice(&any.value).ok()).unwrap_or_default();
    let mut cgroup = cgroup_paths::of_pid(root, hierarchies, pid, &told.id)?;
    let asked = spec.linux.as_ref().map_or("", |l| l.cgroups_path.as_str());
    if !cgroup_paths::names(&cgroup, &told.id) && !cgroup_paths::are_at(&cgroup, asked) {
        // None of its own (rootless on cgroup v1): that of whoever started it would count others, too.
        cgroup = CgroupPaths::default();
    }
    let user_labels: BTreeMap<String, String> = told.labels.clone().into_iter().collect();
    let label = |name: &str| user_labels.get(name).cloned().unwrap_or_default();
    let annotation = |name: &str| spec.annotations.as_ref()?.get(name).cloned();
    // As cAdvisor and kubelet have it: the name is the id, and a sandbox (pause) has an image but no container name.
    let nerdctl = label("nerdctl/name");
    let identity = Identity {
        id: cgroup_paths::id(&cgroup).map_or_else(|| format!("/containerd/{}", told.id), str::to_owned),
        name: if nerdctl.is_empty() { told.id.clone() } else { nerdctl },
        image: annotation("io.kubernetes.cri.image-name").unwrap_or_else(|| told.image.clone()),
        namespace: label("io.kubernetes.pod.namespace"),
        pod: label("io.kubernetes.pod.name"),
        container: label("io.kubernetes.container.name"),
    };
    let own_network = spec.linux.as_ref().and_then(|l| l.namespaces.as_ref());
    let host_network = own_network.is_some_and(|list| !list.iter().any(|n| n.kind == "network"));
    let sandbox = annotation("io.kubernetes.cri.sandbox-id").filter(|id| *id != told.id && !host_network);
    Some(Container {
        runtime: RuntimeKind::Containerd,
        native_id: told.id.clone(),
        labels: Arc::new(identity.labels(RuntimeKind::Containerd)),
        identity,
        cgroup,
        pid,
        created: told.created_at.as_ref().and_then(wire::Timestamp::nanos),
        started: started.or_else(|| process::start_time(root, pid)),
        user_labels,
        host_network,
        shares_network_of: sandbox,
        command: spec.process.and_then(|p| p.args).unwrap_or_default(),
        ..Container::default()
    })
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    config: Option<Blob>,
    layers: Option<Vec<Blob>>,
    /// An index has these in place of layers.
    manifests: Option<Vec<Blob>>,
}

#[derive(Debug, Deserialize)]
struct Blob {
    #[serde(default)]
    digest: String,
    #[serde(default)]
    size: u64,
}

/// Number of layers and their size as stored (compressed); an image for several platforms is judged by the first that
/// is here. None where containerd does not have it.
pub async fn image(api: &Api, namespace: &str, name: &str) -> Result<Option<ImageFacts>, Trouble> {
    let Some(target) = api.image(namespace, name).await?.and_then(|image| image.target) else { return Ok(None) };
    let Some(mut manifest) = manifest(api, namespace, &target.digest).await? else { return Ok(None) };
    for platform in manifest.manifests.take().unwrap_or_default().into_iter().take(16) {
        if let Some(found) = self::manifest(api, namespace, &platform.digest).await? {
            manifest = found;
            break;
        }
    }
    let config = manifest.config.map_or(0, |c| c.size);
    Ok(manifest.layers.map(|layers| ImageFacts {
        id: target.digest,
        size_bytes: Some(layers.iter().map(|l| l.size).fold(config, u64::saturating_add)),
        layers: u32::try_from(layers.len()).ok(),
    }))
}

/// None where it is not here (of a platform that was not pulled) or is no manifest.
async fn manifest(api: &Api, namespace: &str, digest: &str) -> Result<Option<Manifest>, Trouble> {
    match api.content(namespace, digest).await {
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e),
    }
}
