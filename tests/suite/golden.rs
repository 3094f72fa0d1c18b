//! Golden scrapes: the real binary over the recorded trees, compared line by line.
//!
//! `KINA_GENERATE=write cargo test --test suite golden` writes them anew; the difference is then read in review.

use std::path::Path;
use std::process::Command;

use kina_exporter::catalog;

use crate::common::{fixture, recorded};

/// What a scrape of the tree says, with figures of this moment or of the exporter itself masked.
fn scrape(tree: &Path) -> String {
    let path = |name: &str, below: &str| format!("--path.{name}={}", tree.join(below).display());
    let out = Command::new(env!("CARGO_BIN_EXE_kina-exporter"))
        .arg("snapshot")
        // Without runtimes to wait for, the tree alone tells who the containers are.
        .args(["--no-runtime.docker", "--no-runtime.podman", "--no-runtime.containerd"])
        .args([path("procfs", "proc"), path("sysfs", "sys"), path("cgroup", "sys/fs/cgroup"), path("rootfs", "")])
        .env_clear()
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    text.lines().filter_map(mask).fold(String::new(), |all, line| all + &line + "\n")
}

/// None for lines of the exporter itself: they differ from machine to machine.
fn mask(line: &str) -> Option<String> {
    const OF_THE_EXPORTER: [&str; 3] = ["process_", "kina_exporter_", "kina_scrape_collector_duration_"];
    const OF_THE_MOMENT: [&str; 2] = ["container_last_seen", "container_start_time_seconds"];
    let name = line.strip_prefix("# TYPE ").unwrap_or(line);
    // Help stands in the reference, which is compared too.
    if line.starts_with("# HELP ") || OF_THE_EXPORTER.iter().any(|p| name.starts_with(p)) {
        return None;
    }
    if OF_THE_MOMENT.iter().any(|p| line.starts_with(p)) {
        return line.rsplit_once(' ').map(|(series, _)| format!("{series} *"));
    }
    Some(line.to_owned())
}

#[track_caller]
fn check(tree: &str) {
    let dir = recorded(tree);
    let text = scrape(dir.path());
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        assert!(catalog::by_series(name).is_some(), "{name} is not in the catalog");
    }
    let path = fixture("golden").join(tree).with_extension("prom");
    if std::env::var("KINA_GENERATE").is_ok_and(|v| v == "write") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        return std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let only_in = |a: &str, b: &str, sign: &str| -> String {
        a.lines().filter(|l| !b.lines().any(|m| m == *l)).map(|l| format!("{sign}{l}\n")).collect()
    };
    let difference = only_in(&golden, &text, "-") + &only_in(&text, &golden, "+");
    assert!(
        text == golden,
        "{tree} differs from its golden scrape (KINA_GENERATE=write writes it anew):\n{difference}"
    );
}

#[test]
fn cgroup_v1() {
    check("v1");
}

#[test]
fn cgroup_v2() {
    check("v2");
}

#[test]
fn cgroup_v2_without_pressure_files() {
    check("v2-no-pressure");
}

#[test]
fn cgroup_v1_and_v2_beside_each_other() {
    check("hybrid");
}

#[test]
fn performance_and_efficiency_cores() {
    check("hybrid-cores");
}

#[test]
fn kubernetes_with_the_systemd_driver() {
    check("kubernetes-systemd");
}

#[test]
fn kubernetes_with_the_cgroupfs_driver() {
    check("kubernetes-cgroupfs");
}

const ID: &str = "3f1d4e0c52a94b7f8f6e1f0a9c7d5b3e2a1908f7e6d5c4b3a29180706f5e4d3c";

/// The id of a container around another.
const OUTER: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// The series of one container, by the path of its cgroup.
fn series_of<'t>(text: &'t str, path: &str) -> Vec<&'t str> {
    let id = format!("id=\"{path}\"");
    text.lines().filter(|l| l.contains(&id)).collect()
}

/// A recorded container in another place: its cgroups are moved there, and its process with them.
fn layout(tree: &str, from: &str, to: &str, process: &str) {
    let plain = recorded(tree);
    let expected = scrape(plain.path());
    let dir = recorded(tree);
    for hierarchy in ["", "cpu", "cpuacct", "cpuset", "memory", "blkio", "pids", "unified"] {
        let mount = dir.path().join("sys/fs/cgroup").join(hierarchy);
        let (old, new) = (mount.join(&from[1..]), mount.join(&to[1..]));
        if !old.is_dir() {
            continue;
        }
        std::fs::create_dir_all(new.parent().unwrap()).unwrap();
        std::fs::rename(&old, &new).unwrap();
        // What is around it in its place: folders, and another container with a process of its own.
        for above in new.ancestors().skip(1).take_while(|a| *a != mount) {
            let procs = if above.to_string_lossy().contains(OUTER) { "4242\n" } else { "" };
            std::fs::write(above.join("cgroup.procs"), procs).unwrap();
        }
        let inner = mount.join(&process[1..]);
        if inner != new {
            std::fs::create_dir(&inner).unwrap();
            std::fs::rename(new.join("cgroup.procs"), inner.join("cgroup.procs")).unwrap();
            std::fs::write(new.join("cgroup.procs"), "").unwrap();
        }
    }
    for entry in std::fs::read_dir(dir.path().join("proc")).unwrap() {
        let file = entry.unwrap().path().join("cgroup");
        if let Ok(text) = std::fs::read_to_string(&file) {
            std::fs::write(&file, text.replace(from, process)).unwrap();
        }
    }
    let found = scrape(dir.path());
    let found: Vec<String> = series_of(&found, to).iter().map(|l| l.replace(to, from)).collect();
    let expected = series_of(&expected, from);
    assert!(expected.len() > 50, "{tree} has a container at {from}");
    let missing: Vec<_> = expected.iter().filter(|l| !found.iter().any(|f| f == *l)).collect();
    let more: Vec<_> = found.iter().filter(|f| !expected.contains(&f.as_str())).collect();
    assert!(missing.is_empty() && more.is_empty(), "{tree}, {to}: without {missing:#?}, with {more:#?}");
}

#[test]
fn rootless_podman() {
    let to = format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope");
    layout("v2", &format!("/system.slice/docker-{ID}.scope"), &to, &format!("{to}/container"));
}

#[test]
fn docker_in_docker() {
    let to = format!("/system.slice/docker-{OUTER}.scope/docker/{ID}");
    layout("v2", &format!("/system.slice/docker-{ID}.scope"), &to, &to);
    for tree in ["v1", "hybrid"] {
        let to = format!("/docker/{OUTER}/docker/{ID}");
        layout(tree, &format!("/docker/{ID}"), &to, &to);
    }
}
