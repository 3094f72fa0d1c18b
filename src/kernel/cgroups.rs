//! Where the cgroup hierarchies are, decided once: mounts → plan, told per controller.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::probe::Capabilities;
use crate::root::Root;
use crate::runtime::CgroupPaths;

/// Controllers whose files are read.
const CONTROLLERS: [&str; 6] = ["cpu", "cpuacct", "cpuset", "memory", "io", "pids"];

/// v1 calls the `io` controller `blkio`.
fn v1_name(controller: &str) -> &str {
    if controller == "io" { "blkio" } else { controller }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// The mounted hierarchies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cgroups {
    /// Mount point of the v2 hierarchy, alone or beside v1 (`unified`).
    pub v2: Option<PathBuf>,
    /// v1 controller → mount point.
    pub v1: BTreeMap<String, PathBuf>,
    /// `cgroup.controllers` of the v2 root.
    pub v2_controllers: Vec<String>,
}

/// What a folder below the cgroup root looks like, for trees that are mounted nowhere (recorded ones, or another
/// mount namespace's).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    pub name: String,
    pub has_controllers_file: bool,
}

impl Cgroups {
    pub fn find(root: &Root) -> Self {
        let is_v2 = |dir: &Path| root.exists(&dir.join("cgroup.controllers"));
        let mountinfo = root.read_to_string(&root.procfs.join("self/mountinfo")).unwrap_or_default();
        let mut found = from_mountinfo(&mountinfo, &root.cgroup);
        if found.v2.is_none() && found.v1.is_empty() {
            let folders: Vec<Folder> = root
                .list_dirs(&root.cgroup)
                .unwrap_or_default()
                .into_iter()
                .map(|name| Folder { has_controllers_file: is_v2(&root.cgroup.join(&name)), name })
                .collect();
            found = from_folders(&root.cgroup, is_v2(&root.cgroup), &folders);
        }
        if let Some(v2) = &found.v2 {
            let text = root.read_to_string(&v2.join("cgroup.controllers")).unwrap_or_default();
            found.v2_controllers = text.split_ascii_whitespace().map(str::to_owned).collect();
        }
        found
    }

    /// Which hierarchy has a controller: the v1 mount where there is one, since a controller is in one of them only.
    /// `cpu` of v2 accounts time even where the controller is not enabled.
    pub fn version(&self, controller: &str) -> Option<Version> {
        if self.v1.contains_key(v1_name(controller)) {
            return Some(Version::V1);
        }
        let basic = matches!(controller, "cpu" | "");
        (self.v2.is_some() && (basic || self.v2_controllers.iter().any(|c| c == controller))).then_some(Version::V2)
    }

    /// A container's folder in the hierarchy that has the controller ("" is v2 itself), where it has one there.
    pub fn folder(&self, version: Version, controller: &str, paths: &CgroupPaths) -> Option<PathBuf> {
        let (mount, path) = match version {
            Version::V1 => (self.v1.get(v1_name(controller))?, paths.v1.get(v1_name(controller))?),
            Version::V2 => (self.v2.as_ref()?, paths.v2.as_ref()?),
        };
        Some(mount.join(path.trim_start_matches('/')))
    }

    /// All folders of a container, each once.
    pub fn folders(&self, paths: &CgroupPaths) -> Vec<PathBuf> {
        let v2 = self.folder(Version::V2, "", paths);
        let v1 = CONTROLLERS.iter().filter_map(|c| self.folder(Version::V1, c, paths));
        let mut all: Vec<PathBuf> = v2.into_iter().chain(v1).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The root cgroup of every hierarchy.
    pub fn root_paths(&self) -> CgroupPaths {
        CgroupPaths {
            v2: self.v2.is_some().then(|| "/".to_owned()),
            v1: self.v1.keys().map(|c| (c.clone(), "/".to_owned())).collect(),
        }
    }

    /// Tells what the plan is.
    pub fn tell(&self, root: &Root, capabilities: &Capabilities) {
        let set = |name: &str, yes: bool, why: &str| match yes {
            true => capabilities.yes(name),
            false => capabilities.no(name, why),
        };
        set("cgroup_v1", !self.v1.is_empty(), "no cgroup v1 controller is mounted");
        set("cgroup_v2", self.v2.is_some(), "cgroup v2 is not mounted");
        for controller in CONTROLLERS.into_iter().filter(|c| *c != "cpuacct") {
            let why = "the controller is neither mounted (v1) nor available (v2)";
            set(&format!("cgroup_{controller}"), self.version(controller).is_some(), why);
        }
        let by_core = self.v1.contains_key("cpuacct");
        if by_core || self.v2.is_some() {
            set("cpu_time_by_core", by_core, "cgroup v2 does not account CPU time by core");
        }
        // Issue to completion by container takes tracing in the kernel, or a disk of the container's own.
        set("request_latency", false, "block requests are not traced; see the latency of devices");
        match &self.v2 {
            None => capabilities.no("pressure", "cgroup v1 has no pressure files"),
            Some(v2) => {
                // The root cgroup has pressure files only since Linux 6.1; /proc/pressure says the same of older ones.
                let answers = |p: PathBuf| root.read_bytes(&p).is_ok();
                let yes = answers(root.procfs.join("pressure/cpu")) || answers(v2.join("cpu.pressure"));
                set("pressure", yes, "CONFIG_PSI is off or psi=0");
            }
        }
    }
}

/// Hierarchies mounted at or below `cgroup`, by `/proc/self/mountinfo` (proc(5)).
pub fn from_mountinfo(mountinfo: &str, cgroup: &Path) -> Cgroups {
    let mut found = Cgroups::default();
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let (Some(point), Some(kind)) = (before.split(' ').nth(4), after.split(' ').next()) else { continue };
        let point = PathBuf::from(unescape(point));
        if !point.starts_with(cgroup) {
            continue;
        }
        match kind {
            "cgroup2" => found.v2 = found.v2.or(Some(point)),
            "cgroup" => {
                for controller in after.rsplit(' ').next().unwrap_or_default().split(',') {
                    // Other options (`rw`, `name=systemd`) are no controllers that anyone asks for.
                    found.v1.entry(controller.to_owned()).or_insert_with(|| point.clone());
                }
            }
            _ => {}
        }
    }
    found.v1.retain(|name, _| is_v1_controller(name));
    found
}

