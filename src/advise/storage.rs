use super::{Action, Case, Figures, percent};
use crate::targets::{self, MB};

pub(super) fn rules(c: &mut Case<'_>) {
    let m = *c.measures;
    if c.over(Action::TuneForIops, m.iops, targets::HIGH_IOPS)
        && let Some(iops) = m.iops
    {
        let limit = c.targets.get(targets::HIGH_IOPS);
        let finding = format_args!("{iops:.0} reads and writes a second, above {limit:.0}");
        let advice = format_args!("NVMe options, queue depth 32, read-ahead 256");
        c.recommend(Action::TuneForIops, finding, advice, Figures { current: Some(iops), ..Figures::default() });
    }
    if c.over(Action::TuneForThroughput, m.throughput, targets::HIGH_THROUGHPUT)
        && let Some(rate) = m.throughput
    {
        let limit = c.targets.get(targets::HIGH_THROUGHPUT);
        let finding = format_args!("{:.0} MB read and written a second, above {:.0}", rate / MB, limit / MB);
        let advice = format_args!("large blocks, asynchronous and direct I/O");
        c.recommend(Action::TuneForThroughput, finding, advice, Figures { current: Some(rate), ..Figures::default() });
    }
    if c.under(Action::EnlargeCache, m.cache_hit_rate, targets::LOW_CACHE_HIT_RATE)
        && let Some(hit) = m.cache_hit_rate
    {
        let size = c.targets.get(targets::CACHE_SIZE);
        let finding = format_args!(
            "{} of what it reads comes from the cache, below {}",
            percent(hit),
            percent(c.targets.get(targets::LOW_CACHE_HIT_RATE))
        );
        let advice = format_args!("a cache of {:.0} MB, least recently used out first", size / MB);
        let figures = Figures { current: None, recommended: Some(size), savings_bytes: None };
        c.recommend(Action::EnlargeCache, finding, advice, figures);
    }
    if c.over(Action::ReduceIoLatency, m.io_latency, targets::HIGH_IO_LATENCY)
        && let Some(latency) = m.io_latency
    {
        let limit = c.targets.get(targets::HIGH_IO_LATENCY);
        let finding = format_args!("a request takes {:.1} ms on average, above {:.1} ms", latency * 1e3, limit * 1e3);
        let advice =
            format_args!("raise its I/O priority, change the scheduler; preallocate, and write asynchronously");
        let figures = Figures { current: Some(latency), recommended: Some(limit), savings_bytes: None };
        c.recommend(Action::ReduceIoLatency, finding, advice, figures);
    }
}
