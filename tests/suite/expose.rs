//! Every format against independent readers of it: prometheus-client, promtool, Python's reference parser, Prometheus.

use std::collections::BTreeMap;
use std::io::{BufRead, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use kina_exporter::catalog::{self, Kind, Scope};
use kina_exporter::engine::Collection;
use kina_exporter::expose::{self, Encoding, Format};
use kina_exporter::held::{ExemplarOf, Held};
use kina_exporter::sample::{Entity, Histogram, LabelBlock, Samples};
use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model as model;
use prost::Message;

use crate::common::{self, python, skip};

/// A small generator of repeatable noise (xorshift).
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn text(&mut self) -> String {
        const PIECES: [&str; 12] =
            ["a", "Z", "\"", "\\", "\n", "\\n", "{", "},", "=", "é", "容器", "\u{1F980}\u{200D}\t\r\u{7f}"];
        let noise: String = (0..self.below(8)).map(|_| PIECES[self.below(12) as usize]).collect();
        noise + &self.below(1 << 40).to_string()
    }

    fn value(&mut self) -> f64 {
        match self.below(6) {
            0 => self.below(1000) as f64,
            1 => self.next() as f64,
            2 => self.below(1 << 40) as f64 / 1e9,
            3 => f64::from_bits(self.next() >> 2),
            4 => 0.0,
            _ => 1.0 / (1 + self.below(1_000_000)) as f64,
        }
    }
}

