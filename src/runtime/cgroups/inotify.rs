//! Directories watched with inotify(7), by path.

use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What happened below the watched paths.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// A directory appeared in the watched one.
    Made { parent: String, name: String },
    /// A directory is gone from the watched one.
    Gone { parent: String, name: String },
    /// A watched file was written.
    Written { path: String },
    /// The kernel's queue was full: anything may have happened.
    Lost,
}

#[derive(Debug)]
pub struct Watcher {
    fd: AsyncFd<OwnedFd>,
    watched: HashMap<i32, String>,
    buffer: Vec<u8>,
}

impl Watcher {
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers are passed; the result is checked before use.
        let fd = unsafe { libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just returned by the kernel and has no other owner.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: an owned descriptor stays open, and the same, until `AsyncFd` drops it.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?;
        Ok(Self { fd, watched: HashMap::new(), buffer: vec![0; 64 << 10] })
    }

    /// Watches for directories made in and removed from `directory`, reported as being of `path`.
    pub fn watch_directory(&mut self, directory: &Path, path: &str) -> io::Result<()> {
        self.watch(directory, path, libc::IN_CREATE | libc::IN_DELETE | libc::IN_ONLYDIR)
    }

    /// Watches for writes; the kernel writes `cgroup.events` so.
    pub fn watch_file(&mut self, file: &Path, path: &str) -> io::Result<()> {
        self.watch(file, path, libc::IN_MODIFY)
    }

    fn watch(&mut self, target: &Path, path: &str, mask: u32) -> io::Result<()> {
        let target = CString::new(target.as_os_str().as_bytes())?;
        // SAFETY: `target` is a NUL-terminated path that outlives the call.
        let wd = unsafe { libc::inotify_add_watch(self.fd.as_raw_fd(), target.as_ptr(), mask) };
        if wd < 0 {
            return Err(io::Error::last_os_error());
        }
        self.watched.insert(wd, path.to_owned());
        Ok(())
    }

    /// Waits for changes. Cancel safe.
    pub async fn changes(&mut self) -> io::Result<Vec<Change>> {
        loop {
            let mut ready = self.fd.readable().await?;
            let buffer = &mut self.buffer;
            let read = ready.try_io(|fd| {
                // SAFETY: the pointer and length describe `buffer`, which is writable and lives through the call.
                let n = unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
                usize::try_from(n).map_err(|_| io::Error::last_os_error())
            });
            match read {
                Ok(n) => return Ok(self.parse(n?)),
                Err(_would_block) => continue,
            }
        }
    }

    fn parse(&mut self, n: usize) -> Vec<Change> {
        const HEADER: usize = size_of::<libc::inotify_event>();
        let mut changes = Vec::new();
        let mut rest = self.buffer.get(..n).unwrap_or_default();
        while let Some(header) = rest.get(..HEADER) {
            let field = |at: usize| {
                let bytes: [u8; 4] = header.get(at..at + 4).and_then(|b| b.try_into().ok()).unwrap_or_default();
                u32::from_ne_bytes(bytes)
            };
            let (wd, mask, len) = (field(0) as i32, field(4), field(12) as usize);
            let name = rest.get(HEADER..HEADER + len).unwrap_or_default();
            let name = name.split(|b| *b == 0).next().unwrap_or_default();
            let name = String::from_utf8_lossy(name).into_owned();
            rest = rest.get(HEADER + len..).unwrap_or_default();
            if mask & libc::IN_Q_OVERFLOW != 0 {
                changes.push(Change::Lost);
                continue;
            }
            if mask & libc::IN_IGNORED != 0 {
                self.watched.remove(&wd);
                continue;
            }
            let Some(path) = self.watched.get(&wd) else { continue };
            if mask & libc::IN_MODIFY != 0 {
                changes.push(Change::Written { path: path.clone() });
            } else if mask & libc::IN_ISDIR != 0 && mask & libc::IN_CREATE != 0 {
                changes.push(Change::Made { parent: path.clone(), name });
            } else if mask & libc::IN_ISDIR != 0 && mask & libc::IN_DELETE != 0 {
                changes.push(Change::Gone { parent: path.clone(), name });
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn directories_and_writes_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut watcher = Watcher::new().unwrap();
        watcher.watch_directory(dir.path(), "/slice").unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("file"), "not a directory").unwrap();
        watcher.watch_file(&dir.path().join("file"), "/slice/file").unwrap();
        let made = Change::Made { parent: "/slice".into(), name: "a".into() };
        assert_eq!(watcher.changes().await.unwrap(), [made]);
        std::fs::write(dir.path().join("file"), "again").unwrap();
        std::fs::remove_dir(dir.path().join("a")).unwrap();
        let changes = watcher.changes().await.unwrap();
        assert!(changes.contains(&Change::Written { path: "/slice/file".into() }), "{changes:?}");
        assert!(changes.contains(&Change::Gone { parent: "/slice".into(), name: "a".into() }), "{changes:?}");
    }
}
