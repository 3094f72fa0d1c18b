//! containerd, asked itself: Kubernetes nodes, nerdctl, ctr, and below Docker.
//!
//! On connect the event stream is opened first, then all namespaces are listed, so that nothing falls between; containerd
//! keeps no history. Docker's containers (namespace `moby`) are left to Docker where it answers: it knows more. Of
//! those, only what Docker does not tell is published, under Docker's key: the moment at which the task was created.

pub mod api;
pub mod identify;
pub mod wire;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prost::Message;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::cgroup_paths::Hierarchies;
use super::http::Trouble;
use super::sources::Link;
use super::{Container, Event, EventKind, ImageFacts, Key, RuntimeKind, stamps};
use crate::catalog;
use crate::probe::Answer;
use crate::root::{Nanos, Root, SECOND};
use api::{Api, trouble};

/// Docker's namespace.
const MOBY: &str = "moby";
/// Images change only by their name, and rarely; this many are remembered.
const MAX_IMAGES: usize = 1000;
/// A containerd that gave no answer about an image is not asked about any for so long: what it hides there must not hide
/// containers, which are shown one after the other. For the same reason it is asked over a connection of their own.
const IMAGES_REST: Nanos = 60 * SECOND;

/// A task or snapshot is made within this after it was asked for; what lies further apart is no evidence.
const REQUEST_TO_EVENT: Nanos = 60 * SECOND;

/// Where its socket usually is.
pub(super) fn places(root: &Root) -> Vec<PathBuf> {
    let usual = [
        "/run/containerd/containerd.sock",
        "/run/k3s/containerd/containerd.sock",
        "/var/snap/microk8s/common/run/containerd.sock",
        "/run/docker/containerd/containerd.sock",
        "/var/run/docker/containerd/containerd.sock",
    ];
    let named = root.env("CONTAINERD_ADDRESS").map(PathBuf::from);
    named.into_iter().chain(usual.iter().map(|p| Path::new(p).to_path_buf())).collect()
}

/// One connection's life: returns why it ended.
pub(super) async fn session(link: &Arc<Link>) -> Trouble {
    match run(link).await {
        Ok(()) => Trouble::NotAnswering,
        Err(trouble) => trouble,
    }
}

async fn run(link: &Arc<Link>) -> Result<(), Trouble> {
    let ctx = link.ctx();
    let api = Api::connect(&ctx.root, &link.socket, link.timeout).await?;
    let (_forwarding, mut events) = subscribe(api.clone());
    // Answered after the subscription, which came before it on the same connection.
    api.version().await?;
    let mut session = Session {
        link: link.clone(),
        hierarchies: Hierarchies::find(&ctx.root),
        api,
        images: HashMap::new(),
        images_api: None,
        known: HashMap::new(),
    };
    session.list().await?;
    link.connected();
    link.heard();
    while let Some(envelope) = events.recv().await {
        session.event(envelope?).await?;
    }
    Ok(())
}

type Events = mpsc::UnboundedReceiver<Result<wire::Envelope, Trouble>>;

/// Events of all namespaces from now on, until the set is dropped. containerd sends not even the head of its answer
/// before the first event, so that the answer can't be waited for.
fn subscribe(api: Api) -> (JoinSet<()>, Events) {
    let (tell, events) = mpsc::unbounded_channel();
    let mut forwarding = JoinSet::new();
    forwarding.spawn(async move {
        let ended = async {
            let mut stream = api.events().await?;
            while let Some(envelope) = stream.message().await.map_err(|s| trouble(&s))? {
                // Nobody listens any more: this task ends, too.
                let _ = tell.send(Ok(envelope));
            }
            Err::<(), Trouble>(Trouble::NotAnswering)
        };
        if let Err(trouble) = ended.await {
            let _ = tell.send(Err(trouble));
        }
    });
    (forwarding, events)
}

struct Session {
    link: Arc<Link>,
    api: Api,
    hierarchies: Hierarchies,
    images: HashMap<(String, String), ImageFacts>,
    images_api: Option<Api>,
    /// By id: what events need of containers that the directory does not have (yet, any more).
    known: HashMap<String, Known>,
}

