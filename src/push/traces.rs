//! Starts → OTLP traces: one trace a start, a span a phase with its real times.
//!
//! Spans are the SDK's [`SpanData`], filled in and not recorded by a tracer: a start is known when it is over, its trace id
//! is that of the histogram's exemplar, and a phase that is known later must find its parent.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, UNIX_EPOCH};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{Array, InstrumentationScope, KeyValue, Value};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::ScopeSpans;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use prost::Message;

use super::metrics::split_image;
use super::request::{SCOPE, VERSION};
use crate::catalog;
use crate::root::Nanos;
use crate::startup::{Phase, StartRecord};

/// Who sends spans, for every request.
pub fn resource(attributes: &[(String, String)]) -> ResourceAttributesWithSchema {
    let attributes = attributes.iter().map(|(k, v)| KeyValue::new(k.clone(), v.clone()));
    (&Resource::builder_empty().with_attributes(attributes).build()).into()
}

/// Requests of some spans, none larger than so many bytes unless a single span is.
pub fn requests(
    resource: &ResourceAttributesWithSchema,
    spans: Vec<SpanData>,
    max_bytes: usize,
) -> Vec<ExportTraceServiceRequest> {
    let resource_spans = group_spans_by_resource_and_scope(spans, resource);
    let mut whole = Vec::new();
    cut(ExportTraceServiceRequest { resource_spans }, max_bytes, &mut whole);
    whole
}

/// Halves what is too large.
fn cut(mut request: ExportTraceServiceRequest, max_bytes: usize, whole: &mut Vec<ExportTraceServiceRequest>) {
    let items = items(&request) as usize;
    if items == 0 {
        return;
    }
    if items == 1 || request.encoded_len() <= max_bytes {
        return whole.push(request);
    }
    let mut rest = request.clone();
    let mut first = items / 2;
    for (kept, moved) in scopes_mut(&mut request).zip(scopes_mut(&mut rest)) {
        let here = kept.spans.len().min(first);
        first -= here;
        kept.spans.truncate(here);
        moved.spans.drain(..here);
    }
    request.resource_spans.iter_mut().for_each(|r| r.scope_spans.retain(|s| !s.spans.is_empty()));
    rest.resource_spans.iter_mut().for_each(|r| r.scope_spans.retain(|s| !s.spans.is_empty()));
    cut(request, max_bytes, whole);
    cut(rest, max_bytes, whole);
}

fn scopes_mut(request: &mut ExportTraceServiceRequest) -> impl Iterator<Item = &mut ScopeSpans> {
    request.resource_spans.iter_mut().flat_map(|r| &mut r.scope_spans)
}

/// Spans in a request.
pub fn items(request: &ExportTraceServiceRequest) -> u64 {
    let scopes = request.resource_spans.iter().flat_map(|r| &r.scope_spans);
    scopes.map(|s| s.spans.len() as u64).sum()
}

/// Of this program's spans, whatever they tell of.
pub fn scope() -> InstrumentationScope {
    InstrumentationScope::builder(SCOPE).with_version(VERSION).build()
}

const ROOT: &str = "container.start";

/// The root span and one for each phase; none for a start of which no time is known.
pub fn spans(start: &StartRecord) -> Vec<SpanData> {
    let (Some((begin, end)), Some(trace)) = (ends(start), Trace::of(start)) else { return Vec::new() };
    let parent = parent(start);
    let root = SpanData {
        parent_span_id: parent.unwrap_or(SpanId::INVALID),
        parent_span_is_remote: parent.is_some(),
        attributes: attributes(start),
        status: start.failure.as_ref().map_or(Status::Unset, |(_, message)| Status::error(message.clone())),
        ..trace.span(ROOT.to_owned(), begin, end)
    };
    let mut all = vec![root];
    all.extend(placed(start, begin, end).into_iter().map(|(phase, from, to)| trace.phase(phase, from, to)));
    all
}

/// The span of the phase that is known last, of a start whose other spans have been told.
pub fn ready(start: &StartRecord) -> Option<SpanData> {
    let (_, running) = ends(start)?;
    let took = start.phases.get(Phase::Ready)?;
    Some(Trace::of(start)?.phase(Phase::Ready, running, running + took))
}

/// The trace that a start is.
struct Trace(TraceId);

impl Trace {
    fn of(start: &StartRecord) -> Option<Self> {
        TraceId::from_hex(&start.trace_id()).ok().filter(|id| *id != TraceId::INVALID).map(Self)
    }

    /// A span's id: the same for the same span of the same trace, so that one that is told later finds its parent.
    fn span_id(&self, name: &str) -> SpanId {
        let mut hasher = DefaultHasher::new();
        (self.0.to_bytes(), name).hash(&mut hasher);
        SpanId::from(hasher.finish() | 1)
    }

    fn span(&self, name: String, from: Nanos, to: Nanos) -> SpanData {
        let time = |t: Nanos| UNIX_EPOCH + Duration::from_nanos(t.max(0).unsigned_abs());
        SpanData {
            span_context: SpanContext::new(
                self.0,
                self.span_id(&name),
                TraceFlags::SAMPLED,
                false,
                TraceState::default(),
            ),
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: name.into(),
            start_time: time(from),
            end_time: time(to.max(from)),
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: scope(),
        }
    }

    fn phase(&self, phase: Phase, from: Nanos, to: Nanos) -> SpanData {
        SpanData { parent_span_id: self.span_id(ROOT), ..self.span(format!("{ROOT}.{}", phase.name()), from, to) }
    }
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
    let text = |key: &'static str, value: &str| KeyValue::new(key, value.to_owned());
    let (image, tag) = split_image(&start.image);
    let mut all = vec![
        text("container.id", &start.key.id),
        text(catalog::attribute("name"), &start.name),
        text(catalog::attribute("image"), image),
        text(catalog::attribute("runtime"), start.key.runtime.name()),
        text("kina.start.kind", start.kind.name()),
        text("kina.start.source", start.source.name()),
    ];
    let tags = |tag: &str| Value::Array(Array::String(vec![tag.to_owned().into()]));
    all.extend(tag.map(|tag| KeyValue::new("container.image.tags", tags(tag))));
    all.extend(start.image_cached.map(|hit| KeyValue::new("kina.image.cached", hit)));
    all.extend(start.pool_hit.map(|hit| KeyValue::new("kina.vm.pooled", hit)));
    all.extend(start.failure.as_ref().map(|(reason, _)| text("error.type", reason.name())));
    if !start.slow.is_empty() {
        let reasons: Vec<_> = start.slow.iter().map(|f| f.reason).collect();
        all.push(text("kina.start.slow_reasons", &reasons.join(",")));
    }
    all
}

/// The span that a reporter's trace context names.
fn parent(start: &StartRecord) -> Option<SpanId> {
    SpanId::from_hex(start.traceparent.as_deref()?.split('-').nth(2)?).ok().filter(|id| *id != SpanId::INVALID)
}
