//! The rules of Grafana's dashboard linter (v0.1.0), as a test of our own: the linter has no package to install.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::Value;

use super::*;
use crate::catalog;
use crate::generate::{promql, rules};

fn boards() -> Vec<(Board, Value)> {
    all(&Settings::default()).into_iter().map(|b| (b.clone(), b.json())).collect()
}

fn panels(board: &Value) -> &Vec<Value> {
    board["panels"].as_array().expect("panels")
}

fn text<'v>(v: &'v Value, key: &str) -> &'v str {
    v[key].as_str().unwrap_or("")
}

fn variable<'v>(board: &'v Value, name: &str) -> &'v Value {
    let list = board["templating"]["list"].as_array().expect("variables");
    list.iter().find(|v| v["name"] == name).unwrap_or(&Value::Null)
}

/// Selectors of a query: name, matchers, range.
fn selectors(expr: &str) -> Vec<(String, String, String)> {
    let found = Regex::new(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^{}]*)\}(\[[^\]]*\])?").expect("pattern");
    found.captures_iter(expr).map(|c| (c[1].into(), c[2].into(), c.get(3).map_or("", |m| m.as_str()).into())).collect()
}

#[test]
fn template_datasource_rule() {
    for (b, json) in boards() {
        let list = json["templating"]["list"].as_array().expect("variables");
        let sources: Vec<_> = list.iter().filter(|v| v["type"] == "datasource").collect();
        assert_eq!(sources.len(), 1, "{}", b.uid);
        assert_eq!((text(sources[0], "name"), text(sources[0], "label")), ("datasource", "Data source"), "{}", b.uid);
    }
}

#[test]
fn template_job_and_instance_rules() {
    for (b, json) in boards() {
        for (name, label) in [("job", "Job"), ("instance", "Instance")] {
            let v = variable(&json, name);
            assert_eq!(v["datasource"]["uid"], "${datasource}", "{} {name}", b.uid);
            assert_eq!(
                (text(v, "type"), text(v, "label"), text(v, "allValue")),
                ("query", label, ".+"),
                "{} {name}",
                b.uid
            );
            assert_eq!(v["multi"], true, "{} {name}", b.uid);
        }
    }
}

#[test]
fn template_label_promql_and_reload_rules() {
    let label_values = Regex::new(r"^label_values\((.+), [a-z]+\)$").expect("pattern");
    for (b, json) in boards() {
        let list = json["templating"]["list"].as_array().expect("variables");
        for v in list.iter().filter(|v| v["type"] == "query") {
            assert_eq!(v["refresh"], 2, "{} {}", b.uid, v["name"]);
            let query = v["query"]["query"].as_str().expect("query");
            assert!(label_values.is_match(query), "{}: {query}", b.uid);
        }
    }
}

#[test]
fn panel_rules() {
    // The names that Grafana knows and that are used here.
    let units =
        ["none", "short", "percentunit", "bytes", "Bps", "pps", "s", "watt", "ops", "iops", "reqps", "dateTimeFromNow"];
    for (b, json) in boards() {
        for p in panels(&json) {
            let at = format!("{} / {}", b.uid, p["title"]);
            assert_eq!(p["datasource"]["uid"], "${datasource}", "panel-datasource-rule: {at}");
            assert!(
                !text(p, "title").is_empty() && !text(p, "description").is_empty(),
                "panel-title-description-rule: {at}"
            );
            assert!(units.contains(&text(&p["fieldConfig"]["defaults"], "unit")), "panel-units-rule: {at}");
            assert!(p["targets"].as_array().is_some_and(|t| !t.is_empty()), "panel-no-targets-rule: {at}");
            for t in p["targets"].as_array().expect("targets") {
                assert_eq!(t["datasource"]["type"], "prometheus", "target-logql-rule, target-logql-auto-rule: {at}");
            }
        }
    }
}

#[test]
fn target_job_and_instance_rules() {
    for (b, _) in boards() {
        for p in &b.panels {
            for (expr, _) in &p.queries {
                let names = promql::metric_names(expr).len();
                let found = selectors(expr);
                assert_eq!(found.len(), names, "a selector without matchers in {} / {}: {expr}", b.uid, p.title);
                for (name, matchers, _) in found {
                    let at = format!("{} / {}: {name}{{{matchers}}}", b.uid, p.title);
                    assert!(matchers.contains(r#"job=~"$job""#), "target-job-rule: {at}");
                    assert!(p.fleet || matchers.contains(r#"instance=~"$instance""#), "target-instance-rule: {at}");
                }
            }
        }
    }
}

#[test]
fn target_rate_interval_and_counter_rules() {
    let called = Regex::new(r"(rate|irate|increase)\($").expect("pattern");
    for (b, _) in boards() {
        for p in &b.panels {
            for (expr, _) in &p.queries {
                for (name, matchers, range) in selectors(expr) {
                    let selector = format!("{name}{{{matchers}}}");
                    let before = expr.split(&selector).next().unwrap_or("");
                    let at = format!("{} / {}: {expr}", b.uid, p.title);
                    assert!(range.is_empty() || range == "[$__rate_interval]", "target-rate-interval-rule: {at}");
                    let counter = name.ends_with("_total") && !range.is_empty() && called.is_match(before);
                    assert!(!name.ends_with("_total") || counter, "target-counter-agg-rule: {at}");
                }
            }
        }
    }
}

#[test]
fn uneditable_dashboard_and_stable_uids() {
    let mut uids = BTreeSet::new();
    for (b, json) in boards() {
        assert_eq!(json["editable"], false, "{}", b.uid);
        assert!(uids.insert(b.uid), "{} twice", b.uid);
        assert!(json.get("__inputs").is_none(), "{}", b.uid);
    }
    assert_eq!(uids.len(), 9);
}

#[test]
fn queries_read_only_what_exists() {
    let recorded: BTreeSet<&str> =
        rules::groups(&Settings::default()).iter().flat_map(|g| &g.rules).map(|r| r.record).collect();
    for q in queries(&Settings::default(), "5m") {
        for name in promql::metric_names(&q.expr) {
            let known = recorded.contains(name.as_str()) || catalog::by_series(&name).is_some();
            assert!(known, "{} / {} reads {name}, which is not there", q.dashboard, q.panel);
        }
        assert!(!q.expr.contains('$') || q.expr.contains("\"$1\""), "a variable is left in {}", q.expr);
    }
}

#[test]
fn alerts_link_to_dashboards_that_exist() {
    let uids: BTreeSet<_> = boards().iter().map(|(b, _)| b.uid).collect();
    for alert in crate::generate::alerts::alerts(&Settings::default()) {
        assert!(uids.contains(alert.dashboard), "{} links to {}", alert.name, alert.dashboard);
    }
}

#[test]
fn panels_do_not_overlap_and_titles_are_unique_on_a_board() {
    for (b, json) in boards() {
        let mut cells = BTreeSet::new();
        let mut titles = BTreeSet::new();
        for p in panels(&json) {
            assert!(titles.insert(text(p, "title").to_owned()), "{} / {}", b.uid, p["title"]);
            let g = |k: &str| p["gridPos"][k].as_u64().expect("position");
            for x in g("x")..g("x") + g("w") {
                assert!(x < 24, "{}", p["title"]);
                for y in g("y")..g("y") + g("h") {
                    assert!(cells.insert((x, y)), "{} overlaps", p["title"]);
                }
            }
        }
    }
}
