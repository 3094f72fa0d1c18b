//! Real containers with known loads: the exporter's figures against the kernel's own and against what the load did.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::live::{Docker, DockerContainer, Exporter, Scrape, is_root, wait_for, which};

const MIB: f64 = 1_048_576.0;

/// A kernel file of the container's cgroup: the v1 controller's, or the v2 one.
fn cgroup_file(container: &DockerContainer, controller: &str, v1: &str, v2: &str) -> PathBuf {
    let text = std::fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    let path_of = |wanted: &str| {
        text.lines().find_map(|l| {
            let mut parts = l.splitn(3, ':').skip(1);
            let (names, path) = (parts.next()?, parts.next()?);
            names.split(',').any(|n| n == wanted).then(|| path.trim_start_matches('/').to_owned())
        })
    };
    match path_of(controller) {
        Some(path) => Path::new("/sys/fs/cgroup").join(controller).join(path).join(v1),
        None => Path::new("/sys/fs/cgroup").join(path_of("").unwrap()).join(v2),
    }
}

fn number(path: &Path) -> f64 {
    std::fs::read_to_string(path).unwrap().trim().parse().unwrap()
}

fn value_of(path: &Path, key: &str) -> f64 {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .find_map(|l| l.strip_prefix(key)?.trim().parse().ok())
        .unwrap_or_else(|| panic!("no {key} in {path:?}"))
}

/// The block device that a file system is on; of a partition, the whole disk.
pub fn disk_of(path: &Path) -> String {
    use std::os::unix::fs::MetadataExt;
    let dev = std::fs::metadata(path).unwrap().dev();
    let link = std::fs::canonicalize(format!("/sys/dev/block/{}:{}", libc::major(dev), libc::minor(dev))).unwrap();
    let disk = if link.join("partition").exists() { link.parent().unwrap().to_path_buf() } else { link };
    format!("/dev/{}", disk.file_name().unwrap().to_string_lossy())
}

fn name(container: &DockerContainer) -> [(&str, &str); 1] {
    [("name", &container.name)]
}

#[test]
fn cpu_is_what_the_kernel_counts_and_the_quota_allows() {
    let Some(docker) = Docker::get() else { return };
    let busy = docker.run(&["--cpus=0.5"], &["sh", "-c", "while :; do :; done"]);
    let exporter = Exporter::with_docker(docker, &[]);
    let counter = cgroup_file(&busy, "cpuacct", "cpuacct.usage", "cpu.stat");
    let kernel =
        || if counter.ends_with("cpu.stat") { value_of(&counter, "usage_usec ") / 1e6 } else { number(&counter) / 1e9 };

    let before = kernel();
    let begin = Instant::now();
    let first = exporter.scrape();
    let shortest = Instant::now();
    let after = kernel();
    let usage = first.must("container_cpu_usage_seconds_total", &name(&busy));
    assert!((before..=after).contains(&usage), "{before} ≤ {usage} ≤ {after}");
    assert_eq!(first.select("container_cpu_usage_seconds_total", &name(&busy)).next().unwrap().label("cpu"), "total");
    assert_eq!(first.must("kina_container_cpu_allocated_cores", &name(&busy)), 0.5);
    assert_eq!(first.must("container_spec_cpu_quota", &name(&busy)), 50_000.0);

    std::thread::sleep(Duration::from_secs(4));
    let shortest = shortest.elapsed().as_secs_f64();
    // The machine may be busy, and the load wait for its turn.
    let second = wait_for("a fifth of a second of CPU time", || {
        let usage = |s: &Scrape| s.must("container_cpu_usage_seconds_total", &name(&busy));
        let second = exporter.scrape();
        (usage(&second) - usage(&first) > 0.2).then_some(second)
    });
    let longest = begin.elapsed().as_secs_f64();
    let delta = |family: &str| second.must(family, &name(&busy)) - first.must(family, &name(&busy));
    let used = delta("container_cpu_usage_seconds_total");
    assert!(used <= 0.5 * longest + 0.2, "{used} s in {longest} s");
    let capacity = delta("kina_container_cpu_capacity_seconds_total");
    assert!(
        (0.5 * shortest - 0.01..=0.5 * longest + 0.01).contains(&capacity),
        "{capacity} s of capacity in {shortest} to {longest} s"
    );
    let idle = delta("kina_container_cpu_idle_seconds_total");
    assert!((idle - (capacity - used).max(0.0)).abs() < 0.1, "idle {idle}");
    assert!(delta("container_cpu_cfs_periods_total") > 0.0);
    let parts = delta("container_cpu_user_seconds_total") + delta("container_cpu_system_seconds_total");
    assert!((parts - used).abs() < 0.15, "user + system = {parts}, total = {used}");
}

