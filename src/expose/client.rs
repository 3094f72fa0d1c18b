//! The same samples through `prometheus-client`: the oracle that tests compare our encoders with, and the yardstick of
//! the benchmark. Nothing that is served comes from here.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::catalog::{self, Family, FamilyId, Kind};
use crate::engine::Collection;
use crate::sample::{Entity, Extra, Samples};

/// A registry that exposes a collection. It knows no summaries: those are left out.
pub fn registry(collection: Arc<Collection>) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Client(collection)));
    registry
}

/// A collection as the client's OpenMetrics text.
pub fn openmetrics(registry: &Registry) -> Result<String, fmt::Error> {
    let mut text = String::new();
    text::encode(&mut text, registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Client(Arc<Collection>);

impl Collector for Client {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let samples = &self.0.samples;
        for id in catalog::ids().filter(|id| !samples.table(*id).is_empty() && id.family().kind != Kind::Summary) {
            let family = id.family();
            let (name, kind) = descriptor(family);
            let metric = encoder.encode_descriptor(name, family.help, None, kind)?;
            encode_family(samples, id, kind, metric)?;
        }
        Ok(())
    }
}

/// The client appends `_total` and `_info` itself; a counter by another name is none to OpenMetrics.
fn descriptor(family: &'static Family) -> (&'static str, MetricType) {
    let suffixed =
        |suffix, kind| family.name.strip_suffix(suffix).map_or((family.name, MetricType::Unknown), |n| (n, kind));
    match family.kind {
        Kind::Counter => suffixed("_total", MetricType::Counter),
        Kind::Info => suffixed("_info", MetricType::Info),
        Kind::Histogram => (family.name, MetricType::Histogram),
        Kind::Gauge | Kind::Summary => (family.name, MetricType::Gauge),
    }
}

fn encode_family(samples: &Samples, id: FamilyId, kind: MetricType, mut metric: MetricEncoder) -> fmt::Result {
    let table = samples.table(id);
    for row in &table.rows {
        let labels = Labels(samples, row.entity, row.extra);
        match kind {
            MetricType::Info => metric.encode_info(&labels)?,
            MetricType::Counter => {
                metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&row.value, None)?
            }
            _ => metric.encode_family(&labels)?.encode_gauge(&row.value)?,
        }
    }
    for row in &table.hists {
        let h = samples.histogram(row);
        let bounds = h.bounds.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(h.counts.iter().copied()).collect();
        let none: Option<&HashMap<_, prometheus_client::metrics::exemplar::Exemplar<NoLabelSet, f64>>> = None;
        let labels = Labels(samples, row.entity, row.extra);
        metric.encode_family(&labels)?.encode_histogram(h.sum, h.count, &buckets, none)?;
    }
    Ok(())
}

#[derive(Debug)]
struct Labels<'a>(&'a Samples, Entity, Extra);

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> fmt::Result {
        for pair in self.0.labels(self.1, self.2) {
            pair.encode(encoder.encode_label())?;
        }
        Ok(())
    }
}
