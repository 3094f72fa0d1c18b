//! Why starts were slow or failed, and under which image they are counted, as a user finds it.

use std::time::Duration;

use serde_json::{Value, json};

use super::ctr::{Client, SNAPSHOTTER};
use super::{EXITS, FAILURES, STARTS, alone, now, of_fake, startups};
use crate::live::{Docker, Exporter, IMAGE, http, wait_for};
use crate::runtime::containerd::Containerd;
use crate::runtime::fake::{self, Fake};

const SLOW: &str = "kina_container_slow_starts_total";
const DROPPED: &str = "kina_dropped_series_total";

/// An image with `/sbin/init` and more layers than the test's own; removed with the guard.
struct Layered(&'static Docker);

const LAYERED: &str = "kina-test-layered:init";

impl Layered {
    fn new(docker: &'static Docker) -> Layered {
        let dir = tempfile::tempdir().unwrap();
        let mut from = IMAGE.to_owned();
        for n in 0..2 {
            let folder = dir.path().join(n.to_string()).join("sbin");
            std::fs::create_dir_all(&folder).unwrap();
            std::os::unix::fs::symlink("/bin/busybox", folder.join(["init", "halt"][n])).unwrap();
            let made = docker.docker(&["create", &from]);
            docker.docker(&["cp", &folder.display().to_string(), &format!("{made}:/")]);
            docker.docker(&["commit", &made, LAYERED]);
            docker.docker(&["rm", &made]);
            LAYERED.clone_into(&mut from);
        }
        Layered(docker)
    }
}

impl Drop for Layered {
    fn drop(&mut self) {
        self.0.docker(&["image", "rm", "-f", LAYERED]);
    }
}

#[test]
fn a_slow_start_is_explained_once_by_what_its_image_and_init_are() {
    let Some(docker) = Docker::get() else { return };
    let _image = Layered::new(docker);
    let exporter = Exporter::with_docker(
        docker,
        &[
            "--containers.image-include=kina-test-layered:init",
            "--targets.slow_start=0.001",
            "--targets.large_image=1000000",
            "--targets.many_layers=2",
        ],
    );
    let container = docker.run_image(&[], LAYERED, &["/sbin/init"]);
    let start = wait_for("the start", || startups(&exporter).into_iter().find(|s| s["id"] == json!(container.id)));
    let told = |reason: &str| {
        let slow = start["slow"].as_array().unwrap();
        let finding = slow.iter().find(|f| f["reason"] == json!(reason));
        finding.unwrap_or_else(|| panic!("no {reason}: {start}"))["detail"].as_str().unwrap().to_owned()
    };
    let reasons = ["use_smaller_base_image", "reduce_image_layers", "use_minimal_init"];
    assert_eq!(reasons.map(told)[1..], ["the image has 3 layers", "the first process is a full init: init"]);
    let scrape = exporter.scrape();
    for reason in reasons {
        assert_eq!(scrape.must(SLOW, &[("reason", reason), ("image", LAYERED), ("runtime", "docker")]), 1.0);
    }
    assert_eq!(scrape.must(SLOW, &[]), 3.0, "and nothing else");
    // Nothing more is said of it later.
    std::thread::sleep(Duration::from_millis(1500));
    let log = exporter.log();
    let lines: Vec<&str> = log.lines().filter(|l| l.contains(&container.name)).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("slow start") && reasons.iter().all(|r| lines[0].contains(r)), "{}", lines[0]);
}

fn network(engine: &Fake, n: u32, action: &str, at: i64) {
    let event = json!({
        "Type": "network", "Action": action, "time": at / 1_000_000_000, "timeNano": at,
        "Actor": {"ID": "n", "Attributes": {"container": fake::id(n), "name": "bridge", "type": "bridge"}}
    });
    engine.send(&format!("{event}\n"));
}

#[test]
fn what_an_engine_says_of_a_failed_start_is_its_reason() {
    let engine = Fake::start();
    let exporter = of_fake(&engine);
    // As Docker 28 writes them into State.Error.
    let said = [
        (
            "oci_error",
            "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create \
             failed: unable to start container process: error during container init: exec: \"/no/such\": stat /no/such: \
             no such file or directory: unknown",
        ),
        ("image_missing", "No such image: gone:latest"),
        ("timeout", "failed to create task for container: context deadline exceeded"),
        (
            "other",
            "failed to set up container networking: driver failed programming external connectivity on endpoint \
                   web (06b1): Bind for 0.0.0.0:80 failed: port is already allocated",
        ),
    ];
    for (n, (_, message)) in (5_100_000..).zip(said) {
        let at = fake::now();
        engine.run(n, &format!("c{n}"), at, |about| {
            about["State"] = json!({"Running": false, "Pid": 0, "StartedAt": "0001-01-01T00:00:00Z", "Error": message,
                                    "ExitCode": 128});
        });
        engine.emit(n, "create", at + 1_000_000);
        network(&engine, n, "connect", at + 2_000_000);
        network(&engine, n, "disconnect", at + 2_000_000);
        engine.emit(n, "die", at + 4_000_000);
    }
    let counted = |reason: &str| exporter.scrape().value(FAILURES, &[("reason", reason)]);
    wait_for("all failures", || (exporter.scrape().value(FAILURES, &[])? >= 4.0).then_some(()));
    std::thread::sleep(Duration::from_millis(1500));
    for (reason, message) in said {
        assert_eq!(counted(reason), Some(1.0), "{reason}");
        assert!(startups(&exporter).iter().any(|s| s["failure"]["message"] == json!(message)), "{message}");
    }
    let scrape = exporter.scrape();
    assert_eq!((scrape.value(STARTS, &[]), scrape.value(EXITS, &[])), (None, None));
}

