//! Memory by kind, limits, faults, reclaim and OOM kills: `memory.*` of v2 and v1; `/proc/meminfo` and `/proc/vmstat` for
//! what the root cgroup does not tell.

use crate::catalog::Collector;
use crate::kernel::overhead::Overhead;
use crate::kernel::parse::{self, Sound, flat};
use crate::kernel::table::{Home, Source, Subject};
use crate::kernel::{Context, RATE_STEP, Timer};
use crate::root::{Nanos, SECOND};
use crate::runtime::Container;
use crate::snapshot::{ContainerFacts, Limit, MemoryFacts};

#[derive(Default)]
pub struct Memory {
    timer: Timer,
    /// MemTotal of the host.
    host_total: Option<u64>,
}

#[derive(Default)]
pub struct Raw {
    facts: MemoryFacts,
    parts: KernelParts,
    machine: Machine,
}

/// Kernel memory in parts, as v2 tells it before Linux 5.18.
#[derive(Default)]
struct KernelParts {
    slab: Option<u64>,
    kernel_stack: Option<u64>,
    pagetables: Option<u64>,
    percpu: Option<u64>,
}

impl KernelParts {
    fn sum(&self) -> Option<u64> {
        let parts = [self.slab, self.kernel_stack, self.pagetables, self.percpu];
        parts.into_iter().flatten().reduce(u64::saturating_add)
    }
}

/// The whole machine, for the root cgroup.
#[derive(Default)]
struct Machine {
    total: Option<u64>,
    free: Option<u64>,
    buffers: Option<u64>,
    swap_total: Option<u64>,
    swap_free: Option<u64>,
    kernel: KernelParts,
    facts: MemoryFacts,
}

macro_rules! number {
    ($home:expr, $file:literal, $field:ident) => {
        Source {
            home: $home,
            files: &[$file],
            parse: |b, r: &mut Raw| parse::value(b).map(|n| r.facts.$field = Some(n)),
        }
    };
}

macro_rules! limit {
    ($home:expr, $file:literal, $parse:path, $field:ident) => {
        Source { home: $home, files: &[$file], parse: |b, r: &mut Raw| $parse(b).map(|n| r.facts.$field = Some(n)) }
    };
}

const V2: Home = Home::V2("memory");
const V1: Home = Home::V1("memory");

static SOURCES: &[Source<Raw>] = &[
    Source { home: V2, files: &["memory.stat"], parse: stat_v2 },
    Source { home: V2, files: &["memory.events"], parse: events },
    number!(V2, "memory.current", usage),
    number!(V2, "memory.peak", peak),
    number!(V2, "memory.swap.current", swap),
    limit!(V2, "memory.max", parse::limit, limit),
    limit!(V2, "memory.low", parse::limit, reservation),
    limit!(V2, "memory.swap.max", parse::limit, swap_limit),
    Source { home: V1, files: &["memory.stat"], parse: stat_v1 },
    Source { home: V1, files: &["memory.oom_control"], parse: |b, r| flat!(b, r.facts, { b"oom_kill" => oom_kill }) },
    number!(V1, "memory.usage_in_bytes", usage),
    number!(V1, "memory.max_usage_in_bytes", peak),
    number!(V1, "memory.failcnt", events_max),
    number!(V1, "memory.kmem.usage_in_bytes", kernel),
    limit!(V1, "memory.limit_in_bytes", parse::limit_v1, limit),
    limit!(V1, "memory.soft_limit_in_bytes", parse::limit_v1, reservation),
    limit!(V1, "memory.memsw.limit_in_bytes", parse::limit_v1, swap_limit),
    Source { home: Home::Host, files: &["meminfo"], parse: meminfo },
    Source { home: Home::Host, files: &["vmstat"], parse: vmstat },
];

