//! A real kernel with cgroup v2 alone and pressure: the exporter's figures against the kernel's own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::live::{Scrape, which};
use crate::vm::Guest;

const MIB: f64 = 1_048_576.0;
const ID: &str = "/system.slice/docker-1111111111111111111111111111111111111111111111111111111111111111.scope";

/// Two containers by their cgroups, one with memory and a limit, one that is throttled and OOM-killed; between two
/// prints of the kernel's own files, two collections.
const SCRIPT: &str = r#"
cg=/sys/fs/cgroup/system.slice
one=$cg/docker-1111111111111111111111111111111111111111111111111111111111111111.scope
two=$cg/docker-2222222222222222222222222222222222222222222222222222222222222222.scope
mkdir -p $cg
for c in $(cat /sys/fs/cgroup/cgroup.controllers); do
  echo +$c > /sys/fs/cgroup/cgroup.subtree_control; echo +$c > $cg/cgroup.subtree_control
done
mkdir $one $two
mkdir -p /dev/shm && mount -t tmpfs tmpfs /dev/shm
echo 134217728 > $one/memory.max
echo 16777216 > $one/memory.low
echo "20000 100000" > $two/cpu.max
echo 8388608 > $two/memory.max
echo 0 > $two/memory.swap.max 2>/dev/null
sh -c "echo 0 > $one/cgroup.procs; x=\$(head -c 12582912 /dev/zero | tr '\0' a); head -c 8388608 /dev/zero > /dev/shm/s; touch /ready; while :; do sleep 1000; done; echo \$x" &
sh -c "echo 0 > $two/cgroup.procs; while :; do :; done" &
while [ ! -e /ready ]; do sleep 0.1; done
sh -c "echo 0 > $two/cgroup.procs; head -c 33554432 /dev/zero | tail > /dev/null" 2>/dev/null
sleep 1
print() {
  for f in memory.current memory.stat memory.events cpu.stat pids.current; do sed "s|^|$1 one $f |" $one/$f; sed "s|^|$1 two $f |" $two/$f; done
  for f in cpu memory io; do sed "s|^|$1 two $f.pressure |" $two/$f.pressure; done
}
print before
/exporter snapshot --wait 1s --format text --no-runtime.docker --no-runtime.podman --no-runtime.containerd > /first 2>/log || { cat /log; exit 1; }
print after
sed 's|^|scrape |' /first
"#;

pub fn exporter() -> Option<(tempfile::TempDir, PathBuf)> {
    let strip = which("strip")?;
    let dir = tempfile::tempdir().unwrap();
    let small = dir.path().join("exporter");
    // Debug information is most of the file, and all of it would sit in the machine's memory.
    let built = env!("CARGO_BIN_EXE_kina-exporter");
    let status = Command::new(strip).arg("-o").arg(&small).arg(built).status().ok()?;
    status.success().then_some((dir, small))
}

/// The value of `KEY` in what the guest printed of a kernel file.
fn kernel(output: &str, when: &str, which: &str, file: &str, key: &str) -> f64 {
    let start = format!("{when} {which} {file} {key}");
    let line = output.lines().find_map(|l| l.strip_prefix(&start)).unwrap_or_else(|| panic!("no {start}:\n{output}"));
    line.split(['=', ' ']).next_back().unwrap().parse().unwrap()
}

