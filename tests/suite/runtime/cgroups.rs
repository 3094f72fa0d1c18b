//! The cgroup tree alone.

use std::io::Write;
use std::path::{Path, PathBuf};

use kina_exporter::config::Pattern;
use kina_exporter::root::{Clock, Root};
use kina_exporter::runtime::{EventKind, RuntimeKind};

use super::fake::id;
use super::seen::{Seen, nothing};
use crate::live::{Docker, wait_for};

struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    fn new() -> Tree {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("sys/fs/cgroup/system.slice")).unwrap();
        std::fs::create_dir_all(dir.path().join("proc")).unwrap();
        std::fs::write(dir.path().join("sys/fs/cgroup/cgroup.controllers"), "cpu memory\n").unwrap();
        Tree { dir }
    }

    fn path(&self, cgroup: &str) -> PathBuf {
        self.dir.path().join("sys/fs/cgroup").join(cgroup.trim_start_matches('/'))
    }

    fn make(&self, cgroup: &str, pid: u32) {
        let path = self.path(cgroup);
        std::fs::create_dir_all(&path).unwrap();
        self.put(&path, pid);
    }

    /// As the kernel does it: nobody sees half a file, the file stays the same one, and a list of no process is empty.
    fn put(&self, path: &Path, pid: u32) {
        let events = format!("populated {}\nfrozen 0\n", u8::from(pid != 0));
        let procs = if pid == 0 { String::new() } else { format!("{pid}\n") };
        for (name, content) in [("cgroup.procs", procs), ("cgroup.events", events)] {
            if let Ok(mut file) = std::fs::OpenOptions::new().write(true).open(path.join(name)) {
                file.write_all(content.as_bytes()).unwrap();
                file.set_len(content.len() as u64).unwrap();
                continue;
            }
            let draft = self.dir.path().join(name);
            std::fs::write(&draft, content).unwrap();
            std::fs::rename(&draft, path.join(name)).unwrap();
        }
    }

    fn see(&self, include: Option<&str>) -> Seen {
        let mut config = nothing();
        config.runtime.cgroup.enabled = true;
        config.runtime.cgroup.include = include.map(|p| Pattern::new(p).unwrap());
        Seen::start(Root::at(self.dir.path(), Clock::System), config)
    }
}

#[test]
fn what_is_there_is_shown_without_events() {
    let tree = Tree::new();
    let (web, pod) = (id(1), id(2));
    tree.make(&format!("/system.slice/docker-{web}.scope"), 7);
    tree.make(
        &format!("/kubepods.slice/kubepods-podaaaaaaaa_bbbb_cccc_dddd_eeeeeeeeeeee.slice/cri-containerd-{pod}.scope"),
        8,
    );
    tree.make(&format!("/system.slice/docker-{}.scope", id(3)), 0);
    tree.make("/system.slice/sshd.service", 9);
    std::fs::create_dir_all(tree.dir.path().join("proc/7")).unwrap();
    std::fs::write(tree.dir.path().join("proc/7/cmdline"), "sleep\u{0}600\u{0}").unwrap();
    std::fs::write(tree.dir.path().join("proc/7/cgroup"), format!("0::/system.slice/docker-{web}.scope\n")).unwrap();
    let seen = tree.see(None);
    let c = wait_for("the container", || seen.by_name(&web));
    assert_eq!(c.runtime, RuntimeKind::Cgroup);
    assert_eq!(c.identity.id, format!("/system.slice/docker-{web}.scope"));
    assert_eq!((c.pid, c.command.as_slice()), (7, &["sleep".to_owned(), "600".to_owned()][..]));
    let c = wait_for("the pod's", || seen.by_name(&pod));
    assert_eq!(c.user_labels["io.kubernetes.pod.uid"], "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee");
    assert_eq!(seen.live().len(), 2, "an empty cgroup and a service are no containers");
    let machine = seen.ctx.directory.list().1.iter().find(|c| c.identity.id == "/").cloned().unwrap();
    assert_eq!(machine.cgroup.v2.as_deref(), Some("/"));
    assert_eq!(machine.labels.get("runtime"), None);
}

#[test]
fn a_life_is_followed() {
    let tree = Tree::new();
    let mut seen = tree.see(None);
    let cgroup = format!("/new.slice/libpod-{}.scope", id(1));
    wait_for("the tree to be walked", || seen.ctx.capabilities.get("cgroup"));
    std::fs::create_dir_all(tree.path(&cgroup)).unwrap();
    tree.put(&tree.path(&cgroup), 0);
    tree.put(&tree.path(&cgroup), 7);
    wait_for("the container", || seen.by_name(&id(1)));
    tree.put(&tree.path(&cgroup), 0);
    seen.wait_for_event(&cgroup, "its end", |e| matches!(e, EventKind::Exited { .. }));
    assert!(seen.live().is_empty());
    tree.put(&tree.path(&cgroup), 8);
    assert_eq!(wait_for("its second life", || seen.by_name(&id(1))).pid, 8);
    std::fs::remove_dir_all(tree.path(&cgroup)).unwrap();
    seen.wait_for_event(&cgroup, "its removal", |e| *e == EventKind::Removed);
    let events = seen.of(&cgroup);
    assert!(
        matches!(
            events.as_slice(),
            [
                EventKind::Created,
                EventKind::Started { pid: 7, .. },
                EventKind::Exited { code: None },
                EventKind::Started { pid: 8, .. },
                EventKind::Exited { code: None },
                EventKind::Removed
            ]
        ),
        "{events:?}"
    );
}

