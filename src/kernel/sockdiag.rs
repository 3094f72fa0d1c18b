//! TCP sockets of a network namespace over `sock_diag` (`include/uapi/linux/inet_diag.h`), and its addresses over
//! rtnetlink.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::netlink::{Answers, Netlink, attributes, u32_at};
use crate::root::ReadError;

/// IPv4 and IPv6 in one dump. Its successor, `SOCK_DIAG_BY_FAMILY`, takes one for each.
const TCPDIAG_GETSOCK: u16 = 18;
const INET_DIAG_INFO: u16 = 2;
/// Of `struct inet_diag_msg`; attributes follow.
const SOCKET_HEAD: usize = 72;
/// `tcpi_rtt` within `struct tcp_info`.
const RTT: usize = 68;
/// All states from ESTABLISHED (bit 1) to CLOSING (bit 11).
const ALL_STATES: u32 = 0xffe;
pub const ESTABLISHED: usize = 1;

/// What is used of one socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Socket {
    /// An index of [`crate::snapshot::TCP_STATES`].
    pub state: usize,
    pub remote: IpAddr,
    /// Smoothed round-trip time in microseconds; None before the first measurement.
    pub rtt_us: Option<u32>,
}

pub struct SockDiag(Netlink);

impl SockDiag {
    /// Opens it in the namespace of the calling thread.
    pub fn open() -> Result<Self, ReadError> {
        Netlink::open(libc::NETLINK_SOCK_DIAG).map(Self)
    }

    pub fn tcp(&mut self, answers: &mut Answers, mut each: impl FnMut(Socket)) -> Result<(), ReadError> {
        // `struct inet_diag_req`: families and lengths, extensions, an empty address, states, no table.
        let mut request = [0u8; 60];
        request[3] = 1 << (INET_DIAG_INFO - 1);
        request[52..56].copy_from_slice(&ALL_STATES.to_ne_bytes());
        let mut sound = Ok(());
        self.0.dump(TCPDIAG_GETSOCK, &request, answers, |message| match socket(message) {
            Some(socket) => each(socket),
            None => sound = Err(ReadError::Malformed),
        })?;
        sound
    }
}

fn socket(message: &[u8]) -> Option<Socket> {
    let state = usize::from(*message.get(1)?);
    if state >= crate::snapshot::TCP_STATES.len() {
        return None;
    }
    let remote = address(*message.first()?, message.get(24..40)?)?;
    let info = attributes(message.get(SOCKET_HEAD..)?).find(|(kind, _)| *kind == INET_DIAG_INFO);
    let rtt_us = info.and_then(|(_, info)| u32_at(info, RTT)).filter(|rtt| *rtt > 0);
    Some(Socket { state, remote, rtt_us })
}

/// IPv4 addresses that an IPv6 socket holds are told as what they are.
fn address(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    match i32::from(family) {
        libc::AF_INET => Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?).into()),
        libc::AF_INET6 => Some(IpAddr::from(Ipv6Addr::from(*bytes.first_chunk::<16>()?)).to_canonical()),
        _ => None,
    }
}

/// The addresses by which others reach the namespace of the calling thread: neither loopback nor link-local.
pub fn addresses(answers: &mut Answers) -> Result<Vec<IpAddr>, ReadError> {
    let mut all = Vec::new();
    Netlink::open(libc::NETLINK_ROUTE)?.dump(libc::RTM_GETADDR, &[0; 8], answers, |message| {
        all.extend(own_address(message));
    })?;
    Ok(all)
}

fn own_address(message: &[u8]) -> Option<IpAddr> {
    // `struct ifaddrmsg`: family, prefix length, flags, scope, interface.
    let (family, scope) = (*message.first()?, *message.get(3)?);
    if scope >= libc::RT_SCOPE_LINK {
        return None;
    }
    // IFA_LOCAL is the near end; IFA_ADDRESS is the far end of a point-to-point link, or all that IPv6 has.
    let find = |wanted: u16| attributes(message.get(8..).unwrap_or_default()).find(|(kind, _)| *kind == wanted);
    let (_, bytes) = find(libc::IFA_LOCAL).or_else(|| find(libc::IFA_ADDRESS))?;
    address(family, bytes)
}

#[cfg(fuzzing)]
pub(super) fn fuzz(bytes: &[u8]) {
    let _ = (socket(bytes), own_address(bytes));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let len = 4 + value.len();
        let mut a = [(len as u16).to_ne_bytes(), kind.to_ne_bytes()].concat();
        a.extend_from_slice(value);
        a.resize(len.next_multiple_of(4), 0);
        a
    }

    fn inet_diag_msg(family: u8, state: u8, remote: &[u8]) -> Vec<u8> {
        let mut m = vec![0; SOCKET_HEAD];
        m[0] = family;
        m[1] = state;
        m[24..24 + remote.len()].copy_from_slice(remote);
        m
    }

    fn with_rtt(mut message: Vec<u8>, rtt: u32) -> Vec<u8> {
        let mut info = vec![0; 248];
        info[RTT..RTT + 4].copy_from_slice(&rtt.to_ne_bytes());
        message.extend(attribute(8, &[0]));
        message.extend(attribute(INET_DIAG_INFO, &info));
        message
    }

    #[test]
    fn a_socket_is_read() {
        let remote = IpAddr::from([10, 0, 0, 7]);
        let message = with_rtt(inet_diag_msg(2, 1, &[10, 0, 0, 7]), 345);
        assert_eq!(socket(&message), Some(Socket { state: ESTABLISHED, remote, rtt_us: Some(345) }));
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 7];
        let message = with_rtt(inet_diag_msg(10, 1, &mapped), 0);
        assert_eq!(socket(&message), Some(Socket { state: ESTABLISHED, remote, rtt_us: None }), "no measurement yet");
        let waiting = inet_diag_msg(2, 6, &[10, 0, 0, 7]);
        assert_eq!(socket(&waiting), Some(Socket { state: 6, remote, rtt_us: None }), "TIME_WAIT has no tcp_info");
    }

    #[test]
    fn what_is_no_socket_is_none() {
        assert_eq!(socket(&inet_diag_msg(2, 12, &[])), None);
        assert_eq!(socket(&inet_diag_msg(99, 1, &[])), None);
        assert_eq!(socket(&inet_diag_msg(2, 1, &[])[..71]), None);
    }

    #[test]
    fn own_addresses_are_those_that_others_reach() {
        let message = |family: u8, scope: u8, attributes: &[Vec<u8>]| {
            own_address(&[vec![family, 24, 0, scope, 2, 0, 0, 0], attributes.concat()].concat())
        };
        let near = attribute(libc::IFA_LOCAL, &[10, 1, 0, 2]);
        let far = attribute(libc::IFA_ADDRESS, &[10, 1, 0, 9]);
        assert_eq!(message(2, 0, &[far.clone(), near]), Some([10, 1, 0, 2].into()));
        assert_eq!(message(2, 254, &[far]), None, "loopback");
        let v6 = attribute(libc::IFA_ADDRESS, &[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(message(10, 0, std::slice::from_ref(&v6)), Some("fd00::1".parse().unwrap()));
        assert_eq!(message(10, 253, &[v6]), None, "link-local");
    }

    #[test]
    fn cut_and_changed_bytes_never_panic() {
        let message = with_rtt(inet_diag_msg(2, 1, &[10, 0, 0, 7]), 345);
        crate::kernel::fuzz::mutations(&message, |bytes| {
            socket(bytes);
            own_address(bytes);
        });
    }
}
