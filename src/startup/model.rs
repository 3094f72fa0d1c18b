//! Events in, in any order, repeated or replayed → starts, failures and exits, each exactly once. Pure: the caller brings
//! events and the time.
//!
//! Events are held back for [`SETTLE`] and then taken in the order of their own stamps, so that evidence which comes by
//! another way (a start's inspect, containerd below Docker, a report) finds its start before it is counted.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use super::reconcile::{Reconciler, Sample};
use super::report::{OLDEST, Report, SAME_START, is_cgroup_of};
use super::{FailureReason, Moments, Phase, Source, StartKind, StartRecord, exit_reason};
use crate::root::{Nanos, SECOND};
use crate::runtime::cgroup_names::recognise;
use crate::runtime::{Event, EventKind, Key, RuntimeKind};

/// How long an event waits for others of the same start.
pub const SETTLE: Nanos = SECOND;
/// A create and a start that are at most this far apart are one start (`docker run`); otherwise the container was there
/// before, and its start counts from the start request.
pub const ONE_START: Nanos = SECOND;
/// A pull belongs to the container whose creation was requested at most this long after the pull's end.
const PULL_GAP: Nanos = 2 * SECOND;
/// A start that neither runs nor fails is given up.
pub const START_TIMEOUT: Nanos = 600 * SECOND;
/// A removed container is remembered for late events of the same life.
const FORGET: Nanos = 60 * SECOND;
/// A runtime that is asked by lists tells of a start at most this long after it.
const CONSOLE_LEAD: Nanos = 15 * SECOND;
/// What is not under way and not heard of for so long is forgotten; a report may be told again until then.
const REST: Nanos = OLDEST;
/// Bound of what is remembered of pulls.
const MAX_PULLS: usize = 64;
/// Containers remembered that reports alone tell of: nobody says when they are gone.
const MAX_REPORTED: usize = 4096;

/// What came of the events.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Started(StartRecord),
    Failed(StartRecord),
    /// More is known of a start that was counted before: nothing is counted again.
    Amended(StartRecord),
    /// A start became ready, so long after it ran; the record is the start's.
    Ready(StartRecord),
    Exited {
        key: Key,
        image: String,
        reason: &'static str,
    },
    Removed(Key),
}

/// An event with what the receiver knew: both clocks, and when the first process was created by the kernel.
#[derive(Debug, Clone)]
struct Held {
    key: Key,
    name: String,
    image: String,
    what: What,
    /// Boot clock.
    due: Nanos,
}

#[derive(Debug, Clone)]
enum What {
    Event {
        kind: EventKind,
        process_created: Option<Nanos>,
    },
    /// First listening socket; not told of a container that has a health check.
    Listening,
}

#[derive(Debug, Default)]
struct Life {
    name: String,
    image: String,
    create_requested: Option<Nanos>,
    created: Option<Nanos>,
    snapshot: Option<Nanos>,
    /// A start was seen, or the container ran before the exporter did.
    started_before: bool,
    /// The start under way belongs to the creation, by evidence that has no moment of its own.
    first_start: bool,
    /// What the console of its virtual machine told of the start under way, the request included where it is known.
    console: Option<Moments>,
    attempt: Option<Box<Attempt>>,
    run: Option<Run>,
    /// When the last failed start was counted: the same failure may be told twice.
    failed: Option<Nanos>,
    ended: bool,
    oom: bool,
    removed: Option<Nanos>,
    /// No runtime told of it, only reports.
    reported: bool,
    /// Nothing was heard of it since [`Model::sweep`] last came by.
    idle: bool,
}

/// Evidence of a start that is under way.
#[derive(Debug, Default)]
struct Attempt {
    since: Nanos,
    requested: Option<Nanos>,
    task_created: Option<Nanos>,
    process_created: Option<Nanos>,
    /// See [`Life::console`].
    console: Moments,
    /// What reports told of it so far.
    told: Option<Report>,
}

