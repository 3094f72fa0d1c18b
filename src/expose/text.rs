//! Classic text 0.0.4 and OpenMetrics 1.0.0, which differ in names and trimmings, not in shape.

use super::number;
use crate::catalog::{Family, FamilyId, Kind, Unit};
use crate::sample::{Entity, Exemplar, Extra, Histogram, Samples};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Classic,
    OpenMetrics,
}

/// OpenMetrics allows an exemplar's labels so many characters in all, names included; a longer one is left out.
const EXEMPLAR_CHARS: usize = 128;

#[derive(Debug)]
pub struct Text {
    dialect: Dialect,
    /// The `le="…"` labels of the family being written, +Inf last.
    bounds: Vec<Vec<u8>>,
    bounds_of: &'static [f64],
}

impl Text {
    pub fn new(dialect: Dialect) -> Self {
        let mut text = Self { dialect, bounds: Vec::new(), bounds_of: &[] };
        text.render_bounds(&[]);
        text
    }

    /// Writes rows of a family from `from` on, its heading before the first, until `out` is full; returns the next row. One row
    /// is written at least: a heading alone would be written again with the first row.
    pub fn rows(&mut self, samples: &Samples, id: FamilyId, from: usize, out: &mut Vec<u8>, upto: usize) -> usize {
        let family = id.family();
        let table = samples.table(id);
        if from == 0 {
            self.heading(family, out);
        }
        let mut at = from;
        for row in table.rows.iter().skip(at) {
            if at > from && out.len() >= upto {
                return at;
            }
            let line = Line { name: family.name, samples, entity: row.entity, extra: row.extra };
            line.start(out, "", b"");
            number::value(out, row.value);
            out.push(b'\n');
            at += 1;
        }
        let mut before = table.rows.len();
        for row in table.sums.iter().skip(at - before) {
            if at > from && out.len() >= upto {
                return at;
            }
            let line = Line { name: family.name, samples, entity: row.entity, extra: row.extra };
            line.sum_and_count(out, row.sum, row.count);
            at += 1;
        }
        before += table.sums.len();
        for row in table.hists.iter().skip(at - before) {
            if at > from && out.len() >= upto {
                return at;
            }
            let line = Line { name: family.name, samples, entity: row.entity, extra: row.extra };
            self.histogram(&line, samples.histogram(row), out);
            at += 1;
        }
        at
    }

    /// What comes after everything: OpenMetrics tells a whole answer from a torn one by it.
    pub fn end(&self, out: &mut Vec<u8>) {
        if self.dialect == Dialect::OpenMetrics {
            out.extend_from_slice(b"# EOF\n");
        }
    }

    fn heading(&self, family: &'static Family, out: &mut Vec<u8>) {
        let (name, kind) = match self.dialect {
            Dialect::Classic => (family.name, classic_type(family.kind)),
            Dialect::OpenMetrics => open_metrics_type(family),
        };
        for part in ["# HELP ", name, " "] {
            out.extend_from_slice(part.as_bytes());
        }
        escape_help(out, family.help, self.dialect);
        for part in ["\n# TYPE ", name, " ", kind, "\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        if let (Dialect::OpenMetrics, Some(unit)) = (self.dialect, unit(family.unit)) {
            // The unit line is only valid where the name ends with it.
            if name.strip_suffix(unit).is_some_and(|n| n.ends_with('_')) {
                for part in ["# UNIT ", name, " ", unit, "\n"] {
                    out.extend_from_slice(part.as_bytes());
                }
            }
        }
    }

    fn histogram(&mut self, line: &Line, h: &Histogram, out: &mut Vec<u8>) {
        if !std::ptr::eq(self.bounds_of, h.bounds) {
            self.render_bounds(h.bounds);
        }
        let mut cumulative = 0;
        for (i, (le, n)) in self.bounds.iter().zip(&h.counts).enumerate() {
            cumulative += n;
            line.start(out, "_bucket", le);
            number::count(out, cumulative);
            if self.dialect == Dialect::OpenMetrics
                && let Some(exemplar) = h.exemplars.iter().find(|e| e.bucket == i)
            {
                write_exemplar(out, exemplar);
            }
            out.push(b'\n');
        }
        line.sum_and_count(out, h.sum, h.count);
    }

