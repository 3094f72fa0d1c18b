//! Starts are rare events: all of these look back one hour, and count the first event of a series too.

use super::{Group, Rule, rule};
use crate::catalog::*;
use crate::generate::Settings;
use crate::generate::promql::*;

pub const STARTS_BY_KIND: &str = "kina:runtime_starts_by_kind:increase1h";
pub const RUNTIME_STARTS: &str = "kina:runtime_starts:increase1h";
pub const RUNTIME_START_FAILURES: &str = "kina:runtime_start_failures:increase1h";
pub const RUNTIME_START_FAILURE_RATIO: &str = "kina:runtime_start_failures:ratio_increase1h";
pub const RUNTIME_COLD_STARTS: &str = "kina:runtime_cold_starts:ratio_increase1h";
pub const RUNTIME_SLOW_STARTS: &str = "kina:runtime_slow_starts:increase1h";
pub const IMAGE_STARTUP_BUCKETS: &str = "kina:image_startup_duration_seconds_bucket:increase1h";
pub const IMAGE_STARTUP_SUM: &str = "kina:image_startup_duration_seconds_sum:increase1h";
pub const IMAGE_STARTUP_COUNT: &str = "kina:image_startup_duration_seconds_count:increase1h";
pub const IMAGE_STARTUP_MEAN: &str = "kina:image_startup_duration_seconds:mean1h";
pub const IMAGE_STARTUP_P95: &str = "kina:image_startup_duration_seconds:p95_1h";
pub const RUNTIME_STARTUP_MEAN: &str = "kina:runtime_startup_duration_seconds:mean1h";
pub const RUNTIME_STARTUP_P50: &str = "kina:runtime_startup_duration_seconds:p50_1h";
pub const RUNTIME_STARTUP_P95: &str = "kina:runtime_startup_duration_seconds:p95_1h";
pub const RUNTIME_STARTUP_P99: &str = "kina:runtime_startup_duration_seconds:p99_1h";
pub const PHASE_MEAN: &str = "kina:runtime_startup_phase_duration_seconds:mean1h";
pub const PHASE_P95: &str = "kina:runtime_startup_phase_duration_seconds:p95_1h";
pub const IMAGE_CACHE_REQUESTS_GROWN: &str = "kina:image_cache_requests:increase1h";
pub const IMAGE_CACHE_HIT: &str = "kina:image_cache_hit:ratio_increase1h";
pub const VM_POOL_ACQUISITIONS_GROWN: &str = "kina:vm_pool_acquisitions:increase1h";
pub const VM_POOL_HIT: &str = "kina:vm_pool_hit:ratio_increase1h";

pub fn group(s: &Settings) -> Group {
    let mut rules = counts(s);
    rules.extend(durations(s));
    rules.extend(phases(s));
    rules.extend(prepared(s));
    Group { name: "kina-startup", rules }
}

fn counts(s: &Settings) -> Vec<Rule> {
    let grown = |f: FamilyId, without: &str| sum_without(without, grown(&family(f), &s.hours(1.0)));
    let (starts, failures) = (recorded(RUNTIME_STARTS).to_string(), recorded(RUNTIME_START_FAILURES).to_string());
    let (failed, started) = (or_zero(&failures, &starts), or_zero(&starts, &failures));
    vec![
        rule(STARTS_BY_KIND, "Starts in the last hour, by runtime and cold or warm.", grown(STARTS, "image")),
        rule(RUNTIME_STARTS, "Starts in the last hour, by runtime.", sum_without("start", recorded(STARTS_BY_KIND))),
        rule(
            RUNTIME_START_FAILURES,
            "Failed starts in the last hour, by runtime.",
            grown(START_FAILURES, "image, reason"),
        ),
        rule(
            RUNTIME_START_FAILURE_RATIO,
            "Share of requested starts that failed in the last hour, by runtime.",
            ratio(&failed, format!("({failed} + {started})")),
        ),
        rule(
            RUNTIME_COLD_STARTS,
            "Share of starts in the last hour that were cold, by runtime.",
            share(STARTS_BY_KIND, "start", "cold"),
        ),
        rule(RUNTIME_SLOW_STARTS, "Slow starts in the last hour, by runtime and reason.", grown(SLOW_STARTS, "image")),
    ]
}

