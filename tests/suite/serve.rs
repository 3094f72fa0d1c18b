//! The HTTP server: what it answers, and how it stands clients that are slow, many, wrong or hostile.

mod tls;
mod web_files;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kina_exporter::config::Config;
use kina_exporter::engine::{Engine, Shared};
use kina_exporter::root::{Clock, Root};
use kina_exporter::runtime::{Container, Identity, RuntimeKind};
use kina_exporter::serve::{Hooks, Limits, Server};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A server of a machine that a folder stands for.
struct Site {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
    _root: tempfile::TempDir,
}

struct Setup {
    config: Config,
    limits: Limits,
    hooks: Hooks,
    containers: Vec<Container>,
}

impl Default for Setup {
    fn default() -> Self {
        let mut config = Config::default();
        config.web.listen = vec!["127.0.0.1:0".into()];
        Self { config, limits: Limits::default(), hooks: Hooks::default(), containers: Vec::new() }
    }
}

impl Setup {
    fn containers(n: usize) -> Self {
        Self { containers: (0..n).map(|i| container(&format!("c{i:04}"), "image")).collect(), ..Self::default() }
    }

    async fn start(self) -> Site {
        let dir = tempfile::tempdir().unwrap();
        let shared = Shared::new(Root::at(dir.path(), Clock::System), self.config);
        for container in self.containers {
            shared.directory.insert(container);
        }
        let engine = Engine::start(shared.clone()).unwrap();
        let server = Server::bind(engine, self.hooks).await.unwrap_or_else(|e| panic!("{e}")).with_limits(self.limits);
        let address = server.addresses()[0];
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Site { address, shared, stop: Some(stop), served, _root: dir }
    }
}

impl Site {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
        exchange(self.connect().await, method, path, headers).await.expect("an answer")
    }

    async fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[]).await
    }
}

fn container(name: &str, image: &str) -> Container {
    let identity =
        Identity { id: format!("/docker/{name}"), name: name.into(), image: image.into(), ..Identity::default() };
    Container {
        runtime: RuntimeKind::Docker,
        native_id: name.into(),
        labels: Arc::new(identity.labels(RuntimeKind::Docker)),
        identity,
        started: Some(1_700_000_000_000_000_000),
        ..Container::default()
    }
}

#[derive(Debug)]
struct Reply {
    status: u16,
    /// Lower case, as sent.
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": "))
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

const PATIENCE: Duration = Duration::from_secs(30);

/// One request over an open stream, closed after. None when the other end hangs up without an answer.
async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Option<Reply> {
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    reply(stream).await
}

/// All that comes, up to the end of the stream.
async fn reply(mut stream: impl AsyncRead + Unpin) -> Option<Reply> {
    let mut raw = Vec::new();
    // An end without TLS' goodbye is an end as well.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut raw)).await.expect("an end of the answer");
    let end = raw.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8(raw[..end].to_vec()).unwrap().to_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let mut body = raw[end + 4..].to_vec();
    if head.contains("transfer-encoding: chunked") {
        body = dechunk(&body)?;
    }
    Some(Reply { status, head, body })
}

/// None if the last chunk is missing.
fn dechunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|w| w == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?, 16).ok()?;
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(line + 2..line + 2 + length)?);
        rest = rest.get(line + 4 + length..)?;
    }
}

