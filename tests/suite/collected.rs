//! Collections made in the test's own process, and what they say.

use std::sync::Arc;

use kina_exporter::catalog::{Collector, FamilyId};
use kina_exporter::config::{CollectorSet, Config};
use kina_exporter::engine::{Collection, Engine, Shared};
use kina_exporter::macos::System;
use kina_exporter::root::Root;
use kina_exporter::runtime::{Container, Identity, RuntimeKind};
use kina_exporter::sample::{Entity, Extra, Row};
use kina_exporter::snapshot::ContainerFacts;

/// A container as the cgroup tree alone tells of it.
pub fn container(name: &str) -> Container {
    let identity = Identity { id: format!("/{name}"), name: name.into(), ..Identity::default() };
    Container {
        native_id: name.into(),
        labels: Arc::new(identity.labels(RuntimeKind::Cgroup)),
        identity,
        ..Container::default()
    }
}

/// An engine over `root` that knows these containers, asked for all collectors.
pub struct Collecting {
    engine: Engine,
    runtime: tokio::runtime::Runtime,
}

impl Collecting {
    pub fn of(root: Root, containers: Vec<Container>) -> Collecting {
        Self::on(root, containers, None)
    }

    /// As on that Mac, if there is one.
    pub fn on(root: Root, containers: Vec<Container>, mac: Option<Arc<dyn System>>) -> Collecting {
        let shared = Shared::on(root, Config { profile_cadvisor: true, ..Config::default() }, mac);
        shared.directory.replace(|_| true, containers);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Collecting { engine: Engine::start(shared).unwrap(), runtime }
    }

    /// The containers are these from now on.
    pub fn replace(&self, containers: Vec<Container>) {
        self.engine.shared().directory.replace(|_| true, containers);
    }

    pub fn collect(&self) -> Collected {
        Collected(self.runtime.block_on(self.engine.collect(CollectorSet::ALL)).unwrap())
    }
}

pub struct Collected(pub Arc<Collection>);

impl Collected {
    fn matches(&self, labels: &[(&str, &str)], entity: Entity, extra: Extra) -> bool {
        labels.iter().all(|l| self.0.samples.labels(entity, extra).any(|have| have == *l))
    }

    /// The value of the first sample that has these labels.
    pub fn value(&self, family: FamilyId, labels: &[(&str, &str)]) -> Option<f64> {
        let rows = &self.0.samples.table(family).rows;
        rows.iter().find(|r: &&Row| self.matches(labels, r.entity, r.extra)).map(|r| r.value)
    }

    #[track_caller]
    pub fn must(&self, family: FamilyId, labels: &[(&str, &str)]) -> f64 {
        self.value(family, labels).unwrap_or_else(|| panic!("{} {labels:?} is absent", family.name()))
    }

    /// Sum and count of a summary.
    pub fn summary(&self, family: FamilyId, labels: &[(&str, &str)]) -> Option<(f64, u64)> {
        let sums = &self.0.samples.table(family).sums;
        sums.iter().find(|r| self.matches(labels, r.entity, r.extra)).map(|r| (r.sum, r.count))
    }

    /// All values of a label in a family, in the order of its samples.
    pub fn labels(&self, family: FamilyId, name: &str) -> Vec<String> {
        let rows = &self.0.samples.table(family).rows;
        let value = |r: &Row| self.0.samples.labels(r.entity, r.extra).find(|l| l.0 == name).map(|l| l.1.to_owned());
        rows.iter().filter_map(value).collect()
    }

    pub fn facts(&self, name: &str) -> &ContainerFacts {
        self.0.snapshot.containers.iter().find(|c| c.container.identity.name == name).unwrap()
    }

    #[track_caller]
    pub fn succeeded(&self, collector: Collector) {
        let labels = [("collector", collector.name())];
        assert_eq!(self.must(kina_exporter::catalog::COLLECTOR_SUCCESS, &labels), 1.0, "{}", collector.name());
    }
}
