//! The task that keeps the directory right on a Mac, and the one that reads statistics.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::bundles::{Begun, Bundles};
use super::shapes::State::Running;
use super::shapes::{DiskUsage, Failure, Listed, Machine, Network, Stats};
use super::{Book, Change, Command, Guest, Measured, MeasuredCell, key};
use crate::catalog::{self, Collector};
use crate::root::{Nanos, Root, SECOND};
use crate::runtime::http;
use crate::runtime::sources::{Context, Shared};
use crate::runtime::{Container, Event, EventKind, ImageFacts, Key, Pending, RuntimeKind};

/// How often the containers are listed: one second is what discovery may take.
const LIST_EVERY: Duration = Duration::from_secs(1);
/// How often the command is looked for where it is not installed.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// A daemon that fails this often in a row is given up: what it told is no longer true.
const GIVE_UP_AFTER: u32 = 3;
/// How often the boot logs are looked at; less often where there are very many, so that no more than this share of a
/// processor is spent: a look costs a few microseconds.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const LOOK_COST: Duration = Duration::from_micros(200);
/// Statistics are read one container after the other, and wait for a container that stops: late is not dead.
const STATS_LIMIT: Duration = Duration::from_secs(60);

/// How often machines are looked for, and versions and networks.
const MACHINES_EVERY: Duration = Duration::from_secs(10);
const ABOUT_EVERY: Duration = Duration::from_secs(60);
/// What an exporter in a guest is asked, how long it may take, and how many at the same time.
const AGENT_PATH: &str = "/api/v1/guest";
const AGENT_LIMIT: Duration = Duration::from_secs(5);
const AGENTS_AT_ONCE: usize = 16;

/// Finds the `container` command: as configured, else on `PATH` of a Mac (elsewhere something else may have that name).
fn find(ctx: &Context) -> Option<PathBuf> {
    if let Some(named) = &ctx.config.runtime.apple.command {
        return ctx.root.exists(named).then(|| named.clone());
    }
    if cfg!(target_os = "macos") { ctx.root.find_program("container") } else { None }
}

/// Keeps the containers of Apple's runtime in the directory, for ever.
pub(in crate::runtime) async fn run(shared: Arc<Shared>, first: Pending) {
    let ctx = &shared.ctx;
    let mut first = Some(first);
    let program = loop {
        if let Some(program) = find(ctx) {
            break program;
        }
        ctx.capabilities.no(RuntimeKind::Apple.name(), Failure::NoCommand.reason());
        first = None;
        tokio::time::sleep(LOOK_AGAIN).await;
    };
    let watcher = Watcher {
        command: Command::new(&ctx.root, &program),
        shared: shared.clone(),
        state: Mutex::default(),
        bundles: Mutex::default(),
    };
    tokio::join!(
        watcher.follow_lists(first),
        watcher.follow_stats(),
        watcher.follow_boots(),
        watcher.follow_guests(),
        watcher.follow_agents(),
        watcher.follow_machines(),
        watcher.follow_about(),
        watcher.follow_disk()
    );
}

struct Watcher {
    command: Command,
    shared: Arc<Shared>,
    state: Mutex<State>,
    /// None until the daemon's folder is known.
    bundles: Mutex<Option<Bundles>>,
}

#[derive(Default)]
struct State {
    book: Book,
    images: HashMap<String, ImageFacts>,
    /// The daemon's folder, once it is known.
    root: Option<PathBuf>,
    /// The containers that running machines are: no list shows them.
    machines: Vec<Listed>,
}

impl Watcher {
    fn ctx(&self) -> &Context {
        &self.shared.ctx
    }

    fn root(&self) -> &Root {
        &self.ctx().root
    }

