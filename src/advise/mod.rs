//! Snapshot → recommendations, one file a subject. Nothing is ever applied.
//!
//! A recommendation begins when its measure is past its threshold, and ends only when the measure has gone back over it
//! by the share of [`targets::HYSTERESIS`]: between the two it stays as it was, so that it does not come and go with every
//! scrape. A rule whose input is absent gives nothing; [`Advice::missing`] says what it lacks.

mod cpu;
mod measures;
mod memory;
mod network;
pub mod report;
mod storage;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use crate::runtime::Container;
use crate::snapshot::{HostFacts, Snapshot, ThermalState};
use crate::startup::slow;
use crate::targets::{self, FigureId, Targets};

pub use measures::{Measure, Measures};
pub use report::Report;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Domain {
    Startup,
    Memory,
    Cpu,
    Network,
    Storage,
}

impl Domain {
    /// The value of the `domain` label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Network => "network",
            Self::Storage => "storage",
        }
    }
}

macro_rules! actions {
    ($($id:ident = $name:expr, $domain:ident [$($need:ident),*];)*) => {
        /// What can be recommended.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Action { $($id),* }

        impl Action {
            pub const ALL: &[Action] = &[$(Self::$id),*];

            /// The value of the `action` label.
            pub fn name(self) -> &'static str {
                match self { $(Self::$id => $name),* }
            }

            pub fn domain(self) -> Domain {
                match self { $(Self::$id => Domain::$domain),* }
            }

            /// The measures without which the rule can't tell.
            pub fn needs(self) -> &'static [Measure] {
                match self { $(Self::$id => &[$(Measure::$need),*]),* }
            }
        }
    };
}

actions! {
    UseSmallerBaseImage = slow::SMALLER_IMAGE, Startup [LastStart, ImageSize];
    ReduceImageLayers = slow::FEWER_LAYERS, Startup [LastStart, ImageLayers];
    UseMinimalInit = slow::MINIMAL_INIT, Startup [LastStart];
    CapStartupResources = slow::CAP_RESOURCES, Startup [LastStart, Vm];
    OptimizeVmConfig = slow::VM_CONFIG, Startup [LastStart, Vm];
    ReduceAllocation = "reduce_allocation", Memory [MemoryEfficiency];
    IncreaseAllocation = "increase_allocation", Memory [PageCacheShare];
    ShareLibraries = "share_libraries", Memory [];
    CompressMemory = "compress_memory", Memory [ColdMemory, MemoryPressure];
    AssignPerformanceCores = "assign_performance_cores", Cpu [CpuIntensity, CoreTypes];
    AssignEfficiencyCores = "assign_efficiency_cores", Cpu [CpuIntensity, CoreTypes];
    ReduceCores = "reduce_cores", Cpu [CpuEfficiency];
    MitigateThermal = "mitigate_thermal", Cpu [];
    PreferPowerEfficiency = "prefer_power_efficiency", Cpu [PowerEfficiency, CpuIntensity];
    DedicatedNetwork = "dedicated_network", Network [Fanout];
    ReduceLatency = "reduce_latency", Network [RoundTrip];
    IncreaseBandwidth = "increase_bandwidth", Network [Bandwidth];
    TuneForIops = "tune_for_iops", Storage [Iops];
    TuneForThroughput = "tune_for_throughput", Storage [Throughput];
    EnlargeCache = "enlarge_cache", Storage [CacheHitRate];
    ReduceIoLatency = "reduce_io_latency", Storage [IoLatency];
}

/// What a recommendation is about.
#[derive(Debug, Clone)]
pub enum Subject {
    Container(Member),
    /// All containers of one image.
    Group(Vec<Member>),
    Machine,
}

/// A container that a recommendation names.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its place in the snapshot.
    pub index: usize,
    pub container: Arc<Container>,
}

impl Member {
    pub fn name(&self) -> &str {
        let identity = &self.container.identity;
        if identity.name.is_empty() { &identity.id } else { &identity.name }
    }
}

impl Subject {
    pub fn members(&self) -> &[Member] {
        match self {
            Self::Container(c) => std::slice::from_ref(c),
            Self::Group(all) => all,
            Self::Machine => &[],
        }
    }

    /// A name for people.
    pub fn name(&self) -> &str {
        match self {
            Self::Container(c) => c.name(),
            Self::Group(all) => all.first().map_or("", |c| &c.container.identity.image),
            Self::Machine => "machine",
        }
    }
}

