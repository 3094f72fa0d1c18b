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

/// Runs a tool; None where it is not installed.
fn tool(name: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Option<(bool, String)> {
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

/// The promtool that is installed must pass, and that of version 3 where there is one.
fn promtool_must_pass(arguments: &[&str]) {
    must_pass("promtool", arguments);
    if let Some(server) = crate::prometheus::version_3() {
        let promtool = server.with_file_name("promtool");
        let (ok, text) = tool(&promtool, arguments).unwrap_or_else(|| panic!("no {}", promtool.display()));
        assert!(ok, "{} {}:\n{text}", promtool.display(), arguments.join(" "));
    }
}

#[test]
fn prometheus_accepts_the_rules() {
    let rules = files("alerts", ".rules.yml");
    let mut arguments = vec!["check", "rules"];
    arguments.extend(rules.iter().map(String::as_str));
    promtool_must_pass(&arguments);
}

/// The operator's resource holds the same groups, further to the right.
#[test]
fn the_operators_resource_has_all_rules() {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("alerts/prometheus-operator.yml")).unwrap();
    let (_, groups) = text.split_once("\n  groups:\n").expect("groups");
    let rules: String = groups.lines().map(|l| format!("{}\n", l.strip_prefix("  ").unwrap_or(l))).collect();
    let all = |text: &str| text.matches("- record: ").count() + text.matches("- alert: ").count();
    let files = files("alerts", ".rules.yml");
    let of_files =
        files.iter().map(|f| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(f)).unwrap());
    assert_eq!(all(&rules), of_files.map(|text| all(&text)).sum::<usize>());
    let dir = common::tree(&[("operator.rules.yml", &format!("groups:\n{rules}"))]);
    promtool_must_pass(&["check", "rules", dir.path().join("operator.rules.yml").to_str().unwrap()]);
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
    promtool_must_pass(&arguments);
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

/// Of each alert by itself: of every window of a service level, and of every severity.
#[test]
fn every_alert_is_tested_firing_and_silent() {
    let tests = rule_tests();
    let found = |pattern: &str| regex::Regex::new(pattern).unwrap().is_match(&tests);
    for alert in generate::alerts::alerts(&Settings::default()) {
        let at = format!(r"- alertname: {}\n +eval_time: \S+\n +exp_alerts:", alert.name);
        assert!(found(&format!(r"{at} \[\]\n")), "{} has no test that sees it silent", alert.name);
        for condition in &alert.conditions {
            let mut labels = condition.labels.clone();
            labels.push(("severity", condition.severity.name().to_owned()));
            let labels: Vec<_> = labels.iter().map(|(k, v)| format!("{k}: '{v}'")).collect();
            let fired = tests
                .split(&format!("- alertname: {}\n", alert.name))
                .skip(1)
                .map(|rest| rest.split("- alertname: ").next().unwrap_or(""))
                .flat_map(|test| test.lines().filter(|l| l.contains("exp_labels: {")))
                .any(|line| labels.iter().all(|l| line.contains(l.as_str())));
            assert!(fired, "{} with {labels:?} has no test that sees it fire", alert.name);
        }
    }
}

/// What `promtool check rules` says of queries, as the expressions of rules.
fn as_rules(queries: &[String]) -> tempfile::TempDir {
    let mut rules = String::from("groups:\n  - name: queries\n    rules:\n");
    for (i, expr) in queries.iter().enumerate() {
        let expr = expr.replace('\'', "''").replace('\n', " ");
        rules.push_str(&format!("      - {{record: 'query:{i}', expr: '{expr}'}}\n"));
    }
    common::tree(&[("queries.rules.yml", &rules)])
}

#[test]
fn prometheus_parses_every_query_of_dashboards_and_runbooks() {
    let s = Settings::default();
    let mut queries: Vec<String> = generate::dashboards::queries(&s, "5m").into_iter().map(|q| q.expr).collect();
    assert!(queries.len() > 100);
    for alert in generate::alerts::alerts(&s) {
        queries.extend(alert.runbook.diagnosis.into_iter().map(|(_, query)| query));
    }
    for board in generate::dashboards::all(&s) {
        for variable in board.json()["templating"]["list"].as_array().unwrap() {
            if let Some(query) = variable["query"]["query"].as_str() {
                let (selector, _) = query.strip_prefix("label_values(").unwrap().rsplit_once(", ").unwrap();
                queries.push(selector.to_owned());
            }
        }
    }
    let dir = as_rules(&queries);
    promtool_must_pass(&["check", "rules", dir.path().join("queries.rules.yml").to_str().unwrap()]);
    let dir = as_rules(&["sum(up".to_owned()]);
    let bad = tool("promtool", &["check", "rules", dir.path().join("queries.rules.yml").to_str().unwrap()]);
    assert!(bad.is_none_or(|(ok, _)| !ok), "promtool accepts what is no query");
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

/// Every figure that something is generated from, another value in the configuration file: what is generated changes.
#[test]
fn each_figure_can_be_overridden() {
    use kina_exporter::targets::{self, Role, Targets};
    let text = |s: &Settings| -> String {
        Kind::ALL.into_iter().flat_map(|k| generate::artifacts(k, s)).map(|a| a.content).collect()
    };
    let ours = text(&Settings::default());
    for id in targets::ids().filter(|id| matches!(id.figure().role, Role::Target(_) | Role::Alert)) {
        let mut s = Settings::default();
        s.targets.set(id, s.targets.get(id) * 0.9).unwrap();
        assert_ne!(text(&s), ours, "nothing is generated from {}", id.name());
    }
    assert_eq!(Targets::default(), Settings::default().targets);
}

/// One file configures the exporter and what is generated: the rules compute with its values, and the exporter tells them.
#[test]
fn overrides_reach_rules_alerts_and_the_exporter() {
    let dir = common::tree(&[(
        "kina.yml",
        "targets:\n  startup_time_p95: 0.9\n  storage_latency_p99: 0.003\n  memory_efficiency: 0.5\n  degraded_memory_efficiency: 0.25\n",
    )]);
    let config = format!("--config.file={}", dir.path().join("kina.yml").display());
    let generated = std::process::Command::new(env!("CARGO_BIN_EXE_kina-exporter"))
        .args(["generate", "rules", "alerts", &config, "--out"])
        .arg(dir.path())
        .output()
        .unwrap();
    assert!(generated.status.success(), "{}", String::from_utf8_lossy(&generated.stderr));
    // A start of 0.8 to 1 s is halfway within 0.9 s, a request of 2 to 5 ms a third within 3 ms.
    let web = r#"job="kina",instance="a",id="/c/web",image="nginx",name="web",runtime="docker""#;
    let start = r#"job="kina",instance="a",runtime="docker",image="nginx",start="warm""#;
    let tests = format!(
        r#"
rule_files: [alerts/*.rules.yml]
evaluation_interval: 1m
group_eval_order: [kina-startup, kina-memory, kina-cpu, kina-network, kina-storage, kina-service-levels, kina-fleet, kina-targets, kina-container-alerts, kina-alerts]
tests:
  - interval: 1m
    input_series:
      - {{series: 'kina_exporter_build_info{{job="kina",instance="a",version="1"}}', values: '1x20'}}
      - {{series: 'kina_target{{job="kina",instance="a",target="memory_efficiency"}}', values: '0.5x20'}}
      - {{series: 'kina_container_memory_efficiency_ratio{{{web}}}', values: '0.4x20'}}
      - {{series: 'kina_container_startup_duration_seconds_count{{{start}}}', values: '0+10x20'}}
      - {{series: 'kina_container_startup_duration_seconds_bucket{{{start},le="0.8"}}', values: '0+4x20'}}
      - {{series: 'kina_container_startup_duration_seconds_bucket{{{start},le="1.0"}}', values: '0+8x20'}}
      - {{series: 'kina_container_storage_latency_seconds_count{{{web},op="read"}}', values: '0+600x20'}}
      - {{series: 'kina_container_storage_latency_seconds_bucket{{{web},op="read",le="0.002"}}', values: '0+240x20'}}
      - {{series: 'kina_container_storage_latency_seconds_bucket{{{web},op="read",le="0.005"}}', values: '0+420x20'}}
    promql_expr_test:
      - expr: 'round(kina:instance_startups_over_target:sum, 0.0001)'
        eval_time: 20m
        exp_samples: [{{labels: '{{instance="a", job="kina"}}', value: 80}}]
      - expr: 'round(kina:instance_storage_requests_over_target:rate5m, 0.0001)'
        eval_time: 20m
        exp_samples: [{{labels: '{{instance="a", job="kina"}}', value: 5}}]
      - expr: 'kina:target:met{{target="memory_efficiency"}}'
        eval_time: 20m
        exp_samples: [{{labels: 'kina:target:met{{job="kina", target="memory_efficiency"}}', value: 0}}]
    alert_rule_test:
      - alertname: KinaMemoryEfficiencyLow
        eval_time: 20m
        exp_alerts: []
"#
    );
    std::fs::write(dir.path().join("overridden.test.yml"), tests).unwrap();
    promtool_must_pass(&["test", "rules", dir.path().join("overridden.test.yml").to_str().unwrap()]);

    let exporter = crate::live::Exporter::start(&[&config]);
    let scrape = exporter.scrape();
    let told = |target| scrape.must("kina_target", &[("target", target)]);
    assert_eq!((told("startup_time_p95"), told("memory_efficiency"), told("error_rate")), (0.9, 0.5, 0.001));
}

#[test]
fn the_api_answers_recommendations_and_what_rules_lack() {
    let exporter = crate::live::Exporter::start(&[]);
    let answer = exporter.try_get("/api/v1/recommendations", &[]).expect("an answer");
    assert_eq!(answer.status, 200);
    let report: kina_exporter::advise::Report = serde_json::from_slice(&answer.body).expect("a report");
    for item in &report.recommendations {
        assert!(!item.finding.is_empty() && !item.advice.is_empty(), "{item:?}");
    }
    assert!(report.missing.iter().all(|lack| !lack.missing.is_empty() && lack.containers > 0));
}

#[test]
fn advise_tells_of_a_wasteful_container_and_fails_on_demand() {
    use std::process::{Command, Stdio};
    let Some(docker) = crate::live::Docker::get() else { return };
    let wasteful = docker.run(&["--network=none", "--memory=64m", "--cpus=1"], &["sleep", "3600"]);
    let socket = format!("--runtime.docker.socket={}", docker.socket.display());
    let only = format!("--containers.name-include={}", wasteful.name);
    let advise = |more: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_kina-exporter"))
            .args(["advise", "--local", "--log.level=warn", "--no-runtime.cgroup", &socket, &only])
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let runs =
        [&["--format=json", "--fail-on=memory"][..], &["--fail-on=network,storage"], &["--fail-on=any"]].map(advise);
    let [json, network, any] = runs.map(|run| run.wait_with_output().unwrap());
    assert_eq!((json.status.code(), network.status.code(), any.status.code()), (Some(3), Some(0), Some(3)));
    let report: kina_exporter::advise::Report = serde_json::from_slice(&json.stdout).unwrap();
    let of = |action: &str| {
        report
            .recommendations
            .iter()
            .find(|r| r.action == action)
            .unwrap_or_else(|| panic!("no {action} in {report:?}"))
    };
    let reduce = of("reduce_allocation");
    assert_eq!((reduce.subject.as_str(), reduce.current), (wasteful.name.as_str(), Some(64.0 * 1_048_576.0)));
    assert_eq!(reduce.estimated_savings_bytes, reduce.current.zip(reduce.recommended).map(|(now, then)| now - then));
    assert_eq!((of("reduce_cores").current, of("reduce_cores").recommended), (Some(1.0), Some(0.7)));
    let lacks = |action: &str| report.missing.iter().any(|l| l.action == action && !l.missing.is_empty());
    assert!(lacks("use_smaller_base_image"), "it started before it was watched: {:?}", report.missing);
    let table = String::from_utf8(any.stdout).unwrap();
    assert!(table.contains("→ reduce the allocation from 64 MiB to 6 MiB"), "{table}");
}

/// `advise` asks the exporter that listens where the configuration says, whichever form the address has.
#[test]
fn advise_asks_the_exporter_where_the_configuration_says_it_listens() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("kina.sock");
    let unix = format!("unix:{}", socket.display());
    // A name that no collection of one's own would find.
    let exporter = crate::live::Exporter::start(&["--log.level=warn", &format!("--web.listen-address={unix}")]);
    let advise = |file: &str, more: &[&str]| {
        let config = dir.path().join("kina.yml");
        std::fs::write(&config, file).unwrap();
        let out = std::process::Command::new(env!("CARGO_BIN_EXE_kina-exporter"))
            .args(["advise", "--format=json", "--log.level=info", "--config.file"])
            .arg(config)
            .args(more)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let _: kina_exporter::advise::Report = serde_json::from_slice(&out.stdout).unwrap();
        String::from_utf8_lossy(&out.stderr).into_owned()
    };
    let asked =
        || exporter.scrape().value("kina_http_requests_total", &[("handler", "recommendations")]).unwrap_or(0.0);
    let port = exporter.address.port();
    let mut times = asked();
    for address in [format!("127.0.0.1:{port}"), format!("localhost:{port}"), format!(":{port}"), unix] {
        advise(&format!("web: {{listen-address: ['{address}']}}\n"), &[]);
        times += 1.0;
        assert_eq!(asked(), times, "{address}");
    }
    // Nobody is there: a collection of one's own. Somebody who says no is told of.
    let away = common::Away::new();
    let told = advise(&format!("web: {{listen-address: ['{}']}}\n", away.address), &[]);
    assert!(!told.contains("gives no advice"), "{told}");
    let refuses = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = refuses.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in refuses.incoming().flatten() {
            use std::io::{Read, Write};
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    let told = advise(&format!("web: {{listen-address: ['{address}']}}\n"), &[]);
    assert!(told.contains("gives no advice") && told.contains("401"), "{told}");
    assert_eq!(asked(), times);
}

#[test]
fn every_baseline_is_measured_or_told_why_not() {
    use kina_exporter::targets::{self, Role};
    let Some(docker) = crate::live::Docker::get() else { return };
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_kina-exporter"))
        .args(["bench", "containers", "--runtime=docker", "--starts=1", "--format=json", "--image", crate::live::IMAGE])
        .env("DOCKER_HOST", format!("unix://{}", docker.socket.display()))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{told}");
    let figures: Vec<serde_json::Value> = serde_json::from_slice(&out.stdout).unwrap();
    for figure in targets::ids().map(targets::FigureId::figure).filter(|f| matches!(f.role, Role::Baseline(_))) {
        let measured = figures.iter().find(|f| f["name"] == format!("docker: {}", figure.about));
        match measured {
            Some(f) => assert!(f["value"].as_f64().is_some_and(|v| v > 0.0), "{f}"),
            None => {
                assert!(told.contains(&format!("not measured: docker: {}: ", figure.about)), "{}: {told}", figure.about)
            }
        }
    }
    assert!(figures.len() >= 8, "{told}");
}
