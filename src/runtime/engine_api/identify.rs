//! One container's identity: inspect, its image, its cgroups.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;

use super::wire;
use crate::root::{Nanos, Root, SECOND, parse_date};
use crate::runtime::cgroup_paths::{self, Hierarchies};
use crate::runtime::http::{Client, Trouble};
use crate::runtime::{CgroupPaths, Container, Identity, ImageFacts, RuntimeKind, process, stamps};

/// How one daemon is asked.
#[derive(Debug)]
pub struct Api {
    pub client: Client,
    pub runtime: RuntimeKind,
    pub source: Arc<str>,
    /// `/v1.41`
    pub prefix: String,
    pub hierarchies: Hierarchies,
    images: Mutex<HashMap<String, Arc<Image>>>,
}

#[derive(Debug)]
struct Image {
    name: Option<String>,
    facts: ImageFacts,
}

/// A daemon takes no longer from a request to its first event of it; what lies further apart is no evidence.
pub const REQUEST_TO_EVENT: Nanos = 60 * SECOND;
/// Images change only by their id, so what is known of one stays true; this many are remembered.
const MAX_IMAGES: usize = 1000;

/// What inspect says of a container, running or not.
#[derive(Debug)]
pub struct Inspection {
    pub container: Container,
    pub running: bool,
    /// What the daemon says of a failed start.
    pub error: String,
    pub exit_code: i64,
    /// When the daemon last did what it does first of all to start it, to within half a tick of the kernel's clock: mounted
    /// its root file system, and wrote its host name.
    pub begun: [Option<Nanos>; 2],
    /// Where the OCI runtime that Podman calls writes why it failed.
    oci_log: Option<PathBuf>,
}

/// A line of an OCI runtime's `--log-format=json`.
#[derive(Deserialize)]
struct OciLogLine {
    msg: String,
}

/// The end of an OCI runtime's log that is looked at.
const OCI_LOG_TAIL: usize = 64 << 10;

impl Api {
    pub fn new(client: Client, runtime: RuntimeKind, source: Arc<str>, prefix: String) -> Self {
        let hierarchies = Hierarchies::find(&client.root);
        Self { client, runtime, source, prefix, hierarchies, images: Mutex::default() }
    }

    /// None if the daemon does not know it (any more).
    pub async fn inspect(&self, id: &str) -> Result<Option<Inspection>, Trouble> {
        let path = format!("{}/containers/{id}/json", self.prefix);
        let answer: wire::Inspect = match self.client.get(&path).await {
            Err(e) if e.is_not_found() => return Ok(None),
            other => other?,
        };
        let image = self.image(answer.image.as_deref().unwrap_or("")).await;
        Ok(Some(self.container(id, answer, image.as_deref())))
    }

    /// An image by its id. None where the daemon does not tell: the container is shown all the same.
    async fn image(&self, id: &str) -> Option<Arc<Image>> {
        let known = self.images.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        if known.is_some() || id.is_empty() {
            return known;
        }
        let answer: wire::Image = self.client.get(&format!("{}/images/{id}/json", self.prefix)).await.ok()?;
        let name = answer.repo_tags.into_iter().chain(answer.repo_digests).flatten().next();
        let image = Arc::new(Image {
            name,
            facts: ImageFacts {
                id: answer.id.unwrap_or_else(|| id.to_owned()),
                size_bytes: answer.size.and_then(|s| u64::try_from(s).ok()),
                layers: answer.root_fs.and_then(|r| u32::try_from(r.layers?.len()).ok()),
            },
        });
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        if images.len() >= MAX_IMAGES {
            images.clear();
        }
        images.insert(id.to_owned(), image.clone());
        Some(image)
    }

    /// What the OCI runtime said of a start that failed at `at`, the last word of it; empty where it said nothing, or
    /// where its log may not be read. All starts of a container are appended to one log.
    pub fn oci_error(&self, inspection: &Inspection, at: Nanos) -> String {
        let last = || {
            let root = &self.client.root;
            let log = inspection.oci_log.as_ref()?;
            stamps::changed(root, log).filter(|written| (-SECOND..REQUEST_TO_EVENT).contains(&(at - written)))?;
            let log = root.host_path(log);
            let size = root.metadata(&log).ok()?.len();
            let text = root.read_part(&log, size.saturating_sub(OCI_LOG_TAIL as u64), OCI_LOG_TAIL).ok()?;
            let line = text.split(|b| *b == b'\n').rfind(|line| !line.is_empty())?;
            let line: OciLogLine = serde_json::from_slice(line).ok()?;
            Some(format!("OCI runtime error: {}", line.msg))
        };
        last().unwrap_or_default()
    }

    #[cfg(fuzzing)]
    pub fn of_answer(&self, id: &str, answer: wire::Inspect) -> Inspection {
        self.container(id, answer, None)
    }