#[test]
fn figures_of_a_kernel_with_cgroup_v2_alone() {
    let Some((_dir, binary)) = exporter() else {
        crate::common::skip("strip (binutils) is not installed");
        return;
    };
    let guest = Guest::new(SCRIPT).program("/exporter", Path::new(&binary)).memory_mib(1024).append("psi=1");
    let Some(console) = guest.boot(Duration::from_secs(240)) else { return };
    let output = console.output();
    let text: String = output.lines().filter_map(|l| l.strip_prefix("scrape ")).map(|l| format!("{l}\n")).collect();
    let scrape = Scrape::parse(&text);
    assert!(text.contains(ID), "the container is not in\n{text}");
    let one = [("id", ID)];
    let two_id = ID.replace('1', "2");
    let two = [("id", two_id.as_str())];
    let between = |value: f64, which: &str, file: &str, key: &str, scale: f64, slack: f64| {
        let (a, b) = (kernel(&output, "before", which, file, key), kernel(&output, "after", which, file, key));
        let (low, high) = (a.min(b) * scale - slack, a.max(b) * scale + slack);
        assert!((low..=high).contains(&value), "{which} {file} {key}: {low} ≤ {value} ≤ {high}");
    };

    let usage = scrape.must("container_memory_usage_bytes", &one);
    between(usage, "one", "memory.current", "", 1.0, MIB / 2.0);
    between(scrape.must("container_memory_rss", &one), "one", "memory.stat", "anon ", 1.0, MIB / 2.0);
    between(scrape.must("container_memory_cache", &one), "one", "memory.stat", "file ", 1.0, MIB / 2.0);
    let faults = [("id", ID), ("failure_type", "pgfault"), ("scope", "hierarchy")];
    between(scrape.must("container_memory_failures_total", &faults), "one", "memory.stat", "pgfault ", 1.0, 0.0);
    let own = [("id", ID), ("failure_type", "pgfault"), ("scope", "container")];
    assert!(scrape.value("container_memory_failures_total", &own).is_none(), "v2 tells the hierarchy alone");
    let kind = |k: &str| scrape.must("kina_container_memory_bytes", &[("id", ID), ("kind", k)]);
    let sum = kind("process") + kind("shared_libraries") + kind("page_cache") + kind("guest_kernel");
    assert!((sum - usage).abs() <= (usage * 0.02).max(MIB), "kinds {sum}, usage {usage}");
    assert!(kind("process") >= 20.0 * MIB, "12 MiB anonymous and 8 MiB shared: {}", kind("process"));
    assert_eq!(scrape.must("kina_container_memory_allocated_bytes", &one), 128.0 * MIB);
    assert_eq!(scrape.must("container_spec_memory_reservation_limit_bytes", &one), 16.0 * MIB);

    between(scrape.must("container_oom_events_total", &two), "two", "memory.events", "oom_kill ", 1.0, 0.0);
    assert!(scrape.must("container_oom_events_total", &two) >= 1.0);
    between(scrape.must("container_cpu_usage_seconds_total", &two), "two", "cpu.stat", "usage_usec ", 1e-6, 1e-6);
    between(scrape.must("container_cpu_user_seconds_total", &two), "two", "cpu.stat", "user_usec ", 1e-6, 1e-6);
    let throttled = scrape.must("container_cpu_cfs_throttled_seconds_total", &two);
    between(throttled, "two", "cpu.stat", "throttled_usec ", 1e-6, 1e-6);
    assert!(throttled > 0.0);
    assert_eq!(scrape.must("kina_container_cpu_allocated_cores", &two), 0.2);
    assert!(scrape.value("container_cpu_cfs_periods_total", &one).is_none(), "no quota is set");
    between(scrape.must("container_threads", &two), "two", "pids.current", "", 1.0, 0.0);

    assert_eq!(scrape.must("kina_capability", &[("capability", "switch_counters")]), 1.0);
    let switches = |kind| scrape.value("kina_container_context_switches_total", &[("id", &two_id), ("kind", kind)]);
    assert!(switches("all") >= Some(1.0) && switches("voluntary").is_none(), "counted by the kernel");

    let waiting = scrape.must("container_pressure_cpu_waiting_seconds_total", &two);
    between(waiting, "two", "cpu.pressure", "some ", 1e-6, 1e-3);
    assert!(waiting > 0.0, "a throttled container waits for a CPU");
    let stalled = scrape.must("container_pressure_memory_stalled_seconds_total", &two);
    between(stalled, "two", "memory.pressure", "full ", 1e-6, 1e-3);
    assert_eq!(scrape.must("kina_capability", &[("capability", "pressure")]), 1.0);
    assert_eq!(scrape.must("kina_capability", &[("capability", "cgroup_v2")]), 1.0);
    // The machine itself.
    assert!(scrape.must("container_memory_usage_bytes", &[("id", "/")]) > usage);
    assert!(scrape.must("container_cpu_usage_seconds_total", &[("id", "/")]) > 0.0);
    assert!(scrape.select("kina_scrape_collector_success", &[]).all(|s| s.value == 1.0), "{text}");
}
