//! Interface and TCP counters of each network namespace.

use super::each;
use crate::catalog::*;
use crate::sample::{Entity, Samples};
use crate::snapshot::{InterfaceFacts, Snapshot};

type Column = (FamilyId, fn(&InterfaceFacts) -> Option<u64>);

const INTERFACE: [Column; 9] = [
    (NET_RX_BYTES, |i| i.rx_bytes),
    (NET_RX_PACKETS, |i| i.rx_packets),
    (NET_RX_DROPPED, |i| i.rx_dropped),
    (NET_RX_ERRORS, |i| i.rx_errors),
    (NET_TX_BYTES, |i| i.tx_bytes),
    (NET_TX_PACKETS, |i| i.tx_packets),
    (NET_TX_DROPPED, |i| i.tx_dropped),
    (NET_TX_ERRORS, |i| i.tx_errors),
    (NET_LINK_SPEED, |i| i.speed_bytes_per_second),
];

pub fn emit(snapshot: &Snapshot, entities: &[Entity], out: &mut Samples) {
    for (facts, entity) in each(snapshot, entities) {
        for interface in &facts.network.interfaces {
            let extra = out.extra(&[("interface", &interface.name)]);
            for (family, value) in INTERFACE {
                if let Some(value) = value(interface) {
                    out.push_extra(family, entity, extra, value as f64);
                }
            }
        }
        out.push_opt(TCP_SENT_SEGMENTS, entity, facts.network.tcp_out_segs);
        out.push_opt(TCP_RETRANSMITTED_SEGMENTS, entity, facts.network.tcp_retrans_segs);
    }
}
