//! Containers whose runtime is asked in the background: its newest figures become this collection's facts.
//!
//! One reader fills the facts of all subjects, since one answer brings them all; it runs after the readers of kernel
//! files, which know nothing of such containers. On every platform, since the command may be named on any.

use std::sync::Arc;

use super::guest::Inner;
use super::peers::{self, AddressBook};
use super::{Context, Reader, Slots, cpu};
use crate::catalog;
use crate::root::SECOND;
use crate::runtime::Container;
use crate::runtime::apple::Measured;
use crate::snapshot::{ContainerFacts, DeviceIo, InterfaceFacts, Limit, Snapshot};

/// What the runtime says for "no limit".
const UNLIMITED: u64 = u64::MAX;

#[derive(Default)]
pub struct Vm {
    slots: Slots<State>,
    book: AddressBook,
}

#[derive(Default)]
struct State {
    cpu: cpu::Kept,
    rates: Option<Rates>,
    interface: Arc<str>,
    inner: Inner,
}

/// The answer that rates are counted from, and the rates since it.
#[derive(Default, Clone, Copy)]
struct Rates {
    boot: i64,
    rx: Option<u64>,
    tx: Option<u64>,
    blocks: Option<u64>,
    rx_rate: Option<f64>,
    tx_rate: Option<f64>,
    blocks_rate: Option<f64>,
}

impl Reader for Vm {
    fn open(&mut self, slot: usize, container: &Arc<Container>, _: &mut Context<'_>) {
        if container.measured.is_some() {
            // The figures are sums over the VM's interfaces, which are all named eth….
            let interface =
                if container.addresses.iter().filter(|a| a.is_ipv4()).count() > 1 { "eth*" } else { "eth0" };
            self.slots.set(slot, State { interface: interface.into(), ..State::default() });
        } else {
            self.slots.clear(slot);
        }
    }

    fn close(&mut self, slot: usize) {
        self.slots.clear(slot);
    }

    fn read(&mut self, snapshot: &mut Snapshot, slots: &[usize], ctx: &mut Context<'_>) {
        self.ask_guests(snapshot, slots, ctx);
        for (facts, slot) in snapshot.containers.iter_mut().zip(slots) {
            let Some(state) = self.slots.get(*slot) else { continue };
            let container = facts.container.clone();
            allocations(facts, &container);
            let Some(cell) = &container.measured else { continue };
            cell.with(|m| state.fill(facts, m));
            let link_speed = ctx.config.network.link_speed;
            if cell.with_guest(|_| ()).is_some() {
                if let Some((usage, boot)) = state.inner.cpu_usage().filter(|_| facts.cpu.usage_ns.is_none()) {
                    facts.cpu.usage_ns = Some(usage);
                    state.cpu.step(&mut facts.cpu, boot);
                }
                state.inner.fill(facts, &state.interface);
            }
            // A virtual interface has no speed of its own.
            facts.network.interfaces.iter_mut().for_each(|i| i.speed_bytes_per_second = link_speed);
        }
    }
}

impl Vm {
    /// Takes in what guests have told since the last collection.
    fn ask_guests(&mut self, snapshot: &Snapshot, slots: &[usize], ctx: &Context<'_>) {
        let Self { slots: states, book, .. } = self;
        let mut written = false;
        for (facts, slot) in snapshot.containers.iter().zip(slots) {
            let Some((state, cell)) = states.get(*slot).zip(facts.container.measured.as_ref()) else { continue };
            let dropped = cell.with_guest(|guest| {
                if state.inner.is_of(guest) {
                    return 0;
                }
                if !std::mem::replace(&mut written, true) {
                    write(book, snapshot);
                }
                state.inner.take(guest, book, &peers::name(&facts.container.identity))
            });
            if let Some(n @ 1..) = dropped {
                ctx.held.add(catalog::DROPPED_SERIES, &["peers"], n);
            }
        }
    }
}

