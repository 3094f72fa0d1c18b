//! The reader of network counters: each network namespace once, through files that stay open.

use std::sync::Arc;

use super::ethtool::{Ethtool, Link};
use super::file::KernelFile;
use super::netdev::{self, Counters};
use super::netns::{self, Spaces};
use super::{Context, RATE_STEP, Reader, snmp};
use crate::catalog::Collector;
use crate::root::{Nanos, ReadError, SECOND};
use crate::runtime::Container;
use crate::snapshot::{InterfaceFacts, NetworkFacts, Snapshot};

const COLLECTOR: Collector = Collector::Network;

#[derive(Default)]
pub struct Network {
    spaces: Spaces<Source>,
}

struct Source {
    pid: u32,
    dev: KernelFile,
    snmp: Option<KernelFile>,
    /// In the order of the file, ignored ones left out.
    known: Vec<Interface>,
    last: Option<Sum>,
}

struct Interface {
    name: Arc<str>,
    link: Option<Link>,
}

/// All interfaces together at one moment.
#[derive(Clone, Copy)]
struct Sum {
    at: Nanos,
    rx: u64,
    tx: u64,
}

impl Reader for Network {
    fn open(&mut self, slot: usize, container: &Arc<Container>, ctx: &mut Context<'_>) {
        if let Err(e) = self.spaces.open(slot, container, ctx, |pid| Source::open(pid, ctx)) {
            ctx.failed(COLLECTOR, e);
        }
    }

    fn close(&mut self, slot: usize) {
        self.spaces.close(slot);
    }

    fn read(&mut self, snapshot: &mut Snapshot, slots: &[usize], ctx: &mut Context<'_>) {
        let at = snapshot.boot;
        for (facts, &slot) in snapshot.containers.iter_mut().zip(slots) {
            if let Some(Err(e)) = self.spaces.retry(slot, &facts.container, ctx, |pid| Source::open(pid, ctx)) {
                ctx.failed(COLLECTOR, e);
            }
            if let Some(source) = self.spaces.speaker(slot) {
                source.read(&mut facts.network, facts.container.identity.id == "/", at, ctx);
            }
        }
    }
}

impl Source {
    fn open(pid: u32, ctx: &Context<'_>) -> Result<Self, ReadError> {
        let file = |name| KernelFile::open(&netns::proc_path(ctx.root, pid, name), ctx.budget);
        let (dev, snmp) = (file("net/dev")?, file("net/snmp").ok());
        Ok(Self { pid, dev, snmp, known: Vec::new(), last: None })
    }

    fn read(&mut self, facts: &mut NetworkFacts, host: bool, at: Nanos, ctx: &mut Context<'_>) {
        if let Err(e) = self.read_interfaces(facts, host, ctx) {
            ctx.failed(COLLECTOR, e);
        }
        if let Some(file) = &self.snmp {
            match file.read(ctx.buf).and_then(|bytes| snmp::parse(bytes).ok_or(ReadError::Malformed)) {
                Ok(tcp) => {
                    facts.tcp_in_segs = tcp.in_segs;
                    facts.tcp_out_segs = tcp.out_segs;
                    facts.tcp_retrans_segs = tcp.retrans_segs;
                }
                Err(e) => ctx.failed(COLLECTOR, e),
            }
        }
        self.rate(facts, at);
    }

    fn read_interfaces(
        &mut self,
        facts: &mut NetworkFacts,
        host: bool,
        ctx: &mut Context<'_>,
    ) -> Result<(), ReadError> {
        let mut outcome = Ok(());
        let mut changed = false;
        for line in netdev::parse(self.dev.read_records(ctx.buf)?) {
            let (name, counters) = match line {
                Ok((name, _)) if netdev::ignored(name) => continue,
                Ok(line) => line,
                Err(e) => {
                    outcome = Err(e);
                    continue;
                }
            };
            let place = facts.interfaces.len();
            if self.known.get(place).is_none_or(|i| *i.name != *name) {
                self.known.truncate(place);
                self.known.push(Interface { name: name.into(), link: None });
                changed = true;
            }
            facts.interfaces.push(interface(self.known[place].name.clone(), &counters));
        }
        self.known.truncate(facts.interfaces.len());
        if changed {
            self.ask_links(ctx);
        }
        let configured = ctx.config.network.link_speed;
        for (fact, known) in facts.interfaces.iter_mut().zip(&self.known) {
            fact.speed_bytes_per_second = speed(known.link, configured, host);
        }
        outcome
    }

    /// Once for each interface that comes: a link's speed seldom changes, and asking takes a thread in the namespace.
    fn ask_links(&mut self, ctx: &Context<'_>) {
        let known = &mut self.known;
        let asked = netns::inside(ctx.root, ctx.capabilities, self.pid, || {
            let Ok(ethtool) = Ethtool::open() else { return };
            for interface in known {
                interface.link = ethtool.link(&interface.name);
            }
        });
        if let Err(e) = asked {
            tracing::debug!(pid = self.pid, error = %e, "link speeds can't be asked for");
        }
    }

    /// Bytes a second since the collection before.
    fn rate(&mut self, facts: &mut NetworkFacts, at: Nanos) {
        if facts.interfaces.is_empty() {
            return;
        }
        let total = |count: fn(&InterfaceFacts) -> Option<u64>| facts.interfaces.iter().filter_map(count).sum();
        let now = Sum { at, rx: total(|i| i.rx_bytes), tx: total(|i| i.tx_bytes) };
        let Some(last) = self.last else {
            self.last = Some(now);
            return;
        };
        if at - last.at >= RATE_STEP {
            self.last = Some(now);
            let seconds = (at - last.at) as f64 / SECOND as f64;
            // An interface that was taken away takes its count along: no rate then.
            let rate = |now: u64, last: u64| Some(now.checked_sub(last)? as f64 / seconds);
            facts.rx_rate = rate(now.rx, last.rx);
            facts.tx_rate = rate(now.tx, last.tx);
        }
    }
}

fn interface(name: Arc<str>, c: &Counters) -> InterfaceFacts {
    InterfaceFacts {
        name,
        rx_bytes: Some(c.rx_bytes),
        rx_packets: Some(c.rx_packets),
        rx_errors: Some(c.rx_errors),
        rx_dropped: Some(c.rx_dropped),
        tx_bytes: Some(c.tx_bytes),
        tx_packets: Some(c.tx_packets),
        tx_errors: Some(c.tx_errors),
        tx_dropped: Some(c.tx_dropped),
        speed_bytes_per_second: None,
    }
}

/// What the driver says, else what is configured. For a veth the configured speed, that of the real link beneath, comes
/// first; for the host's own interfaces there is none beneath.
fn speed(link: Option<Link>, configured: Option<u64>, host: bool) -> Option<u64> {
    match link {
        Some(link) if !link.nominal || host => Some(link.bytes_per_second),
        Some(link) => configured.or(Some(link.bytes_per_second)),
        None => configured,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_speed_stands_beneath_a_veth_and_for_what_has_none() {
        let real = Some(Link { bytes_per_second: 125_000_000, nominal: false });
        let veth = Some(Link { bytes_per_second: 1_250_000_000, nominal: true });
        assert_eq!(speed(real, Some(7), false), Some(125_000_000));
        assert_eq!(speed(veth, Some(7), false), Some(7));
        assert_eq!(speed(veth, None, false), Some(1_250_000_000));
        assert_eq!(speed(None, Some(7), true), Some(7));
        assert_eq!(speed(None, None, true), None);
    }
}