#[derive(Debug)]
struct Run {
    running: Nanos,
    ready: bool,
    /// None for one that ran before the exporter.
    record: Option<StartRecord>,
}

#[derive(Debug)]
struct Pull {
    image: String,
    started: Option<Nanos>,
    ended: Nanos,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Model {
    reconciler: Reconciler,
    pending: BTreeMap<(Nanos, u64), Held>,
    reports: Vec<(Nanos, Report)>,
    sequence: u64,
    lives: HashMap<Key, Life>,
    /// Containers with an attempt under way.
    open: HashSet<Key>,
    removed: VecDeque<(Nanos, Key)>,
    /// Containers that reports told of first, oldest first.
    reported: VecDeque<Key>,
    swept: Nanos,
    pulls: VecDeque<Pull>,
    pulling: HashMap<String, Nanos>,
    /// Starts and exits at or before this moment were counted by an earlier run of the exporter, or before it existed.
    epoch: Nanos,
}

impl Model {
    /// Counts nothing that happened at or before `epoch` (wall clock): what an earlier run counted, or nobody saw.
    pub fn new(epoch: Nanos, now: Sample) -> Self {
        let mut model = Self { epoch: epoch - now.offset(), swept: now.boot, ..Self::default() };
        model.reconciler.note(now);
        model
    }

    /// Takes an event in. `process_created` is the start of its first process on the boot clock, by the kernel.
    pub fn push(&mut self, event: &Event, now: Sample, process_created: Option<Nanos>) {
        self.reconciler.note(now);
        let at = self.reconciler.to_boot(event.at, event.received);
        if matches!(event.kind, EventKind::Started { .. }) {
            // What was told of it before is part of it, not a start of its own.
            let due = now.boot + SETTLE;
            self.reports.iter_mut().filter(|(_, r)| r.names(&event.key)).for_each(|(d, _)| *d = due.max(*d));
        }
        self.hold(
            at,
            Held {
                key: event.key.clone(),
                name: event.name.clone(),
                image: event.image.clone(),
                what: What::Event { kind: event.kind.clone(), process_created },
                due: now.boot + SETTLE,
            },
        );
    }

    /// A socket of the container listens since `at` (boot clock).
    pub fn listening(&mut self, key: Key, at: Nanos, now: Nanos) {
        let what = What::Listening;
        self.hold(at, Held { key, name: String::new(), image: String::new(), what, due: now + SETTLE });
    }

    /// The start under way belongs to the container's creation. That has no moment of its own: it is known at once.
    pub fn first_start(&mut self, key: Key) {
        self.life(key).first_start = true;
    }

    /// A virtual machine's console told of a boot up to the container's process; boot clock. It is taken up by the start
    /// that the runtime tells of, and counts nothing by itself.
    pub fn booted(&mut self, key: Key, moments: Moments) {
        self.life(key).console = Some(moments);
    }

    /// Takes a report in. Its moments are wall clock.
    pub fn report(&mut self, report: Report, now: Sample) {
        self.reconciler.note(now);
        let report = report.on_clock(|stamp| self.reconciler.to_boot(stamp, now.boot));
        self.reports.push((now.boot + SETTLE, report));
    }

    /// The container ran already when the exporter first saw it, since `started` (wall clock) where that is known.
    pub fn runs_already(&mut self, key: &Key, name: &str, image: &str, started: Option<Nanos>) {
        let running = started.map_or(self.epoch, |s| s - self.reconciler.to_wall(0));
        let life = self.life(key.clone());
        if life.run.is_none() && life.attempt.is_none() && !life.started_before {
            name.clone_into(&mut life.name);
            image.clone_into(&mut life.image);
            life.started_before = true;
            life.run = Some(Run { running, ready: true, record: None });
        }
    }

    pub fn knows(&self, key: &Key) -> bool {
        // What is held back counts: a health check may answer before its container's start has been taken.
        self.lives.contains_key(key) || self.pending.values().any(|held| held.key == *key)
    }

