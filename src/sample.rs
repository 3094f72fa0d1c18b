//! Samples: what a collection says, in the order and shape in which every output format needs it.
//!
//! One table a metric family ([`crate::catalog`]), one row a sample. A row names its entity (a container, whose label
//! block is rendered once in its life) and its own extra labels (rendered once, then found again by content), so that
//! writing a sample copies bytes and formats one number. All tables are kept from scrape to scrape: once warm, filling
//! them allocates nothing.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use crate::catalog::{self, FamilyId};

/// The identity labels of a container, as pairs and as text.
#[derive(Debug, PartialEq, Eq)]
pub struct LabelBlock {
    pub pairs: Vec<(&'static str, String)>,
    /// `id="…",name="…"`, escaped for the text formats, without braces. Empty when there are no labels.
    pub text: Box<[u8]>,
}

impl LabelBlock {
    /// Labels with empty values are left out: to Prometheus they are the same as absent.
    pub fn new(pairs: Vec<(&'static str, String)>) -> Self {
        let pairs: Vec<_> = pairs.into_iter().filter(|(_, v)| !v.is_empty()).collect();
        let mut text = Vec::with_capacity(64 + pairs.iter().map(|(k, v)| k.len() + v.len() + 4).sum::<usize>());
        for (name, value) in &pairs {
            render_pair(&mut text, name, value);
        }
        Self { pairs, text: text.into_boxed_slice() }
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str())
    }
}

/// Appends `name="value"`, with a comma before it when it is not the first; escapes as text 0.0.4 and OpenMetrics both do.
pub(crate) fn render_pair(out: &mut Vec<u8>, name: &str, value: &str) {
    if !out.is_empty() {
        out.push(b',');
    }
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"=\"");
    for &b in value.as_bytes() {
        match b {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\n' => out.extend_from_slice(b"\\n"),
            b => out.push(b),
        }
    }
    out.push(b'"');
}

/// A container (or other thing with a label block) within one [`Samples`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entity(u32);

impl Entity {
    /// No identity labels: host, exporter and event families.
    pub const NONE: Entity = Entity(u32::MAX);

    /// Its place in [`Samples::entities`]; None for [`Entity::NONE`].
    pub fn index(self) -> Option<usize> {
        (self != Self::NONE).then_some(self.0 as usize)
    }
}

/// A set of extra labels within one [`Samples`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Extra(u32);

impl Extra {
    pub const NONE: Extra = Extra(u32::MAX);
}

#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub entity: Entity,
    pub extra: Extra,
    pub value: f64,
}

/// A summary without quantiles: how much, and in how many events.
#[derive(Debug, Clone, Copy)]
pub struct SumRow {
    pub entity: Entity,
    pub extra: Extra,
    pub sum: f64,
    pub count: u64,
}

/// One histogram sample. Bucket counts are in the shared pool, cumulative only when written.
#[derive(Debug, Clone, Copy)]
pub struct HistRow {
    pub entity: Entity,
    pub extra: Extra,
    hist: u32,
}

/// Classic buckets plus, for scrapers that take them, native ones (base-2 exponential, as Prometheus defines schema 0–8).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    /// Upper bounds, ascending, without +Inf.
    pub bounds: &'static [f64],
    /// Not cumulative; one more than `bounds`, the last one for +Inf.
    pub counts: Vec<u64>,
    pub sum: f64,
    pub count: u64,
    /// Sorted by index; bucket `i` holds values in (2^((i−1)/2^schema), 2^(i/2^schema)].
    pub native: Vec<(i32, u64)>,
    /// Observations at or below [`ZERO_THRESHOLD`].
    pub native_zero: u64,
    /// At most one per bucket, the newest; empty for most histograms.
    pub exemplars: Vec<Exemplar>,
}

/// Schema of native histograms: 8 buckets for each power of two, 9 % wide.
pub const NATIVE_SCHEMA: i32 = 3;
/// Observations not greater than this count into the native zero bucket (Prometheus' own default).
pub const ZERO_THRESHOLD: f64 = 2.938735877055719e-39;

#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// Index into `counts`.
    pub bucket: usize,
    pub value: f64,
    pub labels: Vec<(&'static str, String)>,
    /// Seconds since the Unix epoch.
    pub timestamp: f64,
}

