//! The exporter as an agent: one inside a container's machine, one outside that asks it.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::apple_live::{StandIn, list, only, web};
use crate::live::{Exporter, wait_for};
use crate::vm::Guest;

/// A stand-in whose container `web` has its address here.
pub fn at_home() -> StandIn {
    let stand_in = StandIn::version("1.2.2");
    let mut c = only(&list("1.2.2"), "web").clone();
    c["status"]["networks"][0]["ipv4Address"] = "127.0.0.1/8".into();
    c["status"]["networks"][0]["ipv6Address"] = serde_json::Value::Null;
    stand_in.set("list", serde_json::to_vec(&[c]).unwrap());
    stand_in
}

#[test]
fn an_exporter_in_the_guest_is_asked_and_its_end_is_noticed() {
    let inside = Exporter::start(&["--no-runtime.docker", "--no-runtime.podman", "--no-runtime.containerd"]);
    let stand_in = at_home();
    let outside = stand_in.exporter_with(&[&format!("--runtime.apple.agent-port={}", inside.address.port())]);
    let told = |family: &str| {
        wait_for(family, || web(&outside.scrape(), family));
    };
    // From files, and what no file tells, under the container's own labels. This machine's cgroup root need not be v2's.
    told("container_memory_usage_bytes");
    told("kina_container_tcp_connections");
    told("kina_vm_guest_used_memory_bytes");
    told("kina_container_context_switches_total");
    let labels = [("id", "web"), ("name", "web"), ("runtime", "apple"), ("image", "docker.io/library/nginx:1.29")];
    let scrape = wait_for("round-trip times", || {
        let (rtt, scrape) = ("kina_container_network_rtt_seconds_count", outside.scrape());
        // A machine without a connection to another one has none.
        let told = scrape.value(rtt, &labels).is_some() || inside.scrape().value(rtt, &[("id", "/")]).is_none();
        told.then_some(scrape)
    });
    assert!(scrape.value("kina_container_tcp_connections", &labels).is_some(), "under the container's labels");
    wait_for("the capability", || {
        (outside.scrape().value("kina_capability", &[("capability", "apple_agent")]) == Some(1.0)).then_some(())
    });
    // What `container stats` told stays.
    assert_eq!(web(&scrape, "container_memory_usage_bytes"), Some(47_431_680.0));
    drop(inside);
    wait_for("its end", || web(&outside.scrape(), "kina_vm_guest_used_memory_bytes").is_none().then_some(()));
    assert_eq!(web(&outside.scrape(), "container_memory_usage_bytes"), Some(47_431_680.0));
}

pub struct Server {
    pub port: u16,
    /// Requests so far.
    pub asked: Arc<AtomicUsize>,
}

/// Answers each connection with `answer`, for ever.
pub fn server(answer: Vec<u8>) -> Server {
    use std::io::{Read, Write};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream): Result<TcpStream, _> = stream else { continue };
            let _ = stream.read(&mut [0; 4096]);
            count.fetch_add(1, Ordering::Relaxed);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", answer.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&answer));
        }
    });
    Server { port, asked }
}

#[test]
fn who_answers_nonsense_at_the_agents_port_tells_nothing() {
    for nonsense in [&b""[..], b"<html>", b"Linux version 6\n{}", &[0xff; 100_000]] {
        let stand_in = at_home();
        let server = server(nonsense.to_vec());
        let outside = stand_in.exporter_with(&[&format!("--runtime.apple.agent-port={}", server.port)]);
        wait_for("statistics", || web(&outside.scrape(), "container_memory_usage_bytes"));
        // It asks again when it has judged the answer.
        wait_for("the second question", || (server.asked.load(Ordering::Relaxed) > 1).then_some(()));
        let scrape = outside.scrape();
        assert!(web(&scrape, "kina_vm_guest_used_memory_bytes").is_none());
        assert!(scrape.value("kina_capability", &[("capability", "apple_agent")]).is_none());
    }
}

