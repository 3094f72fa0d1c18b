//! `generate`: recording rules, alerts, dashboards and reference, from the catalog and the targets in force.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{failed, print};
use crate::config::Config;
use crate::generate::{self, Artifact, Kind, Settings};
use crate::root::Root;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to generate; everything when none is named
    #[arg(value_enum)]
    what: Vec<What>,
    /// The folder to write to; names and folders below it are fixed
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Write nothing; fail when a file is not what would be written
    #[arg(long)]
    check: bool,
    /// In front of dashboard links in alerts, e.g. https://grafana.example.org
    #[arg(long, value_name = "URL", default_value = "")]
    grafana_url: String,
    /// Multiply every window, interval and waiting time, to try alerts out within minutes
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = factor)]
    time_scale: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    Rules,
    Alerts,
    Alertmanager,
    Dashboards,
    Docs,
    PrometheusOperator,
}

impl What {
    fn kind(self) -> Kind {
        match self {
            Self::Rules => Kind::Rules,
            Self::Alerts => Kind::Alerts,
            Self::Alertmanager => Kind::Alertmanager,
            Self::Dashboards => Kind::Dashboards,
            Self::Docs => Kind::Docs,
            Self::PrometheusOperator => Kind::PrometheusOperator,
        }
    }
}

fn factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(f) if f > 0.0 && f <= 1.0 => Ok(f),
        _ => Err("a number above 0, 1 at most".into()),
    }
}

pub fn run(config: &Config, args: Args) -> ExitCode {
    let kinds: Vec<Kind> =
        if args.what.is_empty() { Kind::ALL.to_vec() } else { args.what.iter().map(|w| w.kind()).collect() };
    let settings = Settings {
        targets: config.targets.clone(),
        time_scale: args.time_scale,
        grafana_url: args.grafana_url.trim_end_matches('/').to_owned(),
    };
    let artifacts: Vec<Artifact> = kinds.into_iter().flat_map(|k| generate::artifacts(k, &settings)).collect();
    let root = Root::default();
    if args.check { check(&root, &args.out, &artifacts) } else { write(&root, &args.out, &artifacts) }
}

fn check(root: &Root, out: &Path, artifacts: &[Artifact]) -> ExitCode {
    let stale: Vec<String> = artifacts
        .iter()
        .filter(|a| root.read_bytes(&out.join(&a.path)).ok().as_deref() != Some(a.content.as_bytes()))
        .map(|a| out.join(&a.path).display().to_string())
        .collect();
    if stale.is_empty() {
        return ExitCode::SUCCESS;
    }
    failed(&format!("stale or missing, run the same without --check: {}", stale.join(", ")))
}

fn write(root: &Root, out: &Path, artifacts: &[Artifact]) -> ExitCode {
    let mut written = String::new();
    for artifact in artifacts {
        let path = out.join(&artifact.path);
        if let Err(e) = root.write(&path, artifact.content.as_bytes()) {
            return failed(&format!("{}: {e}", path.display()));
        }
        written.push_str(&format!("{}\n", path.display()));
    }
    print(written.as_bytes())
}
