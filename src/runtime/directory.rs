//! The live containers, and how those who look at them are told.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::{Container, Event, Key, RuntimeKind};
use crate::root::Nanos;

/// The live containers, kept by the runtimes' tasks and read by collections.
#[derive(Debug)]
pub struct Directory {
    state: Mutex<State>,
    /// Bumped with every change, so that a collection that sees the same number has nothing to do.
    generation: watch::Sender<u64>,
    /// Bumped when a container goes.
    removals: watch::Sender<u64>,
    /// Identities being asked for right now: a scrape waits a moment for them, so that a container which started is in
    /// the next scrape.
    pending: watch::Sender<usize>,
    subscribers: Mutex<Vec<mpsc::UnboundedSender<Arc<Event>>>>,
    histories: Mutex<HashMap<Arc<str>, Arc<Mutex<History>>>>,
    /// Where an earlier run of the exporter stopped: daemons are asked for their history from then on.
    recover: Mutex<Option<Nanos>>,
}

/// What was last heard from one daemon, kept while its task is restarted: where to ask its event history from.
#[derive(Debug, Default)]
pub struct History {
    /// Time stamp of the newest event.
    pub newest: Option<Nanos>,
    seen: HashSet<u64>,
    order: VecDeque<u64>,
}

impl History {
    /// Docker keeps 256 events for those who reconnect: twice as many can't repeat unnoticed.
    const REMEMBERED: usize = 512;

    /// Takes note of an event; false if it has been seen before.
    pub fn note(&mut self, fingerprint: u64, at: Nanos) -> bool {
        if !self.seen.insert(fingerprint) {
            return false;
        }
        self.order.push_back(fingerprint);
        if self.order.len() > Self::REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        self.newest = self.newest.max(Some(at));
        true
    }
}

#[derive(Debug, Default)]
struct State {
    live: HashMap<Key, Arc<Container>>,
    /// cgroup path → who shows it. No cgroup is shown twice, whichever runtimes know of it.
    by_cgroup: HashMap<String, Key>,
    listing: Option<Arc<Vec<Arc<Container>>>>,
}

impl Default for Directory {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            generation: watch::Sender::new(0),
            removals: watch::Sender::new(0),
            pending: watch::Sender::new(0),
            subscribers: Mutex::default(),
            histories: Mutex::default(),
            recover: Mutex::default(),
        }
    }
}

/// While it lives, [`Directory::settled`] waits: an event has been received and its container's identity is on the way.
#[derive(Debug)]
pub struct Pending(watch::Sender<usize>);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n -= 1);
    }
}

/// Which of two runtimes that know one cgroup tells more of it: engines before what they are built on.
fn precedence(runtime: RuntimeKind) -> u8 {
    match runtime {
        RuntimeKind::Docker | RuntimeKind::Podman | RuntimeKind::Apple => 2,
        RuntimeKind::Containerd => 1,
        RuntimeKind::Cgroup => 0,
    }
}

impl State {
    /// False if a runtime that tells more already shows this cgroup.
    fn insert(&mut self, container: Container) -> bool {
        let key = container.key();
        let id = &container.identity.id;
        if let Some(other) = self.by_cgroup.get(id).filter(|other| **other != key) {
            if precedence(other.runtime) > precedence(key.runtime) {
                self.remove(&key);
                return false;
            }
            let weaker = other.clone();
            self.remove(&weaker);
        }
        if self.live.get(&key).is_some_and(|old| old.identity.id != *id) {
            self.remove(&key);
        }
        self.by_cgroup.insert(id.clone(), key.clone());
        self.live.insert(key, Arc::new(container));
        true
    }

    fn remove(&mut self, key: &Key) -> Option<Arc<Container>> {
        let old = self.live.remove(key)?;
        if self.by_cgroup.get(&old.identity.id) == Some(key) {
            self.by_cgroup.remove(&old.identity.id);
        }
        Some(old)
    }
}

