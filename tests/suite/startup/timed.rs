//! Real starts, each beside a stop-watch of our own. Run alone (`KINA_ALONE`), these hold the exporter's totals to it.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::ctr::{Client, SNAPSHOTTER};
use super::watch::{Prompt, Urgent, Watched};
use super::{EXITS, FAILURES, Made, STARTS, TOTALS, call, image, run, startups, watch};
use crate::common::{Running, skip};
use crate::live::{Docker, Exporter, IMAGE, is_root, wait_for};
use crate::runtime::containerd::Containerd;
use crate::runtime::podman::Podman;

/// How many seconds a total may be off the watch, if that is more than 2 %.
const EXACT: f64 = 0.005;
/// Where what an engine stamps comes after what it was asked, or before its answer: see docs/startup.md.
const LATE: f64 = 0.025;

/// Waits until the machine has come to rest after the start before: until an engine that is asked for nothing answers at
/// once, several times in a row.
fn rest(docker: &Docker, daemon: &Prompt) {
    if !watch::is_alone() {
        return;
    }
    daemon.again();
    std::thread::sleep(Duration::from_millis(100));
    let mut quick = 0;
    for _ in 0..500 {
        let (_, _, ping) = call(docker, "GET", "/_ping", &Value::Null);
        quick = if ping.took() < 0.001 { quick + 1 } else { 0 };
        if quick == 5 {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn fifty_starts_are_counted_once_each_and_as_long_as_they_took() {
    let Some(docker) = Docker::get() else { return };
    // It tells when a task was created, also of one whose process is gone before it can be looked at.
    let containerd = watch::containerd_below(&docker.socket);
    let below = containerd.as_ref().map(|socket| format!("--runtime.containerd.socket={}", socket.display()));
    let args = ["--containers.image-include=kina-test-start:fifty-.*"];
    let exporter = Exporter::with_docker(docker, &args.into_iter().chain(below.as_deref()).collect::<Vec<_>>());
    let images = ["fifty-a", "fifty-b", "fifty-c"].map(|tag| image(docker, tag));
    let daemon = Prompt::of(watch::daemon_of(&docker.socket));
    let (mut watched, mut guards, mut failed) = (Vec::new(), Vec::new(), 0);
    for i in 0..20 {
        rest(docker, &daemon);
        let (id, took) = run(docker, &images[i % 3], &["sleep", "600"], json!({}), &Value::Null);
        watched.push((id.clone(), "cold", took.unwrap()));
        guards.push(Made(docker, id));
    }
    // Restarts of the first ten.
    for (id, ..) in watched.clone().iter().take(10) {
        call(docker, "POST", &format!("/containers/{id}/kill"), &Value::Null);
        wait_for("the container to end", || {
            let (_, about, _) = call(docker, "GET", &format!("/containers/{id}/json"), &Value::Null);
            (about["State"]["Running"] == json!(false)).then_some(())
        });
        rest(docker, &daemon);
        let (status, _, took) = call(docker, "POST", &format!("/containers/{id}/start"), &Value::Null);
        assert_eq!(status, 204);
        watched.push((id.clone(), "warm", took));
    }
    // Gone at once.
    for i in 0..12 {
        rest(docker, &daemon);
        let (id, took) = run(docker, &images[i % 3], &["true"], json!({"AutoRemove": true}), &Value::Null);
        watched.push((id, "cold", took.unwrap()));
    }
    // With a health check.
    let check = json!({"Healthcheck": {"Test": ["CMD", "true"], "Interval": 200_000_000}});
    for _ in 0..3 {
        rest(docker, &daemon);
        let (id, took) = run(docker, &images[0], &["sleep", "600"], json!({}), &check);
        watched.push((id.clone(), "cold", took.unwrap()));
        guards.push(Made(docker, id));
    }
    // Failing.
    for i in 0..5 {
        let (id, took) =
            run(docker, &images[i % 3], &["/no/such/program"], json!({"AutoRemove": i % 2 == 0}), &Value::Null);
        assert!(took.is_none());
        failed += 1;
        guards.push(Made(docker, id));
    }
    assert_eq!(watched.len() + failed, 50);

    let scrape = wait_for("all starts to be counted", || {
        let scrape = exporter.scrape();
        let all = scrape.value(STARTS, &[]).unwrap_or(0.0) + scrape.value(FAILURES, &[]).unwrap_or(0.0);
        (all >= 50.0).then_some(scrape)
    });
    assert_eq!(scrape.must(STARTS, &[("start", "cold")]), 35.0);
    assert_eq!(scrape.must(STARTS, &[("start", "warm")]), 10.0);
    assert_eq!(scrape.must(TOTALS, &[]), 45.0);
    assert_eq!(scrape.must(FAILURES, &[("reason", "oci_error")]), 5.0);
    assert_eq!(scrape.must(EXITS, &[("reason", "ok")]), 12.0);
    assert_eq!(scrape.must("kina_image_cache_requests_total", &[("result", "hit")]), 35.0);

    let told = startups(&exporter);
    for (id, kind, took) in &watched {
        let mut mine = told.iter().filter(|s| s["id"] == json!(id) && s["start"] == json!(kind));
        let start = mine.next().unwrap_or_else(|| panic!("no {kind} start of {id}"));
        assert!(mine.next().is_none(), "{id} is told twice");
        let (total, took) = (start["total_seconds"].as_f64().unwrap(), took.took());
        let phases = start["phases"].as_object().unwrap();
        let sum: f64 = phases.iter().filter(|(p, _)| *p != "ready").map(|(_, d)| d.as_f64().unwrap()).sum();
        let rest = start["unattributed_seconds"].as_f64().unwrap_or(0.0);
        assert!((sum + rest - total).abs() < 1e-6, "{start}");
        assert!(containerd.is_none() || rest == 0.0, "phases do not add up to the total: {start}");
        assert!(phases.values().all(|d| d.as_f64().unwrap() >= 0.0), "{start}");
        assert!(total < took * 1.02 + 0.005 && total > took * 0.6, "{start} took {took} s");
    }
    // Of an existing container a driver that mounts nothing leaves a mark of the request from Docker 28 on alone, and
    // containerd's image store looks its image up before it stamps the request for a new one: see docs/startup.md.
    let (_, about, _) = call(docker, "GET", "/info", &Value::Null);
    let major = about["ServerVersion"].as_str().and_then(|v| v.split('.').next()?.parse().ok()).unwrap_or(0);
    let within = if about["DriverStatus"].to_string().contains("io.containerd.snapshotter") { 0.025 } else { EXACT };
    watched.retain(|(_, kind, _)| about["Driver"] != "vfs" || major >= 28 || *kind == "cold");
    watch::compare(&told, &watched, within);
    wait_for("the healthy to be ready", || {
        let ready = startups(&exporter).iter().filter(|s| s["phases"]["ready"].is_number()).count();
        (ready >= 3).then_some(())
    });
}

/// What is counted of some starts, once all have been.
fn counted(exporter: &Exporter, starts: usize) -> Vec<Value> {
    wait_for("all starts to be counted", || {
        (exporter.scrape().value(STARTS, &[]).unwrap_or(0.0) >= starts as f64).then_some(())
    });
    assert_eq!(exporter.scrape().value(STARTS, &[]), Some(starts as f64));
    startups(exporter)
}

#[test]
fn containerds_starts_are_as_long_as_they_took() {
    let (Some(docker), Some(containerd)) = (Docker::get(), Containerd::start()) else { return };
    containerd.import(SNAPSHOTTER);
    let socket = format!("--runtime.containerd.socket={}", containerd.socket().display());
    let exporter = Exporter::start(&[&socket, "--no-runtime.docker", "--no-runtime.podman", "--no-runtime.cgroup"]);
    let client = Client::connect(&containerd.socket());
    let daemon = Prompt::behind(&containerd.socket());
    let name = |n: usize| format!("kina-test-timed-{}-{n}", std::process::id());
    // What the client of containerd makes of the image, for ours to copy.
    let first = name(0);
    let create = ["containers", "create", "--snapshotter", SNAPSHOTTER];
    assert!(containerd.ctr(&[&create[..], &[&containerd.image, &first, "sleep", "600"]].concat()));
    // Longer than a creation may lie before its start.
    std::thread::sleep(Duration::from_millis(1200));
    let mut watched = Vec::new();
    for n in 0..6 {
        rest(docker, &daemon);
        let id = name(n);
        if n == 0 {
            watched.push((id.clone(), "warm", client.start(&id).unwrap()));
        } else {
            let created = client.create(&id, &first);
            watched.push((id.clone(), "cold", created.until(client.start(&id).unwrap())));
        }
    }
    counted(&exporter, 6);
    // Again, all warm.
    for n in 1..6 {
        client.end(&name(n));
        rest(docker, &daemon);
        watched.push((name(n), "warm", client.start(&name(n)).unwrap()));
    }
    let told = counted(&exporter, 11);
    for start in &told {
        let phases = start["phases"].as_object().unwrap();
        assert!(phases.contains_key("process") && phases.contains_key("init"), "{start}");
        assert_eq!(phases.contains_key("image"), start["start"] == "cold", "{start}");
    }
    watch::compare(&told, &watched, LATE);
}

/// A cgroup that bears a container's name, in the hierarchy in which they are looked for; removed with the guard.
struct Cgroup(std::path::PathBuf);

impl Cgroup {
    fn parent() -> Option<std::path::PathBuf> {
        let places = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"].map(std::path::PathBuf::from);
        places.into_iter().find(|p| p.join("cgroup.procs").exists())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        wait_for("the cgroup to be empty", || std::fs::remove_dir(&self.0).ok());
    }
}

#[test]
fn bare_cgroups_starts_are_as_long_as_they_took() {
    let (Some(docker), Some(parent)) = (Docker::get(), Cgroup::parent()) else { return };
    if !is_root() {
        skip("needs root to make cgroups");
        return;
    }
    let name = format!("crio-{:0>64}.scope", std::process::id());
    let exporter = Exporter::start(&[
        "--no-runtime.docker",
        "--no-runtime.podman",
        "--no-runtime.containerd",
        &format!("--containers.name-include={:0>64}", std::process::id()),
    ]);
    // It is the exporter itself that sees the process come.
    let daemon = Prompt::of(exporter.pid().cast_signed());
    let mut watched = Vec::new();
    for n in 0..5 {
        rest(docker, &daemon);
        // A parent of each, so that ids differ.
        let group = parent.join(format!("kina-test-{}-{n}", std::process::id()));
        std::fs::create_dir(&group).unwrap();
        let _group = Cgroup(group.clone());
        let cgroup = Cgroup(group.join(&name));
        let urgent = Urgent::now();
        let asked = watch::now();
        std::fs::create_dir(&cgroup.0).unwrap();
        drop(urgent);
        // What a runtime does between: mounts, networks.
        std::thread::sleep(Duration::from_millis(400));
        let procs = cgroup.0.join("cgroup.procs");
        let mut command = Command::new("sleep");
        // SAFETY: only system calls between fork and exec, and none that waits.
        unsafe {
            command.arg("600").pre_exec(move || {
                watch::urgent_until_it_ends();
                std::fs::write(&procs, "0")
            })
        };
        let urgent = Urgent::now();
        let _process = Running(command.spawn().unwrap());
        // Spawning is over when the program has been executed.
        let watch = Watched { asked, answered: watch::now() };
        drop(urgent);
        let id = cgroup.0.strip_prefix(&parent).unwrap().display();
        watched.push((format!("/{id}"), "cold", watch));
        counted(&exporter, n + 1);
    }
    // On a busy machine that is no sooner than it gets a processor.
    if watch::is_alone() {
        watch::compare(&startups(&exporter), &watched, EXACT);
    }
}

#[test]
fn podmans_starts_are_as_long_as_they_took() {
    let (Some(docker), Some(podman)) = (Docker::get(), Podman::start()) else { return };
    let socket = format!("--runtime.podman.socket={}", podman.socket().display());
    let exporter = Exporter::start(&[&socket, "--no-runtime.docker", "--no-runtime.containerd", "--no-runtime.cgroup"]);
    let post = |path: &str, body: &Value| watch::call(&podman.socket(), "POST", &format!("/v4.0.0/libpod{path}"), body);
    let limit = |kind: &str| json!({"type": kind, "hard": 512, "soft": 512});
    let spec = json!({
        "image": IMAGE, "command": ["true"], "netns": {"nsmode": "none"},
        "r_limits": [limit("nofile"), limit("nproc")],
    });
    let daemon = Prompt::behind(&podman.socket());
    let mut watched = Vec::new();
    for _ in 0..4 {
        rest(docker, &daemon);
        let (status, created, create) = post("/containers/create", &spec);
        assert_eq!(status, 201, "{created}");
        let id = created["Id"].as_str().unwrap().to_owned();
        let (status, why, start) = post(&format!("/containers/{id}/start"), &Value::Null);
        assert_eq!(status, 204, "{why}");
        watched.push((id, "cold", create.until(start)));
    }
    watch::compare(&counted(&exporter, 4), &watched, LATE);
}
