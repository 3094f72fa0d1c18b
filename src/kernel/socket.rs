//! The reader of TCP sockets: one dump a network namespace, over a socket that was opened in it once.

use std::net::IpAddr;
use std::sync::Arc;

use super::file::Share;
use super::netlink::Answers;
use super::netns::{self, Spaces};
use super::peers::{self, AddressBook};
use super::sockdiag::{self, ESTABLISHED, SockDiag};
use super::{Context, Reader};
use crate::catalog::{self, Collector, RTT_BUCKETS};
use crate::probe::Capabilities;
use crate::root::{ReadError, Root};
use crate::runtime::Container;
use crate::sample::Histogram;
use crate::snapshot::{ContainerFacts, Snapshot, SocketFacts};

const COLLECTOR: Collector = Collector::Socket;

#[derive(Default)]
pub struct Sockets {
    spaces: Spaces<Source>,
    /// The containers that `book` was made of.
    listed: Vec<Arc<Container>>,
    book: AddressBook,
    answers: Answers,
    /// Round-trip times of the dump at hand, in microseconds.
    rtts: Vec<u32>,
}

struct Source {
    pid: u32,
    /// None over the descriptor budget: opened each time then.
    kept: Option<(SockDiag, Share)>,
    addresses: Vec<IpAddr>,
    peer_name: Arc<str>,
    rtt: Histogram,
}

/// A namespace that refuses is no failure: `kina_capability` tells.
fn judge(opened: Result<(), ReadError>, ctx: &mut Context<'_>) {
    if let Err(e) = opened
        && e != ReadError::Denied
    {
        ctx.failed(COLLECTOR, e);
    }
}

impl Sockets {
    fn follow(&mut self, snapshot: &Snapshot, slots: &[usize], ctx: &mut Context<'_>) {
        for (facts, &slot) in snapshot.containers.iter().zip(slots) {
            let (container, answers) = (&facts.container, &mut self.answers);
            let tried = self.spaces.retry(slot, container, ctx, |pid| Source::open(pid, container, answers, ctx));
            if let Some(opened) = tried {
                judge(opened, ctx);
                self.listed.clear();
            }
        }
        let same = |(old, new): (&Arc<Container>, &ContainerFacts)| Arc::ptr_eq(old, &new.container);
        if self.listed.len() != snapshot.containers.len() || !self.listed.iter().zip(&snapshot.containers).all(same) {
            self.write_book(snapshot, slots);
        }
    }

    fn write_book(&mut self, snapshot: &Snapshot, slots: &[usize]) {
        self.book.clear();
        self.listed.clear();
        for (facts, &slot) in snapshot.containers.iter().zip(slots) {
            let container = &facts.container;
            self.listed.push(container.clone());
            if container.identity.id == "/" || container.host_network {
                continue;
            }
            if let Some(source) = self.spaces.speaker(slot) {
                self.book.add(&source.peer_name, &source.addresses);
                self.book.add(&source.peer_name, &container.addresses);
            } else if !self.spaces.is_open(slot) {
                self.book.add(&peers::name(&container.identity), &container.addresses);
            }
        }
    }
}

impl Reader for Sockets {
    fn open(&mut self, slot: usize, container: &Arc<Container>, ctx: &mut Context<'_>) {
        let answers = &mut self.answers;
        let opened = self.spaces.open(slot, container, ctx, |pid| Source::open(pid, container, answers, ctx));
        judge(opened, ctx);
        self.listed.clear();
    }

    fn close(&mut self, slot: usize) {
        self.spaces.close(slot);
        self.listed.clear();
    }

    fn read(&mut self, snapshot: &mut Snapshot, slots: &[usize], ctx: &mut Context<'_>) {
        self.follow(snapshot, slots, ctx);
        let Self { spaces, book, answers, rtts, .. } = self;
        for (facts, &slot) in snapshot.containers.iter_mut().zip(slots) {
            let Some(source) = spaces.speaker(slot) else {
                facts.sockets.rtt = None;
                continue;
            };
            let dropped = match source.read(&mut facts.sockets, book, answers, rtts, ctx) {
                Ok(dropped) => dropped,
                Err(e) => {
                    tell(ctx.capabilities, Err(e));
                    ctx.failed(COLLECTOR, e);
                    continue;
                }
            };
            if facts.container.identity.id == "/" {
                // The host is not among the containers that talk to each other.
                facts.sockets.peers.clear();
                facts.sockets.fanout = None;
            } else if dropped > 0 {
                ctx.held.add(catalog::DROPPED_SERIES, &["peers"], dropped);
            }
        }
    }
}

