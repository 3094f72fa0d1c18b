//! The machine's own facts: from recorded trees, and from the machine that the test runs on.

use std::path::Path;
use std::sync::atomic::Ordering;

use kina_exporter::catalog::{self, Collector};
use kina_exporter::root::{Root, SECOND};
use kina_exporter::snapshot::ThermalState;

use crate::collected::{Collected, Collecting, container};
use crate::common::{fake_root, tree};

const COLLECTORS: [Collector; 5] =
    [Collector::Host, Collector::Device, Collector::Thermal, Collector::Energy, Collector::Exporter];

fn put(dir: &Path, path: &str, content: &str) {
    std::fs::write(dir.join(path), content).unwrap();
}

#[test]
fn a_machine_without_any_of_it_fails_nowhere_and_shows_nothing() {
    let dir = tree(&[]);
    let (root, _) = fake_root(dir.path());
    let collected = Collecting::of(root, Vec::new()).collect();
    for collector in COLLECTORS {
        collected.succeeded(collector);
    }
    for family in [
        catalog::MACHINE_MEMORY,
        catalog::MACHINE_CPU_CORES,
        catalog::HOST_CPU_CORES,
        catalog::FS_LIMIT,
        catalog::DEVICE_QUEUE_DEPTH,
        catalog::HOST_THERMAL_STATE,
        catalog::HOST_ENERGY,
        catalog::PROCESS_RESIDENT,
        catalog::PROCESS_OPEN_FDS,
    ] {
        assert_eq!(collected.value(family, &[]), None, "{}", family.name());
    }
    assert_eq!(collected.must(catalog::CAPABILITY, &[("capability", "rapl")]), 0.0);
    assert_eq!(collected.must(catalog::CAPABILITY, &[("capability", "thermal")]), 0.0);
}

