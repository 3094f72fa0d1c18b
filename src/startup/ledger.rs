//! What is held of starts: counters and histograms (in [`Held`]), the last starts, each live container's last duration.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc};

use super::model::Outcome;
use super::report::Report;
use super::{Phase, StartRecord, slow};
use crate::catalog;
use crate::config::Config;
use crate::held::{ExemplarOf, Held};
use crate::root::{Nanos, SECOND};
use crate::runtime::{Container, Key};
use crate::targets::{SLOW_START, Targets};

/// Starts kept for the page and `/api/v1/startups`.
pub const KEPT: usize = 1000;
/// Reports that wait to be taken in; more are refused until they are.
const MAX_WAITING: usize = 10_000;
/// The `image` label of images beyond the bound.
pub const OTHER_IMAGES: &str = "other";

/// Shared between the task that follows starts and those who show them.
#[derive(Debug, Default)]
pub struct Ledger {
    state: Mutex<State>,
    inbox: Mutex<Vec<Report>>,
    /// Wakes the task when reports have come.
    pub(super) arrived: Notify,
    subscribers: Mutex<Vec<mpsc::UnboundedSender<Told>>>,
    traced: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    last: VecDeque<Arc<StartRecord>>,
    images: HashSet<String>,
    /// By the runtime's own id: how long the container's last start took, in nanoseconds.
    durations: HashMap<String, Nanos>,
}

/// What subscribers are told of a start.
#[derive(Debug, Clone)]
pub enum Told {
    /// It ran, or failed.
    Start(Arc<StartRecord>),
    /// It became ready, after it was told.
    Ready(Arc<StartRecord>),
}

/// Too many reports wait already.
#[derive(Debug, thiserror::Error)]
#[error("too many reports at once; send them again")]
pub struct Busy;

/// What a start is judged by.
pub struct Rules<'a> {
    pub held: &'a Held,
    pub targets: &'a Targets,
    /// Distinct images with series of their own.
    pub max_images: usize,
}

