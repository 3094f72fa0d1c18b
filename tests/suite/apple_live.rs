//! The real binary against a stand-in for Apple's `container` command: a script that prints what it is told to, late,
//! broken or not at all, as the real one can.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::common::fixture;
use crate::live::{Exporter, Scrape, wait_for};

/// Each shape that the command has had; 0.6 is as 0.5, 1.2.0 as 1.2.2.
pub const VERSIONS: [&str; 6] = ["0.5.0", "0.7.1", "0.10.0", "0.12.3", "1.0.0", "1.2.2"];
/// … and those that have `container stats`.
pub const WITH_STATS: [&str; 5] = ["0.7.1", "0.10.0", "0.12.3", "1.0.0", "1.2.2"];

pub struct StandIn {
    dir: tempfile::TempDir,
}

impl StandIn {
    /// Behaves as this version's samples.
    pub fn version(version: &str) -> StandIn {
        let stand_in = StandIn { dir: tempfile::tempdir().unwrap() };
        // A link: a program that has just been written may still be open for writing in a child of another test, and can't
        // be run meanwhile.
        std::os::unix::fs::symlink(fixture("apple/container"), stand_in.program()).unwrap();
        let samples = fixture("apple").join(version);
        for (answer, sample) in [
            ("list", "container-list-all.json"),
            ("stats", "stats-all.json"),
            ("image-list", "image-list.json"),
            ("image-inspect", "image-inspect-nginx.json"),
            ("version", "system-version.json"),
            ("network-list", "network-list.json"),
        ] {
            if let Ok(content) = std::fs::read(samples.join(sample)) {
                stand_in.set(answer, content);
            }
        }
        // The samples' root is somebody's home: ours is here.
        let root = stand_in.dir.path().join("root");
        std::fs::create_dir_all(root.join("containers")).unwrap();
        let status = if ["0.5.0", "0.7.1"].contains(&version) {
            format!("apiserver is running\napplication data root: {}/\n", root.display())
        } else {
            serde_json::json!({"status": "running", "appRoot": format!("{}/", root.display())}).to_string()
        };
        stand_in.set("status", status);
        stand_in
    }

    pub fn program(&self) -> PathBuf {
        self.dir.path().join("container")
    }

    /// Put in place whole: the script never sees half an answer.
    pub fn put(&self, file: &str, content: impl AsRef<[u8]>) {
        let new = self.dir.path().join(format!("{file}.new"));
        std::fs::write(&new, content).unwrap();
        std::fs::rename(new, self.dir.path().join(file)).unwrap();
    }

    pub fn set(&self, answer: &str, content: impl AsRef<[u8]>) {
        self.put(&format!("{answer}.out"), content);
    }

    /// What `cat` prints in a container: the files it has, each in its place. It says on standard error what it lacks, goes
    /// on, and exits 1.
    pub fn guest(&self, id: &str, files: &[(&str, &str)]) {
        let content = |path: &&str| {
            let named = |(name, _): &&(&str, &str)| path.strip_prefix("/sys/fs/cgroup/").unwrap_or(path) == *name;
            files.iter().find(named).map_or("", |(_, content)| content)
        };
        let paths: Vec<&str> = kina_exporter::runtime::apple::Guest::paths().into_iter().step_by(2).collect();
        let printed: Vec<&str> = paths.iter().map(content).collect();
        self.put(&format!("exec-{id}.exit"), "1");
        self.set(&format!("exec-{id}"), printed.join("Linux version 6.18.15 (gcc) #1 SMP\n"));
    }

    pub fn fail(&self, answer: &str, stderr: &[u8], code: i32) {
        let _ = std::fs::remove_file(self.dir.path().join(format!("{answer}.out")));
        self.put(&format!("{answer}.err"), stderr);
        self.put(&format!("{answer}.exit"), code.to_string());
    }

    pub fn mend(&self, answer: &str, content: impl AsRef<[u8]>) {
        for what in ["err", "exit", "delay"] {
            let _ = std::fs::remove_file(self.dir.path().join(format!("{answer}.{what}")));
        }
        self.set(answer, content);
    }

    pub fn delay(&self, answer: &str, seconds: u32) {
        self.put(&format!("{answer}.delay"), seconds.to_string());
    }

    pub fn calls(&self, line: &str) -> usize {
        let calls = std::fs::read_to_string(self.dir.path().join("calls")).unwrap_or_default();
        calls.lines().filter(|l| l.starts_with(line)).count()
    }

