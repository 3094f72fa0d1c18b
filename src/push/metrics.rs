//! Samples → OTLP metrics: `ExportMetricsServiceRequest` messages, written straight to the wire and cut by size.
//!
//! Field numbers are those of opentelemetry-proto's `metrics.proto` and `common.proto`.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock};

use super::request::{Request, Requests, length_of_varint};
use crate::catalog::{self, Family, FamilyId, Kind, Scope, Unit};
use crate::engine::Collection;
use crate::expose::wire::{bytes, double, fixed64, message, sint, string, tag, uint, varint};
use crate::root::{Nanos, SECOND};
use crate::runtime::Container;
use crate::sample::{Entity, Exemplar, Extra, Histogram, LabelBlock, NATIVE_SCHEMA, Samples, SumRow, ZERO_THRESHOLD};

/// Who a point is about: told by its Resource, or by its own attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// A Resource for each container, as the semantic conventions have it.
    Resource,
    /// One Resource, `container.*` on each point: for back ends that merge Resources, Prometheus above all.
    Attributes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Temporality {
    Cumulative,
    /// Counters and histograms since the last push.
    Delta,
    /// As delta, but counters that the kernel keeps stay cumulative: nothing need be remembered for them.
    LowMemory,
}

/// How samples are told in OTLP.
#[derive(Debug, Clone)]
pub struct Shape {
    pub identity: Identity,
    pub temporality: Temporality,
    /// Histograms as exponential ones, where their native buckets are known.
    pub exponential: bool,
    /// A request is cut before it grows beyond this. Receivers take 4 MiB unless told otherwise.
    pub max_bytes: usize,
    /// Attributes of every Resource.
    pub resource: Vec<(String, String)>,
    /// When the exporter started: since when it counts events.
    pub started: Nanos,
}

/// What one OpenTelemetry metric is made of.
struct Instrument {
    name: String,
    /// Fields of its `Metric` before the data.
    heading: Vec<u8>,
    data: Data,
    /// More than one family where the conventions tell them apart by an attribute.
    families: Vec<(FamilyId, Attributes)>,
}

/// Those that every point of a family has.
type Attributes = &'static [(&'static str, &'static str)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Data {
    Gauge,
    /// A sum that may fall: UpDownCounter.
    Level,
    Sum,
    /// Of a summary, the count.
    Count,
    Histogram,
}

fn instruments() -> &'static [Instrument] {
    static ALL: LazyLock<Vec<Instrument>> = LazyLock::new(|| {
        let mut all = Vec::new();
        for id in catalog::ids() {
            let family = id.family();
            add(&mut all, id, &family.otel_name(), family.otel_attributes, data(family, &family.otel_name()));
            if let Some(count) = family.otel_count {
                add(&mut all, id, count, &[], Data::Count);
            }
        }
        all
    });
    &ALL
}

/// Those of the machine's own samples that have another name than a container's.
fn system_instruments() -> &'static [Instrument] {
    static ALL: LazyLock<Vec<Instrument>> = LazyLock::new(|| {
        let mut all = Vec::new();
        for id in catalog::ids() {
            if let Some((name, attributes)) = id.family().otel_system {
                add(&mut all, id, name, attributes, data(id.family(), name));
            }
        }
        all
    });
    &ALL
}

fn add(all: &mut Vec<Instrument>, id: FamilyId, name: &str, attributes: Attributes, data: Data) {
    let family = id.family();
    if let Some(instrument) = all.iter_mut().find(|i| i.name == name) {
        return instrument.families.push((id, attributes));
    }
    let mut heading = Vec::new();
    string(&mut heading, 1, name);
    string(&mut heading, 2, family.help);
    string(&mut heading, 3, family.otel_unit(name));
    all.push(Instrument { name: name.to_owned(), heading, data, families: vec![(id, attributes)] });
}

