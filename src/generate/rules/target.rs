//! Every optimisation target: actual, met, and over the last day how much of the time it was met.
//!
//! The value to meet is read from `kina_target`, so that it is the one in force in the exporter.

use super::fleet::FLEET;
use super::{Group, Rule, cpu, fleet, memory, network, rule, service_levels, startup, storage};
use crate::catalog::*;
use crate::generate::Settings;
use crate::generate::promql::*;
use crate::targets::{self, Bound, FigureId};

pub const TARGET_ACTUAL: &str = "kina:target:actual";
pub const TARGET_MET: &str = "kina:target:met";
pub const TARGET_ATTAINMENT: &str = "kina:target:attainment_ratio";

/// Names of the rules of one target at one level.
struct Level {
    target: FigureId,
    actual: &'static str,
    met: &'static str,
    about: &'static str,
    source: &'static str,
}

macro_rules! levels {
    ($($actual:ident, $met:ident = $name:literal $target:ident from $source:expr, $about:literal;)*) => {
        $(
            pub const $actual: &str = concat!("kina:target_", $name, ":actual");
            pub const $met: &str = concat!("kina:target_", $name, ":met");
        )*
        const LEVELS: &[Level] = &[$(Level {
            target: targets::$target,
            actual: $actual,
            met: $met,
            about: $about,
            source: $source,
        }),*];
    };
}

levels! {
    STARTUP_ACTUAL, STARTUP_MET = "startup_time_p95" STARTUP_TIME_P95 from startup::RUNTIME_STARTUP_P95,
        "startup_time_p95 of each runtime";
    IMAGE_STARTUP_ACTUAL, IMAGE_STARTUP_MET = "startup_time_p95_image" STARTUP_TIME_P95 from startup::IMAGE_STARTUP_P95,
        "startup_time_p95 of each image";
    MEMORY_ACTUAL, MEMORY_MET = "memory_efficiency" MEMORY_EFFICIENCY from memory::MEMORY_EFFICIENCY_MEAN,
        "memory_efficiency of each container";
    CPU_ACTUAL, CPU_MET = "cpu_utilization_avg" CPU_UTILIZATION_AVG from cpu::CPU_EFFICIENCY,
        "cpu_utilization_avg of each container";
    HOST_CPU_ACTUAL, HOST_CPU_MET = "cpu_utilization_avg_host" CPU_UTILIZATION_AVG from cpu::HOST_CPU_UTILIZATION,
        "cpu_utilization_avg of each host";
    NETWORK_ACTUAL, NETWORK_MET = "network_latency_p50" NETWORK_LATENCY_P50 from network::RTT_P50,
        "network_latency_p50 of each container";
    STORAGE_ACTUAL, STORAGE_MET = "storage_latency_p99" STORAGE_LATENCY_P99 from storage::STORAGE_P99,
        "storage_latency_p99 of each container";
    ERROR_ACTUAL, ERROR_MET = "error_rate" ERROR_RATE from service_levels::INSTANCE_ERROR_RATIO,
        "error_rate of each host";
}

pub fn group(s: &Settings) -> Group {
    let mut rules = Vec::new();
    for level in LEVELS {
        rules.push(rule(level.actual, level.about, recorded(level.source)));
        rules.push(rule(level.met, "1 while it meets the target in force, else 0.", met(level)));
    }
    rules.extend(fleet_actuals());
    rules.push(rule(TARGET_MET, "1 while the fleet meets the target in force, else 0.", fleet_met()));
    rules.push(rule(
        TARGET_ATTAINMENT,
        "Share of the last 24 h in which the fleet met the target; time without a measure does not count.",
        format!("avg_over_time({})", recorded(TARGET_MET).over(&s.hours(24.0))),
    ));
    Group { name: "kina-targets", rules }
}

fn bound(target: FigureId) -> Bound {
    targets::targets().find(|(id, _)| *id == target).map_or(Bound::Below, |(_, bound)| bound)
}

fn met(level: &Level) -> String {
    format!(
        "{} {} bool on (job, instance) group_left () {}",
        recorded(level.actual),
        bound(level.target).operator(),
        family(TARGET).eq("target", level.target.name())
    )
}

fn fleet_actuals() -> Vec<Rule> {
    let le = "cluster, job, le";
    [
        (targets::STARTUP_TIME_P95, quantile(0.95, by("sum", le, recorded(startup::IMAGE_STARTUP_BUCKETS)))),
        (targets::MEMORY_EFFICIENCY, recorded(fleet::FLEET_MEMORY_EFFICIENCY).to_string()),
        (targets::CPU_UTILIZATION_AVG, recorded(fleet::FLEET_CPU_UTILIZATION).to_string()),
        (targets::NETWORK_LATENCY_P50, quantile(0.5, by("sum", le, recorded(network::RTT_BUCKETS)))),
        (targets::STORAGE_LATENCY_P99, quantile(0.99, by("sum", le, recorded(storage::STORAGE_BUCKETS)))),
        (targets::ERROR_RATE, recorded(fleet::FLEET_ERROR_RATIO).to_string()),
    ]
    .into_iter()
    .map(|(id, expr)| Rule {
        labels: vec![("target", id.name())],
        ..rule(TARGET_ACTUAL, "The fleet's actual value.", expr)
    })
    .collect()
}

/// Each way to compare in its turn: a target has one of them.
fn fleet_met() -> String {
    let value = by("min", &format!("{FLEET}, target"), family(TARGET));
    let compare = |bound: Bound| {
        let names: Vec<_> = targets::targets().filter(|(_, b)| *b == bound).map(|(id, _)| id.name()).collect();
        let actual = recorded(TARGET_ACTUAL).matching(format!("target=~\"{}\"", names.join("|")));
        format!("{actual} {} bool on ({FLEET}, target) {value}", bound.operator())
    };
    [Bound::Below, Bound::AtMost, Bound::AtLeast].map(compare).join("\nor\n")
}
