//! Where a process's cgroups are, from `/proc/PID/cgroup` (cgroups(7)): right for every driver, rootless and nested.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use super::CgroupPaths;
use crate::root::Root;

/// Mounts of the hierarchies below `--path.cgroup`: one on v2, one a controller on v1, both on a hybrid.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hierarchies {
    pub v2: Option<PathBuf>,
    /// v2 is there beside v1 and has no controllers of its own.
    pub hybrid: bool,
    pub v1: BTreeMap<String, PathBuf>,
}

/// v1 controllers in the order in which they name a container: memory, as cAdvisor does it, then what else there is.
const V1_CONTROLLERS: [&str; 6] = ["memory", "cpu", "cpuacct", "pids", "blkio", "cpuset"];

impl Hierarchies {
    pub fn find(root: &Root) -> Self {
        let base = &root.cgroup;
        if root.exists(&base.join("cgroup.controllers")) {
            return Self { v2: Some(base.clone()), ..Self::default() };
        }
        let v1: BTreeMap<_, _> = V1_CONTROLLERS
            .iter()
            .map(|c| ((*c).to_owned(), base.join(c)))
            .filter(|(_, dir)| root.exists(dir))
            .collect();
        let unified = base.join("unified");
        let v2 = root.exists(&unified).then_some(unified);
        Self { hybrid: v2.is_some() && !v1.is_empty(), v2, v1 }
    }

    /// The hierarchy in which containers are looked for: every runtime makes a cgroup of its own there.
    pub fn leading(&self) -> Option<&Path> {
        let v1 = V1_CONTROLLERS.iter().find_map(|c| self.v1.get(*c));
        let v2 = self.v2.as_ref();
        if self.hybrid { v1.or(v2) } else { v2.or(v1) }.map(PathBuf::as_path)
    }

    /// The same path in every hierarchy that has it.
    pub fn same_path(&self, root: &Root, path: &str) -> CgroupPaths {
        let has = |mount: &PathBuf| root.exists(&below(mount, path));
        CgroupPaths {
            v2: self.v2.as_ref().filter(|m| has(m)).map(|_| path.to_owned()),
            v1: self.v1.iter().filter(|(_, m)| has(m)).map(|(c, _)| (c.clone(), path.to_owned())).collect(),
        }
    }

    /// The lowest pid in a cgroup, or below it where it has none itself (crun, an init system): its first process, unless
    /// pids have wrapped around since.
    pub fn first_process(&self, root: &Root, path: &str) -> Option<u32> {
        lowest_pid(root, &below(self.leading()?, path), 4)
    }

    /// Looks for the cgroup whose name holds a container's id, for processes that `/proc` does not show.
    pub fn search(&self, root: &Root, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let mount = self.leading()?;
        let mut queue = VecDeque::from([String::new()]);
        let mut seen = 0;
        while let Some(path) = queue.pop_front() {
            for name in root.list_dirs(&below(mount, &path)).unwrap_or_default() {
                seen += 1;
                if seen > MAX_SEARCH {
                    return None;
                }
                let child = format!("{path}/{name}");
                if wanted(&child) {
                    return Some(child);
                }
                queue.push_back(child);
            }
        }
        None
    }
}

fn lowest_pid(root: &Root, cgroup: &Path, depth: u8) -> Option<u32> {
    let text = root.read_to_string(&cgroup.join("cgroup.procs")).ok()?;
    // A process of another pid namespace is listed as 0.
    let own = text.lines().filter_map(|l| l.trim().parse().ok()).filter(|pid| *pid != 0).min();
    if own.is_some() || depth == 0 {
        return own;
    }
    let children = root.list_dirs(cgroup).ok()?;
    children.iter().filter_map(|child| lowest_pid(root, &cgroup.join(child), depth - 1)).min()
}

/// No machine has as many cgroups; a loop of mounts may.
const MAX_SEARCH: usize = 100_000;

/// A cgroup's directory below its mount.
pub fn below(mount: &Path, path: &str) -> PathBuf {
    mount.join(path.trim_start_matches('/'))
}

