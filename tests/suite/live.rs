//! Real things for tests: a Docker engine, the exporter's own binary, and what it answers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::common::skip;

/// Calls `poll` until it answers, failing with `what` after [`LIMIT`].
#[track_caller]
pub fn wait_for<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(answer) = poll() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {LIMIT:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Starts a server on a port that was free a moment ago; on another one when `start` tells that it was taken meanwhile.
#[track_caller]
pub fn on_a_free_port<T>(mut start: impl FnMut(SocketAddr) -> Option<T>) -> T {
    for _ in 0..5 {
        let address = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).unwrap();
        if let Some(server) = start(address) {
            return server;
        }
    }
    panic!("five ports that were free were taken");
}

/// Whether a server of Prometheus' kind is ready; false where it ended because another program has its port.
#[track_caller]
pub fn ready(name: &str, child: &mut Child, address: SocketAddr, log: &Path) -> bool {
    wait_for(&format!("{name} to be ready"), || {
        if let Some(status) = child.try_wait().unwrap() {
            let log = std::fs::read_to_string(log).unwrap_or_default();
            assert!(log.contains("address already in use"), "{name} ended with {status}:\n{log}");
            return Some(false);
        }
        http(address, "GET", "/-/ready", &[], &[]).filter(|r| r.status == 200).map(|_| true)
    })
}

/// How long a test waits for what must come: long, since a busy machine must not fail it.
pub const LIMIT: Duration = Duration::from_secs(180);

/// The address in the log line that tells of a listener: a port that is chosen beforehand may be another's by then.
pub fn listening_at(line: &str) -> Option<SocketAddr> {
    let (_, address) = line.split_once("listening").and_then(|(_, rest)| rest.split_once("127.0.0.1:"))?;
    let port: String = address.chars().take_while(char::is_ascii_digit).collect();
    Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?)))
}

/// Where a program is, if it is installed.
pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|d| d.join(program)).find(|p| p.is_file())
}

pub fn is_root() -> bool {
    // SAFETY: geteuid has no arguments and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// A Docker engine that answers, with an image made of busybox alone.
pub struct Docker {
    pub socket: PathBuf,
}

pub const IMAGE: &str = "kina-test:busybox";

impl Docker {
    /// The engine of `DOCKER_HOST` or the usual socket; None (and a word why) where there is none.
    pub fn get() -> Option<&'static Docker> {
        static ENGINE: OnceLock<Result<Docker, String>> = OnceLock::new();
        match ENGINE.get_or_init(Self::connect) {
            Ok(engine) => Some(engine),
            Err(why) => {
                skip(why);
                None
            }
        }
    }

    fn connect() -> Result<Docker, String> {
        let socket = match std::env::var("DOCKER_HOST") {
            Ok(host) => host.strip_prefix("unix://").map(PathBuf::from).ok_or("DOCKER_HOST is no Unix socket")?,
            Err(_) => "/var/run/docker.sock".into(),
        };
        let engine = Docker { socket };
        which("docker").ok_or("docker is not installed")?;
        let version = engine.try_docker(&["version", "--format", "{{.Server.Version}}"])?;
        if !version.status.success() {
            return Err("no Docker engine answers".into());
        }
        if !engine.try_docker(&["image", "inspect", IMAGE])?.status.success() {
            engine.import_image()?;
        }
        Ok(engine)
    }

    fn import_image(&self) -> Result<(), String> {
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| std::path::Path::new(p).is_file());
        let busybox = busybox.ok_or("busybox-static is not installed")?;
        let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
        let bin = dir.path().join("bin");
        std::fs::create_dir_all(&bin)
            .and_then(|()| std::fs::create_dir(dir.path().join("tmp")))
            .map_err(|e| e.to_string())?;
        std::fs::copy(busybox, bin.join("busybox")).map_err(|e| e.to_string())?;
        let applets = Command::new(busybox).arg("--list").output().map_err(|e| e.to_string())?;
        for applet in String::from_utf8_lossy(&applets.stdout).lines().filter(|a| *a != "busybox") {
            let _ = std::os::unix::fs::symlink("busybox", bin.join(applet));
        }
        let tar = dir.path().with_extension("tar");
        let packed = Command::new("tar").arg("-C").arg(dir.path()).arg("-cf").arg(&tar).arg(".").status();
        let tar_path = tar.to_string_lossy().into_owned();
        let imported =
            self.try_docker(&["import", "-c", "ENV PATH=/bin", "-c", "CMD [\"sleep\",\"3600\"]", &tar_path, IMAGE])?;
        let _ = std::fs::remove_file(&tar);
        if packed.is_ok_and(|s| s.success()) && imported.status.success() {
            Ok(())
        } else {
            Err(format!("docker import failed: {}", String::from_utf8_lossy(&imported.stderr)))
        }
    }

    fn try_docker(&self, args: &[&str]) -> Result<Output, String> {
        // An engine that hangs fails the test that asked it, not the whole run.
        Command::new("timeout")
            .args(["-k", "5", "120", "docker"])
            .env("DOCKER_HOST", format!("unix://{}", self.socket.display()))
            .args(args)
            .stdin(Stdio::null())
            .output()
            .map_err(|e| format!("docker: {e}"))
    }

    /// Runs the client, failing the test when it fails; gives what it printed.
    #[track_caller]
    pub fn docker(&self, args: &[&str]) -> String {
        let out = self.try_docker(args).unwrap();
        assert!(out.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }

    /// `docker run -d` with the test image; the container is removed with the guard.
    #[track_caller]
    pub fn run(&'static self, options: &[&str], command: &[&str]) -> DockerContainer {
        self.run_image(options, IMAGE, command)
    }

    #[track_caller]
    pub fn run_image(&'static self, options: &[&str], image: &str, command: &[&str]) -> DockerContainer {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("kina-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let args = [&["run", "-d", "--name", &name], options, &[image], command].concat();
        let id = self.docker(&args);
        DockerContainer { engine: self, name, id }
    }
}