fn data(family: &Family, name: &str) -> Data {
    match family.kind {
        Kind::Counter | Kind::Summary => Data::Sum,
        Kind::Histogram => Data::Histogram,
        // The conventions make levels of everything that adds up; an uptime does not.
        Kind::Gauge if !name.starts_with("kina.") && family.unit != Unit::Seconds => Data::Level,
        Kind::Gauge | Kind::Info => Data::Gauge,
    }
}

/// Encodes a collection, and of the one before it the containers that ended since, marked as gone. Hands over each
/// request as soon as it is full; stops when one is refused.
pub fn encode(shape: &Shape, now: &Collection, before: Option<&Collection>, send: &mut dyn FnMut(Request) -> bool) {
    let mut requests = Requests::new(shape.max_bytes, send);
    let time = now.snapshot.wall;
    write(&Source::new(now, shape), shape, time, before, &|_| true, &mut requests);
    if let Some(before) = before {
        let live: HashSet<&[u8]> = now.samples.entities().iter().map(|e| &e.text[..]).collect();
        let ended = |e: usize| before.samples.entities().get(e).is_some_and(|e| !live.contains(&e.text[..]));
        write(&Source { ended: true, ..Source::new(before, shape) }, shape, time, None, &ended, &mut requests);
    }
    requests.finish();
}

/// A collection and who its entities are.
struct Source<'a> {
    collection: &'a Collection,
    /// The container of each entity; None for the root cgroup, which is the machine, and where nobody knows it.
    containers: Vec<Option<&'a Arc<Container>>>,
    /// The entity of the root cgroup.
    machine: Option<usize>,
    /// In attributes mode: the attributes that tell each entity, as most points have them, and where they end.
    told: Vec<u8>,
    ends: Vec<usize>,
    /// Its series ended: points say so and carry no value.
    ended: bool,
}

impl<'a> Source<'a> {
    fn new(collection: &'a Collection, shape: &Shape) -> Self {
        let listed = collection.snapshot.containers.iter().map(|f| &f.container);
        let by_block: HashMap<*const LabelBlock, &Arc<Container>> =
            listed.map(|c| (Arc::as_ptr(&c.labels), c)).collect();
        let blocks = collection.samples.entities().iter();
        let containers = blocks.map(|b| by_block.get(&Arc::as_ptr(b)).copied().filter(|_| !is_root(b))).collect();
        let machine = collection.samples.entities().iter().position(is_root);
        let mut source = Self { collection, containers, machine, told: Vec::new(), ends: Vec::new(), ended: false };
        if shape.identity == Identity::Attributes {
            let mut told = Vec::new();
            for entity in 0..collection.samples.entities().len() {
                source.identity(&mut told, NUMBER_ATTRIBUTES, entity);
                source.ends.push(told.len());
            }
            source.told = told;
        }
        source
    }

    /// The attributes of an entity as [`NUMBER_ATTRIBUTES`], written once for all its points.
    fn told(&self, entity: usize) -> &[u8] {
        let begin = entity.checked_sub(1).map_or(0, |e| self.ends[e]);
        &self.told[begin..self.ends[entity]]
    }

    fn container(&self, entity: usize) -> Option<&'a Arc<Container>> {
        self.containers.get(entity).copied().flatten()
    }

    /// Attributes that tell which container it is.
    fn identity(&self, out: &mut Vec<u8>, field: u64, entity: usize) {
        if let Some(container) = self.container(entity)
            && !container.native_id.starts_with('/')
        {
            attribute(out, field, "container.id", &container.native_id);
        }
        let Some(block) = self.collection.samples.entities().get(entity) else { return };
        for (label, value) in &block.pairs {
            let (value, tag) = if *label == "image" { split_image(value) } else { (value.as_str(), None) };
            attribute(out, field, catalog::attribute(label), value);
            if let Some(tag) = tag {
                tags(out, field, tag);
            }
        }
    }

    fn resource(&self, shape: &Shape, group: u32) -> Vec<u8> {
        let is_machine = matches!(group, MACHINE | SYSTEM);
        let mut out = Vec::new();
        for (key, value) in &shape.resource {
            // `service.*` is the exporter's own; a container is not the exporter.
            if is_machine || !key.starts_with("service.") {
                attribute(&mut out, 1, key, value);
            }
        }
        if !is_machine {
            self.identity(&mut out, 1, group as usize - 1);
        }
        out
    }
}

