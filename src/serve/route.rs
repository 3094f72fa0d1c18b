//! Which path answers what, and what comes before every answer: rate limit, authentication, method.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tracing::Instrument;

use super::listen::Peer;
use super::respond::{Body, busy, full, text};
use super::web::Verdict;
use super::{App, api, guest, metrics, page, recommendations, startups};
use crate::push::own;
use crate::{WORK, catalog};

/// Everything that answers. A new route is added here: its path, its methods, its name in `kina_http_requests_total`, and
/// what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Metrics,
    Page,
    Containers,
    Recommendations,
    Startups,
    Guest,
    Healthy,
    Ready,
    Reload,
}

impl Route {
    fn at(path: &str, telemetry_path: &str) -> Option<Self> {
        // A telemetry path of `/` takes the place of the page.
        if path == telemetry_path {
            return Some(Self::Metrics);
        }
        Some(match path {
            "/" => Self::Page,
            "/api/v1/containers" => Self::Containers,
            "/api/v1/recommendations" => Self::Recommendations,
            "/api/v1/startups" => Self::Startups,
            "/api/v1/guest" => Self::Guest,
            "/-/healthy" => Self::Healthy,
            "/-/ready" => Self::Ready,
            "/-/reload" => Self::Reload,
            _ => return None,
        })
    }

    fn methods(self) -> &'static [Method] {
        match self {
            Self::Reload => &[Method::POST],
            Self::Startups => &[Method::GET, Method::HEAD, Method::POST],
            _ => &[Method::GET, Method::HEAD],
        }
    }

    /// The value of the `handler` label.
    fn name(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Page => "page",
            Self::Containers => "containers",
            Self::Recommendations => "recommendations",
            Self::Startups => "startups",
            Self::Guest => "guest",
            Self::Healthy => "healthy",
            Self::Ready => "ready",
            Self::Reload => "reload",
        }
    }

    async fn answer(self, app: &App, peer: Peer, request: Request<Incoming>) -> Response<Body> {
        let query = request.uri().query().unwrap_or("");
        match self {
            Self::Metrics => metrics::answer(app, query, request.headers()).await,
            Self::Page => page::answer(app, query).await,
            Self::Containers => api::containers(app, query).await,
            Self::Recommendations => recommendations::answer(app).await,
            Self::Startups if request.method() == Method::POST => startups::record(app, peer, request).await,
            Self::Startups => startups::last(app, query),
            Self::Guest => guest::answer(app).await,
            Self::Healthy => text(StatusCode::OK, "kina-exporter is healthy"),
            Self::Ready if app.ready() => text(StatusCode::OK, "kina-exporter is ready"),
            Self::Ready => busy("asking the runtimes for their containers", 1),
            Self::Reload => reload(app, peer, request.headers()).await,
        }
    }
}

/// The whole way of a request.
pub(super) async fn answer(app: Arc<App>, peer: Peer, request: Request<Incoming>) -> Response<Body> {
    let route = Route::at(request.uri().path(), &app.engine.shared().config().web.telemetry_path);
    let span = tracing::info_span!(
        target: WORK,
        "request",
        otel.name = format!("{} {}", request.method(), route.map_or("", Route::name)).trim_end(),
        otel.kind = "server",
        otel.status_code = tracing::field::Empty,
        http.request.method = request.method().as_str(),
        url.path = request.uri().path(),
        http.response.status_code = tracing::field::Empty,
    );
    own::continue_trace(&span, request.headers());
    let response = answer_within(app, peer, route, request).instrument(span.clone()).await;
    span.record("http.response.status_code", i64::from(response.status().as_u16()));
    if response.status().is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    response
}

async fn answer_within(app: Arc<App>, peer: Peer, route: Option<Route>, request: Request<Incoming>) -> Response<Body> {
    let web = app.web.current();
    let shared = app.engine.shared();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let mut response = match () {
        () if !app.web.admits(&web) => text(StatusCode::TOO_MANY_REQUESTS, "more requests than rate_limit allows"),
        () => match web.users.check(request.headers()).await {
            Verdict::Refused => unauthorized(),
            Verdict::Busy => busy("too many passwords are being checked", 5),
            Verdict::Pass => dispatch(&app, route, peer, request).await,
        },
    };
    for (name, value) in &web.headers {
        response.headers_mut().insert(name, value.clone());
    }
    if method == Method::HEAD {
        // hyper keeps the length of what would have been sent.
        let length = http_body::Body::size_hint(response.body()).exact();
        *response.body_mut() = full("");
        if let Some(length) = length {
            response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        }
    }
    let name = route.map_or("none", Route::name);
    shared.held.inc(catalog::HTTP_REQUESTS, &[name, response.status().as_str()]);
    tracing::debug!(?peer, %method, path, status = response.status().as_u16(), "request");
    response
}

async fn dispatch(app: &App, route: Option<Route>, peer: Peer, request: Request<Incoming>) -> Response<Body> {
    let Some(route) = route else { return not_found(&app.engine.shared().config().web.telemetry_path) };
    let method = request.method();
    if !route.methods().contains(method) {
        return method_not_allowed(route);
    }
    if !method.is_safe() && from_another_site(request.headers()) {
        return text(StatusCode::FORBIDDEN, "a web page of another site asked for this");
    }
    route.answer(app, peer, request).await
}

/// Re-reads the configuration: from this machine, unless opened to all.
async fn reload(app: &App, peer: Peer, headers: &HeaderMap) -> Response<Body> {
    // Through a proxy on this machine everyone would look local.
    let local =
        peer.is_loopback() && !headers.contains_key(header::FORWARDED) && !headers.contains_key("x-forwarded-for");
    if !local && !app.engine.shared().config().web.enable_lifecycle {
        let line = "reloading is for this machine alone; web.enable-lifecycle opens it to all";
        return text(StatusCode::FORBIDDEN, line);
    }
    match (app.hooks.reload)().await {
        Ok(()) => text(StatusCode::OK, "the configuration was read again"),
        Err(why) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("the old configuration stays: {why}")),
    }
}

/// A browser says so when a page of another site sends a request, even to the user's own machine.
fn from_another_site(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none")
}

fn unauthorized() -> Response<Body> {
    let mut response = text(StatusCode::UNAUTHORIZED, "a user name and password are needed");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
    response
}

fn method_not_allowed(route: Route) -> Response<Body> {
    let allowed = route.methods().iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("allowed: {allowed}"));
    if let Ok(value) = HeaderValue::from_str(&allowed) {
        response.headers_mut().insert(header::ALLOW, value);
    }
    response
}

fn not_found(telemetry_path: &str) -> Response<Body> {
    text(
        StatusCode::NOT_FOUND,
        format!("nothing is here; try {telemetry_path}, /, /api/v1/containers, /api/v1/startups, /-/healthy, /-/ready"),
    )
}
