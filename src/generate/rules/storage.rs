use super::{Group, rule};
use crate::catalog::*;
use crate::generate::Settings;
use crate::generate::promql::*;

pub const READ_OPERATIONS: &str = "kina:container_storage_reads:rate5m";
pub const WRITE_OPERATIONS: &str = "kina:container_storage_writes:rate5m";
pub const READ_BYTES: &str = "kina:container_storage_read_bytes:rate5m";
pub const WRITE_BYTES: &str = "kina:container_storage_write_bytes:rate5m";
pub const STORAGE_BUCKETS: &str = "kina:container_storage_latency_seconds_bucket:rate5m";
pub const STORAGE_P50: &str = "kina:container_storage_latency_seconds:p50_5m";
pub const STORAGE_P95: &str = "kina:container_storage_latency_seconds:p95_5m";
pub const STORAGE_P99: &str = "kina:container_storage_latency_seconds:p99_5m";
pub const CACHE_HIT: &str = "kina:container_storage_cache_hit:ratio_rate5m";
pub const STORAGE_EFFICIENCY: &str = "kina:container_storage_efficiency:ratio_rate5m";
pub const DEVICE_LATENCY_MEAN: &str = "kina:device_io_latency_seconds:mean5m";

pub fn group(s: &Settings) -> Group {
    let w = &s.minutes(5.0);
    let all = |f: FamilyId| sum_without("device", rate(&family(f), w));
    let latency = |q: f64| quantile(q, recorded(STORAGE_BUCKETS));
    Group {
        name: "kina-storage",
        rules: vec![
            rule(READ_OPERATIONS, "Reads a second.", all(FS_READS)),
            rule(WRITE_OPERATIONS, "Writes a second.", all(FS_WRITES)),
            rule(READ_BYTES, "Bytes read a second.", all(FS_READS_BYTES)),
            rule(WRITE_BYTES, "Bytes written a second.", all(FS_WRITES_BYTES)),
            rule(
                STORAGE_BUCKETS,
                "Block requests a second, reads and writes, by latency.",
                sum_without("op", rate(&buckets(STORAGE_LATENCY), w)),
            ),
            rule(STORAGE_P50, "Median block request latency, in seconds.", latency(0.5)),
            rule(STORAGE_P95, "95th percentile of block request latency, in seconds.", latency(0.95)),
            rule(STORAGE_P99, "99th percentile of block request latency, in seconds.", latency(0.99)),
            rule(
                CACHE_HIT,
                "1 − bytes read from devices ÷ bytes that the processes asked for, at least 0.",
                format!(
                    "clamp_min(\n  1 - {}\n  /\n  ({} > 0),\n  0\n)",
                    all(FS_READS_BYTES),
                    rate(&family(STORAGE_LOGICAL_READ), w)
                ),
            ),
            rule(
                STORAGE_EFFICIENCY,
                "Share of time not fully stalled on I/O.",
                format!("1 - {}", rate(&family(PRESSURE_IO_STALLED), w)),
            ),
            rule(
                DEVICE_LATENCY_MEAN,
                "Mean latency of a device's requests, queueing included, by operation, in seconds.",
                ratio(rate(&sum_of(DEVICE_IO_LATENCY), w), rate(&count_of(DEVICE_IO_LATENCY), w)),
            ),
        ],
    }
}