#[test]
fn memory_kinds_add_up_to_what_the_kernel_counts() {
    let Some(docker) = Docker::get() else { return };
    // 20 MiB in a shell variable (anonymous), 10 MiB in shared memory, 15 MiB of page cache.
    let script = "x=$(head -c 20971520 /dev/zero | tr '\\0' a); head -c 10485760 /dev/zero > /dev/shm/s; \
                  head -c 15728640 /dev/zero > /f; cat /f > /dev/null; echo ready > /ready; while :; do sleep 1; done; echo ${#x}";
    let c = docker.run(&["-m", "128m"], &["sh", "-c", script]);
    wait_for("the load", || {
        std::process::Command::new("docker")
            .args(["-H", &format!("unix://{}", docker.socket.display()), "exec", &c.id, "test", "-e", "/ready"])
            .status()
            .is_ok_and(|s| s.success())
            .then_some(())
    });
    let exporter = Exporter::with_docker(docker, &[]);
    let usage_file = cgroup_file(&c, "memory", "memory.usage_in_bytes", "memory.current");
    let before = number(&usage_file);
    let scrape = exporter.scrape();
    let after = number(&usage_file);
    let usage = scrape.must("container_memory_usage_bytes", &name(&c));
    let slack = MIB;
    assert!(usage >= before.min(after) - slack && usage <= before.max(after) + slack, "{before} {usage} {after}");

    let kind = |k: &str| scrape.must("kina_container_memory_bytes", &[("name", &c.name), ("kind", k)]);
    let sum = kind("process") + kind("shared_libraries") + kind("page_cache") + kind("guest_kernel");
    let tolerance = (usage * 0.02).max(MIB);
    assert!((sum - usage).abs() <= tolerance, "kinds {sum}, usage {usage}");
    assert!(kind("process") >= 30.0 * MIB, "20 MiB anonymous and 10 MiB shared: {}", kind("process"));
    assert!(kind("page_cache") >= 14.0 * MIB, "15 MiB of a file: {}", kind("page_cache"));
    assert_eq!(scrape.must("kina_container_memory_allocated_bytes", &name(&c)), 128.0 * MIB);
    assert_eq!(scrape.must("container_spec_memory_limit_bytes", &name(&c)), 128.0 * MIB);
    let efficiency = scrape.must("kina_container_memory_efficiency_ratio", &name(&c));
    let expected = (kind("process") + kind("shared_libraries")) / (128.0 * MIB);
    assert!((efficiency - expected).abs() < 1e-9, "{efficiency} {expected}");
    let working_set = scrape.must("container_memory_working_set_bytes", &name(&c));
    assert!(working_set <= usage && working_set >= 30.0 * MIB, "{working_set}");
}

#[test]
fn an_oom_kill_is_counted() {
    let Some(docker) = Docker::get() else { return };
    let c = docker.run(
        &["-m", "16m", "--memory-swap", "16m"],
        &["sh", "-c", "while :; do head -c 67108864 /dev/zero | tail > /dev/null; sleep 1; done"],
    );
    let exporter = Exporter::with_docker(docker, &[]);
    wait_for("an OOM kill", || exporter.scrape().value("container_oom_events_total", &name(&c)).filter(|v| *v >= 1.0));
    let kernel = value_of(&cgroup_file(&c, "memory", "memory.oom_control", "memory.events"), "oom_kill ");
    let ours = exporter.scrape().must("container_oom_events_total", &name(&c));
    assert!(ours >= kernel && ours <= kernel + 3.0, "{ours} {kernel}");
}

#[test]
fn disk_writes_are_what_the_load_wrote() {
    let Some(docker) = Docker::get() else { return };
    // Since Linux 6.10 cgroup v1 counts block I/O only of devices that a throttling rule names: one that never bites.
    let disk = disk_of(Path::new("/"));
    let rule = format!("{disk}:100gb");
    let c = docker.run(&["--device-write-bps", &rule], &["sleep", "3600"]);
    let exporter = Exporter::with_docker(docker, &[]);
    let written = |s: &Scrape| s.value("container_fs_writes_bytes_total", &name(&c)).unwrap_or(0.0);
    let before = written(&exporter.scrape());
    c.exec(&["dd", "if=/dev/zero", "of=/direct", "bs=1M", "count=16", "oflag=direct"]);
    let scrape = exporter.scrape();
    let delta = written(&scrape) - before;
    // File system metadata comes on top.
    assert!((16.0 * MIB..18.0 * MIB).contains(&delta), "{delta}");
    let device = scrape.select("container_fs_writes_bytes_total", &name(&c)).next().unwrap().label("device").to_owned();
    assert!(device.starts_with("/dev/"), "{device}");
    assert!(scrape.must("container_fs_writes_total", &name(&c)) >= 16.0);
}

