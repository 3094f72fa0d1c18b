use super::{Group, rule};
use crate::catalog::*;
use crate::generate::Settings;
use crate::generate::promql::*;

pub const RECEIVE_RATE: &str = "kina:container_network_receive_bytes:rate5m";
pub const TRANSMIT_RATE: &str = "kina:container_network_transmit_bytes:rate5m";
pub const NETWORK_DROPS: &str = "kina:container_network_dropped_packets:ratio_rate5m";
pub const PACKET_LOSS: &str = "kina:container_network_packet_loss:ratio_rate5m";
pub const NETWORK_EFFICIENCY: &str = "kina:container_network_efficiency:ratio_rate5m";
pub const BANDWIDTH_UTILIZATION: &str = "kina:container_network_bandwidth_utilization:ratio_rate5m";
pub const RTT_BUCKETS: &str = "kina:container_network_rtt_seconds_bucket:rate5m";
pub const RTT_P50: &str = "kina:container_network_rtt_seconds:p50_5m";
pub const RTT_P95: &str = "kina:container_network_rtt_seconds:p95_5m";
pub const RTT_P99: &str = "kina:container_network_rtt_seconds:p99_5m";

pub fn group(s: &Settings) -> Group {
    let w = &s.minutes(5.0);
    let all = |f: FamilyId| sum_without("interface", rate(&family(f), w));
    let rtt = |q: f64| quantile(q, recorded(RTT_BUCKETS));
    let loss = ratio(rate(&family(TCP_RETRANSMITTED_SEGMENTS), w), rate(&family(TCP_SENT_SEGMENTS), w));
    let (rx, tx) = (rate(&family(NET_RX_BYTES), w), rate(&family(NET_TX_BYTES), w));
    Group {
        name: "kina-network",
        rules: vec![
            rule(RECEIVE_RATE, "Bytes received a second.", all(NET_RX_BYTES)),
            rule(TRANSMIT_RATE, "Bytes sent a second.", all(NET_TX_BYTES)),
            rule(
                NETWORK_DROPS,
                "Share of packets that an interface dropped.",
                ratio(
                    format!("({} + {})", all(NET_RX_DROPPED), all(NET_TX_DROPPED)),
                    format!("({} + {})", all(NET_RX_PACKETS), all(NET_TX_PACKETS)),
                ),
            ),
            rule(PACKET_LOSS, "Retransmitted ÷ sent TCP segments.", &loss),
            rule(NETWORK_EFFICIENCY, "1 − packet loss.", format!("1 - {}", recorded(PACKET_LOSS))),
            rule(
                BANDWIDTH_UTILIZATION,
                "Share of the link's speed in use, of the busier direction of the busiest interface.",
                format!(
                    "max without (interface) (\n  ({rx} > {tx} or {tx})\n  /\n  ({} > 0)\n)",
                    family(NET_LINK_SPEED)
                ),
            ),
            // Recorded once: every percentile of ten thousand containers' buckets would take this rate anew.
            rule(RTT_BUCKETS, "TCP round-trip times observed a second, by duration.", rate(&buckets(NETWORK_RTT), w)),
            rule(RTT_P50, "Median TCP round-trip time, in seconds.", rtt(0.5)),
            rule(RTT_P95, "95th percentile of TCP round-trip time, in seconds.", rtt(0.95)),
            rule(RTT_P99, "99th percentile of TCP round-trip time, in seconds.", rtt(0.99)),
        ],
    }
}
