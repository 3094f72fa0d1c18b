//! The seventeen rules of Grafana's dashboard linter, as tests of our own over the JSON that is written: the linter has no
//! package to install.

use std::collections::BTreeSet;

use kina_exporter::generate::dashboards::{Board, all};
use kina_exporter::generate::{Settings, promql};
use regex::Regex;
use serde_json::{Value, json};

/// A rule gives what breaks it, each with its place.
type Rule = fn(&Value) -> Vec<String>;

const RULES: [(&str, Rule); 17] = [
    ("template-datasource-rule", template_datasource),
    ("template-job-rule", |b| template_variable(b, "job", "Job")),
    ("template-instance-rule", |b| template_variable(b, "instance", "Instance")),
    ("template-label-promql-rule", template_label_promql),
    ("template-on-time-change-reload-rule", template_reload),
    ("panel-datasource-rule", |b| of_panels(b, |p| p["datasource"]["uid"] == "${datasource}")),
    ("panel-title-description-rule", |b| {
        of_panels(b, |p| !text(p, "title").is_empty() && !text(p, "description").is_empty())
    }),
    ("panel-units-rule", |b| of_panels(b, |p| UNITS.contains(&text(&p["fieldConfig"]["defaults"], "unit")))),
    ("panel-no-targets-rule", |b| of_panels(b, |p| p["targets"].as_array().is_some_and(|t| !t.is_empty()))),
    // No query is for Loki: neither valid LogQL nor its $__auto is asked for.
    ("target-logql-rule", |b| of_targets(b, |t| t["datasource"]["type"] == "prometheus")),
    ("target-logql-auto-rule", |b| of_targets(b, |t| !text(t, "expr").contains("$__auto"))),
    // Well-formed here; the suite has Prometheus parse each.
    ("target-promql-rule", |b| of_targets(b, |t| well_formed(text(t, "expr")))),
    ("target-rate-interval-rule", target_rate_interval),
    ("target-job-rule", |b| of_selectors(b, |_, matchers, _, _| matchers.contains(r#"job=~"$job""#))),
    ("target-instance-rule", |b| of_selectors(b, |_, matchers, _, _| matchers.contains(r#"instance=~"$instance""#))),
    ("target-counter-agg-rule", target_counter),
    ("uneditable-dashboard", |b| found(b["editable"] != false, "it can be edited")),
];

/// Names that Grafana knows and that are used here.
const UNITS: [&str; 12] =
    ["none", "short", "percentunit", "bytes", "Bps", "pps", "s", "watt", "ops", "iops", "reqps", "dateTimeFromNow"];

fn found(bad: bool, what: &str) -> Vec<String> {
    if bad { vec![what.to_owned()] } else { Vec::new() }
}

fn text<'v>(v: &'v Value, key: &str) -> &'v str {
    v[key].as_str().unwrap_or("")
}

fn list<'v>(v: &'v Value, key: &str) -> &'v [Value] {
    v[key].as_array().map_or(&[], Vec::as_slice)
}

fn variables(board: &Value) -> &[Value] {
    list(&board["templating"], "list")
}

fn of_panels(board: &Value, holds: impl Fn(&Value) -> bool) -> Vec<String> {
    list(board, "panels").iter().filter(|p| !holds(p)).map(|p| text(p, "title").to_owned()).collect()
}

fn of_targets(board: &Value, holds: impl Fn(&Value) -> bool) -> Vec<String> {
    let panels = list(board, "panels").iter();
    let targets = panels.flat_map(|p| list(p, "targets").iter().map(move |t| (text(p, "title"), t)));
    targets.filter(|(_, t)| !holds(t)).map(|(title, t)| format!("{title}: {}", text(t, "expr"))).collect()
}

/// Every selector of every query, as (name, matchers, range, what is written before it).
fn of_selectors(board: &Value, holds: impl Fn(&str, &str, &str, &str) -> bool) -> Vec<String> {
    let selector = Regex::new(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^{}]*)\}(\[[^\]]*\])?").unwrap();
    of_targets(board, |t| {
        let expr = text(t, "expr");
        let mut seen = 0;
        let all = selector.captures_iter(expr).all(|c| {
            seen += 1;
            let before = &expr[..c.get(0).map_or(0, |m| m.start())];
            holds(&c[1], &c[2], c.get(3).map_or("", |m| m.as_str()), before)
        });
        // A name without matchers is no selector of the pattern, and a selector all the same.
        all && seen == promql::metric_names(expr).len()
    })
}

fn template_datasource(board: &Value) -> Vec<String> {
    let sources: Vec<_> = variables(board).iter().filter(|v| v["type"] == "datasource").collect();
    let good = |v: &&Value| v["name"] == "datasource" && v["label"] == "Data source" && v["query"] == "prometheus";
    found(sources.len() != 1 || !sources.iter().all(good), "not one data source variable of Prometheus")
}

fn template_variable(board: &Value, name: &str, label: &str) -> Vec<String> {
    let good = |v: &&Value| {
        v["name"] == name
            && v["label"] == label
            && v["type"] == "query"
            && v["datasource"]["uid"] == "${datasource}"
            && v["multi"] == true
            && v["allValue"] == ".+"
    };
    found(!variables(board).iter().any(|v| good(&v)), name)
}

fn queried(board: &Value) -> impl Iterator<Item = &Value> {
    variables(board).iter().filter(|v| v["type"] == "query")
}