#[test]
fn network_of_two_containers_that_talk() {
    let Some(docker) = Docker::get() else { return };
    if !is_root() && crate::common::skip("network namespaces can be entered by root alone") {
        return;
    }
    // Without an input that stays open, nc ends the connection at once.
    let server = docker.run(&[], &["sh", "-c", "sleep 3600 | nc -l -p 7000 > /dev/null"]);
    let address = wait_for("an address", || Some(server.address()).filter(|a| !a.is_empty()));
    wait_for("the server to listen", || {
        let sockets = std::fs::read_to_string(format!("/proc/{}/net/tcp6", server.pid())).ok()?;
        sockets.contains(&format!(":{:04X} ", 7000)).then_some(())
    });
    // 5 MB, then the connection stays open and idle.
    let script = format!("(head -c 5000000 /dev/zero; sleep 3600) | nc {address} 7000");
    let client = docker.run(&[], &["sh", "-c", &script]);
    // Another engine on this machine may have given another container the same address: it would then tell of neither.
    let shown = format!("--containers.name-include={}|{}", server.name, client.name);
    let exporter = Exporter::with_docker(docker, &[&shown]);
    let scrape = wait_for("the transfer", || {
        let s = exporter.scrape();
        (s.value("container_network_transmit_bytes_total", &name(&client))? > 5_000_000.0).then_some(s)
    });
    let interface = [("name", client.name.as_str()), ("interface", "eth0")];
    let kernel = |field: usize| -> f64 {
        let dev = std::fs::read_to_string(format!("/proc/{}/net/dev", client.pid())).unwrap();
        let line = dev.lines().find_map(|l| l.trim().strip_prefix("eth0:")).unwrap().to_owned();
        line.split_whitespace().nth(field).unwrap().parse().unwrap()
    };
    let scrape_now = exporter.scrape();
    assert!((scrape_now.must("container_network_transmit_bytes_total", &interface) - kernel(8)).abs() < 20_000.0);
    assert!((scrape_now.must("container_network_receive_packets_total", &interface) - kernel(1)).abs() < 50.0);
    assert!(scrape.must("kina_container_tcp_sent_segments_total", &name(&client)) > 10.0);
    assert!(scrape.value("kina_container_tcp_retransmitted_segments_total", &name(&client)).is_some());

    if scrape.value("kina_capability", &[("capability", "sock_diag")]) != Some(1.0) {
        // Proven in the VM, whose kernel has it.
        eprintln!("skipped: this kernel has no socket diagnostics");
        return;
    }
    assert_eq!(scrape.must("kina_container_tcp_connections", &[("name", &client.name), ("state", "established")]), 1.0);
    assert_eq!(scrape.must("kina_container_peer_connections", &[("name", &client.name), ("peer", &server.name)]), 1.0);
    assert_eq!(scrape.must("kina_container_network_fanout", &name(&client)), 1.0);
    let count = scrape.must("kina_container_network_rtt_seconds_count", &name(&client));
    let sum = scrape.must("kina_container_network_rtt_seconds_sum", &name(&client));
    assert!(count >= 1.0 && sum > 0.0 && sum / count < 0.5, "{sum} s in {count}");
}

#[test]
fn a_container_is_in_the_next_scrape_and_gone_from_the_one_after_its_end() {
    let Some(docker) = Docker::get() else { return };
    let exporter = Exporter::with_docker(docker, &[]);
    for _ in 0..5 {
        let c = docker.run(&["--label", "team=storage"], &["sleep", "3600"]);
        let id = c.id.clone();
        let scrape = exporter.scrape();
        let labels = name(&c);
        let sample = scrape.select("container_last_seen", &labels).next().expect("in the next scrape");
        assert!(sample.label("id").contains(&id), "{:?}", sample.labels);
        assert_eq!(sample.label("image"), crate::live::IMAGE);
        assert_eq!(sample.label("runtime"), "docker");
        docker.docker(&["rm", "-f", &c.id]);
        let text = exporter.get("/metrics");
        assert!(!text.contains(&id), "a ghost");
    }
}

#[test]
fn promtool_accepts_the_scrape_without_a_word() {
    let Some(docker) = Docker::get() else { return };
    let Some(promtool) = which("promtool") else {
        crate::common::skip("promtool is not installed");
        return;
    };
    let _c = docker.run(&["--cpus=0.5", "-m", "64m"], &["sh", "-c", "while :; do sleep 0.1; done"]);
    let exporter = Exporter::with_docker(docker, &[]);
    exporter.scrape();
    let text = exporter.get("/metrics");
    let mut child = std::process::Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    let said = [out.stdout, out.stderr].concat();
    assert!(out.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}
