//! Who the containers are: real Docker, daemons that misbehave, cgroup trees alone.

mod docker;
mod seen;
