//! What a dashboard is made of, and its JSON.

use serde_json::{Value, json};

use crate::catalog;
use crate::generate::promql::{Selector, family};

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
    /// Capabilities without which it has no result: why a machine lacks one is shown beside what the others tell.
    pub needs: &'static [&'static str],
    /// Its series are of the whole fleet.
    pub fleet: bool,
}

impl Panel {
    pub fn new(kind: Kind, title: &'static str, unit: &'static str, description: &'static str) -> Self {
        let width = if kind == Kind::Stat { 4 } else { 12 };
        let (queries, threshold, absent, needs, fleet) = (Vec::new(), None, None, &[][..], false);
        Self { kind, title, description, unit, queries, width, threshold, absent, needs, fleet }
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

    pub fn needing(mut self, capabilities: &'static [&'static str]) -> Self {
        self.needs = capabilities;
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
        let mut targets: Vec<Value> =
            self.queries.iter().enumerate().map(|(i, q)| self.target(i, q, &source)).collect();
        targets.extend(self.reasons().map(|q| self.target(REASONS, &q, &source)));
        let mut panel = json!({
            "id": id,
            "type": self.kind.name(),
            "title": self.title,
            "description": self.description,
            "datasource": source,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height()},
            "fieldConfig": {"defaults": self.defaults(), "overrides": self.overrides()},
            "options": self.options(),
            "targets": targets,
        });
        match self.kind {
            Kind::Table => panel["transformations"] = self.columns(),
            // Table frames call their figure "Value", or "Value #nodes" where there are two; node graphs, "mainstat".
            Kind::NodeGraph => {
                panel["transformations"] =
                    json!([{"id": "renameByRegex", "options": {"regex": "Value.*", "renamePattern": "mainstat"}}]);
            }
            _ => {}
        }
        panel
    }

    /// What machines lack that it needs, for kinds that can show it: lines without a point, whose names say why, or rows.
    fn reasons(&self) -> Option<(String, &'static str)> {
        let lacks = lacks(self.needs)?;
        match self.kind {
            Kind::TimeSeries => Some((format!("0 / ({lacks})"), "{{instance}} lacks {{capability}}: {{reason}}")),
            Kind::Table => Some((lacks, "")),
            Kind::Stat | Kind::Heatmap | Kind::NodeGraph => None,
        }
    }

    /// One table of all queries, the figure of each under its legend.
    fn columns(&self) -> Value {
        let mut names = serde_json::Map::new();
        for (i, (_, legend)) in self.queries.iter().enumerate().filter(|(_, (_, legend))| !legend.is_empty()) {
            names.insert(format!("Value #{}", ref_id(self.kind, i)), json!(legend));
        }
        let reasons = format!("Value #{}", ref_id(self.kind, REASONS));
        let hidden = json!({"Time": true, "__name__": true, "id": true, reasons: true});
        json!([
            {"id": "merge", "options": {}},
            {"id": "organize", "options": {"excludeByName": hidden, "renameByName": names}}
        ])
    }

    fn overrides(&self) -> Value {
        if self.kind != Kind::Table {
            return json!([]);
        }
        let mut overrides = vec![json!({
            "matcher": {"id": "byName", "options": "name"},
            "properties": [{"id": "links", "value": [to_container("${__value.raw}")]}],
        })];
        if self.threshold.is_some() {
            overrides.push(json!({
                "matcher": {"id": "byType", "options": "number"},
                "properties": [{"id": "custom.cellOptions", "value": {"type": "color-text"}}],
            }));
        }
        json!(overrides)
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
        if self.queries.iter().any(|(_, legend)| legend.contains("{{name}}")) {
            defaults["links"] = json!([to_container("${__field.labels.name}")]);
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
            Kind::Heatmap => json!({"calculate": false, "yAxis": {"unit": self.unit},
                "color": {"mode": "scheme", "scheme": "Oranges", "exponent": 0.5, "fill": "dark-orange",
                    "reverse": false, "steps": 64}}),
            Kind::Table => json!({"showHeader": true}),
            Kind::NodeGraph => json!({}),
        }
    }
}

/// The place of [`Panel::reasons`] among the queries: `Z`.
const REASONS: usize = 25;

/// What machines lack of these, with the reason as a label; none where nothing is needed.
pub fn lacks(needs: &[&str]) -> Option<String> {
    let capabilities = family(catalog::CAPABILITY).matching(format!("capability=~\"{}\"", needs.join("|")));
    (!needs.is_empty()).then(|| format!("{} == 0", here(capabilities)))
}

/// Series of the job and instance that are chosen.
pub fn here(s: Selector) -> Selector {
    s.within(&[r#"job=~"$job""#.into(), r#"instance=~"$instance""#.into()])
}

/// A link to everything about one container.
fn to_container(name: &str) -> Value {
    let variables = "${datasource:queryparam}&${job:queryparam}&${instance:queryparam}&${runtime:queryparam}";
    json!({
        "title": format!("All about {name}"),
        "url": format!("/d/kina-container?{variables}&var-container={name}&${{__url_time_range}}"),
    })
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
        let link = json!({"type": "dashboards", "tags": ["kina"], "title": "kina", "tooltip": "",
            "icon": "external link", "targetBlank": false, "asDropdown": true, "includeVars": true, "keepTime": true});
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
            "current": {"text": "default", "value": "default"}, "hide": 0, "refresh": 1, "regex": "", "options": []}),
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