/// Whether the other end closes within `limit`; what it sends before is thrown away.
async fn closes_within(mut stream: impl AsyncRead + Unpin, limit: Duration) -> bool {
    timeout(limit, async {
        let mut buf = [0; 4096];
        while !matches!(stream.read(&mut buf).await, Ok(0) | Err(_)) {}
    })
    .await
    .is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_path_and_method_has_its_answer() {
    let site = Setup::default().start().await;
    for (method, path, status) in [
        ("GET", "/metrics", 200),
        ("HEAD", "/metrics", 200),
        ("POST", "/metrics", 405),
        ("GET", "/-/healthy", 200),
        ("GET", "/-/ready", 200),
        ("GET", "/-/reload", 405),
        ("POST", "/-/reload", 200),
        ("GET", "/", 200),
        ("DELETE", "/", 405),
        ("GET", "/api/v1/containers", 200),
        ("GET", "/api/v1/containers?sort=nope", 400),
        ("GET", "/metrics?collect[]=cpu&collect[]=memory", 200),
        ("GET", "/metrics?collect[]=nope", 400),
        ("GET", "/metrics?exclude[]=cpu", 200),
        ("GET", "/metrics?collect[]=cpu&exclude[]=memory", 400),
        ("GET", "/metrics?format=openmetrics", 200),
        ("GET", "/metrics?format=xml", 400),
        ("GET", "/metrics/", 404),
        ("GET", "/../../etc/passwd", 404),
        ("BREW", "/", 405),
    ] {
        let reply = site.ask(method, path, &[]).await;
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.head);
        assert_eq!(reply.header("allow").is_some(), status == 405, "{method} {path}");
        if method == "HEAD" {
            assert!(reply.body.is_empty() && reply.header("content-type").is_some());
        }
    }
    let lost = site.get("/nope").await.text();
    assert!(lost.contains("/metrics") && lost.contains("/api/v1/containers"), "{lost}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_telemetry_path_is_where_it_is_set_and_answers_are_counted() {
    let mut setup = Setup::default();
    setup.config.web.telemetry_path = "/other".into();
    let site = setup.start().await;
    assert_eq!(site.get("/metrics").await.status, 404);
    assert_eq!(site.get("/other").await.status, 200);
    let text = site.get("/other").await.text();
    let name = kina_exporter::catalog::HTTP_REQUESTS.name();
    for (handler, code) in [("none", 404), ("metrics", 200)] {
        let sample = format!("{name}{{handler=\"{handler}\",code=\"{code}\"}} 1");
        assert!(text.contains(&sample), "{sample} is not in\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn formats_and_codings_are_negotiated() {
    let site = Setup::containers(3).start().await;
    let plain = site.get("/metrics").await;
    assert_eq!(plain.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let asked = [("accept", "application/openmetrics-text;version=1.0.0"), ("accept-encoding", "gzip")];
    let reply = site.ask("GET", "/metrics", &asked).await;
    assert!(reply.header("content-type").unwrap().starts_with("application/openmetrics-text; version=1.0.0"));
    assert_eq!(reply.header("content-encoding"), Some("gzip"));
    assert_eq!(reply.body[..2], [0x1f, 0x8b]);
    assert!(reply.header("vary").unwrap().contains("accept-encoding"));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_ready_once_the_runtimes_have_been_asked() {
    let (tell, ready) = watch::channel(false);
    let site = Setup { hooks: Hooks { ready, ..Hooks::default() }, ..Setup::default() }.start().await;
    let reply = site.get("/-/ready").await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    assert_eq!(site.get("/-/healthy").await.status, 200);
    tell.send(true).unwrap();
    assert_eq!(site.get("/-/ready").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_is_for_this_machine() {
    let reloads = Arc::new(AtomicUsize::new(0));
    let count = reloads.clone();
    let reload: kina_exporter::serve::Reload = Arc::new(move || {
        let n = count.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move { if n == 0 { Ok(()) } else { Err("config.yml:3: nonsense".into()) } })
    });
    let site = Setup { hooks: Hooks { reload, ..Hooks::default() }, ..Setup::default() }.start().await;
    assert_eq!(site.ask("POST", "/-/reload", &[]).await.status, 200);
    let bad = site.ask("POST", "/-/reload", &[]).await;
    assert_eq!(bad.status, 500);
    assert!(bad.text().contains("config.yml:3: nonsense"));
    for header in [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.1"), ("sec-fetch-site", "cross-site")] {
        assert_eq!(site.ask("POST", "/-/reload", &[header]).await.status, 403, "{header:?}");
    }
    assert_eq!(reloads.load(Ordering::Relaxed), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_heads_are_cut_and_kept_connections_are_not() {
    let limits = Limits { head: Duration::from_millis(300), ..Limits::default() };
    let site = Setup { limits, ..Setup::default() }.start().await;

    let silent = site.connect().await;
    let mut slow = site.connect().await;
    slow.write_all(b"GET /metrics HT").await.unwrap();
    let mut drip = site.connect().await;
    let dripping = async {
        // Each byte comes in time; the whole head does not.
        for byte in b"GET /-/healthy HTTP/1.1\r\nhost: x\r\nx: ".iter().cycle() {
            if drip.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut kept = site.connect().await;
    let ask = b"GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n";
    kept.write_all(ask).await.unwrap();
    let mut buf = [0; 1024];
    assert!(kept.read(&mut buf).await.unwrap() > 0);

    let limit = Duration::from_secs(10);
    assert!(closes_within(silent, limit).await, "a connection that asks nothing");
    assert!(closes_within(slow, limit).await, "half a request line");
    timeout(limit, dripping).await.expect("a head that never ends is cut");

    // Idle for longer than a head may take, and still good.
    kept.write_all(ask).await.unwrap();
    assert!(kept.read(&mut buf).await.unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn huge_heads_are_refused() {
    let site = Setup::default().start().await;
    let huge = "x".repeat(1 << 20);
    for headers in [vec![("x-huge", huge.as_str())], vec![("x-many", "1"); 5000]] {
        // The answer may be lost when the server hangs up on what it did not read.
        if let Some(reply) = exchange(site.connect().await, "GET", "/metrics", &headers).await {
            assert_eq!(reply.status, 431);
        }
    }
    assert_eq!(site.get("/-/healthy").await.status, 200);
    let path = format!("/{}", "a".repeat(100_000));
    if let Some(reply) = exchange(site.connect().await, "GET", &path, &[]).await {
        assert!([414, 431].contains(&reply.status), "{}", reply.status);
    }
    assert_eq!(site.get("/-/healthy").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_http_is_no_harm() {
    let site = Setup::default().start().await;
    for noise in
        [&b"\x16\x03\x01\x02\x00\x01\x00"[..], b"\0\0\0\0\r\n\r\n", b"GET\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    {
        let mut stream = site.connect().await;
        stream.write_all(noise).await.unwrap();
        stream.shutdown().await.unwrap();
        assert!(closes_within(stream, PATIENCE).await);
    }
    assert_eq!(site.get("/-/healthy").await.status, 200);
}

/// Whether this process may have so many descriptors, once it has taken all that it is allowed.
fn may_open(descriptors: u64) -> bool {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls read or write the one structure that they are given.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
    limit.rlim_cur >= descriptors
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_idle_connections_lock_nobody_out() {
    if !may_open(4096) && crate::common::skip("fewer than 4096 descriptors are allowed") {
        return;
    }
    let limits = Limits { crowded: Duration::from_millis(200), ..Limits::default() };
    let site = Setup { limits, ..Setup::default() }.start().await;
    let mut crowd = Vec::new();
    for _ in 0..2000 {
        match timeout(PATIENCE, TcpStream::connect(site.address)).await {
            Ok(Ok(stream)) => crowd.push(stream),
            other => panic!("after {} connections: {other:?}", crowd.len()),
        }
    }
    assert_eq!(site.get("/metrics").await.status, 200);
    drop(crowd);
    assert_eq!(site.get("/metrics").await.status, 200);
}

/// Asks for a large answer and reads none of it.
async fn ask_and_read_nothing(site: &Site) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(site.address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut first = [0; 1];
    // The answer has begun; peeked at, so that nothing is taken out.
    timeout(PATIENCE, stream.peek(&mut first)).await.unwrap().unwrap();
    stream
}

/// Containers enough for an answer that no socket buffer holds.
const MANY: usize = 20_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_is_cut_and_gives_its_place_back() {
    let mut setup = Setup::containers(MANY);
    setup.config.web.max_requests = 1;
    setup.limits.stuck = Duration::from_secs(1);
    let site = setup.start().await;
    let never_reads = ask_and_read_nothing(&site).await;

    let refused = site.get("/metrics").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "{}", refused.head);
    assert_eq!(site.get("/-/healthy").await.status, 200, "only scrapes are limited");

    let deadline = Instant::now() + PATIENCE;
    while site.get("/metrics").await.status != 200 {
        assert!(Instant::now() < deadline, "the place was never given back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(never_reads);
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_finishes_what_is_in_flight() {
    let mut site = Setup::containers(MANY).start().await;
    let in_flight = ask_and_read_nothing(&site).await;
    let mut idle = site.connect().await;
    idle.write_all(b"GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut buf = [0; 1024];
    assert!(idle.read(&mut buf).await.unwrap() > 0);

    site.stop.take().unwrap().send(()).unwrap();
    assert!(closes_within(idle, PATIENCE).await, "idle connections are closed at once");
    assert!(!site.served.is_finished(), "an answer is still in flight");
    let reply = reply(in_flight).await.expect("the whole answer");
    assert_eq!(reply.status, 200);
    assert!(reply.text().contains(&format!("c{:04}", MANY - 1)));
    timeout(PATIENCE, site.served).await.unwrap().unwrap();
    assert!(TcpStream::connect(site.address).await.is_err(), "nobody listens any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_does_not_wait_for_ever() {
    let mut setup = Setup::containers(MANY);
    setup.limits.drain = Duration::from_millis(300);
    let mut site = setup.start().await;
    let never_reads = ask_and_read_nothing(&site).await;
    site.stop.take().unwrap().send(()).unwrap();
    timeout(Duration::from_secs(8), site.served).await.expect("bounded by `drain`").unwrap();
    drop(never_reads);
}

#[tokio::test(flavor = "multi_thread")]
async fn scrapes_at_the_same_moment_share_a_collection() {
    let site = Setup::containers(2000).start().await;
    let scrapes = (0..30).map(|_| async {
        let text = site.get("/metrics").await.text();
        let took = kina_exporter::catalog::COLLECTOR_DURATION.name();
        text.lines().filter(|l| l.starts_with(took)).collect::<Vec<_>>().join("\n")
    });
    let answers = futures_util::future::join_all(scrapes).await;
    // How long each collector took differs from collection to collection.
    let collections: std::collections::HashSet<_> = answers.iter().collect();
    assert!(!answers[0].is_empty() && collections.len() < 15, "{} collections", collections.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_stay_text() {
    let hostile = "<script>alert(1)</script>\"'&\n\u{202e}";
    let containers = vec![container(hostile, "</td><img src=x onerror=alert(2)>"), container(&"n".repeat(65_536), "é")];
    let setup = Setup { containers, ..Setup::default() };
    let site = setup.start().await;

    // The page's own script is the only one.
    let scripts = |page: &str| (page.matches("<script").count(), page.matches("<script nonce=").count());
    let page = site.get("/?q=%22%3E%3Cscript%3E").await.text();
    assert_eq!(scripts(&page), (1, 1), "{page}");
    let reply = site.get("/").await;
    let page = reply.text();
    assert!(page.contains("&lt;script&gt;alert(1)"));
    assert_eq!(scripts(&page), (1, 1), "{page}");
    for outside in ["<img", "\u{202e}", "onerror=alert(2)>"] {
        assert!(!page.contains(outside), "{outside} got into the page");
    }
    assert!(page.len() < 100_000, "a long name is cut");
    let policy = reply.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");

    let json: serde_json::Value = serde_json::from_slice(&site.get("/api/v1/containers").await.body).unwrap();
    let names: Vec<_> = json["containers"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert!(names.contains(&hostile) && names.iter().any(|n| n.len() == 65_536));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_with_none_one_and_many_containers() {
    let rows = |page: &str| page.matches("role=cell class=name>").count();
    let none = Setup::default().start().await.get("/").await.text();
    assert!(rows(&none) == 0 && none.contains("This was looked for"), "{none}");

    let one = Setup::containers(1).start().await.get("/").await.text();
    assert!(rows(&one) == 1 && one.contains("c0000") && one.contains("1 running"));

    let site = Setup::containers(5000).start().await;
    let first = site.get("/?sort=name&refresh=7").await.text();
    assert_eq!(rows(&first), 100);
    assert!(first.contains("first 100 of 5000") && first.contains("Show all 5000"));
    assert!(first.contains("c0000") && !first.contains("c0100"));
    assert!(first.contains("http-equiv=refresh content=7") && first.contains("aria-sort=ascending"));
    assert!(first.len() < 300_000, "{} bytes", first.len());
    assert_eq!(rows(&site.get("/?all=1").await.text()), 5000);
    let found = site.get("/?q=C4999").await.text();
    assert!(rows(&found) == 1 && found.contains("1 found"));
    let nothing = site.get("/?q=zzz").await.text();
    assert!(rows(&nothing) == 0 && nothing.contains("“zzz”"));
}

/// Its script asks again, its policy lets it, and nothing else is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_keeps_the_page_up_to_date() {
    if crate::live::which("chromium").is_none() {
        crate::common::skip("chromium is not installed");
        return;
    }
    let site = Setup::containers(3).start().await;
    let profile = tempfile::tempdir().unwrap();
    // Its own clock: twelve seconds pass as fast as the page answers.
    let browser = tokio::process::Command::new("timeout")
        .args(["-k", "5", "60", "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .args(["--virtual-time-budget=12000", "--enable-logging=stderr"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("http://{}/", site.address))
        .stdin(std::process::Stdio::null())
        .output()
        .await
        .unwrap();
    let (page, log) = (String::from_utf8_lossy(&browser.stdout), String::from_utf8_lossy(&browser.stderr));
    assert!(page.contains("Live: pause") && page.contains("c0002"), "{page}\n{log}");
    // The browser's own pages have a console too, and complain where there is no network.
    let from = format!("source: http://{}", site.address);
    let complains = log.lines().any(|line| line.contains("CONSOLE") && line.contains(&from));
    assert!(!page.contains("class=\"stale\"") && !complains, "{log}");
    let counted = site.shared.held.openmetrics();
    let views = format!("{}{{handler=\"page\",code=\"200\"}} ", kina_exporter::catalog::HTTP_REQUESTS.name());
    let views: u64 = counted.split(&views).nth(1).and_then(|n| n.lines().next()?.parse().ok()).unwrap_or_default();
    assert!(views >= 3, "{counted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_names_units_and_leaves_out_what_is_not_known() {
    let mut setup = Setup::containers(2);
    setup.containers[0].user_labels = [("team".into(), "a".into()), ("secret".into(), "x".into())].into();
    setup.config.label_allow = vec!["team".into()];
    let site = setup.start().await;
    let reply = site.get("/api/v1/containers?q=c0000").await;
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let json: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    let containers = json["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1);
    let one = &containers[0];
    assert_eq!((one["name"].as_str(), one["runtime"].as_str()), (Some("c0000"), Some("docker")));
    assert_eq!(one["started_timestamp_seconds"], 1.7e9);
    assert_eq!(one["labels"], serde_json::json!({"team": "a"}), "only what is allowed is shown");
    assert_eq!(one["memory"], serde_json::json!({}), "nothing is known of its memory");
    assert!(!one.to_string().contains("null"), "{one}");
}

#[cfg(target_os = "linux")]
#[test]
fn sockets_come_from_systemd() {
    use std::os::fd::AsRawFd;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let fd = listener.as_raw_fd();
    let binary = env!("CARGO_BIN_EXE_kina-exporter");
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\"", binary])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // SAFETY: both calls are async-signal-safe; the descriptor stays open until after spawn. It goes by way of a high
    // number, as one that is 3 already would be closed on exec.
    unsafe {
        command.pre_exec(move || match libc::dup2(libc::fcntl(fd, libc::F_DUPFD, 10), 3) {
            3 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let mut child = command.spawn().unwrap();
    drop(listener);
    let reply = crate::live::wait_for("an answer over the socket", || {
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        crate::live::http(address, "GET", "/-/healthy", &[], &[])
    });
    assert_eq!(reply.status, 200);
    // SAFETY: signals our own child, which has not been waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    assert_eq!(child.wait().unwrap().code(), Some(0), "SIGTERM ends it well");

    let out = Command::new(binary).arg("--web.systemd-socket").output().unwrap();
    assert!(!out.status.success());
    assert!(String::from_utf8_lossy(&out.stderr).contains("LISTEN_FDS"));
}
