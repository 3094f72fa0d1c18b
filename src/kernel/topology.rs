//! CPUs of this machine by core type.

use crate::kernel::parse::cpu_list;
use crate::root::{ReadError, Root};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoreType {
    Performance,
    Efficiency,
}

impl CoreType {
    /// Values of the `core_type` label, in the order in which pairs of figures are kept.
    pub const NAMES: [&'static str; 2] = ["performance", "efficiency"];
    /// The label's value where the machine has one kind of core.
    pub const UNIFORM: &'static str = "uniform";
}

/// Which logical CPUs there are, and of what type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    /// Logical CPUs that are online.
    pub online: Vec<u32>,
    /// By CPU number; empty where the machine has one kind of core.
    types: Vec<Option<CoreType>>,
}

impl Topology {
    /// The type of a CPU; None where the machine has one kind of core.
    #[inline]
    pub fn core_type(&self, cpu: u32) -> Option<CoreType> {
        *self.types.get(cpu as usize)?
    }

    pub fn is_hybrid(&self) -> bool {
        !self.types.is_empty()
    }

    /// Counts CPUs of each type; None where the machine has one kind of core.
    pub fn count(&self, cpus: impl IntoIterator<Item = u32>) -> Option<[u32; 2]> {
        self.is_hybrid().then(|| {
            let mut n = [0; 2];
            for t in cpus.into_iter().filter_map(|c| self.core_type(c)) {
                n[t as usize] += 1;
            }
            n
        })
    }

    fn set(&mut self, cpu: u32, core_type: CoreType) {
        let at = cpu as usize;
        if at >= self.types.len() {
            self.types.resize(at + 1, None);
        }
        self.types[at] = Some(core_type);
    }
}

/// Numbers of cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cores {
    /// Logical CPUs that are online.
    pub cpus: u32,
    /// None where the topology can't be read.
    pub physical: Option<u32>,
    /// Physical ones by type; None where the machine has one kind of core.
    pub by_type: Option<[u32; 2]>,
}

impl Topology {
    /// Counts cores: of the CPUs that are threads of one core (`topology/thread_siblings_list`), the first stands for it.
    pub fn cores(&self, root: &Root) -> Cores {
        let first_sibling = |cpu: u32| {
            let path = root.sysfs.join(format!("devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"));
            Some(cpu_list(&root.read_bytes(&path).ok()?).next()?.ok()?.0)
        };
        let mut firsts: Option<Vec<u32>> = self.online.iter().map(|&cpu| first_sibling(cpu)).collect();
        if let Some(firsts) = &mut firsts {
            firsts.sort_unstable();
            firsts.dedup();
        }
        let by_type = self.count(firsts.as_ref().unwrap_or(&self.online).iter().copied());
        Cores { cpus: self.online.len() as u32, physical: firsts.map(|f| f.len() as u32), by_type }
    }
}

/// Reads `/sys/devices/system/cpu/online`, and the core types from `cpu_core`/`cpu_atom` (x86 hybrid) or each CPU's
/// `cpu_capacity` (arm64, and x86 since Linux 6.12).
pub fn read(root: &Root) -> Result<Topology, ReadError> {
    let cpus = |path: &str| -> Result<Vec<u32>, ReadError> {
        let bytes = root.read_bytes(&root.sysfs.join(path))?;
        let mut all = Vec::new();
        for range in cpu_list(&bytes) {
            let (first, last) = range.map_err(|_| ReadError::Malformed)?;
            all.extend(first..=last);
        }
        Ok(all)
    };
    let mut t = Topology { online: cpus("devices/system/cpu/online")?, types: Vec::new() };
    if let (Ok(core), Ok(atom)) = (cpus("devices/cpu_core/cpus"), cpus("devices/cpu_atom/cpus")) {
        if !core.is_empty() && !atom.is_empty() {
            core.into_iter().for_each(|c| t.set(c, CoreType::Performance));
            atom.into_iter().for_each(|c| t.set(c, CoreType::Efficiency));
        }
        return Ok(t);
    }
    let capacities: Vec<(u32, u64)> = t
        .online
        .iter()
        .filter_map(|&cpu| {
            let path = root.sysfs.join(format!("devices/system/cpu/cpu{cpu}/cpu_capacity"));
            Some((cpu, crate::kernel::parse::value(&root.read_bytes(&path).ok()?).ok()?))
        })
        .collect();
    by_capacity(&mut t, &capacities);
    Ok(t)
}

/// Of more than two steps (big, middle, little), those with at least two thirds of the greatest capacity are performance
/// cores. Steps closer than that are one kind: favoured cores of one design differ by a few per cent.
fn by_capacity(t: &mut Topology, capacities: &[(u32, u64)]) {
    let Some(most) = capacities.iter().map(|c| c.1).max() else { return };
    let performs = |capacity: u64| capacity.saturating_mul(3) >= most.saturating_mul(2);
    if capacities.iter().all(|c| performs(c.1)) {
        return;
    }
    for &(cpu, capacity) in capacities {
        t.set(cpu, if performs(capacity) { CoreType::Performance } else { CoreType::Efficiency });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capacities(values: &[u64]) -> Topology {
        let mut t = Topology { online: (0..values.len() as u32).collect(), types: Vec::new() };
        let pairs: Vec<_> = values.iter().enumerate().map(|(i, v)| (i as u32, *v)).collect();
        by_capacity(&mut t, &pairs);
        t
    }

    #[test]
    fn cores_are_counted_by_their_first_threads() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path(), crate::root::Clock::System);
        let put = |path: &str, text: &str| {
            let path = dir.path().join("sys/devices").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("system/cpu/online", "0-5\n");
        put("cpu_core/cpus", "0-3\n");
        put("cpu_atom/cpus", "4-5\n");
        let uncounted = Cores { cpus: 6, physical: None, by_type: Some([4, 2]) };
        assert_eq!(read(&root).unwrap().cores(&root), uncounted);
        for (cpu, siblings) in [(0, "0-1"), (1, "0-1"), (2, "2-3"), (3, "2-3"), (4, "4"), (5, "5")] {
            put(&format!("system/cpu/cpu{cpu}/topology/thread_siblings_list"), siblings);
        }
        let counted = Cores { cpus: 6, physical: Some(4), by_type: Some([2, 2]) };
        assert_eq!(read(&root).unwrap().cores(&root), counted);
    }

    #[test]
    fn types_by_capacity() {
        let t = capacities(&[1024, 1024, 446, 446, 446]);
        assert_eq!(t.count(0..5), Some([2, 3]));
        assert_eq!(t.count([1, 2]), Some([1, 1]));
        assert_eq!(capacities(&[1024, 900, 300]).count(0..3), Some([2, 1]));
        assert_eq!(capacities(&[1024, 1010]).count(0..2), None, "favoured cores are no core type");
        assert_eq!(capacities(&[]).count(0..2), None);
    }
}
