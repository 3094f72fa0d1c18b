//! The table of containers.

use std::fmt::{Result, Write};

use super::html::{self, Bar, Esc, UNKNOWN, bytes, duration, number, percent, short, trimmed};
use super::{Page, ROWS, View};
use crate::probe::Answer;
use crate::root::Nanos;
use crate::runtime::RuntimeKind;
use crate::serve::containers::{Sort, cpus, display_name, sum};
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
    let scale = Scale::of(page, &found[..shown]);
    for facts in &found[..shown] {
        row(facts, &scale, out)?;
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

/// What figures are shown against.
struct Scale {
    wall: Nanos,
    cpus: Option<f64>,
    /// The largest of the rows: what has no limit is compared with the others.
    memory: f64,
    network: f64,
    disk: f64,
}

impl Scale {
    fn of(page: &Page<'_>, rows: &[&ContainerFacts]) -> Self {
        let snapshot = &page.collection.snapshot;
        let largest = |figure: fn(&ContainerFacts) -> Option<f64>| {
            rows.iter().filter_map(|f| figure(f)).fold(f64::MIN_POSITIVE, f64::max)
        };
        Self {
            wall: snapshot.wall,
            cpus: cpus(snapshot),
            memory: largest(|f| f.memory.usage.map(|b| b as f64)),
            network: largest(|f| sum(f.network.rx_rate, f.network.tx_rate)),
            disk: largest(|f| f.storage.bytes_rate),
        }
    }
}

fn row(facts: &ContainerFacts, scale: &Scale, out: &mut String) -> Result {
    out.write_str("<tr role=row>")?;
    name(facts, out)?;
    cpu(facts, scale, out)?;
    memory(&facts.memory, scale, out)?;
    efficiency(facts, out)?;
    network(facts, scale, out)?;
    disk(facts, scale, out)?;
    let up = facts.container.started.map(|t| duration(scale.wall - t));
    cell(Sort::Started, &up.unwrap_or_else(|| UNKNOWN.into()), "", None, out)?;
    out.write_str("</tr>")
}

fn name(facts: &ContainerFacts, out: &mut String) -> Result {
    let c = &facts.container;
    let i = &c.identity;
    write!(out, "<td role=cell class=name><b>{}</b>", Esc(&html::name(display_name(facts))))?;
    if c.healthy == Some(false) {
        out.write_str(" <span class=\"tag no\">unhealthy</span>")?;
    }
    if !i.pod.is_empty() {
        write!(out, "<span class=sub>{} / {}</span>", Esc(&short(&i.namespace, 60)), Esc(&short(&i.pod, 80)))?;
    }
    if !i.image.is_empty() {
        write!(out, "<span class=sub>{}</span>", Esc(&short(&i.image, 90)))?;
    }
    let id = if c.runtime == RuntimeKind::Cgroup { String::new() } else { c.native_id.chars().take(12).collect() };
    write!(out, "<span class=sub>{} <code>{}</code></span></td>", c.runtime.name(), Esc(&id))
}

fn cell(sort: Sort, main: &str, sub: &str, bar: Option<Bar<'_>>, out: &mut String) -> Result {
    write!(out, "<td role=cell class=num data-label={}>{main}", title(sort))?;
    if !sub.is_empty() {
        write!(out, "<span class=sub>{sub}</span>")?;
    }
    if let Some(bar) = bar {
        write!(out, "{bar}")?;
    }
    out.write_str("</td>")
}

fn cpu(facts: &ContainerFacts, scale: &Scale, out: &mut String) -> Result {
    out.write_str("<td role=cell class=cpu data-label=CPU>")?;
    let cpu = &facts.cpu;
    let Some(cores) = cpu.usage_rate_cores else {
        return write!(out, "{}</td>", measuring(cpu.usage_ns.is_some()));
    };
    let of = cpu.allocated_cores.or(scale.cpus).filter(|c| *c > 0.0);
    let given = of.map(|c| format!("of {}", trimmed(c))).unwrap_or_default();
    write!(out, "<div class=line><span>{} cores</span><span class=sub>{given}</span></div>", number(cores))?;
    if let Some(of) = of {
        let user = cpu.user_rate_cores.unwrap_or(0.0).min(cores);
        let label =
            format!("{} of {} cores used, {} by the container's own code", number(cores), trimmed(of), number(user));
        let parts = [("f-cpu", user / of), ("f-user", (cores - user) / of)];
        write!(out, "{}", Bar { track: true, label: &label, parts: &parts })?;
    }
    out.write_str("</td>")
}

/// A rate needs two collections.
fn measuring(source: bool) -> &'static str {
    if source { "<span class=dim>measuring</span>" } else { UNKNOWN }
}