fn block(pairs: &[(&'static str, &str)]) -> Arc<LabelBlock> {
    Arc::new(LabelBlock::new(pairs.iter().map(|(k, v)| (*k, v.to_string())).collect()))
}

/// Samples of every family, with label values of every kind.
fn noisy(seed: u64, containers: usize) -> Collection {
    let mut noise = Noise::new(seed);
    let mut samples = Samples::new();
    let mut entities: Vec<Entity> = (0..containers)
        .map(|i| {
            let name = if i == 0 { "y".repeat(64 << 10) } else { noise.text() };
            samples.entity(&block(&[("id", &format!("/docker/{i}")), ("name", &name), ("image", &noise.text())]))
        })
        .collect();
    entities.push(Entity::NONE);
    for id in catalog::ids() {
        let family = id.family();
        for (i, entity) in entities.iter().enumerate() {
            let entity = if family.scope == Scope::Container { entity } else { &Entity::NONE };
            if *entity == Entity::NONE && family.labels.is_empty() && i > 0 {
                continue;
            }
            let values: Vec<String> = family.labels.iter().map(|_| noise.text()).collect();
            let pairs: Vec<_> = family.labels.iter().zip(&values).map(|(k, v)| (*k, v.as_str())).collect();
            match family.kind {
                Kind::Counter | Kind::Gauge => samples.push_with(id, *entity, &pairs, noise.value()),
                Kind::Info => samples.push_with(id, *entity, &pairs, 1.0),
                Kind::Summary => samples.push_summary(id, *entity, &pairs, noise.value(), noise.below(1 << 30)),
                Kind::Histogram => {
                    let mut h = Histogram::new(family.buckets);
                    for n in 0..noise.below(40) {
                        let trace = vec![("trace_id", format!("{:032x}", noise.next()))];
                        let value = noise.below(1 << 34) as f64 / 1e9;
                        if n % 2 == 0 { h.observe_with(value, trace, 1.5e9) } else { _ = h.observe(value) }
                    }
                    if i == 1 {
                        h = Histogram::new(family.buckets);
                    }
                    samples.push_histogram(id, *entity, &pairs, &h);
                }
            }
        }
    }
    Collection { samples, ..Collection::default() }
}

fn text(collection: &Collection, format: Format) -> String {
    let mut out = Vec::new();
    expose::write(&collection.samples, format, &mut out);
    String::from_utf8(out).unwrap()
}

type Series = BTreeMap<(String, BTreeMap<String, String>), u64>;

/// Reads the sample lines of text: name, labels, bits of the value. `le` by its number: its spelling is tested elsewhere.
fn parse(text: &str) -> Series {
    let mut series = Series::new();
    for line in text.split('\n').filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let (name, mut rest) = line.split_at(line.find(['{', ' ']).expect(line));
        let mut labels = BTreeMap::new();
        if let Some(after) = rest.strip_prefix("{}") {
            rest = after;
        } else if rest.starts_with('{') {
            while !rest.starts_with('}') {
                let (key, value) = rest[1..].split_once("=\"").expect(line);
                let mut chars = value.char_indices();
                let mut unescaped = String::new();
                let end = loop {
                    match chars.next().expect(line) {
                        (at, '"') => break at,
                        (_, '\\') => unescaped.push(match chars.next().expect(line).1 {
                            'n' => '\n',
                            c => c,
                        }),
                        (_, c) => unescaped.push(c),
                    }
                };
                if key == "le" {
                    unescaped = unescaped.replace("+Inf", "inf").parse::<f64>().expect(line).to_string();
                }
                assert!(labels.insert(key.to_owned(), unescaped).is_none(), "label twice: {line}");
                rest = &value[end + 1..];
            }
            rest = &rest[1..];
        }
        let value = rest.split_whitespace().next().expect(line).replace("Inf", "inf").parse::<f64>().expect(line);
        let old = series.insert((name.to_owned(), labels), value.to_bits());
        assert!(old.is_none(), "series twice: {line}");
    }
    series
}

#[track_caller]
fn same(ours: &Series, theirs: &Series) {
    let short = |((name, labels), bits): (&(String, BTreeMap<String, String>), &u64)| {
        let labels: Vec<_> = labels.iter().map(|(k, v)| (k, v.chars().take(60).collect::<String>())).collect();
        format!("{name} {labels:?} = {}", f64::from_bits(*bits))
    };
    let more: Vec<_> = ours.iter().filter(|(k, v)| theirs.get(*k) != Some(v)).take(3).map(short).collect();
    let fewer: Vec<_> = theirs.iter().filter(|(k, v)| ours.get(*k) != Some(v)).take(3).map(short).collect();
    assert!(more.is_empty() && fewer.is_empty(), "only here: {more:#?}\nonly there: {fewer:#?}");
}

fn of_summaries(name: &str) -> bool {
    catalog::by_series(name).is_some_and(|f| f.kind == Kind::Summary)
}

#[test]
fn openmetrics_equals_prometheus_client() {
    for seed in 1..=5 {
        let collection = noisy(seed, 3);
        let mut ours = parse(&text(&collection, Format::OpenMetrics));
        ours.retain(|(name, _), _| !of_summaries(name));
        let theirs = expose::client::openmetrics(&expose::client::registry(Arc::new(collection))).unwrap();
        assert!(theirs.ends_with("# EOF\n"));
        same(&ours, &parse(&theirs));
    }
}

#[test]
fn formats_say_the_same() {
    let collection = noisy(7, 4);
    let classic = parse(&text(&collection, Format::Text));
    same(&classic, &parse(&text(&collection, Format::OpenMetrics)));
    same(&classic, &series_of(&protobuf(&collection)));
}

fn protobuf(collection: &Collection) -> Vec<model::MetricFamily> {
    let mut bytes = Vec::new();
    expose::write(&collection.samples, Format::Protobuf, &mut bytes);
    let mut rest = bytes.as_slice();
    let mut families = Vec::new();
    while !rest.is_empty() {
        families.push(model::MetricFamily::decode_length_delimited(&mut rest).unwrap());
    }
    families
}

fn series_of(families: &[model::MetricFamily]) -> Series {
    let mut series = Series::new();
    for family in families {
        for metric in &family.metric {
            let labels: BTreeMap<_, _> = metric.label.iter().map(|l| (l.name.clone(), l.value.clone())).collect();
            let mut add = |suffix: &str, le: Option<f64>, value: f64| {
                let mut labels = labels.clone();
                labels.extend(le.map(|le| ("le".to_owned(), le.to_string())));
                // Text has one zero.
                series.insert((format!("{}{suffix}", family.name), labels), (value + 0.0).to_bits());
            };
            if let Some(v) = &metric.counter {
                add("", None, v.value);
            }
            if let Some(v) = &metric.gauge {
                add("", None, v.value);
            }
            if let Some(v) = &metric.summary {
                add("_sum", None, v.sample_sum);
                add("_count", None, v.sample_count as f64);
            }
            if let Some(v) = &metric.histogram {
                add("_sum", None, v.sample_sum);
                add("_count", None, v.sample_count as f64);
                for bucket in &v.bucket {
                    add("_bucket", Some(bucket.upper_bound), bucket.cumulative_count as f64);
                }
            }
        }
    }
    series
}

#[test]
fn protobuf_native_histograms_equal_prometheus_client() {
    use prometheus_client::metrics::histogram::{Histogram as Client, NativeHistogramConfig};
    let mut noise = Noise::new(3);
    for round in 0..50 {
        let config = NativeHistogramConfig::with_schema(3);
        let client = Client::new_classic_and_native(catalog::STARTUP_BUCKETS.iter().copied(), config);
        let mut ours = Histogram::new(catalog::STARTUP_BUCKETS);
        for _ in 0..round * 3 {
            let value = match noise.below(4) {
                0 => 0.0,
                1 => 2f64.powi(noise.below(20) as i32 - 10),
                2 => 2f64.powf((noise.below(64) as f64 - 32.0) / 8.0),
                _ => noise.below(1 << 40) as f64 / 1e9,
            };
            client.observe(value);
            ours.observe(value);
        }
        let mut registry = prometheus_client::registry::Registry::default();
        let id = catalog::STARTUP_DURATION;
        registry.register(id.name(), "h", client);
        let theirs = prometheus_client::encoding::prometheus_protobuf::encode(&registry).unwrap();
        let mut samples = Samples::new();
        samples.push_histogram(id, Entity::NONE, &[], &ours);
        let ours = protobuf(&Collection { samples, ..Collection::default() });
        let (mut ours, mut theirs) =
            (ours[0].metric[0].histogram.clone().unwrap(), theirs[0].metric[0].histogram.clone().unwrap());
        assert!((ours.sample_sum - theirs.sample_sum).abs() < 1e-3);
        if round == 0 {
            assert_eq!(ours.positive_span, [model::BucketSpan { offset: 0, length: 0 }], "a native one, but empty");
        }
        assert_eq!(buckets(&ours), buckets(&theirs), "round {round}");
        for h in [&mut ours, &mut theirs] {
            h.sample_sum = 0.0;
            h.start_timestamp = None;
            h.positive_span.clear();
            h.positive_delta.clear();
        }
        assert_eq!(ours, theirs, "round {round}");
    }
}

/// Native buckets that count something, by index. How gaps are written is up to the writer.
fn buckets(h: &model::Histogram) -> BTreeMap<i32, i64> {
    let mut deltas = h.positive_delta.iter();
    let (mut buckets, mut index, mut count) = (BTreeMap::new(), 0, 0);
    for span in &h.positive_span {
        index += span.offset;
        for _ in 0..span.length {
            count += deltas.next().expect("a delta for each bucket");
            buckets.insert(index, count);
            index += 1;
        }
    }
    assert_eq!(deltas.next(), None);
    buckets.retain(|_, n| *n > 0);
    buckets
}

#[test]
fn exemplars() {
    let mut h = Histogram::new(catalog::STARTUP_BUCKETS);
    h.observe(0.06);
    h.observe_with(0.7, vec![("trace_id", "old".into())], 1.0);
    h.observe_with(0.75, vec![("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736".into())], 1_700_000_000.25);
    h.observe_with(100.0, vec![("trace_id", "x".repeat(121))], 1.0);
    let mut samples = Samples::new();
    samples.push_histogram(catalog::STARTUP_DURATION, Entity::NONE, &[("image", "a")], &h);
    let collection = Collection { samples, ..Collection::default() };

    let open = text(&collection, Format::OpenMetrics);
    let line = "kina_container_startup_duration_seconds_bucket{image=\"a\",le=\"0.8\"} 3 \
                # {trace_id=\"4bf92f3577b34da6a3ce929d0e0e4736\"} 0.75 1700000000.25\n";
    assert!(open.contains(line), "{open}");
    assert!(open.contains("le=\"1.0\"} 3\n") && open.contains("le=\"+Inf\"} 4\n"), "too long an exemplar is left out");
    assert!(!text(&collection, Format::Text).contains("trace_id"), "classic text has no exemplars");

    let families = protobuf(&collection);
    let histogram = families[0].metric[0].histogram.as_ref().unwrap();
    let of_bucket = histogram.bucket[7].exemplar.as_ref().unwrap();
    assert_eq!((of_bucket.value, of_bucket.label[0].value.len()), (0.75, 32));
    let time = of_bucket.timestamp.as_ref().unwrap();
    assert_eq!((time.seconds, time.nanos), (1_700_000_000, 250_000_000));
    assert_eq!(histogram.exemplars.len(), 2);
}

#[tokio::test]
async fn streams_what_it_writes_at_once() {
    let collection = Arc::new(noisy(11, 60));
    for format in Format::ALL {
        let mut whole = Vec::new();
        expose::write(&collection.samples, format, &mut whole);
        for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Zstd] {
            let mut body = expose::body(collection.clone(), format, encoding).unwrap();
            let (mut sent, mut frames) = (Vec::new(), 0);
            while let Some(frame) = body.frame().await {
                let data = frame.unwrap().into_data().unwrap();
                assert!(!data.is_empty());
                frames += 1;
                sent.extend_from_slice(&data);
            }
            let mut plain = Vec::new();
            match encoding {
                Encoding::Identity => {
                    assert!(frames > 5, "{frames} pieces");
                    plain = sent;
                }
                Encoding::Gzip => _ = flate2::read::GzDecoder::new(&sent[..]).read_to_end(&mut plain).unwrap(),
                Encoding::Zstd => plain = zstd::decode_all(&sent[..]).unwrap(),
            }
            assert!(plain == whole, "{format:?} {encoding:?}: {} of {} bytes", plain.len(), whole.len());
        }
    }
}

