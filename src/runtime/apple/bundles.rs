//! Boots, told by the files of the containers: `<root>/containers/<id>/`.
//!
//! The daemon tells nobody that a container starts, and its dates have whole seconds since 1.0. Its files tell more: the
//! boot log grows from the moment when the guest's console is up, and the small files that are written for a start carry
//! the file system's time of it.
//!
//! **The request** is the earliest change of a description (`*.json`, `service.plist`) in the unbroken row of changes, no
//! two of them more than a second apart, that leads to the log's growth. Where that row begins with the bundle itself, the
//! container was made for this start. Where nothing was written, nothing is known of the request. Disk images are left out:
//! they are cloned with old times, and a running machine changes them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::ending::{End, Ending};
use super::shapes::Configuration;
use crate::root::{Nanos, ReadError, Root, SECOND, Stamp};
use crate::runtime::Boot;

/// The boot log of a container, in its folder.
const LOG: &str = "vminitd.log";
/// The container's configuration, in its folder.
const CONFIG: &str = "config.json";
/// As much of what was appended is taken in at one look; more than a guest's console brings from one look to the next.
const GLANCE: usize = 64 << 10;
/// Two changes further apart than this do not belong to one start.
const ONE_START: Nanos = SECOND;
/// The console is up this soon after the kernel's start (microseconds of its clock).
const EARLY: u64 = 2_000_000;
/// Processors print slightly out of order; a clock that goes back further is a new boot (microseconds).
const OUT_OF_ORDER: u64 = 50_000;
/// Ends of removed containers that are kept for whoever asks.
const MAX_GONE: usize = 4096;
/// The folder is listed anew after so many looks, changed or not: times of change are coarse on some file systems.
const LIST_EVERY: u32 = 10;

/// A boot that has just begun.
#[derive(Debug, Clone, PartialEq)]
pub struct Begun {
    pub id: String,
    pub boot: Boot,
    /// The container was made for this start.
    pub first: bool,
    /// None before 1.2, or where it can't be read.
    pub configuration: Option<Configuration>,
}

/// The containers' files as they were last seen.
#[derive(Debug)]
pub struct Bundles {
    folder: PathBuf,
    /// What is found now was not there when it was first looked for.
    opened: bool,
    listed: Option<Nanos>,
    looks: u32,
    known: HashMap<String, Known>,
    /// How those ended whose folders are gone, until they are asked for.
    gone: HashMap<String, Ending>,
}

#[derive(Debug, Default)]
struct Known {
    size: u64,
    written: Nanos,
    /// Newest kernel stamp, microseconds.
    latest: Option<u64>,
    ending: Ending,
    /// Of the boot before: a container that is started anew between two lists is seen to end after its next boot began.
    before: Option<Ending>,
}

