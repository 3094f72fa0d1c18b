//! Active measurements, each figure beside its comparison: what the exporter itself costs ([`cost`], [`otlp`]), and what container
//! runtimes do against the baselines ([`baseline`]).

pub mod alloc;
pub mod figure;

#[cfg(target_os = "linux")]
pub mod baseline;
#[cfg(target_os = "linux")]
pub mod cost;
#[cfg(target_os = "linux")]
mod encode;
#[cfg(target_os = "linux")]
mod exporter;
#[cfg(target_os = "linux")]
mod fleet;
#[cfg(target_os = "linux")]
pub mod io;
pub mod otlp;
#[cfg(target_os = "linux")]
pub mod target;
