//! Network namespaces: which one a container is in, who speaks for one that several share, what readers keep of each, and
//! the way inside.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::cgroups::Cgroups;
use super::{Context, Slots, parse};
use crate::probe::{Answer, Capabilities};
use crate::root::{ReadError, Root};
use crate::runtime::Container;

/// The first process of the machine: its namespace is the host's.
pub const HOST_PID: u32 = 1;

/// A network namespace, told by the inode of its `net/dev`: the kernel keeps a `/proc/net` tree for each namespace. Unlike
/// `/proc/PID/ns/net`, anyone may look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Namespace {
    device: u64,
    inode: u64,
}

impl Namespace {
    /// The namespace of a process (`self` included).
    fn of(root: &Root, process: &str) -> Result<Self, ReadError> {
        let m = root.metadata(&root.procfs.join(process).join("net/dev"))?;
        Ok(Self { device: m.dev(), inode: m.ino() })
    }

    pub fn of_process(root: &Root, pid: u32) -> Result<Self, ReadError> {
        Self::of(root, &pid.to_string())
    }

    pub fn of_host(root: &Root) -> Option<Self> {
        Self::of_process(root, HOST_PID).ok()
    }
}

pub fn proc_path(root: &Root, pid: u32, file: &str) -> PathBuf {
    root.procfs.join(pid.to_string()).join(file)
}

/// A process of the container: the one its runtime names, else the first one in its cgroup or below.
pub fn pid_of(root: &Root, cgroups: &Cgroups, container: &Container) -> Option<u32> {
    if container.identity.id == "/" {
        return Some(HOST_PID);
    }
    if container.pid != 0 {
        return Some(container.pid);
    }
    cgroups.folders(&container.cgroup).iter().find_map(|folder| first_process(root, folder, 4))
}

/// The process to ask of a container's network, and its namespace. None for a container in the host's own network, which
/// is told at `/` alone.
fn of_container(container: &Container, ctx: &Context<'_>) -> Result<Option<(u32, Namespace)>, ReadError> {
    let pid = pid_of(ctx.root, ctx.cgroups, container).ok_or(ReadError::Absent)?;
    let namespace = Namespace::of_process(ctx.root, pid)?;
    let hosts = container.host_network || Some(namespace) == Namespace::of_host(ctx.root);
    Ok((!hosts || container.identity.id == "/").then_some((pid, namespace)))
}

fn first_process(root: &Root, cgroup: &Path, depth: u8) -> Option<u32> {
    let processes = root.read_bytes(&cgroup.join("cgroup.procs")).ok()?;
    let first = parse::pids(&processes).find_map(Result::ok);
    if first.is_some() || depth == 0 {
        return first;
    }
    let children = root.list_dirs(cgroup).ok()?;
    children.iter().find_map(|child| first_process(root, &cgroup.join(child), depth - 1))
}

/// Who speaks for each namespace, so that what several containers share (a pod) is counted once: the container whose
/// namespace it is (the pod's sandbox) where the runtime tells, else the first one seen, for as long as it lives.
#[derive(Debug, Default)]
struct Speakers {
    members: HashMap<Namespace, Vec<Member>>,
}

#[derive(Debug, Clone, Copy)]
struct Member {
    slot: usize,
    /// The runtime says that the namespace is another container's.
    guest: bool,
}

impl Speakers {
    fn join(&mut self, namespace: Namespace, slot: usize, guest: bool) {
        let members = self.members.entry(namespace).or_default();
        let place = if guest { members.len() } else { members.partition_point(|m| !m.guest) };
        members.insert(place, Member { slot, guest });
    }

    fn leave(&mut self, namespace: Namespace, slot: usize) {
        if let Some(members) = self.members.get_mut(&namespace) {
            members.retain(|m| m.slot != slot);
            if members.is_empty() {
                self.members.remove(&namespace);
            }
        }
    }

    fn speaks(&self, namespace: Namespace, slot: usize) -> bool {
        self.members.get(&namespace).and_then(|m| m.first()).is_some_and(|m| m.slot == slot)
    }
}

/// What a reader keeps open of each container's network namespace.
pub struct Spaces<S> {
    slots: Slots<Space<S>>,
    speakers: Speakers,
}

enum Space<S> {
    Open(Namespace, Box<S>),
    /// No process was found yet, after so many attempts.
    Waiting(u8),
    /// The host's network is told at `/` alone; or the namespace refuses.
    Closed,
}

/// A cgroup may appear a moment before its first process does: so many collections look for one.
const ATTEMPTS: u8 = 5;

impl<S> Default for Spaces<S> {
    fn default() -> Self {
        Self { slots: Slots::default(), speakers: Speakers::default() }
    }
}

impl<S> Spaces<S> {
    /// A container appeared; `open` opens what is needed through a process of it.
    pub fn open(
        &mut self,
        slot: usize,
        container: &Container,
        ctx: &Context<'_>,
        open: impl FnOnce(u32) -> Result<S, ReadError>,
    ) -> Result<(), ReadError> {
        self.attach(slot, container, 1, ctx, open)
    }

    /// Tries once more for one that had no process. None where there is nothing to try.
    pub fn retry(
        &mut self,
        slot: usize,
        container: &Container,
        ctx: &Context<'_>,
        open: impl FnOnce(u32) -> Result<S, ReadError>,
    ) -> Option<Result<(), ReadError>> {
        match self.slots.get(slot) {
            Some(Space::Waiting(attempts)) if *attempts < ATTEMPTS => {
                let attempt = *attempts + 1;
                Some(self.attach(slot, container, attempt, ctx, open))
            }
            _ => None,
        }
    }

