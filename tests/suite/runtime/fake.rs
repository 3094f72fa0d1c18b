//! A daemon that speaks Docker's API as badly as it is told to.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kina_exporter::root::{Clock, Root};
use kina_exporter::runtime::RuntimeKind;
use serde_json::{Value, json};

use super::seen::{Seen, nothing};

/// How a path is answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Manner {
    Hang,
    DropInTheMiddle,
    Nonsense,
    /// 100 MB, and says so beforehand.
    Huge,
    /// More than anybody would read, without a word of how much.
    Endless,
    Error500,
}

#[derive(Default)]
struct State {
    containers: BTreeMap<String, Value>,
    images: BTreeMap<String, Value>,
    /// Newest and oldest version of the API, where they are not the usual ones.
    versions: Option<(&'static str, &'static str)>,
    manners: BTreeMap<String, Manner>,
    history: Vec<(i64, String)>,
    listeners: Vec<UnixStream>,
    /// Connections are accepted and closed.
    down: bool,
}

pub struct Fake {
    pub dir: Arc<tempfile::TempDir>,
    socket: String,
    state: Arc<Mutex<State>>,
}

pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64
}

/// A 64-digit id that ends in these digits.
pub fn id(n: u32) -> String {
    format!("{:0>64}", format!("c{n:x}"))
}

/// As Go writes it.
pub fn rfc3339(nanos: i64) -> String {
    let at = jiff::Timestamp::from_nanosecond(nanos.into()).unwrap();
    format!("{at:.9}")
}