/// The field of a number's attributes.
const NUMBER_ATTRIBUTES: u64 = 7;

/// The group of everything that is not about one container; a container's is one more than its entity.
const MACHINE: u32 = 0;

/// The machine's own samples that have names of their own; last.
const SYSTEM: u32 = u32::MAX;

/// Writes the samples of the entities that are wanted, group by group.
fn write(
    source: &Source,
    shape: &Shape,
    time: Nanos,
    before: Option<&Collection>,
    wanted: &dyn Fn(usize) -> bool,
    requests: &mut Requests,
) {
    let samples = &source.collection.samples;
    let blocks = samples.entities();
    let group = |id: FamilyId, entity: Entity| match entity.index() {
        Some(e) if source.machine == Some(e) => {
            if id.family().otel_system.is_some() {
                SYSTEM
            } else {
                MACHINE
            }
        }
        Some(e) if shape.identity == Identity::Resource => e as u32 + 1,
        _ => MACHINE,
    };
    // Of what ended, only entities: families of events outlive their containers.
    let wanted = |entity: Entity| entity.index().map_or(!source.ended, wanted);
    let mut families: Vec<FamilyWriter> = catalog::ids()
        .map(|id| {
            let rows = entities(samples, id).enumerate().filter(|(row, e)| wanted(*e) && is_told(samples, id, *row));
            let mut order: Vec<_> = rows.map(|(row, e)| (group(id, e), row as u32)).collect();
            order.sort_unstable();
            FamilyWriter::new(source, shape, time, id, order, before)
        })
        .collect();
    let groups = if shape.identity == Identity::Resource { blocks.len() as u32 + 1 } else { 1 };
    for group in (0..groups).chain([SYSTEM]) {
        if !families.iter().any(|f| f.next(group).is_some()) {
            continue;
        }
        requests.resource(source.resource(shape, group));
        for instrument in if group == SYSTEM { system_instruments() } else { instruments() } {
            requests.metric(&instrument.heading, ending(instrument, shape), field(instrument, shape));
            for (id, attributes) in &instrument.families {
                let Some(family) = families.get_mut(id.index()) else { continue };
                let begin = family.at;
                while let Some(row) = family.next(group) {
                    family.at += 1;
                    family.row(row, &As { instrument, attributes }, requests);
                }
                if instrument.data == Data::Sum && id.family().otel_count.is_some() {
                    // The instrument behind it tells their counts.
                    family.at = begin;
                }
            }
        }
    }
}

fn is_root(block: &Arc<LabelBlock>) -> bool {
    block.get("id") == Some("/")
}

/// Whether the conventions have a place for a row: of page faults they count the cgroup with those below it.
fn is_told(samples: &Samples, id: FamilyId, row: usize) -> bool {
    let Some(r) = samples.table(id).rows.get(row).filter(|_| id == catalog::MEMORY_FAILURES) else { return true };
    samples.labels(Entity::NONE, r.extra).any(|l| l == ("scope", "hierarchy"))
}

/// A row's value as the conventions count it: page faults without the major ones, which the row behind it counts.
fn counted(samples: &Samples, id: FamilyId, row: usize, value: f64) -> f64 {
    if id != catalog::MEMORY_FAILURES {
        return value;
    }
    let rows = &samples.table(id).rows;
    let major = |extra| samples.labels(Entity::NONE, extra).any(|l| l == ("failure_type", "pgmajfault"));
    match (rows.get(row), rows.get(row + 1)) {
        (Some(all), Some(next)) if next.entity == all.entity && major(next.extra) && !major(all.extra) => {
            (value - next.value).max(0.0)
        }
        _ => value,
    }
}