/// The addresses of all containers: seldom, when a guest has told something new.
fn write(book: &mut AddressBook, snapshot: &Snapshot) {
    book.clear();
    for container in snapshot.containers.iter().map(|facts| &facts.container) {
        if container.identity.id != "/" && !container.host_network {
            book.add(&peers::name(&container.identity), &container.addresses);
        }
    }
}

/// What the VM was given is known before anything is measured.
fn allocations(facts: &mut ContainerFacts, container: &Container) {
    let Some(vm) = &container.vm else { return };
    facts.cpu.allocated_cores = vm.cpus;
    facts.memory.allocated = vm.memory_bytes;
}

impl State {
    fn fill(&mut self, facts: &mut ContainerFacts, m: &Measured) {
        let s = &m.stats;
        facts.cpu.usage_ns = s.cpu_usage_usec.map(|us| us.saturating_mul(1000));
        // The integrals run on the clock of the answers: usage is as old as they are.
        self.cpu.step(&mut facts.cpu, m.boot);
        facts.memory.usage = s.memory_usage_bytes;
        facts.memory.limit = s.memory_limit_bytes.map(|b| if b == UNLIMITED { Limit::Max } else { Limit::Value(b) });
        facts.process.threads = s.num_processes;
        if s.network_rx_bytes.is_some() || s.network_tx_bytes.is_some() {
            facts.network.interfaces.push(InterfaceFacts {
                name: self.interface.clone(),
                rx_bytes: s.network_rx_bytes,
                tx_bytes: s.network_tx_bytes,
                ..InterfaceFacts::default()
            });
        }
        if s.block_read_bytes.is_some() || s.block_write_bytes.is_some() {
            // A sum over the VM's disks: no device can be named.
            facts.storage.devices.push(DeviceIo {
                read_bytes: s.block_read_bytes,
                write_bytes: s.block_write_bytes,
                ..DeviceIo::default()
            });
        }
        let rates = self.step(m);
        facts.network.rx_rate = rates.rx_rate;
        facts.network.tx_rate = rates.tx_rate;
        facts.storage.bytes_rate = rates.blocks_rate;
    }

    fn step(&mut self, m: &Measured) -> Rates {
        let s = &m.stats;
        let blocks = s.block_read_bytes.zip(s.block_write_bytes).map(|(r, w)| r.saturating_add(w));
        let now = Rates { boot: m.boot, rx: s.network_rx_bytes, tx: s.network_tx_bytes, blocks, ..Rates::default() };
        let rates = match self.rates {
            // The same answer as last time.
            Some(old) if old.boot == now.boot => old,
            Some(old) => {
                let seconds = (now.boot - old.boot) as f64 / SECOND as f64;
                let per = |new: Option<u64>, old: Option<u64>| Some(new?.checked_sub(old?)? as f64 / seconds);
                Rates {
                    rx_rate: per(now.rx, old.rx),
                    tx_rate: per(now.tx, old.tx),
                    blocks_rate: per(now.blocks, old.blocks),
                    ..now
                }
            }
            None => now,
        };
        self.rates = Some(rates);
        rates
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::apple::shapes::Stats;

    fn measured(boot: i64, rx: u64) -> Measured {
        let stats = Stats { cpu_usage_usec: Some(rx), network_rx_bytes: Some(rx), ..Stats::default() };
        Measured { wall: 0, boot, stats }
    }

    #[test]
    fn rates_are_between_answers_not_between_scrapes() {
        let mut state = State::default();
        let mut at = |boot, rx| {
            let mut facts = ContainerFacts::default();
            state.fill(&mut facts, &measured(boot, rx));
            facts.network.rx_rate
        };
        assert_eq!(at(0, 100), None);
        assert_eq!(at(0, 100), None, "the same answer again");
        assert_eq!(at(2 * SECOND, 300), Some(100.0));
        assert_eq!(at(2 * SECOND, 300), Some(100.0));
        assert_eq!(at(3 * SECOND, 0), None, "counters start at 0 with each boot");
    }
}
