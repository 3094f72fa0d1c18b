//! Network facts against a real kernel: two network namespaces, a link between them, and a connection over it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use kina_exporter::catalog::{self, Collector};
use kina_exporter::config::Config;
use kina_exporter::held::Held;
use kina_exporter::kernel::cgroups::Cgroups;
use kina_exporter::kernel::file::Budget;
use kina_exporter::kernel::{self, Context};
use kina_exporter::probe::Capabilities;
use kina_exporter::root::{ReadBuf, Root, SECOND};
use kina_exporter::runtime::Container;
use kina_exporter::sample::{Entity, Samples};
use kina_exporter::snapshot::{ContainerFacts, Snapshot};

use crate::collected::{Collected, Collecting, container};
use crate::common::{self, skip};
use crate::live::{is_root, wait_for, which};
use crate::vm::Guest;

/// A process in a network namespace of its own.
struct Space(Child);

impl Space {
    fn new() -> Space {
        let child = Command::new("unshare").args(["--net", "sleep", "600"]).stdin(Stdio::null()).spawn().unwrap();
        let space = Space(child);
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        wait_for("a network namespace", || {
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
    let near = a.inside(|| wait_for("the link", || TcpStream::connect((address, port)).ok()));
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
    let scrape = wait_for("a still moment", || {
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
fn what_changes_in_a_namespace_at_rest_is_seen() {
    let Some((a, b)) = linked() else { return };
    let exporter = Exporter::of(vec![a.container("a"), b.container("b")]);
    if !has_sock_diag(&exporter.scrape()) {
        return;
    }
    let in_state = |state| exporter.scrape().must(catalog::TCP_CONNECTIONS, &[("name", "a"), ("state", state)]);
    let (near, far) = connect(&a, &b, B);
    let still = |state, n| wait_for(state, || (in_state(state) == n).then_some(()));
    still("established", 1.0);
    let observed = || exporter.scrape().facts("a").sockets.rtt.as_ref().unwrap().counts.iter().sum::<u64>();
    // Nothing is sent, and the socket is observed with each collection all the same.
    let first = observed();
    assert_eq!(observed(), first + 1);
    // Nobody is told of a socket that listens: no segment is sent.
    let listener = a.inside(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
    assert_eq!((in_state("listen"), in_state("established")), (1.0, 1.0));
    drop(listener);
    assert_eq!((in_state("listen"), in_state("established")), (0.0, 1.0));
    drop((near, far));
    still("established", 0.0);
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
fn a_guest_speaks_when_the_sandbox_is_gone_and_nothing_stays_open_after_both() {
    let Some((a, _b)) = linked() else { return };
    let mut guest = a.container("guest");
    guest.shares_network_of = Some("sandbox".into());
    let exporter = Exporter::of(vec![guest.clone(), a.container("sandbox")]);
    let counted = |name| exporter.scrape().value(catalog::NET_RX_BYTES, &[("name", name)]).is_some();
    assert!(counted("sandbox") && !counted("guest"));
    exporter.0.replace(vec![guest]);
    assert!(counted("guest"));

    let files_of_it = || {
        let own = format!("/proc/{}/net/", a.pid());
        let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        open.filter_map(|e| std::fs::read_link(e.path()).ok()).filter(|p| p.to_string_lossy().starts_with(&own)).count()
    };
    // `dev` and `snmp`; with socket diagnostics `sockstat` and `sockstat6` too.
    let diag = has_sock_diag(&exporter.scrape());
    assert_eq!(files_of_it(), if diag { 4 } else { 2 });
    exporter.0.replace(Vec::new());
    wait_for("its files to be closed, without a scrape", || (files_of_it() == 0).then_some(()));
}

#[test]
fn a_namespace_ends_with_its_container_and_not_with_the_next_scrape() {
    let Some((a, b)) = linked() else { return };
    let exporter = Exporter::of(vec![a.container("a"), b.container("b")]);
    exporter.scrape();
    let has_link = || b.inside(|| std::fs::read_to_string("/proc/thread-self/net/dev").unwrap().contains("eth0"));
    drop(a);
    std::thread::sleep(Duration::from_millis(200));
    assert!(has_link(), "what the exporter holds open keeps the namespace, and so the link");
    exporter.0.replace(vec![b.container("b")]);
    wait_for("the link to go", || (!has_link()).then_some(()));
    exporter.scrape();
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
    // One may be long: the first packet waits for the neighbour's address.
    assert!(rtt.count >= 3 && rtt.sum > 0.0, "{rtt:?}");
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
    let after = wait_for("retransmissions", || {
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

/// Counts what a warm collection of these containers allocates, on the thread of the test.
fn warm_allocations(containers: &[Arc<Container>]) -> u64 {
    let root = Root::default();
    let config = Arc::new(Config::default());
    let cgroups = Cgroups::find(&root);
    let (capabilities, held) = (Capabilities::default(), Held::default());
    let budget = Budget::of_process();
    let mut buf = ReadBuf::default();
    let mut ctx = Context {
        root: &root,
        config: &config,
        capabilities: &capabilities,
        held: &held,
        cgroups: &cgroups,
        budget: &budget,
        buf: &mut buf,
        failures: 0,
    };
    let collectors = [Collector::Network, Collector::Socket];
    let mut readers = collectors.map(|c| kernel::reader(c, None).unwrap());
    let slots: Vec<usize> = (0..containers.len()).collect();
    for (slot, container) in containers.iter().enumerate() {
        readers.iter_mut().for_each(|r| r.open(slot, container, &mut ctx));
    }
    let mut snapshot = Snapshot::default();
    snapshot.containers.resize_with(containers.len(), ContainerFacts::default);
    let mut samples = Samples::new();
    let mut collect = || {
        let before = common::allocations();
        snapshot.boot += SECOND;
        snapshot.containers.iter_mut().zip(containers).for_each(|(facts, c)| facts.reset(c.clone()));
        readers.iter_mut().for_each(|r| r.read(&mut snapshot, &slots, &mut ctx));
        samples.clear();
        let entities: Vec<Entity> = snapshot.containers.iter().map(|c| samples.entity(&c.container.labels)).collect();
        collectors
            .into_iter()
            .for_each(|c| kina_exporter::collect::emit(c, &snapshot, &entities, &config, &mut samples));
        assert!(snapshot.containers.iter().all(|c| !c.network.interfaces.is_empty()));
        common::allocations() - before
    };
    // A bucket of the native histogram that is met for the first time is one more allocation at times.
    (0..20).map(|_| collect()).min().unwrap()
}

#[test]
fn a_warm_collection_allocates_nothing_for_a_container() {
    let Some((a, b)) = linked() else { return };
    let _connections: Vec<_> = (0..20).map(|_| connect(&a, &b, B)).collect();
    let containers = [a.container("a"), b.container("b")].map(Arc::new);
    assert_eq!(warm_allocations(&containers[..1]), warm_allocations(&containers));
}

/// The kernel's modules in the order in which they are loaded; built-in ones are not there.
fn diag_modules() -> Vec<std::path::PathBuf> {
    let mut kernels: Vec<_> =
        std::fs::read_dir("/lib/modules").into_iter().flatten().flatten().map(|e| e.path()).collect();
    kernels.sort();
    let Some(newest) = kernels.pop() else { return Vec::new() };
    let modules = ["inet_diag.ko", "tcp_diag.ko"].map(|m| newest.join("kernel/net/ipv4").join(m));
    modules.into_iter().filter(|m| m.is_file()).collect()
}

#[test]
fn a_distributions_kernel_tells_sockets_once_it_has_the_module() {
    let modules = diag_modules();
    if modules.len() < 2 && skip("the installed kernel has no tcp_diag module to load") {
        return;
    }
    let script = r"
mkdir /sys/fs/cgroup/box
unshare -n sh -c '
  echo $$ > /sys/fs/cgroup/box/cgroup.procs
  ip link set lo up; ip addr add 10.0.0.1/24 dev lo
  sleep 600 | nc -l -p 7000 > /dev/null &
  until grep -q :1B58 /proc/net/tcp /proc/net/tcp6; do usleep 10000; done
  (echo hello; sleep 600) | nc 10.0.0.1 7000 &
  exec sleep 600' &
until [ $(cat /proc/$!/net/tcp /proc/$!/net/tcp6 | grep -c ' 01 ') = 2 ]; do usleep 10000; done
snapshot() { /bin/kina-exporter snapshot --runtime.cgroup.include=/box --no-collector.process; }
snapshot | grep -e sock_diag -e '^kina_container_tcp_connections' | sed 's/^/without: /'
for m in /modules/*; do insmod $m; done
snapshot | grep -v '^#' | grep -e id=./box -e 'capability=.[ns]' -e success
";
    let guest =
        Guest::new(script).memory_mib(768).program("/bin/kina-exporter", env!("CARGO_BIN_EXE_kina-exporter").as_ref());
    let guest = modules
        .iter()
        .enumerate()
        .fold(guest, |guest, (i, module)| guest.file(&format!("/modules/{i}"), 0o644, std::fs::read(module).unwrap()));
    let Some(console) = guest.boot(Duration::from_secs(240)) else { return };
    let output = console.output();
    let line = |wanted: &str| output.lines().any(|l| l.starts_with(wanted));
    for wanted in [
        r#"without: kina_capability{capability="sock_diag",reason="CONFIG_INET_DIAG is off, or its module can't be loaded"} 0"#,
        r#"kina_capability{capability="sock_diag"} 1"#,
        r#"kina_capability{capability="netns"} 1"#,
        r#"kina_scrape_collector_success{collector="socket"} 1"#,
        r#"kina_scrape_collector_success{collector="network"} 1"#,
    ] {
        assert!(line(wanted), "{wanted}\nis not in\n{output}");
    }
    assert!(!line("without: kina_container_tcp"), "{output}");
    let of_box = |family: &str, label: &str| {
        let value = |l: &str| l.rsplit_once(' ')?.1.parse::<f64>().ok();
        output.lines().find(|l| l.starts_with(family) && l.contains(label)).and_then(value)
    };
    assert_eq!(of_box("kina_container_tcp_connections", r#"state="established""#), Some(2.0), "{output}");
    assert_eq!(of_box("kina_container_network_rtt_seconds_count", ""), Some(2.0), "{output}");
    assert_eq!(of_box("kina_container_network_fanout", ""), Some(0.0), "{output}");
    assert!(of_box("kina_container_tcp_sent_segments_total", "").is_some_and(|n| n >= 4.0), "{output}");
}
