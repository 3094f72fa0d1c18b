//! The exporter's own work as spans: what `tracing` records, through the SDK's tracer, in the same requests as starts.
//!
//! Off by default, and then next to nothing: no callsite of a span is enabled. The SDK's own batch processor would take a
//! thread, and would not tell how many spans it dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderMap;
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span, SpanData, SpanProcessor};
use tokio::sync::mpsc;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::traces;

/// Spans of the exporter's own work, from those who record them to the one who sends them.
#[derive(Debug)]
pub struct OwnWork {
    pub tracer: SdkTracer,
    pub(super) spans: mpsc::Receiver<SpanData>,
    /// Spans for which there was no room.
    pub(super) lost: Arc<AtomicU64>,
}

impl OwnWork {
    /// With room for so many spans. Sampling is as `OTEL_TRACES_SAMPLER` says: the SDK reads it.
    pub fn new(room: usize) -> Self {
        let (to, spans) = mpsc::channel(room.max(1));
        let lost = Arc::new(AtomicU64::new(0));
        let provider = SdkTracerProvider::builder()
            .with_span_processor(Handoff { to, lost: lost.clone() })
            // Requests have one for all spans.
            .with_resource(Resource::builder_empty().build())
            .build();
        Self { tracer: provider.tracer_with_scope(traces::scope()), spans, lost }
    }
}

/// Hands ended spans over and never waits.
#[derive(Debug)]
struct Handoff {
    to: mpsc::Sender<SpanData>,
    lost: Arc<AtomicU64>,
}

impl SpanProcessor for Handoff {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.to.try_send(span).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Makes a span a part of the trace that a request's `traceparent` names.
pub fn continue_trace(span: &tracing::Span, headers: &HeaderMap) {
    struct Headers<'a>(&'a HeaderMap);
    impl Extractor for Headers<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            self.0.get(key)?.to_str().ok()
        }

        fn keys(&self) -> Vec<&str> {
            self.0.keys().map(http::HeaderName::as_str).collect()
        }
    }
    if !span.is_disabled() {
        // Fails only where nobody records spans.
        let _ = span.set_parent(TraceContextPropagator::new().extract(&Headers(headers)));
    }
}