    /// The exporter with nothing but this runtime.
    pub fn exporter(&self) -> Exporter {
        self.exporter_with(&[])
    }

    /// Where the daemon would keep a container's files.
    pub fn bundle(&self, id: &str) -> PathBuf {
        self.dir.path().join("root/containers").join(id)
    }

    pub fn exporter_with(&self, flags: &[&str]) -> Exporter {
        let command = format!("--runtime.apple.command={}", self.program().display());
        let only_this = [
            "--runtime.apple.stats-interval=1s",
            "--no-runtime.docker",
            "--no-runtime.podman",
            "--no-runtime.containerd",
            "--no-runtime.cgroup",
        ];
        Exporter::start(&[&[command.as_str()][..], &only_this, flags].concat())
    }
}

pub fn list(version: &str) -> Vec<serde_json::Value> {
    let path = fixture("apple").join(version).join("container-list-all.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

pub fn only<'a>(list: &'a [serde_json::Value], id: &str) -> &'a serde_json::Value {
    list.iter().find(|c| c["configuration"]["id"] == id).unwrap()
}

pub fn web(scrape: &Scrape, family: &str) -> Option<f64> {
    scrape.value(family, &[("id", "web"), ("runtime", "apple")])
}

pub fn measured(exporter: &Exporter) -> Scrape {
    wait_for("statistics", || {
        let scrape = exporter.scrape();
        web(&scrape, "container_memory_usage_bytes").map(|_| scrape)
    })
}

/// Waits until the exporter has the first list, and has looked at the boot logs once: what starts from now on is a start.
pub fn looking(exporter: &Exporter) {
    wait_for("the first list and the daemon's folder", || {
        let scrape = exporter.scrape();
        let can = |what: &str| scrape.value("kina_capability", &[("capability", what)]) == Some(1.0);
        (can("apple") && can("apple_boot_logs")).then_some(())
    });
}

#[test]
fn every_version_brings_the_same_figures() {
    for version in WITH_STATS {
        let stand_in = StandIn::version(version);
        let exporter = stand_in.exporter();
        let scrape = measured(&exporter);
        let figure = |family: &str| web(&scrape, family).unwrap_or_else(|| panic!("{version}: no {family}"));
        assert_eq!(figure("container_memory_usage_bytes"), 47_431_680.0, "{version}");
        assert_eq!(figure("container_cpu_usage_seconds_total"), 1.234567, "{version}");
        assert_eq!(figure("container_network_receive_bytes_total"), 1_289_011.0, "{version}");
        assert_eq!(figure("container_network_transmit_bytes_total"), 876_544.0, "{version}");
        assert_eq!(figure("container_fs_reads_bytes_total"), 4_718_592.0, "{version}");
        assert_eq!(figure("container_fs_writes_bytes_total"), 2_202_009.0, "{version}");
        assert_eq!(figure("container_threads"), 5.0, "{version}");
        assert_eq!(figure("container_spec_memory_limit_bytes"), 536_870_912.0, "{version}");
        assert!(figure("kina_container_memory_allocated_bytes") >= 536_870_912.0, "{version}");
        let cores = if version >= "1" && !version.starts_with("0.") { 3.0 } else { 2.0 };
        assert_eq!(figure("kina_container_cpu_allocated_cores"), cores, "{version}");
        // Only what runs is there: neither the stopped container nor the one never started.
        assert!(scrape.select("container_last_seen", &[("name", "db-Never.started_1")]).next().is_none());
        assert_eq!(scrape.must("kina_capability", &[("capability", "apple")]), 1.0);
        assert_eq!(scrape.select("kina_read_errors_total", &[("collector", "vm")]).count(), 0, "{version}");
    }
}

