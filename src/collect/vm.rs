//! The virtual machine around a container, and how old the figures are that its runtime was asked for.

use crate::catalog::{self, Collector};
use crate::collect::each;
use crate::root::SECOND;
use crate::sample::{Entity, Samples};
use crate::snapshot::Snapshot;

pub fn emit(snapshot: &Snapshot, entities: &[Entity], out: &mut Samples) {
    let mut newest = None;
    for (facts, entity) in each(snapshot, entities) {
        out.push_opt(catalog::VM_HOST_MEMORY, entity, facts.vm.host_memory);
        out.push_opt(catalog::VM_GUEST_USED, entity, facts.vm.guest_used);
        if let Some(vm) = &facts.container.vm {
            let number = |n: Option<u64>| n.map(|n| n.to_string()).unwrap_or_default();
            let labels = [
                ("cpus", vm.cpus.map(|n| n.to_string()).unwrap_or_default()),
                ("memory_bytes", number(vm.memory_bytes)),
                ("swap", number(vm.swap_bytes)),
                ("kernel", vm.kernel.clone()),
                ("devices", vm.devices.join(",")),
            ];
            out.push_with(catalog::VM_INFO, entity, &labels.each_ref().map(|(k, v)| (*k, v.as_str())), 1.0);
        }
        let answered = facts.container.measured.as_ref().and_then(|cell| cell.with(|m| m.wall));
        newest = newest.max(answered);
    }
    if let Some(wall) = newest {
        let labels = [("collector", Collector::Vm.name())];
        out.push_with(catalog::COLLECTOR_LAST_SUCCESS, Entity::NONE, &labels, wall as f64 / SECOND as f64);
    }
}
