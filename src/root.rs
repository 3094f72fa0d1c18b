//! The injected outside: file-system roots, clocks, sockets and commands.
//!
//! Everything that leaves the process goes through a [`Root`], so that the whole exporter runs on a recorded tree with
//! a clock that a test moves by hand. Outside this file nothing may name `std::fs`, `SystemTime`, `Instant`,
//! `UnixStream` or `Command` (a test holds that).

use std::ffi::{CStr, CString, OsString};
pub use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Why a fact could not be read, told apart by what the caller does with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReadError {
    /// The thing itself went away while it was read (a removed cgroup answers ENODEV): drop it, no error.
    Gone,
    /// Not permitted: a capability is missing, tell which.
    Denied,
    /// This kernel or this container does not have it: absent, never an error.
    Absent,
    /// It answered, but not in the form its documentation promises.
    Malformed,
    /// Anything else, with its errno.
    Io(i32),
}

impl ReadError {
    /// Classifies by raw errno alone: `ErrorKind` hides ENODEV behind `Uncategorized`.
    pub fn from_io(e: &io::Error) -> Self {
        match e.raw_os_error() {
            Some(libc::ENODEV | libc::ESRCH) => Self::Gone,
            Some(libc::ENOENT | libc::ENOTDIR | libc::EOPNOTSUPP | libc::ENOSYS) => Self::Absent,
            Some(libc::EACCES | libc::EPERM) => Self::Denied,
            Some(errno) => Self::Io(errno),
            None => Self::Malformed,
        }
    }

    /// The value of the `kind` label of `kina_read_errors_total`.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Denied => "denied",
            Self::Absent => "absent",
            Self::Malformed => "malformed",
            Self::Io(_) => "io",
        }
    }
}

impl From<io::Error> for ReadError {
    fn from(e: io::Error) -> Self {
        Self::from_io(&e)
    }
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(errno) => write!(f, "{}", io::Error::from_raw_os_error(*errno)),
            other => f.write_str(other.kind()),
        }
    }
}

/// Nanoseconds of one of the clocks below. Wall time counts from the Unix epoch, boot time from the kernel's start.
pub type Nanos = i64;

pub const SECOND: Nanos = 1_000_000_000;

/// A date as daemons, boot logs and people write it (RFC 3339, ISO 8601): `2026-08-07T08:15:41Z`, with or without decimals;
/// `Z`, `+02:00` or `+0000`, and UTC where it has no zone. None also for what nanoseconds can't hold: Go's zero time (year
/// 1) stands for "it did not happen".
pub fn parse_date(text: &str) -> Option<Nanos> {
    // A date alone is no moment.
    if text.as_bytes().get(10) != Some(&b'T') {
        return None;
    }
    let at = text.parse().or_else(|_| {
        let civil: jiff::civil::DateTime = text.parse()?;
        jiff::tz::Offset::UTC.to_timestamp(civil)
    });
    i64::try_from(at.ok()?.as_nanosecond()).ok()
}

/// `2026-01-02T03:04:05.678Z`.
pub fn write_date(w: &mut impl std::fmt::Write, at: Nanos) -> std::fmt::Result {
    match jiff::Timestamp::from_nanosecond(at.into()) {
        Ok(at) => write!(w, "{at:.3}"),
        Err(_) => Err(std::fmt::Error),
    }
}

/// Wall and boot clock. A test moves [`FakeClock`] by hand, also backwards (skew) and in leaps.
#[derive(Clone, Debug)]
pub enum Clock {
    System,
    Fake(Arc<FakeClock>),
}

#[derive(Debug, Default)]
pub struct FakeClock {
    pub wall: AtomicI64,
    pub boot: AtomicI64,
}

fn clock_gettime(clock: libc::clockid_t) -> Nanos {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a valid, writable timespec; the clock ids used here exist on every supported kernel.
    unsafe { libc::clock_gettime(clock, &mut ts) };
    ts.tv_sec as Nanos * SECOND + ts.tv_nsec as Nanos
}

