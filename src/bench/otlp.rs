//! A push of many series beside the encoding of the very same messages by prost: CPU time and memory.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message;

use super::alloc;
use super::figure::{Bound, Figure};
use crate::catalog::{self, FamilyId, Kind, Scope};
use crate::config::{Config, Otlp};
use crate::engine::{Collection, Shared};
use crate::push::{self, metrics};
use crate::root::{Nanos, Root, SECOND, process_cpu_time, thread_cpu_time};
use crate::runtime::Container;
use crate::sample::{LabelBlock, Samples};
use crate::snapshot::ContainerFacts;

const MIB: f64 = 1024.0 * 1024.0;

/// Both identities, each against its own messages. `rounds`: of which the best counts.
pub async fn measure(series: usize, rounds: u32) -> Result<Vec<Figure>, String> {
    let mut figures = Vec::new();
    for identity in ["resource", "attributes"] {
        figures.extend(compare(series, identity, rounds).await?);
    }
    Ok(figures)
}

async fn compare(series: usize, identity: &str, rounds: u32) -> Result<[Figure; 2], String> {
    let now = Arc::new(collection(series));
    let otlp = Otlp { identity: Some(identity.to_owned()), ..Otlp::default() };
    let messages = messages(&otlp, &now)?;
    let (mut ours, mut theirs) = (Cost::MOST, Cost::MOST);
    let mut sent = 0;
    for _ in 0..rounds {
        let (push, bytes) = push(&otlp, &now).await?;
        ours = ours.least(push);
        sent = bytes;
        theirs = theirs.least(encode(&messages));
    }
    let told = format!("{} series, {:.1} MiB, identity {identity}", now.samples.len(), sent as f64 / MIB);
    Ok([
        Figure::new(
            format!("CPU time of a push ÷ prost's encoding, {identity}"),
            ours.cpu / theirs.cpu,
            "",
            Bound::AtMost(1.5),
            format!("{:.1} ms ÷ {:.1} ms for {told}", ours.cpu / 1e6, theirs.cpu / 1e6),
        ),
        Figure::new(
            format!("memory of a push ÷ prost's messages, {identity}"),
            ours.memory / theirs.memory,
            "",
            Bound::AtMost(1.5),
            format!("{:.1} MiB ÷ {:.1} MiB at once", ours.memory / MIB, theirs.memory / MIB),
        ),
    ])
}

#[derive(Debug, Clone, Copy)]
struct Cost {
    /// Nanoseconds.
    cpu: f64,
    /// Bytes at once.
    memory: f64,
}

impl Cost {
    const MOST: Self = Self { cpu: f64::INFINITY, memory: f64::INFINITY };

    fn least(self, other: Self) -> Self {
        Self { cpu: self.cpu.min(other.cpu), memory: self.memory.min(other.memory) }
    }
}

/// The messages that a push sends, as prost has them.
fn messages(otlp: &Otlp, now: &Collection) -> Result<Vec<ExportMetricsServiceRequest>, String> {
    let shape = push::settings::settings(otlp, &BTreeMap::new(), "bench", now.snapshot.wall).shape;
    let mut messages = Vec::new();
    metrics::encode(&shape, now, None, &mut |request| {
        messages.push(ExportMetricsServiceRequest::decode(&request.bytes[..]));
        true
    });
    messages.into_iter().collect::<Result<_, _>>().map_err(|e| e.to_string())
}

/// Copying the messages is what making them takes: their memory is a copy and the largest of them encoded.
fn encode(messages: &[ExportMetricsServiceRequest]) -> Cost {
    alloc::begin();
    let copy = messages.to_vec();
    copy.iter().for_each(|m| drop(std::hint::black_box(m.encode_to_vec())));
    let memory = alloc::end();
    drop(copy);
    let begin = thread_cpu_time();
    messages.iter().for_each(|m| drop(std::hint::black_box(m.encode_to_vec())));
    Cost { cpu: (thread_cpu_time() - begin) as f64, memory: memory as f64 }
}