    /// Everything stamped up to here (wall clock) has been counted: what the next run of the exporter need not recover.
    pub fn counted_until(&self, now: Nanos) -> Nanos {
        let oldest = self.pending.keys().next().map(|(at, _)| *at - 1);
        self.reconciler.to_wall(oldest.unwrap_or(now).min(now))
    }

    /// When [`Model::advance`] has something to do next, boot clock.
    pub fn next_due(&self) -> Option<Nanos> {
        let events = self.pending.values().map(|h| h.due).min();
        let reports = self.reports.iter().map(|(due, _)| *due).min();
        let attempts =
            self.open.iter().filter_map(|k| Some(self.lives.get(k)?.attempt.as_ref()?.since + START_TIMEOUT));
        events.into_iter().chain(reports).chain(attempts.min()).min()
    }

    /// Takes what has waited long enough, in the order in which it happened.
    pub fn advance(&mut self, now: Nanos) -> Vec<Outcome> {
        let mut out = Vec::new();
        let ripe: Vec<_> = self.pending.iter().filter(|(_, h)| h.due <= now).map(|(k, _)| *k).collect();
        for key in ripe {
            if let Some(held) = self.pending.remove(&key) {
                self.take(key.0, held, &mut out);
            }
        }
        for report in self.reports.extract_if(.., |(due, _)| *due <= now).map(|(_, r)| r).collect::<Vec<_>>() {
            self.take_report(report, &mut out);
        }
        self.give_up(now, &mut out);
        self.forget(now);
        self.sweep(now);
        out
    }

    /// One that is heard of.
    fn life(&mut self, key: Key) -> &mut Life {
        let life = self.lives.entry(key).or_default();
        life.idle = false;
        life
    }

    fn hold(&mut self, at: Nanos, held: Held) {
        self.sequence += 1;
        self.pending.insert((at, self.sequence), held);
    }

    fn take(&mut self, at: Nanos, held: Held, out: &mut Vec<Outcome>) {
        let Held { key, name, image, what, .. } = held;
        let What::Event { kind, process_created } = what else {
            return self.ready(&key, at, out);
        };
        match kind {
            EventKind::ImagePullStarted => {
                self.pulling.insert(image_key(&key.id), at);
            }
            EventKind::ImagePulled => self.pulled(&key.id, at),
            EventKind::Health { healthy: true } => self.ready(&key, at, out),
            EventKind::Health { healthy: false } => {}
            kind => self.container_event(at, key, (name, image), kind, process_created, out),
        }
    }

    /// A cgroup goes by its path, and a report of its container that came before by the container's id: they are one.
    fn adopt(&mut self, key: &Key) {
        if key.runtime != RuntimeKind::Cgroup || self.lives.contains_key(key) {
            return;
        }
        let reported = |k: &&Key| k.runtime == key.runtime && is_cgroup_of(key, &k.id);
        let Some(reported) = self.lives.keys().find(reported).cloned() else { return };
        if let Some(life) = self.lives.remove(&reported) {
            self.lives.insert(key.clone(), life);
        }
        if self.open.remove(&reported) {
            self.open.insert(key.clone());
        }
    }

    /// Whether this is the cgroup of a container whose runtime tells of it, but can't say which cgroup it has: Podman's
    /// events come from the journal, where other users' are too.
    fn is_told_by_its_runtime(&self, key: &Key) -> bool {
        let RuntimeKind::Cgroup = key.runtime else { return false };
        recognise(&key.id).is_some_and(|cgroup| {
            let known = |&runtime: &RuntimeKind| self.lives.contains_key(&Key { runtime, id: cgroup.name.clone() });
            cgroup.hints.iter().any(known)
        })
    }

