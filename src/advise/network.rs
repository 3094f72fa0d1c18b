use super::{Action, Case, Figures, percent};
use crate::targets;

pub(super) fn rules(c: &mut Case<'_>) {
    let m = *c.measures;
    if c.over(Action::DedicatedNetwork, m.fanout, targets::HIGH_FANOUT)
        && let Some(peers) = m.fanout
    {
        let limit = c.targets.get(targets::HIGH_FANOUT);
        let finding = format_args!("it talks to {peers} other containers, more than {limit}: it is a hub");
        let advice = format_args!("give the hub and its spokes a network of their own, made for high throughput");
        let figures = Figures { current: Some(peers), recommended: Some(limit), savings_bytes: None };
        c.recommend(Action::DedicatedNetwork, finding, advice, figures);
    }
    if c.over(Action::ReduceLatency, m.round_trip, targets::HIGH_NETWORK_LATENCY)
        && let Some(rtt) = m.round_trip
    {
        let limit = c.targets.get(targets::HIGH_NETWORK_LATENCY);
        let finding = format_args!("the median round trip takes {:.1} ms, above {:.1} ms", rtt * 1e3, limit * 1e3);
        let advice = format_args!("route directly or bypass the kernel; else cache, or use hardware acceleration");
        let figures = Figures { current: Some(rtt), recommended: Some(limit), savings_bytes: None };
        c.recommend(Action::ReduceLatency, finding, advice, figures);
    }
    if c.over(Action::IncreaseBandwidth, m.bandwidth, targets::HIGH_BANDWIDTH)
        && let Some(used) = m.bandwidth
    {
        let limit = c.targets.get(targets::HIGH_BANDWIDTH);
        let finding = format_args!("{} of the link's speed is in use, above {}", percent(used), percent(limit));
        let advice = format_args!("more interfaces, hardware acceleration, compression offload, or load balancing");
        let figures = Figures { current: Some(used), recommended: Some(limit), savings_bytes: None };
        c.recommend(Action::IncreaseBandwidth, finding, advice, figures);
    }
}