/// From samples to a receiver that has taken them, all threads of it but the receiver's; and the bytes that came.
async fn push(otlp: &Otlp, now: &Arc<Collection>) -> Result<(Cost, u64), String> {
    let sink = Sink::listen().map_err(|e| e.to_string())?;
    let otlp = Otlp { endpoint: Some(format!("http://{}", sink.address)), ..otlp.clone() };
    let shared = Shared::new(Root::default(), Config { otlp, ..Config::default() });
    let env = BTreeMap::from([("OTEL_TRACES_EXPORTER".to_owned(), "none".to_owned())]);
    alloc::begin();
    let begin = process_cpu_time();
    push::once(&shared, &env, now.clone()).await.map_err(|e| e.to_string())?;
    let (cpu, memory) = (process_cpu_time() - begin, alloc::end());
    let (receiving, bytes) = sink.thread.join().map_err(|_| "the receiver failed")?.map_err(|e| e.to_string())?;
    Ok((Cost { cpu: (cpu - receiving) as f64, memory: memory as f64 }, bytes))
}

/// Takes requests of one connection until that ends. Gives its own CPU time, and the bytes of all bodies.
struct Sink {
    address: std::net::SocketAddr,
    thread: JoinHandle<io::Result<(Nanos, u64)>>,
}

impl Sink {
    fn listen() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let thread = std::thread::spawn(move || Self::take(listener.accept()?.0));
        Ok(Self { address, thread })
    }

    fn take(stream: TcpStream) -> io::Result<(Nanos, u64)> {
        let mut from = BufReader::new(&stream);
        let mut bytes = 0;
        let mut buffer = vec![0; 64 << 10];
        let mut line = String::new();
        loop {
            let mut length = 0;
            loop {
                line.clear();
                if from.read_line(&mut line)? == 0 {
                    return Ok((thread_cpu_time(), bytes));
                }
                if line == "\r\n" {
                    break;
                }
                let (name, value) = line.split_once(':').unwrap_or_default();
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.trim().parse().map_err(io::Error::other)?;
                }
            }
            bytes += length as u64;
            while length > 0 {
                let n = from.by_ref().take(length as u64).read(&mut buffer)?;
                if n == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                length -= n;
            }
            (&stream).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
        }
    }
}

/// So many series of containers, each with every plain family of a container.
fn collection(series: usize) -> Collection {
    let families: Vec<FamilyId> = catalog::ids()
        .filter(|id| id.family().scope == Scope::Container)
        .filter(|id| matches!(id.family().kind, Kind::Counter | Kind::Gauge))
        .collect();
    let mut c = Collection { samples: Samples::new(), ..Collection::default() };
    (c.snapshot.wall, c.snapshot.boot) = (1_700_000_000 * SECOND, 5000 * SECOND);
    for i in 0..series.div_ceil(families.len()) {
        let labels = vec![
            ("id", format!("/system.slice/docker-{i:064x}.scope")),
            ("name", format!("shop-frontend-{i}")),
            ("image", "registry.example.org:5000/shop/frontend:1.2.3".to_owned()),
            ("runtime", "docker".to_owned()),
        ];
        let container = Arc::new(Container {
            native_id: format!("{i:064x}"),
            labels: Arc::new(LabelBlock::new(labels)),
            started: Some(c.snapshot.wall - 100 * SECOND),
            ..Container::default()
        });
        let entity = c.samples.entity(&container.labels);
        for id in families.iter().take(series - c.samples.len()) {
            let pairs: Vec<_> = id.family().labels.iter().map(|k| (*k, "eth0")).collect();
            c.samples.push_with(*id, entity, &pairs, (id.index() * 1000 + i) as f64 * 1.5);
        }
        c.snapshot.containers.push(ContainerFacts { container, ..ContainerFacts::default() });
    }
    c
}
