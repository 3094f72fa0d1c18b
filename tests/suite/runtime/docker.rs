//! Through a real Docker engine.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kina_exporter::root::Root;
use kina_exporter::runtime::{EventKind, RuntimeKind};

use super::seen::{Seen, nothing};
use crate::live::{Docker, Exporter, IMAGE, Scrape, wait_for};

fn see(docker: &Docker) -> Seen {
    let mut config = nothing();
    config.runtime.docker.enabled = true;
    config.runtime.docker.socket = Some(docker.socket.clone());
    let seen = Seen::start(Root::default(), config);
    seen.wait_for_capability(RuntimeKind::Docker, "yes");
    seen
}

/// The container is in the directory as soon as `docker run` has returned and identities have settled.
fn shown(seen: &Seen, name: &str) -> std::sync::Arc<kina_exporter::runtime::Container> {
    wait_for("the container to be shown", || seen.by_name(name))
}

#[test]
fn a_container_is_told_whole() {
    let Some(docker) = Docker::get() else { return };
    let seen = see(docker);
    let labels = ["--label", "com.example/quote=a\"b\nc", "--restart", "on-failure"];
    let container = docker.run(&labels, &["sleep", "600"]);
    let c = shown(&seen, &container.name);
    assert_eq!(c.native_id, container.id);
    assert_eq!(c.identity.image, IMAGE);
    assert_eq!(c.pid, container.pid());
    assert_eq!(c.user_labels["com.example/quote"], "a\"b\nc");
    assert_eq!(c.restart_policy, "on-failure");
    assert_eq!(c.command, ["sleep", "600"]);
    assert!(c.created.unwrap() < c.started.unwrap());
    assert_eq!(c.addresses.iter().map(|a| a.to_string()).collect::<Vec<_>>(), [container.address()]);
    assert!(c.identity.id.contains(&container.id), "{}", c.identity.id);
    assert!(c.image.size_bytes.unwrap() > 100_000);
    assert_eq!(c.image.layers, Some(1));
    let told = c.cgroup.v2.as_ref().or(c.cgroup.v1.get("memory")).unwrap();
    let kernel = std::fs::read_to_string(format!("/proc/{}/cgroup", c.pid)).unwrap();
    assert!(kernel.contains(told.as_str()), "{kernel}");
}

#[test]
fn rename_and_health_are_followed() {
    let Some(docker) = Docker::get() else { return };
    let mut seen = see(docker);
    let health = ["--health-cmd", "test -e /tmp/well", "--health-interval", "1s", "--health-retries", "1"];
    let container = docker.run(&health, &["sleep", "600"]);
    shown(&seen, &container.name);
    seen.wait_for_event(&container.id, "unhealthy", |e| *e == EventKind::Health { healthy: false });
    container.exec(&["touch", "/tmp/well"]);
    seen.wait_for_event(&container.id, "healthy", |e| *e == EventKind::Health { healthy: true });
    assert_eq!(shown(&seen, &container.name).healthy, Some(true));
    let new = format!("{}-renamed", container.name);
    docker.docker(&["rename", &container.name, &new]);
    assert_eq!(shown(&seen, &new).native_id, container.id);
    assert!(seen.by_name(&container.name).is_none());
}

#[test]
fn the_events_of_a_life_come_once_and_in_order() {
    let Some(docker) = Docker::get() else { return };
    let mut seen = see(docker);
    let container = docker.run(&[], &["sh", "-c", "trap 'exit 3' TERM; sleep 600 & wait"]);
    let c = shown(&seen, &container.name);
    docker.docker(&["stop", &container.id]);
    docker.docker(&["start", &container.id]);
    docker.docker(&["rm", "-f", &container.id]);
    seen.wait_for_event(&container.id, "its removal", |e| *e == EventKind::Removed);
    let mut events = seen.of(&container.id);
    // Where the root file system is mounted for a start there are two marks of one request.
    events.dedup_by(|a, b| *a == EventKind::StartRequested && a == b);
    assert!(
        matches!(
            events.as_slice(),
            [
                EventKind::CreateRequested,
                EventKind::Created,
                EventKind::StartRequested,
                EventKind::Started { .. },
                EventKind::Exited { code: Some(3) },
                EventKind::StartRequested,
                EventKind::Started { .. },
                EventKind::Exited { code: Some(137) },
                EventKind::Removed
            ]
        ),
        "{events:?}"
    );
    assert_eq!(events[3], EventKind::Started { pid: c.pid, started: c.started });
    assert!(seen.by_name(&container.name).is_none());
}

#[test]
fn a_failed_start_is_told_with_the_reason() {
    let Some(docker) = Docker::get() else { return };
    for options in [&[][..], &["--network", "none"], &["--network", "host"]] {
        let mut seen = see(docker);
        let id = docker.docker(&[&["create"], options, &[IMAGE, "/no/such/program"]].concat());
        let output = std::process::Command::new("docker")
            .env("DOCKER_HOST", format!("unix://{}", docker.socket.display()))
            .args(["start", &id])
            .output()
            .unwrap();
        assert!(!output.status.success());
        seen.wait_for_event(
            &id,
            "the failure",
            |e| matches!(e, EventKind::StartFailed { message } if message.contains("/no/such/program")),
        );
        docker.docker(&["rm", &id]);
        seen.wait_for_event(&id, "its removal", |e| *e == EventKind::Removed);
        let events = seen.of(&id);
        assert!(
            !events.iter().any(|e| matches!(e, EventKind::Started { .. } | EventKind::Exited { .. })),
            "{events:?}"
        );
    }
}