#[tokio::test]
async fn small_answers_tell_their_length() {
    use http_body::Body;
    for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Zstd] {
        let body = expose::body(
            Arc::new(Collection { samples: Samples::new(), ..Default::default() }),
            Format::OpenMetrics,
            encoding,
        );
        let body = body.unwrap();
        let told = body.size_hint().exact().unwrap();
        assert_eq!(body.collect().await.unwrap().to_bytes().len() as u64, told);
    }
}

#[test]
fn json_says_the_same() {
    let collection = noisy(5, 2);
    let json = serde_json::to_value(expose::json(&collection.samples)).unwrap();
    let families = json.as_array().unwrap();
    assert_eq!(families.len(), catalog::families().len());
    let (mut rows, mut classic) = (0, parse(&text(&collection, Format::Text)));
    classic.retain(|(name, _), _| catalog::by_name(name).is_some());
    for family in families {
        for sample in family["samples"].as_array().unwrap() {
            rows += 1;
            let Some(value) = sample.get("value") else { continue };
            let labels: BTreeMap<String, String> = serde_json::from_value(sample["labels"].clone()).unwrap();
            let key = (family["name"].as_str().unwrap().to_owned(), labels);
            assert_eq!(value.as_f64().unwrap(), f64::from_bits(classic[&key]), "{key:?}");
        }
    }
    assert_eq!(rows, collection.samples.len());
}

