//! `/proc/PID/net/snmp`: the protocol counters of the process's network namespace.

/// Of TCP (RFC 1213). `OutSegs` leaves out segments that hold only retransmitted octets: the kernel counts a segment
/// there only where it reaches beyond what was sent before, or holds no data (`__tcp_transmit_skb`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tcp {
    pub in_segs: Option<u64>,
    pub out_segs: Option<u64>,
    pub retrans_segs: Option<u64>,
}

/// Finds the two lines of `Tcp:`, titles and values, and reads the columns by their titles: kernels append new ones. None
/// when there are no such lines.
pub fn parse(bytes: &[u8]) -> Option<Tcp> {
    let mut lines = bytes.split(|b| *b == b'\n').filter_map(|l| l.strip_prefix(b"Tcp: "));
    let (titles, values) = (lines.next()?, lines.next()?);
    let columns = |line| <[u8]>::split(line, |b: &u8| *b == b' ');
    let mut tcp = Tcp::default();
    for (title, value) in columns(titles).zip(columns(values)) {
        let field = match title {
            b"InSegs" => &mut tcp.in_segs,
            b"OutSegs" => &mut tcp.out_segs,
            b"RetransSegs" => &mut tcp.retrans_segs,
            _ => continue,
        };
        *field = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
    }
    Some(tcp)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDED: &[u8] = b"\
Ip: Forwarding DefaultTTL InReceives
Ip: 1 64 5
Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs OutSegs RetransSegs InErrs OutRsts InCsumErrors
Tcp: 1 200 120000 -1 36 35 0 2 2 5475 5471 17 0 33 0
Udp: InDatagrams NoPorts
Udp: 2 0
";

    #[test]
    fn columns_are_found_by_their_titles() {
        assert_eq!(parse(RECORDED), Some(Tcp { in_segs: Some(5475), out_segs: Some(5471), retrans_segs: Some(17) }));
        let older = b"Tcp: RetransSegs X OutSegs\nTcp: 1 -1 3\n";
        assert_eq!(parse(older), Some(Tcp { in_segs: None, out_segs: Some(3), retrans_segs: Some(1) }));
    }

    #[test]
    fn what_is_not_there_or_no_number_is_absent() {
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"Tcp: OutSegs\n"), None);
        assert_eq!(parse(b"Tcp: OutSegs RetransSegs\nTcp: -4 99999999999999999999\n"), Some(Tcp::default()));
        let cut = b"Tcp: OutSegs RetransSegs\nTcp: 4";
        assert_eq!(parse(cut), Some(Tcp { in_segs: None, out_segs: Some(4), retrans_segs: None }));
    }

    #[test]
    fn cut_and_changed_bytes_never_panic() {
        crate::kernel::fuzz::mutations(RECORDED, |bytes| {
            parse(bytes);
        });
    }
}