/// A restart mounts nothing where the file system stays mounted, and from Docker 28 on a network comes late: the host name's
/// file is written anew for each start.
#[test]
fn a_warm_start_counts_from_when_its_host_name_was_written() {
    let engine = Fake::start();
    engine.speak("1.48", "1.24");
    let exporter = of_fake(&engine);
    let at = fake::now();
    std::thread::sleep(Duration::from_millis(300));
    for (n, owner) in [(5_300_000, 5_300_000), (5_300_001, 5_300_000)] {
        let path = engine.dir.path().join(fake::id(owner));
        let file = std::fs::File::create(&path).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_nanos((at + 50_000_000) as u64)).unwrap();
        engine.run(n, &format!("h{n}"), at + 250_000_000, |about| {
            about["Created"] = json!(fake::rfc3339(at - 3_600_000_000_000));
            about["HostnamePath"] = json!(path);
        });
        engine.emit(n, "die", at);
        network(&engine, n, "connect", at + 240_000_000);
        engine.emit(n, "start", at + 251_000_000);
    }
    wait_for("both starts", || (exporter.scrape().value(STARTS, &[])? >= 2.0).then_some(()));
    let told = startups(&exporter);
    let total = |name: &str| told.iter().find(|s| s["name"] == name).unwrap()["total_seconds"].as_f64();
    assert!((total("h5300000").unwrap() - 0.2).abs() < 0.006, "{told:#?}");
    assert_eq!(total("h5300001"), None, "that file is of the container whose network it shares: {told:#?}");
}

/// From Docker 28 on networks are connected when the process exists already: a start that fails before is told by its
/// network's end alone, and one whose network can't be set up by nothing.
#[test]
fn starts_that_fail_before_their_network_is_up_are_counted() {
    let engine = Fake::start();
    engine.speak("1.48", "1.24");
    let exporter = of_fake(&engine);
    let failed = |n: u32, name: &str, at: i64, error: &str| {
        engine.run(n, name, at, |about| {
            about["State"] = json!({"Running": false, "Pid": 0, "StartedAt": "0001-01-01T00:00:00Z", "Error": error,
                                    "ExitCode": if error.is_empty() { 0 } else { 128 }});
        });
        engine.emit(n, "create", at + 1_000_000);
    };
    let at = fake::now();
    failed(5_200_000, "bad", at, "OCI runtime create failed: exec: not found");
    network(&engine, 5_200_000, "disconnect", at + 90_000_000);
    failed(5_200_001, "conflict", at, "failed to set up container networking: Bind: port is already allocated");
    failed(5_200_002, "not-started", at, "");
    // `run --rm`: gone by the time that it is asked for.
    engine.emit(5_200_003, "create", at + 1_000_000);
    network(&engine, 5_200_003, "disconnect", at + 90_000_000);
    engine.emit(5_200_003, "destroy", at + 95_000_000);
    engine.run(5_200_004, "good", at, |_| {});
    for (ms, action) in
        [(1, "create"), (90, "connect"), (100, "start"), (200, "disconnect"), (205, "die"), (210, "destroy")]
    {
        match action {
            "connect" | "disconnect" => network(&engine, 5_200_004, action, at + ms * 1_000_000),
            _ => engine.emit(5_200_004, action, at + ms * 1_000_000),
        }
    }
    // Of a run that began before the exporter did.
    network(&engine, 5_200_005, "disconnect", at + 90_000_000);
    engine.emit(5_200_005, "destroy", at + 95_000_000);

    wait_for("all failures", || (exporter.scrape().value(FAILURES, &[])? >= 3.0).then_some(()));
    std::thread::sleep(Duration::from_millis(2500));
    let scrape = exporter.scrape();
    let counted = |reason: &str| scrape.value(FAILURES, &[("reason", reason)]);
    assert_eq!((counted("oci_error"), counted("other")), (Some(2.0), Some(1.0)), "{:#?}", startups(&exporter));
    assert_eq!((scrape.value(STARTS, &[]), scrape.value(EXITS, &[])), (Some(1.0), Some(1.0)));
    let told = startups(&exporter);
    let conflict = told.iter().find(|s| s["name"] == "conflict").unwrap();
    assert_eq!(conflict["start"], "cold", "{conflict}");
    assert!(conflict["failure"]["message"].as_str().unwrap().contains("port is already allocated"), "{conflict}");
}

