//! The table of containers.

use std::fmt::{Result, Write};

use super::html::{Bar, Esc, UNKNOWN, bytes, duration, number, percent, short};
use super::{Page, ROWS, View};
use crate::probe::Answer;
use crate::root::Nanos;
use crate::runtime::RuntimeKind;
use crate::serve::containers::{Sort, display_name};
use crate::snapshot::{ContainerFacts, MemoryFacts};

pub(super) fn table(page: &Page<'_>, found: &[&ContainerFacts], out: &mut String) -> Result {
    let view = &page.view;
    out.write_str("<section aria-labelledby=containers><div class=head><h2 id=containers>Containers</h2>")?;
    let shown = if view.all { found.len() } else { found.len().min(ROWS) };
    if !found.is_empty() {
        write!(out, "<p>{}</p>", counted(view, found.len(), shown))?;
    }
    search(view, out)?;
    out.write_str("</div>")?;
    if found.is_empty() {
        empty(page, out)?;
        return out.write_str("</section>");
    }
    out.write_str("<table class=rows role=table aria-labelledby=containers><thead role=rowgroup><tr role=row>")?;
    for sort in Sort::ALL {
        heading(view, sort, out)?;
    }
    out.write_str("</tr></thead><tbody role=rowgroup>")?;
    let host = Host {
        wall: page.collection.snapshot.wall,
        memory: page.collection.snapshot.host.memory_bytes,
        cpus: page.collection.snapshot.host.cpus_online,
    };
    for facts in &found[..shown] {
        row(facts, &host, out)?;
    }
    out.write_str("</tbody></table>")?;
    if shown < found.len() {
        let all = View { all: true, ..view.clone() };
        write!(out, "<p class=head><a href=\"{}\">Show all {}</a></p>", all.href(), found.len())?;
    }
    key(out)?;
    out.write_str("</section>")
}

fn counted(view: &View, found: usize, shown: usize) -> String {
    let which = if view.search.is_empty() { "running" } else { "found" };
    if shown < found { format!("the first {shown} of {found} {which}") } else { format!("{found} {which}") }
}

fn search(view: &View, out: &mut String) -> Result {
    out.write_str("<form role=search method=get>")?;
    write!(
        out,
        "<input type=search name=q placeholder=\"Name, image, pod …\" aria-label=\"Search containers\" value=\"{}\">",
        Esc(&view.search)
    )?;
    if view.sort != Sort::default() {
        write!(out, "<input type=hidden name=sort value={}>", view.sort.name())?;
    }
    if let Some(seconds) = view.refresh {
        write!(out, "<input type=hidden name=refresh value={seconds}>")?;
    }
    out.write_str("<button>Search</button></form>")
}

fn title(sort: Sort) -> &'static str {
    match sort {
        Sort::Name => "Container",
        Sort::Cpu => "CPU",
        Sort::Memory => "Memory",
        Sort::Efficiency => "Efficiency",
        Sort::Network => "Network",
        Sort::Disk => "Disk",
        Sort::Started => "Up",
    }
}

fn heading(view: &View, sort: Sort, out: &mut String) -> Result {
    let here = view.sort == sort;
    let (direction, arrow) = match (here, sort) {
        (false, _) => ("", ""),
        (true, Sort::Name | Sort::Started) => (" aria-sort=ascending", " ↑"),
        (true, _) => (" aria-sort=descending", " ↓"),
    };
    let href = View { sort, ..view.clone() }.href();
    write!(out, "<th role=columnheader scope=col{direction}><a href=\"{href}\">{}{arrow}</a></th>", title(sort))
}

struct Host {
    wall: Nanos,
    memory: Option<u64>,
    cpus: Option<u32>,
}

fn row(facts: &ContainerFacts, host: &Host, out: &mut String) -> Result {
    out.write_str("<tr role=row>")?;
    name(facts, out)?;
    cpu(facts, host, out)?;
    memory(&facts.memory, host, out)?;
    efficiency(facts, out)?;
    network(facts, out)?;
    disk(facts, out)?;
    let up = facts.container.started.map(|t| duration(host.wall - t));
    cell(Sort::Started, &up.unwrap_or_else(|| UNKNOWN.into()), "", out)?;
    out.write_str("</tr>")
}