    fn container_event(
        &mut self,
        at: Nanos,
        key: Key,
        (name, image): (String, String),
        kind: EventKind,
        process_created: Option<Nanos>,
        out: &mut Vec<Outcome>,
    ) {
        if self.is_told_by_its_runtime(&key) {
            return;
        }
        self.adopt(&key);
        let life = self.lives.entry(key.clone()).or_default();
        (life.reported, life.idle) = (false, false);
        if !name.is_empty() {
            life.name = name;
        }
        if !image.is_empty() {
            life.image = image;
        }
        match kind {
            EventKind::CreateRequested => life.create_requested = Some(at),
            EventKind::Created => life.created = Some(at),
            EventKind::SnapshotPrepared => life.snapshot = Some(at),
            EventKind::StartRequested => {
                if let Some(attempt) = life.attempt(at) {
                    attempt.requested = Some(attempt.requested.map_or(at, |r| r.min(at)));
                    self.open.insert(key);
                }
            }
            EventKind::TaskCreated { .. } => {
                if let Some(attempt) = life.attempt(at) {
                    attempt.task_created.get_or_insert(at);
                    attempt.process_created = attempt.process_created.or(process_created);
                    self.open.insert(key);
                }
            }
            EventKind::Started { started, .. } => self.started(key, at, started.is_some(), process_created, out),
            EventKind::Lost => life.run = None,
            EventKind::StartFailed { message } => self.failed(&key, at, None, message, out),
            EventKind::Oom => life.oom = true,
            EventKind::Exited { code } => self.exited(key, at, code, out),
            EventKind::Removed => self.gone(key, at, out),
            EventKind::ImagePulled
            | EventKind::ImagePullStarted
            | EventKind::Health { .. }
            | EventKind::FirstStart
            | EventKind::Booting(_) => {}
        }
    }

    fn pulled(&mut self, reference: &str, at: Nanos) {
        let image = image_key(reference);
        let started = self.pulling.remove(&image);
        self.pulls.push_back(Pull { image, started, ended: at });
        if self.pulls.len() > MAX_PULLS {
            self.pulls.pop_front();
        }
        if self.pulling.len() > MAX_PULLS {
            self.pulling.clear();
        }
    }

    /// `exact`: the runtime told when it ran, not only that it ran by then.
    fn started(&mut self, key: Key, at: Nanos, exact: bool, process_created: Option<Nanos>, out: &mut Vec<Outcome>) {
        let told = self.lives.get(&key).and_then(|l| l.console);
        let console = told.filter(|m| m.running.is_some_and(|r| (at - CONSOLE_LEAD..=at + SECOND).contains(&r)));
        let at = console.and_then(|c| c.running).filter(|_| !exact).unwrap_or(at);
        let report = self.reports_of(&key, at);
        let process_created = process_created.or_else(|| self.told_again(&key, at));
        let Some(life) = self.lives.get_mut(&key) else { return };
        if life.run.is_some() {
            // The same start by another way, or again: what came with it is known already.
            return;
        }
        let mut attempt = life.attempt.take().unwrap_or_default();
        self.open.remove(&key);
        life.console = None;
        attempt.console = Moments { running: Some(at), ..console.unwrap_or_default() };
        attempt.process_created = attempt.process_created.or(process_created);
        if let Some(report) = report {
            attempt.told = Some(match attempt.told.take() {
                Some(earlier) => earlier.merge(report),
                None => report,
            });
        }
        let mut record = life.record(&key, &attempt, at, &self.pulls);
        life.begin(at);
        if let Some(told) = &attempt.told {
            record.source = Source::EventsAndReport;
            told.apply(&mut record);
        }
        self.finish(key, at, record, out);
    }

    /// The process of a start that is told once more. Podman's events come from the journal, other users' too: whose
    /// container it is knows its process.
    fn told_again(&self, key: &Key, at: Nanos) -> Option<Nanos> {
        let later = self.pending.range((at, 0)..(at + SAME_START, 0)).map(|(_, held)| held);
        later.filter(|held| held.key == *key).find_map(|held| match held.what {
            What::Event { kind: EventKind::Started { .. }, process_created } => process_created,
            _ => None,
        })
    }

