//! One collection's facts: plain data, no I/O. Every fact is an `Option`: what could not be read is absent, never 0.
//!
//! Units are those of the kernel file that a field is read from, named in the field; conversion to base units happens
//! once, in [`crate::collect`].

use std::sync::Arc;

use crate::root::Nanos;
use crate::runtime::Container;
use crate::sample::Histogram;

/// A limit as the kernel writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    Max,
    Value(u64),
}

impl Limit {
    pub fn value(self) -> Option<u64> {
        match self {
            Self::Max => None,
            Self::Value(v) => Some(v),
        }
    }
}

#[derive(Debug, Default)]
pub struct Snapshot {
    /// When the collection began.
    pub wall: Nanos,
    pub boot: Nanos,
    pub containers: Vec<ContainerFacts>,
    pub host: HostFacts,
    pub exporter: ExporterFacts,
}

/// What is known of one container now. `container.identity.id == "/"` is the root cgroup: the whole machine.
#[derive(Debug, Default, Clone)]
pub struct ContainerFacts {
    pub container: Arc<Container>,
    /// The container ended while it was read. Seen by readers alone: a finished collection has none of these.
    pub gone: bool,
    /// When its first process began, wall clock; for containers whose runtime does not tell.
    pub started: Option<Nanos>,
    pub cpu: CpuFacts,
    pub memory: MemoryFacts,
    pub pressure: PressureFacts,
    pub storage: StorageFacts,
    pub network: NetworkFacts,
    pub sockets: SocketFacts,
    pub process: ProcessFacts,
    pub vm: VmFacts,
}

