//! Docker, and Podman by its Docker-compatible API: identity by inspect, life by the event stream.
//!
//! On connect the event stream is opened first, then the containers are listed, so that nothing falls between. After a
//! lost connection the daemon's history (Docker keeps 256 events) is asked for from the last event on. Calls are
//! read-only: `/version`, `/events`, `/containers/json`, `/containers/ID/json`, `/images/ID/json`, `/_ping`.

pub mod identify;
mod places;
mod tracked;
pub mod wire;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::http::{Client, Lines, Trouble};
use super::sources::Link;
use super::{Event, EventKind, History, Key, Pending, RuntimeKind};
use crate::catalog;
use crate::root::{Nanos, SECOND};
use identify::{Api, Inspection, REQUEST_TO_EVENT};
use tracked::{Cleanup, Step, Tracked};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    Docker,
    Podman,
}

impl Flavor {
    pub fn runtime(self) -> RuntimeKind {
        match self {
            Self::Docker => RuntimeKind::Docker,
            Self::Podman => RuntimeKind::Podman,
        }
    }

    fn events_path(self, prefix: &str, since: Nanos) -> String {
        let since = format!("{}.{:09}", since.div_euclid(SECOND), since.rem_euclid(SECOND));
        match self {
            // {"type":["container","image","network"]}
            Self::Docker => format!(
                "{prefix}/events?since={since}&filters=%7B%22type%22%3A%5B%22container%22%2C%22image%22%2C%22network%22%5D%7D"
            ),
            // Podman 4 refuses the type `network`.
            Self::Podman => format!("{prefix}/events?stream=true&since={since}"),
        }
    }
}

/// Inspects that run at once: more only queue within the daemon.
const PARALLEL: usize = 8;
/// How often a silent daemon is asked whether it is there, and failed inspects are tried again.
const PING: Duration = Duration::from_secs(30);
/// How long after its creation a container that has not started is looked at.
const SETTLED: Duration = Duration::from_secs(3);

/// One connection's life: returns why it ended.
pub(super) async fn session(link: &Arc<Link>, flavor: Flavor) -> Trouble {
    match Session::connect(link, flavor).await {
        Ok(mut session) => session.run().await,
        Err(trouble) => trouble,
    }
}

struct Session {
    link: Arc<Link>,
    api: Arc<Api>,
    lines: Lines,
    history: Arc<Mutex<History>>,
    /// Events before this are of a time that has been dealt with, or was before the exporter.
    floor: Nanos,
    /// Newest event of the previous connection: containers started since were missed.
    missed_since: Option<Nanos>,
    connected_at: Nanos,
    /// Docker connects networks when the process exists already, and disconnects them before it tells an end.
    network_after_process: bool,
    tracked: HashMap<String, Tracked>,
    jobs: JoinSet<Done>,
    parallel: Arc<Semaphore>,
    /// Inspects that failed, to be tried again.
    failed: HashSet<String>,
}

/// Why a container is inspected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// After a list, or because something of it changed.
    Refresh,
    /// It was created at that time.
    Create(Nanos),
    /// It was started at that time.
    Start(Nanos),
    /// A start was begun and did not come to its end, at that time.
    StartFailed(Nanos),
    /// It was created at that time, and nothing has been heard of its start.
    Settle(Nanos),
}

enum Done {
    Inspected {
        id: String,
        purpose: Purpose,
        answer: Result<Option<Box<Inspection>>, Trouble>,
        _pending: Pending,
    },
    Pinged(Result<(), Trouble>),
    /// A container was created a while ago.
    Settled {
        id: String,
        created: Nanos,
    },
}

