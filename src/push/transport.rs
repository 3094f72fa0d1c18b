//! One connection to a receiver: TCP, through a proxy where one is set, TLS where the endpoint says so.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::uri::{PathAndQuery, Scheme, Uri};
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::settings::{Endpoint, Protocol};
use crate::root::Root;

/// The parts that a connection is made of, read once.
pub struct Transport {
    uri: Uri,
    http2: bool,
    tls: Option<TlsConnector>,
    proxy: Matcher,
    sender: Option<Sender>,
}

enum Sender {
    Http1 { to: http1::SendRequest<Full<Bytes>>, proxy: Option<ThroughProxy> },
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// A plain request through a proxy names the whole URL, and who asks.
struct ThroughProxy(Option<HeaderValue>);

/// Why an endpoint can't be used at all: names the file and what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(String);

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Transport {
    /// `env` has the proxy variables.
    pub fn new(endpoint: &Endpoint, env: &BTreeMap<String, String>, root: &Root) -> Result<Self, Unusable> {
        let http2 = endpoint.protocol == Protocol::Grpc;
        let tls = match endpoint.uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => {
                let mut config = tls(endpoint, root)?;
                config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
                Some(TlsConnector::from(Arc::new(config)))
            }
            _ => None,
        };
        let proxy = proxies(env);
        Ok(Self { uri: endpoint.uri.clone(), http2, tls, proxy, sender: None })
    }

    /// Sends one request, over the open connection if it still is. An error means that no answer came.
    pub async fn send(&mut self, mut request: Request<Full<Bytes>>) -> io::Result<Response<Incoming>> {
        let open = self.sender.as_mut().filter(|s| !s.is_closed());
        let sender = match open {
            Some(sender) => sender,
            None => {
                let sender = self.connect().await?;
                self.sender.insert(sender)
            }
        };
        let answer = match sender {
            Sender::Http2(to) => {
                to.ready().await.map_err(io::Error::other)?;
                to.send_request(request).await
            }
            Sender::Http1 { to, proxy } => {
                to.ready().await.map_err(io::Error::other)?;
                prepare_http1(&mut request, proxy.as_ref());
                to.send_request(request).await
            }
        };
        answer.map_err(|e| {
            self.sender = None;
            io::Error::other(e)
        })
    }

    /// Forgets the connection: after a time-out nobody knows in which state it is.
    pub fn reset(&mut self) {
        self.sender = None;
    }

    async fn connect(&self) -> io::Result<Sender> {
        let (stream, proxy) = self.stream().await?;
        let io = TokioIo::new(stream);
        if self.http2 {
            let (to, connection) = http2::handshake(TokioExecutor::new(), io).await.map_err(io::Error::other)?;
            tokio::spawn(connection);
            return Ok(Sender::Http2(to));
        }
        let (to, connection) = http1::handshake(io).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(Sender::Http1 { to, proxy })
    }

    async fn stream(&self) -> io::Result<(Box<dyn Stream>, Option<ThroughProxy>)> {
        let (host, port) = host_and_port(&self.uri)?;
        let Some(proxy) = self.proxy.intercept(&self.uri) else {
            let tcp = connect_tcp(host, port).await?;
            return Ok((self.secure(tcp, host).await?, None));
        };
        let (proxy_host, proxy_port) = host_and_port(proxy.uri())?;
        let mut tcp = connect_tcp(proxy_host, proxy_port).await?;
        let authorization = proxy.basic_auth().cloned();
        if self.tls.is_none() && !self.http2 {
            return Ok((Box::new(tcp), Some(ThroughProxy(authorization))));
        }
        tunnel(&mut tcp, host, port, authorization.as_ref()).await?;
        Ok((self.secure(tcp, host).await?, None))
    }

    async fn secure(&self, tcp: TcpStream, host: &str) -> io::Result<Box<dyn Stream>> {
        let Some(tls) = &self.tls else { return Ok(Box::new(tcp)) };
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(io::Error::other)?;
        Ok(Box::new(tls.connect(name, tcp).await?))
    }
}

