//! OTLP of the exporter's own binary: traces of real starts and of its own work, large payloads, a receiver that is away.

use std::collections::BTreeMap;
use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::{Value, json};

use crate::live::{Docker, DockerContainer, Exporter, IMAGE, Scrape, http, wait_for};
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
            wait_for(&format!("span {name} ({format})"), Duration::from_secs(20), || {
                let child = |s: &Span| parent.is_none_or(|p| s.parent_span_id == p.span_id && s.trace_id == p.trace_id);
                spans(&receiver).into_iter().find(|s| s.name == name && child(s))
            })
        };
        let request = wait_for("the span of a scrape", Duration::from_secs(20), || {
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
    let told: DockerContainer = docker.run_image(&[], &reported, &["sleep", "600"]);
    let (trace, caller) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let ran = told.inspect("{{.State.StartedAt}}");
    let report = json!({"runtime": "docker", "id": told.id, "running_at": ran, "traceparent": format!("00-{trace}-{caller}-01")});
    let answer = http(exporter.address, "POST", "/api/v1/startups", &[], report.to_string().as_bytes()).unwrap();
    assert_eq!(answer.status, 202, "{}", String::from_utf8_lossy(&answer.body));
    let name = format!("kina-test-trace-failed-{}", std::process::id());
    let failing = std::process::Command::new("docker")
        .env("DOCKER_HOST", format!("unix://{}", docker.socket.display()))
        .args(["run", "-d", "--name", &name, &failed, "no-such-command"])
        .output()
        .unwrap();
    assert!(!failing.status.success());
    docker.docker(&["rm", "-f", &name]);

    let startups = wait_for("four starts, one of them ready", Duration::from_secs(40), || {
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
        let spans = wait_for(&format!("the trace of {image}"), Duration::from_secs(20), || {
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
    assert!(phases_of(&exporter.scrape(), &checked).contains_key("ready"));
    // Asking the engine is work of its own, and none of the starts'.
    let asked = spans(&receiver).into_iter().find(|s| s.name == "GET" && s.kind == 3).unwrap();
    assert!(
        matches!(attribute(&asked, "url.path"), Some(any_value::Value::StringValue(p)) if p.contains("/containers/"))
    );
}
