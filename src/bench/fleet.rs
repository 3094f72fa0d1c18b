//! Many containers to measure with: real cgroups with a process each, or files that look like them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::kernel::switches;
use crate::root::{Nanos, Root, Scratch, SwitchCounter};
use crate::runtime::{CgroupPaths, Container, Identity, RuntimeKind};

/// Files of a container's cgroup on v2, as a small web server leaves them.
const FILES: [(&str, &str); 22] = [
    ("cgroup.controllers", "cpuset cpu io memory pids\n"),
    ("cgroup.events", "populated 1\nfrozen 0\n"),
    ("cgroup.procs", ""),
    (
        "cpu.stat",
        "usage_usec 81234567\nuser_usec 61234567\nsystem_usec 20000000\nnr_periods 81234\nnr_throttled 12\nthrottled_usec 93121\nnr_bursts 0\nburst_usec 0\n",
    ),
    ("cpu.max", "200000 100000\n"),
    ("cpu.weight", "100\n"),
    (
        "cpu.pressure",
        "some avg10=0.00 avg60=0.12 avg300=0.08 total=81231\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=4123\n",
    ),
    ("cpuset.cpus.effective", "0-3\n"),
    ("memory.current", "104857600\n"),
    ("memory.peak", "136314880\n"),
    ("memory.low", "0\n"),
    ("memory.max", "268435456\n"),
    ("memory.swap.current", "0\n"),
    ("memory.swap.max", "max\n"),
    ("memory.events", "low 0\nhigh 0\nmax 3\noom 0\noom_kill 0\noom_group_kill 0\n"),
    (
        "memory.stat",
        "anon 52428800\nfile 41943040\nkernel 6291456\nkernel_stack 262144\npagetables 524288\nsec_pagetables 0\npercpu 1440\nsock 8192\nvmalloc 0\nshmem 1048576\nzswap 0\nzswapped 0\nfile_mapped 10485760\nfile_dirty 4096\nfile_writeback 0\nswapcached 0\nanon_thp 0\nfile_thp 0\nshmem_thp 0\ninactive_anon 1048576\nactive_anon 52428800\ninactive_file 20971520\nactive_file 19922944\nunevictable 0\nslab_reclaimable 3145728\nslab_unreclaimable 1048576\nslab 4194304\nworkingset_refault_anon 0\nworkingset_refault_file 812\nworkingset_activate_anon 0\nworkingset_activate_file 312\nworkingset_restore_anon 0\nworkingset_restore_file 0\nworkingset_nodereclaim 0\npgscan 20312\npgsteal 19231\npgscan_kswapd 20312\npgscan_direct 0\npgsteal_kswapd 19231\npgsteal_direct 0\npgfault 812345\npgmajfault 123\npgrefill 0\npgactivate 8123\npgdeactivate 0\npglazyfree 0\npglazyfreed 0\nthp_fault_alloc 0\nthp_collapse_alloc 0\n",
    ),
    (
        "memory.pressure",
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=1231\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=812\n",
    ),
    ("io.stat", "259:0 rbytes=81231872 wbytes=20312064 rios=8123 wios=2031 dbytes=0 dios=0\n"),
    (
        "io.pressure",
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=9123\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=8123\n",
    ),
    ("memory.high", "max\n"),
    ("pids.current", "12\n"),
    ("pids.max", "4096\n"),
];

/// v1 hierarchies that a container has a cgroup in.
const V1: [&str; 7] = ["memory", "cpu", "cpuacct", "blkio", "pids", "cpuset", "perf_event"];

/// Containers that exist while this does.
pub struct Fleet {
    pub root: Root,
    /// Their cgroups' parent, below every hierarchy.
    pub parent: String,
    pub size: usize,
    /// Removed in this order: processes before their cgroups.
    processes: Vec<tokio::process::Child>,
    folders: Vec<Scratch>,
}

impl Fleet {
    /// Real cgroups in every hierarchy of this host, with one sleeping process each. Needs root.
    pub async fn real(size: usize) -> Result<Self, String> {
        let root = Root::default();
        let parent = format!("/kina-bench-{}", std::process::id());
        let mut fleet =
            Self { root: root.clone(), parent: parent.clone(), size, processes: Vec::new(), folders: Vec::new() };
        let mounts = mounts(&root);
        for mount in mounts.values() {
            let top = below(mount, &parent);
            let made = Scratch::new(&top).map_err(|e| format!("{}: {e}", top.display()))?;
            fleet.folders.push(made);
            // Only the unified hierarchy has this file, and only a delegated controller can be passed on.
            for controller in ["+cpu", "+memory", "+io", "+pids", "+cpuset"] {
                let _ = Scratch::write(&top.join("cgroup.subtree_control"), controller);
            }
            for i in 0..size {
                let folder = top.join(name(i));
                fleet.folders.push(Scratch::new(&folder).map_err(|e| format!("{}: {e}", folder.display()))?);
            }
        }
        for i in 0..size {
            fleet.start_process(&mounts, i).map_err(|e| format!("a process for a cgroup: {e}"))?;
        }
        Ok(fleet)
    }

