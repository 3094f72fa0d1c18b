//! Snapshot → samples of catalog families, one file a subject.

use crate::catalog::Collector;
use crate::config::Config;
use crate::sample::{Entity, Samples};
use crate::snapshot::Snapshot;

/// Turns one collector's facts into samples. `entities[i]` is the entity of `snapshot.containers[i]`, or
/// [`Entity::NONE`] for a container that is gone (skip it).
pub fn emit(collector: Collector, snapshot: &Snapshot, entities: &[Entity], config: &Config, out: &mut Samples) {
    let _ = (collector, snapshot, entities, config, out);
}
