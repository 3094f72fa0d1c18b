//! Where to push and how: our own settings, then the `OTEL_*` variables with the specification's precedence and rules.
//!
//! A variable that is empty is unset; one that says nothing usable is left out with a warning, as the specification wants
//! it: telemetry must not keep a program from starting.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::metrics::{Identity, Shape, Temporality};
use crate::config::Otlp;
use crate::root::Nanos;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Grpc,
    HttpProtobuf,
    HttpJson,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    Metrics,
    Traces,
}

impl Signal {
    fn variable(self) -> &'static str {
        match self {
            Self::Metrics => "METRICS",
            Self::Traces => "TRACES",
        }
    }

    /// Path below a generic HTTP endpoint.
    fn http_path(self) -> &'static str {
        match self {
            Self::Metrics => "v1/metrics",
            Self::Traces => "v1/traces",
        }
    }

    pub fn grpc_path(self) -> &'static str {
        match self {
            Self::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            Self::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        }
    }
}

/// Where one signal goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub signal: Signal,
    pub protocol: Protocol,
    /// With scheme, authority and path; for gRPC the path of the method.
    pub uri: Uri,
    pub headers: HeaderMap,
    pub gzip: bool,
    pub timeout: Duration,
    pub certificate: Option<PathBuf>,
    pub client_certificate: Option<PathBuf>,
    pub client_key: Option<PathBuf>,
}

/// How spans are gathered before they are sent: the SDK's batch processor has the same settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batches {
    /// Spans of one's own work that may wait to be gathered.
    pub room: usize,
    pub size: usize,
    pub delay: Duration,
}

#[derive(Debug, Clone)]
pub struct Settings {
    pub metrics: Option<Endpoint>,
    pub traces: Option<Endpoint>,
    pub batches: Batches,
    pub shape: Shape,
    pub interval: Duration,
    /// How long a last push may take while the process ends.
    pub export_timeout: Duration,
    pub queue_bytes: usize,
    /// What was left out and why, to be logged.
    pub warnings: Vec<String>,
}