fn durations(s: &Settings) -> Vec<Rule> {
    let image = |f: Selector| sum_without("start", grown(&f, &s.hours(1.0)));
    let runtime = |record: &str| sum_without("image", recorded(record));
    let p = |q: f64| quantile(q, runtime(IMAGE_STARTUP_BUCKETS));
    vec![
        rule(IMAGE_STARTUP_BUCKETS, "Starts in the last hour by duration.", image(buckets(STARTUP_DURATION))),
        rule(IMAGE_STARTUP_SUM, "Seconds that starts took in the last hour.", image(sum_of(STARTUP_DURATION))),
        rule(IMAGE_STARTUP_COUNT, "Starts of known duration in the last hour.", image(count_of(STARTUP_DURATION))),
        rule(
            IMAGE_STARTUP_MEAN,
            "Mean start duration in the last hour, by image, in seconds.",
            ratio(recorded(IMAGE_STARTUP_SUM), recorded(IMAGE_STARTUP_COUNT)),
        ),
        rule(
            IMAGE_STARTUP_P95,
            "95th percentile of start duration in the last hour, by image.",
            quantile(0.95, recorded(IMAGE_STARTUP_BUCKETS)),
        ),
        rule(
            RUNTIME_STARTUP_MEAN,
            "Mean start duration in the last hour, by runtime, in seconds.",
            ratio(runtime(IMAGE_STARTUP_SUM), runtime(IMAGE_STARTUP_COUNT)),
        ),
        rule(RUNTIME_STARTUP_P50, "Median start duration in the last hour, by runtime.", p(0.5)),
        rule(RUNTIME_STARTUP_P95, "95th percentile of start duration in the last hour, by runtime.", p(0.95)),
        rule(RUNTIME_STARTUP_P99, "99th percentile of start duration in the last hour, by runtime.", p(0.99)),
    ]
}

fn phases(s: &Settings) -> Vec<Rule> {
    let phase = |f: Selector| sum_without("image", grown(&f, &s.hours(1.0)));
    vec![
        rule(
            PHASE_MEAN,
            "Mean duration of each phase in the last hour, by runtime and cold or warm, in seconds.",
            ratio(phase(sum_of(STARTUP_PHASE_DURATION)), phase(count_of(STARTUP_PHASE_DURATION))),
        ),
        rule(
            PHASE_P95,
            "95th percentile of each phase in the last hour, by runtime and cold or warm.",
            quantile(0.95, phase(buckets(STARTUP_PHASE_DURATION))),
        ),
    ]
}

fn prepared(s: &Settings) -> Vec<Rule> {
    let requests = |f: FamilyId| grown(&family(f), &s.hours(1.0));
    vec![
        rule(
            IMAGE_CACHE_REQUESTS_GROWN,
            "Starts in the last hour by whether the image was present.",
            sum_without("", requests(IMAGE_CACHE_REQUESTS)),
        ),
        rule(
            IMAGE_CACHE_HIT,
            "Share of starts whose image was present.",
            share(IMAGE_CACHE_REQUESTS_GROWN, "result", "hit"),
        ),
        rule(
            VM_POOL_ACQUISITIONS_GROWN,
            "Starts in the last hour by whether a prepared VM or container was used.",
            sum_without("", requests(VM_POOL_ACQUISITIONS)),
        ),
        rule(
            VM_POOL_HIT,
            "Share of starts served by a prepared VM or container.",
            share(VM_POOL_ACQUISITIONS_GROWN, "result", "hit"),
        ),
    ]
}

/// The share of a recorded count that one label value has; 0 where only others are there.
fn share(record: &str, label: &str, value: &str) -> String {
    let all = sum_without(label, recorded(record));
    let part = sum_without(label, recorded(record).eq(label, value));
    ratio(or_zero(&part, &all), all)
}
