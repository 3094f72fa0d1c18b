//! `io.prometheus.client.MetricFamily`, each after its length, written straight to the wire.
//!
//! Field numbers are those of `metrics.proto` in prometheus/client_model.

use super::wire::{double, message, prefix_length, sint, string, uint, varint, zigzag};
use crate::catalog::{FamilyId, Kind};
use crate::sample::{Entity, Exemplar, Extra, Histogram, NATIVE_SCHEMA, Samples, ZERO_THRESHOLD};

/// Appends a family with all its metrics.
pub fn family(samples: &Samples, id: FamilyId, out: &mut Vec<u8>) {
    let family = id.family();
    let table = samples.table(id);
    let start = out.len();
    string(out, 1, family.name);
    string(out, 2, family.help);
    uint(out, 3, metric_type(family.kind));
    for row in &table.rows {
        metric(out, samples, row.entity, row.extra, |out| {
            let field = if family.kind == Kind::Counter { 3 } else { 2 };
            message(out, field, |out| double(out, 1, row.value));
        });
    }
    for row in &table.sums {
        metric(out, samples, row.entity, row.extra, |out| {
            message(out, 4, |out| {
                uint(out, 1, row.count);
                double(out, 2, row.sum);
            });
        });
    }
    for row in &table.hists {
        metric(out, samples, row.entity, row.extra, |out| {
            message(out, 7, |out| histogram(out, samples.histogram(row)));
        });
    }
    prefix_length(out, start);
}

fn metric_type(kind: Kind) -> u64 {
    match kind {
        Kind::Counter => 0,
        Kind::Gauge | Kind::Info => 1,
        Kind::Summary => 2,
        Kind::Histogram => 4,
    }
}

fn metric(out: &mut Vec<u8>, samples: &Samples, entity: Entity, extra: Extra, value: impl FnOnce(&mut Vec<u8>)) {
    message(out, 4, |out| {
        for (name, value) in samples.labels(entity, extra) {
            label(out, name, value);
        }
        value(out);
    });
}

fn label(out: &mut Vec<u8>, name: &str, value: &str) {
    message(out, 1, |out| {
        string(out, 1, name);
        string(out, 2, value);
    });
}

fn histogram(out: &mut Vec<u8>, h: &Histogram) {
    uint(out, 1, h.count);
    double(out, 2, h.sum);
    let mut cumulative = 0;
    let bounds = h.bounds.iter().copied().chain([f64::INFINITY]);
    for (i, (bound, n)) in bounds.zip(&h.counts).enumerate() {
        cumulative += n;
        message(out, 3, |out| {
            uint(out, 1, cumulative);
            double(out, 2, bound);
            if let Some(e) = h.exemplars.iter().find(|e| e.bucket == i) {
                message(out, 3, |out| exemplar(out, e));
            }
        });
    }
    if h.has_native() {
        native(out, h);
    }
}

fn native(out: &mut Vec<u8>, h: &Histogram) {
    sint(out, 5, NATIVE_SCHEMA.into());
    double(out, 6, ZERO_THRESHOLD);
    uint(out, 7, h.native_zero);
    let mut next = 0;
    for run in h.native.chunk_by(|a, b| a.0 + 1 == b.0) {
        let Some(&(first, _)) = run.first() else { continue };
        span(out, i64::from(first) - next, run.len());
        next = i64::from(first) + run.len() as i64;
    }
    if h.native.is_empty() {
        // A span of nothing: tells a native histogram without observations from a classic one.
        span(out, 0, 0);
    }
    let mut previous = 0;
    message(out, 13, |out| {
        for &(_, n) in &h.native {
            varint(out, zigzag(n as i64 - previous));
            previous = n as i64;
        }
    });
    for e in &h.exemplars {
        message(out, 16, |out| exemplar(out, e));
    }
}

fn span(out: &mut Vec<u8>, offset: i64, length: usize) {
    message(out, 12, |out| {
        sint(out, 1, offset);
        uint(out, 2, length as u64);
    });
}

fn exemplar(out: &mut Vec<u8>, e: &Exemplar) {
    for (name, value) in &e.labels {
        label(out, name, value);
    }
    double(out, 2, e.value);
    let seconds = e.timestamp.floor();
    message(out, 3, |out| {
        uint(out, 1, seconds as u64);
        uint(out, 2, ((e.timestamp - seconds) * 1e9) as u64);
    });
}
