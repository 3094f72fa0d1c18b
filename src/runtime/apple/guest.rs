//! What a guest's own kernel tells, read with `container exec ID cat …`: off by default, for each call adds some ten lines
//! to the boot log and needs a `cat` in the image. Or from the exporter itself where it runs in the guest: it prints the
//! same files in the same way, and one part more of what no file tells.
//!
//! One call reads all files. `cat` prints them one after the other without a mark, so between any two of them it is given
//! `/proc/version`, one line that no other of these files has; a file that is not there leaves its place empty (`cat` goes
//! on to the next, and exits 1).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::catalog::RTT_BUCKETS;
use crate::root::{Nanos, Root};
use crate::sample::Histogram;

/// The files, in the order in which they are read. A container's cgroup is the root of its cgroup namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File {
    MemoryStat,
    MemoryEvents,
    CpuStat,
    IoStat,
    CpuPressure,
    MemoryPressure,
    IoPressure,
    Meminfo,
    Snmp,
    MemoryPeak,
    SwapCurrent,
    CpuMax,
    CpuWeight,
    PidsMax,
    Procs,
    Diskstats,
    Tcp,
    Tcp6,
    NetDev,
    MemoryCurrent,
    PidsCurrent,
    SwapMax,
    MemoryLow,
    Cpuset,
}

impl File {
    const ALL: [(File, &'static str); 24] = [
        (Self::MemoryStat, "/sys/fs/cgroup/memory.stat"),
        (Self::MemoryEvents, "/sys/fs/cgroup/memory.events"),
        (Self::CpuStat, "/sys/fs/cgroup/cpu.stat"),
        (Self::IoStat, "/sys/fs/cgroup/io.stat"),
        (Self::CpuPressure, "/sys/fs/cgroup/cpu.pressure"),
        (Self::MemoryPressure, "/sys/fs/cgroup/memory.pressure"),
        (Self::IoPressure, "/sys/fs/cgroup/io.pressure"),
        (Self::Meminfo, "/proc/meminfo"),
        // A process that is run in the container is in the VM's network namespace, as the container is.
        (Self::Snmp, "/proc/self/net/snmp"),
        (Self::MemoryPeak, "/sys/fs/cgroup/memory.peak"),
        (Self::SwapCurrent, "/sys/fs/cgroup/memory.swap.current"),
        (Self::CpuMax, "/sys/fs/cgroup/cpu.max"),
        (Self::CpuWeight, "/sys/fs/cgroup/cpu.weight"),
        (Self::PidsMax, "/sys/fs/cgroup/pids.max"),
        (Self::Procs, "/sys/fs/cgroup/cgroup.procs"),
        // The VM's disks are this container's alone.
        (Self::Diskstats, "/proc/diskstats"),
        (Self::Tcp, "/proc/self/net/tcp"),
        (Self::Tcp6, "/proc/self/net/tcp6"),
        (Self::NetDev, "/proc/self/net/dev"),
        (Self::MemoryCurrent, "/sys/fs/cgroup/memory.current"),
        (Self::PidsCurrent, "/sys/fs/cgroup/pids.current"),
        (Self::SwapMax, "/sys/fs/cgroup/memory.swap.max"),
        (Self::MemoryLow, "/sys/fs/cgroup/memory.low"),
        (Self::Cpuset, "/sys/fs/cgroup/cpuset.cpus.effective"),
    ];
}

/// The file between two others.
const SEPARATOR: &str = "/proc/version";
/// How its line begins.
const SEPARATOR_LINE: &[u8] = b"Linux version ";

/// The files' contents; empty where there is none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Guest {
    /// When it was read, boot clock of the host.
    pub boot: Nanos,
    files: Vec<Vec<u8>>,
    /// Where the exporter itself told it.
    pub agent: Option<Agent>,
}

/// What the exporter tells of the guest it runs in, and no file does.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Agent {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt: Option<Observed>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_median: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_switches: Option<u64>,
    /// Of the container's processes; None where they can't be told from the guest's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_descriptors: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logical_read_bytes: Option<u64>,
}

/// A histogram on its way.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// By bucket, not cumulative.
    counts: Vec<u64>,
    sum: f64,
    native: Vec<(i32, u64)>,
    native_zero: u64,
}

impl Observed {
    pub fn of(h: &Histogram) -> Self {
        Self { counts: h.counts.clone(), sum: h.sum, native: h.native.clone(), native_zero: h.native_zero }
    }

    /// None when it has other buckets than ours: another version's.
    pub fn histogram(&self) -> Option<Histogram> {
        let count = self.counts.iter().try_fold(0_u64, |sum, n| sum.checked_add(*n))?;
        let sound = self.counts.len() == RTT_BUCKETS.len() + 1 && self.sum.is_finite();
        let sorted = self.native.is_sorted_by(|a, b| a.0 < b.0);
        let native = self.native.iter().try_fold(self.native_zero, |sum, (_, n)| sum.checked_add(*n));
        (sound && sorted && native == Some(count)).then(|| Histogram {
            bounds: RTT_BUCKETS,
            counts: self.counts.clone(),
            sum: self.sum,
            count,
            native: self.native.clone(),
            native_zero: self.native_zero,
            exemplars: Vec::new(),
        })
    }
}

