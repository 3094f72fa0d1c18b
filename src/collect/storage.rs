//! Block I/O by device, and where measured its latency.

use crate::catalog;
use crate::collect::each;
use crate::sample::{Entity, Samples};
use crate::snapshot::Snapshot;

pub fn emit(snapshot: &Snapshot, entities: &[Entity], out: &mut Samples) {
    for (facts, entity) in each(snapshot, entities) {
        let storage = &facts.storage;
        for io in &storage.devices {
            let device = out.extra(&[("device", &io.device)]);
            for (family, n) in [
                (catalog::FS_READS, io.reads),
                (catalog::FS_WRITES, io.writes),
                (catalog::FS_READS_BYTES, io.read_bytes),
                (catalog::FS_WRITES_BYTES, io.write_bytes),
            ] {
                if let Some(n) = n {
                    out.push_extra(family, entity, device, n as f64);
                }
            }
        }
        out.push_opt(catalog::STORAGE_QUEUE_DEPTH, entity, storage.queue_depth);
        if let Some(latency) = &storage.latency {
            for (op, histogram) in ["read", "write"].into_iter().zip(latency.iter()) {
                out.push_histogram(catalog::STORAGE_LATENCY, entity, &[("op", op)], histogram);
            }
        }
    }
}
