//! One collection: the directory names the containers, readers fill the snapshot, collectors make samples of it.
//!
//! Collections run on a thread of their own, one at a time. Requests for the same collectors that arrive together, or while
//! such a collection runs and no container has come or gone since it began, share its result. Nothing runs between
//! scrapes but this: what a container that ends has open is closed at once, for it keeps the kernel from taking its
//! network apart.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::WORK;
use crate::advise::{Advice, Advisor};
use crate::catalog::{self, Collector, Profile};
use crate::collect;
use crate::config::{CollectorSet, Config};
use crate::held::Held;
use crate::kernel::cgroups::Cgroups;
use crate::kernel::file::Budget;
use crate::kernel::{self, Context, Reader};
use crate::macos::{self, System};
use crate::probe::{Answer, Capabilities};
use crate::root::{Nanos, ReadBuf, Root, SECOND};
use crate::runtime::{Container, Directory, Identity, Key, RuntimeKind};
use crate::sample::{Entity, Samples};
use crate::snapshot::{ContainerFacts, Snapshot};
use crate::startup::Ledger;

/// What a collection brought, ready to be encoded in any format.
#[derive(Debug, Default)]
pub struct Collection {
    pub snapshot: Snapshot,
    pub samples: Samples,
    /// Empty where the advice collector was not asked for.
    pub advice: Advice,
}

/// How the last reading of the configuration file went.
#[derive(Debug, Default)]
pub struct Reloads {
    ok: AtomicBool,
    /// Wall clock of the last success.
    at: AtomicI64,
}

impl Reloads {
    pub fn succeeded(&self, now: Nanos) {
        self.ok.store(true, Ordering::Relaxed);
        self.at.store(now, Ordering::Relaxed);
    }

    pub fn failed(&self) {
        self.ok.store(false, Ordering::Relaxed);
    }
}

/// Everything that lives as long as the exporter does.
#[derive(Debug)]
pub struct Shared {
    pub root: Root,
    pub config: RwLock<Arc<Config>>,
    pub directory: Arc<Directory>,
    pub capabilities: Arc<Capabilities>,
    pub held: Arc<Held>,
    pub reloads: Reloads,
    pub startups: Arc<Ledger>,
    /// Where this is a Mac.
    pub mac: Option<Arc<dyn System>>,
}

impl Shared {
    pub fn new(root: Root, config: Config) -> Arc<Self> {
        Self::on(root, config, macos::system())
    }

    /// With a Mac to ask, or none, whatever this machine is.
    pub fn on(root: Root, config: Config, mac: Option<Arc<dyn System>>) -> Arc<Self> {
        Arc::new(Self {
            root,
            config: RwLock::new(Arc::new(config)),
            directory: Arc::default(),
            capabilities: Arc::default(),
            held: Arc::default(),
            reloads: Reloads::default(),
            startups: Arc::default(),
            mac,
        })
    }

    pub fn config(&self) -> Arc<Config> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_config(&self, config: Config) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }
}

struct Request {
    wanted: CollectorSet,
    /// What asks: the collection is a part of it.
    within: tracing::Span,
    reply: oneshot::Sender<Arc<Collection>>,
}

/// Handle to the collecting thread.
#[derive(Debug, Clone)]
pub struct Engine {
    shared: Arc<Shared>,
    requests: mpsc::UnboundedSender<Request>,
}

/// The collecting thread has ended: only while the process shuts down.
#[derive(Debug, thiserror::Error)]
#[error("the collecting thread has ended")]
pub struct Stopped;

/// How long a scrape waits for identities that are on their way from a runtime.
const SETTLE: Duration = Duration::from_millis(500);

