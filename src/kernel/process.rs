//! Processes, threads, file descriptors, context switches and logical reads of a container.
//!
//! Costs, warm: one read of `cgroup.procs` and two of `pids.*` a container; a read of `io` and a `stat` of `fd` a process;
//! for context switches a read a CPU where the kernel counts them ([`super::switches`]), else one of `status` a process and
//! an open, read and close a further thread. Descriptors on `io` and `status` are kept: a reused pid answers ESRCH through
//! them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::catalog::Collector;
use crate::kernel::cgroups::Version;
use crate::kernel::file::{KernelFile, PathText};
use crate::kernel::parse::{self, Sound, flat};
use crate::kernel::switches::{Count, Counters};
use crate::kernel::{Context, Reader, Slots};
use crate::root::{self, ReadBuf, ReadError, Root};
use crate::runtime::Container;
use crate::snapshot::{Limit, ProcessFacts, Snapshot};

/// Beyond these a container's per-process facts are absent, so that one fork bomb does not slow every scrape.
const MAX_PROCESSES: usize = 2048;
const MAX_THREADS: u64 = 1024;
/// Folders below a container's that are looked into (a nested init or engine has its own).
const MAX_FOLDERS: usize = 1024;

#[derive(Default)]
pub struct Process {
    slots: Slots<State>,
    pids: Vec<u32>,
    path: PathText,
    /// Whether `stat` of `/proc/PID/fd` tells how many there are (Linux 6.2 and later).
    fd_size: Option<bool>,
    io: Told,
    counters: Counters,
}

/// What has been told of `/proc/PID/io`, so that it is told once.
#[derive(Default, Clone, Copy, PartialEq)]
enum Told {
    #[default]
    Nothing,
    Yes,
    No,
}

struct State {
    container: Arc<Container>,
    folder: Option<PathBuf>,
    procs: Option<KernelFile>,
    below: Tree,
    current: Option<KernelFile>,
    max: Option<KernelFile>,
    /// The machine's own files, for the root cgroup.
    machine: Option<Machine>,
    known: HashMap<u32, Known>,
    /// Counts collections, to find what has ended.
    turn: u64,
    count: Count,
    switches: Switches,
    logical_read: Option<LogicalRead>,
}

struct Machine {
    stat: Option<KernelFile>,
    files: Option<KernelFile>,
    load: Option<KernelFile>,
}

/// A process of the container.
struct Known {
    turn: u64,
    /// Ticks after boot: the same pid with another start is another process.
    started: u64,
    io: Result<KernelFile, ReadError>,
    /// None where nothing is asked of it.
    status: Option<KernelFile>,
    /// Its threads' switches, as last read.
    threads: HashMap<u32, (u64, Switches)>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Switches {
    voluntary: u64,
    involuntary: u64,
}

impl Switches {
    /// Adds what has come since `before`; less than before is another thread under the same id.
    fn advance(&mut self, before: Switches, now: Switches) {
        let since = |before: u64, now: u64| now.checked_sub(before).unwrap_or(now);
        self.voluntary = self.voluntary.saturating_add(since(before.voluntary, now.voluntary));
        self.involuntary = self.involuntary.saturating_add(since(before.involuntary, now.involuntary));
    }
}

/// What the processes have asked to read. A process that was waited for hands its count to its parent, so the sum over
/// the living goes on growing; it shrinks when one is waited for from outside, and growth is counted from there on.
#[derive(Debug, Clone, Copy)]
struct LogicalRead {
    total: u64,
    sum: u64,
}

impl LogicalRead {
    fn advance(old: Option<Self>, sum: u64) -> Self {
        let total = old.map_or(sum, |o| o.total.saturating_add(sum.saturating_sub(o.sum)));
        Self { total, sum }
    }
}

#[derive(Default)]
struct Status {
    threads: Option<u64>,
    voluntary: Option<u64>,
    involuntary: Option<u64>,
}

impl Status {
    fn parse(bytes: &[u8]) -> (Self, Sound) {
        let mut status = Self::default();
        // Other lines hold text; what matters is only whether ours are numbers.
        let sound = flat!(bytes, status, {
            b"Threads" => threads,
            b"voluntary_ctxt_switches" => voluntary,
            b"nonvoluntary_ctxt_switches" => involuntary,
        });
        (status, sound)
    }

