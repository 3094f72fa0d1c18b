//! The last starts as a waterfall: each a bar of its phases, on one scale.

use std::fmt::{self, Write};

use super::Page;
use super::html::{Bar, Esc, short};
use crate::root::{Nanos, SECOND};
use crate::serve::startups::COLOURS;
use crate::startup::StartRecord;

/// Starts shown.
const ROWS: usize = 20;

pub(super) fn section(page: &Page<'_>, out: &mut String) -> fmt::Result {
    let starts = page.app.engine.shared().startups.last(ROWS);
    if starts.is_empty() {
        return Ok(());
    }
    out.write_str(
        "<section aria-labelledby=starts><div class=head><h2 id=starts>Recent starts</h2>\
         <p>from the request until it ran, and until it was ready</p></div><table class=\"rows tight starts\"><thead><tr>\
         <th scope=col>Container<th scope=col>Start<th scope=col>Phases<th scope=col class=right>Total<tbody>",
    )?;
    let scale = starts.iter().map(|r| extent(r)).max().unwrap_or(1).max(1);
    let now = page.collection.snapshot.wall;
    for record in &starts {
        row(record, scale, now, out)?;
    }
    out.write_str("</table><div class=key>")?;
    for (phase, class) in COLOURS {
        write!(
            out,
            "<span><svg viewBox=\"0 0 1 1\" aria-hidden=true><rect class={class} width=1 height=1 /></svg>{}</span>",
            phase.name().replace('_', " ")
        )?;
    }
    out.write_str("<span><a href=\"/api/v1/startups\">all as JSON</a></span></div></section>")
}

/// What the bar spans: the total and the wait until it was ready.
fn extent(record: &StartRecord) -> Nanos {
    let ready = record.phases.get(crate::startup::Phase::Ready).unwrap_or(0);
    record.total.unwrap_or_else(|| record.phases.sum()) + ready
}

fn row(record: &StartRecord, scale: Nanos, now: Nanos, out: &mut String) -> fmt::Result {
    let name = super::html::name(if record.name.is_empty() { &record.key.id } else { &record.name });
    write!(out, "<tr><td class=name><b>{}</b><span class=sub>{}</span>", Esc(&name), Esc(&short(&record.image, 80)))?;
    let when = record.running.or(record.requested).map(|at| super::html::duration(now - at));
    let ago = when.map_or(String::new(), |when| format!("<span class=sub>{when} ago</span>"));
    match &record.failure {
        Some((reason, message)) => {
            let message = if message.is_empty() { "the runtime does not say why" } else { message };
            // Runtimes put what went wrong last, after all that they were doing.
            return write!(
                out,
                "<td data-label=Start><span class=\"tag no\">{}</span>{ago}<td data-label=Why class=mem colspan=2><span class=dim>{}</span>",
                reason.name().replace('_', " "),
                Esc(&short(message, 400))
            );
        }
        None => write!(out, "<td data-label=Start><span class=tag>{}</span>{ago}", record.kind.name())?,
    }
    out.write_str("<td data-label=Phases class=mem>")?;
    waterfall(record, scale, out)?;
    for finding in &record.slow {
        write!(out, "<span class=sub>slow: {} ({})</span>", finding.reason.replace('_', " "), Esc(&finding.detail))?;
    }
    let total = record.total.map_or_else(|| super::html::UNKNOWN.to_owned(), milliseconds);
    write!(out, "<td data-label=Total class=\"num right\">{total}")
}

fn waterfall(record: &StartRecord, scale: Nanos, out: &mut String) -> fmt::Result {
    let share = |d: Nanos| d as f64 / scale as f64;
    let mut words = Vec::new();
    let mut parts = Vec::new();
    for (phase, class) in COLOURS {
        if phase == crate::startup::Phase::Ready {
            // What no phase has evidence for lies before running.
            let rest = record.total.map_or(0, |t| t - record.phases.sum()).max(0);
            parts.push(("f-none", share(rest)));
        }
        if let Some(duration) = record.phases.get(phase) {
            parts.push((class, share(duration)));
            words.push(format!("{} {}", phase.name().replace('_', " "), milliseconds(duration)));
        }
    }
    let label = if words.is_empty() { "no phase is known".to_owned() } else { words.join(", ") };
    write!(out, "{}<span class=sub>{label}</span>", Bar { track: true, label: &label, parts: &parts })
}

fn milliseconds(nanos: Nanos) -> String {
    match nanos as f64 / SECOND as f64 {
        s if s < 0.9995 => format!("{:.0}\u{a0}ms", s * 1000.0),
        s => format!("{s:.2}\u{a0}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{Key, RuntimeKind};
    use crate::startup::{FailureReason, Moments, Source, StartKind};

    fn record() -> StartRecord {
        let moments = Moments {
            requested: Some(0),
            image_ready: Some(SECOND / 10),
            process_created: Some(SECOND / 2),
            running: Some(SECOND),
            ..Moments::default()
        };
        StartRecord {
            key: Key { runtime: RuntimeKind::Docker, id: "0123456789abcdef".into() },
            name: "<b>web</b>".into(),
            image: "shop:1".into(),
            requested: Some(0),
            running: Some(SECOND),
            total: moments.total(),
            phases: moments.phases(),
            kind: StartKind::Cold,
            image_cached: Some(true),
            pool_hit: None,
            failure: None,
            slow: Vec::new(),
            source: Source::Events,
            traceparent: None,
        }
    }

    #[test]
    fn a_row_shows_phases_and_lets_nothing_out() {
        let mut out = String::new();
        row(&record(), 2 * SECOND, 61 * SECOND, &mut out).unwrap();
        let text = out.replace('\u{a0}', " ");
        for part in [
            "&lt;b&gt;web",
            "image 100 ms, init 400 ms, process 500 ms",
            "1.00 s",
            "1 min 0 s ago",
            "x=5.00 width=20.00",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_failure_says_why() {
        let mut failed = record();
        failed.failure = Some((FailureReason::OciError, "exec: \"x\": not <found>".into()));
        let mut untold = record();
        untold.failure = Some((FailureReason::Other, String::new()));
        let mut out = String::new();
        row(&untold, SECOND, SECOND, &mut out).unwrap();
        assert!(out.contains("the runtime does not say why"), "{out}");
        let mut out = String::new();
        row(&failed, SECOND, SECOND, &mut out).unwrap();
        assert!(out.contains("oci error") && out.contains("not &lt;found&gt;"), "{out}");
    }
}
