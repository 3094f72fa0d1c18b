//! The task that feeds the model: the runtimes' events, reports, first listening sockets, and the time.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::console::{self, Seen};
use super::ledger::{Ledger, Rules};
use super::listening;
use super::model::Model;
use super::reconcile::Sample;
use crate::config::Config;
use crate::held::Held;
use crate::root::{Nanos, Root};
use crate::runtime::{Boot, Directory, Event, EventKind, Key};

/// What the task works with.
pub struct Context {
    pub root: Root,
    pub directory: Arc<Directory>,
    pub held: Arc<Held>,
    pub ledger: Arc<Ledger>,
    /// The configuration in force.
    pub config: Box<dyn Fn() -> Arc<Config> + Send + Sync>,
}

/// Longest sleep: timers stand still while the machine is suspended, starts do not.
const NAP: Duration = Duration::from_secs(60);

struct Follower {
    context: Context,
    model: Model,
    listens: mpsc::UnboundedSender<(Key, Nanos)>,
    boots: mpsc::UnboundedSender<(Arc<Event>, Seen)>,
}

/// Follows starts until the directory is gone. Subscribes at once: events published from now on are seen. Call it before
/// the runtimes' tasks begin.
pub fn follow(context: Context) -> impl Future<Output = ()> + Send + use<> {
    let mut events = context.directory.subscribe();
    let (listens, mut heard) = mpsc::unbounded_channel();
    let (boots, mut booted) = mpsc::unbounded_channel();
    let now = Sample::take(&context.root.clock);
    let model = Model::new(since(&context, now.wall), now);
    let mut follower = Follower { context, model, listens, boots };
    async move {
        let ledger = follower.context.ledger.clone();
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => follower.event(&event),
                    None => return,
                },
                () = ledger.arrived.notified() => follower.reports(),
                Some((key, at)) = heard.recv() => follower.model.listening(key, at, follower.boot()),
                Some((event, seen)) = booted.recv() => follower.booted(&event, seen),
                () = tokio::time::sleep(follower.nap()) => {}
            }
            follower.advance();
        }
    }
}

/// Where counting begins (wall clock): where the last run of the exporter stopped if it left word, else now.
fn since(context: &Context, now: Nanos) -> Nanos {
    let config = (context.config)();
    let Some(file) = &config.startup.state_file else { return now };
    let told = context.root.read_to_string(file).ok().and_then(|text| text.trim().parse::<Nanos>().ok());
    let Some(told) = told.filter(|t| (0..=now).contains(t)) else { return now };
    context.directory.recover_from(told);
    told
}

impl Follower {
    fn boot(&self) -> Nanos {
        self.context.root.clock.boot()
    }

    fn event(&mut self, event: &Arc<Event>) {
        match &event.kind {
            EventKind::Booting(boot) => return self.follow_console(event.clone(), boot.clone()),
            EventKind::FirstStart => return self.model.first_start(event.key.clone()),
            _ => {}
        }
        let now = Sample::take(&self.context.root.clock);
        let unknown = !self.model.knows(&event.key);
        if unknown
            && let Some(c) = self.context.directory.get(&event.key)
            && c.started.is_some_and(|started| started < event.at)
            && !begins(&event.kind)
        {
            self.model.runs_already(&event.key, &c.identity.name, &c.identity.image, c.started);
        }
        let pid = match event.kind {
            EventKind::Started { pid, .. } | EventKind::TaskCreated { pid } => pid,
            _ => 0,
        };
        let created = (pid > 0 && !event.replayed).then(|| process_created(&self.context.root, pid)).flatten();
        self.model.push(event, now, created);
        if pid > 0 && !event.replayed && matches!(event.kind, EventKind::Started { .. }) {
            self.listen_for(event.key.clone(), pid);
        }
    }

