//! OTLP against an independent decoder, against receivers that misbehave, and against a real collector.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kina_exporter::catalog::{self, FamilyId, Kind, Scope};
use kina_exporter::config::{Config, Otlp};
use kina_exporter::engine::{Collection, Engine, Shared};
use kina_exporter::push::metrics::{Identity, Shape, Temporality, encode};
use kina_exporter::push::{self, Push, Request, traces};
use kina_exporter::root::SECOND;
use kina_exporter::runtime::{Container, Key, RuntimeKind};
use kina_exporter::sample::{Entity, Histogram, LabelBlock, Samples};
use kina_exporter::snapshot::ContainerFacts;
use kina_exporter::startup::ledger::Rules;
use kina_exporter::startup::model::Outcome;
use kina_exporter::startup::{FailureReason, Phase, Phases, Source, StartKind, StartRecord};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data, number_data_point};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use crate::common::{self, python, skip};
use crate::receiver::{Act, Got, Receiver};

const NOW: i64 = 1_700_000_000 * SECOND;
const STARTED: i64 = NOW - 100 * SECOND;

fn shape(identity: Identity) -> Shape {
    Shape {
        identity,
        temporality: Temporality::Cumulative,
        exponential: false,
        max_bytes: 3_500_000,
        resource: vec![("service.name".into(), "kina".into()), ("host.name".into(), "box".into())],
        started: NOW - 1000 * SECOND,
    }
}

/// So many containers with a sample in every family; values tell family and container.
fn collection(containers: usize, round: u64) -> Collection {
    let mut c = Collection { samples: Samples::new(), ..Collection::default() };
    c.snapshot.wall = NOW + round as i64 * 60 * SECOND;
    c.snapshot.boot = 5000 * SECOND + round as i64 * 60 * SECOND;
    for i in 0..containers {
        let labels = vec![
            ("id", format!("/docker/{i}")),
            ("name", format!("web-{i}")),
            ("image", "registry:5000/shop/web:1.2".to_owned()),
            ("runtime", "docker".to_owned()),
        ];
        let container = Arc::new(Container {
            native_id: format!("{i:064x}"),
            labels: Arc::new(LabelBlock::new(labels)),
            started: Some(STARTED),
            ..Container::default()
        });
        c.samples.entity(&container.labels);
        c.snapshot.containers.push(ContainerFacts { container, ..ContainerFacts::default() });
    }
    let samples = &mut c.samples;
    for id in catalog::ids() {
        let family = id.family();
        let of = if family.scope == Scope::Container { containers } else { 1 };
        for i in 0..of {
            let block = c.snapshot.containers[i].container.labels.clone();
            let entity = match family.scope {
                Scope::Container => samples.entities().iter().position(|b| Arc::ptr_eq(b, &block)).map(entity_at),
                _ => None,
            };
            let entity = entity.unwrap_or(Entity::NONE);
            // The last of the two kinds of faults, of which the conventions tell one row as it is.
            let label = |k: &&'static str| {
                (
                    *k,
                    if id == catalog::MEMORY_FAILURES {
                        if *k == "scope" { "hierarchy" } else { "pgmajfault" }
                    } else {
                        "x"
                    },
                )
            };
            let pairs: Vec<_> = family.labels.iter().map(label).collect();
            let value = value(id, i, round);
            match family.kind {
                Kind::Counter | Kind::Gauge | Kind::Info => samples.push_with(id, entity, &pairs, value),
                Kind::Summary => samples.push_summary(id, entity, &pairs, value, 7),
                Kind::Histogram => samples.push_histogram(id, entity, &pairs, &histogram(family.buckets, round)),
            }
        }
    }
    c
}

thread_local! {
    static ENTITIES: Vec<Entity> = {
        let mut samples = Samples::new();
        let block = Arc::new(LabelBlock::new(Vec::new()));
        (0..20_000).map(|_| samples.entity(&block)).collect()
    };
}

/// Entities are numbered as they are made.
fn entity_at(i: usize) -> Entity {
    ENTITIES.with(|all| all[i])
}

fn value(id: FamilyId, container: usize, round: u64) -> f64 {
    (id.index() * 1000 + container) as f64 + round as f64 * 10.0
}

fn histogram(bounds: &'static [f64], round: u64) -> Histogram {
    let mut h = Histogram::new(bounds);
    for i in 0..10 * (round + 1) {
        h.observe(0.001 * (i + 1) as f64);
    }
    let trace = vec![("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736".to_owned())];
    h.observe_with(0.7, trace, 1_700_000_000.5);
    h
}

fn requests(shape: &Shape, now: &Collection, before: Option<&Collection>) -> Vec<Request> {
    let mut all = Vec::new();
    encode(shape, now, before, &mut |request| {
        all.push(request);
        true
    });
    all
}

fn decoded(requests: &[Request]) -> Vec<ExportMetricsServiceRequest> {
    requests.iter().map(|r| ExportMetricsServiceRequest::decode(&r.bytes[..]).unwrap()).collect()
}

