//! What the whole machine does, what it offers, and how the collectors fare.

use std::fmt::{Result, Write};

use super::Page;
use super::html::{Bar, Esc, UNKNOWN, bytes, number, percent, trimmed};
use crate::catalog::{self, FamilyId};
use crate::probe::Answer;
use crate::serve::containers::{cpus, is_shown, machine, sum};
use crate::snapshot::{ContainerFacts, ThermalState};

/// The sum over all containers of what is known.
fn total(page: &Page<'_>, figure: impl Fn(&ContainerFacts) -> Option<f64>) -> Option<f64> {
    let all = page.collection.snapshot.containers.iter().filter(|c| is_shown(c));
    all.map(figure).fold(None, sum)
}

struct Tile<'a> {
    title: &'a str,
    figure: Option<String>,
    unit: &'a str,
    sub: String,
    /// Class and share of the whole.
    bar: Option<(&'static str, f64)>,
}

impl Tile<'_> {
    fn write(&self, out: &mut String) -> Result {
        let figure = self.figure.as_deref().unwrap_or(UNKNOWN);
        let unit = if self.figure.is_some() { self.unit } else { "" };
        write!(out, "<div class=tile><h3>{}</h3><b>{figure}<small> {unit}</small></b><p>{}</p>", self.title, self.sub)?;
        if let Some((class, share)) = self.bar {
            let label = format!("{}: {} of the machine", self.title, percent(share));
            write!(out, "{}", Bar { track: true, label: &label, parts: &[(class, share)] })?;
        }
        out.write_str("</div>")
    }
}

pub(super) fn tiles(page: &Page<'_>, out: &mut String) -> Result {
    let snapshot = &page.collection.snapshot;
    let host = &snapshot.host;
    let count = snapshot.containers.iter().filter(|c| is_shown(c)).count();
    let whole = machine(snapshot);

    let cores =
        total(page, |c| c.cpu.usage_rate_cores).or(whole.and_then(|m| m.cpu.usage_rate_cores).filter(|_| count == 0));
    let cpus = cpus(snapshot);
    let memory = total(page, |c| Some(c.memory.usage? as f64));
    let available = host.memory_bytes.map(|b| b as f64);
    let rx = total(page, |c| c.network.rx_rate);
    let tx = total(page, |c| c.network.tx_rate);
    let disk = total(page, |c| c.storage.bytes_rate);
    let operations = total(page, |c| c.storage.iops_rate);
    let rate = |r: f64| format!("{}/s", bytes(r));
    let share = |used: Option<f64>, of: Option<f64>| Some(used? / of.filter(|o| *o > 0.0)?);

    out.write_str("<section class=tiles aria-label=Summary>")?;
    let tiles = [
        Tile { title: "Containers", figure: Some(count.to_string()), unit: "running", sub: runtimes(page), bar: None },
        Tile {
            title: "CPU",
            figure: cores.map(number),
            unit: "cores",
            sub: cpus.map(|c| format!("of {c:.0} on this machine{}", heat(page))).unwrap_or_default(),
            bar: share(cores, cpus).map(|s| ("f-cpu", s)),
        },
        Tile {
            title: "Memory",
            figure: memory.map(bytes),
            unit: "",
            sub: available.map(|b| format!("of {} on this machine", bytes(b))).unwrap_or_default(),
            bar: share(memory, available).map(|s| ("f-process", s)),
        },
        Tile {
            title: "Network",
            figure: sum(rx, tx).map(rate),
            unit: "",
            sub: match (rx, tx) {
                (Some(rx), Some(tx)) => format!("↓ {} ↑ {}", rate(rx), rate(tx)),
                _ => String::new(),
            },
            bar: None,
        },
        Tile {
            title: "Disk",
            figure: disk.map(rate),
            unit: "",
            sub: operations.map(|n| format!("{} operations/s", trimmed(n))).unwrap_or_default(),
            bar: None,
        },
    ];
    tiles.iter().try_for_each(|t| t.write(out))?;
    out.write_str("</section>")
}

