//! `check`: is the configuration right, and what does this host offer?

use std::fmt::Write;
use std::process::ExitCode;

use serde::Serialize;

use super::start::{Exporter, SYNCED_WITHIN};
use super::{failed, print, start};
use crate::config::{self, CollectorSet, Config, Given};
use crate::probe::Answer;
use crate::root::Root;
use crate::serve;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// How the answer is written
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    Table,
    Json,
}

#[derive(Serialize, Default)]
struct Report {
    /// Empty when the configuration is right.
    errors: Vec<String>,
    /// What of a configuration that is right is not done.
    warnings: Vec<String>,
    capabilities: Vec<Capability>,
}

#[derive(Serialize)]
struct Capability {
    capability: String,
    available: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

pub fn run(given: &Given, args: &Args) -> ExitCode {
    let root = Root::default();
    let report = match config::load(given, &root) {
        Err(errors) => Report { errors: errors.0.iter().map(ToString::to_string).collect(), ..Report::default() },
        Ok(config) => {
            let (errors, warnings) = match config.web.config_file.as_deref().map(|f| serve::web::check(&root, f)) {
                Some(Err(error)) => (vec![error.to_string()], Vec::new()),
                Some(Ok(warnings)) => (Vec::new(), warnings),
                None => Default::default(),
            };
            match start::tokio().map_err(|e| e.to_string()).and_then(|tokio| tokio.block_on(capabilities(config))) {
                Ok(capabilities) => Report { errors, warnings, capabilities },
                Err(why) => return failed(&why),
            }
        }
    };
    let text = match args.format {
        Format::Table => table(&report),
        Format::Json => match serde_json::to_string_pretty(&report) {
            Ok(json) => json + "\n",
            Err(e) => return failed(&e.to_string()),
        },
    };
    let printed = print(text.as_bytes());
    if report.errors.is_empty() { printed } else { ExitCode::FAILURE }
}

/// Everything is asked by doing it once: the runtimes for their containers, the kernel for one collection.
async fn capabilities(config: Config) -> Result<Vec<Capability>, String> {
    let exporter = Exporter::start(config).map_err(|e| e.to_string())?;
    exporter.synced(SYNCED_WITHIN).await;
    exporter.engine.collect(CollectorSet::ALL).await.map_err(|e| e.to_string())?;
    let all = exporter.shared.capabilities.all();
    Ok(all
        .into_iter()
        .map(|(capability, answer)| match answer {
            Answer::Yes => Capability { capability, available: true, reason: String::new() },
            Answer::No(reason) => Capability { capability, available: false, reason },
        })
        .collect())
}

fn table(report: &Report) -> String {
    let mut out = String::new();
    // Writing into a String cannot fail.
    for e in &report.errors {
        let _ = writeln!(out, "{e}");
    }
    for w in &report.warnings {
        let _ = writeln!(out, "warning: {w}");
    }
    let verdict = if report.errors.is_empty() { "valid" } else { "invalid" };
    let _ = writeln!(out, "configuration: {verdict}");
    let width = report.capabilities.iter().map(|c| c.capability.len()).max().unwrap_or_default();
    for c in &report.capabilities {
        let answer = if c.available { "yes" } else { "no " };
        let line = format!("{:width$}  {answer}  {}", c.capability, c.reason);
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}
