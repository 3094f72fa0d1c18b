//! The machine's memory, cores and file systems.

use super::each;
use crate::catalog::*;
use crate::kernel::topology::CoreType;
use crate::sample::{Entity, Samples};
use crate::snapshot::{HostFacts, Snapshot};

pub fn emit(snapshot: &Snapshot, entities: &[Entity], out: &mut Samples) {
    let host = &snapshot.host;
    out.push_opt(MACHINE_MEMORY, Entity::NONE, host.memory_bytes);
    out.push_opt(MACHINE_SWAP, Entity::NONE, host.swap_bytes);
    out.push_opt(MACHINE_CPU_CORES, Entity::NONE, host.cpus_online);
    out.push_opt(MACHINE_CPU_PHYSICAL_CORES, Entity::NONE, host.physical_cores);
    cores(host, out);
    // cAdvisor has the machine's file systems on its root cgroup.
    if let Some((_, machine)) = each(snapshot, entities).find(|(facts, _)| facts.container.identity.id == "/") {
        filesystems(host, machine, out);
    }
}

fn cores(host: &HostFacts, out: &mut Samples) {
    let mut push = |core_type, n: u32| {
        out.push_with(HOST_CPU_CORES, Entity::NONE, &[("core_type", core_type)], f64::from(n));
    };
    match host.cores_by_type {
        Some(counts) => CoreType::NAMES.into_iter().zip(counts).for_each(|(name, n)| push(name, n)),
        None => {
            if let Some(n) = host.physical_cores.or(host.cpus_online) {
                push(CoreType::UNIFORM, n);
            }
        }
    }
}

fn filesystems(host: &HostFacts, machine: Entity, out: &mut Samples) {
    for f in &host.filesystems {
        let device = out.extra(&[("device", &f.device)]);
        out.push_extra(FS_USAGE, machine, device, f.used as f64);
        out.push_extra(FS_LIMIT, machine, device, f.size as f64);
        // btrfs and others make inodes as they need them.
        if f.inodes > 0 {
            out.push_extra(FS_INODES_FREE, machine, device, f.inodes_free as f64);
            out.push_extra(FS_INODES_TOTAL, machine, device, f.inodes as f64);
        }
    }
}