#[test]
fn a_task_that_ends_before_it_is_started_exited_at_once() {
    let (Some(_), Some(containerd)) = (Docker::get(), Containerd::start()) else { return };
    containerd.import(SNAPSHOTTER);
    let socket = format!("--runtime.containerd.socket={}", containerd.socket().display());
    let exporter = Exporter::start(&[&socket, "--no-runtime.docker", "--no-runtime.podman", "--no-runtime.cgroup"]);
    let client = Client::connect(&containerd.socket());
    let id = format!("kina-test-at-once-{}", std::process::id());
    let create = ["containers", "create", "--snapshotter", SNAPSHOTTER];
    assert!(containerd.ctr(&[&create[..], &[&containerd.image, &id, "sleep", "600"]].concat()));
    client.create_task(&id).unwrap();
    client.end(&id);
    let failed = wait_for("the failure", || startups(&exporter).into_iter().find(|s| s["id"] == json!(id)));
    assert_eq!(failed["failure"]["reason"], "exit_at_once", "{failed}");
    std::thread::sleep(Duration::from_millis(1500));
    let scrape = exporter.scrape();
    assert_eq!(scrape.must(FAILURES, &[("reason", "exit_at_once")]), 1.0);
    assert_eq!((scrape.value(STARTS, &[]), scrape.value(EXITS, &[])), (None, None));
    // It is started again, and now it runs.
    client.start(&id).unwrap();
    wait_for("the start", || (exporter.scrape().value(STARTS, &[])? == 1.0).then_some(()));
    assert_eq!(exporter.scrape().must(FAILURES, &[]), 1.0);
}

#[test]
fn images_beyond_the_bound_are_one_and_each_of_their_starts_is_dropped_once() {
    let exporter = Exporter::start(&[
        "--no-runtime.docker",
        "--no-runtime.podman",
        "--no-runtime.containerd",
        "--no-runtime.cgroup",
        "--startup.max-images=2",
    ]);
    let report = |id: &str, image: &str, more: Value| {
        let mut report = json!({"runtime": "docker", "id": id, "image": image});
        report.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        report
    };
    let phases = json!({"phases": {"image": 0.1, "init": 0.1, "process": 0.2, "ready": 0.3}, "running_at": now()});
    let failure = json!({"failure": {"reason": "image_missing", "message": "manifest unknown"}});
    let reports = json!([
        report("first", "one", phases.clone()),
        report("second", "two", phases.clone()),
        report("third", "three", phases.clone()),
        report("fourth", "three", phases.clone()),
        report("fifth", "four", failure),
        report("sixth", "one", phases),
    ]);
    let body = reports.to_string();
    let answer = http(exporter.address, "POST", "/api/v1/startups", &[], body.as_bytes()).unwrap();
    assert_eq!(answer.status, 202, "{}", String::from_utf8_lossy(&answer.body));
    wait_for("all to be counted", || (startups(&exporter).len() == 6).then_some(()));
    let scrape = exporter.scrape();
    let counted = |name: &str, image: &str| scrape.value(name, &[("image", image)]);
    for (image, starts) in [("one", Some(2.0)), ("two", Some(1.0)), ("other", Some(2.0)), ("three", None)] {
        assert_eq!(counted(STARTS, image), starts, "{image}");
        assert_eq!(counted("kina_container_startup_duration_seconds_count", image), starts, "{image}");
        let phases = counted("kina_container_startup_phase_duration_seconds_count", image);
        assert_eq!(phases, starts.map(|n| n * 4.0), "{image}");
    }
    assert_eq!(scrape.must(FAILURES, &[("image", "other"), ("reason", "image_missing")]), 1.0);
    assert_eq!(scrape.must(DROPPED, &[("reason", "images")]), 3.0, "two starts and a failure");
    // The last starts have their own names all the same.
    assert!(startups(&exporter).iter().any(|s| s["image"] == "four"));
}

#[test]
fn a_report_may_name_any_reason() {
    let exporter = alone();
    for reason in ["image_missing", "oci_error", "exit_at_once", "timeout", "other"] {
        let report = json!({"runtime": "apple", "id": reason, "failure": {"reason": reason, "message": "told"}});
        let body = report.to_string();
        assert_eq!(http(exporter.address, "POST", "/api/v1/startups", &[], body.as_bytes()).unwrap().status, 202);
    }
    let scrape = wait_for("all failures", || {
        let scrape = exporter.scrape();
        (scrape.value(FAILURES, &[])? == 5.0).then_some(scrape)
    });
    assert_eq!(scrape.select(FAILURES, &[]).map(|s| s.value).collect::<Vec<_>>(), [1.0; 5]);
}
