//! Recording rules: everything that the measures call *recorded*, one file a subject.
//!
//! Written for classic histograms in PromQL that Prometheus 2.42 and 3.x both read. A missing input makes a missing
//! result: nothing is 0 that was not measured.

pub mod cpu;
pub mod fleet;
pub mod memory;
pub mod network;
pub mod service_levels;
pub mod startup;
pub mod storage;
pub mod target;

use std::fmt::Write;

use super::{Settings, yaml};

/// One recording rule.
#[derive(Debug, Clone)]
pub struct Rule {
    pub record: &'static str,
    pub expr: String,
    pub labels: Vec<(&'static str, &'static str)>,
    /// What the result says, with its unit.
    pub about: &'static str,
}

#[derive(Debug, Clone)]
pub struct Group {
    pub name: &'static str,
    pub rules: Vec<Rule>,
}

fn rule(record: &'static str, about: &'static str, expr: impl std::fmt::Display) -> Rule {
    Rule { record, expr: expr.to_string(), labels: Vec::new(), about }
}

/// All groups, in the order in which they depend on each other.
pub fn groups(s: &Settings) -> Vec<Group> {
    vec![
        startup::group(s),
        memory::group(s),
        cpu::group(s),
        network::group(s),
        storage::group(s),
        fleet::group(s),
        target::group(s),
        service_levels::group(s),
    ]
}

/// One group as a rule file.
pub fn file(s: &Settings, group: &Group) -> String {
    format!("{}groups:\n{}", super::HEADER, body(s, group, 2))
}

/// One group as an item of `groups`.
pub fn body(s: &Settings, group: &Group, indent: usize) -> String {
    let pad = " ".repeat(indent);
    let mut out = format!("{pad}- name: {}\n{pad}  interval: {}\n{pad}  rules:\n", group.name, s.minutes(1.0));
    for r in &group.rules {
        out.push_str(&yaml::comment(r.about, indent + 4));
        let _ = writeln!(out, "{pad}    - record: {}", r.record);
        let _ = writeln!(out, "{pad}      expr: {}", yaml::value(&r.expr, indent + 6));
        if !r.labels.is_empty() {
            let _ = writeln!(out, "{pad}      labels:");
            for (k, v) in &r.labels {
                let _ = writeln!(out, "{pad}        {k}: {v}");
            }
        }
    }
    out
}
