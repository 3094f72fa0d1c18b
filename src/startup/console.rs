//! Follows the boot log of a virtual machine as it grows, until the container's process runs or its start has failed.
//!
//! The host's clock at a line is the time of the file's last change, which is the last line's; how often the file is looked
//! at matters to logs with whole seconds alone. The guest's clocks are never set against the host's: the host's moment of
//! the kernel's start is the earliest that any kernel line allows.

use std::time::Duration;

use super::Moments;
use super::boot_log::BootLog;
use super::reconcile::Sample;
use crate::root::{Nanos, Root};
use crate::runtime::Boot;

/// How often the log is looked at while the machine boots.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A machine that has not started its process by then is followed no more.
const LIMIT: Duration = Duration::from_secs(120);
/// More than this is no boot.
const MAX_LOG: u64 = 8 << 20;
/// Read at once.
const PART: usize = 256 << 10;

/// How a boot went.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// The process runs. Boot clock of the host, the request included where it is known.
    Ran(Moments),
    /// What init said of a process that it could not start.
    Failed(String),
}

/// None when the log ends or goes away before anything is known.
pub async fn follow(root: &Root, boot: &Boot) -> Option<Seen> {
    let mut log = BootLog::default();
    let mut offset = boot.from;
    let begin = root.clock.boot();
    loop {
        let stamp = root.stamp(&boot.log).ok()?;
        if stamp.size < offset || offset - boot.from > MAX_LOG {
            return None;
        }
        let now = Sample::take(&root.clock);
        // No further than the stamp: its time is that of the last line before it.
        let new = usize::try_from(stamp.size - offset).unwrap_or(usize::MAX);
        let appended = root.read_part(&boot.log, offset, new.min(PART)).ok()?;
        offset += appended.len() as u64;
        let on_boot_clock = |wall: Nanos| (wall - now.offset()).min(now.boot);
        log.feed(&appended, Some(on_boot_clock(stamp.modified)));
        if let Some(newest) = log.boots().last() {
            if newest.is_running() {
                let moments = newest.moments(None);
                return Some(Seen::Ran(Moments { requested: boot.requested.map(on_boot_clock), ..moments }));
            }
            if let Some(failure) = &newest.failure {
                return Some(Seen::Failed(failure.clone()));
            }
        }
        if Duration::from_nanos((now.boot - begin).max(0).unsigned_abs()) >= LIMIT {
            return None;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
