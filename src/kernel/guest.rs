//! What a guest's own kernel told, as facts of the container that is alone in it: by files that were read in the guest, and
//! where the exporter itself runs there, by what no file tells.

use std::sync::Arc;

use super::memory::Guest as Memory;
use super::peers::AddressBook;
use super::{cpu, diskstats, netdev, parse, proctcp, snmp, storage};
use crate::catalog::STORAGE_BUCKETS;
use crate::root::{Nanos, SECOND};
use crate::runtime::apple::Guest;
use crate::runtime::apple::guest::File;
use crate::sample::Histogram;
use crate::snapshot::{
    ContainerFacts, CpuFacts, DeviceIo, InterfaceFacts, MemoryFacts, NetworkFacts, PressureFacts, ProcessFacts,
};

/// What one guest has told, newest answer and what is counted over its answers.
#[derive(Default)]
pub struct Inner {
    boot: Option<Nanos>,
    memory: Memory,
    cpu: CpuFacts,
    pressure: PressureFacts,
    process: ProcessFacts,
    operations: (Option<u64>, Option<u64>),
    bytes: (Option<u64>, Option<u64>),
    tcp: snmp::Tcp,
    interface: Option<netdev::Counters>,
    states: Option<[u32; 12]>,
    peers: Vec<(Arc<str>, u32)>,
    fanout: Option<u32>,
    rtt: Option<Histogram>,
    rtt_median: Option<f64>,
    logical_read: Option<u64>,
    disks: Option<Disks>,
    latency: Option<Arc<[Histogram; 2]>>,
    rates: Rates,
}

/// All disks of the VM together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Disks {
    reads: u64,
    read_ms: u64,
    writes: u64,
    write_ms: u64,
    in_flight: u64,
}

/// Between the last two answers.
#[derive(Debug, Clone, Copy, Default)]
struct Rates {
    user_cores: Option<f64>,
    refaults: Option<f64>,
    operations: Option<f64>,
}

impl Disks {
    /// None where there is no disk in it. Loop devices and partitions repeat what disks have counted.
    fn of(diskstats: &[u8]) -> Option<Self> {
        let is_disk = |name: &str| {
            name.strip_prefix("vd").is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_lowercase()))
        };
        let lines = diskstats::parse(diskstats).filter_map(Result::ok).filter(|line| is_disk(line.name));
        lines.fold(None, |sum: Option<Self>, line| {
            let sum = sum.unwrap_or_default();
            Some(Self {
                reads: sum.reads.saturating_add(line.reads),
                read_ms: sum.read_ms.saturating_add(line.read_ms),
                writes: sum.writes.saturating_add(line.writes),
                write_ms: sum.write_ms.saturating_add(line.write_ms),
                in_flight: sum.in_flight.saturating_add(line.in_flight),
            })
        })
    }
}

/// Requests since the answer before, all at their mean: their sum and number are exact, their spread is not known.
fn observe(latency: &mut [Histogram; 2], old: &Disks, new: &Disks) {
    let done = [(old.reads, new.reads, old.read_ms, new.read_ms), (old.writes, new.writes, old.write_ms, new.write_ms)];
    for (histogram, (before, now, ms_before, ms_now)) in latency.iter_mut().zip(done) {
        if let (Some(n @ 1..), Some(ms)) = (now.checked_sub(before), ms_now.checked_sub(ms_before)) {
            histogram.observe_times(ms as f64 / 1e3 / n as f64, n);
        }
    }
}

/// Interfaces named eth…, together: those that `container stats` counts.
fn interfaces(netdev: &[u8]) -> Option<netdev::Counters> {
    let lines = netdev::parse(netdev).filter_map(Result::ok).filter(|(name, _)| name.starts_with("eth"));
    lines.map(|(_, counters)| counters).reduce(|a, b| netdev::Counters {
        rx_bytes: a.rx_bytes.saturating_add(b.rx_bytes),
        rx_packets: a.rx_packets.saturating_add(b.rx_packets),
        rx_errors: a.rx_errors.saturating_add(b.rx_errors),
        rx_dropped: a.rx_dropped.saturating_add(b.rx_dropped),
        tx_bytes: a.tx_bytes.saturating_add(b.tx_bytes),
        tx_packets: a.tx_packets.saturating_add(b.tx_packets),
        tx_errors: a.tx_errors.saturating_add(b.tx_errors),
        tx_dropped: a.tx_dropped.saturating_add(b.tx_dropped),
    })
}

