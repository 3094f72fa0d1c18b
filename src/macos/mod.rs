//! The role of `kernel` on macOS: topology, load, memory, thermal state, power, and the VM processes' memory, energy and
//! core time.
//!
//! | file | role |
//! |---|---|
//! | [`map`] | what the system says → facts; the same on every platform, tried on all |
//! | [`gauge`] | memory, processes, the cores' load and the exporter itself, through `sysinfo`; runs on every platform |
//! | `power` | energy by part of the chip, through `macmon` (feature `power`), on a thread of its own |
//! | `sys` | the calls that no well-kept crate makes, compiled on macOS alone |
//!
//! [`System`] stands between them: readers ask it, tests answer in its place. The calls await their first run on hardware:
//! see `docs/apple.md`.

pub mod gauge;
pub mod map;
#[cfg(all(target_os = "macos", feature = "power"))]
mod power;
#[cfg(target_os = "macos")]
mod sys;

use std::path::Path;
use std::sync::Arc;

use crate::root::Nanos;

/// What macOS is asked. None, or nothing: the system does not say.
pub trait System: std::fmt::Debug + Send + Sync {
    /// Performance levels, the most capable first (`hw.perflevelN.name`, `.physicalcpu`).
    fn levels(&self) -> Vec<map::Level>;

    /// A number by its name (`sysctlbyname`).
    fn number(&self, name: &str) -> Option<u64>;

    /// The machine's memory and processes.
    fn memory(&self) -> gauge::Memory;

    /// How long all processors together have been busy since the machine's start.
    fn ticks(&self) -> Option<map::Ticks>;

    /// What the exporter itself takes.
    fn own(&self) -> gauge::Own;

    /// Share of the time since it was last asked that each core was busy, by the system's numbers; `now` is the boot clock.
    fn load(&self, now: Nanos) -> Vec<f64>;

    /// The kind of cluster (`E`, `M`, `P`) that each core is in, by the system's numbers (`cluster-type`).
    fn clusters(&self) -> Vec<(u32, String)>;

    /// The level of thermal pressure (`notify_get_state` of `com.apple.system.thermalpressurelevel`).
    fn thermal_pressure(&self) -> Option<u64>;

    /// Whether the machine draws its power from a battery.
    fn on_battery(&self) -> Option<bool>;

    /// Joules since the exporter began, by part of the machine; or why not.
    fn energy(&self) -> Result<Vec<(&'static str, f64)>, &'static str>;

    /// Processes that have a file open, with the paths of their programs.
    fn openers(&self, file: &Path) -> Vec<(u32, String)>;

    /// What a process has used; None when it has ended or belongs to another user.
    fn usage(&self, pid: u32) -> Option<map::Usage>;
}

/// This machine, if it is a Mac.
pub fn system() -> Option<Arc<dyn System>> {
    #[cfg(target_os = "macos")]
    return Some(Arc::new(sys::Mac::default()));
    #[cfg(not(target_os = "macos"))]
    None
}
