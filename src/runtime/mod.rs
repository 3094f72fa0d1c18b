//! Who the containers are, and what happens to them.
//!
//! Each runtime has one task ([`docker`], [`podman`], [`containerd`], `apple`, bare cgroups) that keeps the
//! [`Directory`] right by events and, after a lost connection, by a fresh list. A scrape only reads the directory: it
//! never calls a runtime.

pub mod apple;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::root::Nanos;
use crate::sample::LabelBlock;

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
    pub restart_policy: String,
    /// All of the container's own labels; only allow-listed ones are shown.
    pub user_labels: BTreeMap<String, String>,
    pub addresses: Vec<IpAddr>,
    pub host_network: bool,
    /// Another container's network namespace is used (Kubernetes: the pod's sandbox has it): its counters are shown once.
    pub shares_network_of: Option<String>,
    pub image: ImageFacts,
    /// Path and arguments of the first process.
    pub command: Vec<String>,
    pub vm: Option<VmSettings>,
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
    Removed,
}

/// The live containers, kept by the runtimes' tasks and read by collections.
#[derive(Debug)]
pub struct Directory {
    state: Mutex<State>,
    /// Bumped with every change, so that a collection that sees the same number has nothing to do.
    generation: watch::Sender<u64>,
    /// Identities being asked for right now: a scrape waits a moment for them, so that a container which started is in
    /// the next scrape.
    pending: watch::Sender<usize>,
    subscribers: Mutex<Vec<mpsc::UnboundedSender<Arc<Event>>>>,
}

#[derive(Debug, Default)]
struct State {
    live: HashMap<Key, Arc<Container>>,
    listing: Option<Arc<Vec<Arc<Container>>>>,
}

impl Default for Directory {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            generation: watch::Sender::new(0),
            pending: watch::Sender::new(0),
            subscribers: Mutex::default(),
        }
    }
}

/// While it lives, [`Directory::settled`] waits: an event has been received and its container's identity is on the way.
pub struct Pending<'d>(&'d Directory);

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.pending.send_modify(|n| *n -= 1);
    }
}

impl Directory {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self, state: &mut State) {
        state.listing = None;
        self.generation.send_modify(|g| *g += 1);
    }

    /// Adds a container, or replaces what is known of it.
    pub fn insert(&self, container: Container) {
        let mut state = self.lock();
        state.live.insert(container.key(), Arc::new(container));
        self.changed(&mut state);
    }

    pub fn remove(&self, key: &Key) -> Option<Arc<Container>> {
        let mut state = self.lock();
        let old = state.live.remove(key)?;
        self.changed(&mut state);
        Some(old)
    }

    pub fn get(&self, key: &Key) -> Option<Arc<Container>> {
        self.lock().live.get(key).cloned()
    }

    /// Replaces all containers of one runtime (or of one source within it, told by `mine`) after a fresh list.
    pub fn replace(&self, mine: impl Fn(&Container) -> bool, fresh: Vec<Container>) {
        let mut state = self.lock();
        state.live.retain(|_, c| !mine(c));
        for c in fresh {
            state.live.insert(c.key(), Arc::new(c));
        }
        self.changed(&mut state);
    }

    /// All live containers, ordered by id so that output is stable, with the generation they are of. The same list is
    /// handed out until something changes.
    pub fn list(&self) -> (u64, Arc<Vec<Arc<Container>>>) {
        let mut state = self.lock();
        let generation = *self.generation.borrow();
        let State { live, listing } = &mut *state;
        let list = listing.get_or_insert_with(|| {
            let mut all: Vec<_> = live.values().cloned().collect();
            all.sort_by(|a, b| a.identity.id.cmp(&b.identity.id).then_with(|| a.native_id.cmp(&b.native_id)));
            Arc::new(all)
        });
        (generation, list.clone())
    }

    pub fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Marks an identity as being asked for, until the guard is dropped.
    pub fn pending(&self) -> Pending<'_> {
        self.pending.send_modify(|n| *n += 1);
        Pending(self)
    }

    /// Waits until no identity is being asked for, `limit` at most: a hanging runtime delays no scrape further.
    pub async fn settled(&self, limit: Duration) {
        let mut pending = self.pending.subscribe();
        let _ = tokio::time::timeout(limit, pending.wait_for(|n| *n == 0)).await;
    }

    /// Hands an event to all subscribers. None is lost, however slow they are: events are rare beside what they cost.
    pub fn publish(&self, event: Event) {
        let event = Arc::new(event);
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        subscribers.retain(|s| s.send(event.clone()).is_ok());
    }

    pub fn subscribe(&self) -> mpsc::UnboundedReceiver<Arc<Event>> {
        let (tx, rx) = mpsc::unbounded_channel();
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner).push(tx);
        rx
    }
}
