//! What the exporter accumulates itself, copied into each collection's samples.
//!
//! Counters of events (starts, failed reads, requests) live here between collections, in `prometheus-client`; tables that
//! are read fresh from the kernel never pass through it. Names and help come from the catalog.
//!
//! Histograms are [`crate::sample::Histogram`]s beside the client's registry: the client's own carry either exemplars or
//! native buckets, never both, and a start needs both. Gauges that change by themselves (a reload, a queue's length) are
//! plain values for the same simplicity.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError, RwLock};

use prometheus_client::encoding::prometheus_protobuf::{self, prometheus_data_model as model};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::catalog::{self, FamilyId, Kind};
use crate::sample::{Entity, Histogram, Samples};

type Labels = Vec<(&'static str, String)>;

#[derive(Default)]
pub struct Held {
    registry: Mutex<Registry>,
    counters: RwLock<HashMap<FamilyId, Family<Labels, Counter>>>,
    gauges: Mutex<BTreeMap<Series, f64>>,
    histograms: Mutex<BTreeMap<Series, Histogram>>,
}

/// A series by family and label values, in the order of the family's labels.
type Series = (FamilyId, Vec<String>);

/// What an observation points to: a trace, as a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct ExemplarOf {
    pub labels: Vec<(&'static str, String)>,
    /// Seconds since the Unix epoch.
    pub timestamp: f64,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

impl Held {
    /// Adds to a counter of the catalog. `values` are the label values in the order of the family's labels.
    pub fn add(&self, family: FamilyId, values: &[&str], n: u64) {
        let known = self.counters.read().unwrap_or_else(PoisonError::into_inner).get(&family).cloned();
        let counter = known.unwrap_or_else(|| self.register(family));
        let names = family.family().labels;
        debug_assert_eq!(names.len(), values.len(), "labels of {}", family.name());
        let labels = names.iter().copied().zip(values.iter().map(|v| (*v).to_owned())).collect();
        counter.get_or_create(&labels).inc_by(n);
    }

    pub fn inc(&self, family: FamilyId, values: &[&str]) {
        self.add(family, values, 1);
    }

    /// Sets a gauge of the catalog. Label values as for [`Held::add`].
    pub fn set(&self, family: FamilyId, values: &[&str], value: f64) {
        let mut gauges = self.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        gauges.insert(series(family, values), value);
    }

    /// Sets a gauge of the catalog to 1 for each of these label values, and forgets all others it had.
    pub fn set_infos(&self, family: FamilyId, all: &[Vec<&str>]) {
        let mut gauges = self.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        gauges.retain(|(id, _), _| *id != family);
        gauges.extend(all.iter().map(|values| (series(family, values), 1.0)));
    }

    /// Counts an observation in a histogram of the catalog. Label values as for [`Held::add`].
    pub fn observe(&self, family: FamilyId, values: &[&str], value: f64, exemplar: Option<ExemplarOf>) {
        let mut histograms = self.histograms.lock().unwrap_or_else(PoisonError::into_inner);
        let histogram =
            histograms.entry(series(family, values)).or_insert_with(|| Histogram::new(family.family().buckets));
        match exemplar {
            Some(of) => histogram.observe_with(value, of.labels, of.timestamp),
            None => _ = histogram.observe(value),
        }
    }

    fn register(&self, family: FamilyId) -> Family<Labels, Counter> {
        let mut counters = self.counters.write().unwrap_or_else(PoisonError::into_inner);
        counters
            .entry(family)
            .or_insert_with(|| {
                let about = family.family();
                debug_assert_eq!(about.kind, Kind::Counter, "{}", about.name);
                let counter = Family::<Labels, Counter>::default();
                // The client adds `_total` itself.
                let name = about.name.strip_suffix("_total").unwrap_or(about.name);
                let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
                registry.register(name, about.help, counter.clone());
                counter
            })
            .clone()
    }

    /// Copies everything held into a collection.
    pub fn samples(&self, out: &mut Samples, wanted: impl Fn(FamilyId) -> bool) {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(families) = prometheus_protobuf::encode(&registry) else { return };
        drop(registry);
        for family in families {
            let Some(id) = catalog::by_name(&family.name).filter(|id| wanted(*id)) else { continue };
            for metric in &family.metric {
                push(out, id, metric);
            }
        }
        let gauges = self.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        for ((family, values), value) in gauges.iter().filter(|((id, _), _)| wanted(*id)) {
            out.push_with(*family, Entity::NONE, &pairs(*family, values), *value);
        }
        let histograms = self.histograms.lock().unwrap_or_else(PoisonError::into_inner);
        for ((family, values), histogram) in histograms.iter().filter(|((id, _), _)| wanted(*id)) {
            out.push_histogram(*family, Entity::NONE, &pairs(*family, values), histogram);
        }
    }

    /// The registry's own OpenMetrics text, of the counters: the oracle that tests compare our encoders with.
    pub fn openmetrics(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
        text
    }
}

fn series(family: FamilyId, values: &[&str]) -> Series {
    debug_assert_eq!(family.family().labels.len(), values.len(), "labels of {}", family.name());
    (family, values.iter().map(|v| (*v).to_owned()).collect())
}

fn pairs(family: FamilyId, values: &[String]) -> Vec<(&'static str, &str)> {
    family.family().labels.iter().copied().zip(values.iter().map(String::as_str)).collect()
}

fn push(out: &mut Samples, family: FamilyId, metric: &model::Metric) {
    let labels: Vec<(&str, &str)> = metric.label.iter().map(|l| (l.name.as_str(), l.value.as_str())).collect();
    if let Some(counter) = &metric.counter {
        out.push_with(family, Entity::NONE, &labels, counter.value);
    }
}