#[test]
fn before_0_7_there_are_no_statistics_and_the_guest_tells_instead() {
    let stand_in = StandIn::version("0.5.0");
    let unsupported = std::fs::read(fixture("apple/0.5.0/errors/stats-no-such-command.exit64.stderr.txt")).unwrap();
    stand_in.fail("stats", &unsupported, 64);
    stand_in.guest(
        "web",
        &[
            ("memory.current", "5000\n"),
            ("cpu.stat", "usage_usec 7000000\nuser_usec 4000000\nsystem_usec 3000000\n"),
            ("pids.current", "9\n"),
            ("io.stat", "254:16 rbytes=40 wbytes=50 rios=3 wios=1\n"),
            ("/proc/self/net/dev", "Inter\n face\n  eth0: 100 1 2 3 0 0 0 0 200 4 5 6 0 0 0 0\n"),
        ],
    );
    let exporter = stand_in.exporter_with(&["--runtime.apple.guest-interval=10s"]);
    let scrape = wait_for("the guest", || {
        let scrape = exporter.scrape();
        web(&scrape, "container_memory_usage_bytes").map(|_| scrape)
    });
    for (family, expected) in [
        ("container_memory_usage_bytes", 5000.0),
        ("container_cpu_usage_seconds_total", 7.0),
        ("container_threads", 9.0),
        ("container_fs_writes_bytes_total", 50.0),
        ("container_network_receive_bytes_total", 100.0),
        ("container_network_transmit_packets_dropped_total", 6.0),
        ("kina_container_memory_allocated_bytes", 536_870_912.0),
    ] {
        assert_eq!(web(&scrape, family), Some(expected), "{family}");
    }
    let told = scrape.select("kina_capability", &[("capability", "apple_stats")]).next().unwrap();
    assert_eq!((told.value, told.label("reason")), (0.0, "this version has no such command"));
    assert_eq!(scrape.select("kina_read_errors_total", &[("collector", "vm")]).count(), 0, "it is no failure");
}

#[test]
fn machines_networks_and_versions_are_told() {
    let stand_in = StandIn::version("1.2.2");
    let sample = |name: &str| std::fs::read(fixture("apple/1.2.2").join(name)).unwrap();
    stand_in.set("machine-list", sample("machine-list.json"));
    stand_in.set("machine-inspect-dev", sample("machine-inspect-dev.json"));
    stand_in.set("inspect", sample("container-inspect-machine.json"));
    stand_in.set("stats", sample("stats-includes-machine.json"));
    let exporter = stand_in.exporter();
    let machine = [("id", "dev-1a2b3c"), ("runtime", "apple")];
    let scrape = wait_for("the machine", || {
        let scrape = exporter.scrape();
        scrape.value("container_memory_usage_bytes", &machine).map(|_| scrape)
    });
    let role = |id: &str| scrape.select("kina_container_info", &[("id", id)]).next().unwrap().label("role").to_owned();
    assert_eq!(role("dev-1a2b3c"), "machine");
    assert_eq!(role("buildkit"), "builder");
    assert_eq!(role("k8s-dev"), "kubernetes-control-plane");
    assert_eq!(scrape.must("container_memory_usage_bytes", &machine), 734_003_200.0);
    assert_eq!(stand_in.calls("begin machine-inspect-scratch-2"), 0, "it does not run");
    let network = [("runtime", "apple"), ("network", "backend"), ("mode", "nat"), ("ipv4_subnet", "10.20.0.0/24")];
    wait_for("the networks", || exporter.scrape().value("kina_runtime_network_info", &network));
    let version = [("runtime", "apple"), ("component", "container-apiserver"), ("version", "1.2.2")];
    assert_eq!(exporter.scrape().must("kina_runtime_info", &version), 1.0);
    // It stops: its list says so, no list of containers does.
    stand_in.set("machine-list", "[]");
    wait_for("the machine's end", || exporter.scrape().value("container_last_seen", &machine).is_none().then_some(()));
}

