//! Which cgroups are containers, told by their names.

use std::collections::BTreeMap;

use crate::runtime::RuntimeKind;

/// A cgroup that is a container's by its name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recognised {
    /// The container's id, or the name that its runtime gave the cgroup.
    pub name: String,
    /// Runtimes that may know more of it.
    pub hints: &'static [RuntimeKind],
    /// Kubernetes' own id of the pod, where the parent tells.
    pub pod_uid: Option<String>,
}

impl Recognised {
    pub fn labels(&self) -> BTreeMap<String, String> {
        self.pod_uid.iter().map(|uid| ("io.kubernetes.pod.uid".to_owned(), uid.clone())).collect()
    }
}

use RuntimeKind::{Containerd, Docker, Podman};

const ANY: &[RuntimeKind] = &[Docker, Podman, Containerd];
const ENGINES: &[RuntimeKind] = &[Docker, Containerd];

/// `PREFIX-<64 hex>[.scope]`. Their `-conmon-` companions are monitors, not containers: what follows is no id.
const PREFIXES: [(&str, &[RuntimeKind]); 5] = [
    ("docker-", ENGINES),
    ("libpod-", &[Podman]),
    ("cri-containerd-", &[Containerd]),
    ("nerdctl-", &[Containerd]),
    ("crio-", &[]),
];

pub fn recognise(path: &str) -> Option<Recognised> {
    let mut components = path.rsplit('/').filter(|c| !c.is_empty());
    let own = components.next()?;
    let parent = components.next().unwrap_or("");
    let (name, hints) = by_id(own, parent).or_else(|| by_name(own, parent))?;
    Some(Recognised { name, hints, pod_uid: pod_uid(parent) })
}

fn by_id(own: &str, parent: &str) -> Option<(String, &'static [RuntimeKind])> {
    let stem = own.strip_suffix(".scope").unwrap_or(own);
    if is_id(stem) {
        return Some((stem.to_owned(), if parent == "docker" { ENGINES } else { ANY }));
    }
    PREFIXES.iter().find_map(|(prefix, hints)| {
        let id = stem.strip_prefix(prefix).filter(|id| is_id(id))?;
        Some((id.to_owned(), *hints))
    })
}

fn by_name(own: &str, parent: &str) -> Option<(String, &'static [RuntimeKind])> {
    let lxc = own.strip_prefix("lxc.payload.").or_else(|| (parent == "lxc" || parent == "lxc.payload").then_some(own));
    let machine = || {
        let unit = own.strip_prefix("machine-").and_then(|m| m.strip_suffix(".scope"));
        unit.or_else(|| own.strip_prefix("systemd-nspawn@")?.strip_suffix(".service"))
            .filter(|_| parent == "machine.slice")
    };
    let name = lxc.or_else(machine).filter(|n| !n.is_empty())?;
    Some((unescape(name), &[]))
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// `pod<uid>` with the cgroupfs driver, `kubepods-<class>-pod<uid, dashes as underscores>.slice` with systemd's.
fn pod_uid(parent: &str) -> Option<String> {
    let stem = match parent.strip_suffix(".slice") {
        Some(slice) => slice.strip_prefix("kubepods")?.rsplit_once("pod")?.1,
        None => parent.strip_prefix("pod")?,
    };
    let uid = stem.replace('_', "-");
    let looks = uid.len() >= 32 && uid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    looks.then_some(uid)
}

/// systemd writes bytes that a unit's name can't hold as `\xHH`.
fn unescape(name: &str) -> String {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once("\\x") {
        out.extend_from_slice(before.as_bytes());
        match after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &after[2..];
            }
            None => {
                out.extend_from_slice(b"\\x");
                rest = after;
            }
        }
    }
    out.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "d4fc15ec9904f143bcf624f57a4199dbd0d542c84dd25ebf2cdf90550d8eae12";

    #[test]
    fn every_drivers_names_are_known() {
        for (path, name) in [
            ("/docker/ID", ID),
            ("/system.slice/docker-ID.scope", ID),
            ("/docker/OUTER/docker/ID", ID),
            ("/machine.slice/libpod-ID.scope", ID),
            ("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope", ID),
            ("/libpod_parent/libpod-ID", ID),
            ("/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1.slice/cri-containerd-ID.scope", ID),
            ("/kubepods.slice/kubepods-pod1.slice/crio-ID.scope", ID),
            ("/kubepods/burstable/podc15ec990-4f14-3bcf-624f-57a4199dbd0d/ID", ID),
            ("/system.slice/nerdctl-ID.scope", ID),
            ("/default/ID", ID),
            ("/lxc.payload.web", "web"),
            ("/lxc/web", "web"),
            ("/machine.slice/machine-my\\x2ddebian.scope", "my-debian"),
            ("/machine.slice/systemd-nspawn@box.service", "box"),
        ] {
            let path = path.replace("OUTER", &"a".repeat(64)).replace("ID", ID);
            assert_eq!(recognise(&path).map(|r| r.name).as_deref(), Some(name), "{path}");
        }
    }

    #[test]
    fn what_is_no_container_is_none() {
        for path in [
            "/",
            "",
            "/system.slice/docker.service",
            "/machine.slice/libpod-conmon-ID.scope",
            "/machine.slice/libpod-ID.scope/container",
            "/system.slice/crio-conmon-ID.scope",
            "/kubepods.slice/kubepods-besteffort.slice",
            "/kubepods/burstable/podc15ec990-4f14-3bcf-624f-57a4199dbd0d",
            "/docker/ID/init.scope",
            "/docker",
            "/lxc.monitor.web",
            "/lxc.payload.",
            "/machine.slice",
            "/user.slice/machine-x.scope",
            "/docker/D4FC15EC9904F143BCF624F57A4199DBD0D542C84DD25EBF2CDF90550D8EAE12",
        ] {
            assert_eq!(recognise(&path.replace("ID", ID)), None, "{path}");
        }
    }

    #[test]
    fn the_pods_own_id_is_read_with_both_drivers() {
        let uid = "c15ec990-4f14-3bcf-624f-57a4199dbd0d";
        let systemd = format!(
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice/cri-containerd-{ID}.scope",
            uid.replace('-', "_")
        );
        for path in [format!("/kubepods/besteffort/pod{uid}/{ID}"), systemd] {
            assert_eq!(recognise(&path).and_then(|r| r.pod_uid).as_deref(), Some(uid), "{path}");
        }
    }

    #[test]
    fn escapes_are_undone_and_broken_ones_kept() {
        assert_eq!(unescape("a\\x2db\\x2"), "a-b\\x2");
        assert_eq!(unescape("\\xzz\\xc3\\xa4"), "\\xzzä");
    }
}
