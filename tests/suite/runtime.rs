//! Who the containers are: real Docker, daemons that misbehave, cgroup trees alone.

mod cgroups;
pub mod containerd;
mod docker;
pub mod fake;
mod fake_containerd;
mod hung;
mod kubernetes;
mod misbehaving;
pub mod podman;
mod restart;
mod seen;
