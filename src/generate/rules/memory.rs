use super::{Group, rule};
use crate::catalog::*;
use crate::generate::Settings;
use crate::generate::promql::*;

pub const MEMORY_EFFICIENCY_MEAN: &str = "kina:container_memory_efficiency:avg5m";
pub const WORKING_SET_RATIO: &str = "kina:container_memory_working_set:ratio";
pub const WORKING_SET_P95: &str = "kina:container_memory_working_set_bytes:p95_1h";
pub const PAGE_CACHE_RATIO: &str = "kina:container_memory_page_cache:ratio";
pub const MAJOR_FAULTS: &str = "kina:container_memory_major_faults:rate5m";
pub const REFAULTS: &str = "kina:container_memory_refaults:rate5m";
pub const MEMORY_WAITING: &str = "kina:container_memory_pressure_waiting:ratio_rate5m";
pub const MEMORY_STALLED: &str = "kina:container_memory_pressure_stalled:ratio_rate5m";
pub const OOM_KILLS: &str = "kina:container_oom_kills:increase1h";
pub const VM_RECLAIMABLE: &str = "kina:vm_reclaimable_memory_bytes:diff";

pub fn group(s: &Settings) -> Group {
    let w = &s.minutes(5.0);
    let hour = &s.hours(1.0);
    let allocated = family(MEMORY_ALLOCATED);
    let major = family(MEMORY_FAILURES).eq("failure_type", "pgmajfault").eq("scope", "hierarchy");
    Group {
        name: "kina-memory",
        rules: vec![
            rule(
                MEMORY_EFFICIENCY_MEAN,
                "(process + shared libraries) ÷ allocated memory, mean over five minutes.",
                format!("avg_over_time({})", family(MEMORY_EFFICIENCY).over(w)),
            ),
            rule(
                WORKING_SET_RATIO,
                "Share of the allocation that the working set takes.",
                ratio(family(MEMORY_WORKING_SET), &allocated),
            ),
            rule(
                WORKING_SET_P95,
                "95th percentile of the working set over one hour, in bytes: what an allocation must hold.",
                format!("quantile_over_time(0.95, {})", family(MEMORY_WORKING_SET).over(hour)),
            ),
            rule(
                PAGE_CACHE_RATIO,
                "Share of the allocation that the page cache takes.",
                format!("sum without (kind) ({})\n/\n({allocated} > 0)", family(MEMORY_KIND).eq("kind", "page_cache")),
            ),
            rule(
                MAJOR_FAULTS,
                "Page faults a second that had to read from storage.",
                sum_without("failure_type, scope", rate(&major, w)),
            ),
            rule(
                REFAULTS,
                "Evicted pages that were needed again, a second.",
                format!("{} + {}", rate(&family(MEMORY_REFAULT_FILE), w), rate(&family(MEMORY_REFAULT_ANON), w)),
            ),
            rule(
                MEMORY_WAITING,
                "Share of time in which some task waited for memory.",
                rate(&family(PRESSURE_MEMORY_WAITING), w),
            ),
            rule(
                MEMORY_STALLED,
                "Share of time in which all tasks waited for memory.",
                rate(&family(PRESSURE_MEMORY_STALLED), w),
            ),
            rule(OOM_KILLS, "OOM kills in the last hour.", increase(&family(OOM_EVENTS), hour)),
            rule(
                VM_RECLAIMABLE,
                "Memory that the guest freed and the host still holds, in bytes.",
                format!("{} - {}", family(VM_HOST_MEMORY), family(VM_GUEST_USED)),
            ),
        ],
    }
}