impl Session {
    async fn connect(link: &Arc<Link>, flavor: Flavor) -> Result<Self, Trouble> {
        let ctx = link.ctx();
        let client = Client { root: ctx.root.clone(), socket: link.socket.clone(), timeout: link.timeout };
        let version: wire::Version = client.get("/version").await?;
        let prefix = version.prefix().ok_or(Trouble::TooOld)?;
        let history = ctx.directory.history(&link.source);
        let missed_since = history.lock().unwrap_or_else(PoisonError::into_inner).newest;
        let connected_at = ctx.root.clock.wall();
        // Time stamps are given before events are sent, so that they may come slightly out of order.
        let floor = missed_since.map_or(connected_at, |newest| newest - SECOND);
        let lines = client.lines(&flavor.events_path(&prefix, floor - SECOND)).await?;
        let list: Vec<wire::Summary> = client.get(&format!("{prefix}/containers/json")).await?;
        let api = Api::new(client, link.runtime, link.source.clone(), prefix);
        let mut session = Self {
            link: link.clone(),
            api: Arc::new(api),
            lines,
            history,
            floor,
            missed_since,
            connected_at,
            network_after_process: flavor == Flavor::Docker && version.network_after_process(),
            tracked: HashMap::new(),
            jobs: JoinSet::new(),
            parallel: Arc::new(Semaphore::new(PARALLEL)),
            failed: HashSet::new(),
        };
        session.adopt(list);
        Ok(session)
    }

    /// Takes over the daemon's own list: what it does not know is gone.
    fn adopt(&mut self, list: Vec<wire::Summary>) {
        let running: HashSet<&str> = list.iter().map(|s| s.id.as_str()).collect();
        let directory = &self.link.ctx().directory;
        directory.remove_where(|c| {
            c.runtime == self.link.runtime && c.source == self.link.source && !running.contains(c.native_id.as_str())
        });
        self.link.connected();
        for summary in list {
            self.inspect(summary.id, Purpose::Refresh);
        }
        self.link.heard();
    }

    async fn run(&mut self) -> Trouble {
        let mut ping = tokio::time::interval(PING);
        ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ping.reset();
        loop {
            tokio::select! {
                line = self.lines.next() => match line {
                    Ok(Some(line)) => self.line(&line),
                    Ok(None) => return Trouble::NotAnswering,
                    Err(trouble) => return trouble,
                },
                Some(done) = self.jobs.join_next() => match done {
                    Ok(Done::Inspected { id, purpose, answer, _pending }) => self.inspected(id, purpose, answer),
                    Ok(Done::Settled { id, created }) => self.settled(&id, created),
                    Ok(Done::Pinged(Err(trouble))) => return trouble,
                    Ok(Done::Pinged(Ok(()))) => {}
                    Err(e) => tracing::error!(error = %e, "an inspect ended early"),
                },
                _ = ping.tick() => self.tick(),
            }
        }
    }

    fn tick(&mut self) {
        let api = self.api.clone();
        self.jobs.spawn(async move { Done::Pinged(api.client.ping("/_ping").await) });
        for id in std::mem::take(&mut self.failed) {
            self.inspect(id, Purpose::Refresh);
        }
    }

    fn inspect(&mut self, id: String, purpose: Purpose) {
        self.tracked.entry(id.clone()).or_default().inspects += 1;
        let pending = self.link.ctx().directory.pending();
        let (api, parallel) = (self.api.clone(), self.parallel.clone());
        self.jobs.spawn(async move {
            let _permit = parallel.acquire_owned().await;
            let answer = api.inspect(&id).await.map(|found| found.map(Box::new));
            Done::Inspected { id, purpose, answer, _pending: pending }
        });
    }

    /// Docker tells nothing of a network that could not be set up, a port that is taken: a container that did not start at
    /// once may have failed to.
    fn look_again(&mut self, id: String, created: Nanos) {
        self.jobs.spawn(async move {
            tokio::time::sleep(SETTLED).await;
            Done::Settled { id, created }
        });
    }

    /// When its start failed nobody says: soon after it was created.
    fn settled(&mut self, id: &str, created: Nanos) {
        if self.is_unsettled(id) {
            self.step(id, Step::Settle(created));
        }
    }

    fn is_unsettled(&self, id: &str) -> bool {
        self.tracked.get(id).is_some_and(|t| t.unsettled && !t.destroyed)
    }

    fn key(&self, id: &str) -> Key {
        Key { runtime: self.link.runtime, id: id.to_owned() }
    }

