//! Log lines on standard error: logfmt, as Prometheus exporters write it, or JSON.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config;
use crate::root::{Clock, write_date};

/// Changes the level while the exporter runs.
#[derive(Clone)]
pub struct Level(reload::Handle<Targets, Registry>);

impl Level {
    pub fn set(&self, level: LevelFilter) {
        // Fails only where the subscriber is gone: then there is nothing to set.
        let _ = self.0.reload(targets(level));
    }
}

/// Starts logging, for the whole process. Only the first call has an effect.
pub fn init(log: &config::Log) -> Level {
    let (filter, handle) = reload::Layer::new(targets(log.level));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let lines = if log.json {
        lines.json().flatten_event(true).with_current_span(false).with_span_list(false).with_timer(Utc).boxed()
    } else {
        lines.event_format(Logfmt).boxed()
    };
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    Level(handle)
}

/// Libraries speak at `warn` unless everything is asked for: their `debug` is about bytes and frames.
fn targets(level: LevelFilter) -> Targets {
    let others = if level == LevelFilter::TRACE { level } else { level.min(LevelFilter::WARN) };
    Targets::new().with_target(env!("CARGO_CRATE_NAME"), level).with_default(others)
}

struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        write_date(w, Clock::System.wall())
    }
}

struct Logfmt;

impl<S, N> FormatEvent<S, N> for Logfmt
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut w: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        w.write_str("time=")?;
        write_date(&mut w, Clock::System.wall())?;
        write!(w, " level={}", event.metadata().level().as_str().to_ascii_lowercase())?;
        let mut pairs = Pairs { message: String::new(), rest: String::new() };
        event.record(&mut pairs);
        w.write_str(" msg=")?;
        value(&mut w, &pairs.message)?;
        writeln!(w, "{}", pairs.rest)
    }
}

struct Pairs {
    message: String,
    rest: String,
}

impl Visit for Pairs {
    fn record_debug(&mut self, field: &Field, debug: &dyn fmt::Debug) {
        self.record_str(field, &format!("{debug:?}"));
    }

    fn record_str(&mut self, field: &Field, text: &str) {
        if field.name() == "message" {
            self.message = text.to_owned();
            return;
        }
        // Writing into a String cannot fail.
        let _ = write!(self.rest, " {}=", field.name());
        let _ = value(&mut self.rest, text);
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
