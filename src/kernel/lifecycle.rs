//! Whether a container's cgroup is there at all, and when its first process began.

use std::path::PathBuf;
use std::sync::Arc;

use crate::kernel::cpu::TICK_NS;
use crate::kernel::parse;
use crate::kernel::{Context, Reader, Slots};
use crate::root::{Nanos, Root};
use crate::runtime::Container;
use crate::snapshot::Snapshot;

#[derive(Default)]
pub struct Lifecycle {
    slots: Slots<Life>,
}

struct Life {
    started: Option<Nanos>,
    /// Folders of which none was there when the container was opened: it had ended before we came, or is not there yet.
    missing: Vec<PathBuf>,
}

impl Reader for Lifecycle {
    fn open(&mut self, slot: usize, container: &Arc<Container>, ctx: &mut Context<'_>) {
        let mut missing = ctx.cgroups.folders(&container.cgroup);
        if missing.iter().any(|f| ctx.root.exists(f)) {
            missing.clear();
        }
        let started = if container.started.is_none() { first_start(container, ctx) } else { None };
        self.slots.set(slot, Life { started, missing });
    }

    fn close(&mut self, slot: usize) {
        self.slots.clear(slot);
    }

    fn read(&mut self, snapshot: &mut Snapshot, slots: &[usize], ctx: &mut Context<'_>) {
        for (facts, slot) in snapshot.containers.iter_mut().zip(slots) {
            let Some(life) = self.slots.get(*slot) else { continue };
            facts.started = life.started;
            facts.gone |= !life.missing.is_empty() && !life.missing.iter().any(|f| ctx.root.exists(f));
        }
    }
}

/// When the container's first process began, on the wall clock; for the root cgroup when the machine booted.
fn first_start(container: &Container, ctx: &Context<'_>) -> Option<Nanos> {
    let clock = &ctx.root.clock;
    let booted = clock.wall() - clock.boot();
    if container.identity.id == "/" {
        return Some(booted);
    }
    let pid = Some(container.pid).filter(|p| *p != 0).or_else(|| first_process(container, ctx))?;
    booted.checked_add(start_after_boot(ctx.root, pid)?)
}

fn first_process(container: &Container, ctx: &Context<'_>) -> Option<u32> {
    ctx.cgroups.folders(&container.cgroup).iter().find_map(|folder| {
        let bytes = ctx.root.read_bytes(&folder.join("cgroup.procs")).ok()?;
        parse::pids(&bytes).filter_map(Result::ok).min()
    })
}

fn start_after_boot(root: &Root, pid: u32) -> Option<Nanos> {
    let bytes = root.read_bytes(&root.procfs.join(format!("{pid}/stat"))).ok()?;
    let ticks = parse::proc_stat(&bytes).ok()?.starttime;
    Nanos::try_from(ticks.checked_mul(TICK_NS)?).ok()
}
