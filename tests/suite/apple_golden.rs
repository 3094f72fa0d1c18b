//! Golden scrapes of Apple's `container`: the real binary over each version's samples, compared line by line.
//!
//! `KINA_GENERATE=write cargo test --test suite apple_golden` writes them anew.

use crate::apple_live::{StandIn, measured};
use crate::common::fixture;

/// The containers' series, figures of this moment masked.
fn scrape(version: &str) -> String {
    const OF_THE_MOMENT: [&str; 3] =
        ["container_last_seen", "kina_container_cpu_capacity_seconds_total", "kina_container_cpu_idle_seconds_total"];
    let stand_in = StandIn::version(version);
    let exporter = stand_in.exporter();
    measured(&exporter);
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
    for version in ["0.7.1", "0.10.0", "0.12.3", "1.0.0", "1.2.2"] {
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
