//! The baselines of [`crate::targets`], measured through each container runtime's own command: cold and warm start, memory
//! overhead, network latency, storage, CPU. Runtime against runtime, same machine, same image.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};

use super::figure::{Bound, Figure};
use super::io::{self, Pattern};
use crate::kernel::topology::{self, CoreType, Topology};
use crate::root::{Nanos, Root, SECOND};
use crate::targets::{self, FigureId, Role, Targets};

#[derive(Debug, Clone)]
pub struct Options {
    /// Commands to compare: `docker`, `podman`, `nerdctl`, or paths to them.
    pub runtimes: Vec<PathBuf>,
    /// Must be there, and have a shell with `ping`, `hostname` and `time` (busybox has).
    pub image: String,
    /// Starts of which the median counts.
    pub starts: usize,
}

/// One container command answers within this, or the figure is not measured.
const LIMIT: Duration = Duration::from_secs(60);

/// The table, and what could not be measured with its reason.
#[derive(Debug, Default)]
pub struct Outcome {
    pub figures: Vec<Figure>,
    pub unmeasured: Vec<String>,
}

pub async fn measure(options: &Options, targets: &Targets) -> Outcome {
    let mut outcome = Outcome::default();
    for program in &options.runtimes {
        let runtime = Runtime { root: Root::default(), program: program.clone(), image: options.image.clone() };
        runtime.measure(options.starts.max(1), targets, &mut outcome).await;
        runtime.clean().await;
    }
    outcome
}

struct Runtime {
    root: Root,
    program: PathBuf,
    image: String,
}

/// Keeps a container alive, and says when it runs.
const SLEEPER: &str = "echo ready; exec sleep 3600";

impl Runtime {
    fn name(&self) -> String {
        self.program.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Names of containers of this run: nothing else is touched.
    fn container(&self, n: usize) -> String {
        format!("kina-bench-{}-{n}", std::process::id())
    }

    async fn measure(&self, starts: usize, targets: &Targets, out: &mut Outcome) {
        let mut add = |id: FigureId, measured: Result<(f64, String), String>| match measured {
            Ok((value, how)) => out.figures.push(figure(&self.name(), id, value, how, targets)),
            Err(why) => out.unmeasured.push(format!("{}: {}: {why}", self.name(), id.figure().about)),
        };
        add(targets::BASELINE_COLD_START, self.cold(starts).await);
        add(targets::BASELINE_WARM_START, self.warm(starts).await);
        let pair = self.pair().await;
        add(targets::BASELINE_MEMORY_OVERHEAD, self.overhead(&pair));
        add(targets::BASELINE_NETWORK_LATENCY, self.latency(&pair).await);
        add(targets::BASELINE_PERFORMANCE_CORES, self.cpu(CoreType::Performance).await);
        add(targets::BASELINE_EFFICIENCY_CORES, self.cpu(CoreType::Efficiency).await);
        for (id, pattern) in [
            (targets::BASELINE_SEQUENTIAL_READ, Pattern::SequentialRead),
            (targets::BASELINE_SEQUENTIAL_WRITE, Pattern::SequentialWrite),
            (targets::BASELINE_RANDOM_READ, Pattern::RandomRead),
            (targets::BASELINE_RANDOM_WRITE, Pattern::RandomWrite),
        ] {
            add(id, self.storage(pattern).await);
        }
    }

    /// Runs a command of the runtime to its end.
    async fn run(&self, args: &[&str]) -> Result<String, String> {
        let output = self.root.command(&self.program).args(args).output();
        let output = tokio::time::timeout(LIMIT, output).await.map_err(|_| "no answer within 60 s".to_owned())?;
        let output = output.map_err(|e| format!("{}: {e}", self.program.display()))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        Err(text.lines().find(|l| !l.trim().is_empty()).unwrap_or("it failed").to_owned())
    }

    /// Time from the command's start to the container's first line of output.
    async fn until_ready(&self, args: &[&str]) -> Result<Nanos, String> {
        let clock = &self.root.clock;
        let begin = clock.boot();
        let mut child = self
            .root
            .command(&self.program)
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("{}: {e}", self.program.display()))?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        let line =
            tokio::time::timeout(LIMIT, lines.next_line()).await.map_err(|_| "not ready within 60 s".to_owned())?;
        let taken = clock.boot() - begin;
        let _ = child.kill().await;
        match line {
            Ok(Some(line)) if line.trim() == "ready" => Ok(taken),
            _ => Err("the container ended before it was ready".into()),
        }
    }

    /// The image is there, the container is not: created and started.
    async fn cold(&self, starts: usize) -> Result<(f64, String), String> {
        let mut times = Vec::new();
        for _ in 0..starts {
            let name = self.container(0);
            times.push(self.until_ready(&["run", "--name", &name, &self.image, "sh", "-c", SLEEPER]).await);
            let _ = self.run(&["rm", "-f", &name]).await;
        }
        median(times)
    }

