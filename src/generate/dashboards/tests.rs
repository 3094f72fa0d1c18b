//! What dashboards read and link to, and where their panels stand.

use std::collections::BTreeSet;

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
        let (mut titles, mut ids) = (BTreeSet::new(), BTreeSet::new());
        for p in panels(&json) {
            assert!(ids.insert(p["id"].as_u64().expect("an id")), "{}: an id twice", p["title"]);
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
