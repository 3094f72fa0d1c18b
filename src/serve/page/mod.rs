//! `/`: a page that says at a glance what runs and what it uses. Server-rendered and whole without its script, which only
//! keeps it up to date; nothing is loaded from elsewhere.

mod advice;
mod containers;
mod html;
mod machine;
mod starts;

use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};

use http::{HeaderValue, Response, StatusCode, header};

use self::html::{Esc, duration};
use super::containers::{Sort, found, measured};
use super::respond::{Body, with_type};
use super::{App, query};
use crate::config::Config;
use crate::engine::Collection;

/// Rows shown unless all are asked for.
const ROWS: usize = 100;
/// Seconds; nobody reads faster, and each view is a collection.
const REFRESH: std::ops::RangeInclusive<u32> = 2..=3600;
const REFRESH_OFFERED: u32 = 5;

/// What is asked for in the query.
#[derive(Debug, Clone, PartialEq, Default)]
struct View {
    sort: Sort,
    search: String,
    all: bool,
    refresh: Option<u32>,
}

impl View {
    fn parse(query: &str) -> Self {
        let get = |name| query::get(query, name);
        Self {
            sort: get("sort").and_then(|s| Sort::parse(&s)).unwrap_or_default(),
            search: get("q").unwrap_or_default().into_owned(),
            all: get("all").is_some(),
            refresh: get("refresh").and_then(|s| s.parse().ok()).filter(|s| REFRESH.contains(s)),
        }
    }

    /// A link to this view, safe in an attribute.
    fn href(&self) -> String {
        let mut pairs = Vec::new();
        if self.sort != Sort::default() {
            pairs.push(format!("sort={}", self.sort.name()));
        }
        if !self.search.is_empty() {
            pairs.push(format!("q={}", query::encode(&self.search)));
        }
        if self.all {
            pairs.push("all=1".into());
        }
        if let Some(seconds) = self.refresh {
            pairs.push(format!("refresh={seconds}"));
        }
        format!("?{}", pairs.join("&amp;"))
    }
}

/// Everything that the sections read.
struct Page<'a> {
    view: View,
    config: &'a Config,
    collection: &'a Collection,
    app: &'a App,
}

