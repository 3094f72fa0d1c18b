//! OTLP: the same samples pushed, and every start as a trace, beside `/metrics`.
//!
//! A push never meets a scrape: it collects as a scrape does, encodes and compresses on a thread of its own, one request
//! at a time, and hands each to the task that talks with the receiver. While the receiver is away, requests wait in a
//! queue of bounded size. Counters are cumulative unless asked otherwise, so that what is lost heals with the next push.
//!
//! Metrics are written to the wire by hand, traces are the SDK's spans, and both are sent over one connection that is ours:
//! the SDK's instruments know neither a Resource nor a start time for each container, and its exporters neither private
//! certificates nor a queue nor a size of requests (docs/decisions/0003).

mod exchange;
pub mod metrics;
pub mod own;
mod pusher;
mod queue;
mod request;
pub mod settings;
pub mod traces;
mod transport;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_sdk::trace::SpanData;
use prost::Message;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::config::{CollectorSet, Otlp};
use crate::engine::{Collection, Engine, Shared};
use crate::root::Nanos;
use crate::startup::ledger::Told;
use crate::{WORK, catalog};
use metrics::Shape;
use own::OwnWork;
use pusher::Pusher;
use queue::Packed;
pub use request::Request;
use settings::{Batches, Endpoint, Protocol, Settings};
use transport::Transport;
pub use transport::Unusable;

/// The tasks that push; nothing where nothing is to be pushed.
#[derive(Debug)]
pub struct Push {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// What records the exporter's own work; None unless that is asked for and there is anywhere to send it. Made before
/// anything else, for the log to know of it.
pub fn own_work(own: &Otlp, env: &BTreeMap<String, String>) -> Option<OwnWork> {
    let settings = own.self_traces.then(|| read_settings(own, env, 0))?;
    settings.traces.map(|_| OwnWork::new(settings.batches.room))
}

fn read_settings(own: &Otlp, env: &BTreeMap<String, String>, started: Nanos) -> Settings {
    settings::settings(own, env, &sysinfo::System::host_name().unwrap_or_default(), started)
}

/// Starts pushing, as the configuration and the environment want it. Within a tokio runtime.
pub fn start(engine: &Engine, env: &BTreeMap<String, String>, own: Option<OwnWork>) -> Result<Push, Unusable> {
    let shared = engine.shared();
    let otlp = shared.config().otlp.clone();
    let settings = read_settings(&otlp, env, shared.root.clock.wall());
    for warning in &settings.warnings {
        tracing::warn!("OTLP: {warning}");
    }
    let mut push = Push { stop: watch::Sender::new(false), tasks: Vec::new() };
    if let Some(endpoint) = settings.traces.clone() {
        let outbox = push.pusher(shared, endpoint.clone(), &settings, env)?;
        shared.startups.set_traced();
        let traces = Traces {
            shared: shared.clone(),
            resource: traces::resource(&settings.shape.resource),
            max_bytes: largest(&endpoint, settings.shape.max_bytes),
            endpoint,
            batches: settings.batches,
            starts: shared.startups.subscribe(),
            own,
            stop: push.stop.subscribe(),
            outbox,
        };
        push.tasks.push(tokio::spawn(traces.run()));
    } else if otlp.self_traces {
        tracing::warn!("otlp.self-traces: there is nowhere to send traces");
    }
    if let Some(endpoint) = settings.metrics.clone() {
        let outbox = push.pusher(shared, endpoint.clone(), &settings, env)?;
        let encoder = Encoder::new(&settings, endpoint, outbox);
        let metrics = Metrics { engine: engine.clone(), interval: settings.interval, encoder, before: None };
        push.tasks.push(tokio::spawn(metrics.run(push.stop.subscribe())));
    }
    Ok(push)
}

/// Pushes the metrics of one collection and waits until the receiver has answered: what a push costs, and nothing else.
pub async fn once(shared: &Arc<Shared>, env: &BTreeMap<String, String>, now: Arc<Collection>) -> Result<(), Unusable> {
    let settings = read_settings(&shared.config().otlp, env, now.snapshot.wall);
    let Some(endpoint) = settings.metrics.clone() else { return Ok(()) };
    let mut push = Push { stop: watch::Sender::new(false), tasks: Vec::new() };
    let outbox = push.pusher(shared, endpoint.clone(), &settings, env)?;
    Encoder::new(&settings, endpoint, outbox).encode(now, None, tracing::Span::none()).await;
    push.shutdown().await;
    Ok(())
}

/// JSON of a message is up to six times as long as the message.
pub const JSON: usize = 6;

/// How large a message may be for the request to stay below `max_bytes`.
fn largest(endpoint: &Endpoint, max_bytes: usize) -> usize {
    if endpoint.protocol == Protocol::HttpJson { max_bytes / JSON } else { max_bytes }
}

impl Push {
    fn pusher(
        &mut self,
        shared: &Arc<Shared>,
        endpoint: Endpoint,
        settings: &Settings,
        env: &BTreeMap<String, String>,
    ) -> Result<mpsc::Sender<Packed>, Unusable> {
        let transport = Transport::new(&endpoint, env, &shared.root)?;
        tracing::info!(uri = %endpoint.uri, protocol = ?endpoint.protocol, "OTLP: pushing");
        let pusher = Pusher::new(shared.clone(), endpoint, transport, settings.queue_bytes);
        let (outbox, inbox) = mpsc::channel(1);
        self.tasks.push(tokio::spawn(pusher.run(inbox, settings.export_timeout)));
        Ok(outbox)
    }

