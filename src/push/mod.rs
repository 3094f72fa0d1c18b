//! OTLP: the same samples pushed, and every start as a trace, beside `/metrics`.
//!
//! A push never meets a scrape: it collects as a scrape does, encodes and compresses on a thread of its own, one request
//! at a time, and hands each to the task that talks with the receiver. While the receiver is away, requests wait in a
//! queue of bounded size. Counters are cumulative unless asked otherwise, so that what is lost heals with the next push.
//!
//! Messages are written to the wire by hand and sent over one connection that is ours: the SDK's instruments know neither a
//! Resource nor a start time for each container, and its exporters neither private certificates nor a size of requests.

mod exchange;
pub mod metrics;
mod pusher;
mod queue;
mod request;
pub mod settings;
pub mod traces;
mod transport;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::config::CollectorSet;
use crate::engine::{Collection, Engine, Shared};
use crate::startup::StartRecord;
use pusher::Pusher;
use queue::Packed;
pub use request::Request;
use settings::{Endpoint, Protocol, Settings};
use transport::Transport;
pub use transport::Unusable;

/// The tasks that push; nothing where nothing is to be pushed.
#[derive(Debug)]
pub struct Push {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// Starts pushing, as the configuration and the environment want it. Within a tokio runtime.
pub fn start(engine: &Engine, env: &BTreeMap<String, String>) -> Result<Push, Unusable> {
    let shared = engine.shared();
    let host = sysinfo::System::host_name().unwrap_or_default();
    let settings = settings::settings(&shared.config().otlp, env, &host, shared.root.clock.wall());
    for warning in &settings.warnings {
        tracing::warn!("OTLP: {warning}");
    }
    let mut push = Push { stop: watch::Sender::new(false), tasks: Vec::new() };
    if let Some(endpoint) = settings.traces.clone() {
        let outbox = push.pusher(shared, endpoint.clone(), &settings, env)?;
        shared.startups.set_traced();
        let starts = shared.startups.subscribe();
        let traces = Traces { resource: settings.shape.resource.clone(), endpoint, starts, outbox };
        push.tasks.push(tokio::spawn(traces.run(push.stop.subscribe())));
    }
    if let Some(endpoint) = settings.metrics.clone() {
        let outbox = push.pusher(shared, endpoint.clone(), &settings, env)?;
        let metrics = Metrics { engine: engine.clone(), settings, endpoint, outbox, before: None };
        push.tasks.push(tokio::spawn(metrics.run(push.stop.subscribe())));
    }
    Ok(push)
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
    settings: Settings,
    endpoint: Endpoint,
    outbox: mpsc::Sender<Packed>,
    before: Option<Arc<Collection>>,
}

impl Metrics {
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval(self.settings.interval);
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
        let now = self.engine.collect(CollectorSet::ALL).await.ok()?;
        let before = self.before.replace(now.clone());
        let (shape, endpoint, outbox) = (self.settings.shape.clone(), self.endpoint.clone(), self.outbox.clone());
        let encoded = tokio::task::spawn_blocking(move || {
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

/// The task that tells of starts.
struct Traces {
    resource: Vec<(String, String)>,
    endpoint: Endpoint,
    starts: mpsc::UnboundedReceiver<Arc<StartRecord>>,
    outbox: mpsc::Sender<Packed>,
}

/// Starts told in one request.
const MOST_STARTS: usize = 100;

impl Traces {
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut starts = Vec::new();
        loop {
            let stopped = tokio::select! {
                biased;
                n = self.starts.recv_many(&mut starts, MOST_STARTS) => n == 0,
                _ = stop.wait_for(|stopped| *stopped) => true,
            };
            if !starts.is_empty() && self.push(&starts).await.is_none() || stopped {
                return;
            }
            starts.clear();
        }
    }

    /// None once nobody takes any more.
    async fn push(&self, starts: &[Arc<StartRecord>]) -> Option<()> {
        let message = traces::request(&self.resource, starts);
        let scopes = message.resource_spans.iter().flat_map(|r| &r.scope_spans);
        let items = scopes.map(|s| s.spans.len() as u64).sum();
        let body = match self.endpoint.protocol {
            Protocol::Grpc | Protocol::HttpProtobuf => Ok(message.encode_to_vec()),
            Protocol::HttpJson => json(&message),
        };
        match body.and_then(|body| compressed(&self.endpoint, body)) {
            Ok(body) => self.outbox.send(Packed { body, items }).await.ok(),
            Err(e) => {
                tracing::error!("OTLP: starts can't be packed: {e}");
                Some(())
            }
        }
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
