//! Targets, baselines and thresholds: every figure that the product stands for, once.
//!
//! Each can be overridden by its name under `targets` in the configuration file. Recording rules, alerts, dashboards,
//! advice, the benchmark and the reference are made from here. All values are in base units: seconds, bytes, ratios.

use std::collections::BTreeMap;

use crate::catalog::Unit;

/// What a figure is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// An optimisation target: recorded as actual, met and attainment, exported as `kina_target`.
    Target(Bound),
    /// What `kina-exporter bench` compares with.
    Baseline(Bound),
    /// Where advice begins, or what it recommends.
    Advice,
    /// Where an alert fires.
    Alert,
}

/// When an actual value meets a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    Below,
    AtMost,
    Above,
    AtLeast,
}

impl Bound {
    pub fn holds(self, actual: f64, figure: f64) -> bool {
        match self {
            Self::Below => actual < figure,
            Self::AtMost => actual <= figure,
            Self::Above => actual > figure,
            Self::AtLeast => actual >= figure,
        }
    }

    /// The PromQL (and plain) comparison operator.
    pub fn operator(self) -> &'static str {
        match self {
            Self::Below => "<",
            Self::AtMost => "<=",
            Self::Above => ">",
            Self::AtLeast => ">=",
        }
    }
}

/// A figure's place in the table; the constants below are the way to name one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FigureId(usize);

impl FigureId {
    pub fn figure(self) -> &'static Figure {
        &FIGURES[self.0]
    }

    pub fn name(self) -> &'static str {
        self.figure().name
    }
}

#[derive(Debug)]
pub struct Figure {
    pub name: &'static str,
    pub role: Role,
    pub unit: Unit,
    pub default: f64,
    pub about: &'static str,
}

impl Figure {
    /// A share of a whole, and not a factor.
    fn is_share(&self) -> bool {
        self.unit == Unit::Ratio && self.role != Role::Advice
    }

    /// Values that it may have.
    pub fn allowed(&self) -> &'static str {
        if self.is_share() { "a ratio between 0 and 1" } else { "a number above 0" }
    }
}

pub const KIB: f64 = 1024.0;
pub const MIB: f64 = 1024.0 * KIB;
pub const GIB: f64 = 1024.0 * MIB;
pub const MB: f64 = 1e6;

macro_rules! figures {
    ($($id:ident = $name:literal $role:expr, $unit:ident $default:expr, $about:literal;)*) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        enum Index { $($id),* }

        $(
            #[doc = $about]
            pub const $id: FigureId = FigureId(Index::$id as usize);
        )*

        const COUNT: usize = [$(Index::$id as usize),*].len();

        static FIGURES: [Figure; COUNT] = [$(
            Figure { name: $name, role: $role, unit: Unit::$unit, default: $default, about: $about }
        ),*];
    };
}