/// `docker 3, podman 1`.
fn runtimes(page: &Page<'_>) -> String {
    let mut counts = std::collections::BTreeMap::new();
    for c in page.collection.snapshot.containers.iter().filter(|c| is_shown(c)) {
        *counts.entry(c.container.runtime.name()).or_insert(0usize) += 1;
    }
    counts.iter().map(|(name, n)| format!("{name} {n}")).collect::<Vec<_>>().join(", ")
}

/// Only when there is something to say.
fn heat(page: &Page<'_>) -> String {
    match page.collection.snapshot.host.thermal {
        Some(state) if state >= ThermalState::Serious => {
            let name = ThermalState::ALL.iter().find(|(s, _)| *s == state).map_or("", |(_, n)| n);
            format!(", heat: {name}")
        }
        _ => String::new(),
    }
}

pub(super) fn capabilities(page: &Page<'_>, out: &mut String) -> Result {
    out.write_str(
        "<section aria-labelledby=offers><div class=head><h2 id=offers>What this machine offers</h2></div>\
         <table class=tight aria-labelledby=offers><tbody>",
    )?;
    let all = page.app.engine.shared().capabilities.all();
    // What is missing is what people look for.
    let (no, yes): (Vec<_>, Vec<_>) = all.iter().partition(|(_, answer)| matches!(answer, Answer::No(_)));
    for (name, answer) in no.into_iter().chain(yes) {
        let (class, word, reason) = match answer {
            Answer::Yes => ("yes", "yes", ""),
            Answer::No(reason) => ("no", "no", reason.as_str()),
        };
        write!(
            out,
            "<tr><td>{}<span class=sub>{}</span></td><td class=\"num right\"><span class=\"tag {class}\">{word}</span></td></tr>",
            Esc(&name.replace('_', " ")),
            Esc(reason)
        )?;
    }
    out.write_str("</tbody></table>")?;
    if all.is_empty() {
        out.write_str("<p class=note>Nothing has been probed yet.</p>")?;
    }
    out.write_str("</section>")
}

/// Collector → value of a family whose one label it is.
fn by_collector(page: &Page<'_>, family: FamilyId, collector: &str) -> Option<f64> {
    let samples = &page.collection.samples;
    let table = samples.table(family);
    let row = table.rows.iter().find(|r| samples.labels(r.entity, r.extra).any(|(_, v)| v == collector))?;
    Some(row.value)
}

fn took_text(seconds: f64) -> String {
    if seconds < 1e-3 { format!("{:.0}\u{a0}µs", seconds * 1e6) } else { format!("{:.1}\u{a0}ms", seconds * 1e3) }
}

pub(super) fn collectors(page: &Page<'_>, out: &mut String) -> Result {
    out.write_str(
        "<section aria-labelledby=collectors><div class=head><h2 id=collectors>Collectors</h2></div>\
         <table class=tight aria-labelledby=collectors><thead><tr><th scope=col>Subject<th scope=col class=right>Took<th scope=col class=right>State</tr></thead><tbody>",
    )?;
    for collector in catalog::Collector::ALL {
        let name = collector.name();
        let took = by_collector(page, catalog::COLLECTOR_DURATION, name);
        let state = match by_collector(page, catalog::COLLECTOR_SUCCESS, name) {
            Some(1.0) => "<span class=\"tag yes\">ok</span>",
            Some(_) => "<span class=\"tag no\">failed</span>",
            None => "<span class=tag>off</span>",
        };
        let took = took.map_or_else(|| UNKNOWN.to_owned(), took_text);
        write!(
            out,
            "<tr><td>{name} <span class=dim>{}</span></td><td class=\"num right\">{took}</td><td class=\"num right\">{state}</td></tr>",
            Esc(collector.about())
        )?;
    }
    out.write_str("</tbody></table></section>")
}
