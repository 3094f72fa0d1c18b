//! The dashboards themselves.

use super::model::{Board, Kind, Panel, here, lacks};
use crate::catalog::*;
use crate::generate::Settings;
use crate::generate::promql::{Selector, buckets, by, family, machine, rate, recorded, sum_of, sum_without};
use crate::generate::promql::{count_of, ratio};
use crate::generate::rules::{cpu, fleet, memory, network, startup, storage, target};
use crate::targets::{self, FigureId};

const R: &str = "$__rate_interval";

const NO_LIMIT: &str = "No memory limit is set, and no VM has a size of its own";
const NO_STARTS: &str = "No start has been seen in this time";
const NO_PRESSURE: &str = "No pressure files: cgroup v1, CONFIG_PSI off, or psi=0";
const NO_SOCKETS: &str = "No connection is open, or namespaces may not be entered (CAP_SYS_ADMIN)";
const NO_LINK: &str = "No interface tells its speed: set network.link-speed";
const NO_LATENCY: &str = "No VM of its own and no eBPF: see the latency of devices";
const NO_ENERGY: &str = "No energy counters: no RAPL, or not permitted";
const NO_THERMAL: &str = "No thermal zone with a trip point";
const NO_QUOTA: &str = "No CPU quota is set";
const NO_VM: &str = "No container has a VM of its own";
const NO_PROCESS: &str = "Not permitted to read /proc/PID (CAP_SYS_PTRACE), or the collector is off";
const NO_IO: &str = "No container has done block I/O; cgroup v1 counts it only under a limit since Linux 6.10";
const NO_NETWORK: &str = "No container has a network of its own with traffic";
const NO_RULES: &str = "Nothing measured yet, or the recording rules are not loaded";
const NO_MACHINE: &str = "The machine's own CPU time is not accounted here";
const NOT_OFFERED: &str = "What is not offered here";
const LACKS: &str = "Every machine offers all that these panels need";

const PRESSURE: &[&str] = &["pressure"];
const SOCKETS: &[&str] = &["netns", "sock_diag"];
const LATENCY: &[&str] = &["request_latency"];
const ENERGY: &[&str] = &["rapl"];
const THERMAL: &[&str] = &["thermal"];
const CORE_TYPES: &[&str] = &["core_types", "cpu_time_by_core"];
const APPLE: &[&str] = &["apple"];
const PROCESS: &[&str] = &["process_io"];
const IO: &[&str] = &["cgroup_io"];

pub fn all(s: &Settings) -> Vec<Board> {
    let mut all = vec![
        overview(s),
        startups(s),
        memories(s),
        cpus(s),
        networks(s),
        storages(s),
        container(s),
        advice(),
        exporter(s),
    ];
    all.iter_mut().for_each(explain);
    all
}

/// A last panel that tells which of the capabilities that the others need are not there, and why.
fn explain(board: &mut Board) {
    if board.panels.iter().any(|p| p.title == NOT_OFFERED) {
        return;
    }
    let mut needs: Vec<&str> = board.panels.iter().flat_map(|p| p.needs).copied().collect();
    needs.sort_unstable();
    needs.dedup();
    if let Some(lacks) = lacks(&needs) {
        let about = "Machines that lack something which panels above need, and why.";
        board.panels.push(table(NOT_OFFERED, "none", about).query(lacks, "").wide().absent_when(LACKS));
    }
}