impl Clock {
    /// Nanoseconds since the Unix epoch (`CLOCK_REALTIME`).
    pub fn wall(&self) -> Nanos {
        match self {
            Self::System => clock_gettime(libc::CLOCK_REALTIME),
            Self::Fake(c) => c.wall.load(Ordering::Relaxed),
        }
    }

    /// Nanoseconds since the host booted, sleep included (`CLOCK_BOOTTIME`, the clock of `/proc/PID/stat` field 22);
    /// never goes backwards. macOS has no such clock: its monotonic one stands in.
    pub fn boot(&self) -> Nanos {
        match self {
            #[cfg(target_os = "linux")]
            Self::System => clock_gettime(libc::CLOCK_BOOTTIME),
            #[cfg(not(target_os = "linux"))]
            Self::System => clock_gettime(libc::CLOCK_MONOTONIC),
            Self::Fake(c) => c.boot.load(Ordering::Relaxed),
        }
    }
}

/// Where the outside is. Cheap to share behind an `Arc`; every path is under one of these roots.
#[derive(Clone, Debug)]
pub struct Root {
    /// `/proc` of the host (`--path.procfs`).
    pub procfs: PathBuf,
    /// `/sys` of the host (`--path.sysfs`).
    pub sysfs: PathBuf,
    /// `/sys/fs/cgroup` of the host (`--path.cgroup`).
    pub cgroup: PathBuf,
    /// `/` of the host (`--path.rootfs`): sockets, `/run`, `/etc/machine-id`.
    pub rootfs: PathBuf,
    pub clock: Clock,
}

impl Default for Root {
    fn default() -> Self {
        Self {
            procfs: "/proc".into(),
            sysfs: "/sys".into(),
            cgroup: "/sys/fs/cgroup".into(),
            rootfs: "/".into(),
            clock: Clock::System,
        }
    }
}

/// As many links as the kernel follows (path_resolution(7)).
const MAX_LINKS: u32 = 40;

impl Root {
    /// All roots below one folder, as recorded trees have them (`proc`, `sys`, `sys/fs/cgroup`).
    pub fn at(dir: &Path, clock: Clock) -> Self {
        Self {
            procfs: dir.join("proc"),
            sysfs: dir.join("sys"),
            cgroup: dir.join("sys/fs/cgroup"),
            rootfs: dir.to_path_buf(),
            clock,
        }
    }

    /// An absolute path of the host, seen through `--path.rootfs`. Links on the way lead where they do on the host: of
    /// `/var/run`, a link to `/run`, the kernel would make this process's own.
    pub fn host_path(&self, absolute: &Path) -> PathBuf {
        if self.rootfs == Path::new("/") {
            return absolute.to_path_buf();
        }
        let mut rest: Vec<OsString> = absolute.iter().rev().map(OsString::from).collect();
        let (mut at, mut links) = (PathBuf::new(), 0);
        while let Some(part) = rest.pop() {
            match std::fs::read_link(self.rootfs.join(&at).join(&part)) {
                _ if part == "/" => at.clear(),
                _ if part == ".." => _ = at.pop(),
                Ok(target) if links < MAX_LINKS => {
                    links += 1;
                    rest.extend(target.iter().rev().map(OsString::from));
                }
                _ => at.push(part),
            }
        }
        self.rootfs.join(at)
    }

    pub fn open(&self, path: &Path) -> Result<File, ReadError> {
        open_at(libc::AT_FDCWD, path, libc::O_RDONLY)
    }

    /// Opens a directory for use with [`open_beneath`].
    pub fn open_dir(&self, path: &Path) -> Result<File, ReadError> {
        open_at(libc::AT_FDCWD, path, libc::O_RDONLY | libc::O_DIRECTORY)
    }

