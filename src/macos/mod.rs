//! The role of `kernel` on macOS: topology, thermal state, process memory and energy.
