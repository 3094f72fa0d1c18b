//! Optimisation targets that the fleet misses. The other three are service levels.

use super::*;
use crate::generate::promql::*;
use crate::generate::rules::{cpu, memory, network, target};
use crate::targets::{self, FigureId};

struct Missed {
    name: &'static str,
    target: FigureId,
    what: &'static str,
    /// Formats the value in a template.
    format: &'static str,
    /// The containers that are worst, as a query.
    worst: String,
    dashboard: &'static str,
    runbook: Runbook,
}

pub fn alerts(_: &Settings) -> Vec<Alert> {
    [memory(), cpu(), network()].into_iter().map(alert).collect()
}

fn alert(m: Missed) -> Alert {
    let of = |record: &str| recorded(record).eq("target", m.target.name());
    let value = family(crate::catalog::TARGET).eq("target", m.target.name()).matching("job=%q");
    Alert {
        name: m.name,
        summary: format!("The fleet of {{{{ $labels.job }}}} misses its target for {}.", m.what),
        description: format!(
            "It is {{{{ $value | {} }}}}; the target is {}. Furthest from it: {}.",
            m.format,
            format_args!(
                "{{{{ with query (printf `{value}` $labels.job) }}}}{{{{ . | first | value | {} }}}}{{{{ end }}}}",
                m.format
            ),
            for_each(&m.worst, &["job"], &format!("{EACH} ({{{{ .Value | {} }}}})", m.format))
        ),
        advice: None,
        dashboard: m.dashboard,
        conditions: vec![Condition::new(
            Severity::Info,
            30.0 * MINUTE,
            format!("{} and {} == 0", of(target::TARGET_ACTUAL), of(target::TARGET_MET)),
        )],
        runbook: m.runbook,
    }
}

fn memory() -> Missed {
    Missed {
        name: "KinaMemoryEfficiencyTargetMissed",
        target: targets::MEMORY_EFFICIENCY,
        what: "memory efficiency",
        format: "humanizePercentage",
        worst: format!("bottomk(5, {})", recorded(target::MEMORY_ACTUAL).matching("job=%q")),
        dashboard: "kina-memory",
        runbook: Runbook {
            meaning: "The mean memory efficiency of all containers that have an allocation has been under the target for \
                      half an hour: limits and VMs are larger than what processes hold.",
            impact: "Memory is paid for and not used. Nothing fails.",
            diagnosis: vec![
                ("The containers that waste most.", format!("bottomk(10, {})", recorded(target::MEMORY_ACTUAL))),
                ("How often the target was met in the last day.", recorded(target::TARGET_ATTAINMENT).to_string()),
                (
                    "The most memory each one needed in the last hour.",
                    format!("topk(10, {})", recorded(memory::WORKING_SET_P95)),
                ),
            ],
            remedy: &[
                "Apply the memory advice to the containers that waste most: a few large ones usually make the mean.",
                "Where low efficiency is meant (a cache, a reserve for bursts), lower the target: `targets.memory_efficiency`.",
            ],
        },
    }
}

fn cpu() -> Missed {
    Missed {
        name: "KinaCpuUtilizationTargetMissed",
        target: targets::CPU_UTILIZATION_AVG,
        what: "CPU utilisation",
        format: "humanizePercentage",
        worst: format!("topk(5, {})", recorded(target::CPU_ACTUAL).matching("job=%q")),
        dashboard: "kina-cpu",
        runbook: Runbook {
            meaning: "Containers have used a larger share of their hosts' cores than the target for half an hour. There is \
                      little left for a burst or for the loss of a host.",
            impact: "Latency grows when load does; a host that fails can't be replaced by the others.",
            diagnosis: vec![
                ("Which hosts are busiest.", format!("topk(10, {})", recorded(cpu::HOST_CPU_UTILIZATION))),
                ("Which containers use most.", format!("topk(10, {})", recorded(cpu::CPU_USAGE_RATE))),
                ("Which containers wait for a CPU.", format!("topk(10, {})", recorded(cpu::CPU_WAITING))),
            ],
            remedy: &[
                "Spread the busiest containers over more hosts, or add hosts.",
                "Take cores from containers that `kina-exporter advise` calls over-allocated.",
            ],
        },
    }
}

fn network() -> Missed {
    Missed {
        name: "KinaNetworkLatencyTargetMissed",
        target: targets::NETWORK_LATENCY_P50,
        what: "network latency",
        format: "humanizeDuration",
        worst: format!("topk(5, {})", recorded(target::NETWORK_ACTUAL).matching("job=%q")),
        dashboard: "kina-network",
        runbook: Runbook {
            meaning: "The median round-trip time of the containers' established TCP connections, over all of them, has \
                      been above the target for half an hour.",
            impact: "Every request between services pays it, several times over where services call each other in a row.",
            diagnosis: vec![
                ("Which containers see the longest round trips.", format!("topk(10, {})", recorded(network::RTT_P50))),
                ("Whether segments are lost.", format!("topk(10, {})", recorded(network::PACKET_LOSS))),
                ("Whether links are full.", format!("topk(10, {})", recorded(network::BANDWIDTH_UTILIZATION))),
            ],
            remedy: &[
                "Look where the peers are: connections that leave the host or the region can't meet a target made for neighbours. Move them together, or raise `targets.network_latency_p50`.",
                "Loss or full links: find the interface on the network dashboard and follow the network advice.",
            ],
        },
    }
}
