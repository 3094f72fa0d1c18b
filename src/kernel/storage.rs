//! Block I/O by device: `io.stat` (v2), `blkio.throttle.io_service_bytes` and `io_serviced` (v1), `/proc/diskstats` for the
//! whole machine.

use std::collections::HashMap;
use std::sync::Arc;

use crate::catalog::Collector;
use crate::kernel::parse::{self, Malformed, Sound};
use crate::kernel::table::{Home, Source, Subject};
use crate::kernel::{Context, RATE_STEP, diskstats};
use crate::root::{Nanos, Root, SECOND};
use crate::runtime::Container;
use crate::snapshot::{ContainerFacts, DeviceIo, StorageFacts};

/// `major:minor`.
type Number = (u32, u32);

#[derive(Default)]
pub struct Storage {
    names: HashMap<Number, Arc<str>>,
    /// What is a disk, and no part of one.
    whole: HashMap<Number, bool>,
}

/// Devices seen before their names are looked up anew: loop devices and volumes come and go.
const MAX_NAMES: usize = 4096;

#[derive(Default)]
pub struct Raw {
    devices: Vec<(Number, Counters)>,
    /// Of the root cgroup: v1 counts there only what is throttled since Linux 6.10, and before the root's own alone.
    machine: Vec<(Number, Counters)>,
}

#[derive(Default, Clone, Copy)]
struct Counters {
    read_bytes: Option<u64>,
    write_bytes: Option<u64>,
    reads: Option<u64>,
    writes: Option<u64>,
}

impl Raw {
    fn device(&mut self, number: Number) -> &mut Counters {
        let at = self.devices.iter().position(|(n, _)| *n == number).unwrap_or_else(|| {
            self.devices.push((number, Counters::default()));
            self.devices.len() - 1
        });
        &mut self.devices[at].1
    }
}

static SOURCES: &[Source<Raw>] = &[
    Source { home: Home::V2("io"), files: &["io.stat"], parse: io_stat },
    Source {
        home: Home::V1("io"),
        files: &["blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"],
        parse: |bytes, raw| {
            blkio(bytes, |number, read, n| {
                let counters = raw.device(number);
                *(if read { &mut counters.read_bytes } else { &mut counters.write_bytes }) = Some(n);
            })
        },
    },
    Source {
        home: Home::V1("io"),
        files: &["blkio.throttle.io_serviced_recursive", "blkio.throttle.io_serviced"],
        parse: |bytes, raw| {
            blkio(bytes, |number, read, n| {
                let counters = raw.device(number);
                *(if read { &mut counters.reads } else { &mut counters.writes }) = Some(n);
            })
        },
    },
    Source { home: Home::Host, files: &["diskstats"], parse: diskstats },
];

