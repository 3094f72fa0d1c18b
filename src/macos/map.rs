//! What macOS says → facts.

use std::path::{Path, PathBuf};

use crate::snapshot::ThermalState;

/// Nanoseconds of a tick: 100 a second (`CLK_TCK`), whatever the processor.
const TICK_NS: u64 = 10_000_000;

/// Joules by part of the machine. A part that has never used any does not exist, or is not told of.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Energy(Vec<(&'static str, f64)>);

impl Energy {
    /// So many watts for so long.
    pub fn add(&mut self, part: &'static str, watts: f32, seconds: f64) {
        let joules = f64::from(watts) * seconds;
        if !joules.is_finite() || joules <= 0.0 {
            return;
        }
        match self.0.iter_mut().find(|(known, _)| *known == part) {
            Some((_, sum)) => *sum += joules,
            None => self.0.push((part, joules)),
        }
    }

    pub fn by_part(&self) -> Vec<(&'static str, f64)> {
        self.0.clone()
    }
}

/// The kinds of the cores' clusters, as the device tree has them → the place of each core's type among performance and
/// efficiency; nothing where all are alike. As with levels, the least capable alone is efficiency: `E`, else `M`, which
/// stands between `E` and `P`.
pub fn core_types(clusters: &[(u32, String)]) -> Vec<(u32, usize)> {
    let rank = |kind: &str| ["E", "M", "P"].iter().position(|known| *known == kind);
    let ranks: Vec<(u32, usize)> = clusters.iter().filter_map(|(core, kind)| Some((*core, rank(kind)?))).collect();
    let (least, most) = (ranks.iter().map(|r| r.1).min(), ranks.iter().map(|r| r.1).max());
    if least == most {
        return Vec::new();
    }
    ranks.into_iter().map(|(core, rank)| (core, usize::from(Some(rank) == least))).collect()
}

/// A performance level of the processor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    /// `Performance`, `Efficiency`; newer machines have other names, and the order alone tells which is which.
    pub name: String,
    pub cores: u32,
}

/// Cores of the types performance and efficiency; None where all are alike. Of more than two levels the least capable is
/// efficiency, all others performance.
pub fn cores_by_type(levels: &[Level]) -> Option<[u32; 2]> {
    let (last, others) = levels.split_last()?;
    (!others.is_empty()).then(|| [others.iter().map(|l| l.cores).sum(), last.cores])
}

/// `OSThermalPressureLevel` of macOS (libkern/OSThermalNotification.h): nominal, moderate, heavy, trapping, sleeping.
pub fn thermal_state(level: u64) -> Option<ThermalState> {
    match level {
        0 => Some(ThermalState::Nominal),
        1 => Some(ThermalState::Fair),
        2 => Some(ThermalState::Serious),
        3 | 4 => Some(ThermalState::Critical),
        _ => None,
    }
}

/// Hundredths of a second that all processors together were busy, as `host_statistics` counts them: in 32 bits, which many
/// processors fill within weeks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ticks {
    pub user: u32,
    pub system: u32,
    pub nice: u32,
}

/// A machine's CPU time, counted on where its ticks begin anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTime {
    last: Option<Ticks>,
    user: u64,
    system: u64,
}

impl CpuTime {
    pub fn advance(&mut self, now: Ticks) {
        let Ticks { user, system, nice } = self.last.replace(now).unwrap_or_default();
        let more = |now: u32, before: u32| u64::from(now.wrapping_sub(before));
        self.user += more(now.user, user) + more(now.nice, nice);
        self.system += more(now.system, system);
    }

    /// Nanoseconds in user space, at whatever priority.
    pub fn user_ns(&self) -> u64 {
        self.user.saturating_mul(TICK_NS)
    }

    /// Nanoseconds in the kernel.
    pub fn system_ns(&self) -> u64 {
        self.system.saturating_mul(TICK_NS)
    }
}

/// What a process has used, by `proc_pid_rusage`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes (`ri_phys_footprint`).
    pub footprint: u64,
    /// Nanoseconds of CPU on all cores, and on performance cores.
    pub cpu_ns: u64,
    pub performance_ns: Option<u64>,
    /// Nanojoules (`ri_energy_nj`).
    pub energy_nj: Option<u64>,
}

impl Usage {
    /// CPU time on performance and efficiency cores, in nanoseconds.
    pub fn by_core_type(&self) -> Option<[u64; 2]> {
        let performance = self.performance_ns?;
        Some([performance, self.cpu_ns.saturating_sub(performance)])
    }

    pub fn joules(&self) -> Option<f64> {
        Some(self.energy_nj? as f64 / 1e9)
    }
}

/// Mach time units in nanoseconds: 125/3 on Apple's processors, 1/1 on Intel's.
pub fn mach_to_ns(units: u64, numer: u32, denom: u32) -> u64 {
    u64::try_from(u128::from(units) * u128::from(numer) / u128::from(denom.max(1))).unwrap_or(u64::MAX)
}

/// The program that a virtual machine's memory and time are accounted to.
const VM_PROGRAM: &str = "com.apple.Virtualization.VirtualMachine";

/// The virtual machine among those who have a container's disk open: the runtime's helper may have it open too.
pub fn machine_of(openers: &[(u32, String)]) -> Option<u32> {
    openers.iter().find(|(_, program)| program.ends_with(VM_PROGRAM)).map(|(pid, _)| *pid)
}

