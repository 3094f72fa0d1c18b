//! HTTP over a Unix socket (or a plain connection), for daemons that may hang, stop in mid-answer or answer nonsense: every answer has a time
//! limit and a size limit.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Incoming};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::WORK;
use crate::root::Root;

/// The largest answer that is read: a list of some ten thousand containers.
pub const MAX_BODY: usize = 64 << 20;
/// The largest single event that is read: all labels of a container are in it.
pub const MAX_LINE: usize = 4 << 20;

/// Why a daemon gave no answer. Few and fixed: [`Trouble::reason`] is a label value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    #[error("no socket")]
    NoSocket,
    #[error("permission denied")]
    Denied,
    #[error("not answering")]
    NotAnswering,
    #[error("bad answer: {0}")]
    BadAnswer(String),
    #[error("HTTP status {0}")]
    Status(StatusCode),
    #[error("API is too old")]
    TooOld,
}

impl Trouble {
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoSocket => "no socket",
            Self::Denied => "permission denied",
            Self::NotAnswering => "not answering",
            Self::BadAnswer(_) | Self::Status(_) => "bad answer",
            Self::TooOld => "API is too old",
        }
    }

    pub fn from_connect(e: &std::io::Error) -> Self {
        match e.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR | libc::ENOTSOCK) => Self::NoSocket,
            Some(libc::EACCES | libc::EPERM) => Self::Denied,
            _ => Self::NotAnswering,
        }
    }

    /// The daemon knows no such thing (any more).
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Status(s) if *s == StatusCode::NOT_FOUND)
    }
}

/// One daemon, reached at its socket.
#[derive(Debug, Clone)]
pub struct Client {
    pub root: Root,
    pub socket: PathBuf,
    pub timeout: Duration,
}

/// An answer whose body has not been read. The connection lives as long as this does.
struct Answer {
    body: Incoming,
    _connection: JoinSet<()>,
}

/// Tells a span of a call to a runtime how it went.
pub fn failed(span: &tracing::Span, trouble: Option<&Trouble>) {
    if let Some(trouble) = trouble {
        span.record("error.type", trouble.reason());
        span.record("otel.status_code", "ERROR");
    }
}

impl Client {
    /// Reads a JSON answer, whole.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Trouble> {
        let body = within(self.timeout, async { whole(self.send(path).await?).await }).await?;
        serde_json::from_slice(&body).map_err(|e| Trouble::BadAnswer(format!("{path}: {e}")))
    }

    /// Whether it answers at all, whatever it says.
    pub async fn ping(&self, path: &str) -> Result<(), Trouble> {
        within(self.timeout, async { whole(self.send(path).await?).await }).await.map(|_| ())
    }

    /// Opens an answer of many lines that never ends.
    pub async fn lines(&self, path: &str) -> Result<Lines, Trouble> {
        let answer = within(self.timeout, self.send(path)).await?;
        Ok(Lines { answer, buffer: BytesMut::new(), searched: 0, skipping: false })
    }

    async fn send(&self, path: &str) -> Result<Answer, Trouble> {
        let span = tracing::info_span!(
            target: WORK,
            "GET",
            otel.kind = "client",
            http.request.method = "GET",
            url.path = path,
            network.peer.address = %self.socket.display(),
            error.type = tracing::field::Empty,
            otel.status_code = tracing::field::Empty,
        );
        let answer = self.ask(path).instrument(span.clone()).await;
        failed(&span, answer.as_ref().err());
        answer
    }

    async fn ask(&self, path: &str) -> Result<Answer, Trouble> {
        let stream = self.root.connect_unix(&self.socket, self.timeout).await.map_err(|e| Trouble::from_connect(&e))?;
        request(stream, path).await
    }
}

/// Reads an answer of another machine, whole.
pub async fn get(root: &Root, address: SocketAddr, path: &str, timeout: Duration) -> Result<Bytes, Trouble> {
    let all = async {
        let stream = root.connect_tcp(address).await.map_err(|_| Trouble::NotAnswering)?;
        whole(request(stream, path).await?).await
    };
    within(timeout, all).await
}

async fn request<S>(stream: S, path: &str) -> Result<Answer, Trouble>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |e: hyper::Error| Trouble::BadAnswer(e.to_string());
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(256 << 10)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        // Its errors come out of the body, too.
        let _ = connection.await;
    });
    let request = Request::get(path)
        .header("host", "localhost")
        .header("user-agent", "kina-exporter")
        .body(Empty::<Bytes>::new())
        .map_err(|e| Trouble::BadAnswer(e.to_string()))?;
    let response = sender.send_request(request).await.map_err(|e| match e {
        // Closed without a word: a daemon that is going down, or is not up yet.
        e if e.is_incomplete_message() || e.is_canceled() || e.is_closed() => Trouble::NotAnswering,
        e => broken(e),
    })?;
    if response.status() != StatusCode::OK {
        return Err(Trouble::Status(response.status()));
    }
    Ok(Answer { body: response.into_body(), _connection: driver })
}

async fn within<T>(limit: Duration, f: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    tokio::time::timeout(limit, f).await.unwrap_or(Err(Trouble::NotAnswering))
}

async fn whole(mut answer: Answer) -> Result<Bytes, Trouble> {
    let too_long = || Trouble::BadAnswer(format!("longer than {MAX_BODY} bytes"));
    // Said beforehand: nothing of it needs to be read, for which a busy machine may take longer than the time limit.
    if answer.body.size_hint().lower() > MAX_BODY as u64 {
        return Err(too_long());
    }
    let mut all = BytesMut::new();
    while let Some(data) = next_data(&mut answer).await? {
        if all.len() + data.len() > MAX_BODY {
            return Err(too_long());
        }
        all.extend_from_slice(&data);
    }
    Ok(all.freeze())
}

async fn next_data(answer: &mut Answer) -> Result<Option<Bytes>, Trouble> {
    loop {
        match answer.body.frame().await {
            None => return Ok(None),
            Some(Err(e)) => return Err(Trouble::BadAnswer(e.to_string())),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// Lines of an endless answer, as they come.
pub struct Lines {
    answer: Answer,
    buffer: BytesMut,
    /// How much of the buffer is known to hold no line end.
    searched: usize,
    /// Within a line that is longer than [`MAX_LINE`].
    skipping: bool,
}

impl Lines {
    /// The next line without its end; None when the daemon closed the stream. A line that is too long is skipped.
    /// Cancel safe: nothing read is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Trouble> {
        loop {
            if let Some(at) = self.buffer[self.searched..].iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(self.searched + at + 1).freeze();
                self.searched = 0;
                if std::mem::take(&mut self.skipping) {
                    tracing::warn!(limit = MAX_LINE, "skipped an event that is too long");
                    continue;
                }
                return Ok(Some(line.slice(..line.len() - 1)));
            }
            if self.buffer.len() > MAX_LINE {
                self.skipping = true;
                self.buffer.clear();
            }
            self.searched = self.buffer.len();
            match next_data(&mut self.answer).await? {
                Some(data) => self.buffer.extend_from_slice(&data),
                None => return Ok(None),
            }
        }
    }
}
