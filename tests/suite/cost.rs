//! What the figures of `bench cost` stand on: its count of system calls is the kernel's.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use super::common;

const FILES: [(&str, &str); 5] = [
    ("cgroup.controllers", "cpu memory pids\n"),
    ("cpu.stat", "usage_usec 10\nuser_usec 6\nsystem_usec 4\n"),
    ("memory.current", "4096\n"),
    ("memory.stat", "anon 4096\nfile 0\n"),
    ("pids.current", "1\n"),
];

const CONTAINERS: usize = 7;

#[test]
fn the_counted_system_calls_are_those_that_strace_sees() {
    if !Command::new("strace").arg("-V").output().is_ok_and(|o| o.status.success()) && common::skip("no strace") {
        return;
    }
    let mut files = Vec::new();
    // A process that is there: a container without one is searched for it.
    let mut sleeper = Command::new("sleep").arg("infinity").spawn().unwrap();
    let process = format!("{}\n", sleeper.id());
    for (file, text) in FILES.into_iter().chain([("cgroup.procs", process.as_str())]) {
        files.push((file.to_owned(), text));
        files.extend((0..CONTAINERS).map(|i| (format!("bench/c{i:05}/{file}"), text)));
    }
    let tree = common::tree(&files.iter().map(|(path, text)| (path.as_str(), *text)).collect::<Vec<_>>());
    let log = tree.path().join("strace.log");
    let mut traced = Command::new("strace")
        .args(["-f", "-qq", "-e", "signal=none", "-o"])
        .arg(&log)
        .arg(env!("CARGO_BIN_EXE_kina-exporter"))
        .args(["bench", "target", "--parent=/bench", "--port=0"])
        .arg(format!("--containers={CONTAINERS}"))
        .arg(format!("--cgroup={}", tree.path().display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = traced.stdin.take().unwrap();
    let mut stdout = BufReader::new(traced.stdout.take().unwrap());
    let mut counted = 0;
    for _ in 0..4 {
        let mut line = String::new();
        stdin.write_all(b"counts\n").unwrap();
        stdout.read_line(&mut line).unwrap();
        let counts: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line:?}: {e}"));
        counted = counts["calls"].as_u64().unwrap();
    }
    drop(stdin);
    let ended = traced.wait();
    let _ = sleeper.kill();
    let _ = sleeper.wait();
    assert!(ended.unwrap().success());
    let log = std::fs::read_to_string(&log).unwrap();
    // Answers frame the collections: the last one lies between the last two.
    let lines: Vec<&str> = log.lines().collect();
    let answers: Vec<usize> = (0..lines.len()).filter(|i| lines[*i].contains("write(1, \"{\\\"calls\\\"")).collect();
    assert_eq!(answers.len(), 4, "{log}");
    let last = &lines[answers[2] + 1..answers[3]];
    let reads: Vec<&&str> = last.iter().filter(|l| l.contains(" pread64(")).collect();
    let thread = reads.first().and_then(|l| l.split_whitespace().next()).expect("a thread that collects");
    // What threads wake each other with is no cost of a container; a call that another thread interrupts has two lines.
    let seen: Vec<&&str> = last
        .iter()
        .filter(|l| l.split_whitespace().next() == Some(thread))
        .filter(|l| !l.contains("futex") && !l.contains(" resumed>"))
        // The standard library's own check before a close, in debug builds.
        .filter(|l| !l.contains("F_GETFD"))
        // Once a collection, of the host and of the exporter itself.
        .filter(|l| ![" poll(", " statfs(", " getrusage(", "/proc/self", " prlimit64("].iter().any(|w| l.contains(w)))
        .collect();
    assert!(reads.len() >= CONTAINERS * 4, "{reads:?}");
    assert_eq!(counted as usize, seen.len(), "{seen:#?}");
}

/// Of whatever build this is: the release build's figures are in docs/performance.md.
#[test]
fn a_push_costs_no_more_than_half_as_much_again_as_prosts_encoding() {
    let out = Command::new(env!("CARGO_BIN_EXE_kina-exporter"))
        .args(["bench", "otlp", "--series=20000", "--rounds=3", "--check", "--format=json"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    let figures: serde_json::Value = serde_json::from_str(&text).unwrap();
    let figures = figures.as_array().unwrap();
    assert!(figures.len() == 4 && figures.iter().all(|f| f["value"].as_f64().unwrap() > 0.01), "{text}");
}