impl Directory {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self, state: &mut State) {
        state.listing = None;
        self.generation.send_modify(|g| *g += 1);
    }

    fn removed(&self, state: &mut State) {
        self.changed(state);
        self.removals.send_modify(|n| *n += 1);
    }

    /// Adds a container, or replaces what is known of it. False if its cgroup is already shown by a runtime that tells
    /// more (docker, podman > containerd > cgroup): then it is not added; the other way round, the weaker one makes way.
    pub fn insert(&self, container: Container) -> bool {
        let mut state = self.lock();
        let shown = state.insert(container);
        self.changed(&mut state);
        shown
    }

    pub fn remove(&self, key: &Key) -> Option<Arc<Container>> {
        let mut state = self.lock();
        let old = state.remove(key)?;
        self.removed(&mut state);
        Some(old)
    }

    /// Removes all containers that `gone` says are.
    pub fn remove_where(&self, gone: impl Fn(&Container) -> bool) {
        let mut state = self.lock();
        let keys: Vec<Key> = state.live.values().filter(|c| gone(c)).map(|c| c.key()).collect();
        if keys.is_empty() {
            return;
        }
        for key in &keys {
            state.remove(key);
        }
        self.removed(&mut state);
    }

    /// Who shows a cgroup now.
    pub fn shown_by(&self, cgroup: &str) -> Option<Key> {
        self.lock().by_cgroup.get(cgroup).cloned()
    }

    pub fn get(&self, key: &Key) -> Option<Arc<Container>> {
        self.lock().live.get(key).cloned()
    }

    /// Replaces all containers of one runtime (or of one source within it, told by `mine`) after a fresh list.
    pub fn replace(&self, mine: impl Fn(&Container) -> bool, fresh: Vec<Container>) {
        let mut state = self.lock();
        let keys: Vec<Key> = state.live.values().filter(|c| mine(c)).map(|c| c.key()).collect();
        for key in &keys {
            state.remove(key);
        }
        for container in fresh {
            state.insert(container);
        }
        self.removed(&mut state);
    }

    /// All live containers, ordered by id so that output is stable, with the generation they are of. The same list is
    /// handed out until something changes.
    pub fn list(&self) -> (u64, Arc<Vec<Arc<Container>>>) {
        let mut state = self.lock();
        let generation = *self.generation.borrow();
        let State { live, listing, .. } = &mut *state;
        let list = listing.get_or_insert_with(|| {
            let mut all: Vec<_> = live.values().cloned().collect();
            all.sort_by(|a, b| a.identity.id.cmp(&b.identity.id).then_with(|| a.native_id.cmp(&b.native_id)));
            Arc::new(all)
        });
        (generation, list.clone())
    }

    pub fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Tells that a container went, or may have gone.
    pub fn removals(&self) -> watch::Receiver<u64> {
        self.removals.subscribe()
    }

    /// Marks an identity as being asked for, until the guard is dropped.
    pub fn pending(&self) -> Pending {
        self.pending.send_modify(|n| *n += 1);
        Pending(self.pending.clone())
    }

    /// What was last heard from a daemon, by its socket.
    pub fn history(&self, source: &Arc<str>) -> Arc<Mutex<History>> {
        let mut histories = self.histories.lock().unwrap_or_else(PoisonError::into_inner);
        let from = *self.recover.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Mutex::new(History { newest: from, ..History::default() }));
        histories.entry(source.clone()).or_insert_with(new).clone()
    }

    /// Asks each daemon that is yet to be connected for what happened since `at` (wall clock), as far as it remembers.
    pub fn recover_from(&self, at: Nanos) {
        *self.recover.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    /// Whether an identity is being asked for.
    pub fn is_unsettled(&self) -> bool {
        *self.pending.borrow() > 0
    }

    /// Waits until no identity is being asked for, `limit` at most: a hanging runtime delays no scrape further.
    pub async fn settled(&self, limit: Duration) {
        let mut pending = self.pending.subscribe();
        let _ = tokio::time::timeout(limit, pending.wait_for(|n| *n == 0)).await;
    }

    /// Hands an event to all subscribers. None is lost, however slow they are: events are rare beside what they cost.
    pub fn publish(&self, event: Event) {
        let event = Arc::new(event);
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        subscribers.retain(|s| s.send(event.clone()).is_ok());
    }

    pub fn subscribe(&self) -> mpsc::UnboundedReceiver<Arc<Event>> {
        let (tx, rx) = mpsc::unbounded_channel();
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner).push(tx);
        rx
    }
}