    /// Reads a small file once, whole. For set-up paths; the scrape path keeps descriptors and uses [`pread_all`].
    pub fn read_to_string(&self, path: &Path) -> Result<String, ReadError> {
        let bytes = self.read_bytes(path)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    pub fn read_bytes(&self, path: &Path) -> Result<Vec<u8>, ReadError> {
        asked();
        // Open, status, read, end and close: what the standard library makes of it.
        (0..5).for_each(|_| called());
        std::fs::read(path).map_err(Into::into)
    }

    /// Writes a file of the user, and the folders above it.
    pub fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, bytes)
    }

    pub fn read_link(&self, path: &Path) -> Result<PathBuf, ReadError> {
        std::fs::read_link(path).map_err(Into::into)
    }

    pub fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    pub fn metadata(&self, path: &Path) -> Result<std::fs::Metadata, ReadError> {
        std::fs::metadata(path).map_err(Into::into)
    }

    /// Size and time of the last change of a file or folder.
    pub fn stamp(&self, path: &Path) -> Result<Stamp, ReadError> {
        use std::os::unix::fs::MetadataExt;
        let m = std::fs::metadata(path)?;
        Ok(Stamp { size: m.len(), modified: m.mtime().saturating_mul(SECOND).saturating_add(m.mtime_nsec()) })
    }

    /// Reads a part of a file that grows: from `offset`, at most so many bytes; fewer or none at its end.
    pub fn read_part(&self, path: &Path, offset: u64, at_most: usize) -> Result<Vec<u8>, ReadError> {
        use std::io::{Read, Seek};
        let mut file = std::fs::File::open(path)?;
        file.seek(io::SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(at_most as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Writes a small file of the exporter's own as a whole: by another name first, so that nobody ever reads half of it.
    pub fn write_state(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let new = path.with_extension("new");
        std::fs::write(&new, content)?;
        std::fs::rename(&new, path)
    }

    /// Names in a directory, sorted (a recorded tree and a kernel list in different orders; output must not depend on it).
    pub fn list(&self, path: &Path) -> Result<Vec<String>, ReadError> {
        let mut names: Vec<String> =
            std::fs::read_dir(path)?.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Names of the sub-directories of a directory, sorted.
    pub fn list_dirs(&self, path: &Path) -> Result<Vec<String>, ReadError> {
        let mut names: Vec<String> = std::fs::read_dir(path)?
            .filter_map(|e| {
                let e = e.ok()?;
                e.file_type().ok()?.is_dir().then_some(())?;
                e.file_name().into_string().ok()
            })
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    /// A variable of the environment that names a place of this host: none where the host is seen through another root.
    pub fn env(&self, name: &str) -> Option<String> {
        if self.rootfs == Path::new("/") { std::env::var(name).ok() } else { None }
    }

    /// Connects to a Unix socket of the host, giving up after `limit`.
    pub async fn connect_unix(&self, path: &Path, limit: Duration) -> io::Result<tokio::net::UnixStream> {
        let path = self.host_path(path);
        tokio::time::timeout(limit, tokio::net::UnixStream::connect(path))
            .await
            .map_err(|_| io::Error::from_raw_os_error(libc::ETIMEDOUT))?
    }

    /// Removes the file of a Unix socket that nobody listens at any more.
    pub fn remove_socket(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    /// Descriptors that systemd handed to this process (sd_listen_fds(3)): none if they are meant for another one.
    pub fn handed_over(&self) -> std::ops::Range<i32> {
        let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
        let mine = number("LISTEN_PID") == Some(std::process::id());
        let count = number("LISTEN_FDS").filter(|n| mine && *n < 1024).unwrap_or(0);
        3..3 + count as i32
    }

    /// Where a program is on `PATH`.
    pub fn find_program(&self, name: &str) -> Option<PathBuf> {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|dir| dir.join(name)).find(|p| p.is_file())
    }

    /// Connects to another machine.
    pub async fn connect_tcp(&self, address: std::net::SocketAddr) -> io::Result<tokio::net::TcpStream> {
        tokio::net::TcpStream::connect(address).await
    }

    /// A child process with no standard input that dies with its handle; the caller sets the time limit.
    pub fn command(&self, program: &Path) -> tokio::process::Command {
        let mut c = tokio::process::Command::new(program);
        c.stdin(std::process::Stdio::null()).kill_on_drop(true);
        c
    }
}

/// What a file system tells of a file that grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    pub size: u64,
    /// Wall clock of the host.
    pub modified: Nanos,
}

fn open_at(dir: i32, path: &Path, flags: i32) -> Result<File, ReadError> {
    let c = CString::new(path.as_os_str().as_bytes()).map_err(|_| ReadError::Malformed)?;
    open_c(dir, &c, flags)
}

/// Opens a path that was made ready before: no allocation.
pub fn open_prepared(path: &CStr) -> Result<File, ReadError> {
    open_c(libc::AT_FDCWD, path, libc::O_RDONLY)
}

/// System calls made through this file, for the figures of `bench cost`. What belongs to set-up ([`Root::list`],
/// [`Root::exists`] …) is left out.
static CALLS: AtomicU64 = AtomicU64::new(0);

/// Counts one; called by all that makes system calls while containers are read.
#[inline]
pub(crate) fn called() {
    CALLS.fetch_add(1, Ordering::Relaxed);
}

/// System calls made so far.
pub fn calls() -> u64 {
    CALLS.load(Ordering::Relaxed)
}

/// Kernel files asked so far, each counted once however many calls it took.
static FILES: AtomicU64 = AtomicU64::new(0);

#[inline]
fn asked() {
    FILES.fetch_add(1, Ordering::Relaxed);
}

/// Kernel files asked so far, by reading them or by their status.
pub fn files() -> u64 {
    FILES.load(Ordering::Relaxed)
}

fn open_c(dir: i32, path: &CStr, flags: i32) -> Result<File, ReadError> {
    called();
    // SAFETY: `path` is NUL-terminated and outlives the call; the result is checked before use.
    let fd = unsafe { libc::openat(dir, path.as_ptr(), flags | libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error().into());
    }
    // And once for the close that will follow.
    called();
    // SAFETY: `fd` was just returned by the kernel and has no other owner.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Opens `name` below an open directory: one path component to walk instead of the whole cgroup path.
pub fn open_beneath(dir: &File, name: &str) -> Result<File, ReadError> {
    open_at(dir.as_raw_fd(), Path::new(name), libc::O_RDONLY)
}

/// What `stat` tells of a path, as far as it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    pub size: u64,
    pub links: u64,
}

/// Asks for the status of a path that was made ready before: no allocation.
#[allow(clippy::unnecessary_cast, reason = "the fields are narrower on other platforms")]
pub fn status_prepared(path: &CStr) -> Result<Status, ReadError> {
    called();
    asked();
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `path` is NUL-terminated and `stat` is writable; both outlive the call.
    if unsafe { libc::stat(path.as_ptr(), stat.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error().into());
    }
    // SAFETY: the call succeeded, so the kernel has filled `stat`.
    let stat = unsafe { stat.assume_init() };
    Ok(Status { size: stat.st_size as u64, links: stat.st_nlink as u64 })
}

/// Calls `each` with every name in an open directory, `.` and `..` left out, in the kernel's order; allocates nothing.
#[cfg(target_os = "linux")]
pub fn each_name(dir: &File, buf: &mut ReadBuf, mut each: impl FnMut(&[u8])) -> Result<(), ReadError> {
    /// Offset of the name in a `linux_dirent64`: inode (8), offset (8), length (2), type (1).
    const NAME: usize = 19;
    loop {
        called();
        let free = &mut buf.bytes[..];
        // SAFETY: the pointer and length describe `free`, which is writable and lives through the call.
        let n = unsafe { libc::syscall(libc::SYS_getdents64, dir.as_raw_fd(), free.as_mut_ptr(), free.len()) };
        if n < 0 {
            return Err(io::Error::last_os_error().into());
        }
        if n == 0 {
            return Ok(());
        }
        let mut rest = free.get(..n as usize).unwrap_or_default();
        while let (Some(&[low, high]), Some(name)) = (rest.get(16..18), rest.get(NAME..)) {
            let length = usize::from(u16::from_ne_bytes([low, high]));
            let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
            if !matches!(&name[..end], b"." | b"..") {
                each(&name[..end]);
            }
            match rest.get(length..) {
                Some(next) if length > NAME => rest = next,
                _ => break,
            }
        }
    }
}

/// Has the allocator keep no more than what is used: one heap for the few threads there are, given back to the kernel from
/// its top. A scrape's text is not taken from the kernel anew each time, which would cost it a fault a page.
pub fn keep_heap_small() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (option, value) in
        [(libc::M_ARENA_MAX, 1), (libc::M_TRIM_THRESHOLD, 128 << 10), (libc::M_MMAP_THRESHOLD, 4 << 20)]
    {
        // SAFETY: takes two numbers, and refuses what it does not know.
        unsafe { libc::mallopt(option, value) };
    }
}

/// Descriptors of 10,000 containers at some 25 each, four times over: below the kernel's own `fs.nr_open`.
const PRIVILEGED_DESCRIPTORS: libc::rlim_t = 1 << 20;

/// Raises the limit on open descriptors as far as is allowed, and tells what it is then.
pub fn raise_descriptor_limit() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid, writable rlimit.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return 256;
    }
    // With CAP_SYS_RESOURCE also beyond the hard limit, which was made for programs that hold descriptors by mistake.
    for most in [limit.rlim_max.max(PRIVILEGED_DESCRIPTORS), limit.rlim_max] {
        let wanted = libc::rlimit { rlim_cur: most, rlim_max: most };
        // SAFETY: `wanted` is a valid rlimit; the kernel refuses what is not allowed.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &wanted) } == 0 {
            limit = wanted;
            break;
        }
    }
    usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX)
}

