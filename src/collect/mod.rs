//! Snapshot → samples of catalog families, one file a subject.

pub mod advice;
mod cpu;
mod device;
mod energy;
mod exporter;
mod host;
mod lifecycle;
mod memory;
mod network;
mod pressure;
mod process;
mod socket;
mod storage;
mod thermal;
mod vm;

use crate::catalog::Collector;
use crate::config::Config;
use crate::sample::{Entity, Samples};
use crate::snapshot::{ContainerFacts, Snapshot};

/// Turns one collector's facts into samples. `entities[i]` is the entity of `snapshot.containers[i]`: containers that
/// ended while they were read are in neither.
pub fn emit(collector: Collector, snapshot: &Snapshot, entities: &[Entity], config: &Config, out: &mut Samples) {
    match collector {
        Collector::Cpu => cpu::emit(snapshot, entities, out),
        Collector::Lifecycle => lifecycle::emit(snapshot, entities, config, out),
        Collector::Memory => memory::emit(snapshot, entities, out),
        Collector::Storage => storage::emit(snapshot, entities, out),
        Collector::Network => network::emit(snapshot, entities, out),
        Collector::Process => process::emit(snapshot, entities, out),
        Collector::Pressure => pressure::emit(snapshot, entities, out),
        Collector::Socket => socket::emit(snapshot, entities, config, out),
        Collector::Vm => vm::emit(snapshot, entities, out),
        Collector::Host => host::emit(snapshot, entities, out),
        Collector::Device => device::emit(snapshot, out),
        Collector::Thermal => thermal::emit(snapshot, out),
        Collector::Energy => energy::emit(snapshot, entities, out),
        Collector::Exporter => exporter::emit(snapshot, out),
        _ => {}
    }
}

/// Each container's facts with its entity.
fn each<'s>(snapshot: &'s Snapshot, entities: &'s [Entity]) -> impl Iterator<Item = (&'s ContainerFacts, Entity)> {
    snapshot.containers.iter().zip(entities.iter().copied())
}

/// Nanoseconds as seconds.
fn seconds(ns: Option<u64>) -> Option<f64> {
    ns.map(|n| n as f64 / 1e9)
}

/// Microseconds as seconds.
fn seconds_of_us(us: Option<u64>) -> Option<f64> {
    us.map(|n| n as f64 / 1e6)
}
