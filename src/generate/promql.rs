//! PromQL from small functions: names come from the catalog or from the recording rules, never from strings in place.

use std::fmt;

use crate::catalog::{FamilyId, Scope};

/// Labels that say which container a series is about.
pub const IDENTITY: &str = "id, name, image, runtime, namespace, pod, container";

/// An instant or range vector selector.
#[derive(Debug, Clone)]
pub struct Selector {
    name: String,
    matchers: Vec<String>,
    range: String,
    offset: String,
}

/// The series of a family. Container families are shared with cAdvisor by name: only ours have a `runtime`, and the
/// series of the whole machine (`id="/"`) has none.
pub fn family(f: FamilyId) -> Selector {
    let matchers = if f.family().scope == Scope::Container { vec![r#"runtime!="""#.into()] } else { Vec::new() };
    Selector { name: f.name().into(), matchers, range: String::new(), offset: String::new() }
}

/// The series of the whole machine.
pub fn machine(f: FamilyId) -> Selector {
    Selector { name: f.name().into(), matchers: vec![r#"id="/""#.into()], range: String::new(), offset: String::new() }
}

pub fn buckets(f: FamilyId) -> Selector {
    part(f, "bucket")
}

pub fn sum_of(f: FamilyId) -> Selector {
    part(f, "sum")
}

pub fn count_of(f: FamilyId) -> Selector {
    part(f, "count")
}

fn part(f: FamilyId, suffix: &str) -> Selector {
    let mut s = family(f);
    s.name = format!("{}_{suffix}", s.name);
    s
}

/// What a recording rule records.
pub fn recorded(rule: &str) -> Selector {
    Selector { name: rule.into(), matchers: Vec::new(), range: String::new(), offset: String::new() }
}

impl Selector {
    /// `label="value"`.
    pub fn eq(self, label: &str, value: &str) -> Self {
        self.matching(format!("{label}=\"{value}\""))
    }

    /// A matcher as it is written.
    pub fn matching(mut self, matcher: impl Into<String>) -> Self {
        self.matchers.push(matcher.into());
        self
    }

    /// The matchers of another place put first, e.g. a dashboard's variables.
    pub fn within(mut self, matchers: &[String]) -> Self {
        self.matchers.splice(0..0, matchers.iter().cloned());
        self
    }

    pub fn over(mut self, window: &str) -> Self {
        self.range = window.into();
        self
    }

    pub fn offset(mut self, by: &str) -> Self {
        self.offset = by.into();
        self
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if !self.matchers.is_empty() {
            write!(f, "{{{}}}", self.matchers.join(","))?;
        }
        if !self.range.is_empty() {
            write!(f, "[{}]", self.range)?;
        }
        if !self.offset.is_empty() {
            write!(f, " offset {}", self.offset)?;
        }
        Ok(())
    }
}

pub fn rate(s: &Selector, window: &str) -> String {
    format!("rate({})", s.clone().over(window))
}

pub fn increase(s: &Selector, window: &str) -> String {
    format!("increase({})", s.clone().over(window))
}

/// The increase of a counter of rare events, its first one included: such a series is born with the value 1, and
/// `increase` alone sees no growth in it. A series that was not there during the window before counts from zero.
pub fn grown(s: &Selector, window: &str) -> String {
    let before = s.clone().over(window).offset(window);
    format!("(\n  {s} unless last_over_time({before})\n  or\n  {}\n)", increase(s, window))
}

pub fn sum_without(labels: &str, e: impl fmt::Display) -> String {
    format!("sum without ({labels}) ({e})")
}

/// `op by (labels) (e)`.
pub fn by(op: &str, labels: &str, e: impl fmt::Display) -> String {
    format!("{op} by ({labels}) ({e})")
}

/// A quantile of buckets, absent (not NaN) where nothing was observed.
pub fn quantile(q: f64, buckets: impl fmt::Display) -> String {
    format!("histogram_quantile({q}, {buckets}) >= 0")
}

/// `a ÷ b`, absent where `b` is 0.
pub fn ratio(a: impl fmt::Display, b: impl fmt::Display) -> String {
    format!("{a}\n/\n({b} > 0)")
}

/// `a`, or 0 where only `b` is there.
pub fn or_zero(a: &str, b: &str) -> String {
    format!("({a} or {b} * 0)")
}

/// A matcher for one bucket boundary, in every way exporters and Prometheus write it: `1` and `1.0`, `0.00005` and
/// `5e-05`.
pub fn le(bound: f64) -> String {
    let plain = format!("{bound}");
    let mut forms = vec![plain.replace('.', r"\\.")];
    if bound.fract() == 0.0 {
        forms.push(format!(r"{plain}\\.0"));
    }
    if bound < 1e-4 {
        let scientific = format!("{bound:e}");
        if let Some((mantissa, exponent)) = scientific.split_once("e-") {
            forms.push(format!("{}e-0{exponent}", mantissa.replace('.', r"\\.")));
        }
    }
    format!("le=~\"{}\"", forms.join("|"))
}

/// Seconds as a Prometheus duration, in the largest unit that is exact.
pub fn duration(seconds: f64) -> String {
    let ms = (seconds * 1000.0).round().max(1.0) as u64;
    for (unit, name) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")] {
        if ms.is_multiple_of(unit) {
            return format!("{}{name}", ms / unit);
        }
    }
    format!("{ms}ms")
}

/// Names of the metrics that a query reads: every identifier that is neither a function, a keyword, a label nor text.
pub fn metric_names(query: &str) -> Vec<String> {
    const WORDS: [&str; 13] = [
        "and",
        "or",
        "unless",
        "bool",
        "offset",
        "by",
        "without",
        "on",
        "ignoring",
        "group_left",
        "group_right",
        "inf",
        "nan",
    ];
    /// Words that a list of labels in parentheses follows.
    const LABEL_LISTS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
    let bytes = query.as_bytes();
    let mut names = Vec::new();
    let mut last = "";
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'"' | b'\'' | b'`' => i = end_of_text(bytes, i),
            b'{' => i = end_of(bytes, i, b'{', b'}'),
            b'[' => i = end_of(bytes, i, b'[', b']'),
            b'(' if LABEL_LISTS.contains(&last) => {
                i = end_of(bytes, i, b'(', b')');
                last = "";
            }
            b if b.is_ascii_alphabetic() || b == b'_' || b == b':' => {
                let start = i;
                while i < bytes.len() && (bytes[i].is_ascii_alphanumeric() || b"_:".contains(&bytes[i])) {
                    i += 1;
                }
                last = &query[start..i];
                let rest = query[i..].trim_start();
                let called = rest.starts_with('(');
                let aggregates = rest.starts_with("by ") || rest.starts_with("without ");
                if !called && !aggregates && !WORDS.contains(&last.to_ascii_lowercase().as_str()) {
                    names.push(last.to_owned());
                }
            }
            // A number with its unit or exponent.
            b if b.is_ascii_digit() => {
                while i < bytes.len() && (bytes[i].is_ascii_alphanumeric() || bytes[i] == b'.') {
                    i += 1;
                }
            }
            b => {
                if !b.is_ascii_whitespace() {
                    last = "";
                }
                i += 1;
            }
        }
    }
    names
}

fn end_of_text(bytes: &[u8], start: usize) -> usize {
    let quote = bytes[start];
    let mut i = start + 1;
    while i < bytes.len() && bytes[i] != quote {
        i += if bytes[i] == b'\\' && quote != b'`' { 2 } else { 1 };
    }
    i + 1
}

fn end_of(bytes: &[u8], start: usize, open: u8, close: u8) -> usize {
    let mut depth = 0;
    let mut i = start;
    while i < bytes.len() {
        match bytes[i] {
            b'"' => {
                i = end_of_text(bytes, i);
                continue;
            }
            b if b == open => depth += 1,
            b if b == close => {
                depth -= 1;
                if depth == 0 {
                    return i + 1;
                }
            }
            _ => {}
        }
        i += 1;
    }
    i
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog;

    #[test]
    fn selectors_are_written_as_prometheus_reads_them() {
        let s = family(catalog::CPU_USAGE).eq("cpu", "total");
        assert_eq!(rate(&s, "5m"), r#"rate(container_cpu_usage_seconds_total{runtime!="",cpu="total"}[5m])"#);
        assert_eq!(family(catalog::BUILD_INFO).to_string(), "kina_exporter_build_info");
        assert_eq!(
            grown(&family(catalog::STARTS), "1h"),
            "(\n  kina_container_starts_total unless last_over_time(kina_container_starts_total[1h] offset 1h)\n  or\n  \
             increase(kina_container_starts_total[1h])\n)"
        );
    }

    #[test]
    fn bucket_boundaries_match_every_way_to_write_them() {
        assert_eq!(le(0.8), r#"le=~"0\\.8""#);
        assert_eq!(le(1.0), r#"le=~"1|1\\.0""#);
        assert_eq!(le(0.00005), r#"le=~"0\\.00005|5e-05""#);
    }

    #[test]
    fn durations_take_the_largest_exact_unit() {
        let all = [86400.0, 3600.0, 5400.0, 300.0, 90.0, 1.5].map(duration);
        assert_eq!(all, ["1d", "1h", "90m", "5m", "90s", "1500ms"]);
    }

    #[test]
    fn metric_names_are_found_and_nothing_else() {
        let query = r#"sum by (job, le) (rate(a_bucket{job=~"b|c",x="d{e}"}[5m] offset 1h)) / on (job) group_left ()
            (x:y:z > 0.5e3 or vector(0)) and label_replace(up == bool 1, "k", "$1", "v", "(.*)") unless sum(q) without (z) * 0"#;
        assert_eq!(metric_names(query), ["a_bucket", "x:y:z", "up", "q"]);
    }
}