impl Source {
    fn open(pid: u32, container: &Container, answers: &mut Answers, ctx: &Context<'_>) -> Result<Self, ReadError> {
        let opened = open_inside(ctx.root, ctx.capabilities, pid, answers)?;
        tell(ctx.capabilities, opened.as_ref().map(|_| ()).map_err(|e| *e));
        let (diag, addresses) = opened?;
        let kept = ctx.budget.take().map(|share| (diag, share));
        let peer_name = peers::name(&container.identity);
        Ok(Self { pid, kept, addresses, peer_name, rtt: Histogram::new(RTT_BUCKETS) })
    }

    /// Returns how many peers were left out.
    fn read(
        &mut self,
        facts: &mut SocketFacts,
        book: &mut AddressBook,
        answers: &mut Answers,
        rtts: &mut Vec<u32>,
        ctx: &Context<'_>,
    ) -> Result<u64, ReadError> {
        let mut passing;
        let diag = match &mut self.kept {
            Some((diag, _)) => diag,
            None => {
                passing = open_inside(ctx.root, ctx.capabilities, self.pid, answers)??.0;
                &mut passing
            }
        };
        let mut states = [0u32; 12];
        rtts.clear();
        let dumped = diag.tcp(answers, |socket| {
            states[socket.state] += 1;
            // Over loopback a container talks to itself: that is no latency of a network.
            if socket.state == ESTABLISHED && !socket.remote.is_loopback() {
                book.count(&socket.remote);
                rtts.extend(socket.rtt_us);
            }
        });
        let (fanout, dropped) = book.take(&self.peer_name, &mut facts.peers);
        if let Err(e) = dumped {
            facts.peers.clear();
            facts.rtt = None;
            return Err(e);
        }
        for rtt in rtts.iter() {
            self.rtt.observe(seconds(*rtt));
        }
        facts.states = Some(states);
        facts.fanout = Some(fanout);
        facts.rtt_median = median(rtts).map(seconds);
        facts.rtt.get_or_insert_default().copy_from(&self.rtt);
        Ok(dropped)
    }
}

type Opened = Result<(SockDiag, Vec<IpAddr>), ReadError>;

/// Opens the socket and asks for a first dump, so that a kernel without `inet_diag` is told at once.
fn open_inside(root: &Root, capabilities: &Capabilities, pid: u32, answers: &mut Answers) -> Result<Opened, ReadError> {
    netns::inside(root, capabilities, pid, || {
        let mut diag = SockDiag::open()?;
        diag.tcp(answers, |_| {})?;
        Ok((diag, sockdiag::addresses(answers)?))
    })
}

fn tell(capabilities: &Capabilities, outcome: Result<(), ReadError>) {
    match outcome {
        Ok(()) => capabilities.yes("sock_diag"),
        Err(ReadError::Absent | ReadError::Io(libc::EPROTONOSUPPORT)) => {
            capabilities.no("sock_diag", "CONFIG_INET_DIAG is off, or its module can't be loaded");
        }
        Err(ReadError::Denied) => capabilities.no("sock_diag", "a security module forbids netlink sock_diag"),
        Err(_) => {}
    }
}

fn seconds(microseconds: u32) -> f64 {
    f64::from(microseconds) / 1e6
}

/// The middle one, the lower of two; changes the order.
fn median(values: &mut [u32]) -> Option<u32> {
    let middle = values.len().checked_sub(1)? / 2;
    Some(*values.select_nth_unstable(middle).1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(&mut []), None);
        assert_eq!(median(&mut [9]), Some(9));
        assert_eq!(median(&mut [9, 1, 5]), Some(5));
        assert_eq!(median(&mut [4, 9, 1, 5]), Some(4));
    }
}