    fn switches(&self) -> Option<Switches> {
        Some(Switches { voluntary: self.voluntary?, involuntary: self.involuntary? })
    }
}

#[derive(Default)]
struct Io {
    rchar: Option<u64>,
}

/// What one collection adds up over a container's processes; None once one of them could not tell.
struct Sums {
    descriptors: Option<u64>,
    threads: Option<u64>,
    logical_read: Option<u64>,
    switches: bool,
}

impl Process {
    fn state(&self, container: &Arc<Container>, ctx: &Context<'_>) -> State {
        let is_machine = container.identity.id == "/";
        // The root of a cgroup namespace is the machine's to those in it, and a cgroup to the kernel: its processes are known.
        let is_cgroup = |folder: &PathBuf| !is_machine || ctx.root.exists(&folder.join("cgroup.type"));
        let folder = processes_folder(container, ctx).filter(is_cgroup);
        let open = |path: PathBuf| KernelFile::open(&path, ctx.budget).ok();
        let pids = ctx.cgroups.version("pids").and_then(|v| ctx.cgroups.folder(v, "pids", &container.cgroup));
        let in_pids = |name: &str| open(pids.as_ref()?.join(name));
        let host = |name: &str| open(ctx.root.procfs.join(name));
        State {
            procs: folder.as_ref().and_then(|f| open(f.join("cgroup.procs"))),
            below: Tree::default(),
            current: in_pids("pids.current"),
            max: in_pids("pids.max"),
            machine: is_machine.then(|| Machine {
                stat: host("stat"),
                files: host("sys/fs/file-nr"),
                load: host("loadavg"),
            }),
            container: container.clone(),
            folder,
            known: HashMap::new(),
            turn: 0,
            count: Count::default(),
            switches: Switches::default(),
            logical_read: None,
        }
    }
}

/// The folder whose processes are the container's: v2 where it is the only hierarchy, else that of a v1 controller.
fn processes_folder(container: &Container, ctx: &Context<'_>) -> Option<PathBuf> {
    let v1 = ["pids", "cpuacct", "cpu", "memory"];
    let v1 = v1.iter().find_map(|c| ctx.cgroups.folder(Version::V1, c, &container.cgroup));
    v1.or_else(|| ctx.cgroups.folder(Version::V2, "", &container.cgroup))
}

impl Reader for Process {
    fn open(&mut self, slot: usize, container: &Arc<Container>, ctx: &mut Context<'_>) {
        let state = self.state(container, ctx);
        self.slots.set(slot, state);
    }

    fn close(&mut self, slot: usize) {
        self.slots.clear(slot);
    }

