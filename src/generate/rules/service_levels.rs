//! Service levels: how fast the error budgets of startup_time_p95, storage_latency_p99 and error_rate are spent.
//!
//! Events are summed by exporter first. Such a sum starts at 0 with the exporter, so that the first event of a new
//! image counts, and long windows read one series instead of thousands.

use super::{Group, Rule, fleet, rule};
use crate::catalog::*;
use crate::generate::Settings;
use crate::generate::promql::*;
use crate::targets;

pub const STARTUPS: &str = "kina:instance_startups:sum";
pub const STARTUPS_SLOW: &str = "kina:instance_startups_over_target:sum";
pub const LIFECYCLE_EVENTS: &str = "kina:instance_lifecycle_events:sum";
pub const LIFECYCLE_ERRORS: &str = "kina:instance_lifecycle_errors:sum";
pub const STORAGE_REQUESTS: &str = "kina:instance_storage_requests:rate5m";
pub const STORAGE_SLOW: &str = "kina:instance_storage_requests_over_target:rate5m";
pub const INSTANCE_ERROR_RATIO: &str = "kina:instance_errors:ratio_increase1h";

/// One service level: which recorded sums, and which share of events may be bad.
#[derive(Debug, Clone, Copy)]
pub struct ServiceLevel {
    pub target: targets::FigureId,
    pub bad: &'static str,
    pub all: &'static str,
    /// The sums are rates already (many events), not counters.
    pub rates: bool,
    /// Share of events that may be bad; None: the target itself is that share.
    pub budget: Option<f64>,
    /// Recorded share of bad events, by window.
    pub ratios: [(&'static str, f64); 7],
}

macro_rules! ratios {
    ($name:literal) => {
        [
            (concat!("kina:slo_", $name, ":ratio_rate5m"), 5.0 * 60.0),
            (concat!("kina:slo_", $name, ":ratio_rate30m"), 30.0 * 60.0),
            (concat!("kina:slo_", $name, ":ratio_rate1h"), 3600.0),
            (concat!("kina:slo_", $name, ":ratio_rate2h"), 2.0 * 3600.0),
            (concat!("kina:slo_", $name, ":ratio_rate6h"), 6.0 * 3600.0),
            (concat!("kina:slo_", $name, ":ratio_rate1d"), 24.0 * 3600.0),
            (concat!("kina:slo_", $name, ":ratio_rate3d"), 72.0 * 3600.0),
        ]
    };
}

pub const SERVICE_LEVELS: [ServiceLevel; 3] = [
    ServiceLevel {
        target: targets::STARTUP_TIME_P95,
        bad: STARTUPS_SLOW,
        all: STARTUPS,
        rates: false,
        budget: Some(0.05),
        ratios: ratios!("startup_time_p95"),
    },
    ServiceLevel {
        target: targets::STORAGE_LATENCY_P99,
        bad: STORAGE_SLOW,
        all: STORAGE_REQUESTS,
        rates: true,
        budget: Some(0.01),
        ratios: ratios!("storage_latency_p99"),
    },
    ServiceLevel {
        target: targets::ERROR_RATE,
        bad: LIFECYCLE_ERRORS,
        all: LIFECYCLE_EVENTS,
        rates: false,
        budget: None,
        ratios: ratios!("error_rate"),
    },
];

impl ServiceLevel {
    /// Events of one of the sums over a window.
    pub fn events(&self, sum: &str, window: f64, s: &Settings) -> String {
        if self.rates {
            let mean = format!("avg_over_time({})", recorded(sum).over(&s.duration(window)));
            format!("{mean} * {}", window * s.time_scale)
        } else {
            increase(&recorded(sum), &s.duration(window))
        }
    }

    fn ratio(&self, window: f64, s: &Settings) -> String {
        if self.rates {
            let mean = |sum| format!("avg_over_time({})", recorded(sum).over(&s.duration(window)));
            ratio(mean(self.bad), mean(self.all))
        } else {
            fleet::error_ratio(&self.events(self.bad, window, s), &self.events(self.all, window, s))
        }
    }
}

pub fn group(s: &Settings) -> Group {
    let w = &s.minutes(5.0);
    let startups = zero_based("runtime, image, start", count_of(STARTUP_DURATION));
    let fast = within(STARTUP_DURATION, s.targets.get(targets::STARTUP_TIME_P95), |bucket| {
        zero_based("runtime, image, start, le", bucket)
    });
    let requests = |f: Selector, le: &str| sum_without(&format!("{IDENTITY}, op{le}"), rate(&f, w));
    let all_requests = requests(count_of(STORAGE_LATENCY), "");
    let fast_requests =
        within(STORAGE_LATENCY, s.targets.get(targets::STORAGE_LATENCY_P99), |bucket| requests(bucket, ", le"));
    let starts = zero_based("runtime, image, start", family(STARTS));
    // An exit whose status nobody tells is neither good nor bad.
    let exits = zero_based("runtime, image, reason", family(EXITS).matching(r#"reason!="unknown""#));
    let bad_exits = zero_based("runtime, image, reason", family(EXITS).matching(r#"reason!~"ok|unknown""#));
    let failures = zero_based("runtime, image, reason", family(START_FAILURES));
    let mut rules = vec![
        rule(STARTUPS, "Starts whose duration is known, since the exporter began.", &startups),
        rule(
            STARTUPS_SLOW,
            "… of them, starts that took longer than the target.",
            format!("({startups})\n-\n({fast})"),
        ),
        rule(LIFECYCLE_EVENTS, "Starts and exits since the exporter began.", format!("({starts})\n+\n({exits})")),
        rule(
            LIFECYCLE_ERRORS,
            "Failed starts and exits that were not ok (OOM kills among them) since the exporter began.",
            format!("({failures})\n+\n({bad_exits})"),
        ),
        rule(STORAGE_REQUESTS, "Block requests of containers, a second.", &all_requests),
        rule(
            STORAGE_SLOW,
            "… of them, requests that took longer than the target.",
            format!("{all_requests}\n-\n({fast_requests})"),
        ),
        rule(
            INSTANCE_ERROR_RATIO,
            "(failed starts + non-zero exits + OOM kills) ÷ (starts + exits of known status) in the last hour; 1 where every start failed.",
            fleet::error_ratio(
                &increase(&recorded(LIFECYCLE_ERRORS), &s.hours(1.0)),
                &increase(&recorded(LIFECYCLE_EVENTS), &s.hours(1.0)),
            ),
        ),
    ];
    rules.extend(SERVICE_LEVELS.iter().flat_map(|level| ratios(level, s)));
    Group { name: "kina-service-levels", rules }
}

fn ratios(level: &ServiceLevel, s: &Settings) -> Vec<Rule> {
    let about = "Share of events that missed the target.";
    level.ratios.iter().map(|(record, window)| rule(record, about, level.ratio(*window, s))).collect()
}

/// Events of a histogram that took no longer than this. Within a bucket they count as spread evenly, as a quantile of the
/// buckets takes them; beyond the last one there is nothing to tell them apart.
fn within(f: FamilyId, seconds: f64, sum: impl Fn(Selector) -> String) -> String {
    let bounds = f.family().buckets;
    let upto = |bound: f64| sum(buckets(f).matching(le(bound)));
    let above = bounds.iter().position(|b| *b >= seconds);
    match above.map(|i| (i.checked_sub(1).map(|below| bounds[below]), bounds[i])) {
        None => bounds.last().map_or_else(|| sum(count_of(f)), |last| upto(*last)),
        Some((_, bound)) if bound == seconds => upto(bound),
        Some((below, bound)) => {
            let low = below.unwrap_or(0.0);
            let share = ((seconds - low) / (bound - low) * 1e6).round() / 1e6;
            let part = format!("({}) * {share}", upto(bound));
            below
                .map_or(part.clone(), |b| format!("({}) * {}\n+\n{part}", upto(b), ((1.0 - share) * 1e6).round() / 1e6))
        }
    }
}

/// A sum over images and runtimes that is 0, not absent, from the exporter's start.
fn zero_based(without: &str, s: Selector) -> String {
    let zero = sum_without("version, revision, rustc, os, arch", family(BUILD_INFO));
    format!("{} or {zero} * 0", sum_without(without, s))
}