impl Fake {
    pub fn start() -> Fake {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("sys/fs/cgroup")).unwrap();
        std::fs::write(dir.path().join("sys/fs/cgroup/cgroup.controllers"), "cpu memory\n").unwrap();
        Self::listen(Arc::new(dir), "docker.sock")
    }

    /// Another daemon of the same machine.
    pub fn beside(&self, socket: &str) -> Fake {
        std::fs::create_dir_all(self.dir.path().join(socket).parent().unwrap()).unwrap();
        Self::listen(self.dir.clone(), socket)
    }

    fn listen(dir: Arc<tempfile::TempDir>, socket: &str) -> Fake {
        let listener = UnixListener::bind(dir.path().join(socket)).unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), state) = (stream, shared.clone()) else { return };
                std::thread::spawn(move || {
                    let _ = serve(stream, &state);
                });
            }
        });
        Fake { dir, socket: socket.to_owned(), state }
    }

    pub fn see(&self) -> Seen {
        self.see_as(RuntimeKind::Docker)
    }

    /// Taken for a Docker or for a Podman.
    pub fn see_as(&self, runtime: RuntimeKind) -> Seen {
        self.see_within(runtime, Duration::from_millis(700))
    }

    /// With a time limit for an answer.
    pub fn see_within(&self, runtime: RuntimeKind, limit: Duration) -> Seen {
        let mut config = nothing();
        let of = &mut config.runtime;
        let source = if runtime == RuntimeKind::Podman { &mut of.podman } else { &mut of.docker };
        source.enabled = true;
        source.socket = Some("/docker.sock".into());
        source.timeout = limit;
        Seen::start(Root::at(self.dir.path(), Clock::System), config)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The path that contains this is answered so from now on.
    pub fn behave(&self, path: &str, manner: Manner) {
        self.lock().manners.insert(path.to_owned(), manner);
    }

    pub fn behave_well(&self) {
        let mut state = self.lock();
        state.manners.clear();
        state.down = false;
    }

    /// Where it listens, on this machine.
    pub fn socket(&self) -> std::path::PathBuf {
        self.dir.path().join(&self.socket)
    }

    /// The daemon is gone: nothing answers and the event stream breaks.
    pub fn go_down(&self) {
        let mut state = self.lock();
        state.down = true;
        for stream in state.listeners.drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    pub fn speak(&self, newest: &'static str, oldest: &'static str) {
        self.lock().versions = Some((newest, oldest));
    }

    pub fn image(&self, id: &str, about: Value) {
        self.lock().images.insert(id.to_owned(), about);
    }

    /// A container runs, with a cgroup and a process; no event tells.
    pub fn run(&self, n: u32, name: &str, started: i64, with: impl FnOnce(&mut Value)) {
        let (id, pid) = (id(n), n + 10);
        let cgroup = format!("system.slice/docker-{id}.scope");
        let root: &Path = self.dir.path();
        std::fs::create_dir_all(root.join("sys/fs/cgroup").join(&cgroup)).unwrap();
        std::fs::create_dir_all(root.join(format!("proc/{pid}"))).unwrap();
        std::fs::write(root.join(format!("proc/{pid}/cgroup")), format!("0::/{cgroup}\n")).unwrap();
        let mut about = json!({
            "Id": id, "Name": format!("/{name}"), "Created": rfc3339(started - 1_000_000), "Path": "sleep", "Args": ["9"],
            "Image": "sha256:0123456789abcdef", "Config": {"Image": "img", "Labels": null},
            "State": {"Running": true, "Pid": pid, "StartedAt": rfc3339(started), "Error": "", "ExitCode": 0},
            "HostConfig": {"NetworkMode": "default"}, "NetworkSettings": {"Networks": {"bridge": null}}
        });
        with(&mut about);
        self.lock().containers.insert(id, about);
    }

    pub fn end(&self, n: u32) {
        let id = id(n);
        self.lock().containers.remove(&id);
        let cgroup = format!("sys/fs/cgroup/system.slice/docker-{id}.scope");
        let _ = std::fs::remove_dir_all(self.dir.path().join(cgroup));
        let _ = std::fs::remove_dir_all(self.dir.path().join(format!("proc/{}", n + 10)));
    }

    pub fn event(&self, n: u32, action: &str, at: i64) -> String {
        json!({
            "Type": "container", "Action": action, "time": at / 1_000_000_000, "timeNano": at,
            "Actor": {"ID": id(n), "Attributes": {"name": format!("c{n}"), "image": "img", "exitCode": "0"}}
        })
        .to_string()
    }

    /// Into the history and to all who listen.
    pub fn emit(&self, n: u32, action: &str, at: i64) {
        let line = self.event(n, action, at);
        self.lock().history.push((at, line.clone()));
        self.send(&format!("{line}\n"));
    }

    /// To all who listen, as it is.
    pub fn send(&self, text: &str) {
        self.lock().listeners.retain_mut(|stream| chunk(stream, text.as_bytes()).is_ok());
    }
}

fn chunk(stream: &mut UnixStream, data: &[u8]) -> std::io::Result<()> {
    write!(stream, "{:x}\r\n", data.len())?;
    stream.write_all(data)?;
    stream.write_all(b"\r\n")
}

fn serve(mut stream: UnixStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|l| !l.is_empty()) {}
    let path = request.split(' ').nth(1).unwrap_or("").to_owned();
    let (manner, down) = {
        let state = state.lock().unwrap();
        let manner = state.manners.iter().find(|(part, _)| path.contains(part.as_str())).map(|(_, m)| *m);
        (manner, state.down)
    };
    if down {
        return Ok(());
    }
    match manner {
        Some(Manner::Hang) => std::thread::sleep(Duration::from_secs(20)),
        Some(Manner::DropInTheMiddle) => write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n[{{\"Id\":")?,
        Some(Manner::Nonsense) => respond(&mut stream, 200, "{\"Id\": [nonsense")?,
        Some(Manner::Error500) => respond(&mut stream, 500, "{}")?,
        Some(Manner::Huge) => {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 104857602\r\n\r\n[")?;
            let spaces = vec![b' '; 1 << 20];
            for _ in 0..100 {
                stream.write_all(&spaces)?;
            }
            stream.write_all(b"]")?;
        }
        Some(Manner::Endless) => {
            write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            let spaces = vec![b' '; 1 << 20];
            while chunk(&mut stream, &spaces).is_ok() {}
        }
        None if path.contains("/events") => listen(stream, state, &path)?,
        None => {
            let (status, body) = answer(&state.lock().unwrap(), &path);
            respond(&mut stream, status, &body)?;
        }
    }
    Ok(())
}

fn respond(stream: &mut UnixStream, status: u16, body: &str) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn answer(state: &State, path: &str) -> (u16, String) {
    if path == "/version" {
        let (newest, oldest) = state.versions.unwrap_or(("1.47", "1.24"));
        return (200, json!({"ApiVersion": newest, "MinAPIVersion": oldest}).to_string());
    }
    if path == "/_ping" {
        return (200, "OK".to_owned());
    }
    let known = state.versions.map_or("1.41", |(_, oldest)| if oldest > "1.41" { oldest } else { "1.41" });
    let path = path.strip_prefix(&format!("/v{known}")).expect("the oldest version that both sides know");
    let found = match path {
        "/containers/json" => Some(json!(state.containers.keys().map(|id| json!({"Id": id})).collect::<Vec<_>>())),
        _ => {
            let thing = path.trim_end_matches("/json");
            let container = thing.strip_prefix("/containers/").and_then(|id| state.containers.get(id));
            container.or_else(|| state.images.get(thing.strip_prefix("/images/")?)).cloned()
        }
    };
    found.map_or((404, "{}".to_owned()), |v| (200, v.to_string()))
}

fn listen(mut stream: UnixStream, state: &Mutex<State>, path: &str) -> std::io::Result<()> {
    let since = path.split("since=").nth(1).and_then(|s| s.split('&').next()).unwrap_or("0.0");
    let (seconds, nanos) = since.split_once('.').unwrap();
    let since: i64 = seconds.parse::<i64>().unwrap() * 1_000_000_000 + nanos.parse::<i64>().unwrap();
    let mut state = state.lock().unwrap();
    write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    for (_, line) in state.history.iter().filter(|(at, _)| *at >= since) {
        chunk(&mut stream, format!("{line}\n").as_bytes())?;
    }
    state.listeners.push(stream);
    Ok(())
}
