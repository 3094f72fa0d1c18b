//! Memory of runtime processes that exist for one container alone: its shim or monitor.

use std::path::PathBuf;

use crate::kernel::parse::{self, flat};
use crate::kernel::{Context, Timer};
use crate::root::{ReadError, Root};
use crate::runtime::Container;

/// Commands of such processes, as `/proc/PID/stat` cuts them (15 bytes).
const MONITORS: [&[u8]; 3] = [b"containerd-shim", b"conmon", b"docker-containe"];

/// Walking up from the container's first process ends here: its monitor is its parent, or that of a nested init.
const MAX_STEPS: usize = 4;

#[derive(Default)]
struct Rollup {
    clean: Option<u64>,
    dirty: Option<u64>,
}

/// The process around one container.
pub struct Overhead {
    rollup: PathBuf,
    timer: Timer,
    bytes: Option<u64>,
}

impl Overhead {
    /// Looks once, when the container is opened.
    pub fn find(container: &Container, ctx: &Context<'_>) -> Option<Self> {
        let pid = monitor(ctx.root, container)?;
        let rollup = ctx.root.procfs.join(format!("{pid}/smaps_rollup"));
        Some(Self { rollup, timer: Timer::default(), bytes: None })
    }

    /// Private memory, looked at once a minute: the kernel walks all page tables of the process for it, and a shim's
    /// memory hardly changes.
    pub fn private_bytes(&mut self, ctx: &mut Context<'_>) -> Option<u64> {
        if self.timer.due(ctx.root.clock.boot()) {
            self.bytes = match ctx.root.read_bytes(&self.rollup) {
                Ok(bytes) => private(&bytes),
                Err(ReadError::Denied) => {
                    let why = "not permitted to read /proc/PID/smaps_rollup (CAP_SYS_PTRACE)";
                    ctx.capabilities.no("vm_overhead", why);
                    None
                }
                Err(_) => None,
            };
        }
        self.bytes
    }
}

fn private(bytes: &[u8]) -> Option<u64> {
    let mut rollup = Rollup::default();
    // The first line names the address range: no key of ours.
    let _ = flat!(bytes, rollup, { b"Private_Clean" => clean * 1024, b"Private_Dirty" => dirty * 1024 });
    Some(rollup.clean?.saturating_add(rollup.dirty?))
}

fn monitor(root: &Root, container: &Container) -> Option<u32> {
    let mut pid = container.pid;
    for _ in 0..MAX_STEPS {
        if pid <= 1 {
            return None;
        }
        let bytes = root.read_bytes(&root.procfs.join(format!("{pid}/stat"))).ok()?;
        let stat = parse::proc_stat(&bytes).ok()?;
        if MONITORS.iter().any(|m| stat.comm.starts_with(m)) {
            // One shim serves all containers of a pod; its arguments name the one that it was made for.
            let arguments = root.read_bytes(&root.procfs.join(format!("{pid}/cmdline"))).ok()?;
            let own = container.native_id.as_bytes();
            return (!own.is_empty() && arguments.windows(own.len()).any(|w| w == own)).then_some(pid);
        }
        pid = stat.ppid;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::Clock;

    #[test]
    fn the_monitor_is_found_by_its_arguments() {
        let dir = tempfile::tempdir().unwrap();
        let file = |path: &str, text: &str| {
            let path = dir.path().join("proc").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let stat = |pid: u32, comm: &str, ppid: u32| {
            format!("{pid} ({comm}) S {ppid} 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 55 0 0\n")
        };
        file("9/stat", &stat(9, "sh", 8));
        file("8/stat", &stat(8, "containerd-shim", 1));
        file("8/cmdline", "/usr/bin/containerd-shim-runc-v2\0-id\0abc\0");
        let root = Root::at(dir.path(), Clock::System);
        let of = |id: &str, pid| Container { native_id: id.into(), pid, ..Container::default() };
        assert_eq!(monitor(&root, &of("abc", 9)), Some(8));
        assert_eq!(monitor(&root, &of("other", 9)), None, "another container of the same pod");
        assert_eq!(monitor(&root, &of("abc", 77)), None);
        assert_eq!(private(b"1-2 ---p [rollup]\nRss: 9 kB\nPrivate_Clean: 1 kB\nPrivate_Dirty: 2 kB\n"), Some(3072));
    }
}