#[test]
fn memory_cores_file_systems_and_devices_of_a_recorded_machine() {
    let dir = tree(&[
        ("proc/meminfo", "MemTotal:       2048 kB\nMemFree: 1 kB\nSwapTotal:      1024 kB\n"),
        ("proc/1/mountinfo", "27 1 254:0 / / rw - ext4 /dev/vda rw\n28 1 254:1 / /nowhere rw - ext4 /dev/vdb rw\n"),
        (
            "proc/diskstats",
            "254 0 vda 10 0 0 2500 4 0 0 1000 3 0 0\n254 1 vda1 1 2 3 4 5 6 7 8 9 10 11\n254 2 vdb 0 0 0 0 0 0 0 0 0 0 0\n",
        ),
        ("sys/block/vda/size", "1\n"),
        ("sys/block/vdb/size", "1\n"),
        ("sys/block/zram0/mm_stat", "3000000 1000000 1048576 0 1048576 0 0 0 0\n"),
        ("sys/block/zram1/mm_stat", "       0        0        0 0 0 0 0 0 0\n"),
        ("sys/devices/system/cpu/online", "0-2\n"),
        ("sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0-1\n"),
        ("sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "0-1\n"),
        ("sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "2\n"),
        ("sys/fs/cgroup/cgroup.controllers", "cpu\n"),
        ("sys/fs/cgroup/cpu.stat", "usage_usec 1\n"),
    ]);
    let (root, _) = fake_root(dir.path());
    let collecting = Collecting::of(root, Vec::new());
    let collected = collecting.collect();
    for collector in COLLECTORS {
        collected.succeeded(collector);
    }
    assert_eq!(collected.must(catalog::MACHINE_MEMORY, &[]), 2_097_152.0);
    assert_eq!(collected.must(catalog::MACHINE_SWAP, &[]), 1_048_576.0);
    assert_eq!(collected.must(catalog::MACHINE_CPU_CORES, &[]), 3.0);
    assert_eq!(collected.must(catalog::MACHINE_CPU_PHYSICAL_CORES, &[]), 2.0);
    assert_eq!(collected.must(catalog::HOST_CPU_CORES, &[("core_type", "uniform")]), 2.0);
    let vda = [("id", "/"), ("device", "/dev/vda")];
    assert!(collected.must(catalog::FS_LIMIT, &vda) > collected.must(catalog::FS_USAGE, &vda));
    assert_eq!(collected.labels(catalog::FS_LIMIT, "device"), ["/dev/vda"], "what the exporter can't see is absent");
    assert_eq!(collected.labels(catalog::DEVICE_QUEUE_DEPTH, "device"), ["vda", "vdb"]);
    assert_eq!(collected.must(catalog::DEVICE_QUEUE_DEPTH, &[("device", "vda")]), 3.0);
    let latency = |device, op| collected.summary(catalog::DEVICE_IO_LATENCY, &[("device", device), ("op", op)]);
    assert_eq!(latency("vda", "read"), Some((2.5, 10)));
    assert_eq!(latency("vda", "write"), Some((1.0, 4)));
    assert_eq!(latency("vdb", "read"), None, "no I/O yet, no latency");
    assert_eq!(collected.0.snapshot.host.zram_ratio, Some(3.0));

    put(dir.path(), "sys/devices/system/cpu/online", "0-1\n");
    put(dir.path(), "proc/meminfo", "MemTotal: many kB\nSwapTotal: 7 kB\n");
    let collected = collecting.collect();
    assert_eq!(collected.must(catalog::MACHINE_CPU_PHYSICAL_CORES, &[]), 1.0, "a CPU was switched off");
    assert_eq!(collected.value(catalog::MACHINE_MEMORY, &[]), None);
    assert_eq!(collected.must(catalog::MACHINE_SWAP, &[]), 7168.0);
    assert_eq!(collected.must(catalog::COLLECTOR_SUCCESS, &[("collector", "host")]), 0.0);
    let malformed = [("collector", "host"), ("kind", "malformed")];
    assert_eq!(collected.must(catalog::READ_ERRORS, &malformed), 1.0);
}

#[test]
fn the_worst_zone_is_the_machines_thermal_state() {
    let zone = "sys/class/thermal/thermal_zone0";
    let other = "sys/class/thermal/thermal_zone1";
    let throttle = "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count";
    let dir = tree(&[
        (&format!("{zone}/temp"), "50000\n"),
        (&format!("{zone}/trip_point_0_type"), "passive\n"),
        (&format!("{zone}/trip_point_0_temp"), "80000\n"),
        (&format!("{zone}/trip_point_1_type"), "critical\n"),
        (&format!("{zone}/trip_point_1_temp"), "100000\n"),
        (&format!("{other}/temp"), "40000\n"),
        (&format!("{other}/trip_point_0_type"), "hot\n"),
        (&format!("{other}/trip_point_0_temp"), "60000\n"),
        ("sys/class/thermal/thermal_zone2/temp", "999000\n"),
        ("sys/class/thermal/cooling_device0/type", "Processor\n"),
        ("sys/devices/system/cpu/online", "0\n"),
        (throttle, "5\n"),
    ]);
    let (root, _) = fake_root(dir.path());
    let collecting = Collecting::of(root, Vec::new());
    let state = || {
        let collected = collecting.collect();
        collected.succeeded(Collector::Thermal);
        let sum: f64 = ThermalState::ALL
            .iter()
            .map(|(_, name)| collected.must(catalog::HOST_THERMAL_STATE, &[("state", name)]))
            .sum();
        assert_eq!(sum, 1.0, "exactly one state holds");
        collected.0.snapshot.host.thermal.unwrap()
    };
    assert_eq!(state(), ThermalState::Nominal, "a zone without trip points tells nothing");
    put(dir.path(), throttle, "6\n");
    assert_eq!(state(), ThermalState::Fair, "a core was throttled");
    assert_eq!(state(), ThermalState::Nominal);
    put(dir.path(), &format!("{zone}/temp"), "81000\n");
    assert_eq!(state(), ThermalState::Fair);
    put(dir.path(), &format!("{other}/temp"), "61000\n");
    assert_eq!(state(), ThermalState::Serious);
    put(dir.path(), &format!("{zone}/temp"), "100000\n");
    assert_eq!(state(), ThermalState::Critical);
    put(dir.path(), &format!("{zone}/temp"), "");
    assert_eq!(state(), ThermalState::Serious, "a sensor that says nothing is left out");
}

#[test]
fn energy_goes_on_over_a_meters_turn_and_is_shared_by_busy_time() {
    let package = "sys/class/powercap/intel-rapl:0";
    let dir = tree(&[
        ("sys/class/powercap/intel-rapl/enabled", "1\n"),
        (&format!("{package}/name"), "package-0\n"),
        (&format!("{package}/max_energy_range_uj"), "10000000\n"),
        (&format!("{package}/energy_uj"), "9000000\n"),
        ("sys/class/powercap/intel-rapl:0:0/name", "dram\n"),
        ("sys/class/powercap/intel-rapl:0:0/max_energy_range_uj", "10000000\n"),
        ("sys/class/powercap/intel-rapl:0:0/energy_uj", "1000000\n"),
        ("sys/class/powercap/intel-rapl-mmio:0/name", "package-0\n"),
        ("sys/class/powercap/intel-rapl-mmio:0/energy_uj", "1\n"),
        ("sys/class/power_supply/BAT0/type", "Battery\n"),
        ("sys/class/power_supply/BAT0/status", "Discharging\n"),
        ("sys/class/power_supply/AC/type", "Mains\n"),
        ("sys/class/power_supply/AC/online", "0\n"),
        ("sys/class/power_supply/mouse/type", "Battery\n"),
        ("sys/class/power_supply/mouse/scope", "Device\n"),
        ("sys/class/power_supply/mouse/status", "Discharging\n"),
        ("sys/fs/cgroup/cgroup.controllers", "cpu\n"),
        ("sys/fs/cgroup/cpu.stat", "usage_usec 1000000\nuser_usec 1\nsystem_usec 1\n"),
        ("sys/fs/cgroup/box/cpu.stat", "usage_usec 500000\nuser_usec 1\nsystem_usec 1\n"),
    ]);
    let (root, clock) = fake_root(dir.path());
    let mut boxed = container("box");
    boxed.cgroup.v2 = Some("/box".into());
    let collecting = Collecting::of(root, vec![boxed]);
    let energy = |c: &Collected| c.must(catalog::CONTAINER_ENERGY, &[("name", "box")]);
    let host = |c: &Collected, domain| c.must(catalog::HOST_ENERGY, &[("domain", domain)]);

    let first = collecting.collect();
    first.succeeded(Collector::Energy);
    assert_eq!((host(&first, "package-0"), host(&first, "dram-0"), energy(&first)), (0.0, 0.0, 0.0));
    assert_eq!(first.labels(catalog::HOST_ENERGY, "domain"), ["package-0", "dram-0"]);
    assert_eq!(first.0.snapshot.host.on_battery, Some(true));
    assert_eq!(first.value(catalog::CONTAINER_ENERGY, &[("id", "/")]), None);

    clock.boot.fetch_add(10 * SECOND, Ordering::Relaxed);
    put(dir.path(), &format!("{package}/energy_uj"), "3000000\n");
    put(dir.path(), "sys/fs/cgroup/cpu.stat", "usage_usec 5000000\nuser_usec 1\nsystem_usec 1\n");
    put(dir.path(), "sys/fs/cgroup/box/cpu.stat", "usage_usec 1500000\nuser_usec 1\nsystem_usec 1\n");
    put(dir.path(), "sys/class/power_supply/AC/online", "1\n");
    let second = collecting.collect();
    assert_eq!(host(&second, "package-0"), 4.0, "over the turn: 1 J to its end and 3 J after it");
    assert_eq!(energy(&second), 1.0, "a quarter of the busy time");
    assert_eq!(second.0.snapshot.host.on_battery, Some(false));

    put(dir.path(), &format!("{package}/energy_uj"), "garbage\n");
    put(dir.path(), "sys/fs/cgroup/cpu.stat", "usage_usec 6000000\nuser_usec 1\nsystem_usec 1\n");
    let third = collecting.collect();
    assert_eq!(third.value(catalog::HOST_ENERGY, &[("domain", "package-0")]), None);
    assert_eq!(host(&third, "dram-0"), 0.0, "the other meter goes on");
    assert_eq!(third.must(catalog::COLLECTOR_SUCCESS, &[("collector", "energy")]), 0.0);
}

/// Against the machine at hand, whatever it is.
#[cfg(target_os = "linux")]
#[test]
fn this_machines_figures_are_the_kernels_own() {
    let collected = Collecting::of(Root::default(), Vec::new()).collect();
    for collector in COLLECTORS {
        collected.succeeded(collector);
    }
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
    let total: f64 = meminfo.lines().next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    assert_eq!(collected.must(catalog::MACHINE_MEMORY, &[]), total * 1024.0);
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    assert!(collected.must(catalog::MACHINE_CPU_CORES, &[]) >= 1.0, "{online}");

    for device in collected.labels(catalog::DEVICE_QUEUE_DEPTH, "device") {
        assert!(Path::new("/sys/block").join(device.replace('/', "!")).exists(), "{device} is no whole device");
    }
    // SAFETY: sysconf touches no memory of ours.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as f64;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let mut pages = statm.split(' ').map(|n| n.parse::<f64>().unwrap() * page);
    let near = |value: f64, truth: f64| (value - truth).abs() < 0.5 * truth;
    assert!(near(collected.must(catalog::PROCESS_VIRTUAL, &[]), pages.next().unwrap()));
    assert!(near(collected.must(catalog::PROCESS_RESIDENT, &[]), pages.next().unwrap()));
    assert!(collected.must(catalog::PROCESS_CPU, &[]) >= 0.0);
    let fds = collected.must(catalog::PROCESS_OPEN_FDS, &[]);
    assert!((3.0..=collected.must(catalog::PROCESS_MAX_FDS, &[])).contains(&fds), "{fds}");
    let started = collected.must(catalog::PROCESS_START_TIME, &[]);
    let age = collected.0.snapshot.wall as f64 / SECOND as f64 - started;
    assert!((-0.1..3600.0).contains(&age), "{age} s old");
    let build = [("version", env!("CARGO_PKG_VERSION")), ("os", "linux")];
    assert_eq!(collected.must(catalog::BUILD_INFO, &build), 1.0);
}