    /// Pushes once more and ends; whatever can't be sent in time is dropped and counted.
    pub async fn shutdown(self) {
        let _ = self.stop.send(true);
        for task in self.tasks {
            let _ = task.await;
        }
    }
}

/// The task that collects and encodes.
struct Metrics {
    engine: Engine,
    interval: Duration,
    encoder: Encoder,
    before: Option<Arc<Collection>>,
}

impl Metrics {
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first is at once: nothing has been seen by then.
        ticks.tick().await;
        loop {
            let stopped = tokio::select! {
                _ = ticks.tick() => false,
                _ = stop.wait_for(|stopped| *stopped) => true,
            };
            if self.push().await.is_none() || stopped {
                return;
            }
        }
    }

    /// Collects, encodes, hands over. None once nobody collects or takes any more.
    async fn push(&mut self) -> Option<()> {
        let span = tracing::info_span!(target: WORK, parent: None, "push");
        let now = self.engine.collect(CollectorSet::ALL).instrument(span.clone()).await.ok()?;
        let before = self.before.replace(now.clone());
        self.encoder.encode(now, before, span).await
    }
}

/// What makes requests of collections.
struct Encoder {
    shape: Shape,
    endpoint: Endpoint,
    outbox: mpsc::Sender<Packed>,
}

impl Encoder {
    fn new(settings: &Settings, endpoint: Endpoint, outbox: mpsc::Sender<Packed>) -> Self {
        let max_bytes = largest(&endpoint, settings.shape.max_bytes);
        Self { shape: Shape { max_bytes, ..settings.shape.clone() }, endpoint, outbox }
    }

    async fn encode(&self, now: Arc<Collection>, before: Option<Arc<Collection>>, span: tracing::Span) -> Option<()> {
        let (shape, endpoint, outbox) = (self.shape.clone(), self.endpoint.clone(), self.outbox.clone());
        let encoded = tokio::task::spawn_blocking(move || {
            let _within = tracing::info_span!(target: WORK, parent: &span, "encode").entered();
            metrics::encode(&shape, &now, before.as_deref(), &mut |request| match pack(&endpoint, request) {
                Ok(packed) => outbox.blocking_send(packed).is_ok(),
                Err(e) => {
                    tracing::error!("OTLP: a request can't be packed: {e}");
                    false
                }
            });
        });
        encoded.await.ok()
    }
}

