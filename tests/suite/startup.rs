//! Starts: real containers against a stop-watch of our own, reports over HTTP, a real kernel's boot log.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kina_exporter::config::Config;
use kina_exporter::held::Held;
use kina_exporter::root::{Clock, FakeClock, SECOND};
use kina_exporter::runtime::{Event, EventKind, Key, RuntimeKind};
use kina_exporter::startup::boot_log::BootLog;
use kina_exporter::startup::ledger::{self, Ledger, Rules};
use kina_exporter::startup::model::Model;
use kina_exporter::startup::reconcile::Sample;
use kina_exporter::startup::{Phase, Phases};
use serde_json::{Value, json};

use crate::common;
use crate::live::{Docker, DockerContainer, Exporter, IMAGE, http, wait_for};
use crate::runtime::fake::{self, Fake};
use crate::runtime::podman::{LIMITS, Podman};
use crate::vm::{Console, Guest};

mod ctr;
mod hooks;
mod timed;
mod watch;
mod why;

use watch::Watched;

const STARTS: &str = "kina_container_starts_total";
const TOTALS: &str = "kina_container_startup_duration_seconds_count";
const FAILURES: &str = "kina_container_start_failures_total";
const EXITS: &str = "kina_container_exits_total";

/// One call of the engine's API: status, body, and when its first byte went out and the answer's first came in.
fn call(docker: &Docker, method: &str, path: &str, body: &Value) -> (u16, Value, Watched) {
    watch::call(&docker.socket, method, &format!("/v1.41{path}"), body)
}

/// Containers created by hand, removed with the guard.
struct Made<'d>(&'d Docker, String);

impl Drop for Made<'_> {
    fn drop(&mut self) {
        call(self.0, "DELETE", &format!("/containers/{}?force=1", self.1), &Value::Null);
    }
}

fn image(docker: &Docker, tag: &str) -> String {
    let name = format!("kina-test-start:{tag}");
    docker.docker(&["tag", IMAGE, &name]);
    name
}

/// `docker run`: created and started at once. The id, and our watch; None if it did not start.
fn run(docker: &Docker, image: &str, command: &[&str], host: Value, more: &Value) -> (String, Option<Watched>) {
    let mut body = json!({"Image": image, "Cmd": command, "HostConfig": host});
    if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
        body.extend(more.clone());
    }
    let (status, created, create) = call(docker, "POST", "/containers/create", &body);
    assert_eq!(status, 201, "{created}");
    let id = created["Id"].as_str().unwrap().to_owned();
    let (status, _, start) = call(docker, "POST", &format!("/containers/{id}/start"), &Value::Null);
    (id, (status == 204).then(|| create.until(start)))
}

fn startups(exporter: &Exporter) -> Vec<Value> {
    let answer: Value = serde_json::from_str(&exporter.get("/api/v1/startups")).unwrap();
    answer["startups"].as_array().unwrap().clone()
}

#[test]
fn a_storm_of_starts_loses_none() {
    const ALL: usize = 60;
    let Some(docker) = Docker::get() else { return };
    let image = image(docker, "storm");
    let exporter = Exporter::with_docker(docker, &["--containers.image-include=kina-test-start:storm"]);
    let body = json!({"Image": image, "Cmd": ["true"], "HostConfig": {"AutoRemove": true, "NetworkMode": "none"}});
    let guards: Vec<Made> = (0..ALL)
        .map(|_| {
            let (status, created, _) = call(docker, "POST", "/containers/create", &body);
            assert_eq!(status, 201, "{created}");
            Made(docker, created["Id"].as_str().unwrap().to_owned())
        })
        .collect();
    // Longer than a creation may lie before its start, so that all are the starts of what is there.
    std::thread::sleep(Duration::from_millis(1200));
    let paths: Vec<String> = guards.iter().map(|made| format!("/v1.41/containers/{}/start", made.1)).collect();
    let storm = watch::storm(&docker.socket, &paths, Duration::from_millis(25));
    assert!(storm.statuses.iter().all(|s| *s == 204), "{:?}", storm.statuses);
    let rate = |took: Duration| ALL as f64 / took.as_secs_f64();
    eprintln!("asked for {:.1} starts a second; the engine made {:.1}", rate(storm.asked), rate(storm.answered));
    assert!(rate(storm.asked) >= 20.0, "asked for {ALL} starts in {:?}", storm.asked);
    let counted = |name| exporter.scrape().value(name, &[]).unwrap_or(0.0);
    let all = ALL as f64;
    wait_for("all starts and ends to be counted", || (counted(STARTS) >= all && counted(EXITS) >= all).then_some(()));
    // Longer than evidence waits for other evidence.
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!((counted(STARTS), counted(EXITS), counted(FAILURES)), (all, all, 0.0));
    let mut told: Vec<_> = startups(&exporter).iter().map(|s| s["id"].as_str().unwrap().to_owned()).collect();
    let mut made: Vec<_> = guards.iter().map(|made| made.1.clone()).collect();
    told.sort();
    made.sort();
    assert_eq!(told, made, "each once");
}