/// The figure that a recommendation would change, in base units.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figures {
    pub current: Option<f64>,
    pub recommended: Option<f64>,
    /// Memory that following it would free, for each container.
    pub savings_bytes: Option<f64>,
}

#[derive(Debug, Clone)]
pub struct Recommendation {
    pub subject: Subject,
    pub action: Action,
    /// What was measured, in words with figures.
    pub finding: String,
    /// What to do, in words with figures.
    pub advice: String,
    pub figures: Figures,
}

/// A rule that can't tell, and what it lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    pub action: Action,
    pub measures: Vec<Measure>,
    /// Containers for which it can't tell.
    pub containers: usize,
}

/// What one collection leads to.
#[derive(Debug, Default)]
pub struct Advice {
    pub items: Vec<Recommendation>,
    /// Of each container, in the order of the snapshot.
    measures: Vec<Measures>,
}

impl Advice {
    pub fn clear(&mut self) {
        self.items.clear();
        self.measures.clear();
    }

    /// Every rule that lacks something, with the number of containers that lack it.
    pub fn missing(&self) -> Vec<Missing> {
        let mut found: Vec<Missing> = Vec::new();
        for m in &self.measures {
            for &action in Action::ALL {
                let measures: Vec<Measure> = action.needs().iter().copied().filter(|n| !m.has(*n)).collect();
                if measures.is_empty() {
                    continue;
                }
                match found.iter_mut().find(|f| f.action == action && f.measures == measures) {
                    Some(f) => f.containers += 1,
                    None => found.push(Missing { action, measures, containers: 1 }),
                }
            }
        }
        found.sort_by_key(|f| f.action);
        found
    }
}

/// What is remembered of a container from one collection to the next.
#[derive(Debug, Default)]
struct State {
    /// One bit an [`Action`]: past its threshold and not back yet.
    held: u64,
    /// Memory pressure and refaults are no advice by themselves, and have bands too.
    pressed: bool,
    refaulting: bool,
    totals: measures::Totals,
    seen: u64,
}

/// Gives advice; remembers what it gave.
#[derive(Debug, Default)]
pub struct Advisor {
    states: HashMap<String, State>,
    devices: measures::Devices,
    /// Containers of each image.
    images: HashMap<String, usize>,
    round: u64,
}

/// One container, all that rules look at.
struct Case<'a> {
    container: &'a Arc<Container>,
    index: usize,
    measures: &'a Measures,
    host: &'a HostFacts,
    targets: &'a Targets,
    state: &'a mut State,
    items: &'a mut Vec<Recommendation>,
}

impl Case<'_> {
    /// Whether a measure is over its threshold, with its band.
    fn over(&mut self, action: Action, value: Option<f64>, threshold: FigureId) -> bool {
        let held = self.state.held & bit(action) != 0;
        let now = value.is_some_and(|v| over(v, self.targets.get(threshold), self.band(), held));
        self.hold(action, now)
    }

    /// Whether a measure is under its threshold, with its band.
    fn under(&mut self, action: Action, value: Option<f64>, threshold: FigureId) -> bool {
        let held = self.state.held & bit(action) != 0;
        let now = value.is_some_and(|v| under(v, self.targets.get(threshold), self.band(), held));
        self.hold(action, now)
    }

    fn band(&self) -> f64 {
        self.targets.get(targets::HYSTERESIS)
    }

    fn hold(&mut self, action: Action, now: bool) -> bool {
        if now {
            self.state.held |= bit(action);
        } else {
            self.state.held &= !bit(action);
        }
        now
    }

    fn recommend(&mut self, action: Action, finding: String, advice: String, figures: Figures) {
        let subject = Subject::Container(Member { index: self.index, container: self.container.clone() });
        self.items.push(Recommendation { subject, action, finding, advice, figures });
    }
}

fn bit(action: Action) -> u64 {
    1 << (action as u32)
}

fn over(value: f64, threshold: f64, band: f64, held: bool) -> bool {
    value > if held { threshold * (1.0 - band) } else { threshold }
}

fn under(value: f64, threshold: f64, band: f64, held: bool) -> bool {
    value < if held { threshold * (1.0 + band) } else { threshold }
}