impl Inner {
    pub fn is_of(&self, guest: &Guest) -> bool {
        self.boot == Some(guest.boot)
    }

    /// Takes a new answer. `book` has all containers' addresses; `own` is this one's name in it. Returns how many peers
    /// were left out.
    pub fn take(&mut self, guest: &Guest, book: &mut AddressBook, own: &str) -> u64 {
        let old = std::mem::take(self);
        let read = |file| guest.file(file);
        let pressure = |file| {
            let (some, full, _) = parse::pressure(read(file));
            (some, full)
        };
        let (cpu_pressure, memory_pressure, io_pressure) =
            (pressure(File::CpuPressure), pressure(File::MemoryPressure), pressure(File::IoPressure));
        let value = |file| parse::value(read(file)).ok();
        let mut memory = Memory::of(read(File::MemoryStat), read(File::MemoryEvents), read(File::Meminfo));
        memory.facts.usage = value(File::MemoryCurrent);
        memory.facts.peak = value(File::MemoryPeak);
        memory.facts.swap = value(File::SwapCurrent);
        memory.facts.swap_limit = parse::limit(read(File::SwapMax)).ok();
        memory.facts.reservation = parse::limit(read(File::MemoryLow)).ok();
        let quota = parse::cpu_max(read(File::CpuMax)).ok();
        let disks = Disks::of(read(File::Diskstats));
        let agent = guest.agent.as_ref();
        *self = Self {
            boot: Some(guest.boot),
            memory,
            cpu: CpuFacts {
                quota_us: quota.map(|(quota, _)| quota),
                period_us: quota.map(|(_, period)| period),
                shares: value(File::CpuWeight).map(cpu::shares),
                cpuset_cpus: cpu::cpus_of(read(File::Cpuset)),
                ..cpu::of_stat(read(File::CpuStat))
            },
            pressure: PressureFacts {
                cpu_some_us: cpu_pressure.0,
                cpu_full_us: cpu_pressure.1,
                memory_some_us: memory_pressure.0,
                memory_full_us: memory_pressure.1,
                io_some_us: io_pressure.0,
                io_full_us: io_pressure.1,
            },
            process: ProcessFacts {
                processes: Some(parse::pids(read(File::Procs)).filter(Result::is_ok).count() as u64).filter(|n| *n > 0),
                threads: value(File::PidsCurrent),
                threads_max: parse::limit(read(File::PidsMax)).ok(),
                switches_all: agent.and_then(|a| a.context_switches),
                file_descriptors: agent.and_then(|a| a.file_descriptors),
                ..ProcessFacts::default()
            },
            operations: storage::operations_of(read(File::IoStat)),
            bytes: storage::bytes_of(read(File::IoStat)),
            tcp: snmp::parse(read(File::Snmp)).unwrap_or_default(),
            interface: interfaces(read(File::NetDev)),
            rtt: agent.and_then(|a| a.rtt.as_ref()?.histogram()),
            rtt_median: agent.and_then(|a| a.rtt_median),
            logical_read: agent.and_then(|a| a.logical_read_bytes),
            disks,
            latency: old.latency,
            ..Self::default()
        };
        let dropped = self.sockets(guest, book, own);
        self.since(&old.boot, &old.cpu, &old.memory, &old.operations);
        if let Some(new) = &self.disks {
            let empty = || Arc::new([Histogram::new(STORAGE_BUCKETS), Histogram::new(STORAGE_BUCKETS)]);
            let latency = self.latency.get_or_insert_with(empty);
            if let Some(old) = &old.disks {
                observe(Arc::make_mut(latency), old, new);
            }
        }
        dropped
    }

    fn sockets(&mut self, guest: &Guest, book: &mut AddressBook, own: &str) -> u64 {
        let tables = [guest.file(File::Tcp), guest.file(File::Tcp6)];
        if tables.iter().all(|t| t.is_empty()) {
            return 0;
        }
        let mut states = [0; 12];
        for socket in tables.into_iter().flat_map(proctcp::parse).filter_map(Result::ok) {
            states[socket.state] += 1;
            if socket.state == proctcp::ESTABLISHED && !socket.remote.is_loopback() {
                book.count(&socket.remote);
            }
        }
        let (fanout, dropped) = book.take(own, &mut self.peers);
        self.states = Some(states);
        self.fanout = Some(fanout);
        dropped
    }

