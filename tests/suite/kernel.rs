//! Kernel readers over recorded trees, broken files and real kernels.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kina_exporter::catalog::{self, FamilyId};
use kina_exporter::config::{CollectorSet, Config};
use kina_exporter::engine::{Collection, Shared, Worker};
use kina_exporter::kernel::file::Budget;
use kina_exporter::probe::Answer;
use kina_exporter::root::{Clock, FakeClock, Root, SECOND};
use kina_exporter::runtime::{CgroupPaths, Container, Identity, RuntimeKind};
use kina_exporter::sample::Entity;

use crate::common::{self, recorded};
use crate::vm::Guest;

/// Docker's id in the recorded trees.
const ID: &str = "3f1d4e0c52a94b7f8f6e1f0a9c7d5b3e2a1908f7e6d5c4b3a29180706f5e4d3c";

/// An exporter without runtimes: what is in the directory, the test puts there.
struct Rig {
    shared: Arc<Shared>,
    worker: Worker,
    clock: Arc<FakeClock>,
}

impl Rig {
    fn new(dir: &Path) -> Self {
        Self::with(dir, Config::default(), 1 << 20)
    }

    /// With so many descriptors for kernel files.
    fn with(dir: &Path, config: Config, descriptors: usize) -> Self {
        let (root, clock) = common::fake_root(dir);
        Self::over(root, clock, config, descriptors)
    }

    fn over(root: Root, clock: Arc<FakeClock>, config: Config, descriptors: usize) -> Self {
        clock.boot.store(1_000 * SECOND, Ordering::Relaxed);
        clock.wall.store(1_700_000_000 * SECOND, Ordering::Relaxed);
        // As the exporter does: shells allow few, and all tests of this process share them.
        kina_exporter::root::raise_descriptor_limit();
        let shared = Shared::new(root, config);
        let worker = Worker::new(shared.clone(), Budget::new(descriptors));
        Self { shared, worker, clock }
    }

    fn collect(&mut self) -> Arc<Collection> {
        self.worker.collect(CollectorSet::ALL)
    }

    fn pass(&self, seconds: i64) {
        self.clock.boot.fetch_add(seconds * SECOND, Ordering::Relaxed);
        self.clock.wall.fetch_add(seconds * SECOND, Ordering::Relaxed);
    }

    fn add(&self, container: Container) {
        self.shared.directory.insert(container);
    }

    fn reason(&self, capability: &str) -> Option<Answer> {
        self.shared.capabilities.get(capability)
    }
}

/// A container at this path in every hierarchy.
fn container(path: &str) -> Container {
    let identity = Identity { id: path.into(), name: "web".into(), image: "busybox".into(), ..Identity::default() };
    let controllers = ["cpu", "cpuacct", "cpuset", "memory", "blkio", "pids", "perf_event"];
    Container {
        runtime: RuntimeKind::Docker,
        native_id: path.rsplit('/').next().unwrap().into(),
        labels: Arc::new(identity.labels(RuntimeKind::Docker)),
        identity,
        cgroup: CgroupPaths {
            v2: Some(path.into()),
            v1: controllers.into_iter().map(|c| (c.to_owned(), path.to_owned())).collect(),
        },
        ..Container::default()
    }
}

/// The value of the sample of a family with these extra labels, of the container with this id.
fn value(c: &Collection, family: FamilyId, id: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let rows = &c.samples.table(family).rows;
    let mut found = rows.iter().filter(|r| {
        let all: Vec<(&str, &str)> = c.samples.labels(r.entity, r.extra).collect();
        (id.is_empty() == (r.entity == Entity::NONE))
            && (id.is_empty() || all.contains(&("id", id)))
            && labels.iter().all(|l| all.contains(l))
    });
    let value = found.next()?.value;
    assert!(found.next().is_none(), "{} has more than one sample with {labels:?}", family.name());
    Some(value)
}

const TREES: [(&str, &str); 7] = [
    ("v1", "/docker/ID"),
    ("hybrid", "/docker/ID"),
    ("hybrid-cores", "/docker/ID"),
    ("v2", "/system.slice/docker-ID.scope"),
    ("v2-no-pressure", "/system.slice/docker-ID.scope"),
    (
        "kubernetes-systemd",
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod6c4f8a52_1b1e_4a0d_9f5e_0c7a2b3d4e5f.slice/cri-containerd-ID.scope",
    ),
    ("kubernetes-cgroupfs", "/kubepods/burstable/pod6c4f8a52-1b1e-4a0d-9f5e-0c7a2b3d4e5f/ID"),
];

fn path_in(tree: &str) -> String {
    TREES.iter().find(|(name, _)| *name == tree).unwrap().1.replace("ID", ID)
}

/// A collection of a recorded tree with its one container, whose id comes with it.
fn collect_tree(tree: &str) -> (Rig, Arc<Collection>, String, tempfile::TempDir) {
    let dir = recorded(tree);
    let mut rig = Rig::new(dir.path());
    let id = path_in(tree);
    rig.add(container(&id));
    let collection = rig.collect();
    (rig, collection, id, dir)
}