/// Reads everything. `host` is the machine's name, `started` when the exporter started.
pub fn settings(own: &Otlp, env: &BTreeMap<String, String>, host: &str, started: Nanos) -> Settings {
    let mut reader = Reader { own, env, warnings: Vec::new() };
    let disabled = reader.env("OTEL_SDK_DISABLED").is_some_and(|v| v.eq_ignore_ascii_case("true"));
    let metrics = if disabled { None } else { reader.endpoint(Signal::Metrics) };
    let traces = if disabled { None } else { reader.endpoint(Signal::Traces) };
    let shape = Shape {
        identity: reader.identity(metrics.as_ref()),
        temporality: reader.temporality(),
        exponential: reader.exponential(),
        max_bytes: own.max_request_bytes,
        resource: reader.resource(host),
        started,
    };
    let batches = Batches {
        room: reader.count("OTEL_BSP_MAX_QUEUE_SIZE", 2048),
        size: reader.count("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512),
        delay: reader.milliseconds("OTEL_BSP_SCHEDULE_DELAY", 5_000),
    };
    let interval = own.interval.unwrap_or_else(|| reader.milliseconds("OTEL_METRIC_EXPORT_INTERVAL", 60_000));
    let export_timeout = reader.milliseconds("OTEL_METRIC_EXPORT_TIMEOUT", 30_000);
    let queue_bytes = own.queue_bytes;
    let interval = interval.max(Duration::from_millis(100));
    Settings { metrics, traces, batches, shape, interval, export_timeout, queue_bytes, warnings: reader.warnings }
}

struct Reader<'a> {
    own: &'a Otlp,
    env: &'a BTreeMap<String, String>,
    warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    fn env(&self, name: &str) -> Option<&'a str> {
        self.env.get(name).map(|v| v.trim()).filter(|v| !v.is_empty())
    }

    /// The signal's own variable, else the general one; with its name, and whether it was the signal's own.
    fn exporter(&self, signal: Signal, what: &str) -> Option<(String, &'a str, bool)> {
        let own = format!("OTEL_EXPORTER_OTLP_{}_{what}", signal.variable());
        let general = format!("OTEL_EXPORTER_OTLP_{what}");
        self.env(&own).map(|v| (own, v, true)).or_else(|| self.env(&general).map(|v| (general, v, false)))
    }

    fn warn(&mut self, name: &str, value: &str, allowed: &str) {
        self.warnings.push(format!("{name}={value}: ignored; allowed is {allowed}"));
    }

    /// Whether a signal is pushed: as its `OTEL_…_EXPORTER` says, else if there is anywhere to push to.
    fn wanted(&mut self, signal: Signal) -> bool {
        let name = format!("OTEL_{}_EXPORTER", signal.variable());
        let Some(value) = self.env(&name) else {
            return self.own.endpoint.is_some() || self.exporter(signal, "ENDPOINT").is_some();
        };
        let mut otlp = false;
        for exporter in value.split(',').map(str::trim) {
            match exporter {
                "otlp" => otlp = true,
                "none" | "prometheus" | "" => {}
                other => self.warn(&name, other, "otlp, prometheus, none"),
            }
        }
        otlp
    }

    fn endpoint(&mut self, signal: Signal) -> Option<Endpoint> {
        if !self.wanted(signal) {
            return None;
        }
        let protocol = self.protocol(signal);
        let uri = self.uri(signal, protocol)?;
        if signal == Signal::Traces && is_prometheus(&uri) {
            let why = "Prometheus takes no traces: none are pushed; give another endpoint for them, or \
                       OTEL_TRACES_EXPORTER=none";
            self.warnings.push(why.into());
            return None;
        }
        let path = |own: &Option<PathBuf>, reader: &Self, what| {
            own.clone().or_else(|| reader.exporter(signal, what).map(|(_, v, _)| PathBuf::from(v)))
        };
        Some(Endpoint {
            signal,
            protocol,
            uri,
            headers: self.headers(signal),
            gzip: self.gzip(signal),
            timeout: self.timeout(signal),
            certificate: path(&self.own.certificate, self, "CERTIFICATE"),
            client_certificate: path(&self.own.client_certificate, self, "CLIENT_CERTIFICATE"),
            client_key: path(&self.own.client_key, self, "CLIENT_KEY"),
        })
    }

    /// Our own setting or a variable, one of a few words.
    fn word<T: Copy>(&mut self, own: Option<&str>, variable: Option<(String, &str, bool)>, words: &[(&str, T)]) -> T {
        let default = words[0].1;
        let find = |text: &str| words.iter().find(|(w, _)| w.eq_ignore_ascii_case(text)).map(|(_, v)| *v);
        if let Some(value) = own.and_then(find) {
            return value;
        }
        let Some((name, text, _)) = variable else { return default };
        find(text).unwrap_or_else(|| {
            let allowed: Vec<_> = words.iter().map(|(w, _)| *w).collect();
            self.warn(&name, text, &allowed.join(", "));
            default
        })
    }

    fn protocol(&mut self, signal: Signal) -> Protocol {
        let words =
            [("http/protobuf", Protocol::HttpProtobuf), ("grpc", Protocol::Grpc), ("http/json", Protocol::HttpJson)];
        self.word(self.own.protocol.as_deref(), self.exporter(signal, "PROTOCOL"), &words)
    }

    fn gzip(&mut self, signal: Signal) -> bool {
        let words = [("none", false), ("gzip", true)];
        self.word(self.own.compression.as_deref(), self.exporter(signal, "COMPRESSION"), &words)
    }

    fn named(&self, name: &str) -> Option<(String, &'a str, bool)> {
        self.env(name).map(|v| (name.to_owned(), v, true))
    }

    fn temporality(&mut self) -> Temporality {
        let words = [
            ("cumulative", Temporality::Cumulative),
            ("delta", Temporality::Delta),
            ("lowmemory", Temporality::LowMemory),
        ];
        let variable = self.named("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE");
        self.word(self.own.temporality.as_deref(), variable, &words)
    }

    fn exponential(&mut self) -> bool {
        let words = [("explicit_bucket_histogram", false), ("base2_exponential_bucket_histogram", true)];
        let variable = self.named("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION");
        self.word(self.own.histograms.as_deref(), variable, &words)
    }

    /// Prometheus' own receiver takes `job` and `instance` from `service.*` and drops the rest of a Resource: all
    /// containers would be one.
    fn identity(&mut self, metrics: Option<&Endpoint>) -> Identity {
        let prometheus = metrics.is_some_and(|e| is_prometheus(&e.uri));
        match self.own.identity.as_deref() {
            Some("attributes") => Identity::Attributes,
            Some(_) => {
                if prometheus {
                    self.warnings.push(
                        "otlp.identity=resource with Prometheus as the receiver: it merges the series of all \
                         containers; set otlp.identity=attributes"
                            .into(),
                    );
                }
                Identity::Resource
            }
            None if prometheus => Identity::Attributes,
            None => Identity::Resource,
        }
    }

    fn milliseconds(&mut self, name: &str, default: u64) -> Duration {
        let Some(text) = self.env(name) else { return Duration::from_millis(default) };
        Duration::from_millis(text.parse().unwrap_or_else(|_| {
            self.warn(name, text, "a whole number of milliseconds");
            default
        }))
    }

    fn count(&mut self, name: &str, default: usize) -> usize {
        let Some(text) = self.env(name) else { return default };
        text.parse().ok().filter(|n| *n > 0).unwrap_or_else(|| {
            self.warn(name, text, "a whole number above 0");
            default
        })
    }

    fn timeout(&mut self, signal: Signal) -> Duration {
        if let Some(own) = self.own.timeout {
            return own;
        }
        let name = self.exporter(signal, "TIMEOUT").map(|(name, ..)| name).unwrap_or_default();
        self.milliseconds(&name, 10_000)
    }

    fn uri(&mut self, signal: Signal, protocol: Protocol) -> Option<Uri> {
        let default = if protocol == Protocol::Grpc { "http://localhost:4317" } else { "http://localhost:4318" };
        let own = self.own.endpoint.as_deref().map(|v| ("otlp.endpoint".to_owned(), v, false));
        let (name, text, exact) =
            own.or_else(|| self.exporter(signal, "ENDPOINT")).unwrap_or_else(|| (String::new(), default, false));
        let insecure = self.exporter(signal, "INSECURE").is_some_and(|(_, v, _)| v.eq_ignore_ascii_case("true"));
        let uri = match protocol {
            Protocol::Grpc => grpc_uri(text, insecure, signal),
            _ if exact => http_uri(text, ""),
            _ => http_uri(text, signal.http_path()),
        };
        if uri.is_none() {
            self.warn(&name, text, "a URL such as http://localhost:4318; nothing is pushed");
        }
        uri
    }

    fn headers(&mut self, signal: Signal) -> HeaderMap {
        let variable = self.exporter(signal, "HEADERS");
        let mut pairs: Vec<(String, String)> = variable.iter().flat_map(|(_, v, _)| pairs(v)).collect();
        pairs.extend(self.own.headers.iter().map(|(k, v)| (k.clone(), v.clone())));
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            match (HeaderName::try_from(&name), HeaderValue::try_from(&value)) {
                (Ok(name), Ok(mut value)) => {
                    value.set_sensitive(true);
                    headers.insert(name, value);
                }
                // The value may be a secret: it is not told.
                _ => self.warnings.push(format!("header {name:?} of OTLP requests: ignored; not a valid header")),
            }
        }
        headers
    }

    fn resource(&self, host: &str) -> Vec<(String, String)> {
        let mut all: BTreeMap<String, String> = BTreeMap::new();
        let mut put = |k: &str, v: &str| all.insert(k.to_owned(), v.to_owned());
        put("service.name", env!("CARGO_PKG_NAME"));
        put("service.version", env!("CARGO_PKG_VERSION"));
        if !host.is_empty() {
            put("service.instance.id", host);
            put("host.name", host);
        }
        all.extend(self.env("OTEL_RESOURCE_ATTRIBUTES").into_iter().flat_map(pairs));
        if let Some(name) = self.env("OTEL_SERVICE_NAME") {
            all.insert("service.name".into(), name.into());
        }
        all.into_iter().collect()
    }
}