pub struct DockerContainer {
    engine: &'static Docker,
    pub name: String,
    pub id: String,
}

impl DockerContainer {
    #[track_caller]
    pub fn inspect(&self, format: &str) -> String {
        self.engine.docker(&["inspect", "--format", format, &self.id])
    }

    #[track_caller]
    pub fn exec(&self, command: &[&str]) -> String {
        self.engine.docker(&[&["exec", &self.id], command].concat())
    }

    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.inspect("{{.State.Pid}}").parse().unwrap()
    }

    #[track_caller]
    pub fn address(&self) -> String {
        self.inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
    }
}

impl Drop for DockerContainer {
    fn drop(&mut self) {
        let _ = self.engine.try_docker(&["rm", "-f", &self.id]);
    }
}

/// The exporter's own binary, serving on a free port.
pub struct Exporter {
    child: Child,
    log: std::fs::File,
    pub address: SocketAddr,
}

impl Exporter {
    /// Starts `serve` with these arguments and waits until it is ready.
    #[track_caller]
    pub fn start(args: &[&str]) -> Exporter {
        Self::start_in(args, &[])
    }

    /// As [`Exporter::start`], with these environment variables.
    #[track_caller]
    pub fn start_in(args: &[&str], env: &[(&str, &str)]) -> Exporter {
        let log = tempfile::tempfile().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_kina-exporter"))
            // The log tells the address.
            .args(args.iter().filter(|a| !["--log.level=warn", "--log.level=error"].contains(a)))
            .arg("--web.listen-address=127.0.0.1:0")
            .env_remove("KINA_CONFIG_FILE")
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.try_clone().unwrap())
            .spawn()
            .unwrap();
        let mut exporter = Exporter { child, log, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        wait_for("the exporter to be ready", || {
            if let Some(status) = exporter.child.try_wait().unwrap() {
                panic!("the exporter ended with {status}:\n{}", exporter.log());
            }
            exporter.address = exporter.log().lines().find_map(listening_at)?;
            exporter.try_get("/-/ready", &[]).filter(|r| r.status == 200)
        });
        exporter
    }