figures! {
    STARTUP_TIME_P95 = "startup_time_p95" Role::Target(Bound::Below), Seconds 0.8,
        "95th percentile of start duration over one hour";
    MEMORY_EFFICIENCY = "memory_efficiency" Role::Target(Bound::AtLeast), Ratio 0.75,
        "mean memory efficiency over five minutes";
    CPU_UTILIZATION_AVG = "cpu_utilization_avg" Role::Target(Bound::AtMost), Ratio 0.70,
        "mean share of the allocated cores in use over five minutes";
    NETWORK_LATENCY_P50 = "network_latency_p50" Role::Target(Bound::Below), Seconds 0.0005,
        "median TCP round-trip time over five minutes";
    STORAGE_LATENCY_P99 = "storage_latency_p99" Role::Target(Bound::Below), Seconds 0.01,
        "99th percentile of block request latency over five minutes";
    ERROR_RATE = "error_rate" Role::Target(Bound::Below), Ratio 0.001,
        "(failed starts + non-zero exits + OOM kills) ÷ (starts + exits) over one hour";

    BASELINE_COLD_START = "baseline_cold_start" Role::Baseline(Bound::Below), Seconds 1.0,
        "container startup, cold";
    BASELINE_WARM_START = "baseline_warm_start" Role::Baseline(Bound::Below), Seconds 0.5,
        "container startup, warm";
    BASELINE_MEMORY_OVERHEAD = "baseline_memory_overhead" Role::Baseline(Bound::AtMost), Bytes 50.0 * MB,
        "memory overhead of one container";
    BASELINE_NETWORK_LATENCY = "baseline_network_latency" Role::Baseline(Bound::Below), Seconds 0.001,
        "network latency, container to container";
    BASELINE_SEQUENTIAL_READ = "baseline_sequential_read_iops" Role::Baseline(Bound::Above), Count 50_000.0,
        "storage, sequential reads a second";
    BASELINE_SEQUENTIAL_WRITE = "baseline_sequential_write_iops" Role::Baseline(Bound::Above), Count 30_000.0,
        "storage, sequential writes a second";
    BASELINE_RANDOM_READ = "baseline_random_read_iops" Role::Baseline(Bound::Above), Count 20_000.0,
        "storage, random reads a second";
    BASELINE_RANDOM_WRITE = "baseline_random_write_iops" Role::Baseline(Bound::Above), Count 15_000.0,
        "storage, random writes a second";
    BASELINE_PERFORMANCE_CORES = "baseline_performance_core_efficiency" Role::Baseline(Bound::Above), Ratio 0.95,
        "CPU efficiency on performance cores";
    BASELINE_EFFICIENCY_CORES = "baseline_efficiency_core_efficiency" Role::Baseline(Bound::Above), Ratio 0.90,
        "CPU efficiency on efficiency cores";

    SLOW_START = "slow_start" Role::Advice, Seconds 1.5,
        "a start slower than this is analysed";
    LARGE_IMAGE = "large_image" Role::Advice, Bytes GIB,
        "an image larger than this slows starts down";
    MANY_LAYERS = "many_layers" Role::Advice, Count 20.0,
        "an image with more layers than this slows starts down";
    STARTUP_CPUS = "startup_cpus" Role::Advice, Cores 4.0,
        "virtual CPUs that a VM should start within";
    STARTUP_MEMORY = "startup_memory" Role::Advice, Bytes 2.0 * GIB,
        "memory that a VM should start within";
    LOW_MEMORY_EFFICIENCY = "low_memory_efficiency" Role::Advice, Ratio 0.6,
        "memory efficiency below this: the allocation is too large";
    ALLOCATION_FACTOR = "allocation_factor" Role::Advice, Ratio 1.5,
        "recommended allocation, as a multiple of the memory its processes hold";
    LOW_PAGE_CACHE = "low_page_cache" Role::Advice, Ratio 0.1,
        "page cache below this share of the allocation: the allocation is too small";
    ALLOCATION_STEP = "allocation_step" Role::Advice, Bytes 512.0 * MIB,
        "by how much an allocation that is too small should grow";
    SHARED_LIBRARY_SAVING = "shared_library_saving" Role::Advice, Bytes 50.0 * MIB,
        "estimated saving of each container when containers of one image share libraries";
    ALLOCATION_MINIMUM = "allocation_minimum" Role::Advice, Bytes 6.0 * MIB,
        "allocation that is never recommended to go below; Docker takes no less";
    MEMORY_PRESSURE = "memory_pressure" Role::Advice, Ratio 0.01,
        "share of time spent waiting for memory above which a container is under memory pressure";
    MEMORY_REFAULTS = "memory_refaults" Role::Advice, Count 10.0,
        "refaults a second above which evicted pages are missed";
    COLD_MEMORY = "cold_memory" Role::Advice, Bytes 64.0 * MIB,
        "inactive anonymous memory worth compressing";
    HIGH_CPU_INTENSITY = "high_cpu_intensity" Role::Advice, Ratio 0.8,
        "CPU intensity above this asks for performance cores";
    LOW_CPU_INTENSITY = "low_cpu_intensity" Role::Advice, Ratio 0.3,
        "CPU intensity below this leaves a container well placed on efficiency cores";
    LOW_CPU_EFFICIENCY = "low_cpu_efficiency" Role::Advice, Ratio 0.3,
        "CPU efficiency below this: too many cores are allocated";
    CORE_FACTOR = "core_factor" Role::Advice, Ratio 0.7,
        "recommended cores, as a multiple of those allocated";
    CORE_MINIMUM = "core_minimum" Role::Advice, Cores 0.5,
        "cores that are never recommended to go below";
    LOW_POWER_EFFICIENCY = "low_power_efficiency" Role::Advice, Count 0.05,
        "CPU seconds per joule below which power is spent badly";
    HIGH_FANOUT = "high_fanout" Role::Advice, Count 5.0,
        "peers above which a container is a hub";
    HIGH_NETWORK_LATENCY = "high_network_latency" Role::Advice, Seconds 0.01,
        "median round-trip time above this is worth reducing";
    HIGH_BANDWIDTH = "high_bandwidth_utilization" Role::Advice, Ratio 0.8,
        "share of the link speed in use above this asks for more";
    HIGH_IOPS = "high_iops" Role::Advice, Count 10_000.0,
        "reads + writes a second above this ask for tuning";
    HIGH_THROUGHPUT = "high_throughput" Role::Advice, BytesPerSecond 1000.0 * MB,
        "bytes read + written a second above this ask for tuning";
    LOW_CACHE_HIT_RATE = "low_cache_hit_rate" Role::Advice, Ratio 0.8,
        "share of reads served from the page cache below this asks for more cache";
    CACHE_SIZE = "cache_size" Role::Advice, Bytes 512.0 * MB,
        "recommended cache";
    HIGH_IO_LATENCY = "high_io_latency" Role::Advice, Seconds 0.02,
        "mean I/O latency above this is worth reducing";
    HYSTERESIS = "hysteresis" Role::Advice, Ratio 0.05,
        "how far back over its threshold a measure must go before its recommendation ends, as a share of the threshold";

    DEGRADED_START = "degraded_start" Role::Alert, Seconds 2.0,
        "mean start duration above this is an alert";
    DEGRADED_MEMORY_EFFICIENCY = "degraded_memory_efficiency" Role::Alert, Ratio 0.6,
        "memory efficiency below this is an alert";
    DEGRADED_CPU_UTILIZATION = "degraded_cpu_utilization" Role::Alert, Ratio 0.9,
        "share of the allocated cores in use above this is an alert";
    STALE_SOURCE = "stale_source" Role::Alert, Seconds 300.0,
        "a source that is read in the background and has not answered for longer than this is an alert";
    SLO_MINIMUM_EVENTS = "slo_minimum_events" Role::Alert, Count 20.0,
        "events in the longer window below which a service level is not judged";
    SLO_MINIMUM_BAD_EVENTS = "slo_minimum_bad_events" Role::Alert, Count 3.0,
        "bad events in the longer window below which a service level is not judged";
}