/// Where Prometheus takes OTLP.
fn is_prometheus(uri: &Uri) -> bool {
    uri.path().contains("/api/v1/otlp")
}

/// An HTTP endpoint; a general one has the signal's path put behind its own.
fn http_uri(text: &str, below: &str) -> Option<Uri> {
    let mut parts = text.parse::<Uri>().ok()?.into_parts();
    parts.scheme.as_ref().filter(|s| **s == Scheme::HTTP || **s == Scheme::HTTPS)?;
    parts.authority.as_ref()?;
    if !below.is_empty() {
        let base = parts.path_and_query.as_ref().map_or("", PathAndQuery::path).trim_end_matches('/');
        parts.path_and_query = Some(format!("{base}/{below}").parse().ok()?);
    }
    Uri::from_parts(parts).ok()
}

/// A gRPC endpoint: the scheme decides on TLS, without one the INSECURE variable does; a path means nothing.
fn grpc_uri(text: &str, insecure: bool, signal: Signal) -> Option<Uri> {
    let (scheme, rest) = match text.split_once("://") {
        Some(("http", rest)) => ("http", rest),
        Some(("https", rest)) => ("https", rest),
        Some(_) => return None,
        None => (if insecure { "http" } else { "https" }, text),
    };
    let authority: Authority = rest.split('/').next()?.parse().ok()?;
    Uri::builder().scheme(scheme).authority(authority).path_and_query(signal.grpc_path()).build().ok()
}