    /// One line of the event stream. A line that can't be read is lost alone.
    fn line(&mut self, line: &[u8]) {
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        let message: wire::Message = match serde_json::from_slice(line) {
            Ok(message) => message,
            Err(error) => {
                tracing::warn!(runtime = self.link.runtime.name(), %error, "skipped an event that can't be read");
                return;
            }
        };
        let at = message.at();
        if at < self.floor {
            return;
        }
        let mut hasher = DefaultHasher::new();
        (&message.kind, message.id(), &message.action, at, message.attribute("container")).hash(&mut hasher);
        if !self.history.lock().unwrap_or_else(PoisonError::into_inner).note(hasher.finish(), at) {
            return;
        }
        self.link.ctx().held.inc(catalog::RUNTIME_EVENTS, &[self.link.runtime.name()]);
        match message.kind.as_deref() {
            Some("container") => self.container_event(&message, at),
            Some("network") => self.network_event(&message, at),
            Some("image") if message.action.as_deref() == Some("pull") => self.image_pulled(&message, at),
            _ => {}
        }
    }

    fn container_event(&mut self, message: &wire::Message, at: Nanos) {
        let id = message.id();
        let action = message.action.as_deref().unwrap_or("");
        if id.is_empty() || action.starts_with("exec_") {
            return;
        }
        self.introduce(message);
        match action.split(':').next().unwrap_or(action) {
            "create" => {
                let tracked = self.tracked.entry(id.to_owned()).or_default();
                tracked.cleanup = Cleanup::OfAFailedStart;
                tracked.unsettled = true;
                self.step(id, Step::Create(at));
                if self.network_after_process {
                    self.look_again(id.to_owned(), at);
                }
            }
            // Podman: the OCI runtime has created the process, which waits to be started.
            "init" => self.begun(id, at),
            "start" => {
                let tracked = self.tracked.entry(id.to_owned()).or_default();
                tracked.starting = false;
                tracked.unsettled = false;
                tracked.cleanup = Cleanup::OfARun;
                self.step(id, Step::Start(at));
            }
            "die" | "died" => self.died(id, message, at),
            "oom" => self.publish(id, EventKind::Oom, at),
            "health_status" => {
                let status = action.split_once(": ").map(|(_, s)| s);
                let status = status.or(message.attribute("health_status")).or(message.health_status.as_deref());
                if let Some(healthy) = status.and_then(identify::healthy) {
                    self.health(id, healthy, at);
                }
            }
            "rename" => self.inspect(id.to_owned(), Purpose::Refresh),
            "cleanup" => self.cleaned_up(id, at),
            "destroy" | "remove" => self.destroyed(id, at),
            _ => {}
        }
    }

    /// Remembers what the event itself says of its container.
    fn introduce(&mut self, message: &wire::Message) {
        let name = message.attribute("name").unwrap_or("");
        let image = message.attribute("image").unwrap_or("");
        let attributes = message.actor.as_ref().and_then(|a| a.attributes.as_ref());
        let labels: BTreeMap<String, String> =
            attributes.into_iter().flatten().filter_map(|(k, v)| Some((k.clone(), v.clone()?))).collect();
        let hidden = !self.link.shared.shows(name, image, &labels);
        let tracked = self.tracked.entry(message.id().to_owned()).or_default();
        tracked.name = name.to_owned();
        if tracked.image.is_empty() || !identify::is_image_id(image) {
            tracked.image = image.to_owned();
        }
        if !tracked.inspected {
            tracked.hidden = hidden;
        }
    }

    fn network_event(&mut self, message: &wire::Message, at: Nanos) {
        let Some(id) = message.attribute("container").filter(|id| !id.is_empty()) else { return };
        let live = self.link.ctx().directory.get(&self.key(id)).is_some();
        match message.action.as_deref() {
            Some("connect" | "disconnect") if live => self.inspect(id.to_owned(), Purpose::Refresh),
            // Too late to tell when the start was asked for.
            Some("connect") if self.network_after_process => {
                self.tracked.entry(id.to_owned()).or_default().starting = true;
            }
            Some("connect") => self.begun(id, at),
            Some("disconnect") if self.is_starting(id) => self.failed_to_start(id, at),
            // The process could not be created: nothing was told before.
            Some("disconnect") if self.network_after_process && !self.has_run(id) => self.failed_to_start(id, at),
            _ => {}
        }
    }