impl Bundles {
    /// `root` is the application's folder, as `container system status` tells it.
    pub fn new(root: &Path) -> Self {
        Self {
            folder: root.join("containers"),
            opened: false,
            listed: None,
            looks: 0,
            known: HashMap::new(),
            gone: HashMap::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// The folder could be listed.
    pub fn is_open(&self) -> bool {
        self.listed.is_some()
    }

    /// Looks at all logs. What was there before the first look is no boot.
    pub fn look(&mut self, root: &Root) -> Vec<Begun> {
        self.list(root);
        let mut begun = Vec::new();
        for (id, known) in &mut self.known {
            let bundle = self.folder.join(id);
            let log = bundle.join(LOG);
            let Ok(stamp) = root.stamp(&log) else { continue };
            if stamp.size < known.size {
                // Another container under the same name.
                *known = Known::default();
            }
            if stamp.size == known.size {
                continue;
            }
            let (from, quiet_since) = (known.size, known.written);
            if known.grows(root, &log, stamp, id) {
                let (requested, first) = request(root, &bundle, quiet_since, stamp.modified);
                let configuration =
                    root.read_part(&bundle.join(CONFIG), 0, 1 << 20).ok().and_then(|c| serde_json::from_slice(&c).ok());
                begun.push(Begun {
                    id: id.clone(),
                    boot: Boot { log, from, requested },
                    first: first && from == 0,
                    configuration,
                });
            }
        }
        begun
    }

    /// How the container's last run ended, as far as its log tells; asked once a run.
    pub fn ended(&mut self, root: &Root, id: &str) -> End {
        let Some(known) = self.known.get_mut(id) else {
            return self.gone.remove(id).map_or_else(End::default, |ending| ending.end());
        };
        if let Some(before) = known.before.take() {
            return before.end();
        }
        // What was written since the last look, without taking it from the next.
        let log = self.folder.join(id).join(LOG);
        let mut ending = known.ending.clone();
        let rest = root.read_part(&log, known.size, GLANCE).unwrap_or_default();
        rest.split_inclusive(|b| *b == b'\n').for_each(|piece| ending.feed(piece, id));
        let end = ending.end();
        match root.stamp(&log) {
            // Part of it was written before the first look, or more at once than was looked at: its last lines tell.
            Ok(stamp) if !ending.is_whole() || end.status.is_none() => {
                let mut last = Known { size: stamp.size.saturating_sub(GLANCE as u64), ..Known::default() };
                last.grows(root, &log, stamp, id);
                last.ending.end()
            }
            _ => end,
        }
    }

    /// The container runs: what ended before it is nobody's business any more.
    pub fn started(&mut self, id: &str) {
        if let Some(known) = self.known.get_mut(id) {
            known.before = None;
        }
        self.gone.remove(id);
    }

    fn list(&mut self, root: &Root) {
        self.looks = self.looks.wrapping_add(1);
        let stamp = match root.stamp(&self.folder) {
            Ok(stamp) => stamp,
            Err(e) => {
                // It is made with the first container.
                self.opened |= e == ReadError::Absent;
                return;
            }
        };
        if self.listed == Some(stamp.modified) && !self.looks.is_multiple_of(LIST_EVERY) {
            return;
        }
        let Ok(ids) = root.list_dirs(&self.folder) else { return };
        for (id, known) in self.known.extract_if(|id, _| ids.binary_search(id).is_err()) {
            if self.gone.len() >= MAX_GONE {
                self.gone.clear();
            }
            self.gone.insert(id, known.ending);
        }
        let opening = !std::mem::replace(&mut self.opened, true);
        for id in ids {
            self.known.entry(id).or_insert_with_key(|id| {
                let old = opening.then(|| root.stamp(&self.folder.join(id).join(LOG)).ok()).flatten();
                old.map_or_else(Known::default, |s| Known { size: s.size, written: s.modified, ..Known::default() })
            });
        }
        self.listed = Some(stamp.modified);
    }
}

impl Known {
    /// Takes in what was appended; true if a boot begins in it.
    fn grows(&mut self, root: &Root, log: &Path, stamp: Stamp, id: &str) -> bool {
        // What came after the stamp is the next look's, and so is what is more than a glance: nothing is taken in twice, and
        // nothing is passed over.
        let new = usize::try_from(stamp.size.saturating_sub(self.size)).unwrap_or(usize::MAX);
        let appended = root.read_part(log, self.size, new.min(GLANCE)).unwrap_or_default();
        self.size += appended.len() as u64;
        if self.size == stamp.size {
            self.written = stamp.modified;
        }
        let mut begins = false;
        for line in appended.split_inclusive(|b| *b == b'\n') {
            if let Some(at) = kernel_micros(line) {
                let new = self.latest.map_or(at < EARLY, |latest| at + OUT_OF_ORDER < latest);
                if new {
                    let old = std::mem::replace(&mut self.ending, Ending::of_new_boot());
                    self.before = self.latest.map(|_| old);
                }
                begins |= new;
                self.latest = if new { Some(at) } else { self.latest.max(Some(at)) };
            }
            self.ending.feed(line, id);
        }
        begins
    }
}

/// Microseconds of `[    0.143252] message`.
fn kernel_micros(line: &[u8]) -> Option<u64> {
    let stamp = line.strip_prefix(b"[")?.split(|b| *b == b']').next()?;
    let (seconds, micros) = std::str::from_utf8(stamp).ok()?.trim_start().split_once('.')?;
    if micros.len() != 6 {
        return None;
    }
    seconds.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(micros.parse().ok()?)
}

/// When the start that made the log grow at `grown` was requested, and whether the container was made for it.
fn request(root: &Root, bundle: &Path, quiet_since: Nanos, grown: Nanos) -> (Option<Nanos>, bool) {
    let described = |name: &String| name.ends_with(".json") || name == "service.plist";
    let mut changes: Vec<Nanos> = root
        .list(bundle)
        .unwrap_or_default()
        .iter()
        .filter(|name| described(name))
        .filter_map(|name| Some(root.stamp(&bundle.join(name)).ok()?.modified))
        .collect();
    changes.sort_unstable();
    let oldest = changes.first().copied();
    let mut requested = None;
    for at in changes.into_iter().rev().filter(|at| (quiet_since + 1..=grown).contains(at)) {
        if requested.unwrap_or(grown) - at > ONE_START {
            break;
        }
        requested = Some(at);
    }
    (requested, requested.is_some() && requested == oldest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: &str = "[    0.098284] cacheinfo: none\n[    0.143252] Run /sbin/vminitd as init process\n";

    fn look(bundles: &mut Bundles) -> Vec<Begun> {
        bundles.look(&Root::default())
    }

    fn append(log: &Path, text: &str) {
        let old = std::fs::read(log).unwrap_or_default();
        std::fs::write(log, [&old[..], text.as_bytes()].concat()).unwrap();
    }

    #[test]
    fn each_boot_is_told_once_and_execs_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let old = dir.path().join("containers/old");
        std::fs::create_dir_all(&old).unwrap();
        std::fs::write(old.join(LOG), BOOT).unwrap();
        let mut bundles = Bundles::new(dir.path());
        assert_eq!(look(&mut bundles), [], "it booted before");
        append(&old.join(LOG), "2026-08-07T08:15:57.012Z info vminitd: starting I/O\n[   90.000001] late\n");
        assert_eq!(look(&mut bundles), [], "an exec");
        let from = std::fs::metadata(old.join(LOG)).unwrap().len();
        append(&old.join(LOG), BOOT);
        let begun = look(&mut bundles);
        assert_eq!(begun.len(), 1);
        assert_eq!((begun[0].id.as_str(), begun[0].boot.from, begun[0].first), ("old", from, false));
        assert_eq!(begun[0].boot.requested, None, "nothing was written for it");
        append(&old.join(LOG), "[    0.298117] EXT4-fs\n");
        assert_eq!(look(&mut bundles), [], "the same boot");
    }

    #[test]
    fn a_new_bundle_is_a_first_start_with_its_request() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("containers")).unwrap();
        let mut bundles = Bundles::new(dir.path());
        look(&mut bundles);
        let new = dir.path().join("containers/new");
        std::fs::create_dir(&new).unwrap();
        let config = br#"{"id":"new","image":{"reference":"nginx"},"creationDate":807783342.5}"#;
        std::fs::write(new.join(CONFIG), config).unwrap();
        std::fs::write(new.join(LOG), BOOT).unwrap();
        let begun = (0..=LIST_EVERY).flat_map(|_| look(&mut bundles)).collect::<Vec<_>>();
        assert_eq!(begun.len(), 1);
        assert!(begun[0].first && begun[0].boot.requested.is_some(), "{begun:?}");
        assert_eq!(begun[0].configuration.as_ref().map(|c| c.image.reference.as_str()), Some("nginx"));
    }

