//! Who the containers are: real Docker, daemons that misbehave, cgroup trees alone.

mod cgroups;
mod containerd;
mod docker;
mod fake;
mod fake_containerd;
mod kubernetes;
mod misbehaving;
mod podman;
mod restart;
mod seen;
