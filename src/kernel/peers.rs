//! Which container an address belongs to, and how many connections go to each.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::runtime::Identity;

/// Series a container may have of its own peers; the ones with the fewest connections are left out and counted.
pub const MAX_PEERS: usize = 50;

/// The addresses of all containers. Made anew only when containers or addresses change.
#[derive(Debug, Default)]
pub struct AddressBook {
    /// None where two containers have the same address (separate networks may): it tells neither of them.
    owners: HashMap<IpAddr, Option<u32>>,
    /// Containers of one name are one peer: two series must not differ by nothing.
    peers: Vec<Peer>,
    by_name: HashMap<Arc<str>, u32>,
}

#[derive(Debug)]
struct Peer {
    name: Arc<str>,
    connections: u32,
}

impl AddressBook {
    pub fn clear(&mut self) {
        self.owners.clear();
        self.peers.clear();
        self.by_name.clear();
    }

    pub fn add(&mut self, name: &Arc<str>, addresses: &[IpAddr]) {
        let next = self.peers.len() as u32;
        let peer = *self.by_name.entry(name.clone()).or_insert(next);
        if peer == next {
            self.peers.push(Peer { name: name.clone(), connections: 0 });
        }
        for address in addresses.iter().filter(|a| !a.is_loopback() && !a.is_unspecified()) {
            self.owners
                .entry(address.to_canonical())
                .and_modify(|owner| *owner = owner.filter(|o| *o == peer))
                .or_insert(Some(peer));
        }
    }

    /// Counts a connection to `remote`, if that is a container's.
    pub fn count(&mut self, remote: &IpAddr) {
        if let Some(Some(peer)) = self.owners.get(remote)
            && let Some(peer) = self.peers.get_mut(*peer as usize)
        {
            peer.connections += 1;
        }
    }

    /// Hands out what was counted, most connections first, and starts over: how many peers there are, and how many of them
    /// `out` leaves out. The container itself is no peer.
    pub fn take(&mut self, own: &str, out: &mut Vec<(Arc<str>, u32)>) -> (u32, u64) {
        for peer in self.peers.iter_mut().filter(|p| p.connections > 0) {
            let connections = std::mem::take(&mut peer.connections);
            if *peer.name != *own {
                out.push((peer.name.clone(), connections));
            }
        }
        out.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let all = out.len();
        out.truncate(MAX_PEERS);
        (all as u32, (all - out.len()) as u64)
    }
}

/// What a container is called as a peer. A pod's containers share one address: the pod is the peer.
pub fn name(identity: &Identity) -> Arc<str> {
    match identity {
        Identity { pod, namespace, .. } if !pod.is_empty() => format!("{namespace}/{pod}").into(),
        Identity { name, id, .. } if name.is_empty() => id.as_str().into(),
        Identity { name, .. } => name.as_str().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn taken(book: &mut AddressBook, own: &str) -> (Vec<(String, u32)>, u32, u64) {
        let mut out = Vec::new();
        let (all, dropped) = book.take(own, &mut out);
        (out.iter().map(|(n, c)| (n.to_string(), *c)).collect(), all, dropped)
    }

    #[test]
    fn connections_are_counted_by_peer() {
        let mut book = AddressBook::default();
        book.add(&"web".into(), &[address(1)]);
        book.add(&"db".into(), &[address(2), "::ffff:10.0.0.3".parse().unwrap()]);
        for last in [2, 3, 2, 1, 9] {
            book.count(&address(last));
        }
        assert_eq!(taken(&mut book, "web"), (vec![("db".into(), 3)], 1, 0), "not itself, not a stranger");
        assert_eq!(taken(&mut book, "web"), (vec![], 0, 0), "counting starts over");
    }

    #[test]
    fn an_address_of_two_containers_tells_neither() {
        let mut book = AddressBook::default();
        book.add(&"a".into(), &[address(1), address(2)]);
        book.add(&"b".into(), &[address(1), "127.0.0.1".parse().unwrap()]);
        book.add(&"a".into(), &[address(2)]);
        for remote in [address(1), address(2), "127.0.0.1".parse().unwrap()] {
            book.count(&remote);
        }
        assert_eq!(taken(&mut book, "c").0, [("a".into(), 1)]);
    }

    #[test]
    fn peers_beyond_the_limit_are_dropped_and_counted() {
        let mut book = AddressBook::default();
        for i in 0..60 {
            book.add(&format!("peer-{i:02}").into(), &[address(i)]);
            book.count(&address(i));
        }
        book.count(&address(59));
        let (out, all, dropped) = taken(&mut book, "");
        assert_eq!((out.len(), all, dropped), (50, 60, 10));
        assert_eq!(out[0], ("peer-59".into(), 2));
    }

    #[test]
    fn a_pod_is_the_peer_of_its_containers_else_name_else_id() {
        let mut identity = Identity { id: "/x".into(), ..Identity::default() };
        assert_eq!(&*name(&identity), "/x");
        identity.name = "web".into();
        assert_eq!(&*name(&identity), "web");
        identity.pod = "p".into();
        identity.namespace = "ns".into();
        assert_eq!(&*name(&identity), "ns/p");
    }
}
