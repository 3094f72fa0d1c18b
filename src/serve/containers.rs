//! What the page and the API show of containers: which, in which order, with rates.

use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering as Atomic};
use std::time::Duration;

use http::Response;

use super::App;
use super::metrics::{Scrape, collect};
use super::respond::{Body, busy};
use crate::config::CollectorSet;
use crate::engine::Collection;
use crate::root::{Nanos, SECOND};
use crate::snapshot::{ContainerFacts, Snapshot};

/// Rates are since the previous collection: one older than this says little of now.
const FRESH: Nanos = 10 * SECOND;
/// Long enough for rates that mean something, short enough to wait for.
const MEASURE_FOR: Duration = Duration::from_secs(1);

/// When everything was last collected, boot clock.
#[derive(Debug)]
pub(super) struct LastCollection(AtomicI64);

impl Default for LastCollection {
    fn default() -> Self {
        Self(AtomicI64::new(i64::MIN / 2))
    }
}

impl LastCollection {
    /// Notes one more and tells how old the one before it is.
    pub fn note(&self, now: Nanos) -> Nanos {
        now - self.0.swap(now, Atomic::Relaxed)
    }
}

/// A collection with rates of the last seconds: a second one is made when the previous is too old to count from.
pub(super) async fn measured(app: &App) -> Result<(Arc<Collection>, Scrape), Response<Body>> {
    let max = app.engine.shared().config().web.max_requests;
    let scrape = app.scrapes.begin(max).ok_or_else(|| busy("as many collections run as web.max_requests allows", 1))?;
    let age = app.last_collection.note(app.engine.shared().root.clock.boot());
    let collection = collect(app, CollectorSet::ALL).await?;
    if age <= FRESH {
        return Ok((collection, scrape));
    }
    drop(collection);
    tokio::time::sleep(MEASURE_FOR).await;
    app.last_collection.note(app.engine.shared().root.clock.boot());
    Ok((collect(app, CollectorSet::ALL).await?, scrape))
}

/// The root cgroup: the whole machine, not one of its containers.
pub(super) fn machine(snapshot: &Snapshot) -> Option<&ContainerFacts> {
    snapshot.containers.iter().find(|c| is_machine(c) && !c.gone)
}

/// How many CPUs the machine has.
pub(super) fn cpus(snapshot: &Snapshot) -> Option<f64> {
    snapshot.host.cpus_online.map(f64::from).or(machine(snapshot)?.cpu.allocated_cores)
}

/// One of the machine's containers that can be shown.
pub(super) fn is_shown(facts: &ContainerFacts) -> bool {
    !facts.gone && !is_machine(facts)
}

fn is_machine(facts: &ContainerFacts) -> bool {
    facts.container.identity.id == "/"
}

/// Containers whose name, image, pod, namespace, runtime or id holds `search`, whatever the case.
pub(super) fn found<'s>(snapshot: &'s Snapshot, search: &str) -> Vec<&'s ContainerFacts> {
    let search = search.trim().to_lowercase();
    let holds = |text: &str| text.to_lowercase().contains(&search);
    let matches = |facts: &&ContainerFacts| {
        let c = &facts.container;
        let i = &c.identity;
        search.is_empty()
            || [&i.name, &i.image, &i.pod, &i.container, &i.namespace, &i.id, &c.native_id]
                .into_iter()
                .any(|t| holds(t))
            || c.runtime.name() == search
    };
    snapshot.containers.iter().filter(|c| is_shown(c)).filter(matches).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Sort {
    Name,
    #[default]
    Cpu,
    Memory,
    Efficiency,
    Network,
    Disk,
    Started,
}

impl Sort {
    pub const ALL: [Sort; 7] =
        [Self::Name, Self::Cpu, Self::Memory, Self::Efficiency, Self::Network, Self::Disk, Self::Started];