    /// Counts a start, unless an earlier run of the exporter did. A report is news whenever it comes.
    fn finish(&mut self, key: Key, running: Nanos, mut record: StartRecord, out: &mut Vec<Outcome>) {
        let wall = self.reconciler.to_wall(0);
        record.running = Some(running + wall);
        record.requested = record.total.map(|t| running - t + wall);
        let Some(life) = self.lives.get_mut(&key) else { return };
        let counted = running > self.epoch || record.source == Source::Report;
        let ready = record.phases.get(Phase::Ready).is_some();
        life.run = Some(Run { running, ready, record: counted.then(|| record.clone()) });
        if counted {
            out.push(Outcome::Started(record));
        }
    }

    fn failed(&mut self, key: &Key, at: Nanos, reason: Option<FailureReason>, message: String, out: &mut Vec<Outcome>) {
        let wall = self.reconciler.to_wall(0);
        let Some(life) = self.lives.get_mut(key) else { return };
        let attempt = life.attempt.take();
        self.open.remove(key);
        let again = attempt.is_none() && life.failed.is_some_and(|f| at - f < SAME_START);
        if again || life.run.is_some() || at <= self.epoch {
            return;
        }
        life.failed = Some(at);
        let reason = reason.unwrap_or_else(|| FailureReason::from_message(&message));
        let mut record = life.record(key, &attempt.unwrap_or_default(), at, &self.pulls);
        record.requested = record.total.map(|t| at - t + wall);
        record.total = None;
        record.phases = super::Phases::default();
        record.failure = Some((reason, message));
        out.push(Outcome::Failed(record));
    }

    fn exited(&mut self, key: Key, at: Nanos, code: Option<i32>, out: &mut Vec<Outcome>) {
        let oom_told_late = self.oom_follows(&key);
        let Some(life) = self.lives.get_mut(&key) else { return };
        if life.run.take().is_none() {
            if life.attempt.as_ref().is_some_and(|a| a.task_created.is_some()) {
                let message =
                    code.map_or_else(String::new, |c| format!("exited with status {c} before it was running"));
                return self.failed(&key, at, Some(FailureReason::ExitAtOnce), message, out);
            }
            // Told twice, or of a start that failed.
            if life.ended || life.failed.is_some() {
                return;
            }
        }
        life.ended = true;
        life.started_before = true;
        let oom = std::mem::take(&mut life.oom) || oom_told_late;
        if at > self.epoch {
            let image = life.image.clone();
            out.push(Outcome::Exited { key, image, reason: exit_reason(code, oom) });
        }
    }

    /// The kill for want of memory that ended a run may be told after the end: engines learn of both by different ways, and
    /// where both are read from one place they have one date.
    fn oom_follows(&self, key: &Key) -> bool {
        let kinds = self.pending.values().filter(|held| held.key == *key).filter_map(|held| match &held.what {
            What::Event { kind, .. } => Some(kind),
            What::Listening => None,
        });
        let of_this_run = |kind: &&EventKind| !matches!(kind, EventKind::Started { .. });
        kinds.take_while(of_this_run).any(|kind| *kind == EventKind::Oom)
    }

    fn gone(&mut self, key: Key, at: Nanos, out: &mut Vec<Outcome>) {
        let Some(life) = self.lives.get_mut(&key) else { return };
        if life.attempt.is_some() {
            self.failed(&key, at, Some(FailureReason::Other), "removed before it ran".into(), out);
        }
        if let Some(life) = self.lives.get_mut(&key) {
            life.removed = Some(at);
        }
        self.removed.push_back((at, key.clone()));
        out.push(Outcome::Removed(key));
    }

    fn ready(&mut self, key: &Key, at: Nanos, out: &mut Vec<Outcome>) {
        let Some(run) = self.lives.get_mut(key).and_then(|l| l.run.as_mut()) else { return };
        if std::mem::replace(&mut run.ready, true) {
            return;
        }
        if let Some(record) = &mut run.record {
            record.phases.set(Phase::Ready, Some((at - run.running).max(0)));
            out.push(Outcome::Ready(record.clone()));
        }
    }

