//! A daemon that speaks containerd's gRPC as badly as it is told to.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kina_exporter::root::{Clock, Root};
use kina_exporter::runtime::containerd::wire;
use prost::Message;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};

use super::fake::{Manner, now};
use super::seen::{Seen, nothing};

#[derive(Default)]
struct State {
    containers: BTreeMap<String, (wire::Container, u32)>,
    manners: BTreeMap<String, Manner>,
    /// How often each method was called.
    calls: BTreeMap<String, usize>,
    listeners: Vec<mpsc::UnboundedSender<Bytes>>,
}

pub struct FakeContainerd {
    pub dir: tempfile::TempDir,
    state: Arc<Mutex<State>>,
    down: watch::Sender<bool>,
    _tokio: tokio::runtime::Runtime,
}

type Body = BoxBody<Bytes, std::io::Error>;
type Part = Result<Frame<Bytes>, std::io::Error>;

impl FakeContainerd {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("sys/fs/cgroup")).unwrap();
        std::fs::write(dir.path().join("sys/fs/cgroup/cgroup.controllers"), "cpu memory\n").unwrap();
        let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let down = watch::Sender::new(false);
        let _within = tokio.enter();
        let listener = UnixListener::bind(dir.path().join("c.sock")).unwrap();
        tokio.spawn(accept(listener, state.clone(), down.clone()));
        drop(_within);
        Self { dir, state, down, _tokio: tokio }
    }

    pub fn see(&self) -> Seen {
        let mut config = nothing();
        config.runtime.containerd.enabled = true;
        config.runtime.containerd.socket = Some("/c.sock".into());
        config.runtime.containerd.timeout = Duration::from_millis(700);
        Seen::start(Root::at(self.dir.path(), Clock::System), config)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Methods whose path contains this are answered so from now on.
    pub fn behave(&self, method: &str, manner: Manner) {
        self.lock().manners.insert(method.to_owned(), manner);
    }

    pub fn behave_well(&self) {
        self.lock().manners.clear();
        self.down.send_replace(false);
    }

    /// All connections break, new ones are closed.
    pub fn go_down(&self) {
        self.lock().listeners.clear();
        self.down.send_replace(true);
    }

    pub fn calls(&self, method: &str) -> usize {
        self.lock().calls.iter().filter(|(path, _)| path.contains(method)).map(|(_, n)| n).sum()
    }

    /// A container runs, with a cgroup and a process; no event tells.
    pub fn run(&self, id: &str, pid: u32) {
        let cgroup = format!("default/{id}");
        let root = self.dir.path();
        std::fs::create_dir_all(root.join("sys/fs/cgroup").join(&cgroup)).unwrap();
        std::fs::create_dir_all(root.join(format!("proc/{pid}"))).unwrap();
        std::fs::write(root.join(format!("proc/{pid}/cgroup")), format!("0::/{cgroup}\n")).unwrap();
        let container = wire::Container {
            id: id.to_owned(),
            image: format!("example.org/{id}:1"),
            created_at: Some(wire::Timestamp { seconds: now() / 1_000_000_000, nanos: 0 }),
            ..Default::default()
        };
        self.lock().containers.insert(id.to_owned(), (container, pid));
    }

    pub fn end(&self, id: &str) {
        let Some((_, pid)) = self.lock().containers.remove(id) else { return };
        let _ = std::fs::remove_dir_all(self.dir.path().join(format!("sys/fs/cgroup/default/{id}")));
        let _ = std::fs::remove_dir_all(self.dir.path().join(format!("proc/{pid}")));
    }

    /// Waits for a listener, and tells it.
    pub fn emit(&self, topic: &str, event: &impl Message) {
        self.emit_raw(topic, event.encode_to_vec().into());
    }

    pub fn emit_raw(&self, topic: &str, value: Bytes) {
        let at = now();
        let envelope = wire::Envelope {
            timestamp: Some(wire::Timestamp { seconds: at / 1_000_000_000, nanos: (at % 1_000_000_000) as i32 }),
            namespace: "default".into(),
            topic: topic.into(),
            event: Some(wire::Any { type_url: String::new(), value }),
        };
        self.send(framed(&envelope.encode_to_vec()));
    }

    /// To all who listen, as it is.
    pub fn send(&self, bytes: Bytes) {
        crate::live::wait_for("a listener", || {
            let mut state = self.lock();
            state.listeners.retain(|l| l.send(bytes.clone()).is_ok());
            (!state.listeners.is_empty()).then_some(())
        });
    }
}

/// A message as gRPC sends it: not compressed, its length, itself.
pub fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(message.len() + 5);
    bytes.put_u8(0);
    bytes.put_u32(message.len() as u32);
    bytes.put_slice(message);
    bytes.freeze()
}