impl Advisor {
    /// Fills `out` with what this collection leads to. `startup` tells the last start's duration in seconds by the
    /// runtime's own id.
    pub fn advise(
        &mut self,
        snapshot: &Snapshot,
        startup: impl Fn(&str) -> Option<f64>,
        targets: &Targets,
        out: &mut Advice,
    ) {
        out.clear();
        self.round += 1;
        self.devices.update(&snapshot.host.devices);
        self.images.values_mut().for_each(|n| *n = 0);
        let all = snapshot.containers.iter().enumerate();
        for (index, facts) in all.filter(|(_, f)| f.container.identity.id != "/") {
            let c = &facts.container;
            if !c.identity.image.is_empty() {
                match self.images.get_mut(&c.identity.image) {
                    Some(n) => *n += 1,
                    None => drop(self.images.insert(c.identity.image.clone(), 1)),
                }
            }
            if !self.states.contains_key(&c.native_id) {
                self.states.insert(c.native_id.clone(), State::default());
            }
            let Some(state) = self.states.get_mut(&c.native_id) else { continue };
            state.seen = self.round;
            let previous = std::mem::replace(&mut state.totals, measures::Totals::of(facts, snapshot.boot));
            let measures =
                Measures::of(facts, &snapshot.host, &previous, &state.totals, &self.devices, startup(&c.native_id));
            out.measures.push(measures);
            let mut case = Case {
                container: c,
                index,
                measures: &measures,
                host: &snapshot.host,
                targets,
                state,
                items: &mut out.items,
            };
            starts(&mut case);
            memory::rules(&mut case);
            cpu::rules(&mut case);
            network::rules(&mut case);
            storage::rules(&mut case);
        }
        memory::share_libraries(&self.images, snapshot, targets, &mut out.items);
        cpu::machine(snapshot, &mut out.items);
        let round = self.round;
        self.states.retain(|_, s| s.seen == round);
        self.images.retain(|_, n| *n > 0);
    }
}

/// Why the last start was slow: the analysis that counted it, told again as advice.
fn starts(c: &mut Case<'_>) {
    let slow = c.measures.last_start.is_some_and(|s| s > c.targets.get(targets::SLOW_START));
    let (true, Some(took)) = (slow, c.measures.last_start) else { return };
    for finding in slow::analyse(Some(c.container), c.targets) {
        let Some(&action) = Action::ALL.iter().find(|a| a.name() == finding.reason) else { continue };
        let (advice, figures) = start_advice(action, c);
        let limit = c.targets.get(targets::SLOW_START);
        c.recommend(
            action,
            format!("the last start took {took:.2} s, above {limit} s: {}", finding.detail),
            advice,
            figures,
        );
    }
}

fn start_advice(action: Action, c: &Case<'_>) -> (String, Figures) {
    let t = c.targets;
    let from_to = |current: Option<f64>, recommended: f64| Figures {
        current,
        recommended: Some(recommended),
        savings_bytes: None,
    };
    match action {
        Action::UseSmallerBaseImage => (
            format!("build on a smaller base image, under {}", bytes(t.get(targets::LARGE_IMAGE))),
            from_to(c.container.image.size_bytes.map(|b| b as f64), t.get(targets::LARGE_IMAGE)),
        ),
        Action::ReduceImageLayers => (
            format!("merge layers, to {} at most", t.get(targets::MANY_LAYERS)),
            from_to(c.container.image.layers.map(f64::from), t.get(targets::MANY_LAYERS)),
        ),
        Action::UseMinimalInit => {
            ("start the program itself, or a minimal init such as tini".into(), Figures::default())
        }
        Action::CapStartupResources => (
            format!(
                "start the VM within {} CPUs and {}, and grow it later",
                t.get(targets::STARTUP_CPUS),
                bytes(t.get(targets::STARTUP_MEMORY))
            ),
            from_to(c.container.vm.as_ref().and_then(|vm| vm.cpus), t.get(targets::STARTUP_CPUS)),
        ),
        _ => ("mend each setting named".into(), Figures::default()),
    }
}

/// Bytes for people, in binary units.
fn bytes(n: f64) -> String {
    let units = [(targets::GIB, "GiB"), (targets::MIB, "MiB"), (targets::KIB, "KiB")];
    match units.iter().find(|(size, _)| n >= *size) {
        Some((size, unit)) => {
            let n = n / size;
            if n >= 100.0 || n.fract() < 0.05 { format!("{n:.0} {unit}") } else { format!("{n:.1} {unit}") }
        }
        None => format!("{n:.0} bytes"),
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// Serious or critical, as advice and alerts see it.
fn hot(host: &HostFacts) -> Option<ThermalState> {
    host.thermal.filter(|s| *s >= ThermalState::Serious)
}
