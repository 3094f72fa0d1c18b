//! CPU time, throttling, allocation.

use crate::catalog;
use crate::collect::{each, seconds};
use crate::kernel::topology::CoreType;
use crate::sample::{Entity, Samples};
use crate::snapshot::{Limit, Snapshot};

pub fn emit(snapshot: &Snapshot, entities: &[Entity], out: &mut Samples) {
    for load in &snapshot.host.load {
        let labels = [("core", &*load.core.to_string()), ("core_type", load.core_type.unwrap_or_default())];
        out.push_with(catalog::HOST_CORE_UTILIZATION, Entity::NONE, &labels, load.busy);
    }
    let total = out.extra(&[("cpu", "total")]);
    let uniform = out.extra(&[("core_type", CoreType::UNIFORM)]);
    let types = CoreType::NAMES.map(|name| out.extra(&[("core_type", name)]));
    for (facts, entity) in each(snapshot, entities) {
        let cpu = &facts.cpu;
        if let Some(usage) = seconds(cpu.usage_ns) {
            out.push_extra(catalog::CPU_USAGE, entity, total, usage);
        }
        out.push_opt(catalog::CPU_USER, entity, seconds(cpu.user_ns));
        out.push_opt(catalog::CPU_SYSTEM, entity, seconds(cpu.system_ns));
        out.push_opt(catalog::CONTAINER_SPEC_CPU_PERIOD, entity, cpu.period_us);
        out.push_opt(catalog::CONTAINER_SPEC_CPU_SHARES, entity, cpu.shares);
        // As cAdvisor: without a quota nothing is throttled, and there is nothing to tell.
        if let Some(Limit::Value(quota)) = cpu.quota_us {
            out.push(catalog::CONTAINER_SPEC_CPU_QUOTA, entity, quota as f64);
            out.push_opt(catalog::CPU_CFS_PERIODS, entity, cpu.nr_periods);
            out.push_opt(catalog::CPU_CFS_THROTTLED_PERIODS, entity, cpu.nr_throttled);
            out.push_opt(catalog::CPU_CFS_THROTTLED_SECONDS, entity, seconds(cpu.throttled_ns));
            out.push_opt(catalog::CPU_CFS_BURST_PERIODS, entity, cpu.nr_bursts);
            out.push_opt(catalog::CPU_CFS_BURST_SECONDS, entity, seconds(cpu.burst_ns));
        }
        out.push_opt(catalog::CPU_ALLOCATED, entity, cpu.allocated_cores);
        out.push_opt(catalog::CPU_CAPACITY, entity, cpu.capacity_seconds);
        out.push_opt(catalog::CPU_IDLE, entity, cpu.idle_seconds);
        match (cpu.cpuset_by_type, cpu.cpuset_cpus) {
            (Some(by_type), _) => {
                for (extra, n) in types.into_iter().zip(by_type) {
                    out.push_extra(catalog::CPU_AFFINITY, entity, extra, f64::from(n));
                }
            }
            (None, Some(n)) => out.push_extra(catalog::CPU_AFFINITY, entity, uniform, f64::from(n)),
            (None, None) => {}
        }
        for (extra, ns) in types.into_iter().zip(cpu.core_type_ns.into_iter().flatten()) {
            out.push_extra(catalog::CPU_CORE_TYPE_SECONDS, entity, extra, ns as f64 / 1e9);
        }
    }
}
