//! The exporter's build and what it takes.

use crate::catalog::*;
use crate::sample::{Entity, Samples};
use crate::snapshot::Snapshot;

pub fn emit(snapshot: &Snapshot, out: &mut Samples) {
    let build = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("revision", env!("KINA_REVISION")),
        ("rustc", env!("KINA_RUSTC")),
        ("os", std::env::consts::OS),
        ("arch", std::env::consts::ARCH),
    ];
    out.push_with(BUILD_INFO, Entity::NONE, &build, 1.0);
    let facts = &snapshot.exporter;
    out.push_opt(PROCESS_CPU, Entity::NONE, facts.cpu_seconds);
    out.push_opt(PROCESS_RESIDENT, Entity::NONE, facts.resident_bytes);
    out.push_opt(PROCESS_VIRTUAL, Entity::NONE, facts.virtual_bytes);
    out.push_opt(PROCESS_OPEN_FDS, Entity::NONE, facts.open_fds);
    out.push_opt(PROCESS_MAX_FDS, Entity::NONE, facts.max_fds);
    out.push_opt(PROCESS_START_TIME, Entity::NONE, facts.start_time_seconds);
}
