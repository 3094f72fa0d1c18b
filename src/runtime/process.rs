//! What `/proc` says of a container's first process.

use crate::root::{Nanos, Root, SECOND};

/// When a process started, wall clock: `/proc/PID/stat` field 22 (clock ticks since boot, cut; proc(5)). The middle of
/// the tick is at most 5 ms off.
pub fn start_time(root: &Root, pid: u32) -> Option<Nanos> {
    if pid == 0 {
        return None;
    }
    let stat = root.read_to_string(&root.procfs.join(pid.to_string()).join("stat")).ok()?;
    // The command's name, in parentheses, may hold anything.
    let (_, after_name) = stat.rsplit_once(')')?;
    let ticks: i64 = after_name.split_ascii_whitespace().nth(19)?.parse().ok()?;
    // SAFETY: sysconf takes no pointers.
    let hertz = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1);
    let tick = SECOND / hertz;
    let since_boot = ticks.checked_mul(tick)?.checked_add(tick / 2)?;
    (root.clock.wall() - root.clock.boot()).checked_add(since_boot)
}

/// Path and arguments, from `/proc/PID/cmdline`.
pub fn command(root: &Root, pid: u32) -> Vec<String> {
    let bytes = root.read_bytes(&root.procfs.join(pid.to_string()).join("cmdline")).unwrap_or_default();
    bytes.split(|b| *b == 0).filter(|a| !a.is_empty()).map(|a| String::from_utf8_lossy(a).into_owned()).collect()
}
