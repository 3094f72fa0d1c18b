//! A receiver of OTLP that does as it is told.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

/// What a receiver does with a request.
#[derive(Debug, Clone)]
pub enum Act {
    Take,
    Status(u16, Vec<(&'static str, String)>),
    Grpc(u32, Option<String>),
    Partial(i64),
    /// Takes it, with an answer of so many bytes.
    Long(usize),
    Stall,
    /// Ends the connection without an answer.
    Close,
}

#[derive(Debug, Clone)]
pub struct Got {
    pub at: Instant,
    pub path: String,
    pub headers: http::HeaderMap,
    pub version: http::Version,
    pub body: Vec<u8>,
}

impl Got {
    pub fn is_grpc(&self) -> bool {
        self.headers["content-type"] == "application/grpc"
    }

    /// The body, out of its frame and compression.
    pub fn plain(&self) -> Vec<u8> {
        let gzip =
            ["content-encoding", "grpc-encoding"].iter().any(|h| self.headers.get(*h).is_some_and(|v| v == "gzip"));
        let mut body = &self.body[..];
        if self.is_grpc() {
            assert_eq!(
                (body[0], u32::from_be_bytes(body[1..5].try_into().unwrap())),
                (u8::from(gzip), body.len() as u32 - 5)
            );
            body = &body[5..];
        }
        let mut plain = Vec::new();
        match gzip {
            true => _ = flate2::read::GzDecoder::new(body).read_to_end(&mut plain).unwrap(),
            false => plain = body.to_vec(),
        }
        plain
    }

    pub fn message<M: Message + Default + serde::de::DeserializeOwned>(&self) -> M {
        let plain = self.plain();
        if self.headers["content-type"] == "application/json" {
            return serde_json::from_slice(&plain).unwrap();
        }
        M::decode(&plain[..]).unwrap()
    }

    pub fn is_traces(&self) -> bool {
        self.path.contains("trace")
    }

    pub fn metrics(&self) -> ExportMetricsServiceRequest {
        self.message()
    }

    /// All spans of a request of traces.
    pub fn spans(&self) -> Vec<Span> {
        let request: ExportTraceServiceRequest = self.message();
        let scopes = request.resource_spans.into_iter().flat_map(|r| r.scope_spans);
        scopes.flat_map(|s| s.spans).collect()
    }
}

/// A receiver that does as told, once per request, and then takes everything.
#[derive(Clone, Default)]
pub struct Receiver {
    acts: Arc<Mutex<std::collections::VecDeque<Act>>>,
    got: Arc<Mutex<Vec<Got>>>,
    is_away: Arc<AtomicBool>,
}

impl Receiver {
    pub fn with(acts: &[Act]) -> Self {
        let receiver = Self::default();
        receiver.acts.lock().unwrap().extend(acts.iter().cloned());
        receiver
    }

    pub async fn listen(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        self.serve(listener, None);
        address
    }

    /// While it is away it ends every connection, with no look at what comes.
    pub fn go(&self, away: bool) {
        self.is_away.store(away, Ordering::Relaxed);
    }

    pub fn serve(&self, listener: tokio::net::TcpListener, tls: Option<tokio_rustls::TlsAcceptor>) {
        let receiver = self.clone();
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                if receiver.is_away.load(Ordering::Relaxed) {
                    continue;
                }
                let (receiver, tls) = (receiver.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => {
                            let Ok(stream) = tls.accept(tcp).await else { return };
                            receiver.connection(stream).await;
                        }
                        None => receiver.connection(tcp).await,
                    }
                });
            }
        });
    }

    async fn connection(&self, stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static) {
        let receiver = self.clone();
        let service = hyper::service::service_fn(move |request| {
            let receiver = receiver.clone();
            async move { receiver.answer(request).await }
        });
        let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
        let _ = server.serve_connection(TokioIo::new(stream), service).await;
    }

    async fn answer(
        &self,
        request: http::Request<hyper::body::Incoming>,
    ) -> Result<http::Response<Full<Bytes>>, std::io::Error> {
        if self.is_away.load(Ordering::Relaxed) {
            return Err(std::io::Error::other("away"));
        }
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes().to_vec();
        let got = Got {
            at: Instant::now(),
            path: parts.uri.path().to_owned(),
            headers: parts.headers,
            version: parts.version,
            body,
        };
        let (grpc, json) = (got.is_grpc(), got.headers["content-type"] == "application/json");
        self.got.lock().unwrap().push(got);
        let act = self.acts.lock().unwrap().pop_front().unwrap_or(Act::Take);
        let mut response = http::Response::new(Full::default());
        let answer = |rejected: i64| {
            let said = ExportMetricsPartialSuccess { rejected_data_points: rejected, error_message: "too old".into() };
            let partial_success = (rejected > 0).then_some(said);
            let message = ExportMetricsServiceResponse { partial_success };
            if json {
                return serde_json::to_vec(&message).unwrap();
            }
            let mut out = if grpc { vec![0; 5] } else { Vec::new() };
            message.encode(&mut out).unwrap();
            if grpc {
                let length = out.len() as u32 - 5;
                out[1..5].copy_from_slice(&length.to_be_bytes());
            }
            out
        };
        match act {
            Act::Take => *response.body_mut() = answer(0).into(),
            Act::Partial(n) => *response.body_mut() = answer(n).into(),
            Act::Long(bytes) => *response.body_mut() = vec![0; bytes].into(),
            Act::Status(code, headers) => {
                *response.status_mut() = code.try_into().unwrap();
                for (name, value) in headers {
                    response.headers_mut().insert(name, value.parse().unwrap());
                }
                return Ok(response);
            }
            Act::Grpc(code, details) => {
                response.headers_mut().insert("grpc-status", code.into());
                if let Some(details) = details {
                    response.headers_mut().insert("grpc-status-details-bin", details.parse().unwrap());
                }
                return Ok(response);
            }
            Act::Stall => std::future::pending().await,
            Act::Close => return Err(std::io::Error::other("closed")),
        }
        if grpc {
            response.headers_mut().insert("grpc-status", 0.into());
        }
        Ok(response)
    }

    pub fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// As if nothing had come.
    pub fn forget(&self) {
        self.got.lock().unwrap().clear();
    }

    /// Waits until so many requests have come.
    pub async fn wait_for(&self, requests: usize) -> Vec<Got> {
        let end = Instant::now() + Duration::from_secs(60);
        while Instant::now() < end {
            let got = self.got();
            if got.len() >= requests {
                return got;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} requests of {requests}", self.got().len());
    }
}
