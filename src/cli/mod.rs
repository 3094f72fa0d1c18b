//! The command line: one file a command. Flags are made from [`crate::config::settings`]; completions and the man page
//! from the same definitions.
//!
//! Exit status, for every command: 0 done, 1 it failed (or `check` found the configuration invalid), 2 wrong flags or
//! settings, 3 `advise --fail-on` found something.

mod advise;
#[cfg(target_os = "linux")]
mod bench;
mod check;
mod flags;
mod generate;
mod log;
mod record_start;
mod reload;
mod serve;
mod snapshot;
mod start;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::{self, Given};
use crate::root::Root;

pub use serve::run as serve;

/// Exit status of wrong flags and settings, as clap's own.
const USAGE: u8 = 2;

#[derive(Debug, Parser)]
#[command(
    name = "kina-exporter",
    version,
    about = "Prometheus and OpenTelemetry exporter of container performance",
    after_help = "Every setting is also an environment variable and a key of the configuration file: see --help.",
    after_long_help = "Exit status: 0 done, 1 failed (or `check` found the configuration invalid), 2 wrong flags or settings."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve metrics over HTTP (the default)
    Serve,
    /// Collect once and print
    Snapshot(snapshot::Args),
    /// Say what to change and by how much
    Advise(advise::Args),
    /// Write recording rules, alerts, dashboards and reference for the targets in force
    Generate(generate::Args),
    /// Validate the configuration and say what this host offers
    Check(check::Args),
    /// Report a container's start to a running exporter, from a shell or as an OCI hook
    RecordStart(Box<record_start::Args>),
    /// Measure what the exporter costs, and container runtimes against the baselines
    #[cfg(target_os = "linux")]
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Print a completion script
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Print the man page (roff)
    Man,
}

/// The command line as clap has it, all settings included.
pub fn command() -> clap::Command {
    flags::add(Cli::command())
}

/// Parses, runs the command, and says how it ended.
pub fn main() -> ExitCode {
    crate::root::keep_heap_small();
    let matches = command().get_matches();
    let given = flags::given(&matches, std::env::vars_os());
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => with_config(&given, |config| serve::run(config, given.clone())),
        Command::Snapshot(args) => with_config(&given, |config| snapshot::run(config, &args)),
        Command::RecordStart(args) => record_start::run(&args),
        Command::Advise(args) => with_config(&given, |config| advise::run(config, &args)),
        Command::Generate(args) => with_config(&given, |config| generate::run(&config, args)),
        Command::Check(args) => check::run(&given, &args),
        #[cfg(target_os = "linux")]
        Command::Bench(bench) => with_config(&given, |config| bench::run(bench, &config)),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command(), "kina-exporter", &mut script);
            print(&script)
        }
        Command::Man => {
            let mut page = Vec::new();
            match clap_mangen::Man::new(command()).render(&mut page) {
                Ok(()) => print(&page),
                Err(e) => failed(&e.to_string()),
            }
        }
    }
}

/// Runs with the whole configuration; everything that is wrong with it goes to standard error.
fn with_config(given: &Given, run: impl FnOnce(config::Config) -> ExitCode) -> ExitCode {
    match config::load(given, &Root::default()) {
        Ok(config) => run(config),
        Err(errors) => {
            eprintln!("{errors}");
            ExitCode::from(USAGE)
        }
    }
}

/// Writes to standard output. A reader that has seen enough (`| head`) is no failure.
fn print(bytes: &[u8]) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => failed(&format!("standard output: {e}")),
        _ => ExitCode::SUCCESS,
    }
}

fn failed(why: &str) -> ExitCode {
    eprintln!("kina-exporter: {why}");
    ExitCode::FAILURE
}
