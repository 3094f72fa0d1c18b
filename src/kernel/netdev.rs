//! `/proc/PID/net/dev`: the counters of the interfaces in the process's network namespace.

use crate::root::ReadError;

/// One line; see `Documentation/networking/statistics.rst` for what each counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

/// The interfaces in the order of the file, each a name with its counters, or `Malformed` for a line that is none.
pub fn parse(bytes: &[u8]) -> impl Iterator<Item = Result<(&str, Counters), ReadError>> {
    // Two lines of column titles come first.
    bytes.split(|b| *b == b'\n').skip(2).filter(|l| !l.is_empty()).map(|l| line(l).ok_or(ReadError::Malformed))
}

fn line(line: &[u8]) -> Option<(&str, Counters)> {
    let (name, columns) = std::str::from_utf8(line).ok()?.split_once(':')?;
    let mut values = [0u64; 12];
    let mut columns = columns.split_ascii_whitespace();
    for value in &mut values {
        *value = columns.next()?.parse().ok()?;
    }
    let [rx_bytes, rx_packets, rx_errors, rx_dropped, _, _, _, _, tx_bytes, tx_packets, tx_errors, tx_dropped] = values;
    let counters =
        Counters { rx_bytes, rx_packets, rx_errors, rx_dropped, tx_bytes, tx_packets, tx_errors, tx_dropped };
    Some((name.trim_ascii(), counters)).filter(|(name, _)| !name.is_empty())
}

/// Interfaces that carry no traffic of the container's own, as cAdvisor leaves them out: loopback, and on the host the
/// near ends of the containers' links and their bridges.
pub fn ignored(name: &str) -> bool {
    name == "lo" || ["veth", "docker", "nerdctl"].iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDED: &[u8] = b"\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:    3193      29    0    0    0     0          0         0     3193      29    0    0    0     0       0          0
  eth0: 374554632    8927    1    2    3     4          5         6   520704    5460    7    8    0     0       0          0
wlan0:18446744073709551615 1 0 0 0 0 0 0 9 9 0 0 0 0 0 0
";

    #[test]
    fn a_recorded_file_is_read() {
        let all: Vec<_> = parse(RECORDED).map(Result::unwrap).collect();
        assert_eq!(all.iter().map(|(n, _)| *n).collect::<Vec<_>>(), ["lo", "eth0", "wlan0"]);
        let eth0 = Counters {
            rx_bytes: 374_554_632,
            rx_packets: 8927,
            rx_errors: 1,
            rx_dropped: 2,
            tx_bytes: 520_704,
            tx_packets: 5460,
            tx_errors: 7,
            tx_dropped: 8,
        };
        assert_eq!(all[1].1, eth0);
        assert_eq!(all[2].1.rx_bytes, u64::MAX);
    }

    #[test]
    fn a_bad_line_costs_itself_alone() {
        let text = b"a\nb\n eth0: 1 2 3\n eth1: -1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n\
            eth2: 18446744073709551616 2 3 4 5 6 7 8 9 10 11 12\n garbage\n : 1 2 3 4 5 6 7 8 9 10 11 12\n\xff: 1\n\
            eth3: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n";
        let good: Vec<_> = parse(text).filter_map(Result::ok).map(|(n, _)| n).collect();
        assert_eq!(good, ["eth3"]);
        assert_eq!(parse(text).filter(Result::is_err).count(), 6);
        assert_eq!(parse(b"").count(), 0);
    }

    #[test]
    fn host_ends_of_container_links_are_ignored() {
        for name in ["lo", "veth12ab", "docker0", "nerdctl0"] {
            assert!(ignored(name), "{name}");
        }
        for name in ["eth0", "lowpan0", "enp1s0", "cni0"] {
            assert!(!ignored(name), "{name}");
        }
    }

    #[test]
    fn cut_and_changed_bytes_never_panic() {
        crate::kernel::fuzz::mutations(RECORDED, |bytes| {
            let _ = parse(bytes).filter(Result::is_ok).count();
        });
    }
}