    /// Reports that tell of the start that ran at `at`, merged; they are used up.
    fn reports_of(&mut self, key: &Key, at: Nanos) -> Option<Report> {
        let same = |r: &Report| if r.ran.is_some() { r.is_of(at) } else { r.moment() - at < SAME_START };
        let mine = |r: &Report| r.names(key) && r.failure.is_none() && same(r);
        let mut found: Vec<_> = self.reports.extract_if(.., |(_, r)| mine(r)).map(|(_, r)| r).collect();
        found.sort_by_key(Report::moment);
        found.into_iter().reduce(Report::merge)
    }

    /// A report that no event of the runtime's took up while it waited.
    fn take_report(&mut self, report: Report, out: &mut Vec<Outcome>) {
        let key = report.key(&self.lives);
        let at = report.moment();
        if !self.lives.contains_key(&key) {
            self.reported(key.clone(), at, out);
        }
        let life = self.lives.entry(key.clone()).or_default();
        life.idle = false;
        report.describe(&mut life.name, &mut life.image);
        if let Some((reason, message)) = report.failure.clone() {
            return self.failed(&key, at.max(self.epoch + 1), Some(reason), message, out);
        }
        let Some(running) = report.ran else {
            // Evidence of a start that is still under way.
            if let Some(attempt) = life.attempt(at) {
                attempt.told = Some(match attempt.told.take() {
                    Some(earlier) => earlier.merge(report),
                    None => report,
                });
                self.open.insert(key);
            } else if let Some(run) = &mut life.run
                && let Some(record) = &mut run.record
                && at <= run.running
            {
                report.apply(record);
                out.push(Outcome::Amended(record.clone()));
            }
            return;
        };
        match &mut life.run {
            Some(run) if report.is_of(run.running) || running <= run.running => {
                if let Some(record) = &mut run.record
                    && report.is_of(run.running)
                {
                    report.apply(record);
                    record.source = match record.source {
                        Source::Events => Source::EventsAndReport,
                        known => known,
                    };
                    out.push(Outcome::Amended(record.clone()));
                }
            }
            // It restarted, and nobody told of its end.
            _ => {
                let mut attempt = life.attempt.take().unwrap_or_default();
                self.open.remove(&key);
                let told = match attempt.told.take() {
                    Some(earlier) => earlier.merge(report),
                    None => report,
                };
                attempt.told = Some(told.clone());
                let mut record = life.record(&key, &attempt, running, &self.pulls);
                record.source = Source::Report;
                told.apply(&mut record);
                life.begin(running);
                self.finish(key, running, record, out);
            }
        }
    }

    /// A container that no runtime told of. The one that has been known for longest makes room for it.
    fn reported(&mut self, key: Key, at: Nanos, out: &mut Vec<Outcome>) {
        self.lives.insert(key.clone(), Life { reported: true, ..Life::default() });
        self.reported.push_back(key);
        if self.reported.len() <= MAX_REPORTED {
            return;
        }
        let Some(oldest) = self.reported.pop_front() else { return };
        let Some(life) = self.lives.get(&oldest).filter(|l| l.reported) else { return };
        if life.attempt.is_some() {
            self.failed(&oldest, at, Some(FailureReason::Other), "reported, and nothing more told of it".into(), out);
        }
        self.lives.remove(&oldest);
    }

    fn give_up(&mut self, now: Nanos, out: &mut Vec<Outcome>) {
        let late = |k: &&Key| {
            let attempt = self.lives.get(*k).and_then(|l| l.attempt.as_ref());
            attempt.is_none_or(|a| a.since + START_TIMEOUT <= now)
        };
        for key in self.open.iter().filter(late).cloned().collect::<Vec<_>>() {
            let message = format!("neither ran nor failed within {} s", START_TIMEOUT / SECOND);
            self.failed(&key, now, Some(FailureReason::Timeout), message, out);
        }
    }