impl Engine {
    pub fn start(shared: Arc<Shared>) -> std::io::Result<Self> {
        let (requests, inbox) = mpsc::unbounded_channel();
        let worker = Worker::new(shared.clone(), Budget::of_process());
        // For waiting for two things at once: without timers and sockets, on the collecting thread alone.
        let waiting = tokio::runtime::Builder::new_current_thread().build()?;
        std::thread::Builder::new().name("collect".into()).spawn(move || waiting.block_on(worker.run(inbox)))?;
        Ok(Self { shared, requests })
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Collects what is wanted (of the collectors that are on).
    pub async fn collect(&self, wanted: CollectorSet) -> Result<Arc<Collection>, Stopped> {
        self.shared.directory.settled(SETTLE).await;
        let (reply, answer) = oneshot::channel();
        let request = Request { wanted, within: tracing::Span::current(), reply };
        self.requests.send(request).map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }
}

struct Live {
    slot: usize,
    container: Arc<Container>,
}

/// The collecting itself, on whatever thread calls it.
pub struct Worker {
    shared: Arc<Shared>,
    cgroups: Cgroups,
    budget: Arc<Budget>,
    /// What the readers were made for.
    config: Arc<Config>,
    /// Of the collectors that are on, in the collectors' order.
    readers: Vec<(Collector, Box<dyn Reader>)>,
    /// The machine itself, as the root cgroup.
    machine: Option<Arc<Container>>,
    buf: ReadBuf,
    /// Of the directory, when it was last followed.
    generation: Option<u64>,
    live: HashMap<Key, Live>,
    free: Vec<usize>,
    next_slot: usize,
    slots: Vec<usize>,
    listing: Vec<Arc<Container>>,
    entities: Vec<Entity>,
    outcomes: [Option<Outcome>; Collector::COUNT],
    advisor: Advisor,
    /// Collections handed out earlier; one that nobody holds any more is filled again.
    pool: Vec<Arc<Collection>>,
}

#[derive(Clone, Copy, Default)]
struct Outcome {
    nanos: i64,
    failures: u32,
}

impl Worker {
    pub fn new(shared: Arc<Shared>, budget: Arc<Budget>) -> Self {
        let cgroups = Cgroups::find(&shared.root);
        cgroups.tell(&shared.root, &shared.capabilities);
        let mut worker = Self {
            config: shared.config(),
            machine: Some(Arc::new(machine(&cgroups))),
            shared,
            cgroups,
            budget,
            readers: Vec::new(),
            buf: ReadBuf::default(),
            generation: None,
            live: HashMap::new(),
            free: Vec::new(),
            next_slot: 0,
            slots: Vec::new(),
            listing: Vec::new(),
            entities: Vec::new(),
            outcomes: [None; Collector::COUNT],
            advisor: Advisor::default(),
            pool: Vec::new(),
        };
        worker.configure();
        worker
    }

    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Request>) {
        let mut waiting = Vec::new();
        let mut removals = self.shared.directory.removals();
        loop {
            let first = tokio::select! {
                request = inbox.recv() => request,
                Ok(()) = removals.changed() => {
                    self.release();
                    continue;
                }
            };
            let Some(first) = first else { return };
            waiting.push(first);
            while let Some((wanted, within)) = waiting.first().map(|r| (r.wanted, r.within.clone())) {
                while let Ok(more) = inbox.try_recv() {
                    waiting.push(more);
                }
                let asked = waiting.len();
                let collection = within.in_scope(|| self.collect(wanted));
                while let Ok(more) = inbox.try_recv() {
                    waiting.push(more);
                }
                // Who asked while it ran gets it too, unless a container came or went: it would be missed.
                let fresh = self.generation == Some(*self.shared.directory.generation().borrow());
                let share = if fresh { waiting.len() } else { asked };
                for request in waiting.extract_if(..share, |r| r.wanted == wanted) {
                    let _ = request.reply.send(collection.clone());
                }
            }
        }
    }

    /// Makes the readers what the configuration asks for. Readers that stay keep what they have accumulated.
    fn configure(&mut self) {
        let on = self.config.collectors;
        self.readers.retain(|(c, _)| on.contains(*c));
        let config = self.config.clone();
        for collector in on.iter() {
            if self.readers.iter().any(|(c, _)| *c == collector) {
                continue;
            }
            let Some(mut reader) = kernel::reader(collector, self.shared.mac.as_ref()) else { continue };
            let mut ctx = context(&self.shared, &config, &self.cgroups, &self.budget, &mut self.buf);
            for live in self.live.values() {
                reader.open(live.slot, &live.container, &mut ctx);
            }
            self.readers.push((collector, reader));
        }
        self.readers.sort_by_key(|(c, _)| c.index());
        self.generation = None;
    }

