//! Starts → OTLP traces: one trace a start, a span a phase with its real times.
//!
//! Written as messages, not through the SDK's tracer: a start is known when it is over, its trace id is that of the
//! histogram's exemplar, and a batch processor with a thread of its own would only stand in between.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

use super::request::SCOPE;
use crate::catalog;
use crate::root::Nanos;
use crate::startup::{Phase, StartRecord};

/// One request of all spans of some starts.
pub fn request(resource: &[(String, String)], starts: &[Arc<StartRecord>]) -> ExportTraceServiceRequest {
    let spans: Vec<Span> = starts.iter().filter_map(|start| spans(start)).flatten().collect();
    let scope = InstrumentationScope {
        name: SCOPE.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let attributes = resource.iter().map(|(k, v)| text(k, v)).collect();
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_spans: vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        }],
    }
}

const ROOT: &str = "container.start";
/// `SPAN_KIND_INTERNAL`
const INTERNAL: i32 = 1;
/// `STATUS_CODE_ERROR`
const ERROR: i32 = 2;

/// The root span and one for each phase; None for a start of which no time is known.
fn spans(start: &StartRecord) -> Option<Vec<Span>> {
    let (begin, end) = ends(start)?;
    let trace_id = bytes::<16>(&start.trace_id())?;
    let span = |name: &str, from: Nanos, to: Nanos| Span {
        trace_id: trace_id.clone(),
        span_id: span_id(&trace_id, name),
        name: name.to_owned(),
        kind: INTERNAL,
        start_time_unix_nano: from.max(0) as u64,
        end_time_unix_nano: to.max(from).max(0) as u64,
        ..Span::default()
    };
    let root = Span {
        parent_span_id: parent(start).unwrap_or_default(),
        attributes: attributes(start),
        status: start.failure.as_ref().map(|(_, message)| Status { message: message.clone(), code: ERROR }),
        ..span(ROOT, begin, end)
    };
    let mut all = vec![root];
    for (phase, from, to) in placed(start, begin, end) {
        let parent_span_id = span_id(&trace_id, ROOT);
        all.push(Span { parent_span_id, ..span(&format!("{ROOT}.{}", phase.name()), from, to) });
    }
    Some(all)
}

/// When a start began and ended, as far as its moments and phases tell.
fn ends(start: &StartRecord) -> Option<(Nanos, Nanos)> {
    let took = start.total.unwrap_or_else(|| start.phases.sum());
    match (start.requested, start.running) {
        (Some(begin), Some(end)) => Some((begin, end)),
        (Some(begin), None) => Some((begin, begin + took)),
        (None, Some(end)) => Some((end - took, end)),
        (None, None) => None,
    }
}

/// Phases with their times. They follow each other from the request on; behind one that nobody saw, they are placed from
/// the end instead.
fn placed(start: &StartRecord, begin: Nanos, end: Nanos) -> Vec<(Phase, Nanos, Nanos)> {
    let in_vm = [Phase::VmCreate, Phase::KernelBoot].iter().any(|p| start.phases.get(*p).is_some());
    let order = Phase::ALL.into_iter().filter(|p| match p {
        Phase::VmCreate | Phase::KernelBoot => in_vm,
        Phase::Ready => false,
        _ => true,
    });
    let durations: Vec<_> = order.map(|p| (p, start.phases.get(p))).collect();
    let (seen, rest) = durations.split_at(durations.iter().position(|(_, d)| d.is_none()).unwrap_or(durations.len()));
    let mut all = Vec::new();
    let mut at = begin;
    for (phase, duration) in seen {
        let to = at + duration.unwrap_or_default();
        all.push((*phase, at, to));
        at = to;
    }
    let mut at = end;
    for (phase, duration) in rest.iter().rev() {
        // A second one that nobody saw: what lies before it could be anywhere.
        let Some(duration) = duration else { break };
        all.push((*phase, at - duration, at));
        at -= duration;
    }
    if let Some(duration) = start.phases.get(Phase::Ready) {
        all.push((Phase::Ready, end, end + duration));
    }
    all.sort_by_key(|(phase, ..)| *phase);
    all
}

fn attributes(start: &StartRecord) -> Vec<KeyValue> {
    let mut all = vec![
        text("container.id", &start.key.id),
        text(catalog::attribute("name"), &start.name),
        text(catalog::attribute("image"), &start.image),
        text(catalog::attribute("runtime"), start.key.runtime.name()),
        text("kina.start.kind", start.kind.name()),
        text("kina.start.source", start.source.name()),
    ];
    all.extend(start.image_cached.map(|hit| truth("kina.image.cached", hit)));
    all.extend(start.pool_hit.map(|hit| truth("kina.vm.pooled", hit)));
    all.extend(start.failure.as_ref().map(|(reason, _)| text("error.type", reason.name())));
    if !start.slow.is_empty() {
        let reasons: Vec<_> = start.slow.iter().map(|f| f.reason).collect();
        all.push(text("kina.start.slow_reasons", &reasons.join(",")));
    }
    all
}

fn text(key: &str, value: &str) -> KeyValue {
    key_value(key, Value::StringValue(value.to_owned()))
}

fn truth(key: &str, value: bool) -> KeyValue {
    key_value(key, Value::BoolValue(value))
}

fn key_value(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// The span that a reporter's trace context names.
fn parent(start: &StartRecord) -> Option<Vec<u8>> {
    bytes::<8>(start.traceparent.as_deref()?.split('-').nth(2)?)
}

/// Bytes of so many pairs of hex digits that are not all zero.
fn bytes<const N: usize>(hex: &str) -> Option<Vec<u8>> {
    let pairs = (0..N).map(|i| hex.get(2 * i..2 * i + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()));
    let all: Vec<u8> = pairs.collect::<Option<_>>()?;
    (hex.len() == 2 * N && all.iter().any(|b| *b != 0)).then_some(all)
}

/// A span's id: the same for the same span of the same trace.
fn span_id(trace_id: &[u8], name: &str) -> Vec<u8> {
    let mut hasher = DefaultHasher::new();
    (trace_id, name).hash(&mut hasher);
    (hasher.finish() | 1).to_be_bytes().to_vec()
}
