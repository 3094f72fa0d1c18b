//! What a dashboard is made of, and its JSON.

use serde_json::{Value, json};

use crate::catalog;
use crate::generate::promql::family;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Stat,
    TimeSeries,
    Table,
    Heatmap,
    NodeGraph,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Stat => "stat",
            Self::TimeSeries => "timeseries",
            Self::Table => "table",
            Self::Heatmap => "heatmap",
            Self::NodeGraph => "nodeGraph",
        }
    }
}

#[derive(Debug, Clone)]
pub struct Panel {
    pub kind: Kind,
    pub title: &'static str,
    pub description: &'static str,
    /// Grafana's name of the unit.
    pub unit: &'static str,
    /// Each with its legend.
    pub queries: Vec<(String, &'static str)>,
    /// Columns of 24.
    pub width: u32,
    /// Bad from here on: above (true) or below (false).
    pub threshold: Option<(f64, bool)>,
    /// Shown in place of a result, where there may be none.
    pub absent: Option<&'static str>,
    /// Its series are of the whole fleet.
    pub fleet: bool,
}

impl Panel {
    pub fn new(kind: Kind, title: &'static str, unit: &'static str, description: &'static str) -> Self {
        let width = if kind == Kind::Stat { 4 } else { 12 };
        Self { kind, title, description, unit, queries: Vec::new(), width, threshold: None, absent: None, fleet: false }
    }

    pub fn query(mut self, expr: impl std::fmt::Display, legend: &'static str) -> Self {
        self.queries.push((expr.to_string(), legend));
        self
    }

    pub fn wide(mut self) -> Self {
        self.width = 24;
        self
    }

    pub fn bad_above(mut self, value: f64) -> Self {
        self.threshold = Some((value, true));
        self
    }

    pub fn bad_below(mut self, value: f64) -> Self {
        self.threshold = Some((value, false));
        self
    }

    pub fn absent_when(mut self, why: &'static str) -> Self {
        self.absent = Some(why);
        self
    }

    pub fn of_fleet(mut self) -> Self {
        self.fleet = true;
        self
    }

    fn height(&self) -> u32 {
        match self.kind {
            Kind::Stat => 4,
            Kind::NodeGraph => 12,
            _ => 8,
        }
    }

    fn json(&self, id: usize, x: u32, y: u32) -> Value {
        let source = json!({"type": "prometheus", "uid": "${datasource}"});
        let targets: Vec<Value> = self.queries.iter().enumerate().map(|(i, q)| self.target(i, q, &source)).collect();
        let mut panel = json!({
            "id": id,
            "type": self.kind.name(),
            "title": self.title,
            "description": self.description,
            "datasource": source,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height()},
            "fieldConfig": {"defaults": self.defaults(), "overrides": []},
            "options": self.options(),
            "targets": targets,
        });
        if self.kind == Kind::Table {
            panel["transformations"] = json!([
                {"id": "merge", "options": {}},
                {"id": "organize", "options": {"excludeByName": {"Time": true, "__name__": true, "id": true}}}
            ]);
        }
        panel
    }

    fn target(&self, index: usize, (expr, legend): &(String, &str), source: &Value) -> Value {
        let instant = matches!(self.kind, Kind::Table | Kind::NodeGraph);
        let format = match self.kind {
            Kind::Table | Kind::NodeGraph => "table",
            Kind::Heatmap => "heatmap",
            _ => "time_series",
        };
        json!({
            "refId": ref_id(self.kind, index),
            "datasource": source,
            "expr": expr,
            "legendFormat": legend,
            "format": format,
            "instant": instant,
            "range": !instant,
        })
    }