#[test]
fn memory_kinds_add_up_to_the_kernels_usage() {
    for (tree, _) in TREES {
        let (_, c, id, _dir) = collect_tree(tree);
        let usage = value(&c, catalog::MEMORY_USAGE, &id, &[]).unwrap();
        let kinds = ["process", "shared_libraries", "page_cache", "guest_kernel"];
        let sum: f64 = kinds.iter().map(|k| value(&c, catalog::MEMORY_KIND, &id, &[("kind", k)]).unwrap()).sum();
        let off = (sum - usage).abs();
        assert!(off <= (usage * 0.02).max(1_048_576.0), "{tree}: {sum} of {usage}");
        assert_eq!(value(&c, catalog::MEMORY_ALLOCATED, &id, &[]), Some(67_108_864.0), "{tree}");
        assert!(value(&c, catalog::MEMORY_EFFICIENCY, &id, &[]).is_some_and(|e| e > 0.0 && e < 1.0), "{tree}");
    }
}

#[test]
fn every_tree_tells_cpu_processes_and_the_machine() {
    for (tree, _) in TREES {
        let (mut rig, c, id, _dir) = collect_tree(tree);
        let usage = value(&c, catalog::CPU_USAGE, &id, &[("cpu", "total")]).unwrap();
        let parts = [catalog::CPU_USER, catalog::CPU_SYSTEM].map(|f| value(&c, f, &id, &[]).unwrap());
        assert!(usage > 0.0 && (parts[0] + parts[1] - usage).abs() < 0.03, "{tree}: {parts:?} of {usage}");
        assert_eq!(value(&c, catalog::CPU_ALLOCATED, &id, &[]), Some(0.5), "{tree}: quota ÷ period");
        assert_eq!(value(&c, catalog::CONTAINER_SPEC_CPU_QUOTA, &id, &[]), Some(50_000.0), "{tree}");
        assert!(value(&c, catalog::CPU_CFS_PERIODS, &id, &[]).is_some(), "{tree}");
        assert_eq!(value(&c, catalog::CPU_CFS_PERIODS, "/", &[]), None, "{tree}: no quota, no periods");
        for family in [catalog::PROCESSES, catalog::THREADS, catalog::THREADS_MAX, catalog::FILE_DESCRIPTORS] {
            assert!(value(&c, family, &id, &[]).is_some(), "{tree}: {}", family.name());
        }
        assert!(value(&c, catalog::PROCESSES, &id, &[]) > Some(0.0), "{tree}");
        assert!(value(&c, catalog::FILE_DESCRIPTORS, &id, &[]) > Some(2.0), "{tree}");
        let read = value(&c, catalog::STORAGE_LOGICAL_READ, &id, &[]);
        assert!(read > Some(0.0), "{tree}: {read:?}");
        for kind in ["voluntary", "involuntary"] {
            assert!(value(&c, catalog::CONTEXT_SWITCHES, &id, &[("kind", kind)]).is_some(), "{tree}: {kind}");
        }
        let machine = [catalog::CPU_ALLOCATED, catalog::MEMORY_USAGE, catalog::MEMORY_WORKING_SET, catalog::OOM_EVENTS];
        for family in machine.into_iter().chain([catalog::MEMORY_RSS, catalog::MEMORY_ALLOCATED, catalog::THREADS]) {
            assert!(value(&c, family, "/", &[]).is_some(), "{tree}: machine's {}", family.name());
        }
        assert!(value(&c, catalog::CPU_USAGE, "/", &[]) >= Some(usage), "{tree}");
        for collector in ["cpu", "memory", "storage", "process", "pressure", "lifecycle"] {
            let success = value(&c, catalog::COLLECTOR_SUCCESS, "", &[("collector", collector)]);
            assert_eq!(success, Some(1.0), "{tree}: {collector}");
        }
        rig.pass(10);
        let c = rig.collect();
        assert_eq!(value(&c, catalog::CPU_CAPACITY, &id, &[]), Some(5.0), "{tree}: half a core for 10 s");
        assert_eq!(value(&c, catalog::CPU_IDLE, &id, &[]), Some(5.0), "{tree}: the recorded usage stands still");
    }
}

#[test]
fn page_faults_are_told_once() {
    let scope = |scope| [("failure_type", "pgfault"), ("scope", scope)];
    let (_, v2, id, _dir) = collect_tree("v2");
    assert_eq!(value(&v2, catalog::MEMORY_FAILURES, &id, &scope("container")), None);
    assert!(value(&v2, catalog::MEMORY_FAILURES, &id, &scope("hierarchy")).is_some());
    let (_, v1, id, _dir) = collect_tree("v1");
    assert!(value(&v1, catalog::MEMORY_FAILURES, &id, &scope("container")).is_some());
    assert!(value(&v1, catalog::MEMORY_FAILURES, &id, &scope("hierarchy")).is_some());
}

