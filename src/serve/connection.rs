//! Connections: how many, how long each may take at what, and how they end.
//!
//! A connection is always in one [`Stage`]; each stage has a time limit. When many are open, those that only wait are
//! given less time, so that whoever has something to ask gets in.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::App;
use super::listen::{Listener, Peer, Stream};
use super::respond::{Body, keep};
use super::route;

/// What a client may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections; more wait in the kernel's queue.
    pub connections: usize,
    /// TLS handshake.
    pub handshake: Duration,
    /// From the first byte of a request to the end of its headers.
    pub head: Duration,
    /// Kept open without a request. Longer than the usual scrape intervals, so that scrapes reuse their connection.
    pub idle: Duration,
    /// Instead of the two above once three quarters of the connections are taken.
    pub crowded: Duration,
    /// The client reads nothing of its answer.
    pub stuck: Duration,
    /// From the request to the end of its answer, where nothing shorter ends it.
    pub answer: Duration,
    /// What is in flight at shutdown.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self {
            connections: 512,
            handshake: s(10),
            head: s(10),
            idle: s(300),
            crowded: s(3),
            stuck: s(10),
            answer: s(120),
            drain: s(10),
        }
    }
}

/// Longest request head: request line and headers.
const MAX_HEAD: usize = 32 << 10;
const MAX_HEADERS: usize = 100;
const MAX_STREAMS: u32 = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    Draining,
    Over,
}

/// Seen by all connections.
struct Service {
    app: Arc<App>,
    limits: Limits,
    phase: watch::Sender<Phase>,
    crowded: watch::Sender<bool>,
    places: Arc<Semaphore>,
}

pub(super) async fn serve(listeners: Vec<Listener>, app: Arc<App>, limits: Limits, shutdown: impl Future<Output = ()>) {
    let service = Arc::new(Service {
        app,
        phase: watch::Sender::new(Phase::Running),
        crowded: watch::Sender::new(false),
        places: Arc::new(Semaphore::new(limits.connections)),
        limits,
    });
    for listener in listeners {
        tokio::spawn(accept(listener, service.clone()));
    }
    shutdown.await;
    service.phase.send_replace(Phase::Draining);
    // Every open connection holds one place.
    let all = service.places.acquire_many(service.limits.connections as u32);
    if timeout(service.limits.drain, all).await.is_err() {
        tracing::warn!("connections still open after {:?} are closed", service.limits.drain);
    }
    service.phase.send_replace(Phase::Over);
}