#[derive(Default, Clone)]
struct Known {
    name: String,
    image: String,
    hidden: bool,
    /// A task was created and has not been started.
    starting: bool,
    /// When its snapshot was there; None of those before the exporter.
    prepared: Option<Nanos>,
}

impl Session {
    /// Takes over containerd's own list: what it does not know is gone.
    async fn list(&mut self) -> Result<(), Trouble> {
        let _scrapes_wait = self.link.ctx().directory.pending();
        let mut running = HashSet::new();
        for namespace in self.api.namespaces().await? {
            if self.left_to_docker(&namespace) {
                continue;
            }
            let tasks = self.api.tasks(&namespace).await?;
            let pids: HashMap<String, u32> = tasks
                .into_iter()
                .filter(wire::Process::runs)
                .map(|t| (if t.container_id.is_empty() { t.id } else { t.container_id }, t.pid))
                .collect();
            let mut containers = self.api.containers(&namespace).await?;
            // What a pod's containers share is looked up at its sandbox.
            containers.sort_by_key(|c| c.labels.get("io.cri-containerd.kind").is_none_or(|kind| kind != "sandbox"));
            for told in containers {
                let pid = pids.get(&told.id).copied();
                self.remember(&told);
                if let Some(pid) = pid {
                    running.insert(told.id.clone());
                    self.show(&namespace, &told, pid, None).await;
                }
            }
        }
        self.link.ctx().directory.remove_where(|c| {
            c.runtime == RuntimeKind::Containerd
                && c.source == self.link.source
                && !running.contains(c.native_id.as_str())
        });
        Ok(())
    }

    fn left_to_docker(&self, namespace: &str) -> bool {
        let ctx = self.link.ctx();
        let docker = RuntimeKind::Docker.name();
        namespace == MOBY
            && ctx.config.runtime.docker.enabled
            && !matches!(ctx.capabilities.get(docker), Some(Answer::No(_)))
    }

    fn remember(&mut self, told: &wire::Container) {
        let nerdctl = told.labels.get("nerdctl/name");
        let known = self.known.entry(told.id.clone()).or_default();
        known.name = nerdctl.unwrap_or(&told.id).clone();
        known.image.clone_from(&told.image);
        let labels = told.labels.clone().into_iter().collect();
        known.hidden = !self.link.shared.shows(&known.name, &known.image, &labels);
    }

    async fn show(&mut self, namespace: &str, told: &wire::Container, pid: u32, started: Option<Nanos>) {
        let root = &self.link.ctx().root;
        let Some(mut container) = identify::container(root, &self.hierarchies, told, pid, started) else { return };
        let sandbox = container.shares_network_of.as_deref().and_then(|id| self.directory_has(id));
        if sandbox.is_some_and(|sandbox| sandbox.host_network) {
            container.host_network = true;
            container.shares_network_of = None;
        }
        container.source = self.link.source.clone();
        container.image = self.image(namespace, &told.image).await;
        let known = self.known.entry(told.id.clone()).or_default();
        known.name.clone_from(&container.identity.name);
        known.image.clone_from(&container.identity.image);
        known.hidden = !self.link.shared.shows(&known.name, &known.image, &container.user_labels);
        if !known.hidden {
            self.link.ctx().directory.insert(container);
        }
    }

    /// Nothing of it where containerd can't tell: the container is shown all the same.
    async fn image(&mut self, namespace: &str, name: &str) -> ImageFacts {
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(facts) = self.images.get(&key) {
            return facts.clone();
        }
        let now = self.link.ctx().root.clock.boot();
        if now < self.link.spared.load(Ordering::Relaxed) {
            return ImageFacts::default();
        }
        let facts = match self.ask_for_image(namespace, name).await {
            Ok(Some(facts)) => facts,
            Ok(None) => return ImageFacts::default(),
            Err(error) => {
                tracing::warn!(image = name, %error, "containerd tells nothing of its images");
                self.link.spared.store(now + IMAGES_REST, Ordering::Relaxed);
                self.images_api = None;
                return ImageFacts::default();
            }
        };
        if self.images.len() >= MAX_IMAGES {
            self.images.clear();
        }
        self.images.insert(key, facts.clone());
        facts
    }