/// A machine as Apple's: the exporter runs in the container's cgroup namespace, beside a process of the container that has
/// a known memory and a connection; what it answers is printed.
const SCRIPT: &str = r#"
dmesg -n 1
c=/sys/fs/cgroup/container
mkdir $c
sh -c "echo 0 > $c/cgroup.procs; x=\$(head -c 33554432 /dev/zero | tr '\0' a); touch /ready; while :; do sleep 1000; done; echo \$x" &
while [ ! -e /ready ]; do sleep 0.1; done
ifconfig lo 127.0.0.1 up
nc -l -p 7000 >/dev/null &
sleep 0.5
sh -c "sleep 100" | nc 127.0.0.1 7000 &
cat > /inside <<'END'
echo 0 > /sys/fs/cgroup/container/cgroup.procs
exec /host/unshare -C -m sh -c 'umount /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup; exec /exporter serve --web.listen-address=127.0.0.1:10217 --no-runtime.docker --no-runtime.podman --no-runtime.containerd'
END
sh /inside >/log 2>&1 &
for n in $(seq 120); do
  wget -q -O /answer http://127.0.0.1:10217/api/v1/guest 2>/dev/null && break
  sleep 1
done
[ -s /answer ] || { cat /log; exit 1; }
sed 's|^|answer |' /answer; echo
sed 's|^|kernel |' $c/memory.current
"#;

#[test]
fn the_exporter_in_a_machine_tells_of_the_container_it_is_in() {
    let Some((_dir, exporter)) = crate::v2::exporter() else {
        crate::common::skip("strip is not installed");
        return;
    };
    let machine = Guest::new(SCRIPT)
        .program("/exporter", &exporter)
        .program("/host/unshare", std::path::Path::new("/usr/bin/unshare"))
        .memory_mib(768);
    let Some(console) = machine.boot(Duration::from_secs(240)) else { return };
    let output = console.output();
    let answer: String =
        output.lines().filter_map(|l| l.strip_prefix("answer ")).map(|l| l.to_owned() + "\n").collect();
    let port = server(answer.into_bytes()).port;
    let stand_in = at_home();
    let outside = stand_in.exporter_with(&[&format!("--runtime.apple.agent-port={port}")]);
    let memory = wait_for("the guest", || web(&outside.scrape(), "container_memory_rss"));
    // The process's 32 MiB, and what the exporter itself takes: it is in the container.
    assert!((32.0..128.0).contains(&(memory / 1_048_576.0)), "{memory}\n{output}");
    let scrape = outside.scrape();
    let kernel: f64 = output.lines().find_map(|l| l.strip_prefix("kernel ")).unwrap().parse().unwrap();
    assert!(memory < kernel, "{memory} of {kernel}");
    let connections = [("id", "web"), ("runtime", "apple"), ("state", "established")];
    assert!(scrape.must("kina_container_tcp_connections", &connections) >= 2.0, "{output}");
    let processes = web(&scrape, "container_processes").unwrap();
    assert!(processes >= 2.0, "{processes}\n{output}");
    assert!(web(&scrape, "kina_vm_guest_used_memory_bytes").is_some_and(|used| used > memory));
}

/// The configuration in docs/apple.md for who scrapes the agent itself, with a real Prometheus: the machine's series become
/// the container's.
#[test]
fn the_documented_configuration_gives_an_agents_series_the_containers_labels() {
    let Some(program) = crate::prometheus::installed() else { return };
    let inside = Exporter::start(&["--no-runtime.docker", "--no-runtime.podman", "--no-runtime.containerd"]);
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/apple.md")).unwrap();
    let (_, yaml) = text.split_once("```yaml\n").unwrap();
    let (yaml, _) = yaml.split_once("```").unwrap();
    assert!(yaml.contains("192.168.64.5:10217"), "{yaml}");
    let config = yaml.replace("192.168.64.5:10217", &inside.address.to_string());
    let config = format!("global: {{scrape_interval: 1s}}\n{config}");
    let prometheus = crate::prometheus::Prometheus::run(&program, &[], &config);
    let labels = r#"job="kina-guests",id="web",name="web",runtime="apple""#;
    let family = "container_cpu_usage_seconds_total";
    wait_for("the agent's series", || prometheus.value(&format!("{family}{{{labels}}}")));
    assert!(prometheus.query(r#"{id="/"}"#).is_empty(), "the machine's own label is replaced");
}