fn name(facts: &ContainerFacts, out: &mut String) -> Result {
    let c = &facts.container;
    let i = &c.identity;
    write!(out, "<td role=cell class=name><b>{}</b>", Esc(&short(display_name(facts), 80)))?;
    if c.healthy == Some(false) {
        out.write_str(" <span class=\"tag no\">unhealthy</span>")?;
    }
    if !i.pod.is_empty() {
        write!(out, "<span class=sub>{} / {}</span>", Esc(&short(&i.namespace, 60)), Esc(&short(&i.pod, 80)))?;
    }
    if !i.image.is_empty() {
        write!(out, "<span class=sub>{}</span>", Esc(&short(&i.image, 90)))?;
    }
    let id = if c.runtime == RuntimeKind::Cgroup { String::new() } else { short_id(&c.native_id) };
    write!(out, "<span class=sub>{} <code>{}</code></span></td>", c.runtime.name(), Esc(&id))
}

/// Twelve characters of a long hexadecimal id, as the runtimes' own commands show it.
fn short_id(id: &str) -> String {
    id.chars().take(12).collect()
}

fn cell(sort: Sort, main: &str, sub: &str, out: &mut String) -> Result {
    write!(out, "<td role=cell class=num data-label={}>{main}", title(sort))?;
    if !sub.is_empty() {
        write!(out, "<span class=sub>{sub}</span>")?;
    }
    out.write_str("</td>")
}

fn cpu(facts: &ContainerFacts, host: &Host, out: &mut String) -> Result {
    out.write_str("<td role=cell class=cpu data-label=CPU>")?;
    let cpu = &facts.cpu;
    let Some(cores) = cpu.usage_rate_cores else {
        return write!(out, "{}</td>", measuring(cpu.usage_ns.is_some()));
    };
    let of = cpu.allocated_cores.or(host.cpus.map(f64::from)).filter(|c| *c > 0.0);
    let given = of.map(|c| format!("of {}", trimmed(c))).unwrap_or_default();
    write!(out, "<div class=line><span>{} cores</span><span class=sub>{given}</span></div>", number(cores))?;
    if let Some(of) = of {
        let user = cpu.user_rate_cores.unwrap_or(0.0).min(cores);
        let label =
            format!("{} of {} cores used, {} by the container's own code", number(cores), trimmed(of), number(user));
        let parts = [("f-cpu", user / of), ("f-user", (cores - user) / of)];
        write!(out, "{}", Bar { label: &label, parts: &parts })?;
    }
    out.write_str("</td>")
}

/// `2`, not `2.00`.
fn trimmed(n: f64) -> String {
    if n.fract() == 0.0 { format!("{n:.0}") } else { number(n) }
}

/// A rate needs two collections.
fn measuring(source: bool) -> &'static str {
    if source { "<span class=dim>measuring</span>" } else { UNKNOWN }
}

fn memory(m: &MemoryFacts, host: &Host, out: &mut String) -> Result {
    out.write_str("<td role=cell class=mem data-label=Memory>")?;
    let Some(usage) = m.usage else { return write!(out, "{UNKNOWN}</td>") };
    let given = match (m.allocated, host.memory) {
        (Some(allocated), _) => format!("of {}", bytes(allocated as f64)),
        (None, _) => "no limit".into(),
    };
    write!(out, "<div class=line><span>{}</span><span class=sub>{given}</span></div>", bytes(usage as f64))?;
    // Without a limit the parts are shown of what is used: of the machine's memory they would be too thin to see.
    let whole = m.allocated.unwrap_or(usage).max(1) as f64;
    let kinds = [
        ("f-process", "processes", m.process()),
        ("f-libs", "shared libraries", m.shared_libraries()),
        ("f-cache", "page cache", m.page_cache()),
        ("f-kernel", "kernel", m.kernel),
    ];
    let known = kinds.iter().filter_map(|(_, what, n)| Some(format!("{what} {}", bytes((*n)? as f64))));
    let label = known.collect::<Vec<_>>().join(", ");
    let parts = kinds.map(|(class, _, n)| (class, n.unwrap_or(0) as f64 / whole));
    write!(out, "{}</td>", Bar { label: &label, parts: &parts })
}

