//! Every metric family, once: name, type, unit, labels, help, collector, source, OpenTelemetry name, when it is absent.
//!
//! This is the only place where a metric's name is a string. The reference documentation, the name checks of rules and
//! dashboards, the golden scrapes' name sets and the OpenTelemetry names all come from here.

use std::borrow::Cow;

/// A family's place in [`families`]; the constants below are the way to name one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FamilyId(u16);

impl FamilyId {
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The family at a place in [`families`].
    pub fn from_index(index: usize) -> Option<Self> {
        (index < FAMILIES.len()).then_some(Self(index as u16))
    }

    pub fn family(self) -> &'static Family {
        &FAMILIES[self.index()]
    }

    pub fn name(self) -> &'static str {
        self.family().name
    }
}

/// The Prometheus type. `Summary` carries `_sum` and `_count` alone, no quantiles: a mean is `rate(_sum)/rate(_count)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
    Summary,
    /// A gauge that is always 1 and carries facts as labels.
    Info,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Seconds,
    Bytes,
    BytesPerSecond,
    Joules,
    Ratio,
    Cores,
    /// A plain number of things.
    Count,
}

/// What a family's samples are about, and so which identity labels they carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// `id`, `name`, `image`, `runtime` and the Kubernetes labels where known, besides the family's own.
    Container,
    /// The machine, no identity labels.
    Host,
    /// Events counted by runtime and image; outlives its containers.
    Events,
    /// The exporter itself.
    Exporter,
}

/// A source of facts that can be switched off (`--no-collector.NAME`), timed and judged by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Collector {
    Startup,
    Lifecycle,
    Cpu,
    Memory,
    Storage,
    Network,
    Socket,
    Process,
    Pressure,
    Vm,
    Host,
    Device,
    Thermal,
    Energy,
    Advice,
    Exporter,
}

impl Collector {
    pub const ALL: [Collector; 16] = [
        Self::Startup,
        Self::Lifecycle,
        Self::Cpu,
        Self::Memory,
        Self::Storage,
        Self::Network,
        Self::Socket,
        Self::Process,
        Self::Pressure,
        Self::Vm,
        Self::Host,
        Self::Device,
        Self::Thermal,
        Self::Energy,
        Self::Advice,
        Self::Exporter,
    ];

    pub const COUNT: usize = Self::ALL.len();

    /// The name in flags, query parameters and the `collector` label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Lifecycle => "lifecycle",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Storage => "storage",
            Self::Network => "network",
            Self::Socket => "socket",
            Self::Process => "process",
            Self::Pressure => "pressure",
            Self::Vm => "vm",
            Self::Host => "host",
            Self::Device => "device",
            Self::Thermal => "thermal",
            Self::Energy => "energy",
            Self::Advice => "advice",
            Self::Exporter => "exporter",
        }
    }

    /// One sentence for `--help` and the reference.
    pub fn about(self) -> &'static str {
        match self {
            Self::Startup => "how long containers took to start, in phases",
            Self::Lifecycle => "what a container is: info, start time, limits set, health",
            Self::Cpu => "CPU time, throttling, allocation and efficiency",
            Self::Memory => "memory use by kind, limits, faults, reclaim and OOM kills",
            Self::Storage => "block I/O by device",
            Self::Network => "interface counters of each network namespace",
            Self::Socket => "TCP round-trip time, retransmissions, states and peers, over netlink",
            Self::Process => "processes, threads, file descriptors and context switches",
            Self::Pressure => "pressure stall information",
            Self::Vm => "the virtual machine around a container",
            Self::Host => "the machine's memory, cores and file systems",
            Self::Device => "latency and queue depth of block devices",
            Self::Thermal => "thermal state of the machine",
            Self::Energy => "energy of the machine and each container's share",
            Self::Advice => "targets in force and recommendations",
            Self::Exporter => "the exporter itself",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.name() == name)
    }

    pub fn index(self) -> usize {
        self as usize
    }
}

/// Which families a scrape carries unless asked otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    Default,
    /// cAdvisor's own names that break the naming rules, only with `--profile cadvisor`.
    Cadvisor,
}

#[derive(Debug)]
pub struct Family {
    pub name: &'static str,
    pub kind: Kind,
    pub unit: Unit,
    /// Labels besides the identity labels of the scope.
    pub labels: &'static [&'static str],
    pub scope: Scope,
    pub collector: Collector,
    pub help: &'static str,
    /// The kernel file, API or specification that the fact is read from.
    pub source: &'static str,
    /// When the family, or a sample of it, is not there.
    pub absent: &'static str,
    /// OpenTelemetry name, where the semantic conventions have one; see [`Family::otel_name`]. A start time is there what
    /// has passed since, an uptime.
    pub otel: Option<&'static str>,
    /// Attributes that the OpenTelemetry name needs to say the same.
    pub otel_attributes: &'static [(&'static str, &'static str)],
    /// The OpenTelemetry name of a summary's count, where `otel` is that of its sum: the conventions have no summaries.
    pub otel_count: Option<&'static str>,
    /// The OpenTelemetry name of the machine's own sample, that of the root cgroup, where it is not that of a container's;
    /// and the attributes that it needs besides.
    pub otel_system: Option<(&'static str, &'static [(&'static str, &'static str)])>,
    pub profile: Profile,
    /// Upper bounds of classic buckets, for histograms.
    pub buckets: &'static [f64],
}

impl Family {
    /// The name in OpenTelemetry: that of the semantic conventions where they have one, else ours below `kina.`, without
    /// unit and type, which OpenTelemetry keeps apart. Prometheus puts both back when it takes OTLP, so that a `kina_*`
    /// family has the same name there whichever way it came.
    pub fn otel_name(&self) -> Cow<'static, str> {
        if let Some(name) = self.otel {
            return Cow::Borrowed(name);
        }
        let type_suffix = if self.kind == Kind::Counter { "_total" } else { "" };
        let unit_suffix = match self.unit {
            Unit::Seconds => "_seconds",
            Unit::Bytes => "_bytes",
            Unit::BytesPerSecond => "_bytes_per_second",
            Unit::Joules => "_joules",
            Unit::Ratio => "_ratio",
            Unit::Cores | Unit::Count => "",
        };
        let name = self.name.strip_suffix(type_suffix).unwrap_or(self.name);
        let name = name.strip_suffix(unit_suffix).unwrap_or(name);
        let name = name.strip_prefix("kina_").unwrap_or(name);
        Cow::Owned(format!("kina.{}", name.replacen('_', ".", 2)))
    }

    /// The unit under one of its OpenTelemetry names (UCUM). Things that are counted have none but what the conventions
    /// give them.
    pub fn otel_unit(&self, name: &str) -> &'static str {
        match name {
            "container.paging.faults" | "system.paging.faults" => return "{fault}",
            "system.disk.operations" => return "{operation}",
            "system.network.packet.count" | "system.network.packet.dropped" => return "{packet}",
            "system.network.errors" => return "{error}",
            "system.network.connection.count" => return "{connection}",
            "system.cpu.logical.count" | "system.cpu.physical.count" => return "{cpu}",
            "process.unix.file_descriptor.count" => return "{file_descriptor}",
            _ => {}
        }
        match self.unit {
            Unit::Seconds => "s",
            Unit::Bytes => "By",
            Unit::BytesPerSecond => "By/s",
            Unit::Joules => "J",
            Unit::Ratio => "1",
            Unit::Cores => "{cpu}",
            Unit::Count => "",
        }
    }
}

