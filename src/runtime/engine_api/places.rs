//! Where sockets usually are.

use std::path::{Path, PathBuf};

use super::Flavor;
use crate::root::Root;

/// The runtime's own socket, those of every user, and what the environment names.
pub fn of(flavor: Flavor, root: &Root) -> Vec<PathBuf> {
    let (variable, system, user) = match flavor {
        Flavor::Docker => ("DOCKER_HOST", &["/run/docker.sock", "/var/run/docker.sock"][..], "docker.sock"),
        Flavor::Podman => ("CONTAINER_HOST", &["/run/podman/podman.sock"][..], "podman/podman.sock"),
    };
    let named = root.env(variable).and_then(|host| Some(PathBuf::from(host.strip_prefix("unix://")?)));
    let own = root.env("XDG_RUNTIME_DIR").map(|dir| Path::new(&dir).join(user));
    let users = root.list_dirs(&root.host_path(Path::new("/run/user"))).unwrap_or_default();
    let users = users.into_iter().map(|uid| Path::new("/run/user").join(uid).join(user));
    named.into_iter().chain(system.iter().map(PathBuf::from)).chain(users).chain(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::Clock;

    #[test]
    fn every_users_socket_is_looked_for() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("run/user/1000")).unwrap();
        let root = Root::at(dir.path(), Clock::System);
        let podman = of(Flavor::Podman, &root);
        assert_eq!(podman, ["/run/podman/podman.sock", "/run/user/1000/podman/podman.sock"].map(PathBuf::from));
        assert!(of(Flavor::Docker, &root).contains(&"/run/user/1000/docker.sock".into()));
    }
}
