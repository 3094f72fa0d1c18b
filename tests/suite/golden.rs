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
