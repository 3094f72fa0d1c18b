//! Containers told by the cgroup tree alone: no runtime answers, or none is there.
//!
//! Every directory of one hierarchy is watched with inotify(7); a cgroup whose name is a container's ([`super::cgroup_names`]), or that
//! matches the configured pattern, is a container as soon as a process is in it. Its own files tell when to look: v2 writes
//! `cgroup.events` as the first process comes and the last goes; on v1 whoever puts a process in writes `cgroup.procs` or
//! `tasks`, and the end is told by the unified hierarchy where the cgroup is there too, else by the directory's removal.
//! A cgroup that a connected runtime may know is left to it for a moment, and for good once it shows it.

mod inotify;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::cgroup_names::{Recognised, recognise};
use super::cgroup_paths::{self, Hierarchies, below};
use super::sources::Shared;
use super::{Container, Event, EventKind, Identity, Key, Pending, RuntimeKind, process};
use crate::catalog;
use crate::config::Pattern;
use crate::probe::Answer;
use crate::root::{Nanos, ReadError, Root, SECOND};
use inotify::{Change, Watcher};

/// How long a cgroup is left to a runtime that may know it.
const GRACE: Nanos = 2 * SECOND;
/// What no event tells of a cgroup is looked for this often while it is new, …
const SOON: Nanos = SECOND / 100;
/// … and this often later.
const LATER: Nanos = SECOND;
/// What happened between two looks that come soon after each other is told in the middle.
const HALF_LOOK: Nanos = SOON / 2;
/// How long a cgroup counts as new: runtimes put the process in within milliseconds.
const NEW: Nanos = 3 * SECOND;
/// The whole tree is walked this often where it can't be watched.
const WALK: Duration = Duration::from_secs(2);

/// The whole machine: the root cgroup, as cAdvisor has it. None where there are no cgroups.
pub(super) fn whole_machine(root: &Root) -> Option<Container> {
    let hierarchies = Hierarchies::find(root);
    hierarchies.leading()?;
    let identity = Identity { id: "/".to_owned(), ..Identity::default() };
    Some(Container {
        native_id: "/".to_owned(),
        labels: Arc::new(identity.labels(RuntimeKind::Cgroup)),
        identity,
        cgroup: hierarchies.same_path(root, "/"),
        started: Some(root.clock.wall() - root.clock.boot()),
        ..Container::default()
    })
}

pub(super) async fn run(shared: Arc<Shared>, first: Pending) {
    let root = &shared.ctx.root;
    let hierarchies = Hierarchies::find(root);
    let Some(mount) = hierarchies.leading().map(std::path::Path::to_path_buf) else {
        shared.ctx.capabilities.no(RuntimeKind::Cgroup.name(), "no cgroup hierarchy is mounted");
        return;
    };
    let watcher = Watcher::new();
    if let Err(error) = &watcher {
        tracing::warn!(%error, "cgroups are walked every {WALK:?}: inotify is not to be had");
    }
    let include = shared.ctx.config.runtime.cgroup.include.clone();
    let mut tree = Tree {
        hierarchies,
        mount,
        include,
        shared: shared.clone(),
        watcher: watcher.ok(),
        candidates: HashMap::new(),
        live: false,
    };
    tree.walk("");
    tree.look();
    tree.live = true;
    shared.ctx.capabilities.yes(RuntimeKind::Cgroup.name());
    drop(first);
    tree.follow().await;
}

/// A cgroup that is a container's, if it ever has a process.
struct Candidate {
    about: Recognised,
    /// Wall clock; None for what was there before the exporter.
    born: Option<Nanos>,
    /// Boot clock.
    noticed: Nanos,
    /// The last look that found no process in it, and the first that found one since; wall clock.
    empty: Nanos,
    joined: Nanos,
    /// Its events are told, and no runtime has taken it over.
    told: bool,
    /// The kernel tells when a process comes: nobody need look before.
    watched: bool,
    /// Boot clock: when it is to be looked at without being told to.
    due: Option<Nanos>,
    stage: Stage,
}

impl Candidate {
    /// When to look at it again, if nothing is told before.
    fn next(&self, now: Nanos) -> Option<Nanos> {
        let soon = now + if now - self.noticed < NEW { SOON } else { LATER };
        match self.stage {
            Stage::Empty => (!self.watched).then_some(soon),
            Stage::Left { prepared: true, .. } => Some(soon),
            Stage::Left { .. } => Some((self.noticed + GRACE).max(now + SOON)),
            Stage::Shown => (!self.watched).then_some(now + LATER),
            Stage::Done => None,
        }
    }
}

