//! A real engine of the test's own, killed under load.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use kina_exporter::root::Root;
use kina_exporter::runtime::RuntimeKind;

use super::containerd::Containerd;
use super::seen::{Seen, nothing};
use crate::common::skip;
use crate::live::{Docker, IMAGE, is_root, wait_for, which};

struct Engine {
    dir: tempfile::TempDir,
    child: Child,
    /// Of its own, as everywhere in earnest: it outlives the engine.
    containerd: Child,
}

impl Engine {
    fn spawn(dir: &Path) -> Child {
        // In a network namespace of its own: an engine that is told to have no bridge removes the machine's `docker0`.
        Command::new("unshare")
            .args([
                "--net",
                "dockerd",
                "--storage-driver",
                "vfs",
                "--bridge",
                "none",
                "--iptables=false",
                "--live-restore",
            ])
            .arg("--containerd")
            .arg(dir.join("c.sock"))
            .arg("--data-root")
            .arg(dir.join("data"))
            .arg("--exec-root")
            .arg(dir.join("exec"))
            .arg("--pidfile")
            .arg(dir.join("pid"))
            .arg("-H")
            .arg(format!("unix://{}", dir.join("d.sock").display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn docker(&self, args: &[&str]) -> Output {
        Command::new("docker")
            .env("DOCKER_HOST", format!("unix://{}", self.dir.path().join("d.sock").display()))
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn run(&self, name: &str) {
        let out = self.docker(&["run", "-d", "--network", "none", "--name", name, IMAGE, "sleep", "600"]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let all = self.docker(&["ps", "-aq"]);
        for id in String::from_utf8_lossy(&all.stdout).split_whitespace() {
            self.docker(&["rm", "-f", id]);
        }
        // SAFETY: signals our own child, which has not been waited for.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        let _ = self.child.wait();
        let _ = self.containerd.kill();
        let _ = self.containerd.wait();
    }
}

#[test]
fn an_engine_killed_under_load_is_found_again_without_ghosts() {
    let Some(docker) = Docker::get() else { return };
    if !is_root() || which("dockerd").is_none() || which("containerd").is_none() {
        skip("needs root, dockerd and containerd");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let containerd = Containerd::spawn(dir.path());
    wait_for("containerd", || dir.path().join("c.sock").exists().then_some(()));
    let child = Engine::spawn(dir.path());
    let mut engine = Engine { dir, child, containerd };
    wait_for("the engine", || engine.docker(&["version"]).status.success().then_some(()));
    let tar = engine.dir.path().join("image.tar");
    docker.docker(&["save", "-o", tar.to_str().unwrap(), IMAGE]);
    assert!(engine.docker(&["load", "-i", tar.to_str().unwrap()]).status.success());
    let mut config = nothing();
    config.runtime.docker.enabled = true;
    config.runtime.docker.socket = Some(engine.dir.path().join("d.sock"));
    let seen = Seen::start(Root::default(), config);
    seen.wait_for_capability(RuntimeKind::Docker, "yes");
    for n in 0..5 {
        engine.run(&format!("load-{n}"));
    }
    wait_for("all five", || (seen.live().len() == 5).then_some(()));
    let dies = seen.by_name("load-3").unwrap();

    engine.child.kill().unwrap();
    engine.child.wait().unwrap();
    seen.wait_for_capability(RuntimeKind::Docker, "not answering");
    // SAFETY: the process of a container that this test started.
    unsafe { libc::kill(dies.pid as i32, libc::SIGKILL) };
    let _ = std::fs::remove_file(engine.dir.path().join("pid"));
    engine.child = Engine::spawn(engine.dir.path());
    wait_for("the engine again", || engine.docker(&["version"]).status.success().then_some(()));
    seen.wait_for_capability(RuntimeKind::Docker, "yes");
    engine.run("load-5");
    wait_for("the new one, and no ghost", || {
        let mut names: Vec<_> = seen.live().iter().map(|c| c.identity.name.clone()).collect();
        names.sort();
        (names == ["load-0", "load-1", "load-2", "load-4", "load-5"]).then_some(())
    });
    let out = engine.docker(&["rm", "-f", "load-0", "load-1", "load-2", "load-4", "load-5"]);
    assert!(out.status.success());
    wait_for("none", || seen.live().is_empty().then_some(()));
}
