//! The role of `kernel` on macOS: topology, memory, thermal state, and the VM processes' memory, energy and core time.
//!
//! | file | role |
//! |---|---|
//! | [`map`] | what the system says → facts; the same on every platform, tried on all |
//! | `sys` | the calls, compiled on macOS alone |
//!
//! [`System`] stands between them: readers ask it, tests answer in its place. The calls await their first run on hardware:
//! see `docs/apple.md`.

pub mod map;
#[cfg(target_os = "macos")]
pub mod sys;

use std::path::Path;

/// What macOS is asked. None: the system does not say.
pub trait System: Send {
    /// Performance levels, the most capable first (`hw.perflevelN.name`, `.physicalcpu`).
    fn levels(&self) -> Vec<map::Level>;

    /// A number by its name (`sysctlbyname`).
    fn number(&self, name: &str) -> Option<u64>;

    /// Bytes of swap space (`vm.swapusage`).
    fn swap(&self) -> Option<u64>;

    /// The level of thermal pressure (`notify_get_state` of `com.apple.system.thermalpressurelevel`).
    fn thermal_pressure(&self) -> Option<u64>;

    /// Processes that have a file open, with the paths of their programs.
    fn openers(&self, file: &Path) -> Vec<(u32, String)>;

    /// What a process has used; None when it has ended or belongs to another user.
    fn usage(&self, pid: u32) -> Option<map::Usage>;
}
