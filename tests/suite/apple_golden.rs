//! Golden scrapes of Apple's `container`: the real binary over each version's samples, compared line by line.
//!
//! `KINA_GENERATE=write cargo test --test suite apple_golden` writes them anew.

use std::collections::BTreeSet;
use std::path::Path;

use kina_exporter::catalog::{RTT_BUCKETS, by_name, by_series};
use kina_exporter::runtime::apple::Guest;
use kina_exporter::runtime::apple::guest::{Agent, Observed};
use kina_exporter::sample::Histogram;

use crate::apple_agent::{at_home, server};
use crate::apple_live::{StandIn, VERSIONS, WITH_STATS, measured, web};
use crate::common::fixture;
use crate::live::wait_for;

/// The containers' series, figures of this moment masked.
fn scrape(version: &str) -> String {
    const OF_THE_MOMENT: [&str; 3] =
        ["container_last_seen", "kina_container_cpu_capacity_seconds_total", "kina_container_cpu_idle_seconds_total"];
    let stand_in = StandIn::version(version);
    let exporter = stand_in.exporter();
    if WITH_STATS.contains(&version) {
        measured(&exporter);
    } else {
        wait_for("the list", || web(&exporter.scrape(), "container_last_seen"));
    }
    let mut lines: Vec<String> = exporter
        .get("/metrics")
        .lines()
        .filter(|l| l.contains("runtime=\"apple\"") && l.contains("id=\""))
        .map(|line| match line.rsplit_once(' ') {
            Some((series, _)) if OF_THE_MOMENT.iter().any(|p| line.starts_with(p)) => format!("{series} *"),
            _ => line.to_owned(),
        })
        .collect();
    lines.sort();
    lines.join("\n") + "\n"
}

#[test]
fn each_version() {
    for version in VERSIONS {
        let text = scrape(version);
        let path = fixture("golden").join(format!("apple-{version}.prom"));
        if std::env::var("KINA_GENERATE").is_ok_and(|v| v == "write") {
            std::fs::write(&path, text).unwrap();
            continue;
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let only_in = |a: &str, b: &str, sign: &str| -> String {
            a.lines().filter(|l| !b.lines().any(|m| m == *l)).map(|l| format!("{sign}{l}\n")).collect()
        };
        let difference = only_in(&golden, &text, "-") + &only_in(&text, &golden, "+");
        assert!(text == golden, "{version} differs from its golden scrape:\n{difference}");
    }
}

/// Families of the containers in a scrape; histograms by their own names.
fn families(scrape: &str, of: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let series = scrape.lines().filter(|l| !l.starts_with('#') && l.contains("{") && of(l));
    let name = |l: &str| l.split('{').next().unwrap_or_default().to_owned();
    series.map(|l| by_series(&name(l)).map_or_else(|| name(l), |family| family.name.to_owned())).collect()
}

/// All that a guest can tell, each file in its place, and what the exporter in it adds.
pub fn everything() -> Vec<u8> {
    let content = |path: &str| match path.rsplit('/').next().unwrap_or_default() {
        "memory.stat" => {
            "anon 1\nfile 9\nkernel 2\nshmem 1\nfile_mapped 2\nfile_dirty 0\nfile_writeback 0\ninactive_anon 1\n\
             active_anon 1\ninactive_file 1\nactive_file 1\nworkingset_refault_file 1\nworkingset_refault_anon 1\n\
             pgscan 1\npgsteal 1\npgfault 1\npgmajfault 1\n"
        }
        "memory.events" => "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\n",
        "cpu.stat" => {
            "usage_usec 9\nuser_usec 5\nsystem_usec 4\nnr_periods 1\nnr_throttled 0\nthrottled_usec 0\nnr_bursts 0\nburst_usec 0\n"
        }
        "io.stat" => "254:16 rbytes=1 wbytes=2 rios=3 wios=4\n",
        "cpu.pressure" | "memory.pressure" | "io.pressure" => {
            "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n"
        }
        "meminfo" => "MemTotal: 500000 kB\nMemFree: 400000 kB\n",
        "snmp" => "Tcp: OutSegs RetransSegs\nTcp: 7 1\n",
        "cpu.max" => "200000 100000\n",
        "cpuset.cpus.effective" => "0-3\n",
        "pids.max" | "memory.swap.max" | "memory.low" => "max\n",
        "cgroup.procs" | "cpu.weight" => "100\n",
        "diskstats" => "254 16 vdb 1 0 1 1 1 0 1 1 0 1 1\n",
        "tcp" => "titles\n 0: 0240A8C0:0050 0340A8C0:C350 01 0\n",
        "dev" => "Inter\n face\n  eth0: 1 10 0 2 0 0 0 0 3 20 1 0 0 0 0 0\n",
        "memory.peak" | "memory.swap.current" | "memory.current" | "pids.current" => "1\n",
        _ => "",
    };
    let files: Vec<_> = Guest::paths().into_iter().step_by(2).map(content).collect();
    let observed = Observed::of(&Histogram::new(RTT_BUCKETS));
    let agent = Agent {
        rtt: Some(observed),
        rtt_median: Some(0.001),
        context_switches: Some(5),
        file_descriptors: Some(6),
        logical_read_bytes: Some(7),
    };
    let agent = serde_json::to_string(&agent).unwrap();
    [files.join("Linux version 6\n"), agent].join("Linux version 6\n").into_bytes()
}

/// What containers have on Linux and Apple's have not, whoever is asked: each is in the documentation, with its reason.
#[test]
fn the_documentation_names_every_family_that_is_missing() {
    let port = server(everything()).port;
    let stand_in = at_home();
    let exporter = stand_in.exporter_with(&[&format!("--runtime.apple.agent-port={port}")]);
    measured(&exporter);
    wait_for("the guest", || web(&exporter.scrape(), "container_memory_rss"));
    let here = families(&exporter.get("/metrics"), |l| l.contains("id=\"web\""));
    let mut there = BTreeSet::new();
    for golden in ["v1", "v2", "hybrid", "kubernetes-systemd"] {
        let text = std::fs::read_to_string(fixture("golden").join(format!("{golden}.prom"))).unwrap();
        there.extend(families(&text, |l| l.contains("id=\"") && !l.contains("id=\"/\"")));
    }
    let told = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/apple.md")).unwrap();
    let section = told.split("\n## What is missing").nth(1).unwrap().split("\n## ").next().unwrap();
    let missing: Vec<_> = there.difference(&here).collect();
    let untold: Vec<_> = missing.iter().filter(|f| !section.contains(&format!("`{f}`"))).collect();
    assert!(untold.is_empty(), "docs/apple.md does not say why these are missing: {untold:?}");
    let named = section.split('`').filter_map(by_name).map(|id| id.name().to_owned());
    let wrong: Vec<_> = named.filter(|f| here.contains(f)).collect();
    assert!(wrong.is_empty(), "docs/apple.md calls these missing: {wrong:?}");
}
