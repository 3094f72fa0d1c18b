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

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Display, Write as _};
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
    MitigateThermal = "mitigate_thermal", Cpu [Thermal];
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
pub struct Subject {
    kind: SubjectKind,
    members: Vec<Member>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubjectKind {
    Container,
    /// All containers of one image.
    Group,
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
    fn at(snapshot: &Snapshot, index: usize) -> Option<Self> {
        Some(Self { index, container: snapshot.containers.get(index)?.container.clone() })
    }

    pub fn name(&self) -> &str {
        let identity = &self.container.identity;
        if identity.name.is_empty() { &identity.id } else { &identity.name }
    }
}

impl Subject {
    pub fn kind(&self) -> SubjectKind {
        self.kind
    }

    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// A name for people.
    pub fn name(&self) -> &str {
        match (self.kind, self.members.first()) {
            (SubjectKind::Container, Some(c)) => c.name(),
            (SubjectKind::Group, Some(c)) => &c.container.identity.image,
            _ => "machine",
        }
    }

    fn make(&mut self, kind: SubjectKind, members: impl Iterator<Item = Member>) {
        self.kind = kind;
        self.members.clear();
        self.members.extend(members);
    }

    fn make_group(&mut self, members: impl Iterator<Item = Member>) {
        self.make(SubjectKind::Group, members);
    }