fn text(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let value = |kv: &KeyValue| match kv.value.as_ref().and_then(|v| v.value.as_ref()) {
        Some(Value::StringValue(s)) => s.clone(),
        Some(Value::ArrayValue(a)) => match &a.values[0].value {
            Some(Value::StringValue(s)) => format!("[{s}]"),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    let all: BTreeMap<_, _> = attributes.iter().map(|kv| (kv.key.clone(), value(kv))).collect();
    assert_eq!(all.len(), attributes.len(), "an attribute twice: {attributes:?}");
    all
}

/// One point, flattened: what an assertion wants to see.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    resource: BTreeMap<String, String>,
    name: String,
    unit: String,
    /// gauge, level, sum, histogram, exponential, summary.
    kind: &'static str,
    delta: bool,
    attributes: BTreeMap<String, String>,
    start: u64,
    time: u64,
    /// Number, or sum.
    value: Option<f64>,
    count: u64,
    flags: u32,
}

fn seen(requests: &[ExportMetricsServiceRequest]) -> Vec<Seen> {
    let mut all = Vec::new();
    for rm in requests.iter().flat_map(|r| &r.resource_metrics) {
        let resource = text(&rm.resource.as_ref().unwrap().attributes);
        assert_eq!(rm.scope_metrics.len(), 1);
        assert_eq!(rm.scope_metrics[0].scope.as_ref().unwrap().name, "kina-exporter");
        for metric in &rm.scope_metrics[0].metrics {
            points(metric, &resource, &mut all);
        }
    }
    all
}

fn points(metric: &Metric, resource: &BTreeMap<String, String>, all: &mut Vec<Seen>) {
    let mut add = |kind, delta, attributes: &[KeyValue], start, time, value, count, flags| {
        all.push(Seen {
            resource: resource.clone(),
            name: metric.name.clone(),
            unit: metric.unit.clone(),
            kind,
            delta,
            attributes: text(attributes),
            start,
            time,
            value,
            count,
            flags,
        });
    };
    let number = |v: &Option<number_data_point::Value>| {
        v.as_ref().map(|v| match v {
            number_data_point::Value::AsDouble(d) => *d,
            number_data_point::Value::AsInt(i) => *i as f64,
        })
    };
    match metric.data.as_ref().unwrap() {
        Data::Gauge(g) => g.data_points.iter().for_each(|p| {
            add("gauge", false, &p.attributes, p.start_time_unix_nano, p.time_unix_nano, number(&p.value), 0, p.flags)
        }),
        Data::Sum(s) => s.data_points.iter().for_each(|p| {
            let kind = if s.is_monotonic { "sum" } else { "level" };
            let delta = s.aggregation_temporality == 1;
            assert!(delta || s.aggregation_temporality == 2);
            add(kind, delta, &p.attributes, p.start_time_unix_nano, p.time_unix_nano, number(&p.value), 0, p.flags)
        }),
        Data::Histogram(h) => h.data_points.iter().for_each(|p| {
            if p.flags == 0 {
                assert_eq!(p.bucket_counts.len(), p.explicit_bounds.len() + 1);
                assert_eq!(p.bucket_counts.iter().sum::<u64>(), p.count);
            }
            let delta = h.aggregation_temporality == 1;
            add("histogram", delta, &p.attributes, p.start_time_unix_nano, p.time_unix_nano, p.sum, p.count, p.flags)
        }),
        Data::ExponentialHistogram(h) => h.data_points.iter().for_each(|p| {
            let buckets = p.positive.as_ref().map_or(0, |b| b.bucket_counts.iter().sum());
            assert_eq!(buckets + p.zero_count, p.count);
            let delta = h.aggregation_temporality == 1;
            add("exponential", delta, &p.attributes, p.start_time_unix_nano, p.time_unix_nano, p.sum, p.count, p.flags)
        }),
        Data::Summary(s) => s.data_points.iter().for_each(|p| {
            let (start, time) = (p.start_time_unix_nano, p.time_unix_nano);
            add("summary", false, &p.attributes, start, time, Some(p.sum), p.count, p.flags)
        }),
    }
}

/// Points that a collection is: a summary is two.
fn told(c: &Collection) -> usize {
    c.samples.len() + catalog::ids().map(|id| c.samples.table(id).sums.len()).sum::<usize>()
}

fn of(points: &[Seen], id: FamilyId) -> Vec<&Seen> {
    let family = id.family();
    let own = |p: &&Seen| family.otel_attributes.iter().all(|(k, v)| p.attributes.get(*k).is_some_and(|a| a == v));
    points.iter().filter(|p| p.name == family.otel_name()).filter(own).collect()
}

#[test]
fn every_family_arrives_as_what_it_is() {
    let c = collection(3, 0);
    for identity in [Identity::Resource, Identity::Attributes] {
        let points = seen(&decoded(&requests(&shape(identity), &c, None)));
        assert_eq!(points.len(), told(&c));
        for id in catalog::ids() {
            let family = id.family();
            let found = of(&points, id);
            assert_eq!(found.len(), c.samples.table(id).len(), "{}", family.name);
            let counts: Vec<_> = points.iter().filter(|p| Some(p.name.as_str()) == family.otel_count).collect();
            assert_eq!(counts.len(), c.samples.table(id).sums.len(), "{}", family.name);
            for p in counts {
                assert_eq!((p.kind, p.value), ("sum", Some(7.0)));
            }
            for (i, p) in found.iter().enumerate() {
                let level = family.otel.is_some() && family.unit != catalog::Unit::Seconds;
                let kind = match family.kind {
                    Kind::Counter | Kind::Summary => "sum",
                    Kind::Gauge if level => "level",
                    Kind::Gauge | Kind::Info => "gauge",
                    Kind::Histogram => "histogram",
                };
                let unit = family.otel_unit(&family.otel_name());
                assert_eq!((p.kind, p.unit.as_str(), p.delta), (kind, unit, false), "{}", family.name);
                assert_eq!((p.time, p.flags), (NOW as u64, 0));
                let start = match family.scope {
                    _ if kind == "gauge" => 0,
                    Scope::Container => STARTED,
                    Scope::Host => NOW - 5000 * SECOND,
                    Scope::Events | Scope::Exporter => NOW - 1000 * SECOND,
                };
                assert_eq!(p.start, start as u64, "{}", family.name);
                let want = match family.kind {
                    Kind::Histogram => histogram(family.buckets, 0).sum,
                    _ if id == catalog::CONTAINER_START_TIME || id == catalog::PROCESS_START_TIME => {
                        NOW as f64 / SECOND as f64 - value(id, i, 0)
                    }
                    _ => value(id, i, 0),
                };
                assert_eq!(p.value, Some(want), "{}", family.name);
                for label in family.labels.iter().filter(|l| **l != "container_id") {
                    if id == catalog::MEMORY_FAILURES {
                        assert_eq!(p.attributes["system.paging.fault.type"], "major");
                        assert!(!p.attributes.contains_key("scope"));
                        continue;
                    }
                    if id == catalog::HOST_ENERGY {
                        assert_eq!((p.attributes["hw.id"].as_str(), p.attributes["hw.type"].as_str()), ("x", "cpu"));
                        continue;
                    }
                    assert_eq!(p.attributes[catalog::attribute(label)], "x", "{}", family.name);
                }
                let who = if identity == Identity::Resource { &p.resource } else { &p.attributes };
                if family.scope == Scope::Container {
                    assert_eq!(who["container.name"], format!("web-{i}"));
                    assert_eq!(who["container.image.name"], "registry:5000/shop/web");
                    assert_eq!(who["container.image.tags"], "[1.2]");
                    assert_eq!(who["container.runtime.name"], "docker");
                    assert_eq!(p.resource.contains_key("service.name"), identity == Identity::Attributes);
                } else {
                    assert_eq!(p.resource["service.name"], "kina");
                    assert!(!who.contains_key("container.name"));
                }
                assert_eq!(p.resource["host.name"], "box");
            }
        }
    }
}

/// What Prometheus makes of an OpenTelemetry name: its own translator, for names of letters, dots and underscores.
fn as_prometheus(name: &str, unit: &str, kind: &str) -> String {
    let mut name = name.replace('.', "_");
    let unit = match unit {
        "s" => "seconds",
        "By" => "bytes",
        "By/s" => "bytes_per_second",
        "J" => "joules",
        "1" if kind == "gauge" => "ratio",
        _ => "",
    };
    if !unit.is_empty() && !name.ends_with(unit) {
        name = format!("{name}_{unit}");
    }
    if kind == "sum" { format!("{name}_total") } else { name }
}

#[test]
fn our_own_names_survive_the_way_through_otlp() {
    let points = seen(&decoded(&requests(&shape(Identity::Attributes), &collection(1, 0), None)));
    for id in catalog::ids().filter(|id| id.name().starts_with("kina_") && id.family().otel.is_none()) {
        let p = of(&points, id)[0];
        assert_eq!(as_prometheus(&p.name, &p.unit, p.kind), id.name());
    }
    // No two families are one series there.
    let mut names = HashMap::new();
    for f in catalog::families() {
        let own = Some((f.otel_name().into_owned(), f.otel_attributes));
        let count = f.otel_count.map(|name| (name.to_owned(), &[][..]));
        let system = f.otel_system.map(|(name, attributes)| (name.to_owned(), attributes));
        for name in [own, count, system].into_iter().flatten() {
            if let Some(other) = names.insert(name.clone(), f.name) {
                panic!("{} and {other} are both {name:?}", f.name);
            }
        }
    }
}

/// Every metric that the semantic conventions (1.44, development included) have of containers, systems, the exporter's
/// own process, energy and links: instrument, unit, and for what we have no figure, why.
const CONVENTIONS: &str = "
container.uptime gauge s
container.cpu.time sum s
container.cpu.usage gauge {cpu} = a rate: from container.cpu.time
container.memory.usage level By
container.memory.available level By
container.memory.rss level By
container.memory.working_set level By
container.paging.faults sum {fault}
container.disk.io sum By
container.network.io sum By
container.filesystem.available level By = the size of a container's layers is not read
container.filesystem.capacity level By = the size of a container's layers is not read
container.filesystem.usage level By = the size of a container's layers is not read
system.uptime gauge s
system.cpu.physical.count level {cpu}
system.cpu.logical.count level {cpu}
system.cpu.time sum s
system.cpu.utilization gauge 1 = by mode; ours is of all modes but idle
system.cpu.frequency gauge Hz = not read
system.memory.usage level By = by states other than those that are read: kina.host.memory.*
system.memory.limit level By
system.memory.utilization gauge 1 = as system.memory.usage
system.memory.linux.available level By = MemAvailable is not read
system.memory.linux.shared level By = not read
system.memory.linux.slab.usage level By = by what can be taken back, which is not read
system.paging.usage level By
system.paging.utilization gauge 1 = system.paging.usage and kina.machine.swap
system.paging.faults sum {fault}
system.paging.operations sum {operation} = not read
system.disk.io sum By
system.disk.operations sum {operation}
system.disk.io_time sum s = not read
system.disk.operation_time sum s
system.disk.merged sum {operation} = not read
system.disk.limit level By = not read
system.filesystem.usage level By
system.filesystem.utilization gauge 1 = from system.filesystem.usage and .limit
system.filesystem.limit level By
system.filesystem.lock.count level {lock} = not read
system.network.packet.count sum {packet}
system.network.packet.dropped sum {packet}
system.network.errors sum {error}
system.network.io sum By
system.network.connection.count level {connection}
system.process.count level {process} = not told of the machine
system.process.created sum {process} = not read
system.process.limit level {thread} = not read
process.cpu.time sum s
process.cpu.utilization gauge 1 = from process.cpu.time
process.memory.usage level By
process.memory.virtual level By
process.memory.utilization gauge 1 = from process.memory.usage
process.disk.io sum By = not read
process.disk.operations sum {operation} = not read
process.network.io sum By = not read
process.thread.count level {thread} = not read
process.signals_pending level {signal} = not read
process.unix.file_descriptor.count level {file_descriptor}
process.windows.handle.count level {handle} = not Windows
process.context_switches sum {context_switch} = not read of ourselves
process.paging.faults sum {fault} = not read
process.uptime gauge s
hw.energy sum J
hw.power gauge W = a rate: from hw.energy
hw.host.energy sum J = hw.energy has its parts
hw.host.power gauge W = as hw.power
hw.cpu.speed gauge Hz = not read
hw.memory.size level By = system.memory.limit
hw.temperature gauge Cel = not read; kina.host.thermal.state
hw.network.bandwidth.limit level By/s
";

/// What has a name in the semantic conventions has it, with its unit and as its kind; nothing else looks as if it had.
#[test]
fn what_the_conventions_name_has_their_name() {
    let mut told: HashMap<&str, (&str, &str)> = HashMap::new();
    for f in catalog::families() {
        let kind = |name: &str| match f.kind {
            Kind::Gauge if !name.starts_with("kina.") && f.unit != catalog::Unit::Seconds => "level",
            Kind::Gauge | Kind::Info => "gauge",
            Kind::Counter | Kind::Summary => "sum",
            Kind::Histogram => "histogram",
        };
        for name in f.otel.into_iter().chain(f.otel_count).chain(f.otel_system.map(|(name, _)| name)) {
            told.insert(name, (kind(name), f.otel_unit(name)));
        }
        let of_a_container = f.otel.is_some_and(|name| name.starts_with("container."));
        assert!(!of_a_container || f.otel_system.is_some(), "{}: the machine is no container", f.name);
        assert_eq!(f.kind == Kind::Summary, f.otel_count.is_some(), "{}", f.name);
    }
    told.retain(|name, _| !name.starts_with("kina."));
    for line in CONVENTIONS.trim().lines() {
        let (metric, why) = line.split_once(" = ").unwrap_or((line, ""));
        let words: Vec<&str> = metric.split(' ').collect();
        let is_told = told.remove(words[0]);
        match why {
            "" => assert_eq!(is_told, Some((words[1], words[2])), "{line}"),
            _ if words[0].starts_with("container.filesystem.") => {}
            _ => assert_eq!(is_told, None, "{line}"),
        }
    }
    assert!(told.is_empty(), "no names of the conventions: {told:?}");
}

#[test]
fn the_machine_and_what_the_conventions_count_otherwise() {
    let collect = |round: u64| {
        let mut c = collection(1, round);
        c.samples.clear();
        let root = Arc::new(LabelBlock::new(vec![("id", "/".to_owned())]));
        let machine = c.samples.entity(&root);
        let web = c.samples.entity(&c.snapshot.containers[0].container.labels.clone());
        for (n, entity) in [(1.0, machine), (2.0, web)] {
            let more = 10.0 * round as f64;
            c.samples.push_with(catalog::CPU_USER, entity, &[], n);
            c.samples.push_with(catalog::FS_USAGE, entity, &[("device", "vda")], n);
            c.samples.push_with(catalog::MEMORY_USAGE, entity, &[], n);
            for (kind, scope, value) in [
                ("pgfault", "container", 70.0),
                ("pgmajfault", "container", 7.0),
                ("pgfault", "hierarchy", 100.0 + 3.0 * more),
                ("pgmajfault", "hierarchy", 20.0 + more),
            ] {
                c.samples.push_with(
                    catalog::MEMORY_FAILURES,
                    entity,
                    &[("failure_type", kind), ("scope", scope)],
                    value * n,
                );
            }
        }
        c.samples.push_with(catalog::HOST_ENERGY, Entity::NONE, &[("domain", "dram-1")], 5.0);
        let read = [("device", "vda"), ("op", "read")];
        c.samples.push_summary(catalog::DEVICE_IO_LATENCY, Entity::NONE, &read, 0.5 + round as f64, 7 + 3 * round);
        for (id, labels, value) in [
            (catalog::CONTAINER_START_TIME, &[][..], (NOW / SECOND - 5000) as f64),
            (catalog::MEMORY_SWAP, &[], 8.0),
            (catalog::NET_RX_PACKETS, &[("interface", "eth0")], 9.0),
            (catalog::NET_TX_DROPPED, &[("interface", "eth0")], 10.0),
            (catalog::NET_RX_ERRORS, &[("interface", "eth0")], 11.0),
            (catalog::NET_LINK_SPEED, &[("interface", "eth0")], 125e6),
            (catalog::TCP_CONNECTIONS, &[("state", "finwait1")], 12.0),
        ] {
            c.samples.push_with(id, machine, labels, value);
        }
        c.samples.push_with(catalog::TCP_CONNECTIONS, web, &[("state", "finwait1")], 13.0);
        c
    };
    for identity in [Identity::Resource, Identity::Attributes] {
        let points = seen(&decoded(&requests(&shape(identity), &collect(0), None)));
        let get = |name: &str, key: &str, value: &str| {
            let has = |p: &&Seen| key.is_empty() || p.attributes.get(key).is_some_and(|v| v == value);
            let found: Vec<_> = points.iter().filter(|p| p.name == name).filter(has).collect();
            assert_eq!(found.len(), 1, "{identity:?} {name} {key}={value}: {found:?}");
            found[0].clone()
        };
        let cpu = get("system.cpu.time", "cpu.mode", "user");
        assert_eq!((cpu.value, cpu.resource["service.name"].as_str(), cpu.attributes.len()), (Some(1.0), "kina", 1));
        assert_eq!(get("container.cpu.time", "cpu.mode", "user").value, Some(2.0));
        assert_eq!(
            get("system.filesystem.usage", "system.filesystem.state", "used").attributes["system.device"],
            "vda"
        );
        assert_eq!(get("container.filesystem.usage", "", "").value, Some(2.0));
        for (name, n) in [("system.paging.faults", 1.0), ("container.paging.faults", 2.0)] {
            let (minor, major) = ("minor", "major");
            let point = get(name, "system.paging.fault.type", minor);
            assert_eq!((point.value, point.unit.as_str(), point.kind), (Some(80.0 * n), "{fault}", "sum"));
            assert_eq!(get(name, "system.paging.fault.type", major).value, Some(20.0 * n));
        }
        for (name, key, value, unit, kind, n) in [
            ("system.uptime", "", "", "s", "gauge", 5000.0),
            ("kina.host.memory.usage", "", "", "By", "gauge", 1.0),
            ("system.paging.usage", "system.paging.state", "used", "By", "level", 8.0),
            ("system.network.packet.count", "system.device", "eth0", "{packet}", "sum", 9.0),
            ("system.network.packet.dropped", "network.interface.name", "eth0", "{packet}", "sum", 10.0),
            ("system.network.errors", "network.io.direction", "receive", "{error}", "sum", 11.0),
            ("hw.network.bandwidth.limit", "hw.id", "eth0", "By/s", "level", 125e6),
            (
                "system.network.connection.count",
                "network.connection.state",
                "fin_wait_1",
                "{connection}",
                "level",
                12.0,
            ),
            ("kina.container.tcp.connections", "state", "finwait1", "", "gauge", 13.0),
            ("system.disk.operation_time", "disk.io.direction", "read", "s", "sum", 0.5),
            ("system.disk.operations", "system.device", "vda", "{operation}", "sum", 7.0),
        ] {
            let point = get(name, key, value);
            assert_eq!((point.unit.as_str(), point.kind, point.value), (unit, kind, Some(n)), "{name}");
            let about_a_container = identity == Identity::Resource && name.starts_with("kina.container.");
            assert_eq!(
                point.resource.contains_key("service.name"),
                !about_a_container || identity != Identity::Resource
            );
            assert_eq!(
                point.attributes.contains_key("process.linux.cgroup"),
                identity == Identity::Attributes && name.starts_with("kina.container.")
            );
        }
        assert_eq!(get("system.network.connection.count", "", "").attributes["network.transport"], "tcp");
        let energy = get("hw.energy", "hw.id", "dram-1");
        assert_eq!((energy.attributes["hw.type"].as_str(), energy.unit.as_str(), energy.kind), ("memory", "J", "sum"));
    }
    let delta = Shape { temporality: Temporality::Delta, ..shape(Identity::Resource) };
    let points = seen(&decoded(&requests(&delta, &collect(1), Some(&collect(0)))));
    let changes: Vec<_> = points.iter().filter(|p| p.name == "container.paging.faults").map(|p| p.value).collect();
    assert_eq!(changes, [Some(40.0), Some(20.0)], "minor: 60 less 20, twice as many there");
    for (name, change) in [("system.disk.operation_time", 1.0), ("system.disk.operations", 3.0)] {
        let point = points.iter().find(|p| p.name == name).unwrap();
        assert_eq!((point.value, point.delta, point.start), (Some(change), true, NOW as u64), "{name}");
    }
}

#[test]
fn requests_stay_below_their_size() {
    let c = collection(300, 0);
    for identity in [Identity::Resource, Identity::Attributes] {
        for max_bytes in [20_000, 500_000, 3_500_000] {
            let all = requests(&Shape { max_bytes, ..shape(identity) }, &c, None);
            let total: usize = all.iter().map(|r| r.bytes.len()).sum();
            let largest = all.iter().map(|r| r.bytes.len()).max().unwrap();
            assert!(largest <= max_bytes, "{identity:?}: {largest} of {max_bytes}");
            assert!(all.len() <= 2 + total / (max_bytes / 2), "{} requests for {total} bytes", all.len());
            let points = seen(&decoded(&all));
            assert_eq!(points.len(), told(&c));
            assert_eq!(all.iter().map(|r| r.items).sum::<u64>(), points.len() as u64);
        }
    }
    let mut taken = 0;
    encode(&Shape { max_bytes: 20_000, ..shape(Identity::Resource) }, &c, None, &mut |_| {
        taken += 1;
        taken < 3
    });
    assert_eq!(taken, 3, "nothing more once one is refused");
}

#[test]
fn exponential_histograms() {
    let shape = Shape { exponential: true, ..shape(Identity::Resource) };
    let requests = decoded(&requests(&shape, &collection(1, 0), None));
    let points = seen(&requests);
    let p = of(&points, catalog::NETWORK_RTT)[0];
    assert_eq!((p.kind, p.count), ("exponential", 11));
    let metrics = requests.iter().flat_map(|r| &r.resource_metrics).flat_map(|r| &r.scope_metrics[0].metrics);
    for metric in metrics {
        let Some(Data::ExponentialHistogram(h)) = &metric.data else { continue };
        for p in &h.data_points {
            // Each bucket holds what lies between its bounds, the upper one included.
            let positive = p.positive.as_ref().unwrap();
            let bound = |i: i32| 2f64.powf(f64::from(i) / 2f64.powi(p.scale));
            let mut values: Vec<f64> = (0..10).map(|i| 0.001 * f64::from(i + 1)).collect();
            values.push(0.7);
            for (i, n) in positive.bucket_counts.iter().enumerate() {
                let (low, high) = (bound(positive.offset + i as i32), bound(positive.offset + i as i32 + 1));
                assert_eq!(values.iter().filter(|v| **v > low && **v <= high).count() as u64, *n);
            }
            assert_eq!(p.exemplars[0].trace_id.len(), 16);
            assert_eq!(p.exemplars[0].time_unix_nano, 1_700_000_000_500_000_000);
        }
    }
}

#[test]
fn containers_that_ended_are_marked_once() {
    let (before, now) = (collection(3, 0), collection(2, 1));
    for identity in [Identity::Resource, Identity::Attributes] {
        let points = seen(&decoded(&requests(&shape(identity), &now, Some(&before))));
        let marked: Vec<_> = points.iter().filter(|p| p.flags == 1).collect();
        let families = catalog::families().iter().filter(|f| f.scope == Scope::Container).count();
        assert_eq!(marked.len(), families, "each series of the one that ended");
        for p in marked {
            let who = if identity == Identity::Resource { &p.resource } else { &p.attributes };
            assert_eq!(who["container.name"], "web-2");
            assert_eq!((p.time, p.count), (now.snapshot.wall as u64, 0));
            assert!(p.value.is_none());
        }
        assert_eq!(points.len() - families, told(&now));
    }
}

#[test]
fn delta_tells_what_changed() {
    let delta = Shape { temporality: Temporality::Delta, ..shape(Identity::Resource) };
    let (first, second) = (collection(2, 0), collection(3, 1));
    let points = seen(&decoded(&requests(&delta, &first, None)));
    assert!(of(&points, catalog::CPU_USER).is_empty(), "a counter's past is not a change");
    assert_eq!(of(&points, catalog::STARTS)[0].value, Some(value(catalog::STARTS, 0, 0)), "counted since this start");

    let points = seen(&decoded(&requests(&delta, &second, Some(&first))));
    let changed = of(&points, catalog::CPU_USER);
    assert_eq!(changed.len(), 2, "the third container started before the last push");
    assert_eq!((changed[0].value, changed[0].delta), (Some(10.0), true));
    assert_eq!((changed[0].start, changed[0].time), (NOW as u64, (NOW + 60 * SECOND) as u64));
    let h = of(&points, catalog::NETWORK_RTT)[0];
    assert_eq!((h.count, h.delta, h.start), (10, true, NOW as u64));
    let level = of(&points, catalog::MEMORY_USAGE)[0];
    assert_eq!((level.delta, level.value), (false, Some(value(catalog::MEMORY_USAGE, 0, 1))));

    // Backwards is anew.
    let points = seen(&decoded(&requests(&delta, &collection(2, 0), Some(&collection(2, 1)))));
    assert_eq!(of(&points, catalog::CPU_USER)[1].value, Some(value(catalog::CPU_USER, 1, 0)));
    assert_eq!(of(&points, catalog::NETWORK_RTT)[1].count, 11);

    let low = Shape { temporality: Temporality::LowMemory, ..shape(Identity::Resource) };
    let points = seen(&decoded(&requests(&low, &second, Some(&first))));
    assert_eq!((of(&points, catalog::CPU_USER)[0].delta, of(&points, catalog::STARTS)[0].delta), (false, true));
}

/// What Python's decoder sees of a request, in the words of [`Seen`].
const DECODE: &str = "
import json, struct, sys
try:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest as R
except ImportError:
    sys.exit(42)
r = R(); r.ParseFromString(sys.stdin.buffer.read())
assert r.ByteSize() == len(r.SerializeToString())
def text(attributes):
    def value(v):
        return v.string_value if v.HasField('string_value') else '[%s]' % v.array_value.values[0].string_value
    return {a.key: value(a.value) for a in attributes}
out = []
for rm in r.resource_metrics:
    for m in (m for sm in rm.scope_metrics for m in sm.metrics):
        data = m.WhichOneof('data')
        d = getattr(m, data)
        kind = {'gauge': 'gauge', 'histogram': 'histogram', 'exponential_histogram': 'exponential',
                'summary': 'summary'}.get(data) or ('sum' if d.is_monotonic else 'level')
        for p in d.data_points:
            value = None
            if data in ('gauge', 'sum'):
                which = p.WhichOneof('value')
                value = which and float(getattr(p, which))
            elif data == 'summary' or p.HasField('sum'):
                value = p.sum
            out.append([text(rm.resource.attributes), m.name, m.unit, kind,
                getattr(d, 'aggregation_temporality', 2) == 1, text(p.attributes), p.start_time_unix_nano,
                p.time_unix_nano, None if value is None else struct.unpack('<Q', struct.pack('<d', value))[0],
                getattr(p, 'count', 0), p.flags])
print(json.dumps(out))
";

/// The points of a request by Python's decoder; None where that is not installed.
fn python_sees(bytes: &[u8]) -> Option<Vec<Seen>> {
    let run = Command::new(python()).args(["-c", DECODE]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = run else {
        skip("python3 is not installed");
        return None;
    };
    let _ = child.stdin.take().unwrap().write_all(bytes);
    let output = child.wait_with_output().unwrap();
    if output.status.code() == Some(42) {
        skip("python3 has no opentelemetry-proto");
        return None;
    }
    type Point = (
        BTreeMap<String, String>,
        String,
        String,
        String,
        bool,
        BTreeMap<String, String>,
        u64,
        u64,
        Option<u64>,
        u64,
        u32,
    );
    let points: Vec<Point> = serde_json::from_slice(&output.stdout).unwrap();
    let kinds = ["gauge", "level", "sum", "histogram", "exponential", "summary"];
    let seen = |(resource, name, unit, kind, delta, attributes, start, time, bits, count, flags): Point| Seen {
        resource,
        name,
        unit,
        kind: kinds.into_iter().find(|k| *k == kind).unwrap(),
        delta,
        attributes,
        start,
        time,
        value: bits.map(f64::from_bits),
        count,
        flags,
    };
    Some(points.into_iter().map(seen).collect())
}

#[test]
fn python_decodes_every_family_as_we_mean_it() {
    let (first, second) = (collection(3, 0), collection(2, 1));
    for identity in [Identity::Resource, Identity::Attributes] {
        for (temporality, exponential) in [(Temporality::Cumulative, false), (Temporality::Delta, true)] {
            let shape = Shape { temporality, exponential, ..shape(identity) };
            // The second push has everything: values, changes, and the marks of a container that ended.
            let requests = requests(&shape, &second, Some(&first));
            let Some(theirs) = requests.iter().map(|r| python_sees(&r.bytes)).collect::<Option<Vec<_>>>() else {
                return;
            };
            let (theirs, ours) = (theirs.concat(), seen(&decoded(&requests)));
            assert_eq!(theirs.len(), ours.len());
            for (t, o) in theirs.iter().zip(&ours) {
                assert_eq!(t, o);
            }
            for id in catalog::ids() {
                assert!(!of(&theirs, id).is_empty(), "{}", id.name());
            }
        }
    }
}

// ---- Receivers ---------------------------------------------------------------------------------------------------------

struct Exporter {
    engine: Engine,
    push: Push,
    _dir: tempfile::TempDir,
}

fn exporter(otlp: Otlp, env: &[(&str, &str)]) -> Exporter {
    let dir = common::tree(&[("proc/uptime", "1 1")]);
    let root = kina_exporter::root::Root::at(dir.path(), kina_exporter::root::Clock::System);
    let shared = Shared::new(root, Config { otlp, ..Config::default() });
    shared.held.add(catalog::STARTS, &["docker", "nginx", "cold"], 3);
    let engine = Engine::start(shared).unwrap();
    let env = env.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let push = push::start(&engine, &env, None).unwrap();
    Exporter { engine, push, _dir: dir }
}

fn to(address: &str) -> Otlp {
    Otlp {
        endpoint: Some(format!("http://{address}")),
        interval: Some(Duration::from_millis(100)),
        // Whatever else this machine does: what comes twice was asked for again.
        timeout: Some(Duration::from_secs(60)),
        ..Otlp::default()
    }
}

impl Exporter {
    /// Requests that were tried, whatever came of them.
    async fn attempts(&self) -> u64 {
        let c = self.engine.collect(kina_exporter::config::CollectorSet::ALL).await.unwrap();
        c.samples.table(catalog::OTLP_DURATION).hists.iter().map(|r| c.samples.histogram(r).count).sum()
    }

    /// The value of a series of the exporter's own counts, 0 when there is none.
    async fn count(&self, id: FamilyId, labels: &[(&str, &str)]) -> f64 {
        let c = self.engine.collect(kina_exporter::config::CollectorSet::ALL).await.unwrap();
        let rows = &c.samples.table(id).rows;
        let found = rows.iter().find(|r| {
            let all: Vec<_> = c.samples.labels(r.entity, r.extra).collect();
            labels.iter().all(|l| all.contains(l))
        });
        found.map_or(0.0, |r| r.value)
    }
}

fn starts(got: &Got) -> f64 {
    let points = seen(&[got.metrics()]);
    of(&points, catalog::STARTS)[0].value.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_protocol_pushes_the_same() {
    for (protocol, path, content_type, version) in [
        ("http/protobuf", "/v1/metrics", "application/x-protobuf", http::Version::HTTP_11),
        ("http/json", "/v1/metrics", "application/json", http::Version::HTTP_11),
        (
            "grpc",
            "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            "application/grpc",
            http::Version::HTTP_2,
        ),
    ] {
        for compression in ["none", "gzip"] {
            let receiver = Receiver::default();
            let mut otlp = to(&receiver.listen().await);
            otlp.protocol = Some(protocol.into());
            otlp.compression = Some(compression.into());
            otlp.headers.insert("x-tenant".into(), "shop".into());
            let exporter = exporter(otlp, &[]);
            let got = receiver.wait_for(2).await;
            assert_eq!((got[0].path.as_str(), got[0].version), (path, version));
            assert_eq!(got[0].headers["content-type"], content_type);
            assert_eq!(got[0].headers["x-tenant"], "shop");
            assert!(got[0].headers["user-agent"].to_str().unwrap().contains("OTel-OTLP-Exporter-Rust/"));
            assert_eq!(starts(&got[1]), 3.0);
            assert!(exporter.count(catalog::OTLP_SENT, &[("signal", "metrics")]).await > 0.0);
            exporter.push.shutdown().await;
        }
    }
}

/// The last push alone, of so many series with labels of some length: what came, out of its frames and compression.
async fn pushed(protocol: &str, compression: &str, series: usize, length: usize) -> Vec<Got> {
    let receiver = Receiver::default();
    let otlp = Otlp {
        protocol: Some(protocol.into()),
        compression: Some(compression.into()),
        interval: Some(Duration::from_secs(3600)),
        timeout: Some(Duration::from_secs(60)),
        ..to(&receiver.listen().await)
    };
    let exporter = exporter(otlp, &[("OTEL_METRIC_EXPORT_TIMEOUT", "120000")]);
    for i in 0..series {
        let image = format!("{}/{i}", "i".repeat(length));
        exporter.engine.shared().held.add(catalog::STARTS, &["docker", &image, "cold"], i as u64 + 1);
    }
    exporter.push.shutdown().await;
    receiver.got()
}

#[tokio::test(flavor = "multi_thread")]
async fn large_payloads_are_cut_and_every_series_arrives_once() {
    for (protocol, compression, series, length, least) in [
        ("http/protobuf", "none", 40_000, 420, 20_000_000),
        ("http/protobuf", "gzip", 8_000, 250, 2_500_000),
        ("grpc", "none", 8_000, 250, 2_500_000),
        ("grpc", "gzip", 20_000, 420, 10_000_000),
        ("http/json", "none", 8_000, 250, 2_500_000),
        ("http/json", "gzip", 8_000, 250, 2_500_000),
    ] {
        let got = pushed(protocol, compression, series, length).await;
        let told = format!("{protocol} {compression}: {} requests", got.len());
        let plain: Vec<usize> = got.iter().map(|g| g.plain().len()).collect();
        // Frames and what is said of the requests aside, none is above the limit.
        assert!(plain.iter().all(|n| *n <= 1_000_000), "{told}: {plain:?}");
        assert!(plain.iter().sum::<usize>() >= least, "{told}: {plain:?}");
        let mut values = std::collections::HashMap::new();
        for point in seen(&got.iter().map(Got::metrics).collect::<Vec<_>>()) {
            if point.name == catalog::STARTS.family().otel_name() {
                let image = &point.attributes[catalog::attribute("image")];
                let number: u64 = image.rsplit('/').next().unwrap().parse().unwrap_or(u64::MAX);
                assert!(values.insert(number, point.value).is_none(), "{told}: {number} came twice");
            }
        }
        // And one that is there from the beginning.
        assert_eq!(values.len(), series + 1, "{told}");
        let right = |(i, v): (&u64, &Option<f64>)| *i == u64::MAX || *v == Some(*i as f64 + 1.0);
        assert!(values.iter().all(right), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn json_stays_below_its_size_whatever_is_in_it() {
    let c = collection(100, 0);
    for exponential in [false, true] {
        for identity in [Identity::Resource, Identity::Attributes] {
            let max_bytes = 100_000;
            let shape = Shape { max_bytes: max_bytes / push::JSON, exponential, ..shape(identity) };
            for request in decoded(&requests(&shape, &c, None)) {
                let json = serde_json::to_vec(&request).unwrap();
                assert!(json.len() <= max_bytes, "{} of {max_bytes}", json.len());
            }
        }
    }
}

#[test]
fn traces_are_cut_and_every_span_arrives_once() {
    let resource = traces::resource(&[("service.name".into(), "kina".into())]);
    let spans: Vec<_> = (0..300)
        .flat_map(|i| {
            let mut start = start(NOW + i * SECOND);
            start.name = "n".repeat(i as usize * 10);
            traces::spans(&start)
        })
        .collect();
    let requests = traces::requests(&resource, spans.clone(), 20_000);
    assert!(requests.len() > 5 && requests.iter().all(|r| r.encoded_len() <= 20_000));
    let scopes = requests.iter().flat_map(|r| &r.resource_spans).flat_map(|r| &r.scope_spans);
    let ids: Vec<_> = scopes.flat_map(|s| &s.spans).map(|s| (s.trace_id.clone(), s.span_id.clone())).collect();
    assert_eq!((ids.len(), ids.iter().collect::<std::collections::HashSet<_>>().len()), (spans.len(), spans.len()));
    assert_eq!(requests.iter().map(traces::items).sum::<u64>(), spans.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_tried_again_is_and_the_rest_is_not() {
    for (act, again) in [
        (Act::Status(429, vec![]), true),
        (Act::Status(502, vec![]), true),
        (Act::Status(503, vec![("retry-after", "1".into())]), true),
        (Act::Status(504, vec![]), true),
        (Act::Status(400, vec![]), false),
        (Act::Status(401, vec![]), false),
        (Act::Status(413, vec![]), false),
        (Act::Status(500, vec![]), false),
        (Act::Status(307, vec![("location", "/".into())]), false),
        (Act::Partial(2), false),
        (Act::Long(8 << 20), false),
        (Act::Stall, true),
        (Act::Close, true),
    ] {
        tried_again("http/protobuf", act, again).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_statuses() {
    // google.rpc.Status with a RetryInfo of two seconds, which no first wait of our own is.
    let retry_info = {
        use base64::Engine as _;
        let info = b"\x0a\x02\x08\x02";
        let url = b"type.googleapis.com/google.rpc.RetryInfo";
        let any = [&[0x0a, url.len() as u8], &url[..], &[0x12, info.len() as u8], &info[..]].concat();
        let status = [&[0x08, 8, 0x1a, any.len() as u8], &any[..]].concat();
        base64::engine::general_purpose::STANDARD_NO_PAD.encode(status)
    };
    for code in 1..=16 {
        let again = matches!(code, 1 | 4 | 10 | 11 | 14 | 15);
        tried_again("grpc", Act::Grpc(code, None), again).await;
    }
    let took = tried_again("grpc", Act::Grpc(8, Some(retry_info)), true).await;
    assert!(took >= Duration::from_millis(1_900), "as the server said, not after {took:?}");
    tried_again("grpc", Act::Partial(2), false).await;
    tried_again("grpc", Act::Long(8 << 20), false).await;
    tried_again("grpc", Act::Status(503, vec![]), true).await;
    tried_again("grpc", Act::Status(404, vec![]), false).await;
    tried_again("grpc", Act::Close, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_is_asked_again_when_it_says() {
    let at = |seconds: u64| httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(seconds));
    // A date has whole seconds. Waits of our own are of half a second at least, and of at most one at first: of several that
    // were told to be none the shortest shows it on the busiest machine.
    for (seconds, times, least) in [(Some(0), 6, 90), (Some(2), 1, 1_900), (None, 1, 1_500)] {
        let told = seconds.map_or_else(|| at(3), |s: u64| s.to_string());
        let act = Act::Status(429, vec![("retry-after", told.clone())]);
        let receiver = Receiver::with(&vec![act; times]);
        let exporter = exporter(to(&receiver.listen().await), &[]);
        let got = receiver.wait_for(times + 1).await;
        let took: Vec<_> = got[..=times].windows(2).map(|two| (two[1].at - two[0].at).as_millis()).collect();
        assert!(
            got[..=times].iter().all(|g| g.body == got[0].body) && took.iter().all(|t| *t >= least),
            "{told}: {took:?}"
        );
        assert!(seconds != Some(0) || took.iter().any(|t| *t < 500), "{told}: {took:?}");
        exporter.push.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_away_does_not_hold_up_the_end() {
    let away = common::Away::new();
    let exporter = exporter(to(&away.address.to_string()), &[("OTEL_METRIC_EXPORT_TIMEOUT", "86400000")]);
    let ended = tokio::time::timeout(crate::live::LIMIT, exporter.push.shutdown()).await;
    ended.expect("an end without the receiver, which may be awaited for a day");
    let dropped = exporter.engine.collect(kina_exporter::config::CollectorSet::ALL).await.unwrap();
    let reasons: Vec<_> = dropped.samples.table(catalog::OTLP_DROPPED).rows.iter().map(|r| r.value).collect();
    assert!(reasons.iter().sum::<f64>() > 0.0, "what was not sent is counted");
}

/// Whether the very same request comes again; how long after the first.
async fn tried_again(protocol: &str, act: Act, again: bool) -> Duration {
    let told = format!("{protocol} {act:?}");
    let receiver = Receiver::with(std::slice::from_ref(&act));
    let mut otlp = to(&receiver.listen().await);
    otlp.protocol = Some(protocol.into());
    if matches!(act, Act::Stall) {
        otlp.timeout = Some(Duration::from_secs(3));
    }
    let exporter = exporter(otlp, &[]);
    let got = receiver.wait_for(2).await;
    assert_eq!(got[0].body == got[1].body, again, "{told}");
    let took = got[1].at - got[0].at;
    if again {
        assert!(took >= Duration::from_millis(450), "{told}: after {took:?} already");
    }
    // Nothing is sent twice but what was asked for again.
    let got = receiver.wait_for(4).await;
    let bodies: std::collections::HashSet<_> = got.iter().map(|g| &g.body).collect();
    assert_eq!(bodies.len(), got.len() - usize::from(again), "{told}");
    let rejected = exporter.count(catalog::OTLP_FAILED, &[("reason", "rejected")]).await;
    let refused = exporter.count(catalog::OTLP_FAILED, &[("reason", "refused")]).await;
    match act {
        Act::Partial(n) => assert_eq!(rejected, n as f64, "{told}"),
        _ if again => assert_eq!(refused, 0.0, "{told}"),
        _ => {
            let points = seen(&[got[0].metrics()]).len();
            assert_eq!(refused, points as f64, "{told}");
        }
    }
    exporter.push.shutdown().await;
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn down_then_up_and_flushed_at_the_end() {
    let away = common::Away::new();
    let exporter = exporter(Otlp { queue_bytes: 20_000, ..to(&away.address.to_string()) }, &[]);
    let end = Instant::now() + Duration::from_secs(60);
    let full = [("signal", "metrics"), ("reason", "queue_full")];
    while exporter.count(catalog::OTLP_DROPPED, &full).await == 0.0 {
        assert!(Instant::now() < end, "nothing is dropped");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let waiting = exporter.count(catalog::OTLP_QUEUE, &[("signal", "metrics")]).await;
    assert!((1.0..40.0).contains(&waiting), "{waiting} requests in 20 kB");

    let receiver = Receiver::default();
    receiver.serve(away.back(), None);
    receiver.wait_for(5).await;
    exporter.engine.shared().held.add(catalog::STARTS, &["docker", "nginx", "cold"], 39);
    exporter.push.shutdown().await;
    let got = receiver.got();
    let times: Vec<u64> = got.iter().map(|g| seen(&[g.metrics()])[0].time).collect();
    assert!(times.is_sorted(), "oldest first");
    assert_eq!(starts(got.last().unwrap()), 42.0, "what came last is flushed");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_a_private_authority_and_a_client_certificate() {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let signed = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &authority).unwrap(), key)
    };
    let (server, server_key) = signed("localhost");
    let (client, client_key) = signed("exporter");
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, content: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let (ca, cert, key) = (
        file("ca.pem", authority.pem()),
        file("client.pem", client.pem()),
        file("client.key", client_key.serialize_pem()),
    );

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![server.der().clone()], server_key.serialize_der().try_into().unwrap())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));

    for protocol in ["http/protobuf", "grpc"] {
        let receiver = Receiver::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        receiver.serve(listener, Some(acceptor.clone()));
        let endpoint = Some(format!("https://localhost:{port}"));
        let mut otlp = Otlp { endpoint, protocol: Some(protocol.into()), ..to("") };
        otlp.certificate = Some(ca.clone());
        let refused = exporter(otlp.clone(), &[]);
        let end = Instant::now() + Duration::from_secs(60);
        while refused.attempts().await == 0 {
            assert!(Instant::now() < end, "{protocol}: nothing is tried");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(receiver.got().is_empty(), "{protocol}: taken without a client certificate");
        drop(refused);
        (otlp.client_certificate, otlp.client_key) = (Some(cert.clone()), Some(key.clone()));
        let direct = exporter(otlp.clone(), &[]);
        assert_eq!(starts(&receiver.wait_for(1).await[0]), 3.0);
        direct.push.shutdown().await;

        // Through a proxy: the receiver's certificate and ours are shown within the tunnel.
        let (proxy, asked) = proxy_to(&format!("localhost:{port}")).await;
        receiver.forget();
        let tunnelled = exporter(otlp, &[("https_proxy", &proxy), ("http_proxy", "http://127.0.0.1:1")]);
        assert_eq!(starts(&receiver.wait_for(1).await[0]), 3.0);
        let head = asked.lock().unwrap()[0].clone();
        assert!(head.starts_with(&format!("CONNECT localhost:{port} ")), "{protocol}: {head}");
        tunnelled.push.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_files_are_named() {
    let dir = common::tree(&[("empty.pem", "")]);
    let shared = Shared::new(
        kina_exporter::root::Root::at(dir.path(), kina_exporter::root::Clock::System),
        Config {
            otlp: Otlp {
                endpoint: Some("https://localhost:1".into()),
                certificate: Some(dir.path().join("empty.pem")),
                ..Otlp::default()
            },
            ..Config::default()
        },
    );
    let engine = Engine::start(shared).unwrap();
    let told = push::start(&engine, &BTreeMap::new(), None).unwrap_err().to_string();
    assert!(told.contains("empty.pem") && told.contains("no certificate"), "{told}");
}

/// A proxy that leads everything to one address: its URL with a user, and the heads of what it was asked.
async fn proxy_to(target: &str) -> (String, Arc<Mutex<Vec<String>>>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://user:pass@{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (seen_by_proxy, target) = (asked.clone(), target.to_owned());
    tokio::spawn(async move {
        loop {
            let (mut from, _) = listener.accept().await.unwrap();
            let (asked, target) = (seen_by_proxy.clone(), target.clone());
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(from.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                asked.lock().unwrap().push(head.clone());
                let mut to = tokio::net::TcpStream::connect(target).await.unwrap();
                if head.starts_with("CONNECT") {
                    from.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                } else {
                    to.write_all(head.as_bytes()).await.unwrap();
                }
                let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
            });
        }
    });
    (proxy, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_are_asked_unless_excepted() {
    let receiver = Receiver::default();
    let address = receiver.listen().await;
    let (proxy, asked) = proxy_to(&address).await;
    let endpoint = Some("http://collector.example:4317".to_owned());
    for (protocol, asks) in [
        ("http/protobuf", "POST http://collector.example:4317/v1/metrics "),
        ("grpc", "CONNECT collector.example:4317 "),
    ] {
        let before = receiver.got().len();
        let otlp = Otlp { endpoint: endpoint.clone(), protocol: Some(protocol.into()), ..to("") };
        let exporter = exporter(otlp, &[("http_proxy", &proxy)]);
        receiver.wait_for(before + 1).await;
        let head = asked.lock().unwrap().last().unwrap().clone();
        assert!(head.starts_with(asks), "{head}");
        assert!(head.to_lowercase().contains("proxy-authorization: basic dxnlcjpwyxnz"), "{head}");
        exporter.push.shutdown().await;
    }
    let before = asked.lock().unwrap().len();
    let exporter = exporter(to(&address), &[("HTTP_PROXY", &proxy), ("NO_PROXY", "127.0.0.0/8")]);
    receiver.wait_for(receiver.got().len() + 1).await;
    assert_eq!(asked.lock().unwrap().len(), before);
    exporter.push.shutdown().await;
}

// ---- Traces ------------------------------------------------------------------------------------------------------------

fn start(requested: i64) -> StartRecord {
    let ms = SECOND / 1000;
    let mut phases = Phases::default();
    for (phase, took) in [(Phase::Image, 300), (Phase::Init, 100), (Phase::Process, 50)] {
        phases.set(phase, Some(took * ms));
    }
    StartRecord {
        key: Key { runtime: RuntimeKind::Docker, id: "abc".into() },
        name: "web".into(),
        image: "nginx".into(),
        requested: Some(requested),
        running: Some(requested + 450 * ms),
        total: Some(450 * ms),
        phases,
        kind: StartKind::Cold,
        image_cached: Some(false),
        pool_hit: None,
        failure: None,
        slow: Vec::new(),
        source: Source::Events,
        traceparent: None,
    }
}

fn spans_of(start: StartRecord) -> Vec<Span> {
    let resource = traces::resource(&[("service.name".into(), "kina".into())]);
    let requests = traces::requests(&resource, traces::spans(&start), usize::MAX);
    let scopes = requests.into_iter().flat_map(|r| r.resource_spans).flat_map(|r| r.scope_spans);
    scopes.flat_map(|s| s.spans).collect()
}

fn times(spans: &[Span], begin: i64) -> Vec<(&str, i64, i64)> {
    let ms = |t: u64| (t as i64 - begin) / (SECOND / 1000);
    spans.iter().map(|s| (s.name.as_str(), ms(s.start_time_unix_nano), ms(s.end_time_unix_nano))).collect()
}

#[test]
fn a_start_is_a_trace_of_its_phases() {
    let record = start(NOW);
    let spans = spans_of(record.clone());
    let want = [
        ("container.start", 0, 450),
        ("container.start.image", 0, 300),
        ("container.start.init", 300, 400),
        ("container.start.process", 400, 450),
    ];
    assert_eq!(times(&spans, NOW), want);
    let hex = |b: &[u8]| b.iter().map(|b| format!("{b:02x}")).collect::<String>();
    assert!(spans.iter().all(|s| hex(&s.trace_id) == record.trace_id() && s.span_id.len() == 8));
    assert!(spans[0].parent_span_id.is_empty() && spans[1..].iter().all(|s| s.parent_span_id == spans[0].span_id));
    let ids: std::collections::HashSet<_> = spans.iter().map(|s| &s.span_id).collect();
    assert_eq!(ids.len(), 4);
    assert_eq!(spans[0].status.as_ref().map_or(0, |s| s.code), 0);

    // A phase that nobody saw leaves a gap, and those behind it at their place.
    let mut gap = start(NOW);
    gap.phases.set(Phase::Init, None);
    assert_eq!(
        times(&spans_of(gap), NOW),
        [("container.start", 0, 450), ("container.start.image", 0, 300), ("container.start.process", 400, 450)]
    );
}

#[test]
fn reported_and_failed_starts() {
    let mut record = start(NOW);
    record.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into());
    (record.running, record.total) = (None, None);
    record.failure = Some((FailureReason::OciError, "exec: \"x\": not found".into()));
    let spans = spans_of(record);
    assert_eq!(spans[0].trace_id[..2], [0x0a, 0xf7]);
    assert_eq!(spans[0].parent_span_id, 0xb7ad6b7169203331u64.to_be_bytes());
    let status = spans[0].status.as_ref().unwrap();
    assert_eq!((status.code, status.message.as_str()), (2, "exec: \"x\": not found"));
    let mut unknown = start(NOW);
    (unknown.requested, unknown.running) = (None, None);
    assert!(spans_of(unknown).is_empty(), "no time, no span");
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_are_pushed_and_their_histogram_points_at_them() {
    for protocol in ["http/protobuf", "http/json", "grpc"] {
        let receiver = Receiver::default();
        let otlp = Otlp { protocol: Some(protocol.into()), ..to(&receiver.listen().await) };
        let exporter = exporter(otlp, &[("OTEL_METRICS_EXPORTER", "none"), ("OTEL_BSP_SCHEDULE_DELAY", "20")]);
        let shared = exporter.engine.shared().clone();
        let record = start(NOW);
        let trace_id = record.trace_id();
        let config = shared.config();
        shared.startups.take(Outcome::Started(record), |_| None, &Rules::new(&shared.held, &config));
        let got = receiver.wait_for(1).await;
        assert!(got[0].path.ends_with("/v1/traces") || got[0].path.ends_with("TraceService/Export"), "{}", got[0].path);
        let spans = got[0].spans();
        assert_eq!(spans.len(), 4);

        // Each span is as long as its phase in the histogram, which points at the trace.
        let c = exporter.engine.collect(kina_exporter::config::CollectorSet::ALL).await.unwrap();
        for row in &c.samples.table(catalog::STARTUP_PHASE_DURATION).hists {
            let labels: HashMap<_, _> = c.samples.labels(row.entity, row.extra).collect();
            let h = c.samples.histogram(row);
            let span = spans.iter().find(|s| s.name.ends_with(labels["phase"])).unwrap();
            let took = (span.end_time_unix_nano - span.start_time_unix_nano) as f64 / SECOND as f64;
            assert!((h.sum - took).abs() < 1e-9, "{labels:?}");
            assert_eq!(h.exemplars[0].labels, [("trace_id", trace_id.clone())]);
        }
        exporter.push.shutdown().await;
        assert_eq!(receiver.got().len(), 1);
    }
}

// ---- A real collector ---------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_real_collector_takes_it() {
    let port = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (grpc, http) = (port(), port());
    let dir = common::tree(&[]);
    let config = format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '{grpc}'}}, http: {{endpoint: '{http}'}}}}}}}}\n\
         exporters: {{debug: {{verbosity: detailed}}}}\n\
         service:\n  telemetry: {{metrics: {{level: none}}}}\n  pipelines:\n    \
         metrics: {{receivers: [otlp], exporters: [debug]}}\n    traces: {{receivers: [otlp], exporters: [debug]}}\n"
    );
    let (path, log) = (dir.path().join("otelcol.yml"), dir.path().join("log"));
    std::fs::write(&path, config).unwrap();
    let spawned = Command::new("otelcol")
        .arg(format!("--config=file:{}", path.display()))
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn();
    let Ok(_collector) = spawned.map(common::Running) else {
        return common::not_packaged("no OpenTelemetry Collector (otelcol) is on PATH, and Debian has none");
    };
    for (protocol, address) in [("grpc", grpc), ("http/protobuf", http), ("http/json", http)] {
        let mut otlp = Otlp { protocol: Some(protocol.into()), ..to(&address.to_string()) };
        (otlp.timeout, otlp.compression) = (Some(Duration::from_secs(5)), Some("gzip".into()));
        let exporter = exporter(otlp, &[("OTEL_BSP_SCHEDULE_DELAY", "50")]);
        let shared = exporter.engine.shared().clone();
        let mut record = start(NOW);
        record.key.id = protocol.into();
        let (trace_id, config) = (record.trace_id(), shared.config());
        shared.startups.take(Outcome::Started(record), |_| None, &Rules::new(&shared.held, &config));
        let end = Instant::now() + Duration::from_secs(60);
        for signal in ["metrics", "traces"] {
            while exporter.count(catalog::OTLP_SENT, &[("signal", signal)]).await == 0.0 {
                assert!(Instant::now() < end, "{protocol}: {signal}: {}", std::fs::read_to_string(&log).unwrap());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        assert_eq!(exporter.count(catalog::OTLP_FAILED, &[]).await, 0.0, "{protocol}");
        let told = std::fs::read_to_string(&log).unwrap();
        for part in ["Name: kina.container.starts", "container.start.process", &trace_id] {
            assert!(told.contains(part), "{protocol}: {part}");
        }
        exporter.push.shutdown().await;
    }
}
