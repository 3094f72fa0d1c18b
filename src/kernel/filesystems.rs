//! The host's own file systems: the mounts of its first process, and how full they are.

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::Arc;

use super::cgroups::unescape;
use crate::root::{self, File, ReadBuf, ReadError, Root};
use crate::snapshot::FilesystemFacts;

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub device: String,
    pub point: String,
    /// All of the file system, not a folder of it that is bound elsewhere.
    whole: bool,
}

/// The local file systems of a `/proc/PID/mountinfo`, each device once, in the order of the file.
pub fn parse(mountinfo: &str) -> Vec<Mount> {
    let mut all: Vec<Mount> = Vec::new();
    for mount in mountinfo.lines().filter_map(line) {
        match all.iter_mut().find(|m| m.device == mount.device) {
            Some(known) if mount.whole && !known.whole => *known = mount,
            Some(_) => {}
            None => all.push(mount),
        }
    }
    all
}

fn line(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    let mut fields = after.split(' ');
    let (kind, device) = (fields.next()?, fields.next()?);
    is_local(kind, device).then(|| Mount { device: unescape(device), point: unescape(point), whole: root == "/" })
}

/// On a block device of this machine. A server or a process behind a file system may never answer, and an image that is
/// read-only is always full.
fn is_local(kind: &str, device: &str) -> bool {
    let on_device = device.starts_with("/dev/") || kind == "zfs";
    on_device && !kind.starts_with("fuse") && !matches!(kind, "squashfs" | "iso9660" | "udf" | "erofs" | "cramfs")
}

/// Kept from collection to collection: the mounts are read again only when the kernel says that they changed.
pub struct Filesystems {
    mountinfo: File,
    mounts: Option<Vec<Asked>>,
}

struct Asked {
    device: Arc<str>,
    point: Arc<str>,
    /// The mount point as the exporter sees it.
    path: CString,
}

impl Filesystems {
    pub fn open(root: &Root) -> Result<Self, ReadError> {
        Ok(Self { mountinfo: root.open(&root.procfs.join("1/mountinfo"))?, mounts: None })
    }

    pub fn read(&mut self, out: &mut Vec<FilesystemFacts>, root: &Root, buf: &mut ReadBuf) -> Result<(), ReadError> {
        if root::has_changed(&self.mountinfo) {
            self.mounts = None;
        }
        let mounts = match &mut self.mounts {
            Some(mounts) => mounts,
            None => {
                let bytes = buf.pread_records(&self.mountinfo)?;
                let mounts = parse(&String::from_utf8_lossy(bytes)).into_iter();
                self.mounts.insert(mounts.filter_map(|m| Asked::new(m, root)).collect())
            }
        };
        let mut outcome = Ok(());
        for mount in mounts.iter() {
            match root::space(&mount.path) {
                Ok(space) => out.push(FilesystemFacts {
                    device: mount.device.clone(),
                    mountpoint: mount.point.clone(),
                    size: space.size,
                    used: space.size.saturating_sub(space.free),
                    inodes: space.inodes,
                    inodes_free: space.inodes_free,
                }),
                // Mounted where the exporter can't see it (another root), or gone since.
                Err(ReadError::Absent | ReadError::Gone | ReadError::Denied) => {}
                Err(e) => outcome = Err(e),
            }
        }
        outcome
    }
}

impl Asked {
    fn new(mount: Mount, root: &Root) -> Option<Self> {
        let path = root.host_path(Path::new(&mount.point)).into_os_string().into_vec();
        Some(Self { device: mount.device.into(), point: mount.point.into(), path: CString::new(path).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDED: &str = "\
25 24 0:23 / /dev/shm rw,relatime - tmpfs tmpfs rw,size=24684084k
42 27 254:0 /docker/data /var/lib/docker rw,relatime shared:1 - ext4 /dev/vda rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
28 1 254:0 / /again rw,relatime - ext4 /dev/vda rw,discard
30 1 0:50 / /home rw - btrfs /dev/mapper/my\\040home rw
31 1 7:0 / /snap/core rw - squashfs /dev/loop0 ro
32 1 0:51 / /mnt/nfs rw - nfs4 server:/export rw
33 1 0:52 / /mnt/ntfs rw - fuseblk /dev/sdb1 rw
34 1 0:53 / /tank rw - zfs tank/data rw
half a line - ext4";

    #[test]
    fn each_local_device_is_told_once_by_its_whole_mount() {
        let all: Vec<_> = parse(RECORDED).into_iter().map(|m| (m.device, m.point)).collect();
        let expected = [("/dev/vda", "/"), ("/dev/mapper/my home", "/home"), ("tank/data", "/tank")];
        assert_eq!(all, expected.map(|(d, p)| (d.to_owned(), p.to_owned())));
    }

    #[test]
    fn cut_and_changed_bytes_never_panic() {
        crate::kernel::fuzz::mutations(RECORDED.as_bytes(), |bytes| {
            parse(&String::from_utf8_lossy(bytes));
        });
    }
}