/// … and of the runtime and container that are chosen.
fn chosen(s: Selector) -> Selector {
    here(s).matching(r#"runtime=~"$runtime""#).matching(r#"name=~"$container""#)
}

fn of_runtime(s: Selector) -> Selector {
    here(s).matching(r#"runtime=~"$runtime""#)
}

fn of_fleet(record: &str) -> Selector {
    recorded(record).matching(r#"job=~"$job""#)
}

fn stat(title: &'static str, unit: &'static str, about: &'static str) -> Panel {
    Panel::new(Kind::Stat, title, unit, about)
}

fn graph(title: &'static str, unit: &'static str, about: &'static str) -> Panel {
    Panel::new(Kind::TimeSeries, title, unit, about)
}

fn table(title: &'static str, unit: &'static str, about: &'static str) -> Panel {
    Panel::new(Kind::Table, title, unit, about)
}

/// A rate of a container's counter, its own labels summed away.
fn rate_of(f: FamilyId, own: &str) -> String {
    sum_without(own, rate(&chosen(family(f)), R))
}

fn overview(s: &Settings) -> Board {
    let value = |id: FigureId| s.targets.get(id);
    let fleet_of = |title, unit, about, record| stat(title, unit, about).query(of_fleet(record), "{{job}}").of_fleet();
    let targets = |record| of_fleet(record).to_string();
    Board {
        uid: "kina-overview",
        title: "kina / Overview",
        about: "The fleet, its targets, and the containers that are furthest from them.",
        panels: vec![
            fleet_of("Containers", "short", "Running containers of the job.", fleet::FLEET_CONTAINERS),
            fleet_of("Mean start", "s", "Mean start duration in the last hour.", fleet::FLEET_STARTUP_MEAN)
                .bad_above(value(targets::DEGRADED_START))
                .absent_when(NO_STARTS),
            fleet_of("Memory efficiency", "percentunit", "(Process + libraries) ÷ allocation, mean.", fleet::FLEET_MEMORY_EFFICIENCY)
                .bad_below(value(targets::MEMORY_EFFICIENCY))
                .absent_when(NO_LIMIT),
            fleet_of("CPU utilisation", "percentunit", "Share of the hosts' cores that containers use.", fleet::FLEET_CPU_UTILIZATION)
                .bad_above(value(targets::CPU_UTILIZATION_AVG))
                .absent_when(NO_RULES),
            fleet_of("Network", "Bps", "Received and sent by containers.", fleet::FLEET_NETWORK).absent_when(NO_NETWORK),
            fleet_of("Storage", "iops", "Reads and writes by containers.", fleet::FLEET_STORAGE).absent_when(NO_IO).needing(IO),
            table("Targets", "none", "Each optimisation target: the fleet's actual value, whether it is met, and the share of the last day in which it was. A target without a measure is not listed.")
                .query(targets(target::TARGET_ACTUAL), "actual")
                .query(targets(target::TARGET_MET), "met")
                .query(targets(target::TARGET_ATTAINMENT), "attainment")
                .query(by("min", &format!("{}, target", fleet::FLEET), here(family(TARGET))), "target")
                .of_fleet()
                .absent_when(NO_RULES)
                .wide(),
            graph("Attainment", "percentunit", "Share of the last 24 hours in which the fleet met each target.")
                .query(of_fleet(target::TARGET_ATTAINMENT), "{{target}}")
                .of_fleet()
                .absent_when(NO_RULES),
            graph("Error rate", "percentunit", "(Failed starts + non-zero exits + OOM kills) ÷ (starts + exits), one hour.")
                .query(of_fleet(fleet::FLEET_ERROR_RATIO), "{{job}}")
                .of_fleet()
                .bad_above(value(targets::ERROR_RATE))
                .absent_when("No start and no exit has been seen in the last hour"),
            table("Most CPU", "short", "Cores in use by the ten busiest containers.")
                .query(format!("topk(10, {})", rate_of(CPU_USAGE, "cpu")), ""),
            table("Most memory", "bytes", "Working set of the ten largest containers.")
                .query(format!("topk(10, {})", chosen(family(MEMORY_WORKING_SET))), ""),
            table("Least memory efficiency", "percentunit", "The ten containers that use the smallest share of their allocation.")
                .query(format!("bottomk(10, {})", chosen(family(MEMORY_EFFICIENCY))), "")
                .absent_when(NO_LIMIT),
            table(NOT_OFFERED, "none", "What the machines lack, and why: families that depend on it are absent.")
                .query(format!("{} == 0", here(family(CAPABILITY))), "")
                .absent_when("Nothing is missing"),
        ],
    }
}

fn startups(s: &Settings) -> Board {
    let p95 = s.targets.get(targets::STARTUP_TIME_P95);
    let slow = s.targets.get(targets::SLOW_START);
    let observed = format!("increase({})", of_runtime(buckets(STARTUP_DURATION)).over(R));
    let count = |f: FamilyId| format!("increase({})", of_runtime(family(f)).over(R));
    let here_only = |f: FamilyId| rate(&here(family(f)), R);
    Board {
        uid: "kina-startup",
        title: "kina / Startup",
        about: "How long containers took to start, in which phase, and why slow ones were slow.",
        panels: vec![
            graph(
                "Start duration",
                "s",
                "Median, 95th and 99th percentile over one hour, by runtime; the line is the target of the 95th.",
            )
            .query(of_runtime(recorded(startup::RUNTIME_STARTUP_P50)), "{{runtime}} p50")
            .query(of_runtime(recorded(startup::RUNTIME_STARTUP_P95)), "{{runtime}} p95")
            .query(of_runtime(recorded(startup::RUNTIME_STARTUP_P99)), "{{runtime}} p99")
            .bad_above(p95)
            .absent_when(NO_STARTS),
            Panel::new(Kind::Heatmap, "Starts by duration", "s", "How many starts took how long.")
                .query(by("sum", "le", &observed), "{{le}}")
                .absent_when(NO_STARTS),
            graph("Phases", "s", "Mean duration of each phase over one hour, by runtime, cold and warm.")
                .query(of_runtime(recorded(startup::PHASE_MEAN)), "{{runtime}} {{start}} {{phase}}")
                .absent_when(NO_STARTS),
            graph("Starts, cold and warm", "short", "Starts by whether everything that they need was there.")
                .query(by("sum", "start", count(STARTS)), "{{start}}")
                .absent_when(NO_STARTS),
            graph("Slow starts by reason", "short", "Starts slower than the slow-start threshold.")
                .query(by("sum", "reason", count(SLOW_STARTS)), "{{reason}}")
                .absent_when("No slow start has been seen"),
            graph("Failed starts by reason", "short", "Starts that were requested and never ran.")
                .query(by("sum", "image, reason", count(START_FAILURES)), "{{image}} {{reason}}")
                .absent_when("No start has failed"),
            graph("Image cache", "percentunit", "Share of starts whose image was present.")
                .query(here(recorded(startup::IMAGE_CACHE_HIT)), "{{instance}}")
                .absent_when(NO_STARTS),
            graph("Prepared VMs and containers", "ops", "Acquisitions from a pool, by result.")
                .query(by("sum", "result", here_only(VM_POOL_ACQUISITIONS)), "{{result}}")
                .absent_when("No runtime reports pooling"),
            table("Slowest images", "s", "95th percentile of start duration over one hour.")
                .query(format!("topk(10, {})", of_runtime(recorded(startup::IMAGE_STARTUP_P95))), "")
                .bad_above(slow)
                .absent_when(NO_STARTS),
            table("Last start of each container", "s", "Of the containers that run now.")
                .query(format!("topk(20, {})", chosen(family(LAST_STARTUP_DURATION))), "")
                .bad_above(slow)
                .absent_when("All containers started before the exporter"),
        ],
    }
}

fn memories(s: &Settings) -> Board {
    let stalled = |f| rate_of(f, "");
    Board {
        uid: "kina-memory",
        title: "kina / Memory",
        about: "What memory is used for, against what is allocated.",
        panels: vec![
            graph("Memory by kind", "bytes", "What the memory of the chosen containers is for.")
                .query(by("sum", "kind", chosen(family(MEMORY_KIND))), "{{kind}}"),
            graph("Efficiency", "percentunit", "(Process + libraries) ÷ allocation; the line is the target.")
                .query(chosen(family(MEMORY_EFFICIENCY)), "{{name}}")
                .bad_below(s.targets.get(targets::MEMORY_EFFICIENCY))
                .absent_when(NO_LIMIT),
            graph("Working set", "bytes", "What the OOM killer can't take back.")
                .query(chosen(family(MEMORY_WORKING_SET)), "{{name}}"),
            graph("Working set against allocation", "percentunit", "At 100 % the OOM killer comes.")
                .query(chosen(recorded(memory::WORKING_SET_RATIO)), "{{name}}")
                .bad_above(1.0)
                .absent_when(NO_LIMIT),
            graph("Waiting for memory", "percentunit", "Share of time in which some task waited.")
                .query(stalled(PRESSURE_MEMORY_WAITING), "{{name}}")
                .absent_when(NO_PRESSURE)
                .needing(PRESSURE),
            graph("Major faults", "ops", "Page faults that had to read from storage, a second.").query(
                rate_of(MEMORY_FAILURES, "failure_type, scope").replace(
                    r#"name=~"$container""#,
                    r#"name=~"$container",failure_type="pgmajfault",scope="hierarchy""#,
                ),
                "{{name}}",
            ),
            graph("Refaults", "ops", "Evicted pages that were needed again, a second.")
                .query(rate_of(MEMORY_REFAULT_FILE, ""), "{{name}}")
                .absent_when("This kernel does not tell refaults"),
            graph("OOM kills", "short", "Processes that the kernel killed.")
                .query(format!("increase({})", chosen(family(OOM_EVENTS)).over(R)), "{{name}}"),
            graph(
                "VMs on the host",
                "bytes",
                "Memory that VM processes hold on the host, and what their guests use of it.",
            )
            .query(chosen(family(VM_HOST_MEMORY)), "{{name}} held")
            .query(chosen(family(VM_GUEST_USED)), "{{name}} used")
            .absent_when(NO_VM)
            .needing(APPLE),
            table(
                "Allocation against need",
                "bytes",
                "Allocation, and the 95th percentile of the working set over one hour.",
            )
            .query(chosen(family(MEMORY_ALLOCATED)), "allocated")
            .query(chosen(recorded(memory::WORKING_SET_P95)), "needed")
            .absent_when(NO_LIMIT),
        ],
    }
}

fn cpus(s: &Settings) -> Board {
    let used = rate_of(CPU_USAGE, "cpu");
    let capacity = rate(&chosen(family(CPU_CAPACITY)), R);
    Board {
        uid: "kina-cpu",
        title: "kina / CPU and cores",
        about: "CPU time against what is allocated, throttling, core types, heat and energy.",
        panels: vec![
            graph("CPU in use", "short", "Cores in use.").query(&used, "{{name}}"),
            graph(
                "Efficiency",
                "percentunit",
                "Share of the allocated core time in use; the line is the target that it should stay under.",
            )
            .query(ratio(&used, &capacity), "{{name}}")
            .bad_above(s.targets.get(targets::CPU_UTILIZATION_AVG)),
            graph("Intensity", "percentunit", "Share of the allocated core time in user mode.")
                .query(ratio(rate(&chosen(family(CPU_USER)), R), &capacity), "{{name}}"),
            graph("Throttled", "percentunit", "Share of enforcement periods in which the container was throttled.")
                .query(
                    ratio(
                        rate(&chosen(family(CPU_CFS_THROTTLED_PERIODS)), R),
                        rate(&chosen(family(CPU_CFS_PERIODS)), R),
                    ),
                    "{{name}}",
                )
                .absent_when(NO_QUOTA),
            graph("Waiting for a CPU", "percentunit", "Share of time in which some task waited.")
                .query(rate_of(PRESSURE_CPU_WAITING, ""), "{{name}}")
                .absent_when(NO_PRESSURE)
                .needing(PRESSURE),
            graph("Context switches", "ops", "Voluntary and involuntary, a second.")
                .query(rate_of(CONTEXT_SWITCHES, "kind"), "{{name}}")
                .absent_when(NO_PROCESS),
            graph("Time by core type", "short", "Cores in use on performance and efficiency cores.")
                .query(by("sum", "core_type", rate(&chosen(family(CPU_CORE_TYPE_SECONDS)), R)), "{{core_type}}")
                .absent_when("cgroup v2 does not account CPU time by core, or the host has one kind of core")
                .needing(CORE_TYPES),
            table("Cores they may run on", "short", "By core type.").query(chosen(family(CPU_AFFINITY)), ""),
            graph("Machine", "percentunit", "Share of the machine's cores in use, by all that runs on it.")
                .query(
                    format!(
                        "sum by (job, instance) ({})\n/ on (job, instance)\nmax by (job, instance) ({})",
                        rate(&here(machine(CPU_USAGE)), R),
                        here(family(MACHINE_CPU_CORES))
                    ),
                    "{{instance}}",
                )
                .bad_above(s.targets.get(targets::CPU_UTILIZATION_AVG))
                .absent_when(NO_MACHINE),
            graph("Thermal state", "none", "Exactly one of the states is 1.")
                .query(format!("{} == 1", here(family(HOST_THERMAL_STATE))), "{{instance}} {{state}}")
                .absent_when(NO_THERMAL)
                .needing(THERMAL),
            graph("Power", "watt", "The containers' shares of the machine's power.")
                .query(rate_of(CONTAINER_ENERGY, ""), "{{name}}")
                .absent_when(NO_ENERGY)
                .needing(ENERGY),
            graph("CPU seconds for a joule", "short", "How well power is spent.")
                .query(chosen(recorded(cpu::POWER_EFFICIENCY)), "{{name}}")
                .absent_when(NO_ENERGY)
                .needing(ENERGY),
        ],
    }
}

fn networks(s: &Settings) -> Board {
    let peers = chosen(family(PEER_CONNECTIONS));
    Board {
        uid: "kina-network",
        title: "kina / Network",
        about: "Throughput, round-trip times, loss, and who talks to whom.",
        panels: vec![
            graph("Received", "Bps", "Bytes received a second.")
                .query(rate_of(NET_RX_BYTES, "interface"), "{{name}}")
                .absent_when(NO_NETWORK),
            graph("Sent", "Bps", "Bytes sent a second.")
                .query(rate_of(NET_TX_BYTES, "interface"), "{{name}}")
                .absent_when(NO_NETWORK),
            graph("Median round-trip time", "s", "Of established TCP connections; the line is the target.")
                .query(chosen(recorded(network::RTT_P50)), "{{name}}")
                .bad_above(s.targets.get(targets::NETWORK_LATENCY_P50))
                .absent_when(NO_SOCKETS)
                .needing(SOCKETS),
            Panel::new(Kind::Heatmap, "Round-trip times", "s", "How many connections had which round-trip time.")
                .query(by("sum", "le", rate(&chosen(buckets(NETWORK_RTT)), R)), "{{le}}")
                .absent_when(NO_SOCKETS)
                .needing(SOCKETS),
            graph("Packet loss", "percentunit", "Retransmitted ÷ sent TCP segments.")
                .query(
                    ratio(
                        rate(&chosen(family(TCP_RETRANSMITTED_SEGMENTS)), R),
                        rate(&chosen(family(TCP_SENT_SEGMENTS)), R),
                    ),
                    "{{name}}",
                )
                .absent_when("Nothing is sent over TCP, or the network is the host's"),
            graph("Bandwidth in use", "percentunit", "Share of the link's speed, the busier direction.")
                .query(chosen(recorded(network::BANDWIDTH_UTILIZATION)), "{{name}}")
                .bad_above(s.targets.get(targets::HIGH_BANDWIDTH))
                .absent_when(NO_LINK),
            graph("Connections", "short", "TCP sockets by state.")
                .query(by("sum", "state", chosen(family(TCP_CONNECTIONS))), "{{state}}")
                .absent_when(NO_SOCKETS)
                .needing(SOCKETS),
            graph("Dropped packets", "pps", "Dropped by interfaces while receiving, a second.")
                .query(rate_of(NET_RX_DROPPED, "interface"), "{{name}}")
                .absent_when(NO_NETWORK),
            Panel::new(
                Kind::NodeGraph,
                "Who talks to whom",
                "short",
                "Containers, and the established connections between them.",
            )
            .query(nodes(&peers), "nodes")
            .query(edges(&by("sum", "name, peer", &peers)), "edges")
            .absent_when("No container has a connection to another one")
            .needing(SOCKETS)
            .wide(),
            table("Communication matrix", "short", "Established connections from one container to another.")
                .query(by("sum", "name, peer", &peers), "")
                .absent_when("No container has a connection to another one")
                .needing(SOCKETS),
            table("Fan-out", "short", "Distinct other containers that each one talks to.")
                .query(format!("topk(10, {})", chosen(family(NETWORK_FANOUT))), "")
                .bad_above(s.targets.get(targets::HIGH_FANOUT))
                .absent_when(NO_SOCKETS)
                .needing(SOCKETS),
        ],
    }
}

/// Copies labels to the names that the node graph knows.
fn renamed(expr: &str, labels: &[(&str, &str)]) -> String {
    labels
        .iter()
        .fold(expr.to_owned(), |e, (to, from)| format!("label_replace({e}, \"{to}\", \"$1\", \"{from}\", \"(.*)\")"))
}

/// Both ends of every connection: the other end may be of a container that is not chosen.
fn nodes(peers: &Selector) -> String {
    let end = |label| renamed(&peers.to_string(), &[("id", label), ("title", label)]);
    by("sum", "id, title", format!("{}\nor\n{}", end("name"), end("peer")))
}

fn edges(expr: &str) -> String {
    let ends = renamed(expr, &[("source", "name"), ("target", "peer")]);
    format!("label_join({ends}, \"id\", \" → \", \"name\", \"peer\")")
}

fn storages(s: &Settings) -> Board {
    let device = |f: Selector| rate(&here(f), R);
    Board {
        uid: "kina-storage",
        title: "kina / Storage",
        about: "Operations, bytes, latency, queues and the page cache.",
        panels: vec![
            graph("Reads", "iops", "Reads a second.")
                .query(rate_of(FS_READS, "device"), "{{name}}")
                .absent_when(NO_IO)
                .needing(IO),
            graph("Writes", "iops", "Writes a second.")
                .query(rate_of(FS_WRITES, "device"), "{{name}}")
                .absent_when(NO_IO)
                .needing(IO),
            graph("Bytes read", "Bps", "From devices.")
                .query(rate_of(FS_READS_BYTES, "device"), "{{name}}")
                .absent_when(NO_IO)
                .needing(IO),
            graph("Bytes written", "Bps", "To devices.")
                .query(rate_of(FS_WRITES_BYTES, "device"), "{{name}}")
                .absent_when(NO_IO)
                .needing(IO),
            graph(
                "99th percentile of latency",
                "s",
                "Of the block requests of each container; the line is the target.",
            )
            .query(chosen(recorded(storage::STORAGE_P99)), "{{name}}")
            .bad_above(s.targets.get(targets::STORAGE_LATENCY_P99))
            .absent_when(NO_LATENCY)
            .needing(LATENCY),
            Panel::new(Kind::Heatmap, "Requests by latency", "s", "How many requests took how long.")
                .query(by("sum", "le", rate(&chosen(buckets(STORAGE_LATENCY)), R)), "{{le}}")
                .absent_when(NO_LATENCY)
                .needing(LATENCY),
            graph("Mean latency of devices", "s", "Queueing included, by device and operation.")
                .query(
                    ratio(device(sum_of(DEVICE_IO_LATENCY)), device(count_of(DEVICE_IO_LATENCY))),
                    "{{instance}} {{device}} {{op}}",
                )
                .bad_above(s.targets.get(targets::HIGH_IO_LATENCY))
                .absent_when("No device has done I/O in this time"),
            graph("Queue depth of devices", "short", "Requests in flight.")
                .query(here(family(DEVICE_QUEUE_DEPTH)), "{{instance}} {{device}}")
                .absent_when("The machine shows no block device"),
            graph("Cache hit rate", "percentunit", "1 − bytes from devices ÷ bytes that processes asked for.")
                .query(chosen(recorded(storage::CACHE_HIT)), "{{name}}")
                .bad_below(s.targets.get(targets::LOW_CACHE_HIT_RATE))
                .absent_when(NO_PROCESS)
                .needing(PROCESS),
            graph("Storage efficiency", "percentunit", "Share of time not fully stalled on I/O.")
                .query(format!("1 - {}", rate(&chosen(family(PRESSURE_IO_STALLED)), R)), "{{name}}")
                .absent_when(NO_PRESSURE)
                .needing(PRESSURE),
            graph("Waiting to be written", "bytes", "Dirty page cache, and what is being written.")
                .query(chosen(family(MEMORY_FILE_DIRTY)), "{{name}} dirty")
                .query(chosen(family(MEMORY_FILE_WRITEBACK)), "{{name}} writeback"),
            table("File systems", "bytes", "Used and size, of the host.")
                .query(here(machine(FS_USAGE)), "used")
                .query(here(machine(FS_LIMIT)), "size")
                .absent_when("No file system can be asked"),
        ],
    }
}

fn container(s: &Settings) -> Board {
    Board {
        uid: "kina-container",
        title: "kina / One container",
        about: "Everything about the chosen container; choose one above.",
        panels: vec![
            table("Who it is", "none", "Identity and allow-listed labels.")
                .query(chosen(family(CONTAINER_INFO)), "")
                .wide(),
            stat("Running since", "dateTimeFromNow", "When it last started.")
                .query(format!("{} * 1000", chosen(family(CONTAINER_START_TIME))), "{{name}}")
                .absent_when("Neither a runtime nor a process tells"),
            stat("Last start", "s", "How long its last start took.")
                .query(chosen(family(LAST_STARTUP_DURATION)), "{{name}}")
                .bad_above(s.targets.get(targets::STARTUP_TIME_P95))
                .absent_when("It started before the exporter"),
            stat("CPU", "short", "Cores in use.").query(rate_of(CPU_USAGE, "cpu"), "{{name}}"),
            stat("Allocated cores", "short", "Cores that it may use.").query(chosen(family(CPU_ALLOCATED)), "{{name}}"),
            stat("Memory efficiency", "percentunit", "(Process + libraries) ÷ allocation.")
                .query(chosen(family(MEMORY_EFFICIENCY)), "{{name}}")
                .bad_below(s.targets.get(targets::MEMORY_EFFICIENCY))
                .absent_when(NO_LIMIT),
            stat("Health", "none", "1 healthy, 0 unhealthy.")
                .query(chosen(family(CONTAINER_HEALTH_STATE)), "{{name}}")
                .absent_when("No health check"),
            graph("CPU time", "short", "Cores in use in user mode and in the kernel.")
                .query(rate_of(CPU_USER, ""), "user")
                .query(rate_of(CPU_SYSTEM, ""), "system"),
            graph("Memory by kind", "bytes", "What its memory is for.")
                .query(by("sum", "kind", chosen(family(MEMORY_KIND))), "{{kind}}"),
            graph("Network", "Bps", "Received and sent.")
                .query(rate_of(NET_RX_BYTES, "interface"), "received")
                .query(rate_of(NET_TX_BYTES, "interface"), "sent")
                .absent_when(NO_NETWORK),
            graph("Storage", "Bps", "Read and written.")
                .query(rate_of(FS_READS_BYTES, "device"), "read")
                .query(rate_of(FS_WRITES_BYTES, "device"), "written")
                .absent_when(NO_IO)
                .needing(IO),
            graph("Pressure", "percentunit", "Share of time in which some task waited.")
                .query(rate_of(PRESSURE_CPU_WAITING, ""), "CPU")
                .query(rate_of(PRESSURE_MEMORY_WAITING, ""), "memory")
                .query(rate_of(PRESSURE_IO_WAITING, ""), "I/O")
                .absent_when(NO_PRESSURE)
                .needing(PRESSURE),
            graph("Processes and threads", "short", "What runs in it.")
                .query(chosen(family(PROCESSES)), "processes")
                .query(chosen(family(THREADS)), "threads")
                .absent_when("Its processes can't be listed"),
            graph("File descriptors", "short", "Open file descriptors of its processes.")
                .query(chosen(family(FILE_DESCRIPTORS)), "{{name}}")
                .absent_when(NO_PROCESS),
            table("Advice", "none", "What is recommended for it.")
                .query(chosen(family(RECOMMENDATION)), "")
                .absent_when("Nothing is recommended"),
        ],
    }
}

fn advice() -> Board {
    let all = |f: FamilyId| here(recorded(f.name())).to_string();
    Board {
        uid: "kina-advice",
        title: "kina / Advice",
        about: "What to change and by how much; reasons in words: kina-exporter advise.",
        panels: vec![
            stat("Recommendations", "short", "That hold now.")
                .query(by("count", "job", all(RECOMMENDATION)), "{{job}}")
                .absent_when("Nothing is recommended"),
            stat("Memory to save", "bytes", "Sum of the estimated savings.")
                .query(by("sum", "job", all(RECOMMENDATION_SAVINGS)), "{{job}}")
                .absent_when("No recommendation saves memory"),
            graph("By action", "short", "How many containers each recommendation names.")
                .query(by("count", "domain, action", all(RECOMMENDATION)), "{{domain}} {{action}}")
                .absent_when("Nothing is recommended"),
            table(
                "All advice with its figures",
                "none",
                "The figure that each would change, as it is and as it should be, in base units.",
            )
            .query(all(RECOMMENDATION), "holds")
            .query(all(RECOMMENDATION_CURRENT), "current")
            .query(all(RECOMMENDATION_RECOMMENDED), "recommended")
            .query(all(RECOMMENDATION_SAVINGS), "saves")
            .absent_when("Nothing is recommended")
            .wide(),
            table("Targets in force", "none", "As the exporter was configured.").query(here(family(TARGET)), "").wide(),
        ],
    }
}

/// 0 for an exporter that runs and has counted none.
fn or_none(events: &str) -> String {
    format!("{events}\nor on (instance)\n{}", by("sum", "instance", format!("{} * 0", here(family(BUILD_INFO)))))
}

fn exporter(s: &Settings) -> Board {
    Board {
        uid: "kina-exporter",
        title: "kina / Exporter",
        about: "The exporter itself: what it costs, what fails, what the machines lack.",
        panels: vec![
            table("Builds", "none", "Version of each exporter.").query(here(family(BUILD_INFO)), "").wide(),
            graph("Duration by collector", "s", "How long each collector took in the last collection.")
                .query(here(family(COLLECTOR_DURATION)), "{{instance}} {{collector}}"),
            graph("Success by collector", "none", "0: something that is there could not be read.")
                .query(here(family(COLLECTOR_SUCCESS)), "{{instance}} {{collector}}")
                .bad_below(1.0),
            graph("Failed reads", "ops", "By collector and kind, a second.").query(
                or_none(&by("sum", "instance, collector, kind", rate(&here(family(READ_ERRORS)), R))),
                "{{instance}} {{collector}} {{kind}}",
            ),
            graph("Age of background sources", "s", "Since each last answered.")
                .query(format!("time() - {}", here(family(COLLECTOR_LAST_SUCCESS))), "{{instance}} {{collector}}")
                .bad_above(s.targets.get(targets::STALE_SOURCE))
                .absent_when("No source is read in the background")
                .needing(APPLE),
            graph("CPU", "short", "Cores that the exporter uses.")
                .query(rate(&here(family(PROCESS_CPU)), R), "{{instance}}"),
            graph("Memory", "bytes", "Resident memory of the exporter.")
                .query(here(family(PROCESS_RESIDENT)), "{{instance}}")
                .absent_when("Only told on Linux"),
            graph("File descriptors", "short", "Open ones, and how many it may open.")
                .query(here(family(PROCESS_OPEN_FDS)), "{{instance}} open")
                .query(here(family(PROCESS_MAX_FDS)), "{{instance}} limit"),
            graph("Requests", "reqps", "By handler and status.")
                .query(by("sum", "handler, code", rate(&here(family(HTTP_REQUESTS)), R)), "{{handler}} {{code}}"),
            graph("Runtime events", "ops", "Events received, by runtime.")
                .query(by("sum", "runtime", rate(&here(family(RUNTIME_EVENTS)), R)), "{{runtime}}")
                .absent_when("No event has been received"),
            graph("Dropped series", "ops", "By the limit that dropped them.").query(
                or_none(&by("sum", "instance, reason", rate(&here(family(DROPPED_SERIES)), R))),
                "{{instance}} {{reason}}",
            ),
            table("Capabilities", "none", "1: this machine offers it. 0: it does not, for the reason given.")
                .query(here(family(CAPABILITY)), "")
                .wide(),
        ],
    }
}
