//! Through a real containerd of the test's own, and below Docker.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kina_exporter::root::Root;
use kina_exporter::runtime::{EventKind, RuntimeKind};

use super::seen::{Seen, nothing};
use crate::common::skip;
use crate::live::{Docker, IMAGE, is_root, wait_for, which};

pub struct Containerd {
    dir: tempfile::TempDir,
    child: Child,
    pub image: String,
}

/// The namespace of everything that these tests make.
pub const NAMESPACE: &str = "kina-test";

/// Imports an image with `ctr`: containerd 2 unpacks for another snapshotter than its own with `--local` alone, which 1.6
/// does not know.
#[track_caller]
pub fn import(ctr: impl Fn(&[&str]) -> bool, snapshotter: &str, tar: &Path) {
    let rest = ["--snapshotter", snapshotter, tar.to_str().unwrap()];
    let done = [&["--local"][..], &[]].into_iter().any(|local| ctr(&[&["images", "import"], local, &rest].concat()));
    assert!(done, "ctr images import");
}

impl Containerd {
    pub fn start() -> Option<Containerd> {
        if !is_root() || which("containerd").is_none() || which("ctr").is_none() {
            skip("needs root, containerd and ctr");
            return None;
        }
        let docker = Docker::get()?;
        let dir = tempfile::tempdir().unwrap();
        let child = Self::spawn(dir.path());
        let mut daemon = Containerd { dir, child, image: String::new() };
        wait_for("containerd to answer", || daemon.ctr(&["version"]).then_some(()));
        docker.docker(&["save", "-o", daemon.dir.path().join("image.tar").to_str().unwrap(), IMAGE]);
        daemon.import("native");
        daemon.image = format!("docker.io/library/{IMAGE}");
        Some(daemon)
    }