/// The OpenTelemetry attribute that says what a label says; a label that the semantic conventions don't know keeps its
/// name.
pub fn attribute(label: &str) -> &str {
    match label {
        "id" => "process.linux.cgroup",
        "name" => "container.name",
        "image" => "container.image.name",
        "runtime" => "container.runtime.name",
        "namespace" => "k8s.namespace.name",
        "pod" => "k8s.pod.name",
        "container" => "k8s.container.name",
        "container_id" => "container.id",
        "interface" => "network.interface.name",
        "device" => "system.device",
        "op" => "disk.io.direction",
        other => other,
    }
}

/// As [`attribute`], under a name that the machine's own samples have.
pub fn system_attribute<'a>(name: &str, label: &'a str) -> &'a str {
    match (name, label) {
        ("system.network.packet.count", "interface") => "system.device",
        ("system.network.connection.count", "state") => "network.connection.state",
        ("hw.network.bandwidth.limit", "interface") => "hw.id",
        _ => attribute(label),
    }
}

/// A state of TCP as the semantic conventions write it (RFC 9293).
pub fn connection_state(state: &str) -> &str {
    match state {
        "close" => "closed",
        "closewait" => "close_wait",
        "finwait1" => "fin_wait_1",
        "finwait2" => "fin_wait_2",
        "lastack" => "last_ack",
        "synrecv" => "syn_received",
        "synsent" => "syn_sent",
        "timewait" => "time_wait",
        other => other,
    }
}

pub const STARTUP_BUCKETS: &[f64] =
    &[0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0];
pub const RTT_BUCKETS: &[f64] =
    &[0.00005, 0.0001, 0.0002, 0.0003, 0.0005, 0.00075, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0];
pub const STORAGE_BUCKETS: &[f64] =
    &[0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.005, 0.008, 0.01, 0.015, 0.02, 0.05, 0.1, 0.25, 1.0];

/// All families, in the order in which they are exposed.
pub fn families() -> &'static [Family] {
    FAMILIES
}

/// Finds a family by its own name.
pub fn by_name(name: &str) -> Option<FamilyId> {
    FAMILIES.iter().position(|f| f.name == name).map(|i| FamilyId(i as u16))
}

/// All family ids, in the order in which they are exposed.
pub fn ids() -> impl Iterator<Item = FamilyId> {
    (0..FAMILIES.len()).map(|i| FamilyId(i as u16))
}

/// Finds a family by the name of one of its series (`…_bucket`, `…_sum` and `…_count` included).
pub fn by_series(series: &str) -> Option<&'static Family> {
    let exact = |name: &str| FAMILIES.iter().find(|f| f.name == name);
    exact(series).or_else(|| {
        ["_bucket", "_sum", "_count"].iter().find_map(|suffix| {
            let family = exact(series.strip_suffix(suffix)?)?;
            let has = match family.kind {
                Kind::Histogram => true,
                Kind::Summary => *suffix != "_bucket",
                _ => false,
            };
            has.then_some(family)
        })
    })
}

macro_rules! families {
    ($(
        $id:ident = $kind:ident $scope:ident $collector:ident $name:literal [$($label:literal),*] $unit:ident
        $help:literal
        source $source:literal
        absent $absent:literal
        $(otel $otel:literal $([$($ok:literal = $ov:literal),*])?)?
        $(count $count:literal)?
        $(system $system:literal $([$($sk:literal = $sv:literal),*])?)?
        $(buckets $buckets:ident)?
        $(profile $profile:ident)?
        ;
    )*) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        #[repr(u16)]
        enum Index { $($id),* }

        $(
            #[doc = $help]
            pub const $id: FamilyId = FamilyId(Index::$id as u16);
        )*

        static FAMILIES: &[Family] = &[$(
            Family {
                name: $name,
                kind: Kind::$kind,
                unit: Unit::$unit,
                labels: &[$($label),*],
                scope: Scope::$scope,
                collector: Collector::$collector,
                help: $help,
                source: $source,
                absent: $absent,
                otel: families!(@first $($otel)?),
                otel_attributes: families!(@attributes $($($(($ok, $ov))*)?)?),
                otel_count: families!(@first $($count)?),
                otel_system: families!(@system $($system $($(($sk, $sv))*)?)?),
                profile: families!(@profile $($profile)?),
                buckets: families!(@buckets $($buckets)?),
            }
        ),*];
    };
    (@first) => { None };
    (@first $x:literal) => { Some($x) };
    (@attributes $(($k:literal, $v:literal))*) => { &[$(($k, $v)),*] };
    (@system) => { None };
    (@system $x:literal $(($k:literal, $v:literal))*) => { Some(($x, &[$(($k, $v)),*])) };
    (@profile) => { Profile::Default };
    (@profile $p:ident) => { Profile::$p };
    (@buckets) => { &[] };
    (@buckets $b:ident) => { $b };
}

