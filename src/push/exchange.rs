//! One request and what its answer means, by the OTLP specification: taken, try again, or never again.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::GeneralPurposeConfig;
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message;

use super::settings::{Endpoint, Protocol};
use super::transport::Transport;
use crate::root::Nanos;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Taken, but for so many items. What was rejected is not sent again.
    Taken { rejected: u64, message: String },
    /// Not now; perhaps at this time.
    Later { after: Option<Duration>, why: String },
    /// Not this, ever.
    Refused { why: String },
}

/// Sends a body that is encoded, and compressed where the endpoint wants it. `now` is the wall clock.
pub async fn exchange(transport: &mut Transport, endpoint: &Endpoint, body: Bytes, now: Nanos) -> Outcome {
    let answered = tokio::time::timeout(endpoint.timeout, async {
        let response = transport.send(request(endpoint, body)).await?;
        Answer::read(response).await
    });
    match answered.await {
        Ok(Ok(Some(answer))) if endpoint.protocol == Protocol::Grpc => answer.grpc(),
        Ok(Ok(Some(answer))) => answer.http(endpoint.protocol, now),
        Ok(Ok(None)) => {
            transport.reset();
            Outcome::Refused { why: format!("an answer of more than {LONGEST_ANSWER} bytes") }
        }
        Ok(Err(e)) => later(None, e.to_string()),
        Err(_) => {
            transport.reset();
            later(None, format!("no answer within {:?}", endpoint.timeout))
        }
    }
}

fn later(after: Option<Duration>, why: String) -> Outcome {
    Outcome::Later { after, why }
}

const AGENT: HeaderValue = HeaderValue::from_static(concat!(
    env!("CARGO_PKG_NAME"),
    "/",
    env!("CARGO_PKG_VERSION"),
    " OTel-OTLP-Exporter-Rust/",
    env!("CARGO_PKG_VERSION")
));

fn request(endpoint: &Endpoint, body: Bytes) -> Request<Full<Bytes>> {
    let body = if endpoint.protocol == Protocol::Grpc { framed(endpoint, &body) } else { body };
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = endpoint.uri.clone();
    let headers = request.headers_mut();
    *headers = endpoint.headers.clone();
    headers.insert(USER_AGENT, AGENT);
    let content_type = match endpoint.protocol {
        Protocol::Grpc => "application/grpc",
        Protocol::HttpProtobuf => "application/x-protobuf",
        Protocol::HttpJson => "application/json",
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    let gzip = HeaderValue::from_static("gzip");
    if endpoint.protocol == Protocol::Grpc {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        let timeout = format!("{}m", endpoint.timeout.as_millis().min(99_999_999));
        headers.extend(HeaderValue::try_from(timeout).map(|t| (http::HeaderName::from_static("grpc-timeout"), t)));
        if endpoint.gzip {
            headers.insert("grpc-encoding", gzip);
        }
    } else if endpoint.gzip {
        headers.insert(CONTENT_ENCODING, gzip);
    }
    request
}

/// A gRPC message: whether it is compressed, its length, itself.
fn framed(endpoint: &Endpoint, body: &Bytes) -> Bytes {
    let mut framed = BytesMut::with_capacity(5 + body.len());
    framed.put_u8(u8::from(endpoint.gzip));
    framed.put_u32(body.len() as u32);
    framed.put_slice(body);
    framed.freeze()
}

/// An answer beyond this is given up, and the request with it: by the specification it must not be sent again.
const LONGEST_ANSWER: usize = 4 << 20;

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    /// Headers and trailers together; None when it is too long.
    async fn read(response: Response<Incoming>) -> std::io::Result<Option<Self>> {
        let (parts, body) = response.into_parts();
        let mut headers = parts.headers;
        let collected = match Limited::new(body, LONGEST_ANSWER).collect().await {
            Ok(collected) => collected,
            Err(e) if e.is::<LengthLimitError>() => return Ok(None),
            Err(e) => return Err(std::io::Error::other(e)),
        };
        headers.extend(collected.trailers().cloned().unwrap_or_default());
        Ok(Some(Self { status: parts.status, headers, body: collected.to_bytes() }))
    }

    fn http(&self, protocol: Protocol, now: Nanos) -> Outcome {
        let why = || {
            let text = String::from_utf8_lossy(&self.body);
            let text: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
            format!("{} {text}", self.status).trim_end().to_owned()
        };
        match self.status {
            s if s.is_success() && protocol == Protocol::HttpJson => partial_json(&self.body),
            s if s.is_success() => partial(&self.body),
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => later(self.retry_after(now), why()),
            _ => Outcome::Refused { why: why() },
        }
    }

    /// `Retry-After`: seconds, or a date.
    fn retry_after(&self, now: Nanos) -> Option<Duration> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?;
        if let Ok(seconds) = text.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let at = httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(at.saturating_sub(Duration::from_nanos(now.max(0) as u64)))
    }

    fn grpc(&self) -> Outcome {
        let header = |name: &str| self.headers.get(name).and_then(|v| v.to_str().ok());
        let Some(code) = header("grpc-status").and_then(|v| v.parse::<u32>().ok()) else {
            // No gRPC server: a proxy in between, as a rule.
            let why = format!("{} without a gRPC status", self.status);
            return match self.status.as_u16() {
                429 | 502 | 503 | 504 => later(None, why),
                _ => Outcome::Refused { why },
            };
        };
        if code == 0 {
            return partial(self.body.get(5..).unwrap_or_default());
        }
        let delay = header("grpc-status-details-bin").and_then(retry_delay);
        let why = format!("gRPC status {code} {}", header("grpc-message").unwrap_or_default()).trim_end().to_owned();
        match code {
            // CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS
            1 | 4 | 10 | 11 | 14 | 15 => later(delay, why),
            // RESOURCE_EXHAUSTED: only where the server says when.
            8 if delay.is_some() => later(delay, why),
            _ => Outcome::Refused { why },
        }
    }
}

/// Partial success; metrics and traces have it in the same fields.
fn partial(body: &[u8]) -> Outcome {
    let said = ExportMetricsServiceResponse::decode(body).ok().and_then(|r| r.partial_success);
    let (rejected, message) = said.map_or((0, String::new()), |p| (p.rejected_data_points, p.error_message));
    Outcome::Taken { rejected: rejected.max(0) as u64, message }
}

fn partial_json(body: &[u8]) -> Outcome {
    let said: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let said = &said["partialSuccess"];
    let number = |v: &serde_json::Value| v.as_u64().or_else(|| v.as_str()?.parse().ok());
    let rejected = number(&said["rejectedDataPoints"]).or_else(|| number(&said["rejectedSpans"])).unwrap_or(0);
    Outcome::Taken { rejected, message: said["errorMessage"].as_str().unwrap_or_default().to_owned() }
}

/// google.rpc.Status
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// google.protobuf.Any
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes, tag = "2")]
    value: Vec<u8>,
}

/// google.rpc.RetryInfo
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

/// google.protobuf.Duration
#[derive(Clone, Copy, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// The delay of a `RetryInfo` among a status' details.
fn retry_delay(details: &str) -> Option<Duration> {
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent);
    let engine = GeneralPurpose::new(&base64::alphabet::STANDARD, lenient);
    let status = RpcStatus::decode(&engine.decode(details).ok()?[..]).ok()?;
    let any = status.details.iter().find(|d| d.type_url.ends_with("google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(&any.value[..]).ok()?.retry_delay.unwrap_or_default();
    Some(Duration::from_secs(delay.seconds.max(0) as u64) + Duration::from_nanos(delay.nanos.max(0) as u64))
}
