//! Bytes → structs of `Option`: one file a kernel file family, and the readers that keep descriptors open.
//!
//! A [`Reader`] owns what one collector needs of each live container (open files, previous counters), in a slot that
//! stays the same for the container's life.

pub mod battery;
pub mod cgroups;
pub mod cpu;
pub mod diskstats;
pub mod energy;
#[cfg(target_os = "linux")]
pub mod ethtool;
pub mod file;
pub mod filesystems;
#[cfg(test)]
mod fuzz;
#[cfg(all(fuzzing, target_os = "linux"))]
pub mod fuzzing;
pub mod guest;
pub mod host;
pub mod lifecycle;
pub mod mac;
pub mod meminfo;
pub mod memory;
pub mod netdev;
#[cfg(target_os = "linux")]
pub mod netlink;
#[cfg(target_os = "linux")]
pub mod netns;
#[cfg(target_os = "linux")]
pub mod network;
pub mod overhead;
pub mod parse;
pub mod peers;
pub mod pressure;
#[cfg(target_os = "linux")]
pub mod process;
pub mod proctcp;
pub mod selfproc;
pub mod snmp;
#[cfg(target_os = "linux")]
pub mod sockdiag;
#[cfg(target_os = "linux")]
pub mod socket;
pub mod sockstat;
pub mod storage;
#[cfg(target_os = "linux")]
pub mod switches;
pub mod table;
pub mod thermal;
pub mod topology;
pub mod vm;

use std::sync::Arc;

use crate::catalog::{self, Collector};
use crate::config::Config;
use crate::held::Held;
use crate::kernel::cgroups::Cgroups;
use crate::kernel::file::Budget;
#[cfg(target_os = "linux")]
use crate::kernel::table::TableReader;
use crate::macos::System;
use crate::probe::Capabilities;
use crate::root::{Nanos, ReadBuf, ReadError, Root, SECOND};
use crate::runtime::Container;
use crate::snapshot::Snapshot;

/// Rates are over this at least: two scrapes at nearly the same moment would tell noise.
pub const RATE_STEP: Nanos = SECOND;

/// Says when a fact that seldom changes is due to be looked at again: at once, then once a minute.
#[derive(Debug, Default, Clone, Copy)]
pub struct Timer(Option<Nanos>);

impl Timer {
    pub fn due(&mut self, now: Nanos) -> bool {
        let due = self.0.is_none_or(|at| now - at >= 60 * SECOND);
        if due {
            self.0 = Some(now);
        }
        due
    }
}

/// What a reader may use while it works.
pub struct Context<'a> {
    pub root: &'a Root,
    pub config: &'a Config,
    pub capabilities: &'a Capabilities,
    pub held: &'a Held,
    /// Where the cgroup hierarchies are.
    pub cgroups: &'a Cgroups,
    /// How many descriptors readers may keep.
    pub budget: &'a Arc<Budget>,
    pub buf: &'a mut ReadBuf,
    /// Set by [`Context::failed`]: the collector did not succeed this time.
    pub failures: u32,
}

impl Context<'_> {
    /// Judges a failed read: gone and absent are no failure; the rest is counted by kind and lowers success.
    pub fn failed(&mut self, collector: Collector, error: ReadError) {
        if matches!(error, ReadError::Gone | ReadError::Absent) {
            return;
        }
        self.failures += 1;
        self.held.inc(catalog::READ_ERRORS, &[collector.name(), error.kind()]);
    }
}

