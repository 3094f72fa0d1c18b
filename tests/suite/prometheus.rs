//! A real Prometheus scrapes the real exporter, in each format that it offers.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::common::{not_packaged, skip};
use crate::live::{Docker, Exporter, http, on_a_free_port, ready, wait_for, which};

pub struct Prometheus {
    child: Child,
    pub address: SocketAddr,
    dir: tempfile::TempDir,
}

/// The Prometheus that is installed; None (and a word why) where there is none.
pub fn installed() -> Option<PathBuf> {
    let found = which("prometheus");
    if found.is_none() {
        skip("prometheus is not installed");
    }
    found
}

/// One of version 3, which Debian has not: `KINA_PROMETHEUS_3` names it, with promtool beside it.
pub fn version_3() -> Option<PathBuf> {
    let named = std::env::var_os("KINA_PROMETHEUS_3").map(PathBuf::from);
    if named.is_none() {
        not_packaged("KINA_PROMETHEUS_3 names no Prometheus 3, and Debian has none");
    }
    named
}

impl Prometheus {
    /// Starts one that scrapes `target` as job `kina` every second. `global` and `more` are put into its configuration
    /// file: into its global section, and beside that.
    pub fn start(program: &Path, target: SocketAddr, flags: &[&str], global: &str, more: &str) -> Prometheus {
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s{global}}}\n{more}\nscrape_configs:\n\
             - job_name: kina\n  static_configs: [{{targets: ['{target}']}}]\n"
        );
        Self::run(program, flags, &config)
    }

    /// Starts this one with this configuration.
    pub fn run(program: &Path, flags: &[&str], config: &str) -> Prometheus {
        on_a_free_port(|address| Self::try_run(program, flags, config, address))
    }

    /// None when it ended because another program has the port.
    fn try_run(program: &Path, flags: &[&str], config: &str, address: SocketAddr) -> Option<Prometheus> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
        let child = Command::new(program)
            .current_dir(dir.path())
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
            .arg(format!("--web.listen-address={address}"))
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut prometheus = Prometheus { child, address, dir };
        let log = prometheus.dir.path().join("log");
        ready("Prometheus", &mut prometheus.child, address, &log).then_some(prometheus)
    }

    /// The result of an instant query.
    pub fn query(&self, expression: &str) -> Vec<serde_json::Value> {
        let path = format!("/api/v1/query?query={}", encode(expression));
        let answer = http(self.address, "GET", &path, &[], &[]).expect("an answer");
        let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(json["status"], "success", "{expression}: {json}");
        json["data"]["result"].as_array().cloned().unwrap_or_default()
    }

    /// The value of the first sample; None when there is none.
    pub fn value(&self, expression: &str) -> Option<f64> {
        self.query(expression).first()?["value"][1].as_str()?.parse().ok()
    }

    /// What the server says of the scrape target.
    pub fn target(&self) -> serde_json::Value {
        let answer = http(self.address, "GET", "/api/v1/targets", &[], &[]).expect("an answer");
        let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        json["data"]["activeTargets"][0].clone()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn encode(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

fn scraped_with(program: &Path, flags: &[&str], global: &str, native: bool) {
    let Some(docker) = Docker::get() else { return };
    let server = docker.run(&[], &["sh", "-c", "tail -f /dev/null | nc -l -p 7000 > /dev/null"]);
    let address = wait_for("an address", || Some(server.address()).filter(|a| !a.is_empty()));
    let script = format!("(echo hello; sleep 3600) | nc {address} 7000");
    let client = docker.run(&["--cpus=0.5", "-m", "64m"], &["sh", "-c", &script]);
    let exporter = Exporter::with_docker(docker, &[]);
    let prometheus = Prometheus::start(program, exporter.address, flags, global, "");
    let selector = format!("{{name=\"{}\"}}", client.name);
    wait_for("two scrapes", || {
        prometheus.value(&format!("count_over_time(container_last_seen{selector}[1m])")).filter(|n| *n >= 2.0)
    });
    let target = prometheus.target();
    assert_eq!(target["health"], "up", "{target}");
    assert_eq!(target["lastError"], "", "{target}");
    assert_eq!(prometheus.value(&format!("kina_container_cpu_allocated_cores{selector}")), Some(0.5));
    assert!(prometheus.value(&format!("container_memory_usage_bytes{selector}")).is_some_and(|v| v > 0.0));
    // No timestamps: the sample's time is the scrape's, and staleness works.
    let rtt = format!("kina_container_network_rtt_seconds{selector}");
    if native {
        let count = wait_for("a native histogram", || {
            prometheus.value(&format!("histogram_count({rtt})")).filter(|n| *n >= 1.0)
        });
        assert!(count >= 1.0);
        let quantile = prometheus.value(&format!("histogram_quantile(0.5, {rtt})")).unwrap();
        assert!(quantile > 0.0 && quantile < 0.5, "{quantile}");
    } else {
        let bucket = format!("histogram_quantile(0.5, kina_container_network_rtt_seconds_bucket{selector})");
        let quantile = wait_for("a classic histogram", || prometheus.value(&bucket));
        assert!(quantile > 0.0 && quantile < 0.5, "{quantile}");
    }
    drop(client);
    wait_for("the series to end with the container", || {
        prometheus.query(&format!("container_last_seen{selector}")).is_empty().then_some(())
    });
}

#[test]
fn prometheus_scrapes_openmetrics() {
    let Some(program) = installed() else { return };
    scraped_with(&program, &[], "", false);
}

#[test]
fn prometheus_scrapes_protobuf_with_native_histograms() {
    let Some(program) = installed() else { return };
    scraped_with(&program, &["--enable-feature=native-histograms"], "", true);
}

#[test]
fn prometheus_3_scrapes_openmetrics() {
    let Some(program) = version_3() else { return };
    scraped_with(&program, &[], "", false);
}

#[test]
fn prometheus_3_scrapes_protobuf_with_native_histograms() {
    let Some(program) = version_3() else { return };
    scraped_with(&program, &[], ", scrape_native_histograms: true", true);
}