    fn start_process(&mut self, mounts: &BTreeMap<String, PathBuf>, i: usize) -> Result<(), String> {
        let child = self.root.command(Path::new("sleep")).arg("infinity").spawn().map_err(|e| e.to_string())?;
        let pid = child.id().unwrap_or_default().to_string();
        self.processes.push(child);
        // A v1 cpuset takes no process before its CPUs are set: it is left without.
        for mount in mounts.iter().filter(|(name, _)| *name != "cpuset").map(|(_, mount)| mount) {
            let file = below(mount, &self.parent).join(name(i)).join("cgroup.procs");
            Scratch::write(&file, &pid).map_err(|e| format!("{}: {e}", file.display()))?;
        }
        Ok(())
    }

    /// Files in memory that look like cgroups of v2; everything else, their process too, is this host's.
    pub fn simulated(size: usize) -> Result<Self, String> {
        let folder = PathBuf::from(format!("/dev/shm/kina-bench-{}-{size}", std::process::id()));
        let made = Scratch::new(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let root = Root { cgroup: folder.clone(), ..Root::default() };
        let mut fleet =
            Self { root: root.clone(), parent: "/bench".into(), size, processes: Vec::new(), folders: vec![made] };
        let put = |path: &Path, text: &str| Scratch::write(path, text).map_err(|e| format!("{}: {e}", path.display()));
        // One process stands for all.
        let sleeper = root.command(Path::new("sleep")).arg("infinity").spawn().map_err(|e| format!("sleep: {e}"))?;
        let process = format!("{}\n", sleeper.id().unwrap_or_default());
        fleet.processes.push(sleeper);
        for (file, text) in FILES {
            let text = if file == "cgroup.procs" { &process } else { text };
            put(&folder.join(file), text)?;
            for i in 0..size {
                put(&folder.join("bench").join(name(i)).join(file), text)?;
            }
        }
        Ok(fleet)
    }

    /// The counters that an exporter may open for it.
    pub fn switch_counters(&self) -> Result<Vec<SwitchCounter>, String> {
        let mounts = mounts(&self.root);
        let mount = mounts.get("perf_event").or(mounts.get("")).ok_or("no hierarchy has counters")?;
        let mut counters = Vec::new();
        for i in 0..self.size {
            let path = below(mount, &self.parent).join(name(i));
            let folder = self.root.open_dir(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            for cpu in switches::online(&self.root) {
                counters.push(SwitchCounter::open(&folder, cpu).map_err(|e| format!("a counter: {e}"))?);
            }
        }
        Ok(counters)
    }

    /// Ends the processes and removes the cgroups.
    pub async fn remove(mut self) {
        for process in &mut self.processes {
            let _ = process.kill().await;
        }
        // Children before their parents.
        while self.folders.pop().is_some() {}
    }
}

/// The containers of a fleet, as another process finds them by its root and parent.
pub fn containers(root: &Root, parent: &str, size: usize) -> Vec<Container> {
    let mounts = mounts(root);
    (0..size).map(|i| container(root, &mounts, parent, i)).collect()
}

fn container(root: &Root, mounts: &BTreeMap<String, PathBuf>, parent: &str, i: usize) -> Container {
    let id = format!("{parent}/{}", name(i));
    let mut cgroup = CgroupPaths::default();
    let mut pid = 0;
    for (controller, mount) in mounts {
        let folder = below(mount, &id);
        if pid == 0 {
            let procs = root.read_to_string(&folder.join("cgroup.procs")).unwrap_or_default();
            pid = procs.lines().next().and_then(|l| l.parse().ok()).unwrap_or_default();
        }
        match controller.as_str() {
            "" => cgroup.v2 = Some(id.clone()),
            v1 => drop(cgroup.v1.insert(v1.to_owned(), id.clone())),
        }
    }
    let identity =
        Identity { id, name: name(i), image: "registry.example/shop/web:1.27.3".into(), ..Identity::default() };
    let started: Nanos = 1_700_000_000_000_000_000;
    Container {
        runtime: RuntimeKind::Docker,
        native_id: format!("{i:064x}"),
        labels: Arc::new(identity.labels(RuntimeKind::Docker)),
        identity,
        cgroup,
        pid,
        created: Some(started),
        started: Some(started),
        ..Container::default()
    }
}

fn name(i: usize) -> String {
    format!("c{i:05}")
}

/// Hierarchies by v1 controller; "" is the unified one.
fn mounts(root: &Root) -> BTreeMap<String, PathBuf> {
    let base = &root.cgroup;
    if root.exists(&base.join("cgroup.controllers")) {
        return [(String::new(), base.clone())].into();
    }
    let mut mounts: BTreeMap<String, PathBuf> =
        V1.iter().map(|c| ((*c).to_owned(), base.join(c))).filter(|(_, m)| root.exists(m)).collect();
    let unified = base.join("unified");
    if root.exists(&unified) {
        mounts.insert(String::new(), unified);
    }
    mounts
}

fn below(mount: &Path, path: &str) -> PathBuf {
    mount.join(path.trim_start_matches('/'))
}