impl Guest {
    #[cfg(test)]
    pub fn of(boot: Nanos, told: &[(File, &str)]) -> Self {
        let mut files = vec![Vec::new(); File::ALL.len()];
        for (file, content) in told {
            files[*file as usize] = content.as_bytes().to_vec();
        }
        Self { boot, files, agent: None }
    }

    pub fn file(&self, file: File) -> &[u8] {
        self.files.get(file as usize).map_or(&[], Vec::as_slice)
    }

    /// The arguments of `cat`.
    pub fn paths() -> Vec<&'static str> {
        let mut all: Vec<_> = File::ALL.iter().flat_map(|(_, path)| [*path, SEPARATOR]).collect();
        all.pop();
        all
    }

    /// Takes apart what `cat` printed; None if it is not that.
    pub fn parse(printed: &[u8], boot: Nanos) -> Option<Self> {
        let mut files = vec![Vec::new()];
        for line in printed.split_inclusive(|b| *b == b'\n') {
            match files.last_mut() {
                Some(file) if !line.starts_with(SEPARATOR_LINE) => file.extend_from_slice(line),
                _ => files.push(Vec::new()),
            }
        }
        let agent = match files.len().checked_sub(File::ALL.len())? {
            0 => None,
            1 => Some(serde_json::from_slice(&files.pop()?).ok()?),
            _ => return None,
        };
        Some(Self { boot, files, agent })
    }

    /// As `cat` would print this machine's own files, and `agent`. A file that can't be read leaves its place empty.
    pub fn print(root: &Root, agent: &Agent) -> Vec<u8> {
        let place = |path: &str| -> PathBuf {
            match path.strip_prefix("/sys/fs/cgroup/") {
                Some(file) => root.cgroup.join(file),
                None => root.procfs.join(path.trim_start_matches("/proc/")),
            }
        };
        let mut printed = Vec::new();
        for (_, path) in File::ALL {
            let content = root.read_bytes(&place(path)).unwrap_or_default();
            printed.extend_from_slice(content.trim_ascii_end());
            printed.extend_from_slice(if content.is_empty() { b"" } else { b"\n" });
            printed.extend_from_slice(SEPARATOR_LINE);
            printed.push(b'\n');
        }
        printed.extend(serde_json::to_vec(agent).unwrap_or_default());
        printed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_keep_their_places_whichever_are_missing() {
        let version = "Linux version 6.18.15 (@4bbee6c8b0d5) #1 SMP\n";
        let mut parts = [""; File::ALL.len()];
        parts[0] = "anon 5\n";
        parts[2] = "usage_usec 7\n";
        parts[7] = "MemTotal: 3 kB\n";
        parts[8] = "Tcp: OutSegs\nTcp: 1\n";
        parts[18] = "Inter-| Receive\n";
        let guest = Guest::parse(parts.join(version).as_bytes(), 1).unwrap();
        for ((file, _), expected) in File::ALL.into_iter().zip(parts) {
            assert_eq!(guest.file(file), expected.as_bytes(), "{file:?}");
        }
        assert_eq!(Guest::parse(b"", 1), None);
        assert_eq!(Guest::parse(parts[1..].join(version).as_bytes(), 1), None, "cut");
    }

    #[test]
    fn the_exporter_prints_what_it_reads() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path(), crate::root::Clock::System);
        std::fs::create_dir_all(&root.cgroup).unwrap();
        std::fs::create_dir_all(root.procfs.join("self/net")).unwrap();
        std::fs::write(root.cgroup.join("memory.stat"), "anon 5\n").unwrap();
        std::fs::write(root.procfs.join("self/net/snmp"), "Tcp: OutSegs\nTcp: 1").unwrap();
        let mut rtt = Histogram::new(RTT_BUCKETS);
        rtt.observe(0.0004);
        rtt.observe(7.0);
        let agent = Agent {
            rtt: Some(Observed::of(&rtt)),
            rtt_median: Some(0.0004),
            file_descriptors: Some(9),
            ..Agent::default()
        };
        let guest = Guest::parse(&Guest::print(&root, &agent), 1).unwrap();
        assert_eq!(guest.file(File::MemoryStat), b"anon 5\n");
        assert_eq!(guest.file(File::Snmp), b"Tcp: OutSegs\nTcp: 1\n");
        assert_eq!(guest.file(File::PidsCurrent), b"");
        assert_eq!(guest.agent.as_ref(), Some(&agent));
        assert_eq!(guest.agent.unwrap().rtt.unwrap().histogram(), Some(rtt));
    }

    #[test]
    fn a_histogram_of_other_buckets_or_a_false_one_is_none() {
        let mut rtt = Histogram::new(RTT_BUCKETS);
        rtt.observe(0.0004);
        let good = Observed::of(&rtt);
        assert!(Observed { counts: vec![1], ..good.clone() }.histogram().is_none());
        assert!(Observed { sum: f64::NAN, ..good.clone() }.histogram().is_none());
        assert!(Observed { native: vec![(1, 5), (0, 1)], ..good.clone() }.histogram().is_none());
        assert!(Observed { counts: vec![u64::MAX; RTT_BUCKETS.len() + 1], ..good.clone() }.histogram().is_none());
        assert!(good.histogram().is_some());
    }

    #[test]
    fn the_order_is_that_of_the_names() {
        for (at, (file, _)) in File::ALL.into_iter().enumerate() {
            assert_eq!(file as usize, at);
        }
        assert_eq!(Guest::paths().len(), 2 * File::ALL.len() - 1);
    }
}
