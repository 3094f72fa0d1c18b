//! Who the containers are, and what happens to them.
//!
//! Each runtime has tasks of its own ([`engine_api`] for Docker and Podman, [`containerd`], `apple`, bare [`cgroups`])
//! that keep the [`Directory`] right by events and, after a lost connection, by a fresh list. A scrape only reads the
//! directory: it never calls a runtime. [`Sources::start`] starts them all.

pub mod apple;
pub mod cgroup_names;
#[cfg(target_os = "linux")]
pub mod cgroup_paths;
#[cfg(target_os = "linux")]
pub mod cgroups;
#[cfg(target_os = "linux")]
pub mod containerd;
mod directory;
#[cfg(target_os = "linux")]
pub mod engine_api;
#[cfg(all(fuzzing, target_os = "linux"))]
pub mod fuzzing;
pub mod http;
#[cfg(target_os = "linux")]
mod process;
mod select;
mod sources;
#[cfg(target_os = "linux")]
mod stamps;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::root::Nanos;
use crate::sample::LabelBlock;

pub use directory::{Directory, History, Pending};
pub use sources::{Context, Sources};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum RuntimeKind {
    Docker,
    Podman,
    Containerd,
    Apple,
    /// No runtime tells: the cgroup tree by itself.
    #[default]
    Cgroup,
}

impl RuntimeKind {
    pub const ALL: [RuntimeKind; 5] = [Self::Docker, Self::Podman, Self::Containerd, Self::Apple, Self::Cgroup];

    /// The value of the `runtime` label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Containerd => "containerd",
            Self::Apple => "apple",
            Self::Cgroup => "cgroup",
        }
    }
}

/// Who a container is on every series.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The cgroup path, as cAdvisor has it; on apple the container's id.
    pub id: String,
    pub name: String,
    pub image: String,
    pub namespace: String,
    pub pod: String,
    pub container: String,
}

impl Identity {
    pub fn labels(&self, runtime: RuntimeKind) -> LabelBlock {
        let runtime = if self.id == "/" { "" } else { runtime.name() };
        LabelBlock::new(vec![
            ("id", self.id.clone()),
            ("name", self.name.clone()),
            ("image", self.image.clone()),
            ("runtime", runtime.to_owned()),
            ("namespace", self.namespace.clone()),
            ("pod", self.pod.clone()),
            ("container", self.container.clone()),
        ])
    }
}

/// Where a container's cgroup is, for each hierarchy: v1 paths differ by controller in principle.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CgroupPaths {
    /// Path below the v2 mount (`0::` of `/proc/PID/cgroup`), starting with `/`.
    pub v2: Option<String>,
    /// v1 controller (`memory`, `cpu`, `cpuacct`, `blkio`, `pids`, `cpuset` …) → path below its mount.
    pub v1: BTreeMap<String, String>,
}

