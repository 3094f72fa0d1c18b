//! Readers of what macOS tells: the machine's cores, memory and thermal state, and the processes that virtual machines are.
//!
//! They ask a [`System`], so that they are tried on every platform; only on a Mac is there a real one.

use std::sync::Arc;

use super::{Context, Reader, Slots, Timer};
use crate::macos::System;
use crate::macos::map::{cores_by_type, disk_of, machine_of, thermal_state};
use crate::runtime::Container;
use crate::snapshot::{ContainerFacts, Snapshot};

/// Cores, memory and swap of the machine.
pub struct Host<S>(pub S);

impl<S: System> Reader for Host<S> {
    fn open(&mut self, _: usize, _: &Arc<Container>, _: &mut Context<'_>) {}

    fn close(&mut self, _: usize) {}

    fn read(&mut self, snapshot: &mut Snapshot, _: &[usize], _: &mut Context<'_>) {
        let count = |name: &str| self.0.number(name).and_then(|n| u32::try_from(n).ok());
        let host = &mut snapshot.host;
        host.memory_bytes = self.0.number("hw.memsize");
        host.swap_bytes = self.0.swap();
        host.cpus_online = count("hw.activecpu");
        host.physical_cores = count("hw.physicalcpu");
        host.cores_by_type = cores_by_type(&self.0.levels());
    }
}

/// The machine's thermal pressure.
pub struct Thermal<S>(pub S);

impl<S: System> Reader for Thermal<S> {
    fn open(&mut self, _: usize, _: &Arc<Container>, _: &mut Context<'_>) {}

    fn close(&mut self, _: usize) {}

    fn read(&mut self, snapshot: &mut Snapshot, _: &[usize], _: &mut Context<'_>) {
        snapshot.host.thermal = self.0.thermal_pressure().and_then(thermal_state);
    }
}

/// Memory, core time and energy of the process that a container's virtual machine is.
pub struct Machines<S> {
    system: S,
    slots: Slots<Machine>,
}

#[derive(Default)]
struct Machine {
    container: Arc<Container>,
    /// Looking for it goes through all open files of all processes: once at first, then once a minute.
    look: Timer,
    pid: Option<u32>,
}

impl<S> Machines<S> {
    pub fn new(system: S) -> Self {
        Self { system, slots: Slots::default() }
    }
}

impl<S: System> Reader for Machines<S> {
    fn open(&mut self, slot: usize, container: &Arc<Container>, _: &mut Context<'_>) {
        if container.data_root.is_some() {
            self.slots.set(slot, Machine { container: container.clone(), ..Machine::default() });
        } else {
            self.slots.clear(slot);
        }
    }

    fn close(&mut self, slot: usize) {
        self.slots.clear(slot);
    }

    fn read(&mut self, snapshot: &mut Snapshot, slots: &[usize], ctx: &mut Context<'_>) {
        let now = ctx.root.clock.boot();
        for (facts, slot) in snapshot.containers.iter_mut().zip(slots) {
            let Some(machine) = self.slots.get(*slot) else { continue };
            if machine.pid.is_none() && machine.look.due(now) {
                machine.pid = machine.find(&self.system);
            }
            let Some(pid) = machine.pid else { continue };
            match self.system.usage(pid) {
                Some(usage) => fill(facts, usage),
                None => machine.pid = None,
            }
        }
    }
}

impl Machine {
    fn find(&self, system: &impl System) -> Option<u32> {
        let disk = disk_of(self.container.data_root.as_deref()?, &self.container.native_id)?;
        machine_of(&system.openers(&disk))
    }
}

fn fill(facts: &mut ContainerFacts, usage: crate::macos::map::Usage) {
    facts.vm.host_memory = Some(usage.footprint);
    facts.cpu.core_type_ns = usage.by_core_type();
    facts.cpu.energy_joules = usage.joules();
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::macos::map::{Level, Usage};

    struct Fake;

    impl System for Fake {
        fn levels(&self) -> Vec<Level> {
            [("Performance", 6), ("Efficiency", 4)].map(|(n, cores)| Level { name: n.to_owned(), cores }).into()
        }

        fn number(&self, name: &str) -> Option<u64> {
            (name == "hw.memsize").then_some(32 << 30)
        }

        fn swap(&self) -> Option<u64> {
            None
        }

        fn thermal_pressure(&self) -> Option<u64> {
            Some(2)
        }

        fn openers(&self, file: &Path) -> Vec<(u32, String)> {
            assert_eq!(file, Path::new("/data/containers/web/rootfs.ext4"));
            vec![(5, "/x/container-runtime-linux".into()), (7, "/x/com.apple.Virtualization.VirtualMachine".into())]
        }

        fn usage(&self, pid: u32) -> Option<Usage> {
            (pid == 7).then_some(Usage {
                footprint: 900,
                cpu_ns: 10,
                performance_ns: Some(4),
                energy_nj: Some(2_000_000_000),
            })
        }
    }

    #[test]
    fn a_machines_process_fills_its_containers_facts() {
        let container = Container { native_id: "web".into(), data_root: Some("/data".into()), ..Container::default() };
        let machine = Machine { container: Arc::new(container), ..Machine::default() };
        assert_eq!(machine.find(&Fake), Some(7), "not the helper");
        let mut facts = ContainerFacts::default();
        fill(&mut facts, Fake.usage(7).unwrap());
        assert_eq!(facts.vm.host_memory, Some(900));
        assert_eq!((facts.cpu.core_type_ns, facts.cpu.energy_joules), (Some([4, 6]), Some(2.0)));
    }
}