    /// Listens at `c.sock` in this folder.
    pub fn spawn(dir: &Path) -> Child {
        let d = dir.display();
        let config = format!(
            "version = 2\nroot = \"{d}/root\"\nstate = \"{d}/state\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{d}/c.sock\"\n"
        );
        std::fs::write(dir.join("config.toml"), config).unwrap();
        Command::new("containerd")
            .arg("-c")
            .arg(dir.join("config.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    #[track_caller]
    pub fn import(&self, snapshotter: &str) {
        let tar = self.dir.path().join("image.tar");
        import(|args| self.ctr(args), snapshotter, &tar);
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("c.sock")
    }

    pub fn ctr(&self, args: &[&str]) -> bool {
        let out = Command::new("ctr")
            .arg("-a")
            .arg(self.dir.path().join("c.sock"))
            .args(["-n", NAMESPACE])
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        out.status.success()
    }

    fn run(&self, options: &[&str], name: &str, command: &[&str]) -> bool {
        let head = ["run", "-d", "--snapshotter", "native"];
        self.ctr(&[&head, options, &[self.image.as_str(), name], command].concat())
    }

    fn see(&self) -> Seen {
        let mut config = nothing();
        config.runtime.containerd.enabled = true;
        config.runtime.containerd.socket = Some(self.dir.path().join("c.sock"));
        let seen = Seen::start(Root::default(), config);
        seen.wait_for_capability(RuntimeKind::Containerd, "yes");
        seen
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let tasks = Command::new("ctr")
            .arg("-a")
            .arg(self.dir.path().join("c.sock"))
            .args(["-n", NAMESPACE, "tasks", "ls", "-q"])
            .output();
        if let Ok(tasks) = tasks {
            for task in String::from_utf8_lossy(&tasks.stdout).lines() {
                self.ctr(&["tasks", "rm", "-f", task]);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_life_in_containerd_is_followed() {
    let Some(containerd) = Containerd::start() else { return };
    let mut seen = containerd.see();
    let labels =
        ["io.kubernetes.pod.namespace=shop", "io.kubernetes.pod.name=web-1", "io.kubernetes.container.name=nginx"];
    let options: Vec<&str> = labels.iter().flat_map(|l| ["--label", l]).collect();
    let id = format!("kina-test-ctr-{}", std::process::id());
    assert!(containerd.run(&options, &id, &["sleep", "600"]));
    let c = wait_for("the container", || seen.by_name(&id));
    assert_eq!(c.identity.image, containerd.image);
    assert_eq!((c.identity.namespace.as_str(), c.identity.pod.as_str()), ("shop", "web-1"));
    assert_eq!(c.identity.container, "nginx");
    assert_eq!(c.command, ["sleep", "600"]);
    assert_eq!(c.image.layers, Some(1));
    assert!(c.identity.id.ends_with(&id), "{}", c.identity.id);
    assert!(c.created.unwrap() < c.started.unwrap());

    assert!(containerd.ctr(&["tasks", "kill", "-s", "SIGKILL", &id]));
    seen.wait_for_event(&id, "its end", |e| matches!(e, EventKind::Exited { .. }));
    assert!(seen.by_name(&id).is_none());
    wait_for("the task to be removed", || containerd.ctr(&["tasks", "rm", "-f", &id]).then_some(()));
    assert!(containerd.ctr(&["containers", "rm", &id]));
    seen.wait_for_event(&id, "its removal", |e| *e == EventKind::Removed);
    let events = seen.of(&id);
    let told: Vec<_> = events.iter().map(std::mem::discriminant).collect();
    let wanted = [
        EventKind::SnapshotPrepared,
        EventKind::Created,
        EventKind::StartRequested,
        EventKind::TaskCreated { pid: 0 },
        EventKind::Started { pid: 0, started: None },
        EventKind::Exited { code: Some(137) },
        EventKind::Removed,
    ];
    assert_eq!(told, wanted.iter().map(std::mem::discriminant).collect::<Vec<_>>(), "{events:?}");
}

#[test]
fn containerd_killed_and_started_again_is_found_again() {
    let Some(mut containerd) = Containerd::start() else { return };
    let seen = containerd.see();
    let (stays, goes) =
        (format!("kina-test-stays-{}", std::process::id()), format!("kina-test-goes-{}", std::process::id()));
    for id in [&stays, &goes] {
        assert!(containerd.run(&[], id, &["sleep", "600"]));
    }
    let c = wait_for("the container", || seen.by_name(&goes));
    wait_for("the container", || seen.by_name(&stays));
    containerd.child.kill().unwrap();
    containerd.child.wait().unwrap();
    seen.wait_for_capability(RuntimeKind::Containerd, "not answering");
    assert!(seen.by_name(&stays).is_some(), "it still runs");
    // SAFETY: the process of a container that this test started.
    unsafe { libc::kill(c.pid as i32, libc::SIGKILL) };
    containerd.child = Containerd::spawn(containerd.dir.path());
    seen.wait_for_capability(RuntimeKind::Containerd, "yes");
    wait_for("the dead one to go", || seen.by_name(&goes).is_none().then_some(()));
    assert!(seen.by_name(&stays).is_some());
}

#[test]
fn what_docker_shows_is_not_shown_again() {
    let Some(docker) = Docker::get() else { return };
    let below = docker.socket.parent().unwrap().join("exec/containerd/containerd.sock");
    let below = [below, "/run/containerd/containerd.sock".into(), "/run/docker/containerd/containerd.sock".into()]
        .into_iter()
        .find(|p| p.exists());
    let Some(below) = below else {
        skip("Docker's containerd has no socket that can be seen");
        return;
    };
    let mut config = nothing();
    config.runtime.docker.enabled = true;
    config.runtime.docker.socket = Some(docker.socket.clone());
    config.runtime.containerd.enabled = true;
    config.runtime.containerd.socket = Some(below);
    config.runtime.cgroup.enabled = true;
    let mut seen = Seen::start(Root::default(), config);
    seen.wait_for_capability(RuntimeKind::Docker, "yes");
    seen.wait_for_capability(RuntimeKind::Containerd, "yes");
    let container = docker.run(&[], &["sleep", "600"]);
    let c = wait_for("the container", || seen.by_name(&container.name));
    seen.wait_for_event(&container.id, "the task", |e| matches!(e, EventKind::TaskCreated { .. }));
    // Longer than a cgroup is left to a runtime that may know it.
    let until = std::time::Instant::now() + Duration::from_secs(3);
    wait_for("the time to pass", || {
        let same: Vec<_> = seen.live().into_iter().filter(|o| o.identity.id == c.identity.id).collect();
        assert_eq!(same.iter().map(|o| o.runtime).collect::<Vec<_>>(), [RuntimeKind::Docker]);
        (std::time::Instant::now() > until).then_some(())
    });
    let count = seen.of(&container.id).iter().filter(|e| matches!(e, EventKind::Started { .. })).count();
    assert_eq!(count, 1);
    assert!(seen.of(&c.identity.id).is_empty(), "the cgroup's own events are kept back");
}