    fn read(&mut self, snapshot: &mut Snapshot, slots: &[usize], ctx: &mut Context<'_>) {
        self.counters.begin(ctx);
        let fd_size = *self.fd_size.get_or_insert_with(|| fd_size_tells(ctx.root));
        for (facts, slot) in snapshot.containers.iter_mut().zip(slots) {
            if facts.gone || self.slots.get(*slot).is_none() {
                continue;
            }
            let (process, logical_read) = match self.read_container(*slot, fd_size, ctx) {
                Ok(read) => read,
                Err(_) => {
                    // Restarted under the same path before its event arrived? Then new files are there already.
                    let Some(container) = self.slots.get(*slot).map(|s| s.container.clone()) else { continue };
                    let fresh = self.state(&container, ctx);
                    let is_there = fresh.procs.is_some();
                    self.slots.set(*slot, fresh);
                    match self.read_container(*slot, fd_size, ctx) {
                        Ok(read) if is_there => read,
                        _ => {
                            facts.gone = true;
                            continue;
                        }
                    }
                }
            };
            facts.process = process;
            facts.storage.logical_read_bytes = logical_read;
        }
    }
}

impl Process {
    /// Only [`ReadError::Gone`] of the container itself is an error.
    fn read_container(
        &mut self,
        slot: usize,
        fd_size: bool,
        ctx: &mut Context<'_>,
    ) -> Result<(ProcessFacts, Option<u64>), ReadError> {
        let Self { slots, pids, path, io, counters, .. } = self;
        let mut facts = ProcessFacts::default();
        let Some(state) = slots.get(slot) else { return Ok((facts, None)) };
        facts.threads = one(&state.current, parse::value, ctx)?;
        facts.threads_max = one(&state.max, parse::limit, ctx)?;
        if let Some(machine) = &state.machine {
            machine.read(&mut facts, ctx)?;
            facts.threads_max = facts.threads_max.or(Some(Limit::Max));
            // What is counted for the whole kernel is more than this cgroup's.
            facts.file_descriptors = facts.file_descriptors.filter(|_| state.procs.is_none());
        }
        pids.clear();
        let Some(procs) = &state.procs else { return Ok((facts, None)) };
        let sound = list_pids(procs.read(ctx.buf), pids);
        judge(sound, ctx)?;
        if let Some(folder) = &state.folder {
            state.below.list_pids(folder, pids, ctx);
        }
        facts.processes = Some(pids.len() as u64);
        if state.machine.is_none() {
            facts.switches_all = counters.read(&mut state.count, facts.threads, &state.container, ctx);
        }
        let counted = state.machine.is_some() || matches!(state.count, Count::Counted(_));
        if pids.len() > MAX_PROCESSES {
            return Ok((facts, None));
        }
        let sums = state.read_processes(pids, fd_size, counted, path, ctx);
        facts.threads = facts.threads.or(sums.threads);
        facts.file_descriptors = sums.descriptors;
        if sums.switches && !counted {
            facts.switches_voluntary = Some(state.switches.voluntary);
            facts.switches_involuntary = Some(state.switches.involuntary);
        }
        state.logical_read = sums.logical_read.map(|sum| LogicalRead::advance(state.logical_read, sum));
        tell_io(io, state, ctx);
        Ok((facts, state.logical_read.map(|l| l.total)))
    }
}

impl State {
    fn read_processes(
        &mut self,
        pids: &[u32],
        fd_size: bool,
        counted: bool,
        path: &mut PathText,
        ctx: &mut Context<'_>,
    ) -> Sums {
        self.turn += 1;
        let mut sums = Sums { descriptors: Some(0), threads: Some(0), logical_read: Some(0), switches: true };
        for &pid in pids {
            if self.known.get(&pid).is_some_and(|k| !k.is_same(pid, path, ctx)) {
                self.known.remove(&pid);
            }
            // Twice where another process turns out to have the pid of one that has ended.
            for _ in 0..2 {
                let known = match self.known.entry(pid) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(place) => match Known::open(pid, counted, path, ctx) {
                        Some(known) => place.insert(known),
                        // Ended between listing and opening: it adds nothing.
                        None => break,
                    },
                };
                known.turn = self.turn;
                match known.read(pid, fd_size, path, &mut sums, &mut self.switches, ctx) {
                    Err(Ended) => self.known.remove(&pid),
                    Ok(()) => break,
                };
            }
        }
        let turn = self.turn;
        self.known.retain(|_, k| k.turn == turn);
        sums
    }
}

impl Known {
    fn open(pid: u32, counted: bool, path: &mut PathText, ctx: &mut Context<'_>) -> Option<Self> {
        let folder = ctx.root.procfs.join(pid.to_string());
        let status = (!counted).then(|| KernelFile::open(&folder.join("status"), ctx.budget)).transpose().ok()?;
        let io = KernelFile::open(&folder.join("io"), ctx.budget).and_then(KernelFile::permitted);
        Some(Self { turn: 0, started: started(pid, path, ctx).unwrap_or(0), io, status, threads: HashMap::new() })
    }

    /// Held descriptors belong to the process itself. Without them only its start tells it from another one.
    fn is_same(&self, pid: u32, path: &mut PathText, ctx: &mut Context<'_>) -> bool {
        let mut files = self.status.iter().chain(&self.io);
        files.any(KernelFile::is_held) || started(pid, path, ctx) == Some(self.started)
    }