families! {
    // ---- What a container is -------------------------------------------------------------------------------------
    CONTAINER_INFO = Info Container Lifecycle "kina_container_info" ["container_id", "pid", "restart_policy", "role"] Count
        "A running container; carries the allow-listed user labels as label_NAME."
        source "the runtime's API (inspect), or the cgroup path"
        absent "never, for a running container" ;
    CONTAINER_LAST_SEEN = Gauge Container Lifecycle "container_last_seen" [] Seconds
        "When the container was last seen by the exporter, in seconds since the Unix epoch."
        source "the exporter's clock at the collection"
        absent "never" ;
    CONTAINER_START_TIME = Gauge Container Lifecycle "container_start_time_seconds" [] Seconds
        "When the container last started, in seconds since the Unix epoch."
        source "the runtime's API (started at), else /proc/PID/stat starttime of its first process"
        absent "neither the runtime nor a process tells" otel "container.uptime" system "system.uptime" ;
    CONTAINER_CREATION_TIME = Gauge Container Lifecycle "container_creation_time_seconds" [] Seconds
        "When the container was created, in seconds since the Unix epoch."
        source "the runtime's API (created)"
        absent "no runtime tells" ;
    CONTAINER_HEALTH_STATE = Gauge Container Lifecycle "container_health_state" [] Count
        "Result of the container's health check: 1 healthy, 0 unhealthy."
        source "the runtime's API and events (health status)"
        absent "the container has no health check, or it has not answered yet" ;
    CONTAINER_SPEC_CPU_PERIOD = Gauge Container Cpu "container_spec_cpu_period" [] Count
        "CPU period of the container, in microseconds."
        source "cpu.max (v2), cpu.cfs_period_us (v1)"
        absent "the cpu controller is not enabled for the cgroup" ;
    CONTAINER_SPEC_CPU_QUOTA = Gauge Container Cpu "container_spec_cpu_quota" [] Count
        "CPU quota of the container, in microseconds per period."
        source "cpu.max (v2), cpu.cfs_quota_us (v1)"
        absent "no quota is set" ;
    CONTAINER_SPEC_CPU_SHARES = Gauge Container Cpu "container_spec_cpu_shares" [] Count
        "CPU share of the container."
        source "cpu.weight converted as the OCI runtimes do (v2), cpu.shares (v1)"
        absent "the cpu controller is not enabled for the cgroup" ;
    CONTAINER_SPEC_MEMORY_LIMIT = Gauge Container Memory "container_spec_memory_limit_bytes" [] Bytes
        "Memory limit of the container, 0 when unlimited."
        source "memory.max (v2), memory.limit_in_bytes (v1)"
        absent "the memory controller is not enabled for the cgroup" ;
    CONTAINER_SPEC_MEMORY_SWAP_LIMIT = Gauge Container Memory "container_spec_memory_swap_limit_bytes" [] Bytes
        "Memory swap limit of the container, 0 when unlimited."
        source "memory.swap.max (v2), memory.memsw.limit_in_bytes (v1)"
        absent "the kernel does not account swap" ;
    CONTAINER_SPEC_MEMORY_RESERVATION = Gauge Container Memory "container_spec_memory_reservation_limit_bytes" [] Bytes
        "Memory reservation of the container, 0 when none is set."
        source "memory.low (v2), memory.soft_limit_in_bytes (v1)"
        absent "the memory controller is not enabled for the cgroup" ;

    // ---- Startup -------------------------------------------------------------------------------------------------
    STARTUP_DURATION = Histogram Events Startup "kina_container_startup_duration_seconds" ["runtime", "image", "start"] Seconds
        "Time from the request to start a container until it ran, one observation a start."
        source "the runtime's event stream, start reports, boot logs"
        absent "no start has been seen" buckets STARTUP_BUCKETS ;
    STARTUP_PHASE_DURATION = Histogram Events Startup "kina_container_startup_phase_duration_seconds" ["runtime", "image", "phase", "start"] Seconds
        "Time a container start spent in one phase."
        source "the runtime's event stream, start reports, boot logs"
        absent "a phase without evidence" buckets STARTUP_BUCKETS ;
    STARTS = Counter Events Startup "kina_container_starts_total" ["runtime", "image", "start"] Count
        "Container starts that reached running."
        source "the runtime's event stream"
        absent "no start has been seen" ;
    START_FAILURES = Counter Events Startup "kina_container_start_failures_total" ["runtime", "image", "reason"] Count
        "Container starts that were requested and never ran."
        source "the runtime's event stream"
        absent "no failure has been seen" ;
    EXITS = Counter Events Startup "kina_container_exits_total" ["runtime", "image", "reason"] Count
        "Containers that ended, by reason: ok, error, oom, signal, or unknown where nobody tells the exit status."
        source "the runtime's event stream (exit code, OOM); the VM's boot log with Apple's container"
        absent "no exit has been seen" ;
    IMAGE_CACHE_REQUESTS = Counter Events Startup "kina_image_cache_requests_total" ["result"] Count
        "Container starts by whether their image was present (hit) or had to be pulled (miss)."
        source "the runtime's event stream"
        absent "no start has been seen" ;
    VM_POOL_ACQUISITIONS = Counter Events Startup "kina_vm_pool_acquisitions_total" ["result"] Count
        "Container starts by whether a prepared VM or container was used (hit) or not (miss)."
        source "start reports"
        absent "no runtime reports pooling" ;
    SLOW_STARTS = Counter Events Startup "kina_container_slow_starts_total" ["runtime", "image", "reason"] Count
        "Container starts slower than the slow-start threshold, by reason."
        source "startup analysis"
        absent "no slow start has been seen" ;
    LAST_STARTUP_DURATION = Gauge Container Startup "kina_container_last_startup_duration_seconds" [] Seconds
        "How long this container's last start took."
        source "the runtime's event stream"
        absent "the container started before the exporter" ;

    // ---- Memory --------------------------------------------------------------------------------------------------
    MEMORY_USAGE = Gauge Container Memory "container_memory_usage_bytes" [] Bytes
        "Memory used, page cache and kernel memory included."
        source "memory.current (v2), memory.usage_in_bytes (v1)"
        absent "the memory controller is not enabled for the cgroup" otel "container.memory.usage" system "kina.host.memory.usage" ;
    MEMORY_WORKING_SET = Gauge Container Memory "container_memory_working_set_bytes" [] Bytes
        "Memory used less inactive file cache: what the OOM killer can't take back."
        source "memory.current − inactive_file of memory.stat (v2), memory.usage_in_bytes − total_inactive_file (v1), at least 0"
        absent "the memory controller is not enabled for the cgroup" otel "container.memory.working_set" system "kina.host.memory.working_set" ;
    MEMORY_RSS = Gauge Container Memory "container_memory_rss" [] Bytes
        "Anonymous memory, huge pages included, in bytes."
        source "anon of memory.stat (v2), total_rss (v1)"
        absent "the memory controller is not enabled for the cgroup" otel "container.memory.rss" system "kina.host.memory.rss" ;
    MEMORY_CACHE = Gauge Container Memory "container_memory_cache" [] Bytes
        "Page cache, tmpfs and shared memory included, in bytes."
        source "file of memory.stat (v2), total_cache (v1)"
        absent "the memory controller is not enabled for the cgroup" ;
    MEMORY_SWAP = Gauge Container Memory "container_memory_swap" [] Bytes
        "Swap used, in bytes."
        source "memory.swap.current (v2), total_swap of memory.stat (v1)"
        absent "the kernel does not account swap" system "system.paging.usage" ["system.paging.state" = "used"] ;
    MEMORY_MAPPED_FILE = Gauge Container Memory "container_memory_mapped_file" [] Bytes
        "File pages mapped into processes, in bytes."
        source "file_mapped of memory.stat (v2), total_mapped_file (v1)"
        absent "the memory controller is not enabled for the cgroup" ;
    MEMORY_MAX_USAGE = Gauge Container Memory "container_memory_max_usage_bytes" [] Bytes
        "Highest memory use so far."
        source "memory.peak (v2, since Linux 5.19), memory.max_usage_in_bytes (v1)"
        absent "cgroup v2 before Linux 5.19" ;
    MEMORY_KERNEL_USAGE = Gauge Container Memory "container_memory_kernel_usage" [] Bytes
        "Kernel memory charged to the container, in bytes."
        source "kernel of memory.stat, before Linux 5.18 the sum of its parts (v2); memory.kmem.usage_in_bytes (v1); for id=\"/\" Slab, KernelStack, PageTables and Percpu of /proc/meminfo, which is also what no cgroup is charged for"
        absent "the kernel does not tell" ;
    MEMORY_ACTIVE_FILE = Gauge Container Memory "container_memory_total_active_file_bytes" [] Bytes
        "File cache on the active list."
        source "active_file of memory.stat (v2), total_active_file (v1)"
        absent "the memory controller is not enabled for the cgroup" ;
    MEMORY_INACTIVE_FILE = Gauge Container Memory "container_memory_total_inactive_file_bytes" [] Bytes
        "File cache on the inactive list."
        source "inactive_file of memory.stat (v2), total_inactive_file (v1)"
        absent "the memory controller is not enabled for the cgroup" ;
    MEMORY_FILE_DIRTY = Gauge Container Memory "container_memory_file_dirty_bytes" [] Bytes
        "File cache that waits to be written."
        source "file_dirty of memory.stat (v2), total_dirty (v1)"
        absent "the kernel does not tell" ;
    MEMORY_FILE_WRITEBACK = Gauge Container Memory "container_memory_file_writeback_bytes" [] Bytes
        "File cache that is being written."
        source "file_writeback of memory.stat (v2), total_writeback (v1)"
        absent "the kernel does not tell" ;
    MEMORY_FAILURES = Counter Container Memory "container_memory_failures_total" ["failure_type", "scope"] Count
        "Page faults: failure_type pgfault or pgmajfault; scope container counts the cgroup's own processes, hierarchy those below it too."
        source "pgfault and pgmajfault of memory.stat; v2 tells the hierarchy alone, v1 both"
        absent "the memory controller is not enabled for the cgroup" otel "container.paging.faults" system "system.paging.faults" ;
    MEMORY_EVENTS_HIGH = Counter Container Memory "container_memory_events_high_total" [] Count
        "Times the container was throttled for going over memory.high."
        source "high of memory.events (v2)"
        absent "cgroup v1" ;
    MEMORY_EVENTS_MAX = Counter Container Memory "container_memory_events_max_total" [] Count
        "Times the container's memory use was about to go over its limit."
        source "max of memory.events (v2), memory.failcnt (v1)"
        absent "the memory controller is not enabled for the cgroup" ;
    MEMORY_FAILCNT = Counter Container Memory "container_memory_failcnt" [] Count
        "Times the memory limit was hit."
        source "max of memory.events (v2), memory.failcnt (v1)"
        absent "without --profile cadvisor" profile Cadvisor ;
    MEMORY_PGSCAN = Counter Container Memory "container_memory_pgscan_total" [] Count
        "Pages scanned by reclaim."
        source "pgscan of memory.stat (v2)"
        absent "cgroup v1" ;
    MEMORY_PGSTEAL = Counter Container Memory "container_memory_pgsteal_total" [] Count
        "Pages taken back by reclaim."
        source "pgsteal of memory.stat (v2)"
        absent "cgroup v1" ;
    MEMORY_REFAULT_FILE = Counter Container Memory "container_memory_workingset_refault_file_total" [] Count
        "File pages that were evicted and needed again."
        source "workingset_refault_file of memory.stat (v2), before Linux 5.9 workingset_refault; total_workingset_refault_file (v1, since 6.0)"
        absent "the kernel does not tell" ;
    MEMORY_REFAULT_ANON = Counter Container Memory "container_memory_workingset_refault_anon_total" [] Count
        "Anonymous pages that were swapped out and needed again."
        source "workingset_refault_anon of memory.stat (v2), total_workingset_refault_anon (v1, since 6.0)"
        absent "the kernel does not tell" ;
    OOM_EVENTS = Counter Container Memory "container_oom_events_total" [] Count
        "Processes of the container that the OOM killer killed."
        source "oom_kill of memory.events (v2), oom_kill of memory.oom_control (v1)"
        absent "the memory controller is not enabled for the cgroup" ;
    MEMORY_ALLOCATED = Gauge Container Memory "kina_container_memory_allocated_bytes" [] Bytes
        "Memory the container may use: its limit, or its VM's memory."
        source "memory.max (v2); memory.limit_in_bytes if below the host's memory (v1); the VM's configuration"
        absent "no limit is set" ;
    MEMORY_AVAILABLE = Gauge Container Memory "kina_container_memory_available_bytes" [] Bytes
        "Allocated memory less the working set: what the container may still take."
        source "kina_container_memory_allocated_bytes and container_memory_working_set_bytes, at least 0"
        absent "no limit is set" otel "container.memory.available" system "kina.host.memory.available" ;
    MEMORY_KIND = Gauge Container Memory "kina_container_memory_bytes" ["kind"] Bytes
        "Memory by what it is for: process, shared_libraries, page_cache, guest_kernel, vm_overhead."
        source "memory.stat and, for vm_overhead, the private memory (Private_Clean + Private_Dirty of smaps_rollup, looked at once a minute) of runtime processes that exist for this container alone; on macOS what the VM's process holds beyond what its guest uses"
        absent "vm_overhead: no such process, or not permitted to read it" ;
    MEMORY_EFFICIENCY = Gauge Container Memory "kina_container_memory_efficiency_ratio" [] Ratio
        "(process + shared_libraries) ÷ allocated memory."
        source "kina_container_memory_bytes and kina_container_memory_allocated_bytes"
        absent "no limit is set" ;

    // ---- The VM around a container -------------------------------------------------------------------------------
    VM_INFO = Info Container Vm "kina_container_vm_info" ["cpus", "memory_bytes", "swap", "kernel", "devices"] Count
        "What the container's VM was started with."
        source "the runtime's API"
        absent "the container has no VM of its own" ;
    VM_HOST_MEMORY = Gauge Container Vm "kina_vm_host_memory_bytes" [] Bytes
        "Memory that the VM's process holds on the host."
        source "the VM process's footprint"
        absent "the container has no VM of its own" ;
    VM_GUEST_USED = Gauge Container Vm "kina_vm_guest_used_memory_bytes" [] Bytes
        "Memory that the guest uses of what its VM's process holds."
        source "inside the guest: MemTotal − MemFree"
        absent "the container has no VM of its own, or the guest does not tell" ;

    RUNTIME_INFO = Info Host Vm "kina_runtime_info" ["runtime", "component", "version"] Count
        "A part of a runtime and its version."
        source "container system version, once a minute"
        absent "no such runtime, or one that does not tell (Apple's container before 0.10)" ;
    RUNTIME_NETWORK_INFO = Info Host Vm "kina_runtime_network_info" ["runtime", "network", "mode", "ipv4_subnet", "ipv6_subnet"] Count
        "A network of a runtime."
        source "container network list, once a minute"
        absent "no such runtime, or one without networks (Apple's container on macOS 15)" ;
    RUNTIME_DISK = Gauge Host Vm "kina_runtime_disk_bytes" ["runtime", "kind"] Bytes
        "Bytes on disk that a runtime holds, by kind: containers, images, volumes."
        source "container system df, at runtime.apple.disk-interval"
        absent "runtime.apple.disk-interval is not set" ;
    RUNTIME_DISK_RECLAIMABLE = Gauge Host Vm "kina_runtime_disk_reclaimable_bytes" ["runtime", "kind"] Bytes
        "Those of them that nothing uses."
        source "container system df, at runtime.apple.disk-interval"
        absent "runtime.apple.disk-interval is not set" ;

    // ---- CPU -----------------------------------------------------------------------------------------------------
    CPU_USAGE = Counter Container Cpu "container_cpu_usage_seconds_total" ["cpu"] Seconds
        "CPU time used; cpu is always total."
        source "usage_usec of cpu.stat (v2), cpuacct.usage (v1); of a Mac as a whole host_statistics"
        absent "the CPU is not accounted for the cgroup" ;
    CPU_USER = Counter Container Cpu "container_cpu_user_seconds_total" [] Seconds
        "CPU time used in user mode."
        source "user_usec of cpu.stat (v2), user of cpuacct.stat (v1); of a Mac as a whole host_statistics, nice included"
        absent "the CPU is not accounted for the cgroup" otel "container.cpu.time" ["cpu.mode" = "user"] system "system.cpu.time" ["cpu.mode" = "user"] ;
    CPU_SYSTEM = Counter Container Cpu "container_cpu_system_seconds_total" [] Seconds
        "CPU time used in the kernel."
        source "system_usec of cpu.stat (v2), system of cpuacct.stat (v1); of a Mac as a whole host_statistics"
        absent "the CPU is not accounted for the cgroup" otel "container.cpu.time" ["cpu.mode" = "system"] system "system.cpu.time" ["cpu.mode" = "system"] ;
    CPU_CFS_PERIODS = Counter Container Cpu "container_cpu_cfs_periods_total" [] Count
        "Enforcement periods that have elapsed."
        source "nr_periods of cpu.stat"
        absent "no CPU quota is set" ;
    CPU_CFS_THROTTLED_PERIODS = Counter Container Cpu "container_cpu_cfs_throttled_periods_total" [] Count
        "Enforcement periods in which the container was throttled."
        source "nr_throttled of cpu.stat"
        absent "no CPU quota is set" ;
    CPU_CFS_THROTTLED_SECONDS = Counter Container Cpu "container_cpu_cfs_throttled_seconds_total" [] Seconds
        "Time the container was throttled, over all its CPUs."
        source "throttled_usec (v2), throttled_time (v1) of cpu.stat"
        absent "no CPU quota is set" ;
    CPU_CFS_BURST_PERIODS = Counter Container Cpu "container_cpu_cfs_burst_periods_total" [] Count
        "Enforcement periods in which the container used burst."
        source "nr_bursts of cpu.stat"
        absent "no CPU quota is set, or before Linux 5.15" ;
    CPU_CFS_BURST_SECONDS = Counter Container Cpu "container_cpu_cfs_burst_seconds_total" [] Seconds
        "CPU time used above the quota in burst."
        source "burst_usec (v2), burst_time (v1) of cpu.stat"
        absent "no CPU quota is set, or before Linux 5.15" ;
    CPU_ALLOCATED = Gauge Container Cpu "kina_container_cpu_allocated_cores" [] Cores
        "Cores the container may use: quota ÷ period, else the CPUs of its effective cpuset, or its VM's."
        source "cpu.max, cpuset.cpus.effective (v2); cpu.cfs_quota_us ÷ cpu.cfs_period_us, cpuset.effective_cpus (v1); else the online CPUs"
        absent "neither quota nor CPUs can be read" ;
    CPU_CAPACITY = Counter Container Cpu "kina_container_cpu_capacity_seconds_total" [] Seconds
        "Allocated cores integrated over time since the exporter first saw the container."
        source "kina_container_cpu_allocated_cores × the time between collections"
        absent "the allocation is not known" ;
    CPU_IDLE = Counter Container Cpu "kina_container_cpu_idle_seconds_total" [] Seconds
        "Allocated core time that was not used, since the exporter first saw the container."
        source "capacity − usage between collections, each step at least 0"
        absent "the allocation is not known" ;
    CPU_AFFINITY = Gauge Container Cpu "kina_container_cpu_affinity_cores" ["core_type"] Cores
        "CPUs the container may run on, by core type: performance, efficiency, or uniform where the host has one kind."
        source "cpuset.cpus.effective against the host's topology; of a VM its guest's, whose CPUs are alike"
        absent "the cpuset can't be read" ;
    CPU_CORE_TYPE_SECONDS = Counter Container Cpu "kina_container_cpu_core_type_seconds_total" ["core_type"] Seconds
        "CPU time by the type of core it was used on."
        source "cpuacct.usage_percpu (v1); the VM process's P-core time (macOS)"
        absent "cgroup v2, which does not account by CPU" ;
    CONTEXT_SWITCHES = Counter Container Process "kina_container_context_switches_total" ["kind"] Count
        "Context switches of the container's threads: all where the kernel counts them, else voluntary and involuntary. A container has the one or the others, so their sum is right either way."
        source "a counter of the cgroup a CPU, from when the exporter saw the container (perf_event_open(2), PERF_COUNT_SW_CONTEXT_SWITCHES), where permitted and no dearer; else /proc/PID/task/TID/status, counted on as threads come and go; ctxt of /proc/stat for the whole machine"
        absent "not counted by the kernel and a process with more than 1024 threads or more than 2048 processes, or the collector is off" ;

    // ---- Pressure ------------------------------------------------------------------------------------------------
    PRESSURE_CPU_WAITING = Counter Container Pressure "container_pressure_cpu_waiting_seconds_total" [] Seconds
        "Time in which some task waited for a CPU."
        source "some total of cpu.pressure (v2)"
        absent "no pressure files: cgroup v1, CONFIG_PSI off or psi=0" ;
    PRESSURE_CPU_STALLED = Counter Container Pressure "container_pressure_cpu_stalled_seconds_total" [] Seconds
        "Time in which all tasks waited for a CPU."
        source "full total of cpu.pressure (v2)"
        absent "no pressure files, or before Linux 5.13" ;
    PRESSURE_MEMORY_WAITING = Counter Container Pressure "container_pressure_memory_waiting_seconds_total" [] Seconds
        "Time in which some task waited for memory."
        source "some total of memory.pressure (v2)"
        absent "no pressure files" ;
    PRESSURE_MEMORY_STALLED = Counter Container Pressure "container_pressure_memory_stalled_seconds_total" [] Seconds
        "Time in which all tasks waited for memory."
        source "full total of memory.pressure (v2)"
        absent "no pressure files" ;
    PRESSURE_IO_WAITING = Counter Container Pressure "container_pressure_io_waiting_seconds_total" [] Seconds
        "Time in which some task waited for I/O."
        source "some total of io.pressure (v2)"
        absent "no pressure files" ;
    PRESSURE_IO_STALLED = Counter Container Pressure "container_pressure_io_stalled_seconds_total" [] Seconds
        "Time in which all tasks waited for I/O."
        source "full total of io.pressure (v2)"
        absent "no pressure files" ;

    // ---- Network -------------------------------------------------------------------------------------------------
    NET_RX_BYTES = Counter Container Network "container_network_receive_bytes_total" ["interface"] Bytes
        "Bytes received."
        source "/proc/PID/net/dev of the container's network namespace"
        absent "the container shares the host's network, which is told at id=\"/\" alone, or another container's, which tells it once" otel "container.network.io" ["network.io.direction" = "receive"] system "system.network.io" ["network.io.direction" = "receive"] ;
    NET_RX_PACKETS = Counter Container Network "container_network_receive_packets_total" ["interface"] Count
        "Packets received."
        source "/proc/PID/net/dev" absent "the container shares the host's network, which is told at id=\"/\" alone, or another container's, which tells it once" system "system.network.packet.count" ["network.io.direction" = "receive"] ;
    NET_RX_DROPPED = Counter Container Network "container_network_receive_packets_dropped_total" ["interface"] Count
        "Packets dropped while receiving."
        source "/proc/PID/net/dev" absent "the container shares the host's network, which is told at id=\"/\" alone, or another container's, which tells it once" system "system.network.packet.dropped" ["network.io.direction" = "receive"] ;
    NET_RX_ERRORS = Counter Container Network "container_network_receive_errors_total" ["interface"] Count
        "Errors while receiving."
        source "/proc/PID/net/dev" absent "the container shares the host's network, which is told at id=\"/\" alone, or another container's, which tells it once" system "system.network.errors" ["network.io.direction" = "receive"] ;
    NET_TX_BYTES = Counter Container Network "container_network_transmit_bytes_total" ["interface"] Bytes
        "Bytes sent."
        source "/proc/PID/net/dev"
        absent "the container shares the host's network, which is told at id=\"/\" alone, or another container's, which tells it once" otel "container.network.io" ["network.io.direction" = "transmit"] system "system.network.io" ["network.io.direction" = "transmit"] ;
    NET_TX_PACKETS = Counter Container Network "container_network_transmit_packets_total" ["interface"] Count
        "Packets sent."
        source "/proc/PID/net/dev" absent "the container shares the host's network, which is told at id=\"/\" alone, or another container's, which tells it once" system "system.network.packet.count" ["network.io.direction" = "transmit"] ;
    NET_TX_DROPPED = Counter Container Network "container_network_transmit_packets_dropped_total" ["interface"] Count
        "Packets dropped while sending."
        source "/proc/PID/net/dev" absent "the container shares the host's network, which is told at id=\"/\" alone, or another container's, which tells it once" system "system.network.packet.dropped" ["network.io.direction" = "transmit"] ;
    NET_TX_ERRORS = Counter Container Network "container_network_transmit_errors_total" ["interface"] Count
        "Errors while sending."
        source "/proc/PID/net/dev" absent "the container shares the host's network, which is told at id=\"/\" alone, or another container's, which tells it once" system "system.network.errors" ["network.io.direction" = "transmit"] ;
    NET_LINK_SPEED = Gauge Container Network "kina_container_network_link_speed_bytes_per_second" ["interface"] BytesPerSecond
        "Speed of the container's link."
        source "ethtool link settings in the namespace, read when an interface comes; else network.link-speed, which also stands for a veth's nominal 10 Gb/s"
        absent "the interface has no speed (bridge, tunnel, virtio) or may not be asked, and none is configured" system "hw.network.bandwidth.limit" ;
    TCP_SENT_SEGMENTS = Counter Container Network "kina_container_tcp_sent_segments_total" [] Count
        "TCP segments sent, retransmissions not counted."
        source "Tcp OutSegs of /proc/PID/net/snmp, which leaves out segments of retransmitted octets alone (RFC 1213)"
        absent "the container shares the host's network, which is told at id=\"/\" alone, or another container's, which tells it once" ;
    TCP_RETRANSMITTED_SEGMENTS = Counter Container Network "kina_container_tcp_retransmitted_segments_total" [] Count
        "TCP segments sent again."
        source "Tcp RetransSegs of /proc/PID/net/snmp"
        absent "the container shares the host's network, which is told at id=\"/\" alone, or another container's, which tells it once" ;
    TCP_CONNECTIONS = Gauge Container Socket "kina_container_tcp_connections" ["state"] Count
        "TCP sockets by state."
        source "inet_diag (netlink sock_diag) in the container's network namespace"
        absent "not permitted to enter the namespace (CAP_SYS_ADMIN, CAP_SYS_PTRACE), the kernel lacks INET_DIAG, or as container_network_receive_bytes_total" system "system.network.connection.count" ["network.transport" = "tcp"] ;
    NETWORK_TCP_USAGE = Gauge Container Socket "container_network_tcp_usage_total" ["tcp_state"] Count
        "TCP sockets by state, under cAdvisor's name."
        source "inet_diag (netlink sock_diag) in the container's network namespace"
        absent "without --profile cadvisor" profile Cadvisor ;
    NETWORK_RTT = Histogram Container Socket "kina_container_network_rtt_seconds" [] Seconds
        "Smoothed round-trip time of established TCP connections, one observation a connection and collection."
        source "tcpi_rtt of tcp_info, from an inet_diag dump; connections over loopback are left out"
        absent "as kina_container_tcp_connections" buckets RTT_BUCKETS ;
    PEER_CONNECTIONS = Gauge Container Socket "kina_container_peer_connections" ["peer"] Count
        "Established connections to another container, named by its name, else its id; a pod by namespace/pod."
        source "remote addresses of an inet_diag dump against the other containers' own, as their namespaces and runtimes tell them"
        absent "no connection to another container by its own address (a service address or published port hides it), or beyond the 50 peers with the most" ;
    NETWORK_FANOUT = Gauge Container Socket "kina_container_network_fanout" [] Count
        "Distinct other containers that the container has established connections to."
        source "as kina_container_peer_connections, without its limit"
        absent "as kina_container_tcp_connections; the machine itself, id=\"/\", has none" ;

    // ---- Storage -------------------------------------------------------------------------------------------------
    FS_READS = Counter Container Storage "container_fs_reads_total" ["device"] Count
        "Reads completed."
        source "rios of io.stat (v2), blkio.throttle.io_serviced (v1); /proc/diskstats for id=\"/\""
        absent "the container has done no block I/O on the device; cgroup v1 since Linux 6.10 counts only devices that a throttling rule names" ;
    FS_WRITES = Counter Container Storage "container_fs_writes_total" ["device"] Count
        "Writes completed."
        source "wios of io.stat (v2), blkio.throttle.io_serviced (v1); /proc/diskstats for id=\"/\""
        absent "the container has done no block I/O on the device; cgroup v1 since Linux 6.10 counts only devices that a throttling rule names" ;
    FS_READS_BYTES = Counter Container Storage "container_fs_reads_bytes_total" ["device"] Bytes
        "Bytes read."
        source "rbytes of io.stat (v2), blkio.throttle.io_service_bytes (v1); /proc/diskstats for id=\"/\""
        absent "the container has done no block I/O on the device; cgroup v1 since Linux 6.10 counts only devices that a throttling rule names" otel "container.disk.io" ["disk.io.direction" = "read"] system "system.disk.io" ["disk.io.direction" = "read"] ;
    FS_WRITES_BYTES = Counter Container Storage "container_fs_writes_bytes_total" ["device"] Bytes
        "Bytes written."
        source "wbytes of io.stat (v2), blkio.throttle.io_service_bytes (v1); /proc/diskstats for id=\"/\""
        absent "the container has done no block I/O on the device; cgroup v1 since Linux 6.10 counts only devices that a throttling rule names" otel "container.disk.io" ["disk.io.direction" = "write"] system "system.disk.io" ["disk.io.direction" = "write"] ;
    FS_USAGE = Gauge Container Host "container_fs_usage_bytes" ["device"] Bytes
        "Bytes used on a file system of the host; only on the series with id=\"/\"."
        source "statfs of the mount points of /proc/1/mountinfo that are on local devices, each device once"
        absent "the file system is a network's, a process's (FUSE), memory or a read-only image, or can't be seen from the exporter" otel "container.filesystem.usage" system "system.filesystem.usage" ["system.filesystem.state" = "used"] ;
    FS_LIMIT = Gauge Container Host "container_fs_limit_bytes" ["device"] Bytes
        "Size of a file system of the host; only on the series with id=\"/\"."
        source "statfs" absent "no file system can be asked" otel "container.filesystem.capacity" system "system.filesystem.limit" ;
    FS_INODES_FREE = Gauge Container Host "container_fs_inodes_free" ["device"] Count
        "Free inodes of a file system of the host; only on the series with id=\"/\"."
        source "statfs" absent "the file system has no fixed number of inodes" ;
    FS_INODES_TOTAL = Gauge Container Host "container_fs_inodes_total" ["device"] Count
        "Inodes of a file system of the host; only on the series with id=\"/\"."
        source "statfs" absent "without --profile cadvisor" profile Cadvisor ;
    STORAGE_LATENCY = Histogram Container Storage "kina_container_storage_latency_seconds" ["op"] Seconds
        "Time from issue to completion of block requests that the container caused."
        source "eBPF block tracepoints; a VM's own disk statistics"
        absent "eBPF is off or not permitted, and the container has no VM of its own" buckets STORAGE_BUCKETS ;
    STORAGE_QUEUE_DEPTH = Gauge Container Storage "kina_container_storage_queue_depth" [] Count
        "Block requests of the container in flight."
        source "eBPF block tracepoints; a VM's own disk statistics"
        absent "eBPF is off or not permitted, and the container has no VM of its own" ;
    STORAGE_LOGICAL_READ = Counter Container Process "kina_container_storage_logical_read_bytes_total" [] Bytes
        "Bytes that the container's processes asked to read, from cache or device, sockets and pipes included."
        source "rchar of /proc/PID/io, summed over the container's processes as they come and go"
        absent "not permitted to read /proc/PID/io (CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH), or no task I/O accounting" ;
    DEVICE_IO_LATENCY = Summary Host Device "kina_device_io_latency_seconds" ["device", "op"] Seconds
        "Time block requests took on the device, queueing included; the mean is rate(_sum) ÷ rate(_count)."
        source "/proc/diskstats fields 4 and 1 (read), 8 and 5 (write)"
        absent "the device has done no I/O" otel "system.disk.operation_time" count "system.disk.operations" ;
    DEVICE_QUEUE_DEPTH = Gauge Host Device "kina_device_queue_depth" ["device"] Count
        "Block requests in flight on the device."
        source "/proc/diskstats field 9"
        absent "the host has no such device" ;

    // ---- Processes -----------------------------------------------------------------------------------------------
    PROCESSES = Gauge Container Process "container_processes" [] Count
        "Processes in the container."
        source "cgroup.procs, cgroups below it included"
        absent "the processes can't be listed" ;
    THREADS = Gauge Container Process "container_threads" [] Count
        "Threads in the container."
        source "pids.current"
        absent "the pids controller is not enabled for the cgroup" ;
    THREADS_MAX = Gauge Container Process "container_threads_max" [] Count
        "Limit on threads, 0 when unlimited."
        source "pids.max"
        absent "the pids controller is not enabled for the cgroup" ;
    FILE_DESCRIPTORS = Gauge Container Process "container_file_descriptors" [] Count
        "Open file descriptors of the container's processes."
        source "the size of /proc/PID/fd (Linux 6.2 and later), else its entries"
        absent "not permitted to read /proc/PID/fd" ;

    // ---- The machine ---------------------------------------------------------------------------------------------
    MACHINE_MEMORY = Gauge Host Host "machine_memory_bytes" [] Bytes
        "Memory of the machine." source "MemTotal of /proc/meminfo; hw.memsize on macOS" absent "never" otel "system.memory.limit" ;
    MACHINE_SWAP = Gauge Host Host "machine_swap_bytes" [] Bytes
        "Swap of the machine." source "SwapTotal of /proc/meminfo; vm.swapusage on macOS" absent "never" ;
    MACHINE_CPU_CORES = Gauge Host Host "machine_cpu_cores" [] Count
        "Logical CPUs that are online." source "/sys/devices/system/cpu/online; hw.activecpu on macOS" absent "never" otel "system.cpu.logical.count" ;
    MACHINE_CPU_PHYSICAL_CORES = Gauge Host Host "machine_cpu_physical_cores" [] Count
        "Physical cores." source "/sys/devices/system/cpu/cpuN/topology; hw.physicalcpu on macOS" absent "the topology can't be read" otel "system.cpu.physical.count" ;
    HOST_CPU_CORES = Gauge Host Host "kina_host_cpu_cores" ["core_type"] Cores
        "Cores by type: performance, efficiency, or uniform where the host has one kind."
        source "cpuN/topology/thread_siblings_list; types by /sys/devices/cpu_core and cpu_atom, else cpu_capacity; hw.perflevelN.physicalcpu on macOS"
        absent "never" ;
    HOST_CORE_UTILIZATION = Gauge Host Cpu "kina_host_core_utilization_ratio" ["core", "core_type"] Ratio
        "Share of the time since the previous collection that a core was busy."
        source "host_processor_info on macOS; the core's type by cluster-type of its device tree entry"
        absent "not macOS (on Linux container_cpu_usage_seconds_total with id=\"/\" tells of all cores together), or the first collection" ;
    HOST_THERMAL_STATE = Gauge Host Thermal "kina_host_thermal_state" ["state"] Count
        "Thermal state as a state set: exactly one of nominal, fair, serious, critical is 1."
        source "thermal zones: fair from the passive trip point or while cores are throttled, serious from the hot one or 5 °C below the critical, critical from there; thermal pressure on macOS"
        absent "the machine shows no thermal zone with a trip point" ;
    HOST_ENERGY = Counter Host Energy "kina_host_energy_joules_total" ["domain"] Joules
        "Energy used, by RAPL domain (package-0, dram-0 …), on macOS by part of the machine: cpu, gpu, ane, dram, system."
        source "/sys/class/powercap/*/energy_uj, wrap-around handled; IOReport's energy model and, for system, the SMC's power on macOS, read every five seconds"
        absent "no RAPL, or not permitted to read it; macOS does not tell it, or was asked less than five seconds ago for the first time" otel "hw.energy" ;
    CONTAINER_ENERGY = Counter Container Energy "kina_container_energy_joules_total" [] Joules
        "The container's share of the energy of the machine's packages, by busy CPU time."
        source "RAPL package energy × the container's share of the machine's busy time, idle power included; per-process energy on macOS"
        absent "as kina_host_energy_joules_total, or CPU time is not collected" ;

    // ---- Targets and advice --------------------------------------------------------------------------------------
    TARGET = Gauge Exporter Advice "kina_target" ["target"] Count
        "The value in force of an optimisation target, in base units."
        source "the configuration, else the built-in targets" absent "never" ;
    RECOMMENDATION = Gauge Container Advice "kina_recommendation" ["domain", "action"] Count
        "1 while a recommendation holds."
        source "advice over the current measures" absent "nothing is recommended" ;
    RECOMMENDATION_CURRENT = Gauge Container Advice "kina_recommendation_current" ["domain", "action"] Count
        "The figure that a recommendation would change, as it is."
        source "advice over the current measures" absent "the recommendation has no figure" ;
    RECOMMENDATION_RECOMMENDED = Gauge Container Advice "kina_recommendation_recommended" ["domain", "action"] Count
        "The figure that a recommendation would change, as it should be."
        source "advice over the current measures" absent "the recommendation has no figure" ;
    RECOMMENDATION_SAVINGS = Gauge Container Advice "kina_recommendation_estimated_savings_bytes" ["domain", "action"] Bytes
        "Memory that following a recommendation would free, estimated."
        source "advice over the current measures" absent "the recommendation saves no memory" ;

    // ---- The exporter itself -------------------------------------------------------------------------------------
    BUILD_INFO = Info Exporter Exporter "kina_exporter_build_info" ["version", "revision", "rustc", "os", "arch"] Count
        "The exporter's build." source "the build" absent "never" ;
    COLLECTOR_DURATION = Gauge Exporter Exporter "kina_scrape_collector_duration_seconds" ["collector"] Seconds
        "How long a collector took in this collection."
        source "CLOCK_BOOTTIME" absent "the collector is off or was not asked" ;
    COLLECTOR_SUCCESS = Gauge Exporter Exporter "kina_scrape_collector_success" ["collector"] Count
        "1 when the collector failed nowhere; a thing that is not on this host is no failure."
        source "the collection" absent "the collector is off or was not asked" ;
    READ_ERRORS = Counter Exporter Exporter "kina_read_errors_total" ["collector", "kind"] Count
        "Reads that failed, by kind: denied, malformed, io."
        source "errno of the read" absent "no read has failed" ;
    COLLECTOR_LAST_SUCCESS = Gauge Exporter Exporter "kina_collector_last_success_timestamp_seconds" ["collector"] Seconds
        "When a source that is read in the background last answered, in seconds since the Unix epoch."
        source "the exporter's clock" absent "no source is read in the background" ;
    CAPABILITY = Gauge Exporter Exporter "kina_capability" ["capability", "reason"] Count
        "1 when this host offers it; 0 with the reason when not."
        source "probing at start and on reload" absent "never" ;
    DROPPED_SERIES = Counter Exporter Exporter "kina_dropped_series_total" ["reason"] Count
        "Series that a limit dropped." source "the exporter's limits" absent "no limit has dropped a series" ;
    RUNTIME_EVENTS = Counter Exporter Exporter "kina_runtime_events_total" ["runtime"] Count
        "Events received from a runtime." source "the runtime's event stream" absent "no event has been received" ;
    CONFIG_RELOAD_SUCCESS = Gauge Exporter Exporter "kina_config_last_reload_successful" [] Count
        "1 when the last reading of the configuration file succeeded."
        source "the exporter" absent "no configuration file is used" ;
    CONFIG_RELOAD_TIME = Gauge Exporter Exporter "kina_config_last_reload_success_timestamp_seconds" [] Seconds
        "When the configuration file was last read with success, in seconds since the Unix epoch."
        source "the exporter's clock" absent "no configuration file is used" ;
    HTTP_REQUESTS = Counter Exporter Exporter "kina_http_requests_total" ["handler", "code"] Count
        "HTTP requests answered." source "the exporter's server" absent "no request has been answered" ;
    WEB_CONFIG_FAILURES = Counter Exporter Exporter "kina_web_config_reload_failures_total" [] Count
        "Changed web configuration files that were bad, so that the configuration in force stayed."
        source "the exporter's server" absent "no changed web configuration file was bad" ;
    OTLP_SENT = Counter Exporter Exporter "kina_otlp_sent_items_total" ["signal"] Count
        "Data points (signal metrics) and spans (signal traces) that the OTLP receiver took."
        source "the receiver's answers" absent "nothing is pushed" ;
    OTLP_FAILED = Counter Exporter Exporter "kina_otlp_failed_items_total" ["signal", "reason"] Count
        "Data points and spans that the OTLP receiver will not take: rejected (a part of a request), refused (the whole of it)."
        source "the receiver's answers" absent "nothing has failed" ;
    OTLP_DROPPED = Counter Exporter Exporter "kina_otlp_dropped_items_total" ["signal", "reason"] Count
        "Data points and spans given up before they were sent: queue_full (the receiver was away for too long), buffer_full (more spans of the exporter's own work than could be gathered), shutdown."
        source "the exporter's queue" absent "nothing has been dropped" ;
    OTLP_QUEUE = Gauge Exporter Exporter "kina_otlp_queue_requests" ["signal"] Count
        "Requests that wait for the OTLP receiver."
        source "the exporter's queue" absent "nothing is pushed" ;
    OTLP_DURATION = Histogram Exporter Exporter "kina_otlp_request_duration_seconds" ["signal"] Seconds
        "How long the OTLP receiver took to answer, one observation a request."
        source "the exporter's clock" absent "nothing is pushed" buckets STARTUP_BUCKETS ;
    PROCESS_CPU = Counter Exporter Exporter "process_cpu_seconds_total" [] Seconds
        "CPU time the exporter used." source "getrusage(RUSAGE_SELF)" absent "never" otel "process.cpu.time" ;
    PROCESS_RESIDENT = Gauge Exporter Exporter "process_resident_memory_bytes" [] Bytes
        "Resident memory of the exporter." source "/proc/self/statm; sysinfo on macOS" absent "neither tells" otel "process.memory.usage" ;
    PROCESS_VIRTUAL = Gauge Exporter Exporter "process_virtual_memory_bytes" [] Bytes
        "Virtual memory of the exporter." source "/proc/self/statm; sysinfo on macOS" absent "neither tells" otel "process.memory.virtual" ;
    PROCESS_OPEN_FDS = Gauge Exporter Exporter "process_open_fds" [] Count
        "Open file descriptors of the exporter." source "the size of /proc/self/fd (Linux 6.2 and later), else its entries; /dev/fd on macOS" absent "neither can be listed" otel "process.unix.file_descriptor.count" ;
    PROCESS_MAX_FDS = Gauge Exporter Exporter "process_max_fds" [] Count
        "Limit on the exporter's file descriptors." source "getrlimit(RLIMIT_NOFILE)" absent "never" ;
    PROCESS_START_TIME = Gauge Exporter Exporter "process_start_time_seconds" [] Seconds
        "When the exporter started, in seconds since the Unix epoch." source "the exporter's clock" absent "never" otel "process.uptime" ;
}
