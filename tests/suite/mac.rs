//! Whole collections of a Mac that answers as told: from what the system says to series and advice.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use kina_exporter::catalog::{self, Collector};
use kina_exporter::config::{CollectorSet, Config};
use kina_exporter::engine::{Shared, Worker};
use kina_exporter::kernel::file::Budget;
use kina_exporter::macos::System;
use kina_exporter::macos::gauge::{Memory, Own};
use kina_exporter::macos::map::{Level, Ticks, Usage};
use kina_exporter::root::{Nanos, SECOND};
use kina_exporter::runtime::apple::shapes::Stats;
use kina_exporter::runtime::apple::{Guest, Measured, MeasuredCell};
use kina_exporter::runtime::{Container, Identity, RuntimeKind, VmSettings};

use crate::apple_golden::everything;
use crate::collected::{Collected, Collecting};
use crate::common::{self, fake_root};

const GIB: u64 = 1 << 30;

/// What the system says; by default nothing.
#[derive(Debug, Default)]
struct Says {
    levels: Vec<Level>,
    memory: Memory,
    ticks: Option<Ticks>,
    own: Own,
    on_battery: Option<bool>,
    load: Vec<f64>,
    clusters: &'static str,
    thermal: Option<u64>,
    energy: Option<Vec<(&'static str, f64)>>,
    /// Of the VM's process, 7; the helper's is 5.
    usage: Option<Usage>,
}

#[derive(Debug, Default)]
struct Fake(Mutex<Says>);

impl System for Fake {
    fn levels(&self) -> Vec<Level> {
        self.0.lock().unwrap().levels.clone()
    }

    fn number(&self, name: &str) -> Option<u64> {
        let cores: u32 = self.levels().iter().map(|l| l.cores).sum();
        (["hw.activecpu", "hw.physicalcpu"].contains(&name) && cores > 0).then_some(cores.into())
    }

    fn memory(&self) -> Memory {
        self.0.lock().unwrap().memory
    }

    fn ticks(&self) -> Option<Ticks> {
        self.0.lock().unwrap().ticks
    }

    fn own(&self) -> Own {
        self.0.lock().unwrap().own
    }

    fn on_battery(&self) -> Option<bool> {
        self.0.lock().unwrap().on_battery
    }

    fn load(&self, _: Nanos) -> Vec<f64> {
        self.0.lock().unwrap().load.clone()
    }

    fn clusters(&self) -> Vec<(u32, String)> {
        (0..).zip(self.0.lock().unwrap().clusters.chars().map(String::from)).collect()
    }

    fn thermal_pressure(&self) -> Option<u64> {
        self.0.lock().unwrap().thermal
    }