    /// Follows configuration and directory: opens what is new, closes what is gone, reopens what was restarted.
    fn sync(&mut self) {
        let config = self.shared.config();
        if !Arc::ptr_eq(&config, &self.config) {
            self.config = config;
            self.configure();
        }
        let (generation, listing) = self.shared.directory.list();
        if self.generation == Some(generation) {
            return;
        }
        self.generation = Some(generation);
        self.listing.clear();
        self.listing.extend(self.machine.clone());
        let selection = &self.config.containers;
        let shown = |c: &&Arc<Container>| {
            c.identity.id != "/" && selection.admits(&c.identity.name, &c.identity.image, &c.user_labels)
        };
        self.listing.extend(listing.iter().filter(shown).cloned());

        let mut ctx = context(&self.shared, &self.config, &self.cgroups, &self.budget, &mut self.buf);
        let mut gone = std::mem::take(&mut self.live);
        self.slots.clear();
        for container in &self.listing {
            let key = container.key();
            let old = gone.remove(&key);
            let same = old.as_ref().is_some_and(|old| same_run(&old.container, container));
            let slot = old.map(|old| old.slot).or_else(|| self.free.pop()).unwrap_or_else(|| {
                self.next_slot += 1;
                self.next_slot - 1
            });
            if !same {
                for (_, reader) in &mut self.readers {
                    reader.close(slot);
                    reader.open(slot, container, &mut ctx);
                }
            }
            self.slots.push(slot);
            self.live.insert(key, Live { slot, container: container.clone() });
        }
        for old in gone.into_values() {
            self.readers.iter_mut().for_each(|(_, r)| r.close(old.slot));
            self.free.push(old.slot);
        }
    }

    /// Closes what belongs to containers that are gone.
    pub fn release(&mut self) {
        let directory = &self.shared.directory;
        for (_, old) in self.live.extract_if(|key, _| key.id != "/" && directory.get(key).is_none()) {
            self.readers.iter_mut().for_each(|(_, r)| r.close(old.slot));
            self.free.push(old.slot);
            // The list is made anew by the next collection.
            self.generation = None;
        }
    }

    /// Collects what is wanted (of the collectors that are on).
    pub fn collect(&mut self, wanted: CollectorSet) -> Arc<Collection> {
        let span = tracing::info_span!(target: WORK, "collect", kina.containers = tracing::field::Empty);
        let _within = span.enter();
        self.sync();
        span.record("kina.containers", self.listing.len() as i64);
        let shared = self.shared.clone();
        let config = self.config.clone();
        let wanted = wanted.intersect(config.collectors);
        let mut collection = self.take_collection();
        let Some(Collection { snapshot, samples, advice }) = Arc::get_mut(&mut collection) else {
            unreachable!("a collection just taken has no other owner")
        };
        let clock = &shared.root.clock;
        snapshot.wall = clock.wall();
        snapshot.boot = clock.boot();
        snapshot.host.reset();
        snapshot.containers.resize_with(self.listing.len(), ContainerFacts::default);
        for (facts, container) in snapshot.containers.iter_mut().zip(self.listing.iter()) {
            facts.reset(container.clone());
        }

        self.outcomes = [None; Collector::COUNT];
        // A container whose runtime is asked in the background has all its facts, whatever their subject, from one reader.
        // Advice looks at everything.
        let reads = if wanted.contains(Collector::Advice) { config.collectors } else { wanted }.with(Collector::Vm);
        for (collector, reader) in self.readers.iter_mut().filter(|(c, _)| reads.contains(*c)) {
            let mut ctx = context(&shared, &config, &self.cgroups, &self.budget, &mut self.buf);
            let span = tracing::info_span!(
                target: WORK,
                "read",
                otel.name = format!("read {}", collector.name()),
                kina.failures = tracing::field::Empty,
            );
            let begin = clock.boot();
            span.in_scope(|| reader.read(snapshot, &self.slots, &mut ctx));
            span.record("kina.failures", i64::from(ctx.failures));
            let outcome = Outcome { nanos: clock.boot() - begin, failures: ctx.failures };
            self.outcomes[collector.index()] = Some(outcome);
        }

        // Whoever ended while it was read is in nothing that follows.
        snapshot.containers.retain(|facts| !facts.gone);
        samples.clear();
        self.entities.clear();
        self.entities.extend(snapshot.containers.iter().map(|facts| samples.entity(&facts.container.labels)));
        for collector in wanted.iter() {
            let begin = clock.boot();
            collect::emit(collector, snapshot, &self.entities, &config, samples);
            let outcome = self.outcomes[collector.index()].get_or_insert_default();
            outcome.nanos += clock.boot() - begin;
        }
        advice.clear();
        if wanted.contains(Collector::Advice) {
            let begin = clock.boot();
            let startup = |id: &str| shared.startups.duration(id);
            self.advisor.advise(snapshot, startup, &config.targets, advice);
            collect::advice::emit(&self.entities, &config.targets, advice, samples);
            self.outcomes[Collector::Advice.index()].get_or_insert_default().nanos += clock.boot() - begin;
        }
        if wanted.contains(Collector::Exporter) {
            self.emit_outcomes(samples);
        }
        if wanted.contains(Collector::Startup) {
            let ids = snapshot.containers.iter().map(|facts| facts.container.native_id.as_str());
            shared.startups.each_duration(ids, |i, seconds| {
                samples.push(catalog::LAST_STARTUP_DURATION, self.entities[i], seconds);
            });
        }
        shared.held.samples(samples, |id| wanted.contains(id.family().collector));
        if !config.profile_cadvisor {
            samples.drop_profile(Profile::Cadvisor);
        }

        self.pool.push(collection.clone());
        collection
    }

