//! `/proc/diskstats`: requests, time and depth of block devices (`Documentation/admin-guide/iostats.rst`).

use std::sync::Arc;

use super::file::KernelFile;
use super::parse::{self, Malformed};
use super::{Context, Reader};
use crate::catalog::Collector;
use crate::root::{ReadError, Root};
use crate::runtime::Container;
use crate::snapshot::{DeviceFacts, Snapshot};

/// One line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Line<'b> {
    pub number: (u32, u32),
    pub name: &'b str,
    pub reads: u64,
    pub read_bytes: u64,
    pub read_ms: u64,
    pub writes: u64,
    pub write_bytes: u64,
    pub write_ms: u64,
    pub in_flight: u64,
}

/// Whatever the device's own sectors are.
const SECTOR: u64 = 512;

pub fn parse(bytes: &[u8]) -> impl Iterator<Item = Result<Line<'_>, Malformed>> {
    parse::lines(bytes).map(|l| line(l).ok_or(Malformed))
}

fn line(line: &[u8]) -> Option<Line<'_>> {
    let mut words = parse::words(line);
    let mut number = || u32::try_from(parse::number(words.next()?)?).ok();
    let number = (number()?, number()?);
    let name = std::str::from_utf8(words.next()?).ok()?;
    let mut values = [0u64; 9];
    for value in &mut values {
        *value = parse::number(words.next()?)?;
    }
    let [reads, _, read, read_ms, writes, _, written, write_ms, in_flight] = values;
    let (read_bytes, write_bytes) = (read.checked_mul(SECTOR)?, written.checked_mul(SECTOR)?);
    Some(Line { number, name, reads, read_bytes, read_ms, writes, write_bytes, write_ms, in_flight })
}

/// The reader of whole devices that are more than memory: no partitions, RAM disks or loop devices.
#[derive(Default)]
pub struct Devices {
    file: Option<Result<KernelFile, ReadError>>,
    /// In the order of the file; None for a device that is not shown.
    known: Vec<Known>,
}

struct Known {
    name: Arc<str>,
    shown: bool,
}

impl Reader for Devices {
    fn open(&mut self, _slot: usize, _container: &Arc<Container>, _ctx: &mut Context<'_>) {}

    fn close(&mut self, _slot: usize) {}

    fn read(&mut self, snapshot: &mut Snapshot, _slots: &[usize], ctx: &mut Context<'_>) {
        if let Err(e) = self.read_file(&mut snapshot.host.devices, ctx) {
            ctx.failed(Collector::Device, e);
        }
    }
}

impl Devices {
    fn read_file(&mut self, out: &mut Vec<DeviceFacts>, ctx: &mut Context<'_>) -> Result<(), ReadError> {
        let path = || ctx.root.procfs.join("diskstats");
        let file = self.file.get_or_insert_with(|| KernelFile::open(&path(), ctx.budget)).as_ref().map_err(|e| *e)?;
        let mut outcome = Ok(());
        let mut place = 0;
        for line in parse(file.read_records(ctx.buf)?) {
            let Ok(line) = line else {
                outcome = Err(ReadError::Malformed);
                continue;
            };
            if self.known.get(place).is_none_or(|k| *k.name != *line.name) {
                self.known.truncate(place);
                self.known.push(Known { name: line.name.into(), shown: is_shown(ctx.root, line.name) });
            }
            let known = &self.known[place];
            place += 1;
            if known.shown {
                let Line { reads, read_ms, writes, write_ms, in_flight, .. } = line;
                out.push(DeviceFacts { name: known.name.clone(), reads, read_ms, writes, write_ms, in_flight });
            }
        }
        self.known.truncate(place);
        outcome
    }
}

/// Whether it is a whole device that is more than memory. Partitions are not in `/sys/block`, where `/` in a name is written `!`.
pub fn is_shown(root: &Root, name: &str) -> bool {
    let memory = ["loop", "ram", "zram"]
        .iter()
        .any(|p| name.strip_prefix(p).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit())));
    let blocks = root.sysfs.join("block");
    !memory && (root.exists(&blocks.join(name.replace('/', "!"))) || !root.exists(&blocks))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDED: &[u8] = b"   7       0 loop0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
 254       0 vda 108791 31044 11001002 63387 31557 65887 26081960 117815 1 26948 182246 7293 13 1174016 930 2924 113
   8       1 sda1 1 2 3 4 5 6 7 8 9 10 11
 104       0 cciss/c0d0 1 2 3 4 5 6 7 8 0 10 11
";

    #[test]
    fn recorded_lines_of_any_kernel_are_read() {
        let all: Vec<_> = parse(RECORDED).map(Result::unwrap).collect();
        assert_eq!(all.iter().map(|l| l.name).collect::<Vec<_>>(), ["loop0", "vda", "sda1", "cciss/c0d0"]);
        let vda = Line {
            number: (254, 0),
            name: "vda",
            reads: 108_791,
            read_bytes: 11_001_002 * 512,
            read_ms: 63_387,
            writes: 31_557,
            write_bytes: 26_081_960 * 512,
            write_ms: 117_815,
            in_flight: 1,
        };
        assert_eq!(all[1], vda);
    }

    #[test]
    fn a_bad_line_costs_itself_alone() {
        let text = b"8 0 sda 1 2 3\n8 0 sdb -1 2 3 4 5 6 7 8 9\n8 0 sdc 1 2 3 4 5 6 7 8 9\n\
            8 0 sdd 18446744073709551616 2 3 4 5 6 7 8 9\n8 0 sde 1 2 18446744073709551615 4 5 6 7 8 9\n\
            4294967296 0 sdf 1 2 3 4 5 6 7 8 9\ngarbage\n";
        let good: Vec<_> = parse(text).filter_map(Result::ok).map(|l| l.name).collect();
        assert_eq!(good, ["sdc"]);
    }

    #[test]
    fn whole_devices_are_shown() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path(), crate::root::Clock::System);
        assert!(is_shown(&root, "sda1"), "nothing tells a partition where there is no /sys");
        for name in ["sda", "cciss!c0d0", "loop0", "zram0", "ramble"] {
            std::fs::create_dir_all(dir.path().join("sys/block").join(name)).unwrap();
        }
        for (name, shown) in
            [("sda", true), ("sda1", false), ("cciss/c0d0", true), ("loop0", false), ("zram0", false), ("ramble", true)]
        {
            assert_eq!(is_shown(&root, name), shown, "{name}");
        }
    }

    #[test]
    fn cut_and_changed_bytes_never_panic() {
        crate::kernel::fuzz::mutations(RECORDED, |bytes| {
            let _ = parse(bytes).filter(Result::is_ok).count();
        });
    }
}