    async fn ask_for_image(&mut self, namespace: &str, name: &str) -> Result<Option<ImageFacts>, Trouble> {
        let api = match self.images_api.take() {
            Some(api) => api,
            None => Api::connect(&self.link.ctx().root, &self.link.socket, self.link.timeout).await?,
        };
        let answer = identify::image(&api, namespace, name).await;
        self.images_api = Some(api);
        answer
    }

    async fn event(&mut self, envelope: wire::Envelope) -> Result<(), Trouble> {
        let body = envelope.event.map(|any| any.value).unwrap_or_default();
        let at = envelope.timestamp.as_ref().and_then(wire::Timestamp::nanos);
        let at = at.unwrap_or_else(|| self.link.ctx().root.clock.wall());
        self.link.ctx().held.inc(catalog::RUNTIME_EVENTS, &[RuntimeKind::Containerd.name()]);
        let handled = if self.left_to_docker(&envelope.namespace) {
            self.below_docker(&envelope.topic, &body, at)
        } else {
            self.own(&envelope.namespace, &envelope.topic, &body, at).await
        };
        match handled {
            Err(Unhandled::Body(error)) => {
                tracing::warn!(topic = envelope.topic, %error, "skipped an event that can't be read");
                Ok(())
            }
            Err(Unhandled::Daemon(trouble)) => Err(trouble),
            Ok(()) => Ok(()),
        }
    }

    fn below_docker(&self, topic: &str, body: &[u8], at: Nanos) -> Result<(), Unhandled> {
        if topic == "/tasks/create" {
            let event = wire::TaskCreate::decode(body)?;
            let key = Key { runtime: RuntimeKind::Docker, id: event.container_id };
            let (name, image) = match self.link.ctx().directory.get(&key) {
                Some(c) => (c.identity.name.clone(), c.identity.image.clone()),
                None => Default::default(),
            };
            self.publish_as(key, name, image, at, EventKind::TaskCreated { pid: event.pid });
        }
        Ok(())
    }

    async fn own(&mut self, namespace: &str, topic: &str, body: &[u8], at: Nanos) -> Result<(), Unhandled> {
        match topic {
            "/images/create" => {
                let name = wire::About::decode(body)?.id;
                let key = Key { runtime: RuntimeKind::Containerd, id: name.clone() };
                self.publish_as(key, String::new(), name, at, EventKind::ImagePulled);
            }
            "/snapshot/prepare" => {
                // A container's snapshot is named after it; `extract-…` are layers being unpacked.
                let id = wire::About::decode(body)?.id;
                if !id.starts_with("extract-") {
                    self.known.entry(id.clone()).or_default().prepared = Some(at);
                    self.publish(&id, at, EventKind::SnapshotPrepared);
                }
            }
            "/snapshot/remove" | "/snapshot/commit" => {
                // Of what never was a container (a build's, a layer's) nothing else tells the end.
                let id = wire::About::decode(body)?.id;
                if self.known.get(&id).is_some_and(|k| k.name.is_empty()) {
                    self.known.remove(&id);
                }
            }
            "/containers/create" => {
                let event = wire::ContainerCreate::decode(body)?;
                self.refresh(namespace, &event.id).await?;
                self.publish(&event.id, at, EventKind::Created);
            }
            "/containers/update" => {
                let event = wire::About::decode(body)?;
                self.refresh(namespace, &event.id).await?;
            }
            "/containers/delete" => {
                let id = wire::About::decode(body)?.id;
                self.remove(&id);
                self.publish(&id, at, EventKind::Removed);
                self.known.remove(&id);
            }
            "/tasks/oom" => {
                let id = wire::About::decode(body)?.id;
                self.publish(&id, at, EventKind::Oom);
            }
            _ => self.task(namespace, topic, body, at).await?,
        }
        Ok(())
    }