enum Stage {
    /// No process yet.
    Empty,
    /// Has a process: the OCI runtime that is still to become the container's, or one that is left to a runtime that may
    /// know it. A scrape waits a moment for whichever shows it.
    Left { prepared: bool, _pending: Option<Pending> },
    /// In the directory.
    Shown,
    /// A runtime shows it, or the configuration leaves it out.
    Done,
}

struct Tree {
    shared: Arc<Shared>,
    hierarchies: Hierarchies,
    mount: std::path::PathBuf,
    include: Option<Pattern>,
    watcher: Option<Watcher>,
    candidates: HashMap<String, Candidate>,
    /// What is found from now on has happened now.
    live: bool,
}

impl Tree {
    async fn follow(&mut self) {
        let mut shown = self.shared.ctx.directory.generation();
        loop {
            let pause = self.pause();
            let waits = self.candidates.values().any(|c| matches!(c.stage, Stage::Left { .. }));
            let changes = match &mut self.watcher {
                Some(watcher) => tokio::select! {
                    changes = watcher.changes() => changes,
                    // A runtime shows something: perhaps what was left to it.
                    _ = shown.changed(), if waits => {
                        self.look_soon(|c| matches!(c.stage, Stage::Left { .. }));
                        Ok(Vec::new())
                    }
                    () = tokio::time::sleep(pause) => Ok(Vec::new()),
                },
                None => {
                    tokio::time::sleep(pause.min(WALK)).await;
                    Ok(vec![Change::Lost])
                }
            };
            match changes {
                Ok(changes) => changes.into_iter().for_each(|change| self.change(change)),
                Err(error) => {
                    tracing::warn!(%error, "cgroups are walked every {WALK:?} from now on");
                    self.watcher = None;
                }
            }
            self.look();
        }
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Made { parent, name } => self.walk(&format!("{parent}/{name}")),
            Change::Gone { parent, name } => self.gone(&format!("{parent}/{name}")),
            Change::Written { path } => {
                if let Some(candidate) = self.candidates.get_mut(&path) {
                    candidate.due = Some(0);
                }
            }
            Change::Lost => self.walk_again(),
        }
    }

    fn look_soon(&mut self, which: impl Fn(&Candidate) -> bool) {
        self.candidates.values_mut().filter(|c| which(c)).for_each(|c| c.due = Some(0));
    }

    /// Takes note of a cgroup and all below it. The watch comes before the list, so that nothing falls between.
    fn walk(&mut self, top: &str) {
        let mut queue = VecDeque::from([top.to_owned()]);
        while let Some(path) = queue.pop_front() {
            let directory = below(&self.mount, &path);
            if let Some(watcher) = &mut self.watcher
                && let Err(error) = watcher.watch_directory(&directory, &path)
                && error.raw_os_error() == Some(libc::ENOSPC)
            {
                tracing::warn!("cgroups are walked every {WALK:?}: raise fs.inotify.max_user_watches to watch them");
                self.watcher = None;
            }
            self.consider(&path);
            let Ok(children) = self.shared.ctx.root.list_dirs(&directory) else { continue };
            queue.extend(children.into_iter().map(|child| format!("{path}/{child}")));
        }
    }

    fn walk_again(&mut self) {
        let root = &self.shared.ctx.root;
        let gone: Vec<String> =
            self.candidates.keys().filter(|path| !root.exists(&below(&self.mount, path))).cloned().collect();
        gone.iter().for_each(|path| self.gone(path));
        self.walk("");
        self.look_soon(|_| true);
    }

    fn consider(&mut self, path: &str) {
        if path.is_empty() || self.candidates.contains_key(path) {
            return;
        }
        let included = || {
            let include = self.include.as_ref()?;
            let name = path.rsplit('/').next().unwrap_or(path).to_owned();
            include.matches(path).then(|| Recognised { name, ..Recognised::default() })
        };
        let Some(about) = recognise(path).or_else(included) else {
            self.consider_below(path);
            return;
        };
        let watched = self.watch_events(path, path);
        let clock = &self.shared.ctx.root.clock;
        let (now, noticed) = (clock.wall(), clock.boot());
        let candidate = Candidate {
            about,
            born: self.live.then_some(now),
            noticed,
            empty: now,
            joined: now,
            told: false,
            watched,
            due: Some(0),
            stage: Stage::Empty,
        };
        self.candidates.insert(path.to_owned(), candidate);
    }

    /// A process in a cgroup below a container's is the container's.
    fn consider_below(&mut self, path: &str) {
        let mut above = path;
        while let Some((parent, _)) = above.rsplit_once('/') {
            if self.candidates.contains_key(parent) {
                let watched = self.watch_events(path, parent);
                if let Some(candidate) = self.candidates.get_mut(parent) {
                    candidate.watched &= watched;
                    candidate.due = Some(0);
                }
                return;
            }
            above = parent;
        }
    }

    /// Watches for the first process and the end of the last, told as of `candidate`; false if either may go unnoticed.
    /// May be called again: a watch is there once.
    fn watch_events(&mut self, path: &str, candidate: &str) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let folder = below(&self.mount, path);
        let mut watch = |file: std::path::PathBuf| watcher.watch_file(&file, candidate).is_ok();
        if watch(folder.join("cgroup.events")) {
            return true;
        }
        // The other hierarchy tells the end, where the cgroup is in both.
        if let Some(unified) = &self.hierarchies.v2 {
            watch(below(unified, path).join("cgroup.events"));
        }
        watch(folder.join("cgroup.procs")) & watch(folder.join("tasks"))
    }

    fn gone(&mut self, path: &str) {
        let below = format!("{path}/");
        let gone: Vec<String> =
            self.candidates.keys().filter(|p| *p == path || p.starts_with(&below)).cloned().collect();
        for path in gone {
            let Some(mut candidate) = self.candidates.remove(&path) else { continue };
            if matches!(candidate.stage, Stage::Shown) {
                self.ended(&path, &mut candidate);
            }
            if candidate.told {
                self.publish(&path, &candidate.about, self.shared.ctx.root.clock.wall(), EventKind::Removed);
            }
        }
    }

    /// How long until a cgroup is to be looked at without being told to.
    fn pause(&self) -> Duration {
        let now = self.shared.ctx.root.clock.boot();
        let next = self.candidates.values().filter_map(|c| c.due).min();
        next.map_or(Duration::from_secs(3600), |at| Duration::from_nanos((at - now).max(0) as u64))
    }

    /// Brings the stage of every cgroup that is due up to date.
    fn look(&mut self) {
        let now = self.shared.ctx.root.clock.boot();
        let mut candidates = std::mem::take(&mut self.candidates);
        for (path, candidate) in candidates.iter_mut().filter(|(_, c)| c.due.is_some_and(|due| due <= now)) {
            // Its files may have come after it.
            candidate.watched = candidate.watched || self.watch_events(path, path);
            match candidate.stage {
                Stage::Empty if self.populated(path, candidate) => {
                    // Now that the file tells something it is there for sure: its end must be seen.
                    candidate.watched = self.watch_events(path, path);
                    candidate.joined = self.shared.ctx.root.clock.wall();
                    let pending = self.shared.ctx.directory.pending();
                    candidate.stage = Stage::Left { prepared: false, _pending: Some(pending) };
                }
                Stage::Empty => candidate.empty = self.shared.ctx.root.clock.wall(),
                Stage::Shown if !self.populated(path, candidate) => self.ended(path, candidate),
                _ => {}
            }
            if let Stage::Left { prepared, .. } = candidate.stage {
                self.decide(path, candidate, prepared);
            }
            candidate.due = candidate.next(self.shared.ctx.root.clock.boot());
        }
        self.candidates = candidates;
    }

    /// Whether a process is in the cgroup or below it. What was there at the start and does not tell was recorded of one
    /// that was.
    fn populated(&self, path: &str, candidate: &Candidate) -> bool {
        let root = &self.shared.ctx.root;
        let directory = below(&self.mount, path);
        if let Ok(events) = root.read_to_string(&directory.join("cgroup.events")) {
            return events.lines().any(|l| l.trim() == "populated 1");
        }
        match root.read_to_string(&directory.join("cgroup.procs")) {
            Err(ReadError::Absent) => candidate.born.is_none() && root.exists(&directory),
            Err(_) => false,
            Ok(procs) if !procs.trim().is_empty() => true,
            Ok(_) => {
                let children = root.list_dirs(&directory).unwrap_or_default();
                children.iter().any(|child| self.populated(&format!("{path}/{child}"), candidate))
            }
        }
    }

    /// Shows a container that no runtime shows or may come to show.
    fn decide(&self, path: &str, candidate: &mut Candidate, prepared: bool) {
        let ctx = &self.shared.ctx;
        if ctx.directory.shown_by(path).is_some_and(|by| by.runtime != RuntimeKind::Cgroup) {
            candidate.stage = Stage::Done;
            return;
        }
        let age = ctx.root.clock.boot() - candidate.noticed;
        if age < GRACE && candidate.about.hints.iter().any(|runtime| self.may_answer(*runtime)) {
            return;
        }
        if !self.populated(path, candidate) {
            candidate.stage = Stage::Empty;
            return;
        }
        let pid = self.hierarchies.first_process(&ctx.root, path).unwrap_or(0);
        let command = process::command(&ctx.root, pid);
        // While it becomes another by exec it has no command at all.
        if is_oci_runtime(&command) || (prepared && command.is_empty()) {
            candidate.stage = Stage::Left { prepared: true, _pending: None };
            return;
        }
        let started = process::start_time(&ctx.root, pid);
        let container = self.container(path, &candidate.about, pid, started, command);
        let identity = &container.identity;
        if !self.shared.shows(&identity.name, &identity.image, &container.user_labels)
            || !ctx.directory.insert(container)
        {
            candidate.stage = Stage::Done;
            return;
        }
        candidate.stage = Stage::Shown;
        if let Some(born) = candidate.born {
            if !std::mem::replace(&mut candidate.told, true) {
                self.publish(path, &candidate.about, born, EventKind::Created);
            }
            let at = match started {
                // The process became the container's since the last look.
                _ if prepared => ctx.root.clock.wall() - HALF_LOOK,
                _ if candidate.watched => candidate.joined,
                // It was put in between two looks, some time after it was made.
                Some(started) => {
                    let since = started.max(candidate.empty);
                    since + ((candidate.joined - since) / 2).clamp(0, HALF_LOOK)
                }
                None => candidate.joined - HALF_LOOK,
            };
            let at = at.max(born);
            self.publish(path, &candidate.about, at, EventKind::Started { pid, started });
        }
    }

    /// A runtime that is connected, or has not been tried yet.
    fn may_answer(&self, runtime: RuntimeKind) -> bool {
        let runtimes = &self.shared.ctx.config.runtime;
        let enabled = match runtime {
            RuntimeKind::Docker => runtimes.docker.enabled,
            RuntimeKind::Podman => runtimes.podman.enabled,
            RuntimeKind::Containerd => runtimes.containerd.enabled,
            RuntimeKind::Apple | RuntimeKind::Cgroup => false,
        };
        enabled && !matches!(self.shared.ctx.capabilities.get(runtime.name()), Some(Answer::No(_)))
    }

    fn container(
        &self,
        path: &str,
        about: &Recognised,
        pid: u32,
        started: Option<Nanos>,
        command: Vec<String>,
    ) -> Container {
        let root = &self.shared.ctx.root;
        let identity = Identity { id: path.to_owned(), name: about.name.clone(), ..Identity::default() };
        let told = (pid != 0).then(|| cgroup_paths::of_pid(root, &self.hierarchies, pid, &about.name)).flatten();
        let cgroup = told.filter(|paths| cgroup_paths::id(paths) == Some(path));
        Container {
            runtime: RuntimeKind::Cgroup,
            native_id: path.to_owned(),
            labels: Arc::new(identity.labels(RuntimeKind::Cgroup)),
            identity,
            cgroup: cgroup.unwrap_or_else(|| self.hierarchies.same_path(root, path)),
            pid,
            started,
            user_labels: about.labels(),
            command,
            ..Container::default()
        }
    }

    /// Its processes are gone. Nothing more is said of a container that a runtime has taken over meanwhile: it tells the
    /// end, too.
    fn ended(&self, path: &str, candidate: &mut Candidate) {
        let clock = &self.shared.ctx.root.clock;
        let key = Key { runtime: RuntimeKind::Cgroup, id: path.to_owned() };
        if self.shared.ctx.directory.remove(&key).is_none() {
            candidate.stage = Stage::Done;
            candidate.told = false;
            return;
        }
        // LXC and systemd start a container again in the cgroup that it had.
        candidate.stage = Stage::Empty;
        let now = clock.wall();
        (candidate.born, candidate.empty) = (Some(now), now);
        candidate.told = true;
        self.publish(path, &candidate.about, now, EventKind::Exited { code: None });
    }

    fn publish(&self, path: &str, about: &Recognised, at: Nanos, kind: EventKind) {
        let ctx = &self.shared.ctx;
        ctx.held.inc(catalog::RUNTIME_EVENTS, &[RuntimeKind::Cgroup.name()]);
        ctx.directory.publish(Event {
            key: Key { runtime: RuntimeKind::Cgroup, id: path.to_owned() },
            at,
            received: ctx.root.clock.boot(),
            image: String::new(),
            name: about.name.clone(),
            kind,
            replayed: false,
        });
    }
}

/// The process that an OCI runtime has put in place and that is still to become the container's own, by exec.
fn is_oci_runtime(command: &[String]) -> bool {
    let program = command.first().and_then(|c| c.rsplit('/').next());
    matches!(program, Some("runc" | "crun" | "youki" | "runsc"))
}