impl ContainerFacts {
    /// Empties all facts for the next collection, keeping the memory of lists.
    pub fn reset(&mut self, container: Arc<Container>) {
        self.container = container;
        self.gone = false;
        self.started = None;
        self.cpu = CpuFacts::default();
        self.memory = MemoryFacts::default();
        self.pressure = PressureFacts::default();
        self.storage.reset();
        self.network.reset();
        self.sockets.reset();
        self.process = ProcessFacts::default();
        self.vm = VmFacts::default();
    }
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct CpuFacts {
    pub usage_ns: Option<u64>,
    pub user_ns: Option<u64>,
    pub system_ns: Option<u64>,
    pub nr_periods: Option<u64>,
    pub nr_throttled: Option<u64>,
    pub throttled_ns: Option<u64>,
    pub nr_bursts: Option<u64>,
    pub burst_ns: Option<u64>,
    pub quota_us: Option<Limit>,
    pub period_us: Option<u64>,
    pub shares: Option<u64>,
    /// CPUs in the effective cpuset.
    pub cpuset_cpus: Option<u32>,
    /// … by core type, in the order performance, efficiency; None where the host has one kind.
    pub cpuset_by_type: Option<[u32; 2]>,
    /// quota ÷ period, else the effective cpuset, else the VM's CPUs or the host's.
    pub allocated_cores: Option<f64>,
    /// Integrals since the exporter first saw the container.
    pub capacity_seconds: Option<f64>,
    pub idle_seconds: Option<f64>,
    /// CPU time on performance and efficiency cores, where measured.
    pub core_type_ns: Option<[u64; 2]>,
    pub energy_joules: Option<f64>,
    /// Cores used on average since the previous collection (usage rate), for pages and advice that look at one moment.
    pub usage_rate_cores: Option<f64>,
    pub user_rate_cores: Option<f64>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct MemoryFacts {
    pub usage: Option<u64>,
    pub peak: Option<u64>,
    pub limit: Option<Limit>,
    pub reservation: Option<Limit>,
    pub swap: Option<u64>,
    pub swap_limit: Option<Limit>,
    pub anon: Option<u64>,
    pub file: Option<u64>,
    pub file_mapped: Option<u64>,
    pub shmem: Option<u64>,
    pub file_dirty: Option<u64>,
    pub file_writeback: Option<u64>,
    pub active_file: Option<u64>,
    pub inactive_file: Option<u64>,
    pub active_anon: Option<u64>,
    pub inactive_anon: Option<u64>,
    pub kernel: Option<u64>,
    /// Buffers of sockets; charged beside `kernel` (v2).
    pub sock: Option<u64>,
    pub zswap: Option<u64>,
    pub zswapped: Option<u64>,
    /// This cgroup's processes alone (v1), and with those below it.
    pub pgfault_own: Option<u64>,
    pub pgmajfault_own: Option<u64>,
    pub pgfault: Option<u64>,
    pub pgmajfault: Option<u64>,
    pub pgscan: Option<u64>,
    pub pgsteal: Option<u64>,
    pub refault_file: Option<u64>,
    pub refault_anon: Option<u64>,
    pub events_high: Option<u64>,
    pub events_max: Option<u64>,
    pub oom_kill: Option<u64>,
    /// Memory the container may use: its limit if it is below the host's memory, or its VM's memory.
    pub allocated: Option<u64>,
    /// Private memory of runtime processes that exist for this container alone.
    pub vm_overhead: Option<u64>,
    /// Refaults a second since the previous collection, for advice.
    pub refault_rate: Option<f64>,
}

impl MemoryFacts {
    /// Anonymous memory and shared memory: what the processes themselves hold.
    pub fn process(&self) -> Option<u64> {
        Some(self.anon?.saturating_add(self.shmem?))
    }

    /// File pages mapped into processes, shared memory left out.
    pub fn shared_libraries(&self) -> Option<u64> {
        Some(self.file_mapped?.saturating_sub(self.shmem?))
    }

    /// The rest of the page cache.
    pub fn page_cache(&self) -> Option<u64> {
        Some(self.file?.saturating_sub(self.shmem?).saturating_sub(self.shared_libraries()?))
    }

    /// All that the kernel holds for the container.
    pub fn guest_kernel(&self) -> Option<u64> {
        Some(self.kernel?.saturating_add(self.sock.unwrap_or(0)))
    }

    pub fn working_set(&self) -> Option<u64> {
        Some(self.usage?.saturating_sub(self.inactive_file?))
    }

    /// Allocated less the working set; absent without an allocation.
    pub fn available(&self) -> Option<u64> {
        Some(self.allocated?.saturating_sub(self.working_set()?))
    }

    /// (process + shared_libraries) ÷ allocated; absent without an allocation.
    pub fn efficiency(&self) -> Option<f64> {
        let allocated = self.allocated.filter(|a| *a > 0)?;
        Some(self.process()?.saturating_add(self.shared_libraries()?) as f64 / allocated as f64)
    }
}

/// Totals of pressure files, in microseconds.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct PressureFacts {
    pub cpu_some_us: Option<u64>,
    pub cpu_full_us: Option<u64>,
    pub memory_some_us: Option<u64>,
    pub memory_full_us: Option<u64>,
    pub io_some_us: Option<u64>,
    pub io_full_us: Option<u64>,
}

#[derive(Debug, Default, Clone)]
pub struct StorageFacts {
    pub devices: Vec<DeviceIo>,
    /// Bytes that the processes asked to read, monotonic over their coming and going.
    pub logical_read_bytes: Option<u64>,
    pub queue_depth: Option<u64>,
    /// Latency of reads and writes, where measured (a VM's own disks, eBPF).
    pub latency: Option<Arc<[Histogram; 2]>>,
    /// Per second since the previous collection, for pages and advice.
    pub iops_rate: Option<f64>,
    pub bytes_rate: Option<f64>,
}

impl StorageFacts {
    fn reset(&mut self) {
        self.devices.clear();
        self.logical_read_bytes = None;
        self.queue_depth = None;
        self.latency = None;
        self.iops_rate = None;
        self.bytes_rate = None;
    }
}

/// Block I/O of a container on one device.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct DeviceIo {
    /// `/dev/sda`, as cAdvisor has it; `major:minor` when the device has no name.
    pub device: Arc<str>,
    pub read_bytes: Option<u64>,
    pub write_bytes: Option<u64>,
    pub reads: Option<u64>,
    pub writes: Option<u64>,
}

#[derive(Debug, Default, Clone)]
pub struct NetworkFacts {
    pub interfaces: Vec<InterfaceFacts>,
    pub tcp_in_segs: Option<u64>,
    pub tcp_out_segs: Option<u64>,
    pub tcp_retrans_segs: Option<u64>,
    /// Bytes a second since the previous collection, for pages and advice.
    pub rx_rate: Option<f64>,
    pub tx_rate: Option<f64>,
}

impl NetworkFacts {
    fn reset(&mut self) {
        self.interfaces.clear();
        self.tcp_in_segs = None;
        self.tcp_out_segs = None;
        self.tcp_retrans_segs = None;
        self.rx_rate = None;
        self.tx_rate = None;
    }
}

#[derive(Debug, Default, Clone, PartialEq)]
pub struct InterfaceFacts {
    pub name: Arc<str>,
    pub rx_bytes: Option<u64>,
    pub rx_packets: Option<u64>,
    pub rx_errors: Option<u64>,
    pub rx_dropped: Option<u64>,
    pub tx_bytes: Option<u64>,
    pub tx_packets: Option<u64>,
    pub tx_errors: Option<u64>,
    pub tx_dropped: Option<u64>,
    pub speed_bytes_per_second: Option<u64>,
}

/// TCP states in the kernel's numbering (1 = ESTABLISHED … 11 = CLOSING); index 0 is unused.
pub const TCP_STATES: [&str; 12] = [
    "",
    "established",
    "synsent",
    "synrecv",
    "finwait1",
    "finwait2",
    "timewait",
    "close",
    "closewait",
    "lastack",
    "listen",
    "closing",
];