    fn render_bounds(&mut self, bounds: &'static [f64]) {
        self.bounds_of = bounds;
        self.bounds.clear();
        for bound in bounds {
            let mut le = b"le=\"".to_vec();
            number::bound(&mut le, *bound, self.dialect == Dialect::OpenMetrics);
            le.push(b'"');
            self.bounds.push(le);
        }
        self.bounds.push(b"le=\"+Inf\"".to_vec());
    }
}

/// What the lines of one row share.
struct Line<'a> {
    name: &'static str,
    samples: &'a Samples,
    entity: Entity,
    extra: Extra,
}

impl Line<'_> {
    /// `name_suffix{labels} `, up to the value.
    #[inline]
    fn start(&self, out: &mut Vec<u8>, suffix: &str, le: &[u8]) {
        let own = self.samples.entity_text(self.entity);
        let more = self.samples.extra_text(self.extra);
        out.reserve(self.name.len() + own.len() + more.len() + 64);
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(suffix.as_bytes());
        let mut before = b'{';
        for labels in [own, more, le] {
            if !labels.is_empty() {
                out.push(before);
                out.extend_from_slice(labels);
                before = b',';
            }
        }
        out.extend_from_slice(if before == b',' { b"} " } else { b" " });
    }

    fn sum_and_count(&self, out: &mut Vec<u8>, sum: f64, count: u64) {
        self.start(out, "_sum", b"");
        number::value(out, sum);
        out.push(b'\n');
        self.start(out, "_count", b"");
        number::count(out, count);
        out.push(b'\n');
    }
}

fn classic_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge | Kind::Info => "gauge",
        Kind::Histogram => "histogram",
        Kind::Summary => "summary",
    }
}

/// The name and type of a family in OpenMetrics, where counters and infos are named without their suffix.
fn open_metrics_type(family: &'static Family) -> (&'static str, &'static str) {
    let suffixed =
        |suffix, kind| family.name.strip_suffix(suffix).map_or((family.name, "unknown"), |name| (name, kind));
    match family.kind {
        Kind::Counter => suffixed("_total", "counter"),
        Kind::Info => suffixed("_info", "info"),
        kind => (family.name, classic_type(kind)),
    }
}

fn unit(unit: Unit) -> Option<&'static str> {
    match unit {
        Unit::Seconds => Some("seconds"),
        Unit::Bytes => Some("bytes"),
        Unit::BytesPerSecond => Some("bytes_per_second"),
        Unit::Joules => Some("joules"),
        Unit::Ratio => Some("ratio"),
        Unit::Cores => Some("cores"),
        Unit::Count => None,
    }
}

fn escape_help(out: &mut Vec<u8>, help: &str, dialect: Dialect) {
    for b in help.bytes() {
        match b {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'"' if dialect == Dialect::OpenMetrics => out.extend_from_slice(b"\\\""),
            b => out.push(b),
        }
    }
}

fn write_exemplar(out: &mut Vec<u8>, exemplar: &Exemplar) {
    let chars: usize = exemplar.labels.iter().map(|(k, v)| k.chars().count() + v.chars().count()).sum();
    if chars > EXEMPLAR_CHARS {
        return;
    }
    out.extend_from_slice(b" # {");
    let mut labels = Vec::new();
    for (name, value) in &exemplar.labels {
        crate::sample::render_pair(&mut labels, name, value);
    }
    out.extend_from_slice(&labels);
    out.extend_from_slice(b"} ");
    number::value(out, exemplar.value);
    out.push(b' ');
    number::value(out, exemplar.timestamp);
}