/// The disk that a container's virtual machine, and no other program's, has open; None for a name that is no folder's.
pub fn disk_of(root: &Path, id: &str) -> Option<PathBuf> {
    let plain = !id.is_empty() && !id.starts_with('.') && !id.contains(['/', '\0']);
    plain.then(|| root.join("containers").join(id).join("rootfs.ext4"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(name: &str) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/apple/host-inferred").join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    #[test]
    fn levels_of_a_machine_are_core_types() {
        let text = sample("sysctl-n-m3pro.txt");
        let get = |key: &str| text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(": ")).unwrap();
        let levels: Vec<Level> = (0..get("hw.nperflevels").parse().unwrap())
            .map(|n: u32| Level {
                name: get(&format!("hw.perflevel{n}.name")).to_owned(),
                cores: get(&format!("hw.perflevel{n}.physicalcpu")).parse().unwrap(),
            })
            .collect();
        assert_eq!(cores_by_type(&levels), Some([6, 6]));
    }

    #[test]
    fn other_tier_names_are_told_by_their_order() {
        let level = |name: &str, cores| Level { name: name.to_owned(), cores };
        assert_eq!(cores_by_type(&[level("Super", 4), level("Performance", 6)]), Some([4, 6]));
        assert_eq!(cores_by_type(&[level("S", 2), level("P", 4), level("E", 6)]), Some([6, 6]));
        assert_eq!(cores_by_type(&[level("Performance", 8)]), None);
        assert_eq!(cores_by_type(&[]), None);
    }

    #[test]
    fn cores_have_the_type_of_their_cluster() {
        let of = |kinds: &str| {
            let clusters: Vec<_> = (0..).zip(kinds.chars().map(String::from)).collect();
            core_types(&clusters).into_iter().map(|(core, place)| (core, ["p", "e"][place])).collect::<Vec<_>>()
        };
        assert_eq!(of("EEPP"), [(0, "e"), (1, "e"), (2, "p"), (3, "p")]);
        assert_eq!(of("EPM"), [(0, "e"), (1, "p"), (2, "p")]);
        assert_eq!(of("MP"), [(0, "e"), (1, "p")]);
        assert_eq!(of("PPP"), [], "all alike");
        assert_eq!(of("E?P"), [(0, "e"), (2, "p")]);
    }

    #[test]
    fn energy_adds_up_and_what_never_used_any_is_not_there() {
        let mut energy = Energy::default();
        for (part, watts) in [("cpu", 2.0), ("ane", 0.0), ("gpu", f32::NAN), ("cpu", 1.0), ("gpu", -1.0)] {
            energy.add(part, watts, 5.0);
        }
        assert_eq!(energy.by_part(), [("cpu", 15.0)]);
    }

    #[test]
    fn thermal_pressure_has_four_states() {
        use ThermalState::*;
        let states: Vec<_> = (0..6).map(thermal_state).collect();
        assert_eq!(states, [Some(Nominal), Some(Fair), Some(Serious), Some(Critical), Some(Critical), None]);
    }

    #[test]
    fn cpu_time_counts_on_where_ticks_begin_anew() {
        let mut time = CpuTime::default();
        time.advance(Ticks { user: 100, system: u32::MAX - 4, nice: 50 });
        assert_eq!((time.user_ns(), time.system_ns()), (1_500_000_000, (u64::from(u32::MAX) - 4) * 10_000_000));
        time.advance(Ticks { user: 101, system: 5, nice: 50 });
        assert_eq!((time.user_ns(), time.system_ns()), (1_510_000_000, (u64::from(u32::MAX) + 6) * 10_000_000));
    }

    #[test]
    fn a_machine_is_found_by_the_disk_it_has_open() {
        let root = Path::new("/Users/alice/Library/Application Support/com.apple.container");
        let programs = sample("ps-axo-pid-ppid-rss-command.txt");
        let program = |pid: u32| {
            let line = programs.lines().find(|l| l.split_whitespace().next() == Some(&pid.to_string())).unwrap();
            line[line.find('/').unwrap()..].to_owned()
        };
        // Who has what open, as lsof -Fpfn tells it.
        let (open, mut pid) = (sample("lsof-Fpfn-vm.txt"), 0);
        let mut files = Vec::new();
        for line in open.lines() {
            match line.split_at(1) {
                ("p", number) => pid = number.parse().unwrap(),
                ("n", name) => files.push((pid, name.to_owned())),
                _ => {}
            }
        }
        for (id, vm) in [("web", 61734), ("k8s-dev", 61802)] {
            let disk = disk_of(root, id).unwrap();
            let mut openers: Vec<(u32, String)> =
                files.iter().filter(|(_, f)| Path::new(f) == disk).map(|(pid, _)| (*pid, program(*pid))).collect();
            // The helper first.
            openers.insert(0, (61733, program(61733)));
            assert_eq!(machine_of(&openers), Some(vm), "{id}");
        }
        assert_eq!(machine_of(&[]), None);
        for id in ["", "..", "../../etc", ".hidden", "a/b"] {
            assert_eq!(disk_of(root, id), None, "{id}");
        }
    }

    #[test]
    fn units() {
        assert_eq!(mach_to_ns(24_000_000, 125, 3), 1_000_000_000);
        assert_eq!(mach_to_ns(u64::MAX, 125, 3), u64::MAX);
        assert_eq!(mach_to_ns(5, 1, 0), 5);
        let usage = Usage { cpu_ns: 10, performance_ns: Some(7), energy_nj: Some(500_000_000), footprint: 1 };
        assert_eq!((usage.by_core_type(), usage.joules()), (Some([7, 3]), Some(0.5)));
        assert_eq!((Usage::default().by_core_type(), Usage::default().joules()), (None, None));
    }
}
