//! Grafana dashboards in the classic model, which every version since 8 provisions and imports.

mod boards;
mod model;
#[cfg(test)]
mod tests;

use serde_json::Value;

use super::{Artifact, Settings};

pub use boards::all;
pub use model::{Board, Panel};

/// A panel's query as Prometheus would get it.
#[derive(Debug, Clone)]
pub struct Query {
    pub dashboard: &'static str,
    pub panel: &'static str,
    /// All variables put in, every choice "all".
    pub expr: String,
    /// When it may have no result although all is well.
    pub absent: Option<&'static str>,
    /// Which machines lack what the panel needs, and why, where it needs something.
    pub lacks: Option<String>,
}

/// All queries of all panels, with `window` for `$__rate_interval`.
pub fn queries(s: &Settings, window: &str) -> Vec<Query> {
    let mut found = Vec::new();
    for board in all(s) {
        for panel in &board.panels {
            for (expr, _) in &panel.queries {
                let expr = substituted(expr, window);
                let lacks = model::lacks(panel.needs).map(|q| substituted(&q, window));
                found.push(Query { dashboard: board.uid, panel: panel.title, expr, absent: panel.absent, lacks });
            }
        }
    }
    found
}

/// Every capability that some panel needs.
pub fn needs(s: &Settings) -> std::collections::BTreeSet<&'static str> {
    all(s).iter().flat_map(|b| &b.panels).flat_map(|p| p.needs).copied().collect()
}

fn substituted(expr: &str, window: &str) -> String {
    expr.replace("$__rate_interval", window)
        .replace("$__range", "1h")
        .replace("$job", ".+")
        .replace("$instance", ".+")
        .replace("$runtime", ".*")
        .replace("$container", ".*")
}

/// `dashboards/*.json`, and the linter's file that says which rule does not hold where, and why.
pub fn artifacts(s: &Settings) -> Vec<Artifact> {
    let mut files: Vec<Artifact> =
        all(s).iter().map(|b| Artifact::new(format!("dashboards/{}.json", b.uid), pretty(&b.json()))).collect();
    files.push(Artifact::new("dashboards/.lint", exclusions(s)));
    files
}

fn pretty(json: &Value) -> String {
    format!("{json:#}\n")
}

/// Panels whose series are of the whole fleet have no instance to match.
fn exclusions(s: &Settings) -> String {
    let mut out = String::from(
        "exclusions:\n  target-instance-rule:\n    reason: The fleet is recorded over all instances of a job.\n    entries:\n",
    );
    for board in all(s) {
        for panel in board.panels.iter().filter(|p| p.fleet) {
            out.push_str(&format!("      - {{dashboard: '{}', panel: '{}'}}\n", board.title, panel.title));
        }
    }
    out
}
