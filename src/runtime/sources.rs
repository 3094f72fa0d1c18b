//! Starts and stops the runtimes' tasks; keeps each daemon's task connected.

// Daemons with sockets are asked on Linux alone.
#![cfg_attr(not(target_os = "linux"), allow(dead_code, unused_imports))]

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;

use super::http::Trouble;
#[cfg(target_os = "linux")]
use super::{CgroupPaths, Container};
use super::{Directory, RuntimeKind};
use crate::config::{Config, RuntimeSource};
use crate::held::Held;
use crate::probe::{Answer, Capabilities};
use crate::root::{ReadError, Root};

/// What the runtimes' tasks work with.
#[derive(Debug, Clone)]
pub struct Context {
    pub root: Root,
    pub config: Arc<Config>,
    pub directory: Arc<Directory>,
    pub capabilities: Arc<Capabilities>,
    pub held: Arc<Held>,
}

/// The running tasks, one or more a runtime.
#[derive(Debug)]
pub struct Sources {
    directory: Arc<Directory>,
    tasks: JoinSet<()>,
}

impl Sources {
    /// Starts a task for each runtime that is enabled. Must be called within a tokio runtime; returns at once. What is
    /// running is found out in the background: [`Directory::settled`] waits for it.
    pub fn start(ctx: &Context) -> Self {
        let mut tasks = JoinSet::new();
        let directory = ctx.directory.clone();
        let shared = Arc::new(Shared { ctx: ctx.clone() });
        #[cfg(target_os = "linux")]
        linux(&shared, &mut tasks);
        apple(&shared, &mut tasks);
        Self { directory, tasks }
    }

    /// Ends all tasks, forgets the containers and starts anew, with another configuration. Event histories are kept, so
    /// that what happens in between is not lost; scrapes wait meanwhile.
    pub async fn restart(mut self, ctx: &Context) -> Self {
        let _scrapes_wait = self.directory.pending();
        self.tasks.shutdown().await;
        self.directory.remove_where(|_| true);
        Self::start(ctx)
    }
}

/// What all tasks of one start share.
#[derive(Debug)]
pub(super) struct Shared {
    pub ctx: Context,
}

impl Shared {
    /// Whether the configuration lets a container be seen.
    pub fn shows(&self, name: &str, image: &str, labels: &BTreeMap<String, String>) -> bool {
        super::select::shows(&self.ctx.config.containers, name, image, labels)
    }
}

/// On any platform where the command is named; on a Mac it is looked for.
fn apple(shared: &Arc<Shared>, tasks: &mut JoinSet<()>) {
    let apple = &shared.ctx.config.runtime.apple;
    if !apple.enabled {
        shared.ctx.capabilities.no(RuntimeKind::Apple.name(), DISABLED);
    } else if apple.command.is_some() || cfg!(target_os = "macos") {
        tasks.spawn(super::apple::watch::run(shared.clone(), shared.ctx.directory.pending()));
    } else {
        shared.ctx.capabilities.no(RuntimeKind::Apple.name(), "not a Mac, and no command is named");
    }
}

#[cfg(target_os = "linux")]
fn linux(shared: &Arc<Shared>, tasks: &mut JoinSet<()>) {
    use super::engine_api::{self, Flavor};
    use super::{cgroups, containerd};
    if let Some(machine) = cgroups::whole_machine(&shared.ctx.root) {
        shared.ctx.directory.insert(machine);
    }
    let runtimes = &shared.ctx.config.runtime;
    for (flavor, source) in [(Flavor::Docker, &runtimes.docker), (Flavor::Podman, &runtimes.podman)] {
        let kind = flavor.runtime();
        if !source.enabled {
            shared.ctx.capabilities.no(kind.name(), DISABLED);
            continue;
        }
        let first = shared.ctx.directory.pending();
        let places = move |root: &Root| flavor.places(root);
        let session = move |link: Arc<Link>| async move { engine_api::session(&link, flavor).await };
        tasks.spawn(supervise(shared.clone(), kind, source.clone(), first, places, session));
    }
    let kind = RuntimeKind::Containerd;
    if runtimes.containerd.enabled {
        let first = shared.ctx.directory.pending();
        let session = |link: Arc<Link>| async move { containerd::session(&link).await };
        tasks.spawn(supervise(shared.clone(), kind, runtimes.containerd.clone(), first, containerd::places, session));
    } else {
        shared.ctx.capabilities.no(kind.name(), DISABLED);
    }
    if runtimes.cgroup.enabled {
        tasks.spawn(cgroups::run(shared.clone(), shared.ctx.directory.pending()));
    } else {
        shared.ctx.capabilities.no(RuntimeKind::Cgroup.name(), DISABLED);
    }
}

const DISABLED: &str = "switched off in the configuration";

/// How often the usual places are looked at for a socket that has appeared.
const RESCAN: Duration = Duration::from_secs(5);

/// One daemon, by its socket, and what its task tells of it.
#[derive(Debug)]
pub(super) struct Link {
    pub shared: Arc<Shared>,
    pub runtime: RuntimeKind,
    pub socket: PathBuf,
    /// The socket as [`super::Container::source`] has it.
    pub source: Arc<str>,
    pub timeout: Duration,
    connected: AtomicBool,
    /// Boot clock: what is not needed is not asked for until then, in this session or the next. Such a question may have ended
    /// the last one.
    pub spared: AtomicI64,
    answers: Arc<Mutex<BTreeMap<PathBuf, Answer>>>,
    /// Held until the daemon has been heard of for the first time.
    first: Mutex<Option<super::Pending>>,
}

