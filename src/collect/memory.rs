//! Memory by kind, limits, faults, reclaim and OOM kills.

use crate::catalog;
use crate::collect::each;
use crate::sample::{Entity, Samples};
use crate::snapshot::{Limit, Snapshot};

pub fn emit(snapshot: &Snapshot, entities: &[Entity], out: &mut Samples) {
    let kinds = ["process", "shared_libraries", "page_cache", "guest_kernel", "vm_overhead"];
    let kinds = kinds.map(|kind| out.extra(&[("kind", kind)]));
    let failures =
        [("pgfault", "container"), ("pgmajfault", "container"), ("pgfault", "hierarchy"), ("pgmajfault", "hierarchy")];
    let failures = failures.map(|(what, scope)| out.extra(&[("failure_type", what), ("scope", scope)]));
    for (facts, entity) in each(snapshot, entities) {
        let m = &facts.memory;
        for (family, value) in [
            (catalog::MEMORY_USAGE, m.usage),
            (catalog::MEMORY_WORKING_SET, m.working_set()),
            (catalog::MEMORY_RSS, m.anon),
            (catalog::MEMORY_CACHE, m.file),
            (catalog::MEMORY_SWAP, m.swap),
            (catalog::MEMORY_MAPPED_FILE, m.file_mapped),
            (catalog::MEMORY_MAX_USAGE, m.peak),
            (catalog::MEMORY_KERNEL_USAGE, m.kernel),
            (catalog::MEMORY_ACTIVE_FILE, m.active_file),
            (catalog::MEMORY_INACTIVE_FILE, m.inactive_file),
            (catalog::MEMORY_FILE_DIRTY, m.file_dirty),
            (catalog::MEMORY_FILE_WRITEBACK, m.file_writeback),
            (catalog::MEMORY_EVENTS_HIGH, m.events_high),
            (catalog::MEMORY_EVENTS_MAX, m.events_max),
            (catalog::MEMORY_FAILCNT, m.events_max),
            (catalog::MEMORY_PGSCAN, m.pgscan),
            (catalog::MEMORY_PGSTEAL, m.pgsteal),
            (catalog::MEMORY_REFAULT_FILE, m.refault_file),
            (catalog::MEMORY_REFAULT_ANON, m.refault_anon),
            (catalog::OOM_EVENTS, m.oom_kill),
            (catalog::CONTAINER_SPEC_MEMORY_LIMIT, m.limit.map(or_zero)),
            (catalog::CONTAINER_SPEC_MEMORY_SWAP_LIMIT, m.swap_limit.map(or_zero)),
            (catalog::CONTAINER_SPEC_MEMORY_RESERVATION, m.reservation.map(or_zero)),
            (catalog::MEMORY_ALLOCATED, m.allocated),
            (catalog::MEMORY_AVAILABLE, m.available()),
        ] {
            out.push_opt(family, entity, value);
        }
        out.push_opt(catalog::MEMORY_EFFICIENCY, entity, m.efficiency());
        let by_kind = [m.process(), m.shared_libraries(), m.page_cache(), m.guest_kernel(), m.vm_overhead];
        for (extra, bytes) in kinds.into_iter().zip(by_kind) {
            if let Some(bytes) = bytes {
                out.push_extra(catalog::MEMORY_KIND, entity, extra, bytes as f64);
            }
        }
        let faults = [m.pgfault_own, m.pgmajfault_own, m.pgfault, m.pgmajfault];
        for (extra, n) in failures.into_iter().zip(faults) {
            if let Some(n) = n {
                out.push_extra(catalog::MEMORY_FAILURES, entity, extra, n as f64);
            }
        }
    }
}

/// cAdvisor writes "no limit" as 0.
fn or_zero(limit: Limit) -> u64 {
    limit.value().unwrap_or(0)
}
