//! OTLP of the exporter's own binary: traces of real starts and of its own work, large payloads, a receiver that is away.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use kina_exporter::catalog;
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::{Value, json};

use crate::live::{Docker, Exporter, IMAGE, Scrape, http, wait_for};
use crate::prometheus::Prometheus;
use crate::receiver::Receiver;

/// Nothing of this machine's runtimes.
const ALONE: [&str; 5] = [
    "--no-runtime.docker",
    "--no-runtime.podman",
    "--no-runtime.containerd",
    "--no-runtime.cgroup",
    "--no-runtime.apple",
];

const SOON: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "50");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn spans(receiver: &Receiver) -> Vec<Span> {
    receiver.got().iter().filter(|g| g.is_traces()).flat_map(|g| g.spans()).collect()
}

fn attribute(span: &Span, key: &str) -> Option<any_value::Value> {
    span.attributes.iter().find(|a| a.key == key)?.value.clone()?.value
}

fn seconds(span: &Span) -> f64 {
    (span.end_time_unix_nano - span.start_time_unix_nano) as f64 / 1e9
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exporters_own_work_is_traced_when_asked() {
    let receiver = Receiver::default();
    let endpoint = format!("--otlp.endpoint=http://{}", receiver.listen().await);
    let common = [&ALONE[..], &[&endpoint, "--otlp.interval=500ms", "--log.level=debug"]].concat();
    let (trace, caller) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let traceparent = format!("00-{trace}-{caller}-01");
    let ask = |exporter: &Exporter| {
        assert_eq!(exporter.try_get("/metrics", &[("traceparent", &traceparent)]).unwrap().status, 200);
        exporter.try_get("/nowhere", &[]).unwrap();
    };
    for format in ["logfmt", "json"] {
        let format = format!("--log.format={format}");
        let exporter = Exporter::start_in(&[&common[..], &["--otlp.self-traces", &format]].concat(), &[SOON]);
        ask(&exporter);
        let find = |name: &str, parent: Option<&Span>| {
            wait_for(&format!("span {name} ({format})"), || {
                let child = |s: &Span| parent.is_none_or(|p| s.parent_span_id == p.span_id && s.trace_id == p.trace_id);
                spans(&receiver).into_iter().find(|s| s.name == name && child(s))
            })
        };
        let request = wait_for("the span of a scrape", || {
            spans(&receiver).into_iter().find(|s| s.name == "GET metrics" && hex(&s.trace_id) == trace)
        });
        assert_eq!((request.kind, hex(&request.parent_span_id).as_str()), (2, caller));
        assert_eq!(attribute(&request, "http.response.status_code"), Some(any_value::Value::IntValue(200)));
        let collect = find("collect", Some(&request));
        assert!(seconds(&collect) <= seconds(&request));
        find("read cpu", Some(&collect));
        assert_eq!(find("GET", None).kind, 2, "a path that nobody serves has no name");
        let push = find("push", None);
        find("collect", Some(&push));
        find("encode", Some(&push));
        assert_eq!(find("export metrics", None).kind, 3);

        // The log tells in which trace it was.
        let log = exporter.log();
        let line = log.lines().find(|l| l.contains("/metrics") && l.contains(trace)).unwrap_or_else(|| panic!("{log}"));
        match serde_json::from_str::<Value>(line) {
            Ok(line) => {
                assert_eq!(line["span_id"], hex(&request.span_id));
                assert_eq!(
                    (&line["message"], &line["status"], &line["level"]),
                    (&json!("request"), &json!(200), &json!("DEBUG"))
                );
            }
            Err(_) => assert!(line.contains(&format!("trace_id={trace} span_id={}", hex(&request.span_id))), "{line}"),
        }
        // What carries spans makes none: nothing tells of itself without end.
        assert!(spans(&receiver).iter().all(|s| !s.name.contains("traces")));
        exporter.terminate();
        receiver.forget();
    }
    let exporter = Exporter::start_in(&common, &[SOON]);
    ask(&exporter);
    receiver.wait_for(2).await;
    assert!(spans(&receiver).is_empty(), "off by default");
    assert!(exporter.log().contains("/metrics") && !exporter.log().contains("trace_id"));
}

/// Sums of the phases of an image's starts, by phase; the total under an empty name.
fn phases_of(scrape: &Scrape, image: &str) -> BTreeMap<String, f64> {
    let phases = scrape.select("kina_container_startup_phase_duration_seconds_sum", &[]);
    let mut all: BTreeMap<_, _> =
        phases.filter(|s| s.label("image") == image).map(|s| (s.label("phase").to_owned(), s.value)).collect();
    let total = scrape.value("kina_container_startup_duration_seconds_sum", &[("image", image)]);
    all.extend(total.map(|t| (String::new(), t)));
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_start_is_a_trace_whose_spans_are_the_histograms_phases() {
    let Some(docker) = Docker::get() else { return };
    let receiver = Receiver::default();
    let exporter = Exporter::start_in(
        &[
            &format!("--runtime.docker.socket={}", docker.socket.display()),
            "--containers.image-include=kina-test-trace:.*",
            &format!("--otlp.endpoint=http://{}", receiver.listen().await),
            "--otlp.self-traces",
            "--log.level=debug",
        ],
        &[SOON, ("OTEL_METRICS_EXPORTER", "none")],
    );
    let image = |tag: &str| {
        let name = format!("kina-test-trace:{tag}");
        docker.docker(&["tag", IMAGE, &name]);
        name
    };
    let (plain, checked, reported, failed) = (image("plain"), image("checked"), image("reported"), image("failed"));
    let _plain = docker.run_image(&[], &plain, &["sleep", "600"]);
    let check = ["--health-cmd=sleep 2", "--health-interval=1s"];
    let healthy = docker.run_image(&check, &checked, &["sleep", "600"]);
    // Whoever starts it tells so before, for its own trace to go on.
    let name = format!("kina-test-trace-told-{}", std::process::id());
    let told = docker.docker(&["create", "--name", &name, &reported, "sleep", "600"]);
    let (trace, caller) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let traceparent = format!("00-{trace}-{caller}-01");
    let report = json!({"runtime": "docker", "id": told, "requested_at": now, "traceparent": traceparent});
    let answer = http(exporter.address, "POST", "/api/v1/startups", &[], report.to_string().as_bytes()).unwrap();
    assert_eq!(answer.status, 202, "{}", String::from_utf8_lossy(&answer.body));
    docker.docker(&["start", &name]);
    let name = format!("kina-test-trace-failed-{}", std::process::id());
    let failing = std::process::Command::new("docker")
        .env("DOCKER_HOST", format!("unix://{}", docker.socket.display()))
        .args(["run", "-d", "--name", &name, &failed, "no-such-command"])
        .output()
        .unwrap();
    assert!(!failing.status.success());
    docker.docker(&["rm", "-f", &name]);

    let startups = wait_for("four starts, one of them ready", || {
        let all: Value = serde_json::from_str(&exporter.get("/api/v1/startups")).unwrap();
        let all = all["startups"].as_array().unwrap().clone();
        let ready = all.iter().any(|s| s["id"] == json!(healthy.id) && !s["phases"]["ready"].is_null());
        (all.len() == 4 && ready).then_some(all)
    });
    let exemplars = exporter.get("/metrics?format=openmetrics");
    for start in &startups {
        let image = start["image"].as_str().unwrap();
        let id = start["trace_id"].as_str().unwrap();
        let mut want = phases_of(&exporter.scrape(), image);
        let is_failed = image == failed;
        let spans = wait_for(&format!("the trace of {image}"), || {
            let mut found: Vec<_> = spans(&receiver).into_iter().filter(|s| hex(&s.trace_id) == id).collect();
            found
                .sort_by_key(|s| (!s.parent_span_id.is_empty() && s.name != "container.start", s.start_time_unix_nano));
            (found.len() >= want.len().max(1)).then_some(found)
        });
        let (root, phases) = spans.split_first().unwrap();
        assert_eq!(root.name, "container.start");
        let code = root.status.as_ref().map_or(0, |s| s.code);
        assert_eq!((code == 2, is_failed), (is_failed, !start["failure"].is_null()), "{root:?}");
        if is_failed {
            let message = &root.status.as_ref().unwrap().message;
            assert!(message.contains("no-such-command"), "{message}");
            continue;
        }
        assert_eq!(spans.len(), want.len(), "{image}: {want:?} {spans:#?}");
        let total = want.remove("").unwrap();
        assert!((seconds(root) - total).abs() < 2e-9 * total.max(1.0) + 1e-9, "{image}: {} of {total}", seconds(root));
        let mut at = root.start_time_unix_nano;
        for span in phases {
            assert_eq!(span.parent_span_id, root.span_id);
            let phase = span.name.strip_prefix("container.start.").unwrap();
            let took = want.remove(phase).unwrap_or_else(|| panic!("{image}: {phase}"));
            assert!((seconds(span) - took).abs() < 1e-8, "{image}: {phase}: {} of {took}", seconds(span));
            assert_eq!(span.start_time_unix_nano, at, "{image}: {phase} follows the one before it");
            at = span.end_time_unix_nano;
        }
        assert!(want.is_empty(), "{image}: no span for {want:?}");
        assert!(exemplars.contains(&format!("trace_id=\"{id}\"")), "{image}");
        let caller_of = if image == reported { caller } else { "" };
        assert_eq!((hex(&root.parent_span_id).as_str(), id == trace), (caller_of, image == reported), "{image}");
        assert!(exporter.log().lines().any(|l| l.contains("msg=start ") && l.contains(&format!("trace_id={id}"))));
    }
    docker.docker(&["rm", "-f", &told]);
    assert!(phases_of(&exporter.scrape(), &checked).contains_key("ready"));
    // Asking the engine is work of its own, and none of the starts'.
    let inspect = |s: &Span| {
        let path = attribute(s, "url.path");
        s.name == "GET"
            && s.kind == 3
            && matches!(path, Some(any_value::Value::StringValue(p)) if p.contains("/containers/"))
    };
    assert!(spans(&receiver).iter().any(inspect));
}

#[tokio::test(flavor = "multi_thread")]
async fn pushing_takes_the_place_of_serving_where_no_address_is_given() {
    let receiver = Receiver::default();
    let endpoint = receiver.listen().await;
    let dir = crate::common::tree(&[(
        "kina.yml",
        &format!("web: {{listen-address: []}}\notlp: {{endpoint: 'http://{endpoint}'}}\n"),
    )]);
    let child = std::process::Command::new(env!("CARGO_BIN_EXE_kina-exporter"))
        .args(ALONE)
        .args(["--otlp.interval=200ms", "--config.file"])
        .arg(dir.path().join("kina.yml"))
        .spawn();
    let child = crate::common::Running(child.unwrap());
    receiver.wait_for(2).await;
    assert!(!points(&receiver).is_empty());
    let process = format!("/proc/{}", child.0.id());
    let links =
        std::fs::read_dir(format!("{process}/fd")).unwrap().flatten().flat_map(|e| std::fs::read_link(e.path()));
    let own: Vec<String> = links.map(|l| l.display().to_string()).collect();
    let table = |name: &str| std::fs::read_to_string(format!("{process}/net/{name}")).unwrap_or_default();
    for line in (table("tcp") + &table("tcp6")).lines() {
        let columns: Vec<&str> = line.split_whitespace().collect();
        // 0A is a socket that listens.
        assert!(columns[3] != "0A" || !own.contains(&format!("socket:[{}]", columns[9])), "{line}");
    }
}

/// `VmRSS`, in bytes.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Points by metric, attributes and time; how often each came.
fn points(receiver: &Receiver) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    let got = receiver.got();
    let metrics = got.iter().filter(|g| !g.is_traces()).map(|g| g.metrics()).collect::<Vec<_>>();
    let resources = metrics.iter().flat_map(|r| &r.resource_metrics);
    for metric in resources.flat_map(|r| &r.scope_metrics).flat_map(|s| &s.metrics) {
        let mut add =
            |attributes: &Vec<_>, time| *all.entry(format!("{} {attributes:?} {time}", metric.name)).or_default() += 1;
        match metric.data.as_ref().unwrap() {
            Data::Gauge(g) => g.data_points.iter().for_each(|p| add(&p.attributes, p.time_unix_nano)),
            Data::Sum(s) => s.data_points.iter().for_each(|p| add(&p.attributes, p.time_unix_nano)),
            Data::Histogram(h) => h.data_points.iter().for_each(|p| add(&p.attributes, p.time_unix_nano)),
            Data::ExponentialHistogram(h) => h.data_points.iter().for_each(|p| add(&p.attributes, p.time_unix_nano)),
            Data::Summary(s) => s.data_points.iter().for_each(|p| add(&p.attributes, p.time_unix_nano)),
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_away_costs_neither_memory_nor_time_and_gets_everything_once() {
    const QUEUE: u64 = 300_000;
    let start = async |receiver: &Receiver| {
        let args = [
            format!("--otlp.endpoint=http://{}", receiver.listen().await),
            // Ten pushes a second: an hour of the usual ones, one a minute, is six seconds of these.
            "--otlp.interval=100ms".into(),
            format!("--otlp.queue-bytes={QUEUE}"),
        ];
        let args: Vec<&str> = ALONE.into_iter().chain(args.iter().map(String::as_str)).collect();
        Exporter::start_in(&args, &[("OTEL_TRACES_EXPORTER", "none")])
    };
    let (receiver, steady) = (Receiver::default(), Receiver::default());
    // The other one's receiver stays: whatever else this machine does, it does to both.
    let (exporter, other) = (start(&receiver).await, start(&steady).await);
    let timed = |exporter: &Exporter| {
        let begin = Instant::now();
        let scrape = exporter.scrape();
        (scrape, begin.elapsed())
    };
    receiver.wait_for(20).await;
    for _ in 0..20 {
        exporter.scrape();
    }
    let before = resident(exporter.pid());
    let push = points(&receiver).len() as f64 / receiver.got().len() as f64;
    receiver.go(true);
    let (mut took, mut others) = (Vec::new(), Vec::new());
    wait_for("more than an hour's pushes to be dropped", || {
        let (scrape, time) = timed(&exporter);
        took.push(time);
        others.push(timed(&other).1);
        steady.forget();
        let waiting = scrape.must("kina_otlp_queue_requests", &[("signal", "metrics")]);
        assert!(waiting < 100.0, "{waiting} requests in {QUEUE} bytes");
        let dropped = scrape.value("kina_otlp_dropped_items_total", &[("reason", "queue_full")]).unwrap_or(0.0);
        (dropped > 60.0 * push).then_some(())
    });
    let grown = resident(exporter.pid()).saturating_sub(before);
    assert!(grown < QUEUE + (1 << 20), "{grown} bytes more after an hour's pushes, with {QUEUE} for the queue");
    took.sort();
    others.sort();
    let (middle, other_middle) = (took[took.len() / 2], others[others.len() / 2]);
    assert!(middle < 2 * other_middle, "half of the scrapes take {middle:?}, {other_middle:?} with a receiver");
    drop(other);

    let came = receiver.got().len();
    receiver.go(false);
    receiver.wait_for(came + 20).await;
    assert_eq!(exporter.terminate(), Some(0), "what waits is flushed");
    let points = points(&receiver);
    let twice = points.iter().find(|(_, n)| **n > 1);
    assert!(twice.is_none(), "sent twice: {twice:?}");
    assert!(points.len() > 1000);
}

/// Debian's Prometheus has no receiver of OTLP.
#[tokio::test(flavor = "multi_thread")]
async fn prometheus_3_has_the_same_series_from_otlp_as_from_a_scrape() {
    let Some(program) = crate::prometheus::version_3() else { return };
    let Some(docker) = Docker::get() else { return };
    let prometheus = Prometheus::run(&program, &["--web.enable-otlp-receiver"], "global: {}\n");
    let containers = ["a", "b"].map(|tag| {
        docker.docker(&["tag", IMAGE, &format!("kina-test-otlp:{tag}")]);
        docker.run_image(&[], &format!("kina-test-otlp:{tag}"), &["sleep", "600"])
    });
    let args = [
        format!("--runtime.docker.socket={}", docker.socket.display()),
        "--containers.image-include=kina-test-otlp:.*".into(),
        format!("--otlp.endpoint=http://{}/api/v1/otlp", prometheus.address),
        "--otlp.interval=1s".into(),
    ];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let exporter = Exporter::start(&args);
    wait_for("both containers", || {
        let found = prometheus.query("count by (container_name) (container_memory_usage_bytes{container_name!=\"\"})");
        (found.len() == 2).then_some(())
    });
    // Prometheus takes no traces, and none are sent there: a push that fails would be counted.
    assert!(exporter.log().contains("takes no traces"), "{}", exporter.log());
    assert_eq!(exporter.scrape().value("kina_otlp_failed_items_total", &[]), None, "{}", exporter.log());

    let sent = exporter.scrape().must("kina_otlp_sent_items_total", &[("signal", "metrics")]);
    wait_for("another push", || {
        (exporter.scrape().must("kina_otlp_sent_items_total", &[("signal", "metrics")]) > sent + 100.0).then_some(())
    });
    // Each series of ours is there, under the name that it has on /metrics, as often; but for what has a name in the
    // conventions.
    let counts = |scrape: &Scrape| {
        let mut counts = BTreeMap::<String, usize>::new();
        for s in scrape.samples.iter().filter(|s| {
            s.name.starts_with("kina_") && !s.name.starts_with("kina_otlp_") && !s.name.starts_with("kina_http_")
        }) {
            let family = catalog::by_series(&s.name).unwrap();
            let is_machine = s.label("id") == "/" && family.otel_system.is_some();
            if family.otel.is_none() && !is_machine {
                *counts.entry(s.name.clone()).or_default() += 1;
            }
        }
        counts
    };
    // Rates have a second collection behind them.
    let (scrape, counts) = wait_for("most families", || {
        let scrape = exporter.scrape();
        let counts = counts(&scrape);
        (counts.len() > 25).then_some((scrape, counts))
    });
    for (name, want) in counts {
        // Advice begins between two pushes: the next one has it.
        wait_for(&format!("{want} {name}"), || {
            (prometheus.value(&format!("count({name})")) == Some(want as f64)).then_some(())
        });
    }
    for c in &containers {
        let labels = format!("container_name=\"{}\",container_id=\"{}\"", c.name, c.id);
        let rss = prometheus.value(&format!("container_memory_usage_bytes{{{labels}}}")).unwrap();
        let scraped = scrape.must("container_memory_usage_bytes", &[("name", &c.name)]);
        assert!((rss - scraped).abs() <= 1048576.0, "{rss} {scraped}");
    }
    drop(exporter);
    let merged = Exporter::start(&[&args[..], &["--otlp.identity=resource"]].concat());
    wait_for("a warning", || merged.log().contains("it merges the series of all").then_some(()));
}