    fn since(
        &mut self,
        boot: &Option<Nanos>,
        cpu: &CpuFacts,
        memory: &Memory,
        operations: &(Option<u64>, Option<u64>),
    ) {
        let Some(seconds) = boot.zip(self.boot).map(|(old, new)| (new - old) as f64 / SECOND as f64) else { return };
        if seconds <= 0.0 {
            return;
        }
        let grown = |new: Option<u64>, old: Option<u64>| Some(new?.checked_sub(old?)? as f64 / seconds);
        let both = |(reads, writes): (Option<u64>, Option<u64>)| Some(reads?.saturating_add(writes?));
        let refaults = |m: &MemoryFacts| Some(m.refault_file?.saturating_add(m.refault_anon.unwrap_or(0)));
        self.rates = Rates {
            user_cores: grown(self.cpu.user_ns, cpu.user_ns).map(|ns| ns / 1e9),
            refaults: grown(refaults(&self.memory.facts), refaults(&memory.facts)),
            operations: grown(both(self.operations), both(*operations)),
        };
    }

    /// CPU time, where the runtime tells none (`container stats` is there since 0.7); and when it was read.
    pub fn cpu_usage(&self) -> Option<(u64, Nanos)> {
        self.cpu.usage_ns.zip(self.boot)
    }

    /// Adds to what `container stats` told, which is newer: usage and limits stay as they are.
    pub fn fill(&self, facts: &mut ContainerFacts, interface: &Arc<str>) {
        let told = facts.memory;
        facts.memory = MemoryFacts {
            usage: told.usage.or(self.memory.facts.usage),
            limit: told.limit,
            allocated: told.allocated,
            kernel: self.memory.guest_kernel(told.allocated),
            // What the VM's process holds beyond what its guest uses.
            vm_overhead: facts.vm.host_memory.zip(self.memory.used).map(|(host, used)| host.saturating_sub(used)),
            refault_rate: self.rates.refaults,
            ..self.memory.facts
        };
        facts.vm.guest_used = self.memory.used;
        facts.cpu = CpuFacts {
            user_ns: self.cpu.user_ns,
            system_ns: self.cpu.system_ns,
            nr_periods: self.cpu.nr_periods,
            nr_throttled: self.cpu.nr_throttled,
            throttled_ns: self.cpu.throttled_ns,
            nr_bursts: self.cpu.nr_bursts,
            burst_ns: self.cpu.burst_ns,
            quota_us: self.cpu.quota_us,
            period_us: self.cpu.period_us,
            shares: self.cpu.shares,
            // The VM's CPUs are alike.
            cpuset_cpus: self.cpu.cpuset_cpus,
            user_rate_cores: self.rates.user_cores,
            ..facts.cpu
        };
        facts.pressure = self.pressure;
        facts.process = ProcessFacts { threads: facts.process.threads.or(self.process.threads), ..self.process };
        self.storage(facts);
        self.network(&mut facts.network, interface);
        let sockets = &mut facts.sockets;
        sockets.states = self.states;
        sockets.peers.extend_from_slice(&self.peers);
        sockets.fanout = self.fanout;
        sockets.rtt_median = self.rtt_median;
        if let Some(rtt) = &self.rtt {
            sockets.set_rtt(rtt);
        }
    }

    fn storage(&self, facts: &mut ContainerFacts) {
        let storage = &mut facts.storage;
        // A sum over the VM's disks, as that of the bytes.
        if storage.devices.is_empty() && self.bytes != (None, None) {
            let (read_bytes, write_bytes) = self.bytes;
            storage.devices.push(DeviceIo { read_bytes, write_bytes, ..DeviceIo::default() });
        }
        if let [sum] = storage.devices.as_mut_slice() {
            (sum.reads, sum.writes) = self.operations;
        }
        storage.logical_read_bytes = self.logical_read;
        storage.iops_rate = self.rates.operations;
        storage.queue_depth = self.disks.map(|d| d.in_flight);
        storage.latency.clone_from(&self.latency);
    }

