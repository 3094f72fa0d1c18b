//! The hooks of `examples/oci-hooks`, called by a real OCI runtime.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::{EXITS, FAILURES, STARTS, startups};
use crate::common::skip;
use crate::live::{Exporter, is_root, wait_for, which};

/// A container of runc's, removed with the guard.
struct Bundle {
    dir: tempfile::TempDir,
    id: String,
}

impl Bundle {
    /// With busybox alone in it, and these hooks; None, with a word, where runc can't be called.
    fn new(id: String, hooks: &Value, mounts: &[Value]) -> Option<Bundle> {
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).is_file());
        let why = match busybox {
            _ if which("runc").is_none() => "runc is not installed",
            _ if !is_root() => "needs root to run containers",
            None => "busybox-static is not installed",
            Some(busybox) => {
                let dir = tempfile::tempdir().unwrap();
                let root = dir.path().join("rootfs");
                std::fs::create_dir_all(root.join("bin")).unwrap();
                std::fs::create_dir_all(root.join("proc")).unwrap();
                std::fs::copy(busybox, root.join("bin/busybox")).unwrap();
                let bundle = Bundle { dir, id };
                bundle.configure(hooks, mounts);
                return Some(bundle);
            }
        };
        skip(why);
        None
    }

    fn configure(&self, hooks: &Value, mounts: &[Value]) {
        let mut all = vec![json!({"destination": "/proc", "type": "proc", "source": "proc"})];
        all.extend_from_slice(mounts);
        let namespaces = ["pid", "network", "ipc", "uts", "mount"].map(|kind| json!({"type": kind}));
        let config = json!({
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs"},
            "process": {"cwd": "/", "args": ["/bin/busybox", "sleep", "600"], "env": [], "user": {"uid": 0, "gid": 0}},
            "mounts": all,
            "linux": {"namespaces": namespaces, "cgroupsPath": format!("/{}", self.id)},
            "hooks": hooks,
        });
        std::fs::write(self.dir.path().join("config.json"), config.to_string()).unwrap();
    }

    fn runc(&self, args: &[&str]) -> bool {
        // What it starts keeps its output open, so none is read.
        let log = std::fs::File::create(self.dir.path().join("log")).unwrap();
        let (command, options) = args.split_first().unwrap();
        let mut runc = Command::new("runc");
        runc.arg("--root").arg(self.dir.path().join("runc")).arg(command);
        if matches!(*command, "run" | "create") {
            runc.arg("--bundle").arg(self.dir.path());
        }
        runc.args(options).arg(&self.id).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        runc.status().unwrap().success()
    }

    fn must(&self, args: &[&str]) {
        let told = || std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        assert!(self.runc(args), "runc {args:?}: {}", told());
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        self.runc(&["delete", "-f"]);
    }
}

/// The hooks of an example, with our own binary, reporting to `to`.
fn example(file: &str, to: &str, binary: &Path) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/oci-hooks").join(file);
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for hook in config["hooks"].as_object_mut().unwrap().values_mut().flat_map(|h| h.as_array_mut().unwrap()) {
        hook["path"] = json!(binary);
        let args = hook["args"].as_array_mut().unwrap();
        args.extend([json!("--to"), json!(to)]);
        // A debug build on a busy machine; the example's are for a release.
        *args.iter_mut().find(|a| **a == "200ms").unwrap() = json!("5s");
        hook["timeout"] = json!(10);
    }
    config["hooks"].clone()
}

fn binary() -> PathBuf {
    env!("CARGO_BIN_EXE_kina-exporter").into()
}

/// An id that no other container has, as engines make them; a short one as people give them.
fn id(n: u32) -> String {
    format!("{:0>64}", format!("{:x}{n}", std::process::id()))
}

/// An exporter that sees these containers as bare cgroups.
fn sees(id: &str) -> Exporter {
    Exporter::start(&[
        "--no-runtime.docker",
        "--no-runtime.podman",
        "--no-runtime.containerd",
        &format!("--containers.name-include={id}"),
        &format!("--runtime.cgroup.include=/{id}"),
    ])
}

/// What is told of the one start, once nothing more can come.
fn only(exporter: &Exporter, id: &str) -> Value {
    let mine = |s: &Value| s["id"].as_str().unwrap().ends_with(id);
    let told = || startups(exporter).into_iter().filter(mine).collect::<Vec<_>>();
    wait_for("the start to be told", || (!told().is_empty()).then_some(()));
    // Longer than evidence waits for other evidence.
    std::thread::sleep(Duration::from_millis(3500));
    let told = told();
    assert_eq!(told.len(), 1, "{told:#?}");
    let scrape = exporter.scrape();
    assert_eq!((scrape.value(STARTS, &[]), scrape.value(FAILURES, &[])), (Some(1.0), None));
    told[0].clone()
}

#[test]
fn runcs_hooks_and_the_cgroup_are_one_start() {
    for (n, id) in [id(1), format!("kina-{}", std::process::id())].into_iter().enumerate() {
        let exporter = sees(&id);
        let mut hooks = example("config-snippet.json", &format!("http://{}", exporter.address), &binary());
        if n == 1 {
            // Old runcs call it as they create: see the example's README.
            hooks.as_object_mut().unwrap().remove("poststart");
        }
        let Some(bundle) = Bundle::new(id.clone(), &hooks, &[]) else { return };
        if n == 0 {
            bundle.must(&["run", "--detach"]);
        } else {
            // Started long after it was created, as Kubernetes does with what is to be set up in between.
            bundle.must(&["create"]);
            std::thread::sleep(Duration::from_millis(1500));
            bundle.must(&["start"]);
        }
        let start = only(&exporter, &id);
        assert_eq!(start["source"], "events+report", "{start}");
        let phases = start["phases"].as_object().unwrap();
        assert!(phases.contains_key("init") && phases.contains_key("process"), "{start}");
        let total = start["total_seconds"].as_f64().unwrap();
        assert!((0.005..8.0).contains(&total) && (n == 0 || total > 1.4), "{start}");
        // Its end is the same container's.
        bundle.must(&["delete", "-f"]);
        wait_for("the end", || (exporter.scrape().value(EXITS, &[])? == 1.0).then_some(()));
        assert_eq!(exporter.scrape().value(STARTS, &[]), Some(1.0));
    }
}

#[test]
fn a_hook_inside_the_container_reports_through_a_mounted_socket() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("kina.sock");
    let to = format!("--web.listen-address=unix:{}", socket.display());
    let exporter = Exporter::start(&[
        "--no-runtime.docker",
        "--no-runtime.podman",
        "--no-runtime.containerd",
        "--no-runtime.cgroup",
        &to,
    ]);
    let file = "config-snippet-start-container.json";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/oci-hooks").join(file);
    let snippet: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut mounts = snippet["mounts"].as_array().unwrap().clone();
    mounts[0]["source"] = json!(binary());
    mounts[1]["source"] = json!(socket);
    // A debug build is linked to the C library, a release is not.
    let inside = |at: &str| json!({"destination": at, "type": "bind", "source": at, "options": ["rbind", "ro"]});
    mounts.extend(["/lib", "/lib64"].into_iter().filter(|p| Path::new(p).exists()).map(inside));
    let hooks = &snippet["hooks"];
    assert_eq!(hooks["startContainer"][0]["path"], mounts[0]["destination"]);
    let Some(bundle) = Bundle::new(id(2), hooks, &mounts) else { return };
    bundle.must(&["run", "--detach"]);
    let start = only(&exporter, &bundle.id);
    assert_eq!(start["source"], "report", "{start}");
}
