//! The binary as a person runs it: commands, exit status, reload and signals.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::common;
use super::live::{LIMIT, listening_at};

/// The binary with nothing of this machine in its sight.
fn binary(args: &[&str]) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_kina-exporter"));
    for (name, _) in std::env::vars_os().filter(|(k, _)| k.to_string_lossy().starts_with("KINA_")) {
        c.env_remove(name);
    }
    c.args(args).stdin(Stdio::null());
    c
}

fn run(args: &[&str]) -> Output {
    binary(args).output().unwrap()
}

const QUIET: [&str; 5] = [
    "--no-runtime.docker",
    "--no-runtime.podman",
    "--no-runtime.containerd",
    "--no-runtime.cgroup",
    "--no-runtime.apple",
];

#[test]
fn completions_and_man_page_know_the_flags() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let out = run(&["completions", shell]);
        assert!(out.status.success(), "{shell}");
        assert!(String::from_utf8_lossy(&out.stdout).contains("web.listen-address"), "{shell}");
    }
    let out = run(&["man"]);
    assert!(out.status.success());
    let page = String::from_utf8_lossy(&out.stdout);
    assert!(page.starts_with(".ie") || page.contains(".TH"), "roff");
    assert!(page.contains("web.listen\\-address") && page.contains("snapshot"), "names and commands");
}

#[test]
fn wrong_flags_and_settings_end_with_status_2() {
    let out = run(&["--web.lisen-address=:1"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&out.stderr).contains("--web.listen-address"), "a remedy is named");

    let out = run(&["serve", "--log.level=loud", "--web.max-requests", "x"]);
    assert_eq!(out.status.code(), Some(2));
    assert_eq!(
        String::from_utf8_lossy(&out.stderr),
        "--web.max-requests: \"x\": not a whole number; allowed: a whole number\n\
         --log.level: \"loud\": not allowed; allowed: error, warn, info, debug, trace\n"
    );
    assert!(out.stdout.is_empty());

    let out = binary(&["snapshot"]).env("KINA_RUNTIME_DOCKER_TIMEOUT", "soon").output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&out.stderr).starts_with("KINA_RUNTIME_DOCKER_TIMEOUT: \"soon\": not a duration;"));
}

#[test]
fn flags_stand_before_or_after_the_command_and_the_last_wins() {
    for args in [
        vec!["--log.level=loud", "snapshot"],
        vec!["snapshot", "--log.level=loud"],
        vec!["snapshot", "--log.level=debug", "--log.level=loud"],
    ] {
        assert_eq!(run(&args).status.code(), Some(2), "{args:?}");
    }
    let series = |args: &[&str]| String::from_utf8(run(&[&QUIET, args].concat()).stdout).unwrap();
    let on = "collector=\"cpu\"";
    assert!(series(&["snapshot"]).contains(on));
    assert!(!series(&["snapshot", "--no-collector.cpu"]).contains(on));
    assert!(series(&["snapshot", "--no-collector.cpu", "--collector.cpu"]).contains(on));
}