impl Link {
    pub fn ctx(&self) -> &Context {
        &self.shared.ctx
    }

    /// The daemon answers, and its containers are being asked for.
    pub fn connected(&self) {
        self.connected.store(true, Ordering::Relaxed);
        self.tell(Answer::Yes);
    }

    /// Lets scrapes pass that waited for the first answer.
    pub fn heard(&self) {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// The capability is there when one daemon of the runtime answers, and else tells the first reason.
    fn tell(&self, answer: Answer) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.insert(self.socket.clone(), answer);
        let best = answers.values().find(|a| **a == Answer::Yes).or_else(|| answers.values().next());
        if let Some(best) = best {
            self.ctx().capabilities.set(self.runtime.name(), best.clone());
        }
    }

    /// Keeps a session with the daemon for ever.
    async fn keep<F: Future<Output = Trouble>>(self: Arc<Self>, session: impl Fn(Arc<Link>) -> F) {
        let mut pause = FIRST_PAUSE;
        loop {
            let trouble = session(self.clone()).await;
            self.heard();
            if self.connected.swap(false, Ordering::Relaxed) {
                pause = FIRST_PAUSE;
                tracing::warn!(runtime = self.runtime.name(), socket = %self.socket.display(), error = %trouble, "lost the connection");
            } else {
                tracing::debug!(runtime = self.runtime.name(), socket = %self.socket.display(), error = %trouble, "not connected");
            }
            self.tell(Answer::No(trouble.reason().to_owned()));
            self.drop_the_dead();
            tokio::time::sleep(jittered(pause)).await;
            let longest = if trouble == Trouble::NoSocket { RESCAN } else { LONGEST_PAUSE };
            pause = (pause * 2).min(longest);
        }
    }

    /// Without a daemon no event tells of an end: the kernel does.
    fn drop_the_dead(&self) {
        #[cfg(target_os = "linux")]
        {
            use super::cgroup_paths::{Hierarchies, below};
            let root = &self.ctx().root;
            let hierarchies = Hierarchies::find(root);
            let Some(mount) = hierarchies.leading() else { return };
            // One that has no cgroup of its own has its process.
            let lives = |c: &Container| match c.cgroup == CgroupPaths::default() {
                true => c.pid != 0 && root.exists(&root.procfs.join(c.pid.to_string())),
                false => root.exists(&below(mount, &c.identity.id)),
            };
            self.ctx().directory.remove_where(|c| c.runtime == self.runtime && c.source == self.source && !lives(c));
        }
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// ± 20 %, so that many exporters do not return to a daemon at once.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() % 401;
    pause * (800 + random as u32) / 1000
}

/// Looks for the runtime's sockets and keeps a session at each that exists.
#[cfg(target_os = "linux")]
async fn supervise<F>(
    shared: Arc<Shared>,
    runtime: RuntimeKind,
    source: RuntimeSource,
    first: super::Pending,
    places: impl Fn(&Root) -> Vec<PathBuf>,
    session: impl Fn(Arc<Link>) -> F + Clone + Send + Sync + 'static,
) where
    F: Future<Output = Trouble> + Send + 'static,
{
    use std::os::unix::fs::MetadataExt;
    let mut first = Some(first);
    let answers = Arc::new(Mutex::new(BTreeMap::new()));
    let mut known = HashSet::new();
    let mut sessions = JoinSet::new();
    loop {
        let mut none = Trouble::NoSocket;
        let root = &shared.ctx.root;
        let sockets = match &source.socket {
            Some(socket) => vec![socket.clone()],
            None => places(root),
        };
        for socket in sockets {
            // Two names of one socket (/var/run is a link to /run) are one daemon.
            let about = match root.metadata(&root.host_path(&socket)) {
                Ok(about) => about,
                // Of the usual places most are another user's, and tell nothing.
                Err(ReadError::Denied) if source.socket.is_some() => {
                    none = Trouble::Denied;
                    continue;
                }
                Err(_) => continue,
            };
            if known.contains(&(0, 0, Some(socket.clone()))) || !known.insert((about.dev(), about.ino(), None)) {
                continue;
            }
            known.insert((0, 0, Some(socket.clone())));
            let link = Arc::new(Link {
                shared: shared.clone(),
                runtime,
                source: socket.to_string_lossy().into(),
                socket,
                timeout: source.timeout,
                connected: AtomicBool::new(false),
                spared: AtomicI64::new(0),
                answers: answers.clone(),
                first: Mutex::new(first.take()),
            });
            sessions.spawn(link.keep(session.clone()));
        }
        first = None;
        if sessions.is_empty() {
            shared.ctx.capabilities.no(runtime.name(), none.reason());
        }
        tokio::time::sleep(RESCAN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_jittered_within_a_fifth() {
        for _ in 0..100 {
            let pause = jittered(Duration::from_secs(10));
            assert!((Duration::from_secs(8)..=Duration::from_secs(12)).contains(&pause), "{pause:?}");
        }
    }
}