impl<'a> Rules<'a> {
    pub fn new(held: &'a Held, config: &'a Config) -> Self {
        Self { held, targets: &config.targets, max_images: config.startup.max_images }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn seconds(nanos: Nanos) -> f64 {
    nanos as f64 / SECOND as f64
}

impl Ledger {
    /// Hands reports to the task that follows starts.
    pub fn submit(&self, reports: Vec<Report>) -> Result<(), Busy> {
        let mut inbox = lock(&self.inbox);
        if inbox.len() + reports.len() > MAX_WAITING {
            return Err(Busy);
        }
        inbox.extend(reports);
        drop(inbox);
        self.arrived.notify_one();
        Ok(())
    }

    pub(super) fn take_reports(&self) -> Vec<Report> {
        std::mem::take(&mut lock(&self.inbox))
    }

    /// Each finished or failed start from now on, once.
    pub fn subscribe(&self) -> mpsc::UnboundedReceiver<Told> {
        let (sender, receiver) = mpsc::unbounded_channel();
        lock(&self.subscribers).push(sender);
        receiver
    }

    /// Starts are exported as traces: histograms get exemplars for all of them, not only where a reporter gave a trace.
    pub fn set_traced(&self) {
        self.traced.store(true, Ordering::Relaxed);
    }

    /// The last starts, newest first.
    pub fn last(&self, at_most: usize) -> Vec<Arc<StartRecord>> {
        lock(&self.state).last.iter().rev().take(at_most).cloned().collect()
    }

    /// How long the last start of each container took, in seconds, by the runtime's own id.
    pub fn each_duration<'c>(&self, ids: impl Iterator<Item = &'c str>, mut tell: impl FnMut(usize, f64)) {
        let state = lock(&self.state);
        for (index, id) in ids.enumerate() {
            if let Some(duration) = state.durations.get(id) {
                tell(index, seconds(*duration));
            }
        }
    }

    /// How long the last start of one container took, in seconds, by the runtime's own id.
    pub fn duration(&self, id: &str) -> Option<f64> {
        lock(&self.state).durations.get(id).map(|d| seconds(*d))
    }

    /// Counts what the model made of the events. `container` is what the directory knows of it.
    pub fn take(&self, outcome: Outcome, container: impl Fn(&Key) -> Option<Arc<Container>>, rules: &Rules<'_>) {
        match outcome {
            Outcome::Started(record) => {
                let container = container(&record.key);
                self.started(record, container.as_deref(), rules);
            }
            Outcome::Failed(record) => {
                let image = self.counted_image(&record.image, rules);
                let reason = record.failure.as_ref().map_or("other", |(reason, _)| reason.name());
                rules.held.inc(catalog::START_FAILURES, &[record.key.runtime.name(), &image, reason]);
                let trace_id = self.trace_id(&record);
                tracing::debug!(
                    runtime = record.key.runtime.name(),
                    container = record.name,
                    reason,
                    trace_id,
                    "failed start"
                );
                self.keep(record);
            }
            Outcome::Amended(record) => {
                self.replace(record);
            }
            Outcome::Ready(record) => {
                let record = self.replace(record);
                self.observe_phase(&record, Phase::Ready, rules);
                self.tell(&Told::Ready(record));
            }
            Outcome::Exited { key, image, reason } => {
                let image = self.image(&image, rules);
                rules.held.inc(catalog::EXITS, &[key.runtime.name(), &image, reason]);
                lock(&self.state).durations.remove(&key.id);
            }
            Outcome::Removed(key) => {
                lock(&self.state).durations.remove(&key.id);
            }
        }
    }

    fn started(&self, mut record: StartRecord, container: Option<&Container>, rules: &Rules<'_>) {
        let image = self.counted_image(&record.image, rules);
        let runtime = record.key.runtime.name();
        let start = record.kind.name();
        rules.held.inc(catalog::STARTS, &[runtime, &image, start]);
        if let Some(hit) = record.image_cached {
            rules.held.inc(catalog::IMAGE_CACHE_REQUESTS, &[if hit { "hit" } else { "miss" }]);
        }
        if let Some(hit) = record.pool_hit {
            rules.held.inc(catalog::VM_POOL_ACQUISITIONS, &[if hit { "hit" } else { "miss" }]);
        }
        for (phase, _) in record.phases.iter() {
            self.observe_phase(&record, phase, rules);
        }
        let trace_id = self.trace_id(&record);
        tracing::debug!(
            runtime,
            container = record.name,
            start,
            seconds = record.total.map(seconds),
            trace_id,
            "start"
        );
        if let Some(total) = record.total {
            let exemplar = self.exemplar(&record);
            rules.held.observe(catalog::STARTUP_DURATION, &[runtime, &image, start], seconds(total), exemplar);
            lock(&self.state).durations.insert(record.key.id.clone(), total);
            if seconds(total) > rules.targets.get(SLOW_START) {
                record.slow = slow::analyse(container, rules.targets);
                for finding in &record.slow {
                    rules.held.inc(catalog::SLOW_STARTS, &[runtime, &image, finding.reason]);
                }
                self.tell_slow(&record, total);
            }
        }
        self.keep(record);
    }

    fn observe_phase(&self, record: &StartRecord, phase: Phase, rules: &Rules<'_>) {
        let Some(duration) = record.phases.get(phase) else { return };
        let image = self.image(&record.image, rules);
        let labels = [record.key.runtime.name(), image.as_str(), phase.name(), record.kind.name()];
        rules.held.observe(catalog::STARTUP_PHASE_DURATION, &labels, seconds(duration), self.exemplar(record));
    }

    fn exemplar(&self, record: &StartRecord) -> Option<ExemplarOf> {
        let timestamp = seconds(record.running?);
        Some(ExemplarOf { labels: vec![("trace_id", self.trace_id(record)?)], timestamp })
    }

    /// The trace that a start is part of; None where nobody exports one.
    fn trace_id(&self, record: &StartRecord) -> Option<String> {
        let exported = record.traceparent.is_some() || self.traced.load(Ordering::Relaxed);
        exported.then(|| record.trace_id())
    }

    fn tell_slow(&self, record: &StartRecord, total: Nanos) {
        let phases: Vec<_> = record.phases.iter().map(|(p, d)| format!("{}={:.3}s", p.name(), seconds(d))).collect();
        let reasons: Vec<_> = record.slow.iter().map(|f| format!("{} ({})", f.reason, f.detail)).collect();
        tracing::warn!(
            runtime = record.key.runtime.name(),
            container = record.name,
            image = record.image,
            start = record.kind.name(),
            seconds = seconds(total),
            phases = phases.join(" "),
            reasons = reasons.join("; "),
            trace_id = self.trace_id(record),
            "slow start"
        );
    }

    /// The image's label value for one more start of it: counted as dropped where it has no series of its own.
    fn counted_image(&self, image: &str, rules: &Rules<'_>) -> String {
        let label = self.image(image, rules);
        if label != image {
            rules.held.inc(catalog::DROPPED_SERIES, &["images"]);
        }
        label
    }

    /// The image's label value: its own name while there is room, then [`OTHER_IMAGES`].
    fn image(&self, image: &str, rules: &Rules<'_>) -> String {
        let mut state = lock(&self.state);
        if state.images.contains(image) {
            return image.to_owned();
        }
        if state.images.len() < rules.max_images {
            state.images.insert(image.to_owned());
            return image.to_owned();
        }
        OTHER_IMAGES.to_owned()
    }

    fn keep(&self, record: StartRecord) {
        let record = Arc::new(record);
        let mut state = lock(&self.state);
        if state.last.len() == KEPT {
            state.last.pop_front();
        }
        state.last.push_back(record.clone());
        drop(state);
        self.tell(&Told::Start(record));
    }

    fn tell(&self, told: &Told) {
        lock(&self.subscribers).retain(|s| s.send(told.clone()).is_ok());
    }

    /// More is known of a start: what it was found slow for stays, and the trace that it was told as.
    fn replace(&self, mut record: StartRecord) -> Arc<StartRecord> {
        let mut state = lock(&self.state);
        let same = |r: &&mut Arc<StartRecord>| r.key == record.key && r.running == record.running;
        let Some(old) = state.last.iter_mut().rev().find(same) else { return Arc::new(record) };
        record.slow.clone_from(&old.slow);
        record.traceparent.clone_from(&old.traceparent);
        *old = Arc::new(record);
        old.clone()
    }
}