    fn defaults(&self) -> Value {
        let steps = match self.threshold {
            None => json!([{"color": "green", "value": null}]),
            Some((v, true)) => json!([{"color": "green", "value": null}, {"color": "red", "value": v}]),
            Some((v, false)) => json!([{"color": "red", "value": null}, {"color": "green", "value": v}]),
        };
        let mut defaults = json!({
            "unit": self.unit,
            "thresholds": {"mode": "absolute", "steps": steps},
        });
        if self.kind == Kind::TimeSeries {
            let line = if self.threshold.is_some() { "line" } else { "off" };
            defaults["custom"] = json!({"fillOpacity": 10, "lineWidth": 1, "showPoints": "never",
                "thresholdsStyle": {"mode": line}});
        }
        if let Some(why) = self.absent {
            defaults["noValue"] = json!(why);
        }
        defaults
    }

    fn options(&self) -> Value {
        match self.kind {
            Kind::Stat => {
                json!({"colorMode": "value", "graphMode": "area", "reduceOptions": {"calcs": ["lastNotNull"]}})
            }
            Kind::TimeSeries => json!({"legend": {"displayMode": "list", "placement": "bottom"},
                "tooltip": {"mode": "multi", "sort": "desc"}}),
            Kind::Heatmap => json!({"calculate": false, "color": {"scheme": "Oranges"}, "yAxis": {"unit": self.unit}}),
            Kind::Table => json!({"showHeader": true}),
            Kind::NodeGraph => json!({}),
        }
    }
}

/// The node graph knows its two frames by these names.
fn ref_id(kind: Kind, index: usize) -> String {
    match (kind, index) {
        (Kind::NodeGraph, 0) => "nodes".into(),
        (Kind::NodeGraph, _) => "edges".into(),
        _ => char::from(b'A' + (index % 26) as u8).to_string(),
    }
}

#[derive(Debug, Clone)]
pub struct Board {
    pub uid: &'static str,
    pub title: &'static str,
    pub about: &'static str,
    pub panels: Vec<Panel>,
}

impl Board {
    pub fn json(&self) -> Value {
        let link = json!({"type": "dashboards", "tags": ["kina"], "title": "kina", "asDropdown": true,
            "includeVars": true, "keepTime": true});
        json!({
            "uid": self.uid,
            "title": self.title,
            "description": self.about,
            "tags": ["kina"],
            "schemaVersion": 39,
            "version": 1,
            "editable": false,
            "graphTooltip": 1,
            "time": {"from": "now-3h", "to": "now"},
            "refresh": "1m",
            "timezone": "browser",
            "links": [link],
            "templating": {"list": variables()},
            "annotations": {"list": []},
            "panels": self.placed(),
        })
    }

    /// Left to right, then the next line.
    fn placed(&self) -> Vec<Value> {
        let (mut x, mut y, mut line) = (0, 0, 0);
        let mut placed = Vec::new();
        for (i, panel) in self.panels.iter().enumerate() {
            if x + panel.width > 24 {
                (x, y, line) = (0, y + line, 0);
            }
            placed.push(panel.json(i + 1, x, y));
            x += panel.width;
            line = line.max(panel.height());
        }
        placed
    }
}

fn variables() -> Vec<Value> {
    let info = family(catalog::CONTAINER_INFO);
    let build = family(catalog::BUILD_INFO);
    let of_job = build.clone().matching(r#"job=~"$job""#);
    let within = info.matching(r#"job=~"$job""#).matching(r#"instance=~"$instance""#);
    let of_runtime = within.clone().matching(r#"runtime=~"$runtime""#);
    vec![
        json!({"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus",
            "current": {}, "hide": 0, "refresh": 1, "regex": "", "options": []}),
        variable("job", "Job", &format!("label_values({build}, job)"), ".+"),
        variable("instance", "Instance", &format!("label_values({of_job}, instance)"), ".+"),
        variable("runtime", "Runtime", &format!("label_values({within}, runtime)"), ".*"),
        variable("container", "Container", &format!("label_values({of_runtime}, name)"), ".*"),
    ]
}

fn variable(name: &str, label: &str, query: &str, all: &str) -> Value {
    json!({
        "type": "query",
        "name": name,
        "label": label,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": true,
        "includeAll": true,
        "allValue": all,
        "current": {"selected": true, "text": ["All"], "value": ["$__all"]},
        "hide": 0,
        "regex": "",
        "options": [],
    })
}
