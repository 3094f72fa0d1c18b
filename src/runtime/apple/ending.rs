//! How a container's own process ended, by the boot log: the command tells no exit codes.
//!
//! Of the processes that init starts, the log names the container's by the container's id, those of `exec` by ids of their
//! own; of one that ends it tells the status, and the id in newer versions alone. Without the id the container's is the
//! last that ended before its cgroup was deleted: the kernel ends all processes of a PID namespace, and waits for them,
//! before the end of its first can be seen. Where not even that line is there, a status counts only where nothing else was
//! started in this boot. Everything else is not known.
//!
//! The guest's kernel says on the same console whom it killed for want of memory (`oom-kill:…,pid=74,…`).

/// More of a line says nothing of an end.
const MAX_LINE: usize = 4 << 10;

/// How a run ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct End {
    /// None where the log does not tell.
    pub status: Option<i32>,
    /// The kernel killed the container's process for want of memory.
    pub oom: bool,
}

/// What the log has told of one boot so far. Feed it what is new.
#[derive(Debug, Clone, Default)]
pub struct Ending {
    /// A line whose end has not come yet.
    partial: Vec<u8>,
    /// The log was read from the boot's beginning.
    whole: bool,
    /// Processes that were started, and the container's own as the VM's kernel numbers it.
    started: u32,
    pid: Option<u32>,
    oom_killed: Option<u32>,
    /// Of the container's, by its id.
    told: Option<i32>,
    /// Of the process that ended last, and of the last before the cgroup was deleted.
    last: Option<i32>,
    settled: Option<i32>,
}

impl Ending {
    /// A boot begins: the log is read from its first line on.
    pub fn of_new_boot() -> Self {
        Self { whole: true, ..Self::default() }
    }

    /// All that the log has of this boot was read.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Takes one line, or a piece of one, of the log of the container `id`.
    pub fn feed(&mut self, piece: &[u8], id: &str) {
        if self.partial.len() + piece.len() <= MAX_LINE {
            self.partial.extend_from_slice(piece);
        }
        if piece.ends_with(b"\n") {
            let line = std::mem::take(&mut self.partial);
            self.line(String::from_utf8_lossy(&line).trim_end(), id);
        }
    }

    fn line(&mut self, line: &str, id: &str) {
        if line.starts_with('[')
            && let Some((_, killed)) = line.split_once("] oom-kill:")
        {
            self.oom_killed = killed.rsplit_once(",pid=").and_then(|(_, pid)| pid.split(',').next()?.parse().ok());
        }
        if !line.contains("vminitd") {
            return;
        }
        if line.ends_with("starting managed process") {
            self.started += 1;
        } else if line.ends_with("started managed process") && field(line, "id") == Some(id) {
            self.pid = field(line, "pid").and_then(|pid| pid.parse().ok());
        } else if line.ends_with("managed process exit") {
            let status = field(line, "status").and_then(|s| s.parse().ok());
            match field(line, "id") {
                Some(of) if of == id => self.told = status,
                Some(_) => {}
                None => self.last = status,
            }
        } else if line.ends_with("deleting cgroup manager")
            && field(line, "path").is_some_and(|path| path.rsplit('/').next() == Some(id))
        {
            self.settled = self.last;
        }
    }

    pub fn end(&self) -> End {
        let alone = self.whole && self.started == 1;
        let status = self.told.or(self.settled).or(self.last.filter(|_| alone));
        // A signal's end, and of that process alone: a child of the container's may be killed and it go on.
        let oom = status == Some(128 + libc::SIGKILL) && self.pid.is_some() && self.pid == self.oom_killed;
        End { status, oom }
    }
}