#[test]
fn absent_figures_stay_absent_and_unlimited_is_no_limit() {
    let stand_in = StandIn::version("1.2.2");
    stand_in.set("stats", r#"[{"id":"web","networkRxBytes":5,"memoryLimitBytes":18446744073709551615}]"#);
    let exporter = stand_in.exporter();
    let scrape = wait_for("statistics", || {
        let scrape = exporter.scrape();
        web(&scrape, "container_network_receive_bytes_total").map(|_| scrape)
    });
    assert_eq!(web(&scrape, "container_memory_usage_bytes"), None);
    assert_eq!(web(&scrape, "container_cpu_usage_seconds_total"), None);
    assert_eq!(web(&scrape, "container_spec_memory_limit_bytes"), Some(0.0));
}

#[test]
fn a_daemon_that_is_down_says_so_and_is_found_again() {
    let stand_in = StandIn::version("1.2.2");
    let good = std::fs::read(fixture("apple/1.2.2/container-list-all.json")).unwrap();
    let errors = fixture("apple/1.2.2/errors");
    let exporter = stand_in.exporter();
    measured(&exporter);
    let reason = |scrape: &Scrape| {
        let sample = scrape.select("kina_capability", &[("capability", "apple")]).next().unwrap();
        (sample.value, sample.label("reason").to_owned())
    };

    let down = std::fs::read(errors.join("list-service-not-running.exit1.stderr.txt")).unwrap();
    stand_in.fail("list", &down, 1);
    wait_for("the daemon's end to be seen", || {
        (reason(&exporter.scrape()) == (0.0, "the container service is not running".to_owned())).then_some(())
    });
    assert!(web(&exporter.scrape(), "container_last_seen").is_none(), "nothing is known of it");

    stand_in.mend("list", &good);
    wait_for("the daemon's return to be seen", || (reason(&exporter.scrape()).0 == 1.0).then_some(()));
    measured(&exporter);

    let hung = std::fs::read(errors.join("list-xpc-timeout.exit1.stderr.txt")).unwrap();
    stand_in.fail("list", &hung, 1);
    wait_for("the hang to be seen", || {
        (reason(&exporter.scrape()).1 == "the container service does not answer").then_some(())
    });
    stand_in.mend("list", b"this is no JSON");
    wait_for("garbage to be seen", || {
        (reason(&exporter.scrape()).1 == "the container command printed no JSON").then_some(())
    });
    // Neither was an exit of a container.
    assert!(exporter.scrape().value("kina_container_exits_total", &[]).is_none());
}

#[test]
fn one_statistics_child_at_a_time_and_scrapes_never_wait_for_it() {
    let stand_in = StandIn::version("1.2.2");
    stand_in.delay("stats", 120);
    let exporter = stand_in.exporter();
    wait_for("the first call", || (stand_in.calls("begin stats") > 0).then_some(()));
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(3) {
        exporter.scrape();
    }
    assert_eq!(stand_in.calls("done stats"), 0, "the scrapes waited for the statistics");
    assert_eq!(stand_in.calls("begin stats"), 1, "children pile up");
}

#[test]
fn five_hundred_containers_with_hostile_names() {
    let stand_in = StandIn::version("1.2.2");
    let all = list("1.2.2");
    let web = only(&all, "web");
    let mut many = Vec::new();
    let mut stats = Vec::new();
    for n in 0..500 {
        let id = if n == 0 { "../../etc/\"\n\\".to_owned() } else { format!("c{n}") };
        let mut c = web.clone();
        c["id"] = id.clone().into();
        c["configuration"]["id"] = id.clone().into();
        c["configuration"]["image"]["reference"] = format!("image\"\\\n{}", n % 7).into();
        many.push(c);
        stats.push(serde_json::json!({"id": id, "cpuUsageUsec": n}));
    }
    // One element that can't be read costs itself alone.
    many.push(serde_json::json!({"id": 7, "status": []}));
    stand_in.set("list", serde_json::to_vec(&many).unwrap());
    stand_in.set("stats", serde_json::to_vec(&stats).unwrap());
    let exporter = stand_in.exporter();
    let scrape = wait_for("statistics", || {
        let scrape = exporter.scrape();
        (scrape.select("container_cpu_usage_seconds_total", &[("runtime", "apple")]).count() == 500).then_some(scrape)
    });
    assert_eq!(scrape.select("container_last_seen", &[("name", "../../etc/\"\n\\")]).count(), 1);
    assert!(scrape.must("kina_read_errors_total", &[("collector", "vm"), ("kind", "malformed")]) >= 1.0);
    let outside = Path::new("/etc").join("vminitd.log");
    assert!(!outside.exists());
}

#[test]
fn stop_restart_and_a_restarted_daemon_are_told_apart() {
    let stand_in = StandIn::version("1.2.2");
    let all = list("1.2.2");
    let running = only(&all, "web").clone();
    let put = |c: &serde_json::Value| stand_in.set("list", serde_json::to_vec(&[c]).unwrap());
    put(&running);
    let exporter = stand_in.exporter();
    measured(&exporter);
    let starts = |s: &Scrape| s.value("kina_container_starts_total", &[("runtime", "apple")]).unwrap_or(0.0);
    let exits = |s: &Scrape| s.value("kina_container_exits_total", &[("runtime", "apple")]).unwrap_or(0.0);
    assert_eq!(starts(&exporter.scrape()), 0.0, "it started before the exporter");

    // Stopped: the start time stays, the state decides.
    let mut stopped = running.clone();
    stopped["status"]["state"] = "stopped".into();
    put(&stopped);
    wait_for("the stop", || (exits(&exporter.scrape()) == 1.0).then_some(()));
    assert!(web(&exporter.scrape(), "container_last_seen").is_none());

    let mut again = running.clone();
    let now = unix_now() + 1;
    again["status"]["startedDate"] = rfc3339(now).into();
    put(&again);
    wait_for("the start", || (starts(&exporter.scrape()) == 1.0).then_some(()));
    assert_eq!(web(&exporter.scrape(), "container_start_time_seconds"), Some(now as f64));

    // The daemon restarts: everything is stopped and has no start time, though the VM may live. No exit is made up.
    let mut forgotten = again.clone();
    forgotten["status"] = serde_json::json!({"state": "stopped", "networks": []});
    put(&forgotten);
    wait_for("the daemon's restart", || web(&exporter.scrape(), "container_last_seen").is_none().then_some(()));
    assert_eq!(exits(&exporter.scrape()), 1.0);

    // What runs after it started anew.
    again["status"]["startedDate"] = rfc3339(unix_now() + 1).into();
    put(&again);
    wait_for("the next start", || (starts(&exporter.scrape()) == 2.0).then_some(()));
}

/// The boot log of a sample, its lines written as a machine would, from now on; true until the process runs.
pub fn boot(folder: &Path, sample: &str, pause: Duration) {
    use std::io::Write;
    let mut log = std::fs::OpenOptions::new().append(true).create(true).open(folder.join("vminitd.log")).unwrap();
    for line in std::fs::read(fixture("apple").join(sample)).unwrap().split_inclusive(|b| *b == b'\n') {
        // What comes a second later is out of step with lines that are written faster than they were.
        if line.starts_with(b"[    1.") {
            continue;
        }
        log.write_all(line).unwrap();
        std::thread::sleep(pause);
    }
}

/// A file that was last changed so long ago.
pub fn written(path: &Path, content: &str, ago: Duration) {
    std::fs::write(path, content).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_modified(std::time::SystemTime::now() - ago).unwrap();
}

#[test]
fn exits_have_the_status_that_the_boot_log_tells() {
    let stand_in = StandIn::version("1.2.2");
    let running = only(&list("1.2.2"), "web").clone();
    let web = |id: &str, state: &str| {
        let mut c = running.clone();
        (c["id"], c["configuration"]["id"]) = (id.into(), id.into());
        c["status"]["state"] = state.into();
        c
    };
    let put = |containers: &[serde_json::Value]| stand_in.set("list", serde_json::to_vec(containers).unwrap());
    let names = ["ok", "error", "killed", "oom", "mute", "gone"];
    for name in names {
        std::fs::create_dir_all(stand_in.bundle(name)).unwrap();
        std::fs::write(stand_in.bundle(name).join("vminitd.log"), "").unwrap();
    }
    put(&names.map(|name| web(name, "running")));
    let exporter = stand_in.exporter();
    wait_for("the containers", || {
        let shown = exporter.scrape().select("container_last_seen", &[("runtime", "apple")]).count();
        (shown == names.len()).then_some(())
    });
    looking(&exporter);
    let at = "2026-08-07T08:15:42.012Z info vminitd: ";
    let end = |name: &str, status: i32| {
        format!(
            "{at}status: {status} managed process exit\n{at}mountpoint: /sys/fs/cgroup, \
             path: /sys/fs/cgroup/container/{name} deleting cgroup manager\n"
        )
    };
    let append = |name: &str, text: &str| {
        use std::io::Write;
        let log = std::fs::OpenOptions::new().append(true).open(stand_in.bundle(name).join("vminitd.log"));
        log.unwrap().write_all(text.as_bytes()).unwrap();
    };
    append("ok", &end("ok", 0));
    // An exec's end before its own.
    append("error", &(format!("{at}status: 0 managed process exit\n") + &end("error", 3)));
    append("killed", &end("killed", 137));
    append("oom", &format!("{at}id: oom, pid: 74 started managed process\n"));
    append(
        "oom",
        "[   27.100000] oom-kill:constraint=CONSTRAINT_MEMCG,task_memcg=/container/oom,task=x,pid=74,uid=0\n",
    );
    append("oom", &end("oom", 137));
    append("gone", &end("gone", 0));
    // All logs are looked at one after the other: once something that was written later is known, all before it is.
    let failures = |scrape: &Scrape| scrape.value("kina_container_start_failures_total", &[("runtime", "apple")]);
    std::fs::create_dir_all(stand_in.bundle("broken")).unwrap();
    boot(&stand_in.bundle("broken"), "1.2.2/boot-log-start-failed.txt", Duration::ZERO);
    wait_for("a look at all logs", || failures(&exporter.scrape()).is_some().then_some(()));
    // Removed by itself after its end, its files with it.
    std::fs::remove_dir_all(stand_in.bundle("gone")).unwrap();
    put(&["ok", "error", "killed", "oom", "mute"].map(|name| web(name, "stopped")));
    let exits = |scrape: &Scrape, reason: &str| scrape.value("kina_container_exits_total", &[("reason", reason)]);
    let scrape = wait_for("the exits", || {
        let scrape = exporter.scrape();
        (scrape.value("kina_container_exits_total", &[("runtime", "apple")]) == Some(6.0)).then_some(scrape)
    });
    assert_eq!(exits(&scrape, "ok"), Some(2.0));
    for reason in ["error", "signal", "oom", "unknown"] {
        assert_eq!(exits(&scrape, reason), Some(1.0), "{reason}");
    }
}

fn phase(scrape: &Scrape, phase: &str, start: &str) -> Option<f64> {
    scrape.value("kina_container_startup_phase_duration_seconds_sum", &[("phase", phase), ("start", start)])
}

#[test]
fn starts_are_told_from_the_boot_log_as_it_grows() {
    let stand_in = StandIn::version("1.2.2");
    let bundle = stand_in.dir.path().join("root/containers/web");
    let mut web = only(&list("1.2.2"), "web").clone();
    stand_in.set("list", "[]");
    let exporter = stand_in.exporter();
    looking(&exporter);

    // `container run`: the bundle, then the VM, then the process.
    std::fs::create_dir_all(&bundle).unwrap();
    let description = web["configuration"].to_string().replace("creationDate", "created");
    let requested = Instant::now();
    written(&bundle.join("config.json"), &description, Duration::from_millis(200));
    boot(&bundle, "1.2.2/boot-log-web.txt", Duration::from_millis(10));
    let took = requested.elapsed().as_secs_f64() + 0.2;
    web["status"]["startedDate"] = rfc3339(unix_now()).into();
    let put = |c: &serde_json::Value| stand_in.set("list", serde_json::to_vec(&[c]).unwrap());
    put(&web);
    let cold = wait_for("the start", || {
        let scrape = exporter.scrape();
        phase(&scrape, "process", "cold").map(|_| scrape)
    });
    let near = |value: Option<f64>, expected: f64, within: f64, what: &str| {
        assert!(value.is_some_and(|v| (v - expected).abs() <= within), "{what}: {value:?}, not {expected}");
    };
    // By the guest's own clocks.
    near(phase(&cold, "kernel_boot", "cold"), 0.143_252, 1e-6, "kernel_boot");
    near(phase(&cold, "init", "cold"), 0.092, 1e-6, "init");
    // The host's files tell the request; the VM is up where its kernel's clock was 0.
    let total = cold.must("kina_container_startup_duration_seconds_sum", &[("start", "cold")]);
    assert!((0.3..=took).contains(&total), "{total} of {took}");
    let parts: f64 =
        ["vm_create", "kernel_boot", "init", "process"].iter().filter_map(|p| phase(&cold, p, "cold")).sum();
    near(Some(parts), total, 1e-6, "all phases");

    // Stopped and started again: the second boot is appended, no file tells of the request.
    web["status"]["state"] = "stopped".into();
    put(&web);
    wait_for("the stop", || (exporter.scrape().value("kina_container_exits_total", &[]) == Some(1.0)).then_some(()));
    std::thread::sleep(Duration::from_millis(1100));
    boot(&bundle, "1.2.2/boot-log-web.txt", Duration::from_millis(2));
    web["status"] = only(&list("1.2.2"), "web")["status"].clone();
    web["status"]["startedDate"] = rfc3339(unix_now()).into();
    put(&web);
    let warm = wait_for("the second start", || {
        let scrape = exporter.scrape();
        phase(&scrape, "process", "warm").map(|_| scrape)
    });
    near(phase(&warm, "kernel_boot", "warm"), 0.143_252, 1e-6, "kernel_boot");
    near(phase(&warm, "process", "warm"), 0.015, 1e-6, "process");
    assert_eq!(phase(&warm, "vm_create", "warm"), None, "nobody knows when it was requested");
    assert!(warm.value("kina_container_startup_duration_seconds_count", &[("start", "warm")]).is_none());
}

#[test]
fn without_the_files_dates_tell_what_is_cold_and_measure_nothing() {
    let stand_in = StandIn::version("1.2.2");
    stand_in.fail("status", b"", 1);
    stand_in.set("list", "[]");
    let exporter = stand_in.exporter();
    let up = |s: &Scrape| s.value("kina_capability", &[("capability", "apple")]) == Some(1.0);
    wait_for("the first list", || up(&exporter.scrape()).then_some(()));
    std::thread::sleep(Duration::from_millis(1100));
    let mut web = only(&list("1.2.2"), "web").clone();
    web["status"]["startedDate"] = rfc3339(unix_now()).into();
    web["configuration"]["creationDate"] = web["status"]["startedDate"].clone();
    stand_in.set("list", serde_json::to_vec(&[web]).unwrap());
    let scrape = wait_for("the start", || {
        let scrape = exporter.scrape();
        let cold = scrape.value("kina_container_starts_total", &[("runtime", "apple"), ("start", "cold")]);
        (cold == Some(1.0)).then_some(scrape)
    });
    assert!(scrape.value("kina_container_startup_duration_seconds_count", &[]).is_none(), "whole seconds are no total");
}

#[test]
fn a_process_that_init_cannot_start_is_a_failed_start() {
    let stand_in = StandIn::version("1.2.2");
    stand_in.set("list", "[]");
    let exporter = stand_in.exporter();
    looking(&exporter);
    let bundle = stand_in.dir.path().join("root/containers/broken");
    std::fs::create_dir_all(&bundle).unwrap();
    boot(&bundle, "1.2.2/boot-log-start-failed.txt", Duration::from_millis(1));
    wait_for("the failure", || {
        let failures = exporter.scrape().value("kina_container_start_failures_total", &[("runtime", "apple")]);
        (failures == Some(1.0)).then_some(())
    });
}

pub fn unix_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// Whole seconds since the Unix epoch, as 1.x writes dates.
pub fn rfc3339(seconds: u64) -> String {
    let out = std::process::Command::new("date")
        .args(["-u", "-d", &format!("@{seconds}"), "+%Y-%m-%dT%H:%M:%SZ"])
        .output()
        .unwrap();
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

#[test]
fn the_guests_kernel_tells_more_where_it_is_asked() {
    let stand_in = StandIn::version("1.2.2");
    let all = list("1.2.2");
    let web_alone = only(&all, "web").clone();
    let mut bare = web_alone.clone();
    bare["id"] = "bare".into();
    bare["configuration"]["id"] = "bare".into();
    let guest = |seconds: u64, reads: u64, read_ms: u64| {
        let disks = format!("254 0 vda 9 0 9 9 0 0 0 0 0 9 9\n254 16 vdb {reads} 0 9 {read_ms} 4 0 9 8 2 9 9\n");
        let cpu = format!(
            "usage_usec 9\nuser_usec {}\nsystem_usec 1000000\nnr_periods 4\nnr_throttled 2\nthrottled_usec 5\n",
            seconds * 1_000_000
        );
        stand_in.guest(
            "web",
            &[
                (
                    "memory.stat",
                    "anon 1000\nfile 500\nkernel 70\nshmem 100\nfile_mapped 200\ninactive_file 50\nworkingset_refault_file 9\n",
                ),
                ("memory.events", "oom_kill 0\n"),
                ("memory.peak", "4000\n"),
                ("cpu.stat", &cpu),
                ("cpu.max", "200000 100000\n"),
                ("cgroup.procs", "1\n7\n"),
                ("io.stat", "254:0 rbytes=1 wbytes=2 rios=30 wios=4\n254:16 rbytes=1 wbytes=2 rios=3 wios=1\n"),
                ("/proc/meminfo", "MemTotal:       1000000 kB\nMemFree:         400000 kB\n"),
                ("/proc/self/net/snmp", "Tcp: OutSegs RetransSegs\nTcp: 77 3\n"),
                ("/proc/diskstats", &disks),
                // To the other container, whose address is the sample's.
                (
                    "/proc/self/net/tcp",
                    "titles\n 0: 0240A8C0:0050 0940A8C0:C350 01 0\n 1: 0240A8C0:0050 00000000:0000 0A 0\n",
                ),
                ("/proc/self/net/dev", "Inter\n face\n  eth0: 1 10 0 2 0 0 0 0 3 20 1 0 0 0 0 0\n"),
            ],
        );
    };
    guest(3, 100, 200);
    bare["status"]["networks"][0]["ipv4Address"] = "192.168.64.9/24".into();
    stand_in.set("list", serde_json::to_vec(&[web_alone, bare]).unwrap());
    stand_in.fail("exec-bare", b"Error: failed to find target executable cat\n", 1);
    let exporter = stand_in.exporter_with(&["--runtime.apple.guest-interval=10s"]);
    measured(&exporter);
    let told = |family: &str| wait_for(family, || web(&exporter.scrape(), family));
    assert_eq!(told("container_cpu_user_seconds_total"), 3.0);
    assert_eq!(told("container_cpu_system_seconds_total"), 1.0);
    assert_eq!(told("container_fs_reads_total"), 33.0);
    assert_eq!(told("kina_container_tcp_sent_segments_total"), 77.0);
    assert_eq!(told("kina_vm_guest_used_memory_bytes"), 600_000.0 * 1024.0);
    let scrape = exporter.scrape();
    let kind = |kind: &str| scrape.value("kina_container_memory_bytes", &[("id", "web"), ("kind", kind)]);
    assert_eq!(
        (kind("process"), kind("shared_libraries"), kind("page_cache")),
        (Some(1100.0), Some(100.0), Some(300.0))
    );
    assert!(web(&scrape, "container_pressure_cpu_waiting_seconds_total").is_none(), "this kernel has no PSI");
    assert!(scrape.value("container_cpu_user_seconds_total", &[("id", "bare")]).is_none());
    for (family, expected) in [
        ("container_memory_max_usage_bytes", 4000.0),
        ("container_spec_cpu_quota", 200_000.0),
        ("container_processes", 2.0),
        ("container_network_receive_packets_total", 10.0),
        ("container_network_receive_packets_dropped_total", 2.0),
        ("kina_container_storage_queue_depth", 2.0),
        ("kina_container_network_fanout", 1.0),
        ("kina_container_peer_connections", 1.0),
    ] {
        assert_eq!(web(&scrape, family), Some(expected), "{family}");
    }
    let connections = [("id", "web"), ("state", "established")];
    assert_eq!(scrape.must("kina_container_tcp_connections", &connections), 1.0);
    assert!(web(&scrape, "kina_container_network_rtt_seconds_count").is_none(), "no file tells round-trip times");
    // It has no `cat`: it is asked once, the other again; latency is between two answers.
    guest(3, 150, 700);
    let latency = |scrape: &Scrape, what: &str| {
        let family = format!("kina_container_storage_latency_seconds_{what}");
        scrape.value(&family, &[("id", "web"), ("op", "read")])
    };
    let scrape = wait_for("the next round", || {
        let scrape = exporter.scrape();
        (latency(&scrape, "count") == Some(50.0)).then_some(scrape)
    });
    assert!((latency(&scrape, "sum").unwrap() - 0.5).abs() < 1e-9, "50 reads in half a second");
    assert_eq!(stand_in.calls("begin exec-bare"), 1);
}

#[test]
fn disk_usage_is_asked_only_where_it_is_switched_on() {
    let stand_in = StandIn::version("1.2.2");
    stand_in.set("df", std::fs::read(fixture("apple/1.2.2/system-df.json")).unwrap());
    let exporter = stand_in.exporter();
    measured(&exporter);
    assert_eq!(stand_in.calls("begin df"), 0);
    drop(exporter);
    let exporter = stand_in.exporter_with(&["--runtime.apple.disk-interval=10m"]);
    let bytes = |family: &str, kind: &str| {
        let labels = [("runtime", "apple"), ("kind", kind)];
        wait_for(family, || exporter.scrape().value(family, &labels))
    };
    assert_eq!(bytes("kina_runtime_disk_bytes", "images"), 3_906_629_632.0);
    assert_eq!(bytes("kina_runtime_disk_reclaimable_bytes", "containers"), 41_943_040.0);
    assert_eq!(stand_in.calls("begin df"), 1);
    let refused = std::process::Command::new(env!("CARGO_BIN_EXE_kina-exporter"))
        .args(["serve", "--runtime.apple.disk-interval=9m"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("at least 10m"), "{said}");
}
