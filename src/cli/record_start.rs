//! `record-start`: tells a running exporter of a container's start, from a shell or as an OCI hook.
//!
//! As a hook it reads the container's state on standard input (OCI runtime specification, "State") and reports the
//! moment that the hook stands for. A hook that fails keeps its container from starting: whatever goes wrong is said on
//! standard error, and the status is 0.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};

use super::failed;
use crate::config::DEFAULT_PORT;
use crate::root::{Nanos, Root, SECOND};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the exporter listens: http://HOST:PORT or unix:/PATH
    #[arg(long, value_name = "URL", default_value_t = format!("http://127.0.0.1:{DEFAULT_PORT}"))]
    to: String,
    /// Run as this OCI hook: the container's state is read on standard input
    #[arg(long, value_enum, conflicts_with_all = ["json", "id"])]
    hook: Option<Hook>,
    /// Read reports as JSON on standard input (docs/startup-report.schema.json)
    #[arg(long, conflicts_with = "id")]
    json: bool,
    /// The container's id, as the runtime has it
    #[arg(long, required_unless_present_any = ["hook", "json"])]
    id: Option<String>,
    /// docker, podman, containerd, apple, or cgroup where no engine stands behind it
    #[arg(long, default_value = "cgroup")]
    runtime: String,
    #[arg(long)]
    name: Option<String>,
    #[arg(long)]
    image: Option<String>,
    /// A moment: seconds since the Unix epoch, or RFC 3339
    #[arg(long, value_name = "TIME")]
    requested_at: Option<String>,
    #[arg(long, value_name = "TIME")]
    image_ready_at: Option<String>,
    #[arg(long, value_name = "TIME")]
    kernel_started_at: Option<String>,
    #[arg(long, value_name = "TIME")]
    init_started_at: Option<String>,
    #[arg(long, value_name = "TIME")]
    process_created_at: Option<String>,
    /// A moment, or `now`
    #[arg(long, value_name = "TIME")]
    running_at: Option<String>,
    #[arg(long, value_name = "TIME")]
    ready_at: Option<String>,
    /// A phase's duration in seconds, e.g. `init=0.2` (image, vm_create, kernel_boot, init, process, ready)
    #[arg(long = "phase", value_name = "NAME=SECONDS", value_parser = phase)]
    phases: Vec<(String, f64)>,
    /// From the request until it ran, in seconds
    #[arg(long, value_name = "SECONDS")]
    total: Option<f64>,
    /// cold or warm
    #[arg(long)]
    start: Option<String>,
    /// hit or miss
    #[arg(long)]
    image_cache: Option<String>,
    /// hit or miss
    #[arg(long)]
    vm_pool: Option<String>,
    /// It failed: what was said
    #[arg(long, value_name = "MESSAGE")]
    failure: Option<String>,
    /// W3C trace context of the start
    #[arg(long, env = "TRACEPARENT")]
    traceparent: Option<String>,
    /// Give up after so long
    #[arg(long, value_name = "DURATION", value_parser = crate::config::duration, default_value = "2s")]
    timeout: Duration,
}

/// Hooks of the OCI runtime specification, by what they tell of a start.
#[derive(Debug, Clone, Copy, clap::ValueEnum, PartialEq)]
#[value(rename_all = "camelCase")]
enum Hook {
    /// The process exists, its environment made
    CreateRuntime,
    /// About to become the container's own program (runs inside the container)
    StartContainer,
    /// The container's own program runs
    Poststart,
}

fn phase(text: &str) -> Result<(String, f64), String> {
    let (name, seconds) = text.split_once('=').ok_or("not of the form NAME=SECONDS")?;
    Ok((name.to_owned(), seconds.parse().map_err(|_| format!("{seconds:?} is not a number of seconds"))?))
}

pub fn run(args: &Args) -> ExitCode {
    let told = body(args, &Root::default()).and_then(|body| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        runtime.block_on(async {
            let sent = tokio::time::timeout(args.timeout, send(&args.to, body)).await;
            sent.unwrap_or_else(|_| Err(format!("{}: no answer within {:?}", args.to, args.timeout)))
        })
    });
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) if args.hook.is_some() => {
            eprintln!("kina-exporter: {why}");
            ExitCode::SUCCESS
        }
        Err(why) => failed(&why),
    }
}