/// Runs a program with `input`; None when it is not there.
fn pipe(program: &str, args: &[&str], input: &[u8]) -> Option<(bool, String)> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feed = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    let _ = feed.join();
    let told = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&told).into_owned()))
}

/// All families but those whose names break the rules because cAdvisor's do.
fn lintable(seed: u64) -> Collection {
    let mut collection = noisy(seed, 2);
    collection.samples.drop_profile(catalog::Profile::Cadvisor);
    collection
}

#[test]
fn promtool_is_silent() {
    let classic = text(&lintable(2), Format::Text);
    let Some((ok, told)) = pipe("promtool", &["check", "metrics"], classic.as_bytes()) else {
        skip("promtool is not installed");
        return;
    };
    assert!(ok && told.is_empty(), "{told}");
}

#[test]
fn python_reads_openmetrics() {
    const READ: &str = "
import sys, json
try:
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
except ImportError:
    sys.exit(42)
text = sys.stdin.buffer.read().decode()
print(sum(len(f.samples) for f in parse(text)))
";
    let open = text(&lintable(3), Format::OpenMetrics);
    match pipe(&python(), &["-c", READ], open.as_bytes()) {
        Some((true, told)) => assert_eq!(told.trim().parse(), Ok(parse(&open).len())),
        Some((false, told)) if !told.is_empty() => panic!("{told}"),
        _ => _ = skip("python3 with prometheus_client is not installed"),
    }
}