/// Lowers the limit on open descriptors for good, for a measurement.
pub fn lower_descriptor_limit(most: usize) -> io::Result<()> {
    let wanted = libc::rlimit { rlim_cur: most as libc::rlim_t, rlim_max: most as libc::rlim_t };
    // SAFETY: `wanted` is a valid rlimit.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &wanted) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Nanoseconds of CPU that a process has used: this one for 0. None where it has ended.
#[cfg(target_os = "linux")]
pub fn cpu_time(pid: u32) -> Option<Nanos> {
    let mut clock: libc::clockid_t = 0;
    // SAFETY: `clock` is a valid, writable clock id.
    let found = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) } == 0;
    found.then(|| clock_gettime(clock))
}

/// Nanoseconds of CPU that the calling thread has used.
pub fn thread_cpu_time() -> Nanos {
    clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time that all threads of this process have used.
pub fn process_cpu_time() -> Nanos {
    clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// A folder made for a measurement, removed with everything in it when dropped. Within cgroup file systems, where files
/// can't be removed, the folder alone goes, and must have no children any more.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(path: &Path) -> io::Result<Self> {
        std::fs::create_dir(path)?;
        Ok(Self(path.to_owned()))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file at an absolute path: a new one, or one that the kernel put into the folder.
    pub fn write(path: &Path, text: &str) -> io::Result<()> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, text)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::fs::remove_dir(&self.0).is_err() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// Whether a kernel file announces a change since it was last asked (mountinfo does); false where it can't.
pub fn has_changed(file: &File) -> bool {
    let mut poll = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLPRI, revents: 0 };
    // SAFETY: the pointer and count describe one valid, writable pollfd; a limit of 0 never waits.
    let n = unsafe { libc::poll(&mut poll, 1, 0) };
    n > 0 && poll.revents & (libc::POLLPRI | libc::POLLERR) != 0
}

