//! A stop-watch beside the exporter: when a runtime was asked and when it answered, by our own clock.
//!
//! It knows nothing of the exporter, and the exporter nothing of it. Its thread goes before all others while it waits for
//! an answer (SCHED_RR, where that is allowed), so that what it tells is when the answer came and not when a processor
//! was free to read it. So does the daemon, where totals are held to the watch.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// From the request's first byte to the answer's, seconds since the Unix epoch.
#[derive(Debug, Clone, Copy)]
pub struct Watched {
    pub asked: f64,
    pub answered: f64,
}

impl Watched {
    pub fn took(&self) -> f64 {
        self.answered - self.asked
    }

    /// Two calls that are one start.
    pub fn until(self, later: Watched) -> Watched {
        Watched { answered: later.answered, ..self }
    }
}

pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}

/// Our thread before all others, until dropped.
pub struct Urgent;

impl Urgent {
    pub fn now() -> Urgent {
        schedule(0, FIRST);
        Urgent
    }
}

impl Drop for Urgent {
    fn drop(&mut self) {
        schedule(0, (libc::SCHED_OTHER, 0));
    }
}

/// Before all others; what it starts is not. By turns: with SCHED_FIFO two threads of Go's that spin until a third has run
/// keep it from running, for good.
const FIRST: (i32, i32) = (libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, 1);
/// Before all others, with the threads that it makes; where it makes processes, with them as well.
const FIRST_WITH_ALL: (i32, i32) = (libc::SCHED_RR, 1);

/// As [`Urgent`], of a child between its fork and its program: a system call and no more.
pub fn urgent_until_it_ends() {
    schedule(0, FIRST);
}

fn schedule(thread: i32, (policy, sched_priority): (i32, i32)) {
    let mut param = libc::sched_param { sched_priority };
    // SAFETY: the structure outlives the call; 0 is the calling thread. Where it is refused the watch is a little worse.
    unsafe { libc::sched_setscheduler(thread, policy, &raw mut param) };
}

/// A daemon before all others while its answers are timed, until dropped: neither its stamp of a request nor its answer
/// waits for a processor. Containers, which are what a start is made of, run as ever.
pub struct Prompt {
    pid: i32,
    policy: (i32, i32),
}

impl Prompt {
    /// The daemon that listens on this socket and makes containers itself.
    pub fn behind(socket: &Path) -> Prompt {
        Self::made(daemon_of(socket), FIRST)
    }

    /// A process whose children are no containers.
    pub fn of(pid: i32) -> Prompt {
        Self::made(pid, FIRST_WITH_ALL)
    }

    fn made(pid: i32, policy: (i32, i32)) -> Prompt {
        let daemon = Prompt { pid, policy };
        daemon.again();
        daemon
    }

    /// Threads that it has made since as well.
    pub fn again(&self) {
        self.each(self.policy);
    }

    fn each(&self, policy: (i32, i32)) {
        // Whoever opened the socket for a daemon is not the daemon.
        if self.pid <= 1 || !is_alone() {
            return;
        }
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten().flatten();
        threads.filter_map(|t| t.file_name().to_str()?.parse().ok()).for_each(|thread| schedule(thread, policy));
    }
}

/// Whose process listens on a socket; 1 where the system's manager opened it.
pub fn daemon_of(socket: &Path) -> i32 {
    let socket = UnixStream::connect(socket).unwrap();
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut size = size_of_val(&peer) as libc::socklen_t;
    let (level, option) = (libc::SOL_SOCKET, libc::SO_PEERCRED);
    // SAFETY: both outlive the call, and the size is that of the structure.
    unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, (&raw mut peer).cast(), &raw mut size) };
    peer.pid
}

/// The socket of the containerd that a Docker engine started for itself, if that is where it was told to.
pub fn containerd_below(docker: &Path) -> Option<PathBuf> {
    let command = std::fs::read_to_string(format!("/proc/{}/cmdline", daemon_of(docker))).ok()?;
    let told = command.split('\0').skip_while(|word| *word != "--exec-root").nth(1)?;
    Some(Path::new(told).join("containerd/containerd.sock")).filter(|socket| socket.exists())
}

