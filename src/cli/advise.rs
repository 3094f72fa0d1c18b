//! `advise`: what to change and by how much.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::{failed, log, print, snapshot, start};
use crate::advise::Report;
use crate::config::Config;
use crate::root::Root;

/// Exit status with `--fail-on`, when something is recommended.
const ADVISED: u8 = 3;
/// Rates need two collections; these are so far apart.
const WATCH: Duration = Duration::from_secs(5);
/// An exporter that runs answers within this; it may measure for a moment first.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const MAX_ANSWER: usize = 64 << 20;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// How the advice is written
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Exit with status 3 when something is recommended, of these subjects or any
    #[arg(long, value_enum, value_name = "SUBJECT", value_delimiter = ',')]
    fail_on: Vec<On>,
    /// Measure anew, also where an exporter runs on this machine
    #[arg(long)]
    local: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    Table,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum On {
    Any,
    Startup,
    Memory,
    Cpu,
    Network,
    Storage,
}

impl On {
    fn matches(self, domain: &str) -> bool {
        self == Self::Any || format!("{self:?}").eq_ignore_ascii_case(domain)
    }
}

pub fn run(config: Config, args: &Args) -> ExitCode {
    log::init(&config.log, None);
    let local = args.local;
    let report = start::tokio().map_err(|e| e.to_string()).and_then(|tokio| tokio.block_on(report(config, local)));
    let report = match report {
        Ok(report) => report,
        Err(why) => return failed(&why),
    };
    let text = match args.format {
        Format::Table => table(&report),
        Format::Json => match serde_json::to_string_pretty(&report) {
            Ok(text) => text + "\n",
            Err(e) => return failed(&e.to_string()),
        },
    };
    let printed = print(text.as_bytes());
    let advised = |on: &On| report.recommendations.iter().any(|r| on.matches(&r.domain));
    if args.fail_on.iter().any(advised) { ExitCode::from(ADVISED) } else { printed }
}