#[test]
fn pressure_is_told_or_why_not() {
    for (tree, why) in [
        ("v2", None),
        ("hybrid", None),
        ("v2-no-pressure", Some("CONFIG_PSI is off or psi=0")),
        ("v1", Some("cgroup v1 has no pressure files")),
    ] {
        let (rig, c, id, _dir) = collect_tree(tree);
        let told = value(&c, catalog::PRESSURE_CPU_WAITING, &id, &[]);
        let answer = rig.reason("pressure").unwrap();
        match why {
            None => assert!(told.is_some() && answer == Answer::Yes, "{tree}: {told:?} {answer:?}"),
            Some(why) => assert_eq!((told, answer), (None, Answer::No(why.into())), "{tree}"),
        }
    }
}

#[test]
fn block_io_is_told_by_device_name() {
    let (_, v2, id, _dir) = collect_tree("v2");
    let of = |c: &Collection, family, device| value(c, family, &id, &[("device", device)]);
    assert_eq!(of(&v2, catalog::FS_READS_BYTES, "/dev/sda"), Some(10_485_760.0));
    assert_eq!(of(&v2, catalog::FS_WRITES, "/dev/sda"), Some(1.0));
    assert_eq!(
        v2.samples
            .table(catalog::FS_READS)
            .rows
            .iter()
            .filter(|r| r.extra != kina_exporter::sample::Extra::NONE)
            .count(),
        1
    );
    let (_, v1, id, _dir) = collect_tree("v1");
    let of = |family| value(&v1, family, &id, &[("device", "/dev/vda")]);
    assert_eq!((of(catalog::FS_READS_BYTES), of(catalog::FS_WRITES)), (Some(20_971_520.0), Some(2.0)));
}

#[test]
fn core_types_are_told_apart() {
    let (_, c, id, _dir) = collect_tree("hybrid-cores");
    let of = |family, core_type| value(&c, family, &id, &[("core_type", core_type)]);
    assert_eq!(of(catalog::CPU_AFFINITY, "performance"), Some(2.0));
    assert_eq!(of(catalog::CPU_AFFINITY, "efficiency"), Some(4.0));
    assert_eq!(of(catalog::CPU_CORE_TYPE_SECONDS, "performance"), Some(1.0));
    assert_eq!(of(catalog::CPU_CORE_TYPE_SECONDS, "efficiency"), Some(0.1));
    let (_, c, id, _dir) = collect_tree("v1");
    assert_eq!(value(&c, catalog::CPU_AFFINITY, &id, &[("core_type", "uniform")]), Some(2.0));
    assert!(c.samples.table(catalog::CPU_CORE_TYPE_SECONDS).is_empty());
}

#[test]
fn a_container_that_is_not_there_is_not_shown() {
    let dir = recorded("v2");
    let mut rig = Rig::new(dir.path());
    rig.add(container("/system.slice/docker-0.scope"));
    let c = rig.collect();
    assert_eq!(value(&c, catalog::CONTAINER_LAST_SEEN, "/system.slice/docker-0.scope", &[]), None);
    assert!(c.snapshot.containers.iter().all(|f| f.container.identity.id == "/"));
    // Without a cgroup to look for (a VM's container) nothing is missing.
    let mut vm = container("/vm");
    vm.cgroup = CgroupPaths::default();
    rig.add(vm);
    assert!(value(&rig.collect(), catalog::CONTAINER_LAST_SEEN, "/vm", &[]).is_some());
}

#[test]
fn over_the_descriptor_limit_files_are_read_by_path() {
    let (_, held, id, _dir) = collect_tree("v2");
    let dir = recorded("v2");
    let mut rig = Rig::with(dir.path(), Config::default(), 0);
    rig.add(container(&id));
    let by_path = rig.collect();
    for family in catalog::ids().filter(|f| f.family().scope == catalog::Scope::Container) {
        let rows = |c: &Collection| c.samples.table(family).rows.iter().map(|r| r.value.to_bits()).collect::<Vec<_>>();
        assert_eq!(rows(&held), rows(&by_path), "{}", family.name());
    }
    // Its cgroup goes: so does the container, at once and without a failure.
    std::fs::remove_dir_all(dir.path().join("sys/fs/cgroup/system.slice")).unwrap();
    let c = rig.collect();
    assert_eq!(value(&c, catalog::CONTAINER_LAST_SEEN, &id, &[]), None);
    assert_eq!(value(&c, catalog::COLLECTOR_SUCCESS, "", &[("collector", "memory")]), Some(1.0));
    assert!(c.samples.table(catalog::READ_ERRORS).is_empty());
}

