//! The whole way of an alert: real containers → exporter → Prometheus with our rules → Alertmanager → a receiver. And
//! every query of every dashboard and runbook against the same Prometheus.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use kina_exporter::generate::{self, Kind, Settings};
use serde_json::{Value, json};

use crate::common::skip;
use crate::e2e::disk_of;
use crate::live::{Docker, DockerContainer, Exporter, IMAGE, http, on_a_free_port, ready, wait_for, which};
use crate::prometheus::{self, Prometheus};

/// A minute becomes a second.
const SCALE: f64 = 1.0 / 60.0;

struct Alertmanager {
    child: Child,
    address: SocketAddr,
    dir: tempfile::TempDir,
}

impl Alertmanager {
    /// None (and a word why) where it is not installed.
    fn program() -> Option<PathBuf> {
        let found = which("prometheus-alertmanager").or_else(|| which("alertmanager"));
        if found.is_none() {
            skip("alertmanager is not installed");
        }
        found
    }

    /// Starts one with our configuration, in a hurry, whose messages go to `receiver`.
    fn start(program: &Path, receiver: Option<SocketAddr>) -> Self {
        on_a_free_port(|address| Self::try_start(program, receiver, address))
    }

    /// None when it ended because another program has the port.
    fn try_start(program: &Path, receiver: Option<SocketAddr>, address: SocketAddr) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let ours = generate::artifacts(Kind::Alertmanager, &Settings::default());
        let mut config = ours[0].content.clone();
        if let Some(receiver) = receiver {
            for (slow, fast) in [("group_wait: 30s", "group_wait: 1s"), ("group_interval: 5m", "group_interval: 1s")] {
                assert!(config.contains(slow));
                config = config.replace(slow, fast);
            }
            config = config.replace("127.0.0.1:9099", &receiver.to_string());
        }
        std::fs::write(dir.path().join("alertmanager.yml"), config).unwrap();
        let child = Command::new(program)
            .current_dir(dir.path())
            .args(["--config.file=alertmanager.yml", "--storage.path=data", "--cluster.listen-address="])
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut manager = Self { child, address, dir };
        let log = manager.dir.path().join("log");
        ready("Alertmanager", &mut manager.child, address, &log).then_some(manager)
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Takes Alertmanager's messages.
fn receiver() -> (SocketAddr, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, messages) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
            let mut bytes = Vec::new();
            let mut chunk = [0; 16 << 10];
            let body = loop {
                match stream.read(&mut chunk) {
                    Ok(n) if n > 0 => bytes.extend_from_slice(&chunk[..n]),
                    _ => break None,
                }
                let text = String::from_utf8_lossy(&bytes).into_owned();
                if let Some((_, body)) = text.split_once("\r\n\r\n")
                    && let Ok(message) = serde_json::from_str::<Value>(body)
                {
                    break Some(message);
                }
            };
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            if body.is_some_and(|message| sender.send(message).is_err()) {
                return;
            }
        }
    });
    (address, messages)
}

/// Waits for a message about the alert with this status that names the container.
fn message(messages: &Receiver<Value>, status: &str, alert: &str, container: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(180);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let group = messages.recv_timeout(left).unwrap_or_else(|_| panic!("no {status} {alert} for {container}"));
        let found =
            group["alerts"].as_array().into_iter().flatten().find(|a| {
                a["status"] == status && a["labels"]["alertname"] == alert && a["labels"]["name"] == container
            });
        if let Some(alert) = found {
            return alert.clone();
        }
    }
}

/// Containers that between them do all that a dashboard can show; they end with this.
struct Busy {
    _containers: Vec<DockerContainer>,
}