    fn follow_console(&self, event: Arc<Event>, boot: Boot) {
        let (root, tell) = (self.context.root.clone(), self.boots.clone());
        tokio::spawn(async move {
            if let Some(seen) = console::follow(&root, &boot).await {
                let _ = tell.send((event, seen));
            }
        });
    }

    fn booted(&mut self, event: &Event, seen: Seen) {
        match seen {
            Seen::Ran(moments) => self.model.booted(event.key.clone(), moments),
            Seen::Failed(message) => {
                let now = Sample::take(&self.context.root.clock);
                let kind = EventKind::StartFailed { message };
                self.model.push(&Event { at: now.wall, received: now.boot, kind, ..event.clone() }, now, None);
            }
        }
    }

    /// Looks for the first listening socket of a container that has a network of its own and no health check.
    fn listen_for(&self, key: Key, pid: u32) {
        let limit = (self.context.config)().startup.ready_poll;
        let known = self.context.directory.get(&key);
        let not_alone = known.as_ref().is_some_and(|c| c.host_network || c.shares_network_of.is_some());
        let checked = known.as_ref().is_some_and(|c| c.health_check);
        if limit.is_zero() || not_alone || checked {
            return;
        }
        let (root, tell) = (self.context.root.clone(), self.listens.clone());
        tokio::spawn(async move {
            if let Some(at) = listening::first(&root, pid, limit).await {
                let _ = tell.send((key, at));
            }
        });
    }

    fn reports(&mut self) {
        let now = Sample::take(&self.context.root.clock);
        for report in self.context.ledger.take_reports() {
            self.model.report(report, now);
        }
    }

    fn advance(&mut self) {
        let now = self.boot();
        let outcomes = self.model.advance(now);
        if outcomes.is_empty() {
            return;
        }
        let config = (self.context.config)();
        let rules = Rules::new(&self.context.held, &config);
        for outcome in outcomes {
            self.context.ledger.take(outcome, |key| self.context.directory.get(key), &rules);
        }
        if let Some(file) = &config.startup.state_file {
            self.remember(file, now);
        }
    }

    /// Leaves word for the next run of how far this one has counted.
    fn remember(&self, file: &Path, now: Nanos) {
        let text = format!("{}\n", self.model.counted_until(now));
        if let Err(error) = self.context.root.write_state(file, text.as_bytes()) {
            tracing::warn!(file = %file.display(), %error, "startup.state-file cannot be written: starts during a restart of the exporter will not be counted");
        }
    }

    fn nap(&self) -> Duration {
        let due = self.model.next_due().map(|due| Duration::from_nanos((due - self.boot()).max(0).unsigned_abs()));
        // Timers round up; a due event waits for nothing else.
        due.unwrap_or(NAP).min(NAP)
    }
}

/// Before these nothing ran, even if the process is older by its stamp: that is cut to hundredths of a second, and OCI
/// runtimes make the cgroup for a process that they have.
fn begins(kind: &EventKind) -> bool {
    matches!(kind, EventKind::Started { .. } | EventKind::Created | EventKind::CreateRequested)
}

/// When the kernel created a process (`/proc/PID/stat` field 22), on the boot clock. The kernel tells it in hundredths of
/// a second, cut: the middle of that hundredth is at most 5 ms off.
#[cfg(target_os = "linux")]
pub fn process_created(root: &Root, pid: u32) -> Option<Nanos> {
    let text = root.read_bytes(&root.procfs.join(pid.to_string()).join("stat")).ok()?;
    let stat = crate::kernel::parse::proc_stat(&text).ok()?;
    // USER_HZ is 100 on every architecture that Linux still runs on, whatever the kernel's own HZ.
    const TICK: Nanos = crate::root::SECOND / 100;
    Some(i64::try_from(stat.starttime).ok()?.checked_mul(TICK)? + TICK / 2)
}

#[cfg(not(target_os = "linux"))]
pub fn process_created(_: &Root, _: u32) -> Option<Nanos> {
    None
}