    fn emit_outcomes(&self, out: &mut Samples) {
        for collector in Collector::ALL {
            if let Some(outcome) = self.outcomes[collector.index()] {
                let labels = [("collector", collector.name())];
                out.push_with(catalog::COLLECTOR_DURATION, Entity::NONE, &labels, outcome.nanos as f64 / SECOND as f64);
                let success = f64::from(u8::from(outcome.failures == 0));
                out.push_with(catalog::COLLECTOR_SUCCESS, Entity::NONE, &labels, success);
            }
        }
        if self.shared.config().file.is_some() {
            let reloads = &self.shared.reloads;
            out.push(
                catalog::CONFIG_RELOAD_SUCCESS,
                Entity::NONE,
                f64::from(u8::from(reloads.ok.load(Ordering::Relaxed))),
            );
            let at = reloads.at.load(Ordering::Relaxed) as f64 / SECOND as f64;
            out.push(catalog::CONFIG_RELOAD_TIME, Entity::NONE, at);
        }
        self.shared.capabilities.each(|name, answer| {
            let (reason, value) = match answer {
                Answer::Yes => ("", 1.0),
                Answer::No(reason) => (reason.as_str(), 0.0),
            };
            out.push_with(catalog::CAPABILITY, Entity::NONE, &[("capability", name), ("reason", reason)], value);
        });
    }

    fn take_collection(&mut self) -> Arc<Collection> {
        let free = self.pool.iter().position(|c| Arc::strong_count(c) == 1);
        match free {
            Some(i) => self.pool.swap_remove(i),
            None => {
                // Slow readers hold theirs: forget it, it is freed when they end.
                if self.pool.len() > 2 {
                    self.pool.clear();
                }
                Arc::new(Collection { samples: Samples::new(), ..Collection::default() })
            }
        }
    }
}

fn context<'a>(
    shared: &'a Shared,
    config: &'a Config,
    cgroups: &'a Cgroups,
    budget: &'a Arc<Budget>,
    buf: &'a mut ReadBuf,
) -> Context<'a> {
    Context {
        root: &shared.root,
        config,
        capabilities: &shared.capabilities,
        held: &shared.held,
        cgroups,
        budget,
        buf,
        failures: 0,
    }
}

/// The root cgroup: what dashboards made for cAdvisor read as `id="/"`.
fn machine(cgroups: &Cgroups) -> Container {
    let identity = Identity { id: "/".into(), ..Identity::default() };
    Container {
        runtime: RuntimeKind::Cgroup,
        native_id: "/".into(),
        labels: Arc::new(identity.labels(RuntimeKind::Cgroup)),
        identity,
        cgroup: cgroups.root_paths(),
        ..Container::default()
    }
}

/// Whether open descriptors and counters still belong to this run of the container.
fn same_run(old: &Container, new: &Container) -> bool {
    old.pid == new.pid && old.started == new.started && old.cgroup == new.cgroup
}
