//! What rules look at, of one container and one collection. Rates are over the time since the collection before.

use std::sync::Arc;

use crate::root::{Nanos, SECOND};
use crate::snapshot::{ContainerFacts, DeviceFacts, HostFacts};

/// What a rule may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    LastStart,
    ImageSize,
    ImageLayers,
    Vm,
    MemoryEfficiency,
    PageCacheShare,
    ColdMemory,
    MemoryPressure,
    CpuIntensity,
    CpuEfficiency,
    CoreTypes,
    PowerEfficiency,
    Fanout,
    RoundTrip,
    Bandwidth,
    Iops,
    Throughput,
    CacheHitRate,
    IoLatency,
    Thermal,
}

impl Measure {
    /// What it is, and what it takes to have it.
    pub fn about(self) -> &'static str {
        match self {
            Self::LastStart => "the duration of its last start (it started before the exporter, or no runtime tells)",
            Self::ImageSize => "the size of its image (no runtime tells)",
            Self::ImageLayers => "the layers of its image (no runtime tells)",
            Self::Vm => "a VM of its own",
            Self::MemoryEfficiency => "a memory limit, or a VM with a size",
            Self::PageCacheShare => "a memory limit, or a VM with a size",
            Self::ColdMemory => "inactive anonymous memory (the memory controller)",
            Self::MemoryPressure => "memory pressure (PSI, cgroup v2)",
            Self::CpuIntensity => "user CPU time against allocated cores, over two collections",
            Self::CpuEfficiency => "CPU time against allocated cores, over two collections",
            Self::CoreTypes => "a host with performance and efficiency cores",
            Self::PowerEfficiency => "energy counters (RAPL, or macOS)",
            Self::Fanout => "its connections (sock_diag, CAP_SYS_ADMIN)",
            Self::RoundTrip => "round-trip times of its connections (sock_diag, CAP_SYS_ADMIN)",
            Self::Bandwidth => "the speed of its link (set network.link-speed)",
            Self::Iops => "block I/O counters, over two collections",
            Self::Throughput => "block I/O counters, over two collections",
            Self::CacheHitRate => "bytes its processes read and block I/O counters, over two collections",
            Self::Thermal => "the machine's thermal state (a thermal zone with a trip point, or macOS)",
            Self::IoLatency => "latency of its requests or of its devices, over two collections",
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Measures {
    pub last_start: Option<f64>,
    pub image_size: Option<f64>,
    pub image_layers: Option<f64>,
    pub vm: bool,
    pub allocated: Option<f64>,
    pub process: Option<f64>,
    pub memory_efficiency: Option<f64>,
    pub page_cache_share: Option<f64>,
    pub cold_memory: Option<f64>,
    /// Share of time in which some task waited for memory.
    pub memory_pressure: Option<f64>,
    /// Refaults a second.
    pub refaults: Option<f64>,
    /// Uncompressed ÷ compressed size: of the container's own pages in zswap, else of what the machine's zram holds.
    pub compression_ratio: Option<f64>,
    pub cpu_intensity: Option<f64>,
    pub cpu_efficiency: Option<f64>,
    pub allocated_cores: Option<f64>,
    /// Nothing but the machine's size limits its cores.
    pub whole_machine: bool,
    pub core_types: bool,
    /// CPU seconds a joule.
    pub power_efficiency: Option<f64>,
    pub fanout: Option<f64>,
    pub round_trip: Option<f64>,
    pub bandwidth: Option<f64>,
    pub iops: Option<f64>,
    pub throughput: Option<f64>,
    pub cache_hit_rate: Option<f64>,
    pub io_latency: Option<f64>,
    /// The machine tells its thermal state.
    pub thermal: bool,
}

/// Counters of the collection before, for rates that the snapshot does not have.
#[derive(Debug, Default, Clone, Copy)]
pub struct Totals {
    boot: Nanos,
    memory_waiting_us: Option<u64>,
    usage_ns: Option<u64>,
    joules: Option<f64>,
    logical_read: Option<u64>,
    device_read: Option<u64>,
    /// Seconds and requests of the container's own latency histograms.
    latency: Option<(f64, u64)>,
}

impl Totals {
    pub fn of(f: &ContainerFacts, boot: Nanos) -> Self {
        let devices = &f.storage.devices;
        let device_read = (!devices.is_empty()).then(|| devices.iter().filter_map(|d| d.read_bytes).sum());
        Self {
            boot,
            memory_waiting_us: f.pressure.memory_some_us,
            usage_ns: f.cpu.usage_ns,
            joules: f.cpu.energy_joules,
            logical_read: f.storage.logical_read_bytes,
            device_read,
            latency: f.storage.latency.as_ref().map(|l| (l[0].sum + l[1].sum, l[0].count + l[1].count)),
        }
    }
}

/// Growth of a counter; none where it fell (a restart).
fn grown(now: Option<u64>, before: Option<u64>) -> Option<f64> {
    Some(now?.checked_sub(before?)? as f64)
}

fn share(part: Option<f64>, whole: Option<f64>) -> Option<f64> {
    let whole = whole.filter(|w| *w > 0.0)?;
    Some(part? / whole)
}

impl Measures {
    pub fn of(
        f: &ContainerFacts,
        host: &HostFacts,
        before: &Totals,
        now: &Totals,
        devices: &Devices,
        last_start: Option<f64>,
    ) -> Self {
        let m = &f.memory;
        let image = &f.container.image;
        let bytes = |n: Option<u64>| n.map(|n| n as f64);
        let allocated = bytes(m.allocated);
        let cores = f.cpu.allocated_cores;
        let elapsed = (now.boot - before.boot) as f64 / SECOND as f64;
        let elapsed = (before.boot > 0 && elapsed > 0.0).then_some(elapsed);
        let cpu_seconds = grown(now.usage_ns, before.usage_ns).map(|ns| ns / 1e9);
        let joules = now.joules.zip(before.joules).map(|(n, b)| n - b);
        Self {
            last_start,
            image_size: bytes(image.size_bytes),
            image_layers: image.layers.map(f64::from),
            vm: f.container.vm.is_some(),
            allocated,
            process: bytes(m.process()),
            memory_efficiency: m.efficiency(),
            page_cache_share: share(bytes(m.page_cache()), allocated),
            cold_memory: bytes(m.inactive_anon),
            memory_pressure: share(grown(now.memory_waiting_us, before.memory_waiting_us).map(|us| us / 1e6), elapsed),
            refaults: m.refault_rate,
            compression_ratio: share(bytes(m.zswapped), bytes(m.zswap)).or(host.zram_ratio),
            cpu_intensity: share(f.cpu.user_rate_cores, cores),
            cpu_efficiency: share(f.cpu.usage_rate_cores, cores),
            allocated_cores: cores,
            whole_machine: cores.is_some() && cores == host.cpus_online.map(f64::from),
            core_types: host.cores_by_type.is_some_and(|[p, e]| p > 0 && e > 0),
            power_efficiency: share(cpu_seconds, joules),
            fanout: f.sockets.fanout.map(f64::from),
            round_trip: f.sockets.rtt_median,
            bandwidth: bandwidth(f),
            iops: f.storage.iops_rate,
            throughput: f.storage.bytes_rate,
            cache_hit_rate: share(
                grown(now.device_read, before.device_read),
                grown(now.logical_read, before.logical_read),
            )
            .map(|missed| (1.0 - missed).max(0.0)),
            thermal: host.thermal.is_some(),
            io_latency: own_latency(now, before).or_else(|| devices.latency_of(f)),
        }
    }

    pub fn has(&self, m: Measure) -> bool {
        match m {
            Measure::LastStart => self.last_start.is_some(),
            Measure::ImageSize => self.image_size.is_some(),
            Measure::ImageLayers => self.image_layers.is_some(),
            Measure::Vm => self.vm,
            Measure::MemoryEfficiency => self.memory_efficiency.is_some(),
            Measure::PageCacheShare => self.page_cache_share.is_some(),
            Measure::ColdMemory => self.cold_memory.is_some(),
            Measure::MemoryPressure => self.memory_pressure.is_some(),
            Measure::CpuIntensity => self.cpu_intensity.is_some(),
            Measure::CpuEfficiency => self.cpu_efficiency.is_some(),
            Measure::CoreTypes => self.core_types,
            Measure::PowerEfficiency => self.power_efficiency.is_some(),
            Measure::Fanout => self.fanout.is_some(),
            Measure::RoundTrip => self.round_trip.is_some(),
            Measure::Bandwidth => self.bandwidth.is_some(),
            Measure::Iops => self.iops.is_some(),
            Measure::Throughput => self.throughput.is_some(),
            Measure::CacheHitRate => self.cache_hit_rate.is_some(),
            Measure::IoLatency => self.io_latency.is_some(),
            Measure::Thermal => self.thermal,
        }
    }
}

/// The busier direction against the sum of the links' speeds.
fn bandwidth(f: &ContainerFacts) -> Option<f64> {
    let speed: u64 = f.network.interfaces.iter().filter_map(|i| i.speed_bytes_per_second).sum();
    let busier = f.network.rx_rate.into_iter().chain(f.network.tx_rate).reduce(f64::max);
    share(busier, (speed > 0).then_some(speed as f64))
}

fn own_latency(now: &Totals, before: &Totals) -> Option<f64> {
    let ((sum, count), (old_sum, old_count)) = (now.latency?, before.latency?);
    let requests = count.checked_sub(old_count).filter(|n| *n > 0)?;
    Some((sum - old_sum) / requests as f64)
}

/// Mean latency of the machine's devices since the collection before.
#[derive(Debug, Default)]
pub struct Devices(Vec<Device>);

#[derive(Debug)]
struct Device {
    name: Arc<str>,
    ms: u64,
    requests: u64,
    mean: Option<f64>,
}

impl Devices {
    pub fn update(&mut self, devices: &[DeviceFacts]) {
        for d in devices {
            let (ms, requests) = (d.read_ms.saturating_add(d.write_ms), d.reads.saturating_add(d.writes));
            match self.0.iter_mut().find(|known| known.name == d.name) {
                Some(known) => {
                    let done = requests.checked_sub(known.requests).filter(|n| *n > 0);
                    let took = ms.checked_sub(known.ms);
                    known.mean = took.zip(done).map(|(ms, n)| ms as f64 / 1e3 / n as f64);
                    (known.ms, known.requests) = (ms, requests);
                }
                None => self.0.push(Device { name: d.name.clone(), ms, requests, mean: None }),
            }
        }
        self.0.retain(|known| devices.iter().any(|d| d.name == known.name));
    }

    /// Of the slowest device that the container uses.
    fn latency_of(&self, f: &ContainerFacts) -> Option<f64> {
        let used = |d: &&Device| {
            f.storage.devices.iter().any(|u| u.device.strip_prefix("/dev/").unwrap_or(&u.device) == &*d.name)
        };
        self.0.iter().filter(used).filter_map(|d| d.mean).reduce(f64::max)
    }
}
