//! A stop-watch beside the exporter: when a runtime was asked and when it answered, by our own clock.
//!
//! It knows nothing of the exporter, and the exporter nothing of it. Its thread goes before all others while it waits for
//! an answer (SCHED_FIFO, where that is allowed), so that what it tells is when the answer came and not when a processor
//! was free to read it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
        Self::schedule(libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, 1);
        Urgent
    }

    fn schedule(policy: i32, priority: i32) {
        let mut param = libc::sched_param { sched_priority: priority };
        // SAFETY: the structure outlives the call; 0 is the calling thread. Where it is refused the watch is a little worse.
        unsafe { libc::sched_setscheduler(0, policy, &raw mut param) };
    }
}

impl Drop for Urgent {
    fn drop(&mut self) {
        Self::schedule(libc::SCHED_OTHER, 0);
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

/// `KINA_ALONE` says that nothing else runs on this machine, other tests included. Only then does our watch tell how long a
/// start took and not how long an engine, or we, waited for a processor.
pub fn is_alone() -> bool {
    std::env::var_os("KINA_ALONE").is_some()
}

/// Holds every start that was watched to what the exporter told of it: alone each total is within 5 ms or 2 % of the watch;
/// beside other work none is longer than that.
#[track_caller]
pub fn compare(told: &[Value], watched: &[(String, &str, Watched)]) {
    let mut off = Vec::new();
    let mut worst = 0.0_f64;
    for (id, kind, watch) in watched {
        let start = told.iter().find(|s| s["id"] == **id && s["start"] == **kind);
        let start = start.unwrap_or_else(|| panic!("no {kind} start of {id}"));
        let seconds = |key: &str| start[key].as_f64().unwrap_or_else(|| panic!("no {key}: {start}"));
        let (total, took) = (seconds("total_seconds"), watch.took());
        let bound = f64::max(0.005, took * 0.02);
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
    let held = watched.len() - off.len();
    eprintln!("{held} of {} totals within 5 ms or 2 % of the watch, at most {:.1} ms off", watched.len(), worst * 1e3);
    eprintln!("not so: {off:#?}");
    assert!(!is_alone() || off.is_empty(), "not within 5 ms or 2 % of the watch: {off:#?}");
}
