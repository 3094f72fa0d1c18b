//! Alerts and their runbooks: one entry says what fires, what people are told, and what they do then.

mod containers;
mod exporter;
mod machine;
pub mod manager;
mod runbook;
mod service_levels;
mod targets;

use std::fmt::Write;

use super::promql::{Selector, recorded};
use super::{REPOSITORY, Settings, yaml};
use crate::catalog;

pub use runbook::page;

/// One alert, with every rule that fires it.
#[derive(Debug, Clone)]
pub struct Alert {
    pub name: &'static str,
    /// One line, a template.
    pub summary: String,
    /// What happened, with figures; a template.
    pub description: String,
    /// The subject of the advice that the alert carries.
    pub advice: Option<Advice>,
    /// The dashboard to look at, by its uid.
    pub dashboard: &'static str,
    pub conditions: Vec<Condition>,
    pub runbook: Runbook,
}

/// Which recommendations an alert carries: of a domain, for the series that share these labels.
#[derive(Debug, Clone, Copy)]
pub struct Advice {
    pub domain: &'static str,
    pub labels: &'static [&'static str],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Info,
    Warning,
    Critical,
}

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// One rule of an alert.
#[derive(Debug, Clone)]
pub struct Condition {
    pub severity: Severity,
    pub expr: String,
    /// How long it must hold, in seconds.
    pub hold: f64,
    pub labels: Vec<(&'static str, String)>,
}

impl Condition {
    fn new(severity: Severity, hold: f64, expr: impl std::fmt::Display) -> Self {
        Self { severity, expr: expr.to_string(), hold, labels: Vec::new() }
    }
}

/// What stands in `docs/runbooks/NAME.md`.
#[derive(Debug, Clone)]
pub struct Runbook {
    pub meaning: &'static str,
    pub impact: &'static str,
    /// What to look at, each with its query.
    pub diagnosis: Vec<(&'static str, String)>,
    pub remedy: &'static [&'static str],
}

const MINUTE: f64 = 60.0;
const HOUR: f64 = 3600.0;

/// All alerts.
pub fn alerts(s: &Settings) -> Vec<Alert> {
    by_group(s).into_iter().flat_map(|(_, alerts)| alerts).collect()
}

/// Prometheus evaluates groups beside each other: thousands of containers in trouble don't delay what is said of machines
/// and exporters.
fn by_group(s: &Settings) -> [(&'static str, Vec<Alert>); 2] {
    let mut others = targets::alerts(s);
    others.extend(service_levels::alerts(s));
    others.extend(machine::alerts(s));
    others.extend(exporter::alerts(s));
    [("kina-container-alerts", containers::alerts(s)), ("kina-alerts", others)]
}

/// A container as people know it: its name, or its id where it has none.
const WHO: &str =
    "{{ if $labels.name }}{{ $labels.name }}{{ else }}{{ $labels.id }}{{ end }} on {{ $labels.instance }}";

/// The same within a `range` over a query's results.
const EACH: &str =
    "{{ if .Labels.name }}{{ .Labels.name }}{{ else if .Labels.id }}{{ .Labels.id }}{{ else }}the machine{{ end }}";

/// Labels that say which container an alert is about.
const CONTAINER: &[&str] = &["job", "instance", "id"];

/// A template that queries with the alert's own labels and lists the results, one `body` each.
fn for_each(query: &str, labels: &[&str], body: &str) -> String {
    let values: Vec<String> = labels.iter().map(|l| format!("$labels.{l}")).collect();
    format!(
        "{{{{ range $i, $r := query (printf `{query}` {}) }}}}{{{{ if $i }}}}, {{{{ end }}}}{body}{{{{ end }}}}",
        values.join(" ")
    )
}

/// Matchers of the alert's labels, for [`for_each`].
fn of_alert(s: Selector, labels: &[&str]) -> Selector {
    labels.iter().fold(s, |s, l| s.matching(format!("{l}=%q")))
}

impl Advice {
    /// Each recommendation with the figure that it recommends, where it has one.
    fn template(self) -> String {
        let of = |f: catalog::FamilyId| of_alert(recorded(f.name()).eq("domain", self.domain), self.labels);
        let query = format!("{} or {}", of(catalog::RECOMMENDATION_RECOMMENDED), of(catalog::RECOMMENDATION));
        let values: Vec<String> = self.labels.iter().map(|l| format!("$labels.{l}")).collect();
        let values = values.join(" ");
        format!(
            "{{{{ with query (printf `{query}` {values} {values}) }}}}{{{{ range . }}}}{EACH}: {{{{ .Labels.action }}}}\
             {{{{ if ne .Value 1.0 }}}} {{{{ .Value | humanize }}}}{{{{ end }}}}. {{{{ end }}}}Figures and reasons: \
             kina-exporter advise.{{{{ else }}}}None at the moment.{{{{ end }}}}"
        )
    }
}

/// Link to an alert's runbook.
pub fn runbook_url(alert: &str) -> String {
    format!("{REPOSITORY}/blob/main/docs/runbooks/{alert}.md")
}

fn dashboard_url(s: &Settings, uid: &str) -> String {
    // A variable that is given without a value chooses nothing: what an alert has no label for stays "all".
    let chosen: String = [("job", "job"), ("instance", "instance"), ("runtime", "runtime"), ("container", "name")]
        .iter()
        .map(|(variable, label)| {
            format!("{{{{ with $labels.{label} }}}}var-{variable}={{{{ . | urlquery }}}}&{{{{ end }}}}")
        })
        .collect();
    format!("{}/d/{uid}?{chosen}from=now-3h", s.grafana_url)
}

/// All alerts as a rule file.
pub fn file(s: &Settings) -> String {
    format!("{}groups:\n{}", super::HEADER, groups(s, 2))
}

/// All alerts as items of `groups`.
pub fn groups(s: &Settings, indent: usize) -> String {
    let pad = " ".repeat(indent);
    let mut out = String::new();
    for (name, alerts) in by_group(s) {
        // Writing to a String does not fail.
        let _ = write!(out, "{pad}- name: {name}\n{pad}  interval: {}\n{pad}  rules:\n", s.minutes(1.0));
        for alert in &alerts {
            for condition in &alert.conditions {
                rule(&mut out, s, alert, condition, indent + 4);
            }
        }
    }
    out
}

fn rule(out: &mut String, s: &Settings, alert: &Alert, condition: &Condition, indent: usize) {
    let pad = " ".repeat(indent);
    let mut line = |text: String| {
        let _ = writeln!(out, "{pad}{text}");
    };
    line(format!("- alert: {}", alert.name));
    line(format!("  expr: {}", yaml::value(&condition.expr, indent + 2)));
    if condition.hold > 0.0 {
        line(format!("  for: {}", s.duration(condition.hold)));
    }
    line("  labels:".into());
    line(format!("    severity: {}", condition.severity.name()));
    for (k, v) in &condition.labels {
        line(format!("    {k}: {v}"));
    }
    line("  annotations:".into());
    line(format!("    summary: {}", yaml::value(&alert.summary, indent + 4)));
    // Templates know the labels of the series, not those that the rule adds.
    let description = condition
        .labels
        .iter()
        .fold(alert.description.clone(), |text, (k, v)| text.replace(&format!("{{{{ $labels.{k} }}}}"), v));
    line(format!("    description: {}", yaml::value(&description, indent + 4)));
    if let Some(advice) = alert.advice {
        line(format!("    advice: {}", yaml::value(&advice.template(), indent + 4)));
    }
    line(format!("    runbook_url: {}", runbook_url(alert.name)));
    line(format!("    dashboard_url: {}", yaml::quoted(&dashboard_url(s, alert.dashboard))));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alert_says_everything() {
        for alert in alerts(&Settings::default()) {
            let name = alert.name;
            assert!(name.starts_with("Kina") && name.chars().all(|c| c.is_ascii_alphanumeric()), "{name}");
            assert!(!alert.summary.contains('\n') && alert.summary.len() > 20, "{name}: summary");
            assert!(alert.description.contains("{{ "), "{name}: the description has no figure");
            assert!(!alert.conditions.is_empty(), "{name}: never fires");
            let r = &alert.runbook;
            assert!(r.meaning.len() > 80 && r.impact.len() > 40, "{name}: says too little");
            assert!(!r.diagnosis.is_empty() && !r.remedy.is_empty(), "{name}: what to do?");
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = alerts(&Settings::default()).iter().map(|a| a.name).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
