//! When a container first listens: a look at its namespace's socket tables, often at first, then less, then no more.
//!
//! The kernel tells nobody that a socket began to listen, so this is the one thing that is polled between scrapes: for a
//! bounded time after the start of a container that has a namespace of its own and no health check.

use std::time::Duration;

use crate::kernel::sockstat;
use crate::root::{Nanos, Root};

/// The two families' tables, and where the kernel tells how many sockets are in each.
const FAMILIES: [(&str, &str); 2] = [("net/tcp", "net/sockstat"), ("net/tcp6", "net/sockstat6")];

/// Waits until the process's network namespace has a listening TCP socket; the boot clock's time at which it was seen.
/// None after `limit`, when the process is gone, or when it has the host's network.
pub async fn first(root: &Root, pid: u32, limit: Duration) -> Option<Nanos> {
    let process = root.procfs.join(pid.to_string());
    let own = root.read_link(&process.join("ns/net")).ok()?;
    let host = root.read_link(&root.procfs.join("1/ns/net")).ok();
    if host.is_some_and(|h| h == own) {
        return None;
    }
    let begin = root.clock.boot();
    let mut families = FAMILIES.map(|_| Family::default());
    loop {
        let waited = Duration::from_nanos((root.clock.boot() - begin).max(0).unsigned_abs());
        let mut gone = 0;
        for (family, (table, count)) in families.iter_mut().zip(FAMILIES) {
            // A table costs the kernel a millisecond and more.
            match root.read_bytes(&process.join(count)) {
                Ok(text) if !family.looks(sockstat::parse(&text).map(|tcp| tcp.in_use), waited) => {}
                Ok(_) => match root.read_bytes(&process.join(table)) {
                    Ok(text) if listens(&text) => return Some(root.clock.boot()),
                    Ok(_) => {}
                    Err(_) => gone += 1,
                },
                Err(_) => gone += 1,
            }
        }
        if gone == families.len() || waited >= limit {
            return None;
        }
        tokio::time::sleep(pause(waited)).await;
    }
}

/// How many sockets there were at the last look, and when the table was last read.
#[derive(Default)]
struct Family {
    sockets: u64,
    waited: Duration,
}

impl Family {
    /// Whether the table is worth reading: there are sockets, and not as many as at the last look. One may have taken
    /// another's place: it is read as well when twice the time has passed.
    fn looks(&mut self, sockets: Option<u64>, waited: Duration) -> bool {
        let sockets = sockets.unwrap_or(u64::MAX);
        let looks = sockets > 0 && (sockets != self.sockets || waited >= self.waited * 2);
        if looks {
            self.waited = waited;
        }
        self.sockets = sockets;
        looks
    }
}

/// A hundredth of what has passed is precise enough: about 10 ms at first, then one look in 1 % more time.
fn pause(waited: Duration) -> Duration {
    (waited / 20).clamp(Duration::from_millis(10), Duration::from_millis(500))
}

/// Whether a table of `/proc/net/tcp` has a socket in state 0A (LISTEN), Docker's name server in each namespace
/// (127.0.0.11) left out.
fn listens(table: &[u8]) -> bool {
    table.split(|b| *b == b'\n').skip(1).any(|line| {
        let mut words = line.split(|b| *b == b' ').filter(|w| !w.is_empty()).skip(1);
        let local = words.next().unwrap_or_default();
        let state = words.nth(1).unwrap_or_default();
        state == b"0A" && !local.starts_with(b"0B00007F:")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    #[test]
    fn a_listening_socket_is_told_from_others() {
        let table = |local: &str, state: &str| format!("{HEAD}   0: {local} 00000000:0000 {state} 00000000:00000000\n");
        assert!(listens(table("00000000:0050", "0A").as_bytes()));
        assert!(!listens(table("00000000:0050", "01").as_bytes()));
        assert!(!listens(table("0B00007F:9C41", "0A").as_bytes()), "Docker's own name server");
        assert!(!listens(HEAD.as_bytes()));
        assert!(!listens(b""));
        assert!(!listens(b"\n\n0A\n: 0A"));
    }

    #[test]
    fn a_table_is_read_when_the_count_of_its_sockets_changes() {
        let ms = Duration::from_millis;
        let mut family = Family::default();
        let seen = [(0, 10), (1, 20), (1, 30), (2, 35), (2, 50), (2, 70), (0, 80), (2, 90), (2, 200)];
        let looks = seen.map(|(sockets, waited)| family.looks(Some(sockets), ms(waited)));
        assert_eq!(looks, [false, true, false, true, false, true, false, true, true]);
        assert!(family.looks(None, ms(201)), "not counted: read");
    }

    #[test]
    fn looks_are_bounded() {
        let mut waited = Duration::ZERO;
        let mut looks = 0;
        while waited < Duration::from_secs(30) {
            waited += pause(waited);
            looks += 1;
        }
        assert!(looks < 200, "{looks}");
    }
}
