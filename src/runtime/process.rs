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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::Clock;

    /// Found by fuzzing: the last ticks that fit, which the wall clock does not hold.
    #[test]
    fn a_start_that_no_clock_holds_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path(), Clock::System);
        let fields = "S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0";
        for (ticks, known) in [("100", true), ("922337203680", false), ("9223372036854775807", false), ("x", false)] {
            std::fs::create_dir_all(dir.path().join("proc/7")).unwrap();
            std::fs::write(dir.path().join("proc/7/stat"), format!("7 (a) b) {fields} {ticks} 0\n")).unwrap();
            assert_eq!(start_time(&root, 7).is_some(), known, "{ticks}");
        }
    }
}