    fn energy(&self) -> Result<Vec<(&'static str, f64)>, &'static str> {
        self.0.lock().unwrap().energy.clone().ok_or("no counters")
    }

    fn openers(&self, file: &Path) -> Vec<(u32, String)> {
        assert_eq!(file, Path::new("/data/containers/web/rootfs.ext4"));
        vec![(5, "/x/container-runtime-linux".into()), (7, "/x/com.apple.Virtualization.VirtualMachine".into())]
    }

    fn usage(&self, pid: u32) -> Option<Usage> {
        assert_eq!(pid, 7, "not the helper");
        self.0.lock().unwrap().usage
    }
}

/// A container of the size 4 CPUs and 4 GiB, and where its figures go.
fn web() -> (Container, Arc<MeasuredCell>) {
    let identity = Identity { id: "web".into(), name: "web".into(), image: "nginx".into(), ..Identity::default() };
    let cell = Arc::new(MeasuredCell::default());
    let container = Container {
        runtime: RuntimeKind::Apple,
        native_id: "web".into(),
        labels: Arc::new(identity.labels(RuntimeKind::Apple)),
        identity,
        data_root: Some("/data".into()),
        vm: Some(VmSettings {
            cpus: Some(4.0),
            memory_bytes: Some(4 * GIB),
            devices: vec!["virtio-blk".into(), "virtio-net".into()],
            ..VmSettings::default()
        }),
        measured: Some(cell.clone()),
        ..Container::default()
    };
    (container, cell)
}

/// What the guest's files say: user and whole CPU seconds, and kilobytes of its memory that are free.
fn guest(boot: Nanos, cpu: (f64, f64), free_kib: u64) -> Guest {
    let (user, usage) = ((cpu.0 * 1e6) as u64, (cpu.1 * 1e6) as u64);
    let content = |path: &str| match path {
        "/sys/fs/cgroup/cpu.stat" => format!("usage_usec {usage}\nuser_usec {user}\nsystem_usec 0\n"),
        "/proc/meminfo" => format!("MemTotal: 4000000 kB\nMemFree: {free_kib} kB\n"),
        _ => String::new(),
    };
    let printed: Vec<_> = Guest::paths().into_iter().step_by(2).map(content).collect();
    Guest::parse(printed.join("Linux version 6.18\n").as_bytes(), boot).unwrap()
}

fn actions(collected: &Collected) -> Vec<(String, Option<f64>)> {
    collected.0.advice.items.iter().map(|i| (i.action.name().to_owned(), i.figures.recommended)).collect()
}

#[test]
fn a_macs_machine_and_the_processes_of_its_machines_become_series() {
    let dir = tempfile::tempdir().unwrap();
    let (root, clock) = fake_root(dir.path());
    let level = |name: &str, cores| Level { name: name.into(), cores };
    let mac = Arc::new(Fake(Mutex::new(Says {
        levels: vec![level("Performance", 2), level("Efficiency", 2)],
        memory: Memory {
            total: Some(32 * GIB),
            used: Some(20 * GIB),
            swap: Some(2 * GIB),
            swap_used: Some(GIB),
            processes: Some(500),
        },
        ticks: Some(Ticks { user: 300, system: 200, nice: 100 }),
        own: Own { resident: Some(20 << 20), size: Some(GIB), started: Some(1_700_000_000) },
        on_battery: None,
        load: vec![0.5, 0.25, 1.0, 0.0],
        clusters: "EEPP",
        thermal: Some(1),
        energy: Some(vec![("cpu", 12.5), ("gpu", 1.0)]),
        usage: Some(Usage {
            footprint: 3 * GIB,
            cpu_ns: 10 * 1_000_000_000,
            performance_ns: Some(4_000_000_000),
            energy_nj: Some(2_000_000_000),
        }),
    })));
    let (container, cell) = web();
    let collecting = Collecting::on(root, vec![container], Some(mac.clone()));
    clock.boot.fetch_add(SECOND, Ordering::Relaxed);
    cell.set(Measured {
        wall: SECOND,
        boot: SECOND,
        stats: Stats { id: "web".into(), cpu_usage_usec: Some(5), ..Stats::default() },
    });
    cell.set_guest(guest(SECOND, (1.0, 2.0), 3_000_000));
    let all = collecting.collect();
    for (family, labels, expected) in [
        (catalog::MACHINE_MEMORY, &[][..], 32.0 * GIB as f64),
        (catalog::MACHINE_SWAP, &[], 2.0 * GIB as f64),
        (catalog::MACHINE_CPU_CORES, &[], 4.0),
        (catalog::MACHINE_CPU_PHYSICAL_CORES, &[], 4.0),
        (catalog::HOST_CPU_CORES, &[("core_type", "performance")], 2.0),
        (catalog::HOST_CPU_CORES, &[("core_type", "efficiency")], 2.0),
        (catalog::HOST_CORE_UTILIZATION, &[("core", "0"), ("core_type", "efficiency")], 0.5),
        (catalog::HOST_CORE_UTILIZATION, &[("core", "2"), ("core_type", "performance")], 1.0),
        (catalog::MEMORY_USAGE, &[("id", "/")], 20.0 * GIB as f64),
        (catalog::MEMORY_SWAP, &[("id", "/")], GIB as f64),
        (catalog::PROCESSES, &[("id", "/")], 500.0),
        (catalog::CPU_USAGE, &[("id", "/"), ("cpu", "total")], 6.0),
        (catalog::CPU_USER, &[("id", "/")], 4.0),
        (catalog::CPU_SYSTEM, &[("id", "/")], 2.0),
        (catalog::CPU_ALLOCATED, &[("id", "/")], 4.0),
        (catalog::PROCESS_RESIDENT, &[], 20.0 * 1_048_576.0),
        (catalog::PROCESS_VIRTUAL, &[], GIB as f64),
        (catalog::PROCESS_START_TIME, &[], 1.7e9),
        (catalog::HOST_THERMAL_STATE, &[("state", "fair")], 1.0),
        (catalog::HOST_THERMAL_STATE, &[("state", "nominal")], 0.0),
        (catalog::HOST_ENERGY, &[("domain", "cpu")], 12.5),
        (catalog::HOST_ENERGY, &[("domain", "gpu")], 1.0),
        (catalog::VM_HOST_MEMORY, &[("id", "web")], 3.0 * GIB as f64),
        (catalog::VM_GUEST_USED, &[("id", "web")], 1_000_000.0 * 1024.0),
        // What the process holds and its guest does not use.
        (catalog::MEMORY_KIND, &[("id", "web"), ("kind", "vm_overhead")], 3.0 * GIB as f64 - 1_000_000.0 * 1024.0),
        (catalog::CPU_CORE_TYPE_SECONDS, &[("id", "web"), ("core_type", "performance")], 4.0),
        (catalog::CPU_CORE_TYPE_SECONDS, &[("id", "web"), ("core_type", "efficiency")], 6.0),
        (catalog::CONTAINER_ENERGY, &[("id", "web")], 2.0),
        (catalog::CPU_USER, &[("id", "web")], 1.0),
        (catalog::CAPABILITY, &[("capability", "power")], 1.0),
    ] {
        assert_eq!(all.must(family, labels), expected, "{} {labels:?}", family.name());
    }
    assert!(all.must(catalog::PROCESS_OPEN_FDS, &[]) > 3.0);
    assert_eq!(all.0.snapshot.host.on_battery, None);
    // Its process is gone: a new one is looked for, and nothing old is told. Two cores were busy for ten seconds.
    {
        let mut says = mac.0.lock().unwrap();
        (says.usage, says.on_battery) = (None, Some(true));
        says.ticks = Some(Ticks { user: 2300, system: 200, nice: 100 });
    }
    clock.boot.fetch_add(10 * SECOND, Ordering::Relaxed);
    let after = collecting.collect();
    assert_eq!(after.value(catalog::VM_HOST_MEMORY, &[("id", "web")]), None);
    for (family, expected) in [(catalog::CPU_USAGE, 26.0), (catalog::CPU_CAPACITY, 40.0), (catalog::CPU_IDLE, 20.0)] {
        assert_eq!(after.must(family, &[("id", "/")]), expected, "{}", family.name());
    }
    assert_eq!(after.facts("").cpu.usage_rate_cores, Some(2.0));
    assert!(actions(&after).iter().any(|(action, _)| action == "prefer_power_efficiency"), "on battery");
}

#[test]
fn what_a_mac_does_not_say_is_absent_and_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let (root, clock) = fake_root(dir.path());
    let collecting = Collecting::on(root, vec![web().0], Some(Arc::new(Fake::default())));
    clock.boot.fetch_add(SECOND, Ordering::Relaxed);
    let all = collecting.collect();
    for family in [
        catalog::MACHINE_MEMORY,
        catalog::MACHINE_SWAP,
        catalog::MACHINE_CPU_CORES,
        catalog::HOST_CPU_CORES,
        catalog::HOST_CORE_UTILIZATION,
        catalog::MEMORY_USAGE,
        catalog::CPU_USAGE,
        catalog::PROCESSES,
        catalog::PROCESS_RESIDENT,
        catalog::HOST_THERMAL_STATE,
        catalog::HOST_ENERGY,
        catalog::VM_HOST_MEMORY,
        catalog::CPU_CORE_TYPE_SECONDS,
        catalog::CONTAINER_ENERGY,
    ] {
        assert!(all.0.samples.table(family).rows.is_empty(), "{}", family.name());
    }
    assert_eq!(all.must(catalog::CAPABILITY, &[("capability", "power"), ("reason", "no counters")]), 0.0);
    assert_eq!(all.must(catalog::CAPABILITY, &[("capability", "thermal_pressure")]), 0.0);
    for collector in [Collector::Cpu, Collector::Host, Collector::Thermal, Collector::Energy, Collector::Process] {
        all.succeeded(collector);
    }
}

#[test]
fn a_scrape_allocates_nothing_for_a_container_once_warm() {
    let warm = |n: u32| {
        let dir = tempfile::tempdir().unwrap();
        let (root, clock) = fake_root(dir.path());
        let level = |name: &str, cores| Level { name: name.into(), cores };
        let mac = Fake(Mutex::new(Says {
            levels: vec![level("Performance", 6), level("Efficiency", 6)],
            usage: Some(Usage { footprint: 3 * GIB, performance_ns: Some(1), energy_nj: Some(2), cpu_ns: 3 }),
            ..Says::default()
        }));
        let shared = Shared::on(root, Config { profile_cadvisor: true, ..Config::default() }, Some(Arc::new(mac)));
        let cells: Vec<_> = (0..n)
            .map(|at| {
                let (mut container, cell) = web();
                container.identity.id = format!("web{at}");
                container.labels = Arc::new(container.identity.labels(RuntimeKind::Apple));
                // The fake knows the disk of `web` alone.
                container.data_root = (at == 0).then(|| "/data".into());
                container.native_id = if at == 0 { "web".into() } else { format!("web{at}") };
                shared.directory.insert(container);
                cell
            })
            .collect();
        let mut worker = Worker::new(shared, Budget::new(1 << 20));
        // It lists its own descriptors, which are those of the tests beside this one.
        let wanted: CollectorSet = Collector::ALL.into_iter().filter(|c| *c != Collector::Exporter).collect();
        let mut collect = || {
            clock.boot.fetch_add(2 * SECOND, Ordering::Relaxed);
            worker.collect(wanted)
        };
        // Two answers, a tenth of a second of disk time between them.
        for _ in 0..2 {
            let boot = clock.boot.load(Ordering::Relaxed);
            for cell in &cells {
                let stats =
                    Stats { id: "web".into(), cpu_usage_usec: Some(5), block_read_bytes: Some(9), ..Stats::default() };
                cell.set(Measured { wall: boot, boot, stats });
                cell.set_guest(Guest::parse(&everything(), boot).unwrap());
            }
            collect();
        }
        for _ in 0..4 {
            collect();
        }
        let before = common::allocations();
        let collection = collect();
        let allocated = common::allocations() - before;
        let last = collection.snapshot.containers.last().unwrap();
        assert!(last.storage.latency.is_some() && last.sockets.rtt.is_some() && last.sockets.states.is_some());
        allocated
    };
    // What is allocated once a collection differs by a few from run to run; one for each container would be a hundred more.
    let (few, many) = (warm(20), warm(120));
    assert!(many < few + 20, "allocations of 20 and of 120 containers: {few} and {many}");
}

#[test]
fn cores_and_heat_are_advised_on_as_anywhere() {
    let (few, fewer) = (("assign_efficiency_cores", Some(1.0)), ("reduce_cores", Some(0.7 * 4.0)));
    // User CPU of four cores, thermal pressure, and what is advised.
    for (user_cores, thermal, expected) in [
        (0.81 * 4.0, 0, &[("assign_performance_cores", Some(5.0))][..]),
        (0.79 * 4.0, 0, &[]),
        (0.31 * 4.0, 0, &[]),
        (0.29 * 4.0, 0, &[few, fewer]),
        (0.5 * 4.0, 1, &[]),
        (0.5 * 4.0, 2, &[("mitigate_thermal", None)]),
        (0.5 * 4.0, 3, &[("mitigate_thermal", None)]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (root, clock) = fake_root(dir.path());
        let level = |name: &str, cores| Level { name: name.into(), cores };
        let mac = Fake(Mutex::new(Says {
            levels: vec![level("Performance", 6), level("Efficiency", 6)],
            thermal: Some(thermal),
            ..Says::default()
        }));
        let (container, cell) = web();
        let collecting = Collecting::on(root, vec![container], Some(Arc::new(mac)));
        let mut last = None;
        for seconds in [10, 20, 30] {
            clock.boot.fetch_add(10 * SECOND, Ordering::Relaxed);
            let used = user_cores * f64::from(seconds);
            let stats = Stats { id: "web".into(), cpu_usage_usec: Some((used * 1e6) as u64), ..Stats::default() };
            let boot = i64::from(seconds) * SECOND;
            cell.set(Measured { wall: boot, boot, stats });
            cell.set_guest(guest(boot, (used, used), 0));
            last = Some(collecting.collect());
        }
        let given = actions(&last.unwrap());
        let mut of_interest: Vec<_> = given
            .iter()
            .filter(|(a, _)| a.ends_with("_cores") || a == "mitigate_thermal")
            .map(|(a, figure)| (a.as_str(), *figure))
            .collect();
        of_interest.sort_by_key(|(action, _)| *action);
        assert_eq!(of_interest, expected, "{user_cores} cores, pressure {thermal}: {given:?}");
    }
}
