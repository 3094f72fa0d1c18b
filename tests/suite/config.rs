//! Sources of settings, their precedence, and what is said of bad ones.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use kina_exporter::catalog::Collector;
use kina_exporter::config::{Config, Given, check_text, load, reference, settings};
use kina_exporter::root::Root;
use kina_exporter::targets;

fn given(flags: &[(&str, &[&str])], env: &[(&str, &str)]) -> Given {
    Given {
        flags: flags.iter().map(|(k, v)| ((*k).into(), v.iter().map(|v| (*v).into()).collect())).collect(),
        env: env.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
    }
}

fn from_text(text: &str) -> Result<Config, String> {
    check_text(&Given::default(), &Root::default(), Path::new("kina.yml"), text).map_err(|e| e.to_string())
}

fn error(text: &str) -> String {
    from_text(text).expect_err("a bad file")
}

/// Two texts that each setting takes, told apart when shown.
fn two_values(key: &str) -> [&'static str; 2] {
    match key {
        "web.listen-address" => [":1", ":2"],
        "web.telemetry-path" => ["/a", "/b"],
        "log.level" => ["debug", "error"],
        "log.format" => ["json", "logfmt"],
        "profile" => ["cadvisor", "standard"],
        "network.link-speed" => ["1000", "2000"],
        "path.procfs" | "path.sysfs" | "path.cgroup" | "path.rootfs" => ["/usr", "/tmp"],
        "containers.label-include" | "containers.label-exclude" => ["a=x", "b=y"],
        "startup.max-images" | "web.max-requests" => ["5", "6"],
        "otlp.protocol" => ["grpc", "http/json"],
        "otlp.compression" => ["gzip", "none"],
        "otlp.temporality" => ["delta", "cumulative"],
        "otlp.histograms" => ["explicit_bucket_histogram", "base2_exponential_bucket_histogram"],
        "otlp.identity" => ["resource", "attributes"],
        "otlp.headers" => ["a=x", "b=y"],
        "runtime.apple.guest-interval" => ["20s", "30s"],
        "runtime.apple.agent-port" => ["10217", "1"],
        "runtime.apple.disk-interval" => ["10m", "1h"],
        "otlp.timeout" | "otlp.interval" => ["2s", "3s"],
        "otlp.max-request-bytes" | "otlp.queue-bytes" => ["5000", "6000"],
        _ if key.starts_with("targets.") => ["0.25", "0.375"],
        _ if [".timeout", "-interval", "-poll"].iter().any(|end| key.ends_with(end)) => ["2s", "3s"],
        _ if key.ends_with(".socket") => ["/run/a.sock", "/run/b.sock"],
        _ => ["one", "two"],
    }
}

#[test]
fn each_source_goes_before_the_next() {
    let dir = super::common::tree(&[("kina.yml", "")]);
    let file = dir.path().join("kina.yml");
    for setting in settings().iter().filter(|s| s.in_file) {
        let default = setting.get(&Config::default());
        let [a, b] = match default.first().map(String::as_str) {
            Some("true") => ["false", "true"],
            Some("false") => ["true", "false"],
            _ => two_values(&setting.key),
        };
        let yaml = match a.split_once('=') {
            Some((k, v)) => format!("{}: {{{k}: \"{v}\"}}\n", setting.key),
            None => format!("{}: \"{a}\"\n", setting.key),
        };
        std::fs::write(&file, yaml).unwrap();
        let get = |given: &Given| {
            setting.get(&load(given, &Root::default()).unwrap_or_else(|e| panic!("{}: {e}", setting.key)))
        };
        let path = file.to_str().unwrap();
        let mut sources = given(&[("config.file", &[path])], &[]);
        assert_eq!(get(&Given::default()), default, "{}: default", setting.key);
        assert_eq!(get(&sources), [a], "{}: file before default", setting.key);
        sources.env.insert(setting.env(), b.into());
        assert_eq!(get(&sources), [b], "{}: environment before file", setting.key);
        sources.flags.insert(setting.flag.clone(), vec![a.into()]);
        assert_eq!(get(&sources), [a], "{}: flag before environment", setting.key);
    }
}

