//! The whole way of an alert: real containers → exporter → Prometheus with our rules → Alertmanager → a receiver. And
//! every query of every dashboard against the same Prometheus.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use kina_exporter::generate::{self, Kind, Settings};
use serde_json::Value;

use crate::common::skip;
use crate::live::{Docker, Exporter, http, wait_for, which};
use crate::prometheus::Prometheus;

/// A minute becomes a second.
const SCALE: f64 = 1.0 / 60.0;

struct Alertmanager {
    child: Child,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Alertmanager {
    fn start(program: &std::path::Path, receiver: SocketAddr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = format!(
            "route: {{receiver: test, group_by: [alertname, name], group_wait: 1s, group_interval: 1s, repeat_interval: 1h}}\n\
             receivers: [{{name: test, webhook_configs: [{{url: 'http://{receiver}/'}}]}}]\n"
        );
        std::fs::write(dir.path().join("alertmanager.yml"), config).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).unwrap().port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let child = Command::new(program)
            .current_dir(dir.path())
            .args(["--config.file=alertmanager.yml", "--storage.path=data", "--cluster.listen-address="])
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let manager = Self { child, address, _dir: dir };
        wait_for("Alertmanager to be ready", Duration::from_secs(30), || {
            http(address, "GET", "/-/ready", &[], &[]).filter(|r| r.status == 200)
        });
        manager
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
    let deadline = Instant::now() + Duration::from_secs(90);
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

#[test]
fn an_alert_fires_names_the_container_carries_the_advice_and_resolves_and_dashboards_have_data() {
    let Some(docker) = Docker::get() else { return };
    let Some(program) = which("prometheus-alertmanager").or_else(|| which("alertmanager")) else {
        skip("alertmanager is not installed");
        return;
    };
    let exporter =
        Exporter::start(&["--log.level=warn", &format!("--runtime.docker.socket={}", docker.socket.display())]);
    let hold = "dd if=/dev/zero of=/dev/shm/held bs=1M count=24 2>/dev/null; exec sleep 3600";
    let wasteful =
        docker.run(&["--network=none", "--memory=64m", "--memory-swap=64m", "--shm-size=32m"], &["sh", "-c", hold]);
    let (address, messages) = receiver();
    let manager = Alertmanager::start(&program, address);

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
    let Some(prometheus) = Prometheus::start(exporter.address, &[], &more) else { return };

    let fired = message(&messages, "firing", "KinaMemoryEfficiencyLow", &wasteful.name);
    let annotation = |name: &str| fired["annotations"][name].as_str().unwrap_or("").to_owned();
    assert!(annotation("summary").contains(&wasteful.name), "{fired}");
    assert!(annotation("description").contains("64MiB"), "{fired}");
    assert!(annotation("advice").contains("reduce_allocation"), "{fired}");
    assert!(annotation("runbook_url").ends_with("KinaMemoryEfficiencyLow.md"), "{fired}");

    docker.docker(&["update", "--memory=34m", "--memory-swap=34m", &wasteful.id]);
    message(&messages, "resolved", "KinaMemoryEfficiencyLow", &wasteful.name);

    let (mut full, mut empty) = (0, Vec::new());
    for query in generate::dashboards::queries(&settings, "10s") {
        let found = prometheus.query(&query.expr);
        match (found.is_empty(), query.absent) {
            (false, _) => full += 1,
            (true, None) => empty.push(format!("{} / {}: {}", query.dashboard, query.panel, query.expr)),
            (true, Some(why)) => eprintln!("{} / {}: {why}", query.dashboard, query.panel),
        }
    }
    assert!(full > 60, "only {full} queries have data");
    assert!(empty.is_empty(), "panels without data that say nothing about it:\n{}", empty.join("\n"));
}