fn stat_v2(bytes: &[u8], raw: &mut Raw) -> Sound {
    let parts = flat!(bytes, raw.parts, {
        b"slab" => slab,
        b"kernel_stack" => kernel_stack,
        b"pagetables" => pagetables,
        b"percpu" => percpu,
    });
    parts.and(flat!(bytes, raw.facts, {
        b"anon" => anon,
        b"file" => file,
        b"kernel" => kernel,
        b"sock" => sock,
        b"shmem" => shmem,
        b"zswap" => zswap,
        b"zswapped" => zswapped,
        b"file_mapped" => file_mapped,
        b"file_dirty" => file_dirty,
        b"file_writeback" => file_writeback,
        b"inactive_anon" => inactive_anon,
        b"active_anon" => active_anon,
        b"inactive_file" => inactive_file,
        b"active_file" => active_file,
        b"workingset_refault_anon" => refault_anon,
        b"workingset_refault_file" => refault_file,
        // Before Linux 5.9 file pages alone were counted, under this name.
        b"workingset_refault" => refault_file,
        b"pgscan" => pgscan,
        b"pgsteal" => pgsteal,
        b"pgfault" => pgfault,
        b"pgmajfault" => pgmajfault,
    }))
}

/// A guest's memory by its own `memory.stat` and `memory.events` (v2), and what its VM uses, by `/proc/meminfo`.
#[derive(Debug, Default, Clone, Copy)]
pub struct Guest {
    pub facts: MemoryFacts,
    /// MemTotal of the VM.
    total: Option<u64>,
    /// Slab, stacks, page tables and per-CPU data of the VM's kernel.
    kernel: Option<u64>,
    /// MemTotal − MemFree.
    pub used: Option<u64>,
}

impl Guest {
    /// Of files that were read in the guest. What is malformed stays absent.
    pub fn of(stat: &[u8], event: &[u8], info: &[u8]) -> Self {
        let mut raw = Raw::default();
        let _ = (stat_v2(stat, &mut raw), events(event, &mut raw), meminfo(info, &mut raw));
        let facts = MemoryFacts { kernel: raw.facts.kernel.or(raw.parts.sum()), ..raw.facts };
        let m = &raw.machine;
        let used = m.total.zip(m.free).map(|(total, free)| total.saturating_sub(free));
        Self { facts, total: m.total, kernel: m.kernel.sum(), used }
    }

    /// All that the guest's kernel takes of the VM's memory: what it kept for itself at boot, and its own allocations;
    /// the container's share alone where the VM's memory is not known.
    pub fn guest_kernel(&self, allocated: Option<u64>) -> Option<u64> {
        let whole = || Some(allocated?.saturating_sub(self.total?).saturating_add(self.kernel?));
        whole().or(self.facts.kernel)
    }
}

fn stat_v1(bytes: &[u8], raw: &mut Raw) -> Sound {
    flat!(bytes, raw.facts, {
        b"pgfault" => pgfault_own,
        b"pgmajfault" => pgmajfault_own,
        b"total_cache" => file,
        b"total_rss" => anon,
        b"total_shmem" => shmem,
        b"total_mapped_file" => file_mapped,
        b"total_dirty" => file_dirty,
        b"total_writeback" => file_writeback,
        b"total_workingset_refault_anon" => refault_anon,
        b"total_workingset_refault_file" => refault_file,
        b"total_swap" => swap,
        b"total_pgfault" => pgfault,
        b"total_pgmajfault" => pgmajfault,
        b"total_inactive_anon" => inactive_anon,
        b"total_active_anon" => active_anon,
        b"total_inactive_file" => inactive_file,
        b"total_active_file" => active_file,
    })
}

fn events(bytes: &[u8], raw: &mut Raw) -> Sound {
    flat!(bytes, raw.facts, { b"high" => events_high, b"max" => events_max, b"oom_kill" => oom_kill })
}