    /// Whether what is taken down of it now is of a run.
    fn has_run(&self, id: &str) -> bool {
        self.tracked.get(id).is_some_and(|t| t.cleanup == Cleanup::OfARun)
    }

    fn is_starting(&self, id: &str) -> bool {
        self.tracked.get(id).is_some_and(|t| t.starting)
    }

    /// A start is under way.
    fn begun(&mut self, id: &str, at: Nanos) {
        let tracked = self.tracked.entry(id.to_owned()).or_default();
        if !std::mem::replace(&mut tracked.starting, true) {
            tracked.begun = Some(at);
            self.publish(id, EventKind::StartRequested, at);
        }
    }

    /// Podman takes down network and mounts of a container that ended, and of one that did not come up.
    fn cleaned_up(&mut self, id: &str, at: Nanos) {
        let tracked = self.tracked.entry(id.to_owned()).or_default();
        tracked.starting = false;
        let of = tracked.cleanup;
        if of == Cleanup::OfARun {
            tracked.cleanup = Cleanup::OfAFailedStart;
        }
        if of == Cleanup::OfAFailedStart {
            self.failed_to_start(id, at);
        }
    }

    fn failed_to_start(&mut self, id: &str, at: Nanos) {
        let tracked = self.tracked.entry(id.to_owned()).or_default();
        tracked.starting = false;
        tracked.unsettled = false;
        self.step(id, Step::StartFailed(at));
    }

    fn died(&mut self, id: &str, message: &wire::Message, at: Nanos) {
        let tracked = self.tracked.entry(id.to_owned()).or_default();
        tracked.ended = tracked.ended.max(Some(at));
        tracked.cleanup = if self.network_after_process { Cleanup::OfAFailedStart } else { Cleanup::OfARun };
        let code = message.attribute("exitCode").or(message.attribute("containerExitCode"));
        let code = code.and_then(|c| c.parse().ok());
        self.end(id, at);
        if self.is_starting(id) {
            self.failed_to_start(id, at);
        } else {
            self.publish(id, EventKind::Exited { code }, at);
        }
    }

    /// Removes the container unless it has been started again since.
    fn end(&mut self, id: &str, at: Nanos) {
        let key = self.key(id);
        let directory = &self.link.ctx().directory;
        if directory.get(&key).is_some_and(|c| c.started.is_none_or(|started| started <= at)) {
            directory.remove(&key);
        }
    }

    fn destroyed(&mut self, id: &str, at: Nanos) {
        self.link.ctx().directory.remove(&self.key(id));
        if self.is_starting(id) {
            self.failed_to_start(id, at);
        }
        self.publish(id, EventKind::Removed, at);
        self.tracked.entry(id.to_owned()).or_default().destroyed = true;
        self.failed.remove(id);
        self.forget_if_done(id);
    }

    fn forget_if_done(&mut self, id: &str) {
        if self.tracked.get(id).is_some_and(Tracked::done) {
            self.tracked.remove(id);
        }
    }

    fn health(&mut self, id: &str, healthy: bool, at: Nanos) {
        let directory = &self.link.ctx().directory;
        if let Some(old) = directory.get(&self.key(id)) {
            let mut new = (*old).clone();
            new.healthy = Some(healthy);
            directory.insert(new);
        }
        self.publish(id, EventKind::Health { healthy }, at);
    }

    fn image_pulled(&mut self, message: &wire::Message, at: Nanos) {
        let reference = message.attribute("name").unwrap_or(message.id()).to_owned();
        let image = if message.id().is_empty() { reference.clone() } else { message.id().to_owned() };
        // Podman says that it looks for an image, not that it got it: the id is empty then.
        let kind = if message.id().is_empty() { EventKind::ImagePullStarted } else { EventKind::ImagePulled };
        let event = self.event(Key { runtime: self.link.runtime, id: image }, at, kind);
        self.link.ctx().directory.publish(Event { image: reference, ..event });
    }

    /// Publishes in order with what of this container is still on its way.
    fn publish(&mut self, id: &str, kind: EventKind, at: Nanos) {
        self.step(id, Step::Publish(kind, at));
    }