/// What has done something.
fn diskstats(bytes: &[u8], raw: &mut Raw) -> Sound {
    let mut sound = Ok(());
    for line in diskstats::parse(bytes) {
        match line {
            Ok(line) if line.reads > 0 || line.writes > 0 => {
                let counters = Counters {
                    read_bytes: Some(line.read_bytes),
                    write_bytes: Some(line.write_bytes),
                    reads: Some(line.reads),
                    writes: Some(line.writes),
                };
                raw.machine.push((line.number, counters));
            }
            Ok(_) => {}
            Err(Malformed) => sound = Err(Malformed),
        }
    }
    sound
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 …`. A line may be a device alone: it has done nothing yet.
fn io_stat(bytes: &[u8], raw: &mut Raw) -> Sound {
    let mut sound = Ok(());
    for line in parse::lines(bytes) {
        let mut words = parse::words(line).peekable();
        let Some(number) = words.next().and_then(parse::device) else {
            sound = Err(Malformed);
            continue;
        };
        if words.peek().is_none() {
            continue;
        }
        let counters = raw.device(number);
        for word in words {
            let Some(at) = word.iter().position(|b| *b == b'=') else { continue };
            let field = match &word[..at] {
                b"rbytes" => &mut counters.read_bytes,
                b"wbytes" => &mut counters.write_bytes,
                b"rios" => &mut counters.reads,
                b"wios" => &mut counters.writes,
                _ => continue,
            };
            match parse::number(&word[at + 1..]) {
                Some(n) => *field = Some(n),
                None => sound = Err(Malformed),
            }
        }
    }
    sound
}

/// Reads and writes of all devices together, by an `io.stat` (v2) that was read elsewhere.
pub fn operations_of(bytes: &[u8]) -> (Option<u64>, Option<u64>) {
    (sum_of(bytes, |c| c.reads), sum_of(bytes, |c| c.writes))
}

/// As [`operations_of`], bytes.
pub fn bytes_of(bytes: &[u8]) -> (Option<u64>, Option<u64>) {
    (sum_of(bytes, |c| c.read_bytes), sum_of(bytes, |c| c.write_bytes))
}

fn sum_of(bytes: &[u8], field: fn(&Counters) -> Option<u64>) -> Option<u64> {
    let mut raw = Raw::default();
    // What is malformed stays absent.
    let _ = io_stat(bytes, &mut raw);
    raw.devices.iter().filter_map(|(_, c)| field(c)).reduce(u64::saturating_add)
}

/// `8:0 Read 1`, `8:0 Write 2`, other operations, and a last line `Total 3`.
fn blkio(bytes: &[u8], mut each: impl FnMut(Number, bool, u64)) -> Sound {
    let mut sound = Ok(());
    for line in parse::lines(bytes) {
        let mut words = parse::words(line);
        let (first, operation, n) = (words.next(), words.next(), words.next());
        if first == Some(b"Total") {
            continue;
        }
        let read = match operation {
            Some(b"Read") => true,
            Some(b"Write") => false,
            Some(_) => continue,
            None => {
                sound = Err(Malformed);
                continue;
            }
        };
        match (first.and_then(parse::device), n.and_then(parse::number)) {
            (Some(number), Some(n)) => each(number, read, n),
            _ => sound = Err(Malformed),
        }
    }
    sound
}

/// `/dev/NAME` by `/sys/dev/block/M:m/uevent`, else by `/proc/partitions`, else the number itself.
fn device_name(root: &Root, (major, minor): Number) -> Arc<str> {
    let from_uevent = || {
        let text = root.read_to_string(&root.sysfs.join(format!("dev/block/{major}:{minor}/uevent"))).ok()?;
        text.lines().find_map(|l| l.strip_prefix("DEVNAME=").map(str::to_owned))
    };
    let from_partitions = || {
        let text = root.read_to_string(&root.procfs.join("partitions")).ok()?;
        text.lines().find_map(|l| {
            let mut words = l.split_ascii_whitespace();
            let number = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            (number == (major, minor)).then(|| words.nth(1).map(str::to_owned))?
        })
    };
    match from_uevent().or_else(from_partitions) {
        Some(name) => format!("/dev/{name}").into(),
        None => format!("{major}:{minor}").into(),
    }
}

#[derive(Clone, Copy, Default)]
pub struct Kept {
    last: Option<Totals>,
    iops: Option<f64>,
    bytes: Option<f64>,
}

#[derive(Clone, Copy)]
struct Totals {
    at: Nanos,
    operations: u64,
    bytes: u64,
}

impl Subject for Storage {
    const COLLECTOR: Collector = Collector::Storage;
    type Raw = Raw;
    type Kept = Kept;

    fn sources() -> &'static [Source<Raw>] {
        SOURCES
    }

    fn reset(raw: &mut Raw) {
        raw.devices.clear();
        raw.machine.clear();
    }

    fn begin(&mut self, _: &mut Raw, _: &mut Context<'_>) {
        if self.names.len() > MAX_NAMES {
            self.names.clear();
            self.whole.clear();
        }
    }

    fn opened(&mut self, _: &Container, _: &mut Context<'_>) -> Kept {
        Kept::default()
    }

    fn finish(&mut self, raw: &mut Raw, kept: &mut Kept, facts: &mut ContainerFacts, ctx: &mut Context<'_>) {
        let devices = if raw.machine.is_empty() { &raw.devices } else { &raw.machine };
        for (number, counters) in devices {
            let device = self.names.entry(*number).or_insert_with(|| device_name(ctx.root, *number)).clone();
            let is_whole = || diskstats::is_shown(ctx.root, device.strip_prefix("/dev/").unwrap_or(&device));
            if !raw.machine.is_empty() && !*self.whole.entry(*number).or_insert_with(is_whole) {
                continue;
            }
            let Counters { read_bytes, write_bytes, reads, writes } = *counters;
            facts.storage.devices.push(DeviceIo { device, read_bytes, write_bytes, reads, writes });
        }
        kept.step(&mut facts.storage, ctx.root.clock.boot());
    }
}

impl Kept {
    fn step(&mut self, storage: &mut StorageFacts, now: Nanos) {
        if self.last.is_none_or(|last| now - last.at >= RATE_STEP) {
            let (mut operations, mut bytes) = (0u64, 0u64);
            for d in storage.devices.iter().filter(|d| !is_stacked(&d.device)) {
                let sum = |a: Option<u64>, b: Option<u64>| a.unwrap_or(0).saturating_add(b.unwrap_or(0));
                operations = operations.saturating_add(sum(d.reads, d.writes));
                bytes = bytes.saturating_add(sum(d.read_bytes, d.write_bytes));
            }
            if let Some(last) = self.last {
                let seconds = (now - last.at) as f64 / SECOND as f64;
                self.iops = Some(operations.saturating_sub(last.operations) as f64 / seconds);
                self.bytes = Some(bytes.saturating_sub(last.bytes) as f64 / seconds);
            }
            self.last = Some(Totals { at: now, operations, bytes });
        }
        storage.iops_rate = self.iops;
        storage.bytes_rate = self.bytes;
    }
}

/// Devices that hand their requests on to others, where the same requests count again.
fn is_stacked(device: &str) -> bool {
    ["/dev/dm-", "/dev/md", "/dev/loop"].iter().any(|p| device.starts_with(p))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_stat_lines() {
        let mut raw = Raw::default();
        let text =
            b"8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n8:0 \n253:0\n259:1 rbytes=x rios=7 cost.usage=1\n";
        assert_eq!(io_stat(text, &mut raw), Err(Malformed));
        assert_eq!(raw.devices.len(), 2, "a bare device has done nothing");
        assert_eq!(raw.devices[0].1.write_bytes, Some(2));
        assert_eq!((raw.devices[1].1.read_bytes, raw.devices[1].1.reads), (None, Some(7)));
        assert_eq!(io_stat(b"", &mut raw), Ok(()));
    }

    #[test]
    fn blkio_lines() {
        let mut seen = Vec::new();
        let text = b"8:0 Read 10\n8:0 Write 20\n8:0 Sync 30\n8:0 Total 30\nTotal 30\n";
        assert_eq!(blkio(text, |n, read, v| seen.push((n, read, v))), Ok(()));
        assert_eq!(seen, [((8, 0), true, 10), ((8, 0), false, 20)]);
        assert_eq!(blkio(b"Total 0\n", |_, _, _| panic!()), Ok(()));
        assert_eq!(blkio(b"8:0 Rea", |_, _, _| panic!()), Ok(()), "another operation, as far as one can tell");
        assert_eq!(blkio(b"8:0 Read 1x\n", |_, _, _| panic!()), Err(Malformed));
    }
}