#[test]
fn held_equals_its_registry() {
    let held = Held::default();
    let mut noise = Noise::new(4);
    for round in 0..200 {
        let (collector, kind) = (noise.text(), ["io", "denied", "malformed"][round % 3]);
        held.add(catalog::READ_ERRORS, &[&collector, kind], noise.below(1000));
        held.inc(catalog::RUNTIME_EVENTS, &["docker"]);
    }
    let mut samples = Samples::new();
    held.samples(&mut samples, |_| true);
    let ours = parse(&text(&Collection { samples, ..Collection::default() }, Format::OpenMetrics));
    assert!(ours.len() > 100);
    same(&ours, &parse(&held.openmetrics()));

    let mut none = Samples::new();
    held.samples(&mut none, |_| false);
    assert!(none.is_empty());
}

#[test]
fn held_keeps_gauges_and_histograms() {
    let held = Held::default();
    let start = ["docker", "nginx", "cold"];
    let of = ExemplarOf { labels: vec![("trace_id", "abc".into())], timestamp: 1.5 };
    held.observe(catalog::STARTUP_DURATION, &start, 0.7, Some(of));
    held.observe(catalog::STARTUP_DURATION, &start, 0.1, None);
    held.set(catalog::CONFIG_RELOAD_SUCCESS, &[], 1.0);
    held.set(catalog::CONFIG_RELOAD_SUCCESS, &[], 0.0);
    let mut samples = Samples::new();
    held.samples(&mut samples, |_| true);
    let shown = text(&Collection { samples, ..Collection::default() }, Format::OpenMetrics);
    for line in [
        "kina_config_last_reload_successful 0\n",
        "{runtime=\"docker\",image=\"nginx\",start=\"cold\",le=\"0.1\"} 1\n",
        "le=\"0.8\"} 2 # {trace_id=\"abc\"} 0.7 1.5\n",
    ] {
        assert!(shown.contains(line), "{line} in {shown}");
    }
}

/// Fills a collection as collectors do, with labels that come and go.
fn fill(samples: &mut Samples, blocks: &[Arc<LabelBlock>], peer: &str, h: &Histogram) {
    samples.clear();
    for block in blocks {
        let entity = samples.entity(block);
        samples.push(catalog::CONTAINER_LAST_SEEN, entity, 1.5);
        samples.push_with(catalog::PEER_CONNECTIONS, entity, &[("peer", peer)], 1.0);
        samples.push_histogram(catalog::NETWORK_RTT, entity, &[], h);
    }
    samples.push_summary(catalog::DEVICE_IO_LATENCY, Entity::NONE, &[("device", "sda"), ("op", "read")], 1.0, 2);
}

#[test]
fn warm_collections_and_scrapes_allocate_nothing() {
    let mut h = Histogram::new(catalog::RTT_BUCKETS);
    (0..100).for_each(|i| _ = h.observe(f64::from(i) / 1e4));
    let warm = |containers: usize, format: Format| {
        let blocks: Vec<_> = (0..containers).map(|i| block(&[("id", &format!("/docker/{i}"))])).collect();
        let (mut samples, mut out) = (Samples::new(), Vec::new());
        let mut scrape = || {
            let before = common::allocations();
            fill(&mut samples, &blocks, "a", &h);
            out.clear();
            expose::write(&samples, format, &mut out);
            common::allocations() - before
        };
        scrape();
        scrape()
    };
    for format in Format::ALL {
        assert_eq!(warm(5, format), warm(500, format), "{format:?}");
    }
}

