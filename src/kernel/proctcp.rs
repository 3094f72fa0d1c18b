//! `/proc/PID/net/tcp` and `tcp6`: the TCP sockets of a network namespace, where a socket-diag dump can't be had. It tells
//! states and addresses, no round-trip times.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::parse::{self, Malformed};

pub const ESTABLISHED: usize = 1;

/// One socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Socket {
    /// As [`crate::snapshot::TCP_STATES`] has them.
    pub state: usize,
    /// An IPv4 address in IPv6's clothes is told as IPv4.
    pub remote: IpAddr,
}

/// The sockets in the order of the file, or `Malformed` for a line that is none.
pub fn parse(bytes: &[u8]) -> impl Iterator<Item = Result<Socket, Malformed>> {
    // A line of column titles comes first.
    parse::lines(bytes).skip(1).map(|l| line(l).ok_or(Malformed))
}

/// `0: 0100007F:1F90 0200A8C0:0050 01 …`: number, local address, remote address, state.
fn line(line: &[u8]) -> Option<Socket> {
    let mut words = parse::words(line).skip(2);
    let remote = words.next()?.split(|b| *b == b':').next()?;
    let state = usize::from(u8::from_str_radix(std::str::from_utf8(words.next()?).ok()?, 16).ok()?);
    // NEW_SYN_RECV is what a listener shows of a request: SYN_RECV to everyone else.
    let state = if state == 12 { 3 } else { state };
    (1..=11).contains(&state).then_some(Socket { state, remote: address(remote)? })
}

/// Words of four bytes each, as the machine has them in memory: little-endian on all that run containers.
fn address(hex: &[u8]) -> Option<IpAddr> {
    let hex = std::str::from_utf8(hex).ok()?;
    let word = |at: usize| Some(u32::from_str_radix(hex.get(at * 8..at * 8 + 8)?, 16).ok()?.to_le_bytes());
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut bytes = [0; 16];
            for (at, part) in bytes.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                *part = word(at)?;
            }
            Some(IpAddr::from(Ipv6Addr::from(bytes)).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDED: &[u8] = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 20123 1 0000000000000000 100 0 0 10 0
   1: 0240A8C0:0050 0340A8C0:C350 01 00000000:00000000 02:000A1B2C 00000000     0        0 20125 2 0000000000000000 20 4 30 10 -1
   2: 0240A8C0:0050 0340A8C0:C352 0C 00000000:00000000 02:000A1B2C 00000000     0        0 0 2 0000000000000000
";
    const RECORDED_6: &[u8] =
        b"  sl  local_address                         remote_address                        st tx_queue
   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000
   1: 0000000000000000FFFF00000240A8C0:1F90 0000000000000000FFFF00000540A8C0:D431 06 00000000:00000000
   2: 5A0000FD0200010000000000010000FE:1F90 B80D0120000000000000000001000000:D431 01 00000000:00000000
";

    #[test]
    fn recorded_sockets_are_read() {
        let all: Vec<_> = parse(RECORDED).map(|s| s.map(|s| (s.state, s.remote.to_string())).unwrap()).collect();
        let web = "192.168.64.3".to_owned();
        assert_eq!(all, [(10, "0.0.0.0".to_owned()), (1, web.clone()), (3, web)]);
        let six: Vec<_> = parse(RECORDED_6).map(|s| s.map(|s| (s.state, s.remote.to_string())).unwrap()).collect();
        assert_eq!(six, [(10, "::".to_owned()), (6, "192.168.64.5".to_owned()), (1, "2001:db8::1".to_owned())]);
    }

    #[test]
    fn bad_lines_cost_themselves_alone() {
        let text = b"titles\n 0: 0:0 0340A8C0:1 01\n 1: 0:0 zz:1 01\n 2: 0:0 0340A8C0:1 FF\n 3: 0:0\n";
        assert_eq!(parse(text).filter(Result::is_ok).count(), 1);
        crate::kernel::fuzz::mutations(RECORDED, |bytes| {
            parse(bytes).filter(Result::is_ok).count();
        });
    }
}