fn efficiency(facts: &ContainerFacts, out: &mut String) -> Result {
    let cpu =
        facts.cpu.allocated_cores.filter(|c| *c > 0.0).zip(facts.cpu.usage_rate_cores).map(|(of, used)| used / of);
    let memory = facts.memory.efficiency();
    let show = |what: &str, ratio: Option<f64>| ratio.map(|r| format!("{what} {}", percent(r)));
    let (main, sub) = match (show("memory", memory), show("CPU", cpu)) {
        (Some(memory), Some(cpu)) => (memory, cpu),
        (one, other) => (one.or(other).unwrap_or_else(|| UNKNOWN.into()), String::new()),
    };
    cell(Sort::Efficiency, &main, &sub, out)
}

fn network(facts: &ContainerFacts, out: &mut String) -> Result {
    let n = &facts.network;
    let rate = |arrow: &str, r: Option<f64>| r.map(|r| format!("{arrow} {}/s", bytes(r)));
    let (main, sub) = match (rate("↓", n.rx_rate), rate("↑", n.tx_rate)) {
        (None, None) if facts.container.host_network => ("host's".to_owned(), String::new()),
        (None, None) => (measuring(!n.interfaces.is_empty()).to_owned(), String::new()),
        (rx, tx) => (rx.unwrap_or_default(), tx.unwrap_or_default()),
    };
    cell(Sort::Network, &main, &sub, out)
}

fn disk(facts: &ContainerFacts, out: &mut String) -> Result {
    let s = &facts.storage;
    let Some(rate) = s.bytes_rate else {
        return cell(Sort::Disk, measuring(!s.devices.is_empty()), "", out);
    };
    let operations = s.iops_rate.map(|n| format!("{} op/s", number(n))).unwrap_or_default();
    cell(Sort::Disk, &format!("{}/s", bytes(rate)), &operations, out)
}

fn key(out: &mut String) -> Result {
    out.write_str("<div class=key>")?;
    for (class, what) in [
        ("f-cpu", "CPU: own code"),
        ("f-user", "in the kernel"),
        ("f-process", "Memory: processes"),
        ("f-libs", "shared libraries"),
        ("f-cache", "page cache"),
        ("f-kernel", "kernel"),
    ] {
        write!(
            out,
            "<span><svg viewBox=\"0 0 1 1\" aria-hidden=true><rect class={class} width=1 height=1 /></svg>{what}</span>"
        )?;
    }
    out.write_str("</div>")
}

/// Says what was looked for, and what was in the way.
fn empty(page: &Page<'_>, out: &mut String) -> Result {
    let view = &page.view;
    if !view.search.is_empty() {
        let without = View { search: String::new(), ..view.clone() }.href();
        return write!(
            out,
            "<div class=empty><p>No running container has “{}” in its name, image, pod, namespace or id.</p><p><a href=\"{without}\">Show all</a></p></div>",
            Esc(&short(&view.search, 100))
        );
    }
    out.write_str(
        "<div class=empty><p>No container runs on this machine, or none can be seen. This was looked for:</p><ul>",
    )?;
    let capabilities = &page.app.engine.shared().capabilities;
    for runtime in RuntimeKind::ALL {
        let what = match capabilities.get(runtime.name()) {
            Some(Answer::Yes) => "reached; it runs no container".to_owned(),
            Some(Answer::No(reason)) => reason,
            None => "not looked for".to_owned(),
        };
        write!(out, "<li><b>{}</b>: {}", runtime.name(), Esc(&what))?;
    }
    let command = "docker run --rm -d --name hello busybox sleep 600";
    write!(out, "</ul><p></p><p>Start one, say <code>{command}</code>, and it is here with the next view.</p></div>")
}