/// All figures, in the order in which they are documented.
pub fn ids() -> impl Iterator<Item = FigureId> {
    (0..FIGURES.len()).map(FigureId)
}

/// The optimisation targets.
pub fn targets() -> impl Iterator<Item = (FigureId, Bound)> {
    ids().filter_map(|id| match id.figure().role {
        Role::Target(bound) => Some((id, bound)),
        _ => None,
    })
}

pub fn by_name(name: &str) -> Option<FigureId> {
    ids().find(|id| id.name() == name)
}

/// An override that can't be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Invalid {
    #[error("targets.{0}: no such figure; allowed: {allowed}", allowed = names())]
    Unknown(String),
    #[error("targets.{name}: {value} is not allowed; give {allowed}")]
    Value { name: String, value: f64, allowed: &'static str },
}

fn names() -> String {
    ids().map(FigureId::name).collect::<Vec<_>>().join(", ")
}

/// The figures in force: the built-in ones, overridden by configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Targets {
    values: [f64; COUNT],
}

impl Default for Targets {
    fn default() -> Self {
        Self { values: std::array::from_fn(|i| FIGURES[i].default) }
    }
}

impl Targets {
    /// Applies overrides by name; names and values are checked.
    pub fn new(overrides: &BTreeMap<String, f64>) -> Result<Self, Invalid> {
        let mut targets = Self::default();
        for (name, value) in overrides {
            let id = by_name(name).ok_or_else(|| Invalid::Unknown(name.clone()))?;
            targets.set(id, *value)?;
        }
        Ok(targets)
    }