impl Drop for Prompt {
    fn drop(&mut self) {
        self.each((libc::SCHED_OTHER, 0));
    }
}

/// One call of an HTTP API on a Unix socket, on a connection of its own: status, body, and how long it took.
pub fn call(socket: &Path, method: &str, path: &str, body: &Value) -> (u16, Value, Watched) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut socket = UnixStream::connect(socket).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut answer = vec![0];
    let urgent = Urgent::now();
    let asked = now();
    socket.write_all((head + &body).as_bytes()).unwrap();
    socket.read_exact(&mut answer).unwrap();
    let watched = Watched { asked, answered: now() };
    drop(urgent);
    socket.read_to_end(&mut answer).unwrap();
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or(Value::Null), watched)
}

/// Many calls at once.
pub struct Storm {
    /// From the first request to the last.
    pub asked: Duration,
    /// From the first request to the last answer.
    pub answered: Duration,
    pub statuses: Vec<u16>,
}

/// A POST of each path with nothing in it, one every `pace` whether or not those before have been answered.
pub fn storm(socket: &Path, paths: &[String], pace: Duration) -> Storm {
    let mut calls: Vec<UnixStream> = paths.iter().map(|_| UnixStream::connect(socket).unwrap()).collect();
    let begun = Instant::now();
    let urgent = Urgent::now();
    for (n, (call, path)) in (0..).zip(calls.iter_mut().zip(paths)) {
        std::thread::sleep((begun + pace * n).saturating_duration_since(Instant::now()));
        call.write_all(format!("POST {path} HTTP/1.0\r\nHost: d\r\nContent-Length: 0\r\n\r\n").as_bytes()).unwrap();
    }
    let asked = begun.elapsed();
    drop(urgent);
    let status = |mut call: UnixStream| {
        let mut answer = String::new();
        call.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
    };
    let statuses = calls.into_iter().map(status).collect();
    Storm { asked, answered: begun.elapsed(), statuses }
}

/// `KINA_ALONE` says that nothing else runs on this machine, other tests included. Only then does our watch tell how long a
/// start took and not how long an engine, or we, waited for a processor.
pub fn is_alone() -> bool {
    std::env::var_os("KINA_ALONE").is_some()
}

/// Holds every start that was watched to what the exporter told of it: alone each total is within that many seconds or 2 %
/// of the watch; beside other work none is longer than that.
#[track_caller]
pub fn compare(told: &[Value], watched: &[(String, &str, Watched)], within: f64) {
    let mut off = Vec::new();
    let mut worst = 0.0_f64;
    for (id, kind, watch) in watched {
        let start = told.iter().find(|s| s["id"] == **id && s["start"] == **kind);
        let start = start.unwrap_or_else(|| panic!("no {kind} start of {id}"));
        let seconds = |key: &str| start[key].as_f64().unwrap_or_else(|| panic!("no {key}: {start}"));
        let (total, took) = (seconds("total_seconds"), watch.took());
        let bound = f64::max(within, took * 0.02);
        let told = format!(
            "{kind}: told {:.1} ms, took {:.1} ms; requested {:+.1} ms, ran {:+.1} ms",
            total * 1e3,
            took * 1e3,
            (seconds("requested_at") - watch.asked) * 1e3,
            (seconds("running_at") - watch.answered) * 1e3
        );
        assert!(total < took + bound && total > took * 0.6, "{told}; {start}");
        worst = worst.max((total - took).abs());
        if (total - took).abs() > bound {
            off.push(told);
        }
    }
    let (all, held, ms) = (watched.len(), watched.len() - off.len(), within * 1e3);
    eprintln!("{held} of {all} totals within {ms} ms or 2 % of the watch, at most {:.1} ms off", worst * 1e3);
    eprintln!("not so: {off:#?}");
    assert!(!is_alone() || off.is_empty(), "not within {ms} ms or 2 % of the watch: {off:#?}");
}