    fn step(&mut self, id: &str, step: Step) {
        let waiting = step.waits_for_inspect().then(|| self.link.ctx().directory.pending());
        let tracked = self.tracked.entry(id.to_owned()).or_default();
        if tracked.busy {
            tracked.steps.push_back((step, waiting));
        } else {
            self.perform(id, step);
        }
    }

    fn perform(&mut self, id: &str, step: Step) {
        let purpose = match step {
            Step::Publish(kind, at) => return self.publish_now(id, kind, at),
            Step::Create(at) => Purpose::Create(at),
            Step::Start(at) => Purpose::Start(at),
            Step::StartFailed(at) => Purpose::StartFailed(at),
            Step::Settle(created) => Purpose::Settle(created),
        };
        self.tracked.entry(id.to_owned()).or_default().busy = true;
        self.inspect(id.to_owned(), purpose);
    }

    fn event(&self, key: Key, at: Nanos, kind: EventKind) -> Event {
        Event {
            key,
            at,
            received: self.link.ctx().root.clock.boot(),
            image: String::new(),
            name: String::new(),
            kind,
            replayed: at < self.connected_at,
        }
    }

    fn publish_now(&mut self, id: &str, kind: EventKind, at: Nanos) {
        let (name, image) = match self.tracked.get(id) {
            Some(tracked) if tracked.hidden => return,
            Some(tracked) => (tracked.name.clone(), tracked.image.clone()),
            None => Default::default(),
        };
        let event = self.event(self.key(id), at, kind);
        self.link.ctx().directory.publish(Event { name, image, ..event });
    }

    fn inspected(&mut self, id: String, purpose: Purpose, answer: Result<Option<Box<Inspection>>, Trouble>) {
        let inspection = answer.unwrap_or_else(|error| {
            tracing::warn!(runtime = self.link.runtime.name(), container = %id, %error, "inspect failed");
            self.failed.insert(id.clone());
            None
        });
        let tracked = self.tracked.entry(id.clone()).or_default();
        tracked.inspects = tracked.inspects.saturating_sub(1);
        if let Some(inspection) = &inspection {
            let c = &inspection.container;
            tracked.name.clone_from(&c.identity.name);
            tracked.image.clone_from(&c.identity.image);
            tracked.inspected = true;
            tracked.hidden = !self.link.shared.shows(&c.identity.name, &c.identity.image, &c.user_labels);
        }
        match purpose {
            Purpose::Refresh => self.missed_start(&id, inspection.as_deref()),
            Purpose::Create(at) => self.created(&id, inspection.as_deref(), at),
            Purpose::Start(at) => self.started(&id, inspection.as_deref(), at),
            Purpose::StartFailed(at) => self.start_failed(&id, inspection.as_deref(), at),
            // One that is gone again may have run: its events are still to come.
            Purpose::Settle(created) if inspection.is_some() && self.is_unsettled(&id) => {
                self.start_failed(&id, inspection.as_deref(), created);
            }
            Purpose::Settle(_) => {}
        }
        if let Some(inspection) = inspection {
            self.show(&id, *inspection);
        }
        if purpose != Purpose::Refresh {
            self.resume(&id);
        }
        self.forget_if_done(&id);
    }

    /// Shows a container that runs, unless a later event has already told its end.
    fn show(&mut self, id: &str, inspection: Inspection) {
        let Some(tracked) = self.tracked.get(id) else { return };
        let started = inspection.container.started;
        let ended = tracked.ended.is_some_and(|ended| started.is_none_or(|started| started <= ended));
        let directory = &self.link.ctx().directory;
        if inspection.running && !ended && !tracked.destroyed && !tracked.hidden {
            directory.insert(inspection.container);
        } else {
            directory.remove(&self.key(id));
        }
    }

    /// Inspect tells when its creation was asked for. A container that is created and started at once (`run`) is gone by
    /// the time of its start's inspect if it ends at once: it is asked for now.
    fn created(&mut self, id: &str, inspection: Option<&Inspection>, at: Nanos) {
        let requested = inspection.and_then(|i| i.container.created);
        if let Some(requested) = requested.filter(|r| (0..REQUEST_TO_EVENT).contains(&(at - r))) {
            self.publish_now(id, EventKind::CreateRequested, requested);
        }
        self.publish_now(id, EventKind::Created, at);
    }