/// The value of `key: value` or `key=value` among a line's metadata.
fn field<'l>(line: &'l str, key: &str) -> Option<&'l str> {
    line.match_indices(key).find_map(|(at, _)| {
        let before = line[..at].chars().next_back();
        let value = line[at + key.len()..].strip_prefix(": ").or_else(|| line[at + key.len()..].strip_prefix('='))?;
        before.is_none_or(|c| c == ' ').then(|| value.split([' ', ',']).next())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(id: &str, whole: bool, log: &str) -> Option<i32> {
        let mut ending = Ending { whole, ..Ending::default() };
        // In pieces, as a log that grows is read.
        for line in log.as_bytes().split_inclusive(|b| *b == b'\n') {
            let (a, b) = line.split_at(line.len() / 2);
            ending.feed(a, id);
            ending.feed(b, id);
        }
        ending.end().status
    }

    const AT: &str = "2026-08-07T08:15:42.012Z info vminitd: ";

    fn log(lines: &[&str]) -> String {
        lines.iter().map(|l| format!("{AT}{l}\r\n")).collect()
    }

    #[test]
    fn the_last_end_before_the_cgroup_is_deleted_is_the_containers() {
        let run = [
            "id: web starting managed process",
            "id: 0e8c starting managed process",
            "status: 0 managed process exit",
            "status: 137 managed process exit",
            "status: 3 managed process exit",
            "closing relay for StandardIO stdout",
        ];
        assert_eq!(status("web", true, &log(&run)), None, "one of several");
        let end = "mountpoint: /sys/fs/cgroup, path: /sys/fs/cgroup/container/web deleting cgroup manager";
        assert_eq!(status("web", true, &log(&[&run[..], &[end]].concat())), Some(3));
        assert_eq!(status("web", false, &log(&[&run[..], &[end]].concat())), Some(3));
        assert_eq!(status("b", true, &log(&[&run[..], &[end]].concat())), None, "another's cgroup");
    }

    #[test]
    fn a_process_alone_is_the_containers() {
        let run = log(&["id: web starting managed process", "status: 1 managed process exit"]);
        assert_eq!(status("web", true, &run), Some(1));
        assert_eq!(status("web", false, &run), None, "who knows what was started before");
        assert_eq!(status("web", true, &log(&["id: web starting managed process"])), None, "it has not ended");
    }

    #[test]
    fn ids_of_newer_versions_tell() {
        let run = log(&[
            "id: web starting managed process",
            "id: 0e8c starting managed process",
            "id: web, status: 137 managed process exit",
            "id: 0e8c, status: 0 managed process exit",
        ]);
        assert_eq!(status("web", false, &run), Some(137));
        assert_eq!(status("0e8c", false, &run), Some(0));
        assert_eq!(status("other", true, &run), None);
    }

    #[test]
    fn the_kernel_tells_whom_it_killed_for_want_of_memory() {
        let kill = |pid: u32| {
            let mut ending = Ending::of_new_boot();
            let log = log(&["id: web starting managed process", "id: web, pid: 74 started managed process"])
                + &format!(
                    "[   27.1] oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=web,mems_allowed=0,\
                     oom_memcg=/container/web,task_memcg=/container/web,task=stress,pid={pid},uid=0\n"
                )
                + &format!("{AT}status: 137 managed process exit\n");
            log.split_inclusive('\n').for_each(|line| ending.feed(line.as_bytes(), "web"));
            ending.end()
        };
        assert_eq!(kill(74), End { status: Some(137), oom: true });
        assert_eq!(kill(75), End { status: Some(137), oom: false }, "a child of its");
    }

    #[test]
    fn the_older_form() {
        let run = "2025-05-15T02:24:08+0000 info vminitd : id=web [vminitd] starting managed process\n\
            2025-05-15T02:24:09+0000 debug vminitd : status=7 [vminitd] managed process exit\n";
        assert_eq!(status("web", true, run), Some(7));
    }

    #[test]
    fn a_workload_that_writes_such_lines_or_very_long_ones_ends_nothing() {
        assert_eq!(status("web", true, "status: 3 managed process exit\n"), None);
        let long =
            format!("{AT}id: web starting managed process\n{AT}{}status: 3 managed process exit\n", "x".repeat(9000));
        assert_eq!(status("web", true, &long), None);
    }
}
