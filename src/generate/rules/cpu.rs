use super::{Group, rule};
use crate::catalog::*;
use crate::generate::Settings;
use crate::generate::promql::*;

pub const CPU_USAGE_RATE: &str = "kina:container_cpu_usage:rate5m";
pub const CPU_USAGE_P95: &str = "kina:container_cpu_usage:p95_1h";
pub const CPU_EFFICIENCY: &str = "kina:container_cpu_efficiency:ratio_rate5m";
pub const CPU_INTENSITY: &str = "kina:container_cpu_intensity:ratio_rate5m";
pub const CPU_THROTTLED: &str = "kina:container_cpu_throttled:ratio_rate5m";
pub const CPU_WAITING: &str = "kina:container_cpu_pressure_waiting:ratio_rate5m";
pub const CONTEXT_SWITCH_RATE: &str = "kina:container_context_switches:rate5m";
pub const CONTAINER_POWER: &str = "kina:container_power_watts:rate5m";
pub const POWER_EFFICIENCY: &str = "kina:container_cpu_seconds_per_joule:ratio_rate5m";
pub const HOST_CPU_UTILIZATION: &str = "kina:host_cpu_utilization:ratio_rate5m";
pub const HOST_POWER: &str = "kina:host_power_watts:rate5m";

pub fn group(s: &Settings) -> Group {
    let w = &s.minutes(5.0);
    let hour = &s.hours(1.0);
    let usage = sum_without("cpu", rate(&family(CPU_USAGE), w));
    let capacity = rate(&family(CPU_CAPACITY), w);
    let joules = rate(&family(CONTAINER_ENERGY), w);
    Group {
        name: "kina-cpu",
        rules: vec![
            rule(CPU_USAGE_RATE, "CPU in use, in cores.", &usage),
            rule(
                CPU_USAGE_P95,
                "95th percentile of CPU in use over one hour, in cores.",
                format!("quantile_over_time(0.95, {})", recorded(CPU_USAGE_RATE).over(hour)),
            ),
            rule(CPU_EFFICIENCY, "Share of the allocated core time that was used.", ratio(&usage, &capacity)),
            rule(
                CPU_INTENSITY,
                "Share of the allocated core time that was used in user mode.",
                ratio(rate(&family(CPU_USER), w), &capacity),
            ),
            rule(
                CPU_THROTTLED,
                "Share of enforcement periods in which the container was throttled.",
                ratio(rate(&family(CPU_CFS_THROTTLED_PERIODS), w), rate(&family(CPU_CFS_PERIODS), w)),
            ),
            rule(
                CPU_WAITING,
                "Share of time in which some task waited for a CPU.",
                rate(&family(PRESSURE_CPU_WAITING), w),
            ),
            rule(
                CONTEXT_SWITCH_RATE,
                "Context switches a second.",
                sum_without("kind", rate(&family(CONTEXT_SWITCHES), w)),
            ),
            rule(CONTAINER_POWER, "Power, in watts.", &joules),
            rule(POWER_EFFICIENCY, "CPU seconds for each joule.", ratio(&usage, &joules)),
            rule(
                HOST_CPU_UTILIZATION,
                "Share of the machine's cores in use, by all that runs on it.",
                format!(
                    "sum by (job, instance) ({})\n/ on (job, instance)\n({})\nor\navg by (job, instance) ({})",
                    rate(&machine(CPU_USAGE), w),
                    own(MACHINE_CPU_CORES),
                    format_args!("avg_over_time({})", family(HOST_CORE_UTILIZATION).over(w)),
                ),
            ),
            rule(
                HOST_POWER,
                "Power of the machine's packages (on a Mac the parts of its chip), in watts.",
                sum_without(
                    "domain",
                    rate(&family(HOST_ENERGY).matching(r#"domain=~"package.*|cpu|gpu|ane|dram""#), w),
                ),
            ),
        ],
    }
}

/// A host family that cAdvisor has too, as our exporters alone tell it, by job and instance.
pub fn own(f: FamilyId) -> String {
    format!("max by (job, instance) ({}) and on (job, instance) {}", family(f), family(BUILD_INFO))
}