async fn accept(listener: UnixListener, state: Arc<Mutex<State>>, down: watch::Sender<bool>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (state, mut broken) = (state.clone(), down.subscribe());
        tokio::spawn(async move {
            // A connection whose answer is to break off in the middle ends with it.
            let (cut, mut cuts) = mpsc::unbounded_channel::<()>();
            let service = service_fn(move |request| answer(request, state.clone(), cut.clone()));
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                _ = connection => {}
                _ = broken.wait_for(|down| *down) => {}
                _ = async { cuts.recv().await; tokio::time::sleep(Duration::from_millis(50)).await } => {}
            }
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
    cut: mpsc::UnboundedSender<()>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let asked = request.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    let manner = {
        let mut state = state.lock().unwrap();
        *state.calls.entry(path.clone()).or_default() += 1;
        state.manners.iter().find(|(part, _)| path.contains(part.as_str())).map(|(_, m)| *m)
    };
    let parts: Vec<Part> = match manner {
        Some(Manner::Hang) => std::future::pending().await,
        Some(Manner::DropInTheMiddle) => {
            let _ = cut.send(());
            let (keep_open, parts) = mpsc::unbounded_channel();
            let _ = keep_open.send(Ok(Frame::data(framed(&[0; 1000]).slice(..100))));
            return Ok(streamed(parts, Some(keep_open)));
        }
        Some(Manner::Nonsense) => vec![Ok(Frame::data(framed(b"\xff\xff nonsense \x0a\x7f")))],
        Some(Manner::Huge | Manner::Endless) => {
            let size = 100 << 20;
            let mut head = BytesMut::from(&framed(&[])[..1]);
            head.put_u32(size as u32);
            let zeros = Bytes::from(vec![0; 1 << 20]);
            std::iter::once(head.freeze()).chain(std::iter::repeat_n(zeros, 100)).map(|b| Ok(Frame::data(b))).collect()
        }
        Some(Manner::Error500) => return Ok(failed(13)),
        None if path.ends_with("/Subscribe") => {
            let (tell, mut told) = mpsc::unbounded_channel();
            state.lock().unwrap().listeners.push(tell);
            // As containerd: not even the head before the first event.
            let Some(first) = told.recv().await else { return Ok(failed(14)) };
            let (pass, parts) = mpsc::unbounded_channel();
            let _ = pass.send(Ok(Frame::data(first)));
            tokio::spawn(async move {
                while let Some(bytes) = told.recv().await {
                    if pass.send(Ok(Frame::data(bytes))).is_err() {
                        return;
                    }
                }
            });
            return Ok(streamed(parts, None));
        }
        None => match method(&state.lock().unwrap(), &path, &asked[5.min(asked.len())..]) {
            Some(message) => vec![Ok(Frame::data(framed(&message)))],
            None => return Ok(failed(5)),
        },
    };
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    let parts: Vec<Part> = parts.into_iter().chain([Ok(Frame::trailers(trailers))]).collect();
    Ok(response(BodyExt::boxed(StreamBody::new(futures_util::stream::iter(parts)))))
}

fn streamed(mut parts: mpsc::UnboundedReceiver<Part>, keep: Option<mpsc::UnboundedSender<Part>>) -> Response<Body> {
    let stream = futures_util::stream::poll_fn(move |cx| {
        let _keep = &keep;
        parts.poll_recv(cx)
    });
    response(BodyExt::boxed(StreamBody::new(stream)))
}

fn response(body: Body) -> Response<Body> {
    Response::builder().header("content-type", "application/grpc").body(body).unwrap()
}

/// A gRPC status without a message.
fn failed(code: u8) -> Response<Body> {
    let mut response = response(BodyExt::boxed(http_body_util::Empty::new().map_err(|e: Infallible| match e {})));
    response.headers_mut().insert("grpc-status", http::HeaderValue::from(u16::from(code)));
    response
}

fn method(state: &State, path: &str, asked: &[u8]) -> Option<Vec<u8>> {
    Some(match path {
        "/containerd.services.version.v1.Version/Version" => wire::Version { version: "1.7".into() }.encode_to_vec(),
        "/containerd.services.namespaces.v1.Namespaces/List" => {
            wire::Namespaces { namespaces: vec![wire::Namespace { name: "default".into() }] }.encode_to_vec()
        }
        "/containerd.services.containers.v1.Containers/List" => {
            wire::Containers { containers: state.containers.values().map(|(c, _)| c.clone()).collect() }.encode_to_vec()
        }
        "/containerd.services.containers.v1.Containers/Get" => {
            let id = wire::Get::decode(asked).ok()?.id;
            wire::GotContainer { container: Some(state.containers.get(&id)?.0.clone()) }.encode_to_vec()
        }
        "/containerd.services.tasks.v1.Tasks/List" => {
            let task = |(id, (_, pid)): (&String, &(wire::Container, u32))| wire::Process {
                container_id: id.clone(),
                id: id.clone(),
                pid: *pid,
                status: 2,
            };
            wire::Tasks { tasks: state.containers.iter().map(task).collect() }.encode_to_vec()
        }
        _ => return None,
    })
}
