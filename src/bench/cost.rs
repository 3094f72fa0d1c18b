//! What the exporter costs: every figure beside its comparison, both measured in the same run.

use std::path::PathBuf;
use std::time::Duration;

use super::encode;
use super::exporter::{Asked, Exporter, PLAIN};
use super::figure::{Bound, Figure};
use super::fleet::Fleet;
use super::target::{self, Counts};
use crate::catalog::{self, Kind};
use crate::config::CollectorSet;
use crate::root::{File, ReadBuf, Root, SwitchCounter, raise_descriptor_limit, thread_cpu_time};

#[derive(Debug, Clone)]
pub struct Options {
    /// Containers of the main run: real cgroups.
    pub containers: usize,
    /// Containers of the run that shows that the cost of one does not grow with their number.
    pub many: usize,
    /// How long the exporter is watched doing nothing.
    pub idle: Duration,
    /// Rounds of which the best counts: another process's work can only add.
    pub rounds: u32,
}

const TEXT_GZIP: Asked = Asked { accept: "text/plain", encoding: "gzip" };
const TEXT_ZSTD: Asked = Asked { accept: "text/plain", encoding: "zstd" };
const OPENMETRICS: Asked = Asked { accept: "application/openmetrics-text;version=1.0.0", encoding: "identity" };
const PROTOBUF: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
const PROTOBUF_PLAIN: Asked = Asked { accept: PROTOBUF, encoding: "identity" };
const PROTOBUF_GZIP: Asked = Asked { accept: PROTOBUF, encoding: "gzip" };

/// More than any container takes.
const DESCRIPTORS: usize = 32;
/// What the program needs for itself.
const MIN_DESCRIPTORS: usize = 512;

const MIB: f64 = 1024.0 * 1024.0;
const BASE_MEMORY: f64 = 16.0 * MIB;
const MEMORY_PER_CONTAINER: f64 = 16.0 * 1024.0;

/// What one fleet showed.
struct Run {
    size: usize,
    counts: Counts,
    /// The same of half the fleet: what a container adds is the difference.
    half: Counts,
    /// Kernel files kept open.
    files: Vec<PathBuf>,
    plain: f64,
    bare: f64,
    gzip: f64,
    resident: f64,
    sizes: Vec<(&'static str, usize)>,
}

impl Run {
    fn per_container(&self, v: f64) -> f64 {
        v / self.size as f64
    }