impl Histogram {
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], ..Self::default() }
    }

    /// Counts one observation. Returns the classic bucket that it fell into; None when it is no number and so was not
    /// counted: one NaN would make the sum useless forever.
    pub fn observe(&mut self, value: f64) -> Option<usize> {
        self.observe_times(value, 1)
    }

    /// Counts `n` observations of one value, such as requests of which only the mean is known.
    pub fn observe_times(&mut self, value: f64, n: u64) -> Option<usize> {
        if !value.is_finite() || n == 0 {
            return None;
        }
        let bucket = self.bounds.partition_point(|b| *b < value);
        *self.counts.get_mut(bucket)? += n;
        self.sum += value * n as f64;
        self.count += n;
        if value <= ZERO_THRESHOLD {
            self.native_zero += n;
        } else {
            let index = native_index(value);
            match self.native.binary_search_by_key(&index, |(i, _)| *i) {
                Ok(at) => self.native[at].1 += n,
                Err(at) => self.native.insert(at, (index, n)),
            }
        }
        Some(bucket)
    }

    /// Whether the native buckets hold every observation; not so for a histogram that came with classic counts alone.
    pub fn has_native(&self) -> bool {
        self.native_zero + self.native.iter().map(|(_, n)| n).sum::<u64>() == self.count
    }

    /// Counts one observation and keeps its exemplar, replacing an older one of the same bucket.
    pub fn observe_with(&mut self, value: f64, labels: Vec<(&'static str, String)>, timestamp: f64) {
        let Some(bucket) = self.observe(value) else { return };
        let exemplar = Exemplar { bucket, value, labels, timestamp };
        match self.exemplars.iter_mut().find(|e| e.bucket == bucket) {
            Some(old) => *old = exemplar,
            None => self.exemplars.push(exemplar),
        }
    }

    /// What was counted since `old`, which is this histogram at an earlier time; None when it began anew in between.
    pub fn since(&self, old: &Histogram) -> Option<Histogram> {
        let counts = self.counts.iter().zip(&old.counts).map(|(n, o)| n.checked_sub(*o)).collect::<Option<Vec<_>>>()?;
        let mut before = old.native.iter().peekable();
        let mut native = Vec::new();
        for (index, n) in &self.native {
            let o = before.next_if(|(i, _)| i == index).map_or(0, |(_, o)| *o);
            match n.checked_sub(o)? {
                0 => {}
                n => native.push((*index, n)),
            }
        }
        if before.peek().is_some() || counts.len() != self.counts.len() {
            return None;
        }
        Some(Histogram {
            bounds: self.bounds,
            counts,
            sum: self.sum - old.sum,
            count: self.count.checked_sub(old.count)?,
            native,
            native_zero: self.native_zero.checked_sub(old.native_zero)?,
            exemplars: self.exemplars.iter().filter(|e| !old.exemplars.contains(e)).cloned().collect(),
        })
    }

    /// Becomes equal to `other`, keeping its own memory.
    pub fn copy_from(&mut self, other: &Histogram) {
        self.bounds = other.bounds;
        self.counts.clone_from(&other.counts);
        self.sum = other.sum;
        self.count = other.count;
        self.native.clone_from(&other.native);
        self.native_zero = other.native_zero;
        self.exemplars.clone_from(&other.exemplars);
    }
}

/// Upper bounds of the native buckets within one power of two, as Prometheus' own clients have them, to the last bit.
const NATIVE_BOUNDS: [f64; 1 << NATIVE_SCHEMA] = [
    0.5,
    0.5452538663326288,
    0.5946035575013605,
    0.6484197773255048,
    0.7071067811865475,
    0.7711054127039704,
    0.8408964152537144,
    0.9170040432046711,
];

/// Index of the native bucket that holds `value`, which is finite and above [`ZERO_THRESHOLD`].
fn native_index(value: f64) -> i32 {
    // value = fraction × 2^exponent with the fraction in [0.5, 1).
    let bits = value.to_bits();
    let exponent = (bits >> 52) as i32 - 1022;
    let fraction = f64::from_bits((bits & !(0x7FF << 52)) | (1022 << 52));
    let within = NATIVE_BOUNDS.partition_point(|bound| *bound < fraction) as i32;
    within + (exponent - 1) * NATIVE_BOUNDS.len() as i32
}

