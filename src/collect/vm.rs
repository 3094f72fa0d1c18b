//! The virtual machine around a container, and how old the figures are that its runtime was asked for.

use std::fmt::Write;

use crate::catalog::{self, Collector};
use crate::collect::each;
use crate::root::SECOND;
use crate::sample::{Entity, Samples};
use crate::snapshot::Snapshot;

pub fn emit(snapshot: &Snapshot, entities: &[Entity], out: &mut Samples) {
    let mut newest = None;
    let (mut cpus, mut devices) = (String::new(), String::new());
    for (facts, entity) in each(snapshot, entities) {
        out.push_opt(catalog::VM_HOST_MEMORY, entity, facts.vm.host_memory);
        out.push_opt(catalog::VM_GUEST_USED, entity, facts.vm.guest_used);
        if let Some(vm) = &facts.container.vm {
            let (mut memory, mut swap) = (itoa::Buffer::new(), itoa::Buffer::new());
            cpus.clear();
            devices.clear();
            // Writing to a string cannot fail.
            let _ = vm.cpus.map(|n| write!(cpus, "{n}"));
            for (at, device) in vm.devices.iter().enumerate() {
                devices.push_str(if at > 0 { "," } else { "" });
                devices.push_str(device);
            }
            let labels = [
                ("cpus", cpus.as_str()),
                ("memory_bytes", vm.memory_bytes.map_or("", |n| memory.format(n))),
                ("swap", vm.swap_bytes.map_or("", |n| swap.format(n))),
                ("kernel", vm.kernel.as_str()),
                ("devices", devices.as_str()),
            ];
            out.push_with(catalog::VM_INFO, entity, &labels, 1.0);
        }
        let answered = facts.container.measured.as_ref().and_then(|cell| cell.with(|m| m.wall));
        newest = newest.max(answered);
    }
    if let Some(wall) = newest {
        let labels = [("collector", Collector::Vm.name())];
        out.push_with(catalog::COLLECTOR_LAST_SUCCESS, Entity::NONE, &labels, wall as f64 / SECOND as f64);
    }
}