#[test]
fn labels_of_the_past_are_forgotten() {
    let blocks = [block(&[("id", "/")])];
    let h = Histogram::new(catalog::RTT_BUCKETS);
    let mut samples = Samples::new();
    let begin = common::live_bytes();
    for i in 0..20_000 {
        fill(&mut samples, &blocks, &format!("peer-{i}-{}", "x".repeat(100)), &h);
    }
    let grown = common::live_bytes() - begin;
    assert!(grown < 2 << 20, "{grown} bytes");
    let shown = text(&Collection { samples, ..Collection::default() }, Format::Text);
    assert!(shown.contains("peer-19999-") && !shown.contains("peer-19998-"));
}

/// Encoding must cost a small part of what the client needs; optimised builds are held to the promise itself.
#[test]
fn faster_than_prometheus_client() {
    let collection = Arc::new(fleet(100));
    let registry = expose::client::registry(collection.clone());
    let mut out = Vec::new();
    let (mut ours, mut theirs) = (Duration::MAX, Duration::MAX);
    for _ in 0..7 {
        let begin = Instant::now();
        out.clear();
        expose::write(&collection.samples, Format::OpenMetrics, &mut out);
        ours = ours.min(begin.elapsed());
        let begin = Instant::now();
        let text = expose::client::openmetrics(&registry).unwrap();
        theirs = theirs.min(begin.elapsed());
        assert!(text.len() > out.len() / 2);
    }
    let factor = theirs.as_secs_f64() / ours.as_secs_f64();
    let promised = if cfg!(debug_assertions) { 2.0 } else { 4.0 };
    eprintln!("{} bytes: {ours:?}, prometheus-client {theirs:?}, {factor:.1} times", out.len());
    assert!(factor >= promised, "only {factor:.1} times as fast as prometheus-client");
}

/// Containers as Docker names them, with plausible values in every family of a container.
fn fleet(containers: usize) -> Collection {
    let mut noise = Noise::new(9);
    let mut samples = Samples::new();
    let entities: Vec<_> = (0..containers)
        .map(|i| {
            let id: String = (0..4).map(|_| format!("{:016x}", noise.next())).collect();
            samples.entity(&block(&[
                ("id", &format!("/system.slice/docker-{id}.scope")),
                ("name", &format!("shop-{}-{i}", noise.below(20))),
                ("image", &format!("registry.example.com/shop/service-{}:1.{}", noise.below(20), noise.below(9))),
                ("runtime", "docker"),
            ]))
        })
        .collect();
    for id in catalog::ids().filter(|id| id.family().scope == Scope::Container) {
        let family = id.family();
        let pairs: Vec<_> = family.labels.iter().map(|k| (*k, "sda")).collect();
        for entity in &entities {
            match family.kind {
                Kind::Counter if family.unit == catalog::Unit::Seconds => {
                    samples.push_with(id, *entity, &pairs, noise.below(1 << 40) as f64 / 1e9)
                }
                Kind::Counter | Kind::Gauge => samples.push_with(id, *entity, &pairs, noise.below(1 << 33) as f64),
                Kind::Info => samples.push_with(id, *entity, &pairs, 1.0),
                Kind::Summary => samples.push_summary(id, *entity, &pairs, 1.0, 1),
                Kind::Histogram => {
                    let mut h = Histogram::new(family.buckets);
                    (0..20).for_each(|_| _ = h.observe(noise.below(1 << 30) as f64 / 1e9));
                    samples.push_histogram(id, *entity, &pairs, &h);
                }
            }
        }
    }
    Collection { samples, ..Collection::default() }
}

/// Serves a collection over plain HTTP: `/text` and `/openmetrics` in that format, anything else as negotiated.
fn serve(collection: Arc<Collection>) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = answer(&collection, stream.unwrap());
        }
    });
    address
}