    async fn task(&mut self, namespace: &str, topic: &str, body: &[u8], at: Nanos) -> Result<(), Unhandled> {
        match topic {
            "/tasks/create" => {
                let event = wire::TaskCreate::decode(body)?;
                self.known.entry(event.container_id.clone()).or_default().starting = true;
                self.requests(&event, at);
                self.publish(&event.container_id, at, EventKind::TaskCreated { pid: event.pid });
            }
            "/tasks/start" => {
                let event = wire::TaskStart::decode(body)?;
                let _scrapes_wait = self.link.ctx().directory.pending();
                self.known.entry(event.container_id.clone()).or_default().starting = false;
                if let Some(told) = self.api.container(namespace, &event.container_id).await? {
                    self.show(namespace, &told, event.pid, Some(at)).await;
                }
                self.publish(&event.container_id, at, EventKind::Started { pid: event.pid, started: None });
            }
            "/tasks/exit" => {
                let event = wire::TaskExit::decode(body)?;
                if event.id.is_empty() || event.id == event.container_id {
                    self.remove(&event.container_id);
                    // Of a task that was not started this is how its start failed.
                    self.known.entry(event.container_id.clone()).or_default().starting = false;
                    let code = i32::try_from(event.exit_status).ok();
                    self.publish(&event.container_id, at, EventKind::Exited { code });
                }
            }
            "/tasks/delete" => {
                let event = wire::TaskDelete::decode(body)?;
                if event.id.is_empty() || event.id == event.container_id {
                    self.remove(&event.container_id);
                    self.failed_to_start(&event.container_id, at);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// When a container's snapshot and task were asked for: containerd tells when it had made them.
    fn requests(&mut self, event: &wire::TaskCreate, at: Nanos) {
        let root = &self.link.ctx().root;
        // Written as the request comes in, before the shim is called that makes the task.
        let written = stamps::changed(root, &Path::new(&event.bundle).join("config.json"));
        let prepared = self.known.get(&event.container_id).and_then(|k| k.prepared);
        // Made at the begin of the preparation, whose event comes when it has been written to disk.
        let made = prepared.and_then(|_| stamps::root_made(root, event.pid));
        let told = [(made, prepared, EventKind::CreateRequested), (written, Some(at), EventKind::StartRequested)];
        for (asked, done, kind) in told {
            let (Some(asked), Some(done)) = (asked, done) else { continue };
            if (0..REQUEST_TO_EVENT).contains(&(done - asked)) {
                self.publish(&event.container_id, asked, kind);
            }
        }
    }

    /// A task that is removed without having been started, nor having ended.
    fn failed_to_start(&mut self, id: &str, at: Nanos) {
        if self.known.get_mut(id).is_some_and(|k| std::mem::take(&mut k.starting)) {
            self.publish(id, at, EventKind::StartFailed { message: String::new() });
        }
    }

    /// Looks at a container again whose labels or image may have changed.
    async fn refresh(&mut self, namespace: &str, id: &str) -> Result<(), Trouble> {
        let Some(told) = self.api.container(namespace, id).await? else { return Ok(()) };
        self.remember(&told);
        if let Some(old) = self.directory_has(id) {
            self.show(namespace, &told, old.pid, old.started).await;
        }
        Ok(())
    }

    fn key(id: &str) -> Key {
        Key { runtime: RuntimeKind::Containerd, id: id.to_owned() }
    }

    fn directory_has(&self, id: &str) -> Option<Arc<Container>> {
        self.link.ctx().directory.get(&Self::key(id))
    }

    fn remove(&self, id: &str) {
        self.link.ctx().directory.remove(&Self::key(id));
    }

    fn publish(&self, id: &str, at: Nanos, kind: EventKind) {
        let known = self.known.get(id).cloned().unwrap_or_default();
        if !known.hidden {
            self.publish_as(Self::key(id), known.name, known.image, at, kind);
        }
    }

    fn publish_as(&self, key: Key, name: String, image: String, at: Nanos, kind: EventKind) {
        let ctx = self.link.ctx();
        let received = ctx.root.clock.boot();
        ctx.directory.publish(Event { key, at, received, image, name, kind, replayed: false });
    }
}

/// Why an event came to nothing: it was unreadable, which concerns it alone, or the daemon no longer answers.
enum Unhandled {
    Body(prost::DecodeError),
    Daemon(Trouble),
}

impl From<prost::DecodeError> for Unhandled {
    fn from(e: prost::DecodeError) -> Self {
        Self::Body(e)
    }
}

impl From<Trouble> for Unhandled {
    fn from(e: Trouble) -> Self {
        Self::Daemon(e)
    }
}