    #[test]
    fn a_runs_end_is_told_once_and_never_that_of_another_run() {
        let dir = tempfile::tempdir().unwrap();
        let web = dir.path().join("containers/web");
        std::fs::create_dir_all(&web).unwrap();
        let boot = BOOT.to_owned() + "[    1.016402] IPv6: eth0: link becomes ready\n";
        let at = "2026-08-07T08:15:57.012Z info vminitd: ";
        let run = |status: &str| {
            boot.clone() + &format!("{at}id: web starting managed process\n{at}status: {status} managed process exit\n")
        };
        let root = Root::default();
        // Before the first look: its last lines tell, of the last boot alone.
        std::fs::write(web.join(LOG), run("0") + &run("3")).unwrap();
        let mut bundles = Bundles::new(dir.path());
        look(&mut bundles);
        assert_eq!(bundles.ended(&root, "web").status, Some(3));
        append(&web.join(LOG), &boot);
        look(&mut bundles);
        bundles.started("web");
        assert_eq!(bundles.ended(&root, "web").status, None, "this run has told nothing");
        // Started anew between two lists: what is asked about is the run before.
        append(&web.join(LOG), &format!("{at}id: web starting managed process\n{at}status: 4 managed process exit\n"));
        look(&mut bundles);
        append(&web.join(LOG), &boot);
        look(&mut bundles);
        assert_eq!(bundles.ended(&root, "web").status, Some(4));
        // Removed with its files.
        append(&web.join(LOG), &format!("{at}id: web starting managed process\n{at}status: 5 managed process exit\n"));
        look(&mut bundles);
        std::fs::remove_dir_all(&web).unwrap();
        (0..=LIST_EVERY).for_each(|_| _ = look(&mut bundles));
        assert_eq!(bundles.ended(&root, "web").status, Some(5));
        assert_eq!(bundles.ended(&root, "web").status, None, "told once");
        assert_eq!(bundles.ended(&root, "never").status, None);
    }