    async fn follow_lists(&self, mut first: Option<Pending>) {
        let mut every = tokio::time::interval(LIST_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failures = 0;
        loop {
            every.tick().await;
            match self.command.list().await {
                Ok((listed, bad)) => {
                    failures = 0;
                    self.ctx().capabilities.yes(RuntimeKind::Apple.name());
                    self.count_bad(bad);
                    self.take_in(listed).await;
                }
                Err(failure) => {
                    failures += 1;
                    self.failed(failure, failures);
                }
            }
            first.take();
        }
    }

    fn failed(&self, failure: Failure, in_a_row: u32) {
        tracing::debug!(runtime = "apple", reason = failure.reason(), "container list failed");
        self.ctx().capabilities.no(RuntimeKind::Apple.name(), failure.reason());
        if failure == Failure::ServiceNotRunning || in_a_row == GIVE_UP_AFTER {
            let mut state = self.lock();
            let lost = state.book.forget();
            drop(state);
            let (wall, boot) = (self.root().clock.wall(), self.root().clock.boot());
            for key in &lost {
                self.apply(Change::Lost { key: key.clone() }, wall, boot);
            }
            if !lost.is_empty() {
                tracing::warn!(
                    runtime = "apple",
                    containers = lost.len(),
                    reason = failure.reason(),
                    "lost the containers"
                );
            }
        }
    }

    fn count_bad(&self, bad: usize) {
        if bad > 0 {
            self.ctx().held.add(catalog::READ_ERRORS, &[Collector::Vm.name(), "malformed"], bad as u64);
        }
    }

    async fn take_in(&self, mut listed: Vec<Listed>) {
        let mut machines = self.lock().machines.clone();
        machines.retain(|m| listed.iter().all(|l| l.id != m.id));
        listed.append(&mut machines);
        let listed: Vec<Listed> = listed
            .into_iter()
            .filter(|l| self.shared.shows(&l.id, &l.configuration.image.reference, &l.configuration.labels))
            .collect();
        self.learn_images(&listed).await;
        let (wall, boot) = (self.root().clock.wall(), self.root().clock.boot());
        let mut state = self.lock();
        let State { book, images, .. } = &mut *state;
        let changes = book.observe(&listed, images);
        drop(state);
        for change in changes {
            self.apply(change, wall, boot);
        }
    }

    fn apply(&self, change: Change, wall: Nanos, boot: Nanos) {
        let directory = &self.ctx().directory;
        let event = |key: Key, at: Nanos, image: String, kind: EventKind| {
            let name = key.id.clone();
            Event { key, at, received: boot, image, name, kind, replayed: false }
        };
        match change {
            Change::Started { mut container, live } => {
                container.data_root.clone_from(&self.lock().root);
                // The files tell better what belongs to what, where they are known.
                let by_dates = container.data_root.is_none();
                let (key, started) = (container.key(), container.started);
                let (image, created) = (container.identity.image.clone(), container.created);
                if let Some(bundles) = self.bundles().as_mut() {
                    bundles.started(&key.id);
                }
                directory.insert(*container);
                if live {
                    let whole = started.is_none_or(|s| s % SECOND == 0);
                    // Since 1.0 dates are cut to whole seconds: it ran within the second after, and before this moment.
                    let at = started.map_or(wall, |s| if whole { (s + SECOND - 1).min(wall).max(s) } else { s });
                    if by_dates && created.zip(started).is_some_and(|(c, s)| (s - c).abs() <= SECOND) {
                        directory.publish(event(key.clone(), at, image.clone(), EventKind::FirstStart));
                    }
                    let started = started.filter(|_| !whole);
                    directory.publish(event(key, at, image, EventKind::Started { pid: 0, started }));
                }
            }
            Change::Stopped { key } => {
                if let Some(old) = directory.remove(&key) {
                    for kind in self.ended(&key) {
                        directory.publish(event(key.clone(), wall, old.identity.image.clone(), kind));
                    }
                }
            }
            Change::Removed { key } => {
                if let Some(old) = directory.remove(&key) {
                    let image = old.identity.image.clone();
                    for kind in self.ended(&key) {
                        directory.publish(event(key.clone(), wall, image.clone(), kind));
                    }
                    directory.publish(event(key, wall, image, EventKind::Removed));
                }
            }
            Change::Lost { key } => {
                if let Some(old) = directory.remove(&key) {
                    directory.publish(event(key, wall, old.identity.image.clone(), EventKind::Lost));
                }
            }
        }
    }

    /// The command tells no exit status; the boot log may.
    fn ended(&self, key: &Key) -> impl Iterator<Item = EventKind> + use<> {
        let end = self.bundles().as_mut().map(|bundles| bundles.ended(self.root(), &key.id)).unwrap_or_default();
        end.oom.then_some(EventKind::Oom).into_iter().chain([EventKind::Exited { code: end.status }])
    }

    /// Asks for the size and layers of images not seen before. A failure is remembered as "not known" for as long as the
    /// image is in use, so that it is not asked for every second.
    async fn learn_images(&self, listed: &[Listed]) {
        let wanted: BTreeSet<String> = listed.iter().map(|l| l.configuration.image.reference.clone()).collect();
        let unknown: Vec<&Listed> = {
            let mut state = self.lock();
            state.images.retain(|reference, _| wanted.contains(reference));
            listed.iter().filter(|l| !state.images.contains_key(&l.configuration.image.reference)).collect()
        };
        if unknown.is_empty() {
            return;
        }
        let (listed_images, bad) = self.command.image_list().await.unwrap_or_default();
        self.count_bad(bad);
        for l in unknown {
            let image = &l.configuration.image;
            let known =
                listed_images.iter().find(|i| i.reference == image.reference && i.size_bytes.is_some()).cloned();
            let found = match known {
                Some(found) => Some(found),
                // Up to 0.12 a list has no sizes.
                None => self.command.image_inspect(&image.reference).await.ok().and_then(|(mut i, _)| i.pop()),
            };
            let facts = ImageFacts {
                id: image.descriptor.digest.clone(),
                size_bytes: found.as_ref().and_then(|i| i.size_bytes),
                layers: found.as_ref().and_then(|i| i.layers),
            };
            self.lock().images.insert(image.reference.clone(), facts);
        }
    }

    /// Tells of boots as they begin. Nothing is told where the daemon's folder is not known or may not be read.
    async fn follow_boots(&self) {
        const NAME: &str = "apple_boot_logs";
        self.ctx().capabilities.no(NAME, "the container service has not told where its files are");
        let root = self.app_root().await;
        *self.bundles() = Some(Bundles::new(&root));
        self.know_root(root);
        let mut told = None;
        loop {
            let (begun, known, open) = match self.bundles().as_mut() {
                Some(bundles) => (bundles.look(self.root()), bundles.len(), bundles.is_open()),
                None => (Vec::new(), 0, false),
            };
            match told.replace(open) {
                Some(before) if before == open => {}
                _ if open => self.ctx().capabilities.yes(NAME),
                _ => self.ctx().capabilities.no(NAME, "the folder of the containers' files can't be listed"),
            }
            for begun in begun {
                self.tell(begun);
            }
            tokio::time::sleep(LOOK_EVERY.max(LOOK_COST * u32::try_from(known).unwrap_or(u32::MAX))).await;
        }
    }

    async fn app_root(&self) -> PathBuf {
        if let Some(set) = &self.ctx().config.runtime.apple.root {
            return set.clone();
        }
        loop {
            if let Ok(Some(told)) = self.command.app_root().await {
                return told;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Those who were listed before the folder was known are told of it.
    fn know_root(&self, root: PathBuf) {
        let runs = {
            let mut state = self.lock();
            state.root = Some(root.clone());
            state.book.runs()
        };
        for (id, _) in runs {
            if let Some(known) = self.ctx().directory.get(&key(&id)) {
                self.ctx().directory.insert(Container { data_root: Some(root.clone()), ..(*known).clone() });
            }
        }
    }

    fn tell(&self, begun: Begun) {
        let Begun { id, boot, first, configuration } = begun;
        let c = configuration.unwrap_or_default();
        let image = c.image.reference;
        if !self.shared.shows(&id, &image, &c.labels) {
            return;
        }
        let clock = &self.root().clock;
        let event = |kind: EventKind| Event {
            key: key(&id),
            at: clock.wall(),
            received: clock.boot(),
            image: image.clone(),
            name: id.clone(),
            kind,
            replayed: false,
        };
        if first {
            self.ctx().directory.publish(event(EventKind::FirstStart));
        }
        self.ctx().directory.publish(event(EventKind::Booting(boot)));
    }

    async fn follow_stats(&self) {
        let mut every = tokio::time::interval(self.ctx().config.runtime.apple.stats_interval);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            while self.lock().book.running() == 0 {
                tokio::time::sleep(LIST_EVERY).await;
            }
            match self.command.stats(STATS_LIMIT).await {
                Ok((stats, bad)) => {
                    self.count_bad(bad);
                    self.measured(stats);
                }
                Err(failure) => {
                    tracing::debug!(runtime = "apple", reason = failure.reason(), "container stats failed");
                    self.ctx().capabilities.no("apple_stats", failure.reason());
                    if failure != Failure::Unsupported {
                        self.ctx().held.inc(catalog::READ_ERRORS, &[Collector::Vm.name(), "io"]);
                    }
                }
            }
        }
    }

    /// Asks the guests' own kernels, one container after the other, where that is switched on.
    async fn follow_guests(&self) {
        let Some(interval) = self.ctx().config.runtime.apple.guest_interval else { return };
        let mut every = tokio::time::interval(interval);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Those that have no `cat`: nothing that runs gets one, so they are asked no more.
        let mut without: Vec<Weak<MeasuredCell>> = Vec::new();
        loop {
            every.tick().await;
            without.retain(|cell| cell.strong_count() > 0);
            let runs = self.lock().book.runs();
            for (id, cell) in runs {
                if without.iter().any(|w| std::ptr::eq(w.as_ptr(), Arc::as_ptr(&cell))) {
                    continue;
                }
                // An exporter in there tells more.
                if cell.with_guest(|guest| guest.agent.is_some()) == Some(true) {
                    continue;
                }
                match self.command.guest(&id, self.root().clock.boot()).await {
                    Ok(guest) => {
                        self.told("apple_guest");
                        cell.set_guest(guest);
                    }
                    Err(failure) => {
                        tracing::debug!(container = id, reason = failure.reason(), "the guest does not tell");
                        cell.forget_guest();
                        if failure == Failure::NoProgram {
                            without.push(Arc::downgrade(&cell));
                        }
                    }
                }
            }
        }
    }

    /// Asks the exporters that run in containers, all at the same time, where their port is known.
    async fn follow_agents(&self) {
        let port = self.ctx().config.runtime.apple.agent_port;
        let Some(port) = port.and_then(|p| u16::try_from(p).ok()) else { return };
        let mut every = tokio::time::interval(self.ctx().config.runtime.apple.stats_interval);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let few = Arc::new(Semaphore::new(AGENTS_AT_ONCE));
        loop {
            every.tick().await;
            let mut asked = JoinSet::new();
            for (id, cell) in self.lock().book.runs() {
                let Some(container) = self.ctx().directory.get(&key(&id)) else { continue };
                let Some(address) = container.addresses.iter().find(|a| a.is_ipv4()) else { continue };
                let (root, few, address) = (self.root().clone(), few.clone(), SocketAddr::new(*address, port));
                asked.spawn(async move {
                    let _permit = few.acquire().await;
                    let boot = root.clock.boot();
                    let answer = http::get(&root, address, AGENT_PATH, AGENT_LIMIT).await;
                    let guest = answer.map(|printed| Guest::parse(&printed, boot).filter(|g| g.agent.is_some()));
                    match guest {
                        Ok(Some(guest)) => cell.set_guest(guest),
                        told => {
                            tracing::debug!(container = id, answer = ?told.err(), "no exporter tells of the guest");
                            if cell.with_guest(|g| g.agent.is_some()) == Some(true) {
                                cell.forget_guest();
                            }
                            return false;
                        }
                    }
                    true
                });
            }
            if asked.join_all().await.contains(&true) {
                self.told("apple_agent");
            }
        }
    }

    /// A source that is read in the background has answered.
    fn told(&self, source: &str) {
        self.ctx().capabilities.yes(source);
        let now = self.root().clock.wall() as f64 / SECOND as f64;
        self.ctx().held.set(catalog::COLLECTOR_LAST_SUCCESS, &[source], now);
    }

    /// Finds the containers that machines are. What could not be asked stays as it was.
    async fn follow_machines(&self) {
        // A machine's container, by the machine's name and creation.
        let mut known: HashMap<(String, Option<Nanos>), String> = HashMap::new();
        loop {
            match self.command.machines().await {
                Ok((machines, bad)) => {
                    self.count_bad(bad);
                    if let Some(containers) = self.containers_of(machines, &mut known).await {
                        self.lock().machines = containers;
                    }
                }
                Err(failure) => {
                    tracing::debug!(runtime = "apple", reason = failure.reason(), "container machine list failed");
                }
            }
            tokio::time::sleep(MACHINES_EVERY).await;
        }
    }

    async fn containers_of(
        &self,
        machines: Vec<Machine>,
        known: &mut HashMap<(String, Option<Nanos>), String>,
    ) -> Option<Vec<Listed>> {
        let running: Vec<_> = machines.into_iter().filter(|m| m.status == Running).collect();
        let key = |m: &Machine| (m.id.clone(), m.created_date.0);
        let keys: BTreeSet<_> = running.iter().map(key).collect();
        known.retain(|k, _| keys.contains(k));
        for machine in &running {
            if !known.contains_key(&key(machine)) {
                let container = self.command.machine_container(&machine.id).await.ok()?;
                known.extend(container.map(|id| (key(machine), id)));
            }
        }
        let ids: Vec<String> = known.values().cloned().collect();
        if ids.is_empty() {
            return Some(Vec::new());
        }
        let (containers, bad) = self.command.inspect(&ids).await.ok()?;
        self.count_bad(bad);
        Some(containers)
    }

    /// Asks for what seldom changes: versions and networks.
    async fn follow_about(&self) {
        let held = &self.ctx().held;
        let runtime = RuntimeKind::Apple.name();
        loop {
            let versions = self.command.versions().await;
            let infos: Vec<_> = versions.iter().map(|(component, version)| vec![runtime, component, version]).collect();
            held.set_infos(catalog::RUNTIME_INFO, &infos);
            match self.command.networks().await {
                Ok((networks, bad)) => {
                    self.count_bad(bad);
                    let of = |n: &Network| [n.id.clone(), n.mode.clone(), n.ipv4_subnet.clone(), n.ipv6_subnet.clone()];
                    let all: Vec<_> = networks.iter().map(of).collect();
                    let infos: Vec<_> =
                        all.iter().map(|n| [&[runtime], &n.each_ref().map(String::as_str)[..]].concat()).collect();
                    held.set_infos(catalog::RUNTIME_NETWORK_INFO, &infos);
                }
                // macOS 15 has no networks to list.
                Err(failure) => {
                    tracing::debug!(runtime = "apple", reason = failure.reason(), "container network list failed");
                }
            }
            tokio::time::sleep(ABOUT_EVERY).await;
        }
    }

    /// Asks what is on disk, where that is switched on.
    async fn follow_disk(&self) {
        let Some(interval) = self.ctx().config.runtime.apple.disk_interval else { return };
        let mut every = tokio::time::interval(interval);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            match self.command.disk_usage(interval).await {
                Ok(usage) => self.on_disk(&usage),
                Err(failure) => {
                    tracing::debug!(runtime = "apple", reason = failure.reason(), "container system df failed");
                    self.ctx().capabilities.no("apple_disk", failure.reason());
                }
            }
        }
    }

    fn on_disk(&self, usage: &DiskUsage) {
        self.told("apple_disk");
        let held = &self.ctx().held;
        let kinds = [("containers", usage.containers), ("images", usage.images), ("volumes", usage.volumes)];
        for (kind, usage) in kinds.into_iter().filter_map(|(kind, usage)| Some((kind, usage?))) {
            let labels = [RuntimeKind::Apple.name(), kind];
            for (family, bytes) in
                [(catalog::RUNTIME_DISK, usage.size_in_bytes), (catalog::RUNTIME_DISK_RECLAIMABLE, usage.reclaimable)]
            {
                if let Some(bytes) = bytes {
                    held.set(family, &labels, bytes as f64);
                }
            }
        }
    }

    fn measured(&self, stats: Vec<Stats>) {
        self.ctx().capabilities.yes("apple_stats");
        let (wall, boot) = (self.root().clock.wall(), self.root().clock.boot());
        self.lock().book.measured(stats.into_iter().map(|stats| Measured { wall, boot, stats }));
    }

    fn bundles(&self) -> std::sync::MutexGuard<'_, Option<Bundles>> {
        self.bundles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