#[test]
fn a_reused_pid_is_another_process() {
    let dir = recorded("v2");
    let id = path_in("v2");
    let procs = dir.path().join("sys/fs/cgroup").join(&id[1..]).join("cgroup.procs");
    std::fs::write(&procs, "77\n").unwrap();
    let process = |started: u32, switches: u32| {
        common::write_tree(
            dir.path(),
            &format!(
                "== proc/77/stat\n77 (sh) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {started} 0 0\n\
                 == proc/77/io\nrchar: 1000\n\
                 == proc/77/status\nThreads:\t1\nvoluntary_ctxt_switches:\t{switches}\nnonvoluntary_ctxt_switches:\t0\n"
            ),
        );
    };
    let mut rig = Rig::with(dir.path(), Config::default(), 0);
    rig.add(container(&id));
    let mut switches = || value(&rig.collect(), catalog::CONTEXT_SWITCHES, &id, &[("kind", "voluntary")]).unwrap();
    process(100, 10);
    assert_eq!(switches(), 10.0);
    process(100, 15);
    assert_eq!(switches(), 15.0, "the same process goes on");
    process(200, 20);
    assert_eq!(switches(), 35.0, "another start is another process: all of its switches are new");
}

#[test]
fn processes_of_cgroups_below_count_as_these_come_and_go() {
    let dir = recorded("v2");
    let id = path_in("v2");
    let own = dir.path().join("sys/fs/cgroup").join(&id[1..]);
    let put = |below: &str, pids: &str| {
        std::fs::create_dir(own.join(below)).unwrap();
        std::fs::write(own.join(below).join("cgroup.procs"), pids).unwrap();
    };
    let mut rig = Rig::new(dir.path());
    rig.add(container(&id));
    let mut more = {
        let mut count = move || value(&rig.collect(), catalog::PROCESSES, &id, &[]).unwrap();
        let first = count();
        move || count() - first
    };
    put("a", "1001\n1002\n");
    assert_eq!(more(), 2.0);
    put("a/b", "1003\n");
    assert_eq!((more(), more()), (3.0, 3.0));
    std::fs::remove_dir_all(own.join("a/b")).unwrap();
    put("c", "1004\n");
    assert_eq!(more(), 3.0);
    std::fs::remove_dir_all(own.join("a")).unwrap();
    put("d", "");
    std::fs::write(own.join("d/cgroup.procs"), "1005\n1006\n1007\n").unwrap();
    assert_eq!(more(), 4.0, "as many folders as before, but another among them");
}

#[test]
fn a_label_that_is_allowed_is_shown_and_a_container_that_is_excluded_is_not() {
    let dir = recorded("v2");
    let mut config = Config { label_allow: vec!["com.example/tier".into(), "not.there".into()], ..Config::default() };
    config.containers.name_exclude = Some(kina_exporter::config::Pattern::new("secret.*").unwrap());
    let mut rig = Rig::with(dir.path(), config, 100);
    let mut shown = container(&path_in("v2"));
    shown.user_labels.insert("com.example/tier".into(), "front".into());
    shown.user_labels.insert("other".into(), "x".into());
    rig.add(shown.clone());
    copy_cgroups(dir.path(), dir.path(), &path_in("v2"), "hidden");
    let mut hidden = container("/hidden");
    (hidden.identity.name, hidden.native_id) = ("secret-1".into(), "hidden".into());
    rig.add(hidden);
    let c = rig.collect();
    let info = &c.samples.table(catalog::CONTAINER_INFO).rows;
    assert_eq!(info.len(), 1, "{:?}", c.snapshot.containers.iter().map(|f| &f.container.native_id).collect::<Vec<_>>());
    let labels: Vec<_> = c.samples.labels(Entity::NONE, info[0].extra).collect();
    assert!(labels.contains(&("label_com_example_tier", "front")), "{labels:?}");
    assert_eq!(labels.len(), 2, "container_id and the one label: {labels:?}");
    // A new configuration shows it again, without forgetting the other's integrals.
    rig.shared.set_config(Config::default());
    rig.pass(10);
    let c = rig.collect();
    assert_eq!(c.samples.table(catalog::CONTAINER_INFO).rows.len(), 2);
    assert_eq!(c.snapshot.containers.iter().filter(|f| f.cpu.capacity_seconds == Some(5.0)).count(), 1);
}

