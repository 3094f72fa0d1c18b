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
use crate::root::{Clock, SECOND};

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
        rfc3339(w, Clock::System.wall())
    }
}

/// `2026-01-02T03:04:05.678Z`.
fn rfc3339(w: &mut impl Write, nanos: i64) -> fmt::Result {
    let (seconds, rest) = (nanos.div_euclid(SECOND), nanos.rem_euclid(SECOND));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    write!(w, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", rest / 1_000_000)
}

/// Days since 1970-01-01 → date (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let (era, day_of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

struct Logfmt;

impl<S, N> FormatEvent<S, N> for Logfmt
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut w: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        w.write_str("time=")?;
        rfc3339(&mut w, Clock::System.wall())?;
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
    fn times_are_utc_with_milliseconds() {
        for (nanos, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400 * SECOND, "2000-02-29T00:00:00.000Z"),
            (1_735_689_599 * SECOND + 999_999_999, "2024-12-31T23:59:59.999Z"),
            (-SECOND, "1969-12-31T23:59:59.000Z"),
        ] {
            let mut out = String::new();
            rfc3339(&mut out, nanos).unwrap();
            assert_eq!(out, text);
        }
    }

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
