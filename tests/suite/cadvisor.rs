//! What dashboards, rules and alerts made for cAdvisor read: kubernetes-mixin's series, and those of Docker dashboards and
//! common alerts, on a container that has all of it.

use crate::live::{Docker, Exporter, Sample, Scrape, wait_for};

/// Read of a container: the family, the label beside the identity, and whether `--profile cadvisor` is needed.
const OF_A_CONTAINER: &[(&str, &str, bool)] = &[
    // kubernetes-mixin
    ("container_cpu_usage_seconds_total", "cpu", false),
    ("container_memory_working_set_bytes", "", false),
    ("container_memory_rss", "", false),
    ("container_memory_cache", "", false),
    ("container_memory_swap", "", false),
    ("container_cpu_cfs_periods_total", "", false),
    ("container_cpu_cfs_throttled_periods_total", "", false),
    ("container_fs_reads_total", "device", false),
    ("container_fs_writes_total", "device", false),
    ("container_fs_reads_bytes_total", "device", false),
    ("container_fs_writes_bytes_total", "device", false),
    ("container_network_receive_bytes_total", "interface", false),
    ("container_network_transmit_bytes_total", "interface", false),
    ("container_network_receive_packets_total", "interface", false),
    ("container_network_transmit_packets_total", "interface", false),
    ("container_network_receive_packets_dropped_total", "interface", false),
    ("container_network_transmit_packets_dropped_total", "interface", false),
    // Docker dashboards, common alerts
    ("container_last_seen", "", false),
    ("container_start_time_seconds", "", false),
    ("container_memory_usage_bytes", "", false),
    ("container_spec_memory_limit_bytes", "", false),
    ("container_spec_memory_reservation_limit_bytes", "", false),
    ("container_spec_cpu_quota", "", false),
    ("container_spec_cpu_period", "", false),
    ("container_spec_cpu_shares", "", false),
    ("container_network_receive_errors_total", "interface", false),
    ("container_network_transmit_errors_total", "interface", false),
    ("container_oom_events_total", "", false),
    ("container_network_tcp_usage_total", "tcp_state", true),
    ("container_memory_failcnt", "", true),
];

/// Read with `id="/"`.
const OF_THE_MACHINE: &[(&str, &str, bool)] = &[
    ("container_cpu_usage_seconds_total", "cpu", false),
    ("container_memory_working_set_bytes", "", false),
    ("container_memory_usage_bytes", "", false),
    ("container_spec_memory_limit_bytes", "", false),
    ("container_last_seen", "", false),
    ("container_fs_usage_bytes", "device", false),
    ("container_fs_limit_bytes", "device", false),
    ("container_fs_inodes_free", "device", false),
    ("container_fs_inodes_total", "device", true),
    ("container_fs_reads_total", "device", false),
    ("container_fs_writes_bytes_total", "device", false),
    ("container_network_receive_bytes_total", "interface", false),
];

const OF_NOBODY: &[&str] = &["machine_memory_bytes", "machine_cpu_cores"];

/// Each series once, with the labels that dashboards select and sum by.
fn check(scrape: &Scrape, rows: &[(&str, &str, bool)], who: (&str, &str), cadvisor: bool) {
    for (family, own, ill_named) in rows {
        let found: Vec<&Sample> =
            scrape.samples.iter().filter(|s| s.name == *family && s.label(who.0) == who.1).collect();
        assert_eq!(!found.is_empty(), cadvisor || !ill_named, "{family} of {who:?}");
        let mut owns: Vec<&str> = found.iter().map(|s| s.label(own)).collect();
        owns.sort_unstable();
        let all = owns.len();
        owns.dedup();
        assert_eq!(owns.len(), all, "{family}: a sum would count twice");
        for sample in found {
            assert!(sample.label("id").starts_with('/'), "{sample:?}");
            assert!(own.is_empty() || !sample.label(own).is_empty(), "{sample:?}");
            if who.0 == "name" {
                assert_eq!(sample.label("image"), crate::live::IMAGE, "{sample:?}");
            }
        }
    }
}