fn template_label_promql(board: &Value) -> Vec<String> {
    let label_values = Regex::new(r"^label_values\((.+), [a-z]+\)$").unwrap();
    let good = |v: &&Value| {
        let query = text(&v["query"], "query");
        label_values.captures(query).is_some_and(|c| well_formed(&c[1]))
    };
    queried(board).filter(|v| !good(v)).map(|v| text(v, "name").to_owned()).collect()
}

fn template_reload(board: &Value) -> Vec<String> {
    queried(board).filter(|v| v["refresh"] != 2).map(|v| text(v, "name").to_owned()).collect()
}

fn target_rate_interval(board: &Value) -> Vec<String> {
    of_selectors(board, |_, _, range, _| range.is_empty() || range == "[$__rate_interval]")
}

fn target_counter(board: &Value) -> Vec<String> {
    let called = Regex::new(r"\b(rate|irate|increase)\($").unwrap();
    of_selectors(board, |name, _, range, before| {
        !name.ends_with("_total") || (!range.is_empty() && called.is_match(before))
    })
}

/// Something is asked, and what is opened is closed.
fn well_formed(expr: &str) -> bool {
    let mut open = Vec::new();
    let mut quoted = false;
    let mut chars = expr.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if quoted => drop(chars.next()),
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | '[' | '{' => open.push(c),
            ')' | ']' | '}' => match open.pop() {
                Some('(') if c == ')' => {}
                Some('[') if c == ']' => {}
                Some('{') if c == '}' => {}
                _ => return false,
            },
            _ => {}
        }
    }
    open.is_empty() && !quoted && !promql::metric_names(expr).is_empty()
}

fn boards() -> Vec<(Board, Value)> {
    all(&Settings::default()).into_iter().map(|b| (b.clone(), b.json())).collect()
}

#[test]
fn every_dashboard_keeps_every_rule() {
    for (board, json) in boards() {
        // As `dashboards/.lint` says: what is recorded of the fleet has no instance.
        let excluded: Vec<_> = board.panels.iter().filter(|p| p.fleet).map(|p| p.title).collect();
        for (name, rule) in RULES {
            let mut broken = rule(&json);
            if name == "target-instance-rule" {
                broken.retain(|at| !excluded.iter().any(|title| at.starts_with(&format!("{title}: "))));
            }
            assert_eq!(broken, [""; 0], "{name} in {}", board.uid);
        }
    }
}

#[test]
fn every_rule_finds_what_breaks_it() {
    fn query(board: &mut Value, expr: &str) {
        board["panels"][0]["targets"][0]["expr"] = json!(expr);
    }
    type Break = fn(&mut Value);
    let breaks: [(&str, Break); 17] = [
        ("template-datasource-rule", |b| b["templating"]["list"][0]["name"] = json!("source")),
        ("template-job-rule", |b| b["templating"]["list"][1]["multi"] = json!(false)),
        ("template-instance-rule", |b| b["templating"]["list"][2]["allValue"] = json!(".*")),
        ("template-label-promql-rule", |b| {
            b["templating"]["list"][3]["query"]["query"] = json!("label_values(kina_x{, runtime)");
        }),
        ("template-on-time-change-reload-rule", |b| b["templating"]["list"][4]["refresh"] = json!(1)),
        ("panel-datasource-rule", |b| b["panels"][0]["datasource"]["uid"] = json!("P1809F7CD0C75ACF3")),
        ("panel-title-description-rule", |b| b["panels"][1]["description"] = json!("")),
        ("panel-units-rule", |b| b["panels"][0]["fieldConfig"]["defaults"]["unit"] = json!("parsecs")),
        ("panel-no-targets-rule", |b| b["panels"][0]["targets"] = json!([])),
        ("target-logql-rule", |b| b["panels"][0]["targets"][0]["datasource"]["type"] = json!("loki")),
        ("target-logql-auto-rule", |b| query(b, r#"rate({job=~"$job",instance=~"$instance"}[$__auto])"#)),
        ("target-promql-rule", |b| query(b, r#"sum(up{job=~"$job",instance=~"$instance"}"#)),
        ("target-rate-interval-rule", |b| query(b, r#"rate(a_total{job=~"$job",instance=~"$instance"}[5m])"#)),
        ("target-job-rule", |b| query(b, r#"up{instance=~"$instance"}"#)),
        ("target-instance-rule", |b| query(b, r#"up{job=~"$job"}"#)),
        ("target-counter-agg-rule", |b| query(b, r#"sum(a_total{job=~"$job",instance=~"$instance"})"#)),
        ("uneditable-dashboard", |b| b["editable"] = json!(true)),
    ];
    let exporter = boards().into_iter().find(|(b, _)| b.uid == "kina-exporter").unwrap().1;
    for ((name, break_it), (rule_name, rule)) in breaks.into_iter().zip(RULES) {
        assert_eq!(name, rule_name);
        let mut board = exporter.clone();
        break_it(&mut board);
        assert_ne!(rule(&board), [""; 0], "{name} sees nothing");
    }
}

#[test]
fn uids_are_stable_and_nothing_is_asked_of_who_imports() {
    let mut uids = BTreeSet::new();
    for (b, json) in boards() {
        assert!(uids.insert(b.uid), "{} twice", b.uid);
        assert!(json.get("__inputs").is_none(), "{}", b.uid);
    }
    assert_eq!(uids.len(), 9);
}
