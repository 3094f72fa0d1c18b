//! Energy of the machine and each container's share.

use super::each;
use crate::catalog::*;
use crate::sample::{Entity, Samples};
use crate::snapshot::Snapshot;

pub fn emit(snapshot: &Snapshot, entities: &[Entity], out: &mut Samples) {
    for (domain, joules) in &snapshot.host.energy {
        out.push_with(HOST_ENERGY, Entity::NONE, &[("domain", domain)], *joules);
    }
    for (facts, entity) in each(snapshot, entities) {
        out.push_opt(CONTAINER_ENERGY, entity, facts.cpu.energy_joules);
    }
}
