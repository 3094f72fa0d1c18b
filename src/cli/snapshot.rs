//! `snapshot`: collect once and print.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use super::start::{Exporter, SYNCED_WITHIN};
use super::{failed, log, print, start};
use crate::config::{CollectorSet, Config};
use crate::engine::Collection;
use crate::expose;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// How the samples are written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Collect, wait for so long, and print a second collection: figures that are rates need two
    #[arg(long, value_name = "DURATION", value_parser = crate::config::duration)]
    wait: Option<Duration>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    Text,
    Openmetrics,
    Json,
}

pub fn run(config: Config, args: &Args) -> ExitCode {
    log::init(&config.log, None);
    match start::tokio().map_err(|e| e.to_string()).and_then(|tokio| tokio.block_on(collect(config, args.wait))) {
        Ok(collection) => write(&collection, args.format),
        Err(why) => failed(&why),
    }
}

/// One collection with everything that is on, once the runtimes have been asked.
pub async fn collect(config: Config, wait: Option<Duration>) -> Result<Arc<Collection>, String> {
    let exporter = Exporter::start(config).map_err(|e| e.to_string())?;
    exporter.synced(SYNCED_WITHIN).await;
    let first = exporter.engine.collect(CollectorSet::ALL).await.map_err(|e| e.to_string())?;
    let Some(wait) = wait else { return Ok(first) };
    drop(first);
    tokio::time::sleep(wait).await;
    exporter.engine.collect(CollectorSet::ALL).await.map_err(|e| e.to_string())
}

fn write(collection: &Collection, format: Format) -> ExitCode {
    let mut out = Vec::new();
    match format {
        Format::Text => expose::write(&collection.samples, expose::Format::Text, &mut out),
        Format::Openmetrics => expose::write(&collection.samples, expose::Format::OpenMetrics, &mut out),
        Format::Json => {
            if let Err(e) = serde_json::to_writer_pretty(&mut out, &expose::json(&collection.samples)) {
                return failed(&e.to_string());
            }
            out.push(b'\n');
        }
    }
    print(&out)
}