/// Parses `/proc/PID/cgroup`: `hierarchy:controllers:path` a line, `0::` for v2.
pub fn parse(text: &str) -> CgroupPaths {
    let mut paths = CgroupPaths::default();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(number), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        // The kernel marks a cgroup that was removed while the process still dies in it.
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        if !path.starts_with('/') {
            continue;
        }
        if number == "0" && controllers.is_empty() {
            paths.v2 = Some(path.to_owned());
            continue;
        }
        for controller in controllers.split(',').filter(|c| !c.is_empty() && !c.starts_with("name=")) {
            paths.v1.insert(controller.to_owned(), path.to_owned());
        }
    }
    paths
}

/// The cgroups of a container by its first process, cut to the container's own cgroup: an init system or crun moves
/// its process further down. None when the process is gone.
pub fn of_pid(root: &Root, hierarchies: &Hierarchies, pid: u32, native_id: &str) -> Option<CgroupPaths> {
    let text = root.read_to_string(&root.procfs.join(pid.to_string()).join("cgroup")).ok()?;
    let mut paths = parse(&text);
    let own = |path: &str| {
        let path = absolute(root, hierarchies, path);
        cut_at(&path, native_id).map_or(path.clone(), str::to_owned)
    };
    paths.v2 = paths.v2.as_deref().map(own);
    paths.v1.values_mut().for_each(|path| *path = own(path));
    // Where v2 is there for bookkeeping alone a runtime need not make a cgroup in it: the process is then in another's,
    // its shim's or the service manager's, whose figures are not the container's.
    let is_own = |v2: &str| !native_id.is_empty() && v2.contains(native_id) || paths.v1.values().any(|p| p == v2);
    if hierarchies.hybrid && !paths.v2.as_deref().is_some_and(is_own) {
        paths.v2 = None;
    }
    Some(paths)
}

/// The path up to and with the component that holds the id.
fn cut_at<'p>(path: &'p str, native_id: &str) -> Option<&'p str> {
    if native_id.is_empty() {
        return None;
    }
    let found = path.rfind(native_id)?;
    let end = path[found..].find('/').map_or(path.len(), |i| found + i);
    Some(&path[..end])
}

/// Whether the process really is the container's: a path that names another container is of a reused or foreign pid.
pub fn names(paths: &CgroupPaths, native_id: &str) -> bool {
    paths.v2.iter().chain(paths.v1.values()).any(|p| p.contains(native_id))
}

/// Whether the paths end in that one, which an OCI specification asks for (`/parent/name`).
pub fn are_at(paths: &CgroupPaths, asked: &str) -> bool {
    asked.starts_with('/') && asked.len() > 1 && paths.v2.iter().chain(paths.v1.values()).any(|p| p.ends_with(asked))
}

/// An exporter in a cgroup namespace of its own sees paths from there: `/../ID` is beside it. The mount shows the whole
/// tree all the same, so the place is found by its end.
fn absolute(root: &Root, hierarchies: &Hierarchies, path: &str) -> String {
    let mut rest = path;
    while let Some(up) = rest.strip_prefix("/..") {
        rest = up;
    }
    if rest.len() == path.len() || rest.is_empty() {
        return path.to_owned();
    }
    hierarchies.search(root, |p| p.ends_with(rest)).unwrap_or_else(|| rest.to_owned())
}

