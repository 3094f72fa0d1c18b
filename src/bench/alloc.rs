//! Counts heap allocations and what they hold, so that "none per container and scrape" is a figure and not a hope.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

static COUNTING: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicU64 = AtomicU64::new(0);
/// Bytes allocated less bytes freed, and the most that it has been.
static LIVE: AtomicI64 = AtomicI64::new(0);
static PEAK: AtomicI64 = AtomicI64::new(0);

/// The system's allocator. Until [`count`] is called it costs one load of a flag more.
pub struct Counting;

#[inline]
fn counted(allocations: u64, more: i64) {
    if COUNTING.load(Ordering::Relaxed) {
        COUNT.fetch_add(allocations, Ordering::Relaxed);
        let live = LIVE.fetch_add(more, Ordering::Relaxed) + more;
        PEAK.fetch_max(live, Ordering::Relaxed);
    }
}

/// No allocation is larger than that.
fn bytes(layout: Layout) -> i64 {
    layout.size() as i64
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        counted(1, bytes(layout));
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        counted(1, bytes(layout));
        // SAFETY: as promised by the caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        counted(1, size as i64 - bytes(layout));
        // SAFETY: as promised by the caller.
        unsafe { System.realloc(ptr, layout, size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        counted(0, -bytes(layout));
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(ptr, layout) }
    }
}

/// Counts from now on.
pub fn count() {
    COUNTING.store(true, Ordering::Relaxed);
}

/// Allocations since [`count`], by all threads.
pub fn allocations() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

/// Begins to watch how much is allocated at once, by all threads.
pub fn begin() {
    count();
    LIVE.store(0, Ordering::Relaxed);
    PEAK.store(0, Ordering::Relaxed);
}

/// The most bytes since [`begin`] that were allocated at once, beyond what was there.
pub fn end() -> i64 {
    PEAK.load(Ordering::Relaxed)
}
