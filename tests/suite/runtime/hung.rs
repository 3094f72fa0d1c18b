//! The real binary beside daemons that hang and sockets that are forbidden: nothing but their own containers' names is lost.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::fake::{Fake, Manner, id, now};
use crate::common::{Running, skip};
use crate::live::{Exporter, Scrape, is_root, wait_for};

fn flag(name: &str, value: &Path) -> String {
    format!("--{name}={}", value.display())
}

/// A machine's folders, seen in place of this one's.
fn within(dir: &Path) -> Vec<String> {
    vec![
        flag("path.rootfs", dir),
        flag("path.procfs", &dir.join("proc")),
        flag("path.sysfs", &dir.join("sys")),
        flag("path.cgroup", &dir.join("sys/fs/cgroup")),
    ]
}

/// A busy machine makes some scrapes slow, a hung daemon would make every one wait half a second for it.
#[track_caller]
fn scrapes_wait_for_nobody(exporter: &Exporter) {
    wait_for("a scrape that waits for nobody", || {
        let begin = Instant::now();
        exporter.get("/metrics?collect[]=lifecycle");
        (begin.elapsed() < Duration::from_millis(400)).then_some(())
    });
}

fn reason(scrape: &Scrape, runtime: &str) -> Option<String> {
    let of = [("capability", runtime)];
    let sample = scrape.select("kina_capability", &of).next()?;
    Some(if sample.value == 1.0 { "yes".to_owned() } else { sample.label("reason").to_owned() })
}

fn all_succeed(scrape: &Scrape) {
    let told: Vec<_> = scrape.select("kina_scrape_collector_success", &[]).collect();
    assert!(told.len() > 10);
    for sample in told {
        assert_eq!(sample.value, 1.0, "{sample:?}");
    }
}

#[test]
fn daemons_that_accept_and_never_answer_harm_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    // Never accepted from: the kernel connects all the same, as to a stopped daemon.
    let _silent: Vec<UnixListener> =
        ["docker", "podman", "containerd"].map(|name| UnixListener::bind(dir.path().join(name)).unwrap()).into();
    let sockets = ["docker", "podman", "containerd"].map(|n| flag(&format!("runtime.{n}.socket"), &dir.path().join(n)));
    let timeouts = ["docker", "podman", "containerd"].map(|n| format!("--runtime.{n}.timeout=1s"));
    let flags: Vec<&str> = sockets.iter().chain(&timeouts).map(String::as_str).collect();
    let exporter = Exporter::start(&flags);
    wait_for("all three to be told", || {
        let scrape = exporter.scrape();
        all_succeed(&scrape);
        ["docker", "podman", "containerd"]
            .iter()
            .all(|name| reason(&scrape, name).as_deref() == Some("not answering"))
            .then_some(())
    });
    scrapes_wait_for_nobody(&exporter);
    assert!(exporter.scrape().value("container_cpu_usage_seconds_total", &[("id", "/")]) > Some(0.0));
    assert_eq!(exporter.terminate(), Some(0));
}

#[test]
fn a_daemon_that_stops_answering_keeps_its_containers_and_holds_up_no_scrape() {
    let fake = Fake::start();
    fake.run(1, "before", now(), |_| {});
    let tree = within(fake.dir.path());
    let more = ["--runtime.docker.socket=/docker.sock", "--runtime.docker.timeout=1s"];
    let flags: Vec<&str> = tree.iter().map(String::as_str).chain(more).collect();
    let exporter = Exporter::start(&flags);
    wait_for("the container", || exporter.scrape().value("container_last_seen", &[("name", "before")]));
    fake.behave("", Manner::Hang);
    // Its events still come, what they tell of can't be asked.
    fake.run(2, "after", now(), |_| {});
    let cgroup = fake.dir.path().join(format!("sys/fs/cgroup/system.slice/docker-{}.scope", id(2)));
    std::fs::write(cgroup.join("cgroup.procs"), "12\n").unwrap();
    std::fs::write(cgroup.join("cgroup.events"), "populated 1\n").unwrap();
    fake.emit(2, "start", now());
    let scrape = wait_for("the new one by its cgroup", || {
        let scrape = exporter.scrape();
        (scrape.select("container_last_seen", &[("runtime", "cgroup")]).count() == 1).then_some(scrape)
    });
    all_succeed(&scrape);
    assert!(scrape.value("container_last_seen", &[("name", "before")]).is_some());
    scrapes_wait_for_nobody(&exporter);
    assert_eq!(exporter.terminate(), Some(0));
}

/// Runs as a user who may not open one of two sockets.
#[test]
fn a_forbidden_socket_hides_no_other() {
    if !is_root() && skip("only root can become a user that is kept out") {
        return;
    }
    let machine = Fake::start();
    let forbidden = machine.beside("run/podman/podman.sock");
    let open = machine.beside("run/user/65534/podman/podman.sock");
    forbidden.run(1, "of-the-system", now(), |_| {});
    open.run(2, "of-the-user", now(), |_| {});
    let dir = machine.dir.path();
    for (path, mode) in [(dir.to_path_buf(), 0o755), (forbidden.socket(), 0o000), (open.socket(), 0o666)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    // Wherever it was built, this user can run it here.
    let binary = dir.join("kina-exporter");
    std::fs::copy(env!("CARGO_BIN_EXE_kina-exporter"), &binary).unwrap();
    let address = dir.join("metrics.sock");
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o777)).unwrap();
    let child = Command::new(&binary)
        .args(within(dir))
        .args(["--no-runtime.docker", "--no-runtime.containerd", "--log.level=debug"])
        .arg(format!("--web.listen-address=unix:{}", address.display()))
        .uid(65534)
        .gid(65534)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _running = Running(child);
    let scrape = || {
        use std::io::{Read, Write};
        let mut stream = std::os::unix::net::UnixStream::connect(&address).ok()?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(Scrape::parse(text.split_once("\r\n\r\n")?.1))
    };
    let seen = wait_for("the one that it may see", || {
        scrape().filter(|s| s.value("container_last_seen", &[("name", "of-the-user")]).is_some())
    });
    assert_eq!(reason(&seen, "podman").as_deref(), Some("yes"));
    assert_eq!(seen.value("container_last_seen", &[("name", "of-the-system")]), None);
    open.go_down();
    wait_for("what is wrong with the other", || {
        let told = reason(&scrape()?, "podman")?;
        ["permission denied", "not answering"].contains(&told.as_str()).then_some(())
    });
    // One that is let in again is found.
    std::fs::set_permissions(forbidden.socket(), std::fs::Permissions::from_mode(0o666)).unwrap();
    wait_for("the system's", || scrape()?.value("container_last_seen", &[("name", "of-the-system")]));
}
