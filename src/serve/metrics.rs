//! The telemetry path: one collection, in the format that the client prefers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt;
use tokio::time::timeout;

use super::respond::{Body, busy, keep, text};
use super::{App, query};
use crate::catalog::Collector;
use crate::config::CollectorSet;
use crate::engine::Collection;
use crate::expose::{self, Format};

/// A collection that takes longer is not waited for: something below hangs.
const COLLECT_WITHIN: Duration = Duration::from_secs(30);

/// Scrapes from their request to the end of their answer.
#[derive(Debug, Default)]
pub(super) struct Scrapes(Arc<AtomicUsize>);

/// One scrape that runs.
pub(super) struct Scrape(Arc<AtomicUsize>);

impl Scrapes {
    /// None when as many run as may; 0 means no limit.
    pub fn begin(&self, max: usize) -> Option<Scrape> {
        let running = self.0.fetch_add(1, Ordering::Relaxed);
        let scrape = Scrape(self.0.clone());
        (max == 0 || running < max).then_some(scrape)
    }
}

impl Drop for Scrape {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) async fn answer(app: &App, query: &str, headers: &HeaderMap) -> Response<Body> {
    let wanted = match wanted(query) {
        Ok(wanted) => wanted,
        Err(why) => return text(StatusCode::BAD_REQUEST, why),
    };
    let (preferred, encoding) = expose::negotiate(headers);
    let format = match query::get(query, "format").map(|f| format(&f)) {
        None => preferred,
        Some(Ok(format)) => format,
        Some(Err(why)) => return text(StatusCode::BAD_REQUEST, why),
    };
    let max = app.engine.shared().config().web.max_requests;
    let Some(scrape) = app.scrapes.begin(max) else {
        return busy(&format!("{max} scrapes are being answered, as many as web.max_requests allows"), 1);
    };
    if wanted == CollectorSet::ALL {
        app.last_collection.note(app.engine.shared().root.clock.boot());
    }
    let collection = match collect(app, wanted).await {
        Ok(collection) => collection,
        Err(response) => return response,
    };
    let body = match expose::body(collection, format, encoding) {
        Ok(body) => body,
        Err(e) => return text(StatusCode::INTERNAL_SERVER_ERROR, format!("compressing: {e}")),
    };
    let mut response = Response::new(body.boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    headers.insert(header::VARY, HeaderValue::from_static("accept, accept-encoding"));
    if let Some(encoding) = encoding.header() {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    keep(response, scrape)
}

/// A fresh collection, or the answer that says why there is none.
pub(super) async fn collect(app: &App, wanted: CollectorSet) -> Result<Arc<Collection>, Response<Body>> {
    match timeout(COLLECT_WITHIN, app.engine.collect(wanted)).await {
        Ok(Ok(collection)) => Ok(collection),
        Ok(Err(stopped)) => Err(busy(&stopped.to_string(), 5)),
        Err(_) => Err(busy(&format!("the collection takes longer than {COLLECT_WITHIN:?}"), 10)),
    }
}

/// `collect[]=NAME` picks collectors, `exclude[]=NAME` leaves some out; not both, as node_exporter has it.
fn wanted(query: &str) -> Result<CollectorSet, String> {
    let mut collect = CollectorSet::NONE;
    let mut exclude = CollectorSet::NONE;
    for (name, value) in query::pairs(query) {
        let set = match name.as_ref() {
            "collect[]" => &mut collect,
            "exclude[]" => &mut exclude,
            _ => continue,
        };
        *set = set.with(collector(&value)?);
    }
    match (collect == CollectorSet::NONE, exclude == CollectorSet::NONE) {
        (false, false) => Err("collect[] and exclude[] can't be used together".into()),
        (false, true) => Ok(collect),
        (true, _) => Ok(Collector::ALL.into_iter().filter(|c| !exclude.contains(*c)).collect()),
    }
}

/// `format=NAME`: for people, whose browsers can't ask in a header.
fn format(name: &str) -> Result<Format, String> {
    match name {
        "text" => Ok(Format::Text),
        "openmetrics" => Ok(Format::OpenMetrics),
        "protobuf" => Ok(Format::Protobuf),
        _ => Err(format!("there is no format {name:?}; known: text, openmetrics, protobuf")),
    }
}

fn collector(name: &str) -> Result<Collector, String> {
    Collector::ALL.into_iter().find(|c| c.name() == name).ok_or_else(|| {
        let known = Collector::ALL.map(Collector::name).join(", ");
        format!("there is no collector {name:?}; known: {known}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collectors_are_picked_or_left_out() {
        let picked = wanted("collect[]=cpu&collect%5B%5D=memory&other=x").unwrap();
        assert_eq!(picked, [Collector::Cpu, Collector::Memory].into_iter().collect());
        assert_eq!(wanted("").unwrap(), CollectorSet::ALL);
        assert_eq!(wanted("exclude[]=cpu").unwrap(), CollectorSet::ALL.without(Collector::Cpu));
        let error = wanted("collect[]=nope").unwrap_err();
        assert!(error.contains("nope") && Collector::ALL.iter().all(|c| error.contains(c.name())), "{error}");
        assert!(wanted("collect[]=cpu&exclude[]=memory").is_err());
    }

    #[test]
    fn only_so_many_scrapes_run_at_once() {
        let scrapes = Scrapes::default();
        let (a, b) = (scrapes.begin(2), scrapes.begin(2));
        assert!(a.is_some() && b.is_some() && scrapes.begin(2).is_none());
        assert!(scrapes.begin(0).is_some(), "0 is no limit");
        drop(a);
        assert!(scrapes.begin(2).is_some());
    }
}