impl Sender {
    fn is_closed(&self) -> bool {
        match self {
            Self::Http1 { to, .. } => to.is_closed(),
            Self::Http2(to) => to.is_closed(),
        }
    }
}

/// HTTP/1 names the host in a header and, unless a proxy must find it, the path alone.
fn prepare_http1(request: &mut Request<Full<Bytes>>, proxy: Option<&ThroughProxy>) {
    if let Some(host) = request.uri().authority().and_then(|a| HeaderValue::try_from(a.as_str()).ok()) {
        request.headers_mut().insert(HOST, host);
    }
    match proxy {
        Some(ThroughProxy(Some(authorization))) => {
            request.headers_mut().insert(PROXY_AUTHORIZATION, authorization.clone());
        }
        Some(ThroughProxy(None)) => {}
        None => {
            let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
            *request.uri_mut() = Uri::from(path);
        }
    }
}

fn host_and_port(uri: &Uri) -> io::Result<(&str, u16)> {
    let host = uri.host().ok_or_else(|| io::Error::other(format!("{uri}: no host")))?;
    let default = if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
    Ok((host, uri.port_u16().unwrap_or(default)))
}

async fn connect_tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

/// Asks a proxy for a way through to the receiver.
async fn tunnel(tcp: &mut TcpStream, host: &str, port: u16, authorization: Option<&HeaderValue>) -> io::Result<()> {
    let mut ask = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n").into_bytes();
    if let Some(value) = authorization {
        ask.extend_from_slice(b"Proxy-Authorization: ");
        ask.extend_from_slice(value.as_bytes());
        ask.extend_from_slice(b"\r\n");
    }
    ask.extend_from_slice(b"\r\n");
    tcp.write_all(&ask).await?;
    let mut answer = Vec::new();
    // Byte by byte: what follows the empty line is the receiver's.
    while !answer.ends_with(b"\r\n\r\n") && answer.len() < 8192 {
        answer.push(tcp.read_u8().await?);
    }
    let status = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
    match status.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => Err(io::Error::other(format!("the proxy answers {status:?}"))),
    }
}

/// `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`, in either case. `HTTP_PROXY` in capitals counts here: no web
/// server runs this program with a client's headers for an environment.
fn proxies(env: &BTreeMap<String, String>) -> Matcher {
    let get = |name: &str| {
        let value = env.get(&name.to_ascii_lowercase()).or_else(|| env.get(name));
        value.cloned().unwrap_or_default()
    };
    Matcher::builder()
        .all(get("ALL_PROXY"))
        .http(get("HTTP_PROXY"))
        .https(get("HTTPS_PROXY"))
        .no(get("NO_PROXY"))
        .build()
}

fn tls(endpoint: &Endpoint, root: &Root) -> Result<ClientConfig, Unusable> {
    let mut trusted = RootCertStore::empty();
    match &endpoint.certificate {
        Some(path) => {
            for certificate in certificates(path, root)? {
                trusted.add(certificate).map_err(|e| unusable(path, &e))?;
            }
        }
        None => {
            trusted.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Unusable(e.to_string()))?
        .with_root_certificates(trusted);
    match (&endpoint.client_certificate, &endpoint.client_key) {
        (Some(certificate), Some(key)) => {
            let chain = certificates(certificate, root)?;
            let pem = root.read_bytes(key).map_err(|e| unusable(key, &e))?;
            let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|e| unusable(key, &e))?;
            config.with_client_auth_cert(chain, private).map_err(|e| unusable(certificate, &e))
        }
        (None, None) => Ok(config.with_no_client_auth()),
        _ => Err(Unusable("a client certificate needs both the certificate and its key".into())),
    }
}

fn certificates(path: &Path, root: &Root) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let pem = root.read_bytes(path).map_err(|e| unusable(path, &e))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let all = all.map_err(|e| unusable(path, &e))?;
    if all.is_empty() {
        return Err(Unusable(format!("{}: no certificate in it", path.display())));
    }
    Ok(all)
}

fn unusable(path: &Path, why: &dyn std::fmt::Display) -> Unusable {
    Unusable(format!("{}: {why}", path.display()))
}
