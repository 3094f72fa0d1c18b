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