async fn accept(listener: Listener, service: Arc<Service>) {
    let mut phase = service.phase.subscribe();
    let mut ended = pin!(phase.wait_for(|p| *p != Phase::Running));
    loop {
        let next = async {
            let place = service.places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            _ = &mut ended => return,
            next = next => next,
        };
        service.look_around();
        match accepted {
            Ok((stream, peer)) => {
                let service = service.clone();
                tokio::spawn(async move {
                    service.connection(stream, peer).await;
                    drop(place);
                    service.look_around();
                });
            }
            Err(e) => {
                tracing::debug!(error = %e, "accept");
                // Out of descriptors, most likely: trying at once would only burn the processor.
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

impl Service {
    /// Tells waiting connections when places become scarce.
    fn look_around(&self) {
        let scarce = self.places.available_permits() * 4 <= self.limits.connections;
        self.crowded.send_if_modified(|c| std::mem::replace(c, scarce) != scarce);
    }

    async fn connection(&self, stream: Box<dyn Stream>, peer: Peer) {
        let Some(web) = self.app.web.tls().then(|| self.app.web.current()) else {
            return self.http(stream, peer, false).await;
        };
        let Some(tls) = web.tls.clone() else { return };
        let mut phase = self.phase.subscribe();
        let handshake = timeout(self.limits.handshake, TlsAcceptor::from(tls).accept(stream));
        let handshake = tokio::select! {
            done = handshake => done,
            _ = phase.wait_for(|p| *p != Phase::Running) => return,
        };
        match handshake {
            Ok(Ok(stream)) => {
                let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                self.http(Box::new(stream), peer, http2).await;
            }
            Ok(Err(e)) => tracing::debug!(?peer, error = %e, "TLS handshake"),
            Err(_) => tracing::debug!(?peer, "TLS handshake took too long"),
        }
    }

    async fn http(&self, stream: Box<dyn Stream>, peer: Peer, http2: bool) {
        let progress = Arc::new(Progress::new(http2));
        let io = TokioIo::new(Watched { stream, progress: progress.clone() });
        let app = self.app.clone();
        let seen = progress.clone();
        let answer = service_fn(move |request: Request<Incoming>| {
            let app = app.clone();
            let flight = Flight::begin(seen.clone());
            async move {
                let response: Response<Body> = route::answer(app, peer, request).await;
                Ok::<_, Infallible>(keep(response, flight))
            }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        // Time limits are ours: hyper's own would also end connections that are kept for the next scrape.
        builder.http1().header_read_timeout(None).max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
        builder.http2().max_concurrent_streams(MAX_STREAMS).max_header_list_size(MAX_HEAD as u32);
        let builder = if http2 { builder.http2_only() } else { builder.http1_only() };
        let mut connection = pin!(builder.serve_connection(io, answer));

        let mut state = progress.0.subscribe();
        let mut crowded = self.crowded.subscribe();
        let mut phase = self.phase.subscribe();
        loop {
            let stage = state.borrow_and_update().stage();
            let limit = self.limit(stage, *crowded.borrow_and_update());
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(e) = ended {
                        tracing::debug!(?peer, error = e, "connection");
                    }
                    return;
                }
                _ = state.changed() => {}
                _ = crowded.changed() => {}
                _ = phase.changed() => match *phase.borrow_and_update() {
                    Phase::Running => {}
                    Phase::Draining => connection.as_mut().graceful_shutdown(),
                    Phase::Over => return,
                },
                () = sleep(limit) => {
                    tracing::debug!(?peer, ?stage, "closed: took longer than {limit:?}");
                    return;
                }
            }
        }
    }

    fn limit(&self, stage: Stage, crowded: bool) -> Duration {
        let limits = &self.limits;
        let waiting = |usual: Duration| if crowded { usual.min(limits.crowded) } else { usual };
        match stage {
            Stage::Idle => waiting(limits.idle),
            Stage::Head => waiting(limits.head),
            Stage::Answer => limits.answer,
            Stage::Stuck => limits.stuck,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing has been asked.
    Idle,
    /// A request has begun.
    Head,
    /// An answer is on its way.
    Answer,
    /// … and the client does not take it.
    Stuck,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    in_flight: usize,
    head: bool,
    stuck: bool,
}

impl State {
    fn stage(self) -> Stage {
        match self {
            State { stuck: true, .. } => Stage::Stuck,
            State { in_flight: 1.., .. } => Stage::Answer,
            State { head: true, .. } => Stage::Head,
            _ => Stage::Idle,
        }
    }
}

/// What the connection is at, told by what is read, written and answered.
struct Progress(watch::Sender<State>, bool);

impl Progress {
    /// A new connection has to ask: it gets no longer than a request's head.
    fn new(http2: bool) -> Self {
        Self(watch::Sender::new(State { in_flight: 0, head: true, stuck: false }), http2)
    }

    fn update(&self, f: impl FnOnce(&mut State)) {
        self.0.send_if_modified(|state| {
            let before = *state;
            f(state);
            before.stage() != state.stage()
        });
    }

    /// With HTTP/2 bytes between requests are no request: clients send pings.
    fn has_read(&self) {
        if !self.1 {
            self.update(|s| s.head = true);
        }
    }
}

/// One request, from its arrival to the end of its answer.
struct Flight(Arc<Progress>);

impl Flight {
    fn begin(progress: Arc<Progress>) -> Self {
        progress.update(|s| {
            s.in_flight += 1;
            s.head = false;
        });
        Self(progress)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.update(|s| {
            s.in_flight -= 1;
            s.head = false;
        });
    }
}

/// The stream, watched.
struct Watched {
    stream: Box<dyn Stream>,
    progress: Arc<Progress>,
}

impl Watched {
    fn wrote<T>(&self, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let stuck = poll.is_pending();
        self.progress.update(|s| s.stuck = stuck);
        poll
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.progress.has_read();
        }
        poll
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(cx);
        self.wrote(poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.wrote(poll)
    }
}