/// One family's samples.
#[derive(Debug, Default)]
pub struct Table {
    pub rows: Vec<Row>,
    pub sums: Vec<SumRow>,
    pub hists: Vec<HistRow>,
}

impl Table {
    /// Number of samples; a summary and a histogram count as one.
    pub fn len(&self) -> usize {
        self.rows.len() + self.sums.len() + self.hists.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn clear(&mut self) {
        self.rows.clear();
        self.sums.clear();
        self.hists.clear();
    }
}

#[derive(Debug, Default)]
struct ExtraLabels {
    pairs: Vec<(String, String)>,
    text: Arc<[u8]>,
    /// The collection that last named it.
    seen: u64,
}

type FixedHash = BuildHasherDefault<DefaultHasher>;

/// All samples of one collection. See the module's text for the shape and why.
#[derive(Debug, Default)]
pub struct Samples {
    tables: Vec<Table>,
    entities: Vec<Arc<LabelBlock>>,
    extras: Vec<ExtraLabels>,
    extra_index: HashMap<Arc<[u8]>, u32, FixedHash>,
    /// Counts collections, and in this one the distinct extra label sets named.
    round: u64,
    extras_live: usize,
    scratch: Vec<u8>,
    pool: Vec<Histogram>,
    pool_used: usize,
}

/// Extra label sets kept beyond twice those in use, before the table starts anew: devices, interfaces and peers come
/// and go, and what they were called must not pile up.
const SPARE_EXTRAS: usize = 1024;

impl Samples {
    pub fn new() -> Self {
        let mut tables = Vec::new();
        tables.resize_with(catalog::families().len(), Table::default);
        Self { tables, ..Self::default() }
    }

    /// Empties all tables, keeping their memory for the next collection.
    pub fn clear(&mut self) {
        self.tables.iter_mut().for_each(Table::clear);
        self.entities.clear();
        self.pool_used = 0;
        if self.extras.len() > 2 * self.extras_live + SPARE_EXTRAS {
            self.extras.clear();
            self.extra_index.clear();
        }
        self.round += 1;
        self.extras_live = 0;
    }

    pub fn entity(&mut self, labels: &Arc<LabelBlock>) -> Entity {
        self.entities.push(labels.clone());
        Entity((self.entities.len() - 1) as u32)
    }

    pub fn entities(&self) -> &[Arc<LabelBlock>] {
        &self.entities
    }

    /// Finds or renders a set of extra labels. No allocation when the set was seen before.
    pub fn extra(&mut self, pairs: &[(&str, &str)]) -> Extra {
        if pairs.is_empty() {
            return Extra::NONE;
        }
        self.scratch.clear();
        for (name, value) in pairs {
            if !value.is_empty() {
                render_pair(&mut self.scratch, name, value);
            }
        }
        if self.scratch.is_empty() {
            return Extra::NONE;
        }
        if let Some(&index) = self.extra_index.get(self.scratch.as_slice()) {
            let known = &mut self.extras[index as usize];
            if known.seen != self.round {
                known.seen = self.round;
                self.extras_live += 1;
            }
            return Extra(index);
        }
        let text: Arc<[u8]> = self.scratch.as_slice().into();
        let index = self.extras.len() as u32;
        self.extras_live += 1;
        self.extras.push(ExtraLabels {
            pairs: pairs.iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| (k.to_string(), v.to_string())).collect(),
            text: text.clone(),
            seen: self.round,
        });
        self.extra_index.insert(text, index);
        Extra(index)
    }

    /// Adds a sample without extra labels.
    #[inline]
    pub fn push(&mut self, family: FamilyId, entity: Entity, value: f64) {
        self.tables[family.index()].rows.push(Row { entity, extra: Extra::NONE, value });
    }

    /// Adds a sample if there is a value: absent stays absent.
    #[inline]
    pub fn push_opt(&mut self, family: FamilyId, entity: Entity, value: Option<impl IntoValue>) {
        if let Some(v) = value {
            self.push(family, entity, v.into_value());
        }
    }