/// Kernel files that are broken in every way cost themselves alone.
#[test]
fn a_broken_file_costs_itself_alone() {
    let broken: [(&str, Vec<u8>); 6] = [
        ("empty", Vec::new()),
        ("half a line", b"some avg10=0.0".to_vec()),
        ("garbage", (0u8..=255).cycle().take(5000).collect()),
        ("no end of digits", vec![b'9'; 50_000]),
        ("oversized", b"8:0 rbytes=1 anon 5\n".repeat(2_000)),
        ("negative", b"-1\n".to_vec()),
    ];
    for tree in ["v1", "v2", "hybrid-cores"] {
        for (what, content) in &broken {
            let dir = recorded(tree);
            let id = path_in(tree);
            let mut files = Vec::new();
            list_files(&dir.path().join("sys/fs/cgroup"), &mut files);
            list_files(&dir.path().join("proc"), &mut files);
            let mine = |f: &&std::path::PathBuf| !f.ends_with("cgroup.controllers");
            for file in files.iter().filter(mine) {
                std::fs::write(file, content).unwrap();
            }
            let healthy = recorded(tree);
            let name = "healthy";
            copy_cgroups(healthy.path(), dir.path(), &id, name);
            let mut rig = Rig::new(dir.path());
            rig.add(container(&id));
            rig.add(container(&format!("/{name}")));
            for _ in 0..2 {
                let c = rig.collect();
                assert!(value(&c, catalog::MEMORY_USAGE, "/healthy", &[]).is_some(), "{tree}: {what}");
                assert!(value(&c, catalog::CPU_USAGE, "/healthy", &[]).is_some(), "{tree}: {what}");
                rig.pass(10);
            }
            let c = rig.collect();
            let errors = value(&c, catalog::READ_ERRORS, "", &[("collector", "memory"), ("kind", "malformed")]);
            assert!(errors > Some(0.0), "{tree}: {what} was not counted");
            assert_eq!(value(&c, catalog::COLLECTOR_SUCCESS, "", &[("collector", "memory")]), Some(0.0), "{tree}");
        }
    }
}

/// Found by fuzzing: figures that the kernel may write in principle, and whose sums no number holds.
#[test]
fn figures_at_the_end_of_their_range_harm_nothing() {
    let dir = recorded("v2");
    let path = path_in("v2");
    let put = |file: &str, content: String| {
        let at = dir.path().join(file);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::fs::write(at, content).unwrap();
    };
    // The last tick that fits into nanoseconds; the wall clock comes on top.
    let stat = |pid: &str| format!("{pid} (x) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 922337203680 0 0\n");
    put("proc/self/stat", stat("1"));
    put("proc/7/stat", stat("7"));
    for (zone, name) in [("intel-rapl:0", "package-0"), ("intel-rapl:1", "package-1")] {
        put(&format!("sys/class/powercap/{zone}/name"), format!("{name}\n"));
        put(&format!("sys/class/powercap/{zone}/max_energy_range_uj"), format!("{}\n", u64::MAX));
        put(&format!("sys/class/powercap/{zone}/energy_uj"), "0\n".to_owned());
    }
    let mut rig = Rig::new(dir.path());
    rig.add(Container { pid: 7, ..container(&path) });
    rig.collect();
    for zone in ["intel-rapl:0", "intel-rapl:1"] {
        put(&format!("sys/class/powercap/{zone}/energy_uj"), format!("{}\n", u64::MAX));
    }
    let devices = format!("254:0 rbytes={0} wbytes={0} rios={0} wios={0} dbytes=0 dios=0\n", u64::MAX);
    put(&format!("sys/fs/cgroup{path}/io.stat"), devices);
    rig.pass(15);
    let c = rig.collect();
    assert_eq!(value(&c, catalog::CONTAINER_START_TIME, &path, &[]), None, "no clock holds it");
    assert_eq!(value(&c, catalog::FS_READS, &path, &[]), Some(u64::MAX as f64));
    assert_eq!(value(&c, catalog::HOST_ENERGY, "", &[("domain", "package-1")]), Some(u64::MAX as f64 / 1e6));
    rig.pass(15);
    rig.collect();
}

fn list_files(dir: &Path, out: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap() {
            t if t.is_dir() => list_files(&entry.path(), out),
            t if t.is_file() => out.push(entry.path()),
            _ => {}
        }
    }
}

/// Copies a container's folder of every hierarchy from one tree into another, under another name.
fn copy_cgroups(from: &Path, to: &Path, id: &str, name: &str) {
    let mut files = Vec::new();
    let root = from.join("sys/fs/cgroup");
    list_files(&root, &mut files);
    for file in files {
        let relative = file.strip_prefix(&root).unwrap().to_str().unwrap();
        let Some(at) = relative.find(&id[1..]) else { continue };
        let target = to.join("sys/fs/cgroup").join(&relative[..at]).join(name).join(&relative[at + id.len()..]);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(file, target).unwrap();
    }
}

#[test]
fn a_collection_allocates_nothing_for_a_container_once_warm() {
    let warm = |n: usize| {
        let tree = recorded("v2");
        let id = path_in("v2");
        let mut rig = Rig::new(tree.path());
        for i in 0..n {
            copy_cgroups(tree.path(), tree.path(), &id, &format!("c{i}"));
            rig.add(container(&format!("/c{i}")));
            // As crun has it: the processes are in a cgroup below.
            let own = tree.path().join(format!("sys/fs/cgroup/c{i}"));
            std::fs::create_dir(own.join("container")).unwrap();
            std::fs::rename(own.join("cgroup.procs"), own.join("container/cgroup.procs")).unwrap();
            std::fs::write(own.join("cgroup.procs"), "").unwrap();
        }
        // The recorded processes have no namespaces to enter: a few collections look for one.
        for _ in 0..8 {
            rig.collect();
            rig.pass(2);
        }
        let before = common::allocations();
        let collection = rig.collect();
        let allocated = common::allocations() - before;
        assert_eq!(collection.snapshot.containers.len(), n + 1);
        assert!(collection.snapshot.containers[n].process.switches_voluntary.is_some());
        assert!(!collection.snapshot.containers[n].storage.devices.is_empty());
        assert!(collection.advice.items.len() > n, "each container has advice");
        allocated
    };
    // Some twelve descriptors each, of the 1024 that there may be at most.
    let (few, many) = (warm(10), warm(40));
    assert_eq!(few, many, "allocations of 10 and of 40 containers");
}