    fn attach(
        &mut self,
        slot: usize,
        container: &Container,
        attempt: u8,
        ctx: &Context<'_>,
        open: impl FnOnce(u32) -> Result<S, ReadError>,
    ) -> Result<(), ReadError> {
        let opened = of_container(container, ctx)
            .and_then(|found| found.map(|(pid, namespace)| Ok((namespace, open(pid)?))).transpose());
        let (space, outcome) = match opened {
            Ok(Some((namespace, source))) => {
                self.speakers.join(namespace, slot, container.shares_network_of.is_some());
                (Space::Open(namespace, Box::new(source)), Ok(()))
            }
            Ok(None) => (Space::Closed, Ok(())),
            Err(ReadError::Denied) => (Space::Closed, Err(ReadError::Denied)),
            Err(e) => (Space::Waiting(attempt), Err(e)),
        };
        self.slots.set(slot, space);
        outcome
    }

    pub fn close(&mut self, slot: usize) {
        if let Some(Space::Open(namespace, _)) = self.slots.get(slot) {
            let namespace = *namespace;
            self.speakers.leave(namespace, slot);
        }
        self.slots.clear(slot);
    }

    pub fn is_open(&mut self, slot: usize) -> bool {
        matches!(self.slots.get(slot), Some(Space::Open(..)))
    }

    /// What was opened for a container that speaks for its namespace.
    pub fn speaker(&mut self, slot: usize) -> Option<&mut S> {
        match self.slots.get(slot) {
            Some(Space::Open(namespace, source)) if self.speakers.speaks(*namespace, slot) => Some(source),
            _ => None,
        }
    }
}

/// Runs `f` inside the network namespace of a process. Entering changes a whole thread, so that one is made for it and
/// ends with it; the exporter's own namespace is entered by staying. What `f` opens keeps working outside.
pub fn inside<T: Send>(
    root: &Root,
    capabilities: &Capabilities,
    pid: u32,
    f: impl FnOnce() -> T + Send,
) -> Result<T, ReadError> {
    let pid = pid.to_string();
    if Namespace::of(root, "self")? == Namespace::of(root, &pid)? {
        return Ok(f());
    }
    let namespace = root.open(&root.procfs.join(&pid).join("ns/net")).inspect_err(|e| {
        if *e == ReadError::Denied {
            refuse(capabilities, "CAP_SYS_PTRACE is missing, or a security module forbids /proc/PID/ns/net");
        }
    })?;
    let entered = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("netns".into()).spawn_scoped(scope, || {
            // SAFETY: setns takes a descriptor that outlives the call and touches no memory of ours.
            if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
                return Err(ReadError::from(io::Error::last_os_error()));
            }
            Ok(f())
        })?;
        thread.join().unwrap_or(Err(ReadError::Io(libc::EIO)))
    });
    match &entered {
        Ok(_) => capabilities.yes("netns"),
        Err(ReadError::Denied) => refuse(capabilities, "CAP_SYS_ADMIN is missing"),
        Err(_) => {}
    }
    entered
}

/// One container that refuses (another security label) does not speak for all.
fn refuse(capabilities: &Capabilities, why: &str) {
    if capabilities.get("netns") != Some(Answer::Yes) {
        capabilities.no("netns", why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: Namespace = Namespace { device: 1, inode: 7 };
    const OTHER: Namespace = Namespace { device: 1, inode: 8 };

    #[test]
    fn the_sandbox_speaks_for_its_pod_whenever_it_comes() {
        let mut speakers = Speakers::default();
        speakers.join(POD, 3, true);
        assert!(speakers.speaks(POD, 3));
        speakers.join(POD, 5, false);
        assert!(speakers.speaks(POD, 5) && !speakers.speaks(POD, 3));
        speakers.leave(POD, 5);
        assert!(speakers.speaks(POD, 3));
    }

    #[test]
    fn the_first_seen_speaks_until_it_leaves() {
        let mut speakers = Speakers::default();
        speakers.join(POD, 2, false);
        speakers.join(POD, 1, false);
        speakers.join(OTHER, 9, false);
        assert!(speakers.speaks(POD, 2) && !speakers.speaks(POD, 1));
        speakers.leave(POD, 2);
        assert!(speakers.speaks(POD, 1) && speakers.speaks(OTHER, 9));
        speakers.leave(POD, 1);
        assert!(speakers.members.len() == 1);
    }

    #[test]
    fn a_process_is_found_below_a_cgroup_that_has_none_itself() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path(), crate::root::Clock::System);
        let top = dir.path().join("sys/fs/cgroup/unified/box");
        let cgroups = Cgroups { v2: Some(dir.path().join("sys/fs/cgroup/unified")), ..Cgroups::default() };
        std::fs::create_dir_all(top.join("init.scope")).unwrap();
        std::fs::write(top.join("cgroup.procs"), "").unwrap();
        std::fs::write(top.join("init.scope/cgroup.procs"), "0\n4711\n4712\n").unwrap();
        let mut container = Container::default();
        container.cgroup.v2 = Some("/box".into());
        assert_eq!(pid_of(&root, &cgroups, &container), Some(4711));
        container.pid = 12;
        assert_eq!(pid_of(&root, &cgroups, &container), Some(12));
    }
}
