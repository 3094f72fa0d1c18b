//! Netlink dumps: one request, answered in messages until the kernel says done. Bytes come from the kernel and are
//! checked all the same.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::root::{self, ReadError};

const HEADER: usize = 16;
const NLMSG_ERROR: u16 = libc::NLMSG_ERROR as u16;
const NLMSG_DONE: u16 = libc::NLMSG_DONE as u16;
/// The kernel fills no answer beyond this, whatever room it is given.
const ANSWER: usize = 32 << 10;

/// Room for two answers: a short dump and its end arrive in one call.
pub struct Answers(Box<[u8]>);

impl Default for Answers {
    fn default() -> Self {
        Self(vec![0; 2 * ANSWER].into())
    }
}

/// A socket that stays in the network namespace it was opened in.
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens it in the namespace of the calling thread. No answer is waited for longer than a second.
    pub fn open(protocol: libc::c_int) -> Result<Self, ReadError> {
        // SAFETY: no memory of ours is touched; the result is checked before use.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
        if fd < 0 {
            return Err(io::Error::last_os_error().into());
        }
        // SAFETY: `fd` was just returned by the kernel and has no other owner.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let limit = libc::timeval { tv_sec: 1, tv_usec: 0 };
        // SAFETY: the pointer and length describe `limit`, which outlives the call.
        let set = unsafe {
            libc::setsockopt(
                fd,
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                (&raw const limit).cast(),
                size_of::<libc::timeval>() as libc::socklen_t,
            )
        };
        if set != 0 {
            return Err(io::Error::last_os_error().into());
        }
        Ok(Self { socket, sequence: 0 })
    }

    /// Asks for a dump and calls `each` with the payload of every message of the answer.
    pub fn dump(
        &mut self,
        kind: u16,
        payload: &[u8],
        answers: &mut Answers,
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), ReadError> {
        self.sequence = self.sequence.wrapping_add(1);
        self.ask(kind, payload)?;
        let (first, second) = answers.0.split_at_mut(ANSWER);
        loop {
            let [a, b] = self.receive(first, second)?;
            let a = walk(a, self.sequence, &mut each)?;
            let b = walk(b, self.sequence, &mut each)?;
            if a == Walk::Done || b == Walk::Done {
                return Ok(());
            }
        }
    }

    fn ask(&self, kind: u16, payload: &[u8]) -> Result<(), ReadError> {
        let mut request = [0u8; 128];
        let len = HEADER + payload.len();
        let bytes = request.get_mut(..len).ok_or(ReadError::Malformed)?;
        bytes[0..4].copy_from_slice(&(len as u32).to_ne_bytes());
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&((libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16).to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.sequence.to_ne_bytes());
        bytes[HEADER..].copy_from_slice(payload);
        root::called();
        // SAFETY: the pointer and length describe `bytes`, which outlives the call.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error().into()) } else { Ok(()) }
    }

    /// One answer, and a second one if it is there already.
    fn receive<'b>(&self, first: &'b mut [u8], second: &'b mut [u8]) -> Result<[&'b [u8]; 2], ReadError> {
        let mut parts =
            [&mut *first, &mut *second].map(|b| libc::iovec { iov_base: b.as_mut_ptr().cast(), iov_len: b.len() });
        // SAFETY: all-zero is a valid mmsghdr: no name, no control data, no buffers yet.
        let mut messages: [libc::mmsghdr; 2] = unsafe { std::mem::zeroed() };
        for (message, part) in messages.iter_mut().zip(&mut parts) {
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
        }
        let received = loop {
            root::called();
            // SAFETY: both headers point to one iovec each, those to `first` and `second`; all outlive the call.
            let n = unsafe {
                libc::recvmmsg(
                    self.socket.as_raw_fd(),
                    messages.as_mut_ptr(),
                    2,
                    libc::MSG_WAITFORONE as _,
                    std::ptr::null_mut(),
                )
            };
            if n >= 0 {
                break n as usize;
            }
            let e = io::Error::last_os_error();
            if e.raw_os_error() != Some(libc::EINTR) {
                return Err(e.into());
            }
        };
        if messages.iter().take(received).any(|m| m.msg_hdr.msg_flags & libc::MSG_TRUNC != 0) {
            return Err(ReadError::Malformed);
        }
        let len = |at: usize| if at < received { messages[at].msg_len as usize } else { 0 };
        let (a, b) = (len(0), len(1));
        Ok([first.get(..a).unwrap_or_default(), second.get(..b).unwrap_or_default()])
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Walk {
    More,
    Done,
}

/// Calls `each` for the messages of one answer that belong to the request. Left-overs of an earlier one are passed over.
fn walk(mut bytes: &[u8], sequence: u32, each: &mut impl FnMut(&[u8])) -> Result<Walk, ReadError> {
    while !bytes.is_empty() {
        let word = |at| u32_at(bytes, at).ok_or(ReadError::Malformed);
        let len = word(0)? as usize;
        let kind = word(4)? as u16;
        let message = bytes.get(HEADER..len).ok_or(ReadError::Malformed)?;
        if word(8)? == sequence {
            match kind {
                NLMSG_DONE | NLMSG_ERROR => {
                    let code = u32_at(message, 0).unwrap_or(0) as i32;
                    return match code {
                        0 => Ok(Walk::Done),
                        _ => Err(io::Error::from_raw_os_error(code.wrapping_neg()).into()),
                    };
                }
                _ => each(message),
            }
        }
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(Walk::More)
}

/// The attributes after a message's fixed part, as type and value, up to the first one that is cut.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let head = u32_at(bytes, 0)?.to_ne_bytes();
        let len = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]);
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// A word in the machine's own byte order.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(fuzzing)]
pub(super) fn fuzz(bytes: &[u8]) {
    let _ = walk(bytes, 1, &mut |message| attributes(message).for_each(drop));
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A message as the kernel would send it.
    pub fn message(kind: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let len = HEADER + payload.len();
        let mut m = (len as u32).to_ne_bytes().to_vec();
        m.extend_from_slice(&kind.to_ne_bytes());
        m.extend_from_slice(&2u16.to_ne_bytes());
        m.extend_from_slice(&sequence.to_ne_bytes());
        m.extend_from_slice(&[0; 4]);
        m.extend_from_slice(payload);
        m.resize(len.next_multiple_of(4), 0);
        m
    }

    fn walked(bytes: &[u8]) -> (Result<Walk, ReadError>, Vec<Vec<u8>>) {
        let mut seen = Vec::new();
        let end = walk(bytes, 7, &mut |m: &[u8]| seen.push(m.to_vec()));
        (end, seen)
    }

    #[test]
    fn messages_of_the_request_are_handed_on_until_done() {
        let answer = [
            message(20, 6, b"stale"),
            message(20, 7, b"one"),
            message(20, 7, b"four"),
            message(NLMSG_DONE, 7, &[0; 4]),
            message(20, 7, b"after"),
        ]
        .concat();
        assert_eq!(walked(&answer), (Ok(Walk::Done), vec![b"one".to_vec(), b"four".to_vec()]));
        assert_eq!(walked(&message(20, 7, b"one")).0, Ok(Walk::More));
    }

    #[test]
    fn errors_of_the_kernel_are_told_apart() {
        let error = |errno: i32| walked(&message(NLMSG_ERROR, 7, &(-errno).to_ne_bytes())).0;
        assert_eq!(error(libc::EPERM), Err(ReadError::Denied));
        assert_eq!(error(libc::ENOENT), Err(ReadError::Absent));
        assert_eq!(error(libc::EBUSY), Err(ReadError::Io(libc::EBUSY)));
    }

    #[test]
    fn cut_and_changed_bytes_never_panic() {
        let answer = [message(20, 7, b"12345"), message(NLMSG_DONE, 7, &[0; 4])].concat();
        assert_eq!(walked(&answer[..18]).0, Err(ReadError::Malformed));
        crate::kernel::fuzz::mutations(&answer, |bytes| {
            let _ = walked(bytes);
            assert!(attributes(bytes).count() <= bytes.len());
        });
    }
}