fn meminfo(bytes: &[u8], raw: &mut Raw) -> Sound {
    let machine = flat!(bytes, raw.machine, {
        b"MemTotal" => total * 1024,
        b"MemFree" => free * 1024,
        b"Buffers" => buffers * 1024,
        b"SwapTotal" => swap_total * 1024,
        b"SwapFree" => swap_free * 1024,
    });
    let kernel = flat!(bytes, raw.machine.kernel, {
        b"Slab" => slab * 1024,
        b"KernelStack" => kernel_stack * 1024,
        b"PageTables" => pagetables * 1024,
        b"Percpu" => percpu * 1024,
    });
    let facts = flat!(bytes, raw.machine.facts, {
        b"AnonPages" => anon * 1024,
        b"Cached" => file * 1024,
        b"Mapped" => file_mapped * 1024,
        b"Shmem" => shmem * 1024,
        b"Dirty" => file_dirty * 1024,
        b"Writeback" => file_writeback * 1024,
        b"Active(file)" => active_file * 1024,
        b"Inactive(file)" => inactive_file * 1024,
        b"Active(anon)" => active_anon * 1024,
        b"Inactive(anon)" => inactive_anon * 1024,
    });
    machine.and(kernel).and(facts)
}

fn vmstat(bytes: &[u8], raw: &mut Raw) -> Sound {
    flat!(bytes, raw.machine.facts, {
        b"pgfault" => pgfault,
        b"pgmajfault" => pgmajfault,
        b"oom_kill" => oom_kill,
        b"workingset_refault_anon" => refault_anon,
        b"workingset_refault_file" => refault_file,
    })
}

impl Machine {
    /// Fills what the root cgroup's own files left open. Its kernel memory is the machine's: the root is never charged.
    fn complete(&self, facts: &mut MemoryFacts) {
        let own = self.facts;
        let less = |a: Option<u64>, b: Option<u64>| Some(a?.saturating_sub(b?));
        facts.usage = facts.usage.or(less(self.total, self.free));
        facts.swap = facts.swap.or(less(self.swap_total, self.swap_free));
        facts.kernel = self.kernel.sum();
        facts.file = facts.file.or(own.file.map(|f| f.saturating_add(self.buffers.unwrap_or(0))));
        // As cAdvisor has it: what limits the machine is its memory.
        facts.limit = self.total.map(Limit::Value).or(Some(Limit::Max));
        for (field, machine) in [
            (&mut facts.anon, own.anon),
            (&mut facts.file_mapped, own.file_mapped),
            (&mut facts.shmem, own.shmem),
            (&mut facts.file_dirty, own.file_dirty),
            (&mut facts.file_writeback, own.file_writeback),
            (&mut facts.active_file, own.active_file),
            (&mut facts.inactive_file, own.inactive_file),
            (&mut facts.active_anon, own.active_anon),
            (&mut facts.inactive_anon, own.inactive_anon),
            (&mut facts.refault_anon, own.refault_anon),
            (&mut facts.refault_file, own.refault_file),
            (&mut facts.pgfault, own.pgfault),
            (&mut facts.pgmajfault, own.pgmajfault),
        ] {
            *field = field.or(machine);
        }
        // Kills are counted where they happen, and the root cgroup of v1 counts those of its own processes alone.
        facts.oom_kill = own.oom_kill.or(facts.oom_kill);
    }
}

pub struct Kept {
    overhead: Option<Overhead>,
    refaults: Option<Refaults>,
}

#[derive(Clone, Copy)]
struct Refaults {
    at: Nanos,
    count: u64,
    rate: Option<f64>,
}

impl Subject for Memory {
    const COLLECTOR: Collector = Collector::Memory;
    type Raw = Raw;
    type Kept = Kept;

    fn sources() -> &'static [Source<Raw>] {
        SOURCES
    }

    fn reset(raw: &mut Raw) {
        *raw = Raw::default();
    }

    fn begin(&mut self, _: &mut Raw, ctx: &mut Context<'_>) {
        if self.timer.due(ctx.root.clock.boot()) {
            let mut host = Raw::default();
            let bytes = ctx.root.read_bytes(&ctx.root.procfs.join("meminfo")).unwrap_or_default();
            let _ = meminfo(&bytes, &mut host);
            self.host_total = host.machine.total;
        }
    }

    fn opened(&mut self, container: &Container, ctx: &mut Context<'_>) -> Kept {
        Kept { overhead: Overhead::find(container, ctx), refaults: None }
    }

    fn finish(&mut self, raw: &mut Raw, kept: &mut Kept, facts: &mut ContainerFacts, ctx: &mut Context<'_>) {
        let memory = &mut facts.memory;
        *memory = raw.facts;
        memory.kernel = memory.kernel.or(raw.parts.sum());
        let vm = facts.container.vm.as_ref().and_then(|vm| vm.memory_bytes);
        if facts.container.identity.id == "/" {
            raw.machine.complete(memory);
            memory.allocated = raw.machine.total;
        } else {
            // v1 has no "max": whatever is not below the host's memory is no limit.
            let below_host = |limit: &u64| self.host_total.is_none_or(|total| *limit < total);
            memory.allocated = memory.limit.and_then(Limit::value).filter(below_host).or(vm);
        }
        memory.vm_overhead = kept.overhead.as_mut().and_then(|o| o.private_bytes(ctx));
        memory.refault_rate = kept.refault_rate(memory, ctx.root.clock.boot());
    }
}