/// What the hardware of a RAPL domain is, in the conventions' words.
fn hardware(domain: &str) -> &'static str {
    match domain.split('-').next() {
        Some("dram") => "memory",
        Some("psys") => "enclosure",
        _ => "cpu",
    }
}

/// Entities of all rows of a family: numbers, then summaries, then histograms.
fn entities(samples: &Samples, id: FamilyId) -> impl Iterator<Item = Entity> {
    let table = samples.table(id);
    let rows = table.rows.iter().map(|r| r.entity);
    rows.chain(table.sums.iter().map(|r| r.entity)).chain(table.hists.iter().map(|r| r.entity))
}

/// `registry:5000/name:tag@digest` → name without tag and digest, tag.
pub fn split_image(image: &str) -> (&str, Option<&str>) {
    let name = image.split('@').next().unwrap_or(image);
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (name, None),
    }
}

/// `KeyValue` with a string.
fn attribute(out: &mut Vec<u8>, field: u64, key: &str, value: &str) {
    let any = 1 + length_of_varint(value.len()) + value.len();
    let pair = 1 + length_of_varint(key.len()) + key.len() + 1 + length_of_varint(any) + any;
    tag(out, field, 2);
    varint(out, pair as u64);
    string(out, 1, key);
    tag(out, 2, 2);
    varint(out, any as u64);
    string(out, 1, value);
}

/// `container.image.tags`, an array of one.
fn tags(out: &mut Vec<u8>, field: u64, tag: &str) {
    message(out, field, |out| {
        string(out, 1, "container.image.tags");
        message(out, 2, |out| message(out, 5, |out| message(out, 1, |out| string(out, 1, tag))));
    });
}

/// The field of a `Metric` that holds its points.
fn field(instrument: &Instrument, shape: &Shape) -> u64 {
    match instrument.data {
        Data::Gauge => 5,
        Data::Level | Data::Sum | Data::Count => 7,
        Data::Histogram if shape.exponential => 10,
        Data::Histogram => 9,
    }
}

/// Fields of the data after its points: temporality (2), and for a sum that it never falls (3).
fn ending(instrument: &Instrument, shape: &Shape) -> &'static [u8] {
    let delta = instrument.families.iter().any(|(id, _)| is_delta(*id, shape));
    match (instrument.data, delta) {
        (Data::Gauge, _) => &[],
        (Data::Level, _) | (Data::Histogram, false) => &[0x10, 2],
        (Data::Histogram, true) => &[0x10, 1],
        (Data::Sum | Data::Count, false) => &[0x10, 2, 0x18, 1],
        (Data::Sum | Data::Count, true) => &[0x10, 1, 0x18, 1],
    }
}

fn is_delta(id: FamilyId, shape: &Shape) -> bool {
    let family = id.family();
    let counts = matches!(family.kind, Kind::Counter | Kind::Histogram | Kind::Summary);
    let held_here = matches!(family.scope, Scope::Events | Scope::Exporter) || family.kind == Kind::Histogram;
    match shape.temporality {
        Temporality::Cumulative => false,
        Temporality::Delta => counts,
        Temporality::LowMemory => counts && held_here,
    }
}

/// Values of a family at the last push, by identity and extra labels.
type Known<'a, V> = HashMap<(&'a [u8], &'a [u8]), V>;

/// As what a family's rows are told.
struct As<'a> {
    instrument: &'a Instrument,
    attributes: Attributes,
}