    fn network(&self, network: &mut NetworkFacts, name: &Arc<str>) {
        if let Some(told) = &self.interface {
            if network.interfaces.is_empty() {
                network.interfaces.push(InterfaceFacts {
                    name: name.clone(),
                    rx_bytes: Some(told.rx_bytes),
                    tx_bytes: Some(told.tx_bytes),
                    ..InterfaceFacts::default()
                });
            }
            if let [sum] = network.interfaces.as_mut_slice() {
                sum.rx_packets = Some(told.rx_packets);
                sum.rx_errors = Some(told.rx_errors);
                sum.rx_dropped = Some(told.rx_dropped);
                sum.tx_packets = Some(told.tx_packets);
                sum.tx_errors = Some(told.tx_errors);
                sum.tx_dropped = Some(told.tx_dropped);
            }
        }
        network.tcp_out_segs = self.tcp.out_segs;
        network.tcp_retrans_segs = self.tcp.retrans_segs;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISKS: &str = "\
254 0 vda 10 0 80 20 0 0 0 0 0 20 20
254 16 vdb 100 0 800 200 50 0 400 500 3 700 700
254 17 vdb1 100 0 800 200 50 0 400 500 3 700 700
7 0 loop0 9 0 9 9 9 9 9 9 9 9 9
";

    #[test]
    fn what_the_guest_compresses_is_told() {
        let mut inner = Inner::default();
        let mut facts = ContainerFacts::default();
        let guest = Guest::of(SECOND, &[(File::MemoryStat, "anon 9000\nzswap 1000\nzswapped 3000\n")]);
        inner.take(&guest, &mut AddressBook::default(), "web");
        inner.fill(&mut facts, &"eth0".into());
        assert_eq!((facts.memory.zswap, facts.memory.zswapped), (Some(1000), Some(3000)));
    }

    #[test]
    fn disks_are_summed_once() {
        assert_eq!(
            Disks::of(DISKS.as_bytes()),
            Some(Disks { reads: 110, read_ms: 220, writes: 50, write_ms: 500, in_flight: 3 })
        );
        assert_eq!(Disks::of(b"8 0 sda 1 2 3 4 5 6 7 8 9 10 11\n"), None);
    }

    #[test]
    fn latency_counts_requests_between_answers_at_their_mean() {
        let mut inner = Inner::default();
        let mut facts = ContainerFacts::default();
        let mut at = |seconds: i64, disks: &str| {
            let guest = Guest::of(seconds * SECOND, &[(File::Diskstats, disks)]);
            inner.take(&guest, &mut AddressBook::default(), "web");
            inner.fill(&mut facts, &"eth0".into());
            facts.storage.latency.as_ref().map(|l| [(l[0].count, l[0].sum), (l[1].count, l[1].sum)])
        };
        assert_eq!(at(0, DISKS), Some([(0, 0.0), (0, 0.0)]), "what was before the first answer is no observation");
        let more = "254 16 vdb 210 0 800 420 60 0 400 620 0 700 700\n";
        // 100 reads took 200 ms, 10 writes 120 ms.
        let [(reads, read), (writes, written)] = at(10, more).unwrap();
        assert_eq!((reads, writes), (100, 10));
        assert!((read - 0.2).abs() < 1e-9 && (written - 0.12).abs() < 1e-9, "{read} {written}");
        assert_eq!(at(20, more).unwrap()[0].0, 100, "nothing was done");
        assert_eq!(at(30, DISKS).unwrap()[0].0, 100, "counters begin anew with each boot");
    }

    #[test]
    fn connections_have_states_and_peers_and_rates_are_between_answers() {
        let mut book = AddressBook::default();
        book.add(&"db".into(), &["192.168.64.3".parse().unwrap()]);
        let tcp = "titles\n 0: 0240A8C0:0050 0340A8C0:C350 01\n 1: 0240A8C0:0050 00000000:0000 0A\n";
        let (mut inner, mut facts) = (Inner::default(), ContainerFacts::default());
        for (seconds, user) in [(0, "user_usec 1000000\n"), (10, "user_usec 6000000\n")] {
            let told = [(File::Tcp, tcp), (File::CpuStat, user)];
            inner.take(&Guest::of(seconds * SECOND, &told), &mut book, "web");
        }
        inner.fill(&mut facts, &"eth0".into());
        assert_eq!(facts.sockets.states.map(|s| (s[1], s[10])), Some((1, 1)));
        assert_eq!((facts.sockets.peers, facts.sockets.fanout), (vec![("db".into(), 1)], Some(1)));
        assert_eq!(facts.cpu.user_rate_cores, Some(0.5));
        assert!(facts.sockets.rtt.is_none(), "no file tells");
    }
}
