//! Pressure stall information.

use crate::catalog;
use crate::collect::{each, seconds_of_us};
use crate::sample::{Entity, Samples};
use crate::snapshot::Snapshot;

pub fn emit(snapshot: &Snapshot, entities: &[Entity], out: &mut Samples) {
    for (facts, entity) in each(snapshot, entities) {
        let p = &facts.pressure;
        for (family, total) in [
            (catalog::PRESSURE_CPU_WAITING, p.cpu_some_us),
            (catalog::PRESSURE_CPU_STALLED, p.cpu_full_us),
            (catalog::PRESSURE_MEMORY_WAITING, p.memory_some_us),
            (catalog::PRESSURE_MEMORY_STALLED, p.memory_full_us),
            (catalog::PRESSURE_IO_WAITING, p.io_some_us),
            (catalog::PRESSURE_IO_STALLED, p.io_full_us),
        ] {
            out.push_opt(family, entity, seconds_of_us(total));
        }
    }
}