/// One collector's way to its facts.
pub trait Reader: Send {
    /// A container appeared, or was restarted: forget what the slot held and open what is needed.
    fn open(&mut self, slot: usize, container: &Arc<Container>, ctx: &mut Context<'_>);

    /// The container is gone: close everything.
    fn close(&mut self, slot: usize);

    /// Fills this collector's facts of every container (`slots[i]` is the slot of `snapshot.containers[i]`) and of the
    /// host. Sets `gone` on a container that vanished.
    fn read(&mut self, snapshot: &mut Snapshot, slots: &[usize], ctx: &mut Context<'_>);
}

/// State by slot: grows as needed, `None` where nothing is open.
pub struct Slots<T>(Vec<Option<T>>);

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Slots<T> {
    pub fn set(&mut self, slot: usize, state: T) {
        if slot >= self.0.len() {
            self.0.resize_with(slot + 1, || None);
        }
        self.0[slot] = Some(state);
    }

    pub fn clear(&mut self, slot: usize) {
        if let Some(s) = self.0.get_mut(slot) {
            *s = None;
        }
    }

    pub fn get(&mut self, slot: usize) -> Option<&mut T> {
        self.0.get_mut(slot)?.as_mut()
    }
}

/// The reader of a collector, where it has one: a Mac's where there is one to ask, else this platform's.
pub fn reader(collector: Collector, mac: Option<&Arc<dyn System>>) -> Option<Box<dyn Reader>> {
    match mac {
        Some(system) => mac::reader(collector, system),
        None => of_kernel_files(collector),
    }
}

#[cfg(target_os = "linux")]
fn of_kernel_files(collector: Collector) -> Option<Box<dyn Reader>> {
    Some(match collector {
        Collector::Cpu => Box::new(TableReader::new(cpu::Cpu::default())),
        Collector::Lifecycle => Box::new(lifecycle::Lifecycle::default()),
        Collector::Memory => Box::new(TableReader::new(memory::Memory::default())),
        Collector::Storage => Box::new(TableReader::new(storage::Storage::default())),
        Collector::Network => Box::new(network::Network::default()),
        Collector::Process => Box::new(process::Process::default()),
        Collector::Pressure => Box::new(TableReader::new(pressure::Pressure)),
        Collector::Socket => Box::new(socket::Sockets::default()),
        Collector::Vm => Box::new(vm::Vm::default()),
        Collector::Host => Box::new(host::Host::default()),
        Collector::Device => Box::new(diskstats::Devices::default()),
        Collector::Thermal => Box::new(thermal::Thermal::default()),
        Collector::Energy => Box::new(energy::Energy::default()),
        Collector::Exporter => Box::new(selfproc::SelfProcess::default()),
        _ => return None,
    })
}

#[cfg(not(target_os = "linux"))]
fn of_kernel_files(_: Collector) -> Option<Box<dyn Reader>> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::table::{Source, Subject};
    use super::{cpu, memory, parse, pressure, storage};

    /// Repeatable noise (xorshift).
    struct Noise(u64);

    impl Noise {
        fn below(&mut self, n: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % n.max(1) as u64) as usize
        }

        fn byte(&mut self) -> u8 {
            // Bytes that kernel files are made of, and any other now and then.
            let usual = b"0123456789 \n\t:=,-().kBmax";
            if self.below(8) == 0 { self.below(256) as u8 } else { usual[self.below(usual.len())] }
        }

        /// Random bytes, or a sound file with some of it changed, cut, doubled or torn out.
        fn bytes(&mut self, sound: &[&[u8]]) -> Vec<u8> {
            if self.below(4) == 0 {
                return (0..self.below(200)).map(|_| self.byte()).collect();
            }
            let mut bytes = sound[self.below(sound.len())].to_vec();
            for _ in 0..self.below(6) {
                let at = self.below(bytes.len());
                match self.below(4) {
                    0 => bytes.truncate(at),
                    1 if !bytes.is_empty() => bytes[at] = self.byte(),
                    2 => bytes.insert(at, self.byte()),
                    _ => bytes.extend_from_within(at..),
                }
            }
            bytes
        }
    }

    const SOUND: &[&[u8]] = &[
        b"usage_usec 18446744073709551615\nuser_usec 2\nnr_periods 3\n",
        b"anon 1\nfile 2\nkernel_stack 3\ntotal_rss 4\nworkingset_refault_file 5\n",
        b"some avg10=0.00 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00 total=2\n",
        b"8:0 rbytes=1 wbytes=2 rios=3 wios=4\n253:1 \n8:0 Read 1\n8:0 Write 2\nTotal 3\n",
        b"max 100000\n",
        b"0-3,8,10-11\n",
        b"cpu  1 2 3 4 5 6 7 8 9 10\nintr 1 2 3\nctxt 5\n",
        b"MemTotal:       1024 kB\nActive(file):   3 kB\nThreads:\t2\n",
        b"42 (a) b (c)) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 123456 1 2\n",
        b"1\n22\n333\n0\n",
        b"9223372036854771712\n",
    ];

    fn try_all<S: Subject>(noise: &mut Noise) {
        let mut raw = S::Raw::default();
        for Source { parse, .. } in S::sources() {
            let _ = parse(&noise.bytes(SOUND), &mut raw);
        }
    }

    #[test]
    fn no_bytes_make_a_parser_panic() {
        let mut noise = Noise(0x9E37_79B9_7F4A_7C15);
        for _ in 0..4000 {
            try_all::<cpu::Cpu>(&mut noise);
            try_all::<memory::Memory>(&mut noise);
            try_all::<storage::Storage>(&mut noise);
            try_all::<pressure::Pressure>(&mut noise);
            let bytes = noise.bytes(SOUND);
            let _ = parse::proc_stat(&bytes);
            let _ = (parse::quota_v1(&bytes), parse::limit_v1(&bytes), parse::limit(&bytes), parse::cpu_max(&bytes));
            let _ = (parse::pids(&bytes).count(), parse::cpu_list(&bytes).count());
        }
    }
}
