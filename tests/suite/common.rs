//! What the tests share: skipping with a word, recorded trees, fake clocks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kina_exporter::root::{Clock, FakeClock, Root};

/// `KINA_E2E=require` turns every skip into a failure.
pub fn required() -> bool {
    std::env::var("KINA_E2E").is_ok_and(|v| v == "require")
}

/// Says why a test is skipped; fails instead where nothing may be skipped. Use as `if skip("why") { return }`.
#[track_caller]
pub fn skip(why: &str) -> bool {
    assert!(!required(), "KINA_E2E=require, but: {why}");
    eprintln!("skipped: {why}");
    true
}

/// Says that a test, or a part of one, is left out even where nothing may be skipped: no package that `.ci/run` can install
/// brings what it needs. Written past the harness, which shows what a test prints only when that fails.
pub fn not_packaged(why: &str) {
    use std::io::Write;
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "skipped, in {test}: {why}");
}

/// The Python that has what tests ask of it: `KINA_PYTHON`, or the machine's.
pub fn python() -> String {
    std::env::var("KINA_PYTHON").unwrap_or_else(|_| "python3".into())
}

pub fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(path)
}

/// A file tree in a temporary folder, written from `(path, content)` pairs.
pub fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary folder");
    for (path, content) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().expect("has a parent")).expect("folder");
        std::fs::write(path, content).expect("file");
    }
    dir
}

/// A root at `dir` with a clock that stands still until moved.
pub fn fake_root(dir: &Path) -> (Root, Arc<FakeClock>) {
    let clock = Arc::new(FakeClock::default());
    (Root::at(dir, Clock::Fake(clock.clone())), clock)
}

/// Counts what the test's own thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    static LIVE: std::cell::Cell<i64> = const { std::cell::Cell::new(0) };
}

fn count(allocations: u64, bytes: i64) {
    // A thread that is ending has no counters any more.
    let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + allocations));
    let _ = LIVE.try_with(|n| n.set(n.get() + bytes));
}

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl std::alloc::GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: std::alloc::Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        unsafe { std::alloc::System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: std::alloc::Layout) {
        count(0, -(layout.size() as i64));
        unsafe { std::alloc::System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Allocations that this thread has made so far.
pub fn allocations() -> u64 {
    ALLOCATIONS.with(std::cell::Cell::get)
}

/// Bytes that this thread has allocated and not freed.
pub fn live_bytes() -> i64 {
    LIVE.with(std::cell::Cell::get)
}

/// Unpacks a recorded tree (`tests/fixtures/trees/NAME.txt`, see [`write_tree`]) into a temporary folder.
pub fn recorded(name: &str) -> tempfile::TempDir {
    let path = fixture("trees").join(name).with_extension("txt");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let dir = tempfile::tempdir().expect("temporary folder");
    write_tree(dir.path(), &text);
    dir
}

/// Writes the files of a text below `dir`: each `== path` is followed by the file's content; `== path -> target` is a
/// symbolic link, `== path/` an empty folder. Lines before the first say what the tree is.
pub fn write_tree(dir: &Path, text: &str) {
    let sections = text.split("\n== ").skip(usize::from(!text.starts_with("== ")));
    for section in sections {
        let section = section.strip_prefix("== ").unwrap_or(section);
        let (path, content) = section.split_once('\n').unwrap_or((section, ""));
        let (path, target) = match path.split_once(" -> ") {
            Some((path, target)) => (path, Some(target)),
            None => (path, None),
        };
        let at = dir.join(path);
        if path.ends_with('/') {
            std::fs::create_dir_all(&at).expect("folder");
            continue;
        }
        std::fs::create_dir_all(at.parent().expect("has a parent")).expect("folder");
        match target {
            Some(target) => std::os::unix::fs::symlink(target, &at).expect("link"),
            None if content.is_empty() || content.ends_with('\n') => std::fs::write(&at, content).expect("file"),
            None => std::fs::write(&at, format!("{content}\n")).expect("file"),
        }
    }
}

/// A program that ends with the test, however that ends.
pub struct Running(pub std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A place where nobody listens, and nobody else can: its port stays taken, and who connects is refused at once.
pub struct Away {
    socket: socket2::Socket,
    pub address: std::net::SocketAddr,
}

impl Away {
    pub fn new() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Self { socket, address }
    }

    /// From now on somebody listens. Within a tokio runtime.
    pub fn back(self) -> tokio::net::TcpListener {
        self.socket.listen(128).unwrap();
        self.socket.set_nonblocking(true).unwrap();
        tokio::net::TcpListener::from_std(self.socket.into()).unwrap()
    }
}