    /// Adds a sample with extra labels.
    pub fn push_with(&mut self, family: FamilyId, entity: Entity, pairs: &[(&str, &str)], value: f64) {
        let extra = self.extra(pairs);
        self.tables[family.index()].rows.push(Row { entity, extra, value });
    }

    pub fn push_with_opt(
        &mut self,
        family: FamilyId,
        entity: Entity,
        pairs: &[(&str, &str)],
        value: Option<impl IntoValue>,
    ) {
        if let Some(v) = value {
            self.push_with(family, entity, pairs, v.into_value());
        }
    }

    /// Adds a sample whose extra labels were looked up before with [`Samples::extra`] in this same collection.
    #[inline]
    pub fn push_extra(&mut self, family: FamilyId, entity: Entity, extra: Extra, value: f64) {
        self.tables[family.index()].rows.push(Row { entity, extra, value });
    }

    /// Adds a summary sample: `_sum` and `_count`.
    pub fn push_summary(&mut self, family: FamilyId, entity: Entity, pairs: &[(&str, &str)], sum: f64, count: u64) {
        let extra = self.extra(pairs);
        self.tables[family.index()].sums.push(SumRow { entity, extra, sum, count });
    }

    /// Adds a histogram sample, copied into a reused slot.
    pub fn push_histogram(&mut self, family: FamilyId, entity: Entity, pairs: &[(&str, &str)], h: &Histogram) {
        let extra = self.extra(pairs);
        if self.pool_used == self.pool.len() {
            self.pool.push(Histogram::default());
        }
        self.pool[self.pool_used].copy_from(h);
        self.tables[family.index()].hists.push(HistRow { entity, extra, hist: self.pool_used as u32 });
        self.pool_used += 1;
    }

    /// Empties the families of a profile that was not asked for.
    pub fn drop_profile(&mut self, profile: catalog::Profile) {
        for (family, table) in catalog::families().iter().zip(&mut self.tables) {
            if family.profile == profile {
                table.clear();
            }
        }
    }

    pub fn table(&self, family: FamilyId) -> &Table {
        &self.tables[family.index()]
    }

    pub fn histogram(&self, row: &HistRow) -> &Histogram {
        &self.pool[row.hist as usize]
    }

    /// The rendered identity labels of a row, empty for [`Entity::NONE`].
    #[inline]
    pub fn entity_text(&self, entity: Entity) -> &[u8] {
        if entity == Entity::NONE { &[] } else { &self.entities[entity.0 as usize].text }
    }

    #[inline]
    pub fn extra_text(&self, extra: Extra) -> &[u8] {
        if extra == Extra::NONE { &[] } else { &self.extras[extra.0 as usize].text }
    }

    pub fn entity_block(&self, entity: Entity) -> Option<&Arc<LabelBlock>> {
        (entity != Entity::NONE).then(|| &self.entities[entity.0 as usize])
    }

    /// All labels of a row, identity first.
    pub fn labels(&self, entity: Entity, extra: Extra) -> impl Iterator<Item = (&str, &str)> {
        let own = self.entity_block(entity).map(|b| b.pairs.as_slice()).unwrap_or_default();
        let more = if extra == Extra::NONE { &[][..] } else { self.extras[extra.0 as usize].pairs.as_slice() };
        own.iter().map(|(k, v)| (*k, v.as_str())).chain(more.iter().map(|(k, v)| (k.as_str(), v.as_str())))
    }

    /// Number of samples; a summary and a histogram count as one.
    pub fn len(&self) -> usize {
        self.tables.iter().map(Table::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.tables.iter().all(Table::is_empty)
    }
}

/// What a fact may be: counts, bytes, seconds.
pub trait IntoValue {
    fn into_value(self) -> f64;
}

impl IntoValue for f64 {
    fn into_value(self) -> f64 {
        self
    }
}

impl IntoValue for u64 {
    fn into_value(self) -> f64 {
        self as f64
    }
}

impl IntoValue for u32 {
    fn into_value(self) -> f64 {
        f64::from(self)
    }
}

impl IntoValue for i64 {
    fn into_value(self) -> f64 {
        self as f64
    }
}

impl IntoValue for bool {
    fn into_value(self) -> f64 {
        f64::from(u8::from(self))
    }
}