#[test]
fn names_in_the_environment() {
    let names: BTreeMap<&str, String> = settings().iter().map(|s| (s.flag.as_str(), s.env())).collect();
    assert_eq!(names["web.listen-address"], "KINA_WEB_LISTEN_ADDRESS");
    assert_eq!(names["collector.cpu"], "KINA_COLLECTOR_CPU");
    assert_eq!(names["runtime.docker"], "KINA_RUNTIME_DOCKER");
    assert_eq!(names["runtime.docker.socket"], "KINA_RUNTIME_DOCKER_SOCKET");
    let config = load(
        &given(
            &[],
            &[
                ("KINA_WEB_LISTEN_ADDRESS", ":1, [::1]:2"),
                ("KINA_CONTAINERS_LABEL_INCLUDE", "a=x{1,2}\nb=y"),
                ("KINA_LOG_LEVEL", ""),
                ("KINA_EXPORTER_PORT", "tcp://10.0.0.1:10217"),
            ],
        ),
        &Root::default(),
    )
    .unwrap();
    assert_eq!(config.web.listen, [":1", "[::1]:2"]);
    assert_eq!(config.containers.label_include.len(), 2);
    assert!(config.containers.label_include["a"].matches("xx"));
}

#[test]
fn a_whole_file() {
    let config = from_text(
        "# comment\n\
         web:\n  listen-address: [\":9090\", \"127.0.0.1:80\"]\n  max-requests: 7\n\
         collector: {energy: false, cpu: true}\n\
         runtime:\n  docker: {socket: /run/d.sock, timeout: 1500ms}\n  podman: {enabled: false}\n\
         containers:\n  name-include: 1.0|web-.*\n  label-exclude: {com.example.team: 'shop|\"x\"'}\n\
         labels: {allow: [a.b, c]}\n\
         network: {link-speed: 1Gbit}\n\
         targets: {startup_time_p95: 0.5}\n",
    )
    .unwrap();
    assert_eq!(config.web.listen, [":9090", "127.0.0.1:80"]);
    assert_eq!(config.web.max_requests, 7);
    assert!(!config.collectors.contains(Collector::Energy) && config.collectors.contains(Collector::Cpu));
    assert_eq!(config.runtime.docker.socket.as_deref(), Some(Path::new("/run/d.sock")));
    assert_eq!(config.runtime.docker.timeout, Duration::from_millis(1500));
    assert!(!config.runtime.podman.enabled);
    assert!(config.containers.label_exclude["com.example.team"].matches("\"x\""));
    assert_eq!(config.label_allow, ["a.b", "c"]);
    assert_eq!(config.network.link_speed, Some(125_000_000));
    assert_eq!(config.targets.get(targets::STARTUP_TIME_P95), 0.5);
}

#[test]
fn plain_scalars_keep_their_text() {
    for text in ["1.0", "007", "1e3", "0x10", "true", "2026-01-01"] {
        let config = from_text(&format!("containers: {{image-include: {text}}}\n")).unwrap();
        assert_eq!(config.containers.image_include.unwrap().as_str(), text);
    }
}

#[test]
fn empty_files_and_keys_leave_the_defaults() {
    for text in ["", "# nothing\n", "---\n", "web:\n", "web:\n  max-requests:\n"] {
        assert_eq!(from_text(text).unwrap_or_else(|e| panic!("{text:?}: {e}")).web.max_requests, 40, "{text:?}");
    }
}

#[test]
fn unknown_keys_are_named_with_line_and_remedy() {
    assert_eq!(
        error("web:\n  max-requests: 1\n  max-request: 2\n"),
        "kina.yml:3: web.max-request: unknown key; did you mean web.max-requests?"
    );
    assert_eq!(error("webb:\n  max-requests: 1\n"), "kina.yml:1: webb: unknown key; did you mean web?");
    assert_eq!(
        error("log:\n  destination: syslog\n"),
        "kina.yml:2: log.destination: unknown key; allowed here: level, format"
    );
    // The file cannot name itself.
    assert!(error("config:\n  file: x\n").starts_with("kina.yml:1: config: unknown key"));
}