    fn make_machine(&mut self) {
        self.make(SubjectKind::Machine, std::iter::empty());
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

impl Recommendation {
    /// Writes both sentences into the memory of earlier ones.
    fn say(&mut self, finding: fmt::Arguments<'_>, advice: fmt::Arguments<'_>) {
        for (text, words) in [(&mut self.finding, finding), (&mut self.advice, advice)] {
            text.clear();
            // A String takes everything.
            let _ = text.write_fmt(words);
        }
    }
}

/// Recommendations, the memory of earlier ones used again: a scrape allocates nothing for what is still recommended.
#[derive(Debug, Default)]
pub struct Items {
    now: Vec<Recommendation>,
    spare: Vec<Recommendation>,
}

impl Items {
    fn clear(&mut self) {
        // In the order in which they will be taken: each finds the memory that it had.
        self.spare.extend(self.now.drain(..).rev());
    }

    fn add(&mut self, action: Action, figures: Figures) -> &mut Recommendation {
        let mut item = self.spare.pop().unwrap_or_else(|| Recommendation {
            subject: Subject { kind: SubjectKind::Machine, members: Vec::new() },
            action,
            finding: String::new(),
            advice: String::new(),
            figures,
        });
        (item.action, item.figures) = (action, figures);
        self.now.push_mut(item)
    }
}

impl std::ops::Deref for Items {
    type Target = [Recommendation];

    fn deref(&self) -> &[Recommendation] {
        &self.now
    }
}

/// The places of the containers of each image, in the snapshot.
#[derive(Debug, Default)]
struct Images(BTreeMap<String, Vec<usize>>);

impl Images {
    fn clear(&mut self) {
        self.0.values_mut().for_each(Vec::clear);
    }

    fn note(&mut self, image: &str, index: usize) {
        match self.0.get_mut(image) {
            Some(places) => places.push(index),
            None if image.is_empty() => {}
            None => drop(self.0.insert(image.to_owned(), vec![index])),
        }
    }

    fn forget_unused(&mut self) {
        self.0.retain(|_, places| !places.is_empty());
    }

    /// Images of more than one container, by name.
    fn groups(&self) -> impl Iterator<Item = &[usize]> {
        self.0.values().filter(|places| places.len() > 1).map(Vec::as_slice)
    }
}

/// What one collection leads to.
#[derive(Debug, Default)]
pub struct Advice {
    pub items: Items,
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
    /// Duration of a slow start, and why it was slow.
    slow: Option<(f64, Vec<slow::Finding>)>,
    seen: u64,
}

/// Gives advice; remembers what it gave.
#[derive(Debug, Default)]
pub struct Advisor {
    states: HashMap<String, State>,
    devices: measures::Devices,
    images: Images,
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
    items: &'a mut Items,
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

    fn recommend(&mut self, action: Action, finding: fmt::Arguments<'_>, advice: fmt::Arguments<'_>, figures: Figures) {
        let item = self.items.add(action, figures);
        let member = Member { index: self.index, container: self.container.clone() };
        item.subject.make(SubjectKind::Container, std::iter::once(member));
        item.say(finding, advice);
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
        self.images.clear();
        let all = snapshot.containers.iter().enumerate();
        for (index, facts) in all.filter(|(_, f)| f.container.identity.id != "/") {
            let c = &facts.container;
            self.images.note(&c.identity.image, index);
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
        self.images.forget_unused();
    }
}

/// Why the last start was slow: the analysis that counted it, told again as advice. It is made once a start.
fn starts(c: &mut Case<'_>) {
    let limit = c.targets.get(targets::SLOW_START);
    let Some(took) = c.measures.last_start.filter(|s| *s > limit) else {
        c.state.slow = None;
        return;
    };
    let known = c.state.slow.take().filter(|(of, _)| *of == took);
    let (_, findings) = known.unwrap_or_else(|| (took, slow::analyse(Some(c.container), c.targets)));
    for finding in &findings {
        if let Some(&action) = Action::ALL.iter().find(|a| a.name() == finding.reason) {
            let why = format_args!("the last start took {took:.2} s, above {limit} s: {}", finding.detail);
            start_advice(c, action, why);
        }
    }
    c.state.slow = Some((took, findings));
}

fn start_advice(c: &mut Case<'_>, action: Action, why: fmt::Arguments<'_>) {
    let t = c.targets;
    let from_to = |current: Option<f64>, recommended: f64| Figures {
        current,
        recommended: Some(recommended),
        savings_bytes: None,
    };
    match action {
        Action::UseSmallerBaseImage => {
            let size = t.get(targets::LARGE_IMAGE);
            let figures = from_to(c.container.image.size_bytes.map(|b| b as f64), size);
            c.recommend(action, why, format_args!("build on a smaller base image, under {}", bytes(size)), figures);
        }
        Action::ReduceImageLayers => {
            let layers = t.get(targets::MANY_LAYERS);
            let figures = from_to(c.container.image.layers.map(f64::from), layers);
            c.recommend(action, why, format_args!("merge layers, to {layers} at most"), figures);
        }
        Action::UseMinimalInit => {
            let advice = format_args!("start the program itself, or a minimal init such as tini");
            c.recommend(action, why, advice, Figures::default());
        }
        Action::CapStartupResources => {
            let (cpus, memory) = (t.get(targets::STARTUP_CPUS), t.get(targets::STARTUP_MEMORY));
            let vm = c.container.vm.as_ref();
            // Of cores alone: an action's figure has one unit. That of memory is in the words.
            let cores = vm.and_then(|vm| vm.cpus).filter(|n| *n > cpus);
            let figures = cores.map(|n| from_to(Some(n), cpus)).unwrap_or_default();
            let advice = format_args!("start the VM within {cpus} CPUs and {}, and grow it later", bytes(memory));
            c.recommend(action, why, advice, figures);
        }
        _ => {
            let advice = format_args!("mend what is named: no swap, a minimal initrd or none, virtio devices");
            c.recommend(action, why, advice, Figures::default());
        }
    }
}

/// Bytes for people, in binary units.
fn bytes(n: f64) -> impl Display {
    let units = [(targets::GIB, "GiB"), (targets::MIB, "MiB"), (targets::KIB, "KiB")];
    fmt::from_fn(move |f| match units.iter().find(|(size, _)| n >= *size) {
        Some((size, unit)) => {
            let n = n / size;
            if n >= 100.0 || n.fract() < 0.05 { write!(f, "{n:.0} {unit}") } else { write!(f, "{n:.1} {unit}") }
        }
        None => write!(f, "{n:.0} bytes"),
    })
}

fn percent(share: f64) -> impl Display {
    fmt::from_fn(move |f| write!(f, "{:.0} %", share * 100.0))
}

/// Serious or critical, as advice and alerts see it.
fn hot(host: &HostFacts) -> Option<ThermalState> {
    host.thermal.filter(|s| *s >= ThermalState::Serious)
}
