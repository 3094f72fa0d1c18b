//! A collection as JSON, for people's scripts: `snapshot --format json`.

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use crate::catalog::{self, FamilyId, Kind};
use crate::sample::{Entity, Extra, Histogram, Samples};

/// A collection as one JSON array of families that have samples: `{name, type, help, samples: [{labels, value}]}`.
/// A summary has `sum` and `count` in place of `value`, a histogram `buckets` besides: the cumulative count by upper bound.
/// What JSON has no number for (NaN, infinities) is null.
pub fn json(samples: &Samples) -> impl Serialize + '_ {
    Families(samples)
}

struct Families<'a>(&'a Samples);

impl Serialize for Families<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(catalog::ids().filter(|id| !self.0.table(*id).is_empty()).map(|id| Family(self.0, id)))
    }
}

struct Family<'a>(&'a Samples, FamilyId);

impl Serialize for Family<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let family = self.1.family();
        let mut map = s.serialize_map(Some(4))?;
        map.serialize_entry("name", family.name)?;
        map.serialize_entry("type", kind(family.kind))?;
        map.serialize_entry("help", family.help)?;
        map.serialize_entry("samples", &Rows(self.0, self.1))?;
        map.end()
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
        Kind::Summary => "summary",
        Kind::Info => "info",
    }
}

struct Rows<'a>(&'a Samples, FamilyId);

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let samples = self.0;
        let table = samples.table(self.1);
        let row = |entity, extra, value| Row { samples, entity, extra, value };
        let mut seq = s.serialize_seq(Some(table.len()))?;
        for r in &table.rows {
            seq.serialize_element(&row(r.entity, r.extra, Value::Number(r.value)))?;
        }
        for r in &table.sums {
            seq.serialize_element(&row(r.entity, r.extra, Value::Sum(r.sum, r.count)))?;
        }
        for r in &table.hists {
            seq.serialize_element(&row(r.entity, r.extra, Value::Histogram(samples.histogram(r))))?;
        }
        seq.end()
    }
}

enum Value<'a> {
    Number(f64),
    Sum(f64, u64),
    Histogram(&'a Histogram),
}

struct Row<'a> {
    samples: &'a Samples,
    entity: Entity,
    extra: Extra,
    value: Value<'a>,
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("labels", &Labels(self))?;
        match self.value {
            Value::Number(v) if v.fract() == 0.0 && v.abs() < 9e15 => map.serialize_entry("value", &(v as i64))?,
            Value::Number(v) => map.serialize_entry("value", &v)?,
            Value::Sum(sum, count) => {
                map.serialize_entry("sum", &sum)?;
                map.serialize_entry("count", &count)?;
            }
            Value::Histogram(h) => {
                map.serialize_entry("sum", &h.sum)?;
                map.serialize_entry("count", &h.count)?;
                map.serialize_entry("buckets", &Buckets(h))?;
            }
        }
        map.end()
    }
}

struct Labels<'a>(&'a Row<'a>);

impl Serialize for Labels<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.0.samples.labels(self.0.entity, self.0.extra))
    }
}

struct Buckets<'a>(&'a Histogram);

impl Serialize for Buckets<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut total = 0;
        let bounds = self.0.bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        s.collect_map(bounds.zip(&self.0.counts).map(|(bound, n)| {
            total += n;
            (bound, total)
        }))
    }
}