    /// In `?sort=`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Efficiency => "efficiency",
            Self::Network => "network",
            Self::Disk => "disk",
            Self::Started => "started",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.name() == text)
    }

    fn figure(self, f: &ContainerFacts) -> Option<f64> {
        match self {
            Self::Name => None,
            Self::Cpu => f.cpu.usage_rate_cores,
            Self::Memory => f.memory.usage.map(|b| b as f64),
            Self::Efficiency => f.memory.efficiency(),
            Self::Network => sum(f.network.rx_rate, f.network.tx_rate),
            Self::Disk => f.storage.bytes_rate,
            Self::Started => f.container.started.map(|t| t as f64),
        }
    }

    /// Largest first, newest first; names from A. What is not known comes last; the rest of the order is by name, so that
    /// rows do not jump about between two views.
    pub fn apply(self, containers: &mut [&ContainerFacts]) {
        let figure = |a: &ContainerFacts, b: &ContainerFacts| match (self.figure(a), self.figure(b)) {
            (Some(a), Some(b)) => b.total_cmp(&a),
            (a, b) => b.is_some().cmp(&a.is_some()),
        };
        let name = |f: &ContainerFacts| (display_name(f).to_lowercase(), f.container.native_id.clone());
        let by_name = |a: &ContainerFacts, b: &ContainerFacts| -> Ordering { name(a).cmp(&name(b)) };
        containers.sort_by(|a, b| figure(a, b).then_with(|| by_name(a, b)));
    }
}

/// Of two rates, what is known of their sum.
pub(super) fn sum(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (None, None) => None,
        (a, b) => Some(a.unwrap_or(0.0) + b.unwrap_or(0.0)),
    }
}

/// What people call it.
pub(super) fn display_name(facts: &ContainerFacts) -> &str {
    let c = &facts.container;
    let candidates = [&c.identity.container, &c.identity.name, &c.identity.id, &c.native_id];
    candidates.into_iter().find(|n| !n.is_empty()).map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{Container, Identity};

    fn facts(name: &str, image: &str, cores: Option<f64>) -> ContainerFacts {
        let identity =
            Identity { id: format!("/{name}"), name: name.into(), image: image.into(), ..Identity::default() };
        let mut facts = ContainerFacts {
            container: Arc::new(Container { identity, native_id: name.into(), ..Container::default() }),
            ..ContainerFacts::default()
        };
        facts.cpu.usage_rate_cores = cores;
        facts
    }

    fn snapshot() -> Snapshot {
        let mut machine = facts("", "", Some(9.0));
        machine.container = Arc::new(Container {
            identity: Identity { id: "/".into(), ..Identity::default() },
            ..Container::default()
        });
        let mut gone = facts("gone", "x", Some(9.0));
        gone.gone = true;
        let containers = vec![
            machine,
            gone,
            facts("web", "Nginx:1", Some(0.5)),
            facts("db", "postgres", None),
            facts("app", "nginx:2", Some(1.5)),
        ];
        Snapshot { containers, ..Snapshot::default() }
    }

    fn names(found: &[&ContainerFacts]) -> Vec<String> {
        found.iter().map(|f| display_name(f).to_owned()).collect()
    }

    #[test]
    fn search_and_order() {
        let snapshot = snapshot();
        let mut all = found(&snapshot, "");
        Sort::Cpu.apply(&mut all);
        assert_eq!(names(&all), ["app", "web", "db"]);
        Sort::Name.apply(&mut all);
        assert_eq!(names(&all), ["app", "db", "web"]);
        assert_eq!(names(&found(&snapshot, " NGINX ")), ["web", "app"]);
        assert!(found(&snapshot, "nothing").is_empty());
        assert!(machine(&snapshot).is_some());
    }

    #[test]
    fn sums_are_of_what_is_known() {
        assert_eq!(sum(None, None), None);
        assert_eq!(sum(Some(1.0), None), Some(1.0));
        assert_eq!(sum(Some(1.0), Some(2.0)), Some(3.0));
    }

    #[test]
    fn every_order_can_be_asked_for() {
        for sort in Sort::ALL {
            assert_eq!(Sort::parse(sort.name()), Some(sort));
        }
        assert_eq!(Sort::parse("rm -rf"), None);
    }

    #[test]
    fn the_first_collection_has_no_age() {
        let last = LastCollection::default();
        assert!(last.note(0) > FRESH);
        assert_eq!(last.note(3 * SECOND), 3 * SECOND);
    }
}