#[test]
fn further_cgroups_are_shown_by_pattern() {
    let tree = Tree::new();
    tree.make("/system.slice/postgres.service", 7);
    tree.make("/system.slice/sshd.service", 8);
    let seen = tree.see(Some("/system\\.slice/postgres.*"));
    wait_for("the service", || seen.by_name("postgres.service"));
    assert_eq!(seen.live().len(), 1);
}

#[test]
fn two_hundred_cgroups_come_and_go() {
    let tree = Tree::new();
    let mut seen = tree.see(None);
    wait_for("the tree to be walked", || seen.ctx.capabilities.get("cgroup"));
    let path = |n| format!("/system.slice/docker-{}.scope", id(n));
    for n in 1..=200 {
        tree.make(&path(n), n);
    }
    wait_for("all", || (seen.live().len() == 200).then_some(()));
    for n in 1..=200 {
        std::fs::remove_dir_all(tree.path(&path(n))).unwrap();
    }
    wait_for("none", || seen.live().is_empty().then_some(()));
    for n in 1..=200 {
        seen.wait_for_event(&path(n), "its removal", |e| *e == EventKind::Removed);
        assert_eq!(seen.of(&path(n)).len(), 4);
    }
}

#[test]
fn real_containers_are_found_without_their_runtime() {
    let Some(docker) = Docker::get() else { return };
    let mut config = nothing();
    config.runtime.cgroup.enabled = true;
    let mut seen = Seen::start(Root::default(), config);
    wait_for("the tree to be walked", || seen.ctx.capabilities.get("cgroup"));
    let container = docker.run(&[], &["sleep", "600"]);
    let c = wait_for("the container", || seen.by_name(&container.id));
    assert_eq!(c.pid, container.pid());
    assert_eq!(c.command, ["sleep", "600"]);
    let age = c.started.unwrap() - super::fake::now();
    assert!(age.abs() < 30_000_000_000, "{age}");
    let cgroup = c.identity.id.clone();
    drop(container);
    seen.wait_for_event(&cgroup, "its removal", |e| *e == EventKind::Removed);
    assert!(seen.by_name(&c.identity.name).is_none());
}

/// What a v1 cgroup looks like to who is in no other hierarchy: without processes, and without events of its own.
fn empty_v1(tree: &tempfile::TempDir, n: u32) -> PathBuf {
    let folder = tree.path().join("sys/fs/cgroup/memory/docker").join(id(n));
    std::fs::create_dir_all(&folder).unwrap();
    for file in ["cgroup.procs", "tasks"] {
        std::fs::write(folder.join(file), "").unwrap();
    }
    folder
}

/// How often a process's threads have gone to sleep since they began.
fn sleeps(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let statuses = tasks.map(|t| std::fs::read_to_string(t.unwrap().path().join("status")).unwrap_or_default());
    let count = |s: String| s.lines().find_map(|l| l.strip_prefix("voluntary_ctxt_switches:")?.trim().parse().ok());
    statuses.map(|s| count(s).unwrap_or(0)).sum()
}

#[test]
fn empty_cgroups_cost_nothing_until_somebody_writes_a_process_into_one() {
    let tree = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(tree.path().join("proc")).unwrap();
    let first = empty_v1(&tree, 1);
    for n in 2..=30 {
        empty_v1(&tree, n);
    }
    let below = first.join("init.scope");
    let at = |path: &str| tree.path().join(path).display().to_string();
    let exporter = crate::live::Exporter::start(&[
        &format!("--path.procfs={}", at("proc")),
        &format!("--path.sysfs={}", at("sys")),
        &format!("--path.cgroup={}", at("sys/fs/cgroup")),
        &format!("--path.rootfs={}", at("")),
    ]);
    let shown = || exporter.scrape().select("container_last_seen", &[("runtime", "cgroup")]).count();
    assert_eq!(shown(), 0);
    // A new one among them: it alone may be looked at.
    empty_v1(&tree, 31);
    std::thread::sleep(std::time::Duration::from_millis(200));
    let before = sleeps(exporter.pid());
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let after = sleeps(exporter.pid());
    // Ten milliseconds apart it would be 150; the runtimes that are not there are tried again now and then.
    assert!(after - before < 30, "woken {} times in 1.5 s", after - before);
    // As a runtime does it, and as an init system in the container does.
    std::fs::write(first.join("cgroup.procs"), "7\n").unwrap();
    wait_for("the first container", || (shown() == 1).then_some(()));
    std::fs::create_dir(&below).unwrap();
    std::fs::write(below.join("cgroup.procs"), "").unwrap();
    let second = tree.path().join("sys/fs/cgroup/memory/docker").join(id(2)).join("init.scope");
    std::fs::create_dir(&second).unwrap();
    for file in ["tasks", "cgroup.procs"] {
        std::fs::write(second.join(file), "8\n").unwrap();
    }
    wait_for("the second container", || (shown() == 2).then_some(()));
}