/// Size of a file system in bytes and inodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    pub size: u64,
    pub free: u64,
    pub inodes: u64,
    pub inodes_free: u64,
}

/// Asks the file system that holds `path`. It may hang where that is a network's or a process's: ask of local ones alone.
pub fn space(path: &CStr) -> Result<Space, ReadError> {
    // SAFETY: all-zero is a valid statvfs.
    let mut s: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `path` is NUL-terminated and `s` writable; both outlive the call.
    if unsafe { libc::statvfs(path.as_ptr(), &mut s) } != 0 {
        return Err(io::Error::last_os_error().into());
    }
    #[allow(clippy::unnecessary_cast, reason = "32 bits wide on macOS")]
    let (blocks, free, inodes, inodes_free) = (s.f_blocks as u64, s.f_bfree as u64, s.f_files as u64, s.f_ffree as u64);
    #[allow(clippy::unnecessary_cast, reason = "32 bits wide on some targets")]
    let block = s.f_frsize as u64;
    Ok(Space { size: blocks.saturating_mul(block), free: free.saturating_mul(block), inodes, inodes_free })
}

/// The limit on open descriptors in force; None where there is none.
pub fn descriptor_limit() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid, writable rlimit.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } == 0;
    (known && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// CPU time that this process used, in seconds.
pub fn cpu_seconds() -> Option<f64> {
    // SAFETY: all-zero is a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is writable and outlives the call.
    if unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) } != 0 {
        return None;
    }
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    Some(seconds(usage.ru_utime) + seconds(usage.ru_stime))
}

