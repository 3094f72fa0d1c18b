//! CPU time, throttling, allocation: `cpu.stat`, `cpu.max`, `cpu.weight`, `cpuset.cpus.effective` (v2); `cpuacct.*`,
//! `cpu.*`, `cpuset.effective_cpus` (v1); `/proc/stat` for the root cgroup where it has none of these.

use crate::catalog::Collector;
use crate::kernel::parse::{self, Malformed, Sound, flat};
use crate::kernel::table::{Home, Source, Subject};
use crate::kernel::topology::{self, Topology};
use crate::kernel::{Context, RATE_STEP, Timer};
use crate::root::{Nanos, SECOND};
use crate::runtime::Container;
use crate::snapshot::{ContainerFacts, CpuFacts, Limit};

/// Nanoseconds of one `USER_HZ` tick: 100 a second in every kernel interface, whatever the kernel's own rate is.
pub const TICK_NS: u64 = 10_000_000;

#[derive(Default)]
pub struct Cpu {
    timer: Timer,
}

#[derive(Default)]
pub struct Raw {
    facts: CpuFacts,
    topology: Topology,
}

static SOURCES: &[Source<Raw>] = &[
    Source { home: Home::V2("cpu"), files: &["cpu.stat"], parse: stat_v2 },
    Source {
        home: Home::V2("cpu"),
        files: &["cpu.max"],
        parse: |b, r| {
            let (quota, period) = parse::cpu_max(b)?;
            (r.facts.quota_us, r.facts.period_us) = (Some(quota), Some(period));
            Ok(())
        },
    },
    Source {
        home: Home::V2("cpu"),
        files: &["cpu.weight"],
        parse: |b, r| parse::value(b).map(|weight| r.facts.shares = Some(shares(weight))),
    },
    Source { home: Home::V2("cpuset"), files: &["cpuset.cpus.effective"], parse: cpuset },
    Source {
        home: Home::V1("cpuacct"),
        files: &["cpuacct.usage"],
        parse: |b, r| parse::value(b).map(|ns| r.facts.usage_ns = Some(ns)),
    },
    Source { home: Home::V1("cpuacct"), files: &["cpuacct.stat"], parse: stat_v1_ticks },
    Source { home: Home::V1("cpuacct"), files: &["cpuacct.usage_percpu"], parse: percpu },
    Source { home: Home::V1("cpu"), files: &["cpu.stat"], parse: stat_v1 },
    Source {
        home: Home::V1("cpu"),
        files: &["cpu.cfs_quota_us"],
        parse: |b, r| parse::quota_v1(b).map(|q| r.facts.quota_us = Some(q)),
    },
    Source {
        home: Home::V1("cpu"),
        files: &["cpu.cfs_period_us"],
        parse: |b, r| parse::value(b).map(|p| r.facts.period_us = Some(p)),
    },
    Source {
        home: Home::V1("cpu"),
        files: &["cpu.shares"],
        parse: |b, r| parse::value(b).map(|s| r.facts.shares = Some(s)),
    },
    Source { home: Home::V1("cpuset"), files: &["cpuset.effective_cpus", "cpuset.cpus"], parse: cpuset },
    Source { home: Home::Host, files: &["stat"], parse: proc_stat },
];

fn stat_v2(bytes: &[u8], raw: &mut Raw) -> Sound {
    flat!(bytes, raw.facts, {
        b"usage_usec" => usage_ns * 1000,
        b"user_usec" => user_ns * 1000,
        b"system_usec" => system_ns * 1000,
        b"nr_periods" => nr_periods,
        b"nr_throttled" => nr_throttled,
        b"throttled_usec" => throttled_ns * 1000,
        b"nr_bursts" => nr_bursts,
        b"burst_usec" => burst_ns * 1000,
    })
}

/// Of a `cpu.stat` (v2) that was read elsewhere.
pub fn of_stat(bytes: &[u8]) -> CpuFacts {
    let mut raw = Raw::default();
    // What is malformed stays absent.
    let _ = stat_v2(bytes, &mut raw);
    raw.facts
}

/// CPUs of a `cpuset.cpus.effective` that was read elsewhere.
pub fn cpus_of(bytes: &[u8]) -> Option<u32> {
    let mut raw = Raw::default();
    cpuset(bytes, &mut raw).ok()?;
    raw.facts.cpuset_cpus
}

fn stat_v1(bytes: &[u8], raw: &mut Raw) -> Sound {
    flat!(bytes, raw.facts, {
        b"nr_periods" => nr_periods,
        b"nr_throttled" => nr_throttled,
        b"throttled_time" => throttled_ns,
        b"nr_bursts" => nr_bursts,
        b"burst_time" => burst_ns,
    })
}