/// An exporter that follows this engine's events, and sees nothing else.
fn of_fake(engine: &Fake) -> Exporter {
    let socket = format!("--runtime.docker.socket={}", engine.dir.path().join("docker.sock").display());
    let exporter = Exporter::start(&[&socket, "--no-runtime.podman", "--no-runtime.containerd", "--no-runtime.cgroup"]);
    wait_for("the engine's events to be followed", || {
        (exporter.scrape().value("kina_capability", &[("capability", "docker")])? == 1.0).then_some(())
    });
    exporter
}

/// Engines make fewer starts a second on a small machine than they are asked for: here one only tells of them.
#[test]
fn two_hundred_starts_at_more_than_twenty_a_second_are_counted_once_each() {
    const ALL: u32 = 200;
    // Where no process of this machine is.
    const FIRST: u32 = 5_000_000;
    let engine = Fake::start();
    let exporter = of_fake(&engine);
    let end = |n: u32| {
        engine.emit(n, "die", fake::now());
        engine.end(n);
        engine.emit(n, "destroy", fake::now());
    };
    let begun = std::time::Instant::now();
    for i in 0..ALL {
        let n = FIRST + i;
        // One every 30 ms, each of which runs for 90 ms.
        std::thread::sleep(
            (begun + Duration::from_millis(30) * i).saturating_duration_since(std::time::Instant::now()),
        );
        let created = fake::now();
        engine.run(n, &format!("c{n}"), created + 2_000_000, |_| {});
        engine.emit(n, "create", created + 1_000_000);
        engine.emit(n, "start", created + 2_000_000);
        if i >= 3 {
            end(n - 3);
        }
    }
    let took = begun.elapsed();
    (FIRST + ALL - 3..FIRST + ALL).for_each(end);
    let rate = f64::from(ALL) / took.as_secs_f64();
    eprintln!("{rate:.1} starts a second");
    assert!(rate > 20.0, "{ALL} starts took {took:?}");
    let counted = |name: &str| exporter.scrape().value(name, &[]).unwrap_or(0.0);
    wait_for("all starts and ends to be counted", || {
        (counted(STARTS) >= f64::from(ALL) && counted(EXITS) >= f64::from(ALL)).then_some(())
    });
    // Longer than evidence waits for other evidence.
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!((counted(STARTS), counted(EXITS), counted(FAILURES)), (f64::from(ALL), f64::from(ALL), 0.0));
    let told: Value = serde_json::from_str(&exporter.get("/api/v1/startups?limit=1000")).unwrap();
    let ids: std::collections::BTreeSet<_> =
        told["startups"].as_array().unwrap().iter().map(|s| s["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, (0..ALL).map(|i| fake::id(FIRST + i)).collect());
}

#[test]
fn thousands_of_starts_take_no_more_memory_than_the_last_thousand() {
    const ROUND: i64 = 200;
    let clock = Arc::new(FakeClock::default());
    clock.wall.store(1_786_090_541 * SECOND, Ordering::Relaxed);
    let pass = |ms: i64| {
        clock.wall.fetch_add(ms * SECOND / 1000, Ordering::Relaxed);
        clock.boot.fetch_add(ms * SECOND / 1000, Ordering::Relaxed);
    };
    let now = || Sample::take(&Clock::Fake(clock.clone()));
    let mut model = Model::new(now().wall, now());
    let (ledger, held, config) = (Ledger::default(), Held::default(), Config::default());
    let mut round = |round: i64| {
        for n in round * ROUND..(round + 1) * ROUND {
            let life = [
                (5, EventKind::CreateRequested),
                (40, EventKind::Created),
                (60, EventKind::StartRequested),
                (305, EventKind::Started { pid: 7, started: None }),
                (310, EventKind::Exited { code: Some(0) }),
                (315, EventKind::Removed),
            ];
            let begun = now();
            for (ms, kind) in life {
                pass(5);
                let (at, received) = (begun.wall + ms * SECOND / 1000, now().boot);
                let key = Key { runtime: RuntimeKind::Docker, id: format!("{n:064x}") };
                let (image, name) = ("shop/web:1".to_owned(), format!("web-{n}"));
                model.push(&Event { key, at, received, image, name, kind, replayed: false }, now(), Some(received));
            }
            pass(300);
        }
        // Longer than what is gone is remembered.
        for _ in 0..2 {
            pass(70_000);
            for outcome in model.advance(now().boot) {
                ledger.take(outcome, |_| None, &Rules::new(&held, &config));
            }
        }
        common::live_bytes()
    };
    let held: Vec<i64> = (0..20).map(&mut round).collect();
    eprintln!("bytes after each {ROUND} starts: {held:?}");
    assert_eq!(ledger.last(usize::MAX).len(), ledger::KEPT);
    let grown: Vec<i64> = held.windows(2).map(|two| two[1] - two[0]).collect();
    // While the list of the last thousand fills, each start takes what its record does: this is what is measured.
    assert!(grown[..4].iter().all(|&bytes| bytes > 300 * ROUND), "the list is not what was measured: {held:?}");
    // Of two thousand more nothing is left. A table full of what was removed may double once, when its hashes fall so.
    assert!(grown[9..].iter().filter(|&&bytes| bytes != 0).count() <= 1, "{held:?}");
}

#[test]
fn a_container_is_ready_when_it_first_listens() {
    let Some(docker) = Docker::get() else { return };
    let image = image(docker, "listens");
    let exporter = Exporter::with_docker(docker, &["--containers.image-include=kina-test-start:listens"]);
    let server: DockerContainer = docker.run_image(&[], &image, &["sh", "-c", "sleep 1; exec httpd -f -p 8080"]);
    let ready = wait_for("ready", || {
        let told = startups(&exporter);
        told.iter().find(|s| s["id"] == json!(server.id))?["phases"]["ready"].as_f64()
    });
    assert!((0.9..2.5).contains(&ready), "{ready}");
    let phase = [("phase", "ready"), ("image", image.as_str())];
    let scrape = exporter.scrape();
    assert_eq!(scrape.must("kina_container_startup_phase_duration_seconds_count", &phase), 1.0);
    let last = scrape.must("kina_container_last_startup_duration_seconds", &[("name", &server.name)]);
    assert!(last > 0.0);
}

/// Starts one with the exporter, two without it and looks what it makes of that: all three, each once.
fn recovers(args: &[&str], start: impl Fn()) {
    let dir = tempfile::tempdir().unwrap();
    let state = format!("--startup.state-file={}", dir.path().join("starts").display());
    let exporter = || Exporter::start(&[args, &[state.as_str()]].concat());
    let counted = |exporter: &Exporter, n: f64| {
        wait_for("starts and ends to be counted", || {
            let scrape = exporter.scrape();
            (scrape.value(STARTS, &[])? >= n && scrape.value(EXITS, &[])? >= n).then_some(())
        });
        std::thread::sleep(Duration::from_secs(2));
        let scrape = exporter.scrape();
        assert_eq!((scrape.value(STARTS, &[]), scrape.value(EXITS, &[])), (Some(n), Some(n)));
    };
    let first = exporter();
    start();
    counted(&first, 1.0);
    assert_eq!(first.terminate(), Some(0));
    start();
    start();
    let second = exporter();
    counted(&second, 2.0);
    assert!(startups(&second).iter().all(|s| s["start"] == "cold"), "{:#?}", startups(&second));
}

#[test]
fn starts_while_the_exporter_restarts_are_recovered_from_docker() {
    let Some(docker) = Docker::get() else { return };
    let image = image(docker, "recovered");
    let socket = format!("--runtime.docker.socket={}", docker.socket.display());
    recovers(&[&socket, "--containers.image-include=kina-test-start:recovered"], || {
        run(docker, &image, &["true"], json!({"AutoRemove": true}), &Value::Null);
    });
}

#[test]
fn starts_while_the_exporter_restarts_are_recovered_from_podman() {
    let Some(podman) = Podman::start() else { return };
    let socket = format!("--runtime.podman.socket={}", podman.socket().display());
    let alone = ["--no-runtime.docker", "--no-runtime.containerd", "--no-runtime.cgroup"];
    recovers(&[&[socket.as_str()], &alone[..]].concat(), || {
        podman.podman(&[&["run", "-d", "--rm", "--network", "none"], &LIMITS[..], &[IMAGE, "true"]].concat());
    });
}

/// An exporter that sees no runtime: what it knows has been reported.
fn alone() -> Exporter {
    Exporter::start(&["--no-runtime.docker", "--no-runtime.podman", "--no-runtime.containerd", "--no-runtime.cgroup"])
}

fn now() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64()
}

#[test]
fn reports_are_taken_whole_or_not_at_all() {
    let exporter = alone();
    let post = |body: &str, headers: &[(&str, &str)]| {
        let answer = http(exporter.address, "POST", "/api/v1/startups", headers, body.as_bytes()).unwrap();
        (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
    };
    let good = format!(
        r#"{{"runtime":"apple","id":"web","image":"shop","requested_at":{:.6},"running_at":{:.6},
            "phases":{{"vm_create":0.2,"kernel_boot":0.4,"init":0.1,"process":1.1}},"start":"cold","vm_pool":"miss",
            "traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}"#,
        now() - 2.0,
        now() - 0.2
    );
    let (status, why) = post(&format!("[{good},{{\"runtime\":\"apple\",\"id\":\"x\",\"total\":-1}}]"), &[]);
    assert_eq!((status, why.starts_with("report 1: total: -1")), (400, true), "{why}");
    assert_eq!(post("not json", &[]).0, 400);
    assert_eq!(post(&good, &[("X-Forwarded-For", "192.0.2.1")]).0, 403);
    assert_eq!(post(&" ".repeat((1 << 20) + 1), &[]).0, 413);
    assert_eq!(post(&good, &[]), (202, "{\"accepted\":1}\n".to_owned()));
    assert_eq!(post(&format!("[{good},{good}]"), &[]).0, 202);
    let scrape = wait_for("the report to be counted", || {
        let scrape = exporter.scrape();
        scrape.value("kina_container_slow_starts_total", &[]).is_some().then_some(scrape)
    });
    let labels = [("runtime", "apple"), ("image", "shop"), ("start", "cold")];
    assert_eq!(scrape.must(STARTS, &labels), 1.0);
    assert_eq!(scrape.must("kina_vm_pool_acquisitions_total", &[("result", "miss")]), 1.0);
    assert_eq!(scrape.must("kina_container_slow_starts_total", &[("reason", "unexplained")]), 1.0);
    let phase = scrape.must("kina_container_startup_phase_duration_seconds_sum", &[("phase", "kernel_boot")]);
    assert!((phase - 0.4).abs() < 1e-9);
    let exemplars = exporter.get("/metrics?format=openmetrics");
    assert!(exemplars.contains("trace_id=\"0af7651916cd43dd8448eb211c80319c\""), "{exemplars}");
    let told = startups(&exporter);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["slow"][0]["reason"], "unexplained");
    assert!(exporter.get("/").contains("Recent starts"));
}

#[test]
fn a_shell_and_a_hook_report_starts() {
    let exporter = alone();
    let to = format!("http://{}", exporter.address);
    let record = |args: &[&str], input: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_kina-exporter"))
            .args(["record-start", "--to", &to])
            .args(args)
            .env_remove("TRACEPARENT")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let out = child.wait_with_output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let shell = ["--id", "vm1", "--runtime", "apple", "--image", "web", "--phase", "kernel_boot=0.4", "--total", "0.9"];
    assert_eq!(record(&shell, ""), (Some(0), String::new()));
    let (status, why) = record(&["--id", "vm1", "--runtime", "lxc", "--total", "1"], "");
    assert!(status == Some(1) && why.contains("400") && why.contains("lxc"), "{why}");
    // A hook that fails would keep its container from starting.
    assert_eq!(record(&["--hook", "poststart"], "no state").0, Some(0));
    let state = r#"{"ociVersion":"1.0.2","id":"0123456789abcdef","status":"running","pid":1,"bundle":"/b"}"#;
    for hook in ["createRuntime", "poststart"] {
        assert_eq!(record(&["--hook", hook], state), (Some(0), String::new()));
    }
    let told = wait_for("both starts", || {
        let told = startups(&exporter);
        (told.len() == 2).then_some(told)
    });
    let hooked = told.iter().find(|s| s["runtime"] == "cgroup").unwrap();
    assert!(hooked["total_seconds"].as_f64().unwrap() >= hooked["phases"]["process"].as_f64().unwrap(), "{hooked}");
}

/// The kernel's clock in its own log, by the words that a line holds.
fn stamp(log: &str, words: &str) -> Duration {
    let line =
        log.lines().find(|l| l.contains(words)).unwrap_or_else(|| panic!("no {words:?} in the guest's log:\n{log}"));
    let seconds = line.split(']').next().unwrap().trim_start_matches(['[', ' ']);
    Duration::from_secs_f64(seconds.parse().unwrap())
}

#[test]
fn phases_of_a_real_boot_agree_with_the_guests_own_log() {
    let script = "echo 'guest: starting managed process' > /dev/kmsg; sleep 0.3
echo 'guest: started managed process' > /dev/kmsg; dmesg -n 1; dmesg | sed 's/^/@@log /'";
    // An emulated kernel that measures its clock on a machine without a free processor may find it far too fast.
    for _ in 0..5 {
        let Some(console) = Guest::new(script).boot(Duration::from_secs(120)) else { return };
        let text = console.text();
        let own: Vec<&str> = text.lines().filter_map(|l| Some(l.split_once("@@log ")?.1)).collect();
        let words = ["as init process", "guest: starting managed process", "guest: started managed process"];
        let told = words.map(|w| stamp(&own.join("\n"), w));
        if told[2] < console.chunks.last().unwrap().0 {
            return compare(&console, &text, told);
        }
    }
    panic!("the guest's clock ran away each time");
}

/// Phases read from the console as it grew, beside what the guest's own log says: init, process created, running.
fn compare(console: &Console, text: &str, [init, created, running]: [Duration; 3]) {
    let mut log = BootLog::default();
    for (at, chunk) in &console.chunks {
        log.feed(chunk, Some(at.as_nanos() as i64));
    }
    let mut moments = log.boots()[0].moments(None);
    moments.requested = Some(0);
    let phases = moments.phases();
    let agrees = |phase, expected: Duration| {
        let told = Duration::from_nanos(phases.get(phase).unwrap_or_else(|| panic!("no {phase:?} in\n{text}")) as u64);
        assert!(
            told.abs_diff(expected) < Duration::from_millis(10),
            "{phase:?}: {told:?}, the guest says {expected:?}"
        );
    };
    agrees(Phase::KernelBoot, init);
    agrees(Phase::Init, created - init);
    agrees(Phase::Process, running - created);
    // From our asking to the end of the guest's clock, by our own watch.
    let total = Duration::from_nanos(moments.total().unwrap() as u64);
    let vm = Duration::from_nanos(phases.get(Phase::VmCreate).unwrap() as u64);
    assert_eq!(total, vm + init_to(&phases));
    assert!(vm > Duration::from_millis(5) && total < console.chunks.last().unwrap().0, "{vm:?} of {total:?}");
}

fn init_to(phases: &Phases) -> Duration {
    [Phase::KernelBoot, Phase::Init, Phase::Process]
        .iter()
        .filter_map(|p| phases.get(*p))
        .map(|d| Duration::from_nanos(d as u64))
        .sum()
}

#[test]
fn the_schema_names_what_the_parser_takes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/startup-report.schema.json");
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let now = now();
    for example in schema["examples"].as_array().unwrap() {
        let wall = (now * 1e9) as i64;
        // Moments of the examples are long past: bring them to now.
        let mut example = example.clone();
        for (key, value) in example.as_object_mut().unwrap() {
            if key.ends_with("_at") {
                *value = json!(now - 100.0 + value.as_f64().unwrap() % 10.0);
            }
        }
        let taken = kina_exporter::startup::report::parse(example.to_string().as_bytes(), wall);
        assert!(taken.is_ok(), "{example}: {taken:?}");
    }
    let known = schema["$defs"]["report"]["properties"].as_object().unwrap();
    let unknown = kina_exporter::startup::report::parse(br#"{"nothing":1}"#, 0).unwrap_err().to_string();
    let listed: Vec<&str> = unknown.split('`').skip(3).step_by(2).collect();
    assert!(listed.len() > 10, "{unknown}");
    for key in &listed {
        assert!(known.contains_key(*key), "{key} is not in the schema");
    }
    assert_eq!(known.len(), listed.len());
}
