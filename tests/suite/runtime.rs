//! Who the containers are: real Docker, daemons that misbehave, cgroup trees alone.

mod containerd;
mod docker;
mod podman;
mod seen;