    /// The container has run before: started again.
    async fn warm(&self, starts: usize) -> Result<(f64, String), String> {
        let name = self.container(0);
        self.run(&["create", "--name", &name, &self.image, "sh", "-c", SLEEPER]).await?;
        let mut times = Vec::new();
        for round in 0..=starts {
            let taken = self.until_ready(&["start", "-a", &name]).await;
            let _ = self.run(&["kill", &name]).await;
            // The first one is cold.
            if round > 0 {
                times.push(taken);
            }
        }
        let _ = self.run(&["rm", "-f", &name]).await;
        median(times)
    }

    /// Two containers that sleep; their ids.
    async fn pair(&self) -> Result<[String; 2], String> {
        let mut ids = [const { String::new() }; 2];
        for (n, id) in ids.iter_mut().enumerate() {
            let name = self.container(n + 1);
            let printed = self.run(&["run", "-d", "--name", &name, &self.image, "sleep", "3600"]).await?;
            *id = printed.lines().last().unwrap_or_default().to_owned();
        }
        Ok(ids)
    }

    /// Proportional memory of every process that exists for the container: its own, its shim, its monitor.
    fn overhead(&self, pair: &Result<[String; 2], String>) -> Result<(f64, String), String> {
        let ids = pair.as_ref().map_err(String::clone)?;
        let id = ids[0].get(..64).unwrap_or(&ids[0]);
        let procfs = &self.root.procfs;
        let mut total = 0.0;
        let mut processes = 0;
        for pid in self.root.list(procfs).map_err(|e| e.to_string())? {
            let read = |file: &str| self.root.read_to_string(&procfs.join(&pid).join(file)).unwrap_or_default();
            let is_its = pid.bytes().all(|b| b.is_ascii_digit())
                && (read("cmdline").contains(id) || read("cgroup").contains(id));
            if is_its && let Some(kib) = proportional(&read("smaps_rollup")) {
                total += kib * 1024.0;
                processes += 1;
            }
        }
        if processes == 0 {
            Err("no process names the container".into())
        } else {
            Ok((total, format!("{processes} processes, proportional set size")))
        }
    }

    async fn latency(&self, pair: &Result<[String; 2], String>) -> Result<(f64, String), String> {
        let [a, b] = pair.as_ref().map_err(String::clone)?;
        let address = self.run(&["exec", b, "hostname", "-i"]).await?;
        let address = address.split_whitespace().next().unwrap_or_default().to_owned();
        let text = self.run(&["exec", a, "ping", "-q", "-c", "20", "-i", "0.1", &address]).await?;
        let mean = ping_mean(&text).ok_or("ping printed no times")?;
        Ok((mean / 1e3, "mean of 20 echoes".into()))
    }

    /// How much of one core of a type a busy container gets: its CPU time by its own clock over the time that passed.
    async fn cpu(&self, kind: CoreType) -> Result<(f64, String), String> {
        let cpus = cpus_of(&self.root, kind)?;
        let pinned = cpus.as_ref().map(|list| format!("--cpuset-cpus={list}"));
        let busy = "time sh -c 'i=0; while [ $i -lt 2000000 ]; do i=$((i+1)); done' 2>&1";
        let name = self.container(3);
        let script = format!("({busy}) 2>&1");
        let mut args = vec!["run", "--rm", "--name", &name];
        args.extend(pinned.as_deref());
        args.extend([&self.image, "sh", "-c", &script]);
        let text = self.run(&args).await?;
        let part = |label: &str| text.lines().find_map(|l| seconds(l.trim().strip_prefix(label)?));
        let (Some(real), Some(user), Some(system)) = (part("real"), part("user"), part("sys")) else {
            return Err(format!("time printed {text:?}"));
        };
        let place = cpus.map_or("any core".to_owned(), |list| format!("CPUs {list}"));
        Ok(((user + system) / real, format!("{:.2} s of CPU in {real:.2} s, on {place}", user + system)))
    }

