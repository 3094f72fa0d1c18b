//! Context switches of a container, counted by the kernel itself: a software counter of the cgroup a CPU
//! (perf_event_open(2)), which misses no thread, however short it lives.
//!
//! What decides between them and `/proc/PID/task/TID/status`:
//!
//! - The kernel must permit it (CAP_PERFMON, or `kernel.perf_event_paranoid` ≤ 0), and must be 5.7 or later: before, each
//!   counter of each cgroup was visited at every context switch.
//! - Reading a counter costs an eighth of what reading a thread's `status` costs, so counters are opened once a container
//!   has at least one thread for every eight CPUs: they are never the dearer way.
//! - A descriptor a CPU must be left in the budget, and at most [`MOST`] are opened on a host.

use std::sync::Arc;

use crate::catalog::Collector;
use crate::kernel::cgroups::Version;
use crate::kernel::file::{Budget, Share};
use crate::kernel::{Context, Timer, parse};
use crate::root::{ReadError, Root, SwitchCounter};
use crate::runtime::Container;

/// What a counter takes of the kernel's memory is more than a kilobyte: 20 MiB in all.
const MOST: usize = 16_384;
/// So many counters are read at the cost of one `status`.
const AS_CHEAP: u64 = 8;

/// What is known of this host, for all containers.
pub struct Counters {
    timer: Timer,
    /// CPUs on line.
    cpus: Vec<u32>,
    /// Counts how often the CPUs on line changed.
    change: u32,
    left: Arc<Budget>,
    /// None: not tried yet.
    permitted: Option<bool>,
}

impl Default for Counters {
    fn default() -> Self {
        Self { timer: Timer::default(), cpus: Vec::new(), change: 0, left: Budget::new(MOST), permitted: None }
    }
}

/// How one container's switches are counted.
#[derive(Default)]
pub enum Count {
    /// By `/proc`, until it has threads enough.
    #[default]
    Untried,
    /// By `/proc`, for good.
    ByProc,
    Counted(Counted),
}

/// One container's counters.
pub struct Counted {
    cpus: Vec<(SwitchCounter, [Share; 2])>,
    /// What counters told that were closed since.
    before: u64,
    change: u32,
}

impl Counted {
    fn read(&self) -> Result<u64, ReadError> {
        self.cpus.iter().try_fold(self.before, |sum, (counter, _)| Ok(sum.saturating_add(counter.read()?)))
    }
}

impl Counters {
    /// A collection begins.
    pub fn begin(&mut self, ctx: &Context<'_>) {
        if self.permitted.is_none() {
            self.permitted = self.judge(ctx);
        }
        if self.permitted == Some(false) || !self.timer.due(ctx.root.clock.boot()) {
            return;
        }
        let cpus = online(ctx.root);
        if cpus != self.cpus {
            self.cpus = cpus;
            self.change += 1;
        }
    }

    /// What is known before the first counter was opened.
    fn judge(&self, ctx: &Context<'_>) -> Option<bool> {
        if !ctx.config.process.switch_counters {
            ctx.capabilities.no("switch_counters", "process.switch-counters is off");
            return Some(false);
        }
        // A recorded tree has no release: nothing can be opened there.
        let release = ctx.root.read_to_string(&ctx.root.procfs.join("sys/kernel/osrelease"));
        let bears = release.is_ok_and(|release| {
            let new = bears_counters(&release);
            if !new {
                ctx.capabilities.no("switch_counters", "Linux before 5.7 visits all counters at every context switch");
            }
            new
        });
        (!bears).then_some(false)
    }

    /// The switches of a container with so many threads, by its counters, which are opened when they are first worth it.
    /// None where `/proc` is to be asked. A container that is counted once stays so: its count goes on.
    pub fn read(
        &mut self,
        count: &mut Count,
        threads: Option<u64>,
        container: &Container,
        ctx: &mut Context<'_>,
    ) -> Option<u64> {
        let worth = threads.is_some_and(|n| n.saturating_mul(AS_CHEAP) >= self.cpus.len() as u64);
        let before = match count {
            Count::ByProc => return None,
            Count::Untried if worth && self.permitted != Some(false) => 0,
            Count::Untried => return None,
            // CPUs came or went: the others go on where these stopped.
            Count::Counted(counted) if counted.change != self.change => counted.read().unwrap_or(counted.before),
            Count::Counted(counted) => return Self::told(counted, ctx),
        };
        match self.open(container, before, ctx) {
            Some(counted) => {
                *count = Count::Counted(counted);
                let Count::Counted(counted) = count else { return None };
                Self::told(counted, ctx)
            }
            None => {
                *count = Count::ByProc;
                None
            }
        }
    }

    fn told(counted: &Counted, ctx: &mut Context<'_>) -> Option<u64> {
        counted.read().map_err(|e| ctx.failed(Collector::Process, e)).ok()
    }

    fn open(&mut self, container: &Container, before: u64, ctx: &Context<'_>) -> Option<Counted> {
        let paths = &container.cgroup;
        let v1 = ctx.cgroups.folder(Version::V1, "perf_event", paths);
        let folder = ctx.root.open_dir(&v1.or_else(|| ctx.cgroups.folder(Version::V2, "", paths))?).ok()?;
        let mut cpus = Vec::with_capacity(self.cpus.len());
        for cpu in &self.cpus {
            let shares = [ctx.budget.take()?, self.left.take()?];
            match SwitchCounter::open(&folder, *cpu) {
                Ok(counter) => cpus.push((counter, shares)),
                // It went off line.
                Err(ReadError::Gone) => {}
                Err(e) => {
                    self.refused(e, ctx);
                    return None;
                }
            }
        }
        if self.permitted.is_none() && !cpus.is_empty() {
            self.permitted = Some(true);
            ctx.capabilities.yes("switch_counters");
        }
        Some(Counted { cpus, before, change: self.change })
    }

    /// What refuses the first refuses all.
    fn refused(&mut self, error: ReadError, ctx: &Context<'_>) {
        let why = match error {
            ReadError::Denied => "CAP_PERFMON is missing, or a security module forbids perf_event_open",
            ReadError::Absent | ReadError::Io(libc::EINVAL) => "the kernel counts for no cgroup (CONFIG_CGROUP_PERF)",
            // No cgroup at all, or too many open files.
            _ => return,
        };
        if self.permitted.is_none() {
            self.permitted = Some(false);
            ctx.capabilities.no("switch_counters", why);
        }
    }
}

/// Since 5.7 counters are kept in order of their cgroups, and a context switch visits those of the two cgroups alone.
fn bears_counters(release: &str) -> bool {
    let mut numbers = release.split(['.', '-']).map_while(|n| n.trim().parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (5, 7)
}

/// CPUs on line.
pub fn online(root: &Root) -> Vec<u32> {
    let list = root.read_bytes(&root.sysfs.join("devices/system/cpu/online")).unwrap_or_default();
    parse::cpu_list(&list).flatten().flat_map(|(first, last)| first..=last).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_that_keep_counters_in_order() {
        for (release, bears) in
            [("6.18.44-fc\n", true), ("5.10.0-28-amd64", true), ("5.7", true), ("5.6.19", false), ("4.18.0", false)]
        {
            assert_eq!(bears_counters(release), bears, "{release}");
        }
        assert!(!bears_counters("who knows"));
    }
}