/// The task that tells of starts, and of the exporter's own work.
struct Traces {
    shared: Arc<Shared>,
    resource: ResourceAttributesWithSchema,
    max_bytes: usize,
    endpoint: Endpoint,
    batches: Batches,
    starts: mpsc::UnboundedReceiver<Told>,
    own: Option<OwnWork>,
    stop: watch::Receiver<bool>,
    outbox: mpsc::Sender<Packed>,
}

impl Traces {
    async fn run(mut self) {
        let Batches { size, delay, .. } = self.batches;
        let mut open = true;
        while open {
            let mut spans = Vec::new();
            open = self.more(&mut spans).await;
            // Others may follow soon: they go together.
            let full = async {
                while open && spans.len() < size {
                    open = self.more(&mut spans).await;
                }
            };
            let _ = tokio::time::timeout(delay, full).await;
            if self.push(spans).await.is_none() {
                return;
            }
        }
    }

    /// Waits for a span. False once there will be no more: what is there has been taken by then.
    async fn more(&mut self, spans: &mut Vec<SpanData>) -> bool {
        let own = async {
            match &mut self.own {
                Some(own) => own.spans.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            told = self.starts.recv() => match told {
                Some(Told::Start(start)) => spans.extend(traces::spans(&start)),
                Some(Told::Ready(start)) => spans.extend(traces::ready(&start)),
                None => return false,
            },
            Some(span) = own => spans.push(span),
            _ = self.stop.wait_for(|stopped| *stopped) => return false,
        }
        true
    }

    /// None once nobody takes any more.
    async fn push(&self, spans: Vec<SpanData>) -> Option<()> {
        let lost = self.own.as_ref().map_or(0, |own| own.lost.swap(0, Ordering::Relaxed));
        if lost > 0 {
            self.shared.held.add(catalog::OTLP_DROPPED, &["traces", "buffer_full"], lost);
        }
        for request in traces::requests(&self.resource, spans, self.max_bytes) {
            match self.pack(&request) {
                Ok(packed) => self.outbox.send(packed).await.ok()?,
                Err(e) => tracing::error!("OTLP: spans can't be packed: {e}"),
            }
        }
        Some(())
    }

    fn pack(&self, request: &ExportTraceServiceRequest) -> io::Result<Packed> {
        let body = match self.endpoint.protocol {
            Protocol::Grpc | Protocol::HttpProtobuf => request.encode_to_vec(),
            Protocol::HttpJson => json(request)?,
        };
        Ok(Packed { body: compressed(&self.endpoint, body)?, items: traces::items(request) })
    }
}

/// Puts a request of metrics into the form in which it is sent.
fn pack(endpoint: &Endpoint, request: Request) -> io::Result<Packed> {
    let body = match endpoint.protocol {
        Protocol::Grpc | Protocol::HttpProtobuf => request.bytes,
        Protocol::HttpJson => {
            let message = ExportMetricsServiceRequest::decode(&request.bytes[..]).map_err(io::Error::other)?;
            json(&message)?
        }
    };
    Ok(Packed { body: compressed(endpoint, body)?, items: request.items })
}

/// A message as OTLP's JSON. Fields without a value are left out: the Collector takes no null for a number.
fn json(message: &impl Serialize) -> io::Result<Vec<u8>> {
    fn without_nulls(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|_, v| !v.is_null());
                fields.values_mut().for_each(without_nulls);
            }
            Value::Array(items) => items.iter_mut().for_each(without_nulls),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(message)?;
    without_nulls(&mut value);
    Ok(serde_json::to_vec(&value)?)
}

fn compressed(endpoint: &Endpoint, body: Vec<u8>) -> io::Result<Bytes> {
    if !endpoint.gzip {
        return Ok(body.into());
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&body)?;
    Ok(encoder.finish()?.into())
}
