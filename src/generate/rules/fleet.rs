//! The fleet: all containers of all exporters of a job (and of a cluster, where series say one).

use super::service_levels::{LIFECYCLE_ERRORS, LIFECYCLE_EVENTS};
use super::{Group, cpu, memory, network, rule, startup, storage};
use crate::catalog::*;
use crate::generate::Settings;
use crate::generate::promql::*;

pub const FLEET_CONTAINERS: &str = "kina:fleet_containers:count";
pub const FLEET_STARTUP_MEAN: &str = "kina:fleet_startup_duration_seconds:mean1h";
pub const FLEET_MEMORY_EFFICIENCY: &str = "kina:fleet_memory_efficiency:avg5m";
pub const FLEET_CPU_UTILIZATION: &str = "kina:fleet_cpu_utilization:ratio_rate5m";
pub const FLEET_NETWORK: &str = "kina:fleet_network_bytes:rate5m";
pub const FLEET_STORAGE: &str = "kina:fleet_storage_operations:rate5m";
pub const FLEET_ERROR_RATIO: &str = "kina:fleet_errors:ratio_increase1h";

/// Labels of a fleet.
pub const FLEET: &str = "cluster, job";

pub fn group(s: &Settings) -> Group {
    let hour = &s.hours(1.0);
    let total = |e: String| by("sum", FLEET, e);
    let starts = |record: &str| total(recorded(record).to_string());
    let both = |a: &str, b: &str| format!("{} + {}", total(recorded(a).to_string()), total(recorded(b).to_string()));
    let count = by("count", FLEET, family(CONTAINER_INFO));
    Group {
        name: "kina-fleet",
        rules: vec![
            rule(
                FLEET_CONTAINERS,
                "Running containers.",
                format!("{count} or {} * 0", by("count", FLEET, family(BUILD_INFO))),
            ),
            rule(
                FLEET_STARTUP_MEAN,
                "Mean start duration in the last hour, in seconds.",
                ratio(starts(startup::IMAGE_STARTUP_SUM), starts(startup::IMAGE_STARTUP_COUNT)),
            ),
            rule(
                FLEET_MEMORY_EFFICIENCY,
                "Mean memory efficiency of the containers that have an allocation.",
                by("avg", FLEET, recorded(memory::MEMORY_EFFICIENCY_MEAN)),
            ),
            rule(
                FLEET_CPU_UTILIZATION,
                "Share of the hosts' cores that containers use.",
                ratio(by("sum", FLEET, recorded(cpu::CPU_USAGE_RATE)), by("sum", FLEET, host_cores())),
            ),
            rule(
                FLEET_NETWORK,
                "Bytes received and sent by containers, a second.",
                both(network::RECEIVE_RATE, network::TRANSMIT_RATE),
            ),
            rule(
                FLEET_STORAGE,
                "Reads and writes by containers, a second.",
                both(storage::READ_OPERATIONS, storage::WRITE_OPERATIONS),
            ),
            rule(
                FLEET_ERROR_RATIO,
                "(failed starts + non-zero exits + OOM kills) ÷ (starts + exits) in the last hour; 1 where every start failed.",
                error_ratio(
                    &by("sum", FLEET, increase(&recorded(LIFECYCLE_ERRORS), hour)),
                    &by("sum", FLEET, increase(&recorded(LIFECYCLE_EVENTS), hour)),
                ),
            ),
        ],
    }
}

/// Cores of the machines that our exporters run on, other labels kept.
fn host_cores() -> String {
    format!("{} and on (job, instance) {}", family(MACHINE_CPU_CORES), family(BUILD_INFO))
}

/// Errors ÷ events, at most 1, absent without any event: failed starts alone are errors without an event.
pub fn error_ratio(errors: &str, events: &str) -> String {
    format!("clamp_max(\n  {errors}\n  /\n  {events},\n  1\n) >= 0")
}