/// The cgroup path as the label `id` has it: v2's, unless that hierarchy is there for bookkeeping alone (hybrid) and the
/// controllers' say more.
pub fn id(paths: &CgroupPaths) -> Option<&str> {
    let v1 = V1_CONTROLLERS.iter().filter_map(|c| paths.v1.get(*c)).map(String::as_str).find(|p| *p != "/");
    let v2 = paths.v2.as_deref();
    v2.filter(|p| *p != "/").or(v1).or(v2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::Clock;

    const ID: &str = "d4fc15ec9904f143bcf624f57a4199dbd0d542c84dd25ebf2cdf90550d8eae12";

    fn host(pid_cgroup: &str, dirs: &[&str]) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("proc/7")).unwrap();
        std::fs::write(dir.path().join("proc/7/cgroup"), pid_cgroup).unwrap();
        for d in dirs {
            std::fs::create_dir_all(dir.path().join("sys/fs/cgroup").join(d)).unwrap();
        }
        let root = Root::at(dir.path(), Clock::System);
        (dir, root)
    }

    fn of(root: &Root) -> CgroupPaths {
        of_pid(root, &Hierarchies::find(root), 7, ID).unwrap()
    }

    #[test]
    fn v1_paths_are_told_per_controller() {
        let text =
            format!("9:name=systemd:/x\n4:memory:/docker/{ID}\n1:cpu,cpuacct:/cpu/{ID}\n0::/\nrubbish\n5:pids\n");
        let paths = parse(&text);
        assert_eq!(paths.v1["memory"], format!("/docker/{ID}"));
        assert_eq!(paths.v1["cpu"], format!("/cpu/{ID}"));
        assert_eq!(paths.v1["cpuacct"], format!("/cpu/{ID}"));
        assert_eq!(paths.v1.len(), 3);
        assert_eq!(id(&paths), Some(format!("/docker/{ID}").as_str()));
    }

    #[test]
    fn a_process_further_down_belongs_to_its_container() {
        let (_dir, root) = host(&format!("0::/machine.slice/libpod-{ID}.scope/container\n"), &[]);
        assert_eq!(of(&root).v2, Some(format!("/machine.slice/libpod-{ID}.scope")));
        let (_dir, root) = host(&format!("0::/docker/{ID}/init.scope\n"), &[]);
        assert_eq!(of(&root).v2, Some(format!("/docker/{ID}")));
    }

    #[test]
    fn beside_v1_a_place_in_v2_that_others_share_is_not_the_containers() {
        let v1 = format!("4:memory:/docker/{ID}\n3:cpu,cpuacct:/docker/{ID}\n");
        let of = |v2: &str| {
            let (_dir, root) = host(&format!("{v1}0::{v2}\n"), &["memory", "cpu", "unified"]);
            of(&root)
        };
        let shared = of("/system.slice/docker.service");
        assert_eq!((shared.v2.as_deref(), id(&shared)), (None, Some(format!("/docker/{ID}").as_str())));
        assert_eq!(of(&format!("/docker/{ID}")).v2, Some(format!("/docker/{ID}")));
    }

    #[test]
    fn the_innermost_container_counts_in_docker_in_docker() {
        let outer = "a".repeat(64);
        let (_dir, root) = host(&format!("0::/docker/{outer}/docker/{ID}\n"), &[]);
        assert_eq!(of(&root).v2, Some(format!("/docker/{outer}/docker/{ID}")));
    }

    #[test]
    fn paths_seen_from_a_cgroup_namespace_are_made_absolute() {
        let dirs = [&format!("system.slice/docker-{ID}.scope"), "cgroup.controllers"];
        let (_dir, root) = host(&format!("0::/../docker-{ID}.scope\n"), &dirs);
        assert_eq!(of(&root).v2, Some(format!("/system.slice/docker-{ID}.scope")));
    }

    #[test]
    fn the_first_process_is_found_below_too() {
        let (dir, root) = host("", &["cgroup.controllers", "box/docker/inner", "box/init"]);
        let put = |path: &str, pids| {
            std::fs::write(dir.path().join("sys/fs/cgroup").join(path).join("cgroup.procs"), pids).unwrap();
        };
        for (path, pids) in [("box", "0\n"), ("box/docker", ""), ("box/docker/inner", "90\n"), ("box/init", "81\n80\n")]
        {
            put(path, pids);
        }
        let first = || Hierarchies::find(&root).first_process(&root, "/box");
        assert_eq!(first(), Some(80));
        put("box", "95\n");
        assert_eq!(first(), Some(95), "its own come first");
    }

    #[test]
    fn a_dead_process_has_none() {
        let (_dir, root) = host("", &[]);
        assert_eq!(of_pid(&root, &Hierarchies::default(), 8, ID), None);
    }

    #[test]
    fn the_leading_hierarchy_is_where_controllers_are() {
        let (dir, root) = host("", &["memory", "unified", "cpu"]);
        assert_eq!(Hierarchies::find(&root).leading(), Some(dir.path().join("sys/fs/cgroup/memory").as_path()));
        let (dir, root) = host("", &["cgroup.controllers"]);
        assert_eq!(Hierarchies::find(&root).leading(), Some(dir.path().join("sys/fs/cgroup").as_path()));
    }
}