impl Busy {
    fn start(docker: &'static Docker, exporter: &Exporter) -> Self {
        let sh = |script: &str| ["sh".to_owned(), "-c".to_owned(), script.to_owned()];
        let run = |options: &[&str], script: &str| {
            let command = sh(script);
            docker.run(options, &command.each_ref().map(String::as_str))
        };
        let server = run(&[], "sleep 3600 | nc -l -p 7000 > /dev/null");
        let address = wait_for("an address", || Some(server.address()).filter(|a| !a.is_empty()));
        // Again until the server listens.
        let talk = "(while echo hello; do sleep 0.2; done)";
        let client = run(&[], &format!("while :; do {talk} | nc {address} 7000; sleep 0.2; done"));
        let throttled = run(&["--cpus=0.05"], "while :; do :; done");
        // cgroup v1 counts block I/O only of devices that a rule names: one that never bites.
        let rule = format!("{}:100gb", disk_of(Path::new("/")));
        let blocks = run(
            &["--device-write-bps", &rule, "--device-read-bps", &rule],
            "while :; do dd if=/dev/zero of=/f bs=64k count=16 oflag=direct; dd if=/f of=/dev/null bs=64k iflag=direct; \
             cat /f > /dev/null; sleep 0.2; done",
        );
        let healthy = run(&["--health-cmd", "true", "--health-interval", "1s"], "exec sleep 3600");
        // One that does not end well, and one that can't start.
        for command in [&["sh", "-c", "exit 3"][..], &["/nothing-here"]] {
            let args = [&["run", "--rm", IMAGE], command].concat();
            let _ = Command::new("docker")
                .env("DOCKER_HOST", format!("unix://{}", docker.socket.display()))
                .args(args)
                .stderr(Stdio::null())
                .status();
        }
        let to = format!("http://{}", exporter.address);
        let told = Command::new(env!("CARGO_BIN_EXE_kina-exporter"))
            .args(["record-start", "--to", &to, "--id", "vm", "--image", "vm", "--total", "0.2", "--vm-pool", "hit"])
            .status();
        assert!(told.is_ok_and(|s| s.success()), "a start report");
        Self { _containers: vec![server, client, throttled, blocks, healthy] }
    }
}

/// Queries that have no result, although no machine says that it lacks what they need.
fn unexplained(prometheus: &Prometheus, settings: &Settings) -> Vec<String> {
    let found = |query: &str| !prometheus.query(query).is_empty();
    generate::dashboards::queries(settings, "10s")
        .into_iter()
        // What lists what is lacking is empty where nothing is.
        .filter(|q| q.panel != "What is not offered here")
        .filter(|q| !found(&q.expr) && !q.lacks.as_deref().is_some_and(found))
        .map(|q| format!("{} / {}: {}", q.dashboard, q.panel, q.expr))
        .collect()
}

/// The whole way of an alert, and what dashboards and runbooks ask, with one version of Prometheus.
fn end_to_end(program: &Path) {
    let Some(docker) = Docker::get() else { return };
    let Some(alertmanager) = Alertmanager::program() else { return };
    // Every start is a slow one: a panel tells why they are slow. Containers of other engines on this machine may have the
    // same addresses, which then tell no peer.
    let flags = ["--targets.slow_start=0.001", "--no-runtime.cgroup"];
    let exporter = Exporter::with_docker(docker, &flags);
    let hold = "dd if=/dev/zero of=/dev/shm/held bs=1M count=24 2>/dev/null; exec sleep 3600";
    let wasteful =
        docker.run(&["--network=none", "--memory=64m", "--memory-swap=64m", "--shm-size=32m"], &["sh", "-c", hold]);
    let (address, messages) = receiver();
    let manager = Alertmanager::start(&alertmanager, Some(address));

    let settings = Settings { time_scale: SCALE, ..Settings::default() };
    let dir = tempfile::tempdir().unwrap();
    for artifact in [Kind::Rules, Kind::Alerts].into_iter().flat_map(|k| generate::artifacts(k, &settings)) {
        if artifact.path.starts_with("alerts") {
            std::fs::write(dir.path().join(artifact.path.file_name().unwrap()), artifact.content).unwrap();
        }
    }
    let more = format!(
        "rule_files: ['{}/*.rules.yml']\nalerting: {{alertmanagers: [{{static_configs: [{{targets: ['{}']}}]}}]}}",
        dir.path().display(),
        manager.address
    );
    let prometheus = Prometheus::start(program, exporter.address, &[], "", &more);
    let busy = Busy::start(docker, &exporter);

    let fired = message(&messages, "firing", "KinaMemoryEfficiencyLow", &wasteful.name);
    let annotation = |name: &str| fired["annotations"][name].as_str().unwrap_or("").to_owned();
    assert!(annotation("summary").contains(&wasteful.name), "{fired}");
    assert!(annotation("description").contains("64MiB"), "{fired}");
    assert!(annotation("advice").contains("reduce_allocation"), "{fired}");
    assert!(annotation("runbook_url").ends_with("KinaMemoryEfficiencyLow.md"), "{fired}");
    assert!(annotation("dashboard_url").contains(&format!("&var-container={}&", wasteful.name)), "{fired}");

    let mut empty = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(120);
    while Instant::now() < deadline {
        empty = unexplained(&prometheus, &settings);
        if empty.is_empty() {
            break;
        }
        // Starts and exits that Prometheus sees happen: what was counted before its first scrape is no growth.
        docker.docker(&["run", "--rm", IMAGE, "true"]);
    }
    assert!(empty.is_empty(), "panels without data that no capability explains:\n{}", empty.join("\n"));
    for need in generate::dashboards::needs(&settings) {
        let asked = prometheus.query(&format!("kina_capability{{capability=\"{need}\"}}"));
        assert!(!asked.is_empty(), "a panel needs {need}, of which no machine says anything");
    }
    // What a runbook tells to ask is answered, empty or not.
    for alert in generate::alerts::alerts(&settings) {
        alert.runbook.diagnosis.iter().for_each(|(_, query)| drop(prometheus.query(query)));
    }

    docker.docker(&["update", "--memory=34m", "--memory-swap=34m", &wasteful.id]);
    message(&messages, "resolved", "KinaMemoryEfficiencyLow", &wasteful.name);
    drop(busy);
}