fn answer(collection: &Arc<Collection>, mut stream: TcpStream) -> std::io::Result<()> {
    let mut lines = std::io::BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap_or(Ok(String::new()))?;
    let mut headers = http::HeaderMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    let (negotiated, encoding) = expose::negotiate(&headers);
    let format = match request.split(' ').nth(1) {
        Some("/text") => Format::Text,
        Some("/openmetrics") => Format::OpenMetrics,
        _ => negotiated,
    };
    let mut body = expose::body(collection.clone(), format, encoding)?;
    write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: {}\r\n", format.content_type())?;
    if let Some(coding) = encoding.header() {
        write!(stream, "Content-Encoding: {coding}\r\n")?;
    }
    stream.write_all(b"\r\n")?;
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    while let std::task::Poll::Ready(Some(frame)) = http_body::Body::poll_frame(Pin::new(&mut body), &mut context) {
        stream.write_all(&frame?.into_data().unwrap())?;
    }
    Ok(())
}

/// A real Prometheus that scrapes `jobs` (name, address, path) until the test ends; None when there is none installed.
struct Prometheus {
    _child: common::Running,
    address: String,
    _dir: tempfile::TempDir,
}

impl Prometheus {
    fn start(jobs: &[(&str, std::net::SocketAddr, &str)]) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut config = "global: {scrape_interval: 3s, scrape_timeout: 3s}\nscrape_configs:\n".to_owned();
        for (name, address, path) in jobs {
            config += &format!(
                "- job_name: {name}\n  metrics_path: {path}\n  static_configs: [{{targets: ['{address}']}}]\n"
            );
        }
        std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--enable-feature=native-histograms,exemplar-storage", "--log.level=error"])
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        Some(Self { _child: common::Running(child), address, _dir: dir })
    }

    /// The value of an instant query that gives one; None while there is none.
    fn query(&self, query: &str) -> Option<f64> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        let query: String = query.bytes().map(|b| format!("%{b:02x}")).collect();
        write!(stream, "GET /api/v1/query?query={query} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let json: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
        json["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }

    #[track_caller]
    fn expect(&self, query: &str, want: f64) {
        let end = Instant::now() + Duration::from_secs(90);
        let mut got = None;
        while Instant::now() < end {
            got = self.query(query);
            if got == Some(want) {
                return;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        panic!("{query} is {got:?}, not {want}");
    }
}

#[test]
fn prometheus_scrapes_every_format() {
    let collection = Arc::new(lintable(8));
    let rows = |kind: fn(Kind) -> bool| {
        let of = catalog::ids().filter(|id| kind(id.family().kind));
        of.map(|id| collection.samples.table(id).len()).sum::<usize>()
    };
    let classic = parse(&text(&collection, Format::Text)).len() as f64;
    let histograms = rows(|k| k == Kind::Histogram) as f64;
    // A native histogram is one sample.
    let native = (rows(|k| k != Kind::Summary) + 2 * rows(|k| k == Kind::Summary)) as f64;
    let samples = &collection.samples;
    let starts: u64 = samples.table(catalog::STARTUP_DURATION).hists.iter().map(|r| samples.histogram(r).count).sum();

    let address = serve(collection.clone());
    let jobs = [("native", address, "/metrics"), ("text", address, "/text"), ("open", address, "/openmetrics")];
    let Some(prometheus) = Prometheus::start(&jobs) else {
        skip("prometheus is not installed");
        return;
    };
    prometheus.expect("sum(up)", 3.0);
    prometheus.expect("scrape_samples_scraped{job='text'}", classic);
    prometheus.expect("scrape_samples_scraped{job='open'}", classic);
    prometheus.expect("scrape_samples_scraped{job='native'}", native);
    let name = catalog::STARTUP_DURATION.name();
    prometheus.expect(&format!("sum(histogram_count({name}{{job='native'}}))"), starts as f64);
    prometheus.expect(&format!("sum({name}_count{{job='text'}})"), starts as f64);
    let all: Vec<_> = catalog::ids().filter(|id| id.family().kind == Kind::Histogram).map(|id| id.name()).collect();
    let all = format!("count(histogram_count({{job='native',__name__=~'{}'}}))", all.join("|"));
    prometheus.expect(&all, histograms);
}
