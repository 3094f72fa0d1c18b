//! File, environment and flags into one [`Config`], validated whole before anything starts.
//!
//! [`settings`] has every setting once; the flags, the environment variables, the keys of the YAML file and the
//! reference documentation are made from it. [`load`] merges the sources.

mod file;
mod load;
mod reference;
mod settings;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use crate::catalog::Collector;
use crate::root::{Clock, Root};
use crate::targets::Targets;

pub use load::{Error, Errors, Given, check_text, load};
pub use reference::reference;
pub use settings::{Setting, Shape, settings};
pub use value::{Pattern, duration};

/// Everything that can be set. Plain values: readers need not know where one came from.
#[derive(Debug, Clone)]
pub struct Config {
    pub web: Web,
    pub log: Log,
    pub path: Paths,
    pub collectors: CollectorSet,
    pub runtime: Runtimes,
    pub containers: Selection,
    /// User labels shown on `kina_container_info` as `label_NAME`.
    pub label_allow: Vec<String>,
    /// `--profile cadvisor`: also the ill-named series.
    pub profile_cadvisor: bool,
    pub network: Network,
    pub process: Process,
    /// Targets, baselines and thresholds in force.
    pub targets: Targets,
    pub startup: Startup,
    pub otlp: Otlp,
    /// Where this came from, for reload; None without `--config.file`.
    pub file: Option<PathBuf>,
}

#[derive(Debug, Clone)]
pub struct Web {
    pub listen: Vec<String>,
    pub systemd_socket: bool,
    pub telemetry_path: String,
    pub max_requests: usize,
    pub config_file: Option<PathBuf>,
    /// `POST /-/reload` from anywhere, not from loopback alone.
    pub enable_lifecycle: bool,
}

#[derive(Debug, Clone)]
pub struct Log {
    pub level: LevelFilter,
    pub json: bool,
}

#[derive(Debug, Clone)]
pub struct Paths {
    pub procfs: PathBuf,
    pub sysfs: PathBuf,
    pub cgroup: PathBuf,
    pub rootfs: PathBuf,
}

#[derive(Debug, Clone)]
pub struct Runtimes {
    pub docker: RuntimeSource,
    pub podman: RuntimeSource,
    pub containerd: RuntimeSource,
    pub cgroup: CgroupSource,
    pub apple: AppleSource,
}

/// A runtime reached over a Unix socket.
#[derive(Debug, Clone)]
pub struct RuntimeSource {
    pub enabled: bool,
    /// None: the usual places are looked at.
    pub socket: Option<PathBuf>,
    pub timeout: Duration,
}

/// Containers told by the cgroup tree alone.
#[derive(Debug, Clone)]
pub struct CgroupSource {
    pub enabled: bool,
    /// Further cgroups to treat as containers: a pattern over the cgroup path.
    pub include: Option<Pattern>,
}

#[derive(Debug, Clone)]
pub struct AppleSource {
    pub enabled: bool,
    pub command: Option<PathBuf>,
    pub root: Option<PathBuf>,
    /// How often `container stats` is asked; it takes two seconds itself.
    pub stats_interval: Duration,
    /// How often the guests' own kernels are asked; None: never.
    pub guest_interval: Option<Duration>,
    /// Where an exporter listens that runs in a container; None: none does.
    pub agent_port: Option<usize>,
    /// How often `container system df` is asked; None: never.
    pub disk_interval: Option<Duration>,
}

/// Patterns over containers (anchored, as Prometheus anchors its own). A container is shown if every include that is set
/// matches and no exclude does.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    pub name_include: Option<Pattern>,
    pub name_exclude: Option<Pattern>,
    pub image_include: Option<Pattern>,
    pub image_exclude: Option<Pattern>,
    /// Label name → pattern over its value; a container without the label has the empty value, as in PromQL.
    pub label_include: BTreeMap<String, Pattern>,
    pub label_exclude: BTreeMap<String, Pattern>,
}

impl Selection {
    pub fn admits(&self, name: &str, image: &str, labels: &BTreeMap<String, String>) -> bool {
        let label = |key: &String| labels.get(key).map_or("", String::as_str);
        self.name_include.as_ref().is_none_or(|p| p.matches(name))
            && self.image_include.as_ref().is_none_or(|p| p.matches(image))
            && self.label_include.iter().all(|(key, p)| p.matches(label(key)))
            && !self.name_exclude.as_ref().is_some_and(|p| p.matches(name))
            && !self.image_exclude.as_ref().is_some_and(|p| p.matches(image))
            && !self.label_exclude.iter().any(|(key, p)| p.matches(label(key)))
    }
}

#[derive(Debug, Clone)]
pub struct Process {
    /// Whether context switches may be counted by the kernel's own counters.
    pub switch_counters: bool,
}

impl Default for Process {
    fn default() -> Self {
        Self { switch_counters: true }
    }
}