#[test]
fn bad_values_are_named_with_line_and_what_is_allowed() {
    for (text, expected) in [
        (
            "web: {max-requests: many}",
            "kina.yml:1: web.max-requests: \"many\": not a whole number; allowed: a whole number",
        ),
        (
            "web: {max-requests: -1}",
            "kina.yml:1: web.max-requests: \"-1\": not a whole number; allowed: a whole number",
        ),
        (
            "\nweb:\n  listen-address: [\":1\", localhost]",
            "kina.yml:3: web.listen-address: \"localhost\": not allowed; allowed: :PORT, HOST:PORT, [IPV6]:PORT or unix:/PATH",
        ),
        (
            "web: {telemetry-path: metrics}",
            "kina.yml:1: web.telemetry-path: \"metrics\": not allowed; allowed: a path that starts with / and is not taken \
             by a page of the exporter",
        ),
        (
            "web: {systemd-socket: maybe}",
            "kina.yml:1: web.systemd-socket: \"maybe\": not a switch; allowed: true or false",
        ),
        (
            "log: {level: loud}",
            "kina.yml:1: log.level: \"loud\": not allowed; allowed: error, warn, info, debug, trace",
        ),
        ("log: {format: xml}", "kina.yml:1: log.format: \"xml\": not allowed; allowed: logfmt, json"),
        ("profile: all", "kina.yml:1: profile: \"all\": not allowed; allowed: standard, cadvisor"),
        (
            "runtime: {podman: {timeout: 10}}",
            "kina.yml:1: runtime.podman.timeout: \"10\": not a duration; allowed: a duration such as 1500ms, 10s, 1m30s or 2h",
        ),
        (
            "network: {link-speed: fast}",
            "kina.yml:1: network.link-speed: \"fast\": not a speed; allowed: a speed such as 1Gbit, 100Mbit or 125MB, or a \
             number of bytes a second",
        ),
        (
            "containers:\n  name-include: \"(\"",
            "kina.yml:2: containers.name-include: \"(\": not a regular expression: unclosed group; allowed: a regular \
             expression over the whole text",
        ),
        (
            "containers: {label-include: {team: '['}}",
            "kina.yml:1: containers.label-include: \"team\": \"[\": not a regular expression: unclosed character class; \
             allowed: label names, each with a regular expression over its whole value",
        ),
        (
            "runtime: {docker: {socket: docker.sock}}",
            "kina.yml:1: runtime.docker.socket: \"docker.sock\": not allowed; allowed: an absolute path",
        ),
        (
            "path: {procfs: /does/not/exist}",
            "kina.yml:1: path.procfs: \"/does/not/exist\": not a folder; allowed: a folder that exists",
        ),
        ("labels: {allow: ['']}", "kina.yml:1: labels.allow: \"\": not allowed; allowed: names of labels"),
        (
            "targets: {memory_efficiency: 75}",
            "kina.yml:1: targets.memory_efficiency: 75: not allowed; allowed: a ratio between 0 and 1",
        ),
        (
            "targets: {startup_time_p95: 800ms}",
            "kina.yml:1: targets.startup_time_p95: \"800ms\": not a number; allowed: a number above 0",
        ),
        ("web: 5", "kina.yml:1: web: a mapping of settings is expected"),
        ("- web", "kina.yml:1: a mapping of settings is expected"),
        ("log: {level: [a]}", "kina.yml:1: log.level: one value is expected; allowed: error, warn, info, debug, trace"),
        ("labels: {allow: {a: b}}", "kina.yml:1: labels.allow: a list is expected; allowed: names of labels"),
        (
            "web: {listen-address: []}",
            "kina.yml:1: web.listen-address: no address to listen on; name one, set web.systemd-socket, or push alone with otlp.endpoint",
        ),
    ] {
        assert_eq!(error(text), expected, "{text}");
    }
}

#[test]
fn bad_form_is_named_with_its_line() {
    let text = error("web:\n  max-requests: 1\n  max-requests: 2\n");
    assert!(text.starts_with("kina.yml:3: ") && text.contains("duplicate"), "{text}");
    let text = error("web:\n  a: [1\nlog: 2\n");
    assert!(text.starts_with("kina.yml:"), "{text}");
}

#[test]
fn everything_wrong_is_told_at_once() {
    let sources = given(&[("log.level", &["loud"])], &[("KINA_WEB_MAX_REQUESTS", "x")]);
    let errors = check_text(&sources, &Root::default(), Path::new("kina.yml"), "nothing: 1\nprofile: 1\n").unwrap_err();
    let origins: Vec<&str> = errors.0.iter().map(|e| e.origin.as_str()).collect();
    assert_eq!(origins, ["kina.yml:1", "kina.yml:2", "KINA_WEB_MAX_REQUESTS", "--log.level"]);
    assert!(
        errors.to_string().contains("\nKINA_WEB_MAX_REQUESTS: \"x\": not a whole number; allowed: a whole number\n")
    );
}

#[test]
fn a_missing_file_is_an_error() {
    let text =
        load(&given(&[("config.file", &["/does/not/exist.yml"])], &[]), &Root::default()).unwrap_err().to_string();
    assert_eq!(text, "/does/not/exist.yml: the configuration file cannot be read: absent");
}

/// `KINA_GENERATE=write` brings it up to date.
#[test]
fn the_reference_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let text = reference();
    if std::env::var("KINA_GENERATE").is_ok_and(|v| v == "write") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == text,
        "docs/configuration.md is stale: run KINA_GENERATE=write cargo test --test suite config"
    );
}