struct FamilyWriter<'a> {
    source: &'a Source<'a>,
    shape: &'a Shape,
    id: FamilyId,
    time: Nanos,
    /// Rows in the order in which they are written, by group.
    order: Vec<(u32, u32)>,
    at: usize,
    delta: bool,
    /// When the last push was, in delta mode.
    last_push: Option<Nanos>,
    known: Known<'a, f64>,
    known_sums: Known<'a, &'a SumRow>,
    known_histograms: Known<'a, &'a Histogram>,
}

impl<'a> FamilyWriter<'a> {
    fn new(
        source: &'a Source<'a>,
        shape: &'a Shape,
        time: Nanos,
        id: FamilyId,
        order: Vec<(u32, u32)>,
        before: Option<&'a Collection>,
    ) -> Self {
        let delta = is_delta(id, shape);
        let (mut known, mut known_sums, mut known_histograms) = (HashMap::new(), HashMap::new(), HashMap::new());
        let before = before.filter(|_| delta);
        if let Some(samples) = before.map(|c| &c.samples) {
            let key = |entity, extra| (samples.entity_text(entity), samples.extra_text(extra));
            let table = samples.table(id);
            let rows = table.rows.iter().enumerate();
            known = rows.map(|(i, r)| (key(r.entity, r.extra), counted(samples, id, i, r.value))).collect();
            known_sums = table.sums.iter().map(|r| (key(r.entity, r.extra), r)).collect();
            known_histograms = table.hists.iter().map(|r| (key(r.entity, r.extra), samples.histogram(r))).collect();
        }
        let last_push = before.map(|c| c.snapshot.wall);
        Self { source, shape, id, time, order, at: 0, delta, last_push, known, known_sums, known_histograms }
    }

    /// The next row, if it is of this group.
    fn next(&self, group: u32) -> Option<usize> {
        self.order.get(self.at).filter(|(g, _)| *g == group).map(|(_, row)| *row as usize)
    }

    fn row(&self, row: usize, told: &As, requests: &mut Requests) {
        let samples = &self.source.collection.samples;
        let table = samples.table(self.id);
        let sums = row.wrapping_sub(table.rows.len());
        let hists = sums.wrapping_sub(table.sums.len());
        if let Some(r) = table.rows.get(row) {
            let value = counted(samples, self.id, row, self.converted(r.value));
            self.number(
                r.entity,
                r.extra,
                self.known.get(&self.key(r.entity, r.extra)).copied(),
                value,
                told,
                requests,
            );
        } else if let Some(r) = table.sums.get(sums) {
            let part = |r: &SumRow| if told.instrument.data == Data::Count { r.count as f64 } else { r.sum };
            let known = self.known_sums.get(&self.key(r.entity, r.extra)).map(|r| part(r));
            self.number(r.entity, r.extra, known, part(r), told, requests);
        } else if let Some(r) = table.hists.get(hists) {
            let whole = samples.histogram(r);
            let Some((start, since)) = self.difference(r.entity, r.extra, whole) else { return };
            let h = since.as_ref().unwrap_or(whole);
            requests.point(|out| match self.shape.exponential {
                true => self.exponential_point(out, r.entity, r.extra, start, h, told),
                false => self.histogram_point(out, r.entity, r.extra, start, h, told),
            });
        }
    }

    /// A start time is told as what has passed since.
    fn converted(&self, value: f64) -> f64 {
        if self.id == catalog::CONTAINER_START_TIME || self.id == catalog::PROCESS_START_TIME {
            return self.time as f64 / SECOND as f64 - value;
        }
        value
    }

    /// Since when a series of this entity counts; 0 where nobody knows.
    fn start(&self, entity: Entity) -> Nanos {
        let snapshot = &self.source.collection.snapshot;
        if let Some(container) = entity.index().and_then(|e| self.source.container(e)) {
            return container.started.unwrap_or(0);
        }
        match self.id.family().scope {
            Scope::Events | Scope::Exporter => self.shape.started,
            // The kernel counts from its own start.
            Scope::Host | Scope::Container => snapshot.wall - snapshot.boot,
        }
    }