/// Bytes in a page of memory.
pub fn page_size() -> u64 {
    // SAFETY: sysconf touches no memory of ours.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// A file that is read and written past the page cache, removed when dropped.
#[cfg(target_os = "linux")]
pub struct DirectFile {
    file: std::fs::File,
    path: PathBuf,
}

/// A block whose address is aligned as every device accepts it.
#[cfg(target_os = "linux")]
#[repr(C, align(4096))]
pub struct Block(pub [u8; 4096]);

#[cfg(target_os = "linux")]
impl DirectFile {
    /// Makes a file of `size` bytes, all of them written, so that reads find blocks.
    pub fn create(path: &Path, size: u64) -> io::Result<Self> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let mut made = Self { file: std::fs::File::create_new(path)?, path: path.to_owned() };
        let part = vec![0x5a; 1 << 20];
        for _ in 0..size.div_ceil(1 << 20) {
            made.file.write_all(&part)?;
        }
        made.file.sync_all()?;
        made.file = std::fs::OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(path)?;
        Ok(made)
    }

    pub fn read_at(&self, block: &mut Block, at: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, &mut block.0, at)
    }

    pub fn write_at(&self, block: &Block, at: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.file, &block.0, at)
    }
}

#[cfg(target_os = "linux")]
impl Drop for DirectFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Counts the context switches of a cgroup, and of those below it, on one CPU, from when it was opened.
#[cfg(target_os = "linux")]
#[derive(Debug)]
pub struct SwitchCounter(OwnedFd);

#[cfg(target_os = "linux")]
impl SwitchCounter {
    /// `cgroup` is its folder in the hierarchy that has the controller `perf_event`.
    pub fn open(cgroup: &File, cpu: u32) -> Result<Self, ReadError> {
        /// `struct perf_event_attr` as far as its first version goes.
        #[repr(C)]
        #[derive(Default)]
        struct Attributes {
            kind: u32,
            size: u32,
            config: u64,
            unused: [u64; 6],
        }
        const SOFTWARE: u32 = 1;
        const CONTEXT_SWITCHES: u64 = 3;
        const OF_A_CGROUP: libc::c_ulong = 1 << 2;
        const CLOSE_ON_EXEC: libc::c_ulong = 1 << 3;
        let size = size_of::<Attributes>() as u32;
        let attributes = Attributes { kind: SOFTWARE, size, config: CONTEXT_SWITCHES, ..Attributes::default() };
        called();
        // SAFETY: `attributes` is as long as it says and outlives the call, which only reads it.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attributes,
                cgroup.as_raw_fd(),
                cpu as libc::c_int,
                -1 as libc::c_int,
                OF_A_CGROUP | CLOSE_ON_EXEC,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error().into());
        }
        called();
        // SAFETY: `fd` was just returned by the kernel and has no other owner.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    pub fn read(&self) -> Result<u64, ReadError> {
        called();
        asked();
        let mut count = [0u8; 8];
        // SAFETY: the pointer and length describe `count`, which is writable and lives through the call.
        let n = unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
        match n {
            8 => Ok(u64::from_ne_bytes(count)),
            n if n < 0 => Err(io::Error::last_os_error().into()),
            _ => Err(ReadError::Malformed),
        }
    }
}

/// The one reused read buffer of a collection.
pub struct ReadBuf {
    bytes: Vec<u8>,
}

/// A kernel file larger than this is cut: nothing that is read here is legitimately larger.
pub const MAX_FILE: usize = 16 << 20;

impl Default for ReadBuf {
    fn default() -> Self {
        Self { bytes: vec![0; 16 << 10] }
    }
}