#[test]
fn everything_that_dashboards_made_for_cadvisor_read_is_there() {
    let Some(docker) = Docker::get() else { return };
    // Since Linux 6.10 cgroup v1 counts block I/O only of devices that a throttling rule names: one that never bites.
    let rule = format!("{}:100gb", crate::e2e::disk_of(std::path::Path::new("/")));
    let limits = ["--cpus=0.3", "-m", "128m", "--memory-reservation", "64m", "--cpu-shares", "512"];
    let load = "while :; do dd if=/dev/zero of=/f bs=64k count=2 oflag=direct; dd if=/f of=/dev/null bs=64k iflag=direct; done";
    let c = docker.run(&[&limits[..], &["--device-write-bps", &rule]].concat(), &["sh", "-c", load]);
    for profile in ["standard", "cadvisor"] {
        let flag = format!("--profile={profile}");
        let exporter = Exporter::with_docker(docker, &[&flag]);
        let name = [("name", c.name.as_str())];
        let scrape = wait_for("the load to have been counted", || {
            let scrape = exporter.scrape();
            (scrape.value("container_fs_reads_bytes_total", &name)? > 0.0
                && scrape.value("container_fs_writes_bytes_total", &name)? > 0.0
                && scrape.value("container_cpu_cfs_throttled_periods_total", &name)? > 0.0)
                .then_some(scrape)
        });
        check(&scrape, OF_A_CONTAINER, ("name", &c.name), profile == "cadvisor");
        check(&scrape, OF_THE_MACHINE, ("id", "/"), profile == "cadvisor");
        for family in OF_NOBODY {
            assert!(scrape.must(family, &[]) > 0.0, "{family}");
        }
        let of = |family: &str| scrape.must(family, &name);
        assert_eq!(of("container_spec_memory_limit_bytes"), f64::from(128 << 20));
        assert_eq!(of("container_spec_memory_reservation_limit_bytes"), f64::from(64 << 20));
        assert_eq!((of("container_spec_cpu_quota"), of("container_spec_cpu_period")), (30_000.0, 100_000.0));
        assert!((of("container_last_seen") - of("container_start_time_seconds")).abs() < 600.0);
        assert!(of("container_memory_working_set_bytes") <= of("container_memory_usage_bytes"));
        let cpu = scrape.select("container_cpu_usage_seconds_total", &name).next().unwrap().label("cpu");
        assert_eq!(cpu, "total");
        // What kubernetes-mixin takes for a disk.
        let device = scrape.select("container_fs_reads_total", &name).next().unwrap().label("device");
        assert!(device.starts_with("/dev/"), "{device}");
    }
}

/// cgroup v1 leaves out of the root's figures what no rule throttles; the machine's own do not.
#[test]
fn the_machines_disks_are_what_the_kernel_says_of_them() {
    let exporter = Exporter::start(&["--no-runtime.docker", "--no-runtime.podman", "--no-runtime.containerd"]);
    let kernel = |disk: &str, column: usize| -> f64 {
        let text = std::fs::read_to_string("/proc/diskstats").unwrap();
        let fields = |l: &str| l.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let line = text.lines().map(fields).find(|f| format!("/dev/{}", f[2]) == disk).expect("the disk");
        line[column].parse().unwrap()
    };
    let disk = crate::e2e::disk_of(std::path::Path::new("/"));
    let machine = [("id", "/"), ("device", disk.as_str())];
    for (family, column, unit) in [
        ("container_fs_reads_total", 3, 1.0),
        ("container_fs_reads_bytes_total", 5, 512.0),
        ("container_fs_writes_total", 7, 1.0),
        ("container_fs_writes_bytes_total", 9, 512.0),
    ] {
        let before = kernel(&disk, column) * unit;
        let told = exporter.scrape().must(family, &machine);
        let after = kernel(&disk, column) * unit;
        assert!((before..=after).contains(&told), "{family}: {before} ≤ {told} ≤ {after}");
    }
    let scrape = exporter.scrape();
    let parts = scrape.select("container_fs_reads_total", &[("id", "/")]).filter(|s| {
        let name = s.label("device").trim_start_matches("/dev/");
        !std::path::Path::new("/sys/block").join(name).exists()
    });
    assert_eq!(parts.count(), 0, "parts of a disk would count twice");
}
