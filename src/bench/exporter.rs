//! The exporter as a process beside this one: started, scraped, its CPU time and memory read from outside.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::root::{Nanos, Root, cpu_time};

pub struct Exporter {
    root: Root,
    child: Child,
    pid: u32,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    port: u16,
    connection: Option<SendRequest<Empty<Bytes>>>,
}

/// What a scraper asks for.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub accept: &'static str,
    pub encoding: &'static str,
}

pub const PLAIN: Asked = Asked { accept: "text/plain", encoding: "identity" };

impl Exporter {
    /// Runs this same program with other arguments; `{port}` in them is a free port that it is to listen on.
    pub async fn start(root: &Root, args: &[String]) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|e| format!("this program's own file: {e}"))?;
        let port = free_port().await.map_err(|e| format!("a free port: {e}"))?;
        let args = args.iter().map(|a| a.replace("{port}", &port.to_string()));
        let mut child = root
            .command(&program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("{}: {e}", program.display()))?;
        let (Some(stdin), Some(stdout), Some(pid)) = (child.stdin.take(), child.stdout.take(), child.id()) else {
            return Err("the exporter ended at once".into());
        };
        let stdout = BufReader::new(stdout);
        let mut exporter = Self { root: root.clone(), child, pid, stdin, stdout, port, connection: None };
        exporter.wait_until_it_answers().await?;
        Ok(exporter)
    }

    async fn wait_until_it_answers(&mut self) -> Result<(), String> {
        for _ in 0..600 {
            if self.scrape(PLAIN).await.is_ok() {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the exporter ended with {status}"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err("the exporter did not answer within 30 s".into())
    }

    /// One scrape on a kept connection; the size of the body as sent.
    pub async fn scrape(&mut self, asked: Asked) -> Result<usize, String> {
        let mut sender = match self.connection.take() {
            Some(sender) if !sender.is_closed() => sender,
            _ => connect(self.port).await.map_err(|e| e.to_string())?,
        };
        sender.ready().await.map_err(|e| e.to_string())?;
        let request = Request::get("/metrics")
            .header(header::HOST, "localhost")
            .header(header::ACCEPT, asked.accept)
            .header(header::ACCEPT_ENCODING, asked.encoding)
            .body(Empty::new())
            .map_err(|e| e.to_string())?;
        let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
        if !answer.status().is_success() {
            return Err(format!("a scrape was answered with {}", answer.status()));
        }
        let mut body = answer.into_body();
        let mut size = 0;
        while let Some(frame) = body.frame().await {
            size += frame.map_err(|e| e.to_string())?.data_ref().map_or(0, Bytes::len);
        }
        self.connection = Some(sender);
        Ok(size)
    }

    /// CPU time that it has used.
    pub fn cpu(&self) -> Result<Nanos, String> {
        cpu_time(self.pid).ok_or_else(|| "the exporter has ended".into())
    }

    /// CPU time of one scrape, the mean of `times`.
    pub async fn scrape_cpu(&mut self, asked: Asked, times: u32) -> Result<f64, String> {
        let before = self.cpu()?;
        for _ in 0..times {
            self.scrape(asked).await?;
        }
        Ok((self.cpu()? - before) as f64 / f64::from(times))
    }

    /// Share of one core that it uses while nobody asks.
    pub async fn idle(&self, time: Duration) -> Result<f64, String> {
        let before = self.cpu()?;
        tokio::time::sleep(time).await;
        Ok((self.cpu()? - before) as f64 / time.as_nanos() as f64)
    }

    /// Resident memory in bytes, from `/proc/PID/status`.
    pub fn resident(&self) -> Result<f64, String> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap_or_default();
        let kib = line.trim().trim_end_matches("kB").trim().parse::<f64>();
        kib.map(|k| k * 1024.0).map_err(|_| "/proc/PID/status has no VmRSS".into())
    }

    /// Kernel files that it keeps open below a folder.
    pub fn open_files(&self, below: &[&Path]) -> Result<Vec<PathBuf>, String> {
        let folder = self.root.procfs.join(self.pid.to_string()).join("fd");
        let names = self.root.list(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        // Some entries of /proc are shown as deleted while they are there.
        let live = |t: PathBuf| t.to_str().map(|t| PathBuf::from(t.trim_end_matches(" (deleted)")));
        let targets = names.iter().filter_map(|n| self.root.read_link(&folder.join(n)).ok()).filter_map(live);
        Ok(targets.filter(|t| below.iter().any(|b| t.starts_with(b))).collect())
    }

    /// Whether it counts context switches by the kernel's counters.
    pub fn has_counters(&self) -> Result<bool, String> {
        let folder = self.root.procfs.join(self.pid.to_string()).join("fd");
        let names = self.root.list(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let is_counter = |name: &String| {
            self.root.read_link(&folder.join(name)).is_ok_and(|t| t.as_os_str() == "anon_inode:[perf_event]")
        };
        Ok(names.iter().any(is_counter))
    }

    fn read(&self, file: &str) -> Result<String, String> {
        let path = self.root.procfs.join(self.pid.to_string()).join(file);
        self.root.read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))
    }

    /// Sends a line and reads the answering line.
    pub async fn ask(&mut self, line: &str) -> Result<String, String> {
        let mut answer = String::new();
        self.stdin.write_all(format!("{line}\n").as_bytes()).await.map_err(|e| e.to_string())?;
        self.stdout.read_line(&mut answer).await.map_err(|e| e.to_string())?;
        Ok(answer)
    }

    pub async fn end(mut self) {
        let _ = self.child.kill().await;
    }
}

async fn connect(port: u16) -> Result<SendRequest<Empty<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn free_port() -> std::io::Result<u16> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    Ok(listener.local_addr()?.port())
}