    /// Adds this process to the sums, unless it has ended. One that can't be read takes the sum away.
    fn read(
        &mut self,
        pid: u32,
        fd_size: bool,
        path: &mut PathText,
        sums: &mut Sums,
        switches: &mut Switches,
        ctx: &mut Context<'_>,
    ) -> Result<(), Ended> {
        let rchar = match &self.io {
            Ok(file) => file.read(ctx.buf).and_then(|bytes| {
                let mut io = Io::default();
                let sound = flat!(bytes, io, { b"rchar" => rchar });
                sound.ok().and(io.rchar).ok_or(ReadError::Malformed)
            }),
            Err(e) => Err(*e),
        };
        let status = self.status.as_ref().map(|file| file.read(ctx.buf).map(Status::parse));
        if rchar == Err(ReadError::Gone) || matches!(status, Some(Err(ReadError::Gone))) {
            return Err(Ended);
        }
        add(&mut sums.logical_read, rchar, ctx);
        let descriptors = count_descriptors(pid, fd_size, path, ctx);
        add(&mut sums.descriptors, descriptors, ctx);

        let (status, sound) = match status {
            Some(Ok(status)) => status,
            Some(Err(e)) => {
                sums.switches = false;
                sums.threads = None;
                ctx.failed(Collector::Process, e);
                return Ok(());
            }
            None => {
                sums.threads = None;
                return Ok(());
            }
        };
        if sound.is_err() {
            ctx.failed(Collector::Process, ReadError::Malformed);
        }
        sums.threads = sums.threads.zip(status.threads).map(|(a, b)| a.saturating_add(b));
        let (Some(now), Some(threads)) = (status.switches(), status.threads.filter(|n| *n <= MAX_THREADS)) else {
            sums.switches = false;
            return Ok(());
        };
        let turn = self.turn;
        let mut thread = |tid: u32, now: Switches| {
            let entry = self.threads.entry(tid).or_default();
            switches.advance(entry.1, now);
            *entry = (turn, now);
        };
        thread(pid, now);
        if threads > 1 {
            each_other_thread(pid, path, ctx, &mut thread);
        }
        self.threads.retain(|_, (seen, _)| *seen == turn);
        Ok(())
    }
}

/// The process that was opened is no more; its pid may be another's.
struct Ended;

/// Adds to a sum; a process that has ended adds nothing, one that may not be read leaves no sum.
fn add(sum: &mut Option<u64>, value: Result<u64, ReadError>, ctx: &mut Context<'_>) {
    match value {
        Ok(n) => *sum = sum.map(|s| s.saturating_add(n)),
        Err(ReadError::Gone) => {}
        Err(ReadError::Absent | ReadError::Denied) => *sum = None,
        Err(e) => {
            *sum = None;
            ctx.failed(Collector::Process, e);
        }
    }
}

impl Machine {
    fn read(&self, facts: &mut ProcessFacts, ctx: &mut Context<'_>) -> Result<(), ReadError> {
        #[derive(Default)]
        struct Stat {
            ctxt: Option<u64>,
        }
        facts.switches_all = one(
            &self.stat,
            |bytes| {
                let mut stat = Stat::default();
                flat!(bytes, stat, { b"ctxt" => ctxt })?;
                stat.ctxt.ok_or(parse::Malformed)
            },
            ctx,
        )?;
        // Allocated, free (always 0), maximum.
        let first = |bytes: &[u8]| parse::words(bytes).next().and_then(parse::number).ok_or(parse::Malformed);
        facts.file_descriptors = one(&self.files, first, ctx)?;
        // 0.00 0.01 0.05 running/threads last-pid
        let threads = |bytes: &[u8]| {
            let word = parse::words(bytes).nth(3).ok_or(parse::Malformed)?;
            let at = word.iter().position(|b| *b == b'/').ok_or(parse::Malformed)?;
            parse::number(&word[at + 1..]).ok_or(parse::Malformed)
        };
        if facts.threads.is_none() {
            facts.threads = one(&self.load, threads, ctx)?;
        }
        Ok(())
    }
}

/// One value of one file; its failure is counted, and is an error only when the container is gone.
fn one<T>(
    file: &Option<KernelFile>,
    parse: impl FnOnce(&[u8]) -> Result<T, parse::Malformed>,
    ctx: &mut Context<'_>,
) -> Result<Option<T>, ReadError> {
    let Some(file) = file else { return Ok(None) };
    let value = match file.read(ctx.buf) {
        Ok(bytes) => parse(bytes).map_err(|_| ReadError::Malformed),
        Err(e) => Err(e),
    };
    match value {
        Ok(value) => Ok(Some(value)),
        Err(e) => judge(Err(e), ctx).map(|()| None),
    }
}

