//! The same samples through this exporter's encoder and through `prometheus-client`.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::catalog::{self, FamilyId, Kind};
use crate::expose::{self, Format};
use crate::root::thread_cpu_time;
use crate::sample::Samples;

type Labels = Vec<(String, String)>;

/// CPU time of one encoding, and the bytes it made.
#[derive(Debug, Clone, Copy)]
pub struct Encoded {
    pub nanos: f64,
    pub bytes: usize,
}

/// Both ways to OpenMetrics text; ours first. Only counters and gauges: for a histogram the client would have to be fed
/// observations.
pub fn compare(samples: &Samples, rounds: u32) -> Result<[Encoded; 2], std::fmt::Error> {
    let registry = registry(samples);
    let (mut ours, mut theirs) = (Vec::new(), String::new());
    let mut best = [Encoded { nanos: f64::INFINITY, bytes: 0 }; 2];
    for _ in 0..rounds {
        ours.clear();
        let begin = thread_cpu_time();
        expose::write(samples, Format::OpenMetrics, &mut ours);
        best[0].nanos = best[0].nanos.min((thread_cpu_time() - begin) as f64);
        theirs.clear();
        let begin = thread_cpu_time();
        text::encode(&mut theirs, &registry)?;
        best[1].nanos = best[1].nanos.min((thread_cpu_time() - begin) as f64);
    }
    best[0].bytes = ours.len();
    best[1].bytes = theirs.len();
    Ok(best)
}

fn registry(samples: &Samples) -> Registry {
    let mut registry = Registry::default();
    for id in catalog::ids().filter(|id| !samples.table(*id).rows.is_empty()) {
        match id.family().kind {
            Kind::Counter => counters(&mut registry, id, samples),
            _ => gauges(&mut registry, id, samples),
        }
    }
    registry
}

fn counters(registry: &mut Registry, id: FamilyId, samples: &Samples) {
    let family = Family::<Labels, Counter<f64, AtomicU64>>::default();
    for row in &samples.table(id).rows {
        family.get_or_create(&labels(samples, row)).inc_by(row.value);
    }
    // The client adds `_total` itself.
    let name = id.name().strip_suffix("_total").unwrap_or(id.name());
    registry.register(name, id.family().help, family);
}

fn gauges(registry: &mut Registry, id: FamilyId, samples: &Samples) {
    let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
    for row in &samples.table(id).rows {
        family.get_or_create(&labels(samples, row)).set(row.value);
    }
    registry.register(id.name(), id.family().help, family);
}

fn labels(samples: &Samples, row: &crate::sample::Row) -> Labels {
    samples.labels(row.entity, row.extra).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}