    /// Starts it so that it sees the test engine's containers.
    #[track_caller]
    pub fn with_docker(docker: &Docker, args: &[&str]) -> Exporter {
        let socket = format!("--runtime.docker.socket={}", docker.socket.display());
        Self::start(&[&[socket.as_str()], args].concat())
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        use std::os::unix::fs::FileExt;
        let mut text = vec![0; self.log.metadata().unwrap().len() as usize];
        self.log.read_exact_at(&mut text, 0).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }

    pub fn try_get(&self, path: &str, headers: &[(&str, &str)]) -> Option<Response> {
        http(self.address, "GET", path, headers, &[])
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> String {
        let r = self.try_get(path, &[]).expect("an answer");
        assert_eq!(r.status, 200, "{path}: {}", String::from_utf8_lossy(&r.body));
        String::from_utf8(r.body).unwrap()
    }

    #[track_caller]
    pub fn scrape(&self) -> Scrape {
        Scrape::parse(&self.get("/metrics"))
    }

    /// SIGTERM, then its exit code.
    pub fn terminate(mut self) -> Option<i32> {
        // SAFETY: signals our own child, which has not been waited for.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        self.child.wait().ok().and_then(|s| s.code())
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct Response {
    pub status: u16,
    pub headers: String,
    pub body: Vec<u8>,
}

/// One HTTP/1.1 request with a connection of its own; chunked bodies are put together.
pub fn http(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Response> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT).ok()?;
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    stream.write_all(request.as_bytes()).and_then(|()| stream.write_all(body)).ok()?;
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).ok()?;
    let end = raw.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&raw[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let rest = &raw[end + 4..];
    let body = if head.contains("transfer-encoding: chunked") { dechunk(rest)? } else { rest.to_vec() };
    Some(Response { status, headers: head, body })
}

fn dechunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|w| w == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?.trim(), 16).ok()?;
        rest = &rest[line + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}

/// A classic text scrape, parsed.
pub struct Scrape {
    pub samples: Vec<Sample>,
}

#[derive(Debug)]
pub struct Sample {
    pub name: String,
    pub labels: Vec<(String, String)>,
    pub value: f64,
}

impl Sample {
    pub fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }
}

impl Scrape {
    #[track_caller]
    pub fn parse(text: &str) -> Scrape {
        let samples = text
            .lines()
            .filter(|l| !l.is_empty() && !l.starts_with('#'))
            .map(|l| parse_sample(l).unwrap_or_else(|| panic!("not a sample: {l}")))
            .collect();
        Scrape { samples }
    }

    /// Samples of a family whose labels include these.
    pub fn select<'s>(&'s self, name: &'s str, labels: &'s [(&'s str, &'s str)]) -> impl Iterator<Item = &'s Sample> {
        self.samples.iter().filter(move |s| s.name == name && labels.iter().all(|(n, v)| s.label(n) == *v))
    }

    /// The sum of those samples; None when there are none.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut found = self.select(name, labels).map(|s| s.value).peekable();
        found.peek()?;
        Some(found.sum())
    }

    /// As [`Scrape::value`], failing when there is no such sample.
    #[track_caller]
    pub fn must(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.value(name, labels).unwrap_or_else(|| panic!("no {name} {labels:?}"))
    }
}

fn parse_sample(line: &str) -> Option<Sample> {
    let name_end = line.find(['{', ' '])?;
    let mut labels = Vec::new();
    let mut rest = &line[name_end..];
    if let Some(mut inner) = rest.strip_prefix('{') {
        while !inner.starts_with('}') {
            let equals = inner.find("=\"")?;
            let label = inner[..equals].to_owned();
            let mut value = String::new();
            let mut chars = inner[equals + 2..].char_indices();
            let end = loop {
                match chars.next()? {
                    (at, '"') => break equals + 2 + at + 1,
                    (_, '\\') => match chars.next()?.1 {
                        'n' => value.push('\n'),
                        c => value.push(c),
                    },
                    (_, c) => value.push(c),
                }
            };
            labels.push((label, value));
            inner = &inner[end..];
            inner = inner.strip_prefix(',').unwrap_or(inner);
        }
        rest = &inner[1..];
    }
    let value = match rest.trim() {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "NaN" => f64::NAN,
        v => v.parse().ok()?,
    };
    Some(Sample { name: line[..name_end].to_owned(), labels, value })
}