    fn forget(&mut self, now: Nanos) {
        while self.removed.front().is_some_and(|(at, _)| *at + FORGET <= now) {
            let Some((at, key)) = self.removed.pop_front() else { return };
            if self.lives.get(&key).is_some_and(|l| l.removed == Some(at)) {
                self.lives.remove(&key);
            }
        }
    }

    /// Forgets what rests: containers that ended, whose removal an engine that was away may never tell, snapshots that
    /// became no container, and what reports alone tell of.
    fn sweep(&mut self, now: Nanos) {
        if self.swept + REST > now {
            return;
        }
        self.swept = now;
        self.lives.retain(|_, life| !life.rests() || !std::mem::replace(&mut life.idle, true));
    }
}

impl Life {
    /// The start under way, begun now if there is none; None while the container runs.
    fn attempt(&mut self, at: Nanos) -> Option<&mut Attempt> {
        if self.run.is_some() {
            return None;
        }
        Some(self.attempt.get_or_insert_with(|| Box::new(Attempt { since: at, ..Attempt::default() })))
    }

    /// Nothing of it is under way, as far as anybody will tell.
    fn rests(&self) -> bool {
        self.attempt.is_none() && (self.run.is_none() || self.reported)
    }

    /// A new run began.
    fn begin(&mut self, running: Nanos) {
        self.started_before = true;
        self.first_start = false;
        self.ended = false;
        self.oom = false;
        self.failed = None;
        self.removed = None;
        self.run = Some(Run { running, ready: false, record: None });
    }

    /// What the events tell of a start that ran (or failed) at `end`.
    fn record(&self, key: &Key, attempt: &Attempt, end: Nanos, pulls: &VecDeque<Pull>) -> StartRecord {
        let evidence = attempt.requested.or(attempt.task_created).or(attempt.process_created).unwrap_or(end);
        let created = self.created.or(self.snapshot).or(self.create_requested);
        let with_create = !self.started_before && created.is_some_and(|c| evidence - c <= ONE_START);
        let mut moments = Moments {
            requested: attempt.requested,
            process_created: attempt.process_created.or(attempt.task_created),
            running: Some(end),
            ..Moments::default()
        };
        moments = attempt.console.or(moments);
        let mut pull = None;
        if with_create {
            moments.requested = [self.create_requested, self.snapshot, self.created].into_iter().flatten().min();
            moments.image_ready = self.snapshot.or(self.created).filter(|ready| Some(*ready) > moments.requested);
            let image = image_key(&self.image);
            let from = moments.requested.unwrap_or(end) - PULL_GAP;
            pull = pulls.iter().rev().find(|p| p.image == image && (from..=end).contains(&p.ended));
            if let Some(began) = pull.and_then(|p| p.started) {
                moments.image_ready = moments.image_ready.or(pull.map(|p| p.ended));
                moments.requested = moments.requested.map(|r| r.min(began));
            }
        }
        if let Some(told) = &attempt.told {
            moments = told.moments.or(moments);
        }
        StartRecord {
            key: key.clone(),
            name: self.name.clone(),
            image: self.image.clone(),
            requested: None,
            running: None,
            total: moments.total(),
            phases: moments.phases(),
            kind: if with_create || self.first_start || pull.is_some() { StartKind::Cold } else { StartKind::Warm },
            image_cached: with_create.then_some(pull.is_none()),
            pool_hit: None,
            failure: None,
            slow: Vec::new(),
            source: Source::Events,
            traceparent: None,
        }
    }
}

/// One name for the ways in which an image is referred to: `busybox`, `busybox:latest`, `docker.io/library/busybox`.
fn image_key(reference: &str) -> String {
    let name = reference.strip_prefix("docker.io/").unwrap_or(reference);
    let name = name.strip_prefix("library/").unwrap_or(name);
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains([':', '@']) { name.to_owned() } else { format!("{name}:latest") }
}

#[cfg(test)]
mod tests;
