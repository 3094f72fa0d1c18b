//! Moments that the kernel writes down in passing: time stamps of what a start makes or changes.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::root::{Nanos, Root, SECOND};

/// When a file or folder was last changed, wall clock. The kernel stamps files with the time of its last tick, 1 to 10 ms
/// long: the middle of the tick is at most half of one off. None for those who may not look there.
pub fn changed(root: &Root, path: &Path) -> Option<Nanos> {
    let about = root.metadata(&root.host_path(path)).ok()?;
    about.mtime().checked_mul(SECOND)?.checked_add(about.mtime_nsec())?.checked_add(tick() / 2)
}

/// How long the kernel's tick is, by which it stamps files (clock_getres(2)).
fn tick() -> Nanos {
    let mut resolution = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure outlives the call; it stays 0 where the call fails.
    unsafe { libc::clock_getres(libc::CLOCK_REALTIME_COARSE, &raw mut resolution) };
    resolution.tv_nsec
}

/// When a process's root file system was mounted, if it is an overlay: the kernel makes a folder in the `workdir` for each
/// mount. It does so whoever mounts, an engine's graph driver or containerd's snapshotter.
pub fn root_mounted(root: &Root, pid: u32) -> Option<Nanos> {
    changed(root, &work_folder(root, pid)?)
}

/// When the folders of a process's root file system were made, if it is an overlay: `workdir` is the last of them.
pub fn root_made(root: &Root, pid: u32) -> Option<Nanos> {
    changed(root, work_folder(root, pid)?.parent()?)
}

fn work_folder(root: &Root, pid: u32) -> Option<PathBuf> {
    work_folder_in(&root.read_to_string(&root.procfs.join(pid.to_string()).join("mountinfo")).ok()?)
}

/// The `workdir` of the overlay at `/`, by proc_pid_mountinfo(5). None where it is relative to a folder that nobody tells.
fn work_folder_in(mounts: &str) -> Option<PathBuf> {
    let (_, about) =
        mounts.lines().filter_map(|l| l.split_once(" - ")).find(|(mount, _)| mount.split(' ').nth(4) == Some("/"))?;
    let options = about.strip_prefix("overlay ")?.rsplit(' ').next()?;
    let folder = options.split(',').find_map(|o| o.strip_prefix("workdir="))?;
    // Characters that would end a field are written as octal numbers; such a path is not looked for.
    (folder.starts_with('/') && !folder.contains('\\')).then(|| PathBuf::from(folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::Clock;

    const MOUNTS: &str = "\
530 470 0:66 / / rw,relatime - overlay overlay rw,lowerdir=/d/l/A:/d/l/B,upperdir=/d/c/diff,workdir=/d/c/work
531 530 0:69 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
";

    #[test]
    fn the_root_overlays_work_folder_is_found() {
        assert_eq!(work_folder_in(MOUNTS), Some("/d/c/work".into()));
        assert_eq!(work_folder_in(&MOUNTS.replace("workdir=/d/", "workdir=")), None, "relative");
        assert_eq!(work_folder_in(&MOUNTS.replace("overlay overlay", "ext4 /dev/vda")), None);
        assert_eq!(work_folder_in(&MOUNTS.replace(" / / ", " / /x ")), None);
        for broken in ["", "-", " - ", "1 2 3 4 / - overlay", "1 2 3 4 / - overlay "] {
            assert_eq!(work_folder_in(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn a_mount_is_as_old_as_its_work_folders_change() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("proc/7")).unwrap();
        std::fs::create_dir_all(dir.path().join("d/c/work")).unwrap();
        std::fs::write(dir.path().join("proc/7/mountinfo"), MOUNTS).unwrap();
        let root = Root::at(dir.path(), Clock::System);
        let age = root.clock.wall() - root_mounted(&root, 7).unwrap();
        assert!((-SECOND / 50..10 * SECOND).contains(&age), "{age}");
        assert_eq!(root_mounted(&root, 8), None);
    }
}