/// In ticks, but split as the kernel splits it for processes, so that user and system add up to the usage;
/// `cpuacct.usage_user` is finer and does not.
fn stat_v1_ticks(bytes: &[u8], raw: &mut Raw) -> Sound {
    flat!(bytes, raw.facts, { b"user" => user_ns * TICK_NS, b"system" => system_ns * TICK_NS })
}

/// Nanoseconds by CPU number, of every possible CPU.
fn percpu(bytes: &[u8], raw: &mut Raw) -> Sound {
    if !raw.topology.is_hybrid() {
        return Ok(());
    }
    let mut by_type = [0u64; 2];
    for (cpu, word) in parse::words(bytes.trim_ascii()).enumerate() {
        let ns = parse::number(word).ok_or(Malformed)?;
        if let Some(t) = raw.topology.core_type(cpu as u32) {
            by_type[t as usize] = by_type[t as usize].saturating_add(ns);
        }
    }
    raw.facts.core_type_ns = Some(by_type);
    Ok(())
}

fn cpuset(bytes: &[u8], raw: &mut Raw) -> Sound {
    let (mut cpus, mut by_type) = (0u32, [0u32; 2]);
    for range in parse::cpu_list(bytes) {
        let (first, last) = range?;
        cpus = cpus.saturating_add(last - first + 1);
        if let Some(n) = raw.topology.count(first..=last) {
            by_type = [by_type[0].saturating_add(n[0]), by_type[1].saturating_add(n[1])];
        }
    }
    // A v1 cpuset that nobody has set is empty: the file tells nothing.
    if cpus > 0 {
        raw.facts.cpuset_cpus = Some(cpus);
        raw.facts.cpuset_by_type = raw.topology.is_hybrid().then_some(by_type);
    }
    Ok(())
}

/// The first line: user nice system idle iowait irq softirq steal, in ticks; guest time is in user already.
fn proc_stat(bytes: &[u8], raw: &mut Raw) -> Sound {
    if raw.facts.usage_ns.is_some() {
        return Ok(());
    }
    let line = parse::lines(bytes).next().and_then(|l| l.strip_prefix(b"cpu ")).ok_or(Malformed)?;
    let mut ticks = [0u64; 8];
    for (place, word) in ticks.iter_mut().zip(parse::words(line)) {
        *place = parse::number(word).ok_or(Malformed)?;
    }
    let [user, nice, system, _, _, irq, softirq, _] = ticks;
    let ns = |parts: &[u64]| parts.iter().fold(0u64, |sum, n| sum.saturating_add(*n)).saturating_mul(TICK_NS);
    raw.facts.user_ns = Some(ns(&[user, nice]));
    raw.facts.system_ns = Some(ns(&[system, irq, softirq]));
    raw.facts.usage_ns = Some(ns(&[user, nice, system, irq, softirq]));
    Ok(())
}

/// `cpu.weight` (1–10000) as the `cpu.shares` (2–262144) that it was made of: the OCI runtimes' conversion, inverted.
pub fn shares(weight: u64) -> u64 {
    2 + weight.clamp(1, 10_000).saturating_sub(1) * 262_142 / 9_999
}

/// What a container's integrals and rates need of the previous collection.
#[derive(Debug, Default)]
pub struct Kept {
    last: Option<Point>,
    capacity: f64,
    idle: f64,
    rate: Option<Rate>,
}

#[derive(Debug, Clone, Copy)]
struct Point {
    at: Nanos,
    usage_ns: u64,
}

#[derive(Debug, Clone, Copy)]
struct Rate {
    at: Nanos,
    usage_ns: u64,
    user_ns: Option<u64>,
    usage: Option<f64>,
    user: Option<f64>,
}

impl Subject for Cpu {
    const COLLECTOR: Collector = Collector::Cpu;
    type Raw = Raw;
    type Kept = Kept;

