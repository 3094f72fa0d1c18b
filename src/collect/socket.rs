//! TCP sockets of each network namespace: states, round-trip time, peers.

use super::each;
use crate::catalog::*;
use crate::config::Config;
use crate::sample::{Entity, Samples};
use crate::snapshot::{Snapshot, SocketFacts, TCP_STATES};

pub fn emit(snapshot: &Snapshot, entities: &[Entity], config: &Config, out: &mut Samples) {
    for (facts, entity) in each(snapshot, entities) {
        let sockets = &facts.sockets;
        states(sockets, entity, TCP_CONNECTIONS, "state", out);
        if config.profile_cadvisor {
            states(sockets, entity, NETWORK_TCP_USAGE, "tcp_state", out);
        }
        if let Some(rtt) = &sockets.rtt {
            out.push_histogram(NETWORK_RTT, entity, &[], rtt);
        }
        for (peer, connections) in &sockets.peers {
            out.push_with(PEER_CONNECTIONS, entity, &[("peer", peer)], f64::from(*connections));
        }
        out.push_opt(NETWORK_FANOUT, entity, sockets.fanout);
    }
}

fn states(sockets: &SocketFacts, entity: Entity, family: FamilyId, label: &str, out: &mut Samples) {
    let counts = sockets.states.iter().flatten().zip(TCP_STATES);
    for (count, state) in counts.filter(|(_, state)| !state.is_empty()) {
        out.push_with(family, entity, &[(label, state)], f64::from(*count));
    }
}