/// Of the exporter that runs here, which has watched for longer; else of a collection of our own.
async fn report(config: Config, local: bool) -> Result<Report, String> {
    for address in config.web.listen.iter().filter(|_| !local) {
        let answer = tokio::time::timeout(ANSWER_WITHIN, running(address)).await;
        match answer.unwrap_or_else(|_| Err(format!("no answer within {ANSWER_WITHIN:?}").into())) {
            Ok(Some(report)) => return Ok(report),
            Ok(None) => {}
            Err(why) => tracing::warn!(address, %why, "what listens there gives no advice: measuring anew"),
        }
    }
    let collection = snapshot::collect(config, Some(WATCH)).await?;
    Ok(Report::of(&collection.advice))
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What the exporter says that listens at an address as `web.listen-address` has it; None where nobody does.
async fn running(address: &str) -> Result<Option<Report>, Failure> {
    if let Some(path) = address.strip_prefix("unix:") {
        let Ok(stream) = Root::default().connect_unix(Path::new(path), ANSWER_WITHIN).await else { return Ok(None) };
        return ask(stream).await.map(Some);
    }
    let Some((host, port)) = host_and_port(address) else { return Ok(None) };
    let stream = match host.parse::<IpAddr>() {
        // It listens everywhere: here, too.
        Ok(ip) if ip.is_unspecified() => TcpStream::connect(&loopback(port)[..]).await,
        _ => TcpStream::connect((host, port)).await,
    };
    let Ok(stream) = stream else { return Ok(None) };
    ask(stream).await.map(Some)
}

fn loopback(port: u16) -> [SocketAddr; 2] {
    [(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]
}

/// `:PORT` is every address of this machine.
fn host_and_port(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    Some((if host.is_empty() { "0.0.0.0" } else { host }, port.parse().ok()?))
}

async fn ask(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Report, Failure> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = http::Request::get("/api/v1/recommendations")
        .header(http::header::HOST, "localhost")
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    if response.status() != http::StatusCode::OK {
        return Err(response.status().to_string().into());
    }
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await?.to_bytes();
    Ok(serde_json::from_slice(&body)?)
}

fn table(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = if report.recommendations.is_empty() {
        writeln!(out, "Nothing is recommended.")
    } else {
        items(report, &mut out)
    };
    if !report.missing.is_empty() {
        out.push_str("\nRules that can't tell for want of a measure:\n");
        for lack in &report.missing {
            let _ = writeln!(
                out,
                "  {} ({}): {}",
                lack.action,
                if lack.containers == 1 { "1 container".into() } else { format!("{} containers", lack.containers) },
                lack.missing.join("; ")
            );
        }
    }
    out
}

fn items(report: &Report, out: &mut String) -> std::fmt::Result {
    let clean = |text: &str| text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect::<String>();
    let subjects: Vec<String> = report.recommendations.iter().map(|r| short(&clean(&r.subject))).collect();
    let width = subjects.iter().map(|s| s.chars().count()).max().unwrap_or(0).clamp(7, 40);
    let action = report.recommendations.iter().map(|r| r.action.len()).max().unwrap_or(0).max(6);
    writeln!(out, "{:<width$}  {:<7}  {:<action$}  FINDING AND ADVICE", "SUBJECT", "DOMAIN", "ACTION")?;
    for (item, subject) in report.recommendations.iter().zip(&subjects) {
        writeln!(out, "{subject:<width$}  {:<7}  {:<action$}  {}", item.domain, item.action, clean(&item.finding))?;
        writeln!(out, "{:indent$}→ {}", "", clean(&item.advice), indent = width + action + 13)?;
    }
    Ok(())
}

/// An engine's id as engines shorten it, another name to what the table has room for.
fn short(subject: &str) -> String {
    let is_id = subject.len() == 64 && subject.bytes().all(|b| b.is_ascii_hexdigit());
    match subject.chars().count() {
        _ if is_id => subject.chars().take(12).collect(),
        0..=40 => subject.to_owned(),
        _ => subject.chars().take(39).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advise::report::{Item, Lack};

    fn item(domain: &str) -> Item {
        Item {
            domain: domain.into(),
            action: "reduce_allocation".into(),
            about: "container".into(),
            subject: "we\nb".into(),
            containers: Vec::new(),
            finding: "memory efficiency is 20 %".into(),
            advice: "reduce it".into(),
            current: Some(1.0),
            recommended: None,
            estimated_savings_bytes: None,
        }
    }

    #[test]
    fn the_table_names_finding_and_advice_and_what_is_missing() {
        let lack = Lack {
            domain: "cpu".into(),
            action: "reduce_cores".into(),
            missing: vec!["CPU time".into()],
            containers: 2,
        };
        let text = table(&Report { recommendations: vec![item("memory")], missing: vec![lack] });
        assert!(text.starts_with("SUBJECT  DOMAIN   ACTION             FINDING AND ADVICE\n"), "{text}");
        assert!(text.contains("we\u{fffd}b     memory   reduce_allocation  memory efficiency is 20 %\n"), "{text}");
        assert!(text.contains("→ reduce it\n"));
        assert!(text.contains("  reduce_cores (2 containers): CPU time\n"));
        assert_eq!(table(&Report { recommendations: Vec::new(), missing: Vec::new() }), "Nothing is recommended.\n");
    }

    #[test]
    fn addresses_are_read_as_the_server_reads_them() {
        assert_eq!(host_and_port(":10217"), Some(("0.0.0.0", 10217)));
        assert_eq!(host_and_port("[::]:1"), Some(("::", 1)));
        assert_eq!(host_and_port("[::1]:1"), Some(("::1", 1)));
        assert_eq!(host_and_port("box:1"), Some(("box", 1)));
    }

    #[test]
    fn fail_on_takes_a_subject_or_any() {
        assert!(On::Any.matches("cpu") && On::Cpu.matches("cpu") && !On::Memory.matches("cpu"));
    }
}