    /// When a start was asked for, by what the daemon did first: before the network, after the last end.
    fn requested(&mut self, id: &str, inspection: Option<&Inspection>, started: Nanos) {
        let Some(tracked) = self.tracked.get(id) else { return };
        let begun = tracked.begun.filter(|b| *b <= started).unwrap_or(started);
        let of_this =
            |at: &Nanos| (0..REQUEST_TO_EVENT).contains(&(begun - at)) && tracked.ended.is_none_or(|end| end <= *at);
        if let Some(at) = inspection.and_then(|i| i.begun.into_iter().flatten().find(of_this)) {
            self.publish_now(id, EventKind::StartRequested, at);
        }
    }

    fn started(&mut self, id: &str, inspection: Option<&Inspection>, at: Nanos) {
        let container = inspection.map(|i| &i.container);
        // A later start is not this one: it has an event of its own.
        let started = container.and_then(|c| c.started).filter(|started| *started <= at);
        let pid = container.filter(|_| started.is_some()).map_or(0, |c| c.pid);
        let tracked = self.tracked.entry(id.to_owned()).or_default();
        if started.is_some() && tracked.told_start == started {
            return;
        }
        tracked.told_start = started.or(tracked.told_start);
        if let Some(started) = started {
            self.requested(id, inspection, started);
        }
        self.publish_now(id, EventKind::Started { pid, started }, at);
    }

    /// After a lost connection: a start that the daemon's history no longer had.
    fn missed_start(&mut self, id: &str, inspection: Option<&Inspection>) {
        let Some(inspection) = inspection.filter(|i| i.running) else { return };
        let (Some(since), Some(started)) = (self.missed_since, inspection.container.started) else { return };
        let Some(tracked) = self.tracked.get_mut(id) else { return };
        if started <= since || started >= self.connected_at || tracked.told_start.is_some() || tracked.busy {
            return;
        }
        tracked.told_start = Some(started);
        let pid = inspection.container.pid;
        self.publish_now(id, EventKind::Started { pid, started: Some(started) }, started);
    }

    fn start_failed(&mut self, id: &str, inspection: Option<&Inspection>, at: Nanos) {
        match inspection {
            // It came up after all.
            Some(i) if i.running => {}
            // Podman 4.5 tells why in its inspect, before that only the OCI runtime does.
            Some(i) if self.link.runtime == RuntimeKind::Podman => {
                let said = Some(i.error.clone()).filter(|said| !said.is_empty());
                let message = said.unwrap_or_else(|| self.api.oci_error(i, at));
                self.publish_now(id, EventKind::StartFailed { message }, at);
            }
            // It was only taken off a network.
            Some(i) if i.error.is_empty() && i.exit_code == 0 => {}
            Some(i) => self.publish_now(id, EventKind::StartFailed { message: i.error.clone() }, at),
            // Removed at once (--rm). Its network, which goes up just before the OCI runtime is called or after, is down.
            None if self.link.runtime == RuntimeKind::Podman => {
                self.publish_now(id, EventKind::StartFailed { message: String::new() }, at);
            }
            // It ran before the exporter did.
            None if self.tracked.get(id).is_some_and(|t| t.cleanup == Cleanup::Unknown)
                && self.network_after_process => {}
            None => {
                let message = "removed at once; the OCI runtime did not start it".to_owned();
                self.publish_now(id, EventKind::StartFailed { message }, at);
            }
        }
    }

    /// Goes on with what waited for an inspect.
    fn resume(&mut self, id: &str) {
        let Some(tracked) = self.tracked.get_mut(id) else { return };
        tracked.busy = false;
        while let Some(tracked) = self.tracked.get_mut(id).filter(|t| !t.busy) {
            let Some((step, _waiting)) = tracked.steps.pop_front() else { break };
            self.perform(id, step);
        }
    }
}

impl Flavor {
    pub(super) fn places(self, root: &crate::root::Root) -> Vec<std::path::PathBuf> {
        places::of(self, root)
    }
}