pub(super) async fn answer(app: &App, query: &str) -> Response<Body> {
    let (collection, _scrape) = match measured(app).await {
        Ok(measured) => measured,
        Err(response) => return response,
    };
    let config = app.engine.shared().config();
    let page = Page { view: View::parse(query), config: &config, collection: &collection, app };
    let nonce = nonce();
    let mut response = with_type(StatusCode::OK, "text/html; charset=utf-8", page.render(&nonce));
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("deny"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Lets the page's own style sheet and script in, and none that a hostile name could smuggle.
fn nonce() -> String {
    format!("{:016x}{:016x}", RandomState::new().hash_one(0), RandomState::new().hash_one(1))
}

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("live.js");
const MARK: &str = "<svg viewBox=\"0 0 32 32\" aria-hidden=true><rect width=32 height=32 rx=8 fill=\"#2f74d0\" />\
    <path d=\"M8 22V15M13.3 22V10M18.7 22v-5M24 22V8\" stroke=\"#fff\" stroke-width=3 stroke-linecap=round /></svg>";
/// The same, as a data URL.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E%3Crect width='32' height='32' \
    rx='8' fill='%232f74d0'/%3E%3Cpath d='M8 22V15M13.3 22V10M18.7 22v-5M24 22V8' stroke='%23fff' stroke-width='3' \
    stroke-linecap='round'/%3E%3C/svg%3E";

impl Page<'_> {
    fn render(&self, nonce: &str) -> String {
        let mut out = String::with_capacity(64 << 10);
        // Writing to a String does not fail.
        let _ = self.write(&mut out, nonce);
        out
    }

    /// The sections, in their order.
    fn write(&self, out: &mut String, nonce: &str) -> std::fmt::Result {
        self.begin(out, nonce)?;
        machine::tiles(self, out)?;
        let mut found = found(&self.collection.snapshot, &self.view.search);
        self.view.sort.apply(&mut found);
        containers::table(self, &found, out)?;
        advice::section(self, &found, out)?;
        starts::section(self, out)?;
        out.write_str("<div class=two>")?;
        machine::collectors(self, out)?;
        out.write_str("<div>")?;
        machine::capabilities(self, out)?;
        self.links(out)?;
        out.write_str("</div></div>")?;
        self.end(out, nonce)
    }

    fn begin(&self, out: &mut String, nonce: &str) -> std::fmt::Result {
        out.write_str("<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width,initial-scale=1\">")?;
        if let Some(seconds) = self.view.refresh {
            write!(out, "<meta http-equiv=refresh content={seconds}>")?;
        }
        let version = env!("CARGO_PKG_VERSION");
        write!(
            out,
            "<title>kina-exporter</title><link rel=icon href=\"{ICON}\"><style nonce={nonce}>{STYLE}</style>\
             <header><h1>{MARK}kina-exporter <small>{version}</small></h1><nav aria-label=Links>"
        )?;
        write!(out, "<a href=\"{}\">Metrics</a>", Esc(&self.config.web.telemetry_path))?;
        out.write_str("<a href=\"/api/v1/containers\">API</a>")?;
        let other = View { refresh: self.view.refresh.is_none().then_some(REFRESH_OFFERED), ..self.view.clone() };
        let offer = match self.view.refresh {
            Some(seconds) => format!("Refreshing every {seconds} s: stop"),
            None => format!("Refresh every {REFRESH_OFFERED} s"),
        };
        write!(out, "<a id=refresh href=\"{}\">{offer}</a></nav></header><main>", other.href())
    }

    fn links(&self, out: &mut String) -> std::fmt::Result {
        let path = Esc(&self.config.web.telemetry_path);
        write!(
            out,
            "<section aria-labelledby=links><div class=head><h2 id=links>Everything here</h2></div><ul class=links>\
             <li><a href=\"{path}\">Metrics</a>, in the format that the client prefers\
             <li>as <a href=\"{path}?format=text\">text</a>, <a href=\"{path}?format=openmetrics\">OpenMetrics</a>, \
             <a href=\"{path}?format=protobuf\">protobuf</a>\
             <li><a href=\"{path}?collect[]=cpu&amp;collect[]=memory\">of chosen collectors</a>\
             <li><a href=\"/api/v1/containers\">Containers as JSON</a>, <a href=\"/api/v1/startups\">starts as JSON</a>\
             <li><a href=\"/-/healthy\">Healthy?</a> <a href=\"/-/ready\">Ready?</a>"
        )?;
        if !REPOSITORY.is_empty() {
            for (file, what) in
                [("metrics", "What every metric means"), ("api", "The API"), ("configuration", "Configuration")]
            {
                write!(out, "<li><a href=\"{REPOSITORY}/blob/main/docs/{file}.md\" rel=noreferrer>{what}</a>")?;
            }
        }
        out.write_str("</ul></section>")
    }

    fn end(&self, out: &mut String, nonce: &str) -> std::fmt::Result {
        let up = self.app.engine.shared().root.clock.boot() - self.app.started;
        write!(
            out,
            "</main><footer>Up {}. Rates are since the previous collection, seconds ago.</footer>\
             <script nonce={nonce}>{SCRIPT}</script></html>",
            duration(up)
        )
    }
}

/// Where the documentation is; empty in a build that does not say.
const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_survives_its_own_link() {
        let view = View { sort: Sort::Memory, search: "a b\"<&>é".into(), all: true, refresh: Some(5) };
        let href = view.href();
        assert!(!href.contains(['"', '<', '>', ' ']), "{href}");
        assert_eq!(View::parse(href.trim_start_matches('?').replace("&amp;", "&").as_str()), view);
        assert_eq!(View::parse("sort=nope&refresh=0&all"), View { all: true, ..View::default() });
    }

    #[test]
    fn nonces_differ() {
        assert_ne!(nonce(), nonce());
    }
}