    fn allocations_per_container(&self) -> f64 {
        let more = self.counts.allocations as f64 - self.half.allocations as f64;
        more / (self.size - self.size / 2) as f64
    }
}

/// Measures everything. Long: some seconds a figure.
pub async fn measure(options: &Options) -> Result<Vec<Figure>, String> {
    let mut figures = Vec::new();
    let fleet = Fleet::real(options.containers).await?;
    let run = run(&fleet, options, None).await;
    let encoded = encoding(&fleet, options).await;
    let include = format!("--runtime.cgroup.include={}/.*", fleet.parent);
    let idle_with_many = idle(options, &[include]).await;
    fleet.remove().await;
    let run = run?;
    main_figures(&run, &mut figures);
    encoding_figure(encoded?, &mut figures);
    // Where the limit is too low for the many, the few get no larger share of descriptors than they.
    let limit = raise_descriptor_limit();
    let share = limit * options.containers / options.many;
    let descriptors = (limit < options.many * DESCRIPTORS).then_some(share.max(MIN_DESCRIPTORS));
    let few = simulated(options.containers, options, descriptors).await?;
    let many = simulated(options.many, options, None).await?;
    growth_figures(&few, &many, descriptors.is_some(), &mut figures);
    idle_figures(options, idle(options, &[]).await?, idle_with_many?, &mut figures);
    Ok(figures)
}

async fn simulated(size: usize, options: &Options, descriptors: Option<usize>) -> Result<Run, String> {
    let fleet = Fleet::simulated(size)?;
    let run = run(&fleet, options, descriptors).await;
    fleet.remove().await;
    run
}

async fn run(fleet: &Fleet, options: &Options, descriptors: Option<usize>) -> Result<Run, String> {
    let mut half = start(fleet, fleet.size / 2, descriptors).await?;
    let half_counts = warm_counts(&mut half).await?;
    half.end().await;
    let mut exporter = start(fleet, fleet.size, descriptors).await?;
    let mut sizes = Vec::new();
    for (name, asked) in [
        ("text", PLAIN),
        ("text, gzip", TEXT_GZIP),
        ("text, zstd", TEXT_ZSTD),
        ("OpenMetrics", OPENMETRICS),
        ("protobuf", PROTOBUF_PLAIN),
        ("protobuf, gzip", PROTOBUF_GZIP),
    ] {
        // Twice: the first of each warms its buffers.
        exporter.scrape(asked).await?;
        sizes.push((name, exporter.scrape(asked).await?));
    }
    let counts = warm_counts(&mut exporter).await?;
    let root = &fleet.root;
    let files = exporter.open_files(&[&root.cgroup, &root.procfs, &root.sysfs])?;
    let counters = if exporter.has_counters()? { fleet.switch_counters()? } else { Vec::new() };
    let mut bare = Bare::open(&files, counters)?;
    let times = (2000 / fleet.size as u32).max(3);
    let mut best = [f64::INFINITY; 3];
    for _ in 0..options.rounds {
        let round =
            [exporter.scrape_cpu(PLAIN, times).await?, bare.cpu(times)?, exporter.scrape_cpu(TEXT_GZIP, times).await?];
        best.iter_mut().zip(round).for_each(|(b, r)| *b = b.min(r));
    }
    let resident = exporter.resident()?;
    exporter.end().await;
    let [plain, bare, gzip] = best;
    Ok(Run { size: fleet.size, counts, half: half_counts, files, plain, bare, gzip, resident, sizes })
}

/// The exporter as a process of its own, over the first containers of a fleet.
async fn start(fleet: &Fleet, size: usize, descriptors: Option<usize>) -> Result<Exporter, String> {
    let mut args: Vec<String> = ["bench", "target", "--port={port}"].map(str::to_owned).into();
    args.push(format!("--cgroup={}", fleet.root.cgroup.display()));
    args.push(format!("--parent={}", fleet.parent));
    args.push(format!("--containers={size}"));
    args.extend(descriptors.map(|d| format!("--descriptors={d}")));
    Exporter::start(&fleet.root, &args).await
}

/// The first collections settle how large buffers must be, in each of the collections that are reused in turn.
async fn warm_counts(exporter: &mut Exporter) -> Result<Counts, String> {
    let mut counts = Counts::default();
    for _ in 0..10 {
        counts = serde_json::from_str(&exporter.ask("counts").await?).map_err(|e| format!("counts: {e}"))?;
    }
    Ok(counts)
}

/// The loop to compare with: the same files, read and thrown away.
struct Bare {
    files: Vec<File>,
    counters: Vec<SwitchCounter>,
    buf: ReadBuf,
}

impl Bare {
    fn open(paths: &[PathBuf], counters: Vec<SwitchCounter>) -> Result<Self, String> {
        let root = Root::default();
        let files = paths
            .iter()
            .map(|p| root.open(p).map_err(|e| format!("{}: {e}", p.display())))
            .collect::<Result<_, _>>()?;
        Ok(Self { files, counters, buf: ReadBuf::default() })
    }