#[derive(Debug, Clone, Default)]
pub struct Network {
    /// Bytes a second, for interfaces that have no speed of their own.
    pub link_speed: Option<u64>,
}

#[derive(Debug, Clone)]
pub struct Startup {
    /// Distinct images with series of their own; the rest is counted under `other`.
    pub max_images: usize,
    /// How long a container's sockets are looked at for the first that listens; zero: not at all.
    pub ready_poll: Duration,
    /// Where it is kept how far starts have been counted, so that those during the exporter's own restart are recovered.
    pub state_file: Option<PathBuf>,
}

/// Pushing to an OpenTelemetry collector. What is None here is looked for in the `OTEL_*` variables.
#[derive(Debug, Clone)]
pub struct Otlp {
    pub endpoint: Option<String>,
    pub protocol: Option<String>,
    pub headers: BTreeMap<String, String>,
    pub compression: Option<String>,
    pub timeout: Option<Duration>,
    pub certificate: Option<PathBuf>,
    pub client_certificate: Option<PathBuf>,
    pub client_key: Option<PathBuf>,
    pub interval: Option<Duration>,
    pub temporality: Option<String>,
    pub histograms: Option<String>,
    /// `resource` or `attributes`; None: by the endpoint.
    pub identity: Option<String>,
    pub max_request_bytes: usize,
    pub queue_bytes: usize,
    /// Spans of the exporter's own work, too.
    pub self_traces: bool,
}

impl Default for Otlp {
    fn default() -> Self {
        Self {
            endpoint: None,
            protocol: None,
            headers: BTreeMap::new(),
            compression: None,
            timeout: None,
            certificate: None,
            client_certificate: None,
            client_key: None,
            interval: None,
            temporality: None,
            histograms: None,
            identity: None,
            // Receivers in Go refuse more than 4 MiB unless told otherwise; smaller ones keep the exporter small.
            max_request_bytes: 1_000_000,
            queue_bytes: 8 << 20,
            self_traces: false,
        }
    }
}

/// Collectors that are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CollectorSet(u32);

impl CollectorSet {
    pub const NONE: Self = Self(0);
    pub const ALL: Self = Self((1 << Collector::COUNT) - 1);

    pub fn contains(self, c: Collector) -> bool {
        self.0 & (1 << c.index()) != 0
    }

    pub fn with(self, c: Collector) -> Self {
        Self(self.0 | (1 << c.index()))
    }

    pub fn without(self, c: Collector) -> Self {
        Self(self.0 & !(1 << c.index()))
    }

    pub fn intersect(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub fn iter(self) -> impl Iterator<Item = Collector> {
        Collector::ALL.into_iter().filter(move |c| self.contains(*c))
    }
}

impl FromIterator<Collector> for CollectorSet {
    fn from_iter<I: IntoIterator<Item = Collector>>(iter: I) -> Self {
        iter.into_iter().fold(Self::NONE, Self::with)
    }
}

impl From<BTreeSet<Collector>> for CollectorSet {
    fn from(set: BTreeSet<Collector>) -> Self {
        set.into_iter().collect()
    }
}

pub const DEFAULT_PORT: u16 = 10217;

impl Default for Config {
    fn default() -> Self {
        let socket = || RuntimeSource { enabled: true, socket: None, timeout: Duration::from_secs(10) };
        Self {
            web: Web {
                listen: vec![format!(":{DEFAULT_PORT}")],
                systemd_socket: false,
                telemetry_path: "/metrics".into(),
                max_requests: 40,
                config_file: None,
                enable_lifecycle: false,
            },
            log: Log { level: LevelFilter::INFO, json: false },
            path: Paths {
                procfs: "/proc".into(),
                sysfs: "/sys".into(),
                cgroup: "/sys/fs/cgroup".into(),
                rootfs: "/".into(),
            },
            collectors: CollectorSet::ALL,
            runtime: Runtimes {
                docker: socket(),
                podman: socket(),
                containerd: socket(),
                cgroup: CgroupSource { enabled: true, include: None },
                apple: AppleSource {
                    enabled: true,
                    command: None,
                    root: None,
                    stats_interval: Duration::from_secs(15),
                    guest_interval: None,
                    agent_port: None,
                    disk_interval: None,
                },
            },
            containers: Selection::default(),
            label_allow: Vec::new(),
            profile_cadvisor: false,
            network: Network::default(),
            process: Process::default(),
            targets: Targets::default(),
            startup: Startup { max_images: 200, ready_poll: Duration::from_secs(30), state_file: None },
            otlp: Otlp::default(),
            file: None,
        }
    }
}

impl Config {
    pub fn root(&self) -> Root {
        Root {
            procfs: self.path.procfs.clone(),
            sysfs: self.path.sysfs.clone(),
            cgroup: self.path.cgroup.clone(),
            rootfs: self.path.rootfs.clone(),
            clock: Clock::System,
        }
    }
}
