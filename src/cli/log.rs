//! Log lines on standard error: logfmt, as Prometheus exporters write it, or JSON.

use std::fmt::{self, Write};

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::trace::SdkTracer;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::root::{Clock, write_date};
use crate::{WORK, config};

/// Changes the level while the exporter runs.
#[derive(Clone)]
pub struct Level {
    handle: reload::Handle<Targets, Registry>,
    traced: bool,
}

impl Level {
    pub fn set(&self, level: LevelFilter) {
        // Fails only where the subscriber is gone: then there is nothing to set.
        let _ = self.handle.reload(targets(level, self.traced));
    }
}

/// Starts logging, for the whole process, and recording the exporter's own work where a tracer is given. Only the first call
/// has an effect.
pub fn init(log: &config::Log, tracer: Option<SdkTracer>) -> Level {
    let traced = tracer.is_some();
    let (filter, handle) = reload::Layer::new(targets(log.level, traced));
    let spans = tracer.map(|tracer| {
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            // Spans of libraries would tell of bytes and frames, and of the very requests that carry spans.
            .with_filter(Targets::new().with_target(env!("CARGO_CRATE_NAME"), LevelFilter::TRACE))
    });
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let lines =
        if log.json { lines.event_format(Line { write: json }) } else { lines.event_format(Line { write: logfmt }) };
    let _ = tracing_subscriber::registry().with(filter).with(spans).with(lines).try_init();
    Level { handle, traced }
}

/// Libraries speak at `warn` unless everything is asked for: their `debug` is about bytes and frames. Spans are not lines:
/// their level is not the log's.
fn targets(level: LevelFilter, traced: bool) -> Targets {
    let others = if level == LevelFilter::TRACE { level } else { level.min(LevelFilter::WARN) };
    let spans = if traced { LevelFilter::TRACE } else { LevelFilter::OFF };
    Targets::new().with_target(env!("CARGO_CRATE_NAME"), level).with_target(WORK, spans).with_default(others)
}

/// One event a line.
struct Line {
    write: fn(&mut Writer<'_>, i64, &Event<'_>, Fields) -> fmt::Result,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut w: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        // Of the span that the event is in; a start's line brings the id of its own trace.
        let span = Context::map_current(|current| current.span().span_context().clone());
        if span.is_valid() && !fields.0.iter().any(|(name, _)| *name == "trace_id") {
            fields.0.push(("trace_id", span.trace_id().to_string().into()));
            fields.0.push(("span_id", span.span_id().to_string().into()));
        }
        (self.write)(&mut w, Clock::System.wall(), event, fields)
    }
}

fn logfmt(w: &mut Writer<'_>, now: i64, event: &Event<'_>, mut fields: Fields) -> fmt::Result {
    w.write_str("time=")?;
    write_date(w, now)?;
    write!(w, " level={} msg=", event.metadata().level().as_str().to_ascii_lowercase())?;
    value(w, fields.message().as_str().unwrap_or_default())?;
    for (name, field) in fields.0 {
        write!(w, " {name}=")?;
        match field {
            Value::String(text) => value(w, &text)?,
            other => write!(w, "{other}")?,
        }
    }
    writeln!(w)
}

fn json(w: &mut Writer<'_>, now: i64, event: &Event<'_>, mut fields: Fields) -> fmt::Result {
    let mut time = String::new();
    write_date(&mut time, now)?;
    let (level, message) = (Value::from(event.metadata().level().as_str()), fields.message());
    write!(w, "{{\"timestamp\":{},\"level\":{level},\"message\":{message}", Value::from(time))?;
    fields.0.push(("target", event.metadata().target().into()));
    for (name, field) in fields.0 {
        write!(w, ",{}:{field}", Value::from(name))?;
    }
    w.write_str("}\n")
}

/// An event's fields in their order, its message among them.
#[derive(Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn message(&mut self) -> Value {
        let at = self.0.iter().position(|(name, _)| *name == "message");
        at.map_or_else(|| "".into(), |at| self.0.remove(at).1)
    }

    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.push((field.name(), value.into()));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, debug: &dyn fmt::Debug) {
        self.put(field, format!("{debug:?}"));
    }

    fn record_str(&mut self, field: &Field, text: &str) {
        self.put(field, text);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }
}

/// Quoted where it holds anything that would end or confuse a plain value.
fn value(w: &mut impl Write, text: &str) -> fmt::Result {
    let plain = !text.is_empty() && text.chars().all(|c| !c.is_whitespace() && !c.is_control() && !"=\"\\".contains(c));
    if plain {
        return w.write_str(text);
    }
    w.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(w, "\\{c}")?,
            '\n' => w.write_str("\\n")?,
            c if c.is_control() => write!(w, "\\u{:04x}", u32::from(c))?,
            c => w.write_char(c)?,
        }
    }
    w.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_where_needed() {
        for (text, expected) in [
            ("plain/path:1", "plain/path:1"),
            ("", "\"\""),
            ("two words", "\"two words\""),
            ("a=b", "\"a=b\""),
            ("say \"hi\"\\\n\x1b[0m", "\"say \\\"hi\\\"\\\\\\n\\u001b[0m\""),
        ] {
            let mut out = String::new();
            value(&mut out, text).unwrap();
            assert_eq!(out, expected);
        }
    }
}