    fn sources() -> &'static [Source<Raw>] {
        SOURCES
    }

    fn reset(raw: &mut Raw) {
        raw.facts = CpuFacts::default();
    }

    fn begin(&mut self, raw: &mut Raw, ctx: &mut Context<'_>) {
        // CPUs come on line and go off line, but seldom: once a minute is soon enough for an allocation.
        if self.timer.due(ctx.root.clock.boot()) {
            raw.topology = topology::read(ctx.root).unwrap_or_default();
        }
    }

    fn opened(&mut self, _: &Container, _: &mut Context<'_>) -> Kept {
        Kept::default()
    }

    fn finish(&mut self, raw: &mut Raw, kept: &mut Kept, facts: &mut ContainerFacts, ctx: &mut Context<'_>) {
        let container = facts.container.clone();
        let cpu = &mut facts.cpu;
        *cpu = raw.facts;
        let online = (!raw.topology.online.is_empty()).then_some(raw.topology.online.len() as u32);
        let vm = container.vm.as_ref().and_then(|vm| vm.cpus);
        let is_here = !container.cgroup.v1.is_empty() || container.cgroup.v2.is_some();
        cpu.allocated_cores =
            quota_cores(cpu).or(cpu.cpuset_cpus.map(f64::from)).or(vm).or(online.filter(|_| is_here).map(f64::from));
        kept.step(cpu, ctx.root.clock.boot());
    }
}

fn quota_cores(cpu: &CpuFacts) -> Option<f64> {
    let Limit::Value(quota) = cpu.quota_us? else { return None };
    let period = cpu.period_us.filter(|p| *p > 0)?;
    Some(quota as f64 / period as f64)
}

impl Kept {
    /// Adds what has passed since the previous collection.
    pub(super) fn step(&mut self, cpu: &mut CpuFacts, now: Nanos) {
        let (Some(usage_ns), Some(cores)) = (cpu.usage_ns, cpu.allocated_cores) else { return };
        if let Some(last) = self.last {
            let seconds = now.saturating_sub(last.at).max(0) as f64 / SECOND as f64;
            let used = usage_ns.saturating_sub(last.usage_ns) as f64 / SECOND as f64;
            self.capacity += cores * seconds;
            self.idle += (cores * seconds - used).max(0.0);
        }
        self.last = Some(Point { at: now, usage_ns });
        cpu.capacity_seconds = Some(self.capacity);
        cpu.idle_seconds = Some(self.idle);

        let rate = match self.rate {
            Some(old) if now - old.at < RATE_STEP => old,
            old => {
                let seconds = old.map(|o| (now - o.at) as f64);
                let per = |new: Option<u64>, old: Option<u64>| Some(new?.saturating_sub(old?) as f64 / seconds?);
                let usage = per(Some(usage_ns), old.map(|o| o.usage_ns));
                let user = per(cpu.user_ns, old.and_then(|o| o.user_ns));
                Rate { at: now, usage_ns, user_ns: cpu.user_ns, usage, user }
            }
        };
        self.rate = Some(rate);
        cpu.usage_rate_cores = rate.usage;
        cpu.user_rate_cores = rate.user;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_weights() {
        assert_eq!((shares(1), shares(10_000)), (2, 262_144));
        assert_eq!(shares(39), 998, "what runc makes of the default 1024 shares");
        assert_eq!(shares(u64::MAX), 262_144);
    }

    #[test]
    fn capacity_and_idle_are_integrals() {
        let mut kept = Kept::default();
        let mut at = |usage_ns, cores, now| {
            let mut cpu = CpuFacts { usage_ns: Some(usage_ns), allocated_cores: Some(cores), ..CpuFacts::default() };
            kept.step(&mut cpu, now);
            (cpu.capacity_seconds.unwrap(), cpu.idle_seconds.unwrap(), cpu.usage_rate_cores)
        };
        const S: u64 = SECOND as u64;
        assert_eq!(at(100 * S, 2.0, 0), (0.0, 0.0, None), "integrals begin when the container is first seen");
        assert_eq!(at(101 * S, 2.0, SECOND), (2.0, 1.0, Some(1.0)));
        assert_eq!(at(101 * S + S / 4, 1.0, SECOND + SECOND / 2), (2.5, 1.25, Some(1.0)), "no rate over half a second");
        assert_eq!(at(105 * S, 1.0, 2 * SECOND + SECOND / 2), (3.5, 1.25, Some(4.0 / 1.5)), "no idle step below 0");
        assert_eq!(at(104 * S, 1.0, 2 * SECOND), (3.5, 1.25, Some(4.0 / 1.5)), "a clock that goes back adds nothing");
    }

    #[test]
    fn usage_of_the_machine() {
        let mut raw = Raw::default();
        proc_stat(b"cpu  10 1 5 900 7 2 3 4 5 0\ncpu0 1 2 3\n", &mut raw).unwrap();
        assert_eq!(raw.facts.user_ns, Some(110_000_000));
        assert_eq!(raw.facts.system_ns, Some(100_000_000));
        assert_eq!(raw.facts.usage_ns, Some(210_000_000));
        assert_eq!(proc_stat(b"cpu  10 x", &mut Raw::default()), Err(Malformed));
    }
}