    /// This program within a container, on its writable layer; the host's libraries are lent to it.
    async fn storage(&self, pattern: Pattern) -> Result<(f64, String), String> {
        let program = std::env::current_exe().map_err(|e| e.to_string())?;
        let name = self.container(4);
        let mut args: Vec<String> = ["run", "--rm", "--name", &name].map(str::to_owned).into();
        args.extend(["-v".into(), format!("{}:/kina-exporter:ro", program.display())]);
        for folder in ["/lib", "/lib64", "/usr/lib"].into_iter().filter(|f| self.root.exists(Path::new(f))) {
            args.extend(["-v".into(), format!("{folder}:{folder}:ro")]);
        }
        args.extend(["--entrypoint", "/kina-exporter", &self.image, "bench", "io", pattern.name()].map(str::to_owned));
        let text = self.run(&args.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        let rate = text.parse::<f64>().map_err(|_| format!("it printed {text:?}"))?;
        Ok((rate, format!("{} B blocks, O_DIRECT, {} at a time", io::BLOCK, io::DEPTH)))
    }

    /// Removes what a failed measurement may have left.
    async fn clean(&self) {
        for n in 0..5 {
            let _ = self.run(&["rm", "-f", &self.container(n)]).await;
        }
    }
}

/// The CPUs of a type, as `--cpuset-cpus` takes them; None where the machine has one kind of core, which then counts as
/// the performance kind.
fn cpus_of(root: &Root, kind: CoreType) -> Result<Option<String>, String> {
    let known = topology::read(root).ok().filter(Topology::is_hybrid);
    match (known, kind) {
        (Some(t), _) => {
            let cpus = t.online.iter().filter(|&&cpu| t.core_type(cpu) == Some(kind));
            Ok(Some(cpus.map(u32::to_string).collect::<Vec<_>>().join(",")))
        }
        (None, CoreType::Performance) => Ok(None),
        (None, CoreType::Efficiency) => Err("this machine has one kind of core, or does not tell".into()),
    }
}

fn figure(runtime: &str, id: FigureId, value: f64, how: String, targets: &Targets) -> Figure {
    let about = id.figure();
    let target = targets.get(id);
    let bound = match about.role {
        Role::Baseline(targets::Bound::Below) => Bound::Below(target),
        Role::Baseline(targets::Bound::AtMost) => Bound::AtMost(target),
        Role::Baseline(targets::Bound::Above) => Bound::Above(target),
        Role::Baseline(targets::Bound::AtLeast) => Bound::AtLeast(target),
        _ => Bound::None,
    };
    Figure::of_unit(format!("{runtime}: {}", about.about), value, about.unit, bound, how)
}

fn median(times: Vec<Result<Nanos, String>>) -> Result<(f64, String), String> {
    let mut times = times.into_iter().collect::<Result<Vec<_>, _>>()?;
    times.sort_unstable();
    let middle = times.get(times.len() / 2).ok_or("no start was measured")?;
    Ok((*middle as f64 / SECOND as f64, format!("median of {} starts, the command's own time included", times.len())))
}

/// `Pss:` of `/proc/PID/smaps_rollup`, in KiB.
fn proportional(smaps: &str) -> Option<f64> {
    smaps.lines().find_map(|l| l.strip_prefix("Pss:"))?.trim().trim_end_matches("kB").trim().parse().ok()
}

/// The mean of `round-trip min/avg/max = 0.041/0.052/0.1 ms`, in milliseconds.
fn ping_mean(text: &str) -> Option<f64> {
    let (_, figures) = text.lines().find(|l| l.contains("min/avg/max"))?.split_once('=')?;
    figures.split('/').nth(1)?.trim().parse().ok()
}

/// `0m 1.25s` (busybox) or `0m1.250s` (bash), in seconds.
fn seconds(text: &str) -> Option<f64> {
    let (minutes, rest) = text.trim().split_once('m')?;
    Some(minutes.trim().parse::<f64>().ok()? * 60.0 + rest.trim().trim_end_matches('s').parse::<f64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_commands_print_is_understood() {
        let ping =
            "--- 172.17.0.3 ping statistics ---\n20 packets transmitted\nround-trip min/avg/max = 0.041/0.052/0.100 ms";
        assert_eq!(ping_mean(ping), Some(0.052));
        assert_eq!(ping_mean("rtt min/avg/max/mdev = 0.1/0.2/0.3/0.05 ms"), Some(0.2));
        assert_eq!(ping_mean("100% packet loss"), None);
        assert_eq!(seconds("0m 1.25s"), Some(1.25));
        assert_eq!(seconds("\t2m0.500s"), Some(120.5));
        assert_eq!(
            proportional("7f00-7fff ---p 0 00:00 0 [rollup]\nRss:  100 kB\nPss:                  42 kB\n"),
            Some(42.0)
        );
    }

    #[test]
    fn a_busy_container_is_pinned_to_cores_of_a_type_where_there_are_two() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path(), crate::root::Clock::System);
        let put = |path: &str, text: &str| {
            let path = dir.path().join("sys/devices").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("system/cpu/online", "0-5\n");
        assert_eq!(cpus_of(&root, CoreType::Performance), Ok(None));
        assert!(cpus_of(&root, CoreType::Efficiency).is_err());
        put("cpu_core/cpus", "0-3\n");
        put("cpu_atom/cpus", "4-5\n");
        assert_eq!(cpus_of(&root, CoreType::Performance), Ok(Some("0,1,2,3".into())));
        assert_eq!(cpus_of(&root, CoreType::Efficiency), Ok(Some("4,5".into())));
    }

    #[test]
    fn the_median_is_one_of_the_times_and_a_failure_is_told() {
        assert_eq!(median(vec![Ok(3 * SECOND), Ok(SECOND), Ok(2 * SECOND)]).unwrap().0, 2.0);
        assert_eq!(median(vec![Ok(1), Err("no".into())]), Err("no".into()));
    }
}