#[test]
fn refused_files_are_counted_and_cost_themselves_alone() {
    use std::os::unix::fs::PermissionsExt;
    // SAFETY: geteuid has no arguments and cannot fail.
    if unsafe { libc::geteuid() } == 0 {
        // Root is refused nothing here; what it is refused looks like this to the readers.
        return refused_as_a_folder();
    }
    let dir = recorded("v2");
    let id = path_in("v2");
    let file = dir.path().join("sys/fs/cgroup").join(&id[1..]).join("memory.stat");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o0)).unwrap();
    let mut rig = Rig::new(dir.path());
    rig.add(container(&id));
    let c = rig.collect();
    assert_eq!(value(&c, catalog::READ_ERRORS, "", &[("collector", "memory"), ("kind", "denied")]), Some(1.0));
    assert_eq!(value(&c, catalog::MEMORY_RSS, &id, &[]), None);
    assert!(value(&c, catalog::MEMORY_USAGE, &id, &[]).is_some());
}

/// Reading a folder is an error (EISDIR) that has nothing to do with the container's life.
fn refused_as_a_folder() {
    let dir = recorded("v2");
    let id = path_in("v2");
    let file = dir.path().join("sys/fs/cgroup").join(&id[1..]).join("memory.stat");
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let mut rig = Rig::new(dir.path());
    rig.add(container(&id));
    let c = rig.collect();
    assert_eq!(value(&c, catalog::READ_ERRORS, "", &[("collector", "memory"), ("kind", "io")]), Some(1.0));
    assert_eq!(value(&c, catalog::MEMORY_RSS, &id, &[]), None);
    assert!(value(&c, catalog::MEMORY_USAGE, &id, &[]).is_some());
}

/// A real cgroup of this machine, removed when dropped.
struct Group {
    path: String,
    folders: Vec<std::path::PathBuf>,
}

impl Group {
    /// In every hierarchy that is mounted; None (and a word why) where none may be made.
    fn new(name: &str) -> Option<Self> {
        let path = format!("/kina-test-{}-{name}", std::process::id());
        let root = Path::new("/sys/fs/cgroup");
        let mounts: Vec<_> = if root.join("cgroup.controllers").exists() {
            vec![root.to_path_buf()]
        } else {
            ["cpu", "cpuacct", "memory", "pids", "perf_event", "unified"]
                .iter()
                .map(|c| root.join(c))
                .filter(|m| m.exists())
                .collect()
        };
        let group = Self { folders: mounts.iter().map(|m| m.join(&path[1..])).collect(), path };
        if group.folders.is_empty() || !group.make() {
            common::skip("no cgroup can be made here");
            return None;
        }
        Some(group)
    }

    fn make(&self) -> bool {
        self.folders.iter().all(|f| std::fs::create_dir_all(f).is_ok())
    }

    fn remove(&self) {
        for folder in &self.folders {
            let _ = std::fs::remove_dir(folder);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.remove();
    }
}

#[test]
fn a_cgroup_that_vanishes_is_gone_and_one_that_is_back_is_read_anew() {
    let Some(group) = Group::new("vanish") else { return };
    let clock = Arc::new(FakeClock::default());
    let root = Root { clock: Clock::Fake(clock.clone()), ..Root::default() };
    let mut rig = Rig::over(root, clock, Config::default(), 1 << 20);
    rig.add(container(&group.path));
    let usage = |c: &Collection| value(c, catalog::CPU_USAGE, &group.path, &[]);
    assert!(usage(&rig.collect()).is_some());
    rig.pass(10);
    assert!(value(&rig.collect(), catalog::CPU_CAPACITY, &group.path, &[]) > Some(0.0));
    // Removed and made again, as a restart does it before its event arrives: a new run.
    group.remove();
    assert!(group.make());
    rig.pass(10);
    let c = rig.collect();
    assert!(usage(&c).is_some(), "read anew");
    assert_eq!(value(&c, catalog::CPU_CAPACITY, &group.path, &[]), Some(0.0), "integrals begin anew");
    group.remove();
    let c = rig.collect();
    assert_eq!(usage(&c), None);
    assert!(c.samples.entities().iter().all(|e| e.get("id") != Some(&group.path)), "nothing of it is shown");
    let errors = &c.samples.table(catalog::READ_ERRORS).rows;
    assert!(errors.is_empty(), "a container that ends is no error");
}

impl Group {
    /// Runs a shell in all of its cgroups, and ends it with the guard.
    fn shell(&self, script: &str) -> common::Running {
        let enter: String = self.folders.iter().map(|f| format!("echo $$ > {}/cgroup.procs; ", f.display())).collect();
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &(enter + script)]).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let shell = common::Running(shell.spawn().unwrap());
        // Before anyone reads on: v1 goes on handing out the list that it made until nobody has asked for a second.
        let pid = shell.0.id().to_string();
        let is_in = |f: &std::path::PathBuf| {
            std::fs::read_to_string(f.join("cgroup.procs")).is_ok_and(|procs| procs.lines().any(|l| l == pid))
        };
        crate::live::wait_for("a process in its cgroups", || self.folders.iter().all(is_in).then_some(()));
        shell
    }
}