#[derive(Debug, Default, Clone)]
pub struct SocketFacts {
    /// Sockets by state, indexed as [`TCP_STATES`]; None when the namespace could not be asked.
    pub states: Option<[u32; 12]>,
    /// Accumulated over collections; None as above.
    pub rtt: Option<Histogram>,
    /// The memory of an earlier collection's.
    pub rtt_before: Option<Histogram>,
    /// Median smoothed round-trip time of this collection's established sockets, in seconds.
    pub rtt_median: Option<f64>,
    /// Established connections by the container at the other end, most first; a limit may have cut it.
    pub peers: Vec<(Arc<str>, u32)>,
    /// Distinct containers at the other ends, those beyond the limit included.
    pub fanout: Option<u32>,
}

impl SocketFacts {
    fn reset(&mut self) {
        self.states = None;
        self.rtt_before = self.rtt.take().or(self.rtt_before.take());
        self.rtt_median = None;
        self.peers.clear();
        self.fanout = None;
    }

    /// Takes what has been accumulated, into memory of an earlier collection where there is some.
    pub fn set_rtt(&mut self, rtt: &Histogram) {
        self.rtt.insert(self.rtt_before.take().unwrap_or_default()).copy_from(rtt);
    }
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct ProcessFacts {
    pub processes: Option<u64>,
    pub threads: Option<u64>,
    pub threads_max: Option<Limit>,
    pub file_descriptors: Option<u64>,
    /// Monotonic over the threads' coming and going.
    pub switches_voluntary: Option<u64>,
    pub switches_involuntary: Option<u64>,
    /// Where only the sum is known (perf counter scoped to the cgroup).
    pub switches_all: Option<u64>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct VmFacts {
    pub host_memory: Option<u64>,
    pub guest_used: Option<u64>,
}

#[derive(Debug, Default, Clone)]
pub struct HostFacts {
    pub memory_bytes: Option<u64>,
    pub swap_bytes: Option<u64>,
    pub cpus_online: Option<u32>,
    pub physical_cores: Option<u32>,
    /// Cores by type: performance and efficiency, or None where the host has one kind.
    pub cores_by_type: Option<[u32; 2]>,
    /// On a Mac; Linux tells of the machine as a whole (`/`).
    pub load: Vec<CoreLoad>,
    pub devices: Vec<DeviceFacts>,
    pub filesystems: Vec<FilesystemFacts>,
    pub thermal: Option<ThermalState>,
    /// Accumulated joules by domain (`package-0`, `dram-0` …).
    pub energy: Vec<(Arc<str>, f64)>,
    pub on_battery: Option<bool>,
    /// Uncompressed ÷ compressed size of what the machine's zram devices hold.
    pub zram_ratio: Option<f64>,
}

impl HostFacts {
    /// Empties all facts for the next collection, keeping the memory of lists.
    pub fn reset(&mut self) {
        let Self { mut devices, mut filesystems, mut energy, mut load, .. } = std::mem::take(self);
        load.clear();
        devices.clear();
        filesystems.clear();
        energy.clear();
        *self = Self { devices, filesystems, energy, load, ..Self::default() };
    }
}

/// How busy a core was since the last look.
#[derive(Debug, Clone, PartialEq)]
pub struct CoreLoad {
    /// By the system's own number.
    pub core: u32,
    /// None where all are alike, or the system does not tell.
    pub core_type: Option<&'static str>,
    /// 0–1.
    pub busy: f64,
}

/// What the exporter itself takes.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct ExporterFacts {
    pub cpu_seconds: Option<f64>,
    pub resident_bytes: Option<u64>,
    pub virtual_bytes: Option<u64>,
    pub open_fds: Option<u64>,
    pub max_fds: Option<u64>,
    /// Since the Unix epoch.
    pub start_time_seconds: Option<f64>,
}

#[derive(Debug, Default, Clone, PartialEq)]
pub struct DeviceFacts {
    pub name: Arc<str>,
    pub reads: u64,
    pub read_ms: u64,
    pub writes: u64,
    pub write_ms: u64,
    pub in_flight: u64,
}

#[derive(Debug, Default, Clone, PartialEq)]
pub struct FilesystemFacts {
    pub device: Arc<str>,
    pub mountpoint: Arc<str>,
    pub size: u64,
    pub used: u64,
    pub inodes: u64,
    pub inodes_free: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ThermalState {
    Nominal,
    Fair,
    Serious,
    Critical,
}

impl ThermalState {
    pub const ALL: [(ThermalState, &'static str); 4] =
        [(Self::Nominal, "nominal"), (Self::Fair, "fair"), (Self::Serious, "serious"), (Self::Critical, "critical")];
}
