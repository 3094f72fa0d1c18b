//! What the lists of Apple's `container` say over time: who appeared, who stopped, who was started anew. No I/O.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::shapes::{Configuration, Listed, State};
use super::{Measured, MeasuredCell};
use crate::root::Nanos;
use crate::runtime::{Container, Identity, ImageFacts, Key, RuntimeKind, VmSettings};

/// What changed between two lists.
#[derive(Debug, Clone)]
pub enum Change {
    /// Runs, and did not before, or runs again under the same id.
    Started { container: Box<Container>, live: bool },
    /// Ran before and has stopped.
    Stopped { key: Key },
    /// Ran before and is not listed any more (removed, or removed by itself after its end).
    Removed { key: Key },
    /// Ran before, and the daemon forgot: after its restart everything is "stopped" without a start time, though VMs
    /// may live on. Nothing is known of it, so nothing is shown, and no exit is counted.
    Lost { key: Key },
}

/// The memory of earlier lists.
#[derive(Debug, Default)]
pub struct Book {
    /// False until the first list: what runs then started before the exporter.
    open: bool,
    running: HashMap<String, Run>,
}

#[derive(Debug)]
struct Run {
    started: Option<Nanos>,
    cell: Arc<MeasuredCell>,
}

pub fn key(id: &str) -> Key {
    Key { runtime: RuntimeKind::Apple, id: id.to_owned() }
}

impl Book {
    /// Takes in a whole list, in any order.
    pub fn observe(&mut self, listed: &[Listed], images: &HashMap<String, ImageFacts>) -> Vec<Change> {
        let mut changes = Vec::new();
        let now: HashMap<&str, &Listed> = listed.iter().map(|l| (l.id.as_str(), l)).collect();
        self.running.retain(|id, run| {
            let change = match now.get(id.as_str()) {
                Some(l) if l.state == State::Running || l.state == State::Stopping => return true,
                Some(l) if run.started.is_some() && l.started.is_none() => Change::Lost { key: key(id) },
                Some(_) => Change::Stopped { key: key(id) },
                None => Change::Removed { key: key(id) },
            };
            changes.push(change);
            false
        });
        let mut ids: Vec<&str> = now.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            let l = now[id];
            if l.state == State::Running {
                self.running_now(l, images, &mut changes);
            }
        }
        self.open = true;
        changes
    }

    fn running_now(&mut self, l: &Listed, images: &HashMap<String, ImageFacts>, changes: &mut Vec<Change>) {
        match self.running.get(&l.id) {
            // The start time has whole seconds: a stop and start within one second looks like nothing happened, save
            // that the counters fall back to 0.
            Some(run) if run.started == l.started => {}
            before => {
                if before.is_some() {
                    changes.push(Change::Stopped { key: key(&l.id) });
                }
                let cell = Arc::new(MeasuredCell::default());
                let container = Box::new(container(l, images, cell.clone()));
                changes.push(Change::Started { container, live: self.open });
                self.running.insert(l.id.clone(), Run { started: l.started, cell });
            }
        }
    }

    /// Puts statistics where the containers' readers find them; those of containers that do not run are dropped.
    pub fn measured(&self, stats: impl IntoIterator<Item = Measured>) {
        for m in stats {
            if let Some(run) = self.running.get(&m.stats.id) {
                run.cell.set(m);
            }
        }
    }

    /// Who runs, with what tells one run from the next: when it started, and where its figures go.
    pub fn runs(&self) -> Vec<(String, Arc<MeasuredCell>)> {
        self.running.iter().map(|(id, run)| (id.clone(), run.cell.clone())).collect()
    }

    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Everything that ran is unknown from now on: the daemon is gone.
    pub fn forget(&mut self) -> Vec<Key> {
        self.open = false;
        self.running.drain().map(|(id, _)| key(&id)).collect()
    }
}

/// Memory that a VM has beyond its container's, told by what only a version with that overhead prints.
///
/// Source: containerization's LinuxContainer (0 up to 0.16, 50 MiB up to 0.29, 75 MiB at 0.31, 128 MiB since 0.33).
fn memory_overhead(c: &Configuration) -> u64 {
    const MIB: u64 = 1 << 20;
    if c.resources.cpu_overhead.is_some() {
        128 * MIB
    } else if c.cap_add.is_some() {
        75 * MIB
    } else if c.use_init.is_some() {
        50 * MIB
    } else {
        0
    }
}

fn container(l: &Listed, images: &HashMap<String, ImageFacts>, cell: Arc<MeasuredCell>) -> Container {
    let c = &l.configuration;
    let label = |name: &str| c.labels.get(name).cloned().unwrap_or_default();
    let identity = Identity {
        id: l.id.clone(),
        name: l.id.clone(),
        image: c.image.reference.clone(),
        namespace: label("io.kubernetes.pod.namespace"),
        pod: label("io.kubernetes.pod.name"),
        container: label("io.kubernetes.container.name"),
    };
    let mut command = vec![c.init_process.executable.clone()];
    command.extend(c.init_process.arguments.iter().cloned());
    let labels = Arc::new(identity.labels(RuntimeKind::Apple));
    Container {
        runtime: RuntimeKind::Apple,
        native_id: l.id.clone(),
        identity,
        labels,
        created: c.creation_date.0,
        started: l.started,
        user_labels: c.labels.clone(),
        addresses: l.networks.iter().flat_map(|n| n.addresses()).collect(),
        image: images
            .get(&c.image.reference)
            .cloned()
            .unwrap_or_else(|| ImageFacts { id: c.image.descriptor.digest.clone(), ..ImageFacts::default() }),
        command,
        vm: Some(vm_settings(c)),
        role: role(&c.labels),
        measured: Some(cell),
        ..Container::default()
    }
}

fn vm_settings(c: &Configuration) -> VmSettings {
    let mut devices = vec!["virtio-blk".to_owned()];
    if !c.networks.is_empty() {
        devices.push("virtio-net".to_owned());
    }
    if c.mounts.iter().any(|m| m.kind.contains_key("virtiofs")) {
        devices.push("virtio-fs".to_owned());
    }
    if c.rosetta {
        devices.push("rosetta".to_owned());
    }
    VmSettings {
        cpus: c.resources.cpus.map(|n| n + c.resources.cpu_overhead.unwrap_or(0.0)),
        memory_bytes: c.resources.memory_in_bytes.map(|m| m.saturating_add(memory_overhead(c))),
        devices,
        ..VmSettings::default()
    }
}

/// What the container is beside a plain one: a node of a `kina` or `k8s` cluster, the builder, or a machine.
fn role(labels: &BTreeMap<String, String>) -> String {
    let get = |name: &str| labels.get(name).map(String::as_str).unwrap_or_default();
    if labels.contains_key("io.x-k8s.kina.cluster") {
        return format!("kubernetes-{}", get("io.x-k8s.kina.role"));
    }
    match get("com.apple.container.plugin") {
        "k8s" => format!("kubernetes-{}", get("com.apple.container.resource.role")),
        // Before 0.12 the builder is told by its role alone.
        "" => get("com.apple.container.resource.role").to_owned(),
        plugin => plugin.to_owned(),
    }
}