#[test]
fn an_alert_fires_names_the_container_carries_the_advice_and_resolves_and_dashboards_have_data() {
    if let Some(program) = prometheus::installed() {
        end_to_end(&program);
    }
}

#[test]
fn all_of_it_with_prometheus_3() {
    if let Some(program) = prometheus::version_3() {
        end_to_end(&program);
    }
}

#[test]
fn alerts_that_another_explains_are_silent() {
    let Some(program) = Alertmanager::program() else { return };
    let manager = Alertmanager::start(&program, None);
    let alert = |name: &str, severity: &str, instance: &str, id: &str| json!({"labels": {"alertname": name, "severity": severity, "job": "kina", "instance": instance, "id": id}});
    let post = |alerts: &[Value]| {
        let body = serde_json::to_vec(alerts).unwrap();
        let headers = [("Content-Type", "application/json")];
        let answer = http(manager.address, "POST", "/api/v2/alerts", &headers, &body).expect("an answer");
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    };
    // (alert, instance, id) of those that nobody is told of.
    let silent = || {
        let answer = http(manager.address, "GET", "/api/v2/alerts", &[], &[]).expect("an answer");
        let all: Vec<Value> = serde_json::from_slice(&answer.body).unwrap();
        let mut silent: Vec<String> = all
            .iter()
            .filter(|a| a["status"]["state"] == "suppressed")
            .map(|a| {
                let label = |name: &str| a["labels"][name].as_str().unwrap_or("").to_owned();
                format!("{} {} {}", label("alertname"), label("instance"), label("id")).trim().to_owned()
            })
            .collect();
        silent.sort();
        silent
    };
    post(&[
        alert("KinaMemoryEfficiencyLow", "warning", "a", "/c/web"),
        alert("KinaMemoryEfficiencyLow", "warning", "b", "/c/web"),
        alert("KinaStartupTimeBudgetBurn", "warning", "b", ""),
        alert("KinaCpuUtilizationHigh", "warning", "b", "/c/web"),
        alert("NodeDown", "critical", "a", ""),
    ]);
    assert_eq!(silent(), [""; 0]);
    // A dead exporter silences what was said of its machine, and of that alone.
    post(&[alert("KinaExporterDown", "critical", "a", "")]);
    assert_eq!(silent(), ["KinaMemoryEfficiencyLow a /c/web"]);
    // The worse of two alerts about the same thing is told.
    post(&[alert("KinaStartupTimeBudgetBurn", "critical", "b", "")]);
    assert_eq!(silent(), ["KinaMemoryEfficiencyLow a /c/web", "KinaStartupTimeBudgetBurn b"]);
    post(&[alert("KinaThermalPressure", "critical", "b", "")]);
    assert!(silent().contains(&"KinaCpuUtilizationHigh b /c/web".to_owned()));
    post(&[alert("KinaExporterAbsent", "critical", "", "")]);
    assert!(silent().contains(&"KinaMemoryEfficiencyLow b /c/web".to_owned()));
    assert!(!silent().iter().any(|a| a.starts_with("NodeDown") || a.starts_with("KinaExporterAbsent")));
}
