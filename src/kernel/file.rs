//! One kernel file of a container, kept open between collections as long as the descriptor limit allows.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::root::{self, File, ReadBuf, ReadError};

/// How many descriptors kernel files may hold; what is beyond is opened, read and closed each time.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    held: AtomicUsize,
}

impl Budget {
    /// All that the process may have, less a share for connections, runtimes and passing opens.
    pub fn of_process() -> Arc<Self> {
        let limit = root::raise_descriptor_limit();
        Self::new(limit.saturating_sub((limit / 4).clamp(128, 4096)))
    }

    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, held: AtomicUsize::new(0) })
    }

    /// Descriptors held now.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// A descriptor's share, if one is left.
    pub fn take(self: &Arc<Self>) -> Option<Share> {
        let free = |held| (held < self.limit).then_some(held + 1);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).ok()?;
        Some(Share(self.clone()))
    }
}

/// One descriptor's share of the budget, given back when dropped.
#[derive(Debug)]
pub struct Share(Arc<Budget>);

impl Drop for Share {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
enum State {
    Held(File, #[allow(dead_code, reason = "given back when dropped")] Share),
    /// Over the budget: the path, ready for the kernel.
    ByPath(CString),
    /// Could not be opened for another reason than that it is not there.
    Failed(ReadError),
}

type Pread = for<'b> fn(&'b mut ReadBuf, &File) -> Result<&'b [u8], ReadError>;

/// A kernel file that was there when its container was opened.
#[derive(Debug)]
pub struct KernelFile(State);

impl KernelFile {
    /// Opens `path`. A file that is not there is an error, and need not be asked for again; one that is refused is kept,
    /// so that every collection tells of it.
    pub fn open(path: &Path, budget: &Arc<Budget>) -> Result<Self, ReadError> {
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| ReadError::Malformed)?;
        match root::open_prepared(&path) {
            Ok(file) => Ok(Self(match budget.take() {
                Some(share) => State::Held(file, share),
                None => State::ByPath(path),
            })),
            // Out of descriptors all the same (others need them too): read it by path when its turn comes.
            Err(ReadError::Io(libc::EMFILE | libc::ENFILE)) => Ok(Self(State::ByPath(path))),
            Err(e @ (ReadError::Absent | ReadError::Gone)) => Err(e),
            Err(e) => Ok(Self(State::Failed(e))),
        }
    }

    /// The whole file, in one `pread` when it is held. It was there once: when it is not there now, its thing is gone.
    pub fn read<'b>(&self, buf: &'b mut ReadBuf) -> Result<&'b [u8], ReadError> {
        self.read_by(buf, ReadBuf::pread)
    }

    /// The same for a file of many records; see [`ReadBuf::pread_records`].
    pub fn read_records<'b>(&self, buf: &'b mut ReadBuf) -> Result<&'b [u8], ReadError> {
        self.read_by(buf, ReadBuf::pread_records)
    }

    fn read_by<'b>(&self, buf: &'b mut ReadBuf, pread: Pread) -> Result<&'b [u8], ReadError> {
        match &self.0 {
            State::Held(file, _) => pread(buf, file),
            State::ByPath(path) => match root::open_prepared(path) {
                Ok(file) => pread(buf, &file),
                Err(ReadError::Absent) => Err(ReadError::Gone),
                Err(e) => Err(e),
            },
            State::Failed(e) => Err(*e),
        }
    }
}

impl KernelFile {
    /// Whether its descriptor is kept, and so still means the thing that it was opened for.
    pub fn is_held(&self) -> bool {
        matches!(self.0, State::Held(..))
    }

    /// The file, unless it was refused: for files whose refusal is a missing permission, not a failure.
    pub fn permitted(self) -> Result<Self, ReadError> {
        match self.0 {
            State::Failed(e) => Err(e),
            state => Ok(Self(state)),
        }
    }
}

/// A path written into the same memory again and again, ready for the kernel.
#[derive(Debug, Default)]
pub struct PathText {
    bytes: Vec<u8>,
    numbers: Vec<u32>,
}

impl PathText {
    pub fn set(&mut self, folder: &Path, parts: &[&[u8]]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(folder.as_os_str().as_bytes());
        for part in parts {
            self.bytes.push(b'/');
            self.bytes.extend_from_slice(part);
        }
        self.bytes.push(0);
    }

    pub fn as_c(&self) -> Result<&CStr, ReadError> {
        CStr::from_bytes_with_nul(&self.bytes).map_err(|_| ReadError::Malformed)
    }

    /// Memory for a list of ids, beside the path that they are put into.
    pub fn numbers(&mut self) -> &mut Vec<u32> {
        &mut self.numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn falls_back_to_paths_over_the_budget() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "1\n").unwrap();
        let budget = Budget::new(1);
        let mut buf = ReadBuf::default();
        let held = KernelFile::open(&path, &budget).unwrap();
        let by_path = KernelFile::open(&path, &budget).unwrap();
        assert!(matches!((&held.0, &by_path.0), (State::Held(..), State::ByPath(_))));
        assert_eq!(held.read(&mut buf), Ok(&b"1\n"[..]));
        assert_eq!(by_path.read(&mut buf), Ok(&b"1\n"[..]));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(by_path.read(&mut buf), Err(ReadError::Gone));
        assert_eq!(KernelFile::open(&path, &budget).unwrap_err(), ReadError::Absent);
        drop(held);
        assert_eq!(budget.held(), 0, "shares are given back");
    }
}
