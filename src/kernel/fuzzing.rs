//! What the fuzz target `kernel` tries: every parser of what a kernel writes, and what readers make of it.

use std::sync::Arc;

use super::cgroups::{self, Cgroups};
use super::file::Budget;
use super::table::{Source, Subject};
use super::{Context, cpu, diskstats, filesystems, meminfo, memory, netdev, netlink, parse, pressure, process, snmp};
use super::{sockdiag, sockstat, storage, thermal};
use crate::config::Config;
use crate::held::Held;
use crate::probe::Capabilities;
use crate::root::{Clock, FakeClock, ReadBuf, Root, SECOND};
use crate::runtime::{Container, Identity};
use crate::snapshot::ContainerFacts;

pub fn parse(bytes: &[u8]) {
    let clock = Arc::new(FakeClock::default());
    let (root, budget) = (Root::at("/nonexistent".as_ref(), Clock::Fake(clock.clone())), Budget::new(0));
    let (config, cgroups) = (Config::default(), Cgroups::default());
    let (capabilities, held, mut buf) = (Capabilities::default(), Held::default(), ReadBuf::default());
    let mut ctx = Context {
        root: &root,
        config: &config,
        capabilities: &capabilities,
        held: &held,
        cgroups: &cgroups,
        budget: &budget,
        buf: &mut buf,
        failures: 0,
    };
    subject(cpu::Cpu::default(), bytes, &clock, &mut ctx);
    subject(memory::Memory::default(), bytes, &clock, &mut ctx);
    subject(storage::Storage::default(), bytes, &clock, &mut ctx);
    subject(pressure::Pressure, bytes, &clock, &mut ctx);

    let _ = (parse::quota_v1(bytes), parse::limit_v1(bytes), parse::limit(bytes), parse::cpu_max(bytes));
    let _ = (parse::pids(bytes).count(), parse::cpu_list(bytes).count(), parse::device(bytes));
    if let Ok(stat) = parse::proc_stat(bytes) {
        assert!(stat.comm.len() < bytes.len());
    }
    process::fuzz(bytes);
    let _ = (snmp::parse(bytes), sockstat::parse(bytes), meminfo::parse(bytes), diskstats::parse(bytes).count());
    let _ = netdev::parse(bytes).flatten().filter(|(name, _)| netdev::ignored(name)).count();
    netlink::fuzz(bytes);
    sockdiag::fuzz(bytes);
    thermal::fuzz(bytes);
    let text = String::from_utf8_lossy(bytes);
    let _ = filesystems::parse(&text);
    let _ = cgroups::from_mountinfo(&text, "/sys/fs/cgroup".as_ref());
}

/// The same bytes in every file of a container, over three collections: in whole, cut, in whole again.
fn subject<S: Subject>(mut subject: S, bytes: &[u8], clock: &FakeClock, ctx: &mut Context<'_>) {
    for id in ["/", "/box"] {
        let identity = Identity { id: id.into(), ..Identity::default() };
        let container = Arc::new(Container { identity, ..Container::default() });
        let mut kept = subject.opened(&container, ctx);
        let mut facts = ContainerFacts::default();
        let mut raw = S::Raw::default();
        for bytes in [bytes, &bytes[..bytes.len() / 2], bytes] {
            clock.boot.fetch_add(15 * SECOND, std::sync::atomic::Ordering::Relaxed);
            subject.begin(&mut raw, ctx);
            S::reset(&mut raw);
            facts.reset(container.clone());
            for Source { parse, .. } in S::sources() {
                let _ = parse(bytes, &mut raw);
            }
            subject.finish(&mut raw, &mut kept, &mut facts, ctx);
            let memory = &facts.memory;
            let _ = (memory.page_cache(), memory.guest_kernel(), memory.working_set(), memory.efficiency());
        }
    }
}
