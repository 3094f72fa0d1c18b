//! Active measurements: what the exporter itself costs, each figure beside its comparison.

pub mod alloc;
pub mod figure;

#[cfg(target_os = "linux")]
pub mod cost;
#[cfg(target_os = "linux")]
mod encode;
#[cfg(target_os = "linux")]
mod exporter;
#[cfg(target_os = "linux")]
mod fleet;
#[cfg(target_os = "linux")]
pub mod target;