    /// Overrides one figure, if its value can be.
    pub fn set(&mut self, id: FigureId, value: f64) -> Result<(), Invalid> {
        let figure = id.figure();
        if !value.is_finite() || value <= 0.0 || (figure.is_share() && value > 1.0) {
            return Err(Invalid::Value { name: id.name().to_owned(), value, allowed: figure.allowed() });
        }
        self.values[id.0] = value;
        Ok(())
    }

    #[inline]
    pub fn get(&self, id: FigureId) -> f64 {
        self.values[id.0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_apply_by_name_and_leave_the_rest() {
        let t = Targets::new(&BTreeMap::from([("startup_time_p95".into(), 1.5)])).expect("valid");
        assert_eq!(t.get(STARTUP_TIME_P95), 1.5);
        assert_eq!(t.get(ERROR_RATE), 0.001);
    }

    #[test]
    fn bad_overrides_name_the_key_and_what_is_allowed() {
        let bad =
            |name: &str, value| Targets::new(&BTreeMap::from([(name.into(), value)])).expect_err("bad").to_string();
        assert!(
            bad("startup_time", 1.0).starts_with("targets.startup_time: no such figure; allowed: startup_time_p95, ")
        );
        assert_eq!(bad("error_rate", 2.0), "targets.error_rate: 2 is not allowed; give a ratio between 0 and 1");
        assert_eq!(bad("high_fanout", f64::NAN), "targets.high_fanout: NaN is not allowed; give a number above 0");
        assert_eq!(bad("high_fanout", 0.0), "targets.high_fanout: 0 is not allowed; give a number above 0");
    }

    #[test]
    fn names_are_unique_and_the_six_targets_are_there() {
        let mut all: Vec<_> = ids().map(FigureId::name).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), FIGURES.len());
        let targets: Vec<_> = targets().map(|(id, _)| id.name()).collect();
        assert_eq!(
            targets,
            [
                "startup_time_p95",
                "memory_efficiency",
                "cpu_utilization_avg",
                "network_latency_p50",
                "storage_latency_p99",
                "error_rate"
            ]
        );
    }

    #[test]
    fn bounds_at_below_and_above() {
        let met = |b: Bound| [0.9, 1.0, 1.1].map(|v| b.holds(v, 1.0));
        assert_eq!(met(Bound::Below), [true, false, false]);
        assert_eq!(met(Bound::AtMost), [true, true, false]);
        assert_eq!(met(Bound::Above), [false, false, true]);
        assert_eq!(met(Bound::AtLeast), [false, true, true]);
    }

    #[test]
    fn every_latency_target_is_a_bucket_boundary() {
        use crate::catalog::{RTT_BUCKETS, STARTUP_BUCKETS, STORAGE_BUCKETS};
        let t = Targets::default();
        for (id, buckets) in [
            (STARTUP_TIME_P95, STARTUP_BUCKETS),
            (SLOW_START, STARTUP_BUCKETS),
            (DEGRADED_START, STARTUP_BUCKETS),
            (NETWORK_LATENCY_P50, RTT_BUCKETS),
            (HIGH_NETWORK_LATENCY, RTT_BUCKETS),
            (STORAGE_LATENCY_P99, STORAGE_BUCKETS),
            (HIGH_IO_LATENCY, STORAGE_BUCKETS),
        ] {
            assert!(buckets.contains(&t.get(id)), "{}", id.name());
        }
    }
}
