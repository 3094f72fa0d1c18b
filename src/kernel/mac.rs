//! Readers of what macOS tells: the machine's cores, load, memory, thermal state and energy, and the processes that virtual
//! machines are.
//!
//! They ask a [`System`], so that they are tried on every platform; only on a Mac is there a real one.

use std::sync::Arc;

use super::topology::CoreType;
use super::{Context, Reader, Slots, Timer, cpu, selfproc, vm};
use crate::catalog::Collector;
use crate::macos::System;
use crate::macos::map::{CpuTime, core_types, cores_by_type, disk_of, machine_of, thermal_state};
use crate::runtime::Container;
use crate::snapshot::{ContainerFacts, CoreLoad, Snapshot};

/// The reader of a collector, where it has one on a Mac.
pub fn reader(collector: Collector, system: &Arc<dyn System>) -> Option<Box<dyn Reader>> {
    let system = system.clone();
    Some(match collector {
        Collector::Cpu => Box::new(Cores { system, types: None, time: CpuTime::default(), kept: cpu::Kept::default() }),
        Collector::Host => Box::new(Host(system)),
        Collector::Thermal => Box::new(Thermal(system)),
        Collector::Energy => Box::new(Energy(system)),
        Collector::Process => Box::new(Machines { system, slots: Slots::default() }),
        Collector::Vm => Box::new(vm::Vm::default()),
        Collector::Exporter => Box::new(selfproc::SelfProcess::of(system)),
        _ => return None,
    })
}

/// The facts of the machine itself.
fn whole(snapshot: &mut Snapshot) -> Option<&mut ContainerFacts> {
    snapshot.containers.iter_mut().find(|facts| facts.container.identity.id == "/")
}

/// How busy each core is, and the CPU time of all.
struct Cores {
    system: Arc<dyn System>,
    /// Asked once: cores do not change.
    types: Option<Vec<(u32, usize)>>,
    /// The whole machine's.
    time: CpuTime,
    kept: cpu::Kept,
}

impl Reader for Cores {
    fn open(&mut self, _: usize, _: &Arc<Container>, _: &mut Context<'_>) {}

    fn close(&mut self, _: usize) {}

    fn read(&mut self, snapshot: &mut Snapshot, _: &[usize], ctx: &mut Context<'_>) {
        let types = self.types.get_or_insert_with(|| core_types(&self.system.clusters()));
        let load = self.system.load(ctx.root.clock.boot());
        snapshot.host.load.extend((0..).zip(&load).map(|(core, busy)| CoreLoad {
            core,
            core_type: types.iter().find(|(of, _)| *of == core).map(|(_, place)| CoreType::NAMES[*place]),
            busy: *busy,
        }));
        if let Some(machine) = whole(snapshot) {
            let cpu = &mut machine.cpu;
            cpu.allocated_cores = self.system.number("hw.activecpu").map(|n| n as f64);
            if let Some(ticks) = self.system.ticks() {
                self.time.advance(ticks);
                let (user, system) = (self.time.user_ns(), self.time.system_ns());
                (cpu.user_ns, cpu.system_ns, cpu.usage_ns) = (Some(user), Some(system), Some(user + system));
                self.kept.step(cpu, ctx.root.clock.boot());
            }
        }
    }
}

/// Cores, memory, swap and processes of the machine.
struct Host(Arc<dyn System>);

impl Reader for Host {
    fn open(&mut self, _: usize, _: &Arc<Container>, _: &mut Context<'_>) {}

    fn close(&mut self, _: usize) {}

    fn read(&mut self, snapshot: &mut Snapshot, _: &[usize], _: &mut Context<'_>) {
        let count = |name: &str| self.0.number(name).and_then(|n| u32::try_from(n).ok());
        let told = self.0.memory();
        let host = &mut snapshot.host;
        host.memory_bytes = told.total.or_else(|| self.0.number("hw.memsize"));
        host.swap_bytes = told.swap;
        host.cpus_online = count("hw.activecpu");
        host.physical_cores = count("hw.physicalcpu");
        host.cores_by_type = cores_by_type(&self.0.levels());
        if let Some(machine) = whole(snapshot) {
            machine.memory.usage = told.used;
            machine.memory.swap = told.swap_used;
            machine.process.processes = told.processes;
        }
    }
}

/// The machine's thermal pressure.
struct Thermal(Arc<dyn System>);

impl Reader for Thermal {
    fn open(&mut self, _: usize, _: &Arc<Container>, _: &mut Context<'_>) {}

    fn close(&mut self, _: usize) {}

    fn read(&mut self, snapshot: &mut Snapshot, _: &[usize], ctx: &mut Context<'_>) {
        let level = self.0.thermal_pressure();
        snapshot.host.thermal = level.and_then(thermal_state);
        match level {
            Some(_) => ctx.capabilities.yes("thermal_pressure"),
            None => ctx.capabilities.no("thermal_pressure", "macOS does not tell its thermal pressure"),
        }
    }
}

/// The machine's energy, and whether it comes from a battery.
struct Energy(Arc<dyn System>);

impl Reader for Energy {
    fn open(&mut self, _: usize, _: &Arc<Container>, _: &mut Context<'_>) {}

    fn close(&mut self, _: usize) {}

    fn read(&mut self, snapshot: &mut Snapshot, _: &[usize], ctx: &mut Context<'_>) {
        snapshot.host.on_battery = self.0.on_battery();
        match self.0.energy() {
            Ok(parts) => {
                ctx.capabilities.yes("power");
                snapshot.host.energy.extend(parts.into_iter().map(|(part, joules)| (part.into(), joules)));
            }
            Err(why) => ctx.capabilities.no("power", why),
        }
    }
}

/// Memory, core time and energy of the process that a container's virtual machine is.
struct Machines {
    system: Arc<dyn System>,
    slots: Slots<Machine>,
}

#[derive(Default)]
struct Machine {
    container: Arc<Container>,
    /// Looking for it goes through all open files of all processes: once at first, then once a minute.
    look: Timer,
    pid: Option<u32>,
}

impl Reader for Machines {
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
                machine.pid = machine.find(&*self.system);
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
    fn find(&self, system: &dyn System) -> Option<u32> {
        let disk = disk_of(self.container.data_root.as_deref()?, &self.container.native_id)?;
        machine_of(&system.openers(&disk))
    }
}

fn fill(facts: &mut ContainerFacts, usage: crate::macos::map::Usage) {
    facts.vm.host_memory = Some(usage.footprint);
    facts.cpu.core_type_ns = usage.by_core_type();
    facts.cpu.energy_joules = usage.joules();
}