    fn cpu(&mut self, times: u32) -> Result<f64, String> {
        let begin = thread_cpu_time();
        for _ in 0..times {
            for file in &self.files {
                self.buf.pread(file).map_err(|e| format!("a file of the bare loop: {e}"))?;
            }
            for counter in &self.counters {
                counter.read().map_err(|e| format!("a counter of the bare loop: {e}"))?;
            }
        }
        Ok((thread_cpu_time() - begin) as f64 / f64::from(times))
    }
}

fn main_figures(run: &Run, out: &mut Vec<Figure>) {
    let n = run.size;
    let (calls, files) = (run.counts.calls as f64, run.counts.files as f64);
    out.push(Figure::new(
        "system calls per file read",
        calls / files,
        "",
        Bound::AtMost(1.05),
        format!("{calls} calls a scrape of {n} containers, {files} files, {} of them kept open", run.files.len()),
    ));
    out.push(Figure::new(
        "heap allocations per container",
        run.allocations_per_container(),
        "",
        Bound::AtMost(0.01),
        format!("{} a collection of {n}, {} of {}, once warm", run.counts.allocations, run.half.allocations, n / 2),
    ));
    out.push(Figure::new(
        "CPU time of a scrape ÷ bare loop",
        run.plain / run.bare,
        "",
        Bound::AtMost(1.5),
        format!("{:.2} ms ÷ {:.2} ms for {n} real cgroups", run.plain / 1e6, run.bare / 1e6),
    ));
    out.push(Figure::new(
        "CPU time with gzip ÷ without",
        run.gzip / run.plain,
        "",
        Bound::AtMost(2.0),
        format!("{:.2} ms ÷ {:.2} ms", run.gzip / 1e6, run.plain / 1e6),
    ));
    out.push(resident_figure(run));
    let plain = run.sizes.first().map_or(1, |(_, size)| *size);
    for (name, size) in &run.sizes {
        let share = format!("{:.1} % of text", *size as f64 / plain as f64 * 100.0);
        out.push(Figure::new(format!("size, {name}"), *size as f64 / 1024.0, "KiB", Bound::None, share));
    }
}

fn resident_figure(run: &Run) -> Figure {
    let bound = (BASE_MEMORY + MEMORY_PER_CONTAINER * run.size as f64) / MIB;
    let resident = run.resident / MIB;
    let name = format!("resident memory, {} containers", run.size);
    Figure::new(
        name,
        resident,
        "MiB",
        Bound::AtMost(bound),
        "16 MiB + 16 KiB a container, after scrapes in every format",
    )
}

fn growth_figures(few: &Run, many: &Run, few_descriptors: bool, out: &mut Vec<Figure>) {
    let per = |run: &Run| run.per_container(run.plain) / 1e3;
    out.push(Figure::new(
        format!("CPU time per container, {} ÷ {}", many.size, few.size),
        per(many) / per(few),
        "",
        Bound::AtMost(1.25),
        format!(
            "{:.2} µs ÷ {:.2} µs, simulated cgroups; {} and {} files a container kept open",
            per(many),
            per(few),
            many.files.len() / many.size,
            few.files.len() / few.size
        ),
    ));
    out.push(Figure::new(
        format!("heap allocations per container, {}", many.size),
        many.allocations_per_container(),
        "",
        // What is opened anew each time needs its path.
        if few_descriptors { Bound::None } else { Bound::AtMost(0.01) },
        format!("{} a collection, {} of {}", many.counts.allocations, many.half.allocations, many.size / 2),
    ));
    out.push(resident_figure(many));
}

/// Share of a core and bytes of memory of `serve` that nobody asks, on this host and its own containers.
async fn idle(options: &Options, more: &[String]) -> Result<(f64, f64), String> {
    let args = ["serve", "--log.level=error", "--web.listen-address=127.0.0.1:{port}"].map(str::to_owned);
    let exporter = Exporter::start(&Root::default(), &[&args, more].concat()).await?;
    // What the start left to do is over by then.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let share = exporter.idle(options.idle).await?;
    let resident = exporter.resident()?;
    exporter.end().await;
    Ok((share, resident))
}

fn idle_figures(options: &Options, here: (f64, f64), with_many: (f64, f64), out: &mut Vec<Figure>) {
    let unasked = format!("unasked for {} s", options.idle.as_secs());
    for (name, (share, _), what) in [
        ("CPU use when idle".to_owned(), here, "`serve` on this host".to_owned()),
        (
            format!("CPU use when idle, {} containers", options.containers),
            with_many,
            "the same with cgroups that no runtime names".to_owned(),
        ),
    ] {
        out.push(Figure::new(name, share * 100.0, "% of a core", Bound::AtMost(0.1), format!("{what}, {unasked}")));
    }
    let resident = here.1 / MIB;
    out.push(Figure::new(
        "resident memory of `serve` here",
        resident,
        "MiB",
        Bound::None,
        "this host's own containers",
    ));
}

async fn encoding(fleet: &Fleet, options: &Options) -> Result<([encode::Encoded; 2], usize), String> {
    let engine = target::engine(&fleet.root, &fleet.parent, fleet.size).map_err(|e| e.to_string())?;
    // Whole collectors, so that both sides have the same samples.
    let scalar = |c: &catalog::Collector| {
        let mut families = catalog::families().iter().filter(|f| f.collector == *c);
        families.all(|f| !matches!(f.kind, Kind::Histogram | Kind::Summary))
    };
    let wanted: CollectorSet = CollectorSet::ALL.iter().filter(scalar).collect();
    let collection = engine.collect(wanted).await.map_err(|e| e.to_string())?;
    let best = encode::compare(&collection.samples, options.rounds.max(15)).map_err(|e| e.to_string())?;
    Ok((best, collection.samples.len()))
}

fn encoding_figure(([ours, theirs], samples): ([encode::Encoded; 2], usize), out: &mut Vec<Figure>) {
    out.push(Figure::new(
        "encoding, prometheus-client ÷ ours",
        theirs.nanos / ours.nanos,
        "",
        Bound::AtLeast(4.0),
        format!(
            "{:.2} ms ÷ {:.2} ms for {samples} samples, {} and {} KiB",
            theirs.nanos / 1e6,
            ours.nanos / 1e6,
            theirs.bytes / 1024,
            ours.bytes / 1024
        ),
    ));
}