    fn key(&self, entity: Entity, extra: Extra) -> (&[u8], &[u8]) {
        let samples = &self.source.collection.samples;
        (samples.entity_text(entity), samples.extra_text(extra))
    }

    /// A value; the change since the last push in delta mode, when it had the `known` one. A counter that is seen for the
    /// first time tells nothing yet, unless it began after the last push; one that fell began anew.
    fn number(&self, entity: Entity, extra: Extra, known: Option<f64>, value: f64, told: &As, requests: &mut Requests) {
        let start = self.start(entity);
        let change = match (known, self.last_push) {
            _ if !self.delta || self.source.ended => Some((start, value)),
            (Some(old), Some(at)) if old <= value => Some((at, value - old)),
            (Some(_), _) => Some((start, value)),
            (None, _) => self.is_new(start).then_some((start, value)),
        };
        if let Some((start, value)) = change {
            requests.point(|out| self.number_point(out, entity, extra, start, value, told));
        }
    }

    /// The same for a histogram; without one, it is the whole.
    fn difference(&self, entity: Entity, extra: Extra, h: &Histogram) -> Option<(Nanos, Option<Histogram>)> {
        let start = self.start(entity);
        if !self.delta || self.source.ended {
            return Some((start, None));
        }
        match (self.known_histograms.get(&self.key(entity, extra)), self.last_push) {
            (Some(old), Some(at)) => Some(h.since(old).map_or((start, None), |since| (at, Some(since)))),
            _ => self.is_new(start).then_some((start, None)),
        }
    }

    fn is_new(&self, start: Nanos) -> bool {
        match self.id.family().scope {
            Scope::Events | Scope::Exporter => true,
            Scope::Container | Scope::Host => self.last_push.is_some_and(|at| start >= at),
        }
    }

    fn times(&self, out: &mut Vec<u8>, start: Nanos, told: &As) {
        // A gauge has no beginning.
        if told.instrument.data != Data::Gauge && start > 0 {
            fixed64(out, 2, start as u64);
        }
        fixed64(out, 3, self.time as u64);
    }

    fn flags(&self, out: &mut Vec<u8>, field: u64) {
        if self.source.ended {
            // DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK
            uint(out, field, 1);
        }
    }

    fn attributes(&self, out: &mut Vec<u8>, field: u64, entity: Entity, extra: Extra, told: &As) {
        for (key, value) in told.attributes {
            attribute(out, field, key, value);
        }
        let is_machine = entity.index().is_some_and(|e| self.source.machine == Some(e));
        // That it is the machine is in the name.
        let named = is_machine && self.id.family().otel_system.is_some();
        if let (Identity::Attributes, Some(e), false) = (self.shape.identity, entity.index(), named) {
            match field {
                NUMBER_ATTRIBUTES => out.extend_from_slice(self.source.told(e)),
                _ => self.source.identity(out, field, e),
            }
        }
        let labels = self.source.collection.samples.labels(Entity::NONE, extra);
        // Which container it is has been told.
        for (label, value) in labels.filter(|(label, _)| *label != "container_id" || entity == Entity::NONE) {
            match named {
                true => self.system_label(out, field, label, value, &told.instrument.name),
                false => self.label(out, field, label, value),
            }
        }
    }

    fn system_label(&self, out: &mut Vec<u8>, field: u64, label: &str, value: &str, name: &str) {
        match catalog::system_attribute(name, label) {
            key @ "network.connection.state" => attribute(out, field, key, catalog::connection_state(value)),
            key if key != label => attribute(out, field, key, value),
            _ => self.label(out, field, label, value),
        }
    }

    fn label(&self, out: &mut Vec<u8>, field: u64, label: &str, value: &str) {
        match label {
            "failure_type" => {
                let kind = if value == "pgmajfault" { "major" } else { "minor" };
                attribute(out, field, "system.paging.fault.type", kind);
            }
            "scope" if self.id == catalog::MEMORY_FAILURES => {}
            "domain" if self.id == catalog::HOST_ENERGY => {
                attribute(out, field, "hw.id", value);
                attribute(out, field, "hw.type", hardware(value));
            }
            _ => attribute(out, field, catalog::attribute(label), value),
        }
    }