fn memory(m: &MemoryFacts, scale: &Scale, out: &mut String) -> Result {
    out.write_str("<td role=cell class=mem data-label=Memory>")?;
    let Some(usage) = m.usage else { return write!(out, "{UNKNOWN}</td>") };
    let given = m.allocated.map_or_else(|| "no limit".into(), |a| format!("of {}", bytes(a as f64)));
    write!(out, "<div class=line><span>{}</span><span class=sub>{given}</span></div>", bytes(usage as f64))?;
    let whole = m.allocated.map_or(scale.memory, |a| a.max(1) as f64);
    let kinds = [
        ("f-process", "processes", m.process()),
        ("f-libs", "shared libraries", m.shared_libraries()),
        ("f-cache", "page cache", m.page_cache()),
        ("f-kernel", "kernel", m.kernel),
    ];
    let known = kinds.iter().filter_map(|(_, what, n)| Some(format!("{what} {}", bytes((*n)? as f64))));
    let label = known.collect::<Vec<_>>().join(", ");
    let parts = kinds.map(|(class, _, n)| (class, n.unwrap_or(0) as f64 / whole));
    write!(out, "{}</td>", Bar { track: m.allocated.is_some(), label: &label, parts: &parts })
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
    let parts = [("f-libs", memory.or(cpu).unwrap_or(0.0))];
    let bar = memory.or(cpu).map(|_| Bar { track: true, label: &main, parts: &parts });
    cell(Sort::Efficiency, &main, &sub, bar, out)
}

/// `↓ 1.5 KiB/s`; nothing stands back.
fn rate(sign: &str, rate: f64) -> String {
    let text = format!("{sign}{}/s", bytes(rate));
    if rate == 0.0 { format!("<span class=dim>{text}</span>") } else { text }
}

fn network(facts: &ContainerFacts, scale: &Scale, out: &mut String) -> Result {
    let n = &facts.network;
    let (main, sub) = match (n.rx_rate, n.tx_rate) {
        (None, None) if facts.container.host_network => ("the machine's".to_owned(), String::new()),
        (None, None) => (measuring(!n.interfaces.is_empty()).to_owned(), String::new()),
        (rx, tx) => (rx.map(|r| rate("↓ ", r)).unwrap_or_default(), tx.map(|r| rate("↑ ", r)).unwrap_or_default()),
    };
    let share = |rate: Option<f64>| rate.unwrap_or(0.0) / scale.network;
    let parts = [("f-net", share(n.rx_rate)), ("f-sent", share(n.tx_rate))];
    let bar = sum(n.rx_rate, n.tx_rate).filter(|r| *r > 0.0);
    let bar = bar.map(|_| Bar { track: false, label: "received and sent, of the most among these", parts: &parts });
    cell(Sort::Network, &main, &sub, bar, out)
}

fn disk(facts: &ContainerFacts, scale: &Scale, out: &mut String) -> Result {
    let s = &facts.storage;
    let Some(bytes) = s.bytes_rate else {
        return cell(Sort::Disk, measuring(!s.devices.is_empty()), "", None, out);
    };
    let operations = s.iops_rate.filter(|n| *n > 0.0).map(|n| format!("{} op/s", number(n))).unwrap_or_default();
    let parts = [("f-disk", bytes / scale.disk)];
    let bar = (bytes > 0.0).then_some(Bar { track: false, label: "of the most among these", parts: &parts });
    cell(Sort::Disk, &rate("", bytes), &operations, bar, out)
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
        ("f-net", "Network: received"),
        ("f-sent", "sent"),
        ("f-disk", "Disk"),
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
    let capabilities = &page.app.engine.shared().capabilities;
    let answers = RuntimeKind::ALL.map(|r| Some((r.name(), capabilities.get(r.name())?)));
    out.write_str(
        "<div class=empty><p>No container runs on this machine, or none can be seen. This was looked for:</p><ul>",
    )?;
    if answers.iter().all(Option::is_none) {
        out.write_str("<li>nothing yet: every runtime is switched off, or is just being asked")?;
    }
    for (runtime, answer) in answers.into_iter().flatten() {
        let what = match answer {
            Answer::Yes => "reached; it runs no container".to_owned(),
            Answer::No(reason) => reason,
        };
        write!(out, "<li><b>{runtime}</b>: {}", Esc(&what))?;
    }
    let command = "docker run --rm -d --name hello busybox sleep 600";
    write!(out, "</ul><p>Start one, say <code>{command}</code>, and it is here with the next view.</p></div>")
}
