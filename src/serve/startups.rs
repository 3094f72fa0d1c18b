//! `/api/v1/startups`: the last starts with their phases, and reports of those who know better.

use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::Serialize;

use super::listen::Peer;
use super::respond::{Body, busy, json, text};
use super::{App, query};
use crate::root::{Nanos, SECOND};
use crate::startup::ledger::KEPT;
use crate::startup::{Phase, StartRecord, report};

/// Bytes of one request: a thousand reports with everything told.
const MAX_BODY: usize = 1 << 20;

/// The last starts, newest first; `?limit=`, `?container=` (name or id), `?slow`, `?failed`.
pub(super) fn last(app: &App, query: &str) -> Response<Body> {
    let limit = match query::get(query, "limit").map(|l| l.parse::<usize>()) {
        None => KEPT,
        Some(Ok(limit)) => limit,
        Some(Err(_)) => return text(StatusCode::BAD_REQUEST, "limit: not a number"),
    };
    let container = query::get(query, "container");
    let [slow, failed] = ["slow", "failed"].map(|flag| query::get(query, flag).is_some());
    let starts = app.engine.shared().startups.last(KEPT);
    let wanted = |r: &&std::sync::Arc<StartRecord>| {
        container.as_ref().is_none_or(|c| r.name == **c || (!c.is_empty() && r.key.id.starts_with(&**c)))
            && (!slow || !r.slow.is_empty())
            && (!failed || r.failure.is_some())
    };
    let shown: Vec<Shown<'_>> = starts.iter().filter(wanted).take(limit).map(|r| Shown::of(r)).collect();
    match serde_json::to_vec(&serde_json::json!({ "startups": shown })) {
        Ok(body) => json(StatusCode::OK, body),
        Err(e) => text(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()),
    }
}

/// Takes reports: all of a request, or none.
pub(super) async fn record(app: &App, peer: Peer, request: Request<Incoming>) -> Response<Body> {
    if !app.web.authenticates() && !is_local(peer, request.headers()) {
        let line =
            "start reports are taken from this machine alone (loopback or a Unix socket), unless authentication is on";
        return text(StatusCode::FORBIDDEN, line);
    }
    let body = match Limited::new(request.into_body(), MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(e) if e.is::<http_body_util::LengthLimitError>() => {
            return text(StatusCode::PAYLOAD_TOO_LARGE, format!("at most {MAX_BODY} bytes are taken at once"));
        }
        Err(e) => return text(StatusCode::BAD_REQUEST, format!("the request broke off: {e}")),
    };
    let shared = app.engine.shared();
    let reports = match report::parse(&body, shared.root.clock.wall()) {
        Ok(reports) => reports,
        Err(refused) => return text(StatusCode::BAD_REQUEST, refused.to_string()),
    };
    let accepted = reports.len();
    match shared.startups.submit(reports) {
        Ok(()) => json(StatusCode::ACCEPTED, format!("{{\"accepted\":{accepted}}}\n")),
        Err(e) => busy(&e.to_string(), 1),
    }
}

/// Through a proxy on this machine everyone would look local.
fn is_local(peer: Peer, headers: &HeaderMap) -> bool {
    peer.is_loopback() && !headers.contains_key(header::FORWARDED) && !headers.contains_key("x-forwarded-for")
}

/// A start as the API has it; `docs/startup.md` tells what each means. What is not known is left out.
#[derive(Serialize)]
struct Shown<'a> {
    runtime: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    image: &'a str,
    start: &'static str,
    source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    requested_at: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    running_at: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_seconds: Option<f64>,
    phases: serde_json::Map<String, serde_json::Value>,
    /// The part of the total that no phase has evidence for.
    #[serde(skip_serializing_if = "Option::is_none")]
    unattributed_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_cache: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vm_pool: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Failure<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    slow: Vec<Slow<'a>>,
    trace_id: String,
}

#[derive(Serialize)]
struct Failure<'a> {
    reason: &'static str,
    message: &'a str,
}

#[derive(Serialize)]
struct Slow<'a> {
    reason: &'static str,
    detail: &'a str,
}

impl<'a> Shown<'a> {
    fn of(r: &'a StartRecord) -> Self {
        let seconds = |n: Nanos| n as f64 / SECOND as f64;
        let hit = |hit: bool| if hit { "hit" } else { "miss" };
        let rest = r.total.map(|t| t - r.phases.sum()).filter(|rest| *rest > 0);
        Self {
            runtime: r.key.runtime.name(),
            id: &r.key.id,
            name: &r.name,
            image: &r.image,
            start: r.kind.name(),
            source: r.source.name(),
            requested_at: r.requested.map(seconds),
            running_at: r.running.map(seconds),
            total_seconds: r.total.map(seconds),
            phases: r.phases.iter().map(|(p, d)| (p.name().to_owned(), seconds(d).into())).collect(),
            unattributed_seconds: rest.map(seconds),
            image_cache: r.image_cached.map(hit),
            vm_pool: r.pool_hit.map(hit),
            failure: r.failure.as_ref().map(|(reason, message)| Failure { reason: reason.name(), message }),
            slow: r.slow.iter().map(|f| Slow { reason: f.reason, detail: &f.detail }).collect(),
            trace_id: r.trace_id(),
        }
    }
}

/// Phases in the order in which they follow one another, with the class that colours each.
pub(super) const COLOURS: [(Phase, &str); 6] = [
    (Phase::Image, "f-cache"),
    (Phase::VmCreate, "f-kernel"),
    (Phase::KernelBoot, "f-disk"),
    (Phase::Init, "f-cpu"),
    (Phase::Process, "f-process"),
    (Phase::Ready, "f-net"),
];