fn judge(result: Result<(), ReadError>, ctx: &mut Context<'_>) -> Result<(), ReadError> {
    match result {
        Err(ReadError::Gone) => return Err(ReadError::Gone),
        Err(e) => ctx.failed(Collector::Process, e),
        Ok(()) => {}
    }
    Ok(())
}

fn list_pids(bytes: Result<&[u8], ReadError>, pids: &mut Vec<u32>) -> Result<(), ReadError> {
    let mut sound = Ok(());
    for pid in parse::pids(bytes?) {
        match pid {
            Ok(pid) => pids.push(pid),
            Err(_) => sound = Err(ReadError::Malformed),
        }
    }
    sound
}

/// The cgroups of a container: its own and those below it, as they were last listed.
#[derive(Default)]
struct Tree(Vec<Folder>);

struct Folder {
    path: CString,
    /// Of the folder: they tell how many cgroups are directly below.
    links: u64,
    /// None for the container's own, which is read before.
    procs: Option<KernelFile>,
}

impl Tree {
    /// Adds the processes of the cgroups below `own`. The list is made anew when one came or went.
    fn list_pids(&mut self, own: &Path, pids: &mut Vec<u32>, ctx: &mut Context<'_>) {
        let before = pids.len();
        let is_same = |f: &Folder| root::status_prepared(&f.path).is_ok_and(|s| s.links == f.links && s.links >= LEAF);
        if !self.0.is_empty() && self.0.iter().all(is_same) && self.read(pids, ctx).is_ok() {
            return;
        }
        pids.truncate(before);
        self.list(own, ctx);
        // What is gone between listing and reading is lost with nothing.
        let _ = self.read(pids, ctx);
    }

    fn read(&self, pids: &mut Vec<u32>, ctx: &mut Context<'_>) -> Result<(), ReadError> {
        for file in self.0.iter().filter_map(|f| f.procs.as_ref()) {
            // Threaded ones refuse: their processes are listed above.
            if list_pids(file.read(ctx.buf), pids) == Err(ReadError::Gone) {
                return Err(ReadError::Gone);
            }
        }
        Ok(())
    }

    fn list(&mut self, own: &Path, ctx: &Context<'_>) {
        self.0.clear();
        let mut folders = vec![own.to_path_buf()];
        let mut seen = 0;
        while let Some(folder) = folders.pop() {
            let Ok(path) = CString::new(folder.as_os_str().as_bytes()) else { continue };
            let Ok(status) = root::status_prepared(&path) else { continue };
            let procs = (folder != own).then(|| KernelFile::open(&folder.join("cgroup.procs"), ctx.budget).ok());
            self.0.push(Folder { path, links: status.links, procs: procs.flatten() });
            if status.links == LEAF {
                continue;
            }
            let children = ctx.root.list_dirs(&folder).unwrap_or_default();
            seen += children.len();
            if seen > MAX_FOLDERS {
                return;
            }
            folders.extend(children.into_iter().map(|name| folder.join(name)));
        }
    }
}

/// Links of a folder without folders in it.
const LEAF: u64 = 2;

fn started(pid: u32, path: &mut PathText, ctx: &mut Context<'_>) -> Option<u64> {
    path.set(&ctx.root.procfs, &[pid_text(pid, &mut itoa::Buffer::new()), b"stat"]);
    let file = root::open_prepared(path.as_c().ok()?).ok()?;
    parse::proc_stat(ctx.buf.pread(&file).ok()?).ok().map(|s| s.starttime)
}

fn pid_text(pid: u32, buffer: &mut itoa::Buffer) -> &[u8] {
    buffer.format(pid).as_bytes()
}

fn count_descriptors(pid: u32, fd_size: bool, path: &mut PathText, ctx: &mut Context<'_>) -> Result<u64, ReadError> {
    path.set(&ctx.root.procfs, &[pid_text(pid, &mut itoa::Buffer::new()), b"fd"]);
    let absent_is_gone = |e| if e == ReadError::Absent { ReadError::Gone } else { e };
    if fd_size {
        return root::status_prepared(path.as_c()?).map(|s| s.size).map_err(absent_is_gone);
    }
    let dir = root::open_prepared(path.as_c()?).map_err(absent_is_gone)?;
    let mut n = 0;
    root::each_name(&dir, ctx.buf, |_| n += 1)?;
    Ok(n)
}