/// `key=value,key=value`, values percent-encoded, as W3C Baggage has it.
fn pairs(text: &str) -> impl Iterator<Item = (String, String)> + '_ {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(k, v)| (decoded(k.trim()), decoded(v.trim()))).filter(|(k, _)| !k.is_empty())
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&b) = bytes.get(at) {
        let byte = text.get(at + 1..at + 3).filter(|_| b == b'%').and_then(|h| u8::from_str_radix(h, 16).ok());
        out.push(byte.unwrap_or(b));
        at += if byte.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(env: &[(&str, &str)]) -> Settings {
        read_with(&Otlp::default(), env)
    }

    fn read_with(own: &Otlp, env: &[(&str, &str)]) -> Settings {
        let env = env.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        settings(own, &env, "box", 5)
    }

    fn uris(env: &[(&str, &str)]) -> (String, String) {
        let s = read(env);
        let show = |e: Option<Endpoint>| e.map(|e| e.uri.to_string()).unwrap_or_default();
        (show(s.metrics), show(s.traces))
    }

    #[test]
    fn nothing_is_pushed_unless_asked() {
        assert_eq!(uris(&[]), (String::new(), String::new()));
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
        assert_eq!(uris(&[endpoint, ("OTEL_SDK_DISABLED", "TRUE")]), (String::new(), String::new()));
        assert_eq!(uris(&[endpoint, ("OTEL_METRICS_EXPORTER", "prometheus")]).0, "");
        assert_eq!(uris(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]).1, "");
        assert_eq!(uris(&[("OTEL_METRICS_EXPORTER", "otlp,prometheus")]).0, "http://localhost:4318/v1/metrics");
        assert_eq!(uris(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "  ")]).0, "");
        assert_eq!(read(&[("OTEL_METRICS_EXPORTER", "console,otlp")]).warnings.len(), 1);
    }

    #[test]
    fn paths() {
        for (env, metrics, traces) in [
            (
                vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318")],
                "http://c:4318/v1/metrics",
                "http://c:4318/v1/traces",
            ),
            (
                vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c/base/")],
                "https://c/base/v1/metrics",
                "https://c/base/v1/traces",
            ),
            (
                vec![
                    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/base"),
                    ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://p:9090/api/v1/otlp/v1/metrics"),
                ],
                "http://p:9090/api/v1/otlp/v1/metrics",
                "http://c:4318/base/v1/traces",
            ),
            (vec![("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://m:1")], "http://m:1/", ""),
            (
                vec![
                    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317/x"),
                    ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc"),
                ],
                "http://c:4317/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
                "http://c:4317/x/v1/traces",
            ),
        ] {
            assert_eq!(uris(&env), (metrics.to_owned(), traces.to_owned()), "{env:?}");
        }
    }

    #[test]
    fn grpc_without_a_scheme() {
        let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        let at = ("OTEL_EXPORTER_OTLP_ENDPOINT", "c:4317");
        assert!(uris(&[grpc, at]).0.starts_with("https://c:4317/"));
        assert!(uris(&[grpc, at, ("OTEL_EXPORTER_OTLP_INSECURE", "true")]).0.starts_with("http://c:4317/"));
        let both =
            [grpc, at, ("OTEL_EXPORTER_OTLP_INSECURE", "true"), ("OTEL_EXPORTER_OTLP_METRICS_INSECURE", "false")];
        assert!(uris(&both).0.starts_with("https://"));
        assert!(uris(&[grpc, ("OTEL_TRACES_EXPORTER", "otlp")]).1.starts_with("http://localhost:4317/"));
    }

    #[test]
    fn the_signals_own_variable_wins_and_ours_before_it() {
        let env = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000"),
            ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "3000"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "none"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20abc, x-a=1"),
            ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "api-key=k"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
        ];
        let s = read(&env);
        let (m, t) = (s.metrics.unwrap(), s.traces.unwrap());
        assert_eq!((m.timeout, t.timeout), (Duration::from_secs(3), Duration::from_secs(2)));
        assert_eq!((m.gzip, t.gzip), (true, false));
        assert_eq!((m.headers.len(), &m.headers["api-key"]), (1, &HeaderValue::from_static("k")));
        assert_eq!(t.headers["authorization"], "Basic abc");
        assert_eq!(m.certificate, Some(PathBuf::from("/ca.pem")));
        let own = Otlp {
            endpoint: Some("http://mine".into()),
            compression: Some("none".into()),
            timeout: Some(Duration::from_secs(9)),
            ..Otlp::default()
        };
        let m = read_with(&own, &env).metrics.unwrap();
        assert_eq!((m.uri.to_string().as_str(), m.gzip, m.timeout.as_secs()), ("http://mine/v1/metrics", false, 9));
    }

    #[test]
    fn every_variable_of_the_specification_is_read_general_and_own() {
        let all = [
            ("ENDPOINT", "http://general", "http://own"),
            ("CERTIFICATE", "/general", "/own"),
            ("CLIENT_CERTIFICATE", "/general", "/own"),
            ("CLIENT_KEY", "/general", "/own"),
            ("HEADERS", "a=general", "a=own"),
            ("COMPRESSION", "none", "gzip"),
            ("TIMEOUT", "1", "2"),
            ("PROTOCOL", "http/json", "http/protobuf"),
        ];
        let show = |e: &Endpoint| {
            let path = |p: &Option<PathBuf>| p.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
            let (scheme, host) = (e.uri.scheme_str().unwrap_or_default(), e.uri.host().unwrap_or_default());
            [
                format!("{scheme}://{host}"),
                path(&e.certificate),
                path(&e.client_certificate),
                path(&e.client_key),
                format!("a={}", e.headers["a"].to_str().unwrap()),
                if e.gzip { "gzip" } else { "none" }.into(),
                e.timeout.as_millis().to_string(),
                if e.protocol == Protocol::HttpJson { "http/json" } else { "http/protobuf" }.into(),
            ]
        };
        let general = all.map(|(name, value, _)| (format!("OTEL_EXPORTER_OTLP_{name}"), value));
        for signal in ["METRICS", "TRACES"] {
            let mut env: BTreeMap<String, String> = general.iter().map(|(n, v)| (n.clone(), (*v).to_owned())).collect();
            let s = settings(&Otlp::default(), &env, "box", 5);
            let (m, t) = (s.metrics.unwrap(), s.traces.unwrap());
            assert_eq!((show(&m), show(&t)), (all.map(|a| a.1.to_owned()), all.map(|a| a.1.to_owned())));
            for (i, (name, _, own)) in all.iter().enumerate() {
                env.insert(format!("OTEL_EXPORTER_OTLP_{signal}_{name}"), (*own).to_owned());
                let s = settings(&Otlp::default(), &env, "box", 5);
                let (own_signal, other) = match signal {
                    "METRICS" => (s.metrics.unwrap(), s.traces.unwrap()),
                    _ => (s.traces.unwrap(), s.metrics.unwrap()),
                };
                assert_eq!(show(&own_signal)[i], *own, "{signal} {name}");
                assert_eq!(show(&other)[i], all[i].1, "{signal} {name} is not the other signal's");
            }
        }
        let s = read(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "1500"),
            ("OTEL_METRIC_EXPORT_TIMEOUT", "700"),
            ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "base2_exponential_bucket_histogram"),
            ("OTEL_BSP_SCHEDULE_DELAY", "9"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "8"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "7"),
        ]);
        assert_eq!((s.interval.as_millis(), s.export_timeout.as_millis(), s.shape.exponential), (1500, 700, true));
        assert_eq!(s.batches, Batches { room: 8, size: 7, delay: Duration::from_millis(9) });
    }

    #[test]
    fn bad_values_warn_and_leave_the_default() {
        let s = read(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "smoke"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "1s"),
            ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "Delta"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a b=1"),
        ]);
        assert_eq!(s.interval, Duration::from_secs(60));
        assert_eq!(s.shape.temporality, Temporality::Delta);
        assert_eq!(s.metrics.unwrap().protocol, Protocol::HttpProtobuf);
        assert_eq!(s.warnings.len(), 6, "{:?}", s.warnings);
        let bad = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318")]);
        assert!(bad.metrics.is_none() && bad.warnings[0].contains("collector:4318"));
    }

    #[test]
    fn resources() {
        let s = read(&[("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,env=x%2Cy,bad"), ("OTEL_SERVICE_NAME", "b")]);
        let get = |k: &str| s.shape.resource.iter().find(|(n, _)| n == k).map(|(_, v)| v.as_str());
        assert_eq!((get("service.name"), get("env"), get("host.name")), (Some("b"), Some("x,y"), Some("box")));
    }

    #[test]
    fn identity_follows_the_receiver() {
        let prometheus = [("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://p:9090/api/v1/otlp/v1/metrics")];
        assert_eq!(read(&prometheus).shape.identity, Identity::Attributes);
        assert_eq!(read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c")]).shape.identity, Identity::Resource);
        let s = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://p:9090/api/v1/otlp")]);
        assert!(s.traces.is_none() && s.warnings[0].contains("takes no traces"), "{:?}", s.warnings);
        let own = Otlp { identity: Some("resource".into()), ..Otlp::default() };
        let s = read_with(&own, &prometheus);
        assert_eq!((s.shape.identity, s.warnings.len()), (Identity::Resource, 1));
    }
}
