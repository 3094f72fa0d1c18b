//! Processes, threads, file descriptors, context switches and logical reads.

use crate::catalog;
use crate::collect::each;
use crate::sample::{Entity, Samples};
use crate::snapshot::{Limit, Snapshot};

pub fn emit(snapshot: &Snapshot, entities: &[Entity], out: &mut Samples) {
    let kinds = ["voluntary", "involuntary", "all"].map(|kind| out.extra(&[("kind", kind)]));
    for (facts, entity) in each(snapshot, entities) {
        let p = &facts.process;
        out.push_opt(catalog::PROCESSES, entity, p.processes);
        out.push_opt(catalog::THREADS, entity, p.threads);
        out.push_opt(catalog::THREADS_MAX, entity, p.threads_max.map(|max| Limit::value(max).unwrap_or(0)));
        out.push_opt(catalog::FILE_DESCRIPTORS, entity, p.file_descriptors);
        for (kind, n) in kinds.into_iter().zip([p.switches_voluntary, p.switches_involuntary, p.switches_all]) {
            if let Some(n) = n {
                out.push_extra(catalog::CONTEXT_SWITCHES, entity, kind, n as f64);
            }
        }
        out.push_opt(catalog::STORAGE_LOGICAL_READ, entity, facts.storage.logical_read_bytes);
    }
}
