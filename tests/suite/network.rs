//! Network facts against a real kernel: two network namespaces, a link between them, and a connection over it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kina_exporter::catalog::{self, Collector};
use kina_exporter::root::Root;
use kina_exporter::runtime::Container;

use crate::collected::{Collected, Collecting, container};
use crate::common::skip;
use crate::live::{is_root, wait_for, which};

/// A process in a network namespace of its own.
struct Space(Child);

impl Space {
    fn new() -> Space {
        let child = Command::new("unshare").args(["--net", "sleep", "600"]).stdin(Stdio::null()).spawn().unwrap();
        let space = Space(child);
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        wait_for("a network namespace", Duration::from_secs(10), || {
            let its = std::fs::read_link(format!("/proc/{}/ns/net", space.pid())).ok()?;
            let comm = std::fs::read_to_string(format!("/proc/{}/comm", space.pid())).ok()?;
            (its != own && comm.trim() == "sleep").then_some(())
        });
        space.ip(&["link", "set", "lo", "up"]);
        space
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    #[track_caller]
    fn ip(&self, args: &[&str]) {
        let pid = self.pid().to_string();
        let status = Command::new("nsenter").args(["-n", "-t", &pid, "ip"]).args(args).status().unwrap();
        assert!(status.success(), "ip {args:?}");
    }

    /// Runs `f` in the namespace.
    fn inside<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let ns = std::fs::File::open(format!("/proc/{}/ns/net", self.pid())).unwrap();
        std::thread::scope(|scope| {
            let enter = || {
                // SAFETY: setns touches no memory of ours.
                assert_eq!(unsafe { libc::setns(ns.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
                f()
            };
            scope.spawn(enter).join().unwrap()
        })
    }

    /// A column of `eth0` in the kernel's own words.
    fn column(&self, at: usize) -> f64 {
        let dev = std::fs::read_to_string(format!("/proc/{}/net/dev", self.pid())).unwrap();
        let line = dev.lines().find_map(|l| l.trim().strip_prefix("eth0:")).unwrap();
        line.split_whitespace().nth(at).unwrap().parse().unwrap()
    }

    /// `OutSegs` and `RetransSegs`.
    fn segments(&self) -> (f64, f64) {
        let snmp = std::fs::read_to_string(format!("/proc/{}/net/snmp", self.pid())).unwrap();
        let tcp: Vec<&str> = snmp.lines().filter(|l| l.starts_with("Tcp:")).nth(1).unwrap().split(' ').collect();
        (tcp[11].parse().unwrap(), tcp[12].parse().unwrap())
    }

    fn container(&self, name: &str) -> Container {
        Container { pid: self.pid(), ..container(name) }
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const A: &str = "10.213.0.1";
const B: &str = "10.213.0.2";

/// Two namespaces with a link between them, `eth0` at both ends.
fn linked() -> Option<(Space, Space)> {
    if !is_root() {
        skip("network namespaces are made by root alone");
        return None;
    }
    if let Some(missing) = ["unshare", "nsenter", "ip"].into_iter().find(|p| which(p).is_none()) {
        skip(&format!("{missing} is not installed"));
        return None;
    }
    let (a, b) = (Space::new(), Space::new());
    let far = b.pid().to_string();
    a.ip(&["link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", &far]);
    for (space, address) in [(&a, A), (&b, B)] {
        space.ip(&["addr", "add", &format!("{address}/24"), "dev", "eth0"]);
        space.ip(&["link", "set", "eth0", "up"]);
    }
    Some((a, b))
}

/// A connection from `a` to `b`, both ends.
fn connect(a: &Space, b: &Space, address: &str) -> (TcpStream, TcpStream) {
    let listener = b.inside(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
    let port = listener.local_addr().unwrap().port();
    let near = a.inside(|| wait_for("the link", Duration::from_secs(10), || TcpStream::connect((address, port)).ok()));
    (near, listener.accept().unwrap().0)
}

struct Exporter(Collecting);

impl Exporter {
    fn of(containers: Vec<Container>) -> Exporter {
        Exporter(Collecting::of(Root::default(), containers))
    }

    fn scrape(&self) -> Collected {
        let collected = self.0.collect();
        collected.succeeded(Collector::Network);
        collected.succeeded(Collector::Socket);
        collected
    }
}

fn has_sock_diag(scrape: &Collected) -> bool {
    scrape.value(catalog::CAPABILITY, &[("capability", "sock_diag")]) == Some(1.0)
        || skip("this kernel has no socket diagnostics")
}

#[test]
fn counters_and_link_speed_are_the_kernels_own() {
    let Some((a, b)) = linked() else { return };
    let (mut near, mut far) = connect(&a, &b, B);
    near.write_all(&[7; 300_000]).unwrap();
    far.read_exact(&mut [0; 300_000]).unwrap();
    let exporter = Exporter::of(vec![a.container("a"), b.container("b")]);
    // Acknowledgements may still be on their way at first.
    let scrape = wait_for("a still moment", Duration::from_secs(10), || {
        let before = (a.column(0), a.column(8), a.segments());
        let scrape = exporter.scrape();
        (before == (a.column(0), a.column(8), a.segments())).then_some(scrape)
    });
    let eth0 = [("name", "a"), ("interface", "eth0")];
    let columns = [
        (catalog::NET_RX_BYTES, 0),
        (catalog::NET_RX_PACKETS, 1),
        (catalog::NET_RX_ERRORS, 2),
        (catalog::NET_RX_DROPPED, 3),
        (catalog::NET_TX_BYTES, 8),
        (catalog::NET_TX_PACKETS, 9),
        (catalog::NET_TX_ERRORS, 10),
        (catalog::NET_TX_DROPPED, 11),
    ];
    for (family, at) in columns {
        assert_eq!(scrape.must(family, &eth0), a.column(at), "{}", family.name());
    }
    assert!(scrape.must(catalog::NET_TX_BYTES, &eth0) > 300_000.0);
    assert_eq!(scrape.must(catalog::TCP_SENT_SEGMENTS, &[("name", "a")]), a.segments().0);
    assert_eq!(scrape.must(catalog::TCP_RETRANSMITTED_SEGMENTS, &[("name", "a")]), a.segments().1);
    assert_eq!(scrape.must(catalog::NET_LINK_SPEED, &eth0), 1.25e9, "a veth says 10 Gb/s");
    assert_eq!(scrape.value(catalog::NET_RX_BYTES, &[("name", "a"), ("interface", "lo")]), None);
}

#[test]
fn an_interface_that_comes_later_is_there_and_one_that_goes_is_not() {
    let Some((a, b)) = linked() else { return };
    let exporter = Exporter::of(vec![a.container("a")]);
    exporter.scrape();
    a.ip(&["link", "add", "extra", "type", "veth", "peer", "name", "extra", "netns", &b.pid().to_string()]);
    let extra = [("name", "a"), ("interface", "extra")];
    assert!(exporter.scrape().value(catalog::NET_LINK_SPEED, &extra).is_some());
    a.ip(&["link", "del", "extra"]);
    let scrape = exporter.scrape();
    assert_eq!(scrape.value(catalog::NET_RX_BYTES, &extra), None);
    assert!(scrape.value(catalog::NET_RX_BYTES, &[("name", "a"), ("interface", "eth0")]).is_some());
}

#[test]
fn a_shared_namespace_is_counted_once_and_the_hosts_not_at_all() {
    let Some((a, _b)) = linked() else { return };
    let mut guest = a.container("guest");
    guest.identity.id = "/0-before-the-sandbox".into();
    guest.shares_network_of = Some("sandbox".into());
    let mut on_host = a.container("on-host");
    on_host.pid = std::process::id();
    let exporter = Exporter::of(vec![guest, a.container("sandbox"), on_host]);
    let scrape = exporter.scrape();
    let has = |name| {
        let facts = scrape.facts(name);
        (!facts.network.interfaces.is_empty(), facts.sockets.states.is_some())
    };
    let diag = scrape.value(catalog::CAPABILITY, &[("capability", "sock_diag")]) == Some(1.0);
    assert_eq!(has("sandbox"), (true, diag));
    assert_eq!(has("guest"), (false, false));
    let inode = |process: &str| std::fs::metadata(format!("/proc/{process}/net/dev")).map(|m| m.ino()).ok();
    if inode("1") == inode("self") {
        assert_eq!(has("on-host"), (false, false));
    }
}

#[test]
fn sockets_are_told_by_state_round_trip_time_and_peer() {
    let Some((a, b)) = linked() else { return };
    let mut connections: Vec<_> = (0..3).map(|_| connect(&a, &b, B)).collect();
    for (near, far) in &mut connections {
        near.write_all(b"ping").unwrap();
        far.read_exact(&mut [0; 4]).unwrap();
    }
    let _listener = a.inside(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    // A container that talks to itself has no peer, and its loopback no latency.
    let _own = connect(&a, &a, A);
    let exporter = Exporter::of(vec![a.container("a"), b.container("b")]);
    let scrape = exporter.scrape();
    if !has_sock_diag(&scrape) {
        return;
    }
    for (name, established, listening) in [("a", 5.0, 1.0), ("b", 3.0, 0.0)] {
        let state = |state| scrape.must(catalog::TCP_CONNECTIONS, &[("name", name), ("state", state)]);
        assert_eq!((state("established"), state("listen"), state("closing")), (established, listening, 0.0), "{name}");
        let cadvisor = [("name", name), ("tcp_state", "established")];
        assert_eq!(scrape.must(catalog::NETWORK_TCP_USAGE, &cadvisor), established);
    }
    assert_eq!(scrape.must(catalog::PEER_CONNECTIONS, &[("name", "a"), ("peer", "b")]), 3.0);
    assert_eq!(scrape.must(catalog::PEER_CONNECTIONS, &[("name", "b"), ("peer", "a")]), 3.0);
    assert_eq!(scrape.must(catalog::NETWORK_FANOUT, &[("name", "a")]), 1.0);
    let rtt = scrape.facts("a").sockets.rtt.clone().unwrap();
    assert!(rtt.count >= 3 && rtt.sum / (rtt.count as f64) < 0.1, "{rtt:?}");
    assert!(scrape.facts("a").sockets.rtt_median.is_some_and(|m| m > 0.0 && m < 0.1));

    drop(connections);
    let later = exporter.scrape();
    assert_eq!(later.value(catalog::PEER_CONNECTIONS, &[("name", "a"), ("peer", "b")]), None);
    assert_eq!(later.must(catalog::NETWORK_FANOUT, &[("name", "a")]), 0.0);
    assert!(later.facts("a").sockets.rtt.as_ref().unwrap().count >= rtt.count, "it accumulates");
}

#[test]
fn a_link_that_drops_shows_as_retransmissions() {
    let Some((a, b)) = linked() else { return };
    let (mut near, _far) = connect(&a, &b, B);
    let exporter = Exporter::of(vec![a.container("a")]);
    let before = exporter.scrape().must(catalog::TCP_RETRANSMITTED_SEGMENTS, &[("name", "a")]);
    b.ip(&["link", "set", "eth0", "down"]);
    near.write_all(&[7; 1000]).unwrap();
    let after = wait_for("retransmissions", Duration::from_secs(20), || {
        let kernel = a.segments().1;
        let scrape = exporter.scrape();
        let value = scrape.must(catalog::TCP_RETRANSMITTED_SEGMENTS, &[("name", "a")]);
        assert!(value >= kernel);
        (value >= before + 2.0).then_some(value)
    });
    assert!(after <= a.segments().1);
}

#[test]
fn hundreds_of_sockets_are_read_to_the_last() {
    let Some((a, b)) = linked() else { return };
    let connections: Vec<_> = (0..400).map(|_| connect(&a, &b, B)).collect();
    let exporter = Exporter::of(vec![a.container("a"), b.container("b")]);
    let scrape = exporter.scrape();
    if !has_sock_diag(&scrape) {
        return;
    }
    assert_eq!(scrape.must(catalog::PEER_CONNECTIONS, &[("name", "b"), ("peer", "a")]), connections.len() as f64);
}