/// An exporter of this machine that shows one container, with or without the kernel's counters.
fn rig_of(group: &Group, switch_counters: bool) -> Rig {
    rig_over(Root::default(), group, switch_counters)
}

fn rig_over(root: Root, group: &Group, switch_counters: bool) -> Rig {
    let mut config = Config::default();
    config.process.switch_counters = switch_counters;
    let clock = Arc::new(FakeClock::default());
    let root = Root { clock: Clock::Fake(clock.clone()), ..root };
    let rig = Rig::over(root, clock, config, 1 << 20);
    rig.add(container(&group.path));
    rig
}

#[test]
fn the_kernel_counts_context_switches_of_all_that_ever_ran() {
    use std::io::{BufRead, BufReader, Write};
    let Some(group) = Group::new("switches") else { return };
    let mut shell = group.shell("while read n; do echo $n; while [ $n -gt 0 ]; do /bin/true; n=$((n - 1)); done; done");
    let (mut ask, mut answer) = (shell.0.stdin.take().unwrap(), BufReader::new(shell.0.stdout.take().unwrap()));
    let mut turn = |n: u32| {
        let mut line = String::new();
        writeln!(ask, "{n}").unwrap();
        answer.read_line(&mut line).unwrap();
    };
    turn(0);
    let mut rig = rig_of(&group, true);
    let kind = |c: &Collection, kind: &str| value(c, catalog::CONTEXT_SWITCHES, &group.path, &[("kind", kind)]);
    let c = rig.collect();
    let Some(begin) = kind(&c, "all") else {
        let why = rig.reason("switch_counters");
        assert!(matches!(why, Some(Answer::No(_))), "a reason is told where counters are not had: {why:?}");
        common::skip("no counters of cgroups here");
        return;
    };
    assert_eq!(rig.reason("switch_counters"), Some(Answer::Yes));
    assert_eq!((kind(&c, "voluntary"), kind(&c, "involuntary")), (None, None), "one or the other");

    // One process that goes to and fro: what `/proc` says of it, too.
    let of_proc = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", shell.0.id())).unwrap();
        let of = |key: &str| status.lines().find_map(|l| l.strip_prefix(key)?.trim().parse::<f64>().ok()).unwrap();
        of("voluntary_ctxt_switches:") + of("nonvoluntary_ctxt_switches:")
    };
    let before = of_proc();
    (0..50).for_each(|_| turn(0));
    std::thread::sleep(std::time::Duration::from_millis(50));
    let (proc, counted) = (of_proc() - before, kind(&rig.collect(), "all").unwrap() - begin);
    assert!(proc >= 50.0 && (proc - counted).abs() <= 3.0, "/proc {proc}, counters {counted}");

    // Processes that nobody sees between two collections.
    turn(100);
    turn(0);
    rig.pass(10);
    let after = kind(&rig.collect(), "all").unwrap();
    assert!(after - begin - counted >= 100.0, "{after}");
}

/// The counters are of the CPUs that are on line, of which the list is looked at once a minute.
#[test]
fn switches_go_on_when_cpus_come_and_go() {
    let Some(group) = Group::new("hotplug") else { return };
    let sysfs = tempfile::tempdir().unwrap();
    let list = sysfs.path().join("devices/system/cpu/online");
    std::fs::create_dir_all(list.parent().unwrap()).unwrap();
    let all = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    let _shell = group.shell("while :; do /bin/true; sleep 0.01; done");
    let root = Root { sysfs: sysfs.path().to_path_buf(), ..Root::default() };
    std::fs::write(&list, &all).unwrap();
    let mut rig = rig_over(root, &group, true);
    let counted = |c: &Collection| value(c, catalog::CONTEXT_SWITCHES, &group.path, &[("kind", "all")]);
    let Some(mut last) = counted(&rig.collect()) else {
        common::skip("no counters of cgroups here");
        return;
    };
    for cpus in ["0\n", &all, "0\n", &all] {
        std::fs::write(&list, cpus).unwrap();
        rig.pass(61);
        let at_once = counted(&rig.collect()).expect("told in every collection");
        assert!(at_once >= last, "{cpus}: {at_once} after {last}");
        let later = crate::live::wait_for("more switches", || counted(&rig.collect()).filter(|n| *n > at_once));
        let success = value(&rig.collect(), catalog::COLLECTOR_SUCCESS, "", &[("collector", "process")]);
        assert_eq!(success, Some(1.0), "{cpus}");
        last = later;
    }
}