fn body(args: &Args, root: &Root) -> Result<String, String> {
    if args.json {
        return input();
    }
    let mut report = Map::new();
    let mut put = |key: &str, value: Value| _ = report.insert(key.to_owned(), value);
    put("runtime", json!(args.runtime));
    if let Some(hook) = args.hook {
        let state: Value =
            serde_json::from_str(&input()?).map_err(|e| format!("standard input is no OCI state: {e}"))?;
        let id = state.get("id").and_then(Value::as_str).ok_or("standard input is no OCI state: it has no id")?;
        put("id", json!(id));
        let moment = if hook == Hook::CreateRuntime { "process_created_at" } else { "running_at" };
        put(moment, seconds(root.clock.wall()));
        // Without an engine, the start was asked for when the runtime itself (the hook's parent) was called.
        if hook == Hook::CreateRuntime
            && args.runtime == "cgroup"
            && let Some(asked) = parent_started(root)
        {
            put("requested_at", seconds(asked));
        }
    }
    let texts = [
        ("id", &args.id),
        ("name", &args.name),
        ("image", &args.image),
        ("start", &args.start),
        ("image_cache", &args.image_cache),
        ("vm_pool", &args.vm_pool),
        ("traceparent", &args.traceparent),
    ];
    for (key, value) in texts {
        if let Some(value) = value.as_ref().filter(|v| !v.is_empty()) {
            put(key, json!(value));
        }
    }
    let moments = [
        ("requested_at", &args.requested_at),
        ("image_ready_at", &args.image_ready_at),
        ("kernel_started_at", &args.kernel_started_at),
        ("init_started_at", &args.init_started_at),
        ("process_created_at", &args.process_created_at),
        ("running_at", &args.running_at),
        ("ready_at", &args.ready_at),
    ];
    for (key, value) in moments {
        match value.as_deref() {
            None => {}
            Some("now") => put(key, seconds(root.clock.wall())),
            Some(text) => put(key, text.parse::<f64>().map_or_else(|_| json!(text), |number| json!(number))),
        }
    }
    if !args.phases.is_empty() {
        put("phases", json!(args.phases.iter().cloned().collect::<std::collections::BTreeMap<_, _>>()));
    }
    if let Some(total) = args.total {
        put("total", json!(total));
    }
    if let Some(message) = &args.failure {
        put("failure", json!({ "message": message }));
    }
    Ok(Value::Object(report).to_string())
}

fn seconds(at: Nanos) -> Value {
    json!(at as f64 / SECOND as f64)
}

fn input() -> Result<String, String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|e| format!("standard input: {e}"))?;
    Ok(text)
}

/// When the process that called this one was started, wall clock.
fn parent_started(root: &Root) -> Option<Nanos> {
    #[cfg(target_os = "linux")]
    {
        let started = crate::startup::follow::process_created(root, std::os::unix::process::parent_id())?;
        let now = crate::startup::reconcile::Sample::take(&root.clock);
        Some((started + now.offset()).min(now.wall))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = root;
        None
    }
}

async fn send(to: &str, body: String) -> Result<(), String> {
    let trouble = |e: &dyn std::fmt::Display| format!("{to}: {e}");
    if let Some(path) = to.strip_prefix("unix:") {
        let limit = Duration::from_secs(3600);
        let stream = Root::default().connect_unix(Path::new(path), limit).await.map_err(|e| trouble(&e))?;
        return post(stream, "localhost", body).await.map_err(|e| trouble(&e));
    }
    let host = to.strip_prefix("http://").map(|rest| rest.split('/').next().unwrap_or(rest));
    let host = host.ok_or_else(|| format!("{to}: neither http://HOST:PORT nor unix:/PATH"))?;
    let stream = tokio::net::TcpStream::connect(host).await.map_err(|e| trouble(&e))?;
    post(stream, host, body).await.map_err(|e| trouble(&e))
}

async fn post<S>(stream: S, host: &str, body: String) -> Result<(), String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let connection = tokio::spawn(connection);
    let request = http::Request::post("/api/v1/startups")
        .header(http::header::HOST, host)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Full::new(bytes::Bytes::from(body)))
        .map_err(|e| e.to_string())?;
    let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
    let status = response.status();
    let answer = response.into_body().collect().await.map_err(|e| e.to_string())?.to_bytes();
    connection.abort();
    if status.is_success() {
        return Ok(());
    }
    Err(format!("{status}: {}", String::from_utf8_lossy(&answer).trim()))
}
