//! Error budgets that are spent too fast: two windows each, so that an alert is neither late nor long after the fact.
//! Factors and windows are those of the SRE workbook (chapter 5) for a budget of 30 days.

use super::*;
use crate::catalog::*;
use crate::generate::promql::*;
use crate::generate::rules::service_levels::{SERVICE_LEVELS, ServiceLevel};
use crate::generate::rules::{startup, storage};
use crate::targets::{ERROR_RATE, SLO_MINIMUM_BAD_EVENTS, SLO_MINIMUM_EVENTS, STARTUP_TIME_P95, STORAGE_LATENCY_P99};

/// (severity, long window and short window as places in [`ServiceLevel::ratios`], factor, seconds to hold)
const BURNS: [(Severity, usize, usize, f64, f64); 4] = [
    (Severity::Critical, 2, 0, 14.4, 2.0 * MINUTE),
    (Severity::Critical, 4, 1, 6.0, 15.0 * MINUTE),
    (Severity::Warning, 5, 3, 3.0, HOUR),
    (Severity::Warning, 6, 4, 1.0, 3.0 * HOUR),
];

pub fn alerts(s: &Settings) -> Vec<Alert> {
    SERVICE_LEVELS.iter().map(|level| alert(level, s)).collect()
}

fn alert(level: &ServiceLevel, s: &Settings) -> Alert {
    let value = s.targets.get(level.target);
    let budget = level.budget.unwrap_or(value);
    let (name, dashboard, promise, runbook) = if level.target == STARTUP_TIME_P95 {
        ("KinaStartupTimeBudgetBurn", "kina-startup", format!("start within {value} s"), startups())
    } else if level.target == STORAGE_LATENCY_P99 {
        ("KinaStorageLatencyBudgetBurn", "kina-storage", format!("are served within {value} s"), storage_latency())
    } else {
        debug_assert_eq!(level.target, ERROR_RATE);
        ("KinaErrorRateBudgetBurn", "kina-overview", "end well".to_owned(), errors())
    };
    let what = match level.target {
        STARTUP_TIME_P95 => "container starts",
        STORAGE_LATENCY_P99 => "block requests",
        _ => "container starts and exits",
    };
    Alert {
        name,
        summary: format!("{{{{ $labels.instance }}}} spends its error budget for {what} too fast."),
        description: format!(
            "{{{{ $value | humanizePercentage }}}} of {what} did not {} in the last {{{{ $labels.long }}}}; {}% may.",
            promise.replace("are served", "get served"),
            budget * 100.0
        ),
        advice: (level.target != ERROR_RATE).then_some(Advice {
            domain: if level.target == STARTUP_TIME_P95 { "startup" } else { "storage" },
            labels: &["job", "instance"],
        }),
        dashboard,
        conditions: BURNS.into_iter().map(|burn| condition(level, budget, burn, s)).collect(),
        runbook,
    }
}

fn condition(
    level: &ServiceLevel,
    budget: f64,
    (severity, long, short, factor, hold): (Severity, usize, usize, f64, f64),
    s: &Settings,
) -> Condition {
    let ((long_ratio, long), (short_ratio, short)) = (level.ratios[long], level.ratios[short]);
    let limit = (factor * budget * 1e9).round() / 1e9;
    let enough = |sum, least| format!("({}) >= {}", level.events(sum, long, s), s.targets.get(least));
    let expr = format!(
        "{} > {limit}\nand {} > {limit}\nand {}\nand {}",
        recorded(long_ratio),
        recorded(short_ratio),
        enough(level.all, SLO_MINIMUM_EVENTS),
        enough(level.bad, SLO_MINIMUM_BAD_EVENTS),
    );
    let labels = vec![("long", duration(long)), ("short", duration(short))];
    Condition { labels, ..Condition::new(severity, hold, expr) }
}

fn startups() -> Runbook {
    Runbook {
        meaning: "More starts than the budget allows (5 %, for a 95th percentile) took longer than the target, over a long \
                  and over a short window. At this rate the budget of 30 days is gone in two days (critical, 1 h and 5 m), \
                  five days (critical, 6 h and 30 m), ten days or thirty (warning).",
        impact: "Deployments and restarts are slower than promised, now and not only once.",
        diagnosis: vec![
            ("Which phase is slow.", recorded(startup::PHASE_P95).to_string()),
            ("Which images are slow.", format!("topk(10, {})", recorded(startup::IMAGE_STARTUP_P95))),
            ("Whether more starts than usual are cold.", recorded(startup::RUNTIME_COLD_STARTS).to_string()),
        ],
        remedy: &[
            "Compare the slow phase with an hour when starts were fast: `image` asks for the registry, `process` and `init` for the host's CPU and disk.",
            "Follow the startup advice for the slowest images.",
            "If the target does not fit your images, change `targets.startup_time_p95` in the exporter's configuration and generate the rules anew from it.",
        ],
    }
}

fn storage_latency() -> Runbook {
    Runbook {
        meaning: "More block requests than the budget allows (1 %, for a 99th percentile) took longer than the target, \
                  over a long and over a short window.",
        impact: "Databases and everything that waits for `fsync` slow down; queues build up in front of the device.",
        diagnosis: vec![
            ("Which containers see slow requests.", format!("topk(10, {})", recorded(storage::STORAGE_P99))),
            ("Which devices are slow, for everyone.", format!("topk(10, {})", recorded(storage::DEVICE_LATENCY_MEAN))),
            (
                "Who causes the load.",
                format!("topk(10, {} + {})", recorded(storage::READ_OPERATIONS), recorded(storage::WRITE_OPERATIONS)),
            ),
            ("How many requests wait.", family(DEVICE_QUEUE_DEPTH).to_string()),
        ],
        remedy: &[
            "One container causes the load: limit it (`io.max`, `--device-read-iops`) or move it to another device.",
            "The device is slow for everyone: look at its health, at write-back and at the scheduler; a shared network volume may be throttled by its provider.",
            "Follow the storage advice (`reduce_io_latency`, `enlarge_cache`).",
        ],
    }
}

fn errors() -> Runbook {
    Runbook {
        meaning: "Failed starts, non-zero exits and OOM kills, as a share of all starts and exits, exceed the target over a \
                  long and over a short window.",
        impact: "Containers crash or fail to start more often than promised: users see errors, or a service runs with fewer \
                 instances than it should.",
        diagnosis: vec![
            (
                "Which images end badly, and how.",
                by("sum", "image, reason", increase(&family(EXITS).matching(r#"reason!~"ok|unknown""#), "1h")),
            ),
            ("Which images fail to start.", by("sum", "image, reason", increase(&family(START_FAILURES), "1h"))),
            ("Whether memory is the cause.", family(OOM_EVENTS).to_string()),
        ],
        remedy: &[
            "`oom`: see KinaContainerOomKilled. `error`: read the container's log for the exit code. `signal`: find who stopped it; a container that does not handle SIGTERM is killed at every deployment.",
            "A crash loop makes many events from one cause: stop it, then look at what remains.",
            "Jobs that end with a non-zero status by design belong in an image of their own: exclude it, or raise `targets.error_rate`.",
        ],
    }
}