    fn number_point(&self, out: &mut Vec<u8>, entity: Entity, extra: Extra, start: Nanos, value: f64, told: &As) {
        self.times(out, start, told);
        let whole = match self.id.family().unit {
            Unit::Bytes => true,
            Unit::Count => told.instrument.data != Data::Gauge,
            _ => told.instrument.data == Data::Count,
        };
        if !self.source.ended {
            if whole && value.fract() == 0.0 && value.abs() < i64::MAX as f64 {
                fixed64(out, 6, value as i64 as u64);
            } else {
                double(out, 4, value);
            }
        }
        self.attributes(out, NUMBER_ATTRIBUTES, entity, extra, told);
        self.flags(out, 8);
    }

    fn histogram_point(&self, out: &mut Vec<u8>, entity: Entity, extra: Extra, start: Nanos, h: &Histogram, told: &As) {
        self.times(out, start, told);
        if !self.source.ended {
            fixed64(out, 4, h.count);
            double(out, 5, h.sum);
            packed(out, 6, h.counts.iter().copied());
            packed(out, 7, h.bounds.iter().map(|b| b.to_bits()));
            self.exemplars(out, 8, h);
        }
        self.attributes(out, 9, entity, extra, told);
        self.flags(out, 10);
    }

    fn exponential_point(
        &self,
        out: &mut Vec<u8>,
        entity: Entity,
        extra: Extra,
        start: Nanos,
        h: &Histogram,
        told: &As,
    ) {
        self.attributes(out, 1, entity, extra, told);
        self.times(out, start, told);
        if !self.source.ended {
            fixed64(out, 4, h.count);
            double(out, 5, h.sum);
            sint(out, 6, NATIVE_SCHEMA.into());
            fixed64(out, 7, h.native_zero);
            if let (Some((first, _)), Some((last, _))) = (h.native.first(), h.native.last()) {
                message(out, 8, |out| {
                    // A bucket is counted here from its lower bound, in Prometheus from its upper one.
                    sint(out, 1, i64::from(*first) - 1);
                    message(out, 2, |out| {
                        let mut native = h.native.iter().peekable();
                        for index in *first..=*last {
                            varint(out, native.next_if(|(i, _)| *i == index).map_or(0, |(_, n)| *n));
                        }
                    });
                });
            }
            self.exemplars(out, 11, h);
            double(out, 14, ZERO_THRESHOLD);
        }
        self.flags(out, 10);
    }

    fn exemplars(&self, out: &mut Vec<u8>, field: u64, h: &Histogram) {
        for e in &h.exemplars {
            message(out, field, |out| exemplar(out, e));
        }
    }
}

fn exemplar(out: &mut Vec<u8>, e: &Exemplar) {
    fixed64(out, 2, (e.timestamp * 1e9) as u64);
    double(out, 3, e.value);
    for (label, value) in &e.labels {
        match (*label, hex(value)) {
            ("span_id", Some(id)) if id.len() == 8 => bytes(out, 4, &id),
            ("trace_id", Some(id)) if id.len() == 16 => bytes(out, 5, &id),
            _ => attribute(out, 7, label, value),
        }
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
    digits.filter(|d| d.len() % 2 == 0).map(|d| d.chunks(2).map(|p| p.iter().fold(0, |n, d| n << 4 | d)).collect())
}

fn packed(out: &mut Vec<u8>, field: u64, values: impl ExactSizeIterator<Item = u64>) {
    tag(out, field, 2);
    varint(out, 8 * values.len() as u64);
    values.for_each(|v| out.extend_from_slice(&v.to_le_bytes()));
}