/// Whether the size of `/proc/self/fd` is the number of its entries. Recorded trees have no `self`.
fn fd_size_tells(root: &Root) -> bool {
    let mut path = PathText::default();
    path.set(&root.procfs, &[b"self", b"fd"]);
    let Ok(path) = path.as_c() else { return false };
    let Ok(size) = root::status_prepared(path).map(|s| s.size) else { return false };
    let mut n = 0u64;
    let listed = root::open_prepared(path).and_then(|dir| root::each_name(&dir, &mut ReadBuf::default(), |_| n += 1));
    // Other threads open and close meanwhile, and the listing's own descriptor is in it.
    listed.is_ok() && size > 0 && size.abs_diff(n) <= n / 2 + 8
}

/// Calls `each` with the switches of every thread but the first.
fn each_other_thread(pid: u32, path: &mut PathText, ctx: &mut Context<'_>, each: &mut impl FnMut(u32, Switches)) {
    let mut digits = itoa::Buffer::new();
    let pid_digits = digits.format(pid).as_bytes();
    path.set(&ctx.root.procfs, &[pid_digits, b"task"]);
    let Ok(dir) = path.as_c().and_then(root::open_prepared) else { return };
    let mut tids = std::mem::take(path.numbers());
    let listed = root::each_name(&dir, ctx.buf, |name| tids.extend(parse::number(name).map(|n| n as u32)));
    for &tid in tids.iter().filter(|t| **t != pid && listed.is_ok()) {
        let mut digits = itoa::Buffer::new();
        path.set(&ctx.root.procfs, &[pid_digits, b"task", digits.format(tid).as_bytes(), b"status"]);
        let Ok(file) = path.as_c().and_then(root::open_prepared) else { continue };
        // A thread that ends meanwhile has been counted as far as it was seen.
        if let Some(now) = ctx.buf.pread(&file).ok().and_then(|bytes| Status::parse(bytes).0.switches()) {
            each(tid, now);
        }
    }
    tids.clear();
    *path.numbers() = tids;
}

/// Says once whether logical reads can be told, and why not.
fn tell_io(told: &mut Told, state: &State, ctx: &Context<'_>) {
    let Some(known) = state.known.values().next() else { return };
    let (now, why) = match known.io {
        Ok(_) => (Told::Yes, ""),
        Err(ReadError::Denied) => {
            (Told::No, "not permitted to read /proc/PID/io (CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH)")
        }
        Err(ReadError::Absent) => (Told::No, "CONFIG_TASK_IO_ACCOUNTING is off"),
        Err(_) => return,
    };
    if *told == now {
        return;
    }
    *told = now;
    match now {
        Told::No => ctx.capabilities.no("process_io", why),
        _ => ctx.capabilities.yes("process_io"),
    }
}

#[cfg(fuzzing)]
pub(super) fn fuzz(bytes: &[u8]) {
    let _ = (Status::parse(bytes).0.switches(), list_pids(Ok(bytes), &mut Vec::new()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_never_go_back() {
        let s = |voluntary, involuntary| Switches { voluntary, involuntary };
        let mut total = Switches::default();
        total.advance(s(0, 0), s(10, 2));
        total.advance(s(10, 2), s(15, 2));
        assert_eq!(total, s(15, 2));
        total.advance(s(15, 2), s(3, 1));
        assert_eq!(total, s(18, 3), "another thread under the same id starts anew");
    }

    #[test]
    fn logical_reads_move_to_the_parent_and_are_not_counted_twice() {
        // A parent with 10, a child with 90; the child is waited for; the parent reads 5 more.
        let read = LogicalRead::advance(None, 100);
        let read = LogicalRead::advance(Some(read), 100);
        let read = LogicalRead::advance(Some(read), 105);
        assert_eq!(read.total, 105);
        // A process that was waited for from outside takes its count away; the total stays and goes on.
        let read = LogicalRead::advance(Some(read), 15);
        assert_eq!(read.total, 105);
        assert_eq!(LogicalRead::advance(Some(read), 20).total, 110);
    }

    #[test]
    fn status_lines() {
        let text = b"Name:\tsh\nThreads:\t3\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t1\n";
        let (status, sound) = Status::parse(text);
        assert_eq!(
            (status.threads, status.switches(), sound),
            (Some(3), Some(Switches { voluntary: 7, involuntary: 1 }), Ok(()))
        );
    }
}