#[test]
fn without_counters_switches_are_those_of_the_threads() {
    let Some(group) = Group::new("threads") else { return };
    let _shell = group.shell("while sleep 0.01; do :; done");
    let mut rig = rig_of(&group, false);
    let kind = |c: &Collection, kind: &str| value(c, catalog::CONTEXT_SWITCHES, &group.path, &[("kind", kind)]);
    let mut last = 0.0;
    for _ in 0..3 {
        let c = crate::live::wait_for("its processes", || {
            let c = rig.collect();
            kind(&c, "voluntary").is_some_and(|n| n > last).then_some(c)
        });
        last = kind(&c, "voluntary").unwrap();
        assert!(kind(&c, "involuntary").is_some());
        assert_eq!(kind(&c, "all"), None);
    }
    assert!(matches!(rig.reason("switch_counters"), Some(Answer::No(_))));
}

/// A pid that comes again while descriptors of the process that had it are held: they answer that it is gone.
#[test]
fn a_process_under_a_known_pid_is_opened_anew() {
    let Some(group) = Group::new("pids") else { return };
    let last_pid = Path::new("/proc/sys/kernel/ns_last_pid");
    let mut rig = rig_of(&group, false);
    let read = |c: &Collection| value(c, catalog::STORAGE_LOGICAL_READ, &group.path, &[]);
    let first = group.shell("exec sleep 60");
    let pid = first.0.id();
    let before = read(&rig.collect());
    assert!(before.is_some());
    drop(first);
    // The kernel numbers on from here; others may be faster.
    let second = (0..200).find_map(|_| {
        std::fs::write(last_pid, (pid - 1).to_string()).ok()?;
        let next = group.shell("dd if=/dev/zero of=/dev/null bs=1M count=8 2>/dev/null; exec sleep 60");
        (next.0.id() == pid).then_some(next)
    });
    let Some(_second) = second else {
        common::skip("no pid can be had again here");
        return;
    };
    crate::live::wait_for("what the second process reads", || (read(&rig.collect()) >= Some(8e6)).then_some(()));
}

/// Writes the recorded trees anew. Run as root with a Docker engine for `hybrid`, and with QEMU for the rest:
/// `cargo test --test suite kernel::record -- --ignored`.
#[test]
#[ignore = "writes fixtures"]
fn record() {
    const LOAD: &str = r#"
mkdir -p $CG; group=/sys/fs/cgroup
path=; for part in $(echo $PARENTS); do path=$path/$part; for c in cpu memory io pids cpuset; do
  echo +$c > $group$path/cgroup.subtree_control 2>/dev/null; done; done
echo 67108864 > $CG/memory.max; echo 33554432 > $CG/memory.low; echo "50000 100000" > $CG/cpu.max; echo 100 > $CG/pids.max
head -c 10485760 /dev/zero > /file
(echo 0 > $CG/cgroup.procs; head -c 4194304 /dev/zero > /dev/shm-file; x=$(head -c 8388608 /dev/zero | tr '\0' a)
 cat /file > /dev/null; i=0; while [ $i -lt 150000 ]; do i=$((i+1)); done; sleep 100; echo $x | wc -c) &
sleep 6
sh /record.sh ${CG#/sys/fs/cgroup}
"#;
    let scope = format!("docker-{ID}.scope");
    let systemd = format!(
        "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod6c4f8a52_1b1e_4a0d_9f5e_0c7a2b3d4e5f.slice/cri-containerd-{ID}.scope"
    );
    let cgroupfs = format!("kubepods/burstable/pod6c4f8a52-1b1e-4a0d-9f5e-0c7a2b3d4e5f/{ID}");
    for (name, path, psi) in [
        ("v2", format!("system.slice/{scope}"), "psi=1"),
        ("v2-no-pressure", format!("system.slice/{scope}"), "psi=0"),
        ("kubernetes-systemd", systemd, "psi=1"),
        ("kubernetes-cgroupfs", cgroupfs, "psi=1"),
    ] {
        let parents = path.rsplit_once('/').unwrap().0.replace('/', " ");
        let script = format!("CG=/sys/fs/cgroup/{path}; PARENTS='{parents}'\n{LOAD}");
        let recorder = std::fs::read(common::fixture("trees/record.sh")).unwrap();
        let guest = Guest::new(script).file("/record.sh", 0o755, recorder).append(psi);
        let Some(console) = guest.boot(Duration::from_secs(120)) else { return };
        let out = console.output();
        std::fs::write(common::fixture("trees").join(name).with_extension("txt"), out).unwrap();
    }
}