/// A running container. Immutable: a change makes a new one under the same key.
#[derive(Debug, Clone, Default)]
pub struct Container {
    pub runtime: RuntimeKind,
    /// The runtime's own id (64 hex digits with Docker), or the cgroup path.
    pub native_id: String,
    pub identity: Identity,
    pub labels: Arc<LabelBlock>,
    pub cgroup: CgroupPaths,
    /// First process, as the host numbers it. 0 when not known.
    pub pid: u32,
    /// Nanoseconds since the Unix epoch, by the runtime.
    pub created: Option<Nanos>,
    pub started: Option<Nanos>,
    pub healthy: Option<bool>,
    /// It has a health check, whether or not that has answered.
    pub health_check: bool,
    pub restart_policy: String,
    /// All of the container's own labels; only allow-listed ones are shown.
    pub user_labels: BTreeMap<String, String>,
    pub addresses: Vec<IpAddr>,
    pub host_network: bool,
    /// Another container's network namespace is used (Kubernetes: the pod's sandbox has it): its counters are shown once.
    pub shares_network_of: Option<String>,
    pub image: ImageFacts,
    /// The daemon that told of it, by its socket; empty where there is none.
    pub source: Arc<str>,
    /// Path and arguments of the first process.
    pub command: Vec<String>,
    pub vm: Option<VmSettings>,
    /// What the container is beside a plain one, e.g. `builder` or `kubernetes-control-plane`; empty for a plain one.
    pub role: String,
    /// Where the runtime keeps its files, if it is one with a folder for each container (Apple's).
    pub data_root: Option<PathBuf>,
    /// Where a runtime that is asked in the background leaves its newest figures.
    pub measured: Option<Arc<apple::MeasuredCell>>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImageFacts {
    pub id: String,
    pub size_bytes: Option<u64>,
    pub layers: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct VmSettings {
    pub cpus: Option<f64>,
    pub memory_bytes: Option<u64>,
    pub swap_bytes: Option<u64>,
    pub kernel: String,
    /// Names of device kinds, e.g. `virtio-blk,virtio-net`.
    pub devices: Vec<String>,
    pub initrd: Option<bool>,
}

impl Container {
    pub fn key(&self) -> Key {
        Key { runtime: self.runtime, id: self.native_id.clone() }
    }
}

impl Default for LabelBlock {
    fn default() -> Self {
        LabelBlock::new(Vec::new())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub runtime: RuntimeKind,
    pub id: String,
}

/// Something that happened, as the runtime tells it. `startup` makes phases and counts of these.
///
/// Events of one container come in order, each once, also across reconnects; those of different containers in the order
/// in which they were received. `Started` is held back until the runtime has told the process's own start time (a few
/// milliseconds), and what follows it waits for it.
///
/// What each runtime gives evidence of:
///
/// | | Docker | Podman | containerd | bare cgroups |
/// |---|---|---|---|---|
/// | `ImagePulled` | image `pull` | – (`pull` is `ImagePullStarted`: it looks for the image) | `/images/create` | – |
/// | `Created` | `create` | `create` | `/containers/create` | the cgroup appears |
/// | `StartRequested` | mount of the root file system, else its host name's file written, else before Docker 28 network `connect` | the same mount, `init` (at the latest then) | the bundle's `config.json` | – |
/// | `TaskCreated` | of containerd below it, if its socket may be read | – | `/tasks/create` | – |
/// | `Started` | `start`, inspect `State.StartedAt` | the same | `/tasks/start` | its first process |
/// | `StartFailed` | network `disconnect` without `start`, or 3 s after `create` without either; inspect `State.Error` and `State.ExitCode` | `cleanup` without a `start` before it, inspect `State.Error` or the `oci-log` beside inspect's `HostnamePath` | `/tasks/create` and `/tasks/delete` without `/tasks/start` or `/tasks/exit` | – |
#[derive(Debug, Clone)]
pub struct Event {
    pub key: Key,
    /// The runtime's own time stamp, wall clock.
    pub at: Nanos,
    /// When the exporter received it, boot clock: for ordering and for runtimes whose stamps are coarse.
    pub received: Nanos,
    pub image: String,
    pub name: String,
    pub kind: EventKind,
    /// Seen in the runtime's history after a reconnect or restart, not live.
    pub replayed: bool,
}

/// Where a virtual machine that boots writes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    pub log: PathBuf,
    /// Size of the log before this boot: all boots are appended to one file.
    pub from: u64,
    /// When the start was requested, by the host's files; wall clock.
    pub requested: Option<Nanos>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum EventKind {
    /// An image was pulled (`key.id` is the image's reference).
    ImagePulled,
    /// A pull began, where the runtime tells.
    ImagePullStarted,
    /// Snapshot or root file system prepared (containerd).
    SnapshotPrepared,
    /// The runtime was asked to create it: inspect's `Created`, which Docker stamps as the request comes in, some
    /// milliseconds before the event `create` (the root file system is prepared in between).
    CreateRequested,
    Created,
    /// The runtime was asked to start it, where the runtime tells. Several may come for one start, also after `Started`:
    /// the earliest counts. Docker mounts the root file system first of all, into the folder of inspect's
    /// `GraphDriver.Data.MergedDir`: the modification time of the folder above it is within a tick of the request, where
    /// it may be read; its event network `connect` comes 4 to 8 ms after.
    StartRequested,
    /// The task exists, its process not yet running (containerd task create).
    TaskCreated {
        pid: u32,
    },
    /// Its first process runs. `started` is the runtime's own start time (inspect), finer than the event's.
    Started {
        pid: u32,
        started: Option<Nanos>,
    },
    Health {
        healthy: bool,
    },
    Oom,
    Exited {
        code: Option<i32>,
    },
    /// A start was requested and failed.
    StartFailed {
        message: String,
    },
    /// The start under way belongs to the container's creation (`container run`), whatever the grain of its dates.
    FirstStart,
    /// Its virtual machine boots, and writes of it to a log.
    Booting(Boot),
    Removed,
    /// The runtime has forgotten it, though it may live on: nothing is known of its end.
    Lost,
}