    #[test]
    fn the_very_first_container_brings_the_folder_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut bundles = Bundles::new(dir.path());
        assert_eq!(look(&mut bundles), []);
        assert!(!bundles.is_open());
        let first = dir.path().join("containers/first");
        std::fs::create_dir_all(&first).unwrap();
        std::fs::write(first.join(LOG), BOOT).unwrap();
        assert_eq!(look(&mut bundles).len(), 1);
        assert!(bundles.is_open());
    }

    #[test]
    fn a_log_that_grows_while_it_is_looked_at_is_taken_in_once() {
        let dir = tempfile::tempdir().unwrap();
        let (root, log) = (Root::default(), dir.path().join(LOG));
        let at = "2026-08-07T08:15:57.012Z info vminitd: ";
        append(&log, BOOT);
        let stamp = root.stamp(&log).unwrap();
        append(&log, &format!("{at}id: web starting managed process\n"));
        let mut known = Known::default();
        assert!(known.grows(&root, &log, stamp, "web"));
        assert_eq!(known.size, stamp.size);
        append(&log, &format!("{at}status: 3 managed process exit\n"));
        assert!(!known.grows(&root, &log, root.stamp(&log).unwrap(), "web"));
        assert_eq!(known.ending.end().status, Some(3), "one process was started, not two");
    }

    #[test]
    fn more_than_a_glance_at_once_is_taken_in_whole() {
        let dir = tempfile::tempdir().unwrap();
        let web = dir.path().join("containers/web");
        std::fs::create_dir_all(&web).unwrap();
        std::fs::write(web.join(LOG), "").unwrap();
        let mut bundles = Bundles::new(dir.path());
        look(&mut bundles);
        let at = "2026-08-07T08:15:57.012Z info vminitd: ";
        // Times of change are as coarse as the kernel's tick.
        std::thread::sleep(std::time::Duration::from_millis(50));
        let filler = format!("{at}starting I/O\n").repeat(GLANCE / 20);
        std::fs::write(web.join(CONFIG), "{}").unwrap();
        append(
            &web.join(LOG),
            &(filler.clone()
                + BOOT
                + &format!("{at}id: web starting managed process\n")
                + &filler
                + &format!("{at}status: 3 managed process exit\n")),
        );
        let looks = std::fs::metadata(web.join(LOG)).unwrap().len().div_ceil(GLANCE as u64);
        let begun: Vec<_> = (0..looks).flat_map(|_| look(&mut bundles)).collect();
        assert!(looks > 3);
        assert_eq!(begun.len(), 1, "the boot is in the middle");
        assert!(begun[0].boot.requested.is_some(), "what was written for it came after the log was quiet");
        assert_eq!(bundles.ended(&Root::default(), "web").status, Some(3));
        assert_eq!(bundles.known["web"].size, std::fs::metadata(web.join(LOG)).unwrap().len());
    }

    #[test]
    fn kernel_stamps_and_nothing_else() {
        assert_eq!(kernel_micros(b"[    0.143252] Run"), Some(143_252));
        assert_eq!(kernel_micros(b"[12345.000001] x\r"), Some(12_345_000_001));
        for other in [
            "",
            "[",
            "[]",
            "[0.1] x",
            "[ a.000000] x",
            "2026-08-07T08:15:57.012Z info",
            "[99999999999999999999.000000]",
        ] {
            assert_eq!(kernel_micros(other.as_bytes()), None, "{other}");
        }
    }
}