impl ReadBuf {
    /// Reads a kernel file that is one record (every cgroup file) from its start: one `pread`, more only when it fills
    /// the buffer.
    pub fn pread<'b>(&'b mut self, file: &File) -> Result<&'b [u8], ReadError> {
        self.pread_upto(file, usize::MAX)
    }

    /// Reads a multi-record `seq_file` (`/proc/net/*`), which hands out about a page a call: a short answer is the whole
    /// file, a longer one may not be, and is read on until the kernel says end.
    pub fn pread_records<'b>(&'b mut self, file: &File) -> Result<&'b [u8], ReadError> {
        self.pread_upto(file, 2048)
    }

    fn pread_upto<'b>(&'b mut self, file: &File, whole_below: usize) -> Result<&'b [u8], ReadError> {
        asked();
        let mut len = 0;
        loop {
            called();
            let free = &mut self.bytes[len..];
            // SAFETY: the pointer and length describe `free`, which is writable and lives through the call.
            let n = unsafe { libc::pread(file.as_raw_fd(), free.as_mut_ptr().cast(), free.len(), len as libc::off_t) };
            if n < 0 {
                let e = io::Error::last_os_error();
                if e.raw_os_error() == Some(libc::EINTR) {
                    continue;
                }
                return Err(e.into());
            }
            let n = n as usize;
            len += n;
            if n == 0 || (len < self.bytes.len() && len < whole_below) {
                return Ok(&self.bytes[..len]);
            }
            if len == self.bytes.len() {
                if len >= MAX_FILE {
                    return Err(ReadError::Malformed);
                }
                self.bytes.resize(len * 2, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_the_host_lead_where_they_do_there() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path(), Clock::System);
        std::fs::create_dir_all(dir.path().join("run/user")).unwrap();
        std::fs::create_dir(dir.path().join("var")).unwrap();
        symlink("/run", dir.path().join("var/run")).unwrap();
        symlink("../../run/user", dir.path().join("run/relative")).unwrap();
        symlink("/loop", dir.path().join("loop")).unwrap();
        for (asked, is) in [
            ("/run/docker.sock", "run/docker.sock"),
            ("/var/run/docker.sock", "run/docker.sock"),
            ("/var/run/relative/7", "run/user/7"),
            ("/../../var/run/../etc", "etc"),
            ("/loop", "loop"),
            ("/", ""),
        ] {
            assert_eq!(root.host_path(Path::new(asked)), dir.path().join(is), "{asked}");
        }
        assert_eq!(Root::default().host_path(Path::new("/var/run/x")), Path::new("/var/run/x"));
    }

    #[test]
    fn dates_with_decimals_and_zones() {
        let base = 1_786_090_541 * SECOND;
        for (text, at) in [
            ("2026-08-07T08:15:41.905Z", base + 905_000_000),
            ("2026-08-07T08:15:41.352063269Z", base + 352_063_269),
            ("2026-08-07T10:15:41+02:00", base),
            ("2026-08-07T08:15:41+0000", base),
            ("2026-08-07T08:15:41", base),
            ("2024-02-29T12:00:00.5+02:00", 1_709_200_800_500_000_000),
            ("1970-01-01T00:00:00Z", 0),
        ] {
            assert_eq!(parse_date(text), Some(at), "{text}");
        }
        for bad in [
            "",
            "2026",
            "2026-08-07",
            "2026-13-01T00:00:00Z",
            "2026-08-07 08:15:41Z",
            "2026-08-07T08:15:4",
            "2026-08-07T08:15:41x",
            "2026-08-07T08:15:41+",
            "2026-08-07T08:15:41Z\u{fc}",
            "\u{e4}026-08-07T08:15:41Z",
            "9999-08-07T08:15:41Z",
            "0001-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_date(bad), None, "{bad}");
        }
    }

    #[test]
    fn dates_are_written_in_utc_with_milliseconds() {
        for (at, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400 * SECOND, "2000-02-29T00:00:00.000Z"),
            (1_735_689_599 * SECOND + 999_999_999, "2024-12-31T23:59:59.999Z"),
            (-SECOND, "1969-12-31T23:59:59.000Z"),
        ] {
            let mut out = String::new();
            write_date(&mut out, at).unwrap();
            assert_eq!(out, text);
        }
    }
}