/// Hierarchies by the look of the folders: `cpu,cpuacct`, `memory` …, and one with `cgroup.controllers`.
pub fn from_folders(cgroup: &Path, is_v2: bool, folders: &[Folder]) -> Cgroups {
    let mut found = Cgroups::default();
    if is_v2 {
        found.v2 = Some(cgroup.to_path_buf());
        return found;
    }
    for folder in folders {
        let path = cgroup.join(&folder.name);
        if folder.has_controllers_file {
            found.v2 = found.v2.or(Some(path));
            continue;
        }
        for controller in folder.name.split(',').filter(|c| is_v1_controller(c)) {
            found.v1.insert(controller.to_owned(), path.clone());
        }
    }
    found
}

/// No file of `perf_event` is read; its folders are what counters are opened on.
fn is_v1_controller(name: &str) -> bool {
    name == "perf_event" || CONTROLLERS.iter().any(|c| v1_name(c) == name)
}

/// mountinfo writes blanks, tabs, newlines and backslashes as `\ooo`.
pub fn unescape(field: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(field.to_owned(), |s, (code, c)| if s.contains(code) { s.replace(code, c) } else { s })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:4 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
50 31 0:40 / /mnt/other rw,relatime - cgroup cgroup rw,pids
half a line";

    fn at(dir: &str) -> PathBuf {
        Path::new("/sys/fs/cgroup").join(dir)
    }

    #[test]
    fn mounts_of_a_hybrid_host() {
        let c = from_mountinfo(HYBRID, Path::new("/sys/fs/cgroup"));
        assert_eq!(c.v2, Some(at("unified")));
        let v1: Vec<_> = c.v1.iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
        assert_eq!(v1, [("cpu", at("cpu,cpuacct")), ("cpuacct", at("cpu,cpuacct")), ("memory", at("memory"))]);
        assert_eq!(c.version("memory"), Some(Version::V1));
        assert_eq!(c.version("io"), None, "neither mounted nor in cgroup.controllers");
        assert_eq!(c.version(""), Some(Version::V2));
    }

    #[test]
    fn folders_of_recorded_trees() {
        let folder = |name: &str, v2| Folder { name: name.into(), has_controllers_file: v2 };
        let folders =
            [folder("blkio", false), folder("cpu,cpuacct", false), folder("systemd", false), folder("unified", true)];
        let c = from_folders(Path::new("/t"), false, &folders);
        assert_eq!(c.v2, Some("/t/unified".into()));
        assert_eq!(c.v1.keys().collect::<Vec<_>>(), ["blkio", "cpu", "cpuacct"]);
        assert_eq!(c.version("io"), Some(Version::V1));
        let c = from_folders(Path::new("/t"), true, &[folder("system.slice", true)]);
        assert_eq!(c, Cgroups { v2: Some("/t".into()), ..Cgroups::default() });
    }

    #[test]
    fn a_container_is_where_its_paths_say() {
        let c = from_mountinfo(HYBRID, Path::new("/sys/fs/cgroup"));
        let paths = CgroupPaths { v2: Some("/a".into()), v1: [("memory".to_owned(), "/docker/a".to_owned())].into() };
        assert_eq!(c.folder(Version::V1, "memory", &paths), Some(at("memory/docker/a")));
        assert_eq!(c.folder(Version::V1, "cpu", &paths), None);
        assert_eq!(c.folders(&paths), [at("memory/docker/a"), at("unified/a")]);
        assert_eq!(c.folders(&c.root_paths()).len(), 3);
    }
}
