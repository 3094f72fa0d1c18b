//! `bench`: measurements beside what they are compared with.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{failed, print, start};
use crate::bench::figure::{self, Figure};
use crate::bench::{baseline, cost, io, otlp, target};
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub enum Bench {
    /// What the exporter itself costs. Needs root: it makes cgroups of its own and removes them
    Cost(Cost),
    /// What a push over OTLP costs, beside prost's encoding of the same messages
    Otlp(Otlp),
    /// Container runtimes against the baselines: starts, memory overhead, network, storage, CPU
    Containers(Containers),
    /// Storage operations a second in the working folder; run within containers by `containers`
    #[command(hide = true)]
    Io {
        #[arg(value_enum)]
        pattern: io::Pattern,
    },
    /// The exporter under measurement; run by `cost`
    #[command(hide = true)]
    Target(Target),
}

#[derive(Debug, Args)]
pub struct Cost {
    /// Containers of the main run
    #[arg(long, default_value_t = 500)]
    containers: usize,
    /// Containers of the run that shows that one costs no more among many
    #[arg(long, default_value_t = 5000)]
    many: usize,
    /// How long the exporter is watched doing nothing
    #[arg(long, default_value = "30s", value_parser = crate::config::duration)]
    idle: Duration,
    /// Rounds of which the best counts
    #[arg(long, default_value_t = 7)]
    rounds: u32,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub struct Otlp {
    /// Series in the push
    #[arg(long, default_value_t = 100_000)]
    series: usize,
    /// Rounds of which the best counts
    #[arg(long, default_value_t = 7)]
    rounds: u32,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub struct Containers {
    /// Commands to compare, such as docker, podman or nerdctl
    #[arg(long = "runtime", value_name = "COMMAND", default_value = "docker")]
    runtimes: Vec<PathBuf>,
    /// An image that is there already and has a shell with ping, hostname and time
    #[arg(long, default_value = "busybox")]
    image: String,
    /// Starts of which the median counts
    #[arg(long, default_value_t = 7)]
    starts: usize,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
struct Output {
    /// How the figures are written
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Exit with status 1 when a bound is missed
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Table,
    Json,
}

#[derive(Debug, Args)]
pub struct Target {
    #[arg(long)]
    cgroup: PathBuf,
    #[arg(long)]
    parent: String,
    #[arg(long)]
    containers: usize,
    #[arg(long)]
    port: u16,
    #[arg(long)]
    descriptors: Option<usize>,
}

pub fn run(bench: Bench, config: &Config) -> ExitCode {
    let tokio = match start::tokio() {
        Ok(tokio) => tokio,
        Err(e) => return failed(&e.to_string()),
    };
    match bench {
        Bench::Cost(args) => {
            let Cost { containers, many, idle, rounds, output } = args;
            let options =
                cost::Options { containers: containers.max(1), many: many.max(1), idle, rounds: rounds.max(1) };
            match tokio.block_on(cost::measure(&options)) {
                Ok(figures) => show(&figures, &output),
                Err(why) => failed(&why),
            }
        }
        Bench::Otlp(Otlp { series, rounds, output }) => {
            match tokio.block_on(otlp::measure(series.max(1), rounds.max(1))) {
                Ok(figures) => show(&figures, &output),
                Err(why) => failed(&why),
            }
        }
        Bench::Containers(args) => {
            let Containers { runtimes, image, starts, output } = args;
            let outcome =
                tokio.block_on(baseline::measure(&baseline::Options { runtimes, image, starts }, &config.targets));
            let shown = show(&outcome.figures, &output);
            if let (Format::Table, Some(side_by_side)) = (output.format, figure::comparison(&outcome.figures)) {
                print(format!("\n{side_by_side}").as_bytes());
            }
            outcome.unmeasured.iter().for_each(|line| eprintln!("not measured: {line}"));
            shown
        }
        Bench::Io { pattern } => match io::rate(std::path::Path::new("."), pattern) {
            Ok(rate) => print(format!("{rate:.0}\n").as_bytes()),
            Err(why) => failed(&why),
        },
        Bench::Target(t) if t.descriptors.is_some_and(|d| crate::root::lower_descriptor_limit(d).is_err()) => {
            failed("the limit on descriptors cannot be set")
        }
        Bench::Target(t) => match tokio.block_on(target::run(t.cgroup, &t.parent, t.containers, t.port)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => failed(&why),
        },
    }
}

fn show(figures: &[Figure], output: &Output) -> ExitCode {
    let text = match output.format {
        Format::Table => figure::table(figures),
        Format::Json => match serde_json::to_string_pretty(figures) {
            Ok(json) => json + "\n",
            Err(e) => return failed(&e.to_string()),
        },
    };
    let printed = print(text.as_bytes());
    let missed = figures.iter().any(|f| f.met() == Some(false));
    if output.check && missed { ExitCode::FAILURE } else { printed }
}