#[test]
fn two_hundred_come_and_go_and_none_is_missed_or_left() {
    let Some(docker) = Docker::get() else { return };
    let mut seen = see(docker);
    // Others' containers on the engine come and go, too.
    let label = format!("kina.storm={}", std::process::id());
    let stays = docker.run(&["--label", &label], &["sleep", "600"]);
    let exporter = Exporter::with_docker(
        docker,
        &[
            "--no-runtime.podman",
            "--no-runtime.containerd",
            "--no-runtime.cgroup",
            "--containers.label-include",
            &label,
        ],
    );
    let shown_by = |scrape: &Scrape| -> BTreeSet<String> {
        scrape.select("kina_container_info", &[]).map(|s| s.label("container_id").to_owned()).collect()
    };
    assert_eq!(shown_by(&exporter.scrape()), BTreeSet::from([stays.id.clone()]));
    let before = Held::by(exporter.pid());
    let over = AtomicBool::new(false);
    let ids: BTreeSet<String> = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                exporter.scrape();
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        let starters: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut ids = Vec::new();
                    for _ in 0..25 {
                        ids.push(docker.docker(&[
                            "run",
                            "-d",
                            "--rm",
                            "--label",
                            &label,
                            "--network",
                            "none",
                            IMAGE,
                            "true",
                        ]));
                        ids.push(docker.docker(&[
                            "run",
                            "-d",
                            "--label",
                            &label,
                            "--network",
                            "none",
                            IMAGE,
                            "sleep",
                            "600",
                        ]));
                    }
                    ids
                })
            })
            .collect();
        let ids = starters.into_iter().flat_map(|s| s.join().unwrap()).collect();
        over.store(true, Ordering::Relaxed);
        ids
    });
    assert_eq!(ids.len(), 200);
    let sleeping: Vec<String> = {
        let all = docker.docker(&["ps", "-q", "--no-trunc"]);
        ids.iter().filter(|id| all.contains(id.as_str())).cloned().collect()
    };
    seen.settle();
    let shown: BTreeSet<String> = seen.live().iter().map(|c| c.native_id.clone()).collect();
    let scraped = shown_by(&exporter.scrape());
    for id in &sleeping {
        assert!(shown.contains(id) && scraped.contains(id), "{id} is missing");
    }
    for chunk in sleeping.chunks(20) {
        let args: Vec<&str> = ["rm", "-f"].into_iter().chain(chunk.iter().map(String::as_str)).collect();
        docker.docker(&args);
    }
    for id in &ids {
        seen.wait_for_event(id, "its removal", |e| *e == EventKind::Removed);
        let events = seen.of(id);
        let count = |is: fn(&EventKind) -> bool| events.iter().filter(|e| is(e)).count();
        assert_eq!(count(|e| matches!(e, EventKind::Started { .. })), 1, "{events:?}");
        assert_eq!(count(|e| matches!(e, EventKind::Exited { .. })), 1, "{events:?}");
        assert_eq!(count(|e| matches!(e, EventKind::Created)), 1, "{events:?}");
    }
    wait_for("the last to go", || seen.live().iter().all(|c| !ids.contains(&c.native_id)).then_some(()));
    assert!(seen.by_name(&stays.name).is_some());
    // Of two hundred nothing is left: no series, no descriptor, no memory beyond what an allocator keeps of a hundred at once.
    wait_for("the exporter to show the one that stays alone", || {
        (shown_by(&exporter.scrape()) == BTreeSet::from([stays.id.clone()])).then_some(())
    });
    wait_for("its descriptors to be closed", || {
        exporter.scrape();
        (Held::by(exporter.pid()).descriptors <= before.descriptors + 2).then_some(())
    });
    let after = Held::by(exporter.pid());
    assert!(after.kibibytes <= before.kibibytes + 4096, "{before:?} {after:?}");
}

/// What a process holds.
#[derive(Debug)]
struct Held {
    descriptors: usize,
    kibibytes: u64,
}

impl Held {
    fn by(pid: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        // Without the program itself, of which more comes to be in memory as more of it is run.
        let anonymous = status.lines().find_map(|l| l.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB"));
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        Self { descriptors, kibibytes: anonymous.unwrap().parse().unwrap() }
    }
}

#[test]
fn a_restart_of_the_tasks_finds_the_same() {
    let Some(docker) = Docker::get() else { return };
    let mut seen = see(docker);
    let container = docker.run(&[], &["sleep", "600"]);
    let before = shown(&seen, &container.name);
    seen.restart();
    let after = shown(&seen, &container.name);
    assert_eq!((before.pid, before.started), (after.pid, after.started));
    seen.settle();
    let events = seen.of(&container.id);
    assert_eq!(events.iter().filter(|e| matches!(e, EventKind::Started { .. })).count(), 1, "{events:?}");
}