impl Kept {
    fn refault_rate(&mut self, memory: &MemoryFacts, now: Nanos) -> Option<f64> {
        let count = memory.refault_file?.saturating_add(memory.refault_anon.unwrap_or(0));
        let rate = match self.refaults {
            Some(old) if now - old.at < RATE_STEP => return old.rate,
            Some(old) => Some(count.saturating_sub(old.count) as f64 * SECOND as f64 / (now - old.at) as f64),
            None => None,
        };
        self.refaults = Some(Refaults { at: now, count, rate });
        rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_memory_before_5_18_is_the_sum_of_its_parts() {
        let mut raw = Raw::default();
        stat_v2(b"anon 1\nkernel_stack 2\npagetables 3\npercpu 4\nsock 5\nslab 6\n", &mut raw).unwrap();
        assert_eq!((raw.facts.kernel, raw.parts.sum(), raw.facts.sock), (None, Some(15), Some(5)));
    }

    #[test]
    fn hierarchy_and_own_faults_are_told_apart() {
        let mut v1 = Raw::default();
        stat_v1(b"pgfault 1\ntotal_pgfault 5\ntotal_rss 7\nrss 3\n", &mut v1).unwrap();
        assert_eq!((v1.facts.pgfault_own, v1.facts.pgfault, v1.facts.anon), (Some(1), Some(5), Some(7)));
        let mut v2 = Raw::default();
        stat_v2(b"pgfault 5\n", &mut v2).unwrap();
        assert_eq!((v2.facts.pgfault_own, v2.facts.pgfault), (None, Some(5)));
    }

    #[test]
    fn the_machine_completes_the_root_cgroup() {
        let mut raw = Raw::default();
        let text = b"MemTotal: 100 kB\nMemFree: 40 kB\nBuffers: 1 kB\nCached: 9 kB\nAnonPages: 20 kB\nSlab: 5 kB\n";
        meminfo(text, &mut raw).unwrap();
        vmstat(b"oom_kill 3\npgfault 9\n", &mut raw).unwrap();
        let mut facts = MemoryFacts { anon: Some(1), ..MemoryFacts::default() };
        raw.machine.complete(&mut facts);
        assert_eq!((facts.usage, facts.limit), (Some(60 * 1024), Some(Limit::Value(100 * 1024))));
        assert_eq!((facts.anon, facts.file, facts.kernel), (Some(1), Some(10 * 1024), Some(5 * 1024)));
        assert_eq!((facts.oom_kill, facts.pgfault, facts.swap), (Some(3), Some(9), None));
    }

    /// Found by fuzzing: 2⁶⁴ − 1 024 bytes of cache and as many of buffers.
    #[test]
    fn figures_at_the_end_of_their_range_are_added_up() {
        let mut raw = Raw::default();
        let most = u64::MAX / 1024;
        meminfo(
            format!("Cached: {most} kB\nBuffers: {most} kB\nSlab: {most} kB\nPercpu: {most} kB\n").as_bytes(),
            &mut raw,
        )
        .unwrap();
        let mut facts = MemoryFacts::default();
        raw.machine.complete(&mut facts);
        assert_eq!((facts.file, facts.kernel), (Some(u64::MAX), Some(u64::MAX)));
    }
}