#[test]
fn snapshot_prints_each_format() {
    let out = |format: &str| {
        let out = run(&[&QUIET[..], &["snapshot", "--format", format]].concat());
        assert!(out.status.success(), "{format}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    assert!(out("text").contains("# TYPE kina_scrape_collector_success gauge\n"));
    assert!(out("openmetrics").ends_with("# EOF\n"));
    let json: serde_json::Value = serde_json::from_str(&out("json")).unwrap();
    assert!(
        json.as_array().is_some_and(|families| families.iter().any(|f| f["name"] == "kina_scrape_collector_success"))
    );
}

#[test]
fn check_tells_what_is_wrong_and_what_is_there() {
    let dir = common::tree(&[("bad.yml", "web:\n  max-request: 1\n"), ("good.yml", "profile: cadvisor\n")]);
    let file = |name: &str| format!("--config.file={}", dir.path().join(name).display());
    let out = run(&["check", &file("bad.yml")]);
    assert_eq!(out.status.code(), Some(1));
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(text.contains("bad.yml:2: web.max-request: unknown key; did you mean web.max-requests?"), "{text}");
    assert!(text.contains("configuration: invalid"));

    let out = run(&["check", "--format=json", &file("bad.yml")]);
    assert_eq!(out.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(json["errors"].as_array().map(Vec::len), Some(1));

    let out = run(&[&QUIET[..], &["check", &file("good.yml")]].concat());
    assert!(out.status.success());
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(text.starts_with("configuration: valid\n"), "{text}");
    let docker = text.lines().find(|l| l.starts_with("docker ")).expect("a line for docker");
    assert!(docker.contains(" no ") && docker.contains("switched off"), "{docker}");
}

/// A serving binary whose log is read line by line.
struct Serving {
    child: Child,
    address: SocketAddr,
    log: std::sync::mpsc::Receiver<String>,
}

impl Serving {
    fn start(args: &[&str]) -> Self {
        let mut child = binary(&[&QUIET[..], args, &["--web.listen-address", "127.0.0.1:0"]].concat())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = std::io::BufReader::new(child.stderr.take().unwrap());
        let (tell, log) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            use std::io::BufRead;
            stderr.lines().map_while(Result::ok).for_each(|l| drop(tell.send(l)));
        });
        let mut serving = Self { child, address: ([127, 0, 0, 1], 0).into(), log };
        serving.address = listening_at(&serving.wait_for_line("listening")).expect("an address");
        serving
    }

    fn wait_for_line(&self, what: &str) -> String {
        let end = Instant::now() + LIMIT;
        let mut seen = Vec::new();
        while let Ok(line) = self.log.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if line.contains(what) {
                return line;
            }
            seen.push(line);
        }
        panic!("no line with {what:?} in:\n{}", seen.join("\n"));
    }

    fn request(&self, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_reload_puts_a_good_file_in_force_and_keeps_the_old_for_a_bad_one() {
    let dir = common::tree(&[("kina.yml", "collector: {cpu: true}\n")]);
    let file = dir.path().join("kina.yml");
    let s = Serving::start(&["--config.file", file.to_str().unwrap()]);
    let has_cpu = || s.request("GET", "/metrics").contains("kina_scrape_collector_success{collector=\"cpu\"}");
    let success = || s.request("GET", "/metrics").contains("kina_config_last_reload_successful 1\n");
    assert!(has_cpu() && success());

    std::fs::write(&file, "collector: {cpu: false}\n").unwrap();
    s.signal("-HUP");
    s.wait_for_line("configuration reloaded");
    assert!(!has_cpu() && success());

    std::fs::write(&file, "collector: {cpu: maybe}\n").unwrap();
    s.signal("-HUP");
    let line = s.wait_for_line("the old one stays");
    assert!(
        line.contains("level=error") && line.contains("kina.yml:1: collector.cpu: \\\"maybe\\\": not a switch"),
        "{line}"
    );
    assert!(!has_cpu() && !success());

    std::fs::write(&file, "log: {format: json}\n").unwrap();
    let answer = s.request("POST", "/-/reload");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let line = s.wait_for_line("takes effect at the next start");
    assert!(line.contains("level=warn") && line.contains("log.format"), "{line}");
    assert!(has_cpu() && success());
}

#[test]
fn log_lines_are_logfmt_or_json() {
    let s = Serving::start(&[]);
    s.signal("-TERM");
    let line = s.wait_for_line("SIGTERM");
    assert!(
        line.starts_with("time=20") && line.contains(" level=info msg=\"") && line.ends_with(" signal=SIGTERM"),
        "{line}"
    );

    let s = Serving::start(&["--log.format=json"]);
    s.signal("-INT");
    let json: serde_json::Value = serde_json::from_str(&s.wait_for_line("SIGINT")).unwrap();
    assert_eq!(json["signal"], "SIGINT");
    assert_eq!(json["level"], "INFO");
}

#[test]
fn a_signal_finishes_what_is_in_flight_and_ends_with_status_0() {
    for signal in ["-TERM", "-INT"] {
        let mut s = Serving::start(&[]);
        // A request whose head is still on its way when the signal comes.
        let mut stream = TcpStream::connect(s.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut first = [0; 1];
        stream.read_exact(&mut first).unwrap();
        s.signal(signal);
        s.wait_for_line("ending");
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        assert!(rest.starts_with("TTP/1.1 200") && rest.contains("kina_scrape_collector_success"), "{signal}: {rest}");
        let end = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = s.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "{signal}: still running");
            std::thread::sleep(Duration::from_millis(10));
        };
        assert_eq!(status.code(), Some(0), "{signal}");
    }
}
