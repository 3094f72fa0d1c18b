//! Generated files, rules, alerts and dashboards.

use std::path::Path;

use crate::common::{self, skip};
use kina_exporter::generate::{self, Kind, Settings};

/// Run with `KINA_GENERATE=write` to bring the committed files up to date.
#[test]
fn committed_files_are_what_the_generator_writes() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let write = std::env::var("KINA_GENERATE").is_ok_and(|v| v == "write");
    for artifact in Kind::ALL.into_iter().flat_map(|kind| generate::artifacts(kind, &Settings::default())) {
        let path = repository.join(&artifact.path);
        if write {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &artifact.content).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == artifact.content,
            "{} is stale: run KINA_GENERATE=write cargo test --test suite targets",
            artifact.path.display()
        );
    }
}

/// Runs a tool of Prometheus; None where it is not installed.
fn tool(name: &str, arguments: &[&str]) -> Option<(bool, String)> {
    let output = std::process::Command::new(name)
        .args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    Some((output.status.success(), text.into_owned()))
}

fn files(folder: &str, suffix: &str) -> Vec<String> {
    let mut found: Vec<String> = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder))
        .unwrap()
        .map(|e| format!("{folder}/{}", e.unwrap().file_name().into_string().unwrap()))
        .filter(|f| f.ends_with(suffix))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no {suffix} in {folder}");
    found
}

fn must_pass(name: &str, arguments: &[&str]) {
    match tool(name, arguments) {
        Some((ok, text)) => assert!(ok, "{name} {}:\n{text}", arguments.join(" ")),
        None => {
            skip(&format!("{name} is not installed"));
        }
    }
}

#[test]
fn prometheus_accepts_the_rules() {
    let rules = files("alerts", ".rules.yml");
    let mut arguments = vec!["check", "rules"];
    arguments.extend(rules.iter().map(String::as_str));
    must_pass("promtool", &arguments);
}

#[test]
fn alertmanager_accepts_its_configuration() {
    must_pass("amtool", &["check-config", "alerts/alertmanager.yml"]);
}

#[test]
fn rules_and_alerts_do_what_their_tests_say() {
    let tests = files("tests/rules", ".test.yml");
    let mut arguments = vec!["test", "rules"];
    arguments.extend(tests.iter().map(String::as_str));
    must_pass("promtool", &arguments);
}

fn rule_tests() -> String {
    files("tests/rules", ".test.yml")
        .iter()
        .map(|f| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(f)).unwrap())
        .collect()
}

#[test]
fn every_recording_rule_has_a_value_test() {
    let tests = rule_tests();
    let mut untested = Vec::new();
    for rule in generate::rules::groups(&Settings::default()).iter().flat_map(|g| &g.rules) {
        let name = regex::escape(rule.record);
        let valued = format!(r"- expr: '(round\()?{name}(, [0-9.]+\))?'\n +eval_time: \S+\n +exp_samples:\n");
        if !regex::Regex::new(&valued).unwrap().is_match(&tests) {
            untested.push(rule.record);
        }
    }
    assert_eq!(untested, [""; 0]);
}

#[test]
fn every_alert_is_tested_firing_and_silent() {
    let tests = rule_tests();
    for alert in generate::alerts::alerts(&Settings::default()) {
        let at = format!(r"- alertname: {}\n +eval_time: \S+\n +exp_alerts:", alert.name);
        for (how, end) in [("firing", r"\n +- exp_labels"), ("silent", r" \[\]\n")] {
            let found = regex::Regex::new(&format!("{at}{end}")).unwrap().is_match(&tests);
            assert!(found, "{} has no test that sees it {how}", alert.name);
        }
    }
}

#[test]
fn prometheus_parses_every_query_of_every_dashboard() {
    let queries = generate::dashboards::queries(&Settings::default(), "5m");
    assert!(queries.len() > 100);
    let mut rules = String::from("groups:\n  - name: dashboards\n    rules:\n");
    for (i, q) in queries.iter().enumerate() {
        let expr = q.expr.replace('\'', "''").replace('\n', " ");
        rules.push_str(&format!("      - {{record: 'query:{i}', expr: '{expr}'}}\n"));
    }
    let dir = common::tree(&[("dashboards.rules.yml", &rules)]);
    must_pass("promtool", &["check", "rules", dir.path().join("dashboards.rules.yml").to_str().unwrap()]);
}

#[test]
fn generate_writes_and_checks() {
    let dir = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_kina-exporter"))
            .arg("generate")
            .args(arguments)
            .arg("--out")
            .arg(dir.path())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(run(&["--check"]).0, Some(1), "nothing is there yet");
    assert_eq!(run(&[]), (Some(0), String::new()));
    assert_eq!(run(&["--check"]), (Some(0), String::new()));
    let alerts = dir.path().join("alerts/kina-alerts.rules.yml");
    std::fs::write(&alerts, "groups: []\n").unwrap();
    let (status, said) = run(&["alerts", "--check"]);
    assert_eq!(status, Some(1));
    assert!(said.contains("kina-alerts.rules.yml"), "{said}");
    assert_eq!(run(&["rules", "dashboards", "--check"]).0, Some(0));
    assert_eq!(run(&["alerts", "--targets.degraded_cpu_utilization", "0.95"]).0, Some(0));
    assert!(std::fs::read_to_string(&alerts).unwrap().contains("kina:container_cpu_efficiency:ratio_rate5m > 0.95"));
}

#[test]
fn the_api_answers_recommendations_and_what_rules_lack() {
    let exporter = crate::live::Exporter::start(&["--log.level=warn"]);
    let answer = exporter.try_get("/api/v1/recommendations", &[]).expect("an answer");
    assert_eq!(answer.status, 200);
    let report: kina_exporter::advise::Report = serde_json::from_slice(&answer.body).expect("a report");
    for item in &report.recommendations {
        assert!(!item.finding.is_empty() && !item.advice.is_empty(), "{item:?}");
    }
    assert!(report.missing.iter().all(|lack| !lack.missing.is_empty() && lack.containers > 0));
}
