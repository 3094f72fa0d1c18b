//! Through a real Podman service of the test's own.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use kina_exporter::root::Root;
use kina_exporter::runtime::{EventKind, RuntimeKind};
use kina_exporter::startup::FailureReason;

use super::seen::{Seen, nothing};
use crate::common::skip;
use crate::live::{Docker, IMAGE, is_root, wait_for, which};

pub struct Podman {
    dir: tempfile::TempDir,
    child: Child,
}

/// Enough, and fewer than any test machine forbids.
pub const LIMITS: [&str; 4] = ["--ulimit", "nofile=512:512", "--ulimit", "nproc=512:512"];

impl Podman {
    pub fn start() -> Option<Podman> {
        if !is_root() || which("podman").is_none() || which("runc").is_none() {
            skip("needs root, podman and runc");
            return None;
        }
        let docker = Docker::get()?;
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("containers.conf"), "[engine]\nevents_logger=\"file\"\n").unwrap();
        let at = |name: &str| dir.path().join(name);
        let child = Command::new("podman")
            .env("CONTAINERS_CONF", at("containers.conf"))
            .arg("--root")
            .arg(at("root"))
            .arg("--runroot")
            .arg(at("run"))
            .arg("--tmpdir")
            .arg(at("tmp"))
            .args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--runtime", "runc"])
            .args(["system", "service", "-t", "0"])
            .arg(format!("unix://{}", at("p.sock").display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let podman = Podman { dir, child };
        wait_for("podman to answer", || podman.try_podman(&["version"]).status.success().then_some(()));
        let tar = podman.dir.path().join("image.tar");
        docker.docker(&["save", "-o", tar.to_str().unwrap(), IMAGE]);
        podman.podman(&["load", "-i", tar.to_str().unwrap()]);
        Some(podman)
    }

    pub fn try_podman(&self, args: &[&str]) -> Output {
        let url = format!("unix://{}", self.dir.path().join("p.sock").display());
        Command::new("podman").args(["--url", &url]).args(args).stdin(Stdio::null()).output().unwrap()
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("p.sock")
    }

    #[track_caller]
    pub fn podman(&self, args: &[&str]) -> String {
        let out = self.try_podman(args);
        assert!(out.status.success(), "podman {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }

    fn see(&self) -> Seen {
        let mut config = nothing();
        config.runtime.podman.enabled = true;
        config.runtime.podman.socket = Some(self.dir.path().join("p.sock"));
        let seen = Seen::start(Root::default(), config);
        seen.wait_for_capability(RuntimeKind::Podman, "yes");
        seen
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.try_podman(&["rm", "-f", "-a", "-t", "0"]);
        let _ = self.child.kill();
        let _ = self.child.wait();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        for mount in mounts.lines().filter_map(|l| l.split(' ').nth(1)) {
            if std::path::Path::new(mount).starts_with(self.dir.path()) {
                let _ = Command::new("umount").arg("-l").arg(mount).status();
            }
        }
    }
}

#[test]
fn a_life_in_podman_is_followed() {
    let Some(podman) = Podman::start() else { return };
    let mut seen = podman.see();
    let create = [
        &["create", "--network", "none", "--label", "a=b"][..],
        &LIMITS,
        &["--health-cmd", "true", "--health-interval", "disable"],
        &[IMAGE, "sleep", "600"],
    ]
    .concat();
    let id = podman.podman(&create);
    podman.podman(&["start", &id]);
    let c = wait_for("the container", || seen.live().into_iter().find(|c| c.native_id == id));
    assert!(c.identity.image.ends_with(&format!("/{IMAGE}")), "{}", c.identity.image);
    assert_eq!(c.user_labels["a"], "b");
    assert_eq!(c.command, ["sleep", "600"]);
    assert!(c.identity.id.contains(&format!("libpod-{id}")), "{}", c.identity.id);
    assert!(c.created.unwrap() < c.started.unwrap());
    assert!(std::path::Path::new(&format!("/proc/{}", c.pid)).exists());
    // Podman's event of a check carries what the check before it found.
    wait_for("its health", || {
        podman.podman(&["healthcheck", "run", &id]);
        seen.of(&id).contains(&EventKind::Health { healthy: true }).then_some(())
    });
    podman.podman(&["rename", &id, "kina-test-renamed"]);
    wait_for("the new name", || seen.by_name("kina-test-renamed"));
    podman.podman(&["kill", &id]);
    seen.wait_for_event(&id, "its end", |e| *e == EventKind::Exited { code: Some(137) });
    assert!(seen.live().is_empty());
    podman.podman(&["rm", "-f", &id]);
    seen.wait_for_event(&id, "its removal", |e| *e == EventKind::Removed);
    let events = seen.of(&id);
    let count = |is: fn(&EventKind) -> bool| events.iter().filter(|e| is(e)).count();
    assert_eq!(count(|e| matches!(e, EventKind::Started { .. })), 1, "{events:?}");
    assert_eq!(count(|e| matches!(e, EventKind::StartFailed { .. })), 0, "{events:?}");
}

#[test]
fn a_start_that_fails_in_podman_is_told_with_what_the_oci_runtime_said() {
    let Some(podman) = Podman::start() else { return };
    let mut seen = podman.see();
    let id = podman.podman(&[&["create", "--network", "none"][..], &LIMITS, &[IMAGE, "/no/such/program"]].concat());
    assert!(!podman.try_podman(&["start", &id]).status.success());
    seen.wait_for_event(&id, "the failure", |e| {
        let EventKind::StartFailed { message } = e else { return false };
        assert!(message.contains("/no/such/program"), "{message}");
        assert_eq!(FailureReason::from_message(message), FailureReason::OciError, "{message}");
        true
    });
    podman.podman(&["rm", &id]);
    seen.wait_for_event(&id, "its removal", |e| *e == EventKind::Removed);
    let events = seen.of(&id);
    assert!(!events.iter().any(|e| matches!(e, EventKind::Started { .. } | EventKind::Exited { .. })), "{events:?}");
}