    fn container(&self, id: &str, answer: wire::Inspect, image: Option<&Image>) -> Inspection {
        let state = answer.state.unwrap_or_default();
        let config = answer.config.unwrap_or_default();
        let host = answer.host_config.unwrap_or_default();
        let user_labels: BTreeMap<String, String> =
            config.labels.unwrap_or_default().into_iter().map(|(k, v)| (k, v.unwrap_or_default())).collect();
        let running = state.running.unwrap_or(false);
        let pid = state.pid.and_then(|p| u32::try_from(p).ok()).filter(|_| running).unwrap_or(0);
        let started = state.started_at.as_deref().and_then(parse_date);
        let (pid, cgroup) = locate(&self.client.root, &self.hierarchies, pid, id, started);
        let asked = config.image.unwrap_or_default();
        let name = answer.name.unwrap_or_default();
        let identity = Identity {
            id: cgroup_paths::id(&cgroup).map_or_else(|| format!("/{}/{id}", self.runtime.name()), str::to_owned),
            name: name.trim_start_matches('/').to_owned(),
            image: match image.and_then(|i| i.name.clone()) {
                Some(name) if is_image_id(&asked) => name,
                _ => asked,
            },
            namespace: label(&user_labels, "io.kubernetes.pod.namespace"),
            pod: label(&user_labels, "io.kubernetes.pod.name"),
            container: label(&user_labels, "io.kubernetes.container.name"),
        };
        let mode = host.network_mode.unwrap_or_default();
        let container = Container {
            runtime: self.runtime,
            native_id: id.to_owned(),
            labels: Arc::new(identity.labels(self.runtime)),
            identity,
            cgroup,
            pid,
            created: answer.created.as_deref().and_then(parse_date),
            started,
            health_check: state
                .health
                .as_ref()
                .is_some_and(|h| !matches!(h.status.as_deref(), None | Some("" | "none"))),
            healthy: state.health.and_then(|h| healthy(h.status.as_deref()?)),
            restart_policy: host.restart_policy.and_then(|p| p.name).unwrap_or_default(),
            user_labels,
            addresses: answer.network_settings.map(addresses).unwrap_or_default(),
            host_network: mode == "host",
            shares_network_of: mode.strip_prefix("container:").map(str::to_owned),
            image: image.map(|i| i.facts.clone()).unwrap_or_default(),
            source: self.source.clone(),
            command: answer.path.into_iter().chain(answer.args.unwrap_or_default()).collect(),
            ..Container::default()
        };
        // A graph driver makes the folder that it mounts on first of all when a container is started, and removes it at the
        // end: the folder above was then changed.
        let merged = answer.graph_driver.and_then(|g| g.data?.merged_dir).filter(|m| !m.is_empty());
        let mounted = merged
            .and_then(|merged| stamps::changed(&self.client.root, Path::new(&merged).parent()?))
            .or_else(|| stamps::root_mounted(&self.client.root, pid));
        // Docker writes the file anew for each start. A container that shares another's network has the other's.
        let host_name =
            answer.hostname_path.as_deref().filter(|p| self.runtime == RuntimeKind::Docker && p.contains(id));
        let named = host_name.and_then(|path| stamps::changed(&self.client.root, Path::new(path)));
        Inspection {
            container,
            running,
            error: state.error.unwrap_or_default(),
            exit_code: state.exit_code.unwrap_or(0),
            begun: [mounted, named],
            oci_log: answer
                .hostname_path
                .filter(|p| self.runtime == RuntimeKind::Podman && p.starts_with('/'))
                .and_then(|p| Some(Path::new(&p).parent()?.join("oci-log"))),
        }
    }
}

fn label(labels: &BTreeMap<String, String>, name: &str) -> String {
    labels.get(name).cloned().unwrap_or_default()
}

/// `starting` and `none` are neither.
pub fn healthy(status: &str) -> Option<bool> {
    match status {
        "healthy" => Some(true),
        "unhealthy" => Some(false),
        _ => None,
    }
}

/// Whether an image was asked for by its id, whole or cut, in place of a name.
pub fn is_image_id(image: &str) -> bool {
    let hex = image.strip_prefix("sha256:").unwrap_or(image);
    hex.len() >= 12 && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

fn addresses(settings: wire::NetworkSettings) -> Vec<std::net::IpAddr> {
    let endpoints = settings.networks.unwrap_or_default().into_values().flatten();
    let texts = endpoints.flat_map(|e| [e.ip_address, e.global_ipv6_address]).flatten();
    texts.filter_map(|t| t.parse().ok()).collect()
}

/// The container's cgroups, and its first process as this host numbers it: a daemon in another pid namespace (Docker in
/// Docker) numbers differently, and a pid may have been reused since. Then the cgroup that bears the id tells.
fn locate(root: &Root, hierarchies: &Hierarchies, pid: u32, id: &str, started: Option<Nanos>) -> (u32, CgroupPaths) {
    if pid == 0 {
        return (0, CgroupPaths::default());
    }
    let told = cgroup_paths::of_pid(root, hierarchies, pid, id);
    if let Some(paths) = told.as_ref().filter(|p| cgroup_paths::names(p, id)) {
        return (pid, paths.clone());
    }
    if let Some(path) = hierarchies.search(root, |p| p.rsplit('/').next().is_some_and(|name| name.contains(id))) {
        let paths = hierarchies.same_path(root, &path);
        return (hierarchies.first_process(root, &path).unwrap_or(0), paths);
    }
    // It has no cgroup of its own (rootless Podman on cgroup v1, podman --cgroups=disabled), and that of whoever started it
    // would count others, too. The process is the container's if it was made shortly before the container was started.
    let made = process::start_time(root, pid);
    let its = started.zip(made).is_some_and(|(started, made)| (-SECOND..10 * SECOND).contains(&(started - made)));
    (if its { pid } else { 0 }, CgroupPaths::default())
}
