//! What the exporter itself takes: `getrusage`, and `/proc/self` or what a Mac says.

use std::path::Path;
use std::sync::Arc;

use super::file::KernelFile;
use super::{Context, Reader, parse};
use crate::catalog::Collector;
use crate::macos::System;
use crate::root::{self, Nanos, ReadError, SECOND};
use crate::runtime::Container;
use crate::snapshot::{ExporterFacts, Snapshot};

#[derive(Default)]
pub struct SelfProcess {
    /// Whom to ask where there is no `/proc`.
    mac: Option<Arc<dyn System>>,
    kept: Option<Kept>,
}

impl SelfProcess {
    pub fn of(mac: Arc<dyn System>) -> Self {
        Self { mac: Some(mac), kept: None }
    }
}

struct Kept {
    statm: Result<KernelFile, ReadError>,
    started: Nanos,
}

impl Reader for SelfProcess {
    fn open(&mut self, _slot: usize, _container: &Arc<Container>, _ctx: &mut Context<'_>) {}

    fn close(&mut self, _slot: usize) {}

    fn read(&mut self, snapshot: &mut Snapshot, _slots: &[usize], ctx: &mut Context<'_>) {
        if let Some(mac) = &self.mac {
            let own = mac.own();
            snapshot.exporter = ExporterFacts {
                cpu_seconds: root::cpu_seconds(),
                resident_bytes: own.resident,
                virtual_bytes: own.size,
                // The folder's own is among them while it is listed.
                open_fds: ctx.root.list(Path::new("/dev/fd")).ok().map(|all| all.len().saturating_sub(1) as u64),
                max_fds: root::descriptor_limit(),
                start_time_seconds: own.started.map(|s| s as f64),
            };
            return;
        }
        let kept = self.kept.get_or_insert_with(|| Kept::find(ctx));
        let mut facts = ExporterFacts {
            cpu_seconds: root::cpu_seconds(),
            start_time_seconds: Some(kept.started as f64 / SECOND as f64),
            open_fds: open_fds(ctx),
            max_fds: root::descriptor_limit(),
            ..ExporterFacts::default()
        };
        let statm = kept.statm.as_ref().map_err(|e| *e).and_then(|f| f.read(ctx.buf));
        match statm.and_then(|bytes| pages(bytes).ok_or(ReadError::Malformed)) {
            Ok((size, resident)) => {
                let page = root::page_size();
                facts.virtual_bytes = size.checked_mul(page);
                facts.resident_bytes = resident.checked_mul(page);
            }
            Err(e) => ctx.failed(Collector::Exporter, e),
        }
        snapshot.exporter = facts;
    }
}

impl Kept {
    fn find(ctx: &Context<'_>) -> Self {
        let own = ctx.root.procfs.join("self");
        Self { statm: KernelFile::open(&own.join("statm"), ctx.budget), started: started(ctx) }
    }
}

/// By the wall clock of now: a clock that is set later moves no start.
fn started(ctx: &Context<'_>) -> Nanos {
    let clock = &ctx.root.clock;
    let since_boot = || {
        let stat = ctx.root.read_bytes(&ctx.root.procfs.join("self/stat")).ok()?;
        let ticks = parse::proc_stat(&stat).ok()?.starttime;
        Nanos::try_from(ticks.checked_mul(super::cpu::TICK_NS)?).ok()
    };
    match since_boot() {
        Some(started) => (clock.wall() - clock.boot()).saturating_add(started),
        None => clock.wall(),
    }
}

/// Since Linux 6.2 the size of the folder tells how many descriptors are open; before it is 0.
fn open_fds(ctx: &Context<'_>) -> Option<u64> {
    let folder = ctx.root.procfs.join("self/fd");
    match ctx.root.metadata(&folder).ok()?.len() {
        0 => ctx.root.list(&folder).ok().map(|entries| entries.len() as u64),
        n => Some(n),
    }
}

/// Size and resident part, in pages.
fn pages(statm: &[u8]) -> Option<(u64, u64)> {
    let mut words = parse::words(statm.trim_ascii()).map(parse::number);
    Some((words.next()??, words.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statm_is_in_pages() {
        assert_eq!(pages(b"1207 300 200 10 0 120 0\n"), Some((1207, 300)));
        for bad in [&b""[..], b"1207", b"-1 3", b"1 x", b"18446744073709551616 1"] {
            assert_eq!(pages(bad), None);
        }
    }
}
