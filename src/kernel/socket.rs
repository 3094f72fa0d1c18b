//! The reader of TCP sockets: one dump a network namespace, over a socket that was opened in it once.
//!
//! For a dump the kernel walks through the whole machine's sockets, whatever the namespace has: it costs more than all of a
//! container's files together. Where nothing was sent or received since the last one, and no socket came or went, that
//! one's facts still hold.

use std::net::IpAddr;
use std::sync::Arc;

use super::file::{KernelFile, Share};
use super::netlink::Answers;
use super::netns::{self, Spaces};
use super::peers::{self, AddressBook};
use super::sockdiag::{self, ESTABLISHED, SockDiag};
use super::{Context, Reader, sockstat};
use crate::catalog::{self, Collector, RTT_BUCKETS};
use crate::probe::Capabilities;
use crate::root::{ReadError, Root};
use crate::runtime::Container;
use crate::sample::Histogram;
use crate::snapshot::{ContainerFacts, NetworkFacts, Snapshot, SocketFacts};

const COLLECTOR: Collector = Collector::Socket;

#[derive(Default)]
pub struct Sockets {
    spaces: Spaces<Source>,
    /// The containers that `book` was made of.
    listed: Vec<Arc<Container>>,
    book: AddressBook,
    /// How often it was written: names of peers hold for one book.
    books: u64,
    answers: Answers,
}

struct Source {
    pid: u32,
    /// `sockstat`, `sockstat6`; None where there is no such file.
    counts: [Option<KernelFile>; 2],
    last: Dump,
    /// None over the descriptor budget: opened each time then.
    kept: Option<(SockDiag, Share)>,
    addresses: Vec<IpAddr>,
    peer_name: Arc<str>,
    rtt: Histogram,
}

/// What the last dump told, and what held then.
#[derive(Default)]
struct Dump {
    of: Option<Quiet>,
    states: [u32; 12],
    /// Round-trip times in microseconds.
    rtts: Vec<u32>,
    peers: Vec<(Arc<str>, u32)>,
    fanout: u32,
    /// Peers that were left out.
    dropped: u64,
}

/// As long as none of it changes, no socket does.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Quiet {
    segments: (u64, u64),
    sockets: [Option<sockstat::Tcp>; 2],
    book: u64,
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
        self.books += 1;
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
        let Self { spaces, book, books, answers, .. } = self;
        for (facts, &slot) in snapshot.containers.iter_mut().zip(slots) {
            let Some(source) = spaces.speaker(slot) else { continue };
            let quiet = source.quiet(&facts.network, *books, ctx);
            if quiet.is_none() || quiet != source.last.of {
                source.last.of = None;
                if let Err(e) = source.dump(book, answers, ctx) {
                    tell(ctx.capabilities, Err(e));
                    ctx.failed(COLLECTOR, e);
                    continue;
                }
                source.last.of = quiet;
            }
            source.fill(&mut facts.sockets);
            let dropped = source.last.dropped;
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
        let counts = ["net/sockstat", "net/sockstat6"]
            .map(|name| KernelFile::open(&netns::proc_path(ctx.root, pid, name), ctx.budget).ok());
        let rtt = Histogram::new(RTT_BUCKETS);
        Ok(Self { pid, counts, last: Dump::default(), kept, addresses, peer_name, rtt })
    }

    /// None where not all of it is known.
    fn quiet(&self, network: &NetworkFacts, book: u64, ctx: &mut Context<'_>) -> Option<Quiet> {
        let segments = (network.tcp_in_segs?, network.tcp_out_segs?);
        let mut sockets = [None; 2];
        for (file, count) in self.counts.iter().zip(&mut sockets) {
            if let Some(file) = file {
                *count = Some(sockstat::parse(file.read(ctx.buf).ok()?)?);
            }
        }
        sockets[0].map(|_| Quiet { segments, sockets, book })
    }

    fn dump(&mut self, book: &mut AddressBook, answers: &mut Answers, ctx: &Context<'_>) -> Result<(), ReadError> {
        let mut passing;
        let diag = match &mut self.kept {
            Some((diag, _)) => diag,
            None => {
                passing = open_inside(ctx.root, ctx.capabilities, self.pid, answers)??.0;
                &mut passing
            }
        };
        let Dump { states, rtts, peers, fanout, dropped, .. } = &mut self.last;
        *states = [0; 12];
        rtts.clear();
        peers.clear();
        let dumped = diag.tcp(answers, |socket| {
            states[socket.state] += 1;
            // Over loopback a container talks to itself: that is no latency of a network.
            if socket.state == ESTABLISHED && !socket.remote.is_loopback() {
                book.count(&socket.remote);
                rtts.extend(socket.rtt_us);
            }
        });
        (*fanout, *dropped) = book.take(&self.peer_name, peers);
        dumped
    }

    /// Each established socket is one observation a collection.
    fn fill(&mut self, facts: &mut SocketFacts) {
        let last = &mut self.last;
        for rtt in &last.rtts {
            self.rtt.observe(seconds(*rtt));
        }
        facts.states = Some(last.states);
        facts.fanout = Some(last.fanout);
        facts.peers.extend_from_slice(&last.peers);
        facts.rtt_median = median(&mut last.rtts).map(seconds);
        facts.set_rtt(&self.rtt);
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
